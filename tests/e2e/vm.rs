//! The same tests on another kernel with control groups v2 alone: in a virtual machine that is gone afterwards.
//!
//! This program starts itself inside. The machine is emulated (KVM inside of virtual machines is not to be relied on):
//! a minute or two, most of it the tests. `make test` runs it after the others, which would starve it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What is looked at in there: limits and their enforcement, networks, events, the life of containers.
const TESTS: [&str; 7] = ["build_image::", "change::", "files::", "limits::", "look::", "run::", "wait::"];
/// The longest that the machine may take, emulated on a busy host.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// The same for one that boots twice.
const PATIENCE_TWICE: Duration = Duration::from_secs(8 * 60);

/// One machine at a time: each takes all of this one's processors.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
fn the_same_holds_with_control_groups_v2() {
    let _one = ONE_AT_A_TIME.lock();
    let folder = prepare();
    let root = folder.join("root");
    pack(&root.join("test"), &format!("exec /test/e2e --test-threads 2 --skip git {}\n", TESTS.join(" ")));
    let archive = folder.join("initrd");
    let packed = Command::new("sh")
        .args(["-c", "find . -print0 | cpio --null --create --format=newc --quiet >../initrd"])
        .current_dir(&root)
        .status();
    assert!(packed.expect("sh is there").success(), "the first root could not be packed");
    let archive = archive.to_str().expect("text");
    let output = boot(&folder, PATIENCE, "panic=-1", &["-m", "2500", "-no-reboot", "-initrd", archive]);
    check(&output, &TESTS);
}

/// What depends on systemd or AppArmor, and what needs a file system that maps owners.
const TESTS_WITH_SYSTEMD: [&str; 5] = ["apparmor::", "limits::", "run::restart_policies", "systemd::", "userns::"];

#[test]
fn the_same_holds_below_systemd_and_after_a_reboot() {
    let _one = ONE_AT_A_TIME.lock();
    let folder = prepare();
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vm/prepare-systemd");
    let prepared = Command::new(program).arg(&folder).status();
    assert!(prepared.expect("bash is there").success(), "the machine with systemd could not be made");
    let payload = folder.join("payload");
    let script = include_str!("../vm/run-with-systemd").replace("TESTS", &TESTS_WITH_SYSTEMD.join(" "));
    pack(&payload.join("test"), &script);
    let archive = folder.join("payload.tar");
    let packed = Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&payload).arg("test").status();
    assert!(packed.expect("tar is there").success(), "the tests could not be packed");
    let disk = |name: &str, file: &Path, options: &str| {
        let drive = format!("if=none,id={name},format=raw,{options},file={}", file.display());
        ["-drive".to_owned(), drive, "-device".to_owned(), format!("nvme,serial={name},drive={name}")]
    };
    // What is written goes to a file that is gone with the machine, but stays over a reboot.
    let root = disk("root", &folder.join("systemd.img"), "snapshot=on,cache=unsafe");
    let tests = disk("tests", &archive, "readonly=on");
    let options: Vec<&str> = ["-m", "2000"].into_iter().chain(root.iter().chain(&tests).map(String::as_str)).collect();
    let output = boot(
        &folder,
        PATIENCE_TWICE,
        "root=/dev/nvme0n1 rw apparmor=1 security=apparmor systemd.show_status=0 systemd.firstboot=0",
        &options,
    );
    check(&output, &TESTS_WITH_SYSTEMD);
    assert!(output.contains("after the reboot: always"), "{}", what_failed(&output));
}

/// The folder of what boots.
fn prepare() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_wharf"));
    let folder = program.ancestors().nth(3).expect("the program lies in the target folder").join("vm");
    let prepared = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vm/prepare")).arg(&folder).status();
    assert!(prepared.expect("bash is there").success(), "the machine could not be made");
    folder
}

/// Puts the program, the tests and what runs them into the machine's folder /test.
fn pack(folder: &Path, script: &str) {
    fs::create_dir_all(folder).expect("it can be made");
    let program = Path::new(env!("CARGO_BIN_EXE_wharf"));
    strip(program, &folder.join("wharf"));
    strip(&std::env::current_exe().expect("a test knows its program"), &folder.join("e2e"));
    // The tests have the program's path of here in them.
    let script = format!(
        "#!/bin/sh\nmkdir -p '{}'\nln -sf /test/wharf '{}'\n{script}",
        program.parent().expect("it is in a folder").display(),
        program.display(),
    );
    fs::write(folder.join("run"), script).expect("it can be written");
    set_executable(&folder.join("run"));
}

fn check(output: &str, tests: &[&str]) {
    let is_well = output.contains("test result: ok.") && output.contains("the tests ended with 0");
    assert!(is_well, "{}", what_failed(output));
    // A filter that fits nothing would be a test that cannot fail.
    for name in tests {
        assert!(output.contains(&format!("test {name}")), "no test of {name} has run:\n{output}");
    }
}

/// The console without the tests that went well.
fn what_failed(console: &str) -> String {
    let lines = console.lines().filter(|line| !line.ends_with(" ... ok") && !line.trim().is_empty());
    lines.collect::<Vec<_>>().join("\n")
}

/// Symbols only take memory in there.
fn strip(from: &Path, to: &Path) {
    let done = Command::new("strip").arg("-o").args([to, from]).status();
    assert!(done.expect("binutils are installed").success(), "{} could not be stripped", from.display());
}

fn set_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it can be changed");
}

/// Runs the machine to its end and returns what it wrote to its console.
fn boot(folder: &Path, patience: Duration, parameters: &str, options: &[&str]) -> String {
    // The emulator itself has been seen to stand still, about once in ten times.
    let once = || boot_once(folder, patience, parameters, options);
    once().or_else(|_| once()).unwrap_or_else(|console| panic!("the machine does not end:\n{console}"))
}

/// The same; what is on the console is the error when it does not end.
fn boot_once(folder: &Path, patience: Duration, parameters: &str, options: &[&str]) -> Result<String, String> {
    let console = folder.join("console");
    let common = "console=ttyS0 quiet mitigations=off nokaslr no_timer_check cgroup_no_v1=all audit=0";
    let mut machine = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg,thread=multi", "-M", "q35", "-smp", "2"])
        // The emulator of QEMU 7.2 gets cmpxchg16b wrong.
        .args(["-cpu", "max,-cx16", "-display", "none", "-nodefaults", "-nic", "none"])
        .args(["-append", &format!("{common} {parameters}")])
        .arg("-kernel")
        .arg(folder.join("vmlinuz"))
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .args(options)
        .stdin(Stdio::null())
        .spawn()
        .expect("qemu-system-x86 is installed (`make test` does that)");
    let deadline = Instant::now() + patience;
    while machine.try_wait().expect("it is our child").is_none() {
        if Instant::now() > deadline {
            machine.kill().expect("it can be killed");
            machine.wait().expect("it ends");
            return Err(what_failed(&read(&console)));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(read(&console))
}

fn read(console: &Path) -> String {
    String::from_utf8_lossy(&fs::read(console).unwrap_or_default()).replace('\r', "")
}
