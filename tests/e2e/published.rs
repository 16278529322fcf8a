//! Projects in a real registry: published by one folder, used by another.

use crate::registry::Registry;
use crate::world::{World, eventually, free_port};

const BASE: &str = "services: {base: {image: busybox, env_file: own.env, labels: {from: base}}}\n";

#[test]
fn a_project_goes_through_a_registry() {
    let world = World::new();
    let registry = Registry::start(&world, "registry", "");
    let image = registry.name("shop/busybox:1");
    world.ok(&["tag", "busybox", &image]);
    world.ok(&["docker", "push", "-q", &image]);
    world.write("shop/sub/base.yaml", BASE);
    world.write("shop/sub/own.env", "OWN=1\n");
    world.write("shop/web.env", "WEB=${WHO:-nobody}\n");
    world.write(
        "shop/compose.yaml",
        &format!(
            "services:\n  web:\n    image: {image}\n    command: sh -c 'env; cat /data/x'\n    env_file: [web.env]\n    \
             environment: {{DB_PASSWORD: hunter2}}\n    \
             extends: {{file: sub/base.yaml, service: base}}\n    volumes: [./data:/data]\n"
        ),
    );
    world.write("shop/over.yaml", "services: {web: {labels: {over: yes please}}}\n");
    let (target, address) = (registry.name("shop/app:1"), format!("oci://{}", registry.name("shop/app:1")));
    let publish = ["-f", "shop/compose.yaml", "-f", "shop/over.yaml", "publish", &target];
    let with = |more: &[&'static str]| world.wharf(&[&publish[..], more].concat());

    let refused = with(&[]).expect(1);
    assert!(refused.stderr.contains("service \"web\" has env_file declared."), "{}", refused.stderr);
    assert!(refused.stderr.contains("environment variable(s) declared."), "{}", refused.stderr);
    // Nobody answers: nothing is published.
    let asked = with(&["--with-env"]).expect(1);
    assert!(asked.stderr.contains("bind mounts declaration"), "{}", asked.stderr);
    let asked = world.wharf_with_input(&[&publish[..], &["--with-env"]].concat(), b"y\nn\n").expect(1);
    assert!(asked.stderr.contains("Secret Keyword\n"), "{}", asked.stderr);
    world.wharf(&["-f", &address, "config", "-q"]).expect(1);
    with(&["--with-env", "-y", "--resolve-image-digests"]).expect(0);

    // Another folder, with a `.env` of its own.
    world.write("other/.env", "WHO=me\n");
    let there = |words: &[&str], environment: &[(&str, &str)]| {
        let mut command = world.command(&[&["-f", &address], words].concat());
        command.current_dir(world.folder().join("other")).env_remove("COMPOSE_PROJECT_NAME");
        command.envs(environment.iter().copied());
        let output = command.output().expect("wharf can be run");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
        (text(&output.stdout), text(&output.stderr))
    };
    let (config, _) = there(&["config"], &[]);
    for line in
        ["name: other\n", "      WEB: me\n", "      OWN: \"1\"\n", "      from: base\n", "      over: yes please\n"]
    {
        assert!(config.contains(line), "{line}: {config}");
    }
    assert!(config.contains(&format!("image: {image}@sha256:")), "{config}");
    let folder = config.lines().find_map(|line| line.trim().strip_prefix("source: ")?.strip_suffix("/data"));
    let folder = folder.expect("a mount").to_owned();
    std::fs::create_dir(format!("{folder}/data")).expect("made");
    std::fs::write(format!("{folder}/data/x"), "data\n").expect("written");
    let (out, err) = there(&["up", "-y", "--no-log-prefix"], &[]);
    assert!(err.contains(&format!("is stored in \"{folder}\"")), "{err}");
    assert!(out.contains("DB_PASSWORD=hunter2\n") && out.contains("WEB=me\n") && out.contains("data\n"), "{out}");
    there(&["down"], &[]);

    // By its digest it is known even when the registry is gone; a tag is asked for.
    let digest = folder.rsplit('/').next().expect("a name").to_owned();
    let pinned = format!("oci://{}@sha256:{digest}", registry.name("shop/app"));
    world.write("compose.yaml", &format!("include: [\"{pinned}\"]\nservices: {{own: {{image: busybox}}}}\n"));
    // The wrong kind of artifact is told apart.
    let wrong = world.wharf(&["-f", &format!("oci://{image}"), "config"]).expect(1);
    assert!(wrong.stderr.contains("is not a published compose project"), "{}", wrong.stderr);
    // An image for OCI 1.0 registries, and the images with it.
    let app = registry.name("shop/whole:1");
    world.ok(&["-f", "shop/compose.yaml", "publish", "--with-env", "-y", "--app", "--oci-version", "1.0", &app]);
    world.ok(&["-f", &format!("oci://{app}"), "config", "-q"]);
    world.ok(&["docker", "pull", "-q", &format!("{}@{}", registry.name("shop/whole"), digest_of(&config))]);
    drop(registry);
    assert_eq!(world.ok(&["config", "--services"]), "own\nweb");
    world.wharf(&["-f", &address, "config", "-q"]).expect(1);
}

/// The digest of the image that `config` printed.
fn digest_of(config: &str) -> &str {
    let line = config.lines().find(|line| line.trim().starts_with("image: ")).expect("an image");
    line.split_once('@').expect("pinned").1
}

/// A folder of repositories behind `git://`, on loopback.
struct Repositories {
    process: std::process::Child,
    port: u16,
}

impl Repositories {
    fn serve(folder: &std::path::Path) -> Self {
        let port = free_port();
        let programs = std::process::Command::new("git").arg("--exec-path").output().expect("git is installed");
        let program = format!("{}/git-daemon", String::from_utf8_lossy(&programs.stdout).trim());
        let process = std::process::Command::new(program)
            .args(["--listen=127.0.0.1", &format!("--port={port}"), "--export-all", "--reuseaddr"])
            .arg(format!("--base-path={}", folder.display()))
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("git has its daemon");
        eventually("git listens", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        Self { process, port }
    }
}

impl Drop for Repositories {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[test]
fn a_project_comes_from_a_git_repository() {
    let world = World::new();
    let git = |words: &[&str]| {
        let mut command = std::process::Command::new("git");
        command.args(["-c", "user.name=n", "-c", "user.email=n@example.com", "-c", "init.defaultBranch=main"]);
        command.args(words).current_dir(world.folder().join("repo")).env("GIT_CONFIG_GLOBAL", "/dev/null");
        let output = command.output().expect("git is installed");
        assert!(output.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let service =
        "services: {web: {image: busybox, command: cat /data/x, volumes: ['./data:/data'], environment: {A: $A}}}";
    world.write("repo/compose.yaml", service);
    world.write("repo/data/x", "from git\n");
    world.write("repo/sub/docker-compose.yml", "services: {other: {image: busybox, env_file: [e.env]}}");
    world.write("repo/sub/e.env", "E=1");
    std::os::unix::fs::symlink("/", world.folder().join("repo/out")).expect("made");
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-qm", "one"]);
    git(&["tag", "v1"]);
    world.write("repo/data/x", "later\n");
    git(&["commit", "-qam", "two"]);
    git(&["clone", "-q", "--bare", ".", "../served/r.git"]);
    let served = Repositories::serve(&world.folder().join("served"));
    let address = format!("git://127.0.0.1:{}/r.git", served.port);
    let from = |fragment: &str, words: &[&str]| {
        let file = format!("{address}{fragment}");
        world.wharf(&[&["-f", &file], words].concat())
    };
    let up = from("#v1", &["up", "--no-log-prefix", "-y"]).expect(0);
    assert!(up.stdout.contains("from git\n"), "{}", up.stdout);
    // The branch is asked for each time, and `run` asks about variables as `up` does.
    let asked = from("", &["run", "--rm", "web"]).expect(125);
    assert!(asked.stderr.contains("Do you want to proceed with these variables?"), "{}", asked.stderr);
    assert_eq!(from("", &["run", "--rm", "-y", "web"]).expect(0).stdout, "later\n");
    from("", &["down"]).expect(0);
    // In other files, and files of the repository by themselves.
    world.write("compose.yaml", &format!("include: ['{address}#main:sub/docker-compose.yml']\nservices: {{own: {{extends: {{file: '{address}', service: web}}}}}}"));
    assert_eq!(world.ok(&["config", "--services"]), "other\nown");
    for (fragment, told) in [
        ("#nothing", "the repository has no `nothing`"),
        ("#:data", "there is no compose file in `data` of the repository"),
        ("#:out/etc/passwd", "the repository has no `out/etc/passwd`"),
        ("#:../../..", "the repository has no `../../..`"),
        ("?what=1", "unexpected query"),
    ] {
        let answer = from(fragment, &["config"]).expect(1);
        assert!(answer.stderr.contains(told), "{fragment}: {}", answer.stderr);
    }
    // A commit is known when the repository is gone.
    let commit = git(&["rev-parse", "HEAD"]);
    drop(served);
    assert_eq!(from(&format!("#{commit}"), &["config", "--services"]).expect(0).stdout, "web\n");
    from("", &["config"]).expect(1);
}
