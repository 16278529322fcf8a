//! `config` and `graph`, and the errors of compose files.

use crate::environment::Environment;

const FILE: &str = "\
name: shop
services:
  web:
    image: web:${TAG:-1}
    depends_on: {db: {condition: service_healthy}}
    ports: [\"8080:80\"]
  db:
    image: db
    profiles: [\"\"]
volumes:
  data:
";

fn project() -> Environment {
    let environment = Environment::new();
    environment.write("compose.yaml", &FILE.replace("    profiles: [\"\"]\n", "    volumes: [\"data:/data\"]\n"));
    environment
}

#[test]
fn lists() {
    let environment = project();
    for (flag, expected) in [
        ("--services", "db\nweb\n"),
        ("--images", "db\nweb:1\n"),
        ("--volumes", "data\n"),
        ("--networks", "default\n"),
        ("--profiles", ""),
        ("-q", ""),
    ] {
        environment.wharf(&["config", flag]).expect(0, expected, "");
    }
    environment.wharf_with(&["config", "--images", "web"], &[("TAG", "2")]).expect(0, "db\nweb:2\n", "");
    let hash = environment.wharf(&["config", "--hash", "web"]);
    let words: Vec<&str> = hash.stdout.split_whitespace().collect();
    assert_eq!((hash.code, words.len(), words[0], words[1].len()), (0, 2, "web", 64));
}

#[test]
fn yaml_and_json_say_the_same() {
    let environment = project();
    let yaml = environment.wharf(&["config"]);
    assert!(yaml.stdout.starts_with("name: shop\nservices:\n  db:\n"), "{}", yaml.stdout);
    let json = environment.wharf(&["config", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("it is JSON");
    assert_eq!(json["services"]["web"]["image"], "web:1");
    assert_eq!(environment.wharf(&["convert"]), yaml);
    environment.wharf(&["config", "-o", "out.yaml"]).expect(0, "", "");
    let written = std::fs::read_to_string(environment.folder().join("out.yaml")).expect("it was written");
    assert_eq!(written.replace(&*environment.folder().to_string_lossy(), "$FOLDER"), yaml.stdout);
}

#[test]
fn the_graph_as_text() {
    project().wharf(&["graph"]).expect(0, "db\nweb  -> db (healthy)\n", "");
}

#[test]
fn every_mistake_is_shown_with_its_place() {
    let environment = Environment::new();
    environment.write("compose.yaml", "services:\n  web:\n    imagee: busybox\n    prots:\n      - \"80\"\n");
    let expected = "\
error: 2 mistakes in the compose files
 --> compose.yaml:3:5
  |
3 |     imagee: busybox
  |     ^^^^^^ unknown attribute `imagee` in services.web: did you mean `image`?
 --> compose.yaml:4:5
  |
4 |     prots:
  |     ^^^^^ unknown attribute `prots` in services.web: did you mean `ports`?
";
    environment.wharf(&["config", "-q"]).expect(1, "", expected);
    environment.wharf(&["up", "-d"]).expect(1, "", expected);
}

#[test]
fn syntax_errors_have_a_caret() {
    let environment = Environment::new();
    environment.write("compose.yaml", "services:\n  a:\n    image: \"x\n");
    let expected = "\
error: not valid YAML: while scanning a quoted scalar, found unexpected end of stream
 --> compose.yaml:3:12
  |
3 |     image: \"x
  |            ^
";
    environment.wharf(&["config"]).expect(1, "", expected);
}

#[test]
fn control_characters_of_a_file_do_not_reach_the_terminal() {
    let environment = Environment::new();
    environment.write("compose.yaml", "services:\n  a:\n    image: x\n    \"bad\\e[2J\": 1\n");
    let answer = environment.wharf(&["config"]);
    assert_eq!(answer.code, 1);
    assert!(!answer.stderr.contains('\x1b'), "{:?}", answer.stderr);
}

#[test]
fn names_that_do_not_exist() {
    let environment = project();
    environment.wharf(&["config", "wbe"]).expect(1, "", "error: no such service: wbe\nhint: did you mean `web`?\n");
    environment.wharf(&["-f", "other.yaml", "config"]).expect(
        1,
        "",
        "error: cannot open $FOLDER/other.yaml\n  caused by: No such file or directory (os error 2)\n",
    );
}
