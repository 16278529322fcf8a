//! The few bpf(2) commands that a device filter of cgroup v2 needs.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{Result, check};

const BPF_PROG_LOAD: i32 = 5;
const BPF_PROG_ATTACH: i32 = 8;
const BPF_PROG_DETACH: i32 = 9;
const BPF_PROG_QUERY: i32 = 16;
const BPF_PROG_GET_FD_BY_ID: i32 = 13;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

fn bpf<T>(command: i32, attributes: &mut T) -> Result<libc::c_long> {
    // SAFETY: `attributes` is the head of the kernel's union for `command`; the kernel takes a shorter one as
    // padded with zeroes, and every pointer in it is valid for the call.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), std::mem::size_of::<T>()) })
}

/// Loads a device filter: eBPF instructions as 64 bit words. Source: bpf(2), `BPF_PROG_TYPE_CGROUP_DEVICE`.
pub fn load_device_filter(instructions: &[u64]) -> Result<OwnedFd> {
    let mut load = Load {
        kind: PROG_TYPE_CGROUP_DEVICE,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"Apache".as_ptr() as u64,
        ..Load::default()
    };
    let fd = bpf(BPF_PROG_LOAD, &mut load)?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Attaches a device filter to a control group, beside those that are there. Source: bpf(2).
pub fn attach_device_filter(cgroup: BorrowedFd<'_>, filter: BorrowedFd<'_>) -> Result<()> {
    let mut attach = Attach {
        target: cgroup.as_raw_fd() as u32,
        program: filter.as_raw_fd() as u32,
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    bpf(BPF_PROG_ATTACH, &mut attach).map(drop)
}

/// Detaches a device filter from a control group. Source: bpf(2).
pub fn detach_device_filter(cgroup: BorrowedFd<'_>, filter: BorrowedFd<'_>) -> Result<()> {
    let mut detach = Attach {
        target: cgroup.as_raw_fd() as u32,
        program: filter.as_raw_fd() as u32,
        kind: ATTACH_CGROUP_DEVICE,
        flags: 0,
    };
    bpf(BPF_PROG_DETACH, &mut detach).map(drop)
}

/// Writes the ids of the device filters attached to a control group into `ids`; returns how many there are.
///
/// Source: bpf(2), `BPF_PROG_QUERY`.
pub fn device_filters(cgroup: BorrowedFd<'_>, ids: &mut [u32]) -> Result<usize> {
    let mut query = Query {
        target: cgroup.as_raw_fd() as u32,
        kind: ATTACH_CGROUP_DEVICE,
        ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
        ..Query::default()
    };
    bpf(BPF_PROG_QUERY, &mut query)?;
    Ok(query.count as usize)
}

/// Opens a loaded program by its id. Source: bpf(2), `BPF_PROG_GET_FD_BY_ID`.
pub fn open_program(id: u32) -> Result<OwnedFd> {
    #[repr(C)]
    struct Get {
        id: u32,
        next_id: u32,
        flags: u32,
    }
    let fd = bpf(BPF_PROG_GET_FD_BY_ID, &mut Get { id, next_id: 0, flags: 0 })?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
