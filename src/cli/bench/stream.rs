//! One event stream of the load: from the bytes of its response to the checks of what it carries.
//!
//! Made for millions of events a second, so it decodes no more than it must: it finds the data lines that the load's publishers
//! wrote, each `data:@<publisher> <sequence number> <time> …`, and counts empty lines that end an event for all others.

use std::mem;

use memchr::memchr;

/// Bytes that the head of a response, and a line that matters here, may have.
const MAX_HEAD: usize = 64 << 10;
const MARK: &[u8] = b"data:@";

/// What the streams of one worker have brought.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) events: u64,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) out_of_order: u64,
}

/// Where in its response a stream is.
#[derive(Debug)]
enum Body {
    /// Its head has not come in full.
    Head(Vec<u8>),
    Plain,
    Chunked(Chunk),
}

/// Where in the framing of chunks.
#[derive(Debug)]
enum Chunk {
    /// In a chunk's size, which so far is this.
    Size(usize),
    /// In the rest of a size's line.
    Extension(usize),
    /// In its data, of which this is yet to come.
    Data(usize),
    /// In the line end after the data.
    LineEnd,
}

#[derive(Debug)]
pub(super) struct StreamChecker {
    body: Body,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    /// The event at hand has a data line, and it was the load's.
    has_data: bool,
    /// The sequence number that is due next, for each publisher.
    due: Vec<u64>,
}

impl StreamChecker {
    pub(super) fn new(publishers: usize) -> Self {
        Self {
            body: Body::Head(Vec::new()),
            line: Vec::new(),
            has_data: false,
            due: vec![0; publishers],
        }
    }

    /// Whether its head has come, and it is an event stream.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.body, Body::Head(_))
    }

    /// Takes what came; `latency` is told the time that each of the load's events carries.
    ///
    /// # Errors
    /// Why the response is no event stream.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        counters: &mut Counters,
        latency: &mut impl FnMut(u64),
    ) -> Result<(), String> {
        let Body::Head(head) = &mut self.body else {
            return self.take_body(bytes, counters, latency);
        };
        head.extend_from_slice(bytes);
        let Some((body, length)) = parse_head(head)? else {
            return Ok(());
        };
        let rest = head.split_off(length);
        self.body = body;
        self.take_body(&rest, counters, latency)
    }

    fn take_body(
        &mut self,
        mut bytes: &[u8],
        counters: &mut Counters,
        latency: &mut impl FnMut(u64),
    ) -> Result<(), String> {
        let mut chunk = match &mut self.body {
            Body::Chunked(chunk) => mem::replace(chunk, Chunk::LineEnd),
            _ => {
                self.take_lines(bytes, counters, latency);
                return Ok(());
            }
        };
        while let Some(&byte) = bytes.first() {
            let mut used = 1;
            chunk = match (chunk, byte) {
                (Chunk::Size(size), b'\r' | b';') => Chunk::Extension(size),
                (Chunk::Size(size), digit) => {
                    let digit = char::from(digit)
                        .to_digit(16)
                        .ok_or("its chunks are broken")?;
                    let size = size.checked_mul(16).ok_or("a chunk is too large")?;
                    Chunk::Size(size + digit as usize)
                }
                (Chunk::Extension(size), b'\n') => Chunk::Data(size),
                (Chunk::Extension(size), _) => Chunk::Extension(size),
                (Chunk::Data(left), _) => {
                    used = left.min(bytes.len());
                    self.take_lines(&bytes[..used], counters, latency);
                    match left - used {
                        0 => Chunk::LineEnd,
                        left => Chunk::Data(left),
                    }
                }
                (Chunk::LineEnd, b'\n') => Chunk::Size(0),
                (Chunk::LineEnd, _) => Chunk::LineEnd,
            };
            bytes = &bytes[used..];
        }
        self.body = Body::Chunked(chunk);
        Ok(())
    }

    fn take_lines(
        &mut self,
        mut bytes: &[u8],
        counters: &mut Counters,
        latency: &mut impl FnMut(u64),
    ) {
        while let Some(end) = memchr(b'\n', bytes) {
            if self.line.is_empty() {
                self.take_line(&bytes[..end], counters, latency);
            } else {
                let mut line = mem::take(&mut self.line);
                line.extend_from_slice(&bytes[..end]);
                self.take_line(&line, counters, latency);
                line.clear();
                self.line = line;
            }
            bytes = &bytes[end + 1..];
        }
        // All that matters is at a line's beginning.
        let room = MAX_HEAD.saturating_sub(self.line.len());
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn take_line(&mut self, line: &[u8], counters: &mut Counters, latency: &mut impl FnMut(u64)) {
        if line.is_empty() || line == b"\r" {
            counters.events += u64::from(mem::take(&mut self.has_data));
            return;
        }
        self.has_data |= line.starts_with(b"data");
        let line = line
            .strip_prefix(MARK)
            .or_else(|| line.strip_prefix(b"data: @"));
        let Some([publisher, sequence, time]) = line.and_then(numbers) else {
            return;
        };
        let Some(due) = usize::try_from(publisher)
            .ok()
            .and_then(|publisher| self.due.get_mut(publisher))
        else {
            return;
        };
        if sequence >= *due {
            counters.lost += sequence - *due;
            *due = sequence + 1;
        } else if sequence + 1 == *due {
            counters.duplicated += 1;
        } else {
            counters.out_of_order += 1;
        }
        latency(time);
    }

    /// Events that are missing at the end, when so many were published by each publisher.
    pub(super) fn missing(&self, published: &[u64]) -> u64 {
        let pairs = published.iter().zip(&self.due);
        pairs
            .map(|(published, due)| published.saturating_sub(*due))
            .sum()
    }
}

/// The body that a head announces and the head's length; `None` while it is not complete.
fn parse_head(head: &[u8]) -> Result<Option<(Body, usize)>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(head) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if head.len() <= MAX_HEAD => return Ok(None),
        Ok(httparse::Status::Partial) => return Err("the head of the answer is too large".into()),
        Err(error) => return Err(format!("the answer is no HTTP: {error}")),
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
            "the answer is no event stream but {content_type:?}"
        ));
    }
    let chunked = value("transfer-encoding").is_some_and(|coding| coding.contains("chunked"));
    let body = if chunked {
        Body::Chunked(Chunk::Size(0))
    } else {
        Body::Plain
    };
    Ok(Some((body, length)))
}

/// The first three numbers of a line, with a space after each.
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

/// The data of one of the load's events, as long as asked for if that is long enough.
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

    /// What a stream of two publishers makes of pieces: its counters, and the times told.
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
    fn streams_are_read_in_any_framing_and_any_pieces() {
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
    fn what_is_no_stream_says_why() {
        let endless = "x".repeat(MAX_HEAD + 1);
        let endless = format!("HTTP/1.1 200 OK\r\nX: {endless}");
        for (answer, why) in [
            ("HTTP/1.1 503 No\r\n\r\n", "answered 503"),
            (
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n",
                "text/html",
            ),
            ("SSH-2.0\r\n\r\n", "no HTTP"),
            (&endless, "too large"),
        ] {
            let error = take(&[answer.as_bytes()]).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        assert!(!take(&[b"HTTP/1.1 200 OK\r\n"]).unwrap().2.is_open());
    }
}
