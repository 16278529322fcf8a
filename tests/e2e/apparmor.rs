//! Profiles of AppArmor, in a kernel that enforces it.
//!
//! These are not run on the machine that tests, which may have another kernel: `vm` runs them in its own.

use std::fs;
use std::process::Command;

use crate::world::{Answer, World};

const CURRENT: &str = "/proc/self/attr/apparmor/current";

fn docker(world: &World, words: &[&str]) -> Answer {
    world.wharf(&[&["docker"], words].concat())
}

#[track_caller]
fn expect(world: &World, words: &[&str], said: &str) {
    assert_eq!(docker(world, words).expect(0).stdout.trim_end(), said, "{words:?}");
}

#[test]
#[ignore = "the kernel has to enforce AppArmor: the virtual machine runs it"]
fn containers_are_confined_unless_they_ask_not_to_be() {
    let world = World::new();
    let profile = ["inspect", "--format", "{{.AppArmorProfile}}"];
    let run = ["run", "-d", "--name"];
    // The default profile is loaded by the first container, as a host has booted.
    docker(&world, &[&run[..], &["plain", "--init", "busybox", "sleep", "1000"]].concat()).expect(0);
    expect(&world, &[&profile[..], &["plain"]].concat(), "docker-default");
    expect(&world, &["exec", "plain", "cat", CURRENT], "docker-default (enforce)");
    expect(&world, &["exec", "plain", "cat", "/proc/1/attr/apparmor/current"], "docker-default (enforce)");
    expect(&world, &["exec", "--privileged", "plain", "cat", CURRENT], "unconfined");
    // Signals within the profile, also to our init. One that does not end it: with it would end who sent it.
    docker(&world, &["exec", "plain", "kill", "-WINCH", "1"]).expect(0);
    let mount = ["run", "--rm", "--cap-add", "SYS_ADMIN", "busybox", "mount", "-t", "tmpfs", "x", "/tmp"];
    let answer = docker(&world, &mount);
    assert!(answer.code != 0 && answer.stderr.contains("Permission denied"), "{answer:?}");
    docker(&world, &["stop", "-t", "60", "plain"]).expect(0);

    for (name, option) in [("privileged", &["--privileged"][..]), ("free", &["--security-opt", "apparmor=unconfined"])]
    {
        let words = [&run[..], &[name], option, &["busybox", "sleep", "1000"]].concat();
        docker(&world, &words).expect(0);
        expect(&world, &[&profile[..], &[name]].concat(), "unconfined");
        expect(&world, &["exec", name, "cat", CURRENT], "unconfined");
    }
    let words = ["run", "--rm", "--security-opt", "apparmor=missing", "busybox", "true"];
    let answer = docker(&world, &words).expect(125);
    assert!(answer.stderr.contains("the AppArmor profile `missing` is not loaded"), "{}", answer.stderr);

    // One that lets no signal in, which is what people forget.
    let file = world.folder().join("profile");
    let rules = "profile wharf-e2e flags=(attach_disconnected) { file, capability, network, deny /etc/** w, }\n";
    fs::write(&file, rules).expect("written");
    let parser = |flag: &str| Command::new("apparmor_parser").arg(flag).arg(&file).status();
    assert!(parser("-Kr").expect("apparmor is installed").success());
    let option = ["--security-opt", "apparmor=wharf-e2e", "busybox", "sleep", "1000"];
    docker(&world, &[&run[..], &["own"], &option[..]].concat()).expect(0);
    expect(&world, &[&profile[..], &["own"]].concat(), "wharf-e2e");
    let script = format!("cat {CURRENT}; touch /etc/made /made");
    let answer = docker(&world, &["exec", "own", "sh", "-c", &script]).expect(1);
    assert_eq!(answer.stdout, "wharf-e2e (enforce)\n");
    assert!(answer.stderr.contains("/etc/made: Permission denied"), "{}", answer.stderr);
    let answer = docker(&world, &["kill", "-s", "USR1", "own"]).expect(1);
    assert!(answer.stderr.contains("signal (receive) peer=unconfined"), "{}", answer.stderr);
    docker(&world, &["rm", "-f", "own", "privileged", "free", "plain"]).expect(0);
    assert!(parser("-R").expect("apparmor is installed").success());
    world.expect_no_trace();
}
