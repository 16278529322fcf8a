//! The same tests on another kernel with control groups v2 alone: in a virtual machine that is gone afterwards.
//!
//! This program starts itself inside. The machine is emulated (KVM inside of virtual machines is not to be relied on):
//! a minute or two, most of it the tests. `make test` runs it after the others, which would starve it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What is looked at in there: limits and their enforcement, networks, events, the life of containers.
const TESTS: [&str; 7] = ["build_image::", "change::", "files::", "limits::", "look::", "run::", "wait::"];
/// The longest that the machine may take, emulated on a busy host.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

#[test]
fn the_same_holds_with_control_groups_v2() {
    let program = Path::new(env!("CARGO_BIN_EXE_wharf"));
    let folder = program.ancestors().nth(3).expect("the program lies in the target folder").join("vm");
    let prepared = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vm/prepare")).arg(&folder).status();
    assert!(prepared.expect("bash is there").success(), "the machine could not be made");

    let root = folder.join("root");
    let own = std::env::current_exe().expect("a test knows its program");
    strip(program, &root.join("test/wharf"));
    strip(&own, &root.join("test/e2e"));
    // The tests have the program's path of here in them. Git is not there.
    let script = format!(
        "#!/bin/sh\nmkdir -p '{}'\nln -sf /test/wharf '{}'\nexec /test/e2e --test-threads 2 --skip git {}\n",
        program.parent().expect("it is in a folder").display(),
        program.display(),
        TESTS.join(" "),
    );
    fs::write(root.join("test/run"), script).expect("it can be written");
    set_executable(&root.join("test/run"));

    let archive = folder.join("initrd");
    let packed = Command::new("sh")
        .args(["-c", "find . -print0 | cpio --null --create --format=newc --quiet >../initrd"])
        .current_dir(&root)
        .status();
    assert!(packed.expect("sh is there").success(), "the first root could not be packed");
    let boot = || boot(&folder.join("vmlinuz"), &archive);
    // The emulator itself has been seen to stand still, about once in ten times.
    let output = boot().or_else(|_| boot()).unwrap_or_else(|console| panic!("the machine does not end:\n{console}"));
    let is_well = output.contains("test result: ok.") && output.contains("the tests ended with 0");
    assert!(is_well, "{}", what_failed(&output));
    // A filter that fits nothing would be a test that cannot fail.
    for name in TESTS {
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

/// Runs the machine to its end and returns what it wrote to its console; as an error when it does not end.
fn boot(kernel: &Path, archive: &Path) -> Result<String, String> {
    let console: PathBuf = archive.with_file_name("console");
    let mut machine = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg,thread=multi", "-M", "q35", "-m", "2500", "-smp", "2"])
        // The emulator of QEMU 7.2 gets cmpxchg16b wrong.
        .args(["-cpu", "max,-cx16", "-display", "none", "-no-reboot", "-nodefaults", "-nic", "none"])
        .args([
            "-append",
            "console=ttyS0 quiet panic=-1 mitigations=off nokaslr no_timer_check cgroup_no_v1=all audit=0",
        ])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(archive)
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .stdin(Stdio::null())
        .spawn()
        .expect("qemu-system-x86 is installed (`make test` does that)");
    let deadline = Instant::now() + PATIENCE;
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
