//! Mistakes on the command line.

use crate::environment::Environment;

#[track_caller]
fn check(arguments: &[&str], code: i32, stderr: &str) {
    Environment::new().wharf(arguments).expect(code, "", stderr);
}

#[test]
fn unknown_verbs_and_flags_are_named_with_the_nearest() {
    check(&["vresion"], 1, "error: there is no `wharf vresion`\nhint: did you mean `version`?\n");
    check(&["xyzzy"], 1, "error: there is no `wharf xyzzy`\nhint: `wharf --help` lists the verbs\n");
    check(&["version", "--shrt"], 1, "error: `wharf version` has no flag `--shrt`\nhint: did you mean `--short`?\n");
    check(
        &["ps", "--profile", "x"],
        1,
        "error: `wharf ps` has no flag `--profile`\nhint: it stands before the verb: `wharf --profile … ps`\n",
    );
    check(
        &["run", "--no-such-flag", "image"],
        125,
        "error: `wharf run` has no flag `--no-such-flag`\nhint: `wharf run --help` lists what it takes\n",
    );
}

#[test]
fn values_are_checked() {
    check(
        &["version", "--format", "xml"],
        1,
        "error: `xml` is no value for --format: it takes pretty, json or a template\n",
    );
    check(&["version", "--format"], 1, "error: --format needs a value\n");
    check(&["logs", "--tail", "ten"], 1, "error: `ten` is no value for --tail: it takes a number or all\n");
    check(
        &["logs", "--since", "yesterday"],
        1,
        "error: `yesterday` is no value for --since: it takes a time (2026-01-31T12:00:00Z), a duration (10m) or \
         seconds since 1970\n",
    );
    check(
        &["ps", "--format", "yaml"],
        1,
        "error: `yaml` is no value for --format: it takes table, json or a template such as '{{.Name}}'\n",
    );
    check(
        &["ps", "--status", "well"],
        1,
        "error: `well` is no value for --status: it takes created, running, paused, restarting, exited or dead\n",
    );
    check(
        &["run", "--pull", "never", "nothing"],
        125,
        "error: image `nothing` is not here, and must not be pulled (--pull never)\n\
         hint: `wharf pull`, `wharf image pull nothing` or `wharf build` gets it\n",
    );
}

#[test]
fn flags_that_exclude_each_other() {
    for (arguments, pair) in [
        (&["up", "-d", "--abort-on-container-exit"][..], "--detach and --abort-on-container-exit"),
        (&["up", "--wait", "--attach", "web"], "--wait and --attach"),
        (&["up", "--build", "--no-build"], "--build and --no-build"),
        (&["up", "--force-recreate", "--no-recreate"], "--force-recreate and --no-recreate"),
        (&["up", "-V", "--no-recreate"], "--no-recreate and --renew-anon-volumes"),
        (&["config", "--services", "--images"], "--services and --images"),
    ] {
        check(arguments, 1, &format!("error: {pair} cannot be used together\n"));
    }
}

#[test]
fn outside_of_projects_verbs_speak_of_containers() {
    let environment = Environment::new();
    environment.wharf(&["ps"]).expect(
        0,
        "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES\n",
        "",
    );
    environment.wharf(&["logs", "nobody"]).expect(1, "", "error: no such container: nobody\n");
    environment.wharf(&["logs"]).expect(
        1,
        "",
        "error: `wharf logs` needs the name of a container here\n\
         hint: there is no compose file in this folder or above it; `wharf ps -a` lists containers\n",
    );
    environment.wharf(&["stop"]).expect(
        1,
        "",
        "error: name a container: there is no compose file in this folder or above it\n\
         hint: `wharf ps -a` lists containers\n",
    );
    environment.wharf(&["up"]).expect(
        1,
        "",
        "error: no compose file in $FOLDER or any folder above it\nhint: create a compose.yaml, or name one with -f\n",
    );
}

#[test]
fn errors_are_json_where_progress_is() {
    let environment = Environment::new();
    let answer = environment.wharf(&["--progress", "json", "logs", "nobody"]);
    answer.expect(1, "", "{\"error\":true,\"message\":\"no such container: nobody\"}\n");
}
