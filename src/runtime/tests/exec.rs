//! Further processes in a running container.

use super::*;
use crate::base::error::Explain;

/// A container that waits, with what is needed to exec into it.
struct Waiting {
    bench: Bench,
    cgroup: Cgroup,
    running: Running,
    _read: OwnedFd,
}

impl Waiting {
    fn new(configure: impl FnOnce(&mut Bench)) -> Self {
        let mut bench = Bench::new(&["sleep", "100"]);
        configure(&mut bench);
        let cgroup = bench.cgroup();
        let (running, read) = bench.start(&cgroup);
        Self { bench, cgroup, running, _read: read }
    }

    fn exec(&self, args: &[&str], change: impl FnOnce(&mut Process)) -> Result<Outcome, Error> {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let mut process =
            Process { args: args.iter().map(ToString::to_string).collect(), ..self.bench.spec.process.clone() };
        change(&mut process);
        let stdio = if process.terminal { Stdio::Terminal { rows: 10, cols: 20 } } else { pipes(write) };
        let target = ExecTarget { identity: self.running.identity, spec: &self.bench.spec, cgroup: &self.cgroup };
        let mut running = exec(&target, &process, false, stdio)?;
        let output = read_all(running.console.take().unwrap_or(read));
        Ok(Outcome { code: running.wait()?.code, output })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.cgroup.kill_all().unwrap();
        // One test reaps it itself.
        drop(self.running.wait());
        self.cgroup.remove().unwrap();
    }
}

#[test]
fn it_shares_namespaces_groups_and_privileges() {
    let container = Waiting::new(|_| {});
    let script = "for n in mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; readlink /proc/1/ns/$n; done | sort | wc -l; \
                  for n in mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; readlink /proc/1/ns/$n; done | sort -u | wc -l; \
                  grep -E 'Cap(Eff|Bnd)' /proc/self/status; cat /proc/self/cgroup | grep -cv ':/$'; hostname; exit 4";
    let outcome = container.exec(&["sh", "-c", script], |_| {}).unwrap();
    assert_eq!(outcome.code, 4);
    // The groups of the container are the root of its view; the v2 tree beside v1 is not ours.
    assert_eq!(outcome.output, "12\n6\nCapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\n0\nbox\n");
}

#[test]
fn user_folder_and_environment() {
    let container = Waiting::new(|_| {});
    let outcome = container
        .exec(&["sh", "-c", "id -u; pwd; echo $HOME $A"], |process| {
            process.user = "bob".into();
            process.cwd = "/tmp".into();
            process.env = vec!["A=b".into()];
        })
        .unwrap();
    assert_eq!((outcome.code, outcome.output.as_str()), (0, "1000\n/tmp\n/home/bob b\n"));
}

#[test]
fn a_terminal_of_the_container() {
    let container = Waiting::new(|_| {});
    let outcome = container.exec(&["sh", "-c", "tty; stty size"], |process| process.terminal = true).unwrap();
    assert_eq!(outcome.output, "/dev/pts/0\r\n10 20\r\n");
}

#[test]
fn errors_are_those_of_a_start() {
    let container = Waiting::new(|_| {});
    let error = container.exec(&["nosuch"], |_| {}).unwrap_err();
    assert_eq!(error.to_string(), "exec: \"nosuch\": executable file not found in $PATH");
    assert_eq!(error.exit_code(), 127);
    let error = container.exec(&["true"], |process| process.cwd = "/etc/passwd".into()).unwrap_err();
    assert_eq!(error.exit_code(), 126);
    let error = container.exec(&["true"], |process| process.user = "eve".into()).unwrap_err();
    assert_eq!(error.to_string(), "unable to find user eve: no matching entries in passwd file");
}

#[test]
fn a_working_folder_is_no_way_out() {
    let container = Waiting::new(|_| {});
    for cwd in ["/proc/self/fd/7", "/proc/self/fd/3/../../.."] {
        let error = container.exec(&["pwd"], |process| process.cwd = cwd.into()).unwrap_err();
        assert!(matches!(error, Error::WorkingFolder { .. }), "{error}");
    }
}

#[test]
fn a_paused_or_ended_container_is_refused() {
    let container = Waiting::new(|_| {});
    container.cgroup.freeze().unwrap();
    assert!(container.cgroup.is_frozen());
    assert!(matches!(container.exec(&["true"], |_| {}), Err(Error::Paused)));
    container.cgroup.thaw().unwrap();
    assert!(!container.cgroup.is_frozen());
    assert_eq!(container.exec(&["true"], |_| {}).unwrap().code, 0);
    container.cgroup.freeze().unwrap();
    container.cgroup.kill_all().unwrap();
    assert_eq!(container.running.wait().unwrap(), ExitStatus { code: 137, signal: Some(9) });
    let identity = container.running.identity;
    assert!(!is_alive(identity) && identify(identity).is_none());
    assert!(matches!(container.exec(&["true"], |_| {}), Err(Error::NotRunning { .. })));
}

#[test]
fn nothing_lies_between_the_root_and_the_hosts() {
    // Everything that is attached somewhere for a moment on the way: files, and a path inside layers.
    let container = Waiting::new(|bench| {
        bench.files = vec![secret("/run/secrets/key", "secret", 0, 0o400)];
        let lowers = vec![bench.folder.join("l1"), bench.folder.join("l2")];
        for lower in &lowers {
            std::fs::create_dir_all(lower.join("sub")).unwrap();
        }
        bench.mounts = vec![ResolvedMount {
            target: "/layers".into(),
            read_only: true,
            source: ResolvedSource::Layers { stack: RootFs { lowers, upper: None }, subpath: Some("sub".into()) },
        }];
    });
    let output = |args: &[&str]| container.exec(args, |_| {}).unwrap().output;
    let inside = output(&["ls", "/"]);
    assert_eq!(inside, "bin\ndev\netc\nlayers\nproc\nrun\nsys\ntmp\n");
    assert_eq!(output(&["ls", "/.."]), inside);
    assert_eq!(output(&["ls", "/proc/1/root/.."]), inside);
    // Who enters later sees the same mounts as the first process, and of each target that is ours one.
    let mounts = output(&["cat", "/proc/1/mounts"]);
    assert_eq!(output(&["cat", "/proc/self/mounts"]), mounts);
    assert_eq!(mounts.lines().filter(|line| line.split(' ').nth(1) == Some("/")).count(), 1, "{mounts}");
    assert_eq!(mounts.lines().filter(|line| line.split(' ').nth(1) == Some("/proc")).count(), 1, "{mounts}");
}
