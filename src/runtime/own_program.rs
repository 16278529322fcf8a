//! Keeps our own program file from being executed inside a container.
//!
//! A program that is a link to `/proc/self/exe`, or a script whose interpreter is one, would make the kernel execute
//! *this* program there, and a process of the container could then open its file on the host and overwrite it
//! (CVE-2019-5736). So the child looks where its program leads before it executes it: to a user, such a program is
//! not there. One that was mounted into the container on purpose is another mount and is let through.

use std::ffi::CStr;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Statx, StatxFlags};
use rustix::io::Errno;

/// What the kernel reads of a script (BINPRM_BUF_SIZE of `linux/binfmts.h`).
const HEAD_BYTES: usize = 256;
/// Interpreters that may be scripts in turn; the kernel follows four.
const DEPTH_MAX: usize = 6;

/// Our program's file, by the mount that it is reached through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OwnProgram {
    device: (u32, u32),
    inode: u64,
    mount: u64,
}

impl OwnProgram {
    /// The file of this process's program.
    pub(super) fn find() -> Result<Self, Errno> {
        Ok(Self::of(&look(c"/proc/self/exe")?))
    }

    fn of(stat: &Statx) -> Self {
        Self { device: (stat.stx_dev_major, stat.stx_dev_minor), inode: stat.stx_ino, mount: stat.stx_mnt_id }
    }

    /// Whether executing `path` would execute our program. Allocates nothing.
    pub(super) fn is_meant_by(&self, path: &CStr) -> bool {
        let mut name = [0u8; HEAD_BYTES + 1];
        for depth in 0..DEPTH_MAX {
            let path = match (depth, CStr::from_bytes_until_nul(&name)) {
                (0, _) => path,
                (_, Ok(interpreter)) => interpreter,
                (_, Err(_)) => return false,
            };
            let Ok(stat) = look(path) else { return false };
            if Self::of(&stat) == *self {
                return true;
            }
            if FileType::from_raw_mode(stat.stx_mode.into()) != FileType::RegularFile {
                return false;
            }
            let mut head = [0u8; HEAD_BYTES];
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
            let read = rustix::fs::open(path, flags, Mode::empty()).and_then(|file| rustix::io::read(&file, &mut head));
            let Some(interpreter) = read.ok().and_then(|_| interpreter(&head)) else { return false };
            name = [0; HEAD_BYTES + 1];
            name[..interpreter.len()].copy_from_slice(interpreter);
        }
        // The kernel refuses so many as well.
        false
    }
}

fn look(path: &CStr) -> Result<Statx, Errno> {
    rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)
}

/// The path in `#! path argument`.
fn interpreter(head: &[u8; HEAD_BYTES]) -> Option<&[u8]> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let line = head.strip_prefix(b"#!")?;
    let path = &line[line.iter().position(|byte| !is_blank(byte))?..];
    let end = path.iter().position(|byte| is_blank(byte) || matches!(byte, b'\n' | 0)).unwrap_or(path.len());
    Some(&path[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_and_scripts_that_lead_to_us_are_seen() {
        let folder = std::env::temp_dir().join(format!("wharf-own-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let own = OwnProgram::find().unwrap();
        let path =
            |name: &str| std::ffi::CString::new(folder.join(name).into_os_string().into_encoded_bytes()).unwrap();
        symlink("/proc/self/exe", folder.join("link")).unwrap();
        std::fs::write(folder.join("script"), "#! /proc/self/exe -x\n").unwrap();
        std::fs::write(folder.join("plain"), "#!/bin/sh\necho /proc/self/exe\n").unwrap();
        std::fs::write(folder.join("loop"), format!("#!{}\n", folder.join("loop").display())).unwrap();
        std::fs::write(folder.join("second"), format!("#!{}\n", folder.join("script").display())).unwrap();
        std::fs::write(folder.join("blank"), "#!   ").unwrap();
        for (name, meant) in [
            ("link", true),
            ("script", true),
            ("second", true),
            ("plain", false),
            ("loop", false),
            ("blank", false),
            ("missing", false),
        ] {
            assert_eq!(own.is_meant_by(&path(name)), meant, "{name}");
        }
        assert!(own.is_meant_by(c"/proc/self/exe") && own.is_meant_by(c"/proc/thread-self/exe"));
        assert!(!own.is_meant_by(c"/bin/sh") && !own.is_meant_by(c"/dev/null"));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
