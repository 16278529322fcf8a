//! Updates of services with replicas: some at a time, without a moment in which nobody answers.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::rolling_client::ask;
use crate::world::World;

fn file(version: &str, update: &str) -> String {
    // The new program of a bad version ends at once.
    let serve = format!("mkdir /www; echo {version} > /www/index.html; exec httpd -f -h /www");
    let command = if version == "bad" { "echo cannot work; exit 3".to_owned() } else { serve };
    format!(
        "services:
  web:
    image: busybox
    init: true
    stop_grace_period: 1s
    command: [sh, -c, '{command}']
    healthcheck: {{test: [CMD, wget, -q, -O, /dev/null, 'http://127.0.0.1/'], start_interval: 20ms, start_period: 10s}}
    deploy: {{replicas: 3, update_config: {{{update}}}}}
  client: {{image: busybox, init: true, command: sleep 1000}}
"
    )
}

#[test]
fn no_request_fails_while_replicas_are_updated() {
    let world = World::new();
    let name = format!("{}-client-1", world.project_name());
    let change = |text: String, is_probed: bool| {
        let lines = text.lines().filter(|line| is_probed || !line.contains("healthcheck:"));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    let cases = [
        ("one", "two", "parallelism: 1, order: start-first", true),
        ("two", "three", "parallelism: 2, order: stop-first, failure_action: rollback", true),
        ("three", "four", "parallelism: 2, order: start-first", false),
    ];
    for (old, new, update, is_probed) in cases {
        world.write("compose.yaml", &change(file(old, update), is_probed));
        world.ok(&["up", "-d", "-t", "1", "--wait"]);
        world.write("compose.yaml", &change(file(new, update), is_probed));
        let process = world.first_process(&name) as i32;
        let done = AtomicBool::new(false);
        let answers = std::thread::scope(|scope| {
            let asking = scope.spawn(|| ask(process, "web", &done));
            let up = world.wharf(&["up", "-d"]);
            done.store(true, Ordering::Relaxed);
            let answers = asking.join().expect("it does not panic");
            up.expect(0);
            answers
        });
        let failed: Vec<_> = answers.iter().filter(|answer| answer.is_err()).collect();
        assert!(failed.is_empty(), "{update}: {} of {} failed: {failed:#?}", failed.len(), answers.len());
        for version in [old, new] {
            assert!(
                answers.iter().any(|answer| answer.as_deref() == Ok(version)),
                "nobody answered {version}: {update}"
            );
        }
        for index in ["1", "2", "3"] {
            let page = world.ok(&["exec", "--index", index, "web", "cat", "/www/index.html"]);
            assert_eq!(page, new);
        }
        assert!(world.ok(&["--dry-run", "up", "-d"]).contains("nothing to do"));
    }
    world.ok(&["down", "-t", "0"]);
    world.expect_no_trace();
}

#[test]
fn an_update_that_fails_pauses_goes_on_or_is_rolled_back() {
    let world = World::new();
    let pages = || {
        let list = world.ok(&["ps", "-q", "web"]);
        let page = |id: &str| world.ok(&["exec", id, "cat", "/www/index.html"]);
        list.lines().map(page).collect::<Vec<_>>()
    };
    for (update, left) in [
        ("order: start-first, failure_action: pause", 3),
        ("order: stop-first, failure_action: pause", 2),
        ("parallelism: 2, order: stop-first, failure_action: rollback", 3),
        ("parallelism: 0, order: start-first, failure_action: rollback", 3),
    ] {
        world.write("compose.yaml", &file("good", update));
        world.ok(&["up", "-d", "-t", "0", "--wait"]);
        world.write("compose.yaml", &file("bad", update));
        let failed = world.wharf(&["up", "-d", "-t", "0"]).expect(1);
        assert!(failed.stderr.contains("exited with code 3") && failed.stderr.contains("cannot work"), "{failed:?}");
        assert_eq!(pages(), vec!["good"; left], "{update}: {failed:?}");
    }
    // The file from before brings back what is left of it.
    world.write("compose.yaml", &file("good", ""));
    world.ok(&["up", "-d", "-t", "0", "--wait"]);
    assert_eq!(pages(), ["good"; 3]);
    world.write("compose.yaml", &file("bad", "failure_action: continue, parallelism: 2"));
    let went_on = world.wharf(&["up", "-d", "-t", "0"]).expect(0);
    assert!(went_on.stderr.contains("does not work"), "{went_on:?}");
    assert_eq!(pages(), Vec::<String>::new());
    world.ok(&["down", "-t", "0"]);
    world.expect_no_trace();
}
