//! Where a node is in the tree, so that rules can be tables over slice patterns:
//! `["services", _, "ports", "[]"]` is any item of any service's `ports`.

/// How an item of a list is called in a path.
pub(crate) const ITEM: &str = "[]";

/// Deeper than any rule looks.
const DEPTH: usize = 12;

/// Keys from the root; items of lists are [`ITEM`].
#[derive(Clone, Copy, Default)]
pub(crate) struct Path<'a> {
    segments: [&'a str; DEPTH],
    depth: usize,
}

impl<'a> Path<'a> {
    /// The path of a node below this one.
    pub fn join(&self, key: &'a str) -> Path<'a> {
        let mut next = *self;
        if let Some(segment) = next.segments.get_mut(self.depth) {
            *segment = key;
        }
        next.depth += 1;
        next
    }

    /// The segments to match rules against; no rule matches what lies too deep for all of them.
    pub fn segments(&self) -> &[&'a str] {
        self.segments.get(..self.depth).unwrap_or(&["(deep)"])
    }
}

impl std::fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = &self.segments[..self.depth.min(DEPTH)];
        for (index, segment) in shown.iter().enumerate() {
            let dot = if index == 0 || *segment == ITEM { "" } else { "." };
            write!(f, "{dot}{segment}")?;
        }
        if self.depth > DEPTH { f.write_str("…") } else { Ok(()) }
    }
}
