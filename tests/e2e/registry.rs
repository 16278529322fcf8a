//! Images to and from a real registry (Debian's docker-registry on loopback), with and without a login.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::world::{World, eventually, free_port};

/// A registry of a test's own, on loopback.
pub struct Registry {
    process: Child,
    port: u16,
}

impl Registry {
    /// Its files lie below the world's folder.
    pub fn start(world: &World, name: &str, settings: &str) -> Self {
        let port = free_port();
        let folder = world.folder().join(name);
        fs::create_dir(&folder).expect("made");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n{settings}",
            folder.join("data").display()
        );
        fs::write(folder.join("config.yml"), config).expect("written");
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(folder.join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed");
        eventually("the registry listens", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        Self { process, port }
    }

    /// The name of a repository in it.
    pub fn name(&self, image: &str) -> String {
        format!("127.0.0.1:{}/{image}", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn docker(world: &World, words: &[&str]) -> String {
    world.ok(&[&["docker"], words].concat())
}

/// The digest in the last line that `push` prints.
fn digest(pushed: &str) -> String {
    let line = pushed.lines().last().unwrap_or_default();
    line.split_once("digest: ").and_then(|(_, rest)| rest.split_once(' ')).expect("a digest").0.to_owned()
}

#[test]
fn what_is_pushed_comes_back_the_same() {
    let world = World::new();
    let registry = Registry::start(&world, "registry", "");
    world.write("Dockerfile", "FROM busybox\nRUN head -c 20000000 /dev/urandom > /large\nRUN echo made > /made\n");
    let (one, two) = (registry.name("shop/web:1"), registry.name("shop/other:2"));
    docker(&world, &["build", "-q", "-t", &one, "."]);
    let first = world.wharf(&["docker", "push", &one]).expect(0);
    assert!(first.stdout.starts_with("The push refers to repository [127.0.0.1:"), "{}", first.stdout);
    assert_eq!(first.stdout.matches(": Pushed\n").count(), 3, "{}", first.stdout);
    let again = world.wharf(&["docker", "push", &one]).expect(0);
    assert_eq!(again.stdout.matches(": Layer already exists\n").count(), 3, "{}", again.stdout);
    assert_eq!(digest(&again.stdout), digest(&first.stdout));
    // Another repository of the same registry takes the layers over.
    docker(&world, &["tag", &one, &two]);
    let other = world.wharf(&["docker", "push", &two]).expect(0);
    assert_eq!(other.stdout.matches(": Mounted from shop/web\n").count(), 3, "{}", other.stdout);
    // What was pulled goes back with the digest that it came with.
    let id = docker(&world, &["inspect", "-f", "{{.Id}}", &one]);
    docker(&world, &["rmi", &one, &two]);
    docker(&world, &["pull", "-q", &one]);
    assert_eq!(docker(&world, &["inspect", "-f", "{{.Id}}", &one]), id);
    assert_eq!(docker(&world, &["run", "--rm", &one, "cat", "/made"]), "made");
    docker(&world, &["tag", &one, &registry.name("shop/web:copy")]);
    assert_eq!(digest(&docker(&world, &["push", &registry.name("shop/web:copy")])), digest(&first.stdout));
    let by_digest = registry.name(&format!("shop/web@{}", digest(&first.stdout)));
    docker(&world, &["pull", "-q", &by_digest]);
    assert!(docker(&world, &["push", "-a", &registry.name("shop/web")]).matches("digest: ").count() == 2);
    world.wharf(&["docker", "push", &registry.name("not/here")]).expect(1);
    // What a tag stands for can be written down without a pull.
    world.write("compose.yaml", &format!("name: pins\nservices:\n  web: {{image: \"{one}\", tty: true}}\n"));
    let pin = format!("    image: {one}@{}\n", digest(&first.stdout));
    let locked = world.ok(&["config", "--lock-image-digests"]);
    assert_eq!(locked + "\n", format!("services:\n  web:\n{pin}"));
    let resolved = world.ok(&["config", "--resolve-image-digests"]);
    assert!(resolved.contains(&pin) && resolved.contains("tty: true"), "{resolved}");
    world.write("compose.yaml", &format!("services: {{web: {{image: \"{}\"}}}}", registry.name("not/here")));
    world.wharf(&["config", "--resolve-image-digests"]).expect(1);
    drop(registry);
    world.expect_no_trace();
}

#[test]
fn a_login_is_checked_kept_and_forgotten() {
    let world = World::new();
    // bcrypt of `secret`.
    world.write("htpasswd", "user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n");
    let settings =
        format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", world.folder().join("htpasswd").display());
    let registry = Registry::start(&world, "registry", &settings);
    let server = format!("127.0.0.1:{}", registry.port);
    let config = world.folder().join("config");
    let run = |words: &[&str], input: &[u8], path: &str| {
        let mut command = world.command(&[&["docker"], words].concat());
        command.env("DOCKER_CONFIG", &config).env("PATH", path);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
        std::io::Write::write_all(&mut child.stdin.take().expect("piped"), input).expect("written");
        let output = child.wait_with_output().expect("it ends");
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.code().unwrap_or(-1), text)
    };
    let path = std::env::var("PATH").expect("PATH is set");
    let image = registry.name("private/box:1");
    docker(&world, &["tag", "busybox", &image]);
    let (code, text) = run(&["push", &image], b"", &path);
    assert!(code == 1 && text.contains("docker login"), "{code}: {text}");
    let login = ["login", "-u", "user", "--password-stdin", &server];
    let (code, text) = run(&login, b"wrong\n", &path);
    assert!(code == 1 && text.contains("wrong"), "{code}: {text}");
    assert!(!config.exists());
    let (code, text) = run(&login, b"secret\n", &path);
    assert!(code == 0 && text.contains("Login Succeeded") && text.contains("unencrypted"), "{code}: {text}");
    let mode = fs::metadata(config.join("config.json")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(run(&["push", &image], b"", &path).0, 0);
    assert_eq!(run(&["pull", "-q", &image], b"", &path).0, 0);
    assert!(run(&["logout", &server], b"", &path).1.contains("Removing login credentials"));
    assert_eq!(run(&["push", &image], b"", &path).0, 1);
    // A helper keeps it instead, and the file has no secret.
    helper(&world.folder().join("docker-credential-testing"), &world.folder().join("kept"));
    fs::write(config.join("config.json"), r#"{"credsStore": "testing", "other": 1}"#).expect("written");
    let with_helper = format!("{}:{path}", world.folder().display());
    let (code, text) = run(&login, b"secret", &with_helper);
    assert!(code == 0 && !text.contains("unencrypted"), "{code}: {text}");
    let kept = fs::read_to_string(config.join("config.json")).expect("it is there");
    assert!(kept.contains("\"other\"") && !kept.contains("auth\""), "{kept}");
    assert_eq!(run(&["push", &image], b"", &with_helper).0, 0);
    assert_eq!(run(&["logout", &server], b"", &with_helper).0, 0);
    assert_eq!(run(&["push", &image], b"", &with_helper).0, 1);
    drop(registry);
    world.expect_no_trace();
}

/// A credential helper that keeps one login in a file.
fn helper(path: &Path, kept: &Path) {
    let kept = kept.display();
    let script = format!(
        "#!/bin/sh\ncase $1 in\nstore) cat > {kept};;\nget) cat >/dev/null; test -e {kept} && cat {kept} || {{ echo credentials not found in native keychain; exit 1; }};;\nerase) rm -f {kept};;\nesac\n"
    );
    fs::write(path, script).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
}

#[test]
fn archives_of_save_are_loaded() {
    let world = World::new();
    world.write("Dockerfile", "FROM busybox\nRUN echo made > /made\nCMD [\"cat\", \"/made\"]\n");
    docker(&world, &["build", "-q", "-t", "made:1", "-t", "made:2", "."]);
    docker(&world, &["save", "-o", "two.tar", "made:1", "busybox", "made:2"]);
    let id = docker(&world, &["inspect", "-f", "{{.Id}}", "made:1"]);
    assert_eq!(docker(&world, &["history", "-q", "made:1"]).lines().last(), Some("<missing>"));
    assert!(docker(&world, &["history", "--no-trunc", "made:1"]).contains("echo made > /made"));
    docker(&world, &["rmi", "made:1", "made:2", "busybox"]);
    assert_eq!(docker(&world, &["images", "-q"]), "");
    let loaded = docker(&world, &["load", "-i", "two.tar"]);
    let mut lines: Vec<&str> = loaded.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["Loaded image: busybox:latest", "Loaded image: made:1", "Loaded image: made:2"]);
    assert_eq!(docker(&world, &["inspect", "-f", "{{.Id}}", "made:2"]), id);
    assert_eq!(docker(&world, &["run", "--rm", "made:1"]), "made");
    world.expect_no_trace();
}

#[test]
fn a_build_pushes_what_it_made() {
    let world = World::new();
    let registry = Registry::start(&world, "registry", "");
    let name = registry.name("built:1");
    world.write("ctx/Dockerfile", "FROM busybox\nRUN echo built >/b\n");
    let context = world.folder().join("ctx").display().to_string();
    let metadata = world.folder().join("metadata").display().to_string();
    docker(&world, &["build", "-q", "--push", "-t", &name, "--metadata-file", &metadata, &context]);
    docker(&world, &["rmi", "-f", &name]);
    assert_eq!(docker(&world, &["run", "--rm", &name, "cat", "/b"]), "built");
    let metadata = fs::read_to_string(metadata).expect("metadata");
    let digest = docker(&world, &["images", "--format", "{{.Digest}}", &registry.name("built")]);
    assert!(digest.starts_with("sha256:") && metadata.contains(&digest), "{digest} is not in {metadata}");
    let nameless = world.wharf(&["docker", "build", "--push", &context]).expect(1);
    assert!(nameless.stderr.contains("tag is needed"), "{}", nameless.stderr);
}

/// The progress of a build: each step's title with how it ended.
fn steps(world: &World, words: &[&str]) -> Vec<String> {
    let answer = world.wharf(&[&["docker", "build", "--progress", "plain"], words].concat()).expect(0);
    let mut titles = std::collections::BTreeMap::new();
    let mut ends = Vec::new();
    for line in answer.stderr.lines() {
        let Some((number, rest)) = line.strip_prefix('#').and_then(|line| line.split_once(' ')) else { continue };
        if rest.starts_with('[') {
            titles.insert(number.to_owned(), rest.to_owned());
        } else if let Some(title) = titles.get(number)
            && (rest == "CACHED" || rest.starts_with("DONE"))
        {
            ends.push(format!("{}: {title}", rest.split(' ').next().unwrap_or_default()));
        }
    }
    ends
}

#[test]
fn a_second_machine_builds_from_the_first_ones_cache() {
    let first = World::new();
    let registry = Registry::start(&first, "registry", "");
    let dockerfile = "FROM busybox AS tools\nRUN date +%N >/stamp\nFROM busybox\nWORKDIR /app\nCOPY a .\n\
                      COPY --from=tools /stamp .\nRUN cat stamp a >both\n";
    let folder = first.folder().join("cache").display().to_string();
    let remote = registry.name("app:cache");
    let (to_registry, to_folder) =
        (format!("type=registry,ref={remote},mode=max"), format!("type=local,dest={folder},mode=max"));
    let (from_registry, from_folder) = (format!("type=registry,ref={remote}"), format!("type=local,src={folder}"));
    let image = registry.name("app:1");
    let context = |world: &World| {
        world.write("ctx/Dockerfile", dockerfile);
        world.write("ctx/a", "content");
        world.folder().join("ctx").display().to_string()
    };
    let id = |world: &World| docker(world, &["images", "-q", "--no-trunc", &image]);
    let at_first = context(&first);
    let base = first.folder().join("base.tar").display().to_string();
    docker(&first, &["save", "-o", &base, "busybox"]);
    docker(&first, &["build", "-q", "--cache-to", &to_registry, "--cache-to", &to_folder, "-t", &image, &at_first]);
    for from in [&from_registry, &from_folder, &remote] {
        let second = World::empty();
        docker(&second, &["load", "-i", &base]);
        let ends = steps(&second, &["--cache-from", from, "-t", &image, &context(&second)]);
        assert!(ends.len() == 5 && ends.iter().all(|end| end.starts_with("CACHED")), "{from}: {ends:#?}");
        assert_eq!(id(&second), id(&first), "{from}");
        assert!(docker(&second, &["run", "--rm", &image, "cat", "both"]).ends_with("content"));
        // What was fetched is remembered: without the registry, too.
        let again = steps(&second, &["-t", &image, &context(&second)]);
        assert!(again.iter().all(|end| end.starts_with("CACHED")), "{again:#?}");
    }
    // Only the steps of the image itself.
    let small = registry.name("app:small");
    docker(&first, &["build", "-q", "--cache-to", &format!("type=registry,ref={small}"), &at_first]);
    // An image that holds its own cache.
    let inline = registry.name("inline:1");
    first.write("one/Dockerfile", "FROM busybox\nRUN date +%N >/now\nRUN cat /now >/copy\n");
    let one = first.folder().join("one").display().to_string();
    docker(&first, &["build", "-q", "--push", "--cache-to", "type=inline", "-t", &inline, &one]);
    let second = World::empty();
    docker(&second, &["load", "-i", &base]);
    let ends = steps(&second, &["--cache-from", &inline, &one]);
    assert!(ends.len() == 2 && ends.iter().all(|end| end.starts_with("CACHED")), "{ends:#?}");
    let ends = steps(&second, &["--cache-from", &small, "-t", &image, &context(&second)]);
    assert!(ends.len() == 5 && ends.iter().all(|end| end.starts_with("CACHED")), "{ends:#?}");
    assert_eq!(id(&second), id(&first), "of other stages it is enough to know what they are");
    let again = steps(&second, &["-t", &image, &context(&second)]);
    assert!(again.iter().all(|end| end.starts_with("CACHED")), "{again:#?}");
    // Who reads from such a stage has it made.
    let read = format!("{dockerfile}COPY --from=tools /stamp /tools\n");
    second.write("ctx/Dockerfile", &read);
    let ends = steps(&second, &["-t", "read", &second.folder().join("ctx").display().to_string()]);
    assert!(ends.iter().any(|end| end.starts_with("DONE: [tools")), "{ends:#?}");
    assert_eq!(docker(&second, &["run", "--rm", "read", "ls", "/tools"]), "/tools");
    // A cache that is not there, or lies, costs a warning.
    let nowhere = registry.name("app:nothing");
    let answer = second.wharf(&["docker", "build", "--no-cache", "--cache-from", &nowhere, &one]).expect(0);
    assert!(!answer.stderr.contains("is not used"), "--no-cache asks nobody: {}", answer.stderr);
    second.write("one/Dockerfile", "FROM busybox\nRUN echo other\n");
    let other = second.folder().join("one").display().to_string();
    let answer = second.wharf(&["docker", "build", "--cache-from", &nowhere, &other]).expect(0);
    assert!(answer.stderr.contains("is not used"), "{}", answer.stderr);
    let wrong = second.wharf(&["docker", "build", "--cache-to", "type=gha", &other]).expect(1);
    assert!(wrong.stderr.contains("type=gha is not supported"), "{}", wrong.stderr);
}

#[test]
fn pulls_say_what_docker_says() {
    let world = World::new();
    let registry = Registry::start(&world, "registry", "");
    world.write("ctx/Dockerfile", "FROM busybox\nLABEL made=here\nRUN echo 1 >/one\n");
    let (one, two) = (registry.name("shop/web"), registry.name("shop/web:2"));
    docker(&world, &["build", "-q", "-t", &one, "-t", &two, "ctx"]);
    let pushed = docker(&world, &["push", &one]);
    assert!(pushed.starts_with("Using default tag: latest\nThe push refers to repository ["), "{pushed}");
    docker(&world, &["push", "-q", &two]);
    let digest = digest(&pushed);
    let removed = docker(&world, &["rmi", &one, &two]);
    assert!(
        removed.contains(&format!("Untagged: {one}:latest\n")) && removed.contains("\nDeleted: sha256:"),
        "{removed}"
    );
    // What was built is remembered until now.
    assert!(docker(&world, &["builder", "prune", "-f"]).starts_with("Total:\t"));
    let pulled = docker(&world, &["pull", &one]);
    let lines: Vec<&str> = pulled.lines().collect();
    assert_eq!(lines[..2], ["Using default tag: latest", "latest: Pulling from shop/web"], "{pulled}");
    assert_eq!(pulled.matches(": Pulling fs layer\n").count(), 1, "{pulled}");
    assert_eq!(pulled.matches(": Pull complete\n").count(), 1, "{pulled}");
    assert_eq!(pulled.matches(": Already exists\n").count(), 1, "{pulled}");
    let end = [
        format!("Digest: {digest}"),
        format!("Status: Downloaded newer image for {one}:latest"),
        format!("{one}:latest"),
    ];
    assert_eq!(lines[lines.len() - 3..], end, "{pulled}");
    let again = docker(&world, &["pull", &one]);
    assert!(again.contains(&format!("\nStatus: Image is up to date for {one}:latest\n")), "{again}");
    assert_eq!(docker(&world, &["pull", "-q", &two]), two);
    docker(&world, &["rmi", &one, &two]);
    let all = docker(&world, &["pull", "-a", &one]);
    assert!(all.contains("latest: Pulling from") && all.contains("\n2: Pulling from"), "{all}");
    assert_eq!(all.lines().last(), Some(one.as_str()));
    docker(&world, &["rmi", &one, &two]);
    let run = world.wharf(&["docker", "run", "--rm", &two, "cat", "/one"]).expect(0);
    assert_eq!(run.stdout, "1\n");
    assert!(
        run.stderr.starts_with(&format!("Unable to find image '{two}' locally\n2: Pulling from shop/web\n")),
        "{}",
        run.stderr
    );
    assert!(run.stderr.ends_with(&format!("\nStatus: Downloaded newer image for {two}\n")), "{}", run.stderr);
    // Lists.
    let ids = |words: &[&str]| docker(&world, &[&["images", "-q"], words].concat()).lines().count();
    assert_eq!((ids(&[]), ids(&["--filter", "label=made=here"]), ids(&["--filter", "label=other"])), (2, 1, 0));
    let pattern = "reference=127.0.0.1:*/shop/*:2".to_owned();
    assert_eq!(
        (ids(&["--filter", &pattern]), ids(&["--filter", "reference=busy*"]), ids(&["--filter", "reference=*web"])),
        (1, 1, 0)
    );
    assert_eq!(
        (
            ids(&["--filter", "since=busybox"]),
            ids(&["--filter", "before=busybox"]),
            ids(&["--filter", "dangling=true"])
        ),
        (1, 0, 0)
    );
    assert!(docker(&world, &["images", "--digests"]).contains(&digest));
    let tree = docker(&world, &["images", "--tree"]);
    assert!(tree.starts_with("IMAGE ") && tree.contains("└─ linux/"), "{tree}");
    let manifest = docker(&world, &["manifest", "inspect", &two]);
    assert!(manifest.starts_with("{\n   \"") && manifest.contains("\"layers\": ["), "{manifest}");
    // What goes.
    assert!(docker(&world, &["image", "prune", "-f"]).starts_with("Total reclaimed space: "));
    assert!(docker(&world, &["image", "prune", "-af", "--filter", "until=24h"]).starts_with("Total reclaimed space: "));
    let pruned = docker(&world, &["image", "prune", "-af", "--filter", "label=made"]);
    assert!(pruned.starts_with("Deleted Images:\nuntagged: ") && pruned.contains("\ndeleted: sha256:"), "{pruned}");
    assert_eq!(ids(&[]), 1);
}
