//! Images of several platforms under one name: built, pushed, pulled, saved, loaded, listed, removed.

use std::path::Path;

use crate::registry::Registry;
use crate::world::World;

const THREE: &str = "linux/amd64,linux/arm64,linux/s390x";

fn docker(world: &World, words: &[&str]) -> String {
    world.ok(&[&["docker"], words].concat())
}

/// An image without programs for each platform: what it is for, and something that all have.
fn build(world: &World, name: &str) {
    world.write("ctx/common", "the same for all\n");
    world.write(
        "ctx/Dockerfile",
        "FROM --platform=$BUILDPLATFORM busybox AS tools\nARG TARGETARCH\nRUN echo for $TARGETARCH >/arch\n\
         FROM scratch\nCOPY common /\nCOPY --from=tools /arch /\nLABEL a=b\n",
    );
    docker(world, &["buildx", "build", "-q", "--platform", THREE, "-t", name, "ctx"]);
}

fn architectures(world: &World, name: &str) -> Vec<String> {
    let tree = docker(world, &["images", "--tree"]);
    let below = tree.lines().skip_while(|line| !line.starts_with(name)).skip(1);
    let branches = below.map_while(|line| line.strip_prefix("├─ ").or_else(|| line.strip_prefix("└─ ")));
    branches.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
}

fn arch_file(world: &World, name: &str, platform: &str) -> String {
    let id = docker(world, &["create", "--pull", "never", "--platform", platform, name, "x"]);
    let archive = world.folder().join("arch");
    docker(world, &["cp", &format!("{id}:/arch"), archive.to_str().expect("text")]);
    docker(world, &["rm", &id]);
    std::fs::read_to_string(archive).expect("copied").trim().to_owned()
}

#[test]
fn a_name_keeps_all_its_platforms() {
    let world = World::new();
    let registry = Registry::start(&world, "registry", "");
    let name = registry.name("shop/multi:1");
    let own = format!("linux/{}", docker(&world, &["inspect", "-f", "{{.Architecture}}", "busybox"]));
    build(&world, &name);
    let three: Vec<&str> = THREE.split(',').collect();
    let here = || {
        let mut found = architectures(&world, &name);
        found.sort_unstable();
        found
    };
    assert_eq!(here(), three);
    assert_eq!(docker(&world, &["images", "-q", &registry.name("shop/multi")]).lines().count(), 1);
    let own_id = docker(&world, &["image", "inspect", "-f", "{{.Id}}", &name]);
    for platform in &three {
        let seen =
            docker(&world, &["image", "inspect", "--platform", platform, "-f", "{{.Os}}/{{.Architecture}}", &name]);
        assert_eq!(&seen, platform);
        assert_eq!(arch_file(&world, &name, platform), platform.replace("linux/", "for "));
        let id = docker(&world, &["image", "inspect", "--platform", platform, "-f", "{{.Id}}", &name]);
        assert_eq!(id == own_id, *platform == own, "{platform}: a name means what runs here");
    }
    assert!(
        world
            .wharf(&["docker", "image", "inspect", "--platform", "linux/arm", &name])
            .expect(1)
            .stderr
            .contains("linux/s390x")
    );
    // An archive has all, and goes back as it came; so does a push, whose digest stays.
    docker(&world, &["save", "-o", "all.tar", &name]);
    docker(&world, &["save", "-o", "one.tar", "--platform", "linux/arm64", &name]);
    let pushed = docker(&world, &["push", &name]);
    let digest = pushed.lines().last().and_then(|line| line.split(' ').nth(2)).expect("a digest").to_owned();
    let manifest = docker(&world, &["manifest", "inspect", &name]);
    assert_eq!(manifest.matches("\"architecture\"").count(), 3, "{manifest}");
    let shown = docker(&world, &["buildx", "imagetools", "inspect", &name]);
    assert!(shown.contains(&digest) && shown.contains("Platform:  linux/s390x"), "{shown}");
    docker(&world, &["rmi", &name]);
    docker(&world, &["builder", "prune", "-f"]);
    assert_eq!(docker(&world, &["images", "-q"]).lines().count(), 1, "only busybox is left");
    assert_eq!(world.file_count("root/images"), 1);
    docker(&world, &["load", "-i", "all.tar"]);
    assert_eq!(here(), three);
    docker(&world, &["rmi", &name]);
    docker(&world, &["load", "-i", "one.tar"]);
    assert_eq!(here(), ["linux/arm64"]);
    docker(&world, &["rmi", &name]);
    // One platform after the other, of the same index, come together; what is wanted of a name is pulled once.
    docker(&world, &["pull", "-q", "--platform", "linux/s390x", &name]);
    assert_eq!(here(), ["linux/s390x"]);
    docker(&world, &["pull", "-q", &name]);
    assert_eq!(here(), [own.as_str(), "linux/s390x"]);
    docker(&world, &["pull", "-q", "--all-platforms", &name]);
    assert_eq!(here(), three);
    assert_eq!(docker(&world, &["image", "inspect", "-f", "{{.Id}}", &name]), own_id);
    // All names of the index, and only the platform that is meant.
    docker(&world, &["tag", &name, "copy"]);
    assert_eq!(architectures(&world, "copy:latest").len(), 3);
    docker(&world, &["rmi", "--platform", "linux/s390x", &name]);
    assert_eq!(here(), ["linux/amd64", "linux/arm64"]);
    docker(&world, &["image", "prune", "-f"]);
    assert_eq!(architectures(&world, "copy:latest").len(), 3, "a platform of a name is no image without a name");
    let again = docker(&world, &["push", "-q", &registry.name("shop/multi:1")]);
    assert!(!again.is_empty());
    assert_eq!(docker(&world, &["manifest", "inspect", &name]).matches("\"architecture\"").count(), 2);
    docker(&world, &["tag", "copy", &name]);
    let back = docker(&world, &["push", &name]);
    assert!(back.contains(&digest), "{back} is not {digest}");
    docker(&world, &["rmi", "copy", &name]);
    assert_eq!(world.file_count("root/images"), 1);
    world.ok(&["system", "check"]);
    drop(registry);
    world.expect_no_trace();
}

#[test]
fn programs_of_another_processor_say_what_they_need() {
    let world = World::new();
    let has_handler = Path::new("/proc/sys/fs/binfmt_misc/qemu-s390x").exists();
    let code = |without: i32| if has_handler { 0 } else { without };
    // An import does not look into programs.
    world.ok(&["docker", "import", "--platform", "linux/s390x", &world.busybox_archive(), "foreign"]);
    let run = world.wharf(&["docker", "run", "--rm", "--pull", "never", "foreign", "true"]).expect(code(125));
    assert!(has_handler || run.stderr.contains("linux/s390x") && run.stderr.contains("qemu"), "{}", run.stderr);
    assert_eq!(world.ok(&["docker", "ps", "-aq"]), "");
    world.write("compose.yaml", "services: {web: {image: foreign, command: 'true', pull_policy: never}}\n");
    let up = world.wharf(&["up", "-d"]).expect(code(1));
    assert!(has_handler || up.stderr.contains("`web`") && up.stderr.contains("qemu"), "{}", up.stderr);
    world.wharf(&["down"]).expect(0);
    world.write("Dockerfile", "FROM foreign\nCOPY Dockerfile /\n");
    docker(&world, &["build", "-q", "--platform", "linux/s390x", "-t", "copied", "."]);
    world.write("Dockerfile", "FROM foreign\nRUN true\n");
    let build = world.wharf(&["docker", "build", "-q", "--platform", "linux/s390x", "."]).expect(code(1));
    assert!(has_handler || build.stderr.contains("qemu"), "{}", build.stderr);
    // Words around a build with several platforms do no harm.
    assert_eq!(
        docker(&world, &["buildx", "create", "--use", "--name", "multi", "--driver", "docker-container"]),
        "multi"
    );
    assert!(docker(&world, &["buildx", "ls"]).contains("linux/"));
    world.wharf(&["docker", "buildx", "inspect", "--bootstrap"]).expect(0);
    world.expect_no_trace();
}

/// Debian's skopeo, which reads and writes what containers/image does: Podman, Buildah, CRI-O.
fn skopeo(world: &World, words: &[&str]) {
    let mut command = std::process::Command::new("skopeo");
    let output = command.arg("--insecure-policy").args(words).current_dir(world.folder()).output();
    let output = output.expect("skopeo is installed (`make test` does that)");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn other_tools_take_what_we_make_and_we_what_they_make() {
    let world = World::new();
    let registry = Registry::start(&world, "registry", "");
    let name = registry.name("tools/one:1");
    world.write(
        "one/Dockerfile",
        "FROM busybox\nRUN mkdir /d && echo 1 >/d/a && echo 2 >/d/b && ln /d/a /d/c && ln -s a /d/l\n\
         RUN rm /d/b && chmod 4711 /d/a && chown 7:8 /d/c\nCMD stat -c '%n %F %a %u %g %h' /d/*\n",
    );
    docker(&world, &["build", "-q", "-t", &name, "one"]);
    let (id, said) = (docker(&world, &["images", "-q", "--no-trunc", &name]), docker(&world, &["run", "--rm", &name]));
    docker(&world, &["save", "-o", "one.tar", &name]);
    docker(&world, &["build", "-q", "-t", &name, "-o", "type=oci,dest=oci.tar", "one"]);
    docker(&world, &["push", "-q", &name]);
    let remote = format!("docker://{name}");
    let zstd = format!("docker://{}", registry.name("tools/zstd:1"));
    let insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    for (options, from, to) in [
        (&[][..], "docker-archive:one.tar", "docker-archive:1.tar:back/docker:1"),
        (&[], "oci-archive:one.tar:1", "oci-archive:2.tar:latest"),
        (&[], "oci-archive:oci.tar", "oci:layout:latest"),
        (&["--dest-compress-format=zstd"], &remote, &zstd),
        (&[], &remote, "docker-archive:3.tar:back/registry:1"),
    ] {
        skopeo(&world, &[&["copy", "-q"], &insecure[..], options, &[from, to]].concat());
    }
    docker(&world, &["rmi", &name]);
    docker(&world, &["load", "-q", "-i", "1.tar"]);
    docker(&world, &["load", "-q", "-i", "3.tar"]);
    let loaded = docker(&world, &["load", "-q", "-i", "2.tar"]);
    docker(&world, &["pull", "-q", &registry.name("tools/zstd:1")]);
    let unnamed = loaded.trim_start_matches("Loaded image ID: ").to_owned();
    for name in ["back/docker:1", "back/registry:1", &registry.name("tools/zstd:1"), &unnamed] {
        // For zstd, which only OCI's manifests know, skopeo writes another config.
        let same = docker(&world, &["image", "inspect", "-f", "{{.Id}}", name]) == id;
        assert!(same || name.contains("/zstd:"), "{name}");
        assert_eq!(docker(&world, &["run", "--rm", name]), said, "{name}");
    }
    // All platforms, there and back.
    let multi = registry.name("tools/multi:1");
    build(&world, &multi);
    docker(&world, &["save", "-o", "multi.tar", &multi]);
    let other = registry.name("tools/other:1");
    let words = ["copy", "-q", "--all", "--dest-tls-verify=false", "oci-archive:multi.tar:1"];
    skopeo(&world, &[&words[..], &[&format!("docker://{other}")]].concat());
    docker(&world, &["pull", "-q", "--all-platforms", &other]);
    assert_eq!(architectures(&world, &other).len(), 3);
    drop(registry);
    world.expect_no_trace();
}
