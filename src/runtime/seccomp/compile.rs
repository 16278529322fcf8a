//! From rules to a program of classic BPF.
//!
//! ```text
//! load architecture; native? compat? else kill
//! load number; binary search over ranges:
//!     n >= 202 ? …right half… : …left half…
//!     leaf: return a verdict, or compare arguments
//! ```
//! Source: seccomp(2), `linux/filter.h`, <https://docs.kernel.org/networking/filter.html>.

use super::table::{Row, SYSCALLS, X};
use super::{Comparison, Condition, Rule, Rules, fail};

/// One instruction.
type Instruction = libc::sock_filter;

// Operation codes of linux/bpf_common.h.
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_OR_EQUAL: u16 = 0x35;

// Offsets in struct seccomp_data of linux/seccomp.h.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

// linux/audit.h.
#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e;
#[cfg(target_arch = "x86_64")]
const COMPAT: u32 = 0x4000_0003;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xc000_00b7;

fn native_number(row: &Row) -> u16 {
    if cfg!(target_arch = "x86_64") { row.2 } else { row.4 }
}

fn instruction(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

/// A comparison that skips `yes` instructions when it holds, else `no`.
fn branch(code: u16, k: u32, yes: u8, no: u8) -> Instruction {
    Instruction { code, jt: yes, jf: no, k }
}

/// Compiles the rules.
pub(super) fn program(rules: &Rules) -> Vec<Instruction> {
    let native = section(rules, native_number);
    let mut program = vec![instruction(LOAD, ARCHITECTURE)];
    program.extend(architecture(NATIVE, native));
    #[cfg(target_arch = "x86_64")]
    if rules.compat {
        program.extend(architecture(COMPAT, section(rules, |row| row.3)));
    }
    program.push(instruction(RETURN, libc::SECCOMP_RET_KILL_PROCESS));
    program
}

/// The program of one architecture, skipped by the others. A section is longer than a conditional jump reaches.
fn architecture(token: u32, section: Vec<Instruction>) -> Vec<Instruction> {
    let mut program = vec![branch(JUMP_EQUAL, token, 1, 0), instruction(JUMP, section.len() as u32)];
    program.extend(section);
    program
}

/// What happens to a range of numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaf<'a> {
    Verdict(u32),
    /// The rules of one call, all with conditions.
    Chain(&'a [&'a Rule]),
}

fn section(rules: &Rules, number: impl Fn(&Row) -> u16) -> Vec<Instruction> {
    let mut calls: Vec<(u32, &Rule)> = rules
        .rules
        .iter()
        .filter_map(|rule| {
            let number = number(SYSCALLS.get(rule.call)?);
            (number != X).then_some((u32::from(number), rule))
        })
        .collect();
    // Stable: the rules of a call stay in their order.
    calls.sort_by_key(|(number, _)| *number);
    let sorted: Vec<&Rule> = calls.iter().map(|(_, rule)| *rule).collect();
    let mut ranges: Vec<(u32, Leaf<'_>)> = vec![(0, Leaf::Verdict(rules.default))];
    let mut start = 0;
    while let Some((number, _)) = calls.get(start) {
        let stop = calls.iter().skip(start).take_while(|(other, _)| other == number).count() + start;
        let leaf = leaf(sorted.get(start..stop).unwrap_or_default());
        push(&mut ranges, *number, leaf);
        push(&mut ranges, number + 1, Leaf::Verdict(rules.default));
        start = stop;
    }
    if let (Some((last, _)), true) = (calls.last(), hides_new_calls(rules.default)) {
        push(&mut ranges, last + 1, Leaf::Verdict(fail(libc::ENOSYS)));
    }
    let mut program = vec![instruction(LOAD, NUMBER)];
    program.extend(search(&ranges, rules.default));
    program
}

/// Adds a range, taking the place of an empty one and joining one with the same verdict.
fn push<'a>(ranges: &mut Vec<(u32, Leaf<'a>)>, start: u32, leaf: Leaf<'a>) {
    if ranges.last().is_some_and(|(last, _)| *last == start) {
        ranges.pop();
    }
    if ranges.last().is_none_or(|(_, last)| *last != leaf) {
        ranges.push((start, leaf));
    }
}

/// A verdict that refuses: then calls newer than the profile are refused as if the kernel did not have them.
fn hides_new_calls(default: u32) -> bool {
    !matches!(
        default & libc::SECCOMP_RET_ACTION_FULL,
        libc::SECCOMP_RET_ALLOW | libc::SECCOMP_RET_LOG | libc::SECCOMP_RET_TRACE
    )
}

/// A rule without conditions decides alone, wherever it stands (as in libseccomp).
fn leaf<'a>(rules: &'a [&'a Rule]) -> Leaf<'a> {
    match rules.iter().find(|rule| rule.conditions.is_empty()) {
        Some(rule) => Leaf::Verdict(rule.verdict),
        None => Leaf::Chain(rules),
    }
}

/// The binary search over sorted ranges.
fn search(ranges: &[(u32, Leaf<'_>)], default: u32) -> Vec<Instruction> {
    let (left, right) = ranges.split_at(ranges.len() / 2);
    let Some((middle, leaf)) = right.first() else { return vec![instruction(RETURN, default)] };
    if left.is_empty() {
        return match leaf {
            Leaf::Verdict(verdict) => vec![instruction(RETURN, *verdict)],
            Leaf::Chain(rules) => chain(rules, default),
        };
    }
    let (left, right) = (search(left, default), search(right, default));
    let mut program = match u8::try_from(left.len()) {
        Ok(length) => vec![branch(JUMP_GREATER_OR_EQUAL, *middle, length, 0)],
        Err(_) => {
            vec![branch(JUMP_GREATER_OR_EQUAL, *middle, 0, 1), instruction(JUMP, left.len() as u32)]
        }
    };
    program.extend(left);
    program.extend(right);
    program
}

/// Rules with conditions, one after the other.
fn chain(rules: &[&Rule], default: u32) -> Vec<Instruction> {
    let mut program = Vec::new();
    for rule in rules {
        // From the end to the front, so that the way to the next rule is known.
        let mut conditions: Vec<Vec<Instruction>> = Vec::new();
        let mut to_next = 1u8;
        for condition in rule.conditions.iter().rev() {
            let compiled = compare(condition, to_next);
            // A rule has at most six conditions of six instructions; more only repeat arguments.
            to_next = to_next.saturating_add(compiled.len() as u8);
            conditions.push(compiled);
        }
        program.extend(conditions.into_iter().rev().flatten());
        program.push(instruction(RETURN, rule.verdict));
    }
    program.push(instruction(RETURN, default));
    program
}

/// Goes on after the comparison when it holds, else skips `to_next` instructions more.
fn compare(condition: &Condition, to_next: u8) -> Vec<Instruction> {
    let low = ARGUMENTS + condition.argument * 8;
    let high = low + 4;
    let (value_low, value_high) = (condition.value as u32, (condition.value >> 32) as u32);
    let (load_low, load_high) = (instruction(LOAD, low), instruction(LOAD, high));
    let far = |distance: u8| to_next.saturating_add(distance);
    // Two halves: the high one decides unless both are equal; then the low one does.
    let ordered = |code: u16, holds: bool, greater_holds: bool| {
        let (yes, no) = if holds { (0, far(0)) } else { (far(0), 0) };
        let (greater, less) = if greater_holds { (3, far(2)) } else { (far(3), 2) };
        vec![
            load_high,
            branch(JUMP_GREATER, value_high, greater, 0),
            branch(JUMP_EQUAL, value_high, 0, less),
            load_low,
            branch(code, value_low, yes, no),
        ]
    };
    match condition.comparison {
        Comparison::Equal => vec![
            load_high,
            branch(JUMP_EQUAL, value_high, 0, far(2)),
            load_low,
            branch(JUMP_EQUAL, value_low, 0, far(0)),
        ],
        Comparison::NotEqual => {
            vec![load_high, branch(JUMP_EQUAL, value_high, 0, 2), load_low, branch(JUMP_EQUAL, value_low, far(0), 0)]
        }
        Comparison::Greater => ordered(JUMP_GREATER, true, true),
        Comparison::GreaterOrEqual => ordered(JUMP_GREATER_OR_EQUAL, true, true),
        Comparison::Less => ordered(JUMP_GREATER_OR_EQUAL, false, false),
        Comparison::LessOrEqual => ordered(JUMP_GREATER, false, false),
        Comparison::MaskedEqual(mask) => vec![
            load_high,
            instruction(AND, (mask >> 32) as u32),
            branch(JUMP_EQUAL, value_high, 0, far(3)),
            load_low,
            instruction(AND, mask as u32),
            branch(JUMP_EQUAL, value_low, 0, far(0)),
        ],
    }
}
