//! Receiving event streams from any server: an event source that connects, reconnects and hands out what comes.
//!
//! ```no_run
//! use fanfare::client::{EventSource, Update};
//!
//! for update in EventSource::connect("http://127.0.0.1:8001/subscribe/pets")? {
//!     match update {
//!         Update::Event(event) => println!("{}: {}", event.event_type, event.data),
//!         Update::Gap(gap) => println!("some events are gone for good: {:?}", gap.reason),
//!         Update::Open => println!("connected"),
//!         Update::Lost { error, wait } => println!("{error}; again in {wait:?}"),
//!         Update::Closed(error) => println!("{error}"),
//!         _ => {}
//!     }
//! }
//! # Ok::<(), fanfare::client::Error>(())
//! ```
//!
//! An [`EventSource`] keeps the rules of the [WHATWG specification](https://html.spec.whatwg.org/multipage/server-sent-events.html):
//! a stream is status 200 and `text/event-stream`; 204 and every other status end it; a lost connection is made again after the
//! reconnection time, with the last event ID; an incomplete event at the end of a stream is discarded. Beyond them it backs off, notices a
//! server that has gone silent, holds to limits, and follows redirects without showing what is secret to another origin.
//!
//! Proxies are taken from the environment (`HTTPS_PROXY`, `NO_PROXY` and their like), but not for loopback hosts.

mod error;
mod gap;
mod reconnect;
mod request;
mod source;
mod thread;

use std::time::Duration;

pub use crate::event_stream::decode::StreamEvent;
pub use error::Error;
pub use gap::{Gap, GapReason};
pub use source::{CloseHandle, EventSource};
pub use thread::EventSourceThread;

use request::RequestTemplate;
use source::Settings;

/// What happens to an event source, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Update {
    /// The stream is open, for the first time or again.
    Open,
    /// An event came.
    Event(StreamEvent),
    /// The stream could not go on where the last one ended: the server no longer has the events in between.
    Gap(Gap),
    /// The connection failed or ended and will be made again.
    Lost {
        /// Why.
        error: Error,
        /// After this time.
        wait: Duration,
    },
    /// It is over for good, for this reason. Nothing comes after it.
    Closed(Error),
}

/// Where an event source stands; the names are those of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has no stream: it is making a connection or waiting to make one.
    Connecting,
    /// It has a stream.
    Open,
    /// It is over.
    Closed,
}

/// Settings of an [`EventSource`] before it begins.
#[must_use = "nothing is done until `build` or `spawn`"]
#[derive(Debug)]
pub struct Builder {
    template: Result<RequestTemplate, Error>,
    settings: Settings,
    buffer: usize,
}

impl Builder {
    fn new(url: &str) -> Self {
        Self {
            template: RequestTemplate::new(url),
            settings: Settings::default(),
            buffer: 1024,
        }
    }

    /// Sends this header along, in place of one of the same name. A redirect to another origin does not get it.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Ok(template) = &mut self.template
            && let Err(error) = template.set_header(name, value)
        {
            self.template = Err(error);
        }
        self
    }

    /// Sends `Authorization: Bearer` with this token along. A redirect to another origin does not get it.
    pub fn bearer(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// Asks by POST with this body, each time anew, instead of GET.
    pub fn post(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        if let Ok(template) = &mut self.template {
            template.body = Some(body.into());
        }
        self.header("Content-Type", content_type)
    }

    /// Begins after this event, as if it had been the last one received.
    pub fn last_event_id(mut self, id: impl Into<String>) -> Self {
        self.settings.last_event_id = id.into();
        self
    }

    /// The time before a lost connection is made again, until the stream sets another. 3 s by default.
    pub fn reconnection_time(mut self, time: Duration) -> Self {
        self.settings.reconnection_time = time;
        self
    }

    /// The most that is waited at random on top of the reconnection time; it grows from a second with each failure in a row. 30 s by
    /// default, zero for none.
    pub fn max_backoff(mut self, time: Duration) -> Self {
        self.settings.max_backoff = time;
        self
    }

    /// How long a stream may be silent, comments included, before it is taken for dead; zero is for ever. 45 s by default.
    pub fn read_timeout(mut self, time: Duration) -> Self {
        self.settings.read_timeout = time;
        self
    }

    /// How long name resolution, and connecting with TLS, may take each; zero is for ever. 10 s by default.
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.settings.connect_timeout = time;
        self
    }

    /// Bytes that a line, and the data of an event, may have; a larger one ends the event source. 16 MiB by default.
    pub fn max_event(mut self, bytes: usize) -> Self {
        self.settings.max_event = bytes;
        self
    }

    /// Updates that may wait between the thread and its receiver, after [`Builder::spawn`]; when there are as many, nothing more
    /// is read from the server. 1,024 by default.
    pub fn buffer(mut self, updates: usize) -> Self {
        self.buffer = updates;
        self
    }

    /// The type of the event by which a fanfare server tells of a gap. `gap` by default, empty if none does.
    pub fn gap_event(mut self, event_type: impl Into<String>) -> Self {
        self.settings.gap_event = event_type.into();
        self
    }

    /// Goes through this HTTP proxy, or with `None` through none, whatever the environment says.
    pub fn proxy(mut self, url: Option<&str>) -> Self {
        self.settings.environment = false;
        match url.map(ureq::Proxy::new).transpose() {
            Ok(proxy) => self.settings.proxy = proxy,
            Err(error) => self.template = Err(Error::Request(error.to_string())),
        }
        self
    }

    /// An event source that connects when it is first asked for an update.
    ///
    /// # Errors
    /// [`Error::Request`] if the URL, a header or the proxy cannot be used.
    pub fn build(self) -> Result<EventSource, Error> {
        Ok(EventSource::new(self.template?, self.settings))
    }

    /// An event source on a thread of its own, which connects at once.
    ///
    /// # Errors
    /// As for [`Builder::build`]; or [`Error::Network`] if there can be no further thread.
    pub fn spawn(self) -> Result<EventSourceThread, Error> {
        let buffer = self.buffer;
        EventSourceThread::start(self.build()?, buffer)
    }
}
