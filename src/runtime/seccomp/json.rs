//! Profiles in Docker's JSON form (`--security-opt seccomp=profile.json`).
//!
//! Source: <https://docs.docker.com/engine/security/seccomp/>, `specs.LinuxSeccomp` of the OCI runtime
//! specification with Docker's conditions (`includes`, `excludes`).

use serde::Deserialize;

use super::super::capability::{self, Set};
use super::{ALLOW, Comparison, Condition, Rule, Rules, fail, find, kernel_is_at_least};
use crate::runtime::Error;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    arch_map: Option<Vec<Architecture>>,
    #[serde(default)]
    syscalls: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Architecture {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    name: Option<String>,
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<Argument>>,
    includes: Option<Terms>,
    excludes: Option<Terms>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Terms {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// This architecture in Go's words, and in libseccomp's with its 32 bit companion.
#[cfg(target_arch = "x86_64")]
const NAMES: (&str, &str, &str) = ("amd64", "SCMP_ARCH_X86_64", "SCMP_ARCH_X86");
#[cfg(target_arch = "aarch64")]
const NAMES: (&str, &str, &str) = ("arm64", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM");

/// The rules of a profile for a process with `capabilities`.
///
/// System calls that no architecture of ours has are left out, as libseccomp does it.
pub(super) fn rules(text: &str, capabilities: Set) -> Result<Rules, Error> {
    let profile: Profile = serde_json::from_str(text).map_err(|source| Error::SeccompProfile { source })?;
    let default = verdict(&profile.default_action, profile.default_errno_ret)?;
    let mut rules = Vec::new();
    for entry in profile.syscalls.iter().flatten() {
        if !applies(entry, capabilities) {
            continue;
        }
        let verdict = verdict(&entry.action, entry.errno_ret)?;
        let conditions = entry.args.iter().flatten().map(condition).collect::<Result<Vec<_>, _>>()?;
        for call in entry.names.iter().flatten().chain(&entry.name).filter_map(|name| find(name)) {
            if repeats_argument(&conditions) {
                // Two conditions on one argument are alternatives, as runc has it.
                rules.extend(conditions.iter().map(|one| Rule { call, verdict, conditions: vec![*one] }));
            } else {
                rules.push(Rule { call, verdict, conditions: conditions.clone() });
            }
        }
    }
    Ok(Rules { default, compat: filters_compat(&profile), rules })
}

fn repeats_argument(conditions: &[Condition]) -> bool {
    let mut seen = 0u32;
    for condition in conditions {
        let bit = 1 << condition.argument;
        if seen & bit != 0 {
            return true;
        }
        seen |= bit;
    }
    false
}

fn filters_compat(profile: &Profile) -> bool {
    let (_, native, compat) = NAMES;
    let listed = profile.architectures.iter().flatten().any(|name| name == compat);
    let mapped = profile
        .arch_map
        .iter()
        .flatten()
        .filter(|architecture| architecture.architecture == native)
        .flat_map(|architecture| architecture.sub_architectures.iter().flatten())
        .any(|name| name == compat);
    listed || mapped
}

fn applies(entry: &Entry, capabilities: Set) -> bool {
    let has = |name: &String| capability::number(name).is_some_and(|number| capabilities.contains(number));
    let is_native = |name: &String| name == NAMES.0;
    let none = Terms::default();
    let (includes, excludes) = (entry.includes.as_ref().unwrap_or(&none), entry.excludes.as_ref().unwrap_or(&none));
    let included = includes.caps.iter().flatten().all(has)
        && includes.arches.as_ref().is_none_or(|arches| arches.is_empty() || arches.iter().any(is_native))
        && includes.min_kernel.as_deref().is_none_or(is_recent);
    let excluded = excludes.caps.iter().flatten().any(has)
        || excludes.arches.iter().flatten().any(is_native)
        || excludes.min_kernel.as_deref().is_some_and(is_recent);
    included && !excluded
}

/// Whether this kernel is at least `4.8`; text that is no version is always met.
fn is_recent(version: &str) -> bool {
    let mut numbers = version.split('.').map(|part| part.parse().unwrap_or(0));
    kernel_is_at_least(numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn verdict(action: &str, errno: Option<u32>) -> Result<u32, Error> {
    let data = errno.unwrap_or(libc::EPERM as u32) & libc::SECCOMP_RET_DATA;
    Ok(match action {
        "SCMP_ACT_ALLOW" => ALLOW,
        "SCMP_ACT_ERRNO" => fail(data as i32),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => libc::SECCOMP_RET_KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => libc::SECCOMP_RET_KILL_PROCESS,
        "SCMP_ACT_TRAP" => libc::SECCOMP_RET_TRAP,
        "SCMP_ACT_TRACE" => libc::SECCOMP_RET_TRACE | data,
        "SCMP_ACT_LOG" => libc::SECCOMP_RET_LOG,
        _ => return Err(Error::Unknown { kind: "seccomp action", name: action.to_owned() }),
    })
}

fn condition(argument: &Argument) -> Result<Condition, Error> {
    /// A system call has six arguments.
    const ARGUMENTS: u32 = 6;
    if argument.index >= ARGUMENTS {
        return Err(Error::Unknown { kind: "system call argument", name: argument.index.to_string() });
    }
    let (comparison, value) = match argument.op.as_str() {
        "SCMP_CMP_NE" => (Comparison::NotEqual, argument.value),
        "SCMP_CMP_LT" => (Comparison::Less, argument.value),
        "SCMP_CMP_LE" => (Comparison::LessOrEqual, argument.value),
        "SCMP_CMP_EQ" => (Comparison::Equal, argument.value),
        "SCMP_CMP_GE" => (Comparison::GreaterOrEqual, argument.value),
        "SCMP_CMP_GT" => (Comparison::Greater, argument.value),
        // The mask comes first.
        "SCMP_CMP_MASKED_EQ" => (Comparison::MaskedEqual(argument.value), argument.value_two),
        _ => return Err(Error::Unknown { kind: "seccomp comparison", name: argument.op.clone() }),
    };
    Ok(Condition { argument: argument.index, comparison, value })
}
