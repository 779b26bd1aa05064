//! Checks one event stream of a load, from the bytes of the response on.
//!
//! It must keep up with millions of events per second, so it does not decode them. It looks for the
//! data lines that the publishers of the load write, `data:@<publisher> <sequence> <time> …`, and
//! counts all other events by the empty lines that end them.

use std::mem;

use memchr::memchr;

/// The maximum size of the head of a response. Of a longer line, only this much is kept.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// How a data line of a publisher of the load starts.
const LOAD_PREFIX: &[u8] = b"data:@";

/// Events by what the check found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) events: u64,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) out_of_order: u64,
}

impl Counters {
    pub(super) fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.out_of_order += other.out_of_order;
    }
}

/// How much of the response has arrived, and how its body is framed.
#[derive(Debug)]
enum BodyState {
    /// The head so far, which is not complete.
    Head(Vec<u8>),
    Plain,
    Chunked(ChunkState),
}

/// The position in a chunked body (RFC 9112, section 7.1).
#[derive(Debug)]
enum ChunkState {
    /// In the size of a chunk; the size so far.
    Size(usize),
    /// In the rest of the line with the size.
    Extension(usize),
    /// In the data; the number of bytes that are missing.
    Data(usize),
    /// In the line end after the data.
    LineEnd,
}

#[derive(Debug)]
pub(super) struct StreamChecker {
    body: BodyState,
    /// The start of a line that is not complete.
    line: Vec<u8>,
    /// Whether the current event has a data line.
    has_data: bool,
    /// The next sequence number of each publisher.
    next: Vec<u64>,
}

impl StreamChecker {
    pub(super) fn new(publishers: usize) -> Self {
        Self {
            body: BodyState::Head(Vec::new()),
            line: Vec::new(),
            has_data: false,
            next: vec![0; publishers],
        }
    }

    /// Whether the head is complete. If so, it is that of an event stream.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.body, BodyState::Head(_))
    }

    /// Checks the next bytes of the response. Calls `on_event` with the time that each event of the
    /// load carries.
    ///
    /// # Errors
    /// Why the response is not an event stream.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        counters: &mut Counters,
        on_event: &mut impl FnMut(u64),
    ) -> Result<(), String> {
        let BodyState::Head(head) = &mut self.body else {
            return self.take_body(bytes, counters, on_event);
        };
        head.extend_from_slice(bytes);
        let Some((body, length)) = parse_head(head)? else {
            return Ok(());
        };
        let rest = head.split_off(length);
        self.body = body;
        self.take_body(&rest, counters, on_event)
    }

    fn take_body(
        &mut self,
        mut bytes: &[u8],
        counters: &mut Counters,
        on_event: &mut impl FnMut(u64),
    ) -> Result<(), String> {
        let mut chunk = match &mut self.body {
            BodyState::Chunked(chunk) => mem::replace(chunk, ChunkState::LineEnd),
            _ => {
                self.take_lines(bytes, counters, on_event);
                return Ok(());
            }
        };
        while let Some(&byte) = bytes.first() {
            let mut used = 1;
            chunk = match (chunk, byte) {
                (ChunkState::Size(size), b'\r' | b';') => ChunkState::Extension(size),
                (ChunkState::Size(size), digit) => {
                    let digit = char::from(digit)
                        .to_digit(16)
                        .ok_or("a chunk size is not hexadecimal")?;
                    let size = size.checked_mul(16).ok_or("a chunk size is too large")?;
                    ChunkState::Size(size + digit as usize)
                }
                (ChunkState::Extension(size), b'\n') => ChunkState::Data(size),
                (ChunkState::Extension(size), _) => ChunkState::Extension(size),
                (ChunkState::Data(left), _) => {
                    used = left.min(bytes.len());
                    self.take_lines(&bytes[..used], counters, on_event);
                    match left - used {
                        0 => ChunkState::LineEnd,
                        left => ChunkState::Data(left),
                    }
                }
                (ChunkState::LineEnd, b'\n') => ChunkState::Size(0),
                (ChunkState::LineEnd, _) => ChunkState::LineEnd,
            };
            bytes = &bytes[used..];
        }
        self.body = BodyState::Chunked(chunk);
        Ok(())
    }

    fn take_lines(
        &mut self,
        mut bytes: &[u8],
        counters: &mut Counters,
        on_event: &mut impl FnMut(u64),
    ) {
        while let Some(end) = memchr(b'\n', bytes) {
            if self.line.is_empty() {
                self.take_line(&bytes[..end], counters, on_event);
            } else {
                let mut line = mem::take(&mut self.line);
                line.extend_from_slice(&bytes[..end]);
                self.take_line(&line, counters, on_event);
                line.clear();
                self.line = line;
            }
            bytes = &bytes[end + 1..];
        }
        // The rest of a very long line does not matter.
        let room = MAX_HEAD_BYTES.saturating_sub(self.line.len());
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn take_line(&mut self, line: &[u8], counters: &mut Counters, on_event: &mut impl FnMut(u64)) {
        if line.is_empty() || line == b"\r" {
            counters.events += u64::from(mem::take(&mut self.has_data));
            return;
        }
        self.has_data |= line.starts_with(b"data");
        let line = line
            .strip_prefix(LOAD_PREFIX)
            .or_else(|| line.strip_prefix(b"data: @"));
        let Some([publisher, sequence, time]) = line.and_then(numbers) else {
            return;
        };
        let Some(next) = usize::try_from(publisher)
            .ok()
            .and_then(|publisher| self.next.get_mut(publisher))
        else {
            return;
        };
        if sequence >= *next {
            counters.lost += sequence - *next;
            *next = sequence + 1;
        } else if sequence + 1 == *next {
            counters.duplicated += 1;
        } else {
            counters.out_of_order += 1;
        }
        on_event(time);
    }

    /// The number of events missing at the end, given the number of events of each publisher.
    pub(super) fn missing(&self, published: &[u64]) -> u64 {
        let pairs = published.iter().zip(&self.next);
        pairs
            .map(|(published, next)| published.saturating_sub(*next))
            .sum()
    }
}

/// The framing of the body and the length of the head. `None` while the head is not complete.
fn parse_head(head: &[u8]) -> Result<Option<(BodyState, usize)>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(head) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if head.len() <= MAX_HEAD_BYTES => return Ok(None),
        Ok(httparse::Status::Partial) => return Err("the head of the response is too large".into()),
        Err(error) => return Err(format!("the response is not HTTP: {error}")),
    };
    let status = response.code.unwrap_or_default();
    if status != 200 {
        return Err(format!("the server answered {status}"));
    }
    let value = |name: &str| {
        let mut found = response.headers.iter();
        let header = found.find(|header| header.name.eq_ignore_ascii_case(name))?;
        Some(String::from_utf8_lossy(header.value).to_ascii_lowercase())
    };
    let content_type = value("content-type").unwrap_or_default();
    if !content_type.starts_with("text/event-stream") {
        return Err(format!(
            "the response must have the content type text/event-stream, not {content_type:?}"
        ));
    }
    let chunked = value("transfer-encoding").is_some_and(|coding| coding.contains("chunked"));
    let body = if chunked {
        BodyState::Chunked(ChunkState::Size(0))
    } else {
        BodyState::Plain
    };
    Ok(Some((body, length)))
}

/// The first three numbers of a line, each followed by a space.
fn numbers(line: &[u8]) -> Option<[u64; 3]> {
    let mut numbers = [0_u64; 3];
    let mut at = 0;
    for number in &mut numbers {
        loop {
            let digit = line.get(at)?.wrapping_sub(b'0');
            at += 1;
            if digit > 9 {
                break;
            }
            *number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
        }
        if line[at - 1] != b' ' {
            return None;
        }
    }
    Some(numbers)
}

/// Appends the data of an event of the load: `size` bytes, or more if its numbers need more.
pub(super) fn write_data(
    out: &mut Vec<u8>,
    publisher: usize,
    sequence: u64,
    time: u64,
    size: usize,
) {
    let start = out.len();
    out.extend_from_slice(format!("@{publisher} {sequence} {time} ").as_bytes());
    let filler = size.saturating_sub(out.len() - start);
    out.resize(out.len() + filler, b'x');
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";

    /// Checks a stream of two publishers in pieces. Returns its counters and the times of events.
    fn take(pieces: &[&[u8]]) -> Result<(Counters, Vec<u64>, StreamChecker), String> {
        let mut stream = StreamChecker::new(2);
        let (mut counters, mut times) = (Counters::default(), Vec::new());
        for piece in pieces {
            stream.take(piece, &mut counters, &mut |time| times.push(time))?;
        }
        Ok((counters, times, stream))
    }

    fn event(publisher: usize, sequence: u64) -> String {
        let mut data = Vec::new();
        write_data(&mut data, publisher, sequence, 7, 20);
        assert_eq!(data.len(), 20);
        format!("data:{}\n\n", String::from_utf8(data).unwrap())
    }

    fn counters(events: u64, lost: u64, duplicated: u64, out_of_order: u64) -> Counters {
        Counters {
            events,
            lost,
            duplicated,
            out_of_order,
        }
    }

    #[test]
    fn lost_duplicated_and_out_of_order_events_are_counted() {
        for (sequences, expected, missing) in [
            (
                &[(0, 0), (0, 1), (1, 0), (0, 2)][..],
                counters(4, 0, 0, 0),
                1 + 3,
            ),
            (&[(0, 0), (0, 2), (0, 3)], counters(3, 1, 0, 0), 4),
            (&[(0, 1)], counters(1, 1, 0, 0), 2 + 4),
            (&[(0, 0), (0, 0), (0, 1)], counters(3, 0, 1, 0), 2 + 4),
            (&[(0, 0), (0, 1), (0, 0)], counters(3, 0, 0, 1), 2 + 4),
            (&[(7, 0)], counters(1, 0, 0, 0), 4 + 4),
        ] {
            let text: String = sequences.iter().map(|&(p, s)| event(p, s)).collect();
            let (found, _, stream) = take(&[HEAD.as_bytes(), text.as_bytes()]).unwrap();
            assert_eq!(found, expected, "{sequences:?}");
            assert_eq!(stream.missing(&[4, 4]), missing, "{sequences:?}");
        }
    }

    #[test]
    fn streams_are_read_with_any_framing_and_in_any_pieces() {
        let events = format!(
            "retry:5\n:\n\nid:1\n{}data: @1 0 9 x\r\n\r\ndata:other\n\nevent:x\n\n",
            event(0, 0)
        );
        let chunked: String = events
            .as_bytes()
            .chunks(7)
            .map(|chunk| {
                format!(
                    "{:X};a=b\r\n{}\r\n",
                    chunk.len(),
                    str::from_utf8(chunk).unwrap()
                )
            })
            .collect();
        let chunked_head = HEAD.replace("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n");
        for whole in [
            format!("{HEAD}{events}"),
            format!("{chunked_head}{chunked}0\r\n\r\n"),
        ] {
            let whole = whole.as_bytes();
            let bytewise: Vec<&[u8]> = whole.chunks(1).collect();
            let mut ways = vec![bytewise];
            ways.extend((0..whole.len()).map(|at| vec![&whole[..at], &whole[at..]]));
            for pieces in ways {
                let (found, times, stream) = take(&pieces).unwrap();
                assert_eq!((found, times), (counters(3, 0, 0, 0), vec![7, 9]));
                assert!(stream.is_open());
            }
        }
    }

    #[test]
    fn a_response_that_is_not_a_stream_is_an_error() {
        let endless = "x".repeat(MAX_HEAD_BYTES + 1);
        let endless = format!("HTTP/1.1 200 OK\r\nX: {endless}");
        for (answer, why) in [
            ("HTTP/1.1 503 No\r\n\r\n", "answered 503"),
            (
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n",
                "text/html",
            ),
            ("SSH-2.0\r\n\r\n", "not HTTP"),
            (&endless, "too large"),
        ] {
            let error = take(&[answer.as_bytes()]).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        assert!(!take(&[b"HTTP/1.1 200 OK\r\n"]).unwrap().2.is_open());
    }
}
