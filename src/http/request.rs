//! Request heads: from bytes as they arrive to a checked [`RequestHead`] ([RFC 9112]).
//!
//! Owns the bytes of a connection that are not yet consumed, and every rule about a head: its size,
//! its syntax, its `Host`, and the length of the body that follows. It must not know what a path
//! means (`route` does) or what bodies hold.
//!
//! # Strictness
//! Where the specification lets a recipient be lenient, the reader refuses, so that no proxy in
//! front of the server can read the same bytes as another request ([section 11.2]). It refuses
//! - a lone CR or LF as a line end ([section 2.2]);
//! - a missing, repeated or invalid `Host` ([section 3.2]);
//! - white space before the colon of a header ([section 5.1]), and folded headers ([section 5.2]);
//! - `Transfer-Encoding` with HTTP/1.0 ([section 6.1]);
//! - two headers that could give the length of the body ([section 6.3]).
//!
//! [RFC 9112]: https://www.rfc-editor.org/rfc/rfc9112
//! [section 2.2]: https://www.rfc-editor.org/rfc/rfc9112#section-2.2
//! [section 3.2]: https://www.rfc-editor.org/rfc/rfc9112#section-3.2
//! [section 5.1]: https://www.rfc-editor.org/rfc/rfc9112#section-5.1
//! [section 5.2]: https://www.rfc-editor.org/rfc/rfc9112#section-5.2
//! [section 6.1]: https://www.rfc-editor.org/rfc/rfc9112#section-6.1
//! [section 6.3]: https://www.rfc-editor.org/rfc/rfc9112#section-6.3
//! [section 11.2]: https://www.rfc-editor.org/rfc/rfc9112#section-11.2

use core::net::Ipv6Addr;
use std::fmt;

use crate::http::{Progress, Reject};

/// The limit of bytes in a head, from the method to the empty line that ends it.
pub const MAX_HEAD_BYTES: usize = 8 * 1024;

/// The limit of header lines in a head.
pub const MAX_HEADERS: usize = 64;

/// Empty lines that are skipped before a request line (RFC 9112, section 2.2): some clients send a
/// line end after a body that its length does not count.
const MAX_EMPTY_LINES: u8 = 2;

/// The capacity that an empty reader may keep.
///
/// It suffices for most requests, so a busy connection does not allocate for each one. A larger
/// buffer is freed, since idle connections are many.
const KEPT_BYTES: usize = 4 * 1024;

/// The length of the body that follows a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// No body.
    Empty,
    /// This number of bytes, at least one.
    Fixed(u64),
    /// The sum of its chunks (RFC 9112, section 7.1).
    Chunked,
}

/// A range in the bytes of a head; [`MAX_HEAD_BYTES`] fits into its offsets.
#[derive(Clone, Copy)]
struct ByteRange {
    start: u16,
    end: u16,
}

impl ByteRange {
    /// The range of `part`, a slice of `whole`.
    fn of(part: &[u8], whole: &[u8]) -> Self {
        // httparse returns slices of its input, except that an empty value may lie elsewhere.
        if part.is_empty() {
            return Self { start: 0, end: 0 };
        }
        let start = part.as_ptr() as usize - whole.as_ptr() as usize;
        Self {
            start: start as u16,
            end: (start + part.len()) as u16,
        }
    }
}

/// A checked request head.
///
/// It holds the bytes once, and ranges for the parts.
#[derive(Clone)]
pub struct RequestHead {
    bytes: Box<[u8]>,
    headers: Box<[(ByteRange, ByteRange)]>,
    method: ByteRange,
    target: ByteRange,
    http_10: bool,
    body: BodyLength,
}

impl RequestHead {
    /// The method as sent. Methods are case-sensitive ([RFC 9110, section 9.1]).
    ///
    /// [RFC 9110, section 9.1]: https://www.rfc-editor.org/rfc/rfc9110#section-9.1
    pub fn method(&self) -> &str {
        self.text(self.method)
    }

    /// The request target as sent ([RFC 9112, section 3.2]).
    ///
    /// [RFC 9112, section 3.2]: https://www.rfc-editor.org/rfc/rfc9112#section-3.2
    pub fn target(&self) -> &str {
        self.text(self.target)
    }

    /// The raw path: the target up to the first `?`, with its percent escapes.
    ///
    /// Of an absolute target it is the path alone. `*`, which only `OPTIONS` can have, stays `*`.
    pub fn path(&self) -> &str {
        let path = self.split_target().1;
        if path.is_empty() { "/" } else { path }
    }

    /// The raw query: the target after the first `?`; empty if it has none.
    pub fn query(&self) -> &str {
        self.split_target().2
    }

    /// The host that the request is for, `host[:port]`: the authority of an absolute target,
    /// otherwise the header `Host` ([RFC 9112, section 3.3]).
    ///
    /// `None` only for an HTTP/1.0 request.
    ///
    /// [RFC 9112, section 3.3]: https://www.rfc-editor.org/rfc/rfc9112#section-3.3
    pub fn host(&self) -> Option<&str> {
        self.split_target().0.or_else(|| self.header("host"))
    }

    /// Whether the peer speaks HTTP/1.0.
    pub fn is_http_10(&self) -> bool {
        self.http_10
    }

    /// The value of the first header of this name, in any case.
    ///
    /// A value that is not UTF-8 counts as absent. Where that would be unsafe, use
    /// [`Self::headers`].
    pub fn header(&self, name: &str) -> Option<&str> {
        let value = self.values(name).next()?;
        std::str::from_utf8(value).ok()
    }

    /// All headers in order. Values come without the white space around them.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers
            .iter()
            .map(|&(name, value)| (self.text(name), self.slice(value)))
    }

    /// The values of all headers of this name, in any case.
    pub fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers()
            .filter(move |(given, _)| given.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// Whether the connection may serve another request after this one ([RFC 9112, section 9.3]).
    ///
    /// [RFC 9112, section 9.3]: https://www.rfc-editor.org/rfc/rfc9112#section-9.3
    pub fn keep_alive(&self) -> bool {
        let says = |option: &str| {
            self.values("connection")
                .flat_map(|value| value.split(|&byte| byte == b','))
                .any(|given| given.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
        };
        !says("close") && (!self.http_10 || says("keep-alive"))
    }

    /// The length of the body.
    pub fn body_length(&self) -> BodyLength {
        self.body
    }

    /// Whether a body follows.
    pub fn has_body(&self) -> bool {
        self.body != BodyLength::Empty
    }

    /// The number of bytes of the body; `None` if it is chunked.
    pub fn fixed_length(&self) -> Option<u64> {
        match self.body {
            BodyLength::Empty => Some(0),
            BodyLength::Fixed(length) => Some(length),
            BodyLength::Chunked => None,
        }
    }

    /// Whether the client waits for `100 Continue` before it sends the body ([RFC 9110, section
    /// 10.1.1]).
    ///
    /// [RFC 9110, section 10.1.1]: https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1
    pub fn expects_continue(&self) -> bool {
        !self.http_10
            && self.has_body()
            && self
                .values("expect")
                .any(|value| value.eq_ignore_ascii_case(b"100-continue"))
    }

    /// Parses a complete head. [`RequestReader::find_end`] has checked that it is free of control
    /// characters and ends with its first empty line.
    fn parse(bytes: &[u8]) -> Result<Self, Reject> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(bytes) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Err(Reject::bad("malformed request")),
            Err(error) => return Err(syntax_error(error, bytes)),
        }
        let span = |text: Option<&str>| ByteRange::of(text.unwrap_or_default().as_bytes(), bytes);
        let mut head = Self {
            bytes: bytes.into(),
            headers: request
                .headers
                .iter()
                .map(|header| {
                    (
                        ByteRange::of(header.name.as_bytes(), bytes),
                        ByteRange::of(header.value, bytes),
                    )
                })
                .collect(),
            method: span(request.method),
            target: span(request.path),
            http_10: request.version == Some(0),
            body: BodyLength::Empty,
        };
        head.check_target()?;
        head.check_host()?;
        head.body = head.check_body_length()?;
        Ok(head)
    }

    fn check_target(&self) -> Result<(), Reject> {
        let target = self.target();
        let well_formed = match self.split_target() {
            (Some(authority), path, _) => {
                split_authority(authority).is_some() && (path.is_empty() || path.starts_with('/'))
            }
            (None, path, _) => {
                path.starts_with('/') || (target == "*" && self.method() == "OPTIONS")
            }
        };
        if self.method().is_empty() || target.contains('#') || !well_formed {
            return Err(Reject::bad(
                "request target must be a path, or an http or https URL",
            ));
        }
        Ok(())
    }

    fn check_host(&self) -> Result<(), Reject> {
        let mut hosts = self.values("host");
        let host = hosts.next();
        if hosts.next().is_some() {
            return Err(Reject::bad("request must have only one Host header"));
        }
        match host {
            None if self.http_10 => Ok(()),
            None => Err(Reject::bad("HTTP/1.1 request must have a Host header")),
            Some(host) => match std::str::from_utf8(host).ok().and_then(split_authority) {
                Some(_) => Ok(()),
                None => Err(Reject::bad(
                    "Host header must be a host with an optional port",
                )),
            },
        }
    }

    /// Refuses every head from which two implementations could derive different ends of the body,
    /// since that is how requests are smuggled past a proxy ([RFC 9112, section 6.3]).
    ///
    /// [RFC 9112, section 6.3]: https://www.rfc-editor.org/rfc/rfc9112#section-6.3
    fn check_body_length(&self) -> Result<BodyLength, Reject> {
        let mut lengths = self.values("content-length");
        let mut encodings = self.values("transfer-encoding");
        let (length, encoding) = (lengths.next(), encodings.next());
        if lengths.next().is_some() {
            return Err(Reject::bad(
                "request must have only one Content-Length header",
            ));
        }
        if encodings.next().is_some() {
            return Err(Reject::bad(
                "request must have only one Transfer-Encoding header",
            ));
        }
        match (length, encoding) {
            (None, None) => Ok(BodyLength::Empty),
            (Some(_), Some(_)) => Err(Reject::bad(
                "request must not have both Content-Length and Transfer-Encoding",
            )),
            (Some(length), None) => match decimal(length) {
                Some(0) => Ok(BodyLength::Empty),
                Some(length) => Ok(BodyLength::Fixed(length)),
                None => Err(Reject::bad(
                    "Content-Length header must be a number of bytes",
                )),
            },
            (None, Some(_)) if self.http_10 => Err(Reject::bad(
                "HTTP/1.0 request must not have a Transfer-Encoding header",
            )),
            (None, Some(encoding)) if encoding.eq_ignore_ascii_case(b"chunked") => {
                Ok(BodyLength::Chunked)
            }
            (None, Some(_)) => Err(Reject::new(
                501,
                "Transfer-Encoding header must be `chunked`",
            )),
        }
    }

    /// The authority, which only an absolute target has, the path and the query.
    fn split_target(&self) -> (Option<&str>, &str, &str) {
        let target = self.target();
        let (authority, rest) = match after_scheme(target) {
            Some(rest) => {
                let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
                (Some(authority), path)
            }
            None => (None, target),
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        (authority, path, query)
    }

    fn slice(&self, span: ByteRange) -> &[u8] {
        &self.bytes[usize::from(span.start)..usize::from(span.end)]
    }

    /// The text in a range. httparse has checked that it is UTF-8.
    fn text(&self, span: ByteRange) -> &str {
        std::str::from_utf8(self.slice(span)).unwrap_or_default()
    }
}

/// Leaves out the header values, since tokens must not get into logs.
impl fmt::Debug for RequestHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestHead")
            .field("method", &self.method())
            .field("target", &self.target())
            .field("http_10", &self.http_10)
            .field("headers", &self.headers.len())
            .field("body", &self.body)
            .finish()
    }
}

/// The bytes of a connection that are not yet consumed: an incomplete head, a body, pipelined
/// requests.
#[derive(Default)]
pub struct RequestReader {
    buffer: Vec<u8>,
    /// Bytes at the front of `buffer` that are consumed.
    ///
    /// They are removed once per push and not once per request. Otherwise a buffer full of
    /// pipelined requests would take quadratic time.
    start: usize,
    /// Bytes after `start` that were searched and do not contain the end of a head.
    searched: usize,
    /// Empty lines that were skipped before this head.
    empty_lines: u8,
}

impl RequestReader {
    /// Appends bytes from the client.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next head. A complete head is consumed.
    ///
    /// # Errors
    /// A [`Reject`] if the bytes are not a valid request. The rest of the bytes is then
    /// meaningless.
    pub fn head(&mut self) -> Result<Progress<RequestHead>, Reject> {
        self.skip_empty_lines()?;
        let Some(end) = self.find_end()? else {
            return Ok(Progress::Incomplete);
        };
        let head = RequestHead::parse(&self.buffered()[..end])?;
        self.consume(end);
        self.empty_lines = 0;
        Ok(Progress::Complete(head))
    }

    /// The bytes not yet consumed.
    pub fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Removes the first `count` bytes of [`Self::buffered`], and frees the memory when none are
    /// left.
    pub fn consume(&mut self, count: usize) {
        assert!(
            count <= self.buffered().len(),
            "consumed more than was read"
        );
        self.start += count;
        self.searched = self.searched.saturating_sub(count);
        if self.is_empty() {
            self.start = 0;
            self.buffer.clear();
            if self.buffer.capacity() > KEPT_BYTES {
                self.buffer = Vec::new();
            }
        }
    }

    /// Whether all bytes are consumed.
    pub fn is_empty(&self) -> bool {
        self.start == self.buffer.len()
    }

    fn skip_empty_lines(&mut self) -> Result<(), Reject> {
        while self.buffered().starts_with(b"\r\n") {
            if self.empty_lines == MAX_EMPTY_LINES {
                return Err(Reject::bad(format!(
                    "request must not follow more than {MAX_EMPTY_LINES} empty lines"
                )));
            }
            self.empty_lines += 1;
            self.consume(2);
        }
        Ok(())
    }

    /// Finds the end of the head, just after its first empty line. Each byte is examined once,
    /// together with up to three bytes before it.
    ///
    /// CR and LF are only allowed as a pair, and other control characters not at all. Some
    /// implementations take a lone LF, or even a lone CR, as a line end ([RFC 9112, section 2.2]),
    /// and a request that two servers split differently can be smuggled past one of them.
    ///
    /// [RFC 9112, section 2.2]: https://www.rfc-editor.org/rfc/rfc9112#section-2.2
    fn find_end(&mut self) -> Result<Option<usize>, Reject> {
        let bytes = self.buffered();
        let window = &bytes[..bytes.len().min(MAX_HEAD_BYTES)];
        let mut previous = self
            .searched
            .checked_sub(1)
            .map_or(0, |before| window[before]);
        for (at, &byte) in window.iter().enumerate().skip(self.searched) {
            if (previous == b'\r') != (byte == b'\n') {
                return Err(Reject::bad("lines of a request head must end with CR LF"));
            }
            if byte == b'\n' && window[..=at].ends_with(b"\r\n\r\n") {
                return Ok(Some(at + 1));
            }
            if !is_text(byte) && !matches!(byte, b'\r' | b'\n') {
                return Err(Reject::bad("request head must not have control characters"));
            }
            previous = byte;
        }
        if window.len() == MAX_HEAD_BYTES {
            return Err(Reject::new(
                431,
                format!("request head exceeds the maximum of {MAX_HEAD_BYTES} bytes"),
            ));
        }
        self.searched = window.len();
        Ok(None)
    }
}

impl fmt::Debug for RequestReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestReader")
            .field("buffered", &self.buffered().len())
            .field("searched", &self.searched)
            .finish_non_exhaustive()
    }
}

/// Splits `host[:port]` into the host and the port ([RFC 3986, section 3.2]). An IPv6 address keeps
/// its brackets.
///
/// `None` if it is malformed.
///
/// [RFC 3986, section 3.2]: https://www.rfc-editor.org/rfc/rfc3986#section-3.2
pub fn split_authority(authority: &str) -> Option<(&str, Option<u16>)> {
    let host_end = match authority.strip_prefix('[') {
        Some(rest) => {
            let address = &rest[..rest.find(']')?];
            address.parse::<Ipv6Addr>().ok()?;
            address.len() + 2
        }
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(host_end);
    if host.is_empty() || !(host.starts_with('[') || host.bytes().all(is_name_byte)) {
        return None;
    }
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        None => return None,
        Some("") => None,
        Some(digits) => Some(decimal(digits.as_bytes())?.try_into().ok()?),
    };
    Some((host, port))
}

/// Whether a byte is allowed within a line of a head, a chunk extension or a trailer.
pub(super) fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Parses a number that consists of ASCII digits alone, at least one.
pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let value = digit.is_ascii_digit().then(|| digit - b'0')?;
        number.checked_mul(10)?.checked_add(u64::from(value))
    })
}

/// The rest of an absolute target, after `http://` or `https://`.
fn after_scheme(target: &str) -> Option<&str> {
    ["http://", "https://"].into_iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

/// Whether a byte is allowed in a registered name or an IPv4 address (RFC 3986, section 3.2.2).
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte)
}

fn syntax_error(error: httparse::Error, head: &[u8]) -> Reject {
    match error {
        httparse::Error::TooManyHeaders => Reject::new(
            431,
            format!("request exceeds the maximum of {MAX_HEADERS} headers"),
        ),
        httparse::Error::Version if names_http_version(head) => {
            Reject::new(505, "HTTP version must be 1.1 or 1.0")
        }
        error => Reject::bad(format!("malformed request: {error}")),
    }
}

/// Whether the request line ends with a well-formed HTTP version, which is then an unsupported one.
fn names_http_version(head: &[u8]) -> bool {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    // The third of three words. A line with more words is malformed.
    let version = line.splitn(3, |&byte| byte == b' ').nth(2);
    matches!(version, Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
        if major.is_ascii_digit() && minor.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `bytes` whole, cut in two at every offset, and byte by byte; all must give the same
    /// result.
    fn read(bytes: &[u8]) -> Result<Progress<RequestHead>, Reject> {
        let feed = |parts: &[&[u8]]| {
            let mut reader = RequestReader::default();
            let mut progress = Ok(Progress::Incomplete);
            for part in parts {
                reader.push(part);
                if matches!(progress, Ok(Progress::Incomplete)) {
                    progress = reader.head();
                }
            }
            (progress, reader.buffered().to_vec())
        };
        let whole = feed(&[bytes]);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        let cuts = (0..=bytes.len()).map(|cut| vec![&bytes[..cut], &bytes[cut..]]);
        for parts in cuts.chain([single]) {
            let (progress, rest) = feed(&parts);
            assert_eq!(format!("{progress:?}"), format!("{:?}", whole.0));
            if progress.is_ok() {
                assert_eq!(rest, whole.1);
            }
        }
        whole.0
    }

    fn complete(head: &str) -> RequestHead {
        match read(head.as_bytes()) {
            Ok(Progress::Complete(head)) => head,
            other => panic!("{head:?}: {other:?}"),
        }
    }

    fn status(head: &[u8]) -> u16 {
        match read(head) {
            Ok(Progress::Complete(_)) => 200,
            Ok(Progress::Incomplete) => 0,
            Err(reject) => reject.status,
        }
    }

    #[test]
    fn a_head_has_its_parts() {
        let head = complete(
            "GET /a%20b?x=1?y HTTP/1.1\r\nHost: h:80\r\nX-Two:  b \r\nx-two: c\r\nE:\r\n\r\n",
        );
        assert_eq!((head.method(), head.target()), ("GET", "/a%20b?x=1?y"));
        assert_eq!((head.path(), head.query()), ("/a%20b", "x=1?y"));
        assert_eq!(head.host(), Some("h:80"));
        assert_eq!(head.header("X-TWO"), Some("b"));
        assert_eq!(head.header("e"), Some(""));
        assert_eq!(head.header("missing"), None);
        assert_eq!(head.values("x-two").count(), 2);
        assert_eq!(head.headers().nth(1), Some(("X-Two", &b"b"[..])));
        assert!(!head.is_http_10() && head.keep_alive());
    }

    #[test]
    fn every_form_of_target_has_a_path() {
        for (target, path, query, host) in [
            ("/", "/", "", "h"),
            ("/?", "/", "", "h"),
            ("//x", "//x", "", "h"),
            ("/ü?ü", "/ü", "ü", "h"),
            ("http://other/x?y", "/x", "y", "other"),
            ("HTTPS://other:1", "/", "", "other:1"),
            ("http://other?y=/", "/", "y=/", "other"),
        ] {
            let head = complete(&format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
            assert_eq!(
                (head.path(), head.query(), head.host()),
                (path, query, Some(host)),
                "{target}"
            );
        }
        assert_eq!(
            complete("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").path(),
            "*"
        );
    }

    #[test]
    fn each_malformed_request_has_one_status() {
        for (head, expected) in [
            // Request line.
            (&b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"[..], 200),
            (b"GET / HTTP/1.0\r\n\r\n", 200),
            (b"GET / HTTP/1.1\r\nHost: h\r\n", 0),
            (b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n", 400),
            (b" GET / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"G(T / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET /\r\n\r\n", 400),
            (b"GET / FOO\r\n\r\n", 400),
            (b"GET / http/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET / HTTP/1.2\r\nHost: h\r\n\r\n", 505),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
            (b"GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET /#x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET http:///x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET http://u@h/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"\x16\x03\x01", 400),
            // Line ends.
            (b"\r\n\r\nGET / HTTP/1.0\r\n\r\n", 200),
            (b"\r\n\r\n\r\nGET / HTTP/1.0\r\n\r\n", 400),
            (b"\nGET / HTTP/1.0\r\n\r\n", 400),
            (b"GET / HTTP/1.0\n\n", 400),
            (b"GET / HTTP/1.0\r\n\n", 400),
            (b"GET / HTTP/1.0\r\nA: b\nC: d\r\n\r\n", 400),
            (b"GET / HTTP/1.0\r\nA: b\rC: d\r\n\r\n", 400),
            (b"GET / HTTP/1.0\r\nA: b\r\r\n\r\n", 400),
            (b"GET / HTTP/1.0\r\nA: b\r\n c\r\n\r\n", 400),
            (b"GET / HTTP/1.0\r\n A: b\r\n\r\n", 400),
            // Headers.
            (b"GET / HTTP/1.0\r\nA : b\r\n\r\n", 400),
            (b"GET / HTTP/1.0\r\n: b\r\n\r\n", 400),
            (b"GET / HTTP/1.0\r\nA\r\n\r\n", 400),
            (b"GET / HTTP/1.0\r\nA: \0\r\n\r\n", 400),
            (b"GET / HTTP/1.0\r\nA: \x7f\r\n\r\n", 400),
            (b"GET / HTTP/1.0\r\nA: \t\xff\r\n\r\n", 200),
        ] {
            assert_eq!(status(head), expected, "{}", head.escape_ascii());
        }
    }

    #[test]
    fn a_request_has_exactly_one_well_formed_host() {
        for (headers, expected) in [
            ("", 400),
            ("Host: h\r\nHost: h\r\n", 400),
            ("Host:\r\n", 400),
            ("Host: a b\r\n", 400),
            ("Host: a/b\r\n", 400),
            ("Host: u@h\r\n", 400),
            ("Host: a,b\r\n", 200),
            ("Host: ü\r\n", 400),
            ("Host: h:\r\n", 200),
            ("Host: h:65535\r\n", 200),
            ("Host: h:65536\r\n", 400),
            ("Host: h:8x\r\n", 400),
            ("Host: h:1:2\r\n", 400),
            ("Host: :80\r\n", 400),
            ("Host: 127.0.0.1:8001\r\n", 200),
            ("Host: [::1]:8001\r\n", 200),
            ("Host: [::1]x\r\n", 400),
            ("Host: [::1\r\n", 400),
            ("Host: [x]\r\n", 400),
            ("Host: ::1\r\n", 400),
        ] {
            let head = format!("GET / HTTP/1.1\r\n{headers}\r\n");
            assert_eq!(status(head.as_bytes()), expected, "{headers:?}");
        }
        assert_eq!(status(b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"), 400);
    }

    #[test]
    fn a_body_has_one_length() {
        use BodyLength::*;
        for (version, headers, expected) in [
            (1, "", Ok(Empty)),
            (1, "Content-Length: 0\r\n", Ok(Empty)),
            (1, "Content-Length: 007\r\n", Ok(Fixed(7))),
            (0, "content-length: 7\r\n", Ok(Fixed(7))),
            (
                1,
                "Content-Length: 18446744073709551615\r\n",
                Ok(Fixed(u64::MAX)),
            ),
            (1, "Content-Length: 18446744073709551616\r\n", Err(400)),
            (1, "Content-Length: +7\r\n", Err(400)),
            (1, "Content-Length: 7, 7\r\n", Err(400)),
            (1, "Content-Length:\r\n", Err(400)),
            (1, "Content-Length: 7\r\nContent-Length: 7\r\n", Err(400)),
            (1, "Content-Length: 7\r\nContent-Length: 8\r\n", Err(400)),
            (1, "Transfer-Encoding: Chunked\r\n", Ok(Chunked)),
            (0, "Transfer-Encoding: chunked\r\n", Err(400)),
            (1, "Transfer-Encoding: gzip, chunked\r\n", Err(501)),
            (1, "Transfer-Encoding: \x0bchunked\r\n", Err(400)),
            (1, "Transfer-Encoding: identity\r\n", Err(501)),
            (1, "Transfer-Encoding:\r\n", Err(501)),
            (
                1,
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                Err(400),
            ),
            (
                1,
                "Transfer-Encoding: chunked\r\nContent-Length: 7\r\n",
                Err(400),
            ),
            (
                1,
                "Content-Length: 0\r\nTransfer-Encoding: gzip\r\n",
                Err(400),
            ),
        ] {
            let head = format!("POST / HTTP/1.{version}\r\nHost: h\r\n{headers}\r\n");
            let length = read(head.as_bytes())
                .map(|progress| match progress {
                    Progress::Complete(head) => head.body_length(),
                    Progress::Incomplete => panic!("{headers:?}"),
                })
                .map_err(|reject| reject.status);
            assert_eq!(length, expected, "{headers:?}");
        }
    }

    #[test]
    fn connections_persist_as_requested() {
        for (version, headers, keep_alive) in [
            (1, "", true),
            (1, "Connection: close\r\n", false),
            (1, "Connection: TE , CLOSE\r\n", false),
            (1, "Connection: x\r\nConnection: close\r\n", false),
            (1, "Connection: closed\r\n", true),
            (0, "", false),
            (0, "Connection: Keep-Alive\r\n", true),
            (0, "Connection: keep-alive, close\r\n", false),
        ] {
            let head = complete(&format!(
                "GET / HTTP/1.{version}\r\nHost: h\r\n{headers}\r\n"
            ));
            assert_eq!(head.keep_alive(), keep_alive, "{version} {headers:?}");
        }
        for (version, length, expects) in [(1, 7, true), (1, 0, false), (0, 7, false)] {
            let head = complete(&format!(
                "POST / HTTP/1.{version}\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: {length}\r\n\r\n"
            ));
            assert_eq!(head.expects_continue(), expects, "{version} {length}");
            assert_eq!(head.has_body(), length > 0);
            assert_eq!(head.fixed_length(), Some(length));
        }
    }

    #[test]
    fn each_limit_is_exact() {
        let padded = |bytes: usize| {
            let frame = "GET / HTTP/1.0\r\nA: \r\n\r\n".len();
            format!("GET / HTTP/1.0\r\nA: {}\r\n\r\n", "x".repeat(bytes - frame))
        };
        let push = |bytes: &[u8]| {
            let mut reader = RequestReader::default();
            reader.push(bytes);
            match reader.head() {
                Ok(Progress::Complete(_)) => 200,
                Ok(Progress::Incomplete) => 0,
                Err(reject) => reject.status,
            }
        };
        assert_eq!(push(padded(MAX_HEAD_BYTES).as_bytes()), 200);
        assert_eq!(push(padded(MAX_HEAD_BYTES + 1).as_bytes()), 431);
        let long = padded(MAX_HEAD_BYTES + 1);
        assert_eq!(push(&long.as_bytes()[..MAX_HEAD_BYTES]), 431, "incomplete");
        assert_eq!(push(&long.as_bytes()[..MAX_HEAD_BYTES - 1]), 0);
        for (headers, expected) in [(MAX_HEADERS, 200), (MAX_HEADERS + 1, 431)] {
            let head = format!("GET / HTTP/1.0\r\n{}\r\n", "A: b\r\n".repeat(headers));
            assert_eq!(push(head.as_bytes()), expected);
        }
    }

    #[test]
    fn pipelined_requests_are_read_one_by_one() {
        let mut reader = RequestReader::default();
        reader
            .push(b"POST /1 HTTP/1.0\r\nContent-Length: 2\r\n\r\nab\r\nGET /2 HTTP/1.0\r\n\r\nGET");
        let mut next = || match reader.head().unwrap() {
            Progress::Complete(head) => {
                if head.body_length() == BodyLength::Fixed(2) {
                    assert_eq!(&reader.buffered()[..2], b"ab");
                    reader.consume(2);
                }
                Some(head.target().to_owned())
            }
            Progress::Incomplete => None,
        };
        assert_eq!(next().as_deref(), Some("/1"));
        assert_eq!(next().as_deref(), Some("/2"));
        assert_eq!(next(), None);
        assert_eq!(reader.buffered(), b"GET");
        reader.push(b" /3 HTTP/1.0\r\n\r\n");
        assert!(matches!(reader.head(), Ok(Progress::Complete(_))));
        assert!(reader.is_empty());
    }

    #[test]
    fn empty_lines_are_skipped_before_each_head() {
        let mut reader = RequestReader::default();
        for _ in 0..3 {
            reader.push(b"\r\n\r\nGET / HTTP/1.0\r\n\r\n");
            assert!(matches!(reader.head(), Ok(Progress::Complete(_))));
        }
    }

    #[test]
    fn an_empty_reader_frees_its_memory() {
        let mut reader = RequestReader::default();
        reader.push(&[b'x'; KEPT_BYTES + 1]);
        reader.consume(KEPT_BYTES);
        assert!(!reader.is_empty());
        reader.consume(1);
        assert_eq!((reader.is_empty(), reader.buffer.capacity()), (true, 0));
    }

    #[test]
    fn debug_output_has_no_tokens() {
        let head = complete("GET / HTTP/1.0\r\nAuthorization: Bearer secret\r\n\r\n");
        assert!(!format!("{head:?}").contains("secret"));
    }
}
