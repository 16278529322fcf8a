//! Lines of containers with Compose's prefixes: `redis-1  | Ready to accept connections`.
//!
//! A line is written whole: pieces of one that has no end yet are kept until it has, or until they are long.
//! Without prefix the bytes go through as they come. stderr of a container goes to our stderr.

use std::io::{self, Write};

use jiff::Timestamp;

use crate::cli::show::time::nanosecond_time;
use crate::cli::terminal::{PREFIXES, Style, Terminal, paint};
use crate::log::{Line, Stream};

/// Longest piece of a line that is kept back, in bytes.
const PIECE_BYTES_MAX: usize = 64 << 10;

/// How lines look.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// The container's name before each line.
    pub prefix: bool,
    /// Colours in prefixes.
    pub colour: bool,
    /// The time of each line.
    pub timestamps: bool,
    /// What the options of the log say of each line.
    pub details: bool,
}

/// One container's place among the others.
struct Voice {
    name: String,
    style: Style,
    details: String,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// Writes lines of several containers.
pub struct Printer<O, E> {
    look: Look,
    width: usize,
    voices: Vec<Voice>,
    out: O,
    err: E,
    colour_out: bool,
    colour_err: bool,
}

impl<O: Write, E: Write> Printer<O, E> {
    /// A printer to `out` and `err`.
    pub fn new(look: Look, terminal: &Terminal, out: O, err: E) -> Self {
        let (colour_out, colour_err) = (look.colour && terminal.stdout_colour, look.colour && terminal.stderr_colour);
        Self { look, width: 0, voices: Vec::new(), out, err, colour_out, colour_err }
    }

    /// Adds a container and returns its number here. Prefixes grow with the longest name.
    pub fn add(&mut self, name: &str) -> usize {
        self.width = self.width.max(name.chars().count());
        let style = PREFIXES[self.voices.len() % PREFIXES.len()];
        self.voices.push(Voice {
            name: name.to_owned(),
            style,
            details: String::new(),
            stdout: Vec::new(),
            stderr: Vec::new(),
        });
        self.voices.len() - 1
    }

    /// Says what stands before each line of a container where `details` are wanted.
    pub fn describe(&mut self, voice: usize, details: String) {
        self.voices[voice].details = details;
    }

    /// Makes the prefixes wide enough for a container that comes later.
    pub fn reserve(&mut self, name: &str) {
        self.width = self.width.max(name.chars().count());
    }

    /// Writes a piece of a container's output.
    pub fn print(&mut self, voice: usize, line: &Line) -> io::Result<()> {
        if !self.look.prefix && !self.look.timestamps && !self.look.details {
            return match line.stream {
                Stream::Stdout => self.out.write_all(&line.bytes),
                Stream::Stderr => {
                    self.out.flush()?;
                    self.err.write_all(&line.bytes)
                }
            };
        }
        let kept = self.kept(voice, line.stream);
        if kept.is_empty() && line.bytes.ends_with(b"\n") {
            return self.write(voice, line.stream, &line.bytes, line.time);
        }
        kept.extend_from_slice(&line.bytes);
        if kept.ends_with(b"\n") || kept.len() > PIECE_BYTES_MAX {
            let text = std::mem::take(kept);
            self.write(voice, line.stream, &text, line.time)?;
        }
        Ok(())
    }

    /// Writes what is kept of a container that ended.
    pub fn finish(&mut self, voice: usize) -> io::Result<()> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let text = std::mem::take(self.kept(voice, stream));
            if !text.is_empty() {
                self.write(voice, stream, &text, Timestamp::now())?;
            }
        }
        Ok(())
    }

    /// Writes a sentence about a container: `web-1 exited with code 0`.
    pub fn say(&mut self, voice: usize, sentence: &str) -> io::Result<()> {
        let name = paint(&self.voices[voice].name, self.voices[voice].style, self.colour_out);
        writeln!(self.out, "{name} {sentence}")
    }

    /// Hands everything written so far to the system.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn kept(&mut self, voice: usize, stream: Stream) -> &mut Vec<u8> {
        let voice = &mut self.voices[voice];
        match stream {
            Stream::Stdout => &mut voice.stdout,
            Stream::Stderr => &mut voice.stderr,
        }
    }

    fn write(&mut self, voice: usize, stream: Stream, text: &[u8], time: Timestamp) -> io::Result<()> {
        let colour = if stream == Stream::Stdout { self.colour_out } else { self.colour_err };
        let mut line = Vec::with_capacity(text.len() + self.width + 48);
        if self.look.prefix {
            let voice = &self.voices[voice];
            let prefix = format!("{:width$}  | ", voice.name, width = self.width);
            line.extend_from_slice(paint(&prefix, voice.style, colour).as_bytes());
        }
        if self.look.timestamps {
            line.extend_from_slice(nanosecond_time(time).as_bytes());
            line.push(b' ');
        }
        if self.look.details {
            line.extend_from_slice(self.voices[voice].details.as_bytes());
            line.push(b' ');
        }
        line.extend_from_slice(text);
        if !line.ends_with(b"\n") {
            line.push(b'\n');
        }
        match stream {
            Stream::Stdout => self.out.write_all(&line),
            // What was written before must stand before.
            Stream::Stderr => self.out.flush().and_then(|()| self.err.write_all(&line)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMINAL: Terminal =
        Terminal { stdout_is_terminal: false, stderr_is_terminal: false, stdout_colour: false, stderr_colour: false };

    fn line(stream: Stream, text: &str) -> Line {
        Line { time: Timestamp::UNIX_EPOCH, stream, bytes: text.as_bytes().to_vec() }
    }

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).expect("tests write text")
    }

    #[test]
    fn prefixes_are_as_wide_as_the_longest_name() {
        let look = Look { prefix: true, colour: true, timestamps: false, details: false };
        let mut printer = Printer::new(look, &TERMINAL, Vec::new(), Vec::new());
        let (redis, web) = (printer.add("redis-1"), printer.add("web-1"));
        printer.print(redis, &line(Stream::Stdout, "ready\n")).expect("memory");
        printer.print(web, &line(Stream::Stdout, "half a ")).expect("memory");
        printer.print(redis, &line(Stream::Stderr, "oops\n")).expect("memory");
        printer.print(web, &line(Stream::Stdout, "line\n")).expect("memory");
        printer.print(web, &line(Stream::Stdout, "no end")).expect("memory");
        printer.finish(web).expect("memory");
        printer.say(web, "exited with code 0").expect("memory");
        assert_eq!(
            text(&printer.out),
            "redis-1  | ready\nweb-1    | half a line\nweb-1    | no end\nweb-1 exited with code 0\n"
        );
        assert_eq!(text(&printer.err), "redis-1  | oops\n");
    }

    #[test]
    fn without_prefix_bytes_go_through() {
        let look = Look { prefix: false, colour: false, timestamps: false, details: false };
        let mut printer = Printer::new(look, &TERMINAL, Vec::new(), Vec::new());
        let web = printer.add("web-1");
        printer.print(web, &line(Stream::Stdout, "a\r\nprompt> ")).expect("memory");
        assert_eq!(text(&printer.out), "a\r\nprompt> ");
    }

    #[test]
    fn timestamps_and_colours() {
        let look = Look { prefix: true, colour: true, timestamps: true, details: false };
        let terminal = Terminal { stdout_colour: true, ..TERMINAL };
        let mut printer = Printer::new(look, &terminal, Vec::new(), Vec::new());
        let web = printer.add("web-1");
        printer.print(web, &line(Stream::Stdout, "x\n")).expect("memory");
        assert_eq!(text(&printer.out), "\x1b[36mweb-1  | \x1b[0m1970-01-01T00:00:00.000000000Z x\n");
    }

    #[test]
    fn an_endless_line_is_written_in_pieces() {
        let look = Look { prefix: true, colour: false, timestamps: false, details: false };
        let mut printer = Printer::new(look, &TERMINAL, Vec::new(), Vec::new());
        let web = printer.add("w");
        for _ in 0..20 {
            printer.print(web, &line(Stream::Stdout, &"x".repeat(8 << 10))).expect("memory");
        }
        assert!(printer.voices[web].stdout.len() <= PIECE_BYTES_MAX);
        assert!(printer.out.len() > PIECE_BYTES_MAX);
    }
}
