//! Looking at what is and what happens: stats, events, info, disk usage, versions.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::world::World;

fn docker(world: &World, line: &str) -> String {
    let words: Vec<&str> = std::iter::once("docker").chain(line.split_whitespace()).collect();
    world.ok(&words)
}

#[test]
fn events_tell_a_containers_life_in_order() {
    let world = World::new();
    let mut following =
        world.command(&["docker", "events", "--since", "1h", "-f", "type=container", "--format", "{{.Action}}"]);
    let mut following = following.stdout(Stdio::piped()).spawn().expect("events can be started");
    let mut lines = BufReader::new(following.stdout.take().expect("a pipe")).lines();
    docker(&world, "run -d --name one --label colour=red busybox sleep 1000");
    docker(&world, "pause one");
    docker(&world, "unpause one");
    docker(&world, "exec one true");
    docker(&world, "rename one two");
    docker(&world, "stop -t 0 two");
    docker(&world, "rm two");
    let mut seen = Vec::new();
    while seen.last().map(String::as_str) != Some("rename") {
        seen.push(lines.next().expect("more lines").expect("a line"));
    }
    while seen.last().map(String::as_str) != Some("destroy") {
        seen.push(lines.next().expect("more lines").expect("a line"));
    }
    following.kill().expect("it can be killed");
    following.wait().expect("it ends");
    let life = ["create", "start", "pause", "unpause", "exec_start: true", "exec_die", "rename", "kill", "die", "stop"];
    let told: Vec<&str> = seen.iter().map(String::as_str).skip_while(|action| *action != "start").collect();
    assert_eq!(told, [&life[1..], &["destroy"]].concat(), "{seen:?}");

    // What was, by time and by property.
    let past = |filter: &str| docker(&world, &format!("events --since 1h --until 0s {filter}"));
    let line = past("--filter container=two --filter event=die");
    assert!(line.contains(" container die ") && line.contains("exitCode=137") && line.contains("colour=red"), "{line}");
    assert_eq!(past("--filter label=colour=blue"), "");
    let json = past("--filter event=start --format json");
    let event: serde_json::Value = serde_json::from_str(json.lines().next_back().expect("a line")).expect("json");
    assert_eq!((&event["Type"], &event["Action"]), (&"container".into(), &"start".into()));
    assert_eq!(event["Actor"]["Attributes"]["image"], "busybox");
    let networks = past("--filter type=network --format {{.Action}}");
    assert!(networks.ends_with("connect\ndisconnect"), "{networks}");
    world.expect_no_trace();
}

#[test]
fn a_projects_events_are_composes() {
    let world = World::new();
    world.write(
        "compose.yaml",
        "services:\n  a: {image: busybox, command: sleep 1000}\n  b: {image: busybox, command: sleep 1000}\n",
    );
    world.ok(&["up", "-d"]);
    docker(&world, "run -d --name stranger busybox sleep 1000");
    let told = world.ok(&["events", "--json", "--since", "1h", "--until", "0s", "a"]);
    let actions: Vec<String> = told
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("json"))
        .map(|event| {
            format!("{} {}", event["service"].as_str().unwrap_or("?"), event["action"].as_str().unwrap_or("?"))
        })
        .collect();
    assert_eq!(actions, ["a create", "a start"]);
    let text = world.ok(&["events", "--since", "1h", "--until", "0s"]);
    assert!(text.contains(" container start ") && text.contains("image=busybox"), "{text}");
    assert!(!text.contains("stranger") && !text.contains("com.docker"), "{text}");
    docker(&world, "rm -f stranger");
    world.ok(&["down", "-t", "0"]);
    world.expect_no_trace();
}

#[test]
fn stats_show_what_is_used() {
    let world = World::new();
    docker(&world, "run -d --name busy -m 64m busybox sh -c while:;do:;done");
    let answer = world.wharf(&[
        "docker",
        "run",
        "-d",
        "--name",
        "loop",
        "-m",
        "64m",
        "busybox",
        "sh",
        "-c",
        "while :; do :; done",
    ]);
    answer.expect(0);
    docker(&world, "run -d --name idle busybox sleep 1000");
    let table = docker(&world, "stats --no-stream");
    let header = "CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT";
    assert!(table.starts_with(header), "{table}");
    assert!(table.contains("64MiB") && table.contains("idle"), "{table}");
    let json = docker(&world, "stats --no-stream --format json loop");
    let stats: serde_json::Value = serde_json::from_str(&json).expect("json");
    let percent: f64 =
        stats["CPUPerc"].as_str().and_then(|text| text.trim_end_matches('%').parse().ok()).expect("a number");
    assert!(percent > 5.0, "{json}");
    assert_eq!(stats["PIDs"], "1");
    let all = docker(&world, "stats --no-stream --all --format {{.Name}}={{.CPUPerc}}");
    assert!(all.contains("busy=--"), "{all}");
    docker(&world, "rm -f busy loop idle");
    world.expect_no_trace();
}

#[test]
fn the_host_and_its_disk_are_described() {
    let world = World::new();
    docker(&world, "run -d --name one -v data:/data busybox sh -c true");
    docker(&world, "wait one");
    let text = docker(&world, "info");
    assert!(
        text.contains(" Containers: 1\n") && text.contains("  Stopped: 1\n") && text.contains(" Images: 1\n"),
        "{text}"
    );
    assert!(text.contains("Docker Root Dir: /var/tmp/wharf-e2e-"), "{text}");
    assert_eq!(docker(&world, "info -f {{.Driver}}"), "overlayfs");
    assert_eq!(docker(&world, "info --format {{.ContainersStopped}}"), "1");
    let table = docker(&world, "system df");
    assert!(table.starts_with("TYPE            TOTAL     ACTIVE    SIZE"), "{table}");
    let images = docker(&world, "system df --format {{.Type}}:{{.TotalCount}}:{{.Active}}:{{.Reclaimable}}");
    assert!(images.starts_with("Images:1:1:0B (0%)\nContainers:1:0:"), "{images}");
    assert!(images.contains("Local Volumes:1:1:"), "{images}");
    let verbose = docker(&world, "system df -v");
    assert!(verbose.contains("UNIQUE SIZE") && verbose.contains("data "), "{verbose}");
    let version = docker(&world, "version --format {{.Server.Version}}");
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    docker(&world, "rm one");
    docker(&world, "volume rm data");
    world.expect_no_trace();
}
