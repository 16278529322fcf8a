//! The example of the README, with a real flask and a real redis.

use std::path::Path;
use std::process::Command;

use crate::world::{World, eventually, free_port, get};

/// Makes `python:3.12-slim` and `redis:7` present, as `make demo` does.
pub fn import_base_images(world: &World) {
    let own = world.command(&[]);
    let images = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/base-images"))
        .envs(own.get_envs().filter_map(|(key, value)| Some((key, value?))))
        .arg(env!("CARGO_BIN_EXE_wharf"))
        .output()
        .expect("the script runs");
    assert!(images.status.success(), "{}", String::from_utf8_lossy(&images.stderr));
}

#[test]
fn the_example_counts_its_visitors() {
    let world = World::empty();
    import_base_images(&world);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["compose.yaml", "Dockerfile", ".dockerignore", "requirements.txt", "app.py"] {
        let text = std::fs::read_to_string(root.join("examples/flask-redis").join(name)).expect("the example is there");
        let port = free_port();
        world.write(name, &text.replace("8000:5000", &format!("{port}:5000")));
    }
    // pip fetches its packages through the build network: give it time.
    let mut up = world.command(&["up", "-d"]);
    let output = up.output().expect("wharf can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let address = world.ok(&["port", "web", "5000"]);
    let port: u16 = address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("the port is published");
    let first = eventually("the page", || get(("127.0.0.1", port), "/").filter(|body| body.contains("seen")));
    let second = get(("127.0.0.1", port), "/").expect("the page");
    assert!(first.contains("seen 1 time.") && second.contains("seen 2 times."), "{first}{second}");

    // The counter is in the volume: it outlives the containers.
    world.ok(&["exec", "redis", "redis-cli", "save"]);
    world.ok(&["down"]);
    world.expect_no_trace();
    world.ok(&["up", "-d"]);
    let third = eventually("the page", || get(("127.0.0.1", port), "/").filter(|body| body.contains("seen")));
    assert!(third.contains("seen 3 times."), "{third}");
    world.ok(&["down", "-v"]);
    world.expect_no_trace();
}
