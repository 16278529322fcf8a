//! System call filters: Docker's default profile and profiles in Docker's JSON form, compiled to BPF by ourselves.
//!
//! ```text
//! profile (names, conditions) ─► rules for this kernel, machine and these capabilities ─► program
//! default.rs, json.rs              Rules                                                   compile.rs
//! ```
//! The program looks a system call up by binary search over ranges of numbers with one verdict: it loads in an
//! eighth of the time of a list and decides in about eight comparisons. There is no cache: compiling costs less
//! than reading one would.
//!
//! What differs from libseccomp's program: x32 system calls are denied; numbers above those that a profile knows
//! answer ENOSYS, as runc does it, so that programs fall back to what they did before.
//!
//! Source: seccomp(2); the facts of the default profile are those of github.com/moby/profiles.

mod compile;
mod default;
mod json;
mod table;

use super::Error;
use super::capability::Set;
use crate::model::container::Seccomp;

/// A compiled filter: the instructions as the kernel takes them, `struct sock_filter` each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(pub(super) Vec<libc::sock_filter>);

/// Compiles the filter for a process with `capabilities`; `None` when it is unconfined.
///
/// Errors: a JSON profile that is malformed, names an unknown action, or is too large for the kernel.
pub fn compile(profile: &Seccomp, capabilities: Set) -> Result<Option<Filter>, Error> {
    let rules = match profile {
        Seccomp::Unconfined => return Ok(None),
        Seccomp::Default => default::rules(capabilities),
        Seccomp::Profile(text) => json::rules(text, capabilities)?,
    };
    let program = compile::program(&rules);
    if program.len() > libc::BPF_MAXINSNS as usize {
        return Err(Error::Unsupported { feature: "a seccomp profile of more than 4096 instructions" });
    }
    Ok(Some(Filter(program)))
}

/// What a filter does, resolved for this machine and container.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rules {
    /// The verdict on what no rule names: a `SECCOMP_RET_*` value with its data.
    default: u32,
    /// Whether 32 bit programs (i386) are filtered too; else they are killed at their first system call.
    compat: bool,
    rules: Vec<Rule>,
}

/// A verdict on one system call, given its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    /// Index in the table of system calls.
    call: usize,
    /// A `SECCOMP_RET_*` value with its data.
    verdict: u32,
    /// All must hold; none is always.
    conditions: Vec<Condition>,
}

/// A comparison of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Condition {
    /// Which argument, from 0 to 5.
    argument: u32,
    comparison: Comparison,
    /// With what it is compared.
    value: u64,
}

/// How an argument is compared, as 64 bit numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// The argument's bits under the mask.
    MaskedEqual(u64),
}

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

/// The verdict that makes a system call fail with `errno`.
const fn fail(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | (errno as u32 & libc::SECCOMP_RET_DATA)
}

/// The place of a system call in the table; `None` for one that none of our architectures has.
fn find(name: &str) -> Option<usize> {
    table::SYSCALLS.binary_search_by_key(&name, |row| row.0).ok()
}

/// Whether this kernel is at least `major.minor`.
fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    found >= (major, minor)
}

#[cfg(test)]
mod tests;
