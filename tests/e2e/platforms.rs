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
