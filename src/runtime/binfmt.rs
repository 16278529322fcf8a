//! Whether this host can run programs of another processor: by itself, or through binfmt_misc.
//!
//! Source: <https://docs.kernel.org/admin-guide/binfmt-misc.html>, elf.h (`e_machine`).

use std::path::Path;

/// Where the kernel lists its handlers.
const FOLDER: &str = "/proc/sys/fs/binfmt_misc";
/// Where an ELF header has its machine.
const MACHINE_OFFSET: usize = 18;

/// Why programs of an architecture cannot run.
///
/// `None` when they can: natively, or through a handler that also works in another root (flag `F`).
pub fn obstacle(architecture: &str) -> Option<String> {
    let host = std::env::consts::ARCH;
    let native = matches!(
        (host, architecture),
        ("x86_64", "amd64" | "386") | ("aarch64", "arm64" | "arm") | ("riscv64", "riscv64") | ("", _)
    );
    let (machine, is_little) = machine_of(architecture).filter(|_| !native && !architecture.is_empty())?;
    let mut half = false;
    for entry in std::fs::read_dir(FOLDER).into_iter().flatten().flatten() {
        if entry.file_name() == "register" || entry.file_name() == "status" {
            continue;
        }
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        match handles(&text, machine, is_little) {
            Some(true) => return None,
            Some(false) => half = true,
            None => {}
        }
    }
    Some(match half {
        true => "its handler in binfmt_misc lacks the flag F, so it does not work in containers".into(),
        false if !Path::new(FOLDER).join("status").exists() => "binfmt_misc is not mounted on this host".into(),
        false => "binfmt_misc has no handler for it".into(),
    })
}

/// The architectures whose programs can run here.
pub fn runnable() -> Vec<&'static str> {
    let known = ["amd64", "386", "arm64", "arm", "riscv64", "ppc64le", "s390x", "loong64", "mips64le"];
    known.into_iter().filter(|architecture| obstacle(architecture).is_none()).collect()
}

/// Whether a handler is for a machine, and if so, whether it works in other roots.
fn handles(text: &str, machine: u16, is_little: bool) -> Option<bool> {
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if text.lines().next() != Some("enabled") {
        return None;
    }
    let magic = value("magic ")?;
    let pair = magic.get(MACHINE_OFFSET * 2..MACHINE_OFFSET * 2 + 4)?;
    let bytes = u16::from_str_radix(pair, 16).ok()?.to_be_bytes();
    let found = if is_little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) };
    (found == machine).then(|| value("flags:").is_some_and(|flags| flags.contains('F')))
}

fn machine_of(architecture: &str) -> Option<(u16, bool)> {
    Some(match architecture {
        "386" => (3, true),
        "arm" => (40, true),
        "amd64" => (62, true),
        "arm64" => (183, true),
        "riscv64" => (243, true),
        "loong64" => (258, true),
        "ppc64le" => (21, true),
        "ppc64" => (21, false),
        "s390x" => (22, false),
        "mips64le" | "mipsle" => (8, true),
        "mips64" | "mips" => (8, false),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_are_told_by_their_magic() {
        let magic = "7f454c460201010000000000000000000200b700";
        let text = |state: &str, flags: &str| {
            format!("{state}\ninterpreter /usr/bin/qemu-aarch64\nflags: {flags}\noffset 0\nmagic {magic}\nmask ff\n")
        };
        assert_eq!(handles(&text("enabled", "POCF"), 183, true), Some(true));
        assert_eq!(handles(&text("enabled", "OC"), 183, true), Some(false));
        assert_eq!(handles(&text("disabled", "F"), 183, true), None);
        assert_eq!(handles(&text("enabled", "F"), 243, true), None);
        assert_eq!(handles("enabled\nmagic 7f\n", 183, true), None);
    }
}
