//! A client in the network of a container: it looks a name up for every request and asks the first address, as strict
//! as a client can be.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The longest that an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks `http://NAME/` again and again from the network namespace of a process, until `done`. Returns every answer's
/// text, or why there was none.
pub fn ask(process: i32, name: &str, done: &AtomicBool) -> Vec<Result<String, String>> {
    let namespace = std::fs::File::open(format!("/proc/{process}/ns/net")).expect("it runs");
    let kind = Some(rustix::thread::LinkNameSpaceType::Network);
    rustix::thread::move_into_link_name_space(namespace.as_fd(), kind).expect("this thread may move");
    let mut answers = Vec::new();
    while !done.load(Ordering::Relaxed) {
        answers.push(look_up(name).and_then(get));
    }
    answers
}

fn look_up(name: &str) -> Result<Ipv4Addr, String> {
    let failed = |error: std::io::Error| format!("looking {name} up: {error}");
    let socket = UdpSocket::bind("127.0.0.1:0").map_err(failed)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    // RFC 1035, 4.1: a question for one A record, recursion desired.
    let mut question = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(label.len() as u8);
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 0, 1, 0, 1]);
    socket.send_to(&question, "127.0.0.11:53").map_err(failed)?;
    let mut answer = [0; 1500];
    let length = socket.recv(&mut answer).map_err(failed)?;
    // The first record follows the question: its name, type, class, time, length and then the address.
    let record = &answer[..length][question.len()..];
    match record {
        [_, _, 0, 1, 0, 1, _, _, _, _, 0, 4, a, b, c, d, ..] => Ok(Ipv4Addr::new(*a, *b, *c, *d)),
        _ => Err(format!("{name} has no address: {:?}", &answer[..length])),
    }
}

fn get(address: Ipv4Addr) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("asking {address}: {error}");
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((address, 80)), PATIENCE).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").map_err(failed)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(failed)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.") && head.contains(" 200 ") => Ok(body.trim().to_owned()),
        _ => Err(format!("{address} said {answer:?}")),
    }
}
