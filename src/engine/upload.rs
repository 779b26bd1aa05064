//! Publishing over HTTP: the body of a request, from its first byte to the reply.
//!
//! Bytes are worked on only while the intake is open, one upload after the other, so that a flat-out publisher waits
//! as one in another thread does: what it has sent stays in its socket, and an NDJSON body of any length needs memory for one line.

use std::collections::VecDeque;
use std::fmt;
use std::time::Instant;

#[cfg(feature = "admin")]
use crate::admin::endpoint::AdminAction;
use crate::config::PublishAccess;
use crate::event::{Event, EventError};
use crate::event_stream::frame::{Frame, own_id};
use crate::http::Reject;
use crate::http::access::shows_token;
use crate::http::body::BodyReader;
use crate::http::event_json::{max_json_bytes, parse_event};
use crate::http::request::{RequestHead, RequestReader};
use crate::http::response::Response;
use crate::http::route::{self, PublishQuery};
use crate::json::json_string;
use crate::namespace::Namespace;

#[cfg(feature = "admin")]
use super::admin::ACTION_MOST;
use super::connection::Phase;
use super::pending_writes::RequestId;
use super::{ConnId, Engine, Published};

/// Bytes that all unfinished uploads may hold together, beside one of the largest.
const MAX_UPLOAD_BYTES: usize = 64 << 20;
/// What is said while the store is known to fail; of the first event that it failed with, the reason is told.
const STORE_FAILS: &str = "events cannot be stored at the moment";
/// Bytes of a body that are worked on before others have their turn.
const PIECE: usize = 64 << 10;

/// A publish request whose body is being received.
#[derive(Debug)]
pub(super) struct Upload {
    head: RequestHead,
    /// Bytes received and not yet worked on.
    pub(super) reader: Box<RequestReader>,
    body: BodyReader,
    form: Form,
    /// The event or the line that is not yet complete.
    partial: Vec<u8>,
    /// When bytes last came; `None` while they wait for the intake to open.
    idle_since_ms: Option<u64>,
    /// On the engine's list of those to be worked on.
    queued: bool,
    /// The lines of events that are on their way to the store, as far as they came; what is no line is the first.
    unstored: VecDeque<u64>,
    /// What the answer will be once they are stored.
    verdict: Option<Verdict>,
}

/// The uploads that are under way.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    /// Connections with bytes to work on, in the order they came.
    queue: VecDeque<ConnId>,
    /// Bytes that all unfinished uploads hold together.
    bytes: usize,
}

impl Uploads {
    /// Whether no upload has bytes to work on.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// Records that an upload holds another number of bytes.
    fn resize(&mut self, before: usize, after: usize) {
        self.bytes = self.bytes + after - before;
    }

    /// Records that an upload is over.
    pub(super) fn release(&mut self, upload: &Upload) {
        self.bytes -= upload.held();
    }

    /// Asserts that the bytes are those of `uploads`.
    pub(super) fn check<'a>(&self, uploads: impl Iterator<Item = &'a Upload>) {
        assert_eq!(self.bytes, uploads.map(Upload::held).sum::<usize>());
    }
}

/// How an upload ends.
#[derive(Debug)]
enum Verdict {
    /// All of it was taken.
    Done,
    /// A line could not be; nothing behind it was.
    BadLine { line: u64, reject: Reject },
}

/// Why an event was not published.
enum Unpublished {
    Event(EventError),
    /// The store has just failed.
    Store,
}

impl Unpublished {
    fn status(&self) -> u16 {
        match self {
            Self::Event(EventError::TooLarge("data", _)) => 413,
            Self::Event(_) => 400,
            Self::Store => 507,
        }
    }
}

impl fmt::Display for Unpublished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(error) => error.fmt(f),
            Self::Store => f.write_str(STORE_FAILS),
        }
    }
}

#[derive(Debug)]
enum Form {
    /// The body is the data of one event.
    Data(Namespace, PublishQuery),
    /// The body is one event as JSON.
    Json { broadcast: bool },
    /// The body is one event as JSON a line.
    Lines {
        line: u64,
        published: u64,
        broadcast: bool,
    },
    /// The body says what an administrator wants.
    #[cfg(feature = "admin")]
    Admin(AdminAction),
}

impl Upload {
    /// Bytes held for it that count against all uploads.
    pub(super) fn held(&self) -> usize {
        self.partial.len()
    }

    /// Since when it has sent nothing, if that may go on too long. Lines may be far apart: whoever sends them as they happen is
    /// no slow sender, and the system tells when such a peer is gone.
    pub(super) fn waiting_since_ms(&self) -> Option<u64> {
        self.idle_since_ms
            .filter(|_| !matches!(self.form, Form::Lines { .. }))
    }
}

/// What working on an upload came to.
enum Outcome {
    /// It waits for bytes.
    Hungry,
    /// There is more to do, after the others.
    Again,
    /// It is over; whether its body was read to the end tells if the connection can go on.
    Answer(Response, bool),
    /// Its body broke the rules of HTTP.
    Broken(Reject),
    /// It waits for the store.
    Unstored,
}

impl Engine {
    pub(super) fn answer_publish(
        &mut self,
        key: ConnId,
        reader: Box<RequestReader>,
        head: &RequestHead,
        namespace: Option<Namespace>,
        query: PublishQuery,
    ) {
        let form = self
            .check_access(head)
            .and_then(|()| match self.store_is_refusing() {
                true => Err(Reject::new(507, STORE_FAILS)),
                false => self.form_of(head, namespace, query),
            });
        let keep_alive = head.keep_alive() && !head.has_body();
        let form = match form {
            Ok(form) => form,
            Err(reject) => {
                return self.respond_after_body(key, reader, head, &reject.into(), keep_alive);
            }
        };
        self.begin_upload(key, reader, head, form);
    }

    /// Receives what an administrator wants.
    #[cfg(feature = "admin")]
    pub(super) fn receive_action(
        &mut self,
        key: ConnId,
        reader: Box<RequestReader>,
        head: &RequestHead,
        action: AdminAction,
    ) {
        self.begin_upload(key, reader, head, Form::Admin(action));
    }

    fn begin_upload(
        &mut self,
        key: ConnId,
        reader: Box<RequestReader>,
        head: &RequestHead,
        form: Form,
    ) {
        let upload = Upload {
            head: head.clone(),
            reader,
            body: BodyReader::new(head.body_length()),
            form,
            partial: Vec::new(),
            idle_since_ms: None,
            queued: false,
            unstored: VecDeque::new(),
            verdict: None,
        };
        let waits = head.expects_continue() && upload.reader.is_empty();
        self.connections[key].phase = Phase::Upload(Box::new(upload));
        if waits {
            self.push_outgoing(key, b"HTTP/1.1 100 Continue\r\n\r\n");
        }
    }

    fn check_access(&self, head: &RequestHead) -> Result<(), Reject> {
        if route::is_foreign(head) {
            return Err(Reject::new(
                403,
                "requests from pages of other origins are not allowed",
            ));
        }
        match (self.rules.access.publish, &self.config.publish_token) {
            (PublishAccess::Token, Some(token)) => {
                if shows_token(head, token) {
                    return Ok(());
                }
                let reject = Reject::new(
                    401,
                    "publishing needs `Authorization: Bearer` with the publish token",
                );
                Err(reject.with_header("WWW-Authenticate", "Bearer realm=\"fanfare\""))
            }
            (PublishAccess::Open, _) if route::host_is_loopback(head) => Ok(()),
            (PublishAccess::Open, _) => Err(Reject::new(
                403,
                "without a publish token, the Host must be a loopback name",
            )),
            _ => Err(Reject::new(
                403,
                "publishing is closed: set a publish token (`publish-token`), or bind the server to a loopback address",
            )),
        }
    }

    fn form_of(
        &self,
        head: &RequestHead,
        namespace: Option<Namespace>,
        query: PublishQuery,
    ) -> Result<Form, Reject> {
        let content_type = head.header("content-type").unwrap_or_default();
        let media_type = content_type
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        let too_large = |most: usize| {
            head.fixed_length()
                .is_some_and(|length| length > most as u64)
        };
        let (form, most) = match (namespace, media_type.as_str()) {
            (Some(namespace), _) => (Form::Data(namespace, query), self.config.max_event),
            (None, "application/json") => (
                Form::Json {
                    broadcast: query.broadcast,
                },
                max_json_bytes(self.config.max_event),
            ),
            (None, "application/x-ndjson") => (
                Form::Lines {
                    line: 0,
                    published: 0,
                    broadcast: query.broadcast,
                },
                usize::MAX,
            ),
            // A body published as it is to the root, or to everyone, has no other way to say so.
            (None, _) if head.path().ends_with('/') || query.broadcast => {
                (Form::Data(Namespace::root(), query), self.config.max_event)
            }
            (None, _) => {
                let message = "POST /publish takes application/json or application/x-ndjson; to publish a body as it is, \
                               name a namespace: POST /publish/<namespace>";
                return Err(Reject::new(415, message));
            }
        };
        if too_large(most) {
            return Err(self.too_large());
        }
        Ok(form)
    }

    fn too_large(&self) -> Reject {
        Reject::new(
            413,
            format!("an event may have {} bytes of data", self.config.max_event),
        )
    }

    pub(super) fn queue_upload(&mut self, key: ConnId) {
        if let Phase::Upload(upload) = &mut self.connections[key].phase {
            upload.idle_since_ms = None;
            if !std::mem::replace(&mut upload.queued, true) {
                self.connections.uploads.queue.push_back(key);
            }
        }
    }

    /// Works on the upload that has waited longest, if events may be published now; returns whether there was one.
    pub fn work_on_upload(&mut self, now: Instant) -> bool {
        self.clock.set(now);
        if !self.accepting_events() {
            return false;
        }
        let Some(key) = self.connections.uploads.queue.pop_front() else {
            return false;
        };
        let Some(connection) = self.connections.live_mut(key) else {
            return true;
        };
        if !matches!(connection.phase, Phase::Upload(_)) {
            return true;
        }
        // The upload is lent out while it is worked on, as publishing needs the rest of the engine.
        let lent = Phase::Responding {
            reader: Box::default(),
        };
        let Phase::Upload(mut upload) = std::mem::replace(&mut connection.phase, lent) else {
            return true;
        };
        let half_closed = connection.half_closed;
        upload.queued = false;
        let held = upload.held();
        let id = connection.id;
        let outcome = self.work(&mut upload, RequestId { key, id });
        self.connections.uploads.resize(held, upload.held());
        match outcome {
            Outcome::Unstored => {
                self.connections[key].phase = Phase::Upload(upload);
            }
            Outcome::Hungry if half_closed => {
                self.connections[key].phase = Phase::Upload(upload);
                self.disconnect(key, crate::status::DisconnectReason::Client);
            }
            Outcome::Hungry => {
                upload.idle_since_ms = Some(self.clock.ms());
                self.connections[key].phase = Phase::Upload(upload);
                self.connections.readable_again.push(key);
            }
            Outcome::Again => {
                self.connections[key].phase = Phase::Upload(upload);
                self.queue_upload(key);
            }
            Outcome::Answer(answer, whole) => self.answer_upload(key, upload, &answer, whole),
            Outcome::Broken(reject) => {
                self.connections.uploads.release(&upload);
                self.reject(key, reject);
            }
        }
        true
    }

    fn answer_upload(&mut self, key: ConnId, upload: Box<Upload>, answer: &Response, whole: bool) {
        self.connections.uploads.release(&upload);
        let Upload { head, reader, .. } = *upload;
        let keep_alive = whole && head.keep_alive() && !self.is_draining();
        self.respond_after_body(key, reader, &head, answer, keep_alive);
    }

    fn work(&mut self, upload: &mut Upload, request: RequestId) -> Outcome {
        if upload.verdict.is_some() {
            return Outcome::Unstored;
        }
        let mut worked = 0;
        while worked < PIECE && self.accepting_events() {
            let Upload {
                reader,
                body,
                form,
                partial,
                unstored,
                ..
            } = upload;
            if body.is_done() {
                return self.finish(upload, request);
            }
            // Line by line, so that it stops where the intake closes.
            let input = reader.buffered();
            let input = match (&form, input.iter().position(|&byte| byte == b'\n')) {
                (Form::Lines { .. }, Some(at)) => &input[..=at],
                _ => input,
            };
            let piece = match body.read(input) {
                Ok(piece) => piece,
                Err(reject) => return Outcome::Broken(reject),
            };
            let consumed = piece.consumed;
            let taken = match form {
                Form::Lines { .. } => {
                    match self.take_lines(form, partial, unstored, piece.data, request) {
                        Err(verdict) => {
                            // If the line was the last, the next request is what follows it.
                            reader.consume(consumed);
                            return self.conclude(upload, verdict);
                        }
                        Ok(()) => Ok(()),
                    }
                }
                Form::Data(..) => self.take_bytes(partial, piece.data, self.config.max_event),
                Form::Json { .. } => {
                    self.take_bytes(partial, piece.data, max_json_bytes(self.config.max_event))
                }
                #[cfg(feature = "admin")]
                Form::Admin(_) => self.take_action_bytes(partial, piece.data),
            };
            if let Err(reject) = taken {
                return Outcome::Answer(reject.into(), false);
            }
            reader.consume(consumed);
            worked += consumed;
            if consumed == 0 && !body.is_done() {
                return Outcome::Hungry;
            }
        }
        Outcome::Again
    }

    fn take_bytes(&self, partial: &mut Vec<u8>, bytes: &[u8], most: usize) -> Result<(), Reject> {
        if partial.len() + bytes.len() > most {
            return Err(self.too_large());
        }
        if self.connections.uploads.bytes + bytes.len() > MAX_UPLOAD_BYTES + most {
            return Err(Reject::new(503, "too many bodies are being received")
                .with_header("Retry-After", "1"));
        }
        partial.extend_from_slice(bytes);
        Ok(())
    }

    #[cfg(feature = "admin")]
    fn take_action_bytes(&self, partial: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Reject> {
        let too_large = |reject: Reject| match reject.status {
            413 => Reject::new(
                413,
                format!("the body exceeds the maximum of {ACTION_MOST} bytes"),
            ),
            _ => reject,
        };
        self.take_bytes(partial, bytes, ACTION_MOST)
            .map_err(too_large)
    }

    fn take_lines(
        &mut self,
        form: &mut Form,
        partial: &mut Vec<u8>,
        unstored: &mut VecDeque<u64>,
        mut bytes: &[u8],
        request: RequestId,
    ) -> Result<(), Verdict> {
        while let Some(at) = bytes.iter().position(|&byte| byte == b'\n') {
            let (line, rest) = bytes.split_at(at);
            bytes = &rest[1..];
            if partial.is_empty() {
                self.publish_line(form, unstored, line, request)?;
            } else {
                self.take_line_bytes(form, partial, line)?;
                let line = std::mem::take(partial);
                self.publish_line(form, unstored, &line, request)?;
            }
        }
        self.take_line_bytes(form, partial, bytes)
    }

    fn take_line_bytes(
        &self,
        form: &Form,
        partial: &mut Vec<u8>,
        bytes: &[u8],
    ) -> Result<(), Verdict> {
        let most = max_json_bytes(self.config.max_event);
        let taken = self.take_bytes(partial, bytes, most);
        taken.map_err(|reject| {
            let reject = match reject.status {
                413 => Reject::bad(format!("the line is longer than {most} bytes")),
                _ => reject,
            };
            let line = match form {
                Form::Lines { line, .. } => line + 1,
                _ => 1,
            };
            Verdict::BadLine { line, reject }
        })
    }

    fn publish_line(
        &mut self,
        form: &mut Form,
        unstored: &mut VecDeque<u64>,
        line: &[u8],
        request: RequestId,
    ) -> Result<(), Verdict> {
        let Form::Lines {
            line: number,
            published,
            broadcast,
        } = form
        else {
            return Ok(());
        };
        *number += 1;
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        let bad = |status, message| Verdict::BadLine {
            line: *number,
            reject: Reject::new(status, message),
        };
        let event = parse_event(line).map_err(|message| bad(400, message))?;
        match self.publish_event(&event, *broadcast, request) {
            Ok(Some(_)) => *published += 1,
            Ok(None) => unstored.push_back(*number),
            Err(problem @ Unpublished::Store) => return Err(bad(507, problem.to_string())),
            Err(problem) => return Err(bad(400, problem.to_string())),
        }
        Ok(())
    }

    /// Publishes an event of a request; `None` while it is on its way to the store.
    fn publish_event(
        &mut self,
        event: &Event,
        broadcast: bool,
        request: RequestId,
    ) -> Result<Option<Published>, Unpublished> {
        let limits = self.config.event_limits();
        let frame = if broadcast {
            Frame::broadcast(event, &limits)
        } else {
            Frame::new(event, &limits)
        };
        let frame = frame.map_err(Unpublished::Event)?;
        if self.store_is_refusing() {
            return Err(Unpublished::Store);
        }
        Ok(self.publish_for(Some(request), frame.by_ref()))
    }

    /// The body is there in full.
    fn finish(&mut self, upload: &mut Upload, request: RequestId) -> Outcome {
        let bytes = std::mem::take(&mut upload.partial);
        let form = &mut upload.form;
        let event = match form {
            Form::Lines { .. } => {
                let last = match bytes.is_empty() {
                    true => Ok(()),
                    false => self.publish_line(form, &mut upload.unstored, &bytes, request),
                };
                return self.conclude(upload, last.err().unwrap_or(Verdict::Done));
            }
            #[cfg(feature = "admin")]
            Form::Admin(action) => return Outcome::Answer(self.act(*action, &bytes), true),
            Form::Json { .. } => match parse_event(&bytes) {
                Ok(event) => event,
                Err(message) => return Outcome::Answer(Response::error(400, &message), true),
            },
            Form::Data(namespace, query) => {
                let Ok(data) = String::from_utf8(bytes) else {
                    return Outcome::Answer(Response::error(400, "the body is not UTF-8"), true);
                };
                let mut event = Event::new(namespace.as_str(), data);
                event.event_type = query.event.take();
                event.id = query.id.take();
                event.retry = query.retry.map(std::time::Duration::from_millis);
                event
            }
        };
        let broadcast = match form {
            Form::Json { broadcast } | Form::Lines { broadcast, .. } => *broadcast,
            Form::Data(_, query) => query.broadcast,
            #[cfg(feature = "admin")]
            Form::Admin(_) => false,
        };
        match self.publish_event(&event, broadcast, request) {
            Ok(Some(published)) => {
                Outcome::Answer(self.published_answer(event.id.as_deref(), published), true)
            }
            Ok(None) => {
                upload.unstored.push_back(1);
                self.conclude(upload, Verdict::Done)
            }
            Err(problem) => {
                let answer = Response::error(problem.status(), &problem.to_string());
                Outcome::Answer(answer, true)
            }
        }
    }

    /// Answers with a verdict, once no event is on its way to the store.
    fn conclude(&self, upload: &mut Upload, verdict: Verdict) -> Outcome {
        if upload.unstored.is_empty() {
            let whole = matches!(verdict, Verdict::Done) || upload.body.is_done();
            return Outcome::Answer(verdict.answer(&upload.form), whole);
        }
        upload.verdict = Some(verdict);
        Outcome::Unstored
    }

    fn published_answer(&self, own_id: Option<&str>, published: Published) -> Response {
        let mut json = String::from("{\"id\":");
        match self.published_id(own_id, published.seq) {
            Some(id) => json_string(&id, &mut json),
            None => json.push_str("null"),
        }
        json.push_str(&format!(",\"subscribers\":{}}}", published.subscribers));
        Response::json(200, json)
    }

    /// The ID that subscribers get with an event; `None` without history.
    fn published_id(&self, custom_id: Option<&str>, seq: u64) -> Option<String> {
        let id = || custom_id.map_or_else(|| self.ids.id(seq), str::to_owned);
        self.retention.keeps_history().then(id)
    }

    /// An event of a request was stored and delivered.
    pub(super) fn upload_published(&mut self, request: RequestId, event: &[u8], result: Published) {
        let Some(mut upload) = self.borrow_upload(request) else {
            return;
        };
        upload.unstored.pop_front();
        let answer = match &mut upload.form {
            Form::Lines { published, .. } => {
                *published += 1;
                let verdict = upload.verdict.take_if(|_| upload.unstored.is_empty());
                verdict.map(|verdict| {
                    let whole = matches!(verdict, Verdict::Done) || upload.body.is_done();
                    (verdict.answer(&upload.form), whole)
                })
            }
            _ => Some((self.published_answer(own_id(event), result), true)),
        };
        self.end_or_return(request, upload, answer);
    }

    /// An event of a request could not be stored; none of those behind it is published.
    pub(super) fn refuse_upload(&mut self, request: RequestId, problem: &str) {
        let Some(upload) = self.borrow_upload(request) else {
            return;
        };
        let message = format!("events cannot be stored: {problem}");
        let answer = match (&upload.form, upload.unstored.front()) {
            (form @ Form::Lines { .. }, Some(&line)) => Verdict::BadLine {
                line,
                reject: Reject::new(507, message),
            }
            .answer(form),
            _ => Response::error(507, &message),
        };
        let whole = upload.body.is_done();
        self.end_or_return(request, upload, Some((answer, whole)));
    }

    /// Takes the upload of a request from its connection, if that is still there.
    fn borrow_upload(&mut self, request: RequestId) -> Option<Box<Upload>> {
        let connection = self.connections.live_mut(request.key)?;
        if connection.id != request.id || !matches!(connection.phase, Phase::Upload(_)) {
            return None;
        }
        let lent = Phase::Responding {
            reader: Box::default(),
        };
        match std::mem::replace(&mut connection.phase, lent) {
            Phase::Upload(upload) => Some(upload),
            _ => None,
        }
    }

    fn end_or_return(
        &mut self,
        request: RequestId,
        upload: Box<Upload>,
        answer: Option<(Response, bool)>,
    ) {
        match answer {
            Some((answer, whole)) => self.answer_upload(request.key, upload, &answer, whole),
            None => self.connections[request.key].phase = Phase::Upload(upload),
        }
    }
}

impl Verdict {
    fn answer(&self, form: &Form) -> Response {
        let published = match form {
            Form::Lines { published, .. } => *published,
            _ => 0,
        };
        match self {
            Self::Done => Response::json(200, format!("{{\"published\":{published}}}")),
            Self::BadLine { line, reject } => {
                let mut body = String::from("{\"error\":");
                json_string(&reject.message, &mut body);
                body.push_str(&format!(",\"line\":{line},\"published\":{published}}}"));
                Response::json(reject.status, body)
            }
        }
    }
}
