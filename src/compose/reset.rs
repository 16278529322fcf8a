//! `!reset` and `!override`: tags that take away what earlier files, included files or a base service say.
//!
//! Source: <https://github.com/compose-spec/compose-spec/blob/main/13-merge.md#reset-value>.

use super::node::{Mark, Node, Value};

/// The places in one document that carry a tag, as keys from the root.
#[derive(Debug, Default, Clone)]
pub(crate) struct Resets(Vec<Vec<String>>);

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
                self.0.push(path.clone());
                node.mark == Mark::Override
            }
            _ => {
                self.walk(node, path);
                true
            }
        }
    }

    /// Removes the tagged places from `root`.
    pub fn apply(&self, root: &mut Node) {
        for path in &self.0 {
            remove(root, path);
        }
    }

    /// Removes from `node` the tagged places that lie below `above.name`.
    pub fn apply_below(&self, node: &mut Node, above: &str, name: &str) {
        for path in &self.0 {
            if let [first, second, rest @ ..] = path.as_slice()
                && first == above
                && second == name
            {
                remove(node, rest);
            }
        }
    }
}

fn remove(node: &mut Node, path: &[String]) {
    match path {
        [] => {}
        [last] => {
            node.as_map_mut().and_then(|map| map.shift_remove(last));
        }
        [first, rest @ ..] => {
            if let Some(below) = node.as_map_mut().and_then(|map| map.get_mut(first)) {
                remove(below, rest);
            }
        }
    }
}
