//! Progress of one image's build: numbered lines as BuildKit's `plain`, or its `rawjson`.
//!
//! Source: moby/buildkit `util/progress/progressui/printer.go`, `client/graph.go`.

use std::collections::HashMap;

use base64::Engine;
use serde_json::json;

use crate::base::id::Digest;
use crate::cli::terminal::visible;
use crate::model::event::{Event, EventStatus};

/// The steps of a build as they are told.
pub(super) struct Steps {
    raw: bool,
    known: HashMap<String, Step>,
    last: usize,
}

struct Step {
    number: usize,
    since: jiff::Timestamp,
    ended: bool,
}

impl Steps {
    /// `raw` writes a JSON object a line.
    pub(super) fn new(raw: bool) -> Self {
        Self { raw, known: HashMap::new(), last: 0 }
    }

    /// What to write for `event`.
    pub(super) fn lines(&mut self, event: &Event, now: jiff::Timestamp) -> String {
        // Layers of a pull are parts of it.
        if event.amount.is_some() || event.parent.as_ref().is_some_and(|parent| parent.starts_with("Image ")) {
            return String::new();
        }
        let is_new = !self.known.contains_key(&event.resource);
        let count = self.known.len();
        let step =
            self.known.entry(event.resource.clone()).or_insert(Step { number: count + 1, since: now, ended: false });
        if self.raw {
            return raw_line(event, step, now, is_new);
        }
        let number = step.number;
        let mut text = String::new();
        if self.last != number {
            if self.last != 0 {
                text.push('\n');
            }
            self.last = number;
            text.push_str(&format!("#{number} {}\n", visible(&event.resource)));
        }
        let seconds = now.duration_since(step.since).as_secs_f64();
        match event.status {
            EventStatus::Output => {
                event
                    .text
                    .lines()
                    .for_each(|line| text.push_str(&format!("#{number} {seconds:.3} {}\n", visible(line))));
            }
            EventStatus::Working if event.text.is_empty() || event.parent.is_none() => {}
            EventStatus::Working => text.push_str(&format!("#{number} {}\n", visible(&event.text))),
            EventStatus::Done if event.text == "CACHED" => text.push_str(&format!("#{number} CACHED\n")),
            EventStatus::Done => text.push_str(&format!("#{number} DONE {seconds:.1}s\n")),
            EventStatus::Warning => text.push_str(&format!("#{number} WARN: {}\n", visible(&event.text))),
            EventStatus::Error => text.push_str(&format!("#{number} ERROR\n")),
        }
        text
    }
}

fn raw_line(event: &Event, step: &mut Step, now: jiff::Timestamp, is_new: bool) -> String {
    let digest = Digest::of(event.resource.as_bytes());
    let mut vertex = json!({ "digest": digest, "name": event.resource, "started": step.since });
    let status = match event.status {
        EventStatus::Output => {
            let data = base64::engine::general_purpose::STANDARD.encode(format!("{}\n", event.text));
            json!({ "logs": [{ "vertex": digest, "stream": 1, "data": data, "timestamp": now }] })
        }
        EventStatus::Done | EventStatus::Error if !step.ended => {
            step.ended = true;
            vertex["completed"] = json!(now);
            if event.text == "CACHED" {
                vertex["cached"] = json!(true);
            }
            if event.status == EventStatus::Error {
                vertex["error"] = json!(event.text);
            }
            json!({ "vertexes": [vertex] })
        }
        EventStatus::Working if is_new => json!({ "vertexes": [vertex] }),
        _ => return String::new(),
    };
    format!("{status}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events() -> Vec<Event> {
        let step =
            |name: &str, status, text: &str| Event { parent: Some("x".into()), ..Event::new(name, status, text) };
        vec![
            step("[1/2] RUN a", EventStatus::Working, ""),
            step("[1/2] RUN a", EventStatus::Output, "hello\x1b[0m"),
            step("[2/2] RUN b", EventStatus::Working, ""),
            step("[1/2] RUN a", EventStatus::Done, "DONE 0.5s"),
            step("[2/2] RUN b", EventStatus::Done, "CACHED"),
        ]
    }

    fn told(raw: bool) -> String {
        let mut steps = Steps::new(raw);
        let time = |index: usize| jiff::Timestamp::from_millisecond(index as i64 * 250).expect("a time");
        events().iter().enumerate().map(|(index, event)| steps.lines(event, time(index))).collect()
    }

    #[test]
    fn steps_are_numbered_and_named_again_when_another_spoke() {
        let expected = "#1 [1/2] RUN a\n#1 0.250 hello\\u{1b}[0m\n\n#2 [2/2] RUN b\n\n#1 [1/2] RUN a\n#1 DONE 0.8s\n\n\
                        #2 [2/2] RUN b\n#2 CACHED\n";
        assert_eq!(told(false), expected);
    }

    #[test]
    fn raw_lines_are_json() {
        let lines: Vec<serde_json::Value> =
            told(true).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[0]["vertexes"][0]["name"], "[1/2] RUN a");
        assert_eq!(lines[1]["logs"][0]["vertex"], lines[0]["vertexes"][0]["digest"]);
        assert_eq!(lines[4]["vertexes"][0]["cached"], true);
    }
}
