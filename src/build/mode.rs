//! `--chmod`: an octal mode, or symbolic changes such as `u+rwX,go-w`.
//!
//! Source: chmod(1) for the symbolic form; the umask plays no part.

/// A change of permission bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chmod {
    /// Exactly these bits.
    Octal(u32),
    /// Clauses applied one after the other.
    Symbolic(Vec<Clause>),
}

/// One `who` and its actions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    who: Who,
    actions: Vec<(char, Permissions)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Who {
    user: bool,
    group: bool,
    other: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Permissions {
    /// Letters of `rwxXst`.
    Letters(String),
    /// Those that another class has: `u`, `g` or `o`.
    Copied(char),
}

impl Chmod {
    /// Reads a mode; `None` when it is neither form.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(mode) = u32::from_str_radix(text, 8) {
            return (mode <= 0o7777 && !text.starts_with('+')).then_some(Self::Octal(mode));
        }
        text.split(',').map(Clause::parse).collect::<Option<_>>().map(Self::Symbolic)
    }

    /// The permission bits of something that has `mode` now.
    pub fn apply(&self, mode: u32, is_folder: bool) -> u32 {
        match self {
            Self::Octal(mode) => *mode,
            Self::Symbolic(clauses) => clauses.iter().fold(mode & 0o7777, |mode, clause| clause.apply(mode, is_folder)),
        }
    }
}

impl Clause {
    fn parse(text: &str) -> Option<Self> {
        let end = text.find(|c| !"ugoa".contains(c))?;
        let (who, mut rest) = text.split_at(end);
        let all = who.is_empty() || who.contains('a');
        let who =
            Who { user: all || who.contains('u'), group: all || who.contains('g'), other: all || who.contains('o') };
        let mut actions = Vec::new();
        while let Some(operator) = rest.chars().next() {
            if !"+-=".contains(operator) {
                return None;
            }
            rest = &rest[1..];
            let end = rest.find(['+', '-', '=']).unwrap_or(rest.len());
            let (letters, tail) = rest.split_at(end);
            let permissions = match letters {
                "u" | "g" | "o" => Permissions::Copied(letters.chars().next()?),
                letters if letters.chars().all(|c| "rwxXst".contains(c)) => Permissions::Letters(letters.to_owned()),
                _ => return None,
            };
            actions.push((operator, permissions));
            rest = tail;
        }
        (!actions.is_empty()).then_some(Self { who, actions })
    }

    fn apply(&self, mut mode: u32, is_folder: bool) -> u32 {
        for (operator, permissions) in &self.actions {
            let bits = self.bits(permissions, mode, is_folder);
            mode = match operator {
                '+' => mode | bits,
                '-' => mode & !bits,
                _ => (mode & !self.mask()) | bits,
            };
        }
        mode
    }

    fn mask(&self) -> u32 {
        let Who { user, group, other } = self.who;
        let set = |class: bool, bits: u32| if class { bits } else { 0 };
        set(user, 0o4700) | set(group, 0o2070) | set(other, 0o1007)
    }

    fn bits(&self, permissions: &Permissions, mode: u32, is_folder: bool) -> u32 {
        let rwx = match permissions {
            Permissions::Copied('u') => (mode >> 6) & 7,
            Permissions::Copied('g') => (mode >> 3) & 7,
            Permissions::Copied(_) => mode & 7,
            Permissions::Letters(letters) => letters.chars().fold(0, |bits, letter| {
                bits | match letter {
                    'r' => 4,
                    'w' => 2,
                    'x' => 1,
                    'X' if is_folder || mode & 0o111 != 0 => 1,
                    _ => 0,
                }
            }),
        };
        let special = match permissions {
            Permissions::Letters(letters) => {
                (if letters.contains('s') { 0o6000 } else { 0 }) | (if letters.contains('t') { 0o1000 } else { 0 })
            }
            Permissions::Copied(_) => 0,
        };
        // `t` belongs to everybody, so it is set whoever is named.
        let special_mask = (self.mask() & 0o6000) | 0o1000;
        ((rwx << 6 | rwx << 3 | rwx) & self.mask() & 0o777) | (special & special_mask)
    }
}

#[cfg(test)]
mod tests {
    use super::Chmod;

    #[test]
    fn both_forms() {
        for (text, before, folder, after) in [
            ("755", 0o644, false, 0o755),
            ("u+x", 0o644, false, 0o744),
            ("go-rwx", 0o777, false, 0o700),
            ("a=rX", 0o640, false, 0o444),
            ("a=rX", 0o640, true, 0o555),
            ("u=rwX,go=u-w", 0o755, false, 0o755),
            ("g=u", 0o740, false, 0o770),
            ("u+s,+t", 0o755, false, 0o5755),
        ] {
            let chmod = Chmod::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(chmod.apply(before, folder), after, "{text}");
        }
        for wrong in ["64a", "10000", "", "u", "z+x", "u+q", "-1"] {
            assert!(Chmod::parse(wrong).is_none(), "{wrong}");
        }
    }
}
