//! Which devices a container may use: rules for v1's `devices.allow`, and as a filter program for v2.
//!
//! Source: <https://docs.kernel.org/admin-guide/cgroup-v1/devices.html>, `struct bpf_cgroup_dev_ctx` of
//! `linux/bpf.h`; the default rules are Docker's.

use crate::model::container::Security;
use crate::runtime::Error;
use crate::runtime::defaults::mapped_nodes;

/// What is allowed; everything else is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::runtime) struct DeviceRules(Vec<Rule>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    kind: Kind,
    /// `None` is every one.
    major: Option<u32>,
    minor: Option<u32>,
    /// Bits of [`MKNOD`], [`READ`], [`WRITE`].
    access: u32,
    /// Whether it lifts or takes; of two that match, the later one counts.
    allow: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    All,
    Block,
    Character,
}

// BPF_DEVCG_* of linux/bpf.h.
const MKNOD: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;
const EVERYTHING: u32 = MKNOD | READ | WRITE;

/// Making any node; using null, zero, full, random, urandom, tty, console, ptmx, pts and tun.
const DEFAULT: [&str; 11] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];
const TUN: &str = "c 10:200 rwm";

impl DeviceRules {
    /// The rules of a container: the default ones, its devices and its own rules.
    pub fn of(security: &Security) -> Result<Self, Error> {
        if security.privileged {
            return Ok(Self(vec![Rule::EVERYTHING]));
        }
        let mut rules = Vec::new();
        for text in DEFAULT.into_iter().chain([TUN]).chain(security.device_cgroup_rules.iter().map(String::as_str)) {
            rules.push(Rule::parse(text).ok_or_else(|| Error::Unknown { kind: "device rule", name: text.to_owned() })?);
        }
        for mapping in &security.devices {
            let mut nodes = Vec::new();
            mapped_nodes(mapping, &mut nodes)?;
            let permissions = if mapping.permissions.is_empty() { "rwm" } else { &mapping.permissions };
            let access = parse_access(permissions)
                .ok_or_else(|| Error::Unknown { kind: "device permission", name: permissions.to_owned() })?;
            rules.extend(nodes.iter().map(|node| Rule {
                kind: if node.file_type == rustix::fs::FileType::BlockDevice { Kind::Block } else { Kind::Character },
                major: Some(rustix::fs::major(node.device)),
                minor: Some(rustix::fs::minor(node.device)),
                access,
                allow: true,
            }));
        }
        Ok(Self(rules))
    }

    /// Rules in order, each whether it allows, and its text; the default ones come behind them.
    pub fn of_list(list: &[(bool, String)]) -> Result<Self, Error> {
        let defaults = DEFAULT.into_iter().chain([TUN]).map(|text| (true, text));
        let mut rules = Vec::new();
        for (allow, text) in list.iter().map(|(allow, text)| (*allow, text.as_str())).chain(defaults) {
            let rule =
                Rule::parse(text).ok_or_else(|| Error::Unknown { kind: "device rule", name: text.to_owned() })?;
            rules.push(Rule { allow, ..rule });
        }
        // What comes before a rule for everything does not count.
        if let Some(place) = rules.iter().rposition(Rule::is_everything) {
            rules.drain(..place);
        }
        Ok(Self(rules))
    }

    /// Whether there is nothing to refuse.
    pub fn allows_all(&self) -> bool {
        self.0.iter().any(|rule| rule.allow && rule.is_everything()) && self.0.iter().all(|rule| rule.allow)
    }

    /// Lines for `devices.allow` (true) and `devices.deny`, in order.
    pub fn lines(&self) -> Vec<(bool, String)> {
        self.0.iter().map(|rule| (rule.allow, rule.line())).collect()
    }

    /// The filter program of v2: eBPF instructions.
    ///
    /// ```text
    /// r2 = kind, r3 = access, r4 = major, r5 = minor
    /// for each rule, the last one first: unless it matches, go to the next; return 1, or 0 if it denies
    /// return 0
    /// ```
    pub fn program(&self) -> Vec<u64> {
        let mut program = vec![
            instruction(LOAD_WORD, 2, 1, 0, 0),
            instruction(AND, 2, 0, 0, 0xffff),
            instruction(LOAD_WORD, 3, 1, 0, 0),
            instruction(SHIFT_RIGHT, 3, 0, 0, 16),
            instruction(LOAD_WORD, 4, 1, 4, 0),
            instruction(LOAD_WORD, 5, 1, 8, 0),
        ];
        for rule in self.0.iter().rev() {
            program.extend(rule.instructions());
        }
        program.extend([instruction(MOVE, 0, 0, 0, 0), instruction(EXIT, 0, 0, 0, 0)]);
        program
    }
}

// Operation codes of eBPF. Source: <https://docs.kernel.org/bpf/standardization/instruction-set.html>.
const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const JUMP_EQUAL: u8 = 0x15;
const JUMP_NOT_EQUAL: u8 = 0x55;
const JUMP_NOT_EQUAL_REGISTER: u8 = 0x5d;
const EXIT: u8 = 0x95;

fn instruction(code: u8, target: u8, source: u8, offset: i16, immediate: u32) -> u64 {
    u64::from(code)
        | u64::from(target | source << 4) << 8
        | u64::from(offset.cast_unsigned()) << 16
        | u64::from(immediate) << 32
}

impl Rule {
    const EVERYTHING: Self = Self { kind: Kind::All, major: None, minor: None, access: EVERYTHING, allow: true };

    fn is_everything(&self) -> bool {
        Self { allow: true, ..*self } == Self::EVERYTHING
    }

    /// `c 1:3 rwm`, `b *:* m`, `a`.
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split_ascii_whitespace();
        let kind = match fields.next()? {
            "a" => Kind::All,
            "b" => Kind::Block,
            "c" => Kind::Character,
            _ => return None,
        };
        let Some(numbers) = fields.next() else {
            return (kind == Kind::All).then_some(Self::EVERYTHING);
        };
        let (major, minor) = numbers.split_once(':')?;
        let number = |text: &str| match text {
            "*" => Some(None),
            text => text.parse().ok().map(Some),
        };
        let access = parse_access(fields.next()?)?;
        let (major, minor) = (number(major)?, number(minor)?);
        fields.next().is_none().then_some(Self { kind, major, minor, access, allow: true })
    }

    fn line(&self) -> String {
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
        let kind = match self.kind {
            Kind::All => "a",
            Kind::Block => "b",
            Kind::Character => "c",
        };
        let access: String = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
            .into_iter()
            .filter_map(|(bit, letter)| (self.access & bit != 0).then_some(letter))
            .collect();
        format!("{kind} {}:{} {access}", number(self.major), number(self.minor))
    }

    fn instructions(&self) -> Vec<u64> {
        // Each check with what it compares; where it jumps to is known at the end.
        let mut checks: Vec<Vec<u64>> = Vec::new();
        let kind = match self.kind {
            Kind::All => None,
            Kind::Block => Some(1),
            Kind::Character => Some(2),
        };
        checks.extend(kind.map(|kind| vec![instruction(JUMP_NOT_EQUAL, 2, 0, 0, kind)]));
        if self.access != EVERYTHING && !self.allow {
            // One thing that is denied is enough.
            checks.push(vec![
                instruction(MOVE_REGISTER, 1, 3, 0, 0),
                instruction(AND, 1, 0, 0, self.access),
                instruction(JUMP_EQUAL, 1, 0, 0, 0),
            ]);
        } else if self.access != EVERYTHING {
            checks.push(vec![
                instruction(MOVE_REGISTER, 1, 3, 0, 0),
                instruction(AND, 1, 0, 0, self.access),
                instruction(JUMP_NOT_EQUAL_REGISTER, 1, 3, 0, 0),
            ]);
        }
        checks.extend(self.major.map(|major| vec![instruction(JUMP_NOT_EQUAL, 4, 0, 0, major)]));
        checks.extend(self.minor.map(|minor| vec![instruction(JUMP_NOT_EQUAL, 5, 0, 0, minor)]));
        let mut instructions: Vec<u64> = checks.concat();
        instructions.extend([instruction(MOVE, 0, 0, 0, u32::from(self.allow)), instruction(EXIT, 0, 0, 0, 0)]);
        let length = instructions.len();
        for (position, word) in instructions.iter_mut().enumerate() {
            if matches!(*word as u8, JUMP_EQUAL | JUMP_NOT_EQUAL | JUMP_NOT_EQUAL_REGISTER) {
                // A rule has at most eight instructions.
                *word |= ((length - position - 1) as u64) << 16;
            }
        }
        instructions
    }
}

fn parse_access(text: &str) -> Option<u32> {
    let bit = |letter| match letter {
        'r' => Some(READ),
        'w' => Some(WRITE),
        'm' => Some(MKNOD),
        _ => None,
    };
    let bits = text.chars().map(bit).collect::<Option<Vec<u32>>>()?;
    (!bits.is_empty()).then(|| bits.into_iter().fold(0, |access, bit| access | bit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_and_written() {
        for text in ["c 1:3 rwm", "b *:* m", "c 136:* rw", "a *:* rwm"] {
            assert_eq!(Rule::parse(text).unwrap().line(), text);
        }
        for wrong in ["", "x 1:3 rwm", "c 1 rwm", "c 1:3", "c 1:3 rwx", "c 1:3 rwm more", "c -1:3 r", "c 1:y r"] {
            assert_eq!(Rule::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn privileged_is_everything() {
        let rules = DeviceRules::of(&Security { privileged: true, ..Security::default() }).unwrap();
        assert!(rules.allows_all());
        assert!(!DeviceRules::of(&Security::default()).unwrap().allows_all());
        let list = |rules: &[(bool, &str)]| {
            let rules: Vec<_> = rules.iter().map(|(allow, text)| (*allow, (*text).to_owned())).collect();
            DeviceRules::of_list(&rules).unwrap()
        };
        assert!(list(&[(false, "a *:* rwm"), (true, "a *:* rwm")]).allows_all());
        assert!(!list(&[(true, "a *:* rwm"), (false, "c 1:3 w")]).allows_all());
        let denied = list(&[(true, "c 7:7 r"), (false, "a *:* rwm")]);
        assert_eq!(denied.lines()[0], (false, "a *:* rwm".to_owned()));
    }
}
