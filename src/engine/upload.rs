//! Publishing over HTTP: the verbs that receive the body of a request and publish its events.
//!
//! Bodies are worked on only while events are accepted, one after the other. A client that
//! publishes as fast as it can therefore waits as a thread of this process does: what it has sent
//! stays in its socket.

use std::time::Instant;

use crate::config::PublishAccess;
use crate::event::Event;
use crate::event_stream::frame::{Frame, own_id};
use crate::http::Reject;
use crate::http::access::shows_token;
use crate::http::event_json::max_json_bytes;
use crate::http::request::RequestHead;
use crate::http::response::Response;
use crate::http::route::{self, PublishQuery};
use crate::log::Seq;
use crate::namespace::Namespace;
use crate::status::DisconnectReason;

use super::connection::Phase;
use super::pending_writes::RequestId;
use super::uploads::{EventBody, Item, Sink, Upload, UploadError};
use super::{ConnId, Engine, Published};

/// Bytes of a body that are worked on before other bodies have their turn.
const MAX_TURN_BYTES: usize = 64 << 10;

impl Engine {
    /// Answers `POST /publish`.
    pub(super) fn answer_publish(
        &mut self,
        key: ConnId,
        head: &RequestHead,
        namespace: Option<Namespace>,
        query: PublishQuery,
    ) {
        match self.publish_sink(head, namespace, query) {
            Ok((sink, max_item)) => self.begin_upload(key, head, sink, max_item),
            Err(reject) => self.respond(key, head, &reject.into()),
        }
    }

    /// What the body of a publish request is for, and the limit of bytes in each of its items.
    fn publish_sink(
        &self,
        head: &RequestHead,
        namespace: Option<Namespace>,
        query: PublishQuery,
    ) -> Result<(Sink, usize), Reject> {
        self.check_access(head)?;
        let max_event = self.config.max_event;
        let broadcast = query.broadcast;
        let sink = match (namespace, media_type(head).as_str()) {
            (Some(namespace), _) => Sink::Event(EventBody::Data(namespace, query)),
            (None, "application/json") => Sink::Event(EventBody::Json { broadcast }),
            (None, "application/x-ndjson") => Sink::Lines {
                published: 0,
                broadcast,
            },
            // The body is data for the root, or for every subscriber.
            (None, _) if head.path().ends_with('/') || broadcast => {
                Sink::Event(EventBody::Data(Namespace::root(), query))
            }
            (None, _) => {
                let message = "POST /publish takes application/json or application/x-ndjson; to publish a \
                               body as it is, name a namespace: POST /publish/<namespace>";
                return Err(Reject::new(415, message));
            }
        };
        if self.store_is_refusing() {
            return Err(UploadError::StoreFailing.reject(&sink));
        }
        let max_item = match sink {
            Sink::Event(EventBody::Data(..)) => max_event,
            _ => max_json_bytes(max_event),
        };
        Ok((sink, max_item))
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

    /// Whether publishing over HTTP is refused because the store failed recently.
    fn store_is_refusing(&self) -> bool {
        let store = self.store.as_ref();
        store.is_some_and(|store| store.is_refusing(self.clock.ms()))
    }

    /// Begins to receive the body of a request, whose items have at most `max_item` bytes.
    pub(super) fn begin_upload(
        &mut self,
        key: ConnId,
        head: &RequestHead,
        sink: Sink,
        max_item: usize,
    ) {
        if sink.refuses_length(head, max_item) {
            let reject = UploadError::TooLarge(max_item).reject(&sink);
            return self.respond(key, head, &reject.into());
        }
        let reader = self.connections[key].take_reader();
        let waits = head.expects_continue() && reader.is_empty();
        let upload = Upload::new(head, reader, sink, max_item);
        self.connections
            .set_phase(key, Phase::Upload(Box::new(upload)));
        if waits {
            self.push_outgoing(key, b"HTTP/1.1 100 Continue\r\n\r\n");
        }
    }

    /// Works on the upload that has waited longest, if events are accepted now. Returns whether
    /// there was one.
    pub fn work_on_upload(&mut self, now: Instant) -> bool {
        self.clock.set(now);
        if !self.accepting_events() {
            return false;
        }
        let Some(key) = self.connections.pop_upload() else {
            return false;
        };
        let mut worked = 0;
        while worked < MAX_TURN_BYTES && self.accepting_events() {
            match self.connections.read_upload(key) {
                None => return true,
                Some(Ok(Item::Incomplete)) => {
                    self.await_upload(key);
                    return true;
                }
                Some(Ok(Item::Complete(item))) => {
                    worked += item.len() + 1;
                    self.take_item(key, item);
                }
                Some(Ok(Item::End)) => self.end_upload(key, Ok(())),
                Some(Err(error)) => self.end_upload(key, Err(error)),
            }
        }
        self.connections.queue_upload(key);
        true
    }

    /// Waits for more bytes of an upload.
    fn await_upload(&mut self, key: ConnId) {
        if self.connections[key].half_closed {
            return self.disconnect(key, DisconnectReason::Client);
        }
        if let Some(upload) = self.connections.upload_mut(key) {
            upload.idle_since_ms = Some(self.clock.ms());
            self.connections.readable_again.push(key);
        }
    }

    /// Does what an item of a body asks for.
    fn take_item(&mut self, key: ConnId, item: Vec<u8>) {
        let id = self.connections[key].id;
        let Some(upload) = self.connections.upload_mut(key) else {
            return;
        };
        if let Sink::Action(action) = upload.sink {
            let response = self.act(action, &item);
            return self.respond_to_upload(key, &response);
        }
        let published = match upload.sink.event(item) {
            Ok(None) => return,
            Ok(Some(event)) => {
                let published = self.publish_event(&event, RequestId { key, id });
                published.map(|published| (event, published))
            }
            Err(error) => Err(error),
        };
        match published {
            Ok((event, Some(published))) => {
                self.record_published(key, event.id.as_deref(), published);
            }
            Ok((_, None)) => {
                if let Some(upload) = self.connections.upload_mut(key) {
                    upload.record_unstored();
                }
            }
            Err(error) => self.end_upload(key, Err(error)),
        }
    }

    /// Publishes an event of a request. Returns `None` if the event is on its way to the store.
    fn publish_event(
        &mut self,
        event: &Event,
        request: RequestId,
    ) -> Result<Option<Published>, UploadError> {
        let limits = self.config.event_limits();
        let frame = Frame::new(event, &limits).map_err(UploadError::Event)?;
        if self.store_is_refusing() {
            return Err(UploadError::StoreFailing);
        }
        Ok(self.publish_for(Some(request), frame.by_ref()))
    }

    fn record_published(&mut self, key: ConnId, custom_id: Option<&str>, published: Published) {
        let Some(upload) = self.connections.upload_mut(key) else {
            return;
        };
        if let Sink::Lines { published, .. } = &mut upload.sink {
            *published += 1;
            self.respond_if_stored(key);
        } else {
            let id = self.published_id(custom_id, published.seq);
            self.respond_to_upload(key, &Upload::published(id.as_deref(), published));
        }
    }

    /// The ID that subscribers receive with an event; `None` without history.
    fn published_id(&self, custom_id: Option<&str>, seq: Seq) -> Option<String> {
        let id = || custom_id.map_or_else(|| self.ids.id(seq), str::to_owned);
        self.retention.keeps_history().then(id)
    }

    /// Ends an upload whose body was read to its end or refused.
    fn end_upload(&mut self, key: ConnId, result: Result<(), UploadError>) {
        if let Err(UploadError::Framing(reject)) = result {
            return self.reject(key, reject);
        }
        if let Some(upload) = self.connections.upload_mut(key) {
            upload.end(result);
            self.respond_if_stored(key);
        }
    }

    /// Responds to an upload that is over, unless an event of it is on its way through the store.
    fn respond_if_stored(&mut self, key: ConnId) {
        let upload = self.connections.upload_mut(key);
        if let Some(response) = upload.and_then(Upload::take_response) {
            self.respond_to_upload(key, &response);
        }
    }

    fn respond_to_upload(&mut self, key: ConnId, response: &Response) {
        let Phase::Upload(upload) = &self.connections[key].phase else {
            return;
        };
        let keep_alive = upload.is_read() && upload.head.keep_alive() && !self.is_draining();
        let bytes = response.encode(&upload.head, &self.cors(&upload.head), keep_alive);
        self.respond_with(key, &bytes, keep_alive);
    }

    /// Reports to a request that an event of it was stored and delivered.
    pub(super) fn upload_published(&mut self, request: RequestId, event: &[u8], result: Published) {
        if let Some(upload) = self.connections.upload_of(request) {
            upload.record_stored();
            self.record_published(request.key, own_id(event), result);
        }
    }

    /// Reports to a request that an event of it could not be stored. The events after it are not
    /// published either.
    pub(super) fn refuse_upload(&mut self, request: RequestId, problem: &str) {
        if let Some(upload) = self.connections.upload_of(request) {
            let response = upload.not_stored(problem);
            self.respond_to_upload(request.key, &response);
        }
    }
}

/// The media type of a request's body, in lower case and without parameters.
fn media_type(head: &RequestHead) -> String {
    let content_type = head.header("content-type").unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default();
    media_type.trim().to_ascii_lowercase()
}
