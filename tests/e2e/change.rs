//! What changes of a container while it runs: networks, limits, policy, name.

use crate::world::{World, eventually, free_port, get};

fn docker(world: &World, line: &str) -> String {
    let words: Vec<&str> = std::iter::once("docker").chain(line.split_whitespace()).collect();
    world.ok(&words)
}

fn inside(world: &World, container: &str, command: &str) -> String {
    world.ok(&["docker", "exec", container, "sh", "-c", command])
}

#[test]
fn a_running_container_joins_and_leaves_networks() {
    let world = World::new();
    docker(&world, "network create front");
    docker(&world, "network create back");
    docker(&world, "run -d --name web --network front busybox sleep 1000");
    docker(&world, "run -d --name db --network back busybox sleep 1000");
    let nobody = world.wharf(&["docker", "exec", "web", "nslookup", "-type=a", "db"]);
    assert_ne!(nobody.code, 0, "{}", nobody.stdout);

    docker(&world, "network connect --alias site back web");
    assert!(inside(&world, "web", "ping -c 1 -W 2 db").contains("1 packets received"));
    assert!(inside(&world, "db", "ping -c 1 -W 2 site").contains("1 packets received"));
    assert_eq!(
        inside(&world, "web", "ls /sys/class/net").split_whitespace().collect::<Vec<_>>(),
        ["eth0", "eth1", "lo"]
    );
    let networks = "{{range $name, $net := .NetworkSettings.Networks}}{{$name}}={{$net.IPAddress}} {{end}}";
    let shown = world.ok(&["docker", "inspect", "-f", networks, "web"]);
    assert!(shown.contains("back=1") && shown.contains("front=1"), "{shown}");
    let twice = world.wharf(&["docker", "network", "connect", "back", "web"]).expect(1);
    assert!(twice.stderr.contains("in that network already"), "{}", twice.stderr);

    // Another supervisor knows both networks, too.
    let supervisors = world.supervisors();
    for pid in supervisors {
        let pid = rustix::process::Pid::from_raw(pid).expect("a number");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it can be killed");
    }
    docker(&world, "ps");
    assert!(inside(&world, "web", "ping -c 1 -W 2 db").contains("1 packets received"));

    // The default route moves to what is left.
    assert!(inside(&world, "web", "ip route").contains("default"));
    docker(&world, "network disconnect front web");
    let routes = inside(&world, "web", "ip route");
    assert!(routes.contains("default") && routes.contains("eth1") && !routes.contains("eth0"), "{routes}");
    docker(&world, "network disconnect back web");
    assert_eq!(inside(&world, "web", "ls /sys/class/net").trim(), "lo");
    let gone = world.wharf(&["docker", "network", "disconnect", "back", "web"]).expect(1);
    assert!(gone.stderr.contains("not in that network"), "{}", gone.stderr);
    docker(&world, "network disconnect --force back web");
    let back = world.ok(&["docker", "inspect", "-f", "{{len .Containers}}", "back"]);
    assert_eq!(back, "1");

    // What is connected while it is stopped shows at its start.
    docker(&world, "stop -t 0 web");
    docker(&world, "network connect back web");
    docker(&world, "start web");
    assert!(inside(&world, "web", "ping -c 1 -W 2 db").contains("1 packets received"));
    docker(&world, "rm -f web db");
    docker(&world, "network rm front back");
    world.expect_no_trace();
}

#[test]
fn published_ports_follow_a_container_through_its_networks() {
    let world = World::new();
    let port = free_port();
    docker(&world, "network create one");
    docker(&world, "network create two");
    world.ok(&[
        "docker",
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "one",
        "-p",
        &format!("127.0.0.1:{port}:80"),
        "busybox",
        "sh",
        "-c",
        "echo hello > /index.html; exec httpd -f -h /",
    ]);
    let fetch = || eventually("the page", || get(("127.0.0.1", port), "/index.html"));
    assert!(fetch().contains("hello"));
    docker(&world, "network connect two web");
    assert!(fetch().contains("hello"));
    docker(&world, "network disconnect one web");
    assert!(fetch().contains("hello"));
    assert_eq!(docker(&world, "port web"), format!("80/tcp -> 127.0.0.1:{port}"));
    docker(&world, "rm -f web");
    docker(&world, "network rm one two");
    world.expect_no_trace();
}

#[test]
fn a_container_starts_in_several_networks() {
    let world = World::new();
    docker(&world, "network create --subnet 10.199.7.0/24 one");
    docker(&world, "network create two");
    docker(&world, "run -d --name a --network name=one,alias=x,ip=10.199.7.9 --network two busybox sleep 1000");
    assert!(inside(&world, "a", "ip addr show eth0").contains("10.199.7.9/24"));
    assert!(inside(&world, "a", "ip addr show eth1").contains("inet "));
    let answer = world.wharf(&["docker", "run", "--network", "one", "--network", "host", "busybox"]).expect(125);
    assert!(answer.stderr.contains("go with no other --network"), "{}", answer.stderr);
    docker(&world, "run -d --name b --network host busybox sleep 1000");
    let answer = world.wharf(&["docker", "network", "connect", "one", "b"]).expect(1);
    assert!(answer.stderr.contains("the host's network"), "{}", answer.stderr);
    docker(&world, "rm -f a b");
    docker(&world, "network rm one two");
    world.expect_no_trace();
}

#[test]
fn a_new_name_is_found_at_once() {
    let world = World::new();
    docker(&world, "network create net");
    docker(&world, "run -d --name old --network net busybox sleep 1000");
    docker(&world, "run -d --name other --network net busybox sleep 1000");
    docker(&world, "rename old fresh");
    assert!(inside(&world, "other", "ping -c 1 -W 2 fresh").contains("1 packets received"));
    docker(&world, "rm -f fresh other");
    docker(&world, "network rm net");
    world.expect_no_trace();
}

#[test]
fn limits_and_policy_change_while_it_runs() {
    let world = World::new();
    docker(&world, "run -d --name one -m 64m busybox sleep 1000");
    assert_eq!(docker(&world, "update -m 128m --memory-swap -1 --pids-limit 50 --restart always one"), "one");
    let shown = "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.RestartPolicy.Name}}";
    assert_eq!(world.ok(&["docker", "inspect", "-f", shown, "one"]), "134217728 50 always");
    // The kernel has them: the forty-ninth shell below the first process is the last one.
    let answer = world.wharf(&["docker", "exec", "one", "sh", "-c", "for i in $(seq 60); do sleep 9 & done; wait"]);
    assert!(answer.stderr.contains("fork"), "{}", answer.stderr);
    let first = world.first_process("one");
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(first).expect("a number"),
        rustix::process::Signal::KILL,
    )
    .expect("it can be killed");
    eventually("the restart", || {
        let pid = docker(&world, "inspect -f {{.State.Pid}} one");
        (pid != first.to_string() && pid != "0").then_some(())
    });
    let answer = world.wharf(&["docker", "update", "one"]).expect(1);
    assert!(answer.stderr.contains("say what to change"), "{}", answer.stderr);
    let answer = world.wharf(&["docker", "update", "--restart", "sometimes", "one"]).expect(1);
    assert!(answer.stderr.contains("--restart"), "{}", answer.stderr);
    docker(&world, "update --restart no one");
    docker(&world, "rm -f one");
    world.expect_no_trace();
}
