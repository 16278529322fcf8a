//! Output and input of attached clients.

use std::time::{Duration, Instant};

use wharf::supervise::{self, AttachMode, Frame};

use crate::world::{World, collect};

/// Bytes that are neither text nor regular.
fn noise(length: u32) -> Vec<u8> {
    (0..length).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

pub fn output_is_complete_and_exact() {
    let mut world = World::new();
    let spec = world.spec("cat /noise; cat /noise >&2; exit 3");
    let bytes = noise(1 << 20);
    let id = world.create(&spec);
    std::fs::write(world.store.containers().upper_folder(&id).join("noise"), &bytes).unwrap();
    let options = supervise::StartOptions { attach: AttachMode::Blocking, size: None };
    let stream = supervise::start(&world.store, &id, options).unwrap().attach.unwrap();
    let (stdout, stderr, code) = collect(&stream);
    assert!(stdout == bytes, "standard output: {} bytes", stdout.len());
    assert!(stderr == bytes, "standard error: {} bytes", stderr.len());
    assert_eq!(code, Some(3));
    let log = world.log(&id);
    assert_eq!(log.len(), 2 * bytes.len());
}

pub fn fast_exits_lose_nothing() {
    let mut world = World::new();
    for round in 0..50 {
        let spec = world.spec(&format!("echo out {round}; echo err {round} >&2; exit {round}"));
        let (id, stream) = world.run(&spec, AttachMode::Blocking);
        let (stdout, stderr, code) = collect(&stream.unwrap());
        assert_eq!(String::from_utf8(stdout).unwrap(), format!("out {round}\n"));
        assert_eq!(String::from_utf8(stderr).unwrap(), format!("err {round}\n"));
        assert_eq!(code, Some(round));
        // What was told is what is written.
        assert_eq!(world.state(&id).exit_code, round);
        assert_eq!(world.log(&id).len(), format!("out {round}\nerr {round}\n").len());
    }
}

pub fn input_reaches_the_container_and_ends() {
    let mut world = World::new();
    let mut spec = world.spec("cat");
    spec.process.stdin_open = true;
    let (_, stream) = world.run(&spec, AttachMode::Blocking);
    let stream = stream.unwrap();
    let bytes = noise(300_000);
    // Written and read at once, as both directions have a bound.
    let (stdout, _, code) = std::thread::scope(|scope| {
        scope.spawn(|| {
            stream.write_stdin(&bytes).unwrap();
            stream.close_stdin().unwrap();
        });
        collect(&stream)
    });
    assert!(stdout == bytes, "{} bytes", stdout.len());
    assert_eq!(code, Some(0));
}

pub fn a_terminal_is_a_terminal() {
    let mut world = World::new();
    let mut spec = world.spec("tty; stty size; read line; echo \"got $line\"; stty size; echo err >&2; exit 4");
    spec.process.terminal = true;
    spec.process.stdin_open = true;
    let (id, stream) = world.run(&spec, AttachMode::Blocking);
    let stream = stream.unwrap();
    let mut text = String::new();
    while !text.contains("30 100") {
        match stream.receive().unwrap() {
            Some(Frame::Stdout(bytes)) => text.push_str(&String::from_utf8(bytes).unwrap()),
            other => panic!("{other:?} after {text:?}"),
        }
    }
    stream.resize(50, 120).unwrap();
    stream.write_stdin(b"hello\n").unwrap();
    let (stdout, stderr, code) = collect(&stream);
    text.push_str(&String::from_utf8(stdout).unwrap());
    assert!(text.starts_with("/dev/"), "{text:?}");
    for part in ["got hello\r\n", "50 120\r\n", "err\r\n"] {
        assert!(text.contains(part), "{part:?} in {text:?}");
    }
    assert!(stderr.is_empty());
    assert_eq!(code, Some(4));
    assert_eq!(world.state(&id).exit_code, 4);
}

pub fn a_slow_client_is_dropped_or_waited_for() {
    let mut world = World::new();
    // Eight megabytes: more than all buffers on the way.
    let spec = world.spec("head -c 8000000 /dev/zero; echo done >/finished; exit 5");
    let (id, dropped) = world.run(&spec, AttachMode::Droppable);
    // Nobody reads, and still it ends.
    assert_eq!(supervise::wait(&world.store, &id).unwrap(), 5);
    let (stdout, _, code) = collect(&dropped.unwrap());
    assert!(stdout.len() < 8_000_000 && code.is_none(), "{} {code:?}", stdout.len());

    let spec = world.spec("head -c 8000000 /dev/zero; exit 6");
    let (id, waited) = world.run(&spec, AttachMode::Blocking);
    std::thread::sleep(Duration::from_millis(300));
    assert!(world.state(&id).process.is_some(), "it waits for its reader");
    let (stdout, _, code) = collect(&waited.unwrap());
    assert_eq!((stdout.len(), code), (8_000_000, Some(6)));
}

pub fn attaching_later_shows_what_comes() {
    let mut world = World::new();
    let mut spec = world.spec("echo before; read line; echo \"after $line\"; read end");
    spec.process.stdin_open = true;
    let (id, _) = world.run(&spec, AttachMode::None);
    let deadline = Instant::now() + Duration::from_secs(30);
    while world.log(&id) != b"before\n" {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    let first = supervise::attach(&world.store, &id).unwrap();
    let second = supervise::attach(&world.store, &id).unwrap();
    // Over the exec of the supervisor, which must not lose a client.
    std::thread::sleep(Duration::from_millis(150));
    second.write_stdin(b"x\n").unwrap();
    for stream in [&first, &second] {
        assert_eq!(stream.receive().unwrap(), Some(Frame::Stdout(b"after x\n".to_vec())));
    }
    drop(second);
    first.close_stdin().unwrap();
    assert_eq!(collect(&first).2, Some(1));
}
