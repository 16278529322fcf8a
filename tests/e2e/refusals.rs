//! What the kernel refuses, each by a filter of system calls around the program: a message with what to do, the right
//! exit code, nothing left behind. And what a host has too little of, that wharf can do without.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::world::{Answer, World, eventually};

/// A system call, an argument of it with the value that is meant, and the error that it ends with.
type Refusal = (libc::c_long, Option<(u32, u32)>, i32);

/// A socket of NETLINK_NETFILTER.
const NFTABLES: (u32, u32) = (2, 12);

/// The filter that refuses this, in BPF.
fn filter((call, argument, errno): Refusal) -> Vec<libc::sock_filter> {
    let word = |offset: u32| libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: offset };
    let skip_unless = |value: u32, count: u8| libc::sock_filter { code: 0x15, jt: 0, jf: count, k: value };
    let answer = |value: u32| libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: value };
    let call = u32::try_from(call).expect("a number of a system call");
    let mut program = vec![word(0)];
    match argument {
        Some((number, value)) => {
            program.extend([skip_unless(call, 3), word(16 + 8 * number), skip_unless(value, 1)]);
        }
        None => program.push(skip_unless(call, 1)),
    }
    let errno = u32::try_from(errno).expect("a number of an error");
    program.extend([answer(libc::SECCOMP_RET_ERRNO | errno), answer(libc::SECCOMP_RET_ALLOW)]);
    program
}

/// Makes a command, and all that it starts, see refusals.
#[allow(unsafe_code, reason = "a filter can only be set in the process that it is for")]
fn refuse(command: &mut Command, refusals: &[Refusal]) {
    let mut filters: Vec<_> = refusals.iter().map(|refusal| filter(*refusal)).collect();
    let install = move || {
        for filter in &mut filters {
            let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
            // SAFETY: prctl(2) reads the program, which lives until after the call.
            if unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: only system calls between fork and exec, on memory that was made before.
    unsafe { command.pre_exec(install) };
}

fn run(world: &World, words: &[&str], refusals: &[Refusal]) -> Answer {
    let mut command = world.command(words);
    refuse(&mut command, refusals);
    let output = command.stdin(Stdio::null()).output().expect("wharf can be run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Answer { code: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

#[test]
fn what_the_kernel_refuses_is_told_with_what_to_do() {
    let world = World::new();
    world.write("compose.yaml", "services: {web: {image: busybox, command: sleep 1000}}\n");
    let table: &[(Refusal, &str, &str)] = &[
        ((libc::SYS_clone3, None, libc::ENOSPC), "make the container's process", "no namespace left"),
        ((libc::SYS_clone3, None, libc::ENOMEM), "make the container's process", "no memory left"),
        ((libc::SYS_clone3, None, libc::EAGAIN), "make the container's process", "no process left"),
        ((libc::SYS_clone3, None, libc::EPERM), "make the container's process", "--privileged"),
        ((libc::SYS_clone, None, libc::ENOMEM), "cannot fork", "memory is out"),
        ((libc::SYS_clone, None, libc::EAGAIN), "cannot fork", "no process is left"),
        ((libc::SYS_socket, Some(NFTABLES), libc::EPROTONOSUPPORT), "in nftables", "modprobe"),
        ((libc::SYS_socket, Some(NFTABLES), libc::EPERM), "in nftables", "--privileged"),
        ((libc::SYS_fsopen, None, libc::EPERM), "mount", "--privileged"),
        ((libc::SYS_move_mount, None, libc::EPERM), "root", "--privileged"),
        ((libc::SYS_mount_setattr, None, libc::EPERM), "", "--privileged"),
        ((libc::SYS_pivot_root, None, libc::EPERM), "change the root", "--privileged"),
        ((libc::SYS_sethostname, None, libc::EPERM), "host name", "--privileged"),
        ((libc::SYS_capset, None, libc::EPERM), "seccomp filter", "--privileged"),
        ((libc::SYS_timerfd_create, None, libc::EMFILE), "", ""),
    ];
    for (refusal, said, hint) in table {
        let is_needed = !said.is_empty() || !hint.is_empty();
        let attempts = [
            (&["docker", "run", "--rm", "busybox", "true"][..], 125),
            (&["docker", "run", "-d", "--name", "one", "busybox", "sleep", "1000"], 125),
            (&["up", "-d"], 1),
        ];
        for (words, code) in attempts {
            let answer = run(&world, words, &[*refusal]);
            let code = if is_needed { code } else { 0 };
            assert_eq!(answer.code, code, "{words:?} without {refusal:?}: {}", answer.stderr);
            for expected in [said, hint] {
                assert!(answer.stderr.contains(expected), "{words:?} without {refusal:?}: {}", answer.stderr);
            }
            assert!(!is_needed || answer.stderr.contains("\nhint: "), "{refusal:?}: {}", answer.stderr);
            if words[0] == "up" {
                world.ok(&["down", "-t", "0"]);
            } else if words[2] == "-d" {
                // As in Docker, what cannot be started stays and can be started later.
                let status = world.ok(&["docker", "ps", "-a", "--format", "{{.Status}}"]);
                assert!(
                    if is_needed { status == "Created" } else { status.starts_with("Up") },
                    "{refusal:?}: {status}"
                );
                world.ok(&["docker", "rm", "-f", "one"]);
            }
            assert_eq!(world.ok(&["docker", "ps", "-aq"]), "", "{words:?} without {refusal:?}");
        }
        world.expect_no_trace();
        assert_eq!(world.half_made(), Vec::<String>::new(), "{refusal:?}");
    }
}

#[test]
fn a_host_without_nftables_runs_what_needs_no_network() {
    let world = World::new();
    world.write("compose.yaml", "services: {web: {image: busybox, command: sleep 1000}}\n");
    let refusal = [(libc::SYS_socket, Some(NFTABLES), libc::EPROTONOSUPPORT)];
    for network in ["none", "host"] {
        let words = ["docker", "run", "--rm", "--network", network, "busybox", "echo", "runs"];
        assert_eq!(run(&world, &words, &refusal).expect(0).stdout, "runs\n");
    }
    // What could not be done leaves nothing that could not be undone.
    run(&world, &["up", "-d"], &refusal).expect(1);
    run(&world, &["down"], &refusal).expect(0);
    assert_eq!(world.records("networks"), Vec::<String>::new());
    world.expect_no_trace();
}

#[test]
fn nobody_fails_for_want_of_a_watch() {
    let world = World::new();
    world.write(
        "compose.yaml",
        "services: {web: {image: busybox, command: [sh, -c, 'echo hello; read line; exit 3'], stdin_open: true}}\n",
    );
    let name = format!("{}-web-1", world.project_name());
    for refusal in [(libc::SYS_inotify_init1, None, libc::EMFILE), (libc::SYS_inotify_add_watch, None, libc::ENOSPC)] {
        run(&world, &["up", "-d"], &[refusal]).expect(0);
        let start = |words: &[&str]| {
            let mut command = world.command(words);
            refuse(&mut command, &[refusal]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("wharf can be run")
        };
        let mut logs = start(&["logs", "-f", "--no-log-prefix", "web"]);
        let waiting = start(&["docker", "wait", &name]);
        let mut events = start(&["docker", "events", "--filter", "event=die", "--format", "{{.Action}}"]);
        let mut first = String::new();
        let mut lines = io::BufReader::new(logs.stdout.take().expect("a pipe"));
        io::BufRead::read_line(&mut lines, &mut first).expect("it can be read");
        assert_eq!(first, "hello\n");
        eventually("the container is waited for", || {
            (world.wharf_with_input(&["attach", "web"], b"go\n").code == 3).then_some(())
        });
        let mut died = String::new();
        let mut lines = io::BufReader::new(events.stdout.take().expect("a pipe"));
        io::BufRead::read_line(&mut lines, &mut died).expect("it can be read");
        assert_eq!(died, "die\n");
        events.kill().expect("it runs until it is ended");
        events.wait().expect("it can be waited for");
        assert_eq!(logs.wait().expect("it can be waited for").code(), Some(0));
        assert_eq!(waiting.wait_with_output().expect("it can be waited for").stdout, b"3\n");
        world.ok(&["down", "-t", "0"]);
        // A restart that is pending is stopped all the same.
        let words = ["docker", "run", "-d", "--name", "again", "--restart", "always", "busybox", "false"];
        run(&world, &words, &[refusal]).expect(0);
        eventually("it waits for its restart", || {
            world.ok(&["docker", "ps", "-a", "--format", "{{.Status}}"]).starts_with("Restarting").then_some(())
        });
        world.ok(&["docker", "stop", "-t", "0", "again"]);
        world.ok(&["docker", "rm", "again"]);
        world.expect_no_trace();
    }
}

#[test]
fn too_few_open_files_are_more_where_that_is_allowed() {
    let world = World::new();
    let limited = |flag: &str, number: &str| {
        let wharf = world.command(&["docker", "run", "--rm", "busybox", "sh", "-c", "ulimit -Sn; ulimit -Hn"]);
        let mut command = Command::new("/bin/busybox");
        command.args(["sh", "-c", &format!("ulimit {flag} {number}; exec \"$@\""), "sh"]);
        command.arg(wharf.get_program()).args(wharf.get_args());
        for (key, value) in wharf.get_envs() {
            command.env(key, value.unwrap_or_default());
        }
        let output = command.stdin(Stdio::null()).output().expect("busybox is there");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned(), stderr)
    };
    let (code, limits, stderr) = limited("-Sn", "10");
    assert_eq!(code, Some(0), "{stderr}");
    assert!(limits.starts_with("1024\n"), "the container has limits of its own: {limits}");
    let (code, _, stderr) = limited("-n", "20");
    let is_told = code == Some(125) && stderr.contains("Too many open files") && stderr.contains("`ulimit -n`");
    // With CAP_SYS_RESOURCE no limit binds root.
    assert!(is_told || code == Some(0), "{code:?} {stderr}");
    assert_eq!(world.ok(&["docker", "ps", "-aq"]), "");
    world.expect_no_trace();
}
