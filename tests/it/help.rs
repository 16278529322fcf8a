//! The help of every verb, as a file each: changing a flag shows up in review.

use crate::environment::{Environment, expect_file};

const VERBS: [&str; 32] = [
    "attach", "build", "config", "create", "down", "exec", "graph", "image", "images", "import", "kill", "load",
    "logs", "ls", "pause", "port", "ps", "publish", "pull", "restart", "rm", "rmi", "run", "start", "stop", "tag",
    "top", "unpause", "up", "version", "wait", "scale",
];

#[test]
fn the_overview() {
    let answer = Environment::new().wharf(&["--help"]);
    assert_eq!((answer.code, answer.stderr.as_str()), (0, ""));
    expect_file("help.txt", &answer.stdout);
}

#[test]
fn every_verb() {
    let environment = Environment::new();
    let mut text = String::new();
    for verb in VERBS {
        let answer = environment.wharf(&[verb, "--help"]);
        assert_eq!((answer.code, answer.stderr.as_str()), (0, ""), "{verb}");
        text.push_str(&format!("======== wharf {verb}\n{}\n", answer.stdout));
    }
    expect_file("verbs.txt", &text);
}

#[test]
fn without_a_verb_the_overview_is_an_error() {
    let answer = Environment::new().wharf(&[]);
    assert_eq!((answer.code, answer.stdout.as_str()), (1, ""));
    expect_file("help.txt", &answer.stderr);
}

#[test]
fn the_version() {
    let version = env!("CARGO_PKG_VERSION");
    let environment = Environment::new();
    environment.wharf(&["version"]).expect(0, &format!("wharf version {version}\n"), "");
    environment.wharf(&["version", "--short"]).expect(0, &format!("{version}\n"), "");
    environment.wharf(&["version", "-f", "json"]).expect(0, &format!("{{\"version\":\"{version}\"}}\n"), "");
    environment.wharf(&["--version"]).expect(0, &format!("wharf {version}\n"), "");
}
