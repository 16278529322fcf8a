//! What the live block shows, as a value: events in, lines out. No terminal is touched here.
//!
//! ```text
//! [+] Running 2/3
//!  ✔ Network shop_default      Created                       0.1s
//!  ⠹ Image redis:7             Pulling [=====>    ] 20MB/42MB  1.2s
//!  ⠹ web                       Building                      3.0s
//!    ⠹ [web 2/5] RUN make                                    2.9s
//!      cc -c a.c
//! ```
//!
//! A layer's bytes count towards its image; other children have lines of their own while their parent is
//! under way. A block taller than the screen drops finished lines first.

use std::time::{Duration, Instant};

use indexmap::IndexMap;
use unicode_width::UnicodeWidthChar;

use super::plain::ends_in_time;
use crate::base::units::format_bytes;
use crate::cli::terminal::{self, Style, paint, visible};
use crate::model::event::{Event, EventStatus};

const SPINNER: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
/// Lines of output shown below a step that runs.
const OUTPUT_LINES: usize = 5;
/// Lines of output kept of a step, shown when it fails.
const OUTPUT_LINES_KEPT: usize = 20;
/// Columns of a bar.
const BAR_WIDTH: usize = 24;
/// Widest column of names.
const NAME_WIDTH_MAX: usize = 60;

/// The state of the block.
pub(super) struct Block {
    title: String,
    dry_run: bool,
    begun: Instant,
    entries: IndexMap<String, Entry>,
}

/// A resource, or a part of one.
struct Entry {
    status: EventStatus,
    text: String,
    amount: Option<(u64, u64)>,
    begun: Instant,
    ended: Option<Instant>,
    output: Vec<String>,
    parts: IndexMap<String, Entry>,
}

impl Entry {
    fn new(now: Instant) -> Self {
        Self {
            status: EventStatus::Working,
            text: String::new(),
            amount: None,
            begun: now,
            ended: None,
            output: Vec::new(),
            parts: IndexMap::new(),
        }
    }

    fn apply(&mut self, event: Event, now: Instant) {
        if event.status == EventStatus::Output {
            self.output.extend(event.text.lines().map(visible));
            let surplus = self.output.len().saturating_sub(OUTPUT_LINES_KEPT);
            self.output.drain(..surplus);
            return;
        }
        let finished = |status| matches!(status, EventStatus::Done | EventStatus::Error | EventStatus::Warning);
        match (finished(self.status), finished(event.status)) {
            // Created, then starting: the time counts from the first of them.
            (true, false) => self.ended = None,
            (false, true) => self.ended = Some(now),
            _ => {}
        }
        self.status = event.status;
        let text = event.text.lines().next().unwrap_or_default();
        // The block has a column of times of its own.
        let text = if ends_in_time(text) { text.rsplit_once(' ').map_or("", |(text, _)| text) } else { text };
        self.text = visible(text);
        if event.amount.is_some() {
            self.amount = event.amount;
        }
    }

    /// Bytes of this entry, or of its parts together.
    fn bytes(&self) -> Option<(u64, u64)> {
        if self.parts.values().any(|part| part.amount.is_some()) {
            let amounts = self.parts.values().filter_map(|part| part.amount);
            return Some(
                amounts.fold((0, 0), |sum, amount| (sum.0 + amount.0.min(amount.1.max(amount.0)), sum.1 + amount.1)),
            );
        }
        self.amount
    }

    fn seconds(&self, now: Instant) -> Duration {
        self.ended.unwrap_or(now).saturating_duration_since(self.begun)
    }

    fn is_working(&self) -> bool {
        self.ended.is_none()
    }
}

impl Block {
    pub(super) fn new(title: &str, dry_run: bool, now: Instant) -> Self {
        Self { title: title.to_owned(), dry_run, begun: now, entries: IndexMap::new() }
    }

    pub(super) fn apply(&mut self, event: Event, now: Instant) {
        let entry = match &event.parent {
            None => self.entries.entry(event.resource.clone()),
            Some(parent) => {
                let parent = self.entries.entry(parent.clone()).or_insert_with(|| Entry::new(now));
                parent.parts.entry(event.resource.clone())
            }
        };
        entry.or_insert_with(|| Entry::new(now)).apply(event, now);
    }

    /// The lines to show on a screen of `width` columns; with a `height`, at most one less than that.
    pub(super) fn frame(&self, now: Instant, width: usize, height: Option<usize>, colour: bool) -> Vec<String> {
        if self.entries.is_empty() {
            return Vec::new();
        }
        let done = self.entries.values().filter(|entry| !entry.is_working()).count();
        let dry_run = if self.dry_run { "DRY-RUN MODE - " } else { "" };
        let header = format!("{dry_run}[+] {} {done}/{}", self.title, self.entries.len());
        let all_done = done == self.entries.len();
        let mut lines = vec![Line {
            text: if all_done { paint(&header, terminal::DONE, colour) } else { header },
            finished: false,
        }];
        let pen = Pen { now, width, colour, turn: self.turn(now), names: self.name_width(), last: height.is_none() };
        for (name, entry) in &self.entries {
            pen.entry(&mut lines, name, entry);
        }
        fit(lines, height)
    }

    fn turn(&self, now: Instant) -> char {
        SPINNER[(now.saturating_duration_since(self.begun).as_millis() / 100) as usize % SPINNER.len()]
    }

    fn name_width(&self) -> usize {
        self.entries.keys().map(|name| text_width(name)).max().unwrap_or(0).min(NAME_WIDTH_MAX)
    }
}

struct Line {
    text: String,
    finished: bool,
}

/// Drops finished lines, oldest first, then the oldest of all, until the block fits.
fn fit(mut lines: Vec<Line>, height: Option<usize>) -> Vec<String> {
    let limit = height.map_or(usize::MAX, |height| height.saturating_sub(1).max(2));
    let mut surplus = lines.len().saturating_sub(limit);
    if surplus > 0 {
        lines.retain(|line| {
            let drop = surplus > 0 && line.finished;
            surplus -= usize::from(drop);
            !drop
        });
        lines.drain(1..1 + surplus);
    }
    lines.into_iter().map(|line| line.text).collect()
}

/// How lines are drawn in this frame.
struct Pen {
    now: Instant,
    width: usize,
    colour: bool,
    turn: char,
    names: usize,
    last: bool,
}

impl Pen {
    fn entry(&self, lines: &mut Vec<Line>, name: &str, entry: &Entry) {
        lines.push(Line { text: self.line(1, name, self.names, entry), finished: !entry.is_working() });
        if entry.status == EventStatus::Done && !self.last {
            return;
        }
        for (name, part) in entry.parts.iter().filter(|(_, part)| part.amount.is_none()) {
            lines.push(Line { text: self.line(3, name, 0, part), finished: !part.is_working() });
            let shown = match part.status {
                EventStatus::Error => OUTPUT_LINES_KEPT,
                EventStatus::Working if !self.last => OUTPUT_LINES,
                _ => 0,
            };
            for output in &part.output[part.output.len().saturating_sub(shown)..] {
                let text = clip(&format!("     {output}"), self.width.saturating_sub(1));
                lines.push(Line { text: paint(&text, terminal::FAINT, self.colour), finished: false });
            }
        }
    }

    fn line(&self, indent: usize, name: &str, name_width: usize, entry: &Entry) -> String {
        let (icon, style) = match entry.status {
            EventStatus::Done => ('✔', terminal::DONE),
            EventStatus::Warning => ('!', terminal::WARNING),
            EventStatus::Error => ('✘', terminal::ERROR),
            EventStatus::Working | EventStatus::Output => (self.turn, terminal::WORKING),
        };
        let time = format!("{:.1}s", entry.seconds(self.now).as_secs_f64());
        let bar = if entry.is_working() { entry.bytes().map(draw_bar).unwrap_or_default() } else { String::new() };
        let room = self.width.saturating_sub(indent + 2 + time.len() + 2);
        let name_room = room.saturating_sub(2);
        let name = clip(&visible(name), name_room);
        let name_padding = name_width.min(name_room).saturating_sub(text_width(&name));
        let rest = room.saturating_sub(text_width(&name) + name_padding + 2);
        let text = clip(&entry.text, rest);
        let bar = clip(&bar, rest.saturating_sub(text_width(&text)));
        let used = text_width(&name) + name_padding + 2 + text_width(&text) + text_width(&bar);
        format!(
            "{:indent$}{} {name}{:name_padding$}  {}{bar}{:fill$} {}",
            "",
            paint(icon.encode_utf8(&mut [0; 4]), style, self.colour),
            "",
            paint(&text, text_style(entry.status), self.colour && !text.is_empty()),
            "",
            paint(&time, terminal::RULER, self.colour),
            fill = (room + 1).saturating_sub(used),
        )
    }
}

fn text_style(status: EventStatus) -> Style {
    match status {
        EventStatus::Done => terminal::DONE,
        EventStatus::Warning => terminal::WARNING,
        EventStatus::Error => terminal::ERROR,
        EventStatus::Working | EventStatus::Output => terminal::WORKING,
    }
}

fn draw_bar((current, total): (u64, u64)) -> String {
    if total == 0 {
        return format!(" {}", format_bytes(current));
    }
    let filled = (current.min(total) as u128 * BAR_WIDTH as u128 / u128::from(total)) as usize;
    let head = if filled < BAR_WIDTH { ">" } else { "" };
    let bar = format!("{}{head}", "=".repeat(filled));
    format!(" [{bar:<BAR_WIDTH$}] {}/{}", format_bytes(current), format_bytes(total))
}

fn text_width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// The beginning of `text` that fits into `width` columns.
fn clip(text: &str, width: usize) -> String {
    if text_width(text) <= width {
        return text.to_owned();
    }
    let mut clipped = String::new();
    let mut used = 0;
    for c in text.chars() {
        let next = used + c.width().unwrap_or(0);
        if next + 1 > width {
            break;
        }
        used = next;
        clipped.push(c);
    }
    if width > 0 {
        clipped.push('…');
    }
    clipped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(events: &[(Event, u64)]) -> (Block, Instant) {
        let start = Instant::now();
        let mut block = Block::new("Running", false, start);
        for (event, ms) in events {
            block.apply(event.clone(), start + Duration::from_millis(*ms));
        }
        (block, start)
    }

    fn part(parent: &str, resource: &str, status: EventStatus, text: &str) -> Event {
        Event { parent: Some(parent.into()), ..Event::new(resource, status, text) }
    }

    #[test]
    fn a_block_looks_like_composes() {
        use EventStatus::{Done, Working};
        let (block, start) = block(&[
            (Event::new("Network p_default", Working, "Creating"), 0),
            (Event::new("Network p_default", Done, "Created"), 100),
            (Event::new("Container p-web-1", Working, "Starting"), 100),
        ]);
        let frame = block.frame(start + Duration::from_millis(350), 50, Some(24), false);
        assert_eq!(
            frame,
            [
                "[+] Running 1/2",
                " ✔ Network p_default  Created                 0.1s",
                " ⠸ Container p-web-1  Starting                0.2s",
            ]
        );
        assert!(frame.iter().all(|line| text_width(line) <= 50));
    }

    #[test]
    fn layers_count_towards_their_image() {
        let layer = |name, amount| Event {
            amount: Some(amount),
            ..part("Image redis:7", name, EventStatus::Working, "Downloading")
        };
        let (block, start) = block(&[
            (Event::new("Image redis:7", EventStatus::Working, "Pulling"), 0),
            (layer("a", (10_000_000, 20_000_000)), 0),
            (layer("b", (5_000_000, 10_000_000)), 0),
        ]);
        let frame = block.frame(start, 80, Some(24), false);
        assert_eq!(frame.len(), 2);
        assert!(frame[1].contains("Pulling [============>           ] 15MB/30MB"), "{}", frame[1]);
    }

    #[test]
    fn a_running_step_shows_its_last_lines_and_a_failed_one_more() {
        let step = "[web 2/5] RUN make";
        let output = (0..30).map(|n| format!("line {n}")).collect::<Vec<_>>().join("\n");
        let mut events = vec![
            (Event::new("web", EventStatus::Working, "Building"), 0),
            (part("web", step, EventStatus::Working, ""), 0),
            (part("web", step, EventStatus::Output, &output), 0),
        ];
        let (running, start) = block(&events);
        let frame = running.frame(start, 80, Some(24), false);
        assert_eq!(frame.len(), 3 + OUTPUT_LINES);
        assert_eq!(frame[7], "     line 29");
        events.push((part("web", step, EventStatus::Error, "exit code 2"), 0));
        let (failed, start) = block(&events);
        assert_eq!(failed.frame(start, 80, None, false).len(), 3 + OUTPUT_LINES_KEPT);
    }

    #[test]
    fn a_block_never_leaves_the_screen() {
        let events: Vec<_> = (0..100)
            .map(|n| {
                let status = if n % 2 == 0 { EventStatus::Done } else { EventStatus::Working };
                (Event::new(&format!("Container with-a-rather-long-name-{n}"), status, "Whatever it is"), 0)
            })
            .collect();
        let (block, start) = block(&events);
        for (width, height) in [(1, 1), (5, 3), (20, 10), (80, 24), (200, 500)] {
            let frame = block.frame(start, width, Some(height), false);
            assert!(frame.len() <= height.saturating_sub(1).max(2), "{width}x{height}: {}", frame.len());
            if width >= 20 {
                assert!(frame.iter().all(|line| text_width(line) <= width), "{width}x{height}");
            }
        }
        assert_eq!(block.frame(start, 80, None, false).len(), 101);
    }
}
