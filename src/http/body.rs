//! Request bodies: from bytes as they arrive to the data in them, framed by a length
//! ([RFC 9112, section 6]) or in chunks ([section 7.1]).
//!
//! Owns the framing and its limits. It holds no data: a piece borrows from the input, so a body of
//! any length passes through. It must not know how much data a request may carry or what the data
//! means.
//!
//! Line ends within the framing must be CR LF, and chunk extensions and trailers are limited and
//! ignored ([section 7.1.1], [section 7.1.2]).
//!
//! [RFC 9112, section 6]: https://www.rfc-editor.org/rfc/rfc9112#section-6
//! [section 7.1]: https://www.rfc-editor.org/rfc/rfc9112#section-7.1
//! [section 7.1.1]: https://www.rfc-editor.org/rfc/rfc9112#section-7.1.1
//! [section 7.1.2]: https://www.rfc-editor.org/rfc/rfc9112#section-7.1.2

use crate::http::Reject;
use crate::http::request::{BodyLength, is_text};

/// The limit of bytes in a chunk's size and extensions together, without the line end.
pub const MAX_CHUNK_LINE_BYTES: usize = 256;

/// The limit of hexadecimal digits in a chunk's size: 64 bits.
const MAX_SIZE_DIGITS: usize = 16;

/// The limit of bytes in the trailer section of a chunked body, with the empty line that ends it.
pub const MAX_TRAILER_BYTES: usize = 8 * 1024;

/// The result of one read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Bytes of the input that the reader consumed: at least one, unless the input is empty or the
    /// body is complete.
    pub consumed: usize,
    /// The data among these bytes; may be empty.
    pub data: &'a [u8],
}

/// The position of a reader in the framing of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// In a body of known length, `left` bytes before its end; never 0.
    Fixed { left: u64 },
    /// In a chunk's size.
    Size { size: u64, digits: usize },
    /// In a chunk's extensions.
    Extension { size: u64, line_bytes: usize },
    /// After the CR of a chunk's first line.
    SizeLf { size: u64 },
    /// In a chunk's data, `left` bytes before its end; never 0.
    Data { left: u64 },
    /// After a chunk's data, before the CR.
    DataCr,
    /// After a chunk's data, before the LF.
    DataLf,
    /// At the start of a trailer, or of the empty line that ends the body.
    TrailerStart,
    /// In a trailer.
    Trailer,
    /// After a trailer's CR; `empty` if the line consists of its line end alone.
    TrailerLf { empty: bool },
    /// After the body.
    Done,
}

/// Reads one body, a piece at a time.
#[derive(Debug)]
pub struct BodyReader {
    framing: Framing,
    trailer_bytes: usize,
}

impl BodyReader {
    /// Creates a reader for a body of this length. Without a body, the reader is done at once.
    pub fn new(length: BodyLength) -> Self {
        let framing = match length {
            BodyLength::Empty | BodyLength::Fixed(0) => Framing::Done,
            BodyLength::Fixed(left) => Framing::Fixed { left },
            BodyLength::Chunked => Framing::Size { size: 0, digits: 0 },
        };
        Self {
            framing,
            trailer_bytes: 0,
        }
    }

    /// Whether the body is complete. Further bytes belong to the next request.
    pub fn is_done(&self) -> bool {
        self.framing == Framing::Done
    }

    /// Reads up to the end of the next piece of data, of the body, or of `input`, whichever comes
    /// first.
    ///
    /// # Errors
    /// A [`Reject`] if the chunks are malformed. Then the connection has to end, since the start of
    /// the next request is unknown.
    pub fn read<'a>(&mut self, input: &'a [u8]) -> Result<Piece<'a>, Reject> {
        for (at, &byte) in input.iter().enumerate() {
            match self.framing {
                Framing::Fixed { left } | Framing::Data { left } => {
                    return Ok(self.take_data(input, at, left));
                }
                Framing::Done => {
                    return Ok(Piece {
                        consumed: at,
                        data: &[],
                    });
                }
                framing => self.framing = self.step(framing, byte)?,
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
        self.framing = match self.framing {
            Framing::Fixed { .. } if left == 0 => Framing::Done,
            Framing::Fixed { .. } => Framing::Fixed { left },
            _ if left == 0 => Framing::DataCr,
            _ => Framing::Data { left },
        };
        Piece {
            consumed: at + data.len(),
            data,
        }
    }

    /// Takes one byte of framing.
    ///
    /// A lone CR or LF is refused. [RFC 9112, section 2.2] lets a recipient accept a lone LF, but
    /// then this server and a strict proxy could see different bodies.
    ///
    /// [RFC 9112, section 2.2]: https://www.rfc-editor.org/rfc/rfc9112#section-2.2
    fn step(&mut self, framing: Framing, byte: u8) -> Result<Framing, Reject> {
        let next = match (framing, byte) {
            (Framing::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if digits == MAX_SIZE_DIGITS {
                    return Err(Reject::bad(format!(
                        "chunk size exceeds the maximum of {MAX_SIZE_DIGITS} digits"
                    )));
                }
                Framing::Size {
                    size: size << 4 | u64::from(hex_value(byte)),
                    digits: digits + 1,
                }
            }
            (Framing::Size { size, digits: 1.. }, b'\r') => Framing::SizeLf { size },
            (
                Framing::Size {
                    size,
                    digits: digits @ 1..,
                },
                b';',
            ) => Framing::Extension {
                size,
                line_bytes: digits + 1,
            },
            (Framing::Extension { size, .. }, b'\r') => Framing::SizeLf { size },
            (Framing::Extension { size, line_bytes }, byte) if is_text(byte) => {
                if line_bytes == MAX_CHUNK_LINE_BYTES {
                    return Err(Reject::bad(format!(
                        "chunk line exceeds the maximum of {MAX_CHUNK_LINE_BYTES} bytes"
                    )));
                }
                Framing::Extension {
                    size,
                    line_bytes: line_bytes + 1,
                }
            }
            (Framing::SizeLf { size: 0 }, b'\n') => Framing::TrailerStart,
            (Framing::SizeLf { size }, b'\n') => Framing::Data { left: size },
            (Framing::DataCr, b'\r') => Framing::DataLf,
            (Framing::DataLf, b'\n') => Framing::Size { size: 0, digits: 0 },
            (Framing::TrailerStart | Framing::Trailer | Framing::TrailerLf { .. }, _) => {
                self.step_trailer(framing, byte)?
            }
            _ => return Err(Reject::bad("malformed chunk")),
        };
        Ok(next)
    }

    fn step_trailer(&mut self, framing: Framing, byte: u8) -> Result<Framing, Reject> {
        if self.trailer_bytes == MAX_TRAILER_BYTES {
            return Err(Reject::new(
                431,
                format!("trailers exceed the maximum of {MAX_TRAILER_BYTES} bytes"),
            ));
        }
        self.trailer_bytes += 1;
        match (framing, byte) {
            (Framing::TrailerStart, b'\r') => Ok(Framing::TrailerLf { empty: true }),
            (Framing::Trailer, b'\r') => Ok(Framing::TrailerLf { empty: false }),
            (Framing::TrailerLf { empty: true }, b'\n') => Ok(Framing::Done),
            (Framing::TrailerLf { empty: false }, b'\n') => Ok(Framing::TrailerStart),
            (Framing::TrailerStart | Framing::Trailer, byte) if is_text(byte) => {
                Ok(Framing::Trailer)
            }
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

    /// The data of a body and the bytes after it, `None` if the body is incomplete, or the status
    /// of a refusal.
    type Parsed = Result<Option<(Vec<u8>, Vec<u8>)>, u16>;

    fn feed(length: BodyLength, parts: &[&[u8]]) -> Parsed {
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

    /// Feeds `bytes` whole, cut in two at every offset, and byte by byte; all must give the same
    /// result.
    fn read(length: BodyLength, bytes: &[u8]) -> Parsed {
        let whole = feed(length, &[bytes]);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        let cuts = (0..=bytes.len()).map(|cut| vec![&bytes[..cut], &bytes[cut..]]);
        for parts in cuts.chain([single]) {
            assert_eq!(feed(length, &parts), whole, "{}", bytes.escape_ascii());
        }
        whole
    }

    #[test]
    fn a_fixed_body_ends_after_its_length() {
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
    fn chunks_are_joined() {
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
    fn malformed_chunks_are_refused() {
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
            let parsed = read(BodyLength::Chunked, bytes.as_bytes());
            assert_eq!(parsed, Err(400), "{bytes:?}");
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
            let parsed = feed(BodyLength::Chunked, &[body.as_bytes()]);
            let done = parsed.map(|parsed| assert_eq!(parsed, Some((vec![], vec![]))));
            assert_eq!(done, expected);
        }
    }
}
