//! Request bodies: from bytes as they arrive to the data in them.
//!
//! Owns the framing, a length or chunks, and its limits. Holds no data: what it reads is lent from the input, so a body of
//! any length passes through. Must not know how much data a request may carry or what it means.

use crate::http::Reject;
use crate::http::request::{BodyLength, is_text};

/// Bytes a chunk's size and extensions may have together, line end excepted.
pub const MAX_CHUNK_LINE_BYTES: usize = 256;

/// Hexadecimal digits a chunk's size may have, as many as 64 bits hold.
const MAX_SIZE_DIGITS: usize = 16;

/// Bytes that the trailers of a chunked body may have, with the empty line that ends them.
pub const MAX_TRAILER_BYTES: usize = 8 * 1024;

/// What one read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Bytes of the input that are dealt with, at least one unless the input is empty or the body done.
    pub consumed: usize,
    /// The data among them; may be empty.
    pub data: &'a [u8],
}

/// A place in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In a body of known length, so many bytes before its end; never 0.
    Fixed { left: u64 },
    /// In a chunk's size.
    Size { size: u64, digits: usize },
    /// In a chunk's extensions, which mean nothing here.
    Extension { size: u64, line_bytes: usize },
    /// After the CR of a chunk's first line.
    SizeLf { size: u64 },
    /// In a chunk's data, so many bytes before its end; never 0.
    Data { left: u64 },
    /// After a chunk's data, before the CR.
    DataCr,
    /// After a chunk's data, before the LF.
    DataLf,
    /// At the start of a trailer, or of the empty line that ends the body.
    TrailerStart,
    /// In a trailer.
    Trailer,
    /// After a trailer's CR; `empty` if nothing came before that.
    TrailerLf { empty: bool },
    /// After the body.
    Done,
}

/// Reads one body, a piece at a time.
#[derive(Debug)]
pub struct BodyReader {
    state: State,
    trailer_bytes: usize,
}

impl BodyReader {
    /// A reader for a body of this length; it is done at once if there is none.
    pub fn new(length: BodyLength) -> Self {
        let state = match length {
            BodyLength::Empty | BodyLength::Fixed(0) => State::Done,
            BodyLength::Fixed(left) => State::Fixed { left },
            BodyLength::Chunked => State::Size { size: 0, digits: 0 },
        };
        Self {
            state,
            trailer_bytes: 0,
        }
    }

    /// Whether the body is read to its end; what follows belongs to the next request.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Reads up to the end of the next piece of data, of the body, or of `input`, whichever comes first.
    ///
    /// # Errors
    /// The reason why these are no chunks; the connection has to end, for where the next request starts is unknown.
    pub fn read<'a>(&mut self, input: &'a [u8]) -> Result<Piece<'a>, Reject> {
        for (at, &byte) in input.iter().enumerate() {
            match self.state {
                State::Fixed { left } | State::Data { left } => {
                    return Ok(self.take_data(input, at, left));
                }
                State::Done => {
                    return Ok(Piece {
                        consumed: at,
                        data: &[],
                    });
                }
                framing => self.state = self.step(framing, byte)?,
            }
        }
        Ok(Piece {
            consumed: input.len(),
            data: &[],
        })
    }

    fn take_data<'a>(&mut self, input: &'a [u8], at: usize, left: u64) -> Piece<'a> {
        let data = &input[at..];
        let data = &data[..usize::try_from(left).map_or(data.len(), |left| left.min(data.len()))];
        let left = left - data.len() as u64;
        self.state = match self.state {
            State::Fixed { .. } if left == 0 => State::Done,
            State::Fixed { .. } => State::Fixed { left },
            _ if left == 0 => State::DataCr,
            _ => State::Data { left },
        };
        Piece {
            consumed: at + data.len(),
            data,
        }
    }

    /// One byte of framing. Lone CRs and LFs are refused: a lenient peer and a strict one would see different bodies.
    fn step(&mut self, state: State, byte: u8) -> Result<State, Reject> {
        let next = match (state, byte) {
            (State::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if digits == MAX_SIZE_DIGITS {
                    return Err(Reject::bad("chunk size is too large"));
                }
                State::Size {
                    size: size << 4 | u64::from(hex_value(byte)),
                    digits: digits + 1,
                }
            }
            (State::Size { size, digits: 1.. }, b'\r') => State::SizeLf { size },
            (
                State::Size {
                    size,
                    digits: digits @ 1..,
                },
                b';',
            ) => State::Extension {
                size,
                line_bytes: digits + 1,
            },
            (State::Extension { size, .. }, b'\r') => State::SizeLf { size },
            (State::Extension { size, line_bytes }, byte) if is_text(byte) => {
                if line_bytes == MAX_CHUNK_LINE_BYTES {
                    return Err(Reject::bad("chunk extension is too long"));
                }
                State::Extension {
                    size,
                    line_bytes: line_bytes + 1,
                }
            }
            (State::SizeLf { size: 0 }, b'\n') => State::TrailerStart,
            (State::SizeLf { size }, b'\n') => State::Data { left: size },
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { size: 0, digits: 0 },
            (State::TrailerStart | State::Trailer | State::TrailerLf { .. }, _) => {
                self.step_trailer(state, byte)?
            }
            _ => return Err(Reject::bad("malformed chunk")),
        };
        Ok(next)
    }

    fn step_trailer(&mut self, state: State, byte: u8) -> Result<State, Reject> {
        if self.trailer_bytes == MAX_TRAILER_BYTES {
            return Err(Reject::new(
                431,
                format!("trailers are longer than {MAX_TRAILER_BYTES} bytes"),
            ));
        }
        self.trailer_bytes += 1;
        match (state, byte) {
            (State::TrailerStart, b'\r') => Ok(State::TrailerLf { empty: true }),
            (State::Trailer, b'\r') => Ok(State::TrailerLf { empty: false }),
            (State::TrailerLf { empty: true }, b'\n') => Ok(State::Done),
            (State::TrailerLf { empty: false }, b'\n') => Ok(State::TrailerStart),
            (State::TrailerStart | State::Trailer, byte) if is_text(byte) => Ok(State::Trailer),
            _ => Err(Reject::bad("malformed trailer")),
        }
    }
}

/// The value of an ASCII hexadecimal digit.
fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What came of a body: its data and what was left behind it, `None` if it was not done, or the status.
    type Outcome = Result<Option<(Vec<u8>, Vec<u8>)>, u16>;

    fn feed(length: BodyLength, parts: &[&[u8]]) -> Outcome {
        let mut reader = BodyReader::new(length);
        let (mut data, mut rest) = (Vec::new(), Vec::new());
        for part in parts {
            let mut input = *part;
            while !input.is_empty() && !reader.is_done() {
                let piece = reader.read(input).map_err(|reject| reject.status)?;
                assert!(piece.consumed > 0);
                data.extend_from_slice(piece.data);
                input = &input[piece.consumed..];
            }
            rest.extend_from_slice(input);
        }
        Ok(reader.is_done().then_some((data, rest)))
    }

    /// Feeds `bytes` cut in two at every place, and byte by byte; every way must give the same.
    fn read(length: BodyLength, bytes: &[u8]) -> Outcome {
        let whole = feed(length, &[bytes]);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        let cuts = (0..=bytes.len()).map(|cut| vec![&bytes[..cut], &bytes[cut..]]);
        for parts in cuts.chain([single]) {
            assert_eq!(feed(length, &parts), whole, "{}", bytes.escape_ascii());
        }
        whole
    }

    #[test]
    fn a_fixed_body_ends_where_it_says() {
        for (length, bytes, expected) in [
            (BodyLength::Empty, "next", Some(("", "next"))),
            (BodyLength::Fixed(0), "next", Some(("", "next"))),
            (BodyLength::Fixed(3), "abcnext", Some(("abc", "next"))),
            (BodyLength::Fixed(3), "abc", Some(("abc", ""))),
            (BodyLength::Fixed(3), "ab", None),
            (BodyLength::Fixed(u64::MAX), "ab", None),
        ] {
            let expected = expected.map(|(data, rest)| (data.into(), rest.into()));
            assert_eq!(read(length, bytes.as_bytes()), Ok(expected), "{bytes}");
        }
    }

    #[test]
    fn chunks_come_together() {
        for (bytes, expected) in [
            ("0\r\n\r\nnext", Some(("", "next"))),
            ("3\r\nabc\r\n0\r\n\r\n", Some(("abc", ""))),
            (
                "3\r\nabc\r\n2\r\n\r\n\r\n000\r\n\r\nx",
                Some(("abc\r\n", "x")),
            ),
            ("A\r\n0123456789\r\n0\r\n\r\n", Some(("0123456789", ""))),
            (
                "a;x=\"y\";z\r\n0123456789\r\n0;\r\n\r\n",
                Some(("0123456789", "")),
            ),
            ("0000000000000003\r\nabc\r\n0\r\n\r\n", Some(("abc", ""))),
            ("0\r\nA: b\r\nC: d\r\n\r\nnext", Some(("", "next"))),
            ("ffffffffffffffff\r\nabc", None),
            ("3\r\nabc\r\n0\r\n", None),
            ("3\r\nabc", None),
            ("", None),
        ] {
            let expected = expected.map(|(data, rest)| (data.into(), rest.into()));
            assert_eq!(
                read(BodyLength::Chunked, bytes.as_bytes()),
                Ok(expected),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        for bytes in [
            "\r\n",
            ";x\r\n",
            "x\r\n",
            "0x3\r\nabc\r\n",
            "-1\r\n",
            "+3\r\n",
            " 3\r\n",
            "3 \r\n",
            "3\n",
            "3\rabc",
            "3;x\n",
            "3;\0\r\n",
            "3\r\nabcd",
            "3\r\nabc\n",
            "3\r\nabc\rx",
            "00000000000000003\r\n",
            "0\r\n\n",
            "0\r\n\rx",
            "0\r\nA: b\n",
            "0\r\nA: b\rC",
            "0\r\nA: \0\r\n",
        ] {
            let outcome = read(BodyLength::Chunked, bytes.as_bytes());
            assert_eq!(outcome, Err(400), "{bytes:?}");
        }
    }

    #[test]
    fn each_limit_is_exact() {
        let extension = |bytes| format!("0;{}\r\n\r\n", "x".repeat(bytes - 2));
        let trailers = |bytes| format!("0\r\nA:{}\r\n\r\n", "x".repeat(bytes - 6));
        for (body, expected) in [
            (extension(MAX_CHUNK_LINE_BYTES), Ok(())),
            (extension(MAX_CHUNK_LINE_BYTES + 1), Err(400)),
            (trailers(MAX_TRAILER_BYTES), Ok(())),
            (trailers(MAX_TRAILER_BYTES + 1), Err(431)),
            (
                "0\r\n".to_owned() + &"A\r\n".repeat(MAX_TRAILER_BYTES),
                Err(431),
            ),
        ] {
            let outcome = feed(BodyLength::Chunked, &[body.as_bytes()]);
            let done = outcome.map(|outcome| assert_eq!(outcome, Some((vec![], vec![]))));
            assert_eq!(done, expected);
        }
    }
}
