//! `!reset` and `!override`: tags that take away what earlier files, included files or a base service say.
//!
//! Source: <https://github.com/compose-spec/compose-spec/blob/main/13-merge.md#reset-value>.

use super::node::{Mark, Node, Value};
use super::progress::Load;

/// The places in one document that carry a tag.
#[derive(Debug, Default, Clone)]
pub(crate) struct Resets(Vec<Reset>);

#[derive(Debug, Clone)]
struct Reset {
    /// Keys from the root.
    path: Vec<String>,
    /// The tagged value; without a value of its own where the tag is `!reset`.
    node: Node,
}

impl Resets {
    /// Finds the tags of a document and removes the `!reset` nodes from it.
    pub fn take(root: &mut Node) -> Self {
        let mut resets = Self::default();
        resets.walk(root, &mut Vec::new());
        resets
    }

    fn walk(&mut self, node: &mut Node, path: &mut Vec<String>) {
        match &mut node.value {
            Value::Map(map) => map.retain(|key, value| {
                path.push(key.clone());
                let keep = self.visit(value, path);
                path.pop();
                keep
            }),
            Value::Sequence(items) => {
                // Single items of a list cannot be taken away from what is below; they are only left out here.
                items.retain(|item| item.mark != Mark::Reset);
                for item in items {
                    self.walk(item, &mut vec![String::new()]);
                }
            }
            _ => {}
        }
    }

    /// Whether the node stays.
    fn visit(&mut self, node: &mut Node, path: &mut Vec<String>) -> bool {
        match node.mark {
            Mark::Reset | Mark::Override => {
                self.0.push(Reset { path: path.clone(), node: Node { mark: node.mark, ..node.clone_place() } });
                node.mark == Mark::Override
            }
            _ => {
                self.walk(node, path);
                true
            }
        }
    }

    /// Removes the tagged places from `root`.
    pub fn apply(&self, load: &mut Load, root: &mut Node) {
        for reset in &self.0 {
            reset.remove(load, root, &reset.path);
        }
    }

    /// Removes from `node` the tagged places that lie below `above.name`.
    pub fn apply_below(&self, load: &mut Load, node: &mut Node, above: &str, name: &str) {
        for reset in &self.0 {
            if let [first, second, rest @ ..] = reset.path.as_slice()
                && first == above
                && second == name
            {
                reset.remove(load, node, rest);
            }
        }
    }
}

impl Reset {
    /// Removes what lies at `path` below `node`.
    fn remove(&self, load: &mut Load, node: &mut Node, path: &[String]) {
        match path {
            [] => {}
            [last] => {
                let removed = node.as_map_mut().and_then(|map| map.shift_remove(last));
                if let (Some(removed), Some(trace)) = (removed, &mut load.trace) {
                    match self.node.mark {
                        Mark::Override => trace.replace(&self.node, &removed),
                        _ => trace.remove(self.path.join("."), self.node.place(), &removed),
                    }
                }
            }
            [first, rest @ ..] => {
                if let Some(below) = node.as_map_mut().and_then(|map| map.get_mut(first)) {
                    self.remove(load, below, rest);
                }
            }
        }
    }
}
