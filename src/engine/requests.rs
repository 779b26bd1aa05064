//! The verbs of requests: a connection's bytes, the endpoint that they ask for, and the responses
//! that are not event streams.

use std::time::Instant;

use core::net::SocketAddr;

use crate::event_stream::encode;
use crate::http::proxy;
use crate::http::request::RequestHead;
use crate::http::response::{self, CorsHeaders, Response};
use crate::http::route::{self, Replay, Route};
use crate::http::{Progress, Reject};
use crate::namespace::Namespaces;
use crate::status::DisconnectReason;

use super::connection::Phase;
use super::resume::Resume;
use super::{ConnId, Engine, ReadInterest, Routing};

/// The limit of bytes that a subscriber may send after its request. They are ignored.
const MAX_IGNORED: u32 = 4 << 10;
/// The limit of bytes that are read and discarded after a refused request. Without reading them,
/// the system would drop the response when the connection is closed.
const MAX_DISCARDED: u32 = 1 << 20;

impl Engine {
    /// Takes bytes from a connection. Any bytes are allowed, and the memory for them is bounded.
    pub fn receive(&mut self, key: ConnId, bytes: &[u8], now: Instant) -> ReadInterest {
        self.clock.set(now);
        let Some(connection) = self.connections.live_mut(key) else {
            return ReadInterest::Pause;
        };
        match &mut connection.phase {
            Phase::Request { reader, .. } | Phase::Responding { reader } => reader.push(bytes),
            #[cfg(feature = "publish")]
            Phase::Upload(upload) => {
                upload.reader.push(bytes);
            }
            Phase::Streaming(_) | Phase::Watching { .. } => {
                self.ignore_bytes(key, bytes.len() as u32);
                return ReadInterest::More;
            }
            Phase::Closing {
                reason, discarded, ..
            } => {
                *discarded += bytes.len() as u32;
                if *discarded > MAX_DISCARDED {
                    let reason = *reason;
                    self.disconnect(key, reason);
                }
                return ReadInterest::More;
            }
        }
        self.process(key)
    }

    /// Records that the client will send no more bytes.
    pub fn hang_up(&mut self, key: ConnId, now: Instant) {
        self.clock.set(now);
        if self.connections.get(key).is_none() {
            return;
        }
        let connection = &mut self.connections[key];
        connection.half_closed = true;
        match &connection.phase {
            // The client still receives the response to its request.
            Phase::Responding { .. } => {}
            Phase::Closing { .. } if !connection.outgoing.is_empty() => {}
            Phase::Closing { reason, .. } => {
                let reason = *reason;
                self.disconnect(key, reason);
            }
            #[cfg(feature = "publish")]
            Phase::Upload(_) => self.connections.queue_upload(key),
            Phase::Request { .. } | Phase::Streaming(_) | Phase::Watching { .. } => {
                self.disconnect(key, DisconnectReason::Client);
            }
        }
    }

    /// Works on the bytes that a connection has sent, as far as its phase allows.
    pub(super) fn process(&mut self, key: ConnId) -> ReadInterest {
        loop {
            let connection = &mut self.connections[key];
            match &mut connection.phase {
                Phase::Request { reader, .. } => match reader.head() {
                    Ok(Progress::Complete(head)) => self.answer(key, &head),
                    Ok(Progress::Incomplete) => {
                        if connection.half_closed {
                            self.disconnect(key, DisconnectReason::Client);
                        }
                        return ReadInterest::More;
                    }
                    Err(reject) => self.reject(key, reject),
                },
                #[cfg(feature = "publish")]
                Phase::Upload(_) => {
                    self.connections.queue_upload(key);
                    return ReadInterest::Pause;
                }
                Phase::Responding { .. } => return ReadInterest::Pause,
                Phase::Streaming(_) | Phase::Watching { .. } | Phase::Closing { .. } => {
                    return ReadInterest::More;
                }
            }
        }
    }

    /// Answers a request as the application's `route` hook decides, if there is one.
    fn answer(&mut self, key: ConnId, head: &RequestHead) {
        let is_for_admin = self.is_for_admin(key, head);
        if head.method() == "OPTIONS" {
            return match is_for_admin {
                true => self.answer_admin(key, head),
                false => self.respond(key, head, &response::preflight()),
            };
        }
        if self.connections[key].surplus {
            return self.answer_overload(key, head);
        }
        let routing = self
            .rules
            .route
            .as_mut()
            .map_or(Routing::Default, |route| route(head));
        if is_for_admin && matches!(routing, Routing::Default) {
            return self.answer_admin(key, head);
        }
        let routed = match routing {
            Routing::Default => route::route(head, &self.config.namespace_limits()),
            Routing::Subscribe(namespaces) => Namespaces::new(namespaces)
                .map(|namespaces| Route::Subscribe { namespaces })
                .ok_or_else(|| Reject::new(500, "the route hook returned no namespaces")),
            Routing::Respond(response) => {
                return self.respond(key, head, &response.checked());
            }
            Routing::Refuse(status, message) => Err(Reject::new(status.clamp(400, 599), message)),
        };
        match routed {
            Ok(route) => self.serve(key, head, route),
            Err(reject) => self.respond(key, head, &reject.into()),
        }
    }

    /// Serves a route.
    fn serve(&mut self, key: ConnId, head: &RequestHead, route: Route) {
        match route {
            Route::Subscribe { .. } if self.is_draining() => self.answer_overload(key, head),
            Route::Subscribe { namespaces } => match route::replay(head) {
                Ok(replay) => self.answer_stream(key, head, &namespaces, replay),
                Err(reject) => self.respond(key, head, &reject.into()),
            },
            Route::Readyz if self.is_draining() => {
                self.respond(key, head, &Response::error(503, "draining"));
            }
            Route::Healthz | Route::Readyz => {
                self.respond(key, head, &Response::text(200, "ok"));
            }
            #[cfg(feature = "publish")]
            Route::Publish { namespace, query } => {
                self.answer_publish(key, head, namespace, query);
            }
            #[cfg(not(feature = "publish"))]
            Route::Publish { .. } => self.respond(key, head, &Reject::not_found().into()),
        }
    }

    /// Answers a request for an event stream.
    fn answer_stream(
        &mut self,
        key: ConnId,
        head: &RequestHead,
        namespaces: &Namespaces,
        replay: Replay,
    ) {
        let resume = Resume::find(
            replay,
            namespaces.as_slice(),
            &self.topics,
            &self.retention,
            &self.ids,
        );
        let mut bytes = self.stream_head(head, resume.outcome());
        if head.method() == "HEAD" {
            return self.close_with(key, &bytes, DisconnectReason::Client);
        }
        let ignored = self.connections[key].buffered_bytes() as u32;
        let Ok(begin) = self.start_stream(key, namespaces, &resume) else {
            let response =
                Response::error(503, "too many namespaces are in use").header("Retry-After", "5");
            return self.respond(key, head, &response);
        };
        // The ID line, the reconnection time and the comment are one block, which ends with the
        // empty line after the comment. A gap is an event of its own, so it comes after the block.
        let (id_line, gap) = match resume.gap {
            None => (begin, Vec::new()),
            Some(_) => (Vec::new(), begin),
        };
        bytes.extend(id_line);
        bytes.extend(self.retry_line());
        bytes.extend(encode::comment(&self.config.keepalive_text));
        bytes.extend(gap);
        self.introduce(key, head);
        self.push_outgoing(key, &bytes);
        self.ignore_bytes(key, ignored);
    }

    /// The reconnection time of a stream, drawn around `retry`, so that clients that were
    /// disconnected together do not come back together. Empty if `retry` is 0.
    fn retry_line(&mut self) -> Vec<u8> {
        let retry_ms = self.config.retry.as_millis() as u64;
        if retry_ms == 0 {
            return Vec::new();
        }
        let (least, most) = (retry_ms.div_ceil(2), retry_ms + retry_ms / 2);
        let drawn = self.connections.random.between(least, most);
        format!("retry:{drawn}\n").into_bytes()
    }

    /// Counts bytes that a client sends after its request for a stream. Too many of them end it.
    fn ignore_bytes(&mut self, key: ConnId, bytes: u32) {
        let ignored = match &mut self.connections[key].phase {
            Phase::Streaming(stream) => &mut stream.ignored,
            Phase::Watching { ignored } => ignored,
            _ => return,
        };
        *ignored += bytes;
        if *ignored > MAX_IGNORED {
            self.disconnect(key, DisconnectReason::Protocol);
        }
    }

    /// Records the address of a stream's client, and what its request says about it.
    fn introduce(&mut self, key: ConnId, head: &RequestHead) {
        let trusted = &self.config.trusted_proxies;
        let connection = &mut self.connections[key];
        if let Some(peer) = connection.peer
            && !trusted.is_empty()
        {
            let client = proxy::client_address(head, peer.ip(), trusted);
            if client != peer.ip().to_canonical() {
                connection.peer = Some(SocketAddr::new(client, 0));
            }
        }
        self.record_client(key, head);
    }

    /// Refuses a request because there are too many connections, or because of a drain.
    ///
    /// A browser's `EventSource` gives up for good on any status but 200 (WHATWG HTML, section
    /// 9.2.3). A stream is therefore opened, given a reconnection time, and closed.
    fn answer_overload(&mut self, key: ConnId, head: &RequestHead) {
        if wants_stream(head) {
            let mut bytes = self.stream_head(head, Resume::live().outcome());
            if head.method() == "GET" {
                let retry_ms = self.connections.random.between(5_000, 30_000);
                bytes.extend(format!("retry:{retry_ms}\n\n").into_bytes());
            }
            return self.close_with(key, &bytes, DisconnectReason::Overload);
        }
        let wait = self.connections.random.between(5, 30).to_string();
        let response = Response::error(503, "too many connections").header("Retry-After", wait);
        let bytes = response.encode(head, &self.cors(head), false);
        self.close_with(key, &bytes, DisconnectReason::Overload);
    }

    /// The head of the response to a request for an event stream. `replay` is its outcome.
    fn stream_head(&self, head: &RequestHead, replay: &'static str) -> Vec<u8> {
        let mut headers = self.cors(head);
        headers.push(("Fanfare-Replay", replay.into()));
        response::stream_head(&self.config.headers, &headers)
    }

    pub(super) fn cors(&self, head: &RequestHead) -> CorsHeaders {
        response::cors_headers(&self.config.cors_origins, head.header("origin"))
    }

    /// Responds to a request whose body, if it has one, is not read.
    pub(super) fn respond(&mut self, key: ConnId, head: &RequestHead, response: &Response) {
        let keep_alive = head.keep_alive() && !head.has_body() && !self.is_draining();
        let bytes = response.encode(head, &self.cors(head), keep_alive);
        self.respond_with(key, &bytes, keep_alive);
    }

    /// Sends the bytes of a response, after which the connection serves the next request or ends.
    pub(super) fn respond_with(&mut self, key: ConnId, bytes: &[u8], keep_alive: bool) {
        if keep_alive {
            let reader = self.connections[key].take_reader();
            self.connections
                .set_phase(key, Phase::Responding { reader });
            self.push_outgoing(key, bytes);
        } else {
            let reason = if self.is_draining() {
                DisconnectReason::Shutdown
            } else {
                DisconnectReason::Client
            };
            self.close_with(key, bytes, reason);
        }
    }

    /// Answers bytes that are not a valid request, and ends the connection.
    pub(super) fn reject(&mut self, key: ConnId, reject: Reject) {
        let reason = if reject.status == 408 {
            DisconnectReason::Timeout
        } else {
            DisconnectReason::Protocol
        };
        self.close_with(key, &response::rejection(reject), reason);
    }

    pub(super) fn refuse_late_request(&mut self, key: ConnId) {
        self.reject(
            key,
            Reject::new(408, "the request was not complete in time"),
        );
    }

    /// Sends the last bytes of a connection, and ends it for this reason.
    pub(super) fn close_with(&mut self, key: ConnId, bytes: &[u8], reason: DisconnectReason) {
        let closing = Phase::Closing {
            reason,
            linger_until_ms: None,
            discarded: 0,
        };
        self.connections.set_phase(key, closing);
        self.push_outgoing(key, bytes);
        self.connections.readable_again.push(key);
    }
}

/// Whether a client asks for an event stream, as a browser's `EventSource` does.
fn wants_stream(head: &RequestHead) -> bool {
    let accepts = head
        .header("accept")
        .is_some_and(|accept| accept.contains("text/event-stream"));
    accepts && matches!(head.method(), "GET" | "HEAD")
}
