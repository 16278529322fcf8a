//! Projects in a real registry: published by one folder, used by another.

use crate::registry::Registry;
use crate::world::World;

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
