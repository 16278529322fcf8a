//! DNS messages: reads a query's question, writes answers. Everything else is passed on as bytes.
//!
//! Bytes come from whoever runs in the container or poses as a name server: every length is checked, names follow no
//! pointers, and nothing is larger than the message it came in.
//!
//! Source: RFC 1035 section 4, RFC 6891 section 6 (EDNS).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Length of the header in bytes.
pub(super) const HEADER: usize = 12;
/// Largest answer over UDP to a client that does not say what it takes (RFC 1035 section 2.3.4).
pub(super) const UDP_BYTES: usize = 512;
/// Largest query that is looked at: a name of 255 bytes and some options fit many times.
pub(super) const QUERY_BYTES_MAX: usize = 1024;
/// Seconds that an answer of ours may be kept: containers come and go.
const TTL_SECONDS: u32 = 5;

/// Types of records that are answered.
pub(super) const A: u16 = 1;
pub(super) const PTR: u16 = 12;
pub(super) const AAAA: u16 = 28;
pub(super) const ANY: u16 = 255;
const OPT: u16 = 41;
const IN: u16 = 1;

/// How a query ended (RFC 1035 section 4.1.1, RCODE).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Code {
    /// All is well.
    NoError = 0,
    /// It could not be read.
    FormatError = 1,
    /// Nobody answered.
    ServerFailure = 2,
    /// There is no such name.
    NameError = 3,
    /// Not a query.
    NotImplemented = 4,
}

/// The question of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    /// Number of the query.
    pub id: u16,
    /// Name in lower case without the final dot. Bytes that no name of ours has are replaced.
    pub name: String,
    /// Type of record.
    pub kind: u16,
    /// Class; only IN is answered.
    pub internet: bool,
    /// Where the question ends in the message.
    pub end: usize,
    /// Largest answer over UDP that the client takes.
    pub udp_bytes: usize,
    /// Whether the client speaks EDNS.
    pub edns: bool,
}

/// One record of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    /// A or AAAA.
    Address(IpAddr),
    /// PTR.
    Pointer(String),
}

/// Reads a query. A message that is not one gets the code to refuse it with; `None` when it deserves no answer.
pub(super) fn read(message: &[u8]) -> Result<Question, Option<Code>> {
    if message.len() < HEADER || message[2] & 0x80 != 0 {
        return Err(None);
    }
    if message[2] & 0x78 != 0 {
        return Err(Some(Code::NotImplemented));
    }
    if u16_at(message, 4) != Some(1) {
        return Err(Some(Code::FormatError));
    }
    let malformed = Some(Code::FormatError);
    let (name, after) = read_name(message, HEADER).ok_or(malformed)?;
    let kind = u16_at(message, after).ok_or(malformed)?;
    let class = u16_at(message, after + 2).ok_or(malformed)?;
    let end = after + 4;
    let edns = edns_size(message, end);
    Ok(Question {
        id: u16_at(message, 0).ok_or(malformed)?,
        name,
        kind,
        internet: class == IN || class == ANY,
        end,
        udp_bytes: edns.map_or(UDP_BYTES, |size| usize::from(size).clamp(UDP_BYTES, 4096)),
        edns: edns.is_some(),
    })
}

/// Reads a name without pointers; returns it and where it ends.
fn read_name(message: &[u8], mut offset: usize) -> Option<(String, usize)> {
    const NAME_BYTES_MAX: usize = 255;
    let start = offset;
    let mut name = String::new();
    loop {
        let length = usize::from(*message.get(offset)?);
        offset += 1;
        if length == 0 {
            return Some((name, offset));
        }
        if length > 63 || offset + length - start > NAME_BYTES_MAX {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        for byte in message.get(offset..offset + length)? {
            // A dot inside a label is not the dot between two.
            let known = byte.is_ascii_graphic() && *byte != b'.';
            name.push(if known { byte.to_ascii_lowercase() as char } else { '\u{fffd}' });
        }
        offset += length;
    }
}

/// The size that an OPT record right after the question tells.
fn edns_size(message: &[u8], end: usize) -> Option<u16> {
    let none_before = u16_at(message, 6)? == 0 && u16_at(message, 8)? == 0;
    let some = u16_at(message, 10)? > 0;
    let root = *message.get(end)? == 0;
    (none_before && some && root && u16_at(message, end + 1)? == OPT).then(|| u16_at(message, end + 3)).flatten()
}

/// Writes the answer to `query` (whose question is `question`) into at most `limit` bytes; when not all records fit,
/// it says so (TC) and the client asks again over TCP.
pub(super) fn write(query: &[u8], question: &Question, code: Code, records: &[Record], limit: usize) -> Vec<u8> {
    let mut answer = Vec::with_capacity(UDP_BYTES);
    answer.extend_from_slice(&query[..question.end]);
    // QR, RD as asked, RA.
    answer[2] = 0x80 | query[2] & 0x01;
    answer[3] = 0x80 | code as u8;
    answer[4..HEADER].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
    const OPT_BYTES: usize = 11;
    let limit = limit - if question.edns { OPT_BYTES } else { 0 };
    let mut count = 0u16;
    for record in records {
        let before = answer.len();
        write_record(&mut answer, record);
        if answer.len() > limit {
            answer.truncate(before);
            answer[2] |= 0x02;
            break;
        }
        count += 1;
    }
    answer[6..8].copy_from_slice(&count.to_be_bytes());
    if question.edns {
        answer[10..HEADER].copy_from_slice(&1u16.to_be_bytes());
        // Root, OPT, what we take over UDP, no extended code, no options.
        answer.extend_from_slice(&[0, 0, OPT as u8, 0x10, 0, 0, 0, 0, 0, 0, 0]);
    }
    answer
}

fn write_record(answer: &mut Vec<u8>, record: &Record) {
    // The name is that of the question, at offset 12.
    answer.extend_from_slice(&[0xc0, HEADER as u8]);
    let mut head = |kind: u16, length: usize| {
        answer.extend_from_slice(&kind.to_be_bytes());
        answer.extend_from_slice(&IN.to_be_bytes());
        answer.extend_from_slice(&TTL_SECONDS.to_be_bytes());
        answer.extend_from_slice(&(length as u16).to_be_bytes());
    };
    match record {
        Record::Address(IpAddr::V4(address)) => {
            head(A, 4);
            answer.extend_from_slice(&address.octets());
        }
        Record::Address(IpAddr::V6(address)) => {
            head(AAAA, 16);
            answer.extend_from_slice(&address.octets());
        }
        Record::Pointer(name) => {
            let labels: Vec<&[u8]> =
                name.split('.').map(str::as_bytes).filter(|label| !label.is_empty() && label.len() < 64).collect();
            head(PTR, labels.iter().map(|label| label.len() + 1).sum::<usize>() + 1);
            for label in labels {
                answer.push(label.len() as u8);
                answer.extend_from_slice(label);
            }
            answer.push(0);
        }
    }
}

/// Writes a refusal of a message that has at least a header: no question, no records.
pub(super) fn refuse(message: &[u8], code: Code) -> Vec<u8> {
    let mut answer = message[..HEADER].to_vec();
    answer[2] = 0x80 | message[2] & 0x79;
    answer[3] = 0x80 | code as u8;
    answer[4..].fill(0);
    answer
}

/// Cuts an answer that a client cannot take down to its question, marked as cut.
pub(super) fn truncate(answer: &mut Vec<u8>, question_end: usize) {
    answer.truncate(question_end);
    answer[2] |= 0x02;
    answer[6..HEADER].fill(0);
}

/// Whether `answer` belongs to `query`: an answer to the same question.
pub(super) fn answers(answer: &[u8], query: &[u8], question_end: usize) -> bool {
    answer.len() >= question_end
        && answer[2] & 0x80 != 0
        && u16_at(answer, 4) == Some(1)
        && answer[HEADER..question_end].eq_ignore_ascii_case(&query[HEADER..question_end])
}

/// The code of an answer.
pub(super) fn code(answer: &[u8]) -> u8 {
    answer.get(3).map_or(Code::ServerFailure as u8, |byte| byte & 0x0f)
}

/// The address that a name below in-addr.arpa or ip6.arpa stands for.
pub(super) fn reverse(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
        let mut octets = [0u8; 4];
        let mut parts = digits.split('.');
        for octet in octets.iter_mut().rev() {
            *octet = parts.next()?.parse().ok()?;
        }
        return parts.next().is_none().then(|| Ipv4Addr::from(octets).into());
    }
    let digits = name.strip_suffix(".ip6.arpa")?;
    let mut number = 0u128;
    let mut count = 0u32;
    for digit in digits.split('.') {
        if digit.len() != 1 || count == 32 {
            return None;
        }
        number |= u128::from(u8::from_str_radix(digit, 16).ok()?) << (4 * count);
        count += 1;
    }
    (count == 32).then(|| Ipv6Addr::from(number).into())
}

/// The big-endian number at `offset`.
pub(super) fn u16_at(message: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*message.get(offset)?, *message.get(offset + 1)?]))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A query as a resolver writes it.
    pub(in crate::supervise::dns) fn query(id: u16, name: &str, kind: u16, edns: Option<u16>) -> Vec<u8> {
        let mut message = id.to_be_bytes().to_vec();
        message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())]);
        for label in name.split('.') {
            message.push(label.len() as u8);
            message.extend_from_slice(label.as_bytes());
        }
        message.push(0);
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&[0, 1]);
        if let Some(size) = edns {
            message.extend_from_slice(&[0, 0, 41]);
            message.extend_from_slice(&size.to_be_bytes());
            message.extend_from_slice(&[0; 6]);
        }
        message
    }

    #[test]
    fn a_question_is_read() {
        let message = query(7, "Web.Example", A, Some(1232));
        let question = read(&message).unwrap();
        assert_eq!((question.id, question.name.as_str(), question.kind), (7, "web.example", A));
        assert_eq!((question.udp_bytes, question.edns, question.end), (1232, true, 29));
        assert_eq!(read(&query(7, "a", A, None)).unwrap().udp_bytes, 512);
    }

    #[test]
    fn what_is_no_query_is_refused() {
        let good = query(7, "web", A, None);
        for length in 0..HEADER {
            assert_eq!(read(&good[..length]), Err(None));
        }
        for length in HEADER..good.len() {
            assert_eq!(read(&good[..length]), Err(Some(Code::FormatError)), "{length}");
        }
        let changed = |offset: usize, value: u8| {
            let mut message = good.clone();
            message[offset] = value;
            read(&message)
        };
        assert_eq!(changed(2, 0x81), Err(None), "an answer is not answered: two servers would talk for ever");
        assert_eq!(changed(2, 0x28), Err(Some(Code::NotImplemented)));
        assert_eq!(changed(5, 2), Err(Some(Code::FormatError)));
        assert_eq!(changed(12, 0xc0), Err(Some(Code::FormatError)), "a pointer");
        let long = vec!["a".repeat(60); 5].join(".");
        assert_eq!(read(&query(7, &long, A, None)), Err(Some(Code::FormatError)));
        assert!(!read(&query(7, "we\u{1}b", A, None)).unwrap().name.contains("web"));
    }

    #[test]
    fn an_answer_that_does_not_fit_says_so() {
        let message = query(7, "web", A, None);
        let question = read(&message).unwrap();
        let records: Vec<Record> = (0..100).map(|n| Record::Address(Ipv4Addr::new(10, 0, 0, n).into())).collect();
        let answer = write(&message, &question, Code::NoError, &records, 512);
        assert!(answer.len() <= 512);
        assert_eq!(answer[2] & 0x02, 2);
        assert_eq!(u16_at(&answer, 6), Some(((512 - 21) / 16) as u16));
        let whole = write(&message, &question, Code::NoError, &records, 65_535);
        assert_eq!((whole[2] & 0x02, u16_at(&whole, 6)), (0, Some(100)));
        let edns = query(7, "web", A, Some(512));
        let answer = write(&edns, &read(&edns).unwrap(), Code::NoError, &records, 512);
        assert!(answer.len() <= 512 && answer.ends_with(&[0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn reverse_names_are_addresses() {
        let parse = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        assert_eq!(reverse("4.3.2.1.in-addr.arpa"), parse("1.2.3.4"));
        let nibbles = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
        assert_eq!(reverse(nibbles), parse("fd00::1"));
        for wrong in ["3.2.1.in-addr.arpa", "5.4.3.2.1.in-addr.arpa", "256.0.0.1.in-addr.arpa", "1.ip6.arpa", "web"] {
            assert_eq!(reverse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn random_bytes_do_no_harm() {
        let template = query(7, "web.example", A, Some(1232));
        for round in 0..20_000usize {
            let random = crate::base::id::random_hex(16).into_bytes();
            let mut message = if round % 2 == 0 { template.clone() } else { random.repeat(1 + round % 7) };
            for (place, byte) in random.iter().enumerate().take(1 + round % 5) {
                let length = message.len();
                message[(place * 31 + usize::from(*byte) * 7) % length] =
                    byte.wrapping_mul(37).wrapping_add(place as u8);
            }
            message.truncate(1 + (round * 13) % message.len());
            match read(&message) {
                Ok(question) => {
                    let records = [Record::Pointer("web.front".into()), Record::Address(IpAddr::from([1, 2, 3, 4]))];
                    let answer = write(&message, &question, Code::NoError, &records, question.udp_bytes);
                    assert!(answer.len() <= question.udp_bytes);
                    let mut cut = answer.clone();
                    truncate(&mut cut, question.end);
                    assert!(answers(&answer, &message, question.end));
                    let _ = reverse(&question.name);
                }
                Err(Some(code)) => assert_eq!(refuse(&message, code).len(), HEADER),
                Err(None) => {}
            }
        }
    }
}
