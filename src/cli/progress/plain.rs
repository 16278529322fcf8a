//! Progress as plain lines: one a change of state, ` Container shop-web-1  Created`, as Compose writes them.
//!
//! Bytes of a layer are no change of state; a build step's line has its time; output stands behind its step.

use std::collections::HashMap;

use crate::cli::terminal::visible;
use crate::model::event::{Event, EventStatus};

/// What was said last of each resource.
pub(super) struct Plain {
    prefix: &'static str,
    last: HashMap<String, Said>,
}

struct Said {
    text: String,
    since: jiff::Timestamp,
}

impl Plain {
    pub(super) fn new(dry_run: bool) -> Self {
        Self { prefix: if dry_run { " DRY-RUN MODE - " } else { "" }, last: HashMap::new() }
    }

    /// The lines to write for `event`, each ending in a line break; empty when it says nothing new.
    pub(super) fn lines(&mut self, event: &Event, now: jiff::Timestamp) -> String {
        if event.status == EventStatus::Output {
            let label = step_label(event);
            return event.text.lines().map(|line| format!(" {label} {}\n", visible(line))).collect();
        }
        if event.parent.is_some() && event.amount.is_some() {
            return String::new();
        }
        let key = format!("{}\0{}", event.parent.as_deref().unwrap_or_default(), event.resource);
        let since = match self.last.get_mut(&key) {
            Some(said) if said.text == event.text => return String::new(),
            Some(said) => {
                said.text.clone_from(&event.text);
                said.since
            }
            None => {
                self.last.insert(key, Said { text: event.text.clone(), since: now });
                now
            }
        };
        let parent = event.parent.as_deref().map(|parent| format!("{} ", visible(parent))).unwrap_or_default();
        let mut line = format!("{} {parent}{}  {}", self.prefix, visible(&event.resource), visible(&event.text));
        if event.parent.is_some() && event.status == EventStatus::Done && !ends_in_time(&event.text) {
            let seconds = now.duration_since(since).as_secs_f64();
            if seconds >= 0.05 {
                line.push_str(&format!(" {seconds:.1}s"));
            }
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    }
}

/// `web [2/5]` of `[2/5] RUN make`, else the parent, else the resource.
fn step_label(event: &Event) -> String {
    let parent = event.parent.as_deref();
    if let Some(end) = event.resource.find(']').filter(|_| event.resource.starts_with('[')) {
        let step = &event.resource[..=end];
        return visible(&parent.map_or_else(|| step.to_owned(), |parent| format!("{parent} {step}")));
    }
    format!("{} |", visible(parent.unwrap_or(&event.resource)))
}

/// Whether a text has its time already: `DONE 0.9s`.
pub(super) fn ends_in_time(text: &str) -> bool {
    let last = text.rsplit(' ').next().unwrap_or_default();
    last.strip_suffix('s').is_some_and(|number| number.contains('.') && number.parse::<f64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(events: &[(Event, i64)], expected: &str) {
        let mut plain = Plain::new(false);
        let text: String = events
            .iter()
            .map(|(event, ms)| {
                plain.lines(event, jiff::Timestamp::from_millisecond(*ms).expect("small numbers are times"))
            })
            .collect();
        assert_eq!(text, expected);
    }

    #[test]
    fn one_line_a_change() {
        let new = |text| Event::new("Container p-web-1", EventStatus::Working, text);
        check(
            &[(new("Creating"), 0), (new("Creating"), 1), (new("Created"), 2)],
            " Container p-web-1  Creating\n Container p-web-1  Created\n",
        );
    }

    #[test]
    fn bytes_are_no_change_and_steps_have_times() {
        let layer = Event {
            parent: Some("Image a".into()),
            amount: Some((1, 2)),
            ..Event::new("abc", EventStatus::Working, "Downloading")
        };
        let step = |status, text| Event { parent: Some("web".into()), ..Event::new("[2/5] RUN make", status, text) };
        check(
            &[
                (layer, 0),
                (step(EventStatus::Working, ""), 0),
                (step(EventStatus::Output, "cc\x1b[0m a.c\nld"), 100),
                (step(EventStatus::Done, "done"), 1240),
            ],
            " web [2/5] RUN make\n web [2/5] cc\\u{1b}[0m a.c\n web [2/5] ld\n web [2/5] RUN make  done 1.2s\n",
        );
    }

    #[test]
    fn a_time_is_said_once() {
        assert!(ends_in_time("DONE 0.9s"));
        assert!(!ends_in_time("CACHED") && !ends_in_time("Images") && !ends_in_time(""));
    }

    #[test]
    fn a_dry_run_says_so() {
        let mut plain = Plain::new(true);
        let event = Event::new("Network p_default", EventStatus::Done, "Created");
        assert_eq!(plain.lines(&event, jiff::Timestamp::UNIX_EPOCH), " DRY-RUN MODE -  Network p_default  Created\n");
    }
}
