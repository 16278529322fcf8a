//! Writer and reader together, on files of a temporary folder.

use std::path::PathBuf;

use jiff::Timestamp;

use super::{Line, Next, ReadOptions, Stream, Writer, files, read};
use crate::model::container::Logging;

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("wharf-log-{}", crate::base::id::random_hex(8)));
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn log(&self) -> PathBuf {
        self.0.join("log.json")
    }

    fn writer(&self, max_size_bytes: u64, max_files: u32) -> Writer {
        Writer::open(&self.log(), &Logging { enabled: true, max_size_bytes, max_files, ..Logging::default() }).unwrap()
    }

    fn read(&self, options: ReadOptions) -> Vec<Line> {
        let mut reader = read(&self.log(), options).unwrap();
        std::iter::from_fn(|| reader.next(|| true).unwrap()).collect()
    }

    fn texts(&self, options: ReadOptions) -> Vec<String> {
        self.read(options).into_iter().map(|line| String::from_utf8(line.bytes).unwrap()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn tail(lines: u64) -> ReadOptions {
    ReadOptions { tail: Some(lines), ..Default::default() }
}

#[test]
fn lines_come_back_in_order_with_their_stream() {
    let folder = Folder::new();
    let mut writer = folder.writer(10 << 20, 3);
    writer.push(Stream::Stdout, b"one\ntw", Timestamp::now());
    writer.push(Stream::Stderr, b"oops\n", Timestamp::now());
    writer.push(Stream::Stdout, b"o\nrest", Timestamp::now());
    assert!(writer.has_partial());
    drop(writer);
    let got: Vec<_> = folder.read(ReadOptions::default()).into_iter().map(|line| (line.stream, line.bytes)).collect();
    let expected = [
        (Stream::Stdout, &b"one\n"[..]),
        (Stream::Stderr, b"oops\n"),
        (Stream::Stdout, b"two\n"),
        (Stream::Stdout, b"rest"),
    ];
    assert_eq!(got, expected.map(|(stream, bytes)| (stream, bytes.to_vec())));
}

#[test]
fn long_lines_are_cut_and_binary_is_kept() {
    let folder = Folder::new();
    let mut writer = folder.writer(10 << 20, 3);
    let bytes: Vec<u8> = (0..100_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for piece in bytes.chunks(777) {
        writer.push(Stream::Stdout, piece, Timestamp::now());
        writer.flush();
    }
    drop(writer);
    let lines = folder.read(ReadOptions::default());
    assert!(lines.iter().all(|line| line.bytes.len() <= super::RECORD_BYTES_MAX));
    assert_eq!(lines.concat_bytes(), bytes);
}

trait ConcatBytes {
    fn concat_bytes(&self) -> Vec<u8>;
}

impl ConcatBytes for Vec<Line> {
    fn concat_bytes(&self) -> Vec<u8> {
        self.iter().flat_map(|line| line.bytes.iter().copied()).collect()
    }
}

#[test]
fn rotation_keeps_the_newest_files() {
    let folder = Folder::new();
    let mut writer = folder.writer(2_000, 3);
    for number in 0..200 {
        writer.push(Stream::Stdout, format!("{number}\n").as_bytes(), Timestamp::now());
        writer.flush();
    }
    drop(writer);
    assert_eq!(files(&folder.log()).len(), 3);
    let texts = folder.texts(ReadOptions::default());
    assert_eq!(texts.last().map(String::as_str), Some("199\n"));
    let first: usize = texts[0].trim().parse().unwrap();
    assert!(first > 100 && first + texts.len() == 200, "{first} {}", texts.len());
    // A tail that reaches over a file's border, and one that asks for more than there is.
    assert_eq!(folder.texts(tail(40)), (160..200).map(|n| format!("{n}\n")).collect::<Vec<_>>());
    assert_eq!(folder.texts(tail(10_000)), texts);
    assert!(folder.texts(tail(0)).is_empty());
}

#[test]
fn a_tail_counts_lines_not_records() {
    let folder = Folder::new();
    let mut writer = folder.writer(10 << 20, 3);
    for text in ["first\n", "sec", "ond\n", "thi"] {
        writer.push(Stream::Stdout, text.as_bytes(), Timestamp::now());
        writer.cut(Timestamp::now());
    }
    drop(writer);
    for (lines, expected) in
        [(1, &["thi"][..]), (2, &["sec", "ond\n", "thi"]), (3, &["first\n", "sec", "ond\n", "thi"])]
    {
        assert_eq!(folder.texts(tail(lines)), expected, "{lines}");
    }
}

#[test]
fn torn_and_foreign_records_are_skipped() {
    let folder = Folder::new();
    let mut writer = folder.writer(10 << 20, 3);
    writer.push(Stream::Stdout, b"before\n", Timestamp::now());
    drop(writer);
    let mut content = std::fs::read(folder.log()).unwrap();
    content.extend_from_slice(&vec![b'x'; 500_000]);
    content.extend_from_slice(b"\nnull\n{\"log\":\"torn");
    std::fs::write(folder.log(), content).unwrap();
    let mut writer = folder.writer(10 << 20, 3);
    writer.push(Stream::Stdout, b"after\n", Timestamp::now());
    drop(writer);
    assert_eq!(folder.texts(ReadOptions::default()), ["before\n", "after\n"]);
    assert_eq!(folder.texts(tail(2)), ["before\n", "after\n"]);
}

#[test]
fn since_and_until_bound_the_time() {
    let folder = Folder::new();
    let mut writer = folder.writer(10 << 20, 3);
    for second in 0..10 {
        writer.push(Stream::Stdout, format!("{second}\n").as_bytes(), Timestamp::from_second(second).unwrap());
    }
    drop(writer);
    let at = |second| Some(Timestamp::from_second(second).unwrap());
    let options = ReadOptions { since: at(3), until: at(5), ..Default::default() };
    assert_eq!(folder.texts(options), ["3\n", "4\n", "5\n"]);
}

#[test]
fn a_follower_sees_everything_across_rotations() {
    let folder = Folder::new();
    let ended = folder.0.join("ended");
    let mut reader = read(&folder.log(), ReadOptions { follow: true, ..Default::default() }).unwrap();
    assert_eq!(reader.try_next().unwrap(), Next::Wait);
    let mut writer = folder.writer(20_000, 50);
    let marker = ended.clone();
    let writing = std::thread::spawn(move || {
        for number in 0..2_000 {
            writer.push(Stream::Stdout, format!("{number}\n").as_bytes(), Timestamp::now());
            writer.flush();
            if number % 100 == 0 {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        }
        drop(writer);
        std::fs::write(marker, "").unwrap();
    });
    let lines: Vec<Line> = std::iter::from_fn(|| reader.next(|| ended.exists()).unwrap()).collect();
    writing.join().unwrap();
    let expected: Vec<u8> = (0..2_000).flat_map(|number| format!("{number}\n").into_bytes()).collect();
    assert_eq!(lines.concat_bytes(), expected);
}

#[test]
fn a_full_disk_drops_and_counts() {
    let mut writer = Writer::open(std::path::Path::new("/dev/full"), &Logging::default()).unwrap();
    writer.push(Stream::Stdout, b"12345\n", Timestamp::now());
    writer.flush();
    assert_eq!(writer.dropped_bytes(), 6);
}

#[test]
fn a_disabled_log_writes_nothing() {
    let folder = Folder::new();
    let mut writer = Writer::open(&folder.log(), &Logging { enabled: false, ..Default::default() }).unwrap();
    writer.push(Stream::Stdout, b"12345\n", Timestamp::now());
    drop(writer);
    assert!(!folder.log().exists());
}
