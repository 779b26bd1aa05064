//! From a connection's bytes to what they ask for, and the answers that are not events.

use std::time::Instant;

use core::net::SocketAddr;

use crate::http::proxy;
use crate::http::request::{RequestHead, RequestReader};
use crate::http::response::{self, CorsHeaders, Response};
use crate::http::route::{self, Replay, Route};
use crate::http::{Progress, Reject};
use crate::namespace::Namespaces;
use crate::status::DisconnectReason;

use super::connection::Phase;
use super::resume::Resume;
use super::{ConnId, Engine, ReadInterest, Routing};

/// Bytes after a subscriber's request that are ignored; one more ends the connection.
const IGNORED_MOST: u32 = 4 << 10;
/// Bytes that are read and thrown away behind a refused request, so that the answer is not lost with them.
const DISCARDED_MOST: u32 = 1 << 20;

impl Engine {
    /// Bytes came from a connection. Never panics, whatever they are, and what is kept of them is bounded.
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
            Phase::Streaming(stream) => {
                stream.ignored += bytes.len() as u32;
                if stream.ignored > IGNORED_MOST {
                    self.disconnect(key, DisconnectReason::Protocol);
                }
                return ReadInterest::More;
            }
            #[cfg(feature = "admin")]
            Phase::Watching { ignored } => {
                *ignored += bytes.len() as u32;
                if *ignored > IGNORED_MOST {
                    self.disconnect(key, DisconnectReason::Protocol);
                }
                return ReadInterest::More;
            }
            Phase::Closing {
                reason, discarded, ..
            } => {
                *discarded += bytes.len() as u32;
                if *discarded > DISCARDED_MOST {
                    let reason = *reason;
                    self.disconnect(key, reason);
                }
                return ReadInterest::More;
            }
        }
        self.process(key)
    }

    /// The other side will send no more.
    pub fn hang_up(&mut self, key: ConnId, now: Instant) {
        self.clock.set(now);
        if self.connections.get(key).is_none() {
            return;
        }
        let connection = &mut self.connections[key];
        connection.half_closed = true;
        match &connection.phase {
            // Somebody who has asked gets the answer, though nothing more will be asked.
            Phase::Responding { .. } => {}
            Phase::Closing { .. } if !connection.outgoing.is_empty() => {}
            Phase::Closing { reason, .. } => {
                let reason = *reason;
                self.disconnect(key, reason);
            }
            #[cfg(feature = "publish")]
            Phase::Upload(_) => self.queue_upload(key),
            #[cfg(feature = "admin")]
            Phase::Watching { .. } => self.disconnect(key, DisconnectReason::Client),
            Phase::Request { .. } | Phase::Streaming(_) => {
                self.disconnect(key, DisconnectReason::Client)
            }
        }
    }

    /// Goes on with what a connection has sent, as far as that can be done now.
    pub(super) fn process(&mut self, key: ConnId) -> ReadInterest {
        loop {
            let connection = &mut self.connections[key];
            match &mut connection.phase {
                Phase::Request { reader, .. } => match reader.head() {
                    Ok(Progress::Complete(head)) => {
                        let reader = std::mem::take(reader);
                        self.answer(key, reader, &head);
                    }
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
                    self.queue_upload(key);
                    return ReadInterest::Pause;
                }
                Phase::Responding { .. } => return ReadInterest::Pause,
                #[cfg(feature = "admin")]
                Phase::Watching { .. } => return ReadInterest::More,
                Phase::Streaming(_) | Phase::Closing { .. } => return ReadInterest::More,
            }
        }
    }

    fn answer(&mut self, key: ConnId, reader: Box<RequestReader>, head: &RequestHead) {
        #[cfg(feature = "admin")]
        if head.method() == "OPTIONS" && self.is_for_admin(key, head) {
            return self.answer_admin(key, reader, head);
        }
        if head.method() == "OPTIONS" {
            return self.respond(key, reader, head, &response::preflight());
        }
        if self.connections[key].surplus {
            return self.answer_overload(key, head);
        }
        let routing = self
            .rules
            .route
            .as_mut()
            .map_or(Routing::Default, |route| route(head));
        #[cfg(feature = "admin")]
        if matches!(routing, Routing::Default) && self.is_for_admin(key, head) {
            return self.answer_admin(key, reader, head);
        }
        let routed = match routing {
            Routing::Default => route::route(head, &self.config.namespace_limits()),
            Routing::Subscribe(namespaces) => Namespaces::new(namespaces)
                .map(|namespaces| Route::Subscribe { namespaces })
                .ok_or_else(|| Reject::new(500, "the route hook returned no namespaces")),
            Routing::Respond(response) => {
                return self.respond(key, reader, head, &response.checked());
            }
            Routing::Refuse(status, message) => Err(Reject::new(status.clamp(400, 599), message)),
        };
        match routed {
            Ok(Route::Subscribe { .. }) if self.is_draining() => self.answer_overload(key, head),
            Ok(Route::Subscribe { namespaces }) => match route::replay(head) {
                Ok(replay) => self.answer_stream(key, reader, head, &namespaces, replay),
                Err(reject) => {
                    self.respond(key, reader, head, &reject.into());
                }
            },
            Ok(Route::Healthz) => self.respond(key, reader, head, &Response::text(200, "ok")),
            Ok(Route::Readyz) => {
                let answer = if self.is_draining() {
                    Response::error(503, "draining")
                } else {
                    Response::text(200, "ok")
                };
                self.respond(key, reader, head, &answer);
            }
            #[cfg(feature = "publish")]
            Ok(Route::Publish { namespace, query }) => {
                self.answer_publish(key, reader, head, namespace, query)
            }
            #[cfg(not(feature = "publish"))]
            Ok(Route::Publish { .. }) => {
                self.respond(key, reader, head, &Reject::not_found().into())
            }
            Err(reject) => self.respond(key, reader, head, &reject.into()),
        }
    }

    fn answer_stream(
        &mut self,
        key: ConnId,
        reader: Box<RequestReader>,
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
        let mut prefix = self.stream_head(head, resume.outcome());
        if head.method() == "HEAD" {
            return self.close_with(key, &prefix, DisconnectReason::Client);
        }
        let Ok(begin) = self.start_stream(key, namespaces, &resume) else {
            let answer =
                Response::error(503, "too many namespaces are in use").header("Retry-After", "5");
            return self.respond(key, reader, head, &answer);
        };
        if resume.gap.is_none() {
            prefix.extend_from_slice(&begin);
        }
        let retry_ms = self.config.retry.as_millis() as u64;
        if retry_ms > 0 {
            let jittered = self
                .connections
                .random
                .between(retry_ms.div_ceil(2), retry_ms + retry_ms / 2);
            prefix.extend_from_slice(format!("retry:{jittered}\n").as_bytes());
        }
        prefix.extend_from_slice(&crate::event_stream::encode::comment(
            &self.config.keepalive_text,
        ));
        if resume.gap.is_some() {
            prefix.extend_from_slice(&begin);
        }
        self.introduce(key, head);
        self.push_outgoing(key, &prefix);
        if let Phase::Streaming(stream) = &mut self.connections[key].phase {
            stream.ignored = reader.buffered().len() as u32;
            if stream.ignored > IGNORED_MOST {
                self.disconnect(key, DisconnectReason::Protocol);
            }
        }
    }

    /// Notes who a stream's client is, as its request tells.
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
        #[cfg(feature = "admin")]
        self.record_client(key, head);
    }

    /// Too many connections: a browser's `EventSource` gives up for good on any status but 200, so a stream is told when to come back.
    fn answer_overload(&mut self, key: ConnId, head: &RequestHead) {
        if wants_stream(head) {
            let mut bytes = self.stream_head(head, Resume::live().outcome());
            if head.method() == "GET" {
                bytes.extend_from_slice(
                    format!(
                        "retry:{}\n\n",
                        self.connections.random.between(5_000, 30_000)
                    )
                    .as_bytes(),
                );
            }
            return self.close_with(key, &bytes, DisconnectReason::Overload);
        }
        let wait = self.connections.random.between(5, 30).to_string();
        let answer = Response::error(503, "too many connections").header("Retry-After", wait);
        let bytes = answer.encode(head, &self.cors(head), false);
        self.close_with(key, &bytes, DisconnectReason::Overload);
    }

    /// The head of an event stream, which says what became of the wish to go on after an event.
    fn stream_head(&self, head: &RequestHead, replay: &'static str) -> Vec<u8> {
        let mut headers = self.cors(head);
        headers.push(("Fanfare-Replay", replay.into()));
        response::stream_head(&self.config.headers, &headers)
    }

    fn cors(&self, head: &RequestHead) -> CorsHeaders {
        response::cors_headers(&self.config.cors_origins, head.header("origin"))
    }

    /// Answers a request whose body, if it has one, was read or is not wanted.
    pub(super) fn respond(
        &mut self,
        key: ConnId,
        reader: Box<RequestReader>,
        head: &RequestHead,
        answer: &Response,
    ) {
        self.respond_after_body(key, reader, head, answer, self.keeps_alive(head));
    }

    /// Whether another request may follow one whose body, if it has one, is not read.
    fn keeps_alive(&self, head: &RequestHead) -> bool {
        head.keep_alive() && !head.has_body() && !self.is_draining()
    }

    pub(super) fn respond_after_body(
        &mut self,
        key: ConnId,
        reader: Box<RequestReader>,
        head: &RequestHead,
        answer: &Response,
        keep_alive: bool,
    ) {
        let bytes = answer.encode(head, &self.cors(head), keep_alive);
        self.respond_with(key, reader, &bytes, keep_alive);
    }

    fn respond_with(
        &mut self,
        key: ConnId,
        reader: Box<RequestReader>,
        bytes: &[u8],
        keep_alive: bool,
    ) {
        if keep_alive {
            self.connections[key].phase = Phase::Responding { reader };
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

    /// Answers what is no request, and ends the connection.
    pub(super) fn reject(&mut self, key: ConnId, reject: Reject) {
        let reason = if reject.status == 408 {
            DisconnectReason::Timeout
        } else {
            DisconnectReason::Protocol
        };
        self.close_with(key, &response::rejection(reject), reason);
    }

    pub(super) fn refuse_late_request(&mut self, key: ConnId) {
        self.reject(key, Reject::new(408, "the request did not come in time"));
    }

    /// Gives a connection its last bytes.
    pub(super) fn close_with(&mut self, key: ConnId, bytes: &[u8], reason: DisconnectReason) {
        let closing = Phase::Closing {
            reason,
            linger: true,
            linger_until_ms: None,
            discarded: 0,
        };
        let before = std::mem::replace(&mut self.connections[key].phase, closing);
        #[cfg(feature = "publish")]
        if let Phase::Upload(upload) = before {
            self.connections.uploads.release(&upload);
        }
        #[cfg(not(feature = "publish"))]
        drop(before);
        self.push_outgoing(key, bytes);
        self.connections.readable_again.push(key);
    }
}

/// Whether somebody asks for an event stream, as a browser's `EventSource` does.
fn wants_stream(head: &RequestHead) -> bool {
    let accepts = head
        .header("accept")
        .is_some_and(|accept| accept.contains("text/event-stream"));
    accepts && matches!(head.method(), "GET" | "HEAD")
}
