//! Capabilities, system call filters and keyrings.

use super::{Result, check};

/// Removes capability `number` from the bounding set. Source: PR_CAPBSET_DROP(2const).
pub fn drop_from_bounding_set(number: u32) -> Result<()> {
    prctl(libc::PR_CAPBSET_DROP, u64::from(number))
}

/// Keeps the permitted capabilities over the change to another user. Source: PR_SET_KEEPCAPS(2const).
pub fn keep_capabilities() -> Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, 1)
}

/// Clears the ambient set. Source: PR_CAP_AMBIENT(2const).
pub fn clear_ambient_set() -> Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64)
}

/// Puts capability `number`, permitted and inheritable, into the ambient set. Source: PR_CAP_AMBIENT(2const).
pub fn raise_ambient(number: u32) -> Result<()> {
    // SAFETY: the option takes two numbers.
    let result =
        unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, u64::from(number), 0u64, 0u64) };
    check(libc::c_long::from(result)).map(drop)
}

/// From now on no program gains privileges. Source: PR_SET_NO_NEW_PRIVS(2const).
pub fn set_no_new_privileges() -> Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// Hides this process from those of a container: no /proc/PID/exe, no ptrace. Source: PR_SET_DUMPABLE(2const).
pub fn set_not_dumpable() -> Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0)
}

/// Names this thread, at most 15 bytes. Source: PR_SET_NAME(2const).
pub fn set_name(name: &std::ffi::CStr) -> Result<()> {
    prctl(libc::PR_SET_NAME, name.as_ptr() as u64)
}

/// Kills this process when its parent's thread ends (0: never). Source: PR_SET_PDEATHSIG(2const).
pub fn set_parent_death_signal(signal: i32) -> Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, signal as u64)
}

fn prctl(option: i32, argument: u64) -> Result<()> {
    // SAFETY: every option used here takes one number, or a C string that the caller keeps alive.
    check(libc::c_long::from(unsafe { libc::prctl(option, argument, 0u64, 0u64, 0u64) })).map(drop)
}

/// Sets this process's capabilities. Source: capset(2).
pub fn set_capabilities(permitted: u64, effective: u64, inheritable: u64) -> Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0u32];
    let low = |set: u64| set as u32;
    let high = |set: u64| (set >> 32) as u32;
    let data = [low(effective), low(permitted), low(inheritable), high(effective), high(permitted), high(inheritable)];
    // SAFETY: version 3 reads a header of two and data of six 32 bit numbers.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) }).map(drop)
}

/// Installs a system call filter on this thread. Source: seccomp(2).
///
/// Needs CAP_SYS_ADMIN or no_new_privs. `flags` are `SECCOMP_FILTER_FLAG_*`.
pub fn install_filter(filter: &[libc::sock_filter], flags: u64) -> Result<()> {
    let Ok(len) = u16::try_from(filter.len()) else { return Err(rustix::io::Errno::INVAL) };
    // The kernel only reads through the pointer, although the structure has it mutable.
    let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut() };
    // SAFETY: `program` describes `filter`, which outlives the call.
    check(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, std::ptr::from_ref(&program))
    })
    .map(drop)
}

/// Leaves the caller's keys behind: a new, empty session keyring. Source: keyctl(2).
pub fn new_session_keyring() -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: i32 = 1;
    // SAFETY: a null name makes an anonymous keyring.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) })
        .map(drop)
}

/// Makes every permitted capability effective, as it is before a change of user. Source: capset(2).
pub fn raise_permitted() -> Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0u32];
    let mut data = [0u32; 6];
    // SAFETY: version 3 reads a header of two and writes data of six 32 bit numbers.
    check(unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) })?;
    // Effective, permitted, inheritable, twice: low and high half.
    data[0] = data[1];
    data[3] = data[4];
    // SAFETY: as above, read only.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) }).map(drop)
}

/// Another user of files (fsuid and fsgid) for the calling thread, which keeps all its capabilities; dropping it ends
/// that. Source: setfsuid(2).
#[derive(Debug)]
pub struct FileUser {
    old: (libc::c_long, libc::c_long),
    // Of one thread: it must end where it began.
    _thread: std::marker::PhantomData<*const ()>,
}

impl FileUser {
    /// Errors: EPERM for who may not become that user.
    pub fn new(uid: u32, gid: u32) -> Result<Self> {
        let old = (set_file_user(libc::SYS_setfsuid, -1), set_file_user(libc::SYS_setfsgid, -1));
        let user = Self { old, _thread: std::marker::PhantomData };
        set_file_user(libc::SYS_setfsgid, gid.into());
        set_file_user(libc::SYS_setfsuid, uid.into());
        // The calls do not say whether they did it. An id that no user has changes nothing and tells the present one.
        let now = (set_file_user(libc::SYS_setfsuid, -1), set_file_user(libc::SYS_setfsgid, -1));
        if now != (libc::c_long::from(uid), libc::c_long::from(gid)) {
            return Err(rustix::io::Errno::PERM);
        }
        // Those for files are taken from who leaves id 0.
        raise_permitted()?;
        Ok(user)
    }
}

impl Drop for FileUser {
    fn drop(&mut self) {
        set_file_user(libc::SYS_setfsuid, self.old.0);
        set_file_user(libc::SYS_setfsgid, self.old.1);
    }
}

/// Returns the id from before.
fn set_file_user(call: libc::c_long, id: libc::c_long) -> libc::c_long {
    // SAFETY: both calls take one number and change the calling thread alone.
    unsafe { libc::syscall(call, id) }
}
