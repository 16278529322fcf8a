//! AppArmor: which profile a program is confined by from its execve on.
//!
//! A container that asks for nothing gets `docker-default` where the kernel enforces AppArmor, as in Docker: the
//! profile that is loaded under that name, else one of the same content that we give to `apparmor_parser`. Without
//! that tool, or in a kernel without AppArmor, there is none.
//!
//! Source: <https://docs.docker.com/engine/security/apparmor/>, proc_pid_attr(5).

use std::ffi::CString;
use std::io::Write;
use std::process::{Command, Stdio};

use super::Error;
use crate::model::container::Security;

/// The profile of containers that ask for none.
const DEFAULT: &str = "docker-default";
/// What takes the profile off.
pub(super) const UNCONFINED: &str = "unconfined";
/// Profiles that are loaded, `name (mode)` each.
const LOADED: &str = "/sys/kernel/security/apparmor/profiles";

/// A profile to enter at execve.
#[derive(Debug)]
pub(super) struct Profile {
    /// What is written for it: `exec NAME`.
    pub request: Vec<u8>,
    /// What is written, to the file of what is in force now, by a process that executes nothing: `changeprofile NAME`.
    pub request_now: Vec<u8>,
    /// Below /proc; kernels before 5.8 know only the other one, which the first security module has.
    pub file: CString,
    /// The file of what is in force now.
    pub file_now: CString,
}

/// Whether the kernel enforces AppArmor.
pub fn is_enabled() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|content| content.first() == Some(&b'Y'))
}

/// The name of the profile that a container gets; empty in a kernel without.
pub fn name_of(security: &Security) -> &str {
    match security.apparmor.as_deref() {
        Some(name) => name,
        None if !is_enabled() => "",
        None if security.privileged || !can_have_default() => UNCONFINED,
        None => DEFAULT,
    }
}

/// The profile of a process of a container: the one that was asked for, else the default one.
pub(super) fn of(security: &Security, privileged: bool) -> Result<Option<Profile>, Error> {
    if privileged {
        return Ok(None);
    }
    match security.apparmor.as_deref() {
        Some(name) => wish(Some(name)),
        None if security.privileged || !is_enabled() => Ok(None),
        None => Ok(is_default_loaded().then(|| profile(DEFAULT)).transpose()?),
    }
}

/// The profile that was asked for. Errors: the kernel has no AppArmor, or no such profile is loaded.
pub(super) fn wish(name: Option<&str>) -> Result<Option<Profile>, Error> {
    match name {
        None => Ok(None),
        Some(UNCONFINED) => Ok(is_enabled().then(|| profile(UNCONFINED)).transpose()?),
        Some(name) if !is_enabled() => Err(Error::NoAppArmor { profile: name.to_owned() }),
        Some(name) if is_loaded(name) == Some(false) => Err(Error::AppArmorProfile { profile: name.to_owned() }),
        Some(name) => profile(name).map(Some),
    }
}

fn profile(name: &str) -> Result<Profile, Error> {
    let new = std::path::Path::new("/proc/self/attr/apparmor").is_dir();
    let (file, file_now) = match new {
        true => (c"self/attr/apparmor/exec", c"self/attr/apparmor/current"),
        false => (c"self/attr/exec", c"self/attr/current"),
    };
    // A line break would begin another request.
    if name.chars().any(char::is_control) {
        return Err(Error::AppArmorProfile { profile: name.to_owned() });
    }
    Ok(Profile {
        request: format!("exec {name}").into_bytes(),
        request_now: format!("changeprofile {name}").into_bytes(),
        file: file.into(),
        file_now: file_now.into(),
    })
}

/// Whether a profile is loaded; `None` where that cannot be known (securityfs is not mounted).
fn is_loaded(name: &str) -> Option<bool> {
    let list = std::fs::read_to_string(LOADED).ok()?;
    Some(list.lines().any(|line| line.rsplit_once(" (").is_some_and(|(known, _)| known == name)))
}

/// Whether the default profile is loaded, or could be.
fn can_have_default() -> bool {
    is_loaded(DEFAULT).is_some_and(|is_loaded| is_loaded || tool().is_some())
}

/// What gives profiles to the kernel.
fn tool() -> Option<&'static str> {
    let candidates = ["/sbin/apparmor_parser", "/usr/sbin/apparmor_parser"];
    candidates.into_iter().find(|path| std::path::Path::new(path).exists())
}

/// Whether the default profile can be used: loaded, or loaded now.
fn is_default_loaded() -> bool {
    match is_loaded(DEFAULT) {
        Some(true) => true,
        Some(false) => load(&default_profile()),
        None => false,
    }
}

/// Gives a profile to the kernel by its own tool, `apparmor_parser`; false when that is missing or refuses.
fn load(text: &str) -> bool {
    let Some(tool) = tool() else { return false };
    let mut command = Command::new(tool);
    command.args(["-Kr"]).env_clear().stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return false };
    let written = child.stdin.take().is_some_and(|mut stdin| stdin.write_all(text.as_bytes()).is_ok());
    child.wait().is_ok_and(|status| status.success()) && written
}

/// The rules of Docker's own default profile.
///
/// Source: <https://github.com/moby/profiles/blob/main/apparmor/template.go> (Apache-2.0).
fn default_profile() -> String {
    let optional = |path: &str, line: &str| {
        let exists = std::path::Path::new("/etc/apparmor.d").join(path).exists();
        if exists { format!("{line}\n") } else { String::new() }
    };
    let tunables = optional("tunables/global", "#include <tunables/global>");
    let base = optional("abstractions/base", "  #include <abstractions/base>");
    let tunables = if tunables.is_empty() { "@{PROC}=/proc/\n".to_owned() } else { tunables };
    format!(
        "{tunables}
profile {DEFAULT} flags=(attach_disconnected,mediate_deleted) {{
{base}
  network,
  capability,
  file,
  umount,
  signal (receive) peer=unconfined,
  signal (receive) peer=runc,
  signal (receive) peer=crun,
  signal (send,receive) peer={DEFAULT},
  deny @{{PROC}}/* w,
  deny @{{PROC}}/{{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9/]*}}/** w,
  deny @{{PROC}}/sys/[^k]** w,
  deny @{{PROC}}/sys/kernel/{{?,??,[^s][^h][^m]**}} w,
  deny @{{PROC}}/sysrq-trigger rwklx,
  deny @{{PROC}}/kcore rwklx,
  deny mount,
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
  ptrace (trace,read,tracedby,readby) peer={DEFAULT},
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_that_cannot_be_had_is_an_error_and_unconfined_never_is() {
        if !is_enabled() {
            assert!(matches!(wish(Some("custom")), Err(Error::NoAppArmor { .. })));
            assert!(of(&Security::default(), false).unwrap().is_none());
        }
        assert!(wish(Some(UNCONFINED)).is_ok() && wish(None).unwrap().is_none());
        assert!(profile("two\nlines").is_err());
        assert_eq!(profile("custom//child").unwrap().request, b"exec custom//child");
    }

    #[test]
    fn the_default_profile_is_whole() {
        let text = default_profile();
        assert_eq!(text.matches('{').count(), text.matches('}').count());
        assert!(text.contains("profile docker-default") && text.contains("deny mount,"), "{text}");
    }
}
