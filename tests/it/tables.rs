//! Tables, JSON and templates over a store that holds containers which were never started, and logs.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use wharf::base::id::ContainerId;
use wharf::engine::request::Request;
use wharf::graph::observed::label;
use wharf::log::{Stream, Writer};
use wharf::model::container::{ContainerState, Status};
use wharf::model::image::{Image, ImageConfig};

use crate::environment::Environment;

/// Makes the container `<project>-<service>-<number>`, created two and a half minutes ago.
fn container(environment: &Environment, project: &str, service: &str, number: u32, exit: Option<i32>) -> ContainerId {
    let store = environment.store();
    let image = Image {
        id: wharf::base::id::Digest::of(b"image"),
        manifest: None,
        config: ImageConfig::default(),
        layers: Vec::new(),
    };
    let labels = [
        (label::PROJECT, project.to_owned()),
        (label::SERVICE, service.to_owned()),
        (label::NUMBER, number.to_string()),
        (label::ONEOFF, "False".to_owned()),
        (label::CONFIG_FILES, "/shop/compose.yaml".to_owned()),
    ];
    let request = Request {
        name: Some(format!("{project}-{service}-{number}")),
        image: "busybox:1".into(),
        labels: labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<BTreeMap<_, _>>(),
        command: Some(["sleep", "a-rather-long-argument"].map(str::to_owned).to_vec()),
        ..Request::default()
    };
    let then = Timestamp::now() - Duration::from_secs(150);
    let spec = request.into_spec(&image, then).expect("the request is good");
    store.containers().create(&spec).expect("the container can be recorded");
    if let Some(exit_code) = exit {
        let state = ContainerState {
            status: Status::Exited,
            exit_code,
            started_at: Some(then),
            finished_at: Some(then),
            ..store.containers().state(&spec.id).expect("a new container has a state")
        };
        store.containers().set_state(&spec.id, &state).expect("the state can be written");
    }
    spec.id
}

fn shop() -> Environment {
    let environment = Environment::new();
    environment.write("compose.yaml", "name: shop\nservices:\n  web: {image: busybox:1}\n  db: {image: busybox:1}\n");
    container(&environment, "shop", "web", 1, Some(3));
    container(&environment, "shop", "db", 1, None);
    container(&environment, "other", "web", 1, Some(0));
    environment
}

#[test]
fn ps_of_a_project() {
    let environment = shop();
    environment.wharf(&["ps"]).expect(0, "NAME      IMAGE     COMMAND   SERVICE   CREATED   STATUS    PORTS\n", "");
    let all = "\
NAME         IMAGE       COMMAND                  SERVICE   CREATED         STATUS                     PORTS
shop-db-1    busybox:1   \"sleep a-rather-long…\"   db        2 minutes ago   Created
shop-web-1   busybox:1   \"sleep a-rather-long…\"   web       2 minutes ago   Exited (3) 2 minutes ago
";
    environment.wharf(&["ps", "-a"]).expect(0, all, "");
    environment.wharf(&["ps", "-a", "--services"]).expect(0, "db\nweb\n", "");
    environment.wharf(&["ps", "--status", "exited", "--format", "{{.Name}}\\t{{.State}} {{.ExitCode}}"]).expect(
        0,
        "shop-web-1\texited 3\n",
        "",
    );
    let table = "NAME         CREATED\nshop-db-1    2 minutes ago\nshop-web-1   2 minutes ago\n";
    environment.wharf(&["ps", "-a", "--format", "table {{.Name}}\\t{{.RunningFor}}"]).expect(0, table, "");
    environment
        .wharf(&["ps", "-a", "--filter", "name=db", "--format", "{{.Nome}}"])
        .stderr
        .starts_with("error: bad template `{{.Nome}}`: there is no field `Nome`; the fields are .Command,")
        .then_some(())
        .expect("a field that does not exist is named");
    environment.wharf(&["-p", "other", "ps", "-aq"]).stdout.trim().parse::<ContainerId>().expect("a whole id");
}

#[test]
fn ps_as_json_has_composes_keys() {
    let answer = shop().wharf(&["ps", "-a", "--format", "json"]);
    let rows: Vec<serde_json::Value> =
        answer.stdout.lines().map(|line| serde_json::from_str(line).expect("a line is an object")).collect();
    assert_eq!(rows.len(), 2);
    let keys: Vec<&str> = rows[0].as_object().expect("an object").keys().map(String::as_str).collect();
    let expected = "Command CreatedAt ExitCode Health ID Image Labels LocalVolumes Mounts Name Names Networks Ports \
                    Project Publishers RunningFor Service Size State Status";
    assert_eq!(keys.join(" "), expected);
    assert_eq!((&rows[1]["ExitCode"], &rows[1]["State"]), (&3.into(), &"exited".into()));
}

#[test]
fn names_are_services_then_containers() {
    let environment = shop();
    let name = |target| environment.wharf(&["ps", "-a", "--format", "{{.Name}}", target]).stdout;
    assert_eq!(name("web"), "shop-web-1\n");
    assert_eq!(name("other-web-1"), "other-web-1\n");
    environment.wharf(&["ps", "wbe"]).expect(1, "", "error: no such service: wbe\nhint: did you mean `web`?\n");
    environment.wharf(&["exec", "web", "true"]).expect(
        1,
        "",
        "error: service `web` is not running\nhint: `wharf up -d` starts it; `wharf ps -a` shows why it ended\n",
    );
}

#[test]
fn ls_lists_projects() {
    let environment = shop();
    environment.wharf(&["ls"]).expect(0, "NAME                STATUS              CONFIG FILES\n", "");
    let all = "\
NAME                STATUS                  CONFIG FILES
other               exited(1)               /shop/compose.yaml
shop                created(1), exited(1)   /shop/compose.yaml
";
    environment.wharf(&["ls", "-a"]).expect(0, all, "");
    let json = "[{\"Name\":\"other\",\"Status\":\"exited(1)\",\"ConfigFiles\":\"/shop/compose.yaml\"}]\n";
    environment.wharf(&["ls", "-a", "--format", "json", "--filter", "name=oth"]).expect(0, json, "");
    environment.wharf(&["ls", "-aq"]).expect(0, "other\nshop\n", "");
}

#[test]
fn logs_of_several_containers_are_one() {
    let environment = shop();
    let store = environment.store();
    let id = |name: &str| store.containers().find(name).expect("it is there");
    for (name, lines) in [("shop-db-1", ["one", "three"]), ("shop-web-1", ["two", "four"])] {
        let path = wharf::supervise::log_path(&store, &id(name));
        std::fs::create_dir_all(path.parent().expect("a log lies in a folder")).expect("the folder can be made");
        let mut writer = Writer::open(&path, &wharf::model::container::Logging::default()).expect("it can be opened");
        for (index, line) in lines.iter().enumerate() {
            let stream = if *line == "four" { Stream::Stderr } else { Stream::Stdout };
            let second = 2 * index as i64 + i64::from(name == "shop-web-1");
            let time = Timestamp::from_second(second).expect("a small number is a time");
            writer.push(stream, format!("{line}\n").as_bytes(), time);
        }
        writer.flush();
    }
    let merged = "db-1   | one\nweb-1  | two\ndb-1   | three\n";
    environment.wharf(&["logs"]).expect(0, merged, "web-1  | four\n");
    environment.wharf(&["logs", "--no-log-prefix", "web"]).expect(0, "two\n", "four\n");
    environment.wharf(&["logs", "--tail", "1", "db"]).expect(0, "db-1  | three\n", "");
    environment.wharf(&["logs", "-t", "--until", "0", "db"]).expect(
        0,
        "db-1  | 1970-01-01T00:00:00.000000000Z one\n",
        "",
    );
    environment.wharf(&["logs", "--since", "3", "web"]).expect(0, "", "web-1  | four\n");
    environment.wharf(&["logs", "shop-db-1", "zzz"]).expect(
        1,
        "",
        "error: no such service: zzz\nhint: the project has `db` and `web`\n",
    );
}
