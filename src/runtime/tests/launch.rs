//! Exit codes, errors in Docker's words, users, environment, limits, init, terminals.

use super::*;
use crate::base::error::Explain;

#[test]
fn exit_codes_and_output() {
    let outcome = Bench::shell("echo out; echo err >&2; exit 7").run().unwrap();
    assert_eq!((outcome.code, outcome.output.as_str()), (7, "out\nerr\n"));
    let outcome = Bench::shell("kill -9 $$").run().unwrap();
    assert_eq!(outcome.code, 0, "PID 1 cannot kill itself");
    let mut bench = Bench::shell("kill -9 $$");
    bench.spec.init = true;
    assert_eq!(bench.run().unwrap().code, 137);
}

#[test]
fn what_cannot_be_executed() {
    let check = |program: &str| {
        let bench = Bench::new(&[program]);
        std::fs::write(bench.root().join("bin/data"), "data").unwrap();
        std::fs::write(bench.root().join("bin/script"), "#!/no/such/shell\n").unwrap();
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(bench.root().join("bin/script"), mode).unwrap();
        let error = bench.run().unwrap_err();
        (error.exit_code(), error.to_string())
    };
    for (program, code, message) in [
        ("nosuch", 127, "exec: \"nosuch\": executable file not found in $PATH"),
        ("/bin/nosuch", 127, "exec: \"/bin/nosuch\": stat /bin/nosuch: no such file or directory"),
        ("/bin/data", 126, "exec: \"/bin/data\": permission denied"),
        ("/bin", 126, "exec: \"/bin\": is a directory"),
        ("/bin/data/x", 127, "exec: \"/bin/data/x\": stat /bin/data/x: no such file or directory"),
        ("", 127, "exec: \"\": executable file not found in $PATH"),
    ] {
        assert_eq!(check(program), (code, message.to_owned()), "{program}");
    }
}

#[test]
fn environment_has_defaults_below_what_is_given() {
    let mut bench = Bench::new(&["env"]);
    bench.spec.process.env = ["A=1", "A=2", "HOME=", "NOTHING", "PATH=/bin"].map(String::from).to_vec();
    let output = bench.output();
    let mut lines: Vec<&str> = output.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A=2", "HOME=/root", "HOSTNAME=box", "PATH=/bin"]);
}

#[test]
fn users_and_groups() {
    let check = |user: &str| {
        let mut bench = Bench::shell("id; echo $HOME; grep -E 'Cap(Eff|Bnd|Prm|Inh|Amb)' /proc/self/status");
        bench.spec.process.user = user.into();
        bench.output()
    };
    assert_eq!(
        check("bob"),
        "uid=1000(bob) gid=1000(bob) groups=29(audio),1000(bob)\n/home/bob\nCapInh:\t0000000000000000\n\
         CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t00000000a80425fb\n\
         CapAmb:\t0000000000000000\n"
    );
    assert_eq!(
        check(""),
        "uid=0(root) gid=0(root) groups=0(root)\n/root\nCapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\n\
         CapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\n"
    );
}

#[test]
fn a_fifo_as_passwd_does_not_block() {
    let mut bench = Bench::new(&["true"]);
    let passwd = bench.root().join("etc/passwd");
    std::fs::remove_file(&passwd).unwrap();
    let mode = rustix::fs::Mode::from(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, &passwd, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    bench.spec.process.user = "bob".into();
    assert_eq!(bench.run().unwrap_err().to_string(), "cannot read /etc/passwd of the container");
}

#[test]
fn the_working_folder_is_made() {
    let mut bench = Bench::shell("pwd; stat -c '%a %u' .");
    bench.spec.process.cwd = "/made/for/me".into();
    bench.spec.process.user = "bob".into();
    bench.spec.read_only = true;
    assert_eq!(bench.output(), "/made/for/me\n755 0\n");
    let mut bench = Bench::new(&["true"]);
    bench.spec.process.cwd = "/etc/passwd".into();
    let error = bench.run().unwrap_err();
    assert_eq!((error.exit_code(), error.to_string().as_str()), (126, "cannot enter the working folder `/etc/passwd`"));
}

#[test]
fn limits_are_those_of_the_container() {
    let script = "ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj; umask";
    let mut bench = Bench::shell(script);
    bench.spec.ulimits.insert("nofile".into(), (100, 200));
    bench.spec.resources.oom_score_adj = Some(500);
    assert_eq!(bench.output(), "100\n200\n500\n0022\n");
    let bench = Bench::new(&["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"]);
    assert_eq!(bench.output(), "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
    let mut bench = Bench::new(&["true"]);
    bench.spec.ulimits.insert("nofiles".into(), (1, 1));
    assert_eq!(bench.run().unwrap_err().to_string(), "`nofiles` is not a resource limit");
}

#[test]
fn init_reaps_forwards_and_ends_as_the_program() {
    // The orphan (a second `sleep` of a subshell that ends) is reaped: no zombie is left.
    let mut bench = Bench::shell("(sleep 0.01 &); sleep 0.1; ps -o pid,stat,comm; exit 3");
    bench.spec.init = true;
    let outcome = bench.run().unwrap();
    assert_eq!(outcome.code, 3);
    assert!(outcome.output.contains("1 S    wharf-init"), "{}", outcome.output);
    assert!(!outcome.output.contains(" Z"), "{}", outcome.output);

    let mut bench = Bench::shell("trap 'echo got it; exit 5' TERM; echo ready; while :; do sleep 0.01; done");
    bench.spec.init = true;
    let cgroup = bench.cgroup();
    let (running, read) = bench.start(&cgroup);
    let mut read = std::fs::File::from(read);
    let mut ready = [0; 6];
    read.read_exact(&mut ready).unwrap();
    running.signal(libc::SIGTERM).unwrap();
    assert_eq!(read_all(read.into()), "got it\n");
    assert_eq!(running.wait().unwrap(), ExitStatus { code: 5, signal: None });
    cgroup.remove().unwrap();
}

#[test]
fn init_cannot_be_looked_into() {
    let mut bench = Bench::shell("readlink /proc/1/exe; ls /proc/1/fd; cat /proc/1/environ; echo end");
    bench.spec.init = true;
    let output = bench.run().unwrap().output;
    assert!(
        output.ends_with("end\n") && !output.contains("wharf-") && output.contains("Permission denied"),
        "{output}"
    );
}

#[test]
fn a_terminal() {
    let mut bench = Bench::shell("tty; stty size; echo $TERM; test -t 0 && test -t 2 && ls -l /dev/console | wc -l");
    bench.terminal = true;
    bench.spec.process.terminal = true;
    bench.spec.process.user = "bob".into();
    assert_eq!(bench.output(), "/dev/pts/0\r\n24 80\r\nxterm\r\n1\r\n");
}

#[test]
fn no_terminal_of_the_caller_leaks_in() {
    let output = Bench::shell("tty; cat < /dev/tty; echo $?").run().unwrap().output;
    assert!(output.starts_with("not a tty\n") && output.ends_with("1\n"), "{output}");
}

#[test]
fn dropping_a_prepared_container_ends_it() {
    let mut bench = Bench::new(&["true"]);
    let cgroup = bench.cgroup();
    let (prepared, _read) = bench.prepare(&cgroup).unwrap();
    let identity = prepared.identity();
    assert!(is_alive(identity));
    drop(prepared);
    assert!(!is_alive(identity));
    cgroup.remove().unwrap();
}
