//! Files that are made to exhaust the loader end in an error within a second and 200 MB.
//!
//! One test, so that the peak of this process's memory is the peak of the loader. The sizes are those at which
//! an unoptimised build still keeps the second that an optimised one has to.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wharf::compose::{self, Options};

const SERVICE: &str = "services:\n  a:\n    image: x\n";

/// Files by name, `main.yaml` first, and a part of the error that they must end in.
struct Bomb {
    name: &'static str,
    files: Vec<(String, Vec<u8>)>,
    error: &'static str,
}

fn bomb(name: &'static str, text: impl Into<Vec<u8>>, error: &'static str) -> Bomb {
    Bomb { name, files: vec![("main.yaml".into(), text.into())], error }
}

fn labels(value: &str) -> String {
    format!("{SERVICE}    labels:\n      a: \"{value}\"\n")
}

fn laughs() -> String {
    let mut text = String::from("x-0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for level in 1..12 {
        let items = vec![format!("*a{}", level - 1); 9].join(", ");
        text.push_str(&format!("x-{level}: &a{level} [{items}]\n"));
    }
    text + SERVICE
}

fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(line).collect()
}

fn bombs() -> Vec<Bomb> {
    const VALUES: &str = "more than 100000 values";
    let ten_thousand = "x".repeat(10_000);
    let fan = |name: &str, next: &str| (name.to_owned(), format!("include: [{next}, {next}]\n").into_bytes());
    let mut doubling: Vec<_> = (0..30).map(|n| fan(&format!("{n}.yaml"), &format!("{}.yaml", n + 1))).collect();
    doubling[0].0 = "main.yaml".into();
    doubling.push(("30.yaml".into(), SERVICE.into()));
    let mut chain: Vec<_> = (0..100)
        .map(|n| {
            let text = format!("services: {{a: {{extends: {{file: {}.yaml, service: a}}}}}}\n", n + 1);
            (format!("{n}.yaml"), text.into_bytes())
        })
        .collect();
    chain[0].0 = "main.yaml".into();
    chain.push(("100.yaml".into(), SERVICE.into()));
    vec![
        bomb("aliases of aliases", laughs(), VALUES),
        bomb("an alias in its anchor", "services: &s\n  a: *s\n", "inside the value"),
        bomb("an alias in its anchor below !reset", "services: &s\n  a: !reset\n    b: *s\n", "inside the value"),
        bomb(
            "nested lists",
            format!("x-a: {}{}\n{SERVICE}", "[".repeat(100_000), "]".repeat(100_000)),
            "nested too deep",
        ),
        bomb("nested mappings", format!("x-a: {}\n", "{a: ".repeat(100_000)), "levels deep"),
        bomb("nested dashes", format!("x-a:\n {}x\n", "- ".repeat(100_000)), "levels deep"),
        bomb("nested blocks", lines(2000, |n| format!("{}a:\n", " ".repeat(n))), "levels deep"),
        bomb("many items", format!("x-a:\n{}{SERVICE}", "  - x\n".repeat(200_000)), VALUES),
        bomb("many keys", format!("x-a:\n{}", lines(200_000, |n| format!("  k{n}: v\n"))), VALUES),
        bomb(
            "a large text, often",
            format!("x-a: &a \"{}\"\nx-b: [{}]\n", ten_thousand.repeat(100), vec!["*a"; 100].join(", ")),
            "bytes of text",
        ),
        bomb(
            "merged keys",
            format!(
                "x-a: &a {{{}}}\nx-b:\n{}",
                lines(1000, |n| format!("k{n}: v, ")),
                lines(1000, |n| format!("  b{n}: {{<<: *a}}\n"))
            ),
            VALUES,
        ),
        bomb("nested defaults", labels(&("${A:-".repeat(100_000) + &"}".repeat(100_000))), "nested more than"),
        bomb("open defaults", labels(&"${A:-{".repeat(100_000)), "nested more than"),
        bomb("many substitutions", labels(&"$A$B".repeat(100_000)), "substitutions"),
        bomb("colons", format!("{SERVICE}    ports: [\"{}\"]\n", ":".repeat(1_000_000)), "is not a port"),
        bomb("all ports", format!("{SERVICE}    ports: [1-65535, 1-65535/udp]\n"), VALUES),
        bomb("a long command", format!("{SERVICE}    command: {}\n", "a ".repeat(500_000)), "words"),
        bomb(
            "one base for many services",
            format!(
                "services:\n  b:\n    image: x\n    labels:\n{}{}",
                lines(1000, |n| format!("      l{n}: x\n")),
                lines(1000, |n| format!("  s{n}: {{extends: b}}\n"))
            ),
            VALUES,
        ),
        bomb("extending itself", "services: {a: {image: x, extends: {file: main.yaml, service: a}}}\n", "a -> a"),
        bomb("including itself", "include: [main.yaml]\n", "include each other"),
        Bomb { name: "including twice, and so on", files: doubling, error: "more than 500 compose files" },
        Bomb { name: "extending without end", files: chain, error: "links" },
        bomb("unknown attributes", format!("{SERVICE}{}", lines(20_000, |n| format!("    k{n}: x\n"))), "50 mistakes"),
        bomb(
            "unknown dependencies",
            format!("{SERVICE}    depends_on: [{}]\n", lines(10_000, |n| format!("s{n}, "))),
            "50 mistakes",
        ),
        bomb(
            "many documents over a large one",
            format!(
                "{SERVICE}    labels:\n{}{}",
                lines(20_000, |n| format!("      k{n}: x\n")),
                "---\nx-a: 1\n".repeat(9000)
            ),
            "too many documents",
        ),
        bomb("zeros", vec![0; 1_000_000], "not valid YAML"),
        bomb("not text", vec![0xff; 1_000_000], "not UTF-8"),
        bomb("a value that doubles", "services: {a: {image: x, env_file: grow.env}}\n", "grows beyond"),
    ]
    .into_iter()
    .map(|mut bomb| {
        if bomb.name == "a value that doubles" {
            let text = String::from("A0=xxxxxxxxxx\n") + &lines(60, |n| format!("A{}=$A{n}$A{n}\n", n + 1));
            bomb.files.push(("grow.env".into(), text.into_bytes()));
        }
        bomb
    })
    .collect()
}

fn load(folder: &Path, files: Vec<PathBuf>) -> Result<String, String> {
    let mut options = Options::new(folder.to_owned(), BTreeMap::new());
    options.files = files;
    let text = |error: &compose::Error| {
        let mistakes: Vec<String> = error.mistakes().iter().map(ToString::to_string).collect();
        format!("{error} {}", mistakes.join(" "))
    };
    compose::load(&options).map(|loaded| loaded.to_json()).map_err(|error| text(&error))
}

/// Processor time of this thread: what a busy machine does meanwhile does not count.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn peak_memory_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn hostile_files_end_in_an_error_soon() {
    let root = std::env::temp_dir().join(format!("wharf-hostile-{}", std::process::id()));
    for (index, bomb) in bombs().into_iter().enumerate() {
        let folder = root.join(index.to_string());
        fs::create_dir_all(&folder).unwrap();
        for (name, content) in &bomb.files {
            fs::write(folder.join(name), content).unwrap();
        }
        let begin = processor_time();
        let result = load(&folder, vec!["main.yaml".into()]);
        let took = processor_time() - begin;
        let error = result.expect_err(bomb.name);
        assert!(error.contains(bomb.error), "{}: {}", bomb.name, &error[..error.len().min(500)]);
        assert!(took < Duration::from_secs(1), "{} took {took:?}", bomb.name);
    }
    let huge = root.join("huge.yaml");
    fs::File::create(&huge).unwrap().set_len(100 << 20).unwrap();
    assert!(load(&root, vec![huge]).expect_err("100 MB").contains("cannot read"));
    assert!(load(&root, vec!["/dev/zero".into()]).expect_err("endless").contains("cannot read"));
    // Pipes into which nobody writes.
    let pipe = root.join("pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let texts = [
        "include: [pipe]\n".to_owned(),
        "include: [{path: main.yaml, env_file: pipe}]\n".to_owned(),
        format!("{SERVICE}    env_file: pipe\n"),
        format!("{SERVICE}    label_file: pipe\n"),
        format!("{SERVICE}    extends: {{file: pipe, service: b}}\n"),
    ];
    let begin = std::time::Instant::now();
    std::thread::scope(|scope| {
        for (index, text) in texts.iter().enumerate() {
            let root = &root;
            scope.spawn(move || {
                let file = root.join(format!("pipes{index}.yaml"));
                fs::write(&file, text).unwrap();
                let error = load(root, vec![file]).expect_err(text);
                assert!(error.contains("nobody writes into this pipe"), "{text}: {error}");
            });
        }
    });
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    fs::remove_dir_all(&root).unwrap();
    assert!(peak_memory_bytes() < 200 << 20, "{} MB", peak_memory_bytes() >> 20);
}

#[test]
fn merging_long_lists_is_not_quadratic() {
    let folder = std::env::temp_dir().join(format!("wharf-merge-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    for name in ["a", "b"] {
        let hosts = lines(10_000, |n| format!("      - {name}{n}=1.1.1.1\n"));
        let subnets = lines(5_000, |n| format!("        - subnet: {name}{n}\n"));
        let text = format!("{SERVICE}    extra_hosts:\n{hosts}networks:\n  n:\n    ipam:\n      config:\n{subnets}");
        fs::write(folder.join(format!("{name}.yaml")), text).unwrap();
    }
    let begin = processor_time();
    load(&folder, vec!["a.yaml".into(), "b.yaml".into()]).unwrap();
    let took = processor_time() - begin;
    fs::remove_dir_all(&folder).unwrap();
    assert!(took < Duration::from_secs(20), "{took:?}");
}
