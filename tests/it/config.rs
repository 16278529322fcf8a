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
fn variables_are_listed_with_what_the_files_say_of_them() {
    let environment = Environment::new();
    environment.write(
        "compose.yaml",
        "services:\n  a:\n    image: x:${TAG:-${BASE:-1}}\n    environment: {KEY: \"${KEY:?set it}\"}\n  b:\n    image: y\n    \
         profiles: [p]\n    labels: [\"l=${ON:+yes}$$NOT\"]\n",
    );
    let table = "\
NAME                REQUIRED            DEFAULT VALUE       ALTERNATE VALUE
BASE                false               1
KEY                 true
ON                  false                                   yes
TAG                 false               ${BASE:-1}
";
    environment.wharf(&["config", "--variables"]).expect(0, table, "");
    let json = environment.wharf(&["config", "--variables", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("it is JSON");
    assert_eq!(
        json["TAG"],
        serde_json::json!({"Name": "TAG", "DefaultValue": "${BASE:-1}", "PresenceValue": "", "Required": false})
    );
    let yaml = environment.wharf(&["config", "--variables", "--format", "yaml"]).stdout;
    assert!(yaml.starts_with("BASE:\n  name: BASE\n  defaultvalue: \"1\"\n"), "{yaml}");
}

#[test]
fn without_interpolation_everything_is_shown_as_it_was_written() {
    let environment = Environment::new();
    let file = "name: raw\nservices:\n  b:\n    profiles: [p]\n    image: b:$TAG\n  a:\n    ports: [\"${P}:80\", \"81:81\"]\n    \
                image: a\n    x-k: {z: 1}\nvolumes:\n  unused: {}\n";
    environment.write("compose.yaml", file);
    let expected = "\
name: raw
services:
  a:
    image: a
    ports:
      - ${P}:80
      - 81:81
    x-k:
      z: 1
  b:
    image: b:$TAG
    profiles:
      - p
volumes:
  unused: {}
";
    environment.wharf(&["config", "--no-interpolate", "--no-normalize"]).expect(0, expected, "");
    environment.wharf(&["config", "--no-interpolate", "--services"]).expect(0, "a\nb\n", "");
}

#[test]
fn models_and_the_images_of_mounts_and_hooks_are_listed() {
    let environment = Environment::new();
    environment.write(
        "compose.yaml",
        "services:\n  a:\n    image: a\n    models: [llm]\n    pre_start: [{command: x, image: h}]\n    volumes:\n      - {type: image, \
         source: data:1, target: /d}\nmodels:\n  llm: {model: ai/small}\n  unused: {model: ai/big}\n",
    );
    environment.wharf(&["config", "--models"]).expect(0, "ai/small\n", "");
    environment.wharf(&["config", "--images"]).expect(0, "a\nh\ndata:1\n", "");
}

#[test]
fn every_value_is_explained() {
    let environment = Environment::new();
    environment.write(
        "compose.yaml",
        "\
name: shop
include: [db.yaml]
services:
  web:
    image: web:${TAG:-1}
    ports: [\"80:80\"]
    env_file: web.env
    cap_add: [X]
    labels: {a.b: c}
",
    );
    environment.write("db.yaml", "services: {db: {image: db, network_mode: none}}\n");
    environment.write("web.env", "# nothing\nLEVEL=info\n");
    environment.write(".env", "MORE=x\n");
    let file = "\
services:
  web:
    image: web:${TAG:-2}-$MORE
    cap_add: !reset []
    network_mode: host
    restart: !override \"no\"
";
    environment.write("compose.override.yaml", file);
    let expected = "\
name: shop
  compose.yaml:1:7
services.db.image: db
  db.yaml:1:24
services.db.network_mode: none
  db.yaml:1:42
services.web.environment.LEVEL: info
  web.env:2, an env file of compose.yaml:7:15
services.web.image: web:7-x
  compose.override.yaml:3:12, from web:${TAG:-2}-$MORE
  TAG is `7`: the environment
  MORE is `x`: .env:1
  instead of web:7 in compose.yaml:5:12
services.web.labels.\"a.b\": c
  compose.yaml:9:19
services.web.network_mode: host
  compose.override.yaml:5:19
services.web.ports[0].mode: ingress
  default
services.web.ports[0].target: 80
  compose.yaml:6:13
services.web.ports[0].published: 80
  compose.yaml:6:13
services.web.ports[0].protocol: tcp
  default
services.web.restart: no
  compose.override.yaml:6:14
services.web.cap_add: (removed)
  by !reset in compose.override.yaml:4:14
  instead of [\"X\"] in compose.yaml:8:14
";
    let tag = [("TAG", "7")];
    environment.wharf_with(&["config", "--explain"], &tag).expect(0, expected, "");
    let db = "services.db.image: db\n  db.yaml:1:24\nservices.db.network_mode: none\n  db.yaml:1:42\n";
    environment.wharf(&["config", "--explain", "db"]).expect(0, db, "");
    environment.wharf(&["config", "--explain", "services.web.labels.a.b"]).expect(
        0,
        "services.web.labels.\"a.b\": c\n  compose.yaml:9:19\n",
        "",
    );
    let nothing =
        "error: the project has nothing at `web.imag`\nhint: `config --explain` without a path lists them all\n";
    environment.wharf(&["config", "--explain", "web.imag"]).expect(1, "", nothing);
    let json = environment.wharf_with(&["config", "--explain", "web.image", "--format", "json"], &tag);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("it is JSON");
    let summary = (&json[0]["value"], &json[0]["place"]["line"], &json[0]["variables"][1]["from"]["line"]);
    assert_eq!(summary, (&"web:7-x".into(), &3.into(), &1.into()));
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
