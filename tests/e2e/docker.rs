//! Docker's grammar: what people type behind `docker`, and what they read.

use crate::world::{World, eventually, free_port, get};

fn docker(world: &World, line: &str) -> String {
    let words: Vec<&str> = std::iter::once("docker").chain(line.split_whitespace()).collect();
    world.ok(&words)
}

fn fails(world: &World, line: &str, code: i32) -> String {
    let words: Vec<&str> = std::iter::once("docker").chain(line.split_whitespace()).collect();
    world.wharf(&words).expect(code).stderr
}

#[test]
fn a_container_lives_through_dockers_verbs() {
    let world = World::new();
    let id = docker(&world, "create --name one busybox true");
    assert_eq!(id.len(), 64);
    assert_eq!(docker(&world, "ps -q"), "");
    assert_eq!(docker(&world, "ps -aq"), id[..12]);
    docker(&world, "rm one");

    docker(&world, "run -d --name one --restart no busybox sleep 1000");
    assert_eq!(docker(&world, "ps --format {{.Names}}:{{.State}}"), "one:running");
    assert_eq!(docker(&world, "pause one"), "one");
    assert_eq!(docker(&world, "inspect -f {{.State.Status}} one"), "paused");
    assert_eq!(docker(&world, "unpause one"), "one");
    assert_eq!(docker(&world, "stop -t 1 one"), "one");
    assert_eq!(docker(&world, "ps -a --filter status=exited --format {{.Names}}"), "one");
    assert_eq!(docker(&world, "start one"), "one");
    let first = docker(&world, "inspect --format {{.State.Pid}} one");
    assert_eq!(docker(&world, "restart -t 0 one"), "one");
    assert_ne!(docker(&world, "inspect --format {{.State.Pid}} one"), first);
    assert_eq!(docker(&world, "rename one two"), "");
    assert_eq!(docker(&world, "kill two"), "two");
    assert_eq!(docker(&world, "wait two"), "137");
    assert_eq!(docker(&world, "rm -f two no-such"), "two");
    world.expect_no_trace();
}

#[test]
fn what_cannot_be_done_does_not_keep_the_rest_from_being_done() {
    let world = World::new();
    docker(&world, "run -d --name one busybox sleep 1000");
    let words = ["docker", "stop", "-t", "0", "no-such", "one"];
    let answer = world.wharf(&words).expect(1);
    assert_eq!(answer.stdout, "one\n");
    assert!(answer.stderr.contains("no such container: no-such"), "{}", answer.stderr);
    assert!(fails(&world, "rm no-such", 1).contains("no such container"));
    assert!(fails(&world, "run --no-such-flag busybox", 125).contains("--no-such-flag"));
    assert!(fails(&world, "ps --no-such-flag", 125).contains("--no-such-flag"));
    assert!(fails(&world, "imagem build", 1).contains("did you mean `image`?"));
    assert!(fails(&world, "swarm init", 1).contains("compose file"));
    assert!(docker(&world, "help image ls").contains("--digests"));
    assert_eq!(docker(&world, "rmi -f no-such"), "");
    assert!(fails(&world, "build name .", 1).contains("did you mean `build -t name .`?"));
    assert!(fails(&world, "container run –d –v bancomysql:/var/lib/mysql mysql", 125).contains("type `-d`"));
    assert!(fails(&world, "volume create –name banco", 1).contains("type `--name`"));
    assert!(fails(&world, "inspect nothing", 1).contains("no such object: nothing"));
    let running = fails(&world, "run --name one busybox", 125);
    assert!(running.contains("one"), "{running}");
    docker(&world, "start one");
    assert!(fails(&world, "rm one", 1).contains("is running"));
    docker(&world, "rm -f one");
    world.expect_no_trace();
}

#[test]
fn lists_are_filtered_and_formatted() {
    let world = World::new();
    let port = free_port();
    docker(&world, &format!("run -d --name web -l tier=front -h here -p 127.0.0.1:{port}:80 busybox httpd -f -h /etc"));
    docker(&world, "run --name job -l tier=back busybox true");
    world.wharf(&["docker", "run", "--name", "bad", "busybox", "sh", "-c", "exit 7"]).expect(7);
    let names = |filter: &str| docker(&world, &format!("ps -a --format {{{{.Names}}}} {filter}"));
    assert_eq!(names("--filter label=tier=front"), "web");
    assert_eq!(names("--filter name=^b --filter name=we"), "bad\nweb");
    assert_eq!(names("--filter exited=7"), "bad");
    assert_eq!(names(&format!("--filter publish={port}")), "web");
    assert_eq!(names("--filter since=job"), "bad");
    assert_eq!(names("--filter before=job"), "web");
    assert_eq!(names("-l"), "bad");
    assert_eq!(names("-n 2"), "bad\njob");
    let table = world.ok(&["docker", "ps", "--format", "table {{.ID}}\t{{.Names}}\t{{.Ports}}"]);
    assert!(table.starts_with("CONTAINER ID   NAMES     PORTS\n"), "{table}");
    assert!(table.contains(&format!("127.0.0.1:{port}->80/tcp")), "{table}");
    assert!(docker(&world, "ps -s").contains("(virtual "));
    let body = eventually("httpd answers", || get(("127.0.0.1", port), "/hostname"));
    assert_eq!(body.trim(), "here");
    let line = "{{range .Mounts}}x{{else}}none{{end}} {{index .Config.Labels \"tier\"}} {{.HostConfig.NetworkMode}}";
    assert_eq!(world.ok(&["docker", "inspect", "-f", line, "web"]), "none front bridge");
    let json: serde_json::Value = serde_json::from_str(&docker(&world, "inspect web")).expect("JSON");
    assert_eq!(json[0]["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"], port.to_string());
    assert_eq!(docker(&world, "container prune -f").lines().count(), 5);
    docker(&world, "rm -f web");
    world.expect_no_trace();
}

#[test]
fn switches_have_values_and_what_has_no_sense_is_said() {
    let world = World::new();
    docker(&world, "run -d --name db --rm=true --init=false -e SECRET=x --log-opt env=SECRET busybox sleep 1000");
    docker(&world, "run -d --name web --link db:store --entrypoint sleep busybox 1000");
    assert_eq!(docker(&world, "inspect -f {{.HostConfig.AutoRemove}}{{.HostConfig.Init}} db"), "truefalse");
    let shown = docker(&world, "inspect -f {{.Config.Entrypoint}}{{.Config.Cmd}}{{.HostConfig.Links}} web");
    assert_eq!(shown, "[sleep][1000][/db:/web/store]");
    assert!(docker(&world, "exec web nslookup store").contains("Address"));
    assert!(fails(&world, "exec -w /nowhere web pwd", 127).contains("/nowhere"));
    assert_eq!(docker(&world, "exec web find / -maxdepth 1 -name nowhere"), "");
    docker(&world, "pause web");
    assert!(fails(&world, "exec web true", 1).contains("web is paused"));
    docker(&world, "unpause web");
    assert!(fails(&world, "run --rm --restart always busybox true", 125).contains("--restart and --rm"));
    assert!(fails(&world, "run", 1).contains("needs"));
    world.write("bad.env", "A=1\nB C=2\n");
    assert!(fails(&world, "run --rm --env-file bad.env busybox true", 125).contains("bad.env:2"));
    world.write("good.env", "A=1\n");
    assert!(docker(&world, "exec --env-file good.env -e B=2 web env").contains("A=1\nB=2"));

    // The entrypoint of a committed container is in front of what its image is given to run.
    docker(&world, "commit web again");
    assert_eq!(docker(&world, "image inspect -f {{.Config.Entrypoint}}{{.Config.Cmd}} again"), "[sleep][1000]");
    docker(&world, "run --rm again 0");

    // A link at the destination of `cp` stays.
    docker(&world, "exec web ln -s ../etc/there /tmp/link");
    world.write("file", "content");
    docker(&world, "cp file web:/tmp/link");
    assert_eq!(docker(&world, "exec web cat /etc/there"), "content");
    assert_eq!(docker(&world, "exec web readlink /tmp/link"), "../etc/there");

    assert!(fails(&world, "network create host", 1).contains("host"));
    assert!(fails(&world, "network rm bridge", 1).contains("pre-defined"));
    assert_eq!(docker(&world, "network ls -f type=builtin --format {{.Name}}"), "bridge\nhost\nnone");
    assert_eq!(docker(&world, "network inspect -f {{.Driver}} none"), "null");
    docker(&world, "run --name mute --log-driver none busybox true");
    assert!(fails(&world, "logs mute", 1).contains("log driver `none`"));
    docker(&world, "run --name told -e SECRET=x --log-opt env=SECRET busybox echo said");
    assert_eq!(docker(&world, "logs --details told"), "SECRET=x said");
    assert_eq!(docker(&world, "port told"), "");
    assert!(docker(&world, "top web").starts_with("UID"));
    assert!(docker(&world, "top web -o pid,args").contains("sleep 1000"));
    assert!(fails(&world, "run --rm --network container:web -p 80 busybox true", 125).contains("cannot be published"));
    assert!(fails(&world, "run -it busybox true", 1).contains("not a terminal"));
    assert!(
        docker(&world, "events --since 1h --until 0s --filter event=start --format {{.Status}}{{.Scope}}")
            .contains("startlocal")
    );
    assert_eq!(docker(&world, "context show"), "default");
    assert!(fails(&world, "--context elsewhere ps", 1).contains("context not found"));
    docker(&world, "rm -f db web mute told");
    world.expect_no_trace();
}

#[test]
fn limits_volumes_and_ids_of_run() {
    let world = World::new();
    let script = "cat /kept/x; cat /etc/resolv.conf";
    world.ok(&["docker", "run", "--name", "data", "-v", "/kept", "busybox", "sh", "-c", "echo kept > /kept/x"]);
    let seen = world.ok(&[
        "docker",
        "run",
        "--rm",
        "--volumes-from",
        "data:ro",
        "--domainname",
        "example.test",
        "--dns-search",
        "search.test",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    assert!(seen.starts_with("kept\n"), "{seen}");
    assert!(seen.contains("search search.test"), "{seen}");
    world.ok(&[
        "docker",
        "run",
        "-d",
        "--name",
        "small",
        "-m",
        "32m",
        "--memory-swap",
        "32m",
        "-c",
        "512",
        "--oom-score-adj",
        "100",
        "--cidfile",
        "id",
        "busybox",
        "sleep",
        "1000",
    ]);
    let id = std::fs::read_to_string(world.folder().join("id")).expect("the id was written");
    assert_eq!(docker(&world, "inspect -f {{.Id}} small"), id);
    assert_eq!(docker(&world, "inspect -f {{.HostConfig.Memory}}/{{.HostConfig.CpuShares}} small"), "33554432/512");
    assert_eq!(docker(&world, "exec small cat /proc/1/oom_score_adj"), "100");
    assert!(fails(&world, "run --cidfile id busybox", 125).contains("id"));
    docker(&world, "rm -fv data small");
    world.expect_no_trace();
}

#[test]
fn volumes_and_networks_are_made_described_and_pruned() {
    let world = World::new();
    assert_eq!(docker(&world, "volume create --name old"), "old");
    assert_eq!(docker(&world, "volume create --label tier=x kept"), "kept");
    docker(&world, "network create --label tier=x --subnet 10.199.77.0/24 front");
    docker(&world, "network create idle");
    docker(&world, "run -d --name one -v kept:/data --network front --ip 10.199.77.9 busybox sleep 1000");
    assert_eq!(docker(&world, "volume ls -q -f dangling=true"), "old");
    assert_eq!(docker(&world, "volume ls -q --filter label=tier"), "kept");
    assert!(docker(&world, "volume inspect -f {{.Mountpoint}} kept").ends_with("/_data"));
    assert_eq!(docker(&world, "network ls -f label=tier=x --format {{.Name}}"), "front");
    let line = "{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}} {{(index .IPAM.Config 0).Subnet}}";
    let shown = world.ok(&["docker", "network", "inspect", "-f", line, "front"]);
    assert_eq!(shown, "one 10.199.77.9/24 10.199.77.0/24");
    assert!(fails(&world, "volume rm kept", 1).contains("in use"));
    assert!(fails(&world, "network rm front", 1).contains("in use"));
    assert!(fails(&world, "volume create -d nfs x", 1).contains("local"));
    assert_eq!(docker(&world, "network prune -f"), "Deleted Networks:\nidle");
    assert!(docker(&world, "volume prune -f").starts_with("Total"), "named ones stay");
    assert!(docker(&world, "volume prune -af").starts_with("Deleted Volumes:\nold\n"));
    docker(&world, "rm -f one");
    docker(&world, "volume rm kept");
    docker(&world, "network rm front");
    world.expect_no_trace();
}
