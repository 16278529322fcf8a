//! `watch` and `up --watch`: files of the host that appear in containers.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use crate::world::{PATIENCE, World, eventually};

/// A watch that runs, with the lines that it writes.
struct Watch {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Watch {
    fn begin(world: &World, arguments: &[&str]) -> Self {
        Self::begin_with(world, arguments, "WHARF_NOTHING")
    }

    /// Begins one with a switch in its environment, and returns when it watches.
    fn begin_with(world: &World, arguments: &[&str], switch: &str) -> Self {
        let mut command = world.command(arguments);
        let mut child = command
            .env(switch, "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("wharf can be run");
        let (sender, lines) = channel();
        let outputs: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("a pipe")), Box::new(child.stderr.take().expect("a pipe"))];
        for output in outputs {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    drop(sender.send(line));
                }
            });
        }
        let mut watch = Self { child, lines, said: Vec::new() };
        watch.wait_for("Watch enabled");
        watch
    }

    /// Waits for a line that has `text`, and returns it.
    #[track_caller]
    fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.said.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
        panic!("`{text}` was not said, but\n{}", self.said.join("\n"));
    }

    /// Ends it as Ctrl-C does.
    #[track_caller]
    fn end(mut self) -> (i32, Vec<String>) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("it has a number");
        kill_process(pid, Signal::INT).expect("it runs");
        let code = self.child.wait().expect("it ends").code().unwrap_or(-1);
        self.said.extend(self.lines.iter());
        (code, std::mem::take(&mut self.said))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The files of a running container, seen from outside.
fn inside(world: &World, container: &str) -> PathBuf {
    let name = format!("{}-{container}", world.project_name());
    PathBuf::from(format!("/proc/{}/root", world.first_process(&name)))
}

fn service(rules: &str) -> String {
    format!(
        "services:\n  web:\n    image: busybox\n    command: sleep 1000\n    stop_grace_period: 0s\n    develop:\n      watch:\n{rules}"
    )
}

#[test]
fn saved_files_appear_in_the_containers() {
    let world = World::new();
    let rules = "        - {path: ./src, action: sync, target: /app, initial_sync: true, ignore: [node_modules/]}\n";
    world.write("compose.yaml", &(service(rules) + "    scale: 2\n"));
    world.write("src/old/first", "first\n");
    world.write("src/node_modules/x/y", "ignored\n");
    let mut watch = Watch::begin(&world, &["watch"]);
    let (one, two) = (inside(&world, "web-1"), inside(&world, "web-2"));
    let read = |path: &str| fs::read_to_string(one.join(path)).unwrap_or_else(|error| error.to_string());
    assert_eq!(read("app/old/first"), "first\n", "{:?}", watch.said);
    assert!(!one.join("app/node_modules").exists());
    let src = world.folder().join("src");

    // Written in place; as the host has it, in every replica.
    world.write("src/app.py", "one\n");
    fs::set_permissions(src.join("app.py"), fs::Permissions::from_mode(0o4751)).expect("modes can be set");
    watch.wait_for("web: synced src/app.py");
    world.write("src/app.py", "two\n");
    watch.wait_for("web: synced src/app.py");
    // What was said may have been of the mode.
    let has_two = |root: &Path| fs::read_to_string(root.join("app/app.py")).is_ok_and(|text| text == "two\n");
    eventually("the second text", || (has_two(&one) && has_two(&two)).then_some(()));
    let (there, here) = (one.join("app/app.py").metadata().unwrap(), src.join("app.py").metadata().unwrap());
    assert_eq!((there.mtime_nsec(), there.uid()), (here.mtime_nsec(), here.uid()));
    assert_eq!(there.mode() & 0o777, 0o751);

    // As editors replace files, with their helpers beside it.
    for helper in [".app.py.swp", "4913", "app.py~"] {
        world.write(&format!("src/{helper}"), "helper\n");
    }
    world.write("src/.new~", "three\n");
    fs::rename(src.join(".new~"), src.join("app.py")).unwrap();
    watch.wait_for("web: synced src/app.py");
    eventually("the third text", || (read("app/app.py") == "three\n").then_some(()));
    let mut names: Vec<_> =
        fs::read_dir(one.join("app")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["app.py", "old"]);

    // Links, folders made after the start, and what goes.
    symlink("/nowhere", src.join("link")).unwrap();
    watch.wait_for("web: synced src/link");
    assert_eq!(fs::read_link(one.join("app/link")).unwrap(), PathBuf::from("/nowhere"));
    fs::create_dir_all(src.join("new/deep")).unwrap();
    world.write("src/new/deep/file", "deep\n");
    eventually("a file in a new folder", || (read("app/new/deep/file") == "deep\n").then_some(()));
    fs::remove_file(src.join("link")).unwrap();
    watch.wait_for("web: removed src/link");
    fs::rename(src.join("new"), src.join("moved")).unwrap();
    let has_moved = || read("app/moved/deep/file") == "deep\n" && !one.join("app/new").exists();
    eventually("a folder at its new place", || has_moved().then_some(()));
    assert!(one.join("app/link").symlink_metadata().is_err());
    // A folder gives way to a file, and the reverse.
    fs::remove_dir_all(src.join("moved")).unwrap();
    world.write("src/moved", "file\n");
    fs::remove_file(src.join("app.py")).unwrap();
    world.write("src/app.py/inner", "inner\n");
    let changed_places = || read("app/moved") == "file\n" && read("app/app.py/inner") == "inner\n";
    eventually("a file in the place of a folder and the reverse", || changed_places().then_some(()));

    // A second one is refused; Ctrl-C leaves the containers alone.
    let second = world.wharf(&["watch", "--no-up"]).expect(1);
    assert!(second.stderr.contains("is being watched already"), "{}", second.stderr);
    let (code, said) = watch.end();
    assert_eq!((code, said.last().map(String::as_str)), (130, Some("Watch disabled")));
    assert_eq!(world.ok(&["ps", "--format", "{{.State}}"]), "running\nrunning");
    world.ok(&["down"]);
    world.expect_no_trace();
}

#[test]
fn thousands_of_files_arrive_and_links_lead_nowhere_else() {
    let world = World::new();
    let outside = world.folder().join("outside");
    fs::create_dir(&outside).unwrap();
    // The image's own user owns what arrives; the container has laid a link where the files go.
    let rules = "        - {path: ./src, action: sync, target: /tmp/app}\n";
    let link = format!("ln -s {} /tmp/app; exec sleep 1000", outside.display());
    let file = service(rules).replace("sleep 1000", &format!("[sh, -c, '{link}']")) + "    user: user\n";
    world.write("compose.yaml", &file);
    world.write("src/a", "a");
    let mut watch = Watch::begin(&world, &["watch"]);
    let root = inside(&world, "web-1");
    let deadline = Instant::now() + PATIENCE;
    while root.join("tmp/app").symlink_metadata().is_err() {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    let files = |generation: &str| {
        for folder in 0..30 {
            let folder = world.folder().join(format!("src/f{folder}/g"));
            fs::create_dir_all(&folder).unwrap();
            for file in 0..100 {
                fs::write(folder.join(file.to_string()), format!("{generation}{file}\n")).unwrap();
            }
        }
    };
    // Nothing was made outside of the container, though the link names a folder of the host.
    let app = root.join(outside.strip_prefix("/").unwrap());
    let state = || -> BTreeMap<String, String> {
        let mut state = BTreeMap::new();
        for folder in 0..30 {
            for file in 0..100 {
                let name = format!("f{folder}/g/{file}");
                state.insert(name.clone(), fs::read_to_string(app.join(&name)).unwrap_or_default());
            }
        }
        state
    };
    for generation in ["one", "two"] {
        files(generation);
        let deadline = Instant::now() + PATIENCE;
        while !state().iter().all(|(name, text)| *text == format!("{generation}{}\n", name.rsplit('/').next().unwrap()))
        {
            assert!(Instant::now() < deadline, "{:?}", watch.said);
            watch.wait_for("web: synced");
        }
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    let made = app.join("f1/g/1").metadata().unwrap();
    assert_eq!((made.uid(), made.gid(), app.join("f1").metadata().unwrap().uid()), (1000, 1000, 1000));
    fs::remove_dir_all(world.folder().join("src")).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while fs::read_dir(&app).unwrap().count() > 0 {
        assert!(Instant::now() < deadline, "{:?}", watch.said);
        watch.wait_for("web: removed");
    }
    // The folder that is watched comes back.
    world.write("src/again", "again");
    watch.wait_for("web: synced src/again");
    assert_eq!(fs::read_to_string(app.join("again")).unwrap(), "again");
    watch.end();
    world.ok(&["down"]);
}

#[test]
fn restarts_and_commands_follow() {
    let world = World::new();
    let rules = "        - {path: ./conf, action: sync+restart, target: /conf}
        - {path: ./touch, action: restart}
        - path: ./code
          action: sync+exec
          target: /code
          include: '*.c'
          exec: {command: [sh, -c, 'echo $GREETING $$(id -u) $$(pwd) $$(cat /code/a.c); exit 3'], user: user, working_dir: /tmp, environment: {GREETING: hello}}
";
    world.write("compose.yaml", &service(rules).replace("$GREETING", "$$GREETING"));
    for folder in ["conf", "code", "touch"] {
        fs::create_dir(world.folder().join(folder)).unwrap();
    }
    let mut watch = Watch::begin(&world, &["watch", "--quiet"]);
    let name = format!("{}-web-1", world.project_name());
    let first = world.first_process(&name);
    world.write("code/b.txt", "not included\n");
    world.write("code/a.c", "code\n");
    watch.wait_for(&format!("{name}: hello 1000 /tmp code"));
    watch.wait_for("ended with code 3");
    assert!(!inside(&world, "web-1").join("code/b.txt").exists());
    assert_eq!(world.first_process(&name), first);
    for file in 0..20 {
        world.write(&format!("conf/{file}"), "conf\n");
    }
    watch.wait_for("web: restarted");
    let second = world.first_process(&name);
    assert_ne!(second, first);
    assert_eq!(fs::read_to_string(inside(&world, "web-1").join("conf/19")).unwrap(), "conf\n");
    world.write("touch/x", "");
    watch.wait_for("web: restarted");
    assert_ne!(world.first_process(&name), second);
    assert!(!inside(&world, "web-1").join("touch").exists());
    // A container that does not run gets the files as well.
    world.ok(&["kill"]);
    world.wharf(&["wait", "web"]).expect(137);
    world.write("code/c.c", "stopped\n");
    watch.wait_for("web: synced code/c.c");
    world.ok(&["start"]);
    assert_eq!(fs::read_to_string(inside(&world, "web-1").join("code/c.c")).unwrap(), "stopped\n");
    watch.end();
    world.ok(&["down"]);
}

#[test]
fn nothing_is_left_behind_and_nothing_follows_a_copy_that_failed() {
    let world = World::new();
    world.write("conf/a", "one\n");
    world.write("code/a", "one\n");
    let rules = "        - {path: ./conf, action: sync+restart, target: /conf/in}
        - {path: ./code, action: sync, target: /code}
";
    world.write("compose.yaml", &service(rules));
    let mut watch = Watch::begin(&world, &["watch", "--quiet"]);
    let name = format!("{}-web-1", world.project_name());
    let first = world.first_process(&name);
    // Attributes of the host's file come along.
    let attribute = |path: &std::path::Path| {
        let mut value = [0; 16];
        rustix::fs::getxattr(path, "user.note", &mut value).map(|length| value[..length].to_vec())
    };
    let noted = world.folder().join("noted");
    fs::write(&noted, "two\n").unwrap();
    rustix::fs::setxattr(&noted, "user.note", b"mine", rustix::fs::XattrFlags::empty()).unwrap();
    fs::rename(&noted, world.folder().join("code/noted")).unwrap();
    watch.wait_for("web: synced code/noted");
    assert_eq!(attribute(&inside(&world, "web-1").join("code/noted")), Ok(b"mine".to_vec()));
    // A file stands where a folder is to be: the copy fails, and the service goes on as it was.
    fs::write(inside(&world, "web-1").join("conf"), "").unwrap();
    world.write("conf/a", "two\n");
    watch.wait_for("could not be synced");
    world.write("code/a", "two\n");
    watch.wait_for("web: synced code/a");
    assert_eq!(world.first_process(&name), first);
    fs::remove_file(inside(&world, "web-1").join("conf")).unwrap();
    world.write("conf/a", "three\n");
    watch.wait_for("web: restarted");
    // Killed at the wrong moment, and begun again.
    let left = inside(&world, "web-1").join("code/.wharf-sync~");
    drop(watch);
    fs::write(&left, "half").unwrap();
    let watch = Watch::begin(&world, &["watch", "--quiet"]);
    assert!(!left.exists());
    watch.end();
    // One that ended well has nothing to sweep.
    fs::write(&left, "somebody else's").unwrap();
    Watch::begin(&world, &["watch", "--quiet"]).end();
    assert!(left.exists());
    world.ok(&["down"]);
}

#[test]
fn images_are_rebuilt_and_the_project_is_reloaded() {
    let world = World::new();
    let file = |more: &str| {
        format!(
            "services:
  web:
    build: .
    command: sleep 1000
    stop_grace_period: 0s
    environment: {{COLOUR: '${{COLOUR}}'}}
    develop:
      watch:
        - {{path: ., action: rebuild, include: [baked]}}
        - {{path: ./src, action: sync, target: /src}}
{more}"
        )
    };
    world.write("compose.yaml", &file(""));
    world.write("Dockerfile", "FROM busybox\nCOPY baked /baked\n");
    world.write("baked", "one\n");
    world.write(".env", "COLOUR=red\n");
    fs::create_dir(world.folder().join("src")).unwrap();
    let mut watch = Watch::begin(&world, &["watch"]);
    let image = || world.ok(&["images", "-q"]);
    let (first, read) =
        (image(), |path: &str| fs::read_to_string(inside(&world, "web-1").join(path)).unwrap_or_default());
    world.write("baked", "two\n");
    watch.wait_for("web: rebuilding, baked changed");
    watch.wait_for("web: rebuilt");
    assert_eq!(read("baked"), "two\n");
    assert_ne!(image(), first);
    let all = world.ok(&["image", "ls", "-aq", "--no-trunc"]);
    assert!(!all.contains(&first), "the replaced image is gone: {first} in {all}");
    // A build that fails leaves everything as it is.
    world.write("Dockerfile", "FROM busybox\nCOPY missing /baked\n");
    world.write("baked", "three\n");
    watch.wait_for("missing");
    assert_eq!(read("baked"), "two\n");
    world.write("Dockerfile", "FROM busybox\nCOPY baked /baked\n");
    world.write("src/file", "synced\n");
    watch.wait_for("web: synced src/file");

    // The env file: the container is made anew, and has what was synced before.
    world.write(".env", "COLOUR=blue\n");
    watch.wait_for(".env changed: web: environment");
    watch.wait_for("applied");
    // It may have got them before it was started.
    if !watch.said.iter().any(|line| line.contains("web: synced 1 file")) {
        watch.wait_for("web: synced 1 file");
    }
    assert_eq!(world.ok(&["exec", "web", "sh", "-c", "echo $COLOUR"]), "blue");
    assert_eq!(read("src/file"), "synced\n");
    // A broken file is a message; then a new service, and new rules.
    let before = world.first_process(&format!("{}-web-1", world.project_name()));
    world.write("compose.yaml", "services:\n  web: {image: [}\n");
    watch.wait_for("compose.yaml:2:");
    watch.wait_for("everything stays as it was");
    assert_eq!(world.first_process(&format!("{}-web-1", world.project_name())), before);
    let more = "        - {path: ./more, action: sync, target: /more}
  db: {image: busybox, command: sleep 1000, stop_grace_period: 0s}
";
    world.write("compose.yaml", &file(more));
    watch.wait_for("compose.yaml changed: db is new; web: develop");
    watch.wait_for("applied");
    assert_eq!(world.first_process(&format!("{}-web-1", world.project_name())), before);
    assert_eq!(world.ok(&["ps", "--format", "{{.Service}}"]), "db\nweb");
    world.write("more/x", "more\n");
    watch.wait_for("web: synced");
    // Another command makes a container: it gets what the first one has. A build in another way is done.
    world.ok(&["up", "-d", "--no-deps", "--scale", "web=2", "web"]);
    let second = inside(&world, "web-2").join("src/file");
    while fs::read_to_string(&second).is_err() {
        watch.wait_for("web: synced");
    }
    world.write("compose.yaml", &file(more).replace("build: .", "build: {context: ., labels: {a: b}}"));
    watch.wait_for("compose.yaml changed: web: build");
    watch.wait_for("Built");
    watch.wait_for("applied");
    assert_eq!(read("baked"), "three\n");
    watch.end();
    world.ok(&["down", "--rmi", "local"]);
    world.expect_no_trace();
}

#[test]
fn up_watches_beside_the_logs_and_without_events() {
    let world = World::new();
    let rules = "        - {path: ./src, action: sync+restart, target: /app}\n";
    let script = "[sh, -c, 'echo I am $$(cat /app/name); exec sleep 1000']";
    world.write("compose.yaml", &service(rules).replace("sleep 1000", script));
    fs::create_dir(world.folder().join("src")).unwrap();
    for wrong in [["up", "-w", "-d"], ["up", "--watch", "--no-build"]] {
        world.wharf(&wrong).expect(1);
    }
    let mut watch = Watch::begin_with(&world, &["up", "-w"], "WHARF_WATCH_POLL");
    world.write("src/name", "first\n");
    watch.wait_for("I am first");
    world.write("src/name", "second\n");
    watch.wait_for("I am second");
    let (code, _) = watch.end();
    assert_eq!(code, 130);
    assert_eq!(world.ok(&["ps", "-q"]), "");
    world.ok(&["down"]);
    world.write("compose.yaml", "services:\n  web: {image: busybox}\n");
    let nothing = world.wharf(&["watch"]).expect(1);
    assert!(nothing.stderr.contains("no service has watch rules"), "{}", nothing.stderr);
}
