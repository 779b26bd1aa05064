//! Decoding: from the bytes of an event stream, in pieces of any size, to its events.
//!
//! Owns the WHATWG algorithm for interpreting an event stream (section 9.2.6 of the
//! [specification]) and the limits on what it buffers. It knows nothing of HTTP or of connections.
//! The caller reads, waits and reconnects.
//!
//! [specification]: https://html.spec.whatwg.org/multipage/server-sent-events.html

use std::fmt;
use std::mem;
use std::time::Duration;

/// The limit of [`Decoder::new`]: 16 MiB.
const DEFAULT_MAX_EVENT_BYTES: usize = 16 << 20;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// An event as a subscriber receives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEvent {
    /// The event type; `message` if the stream has none.
    pub event_type: String,
    /// The data, with its lines joined by LF.
    pub data: String,
    /// The last event ID after this event, which this or an earlier event has set; empty if none
    /// has.
    pub last_event_id: String,
}

/// An item that a [`Decoder`] finds in an event stream.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decoded {
    /// A complete event.
    Event(StreamEvent),
    /// A new reconnection time. It takes effect at once, even if the event around it stays
    /// incomplete.
    Retry(Duration),
    /// A comment: the text after its colon. It is meaningless, but shows that the connection is
    /// alive.
    Comment(String),
}

/// The reason why a [`Decoder`] has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// A line, or the data of an event, has more bytes than the limit here.
    TooLarge(usize),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(limit) => write!(
                f,
                "a line or an event of the event stream exceeds the maximum of {limit} bytes"
            ),
        }
    }
}

impl std::error::Error for DecodeError {}

/// A decoder of event streams, as specified by WHATWG.
///
/// The result does not depend on how the stream is split into pieces, and each byte is examined
/// once. An event without an empty line at its end is never reported.
///
/// ```
/// use fanfare::{Decoded, Decoder};
///
/// let mut decoder = Decoder::new();
/// let mut data = Vec::new();
/// for piece in [&b"id:7\nda"[..], b"ta:Corgi\n", b"\n:incomplete"] {
///     decoder.push(piece, &mut |decoded| {
///         if let Decoded::Event(event) = decoded {
///             data.push(event.data);
///         }
///     })?;
/// }
/// assert_eq!(data, ["Corgi"]);
/// assert_eq!(decoder.last_event_id(), "7");
/// # Ok::<(), fanfare::DecodeError>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    max_event_bytes: usize,
    /// The beginning of an incomplete line. A line that arrives in one piece is not copied here.
    line: Vec<u8>,
    /// Whether the last piece ended with CR. Then an LF at the start of the next one belongs to the
    /// same line end.
    after_cr: bool,
    /// Whether no line has ended yet. The first line may begin with a byte order mark.
    at_start: bool,
    /// Whether the limit was exceeded. Then the rest of the large line or event cannot be
    /// distinguished from what follows.
    failed: bool,
    /// The data buffer: the lines of the event so far, each with an LF.
    data: String,
    /// The event type buffer.
    event_type: String,
    /// The last event ID buffer, which outlives the event that sets it.
    id_buffer: String,
    /// The last event ID: the value of the buffer when the last event was complete.
    last_event_id: String,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// Creates a decoder for the beginning of a stream, with a limit of 16 MiB.
    pub fn new() -> Self {
        Self::with_limit(DEFAULT_MAX_EVENT_BYTES)
    }

    /// Creates a decoder with a limit of `max_event_bytes`, which applies to a line with its field
    /// name, and to the data of an event.
    pub fn with_limit(max_event_bytes: usize) -> Self {
        Self {
            max_event_bytes,
            line: Vec::new(),
            after_cr: false,
            at_start: true,
            failed: false,
            data: String::new(),
            event_type: String::new(),
            id_buffer: String::new(),
            last_event_id: String::new(),
        }
    }

    /// Sets the last event ID for a stream that resumes after the event with this ID.
    ///
    /// The stream keeps it until it sets another one.
    #[must_use = "it returns the changed decoder"]
    pub fn resuming(mut self, last_event_id: &str) -> Self {
        last_event_id.clone_into(&mut self.id_buffer);
        last_event_id.clone_into(&mut self.last_event_id);
        self
    }

    /// Takes the next bytes of the stream and passes the items that they complete to `out`, in
    /// order.
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`] if a line or event exceeds the limit. `out` has then received
    /// every item before it. Each later call returns the same error.
    pub fn push(&mut self, bytes: &[u8], out: &mut impl FnMut(Decoded)) -> Result<(), DecodeError> {
        if self.failed {
            return Err(DecodeError::TooLarge(self.max_event_bytes));
        }
        let result = self.split(bytes, out);
        self.failed = result.is_err();
        result
    }

    /// The last event ID, which a client sends as `Last-Event-ID` when it reconnects. An incomplete
    /// event does not change it.
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    fn split(
        &mut self,
        mut bytes: &[u8],
        out: &mut impl FnMut(Decoded),
    ) -> Result<(), DecodeError> {
        if self.after_cr && !bytes.is_empty() {
            self.after_cr = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(end) = line_end(bytes) {
            let (line, rest) = bytes.split_at(end);
            if self.line.is_empty() {
                self.check(line.len())?;
                self.take_line(line, out)?;
            } else {
                self.keep(line)?;
                let mut line = mem::take(&mut self.line);
                self.take_line(&line, out)?;
                line.clear();
                self.line = line; // The next line reuses the memory.
            }
            // A CR ends its line at once. Waiting for an LF would delay a complete event.
            self.after_cr = rest == b"\r";
            let end_bytes = if rest.starts_with(b"\r\n") { 2 } else { 1 };
            bytes = &rest[end_bytes..];
        }
        self.keep(bytes)
    }

    /// Buffers a part of a line.
    fn keep(&mut self, part: &[u8]) -> Result<(), DecodeError> {
        self.check(self.line.len() + part.len())?;
        self.line.extend_from_slice(part);
        Ok(())
    }

    fn check(&self, bytes: usize) -> Result<(), DecodeError> {
        if bytes > self.max_event_bytes {
            return Err(DecodeError::TooLarge(self.max_event_bytes));
        }
        Ok(())
    }

    fn take_line(
        &mut self,
        mut line: &[u8],
        out: &mut impl FnMut(Decoded),
    ) -> Result<(), DecodeError> {
        if mem::take(&mut self.at_start) {
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        if line.is_empty() {
            self.dispatch(out);
            return Ok(());
        }
        let (field, value) = match line.iter().position(|&byte| byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &[][..]),
        };
        if field.is_empty() {
            out(Decoded::Comment(lossy(value)));
            return Ok(());
        }
        self.take_field(field, value.strip_prefix(b" ").unwrap_or(value), out)
    }

    fn take_field(
        &mut self,
        field: &[u8],
        value: &[u8],
        out: &mut impl FnMut(Decoded),
    ) -> Result<(), DecodeError> {
        match field {
            b"data" => {
                let value = String::from_utf8_lossy(value);
                // The previous line already has the LF that joins it to this one.
                self.check(self.data.len() + value.len())?;
                self.data.reserve(value.len() + 1);
                self.data.push_str(&value);
                self.data.push('\n');
            }
            b"event" => self.event_type = lossy(value),
            b"id" if !value.contains(&0) => self.id_buffer = lossy(value),
            b"retry" => {
                if let Some(reconnection_time) = milliseconds(value) {
                    out(Decoded::Retry(reconnection_time));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self, out: &mut impl FnMut(Decoded)) {
        // The ID applies even without data, and therefore without an event.
        self.last_event_id.clone_from(&self.id_buffer);
        let mut event_type = mem::take(&mut self.event_type);
        let mut data = mem::take(&mut self.data);
        if data.pop().is_none() {
            return;
        }
        if event_type.is_empty() {
            event_type.push_str("message");
        }
        out(Decoded::Event(StreamEvent {
            event_type,
            data,
            last_event_id: self.last_event_id.clone(),
        }));
    }
}

/// The index of the first CR or LF.
fn line_end(bytes: &[u8]) -> Option<usize> {
    let is_end = |byte: u8| (byte == b'\n') | (byte == b'\r');
    // A block without an early exit compiles to vector instructions; a search byte by byte does
    // not.
    let (blocks, _) = bytes.as_chunks::<32>();
    let clear_blocks = blocks
        .iter()
        .take_while(|block| {
            !block
                .iter()
                .fold(false, |found, &byte| found | is_end(byte))
        })
        .count();
    let clear = clear_blocks * 32;
    let end = bytes[clear..].iter().position(|&byte| is_end(byte))?;
    Some(clear + end)
}

/// Decodes a complete value, so that no character is split between two pieces.
fn lossy(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

/// Parses a number of ASCII digits alone; `None` also if it exceeds 64 bits.
fn milliseconds(value: &[u8]) -> Option<Duration> {
    if !value.iter().all(u8::is_ascii_digit) {
        return None; // `parse` accepts a sign.
    }
    let value = str::from_utf8(value).ok()?;
    value.parse().ok().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes the pieces with a new decoder. An event becomes `type|data|id`, and other items
    /// their text in the stream.
    fn decode<'a>(
        limit: usize,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> (Vec<String>, String, Result<(), DecodeError>) {
        let mut decoder = Decoder::with_limit(limit);
        let mut found = Vec::new();
        let mut result = Ok(());
        for piece in pieces {
            result = decoder.push(piece, &mut |decoded| {
                found.push(match decoded {
                    Decoded::Event(e) => format!("{}|{}|{}", e.event_type, e.data, e.last_event_id),
                    Decoded::Retry(time) => format!("retry:{}", time.as_millis()),
                    Decoded::Comment(text) => format!(":{text}"),
                });
            });
        }
        (found, decoder.last_event_id().to_owned(), result)
    }

    /// Decodes whole, byte by byte, and cut in two at every offset; asserts that all results agree.
    fn decode_every_way(
        limit: usize,
        stream: &[u8],
    ) -> (Vec<String>, String, Result<(), DecodeError>) {
        let whole = decode(limit, [stream]);
        assert_eq!(
            decode(limit, stream.chunks(1)),
            whole,
            "{:?}",
            stream.escape_ascii()
        );
        for cut in 0..=stream.len() {
            let (head, tail) = stream.split_at(cut);
            let cut_in_two = decode(limit, [head, &[], tail]);
            assert_eq!(cut_in_two, whole, "{:?} at {cut}", stream.escape_ascii());
        }
        whole
    }

    #[test]
    fn streams_are_interpreted_as_specified_in_pieces_of_any_size() {
        let rows: &[(&[u8], &[&str])] = &[
            // An event needs data and an empty line after it.
            (b"", &[]),
            (b"\n\r\r\n\n", &[]),
            (b"data:x", &[]),
            (b"data:x\n", &[]),
            (b"data:x\r\n", &[]),
            (b"event:a\n\ndata:x\n\n", &["message|x|"]),
            (b"data:a\n\ndata:b", &["message|a|"]),
            // Data.
            (b"data:\n\n", &["message||"]),
            (b"data\n\n", &["message||"]),
            (
                b"data:\n\ndata\ndata\n\ndata:x\n\n",
                &["message||", "message|\n|", "message|x|"],
            ),
            (b"data:a\ndata:b\n\n", &["message|a\nb|"]),
            (b"data:a\ndata:\ndata\n\n", &["message|a\n\n|"]),
            (b"data:\0\n\n\n\n", &["message|\0|"]),
            (b"data:a:b: c\n\n", &["message|a:b: c|"]),
            // One leading space is removed, and no other white space.
            (b"data: x\n\n", &["message|x|"]),
            (b"data:  x \n\n", &["message| x |"]),
            (b"data:\tx\rdata: \ndata:y\n\n", &["message|\tx\n\ny|"]),
            (b"event: a\nid: 1\ndata:x\n\n", &["a|x|1"]),
            // Line ends of all kinds, mixed.
            (b"data:a\n\ndata:b\n\n", &["message|a|", "message|b|"]),
            (b"data:a\r\rdata:b\r\r", &["message|a|", "message|b|"]),
            (
                b"data:a\r\n\r\ndata:b\r\n\r\n",
                &["message|a|", "message|b|"],
            ),
            (b"data:a\r\ndata\ndata:b\r\n\r\n", &["message|a\n\nb|"]),
            (b"data:a\n\rdata:b\r\n\r", &["message|a|", "message|b|"]),
            (b"data:a\r\n\n\rdata:b\n\r\n", &["message|a|", "message|b|"]),
            (
                "data:a\u{85}b\u{2028}c\x0b\x0c\n\n".as_bytes(),
                &["message|a\u{85}b\u{2028}c\x0b\x0c|"],
            ),
            // Byte order marks: one, complete, at the beginning.
            (b"\xEF\xBB\xBFdata:x\n\n", &["message|x|"]),
            (b"\xEF\xBB\xBF\n\xEF\xBB\xBFdata:x\n\n", &[]),
            (
                b"\xEF\xBB\xBFdata:1\n\n\xEF\xBB\xBFdata:2\n\ndata:3\n\n",
                &["message|1|", "message|3|"],
            ),
            (
                b"\xEF\xBB\xBF\xEF\xBB\xBFdata:1\n\ndata:2\n\n",
                &["message|2|"],
            ),
            (b"\xEF\xBBdata:1\n\ndata:2\n\n", &["message|2|"]),
            (b"\xFE\xFFdata:1\n\ndata:2\n\n", &["message|2|"]),
            (b"data:\xEF\xBB\xBFx\n\n", &["message|\u{FEFF}x|"]),
            (b"\xEF\xBB\xBF:c\n", &[":c"]),
            // Comments neither make nor split an event.
            (b":\n\n", &[":"]),
            (b": two  \n", &[": two  "]),
            (b":unfinished", &[]),
            (
                b"data:1\r:\0\n:\r\ndata:2\n:data:no\rdata:3\n\n",
                &[":\0", ":", ":data:no", "message|1\n2\n3|"],
            ),
            // Event types.
            (b"event:a\ndata:x\n\ndata:y\n\n", &["a|x|", "message|y|"]),
            (b"event: \ndata:x\n\n", &["message|x|"]),
            (b"event\ndata:x\n\n", &["message|x|"]),
            (b"event:a\nevent:b\ndata:x\n\n", &["b|x|"]),
            (b"event:a\nevent\ndata:x\n\n", &["message|x|"]),
            // Last event IDs: kept until another one, and cleared by an empty one.
            (
                b"id:1\ndata:x\n\ndata:y\n\nid:2\ndata:z\n\n",
                &["message|x|1", "message|y|1", "message|z|2"],
            ),
            (
                b"id:1\ndata:x\n\nid\ndata:y\n\nid:\ndata:z\n\n",
                &["message|x|1", "message|y|", "message|z|"],
            ),
            (b"data:x\nid:1\n\n", &["message|x|1"]),
            (b"id:1\n\ndata:x\n\n", &["message|x|1"]),
            (
                b"id:1\ndata:x\n\nid:2\0\ndata:y\n\n",
                &["message|x|1", "message|y|1"],
            ),
            (b"id:\0\ndata:x\n\n", &["message|x|"]),
            ("id:…\ndata:x\n\n".as_bytes(), &["message|x|…"]),
            // Reconnection times: digits only, at once.
            (b"retry:3000\n", &["retry:3000"]),
            (b"retry: 0010\ndata:x\n\n", &["retry:10", "message|x|"]),
            (b"retry:0\n", &["retry:0"]),
            (b"retry:1000\nretry:1000x\nretry:x\n", &["retry:1000"]),
            (b"retry\nretry:\nretry: \n", &[]),
            (b"retry:+5\nretry:-5\nretry:1.5\nretry:5 \nretry:  5\n", &[]),
            (b"retry:\xD9\xA3\n", &[]),
            (
                b"retry:18446744073709551615\n",
                &["retry:18446744073709551615"],
            ),
            (
                b"retry:18446744073709551616\nretry:99999999999999999999999\n",
                &[],
            ),
            // Unknown fields: names must match exactly.
            (
                b"data:\0\ndata:  2\rData:1\ndata\0:2\ndata:1\r\0data:4\nda-ta:3\rdata_5\n\
                  data:3\rdata:\r\n data:32\ndata:4\n\n",
                &["message|\0\n 2\n1\n3\n\n4|"],
            ),
            (
                b"data:x\n data\ndata \ndata : y\ndatadata:z\nfoobar:xxx\njustsometext\n\n",
                &["message|x|"],
            ),
            (b"Event:a\nID:1\nRetry:5\ndata:x\n\n", &["message|x|"]),
            // Bytes that are not UTF-8 affect only their own line.
            ("data:ü€🎺\n\n".as_bytes(), &["message|ü€🎺|"]),
            (b"data:\xFFa\xC3\n\n", &["message|\u{FFFD}a\u{FFFD}|"]),
            (
                b"data:\xE2\x82\ndata:\xAC\n\n",
                &["message|\u{FFFD}\n\u{FFFD}|"],
            ),
            (
                b"event:\xFF\nid:\xFF\ndata:x\n\n:\xFF\n",
                &["\u{FFFD}|x|\u{FFFD}", ":\u{FFFD}"],
            ),
        ];
        for (stream, expected) in rows {
            let (found, _, result) = decode_every_way(usize::MAX, stream);
            assert_eq!(found, *expected, "{:?}", stream.escape_ascii());
            assert_eq!(result, Ok(()));
        }
    }

    #[test]
    fn the_last_event_id_changes_when_an_event_is_complete() {
        for (stream, id) in [
            ("id:1\ndata:x\n", ""),
            ("id:1\ndata:x\n\nid:2\ndata:y\n", "1"),
            ("id:1\n\n", "1"),
            ("id:1\n\nid\n", "1"),
            ("id:1\n\nid\n\n", ""),
        ] {
            let (_, last_event_id, _) = decode_every_way(usize::MAX, stream.as_bytes());
            assert_eq!(last_event_id, id, "{stream:?}");
        }
    }

    #[test]
    fn a_resumed_stream_keeps_the_last_event_id_until_it_sets_another() {
        let mut decoder = Decoder::new().resuming("7");
        assert_eq!(decoder.last_event_id(), "7");
        let mut ids = Vec::new();
        let stream = b"\ndata:x\n\nid:8\ndata:y\n\nid\ndata:z\n\n";
        let taken = decoder.push(stream, &mut |decoded| {
            if let Decoded::Event(event) = decoded {
                ids.push(event.last_event_id);
            }
        });
        assert_eq!(
            (taken, ids),
            (Ok(()), vec!["7".into(), "8".into(), String::new()])
        );
    }

    #[test]
    fn the_limit_is_exact_and_final() {
        let too_large = Err(DecodeError::TooLarge(8));
        for (stream, events, result) in [
            ("data:abc\n\n", 1, Ok(())),
            ("data:abcd\n\n", 0, too_large),
            ("data:a\n\ndata:abcd\n\ndata:b\n\n", 1, too_large),
            (":1234567\n", 1, Ok(())),
            (":12345678", 0, too_large),
            ("unfinished", 0, too_large),
            // Two lines and the LF between them are eight bytes.
            ("data:abc\ndata:bc\ndata:\n\n", 1, Ok(())),
            ("data:abc\ndata:bcd\ndata:\n\n", 1, Ok(())),
            ("data:abc\ndata:bcd\ndata:a\n\n", 0, too_large),
            ("data:abc\ndata:bcd\ndata:\ndata:\n\n", 0, too_large),
        ] {
            let (found, _, outcome) = decode_every_way(8, stream.as_bytes());
            assert_eq!((found.len(), outcome), (events, result), "{stream:?}");
        }
    }

    #[test]
    fn line_ends_are_found_at_every_offset() {
        for length in 0..100 {
            let mut bytes = vec![b'x'; length];
            assert_eq!(line_end(&bytes), None);
            for at in (0..length).rev() {
                bytes[at] = if at % 2 == 0 { b'\r' } else { b'\n' };
                assert_eq!(line_end(&bytes), Some(at), "of {length}");
            }
        }
    }
}
