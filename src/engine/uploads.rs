//! Request bodies while they are received: the item of each that is not complete yet, and the order
//! in which they are worked on.
//!
//! An item is a line of an NDJSON body, or the whole of another body. An NDJSON body of any length
//! therefore needs memory for one line. This part reads items. The verbs in `upload` do what they
//! ask for.

use std::collections::{HashSet, VecDeque};
use std::mem;
use std::time::Duration;

use serde::Serialize;

use crate::event::{Event, EventError};
use crate::http::Reject;
use crate::http::body::BodyReader;
use crate::http::event_json::parse_event;
use crate::http::request::{RequestHead, RequestReader};
use crate::http::response::Response;
use crate::http::route::PublishQuery;
use crate::json::to_json;
use crate::namespace::Namespace;

use super::Published;
use super::ids::ConnId;
use super::telemetry::AdminAction;

/// The limit of bytes that all incomplete items have together, in addition to one of the largest.
const MAX_BYTES: usize = 64 << 20;

/// The uploads of all connections: what they hold together, and whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    /// Connections with bytes to work on, in the order in which they came.
    queue: VecDeque<ConnId>,
    /// Bytes of all incomplete items.
    bytes: usize,
}

impl Uploads {
    /// Whether no upload has bytes to work on.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// Puts an upload at the end of the queue, unless it is in the queue.
    pub(super) fn enqueue(&mut self, key: ConnId, upload: &mut Upload) {
        upload.idle_since_ms = None;
        if !mem::replace(&mut upload.queued, true) {
            self.queue.push_back(key);
        }
    }

    /// Removes the connection at the front of the queue. It may have ended or be in another phase.
    pub(super) fn pop(&mut self) -> Option<ConnId> {
        self.queue.pop_front()
    }

    /// Reads the next item of an upload.
    pub(super) fn read(&mut self, upload: &mut Upload) -> Result<Item, UploadError> {
        self.bytes -= upload.partial.len();
        let item = upload.read(self.bytes);
        self.bytes += upload.partial.len();
        item
    }

    /// Records that an upload is over.
    pub(super) fn release(&mut self, upload: &Upload) {
        self.bytes -= upload.partial.len();
    }

    /// Asserts that the bytes are those of `uploads`, which are all that are under way.
    pub(super) fn check<'a>(&self, uploads: impl Iterator<Item = (ConnId, &'a Upload)>) {
        let queue: HashSet<ConnId> = self.queue.iter().copied().collect();
        let mut bytes = 0;
        for (key, upload) in uploads {
            bytes += upload.partial.len();
            assert!(!upload.queued || queue.contains(&key), "it has a turn");
        }
        assert_eq!(self.bytes, bytes);
    }
}

/// A request whose body is being received.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) head: RequestHead,
    /// Bytes received and not consumed yet.
    pub(super) reader: Box<RequestReader>,
    body: BodyReader,
    pub(super) sink: Sink,
    /// The bytes of the incomplete item.
    partial: Vec<u8>,
    max_item: usize,
    /// Items that were complete, or that were refused.
    items: u64,
    /// When bytes last came, in milliseconds of the engine's time; `None` while some are to be
    /// worked on.
    pub(super) idle_since_ms: Option<u64>,
    /// It is in the queue of [`Uploads`].
    queued: bool,
    /// The numbers of the items whose events are on their way through the store.
    unstored: VecDeque<u64>,
    /// The end of the body, while the response waits for the store.
    result: Option<Result<(), UploadError>>,
}

/// What a body is for.
#[derive(Debug)]
pub(super) enum Sink {
    /// The body is one event.
    Event(EventBody),
    /// Each line is an event in its JSON form.
    Lines { published: u64, broadcast: bool },
    /// The body belongs to a request of an administrator.
    #[cfg_attr(not(feature = "admin"), expect(dead_code, reason = "never made"))]
    Action(AdminAction),
}

/// The form of a body that is one event.
#[derive(Debug)]
pub(super) enum EventBody {
    /// The data. The namespace and everything else are in the target of the request.
    Data(Namespace, PublishQuery),
    /// The JSON form.
    Json { broadcast: bool },
}

/// The result of reading on in a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// More bytes are needed.
    Incomplete,
    /// The next item. A line is without its line end.
    Complete(Vec<u8>),
    /// No item follows.
    End,
}

/// Why a body, or an event in it, was refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum UploadError {
    /// The framing of the body is invalid, so the start of the next request is unknown.
    Framing(Reject),
    /// The item exceeds this maximum of bytes.
    TooLarge(usize),
    /// All incomplete items together hold [`MAX_BYTES`].
    TooManyUploads,
    /// The item is not an event, for this reason.
    Malformed(String),
    /// The event is invalid.
    Event(EventError),
    /// The store failed a moment ago.
    StoreFailing,
    /// The store failed to append the event, for this reason.
    NotStored(String),
}

impl UploadError {
    /// The status and the text of the response, for a body with this sink.
    pub(super) fn reject(self, sink: &Sink) -> Reject {
        let lines = matches!(sink, Sink::Lines { .. });
        let (status, message) = match self {
            Self::Framing(reject) => return reject,
            Self::TooLarge(max) if lines => {
                (400, format!("the line exceeds the maximum of {max} bytes"))
            }
            Self::TooLarge(max) => (413, format!("the body exceeds the maximum of {max} bytes")),
            Self::TooManyUploads => {
                let reject = Reject::new(503, "too many request bodies are being received");
                return reject.with_header("Retry-After", "1");
            }
            Self::Malformed(problem) => (400, problem),
            Self::Event(error @ EventError::TooLarge("data", _)) if !lines => {
                (413, error.to_string())
            }
            Self::Event(error) => (400, error.to_string()),
            Self::StoreFailing => (507, "events cannot be stored at the moment".into()),
            Self::NotStored(problem) => (507, format!("events cannot be stored: {problem}")),
        };
        Reject::new(status, message)
    }
}

impl Sink {
    /// The event of an item; `None` for an empty line, and for an action.
    ///
    /// # Errors
    /// [`UploadError::Malformed`].
    pub(super) fn event(&mut self, item: Vec<u8>) -> Result<Option<Event>, UploadError> {
        let broadcast = match self {
            Self::Event(EventBody::Data(namespace, query)) => {
                let data = String::from_utf8(item)
                    .map_err(|_| UploadError::Malformed("the body is not UTF-8".into()))?;
                let mut event = Event::new(namespace.as_str(), data);
                event.event_type = query.event.take();
                event.id = query.id.take();
                event.retry = query.retry.map(Duration::from_millis);
                event.to_all = query.broadcast;
                return Ok(Some(event));
            }
            Self::Lines { .. } if item.iter().all(u8::is_ascii_whitespace) => return Ok(None),
            Self::Event(EventBody::Json { broadcast }) | Self::Lines { broadcast, .. } => {
                *broadcast
            }
            Self::Action(_) => return Ok(None),
        };
        let mut event = parse_event(&item).map_err(UploadError::Malformed)?;
        event.to_all = broadcast;
        Ok(Some(event))
    }

    /// Whether a body of this length is certainly too large, if an item has at most `max_item`
    /// bytes.
    pub(super) fn refuses_length(&self, head: &RequestHead, max_item: usize) -> bool {
        let length = head.fixed_length().unwrap_or_default();
        !matches!(self, Self::Lines { .. }) && length > max_item as u64
    }
}

/// The response to a body that was one event.
#[derive(Serialize)]
struct PublishedJson<'a> {
    id: Option<&'a str>,
    subscribers: usize,
}

/// The response to a body of lines.
#[derive(Serialize)]
struct LinesJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    published: u64,
}

impl Upload {
    /// An upload whose items have at most `max_item` bytes. `reader` has the bytes after the head.
    pub(super) fn new(
        head: &RequestHead,
        reader: Box<RequestReader>,
        sink: Sink,
        max_item: usize,
    ) -> Self {
        Self {
            head: head.clone(),
            reader,
            body: BodyReader::new(head.body_length()),
            sink,
            partial: Vec::new(),
            max_item,
            items: 0,
            idle_since_ms: None,
            queued: false,
            unstored: VecDeque::new(),
            result: None,
        }
    }

    /// Since when the client has sent nothing, if that may last too long. The lines of a body may
    /// be far apart: a client that sends events as they happen is not a slow one.
    pub(super) fn waiting_since_ms(&self) -> Option<u64> {
        self.idle_since_ms
            .filter(|_| !matches!(self.sink, Sink::Lines { .. }))
    }

    /// Records that it is no longer in the queue of [`Uploads`].
    pub(super) fn record_popped(&mut self) {
        self.queued = false;
    }

    /// Whether the whole body was read. Otherwise the connection cannot serve another request.
    pub(super) fn is_read(&self) -> bool {
        self.body.is_done()
    }

    /// Whether the body was read or refused, and the response waits for the store.
    pub(super) fn is_over(&self) -> bool {
        self.result.is_some()
    }

    /// Reads up to the end of the next item, if that was received. `others` is the number
    /// of bytes that the other uploads hold.
    ///
    /// # Errors
    /// `Framing`, `TooLarge` or `TooManyUploads`.
    fn read(&mut self, others: usize) -> Result<Item, UploadError> {
        let by_line = matches!(self.sink, Sink::Lines { .. });
        loop {
            if self.body.is_done() {
                // The last line may have no line end. Another body is one item, which may be empty.
                let all_taken = match by_line {
                    true => self.partial.is_empty(),
                    false => self.items > 0,
                };
                return Ok(if all_taken {
                    Item::End
                } else {
                    self.complete()
                });
            }
            let mut input = self.reader.buffered();
            if by_line && let Some(at) = input.iter().position(|&byte| byte == b'\n') {
                input = &input[..=at];
            }
            let piece = self.body.read(input).map_err(UploadError::Framing)?;
            let line = piece.data.strip_suffix(b"\n").filter(|_| by_line);
            let data = line.unwrap_or(piece.data);
            let length = self.partial.len() + data.len();
            if length > self.max_item {
                self.items += 1;
                return Err(UploadError::TooLarge(self.max_item));
            }
            if others + length > MAX_BYTES + self.max_item {
                self.items += 1;
                return Err(UploadError::TooManyUploads);
            }
            self.partial.extend_from_slice(data);
            let (consumed, is_line) = (piece.consumed, line.is_some());
            self.reader.consume(consumed);
            if is_line {
                return Ok(self.complete());
            }
            if consumed == 0 {
                return Ok(Item::Incomplete);
            }
        }
    }

    fn complete(&mut self) -> Item {
        self.items += 1;
        Item::Complete(mem::take(&mut self.partial))
    }

    /// Records that the event of the last item is on its way through the store.
    pub(super) fn record_unstored(&mut self) {
        self.unstored.push_back(self.items);
    }

    /// Records that the store has appended the first of the events on their way.
    pub(super) fn record_stored(&mut self) {
        self.unstored.pop_front();
    }

    /// Records that the body was read to its end, or why it was refused.
    pub(super) fn end(&mut self, result: Result<(), UploadError>) {
        self.result = Some(result);
    }

    /// The response to a body that is over, once no event of it is on its way through the store.
    /// A body that was one event has none here: it is answered when its event is published.
    pub(super) fn take_response(&mut self) -> Option<Response> {
        match (
            self.result.take_if(|_| self.unstored.is_empty())?,
            &self.sink,
        ) {
            (Err(error), _) => Some(self.refusal(self.items, error)),
            (Ok(()), &Sink::Lines { published, .. }) => {
                let json = LinesJson {
                    error: None,
                    line: None,
                    published,
                };
                Some(Response::json(200, to_json(&json)))
            }
            (Ok(()), _) => None,
        }
    }

    /// The response if the store failed to append the first of the events on their way.
    pub(super) fn not_stored(&self, problem: &str) -> Response {
        let line = self.unstored.front().copied().unwrap_or(self.items);
        self.refusal(line, UploadError::NotStored(problem.into()))
    }

    fn refusal(&self, line: u64, error: UploadError) -> Response {
        let reject = error.reject(&self.sink);
        let Sink::Lines { published, .. } = self.sink else {
            return reject.into();
        };
        let json = LinesJson {
            error: Some(reject.message),
            line: Some(line),
            published,
        };
        Response::json(reject.status, to_json(&json))
    }

    /// The response to a body that was one event, which subscribers receive with this ID.
    pub(super) fn published(id: Option<&str>, published: Published) -> Response {
        let json = PublishedJson {
            id,
            subscribers: published.subscribers,
        };
        Response::json(200, to_json(&json))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: Sink = Sink::Lines {
        published: 0,
        broadcast: false,
    };
    const EVENT: Sink = Sink::Event(EventBody::Json { broadcast: false });

    /// An upload of a request with this header that announces the body. Items have up to 8 bytes.
    fn upload(header: &str, sink: Sink) -> Upload {
        let mut reader = Box::<RequestReader>::default();
        reader.push(format!("POST / HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n").as_bytes());
        match reader.head() {
            Ok(crate::http::Progress::Complete(head)) => Upload::new(&head, reader, sink, 8),
            other => panic!("{other:?}"),
        }
    }

    /// All items of a body that arrives in two pieces.
    fn read_all(mut upload: Upload, body: &[u8], cut: usize) -> Result<Vec<String>, UploadError> {
        let mut uploads = Uploads::default();
        let mut items = Vec::new();
        for piece in [&body[..cut], &body[cut..]] {
            upload.reader.push(piece);
            loop {
                let item = uploads.read(&mut upload)?;
                uploads.check([(ConnId::from_index(1), &upload)].into_iter());
                match item {
                    Item::Incomplete => break,
                    Item::Complete(item) => items.push(String::from_utf8(item).unwrap()),
                    Item::End => return Ok(items),
                }
            }
        }
        items.push("incomplete".into());
        Ok(items)
    }

    #[test]
    fn a_body_has_the_same_items_wherever_it_is_cut() {
        let fixed = |length: usize| format!("Content-Length: {length}");
        let chunked = || "Transfer-Encoding: chunked".to_owned();
        for (header, sink, body, expected) in [
            (fixed(5), EVENT, "a\nb\nc", ["a\nb\nc"].as_slice()),
            (fixed(0), EVENT, "", &[""]),
            (
                chunked(),
                EVENT,
                "2\r\na\n\r\n1\r\nb\r\n0\r\n\r\n",
                &["a\nb"],
            ),
            (fixed(5), LINES, "a\nb\nc", &["a", "b", "c"]),
            (fixed(5), LINES, "a\n\nb\n", &["a", "", "b"]),
            (fixed(9), LINES, "12345678\n", &["12345678"]),
            (
                chunked(),
                LINES,
                "3\r\nab\n\r\n1\r\nc\r\n2;x\r\nd\n\r\n0\r\n\r\n",
                &["ab", "cd"],
            ),
            (fixed(0), LINES, "", &[]),
            (fixed(6), EVENT, "a\nb\nc", &["incomplete"]),
            (fixed(6), LINES, "a\nb\nc", &["a", "b", "incomplete"]),
        ] {
            for cut in 0..=body.len() {
                let upload = upload(&header, copy_of(&sink));
                let items = read_all(upload, body.as_bytes(), cut).unwrap();
                assert_eq!(items, expected, "{body:?} cut at {cut}");
            }
        }
    }

    fn copy_of(sink: &Sink) -> Sink {
        match sink {
            Sink::Lines { .. } => LINES,
            _ => EVENT,
        }
    }

    #[test]
    fn an_item_has_a_limit() {
        for (sink, body, cut) in [
            (EVENT, "123456789", 9),
            (LINES, "123456789", 4),
            (LINES, "1\n123456789\n", 12),
        ] {
            let upload = upload("Content-Length: 100", sink);
            let items = read_all(upload, body.as_bytes(), cut);
            assert_eq!(items, Err(UploadError::TooLarge(8)), "{body:?}");
        }
        for (header, sink, refused) in [
            ("Content-Length: 8", EVENT, false),
            ("Content-Length: 9", EVENT, true),
            ("Content-Length: 9", LINES, false),
            ("Transfer-Encoding: chunked", EVENT, false),
        ] {
            let upload = upload(header, sink);
            assert_eq!(
                upload.sink.refuses_length(&upload.head, 8),
                refused,
                "{header}"
            );
        }
    }

    #[test]
    fn incomplete_items_have_a_limit_together() {
        let mut upload = upload("Content-Length: 8", EVENT);
        upload.reader.push(b"12345678");
        let mut uploads = Uploads {
            bytes: MAX_BYTES,
            ..Uploads::default()
        };
        assert_eq!(
            uploads.read(&mut upload),
            Ok(Item::Complete(b"12345678".to_vec())),
            "one item of the largest fits in addition"
        );
        let mut upload = self::upload("Content-Length: 8", EVENT);
        upload.reader.push(b"1234");
        assert_eq!(uploads.read(&mut upload), Ok(Item::Incomplete));
        assert_eq!(uploads.bytes, MAX_BYTES + 4);
        let mut other = self::upload("Content-Length: 8", EVENT);
        other.reader.push(b"1234");
        assert_eq!(
            uploads.read(&mut other),
            Ok(Item::Incomplete),
            "up to the limit"
        );
        let mut third = self::upload("Content-Length: 8", EVENT);
        third.reader.push(b"1");
        assert_eq!(uploads.read(&mut third), Err(UploadError::TooManyUploads));
        uploads.release(&upload);
        let mut fourth = self::upload("Content-Length: 8", EVENT);
        fourth.reader.push(b"1234");
        assert_eq!(uploads.read(&mut fourth), Ok(Item::Incomplete));
    }

    #[test]
    fn an_error_has_a_status() {
        let data_too_large = || UploadError::Event(EventError::TooLarge("data", 8));
        for (error, sink, status) in [
            (UploadError::TooLarge(8), EVENT, 413),
            (UploadError::TooLarge(8), LINES, 400),
            (data_too_large(), EVENT, 413),
            (data_too_large(), LINES, 400),
            (
                UploadError::Event(EventError::TooLarge("id", 8)),
                EVENT,
                400,
            ),
            (UploadError::Malformed("no".into()), EVENT, 400),
            (UploadError::TooManyUploads, LINES, 503),
            (UploadError::StoreFailing, LINES, 507),
            (UploadError::NotStored("disk full".into()), EVENT, 507),
        ] {
            assert_eq!(error.reject(&sink).status, status, "{sink:?}");
        }
    }

    #[test]
    fn the_response_waits_for_the_store_and_names_the_first_line_that_failed() {
        let mut upload = upload("Content-Length: 6", LINES);
        upload.reader.push(b"1\n2\n3\n");
        for line in ["1", "2", "3"] {
            assert_eq!(upload.read(0), Ok(Item::Complete(line.into())));
            upload.record_unstored();
        }
        upload.end(Ok(()));
        assert!(upload.is_over());
        assert_eq!(upload.take_response(), None);
        upload.record_stored();
        let json = r#"{"error":"events cannot be stored: full","line":2,"published":0}"#;
        assert_eq!(upload.not_stored("full"), Response::json(507, json.into()));
        upload.record_stored();
        upload.record_stored();
        let json = r#"{"published":0}"#.to_owned();
        assert_eq!(upload.take_response(), Some(Response::json(200, json)));
    }
}
