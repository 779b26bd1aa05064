//! A client for event streams of any server: an event source that reconnects by itself.
//!
//! ```no_run
//! use fanfare::client::{EventSource, Update};
//!
//! for update in EventSource::connect("http://127.0.0.1:8001/subscribe/pets")? {
//!     match update {
//!         Update::Event(event) => println!("{}: {}", event.event_type, event.data),
//!         Update::Gap(gap) => println!("events after {} may be lost", gap.last_event_id),
//!         Update::Open => println!("connected"),
//!         Update::Lost { error, wait } => println!("{error}; reconnecting in {wait:?}"),
//!         Update::Closed(error) => println!("{error}"),
//!         _ => {}
//!     }
//! }
//! # Ok::<(), fanfare::client::Error>(())
//! ```
//!
//! An [`EventSource`] follows WHATWG's [processing model] for `EventSource`:
//! - a stream is a response with status 200 and the type `text/event-stream`; status 204 and every
//!   other status end the event source;
//! - after a lost connection it waits for the reconnection time and connects again, with the last
//!   event ID in the [`Last-Event-ID`] header;
//! - it discards an [incomplete event] at the end of a stream.
//!
//! It also does what the specification leaves open: it backs off while a server fails, ends
//! connections that are silent for too long, limits the size of an event, and follows at most ten
//! redirects. A redirect to another origin does not receive the headers of the application.
//!
//! Proxies come from the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`). They
//! are not used for loopback hosts.
//!
//! [processing model]: https://html.spec.whatwg.org/multipage/server-sent-events.html#sse-processing-model
//! [`Last-Event-ID`]: https://html.spec.whatwg.org/multipage/server-sent-events.html#the-last-event-id-header
//! [incomplete event]: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation

mod close;
mod error;
mod gap;
mod reconnect;
mod request;
mod source;
mod thread;
mod transport;
pub(crate) mod url;

use std::time::Duration;

pub use crate::event_stream::decode::StreamEvent;
pub use close::CloseHandle;
pub use error::{Error, NetworkError};
pub use gap::{Gap, GapReason};
pub use source::EventSource;
pub use thread::EventSourceThread;

use request::RequestTemplate;
use source::Settings;

/// A report of an event source. Reports come in the order in which things happen.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Update {
    /// The stream is open, for the first time or after a reconnection.
    Open,
    /// An event arrived.
    Event(StreamEvent),
    /// The server could not resume the stream completely: events may be lost.
    ///
    /// It follows [`Open`](Self::Open) and comes before the first event.
    Gap(Gap),
    /// The connection failed or ended. The event source connects again after `wait`.
    Lost {
        /// Why it failed or ended.
        error: Error,
        /// The reconnection time and the random backoff.
        wait: Duration,
    },
    /// The event source has ended for this reason. No update follows.
    Closed(Error),
}

/// The state of an event source, as WHATWG's [`readyState`] names it.
///
/// [`readyState`]: https://html.spec.whatwg.org/multipage/server-sent-events.html#dom-eventsource-readystate
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadyState {
    /// It is connecting, or waiting to connect.
    Connecting,
    /// It has a stream.
    Open,
    /// It has ended or was closed.
    Closed,
}

/// Configures an [`EventSource`].
///
/// Invalid settings are reported by [`build`](Self::build) and [`spawn`](Self::spawn).
///
/// ```no_run
/// use std::time::Duration;
///
/// use fanfare::client::EventSource;
///
/// let source = EventSource::builder("https://example.org/subscribe/pets")
///     .bearer("token")
///     .last_event_id("k3x-1207")
///     .reconnection_time(Duration::from_secs(1))
///     .build()?;
/// # Ok::<(), fanfare::client::Error>(())
/// ```
#[must_use = "it does nothing until `build` or `spawn` is called"]
#[derive(Debug)]
pub struct EventSourceBuilder {
    template: Result<RequestTemplate, Error>,
    settings: Settings,
    buffer: usize,
}

impl EventSourceBuilder {
    fn new(url: &str) -> Self {
        Self {
            template: RequestTemplate::new(url),
            settings: Settings::default(),
            buffer: 1024,
        }
    }

    /// Sends this header with each request and replaces one of the same name.
    ///
    /// A redirect to another origin does not receive it.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Ok(template) = &mut self.template
            && let Err(error) = template.set_header(name, value)
        {
            self.template = Err(error);
        }
        self
    }

    /// Sends `Authorization: Bearer` with this token (RFC 6750, section 2.1).
    ///
    /// A redirect to another origin does not receive it.
    pub fn bearer(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// Sends POST requests with this body instead of GET requests, also on each reconnection.
    pub fn post(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        if let Ok(template) = &mut self.template {
            template.set_body(body.into());
        }
        self.header("Content-Type", content_type)
    }

    /// Starts after the event with this ID, as if it were the last one received.
    ///
    /// None by default. An ID that is not a valid header value is not sent.
    pub fn last_event_id(mut self, id: impl Into<String>) -> Self {
        self.settings.last_event_id = id.into();
        self
    }

    /// The time to wait before reconnecting, until the stream sets another with `retry`.
    ///
    /// 3 s by default, 24 h at most.
    pub fn reconnection_time(mut self, time: Duration) -> Self {
        self.settings.reconnection_time = time;
        self
    }

    /// The upper limit of the random time that is added to the reconnection time.
    ///
    /// The random time is at most one second at first. The bound doubles with each connection that
    /// brings no event, up to this limit. 30 s by default; zero turns the backoff off.
    pub fn max_backoff(mut self, time: Duration) -> Self {
        self.settings.max_backoff = time;
        self
    }

    /// How long a stream may be silent before the connection counts as lost. Comments count as
    /// activity.
    ///
    /// 45 s by default; zero means without limit. It must be longer than the server's keepalive
    /// interval.
    pub fn read_timeout(mut self, time: Duration) -> Self {
        self.settings.transport.read_timeout = time;
        self
    }

    /// How long name resolution may take, and how long connecting may take, with TLS.
    ///
    /// 10 s each by default; zero means without limit.
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.settings.transport.connect_timeout = time;
        self
    }

    /// The maximum size of a line, and of the data of an event, in bytes.
    ///
    /// 16 MiB by default. A larger one ends the event source with [`Error::TooLarge`].
    pub fn max_event(mut self, bytes: usize) -> Self {
        self.settings.max_event = bytes;
        self
    }

    /// How many updates the channel of [`spawn`](Self::spawn) holds. While it is full, the event
    /// source stops reading.
    ///
    /// 1,024 by default, at least one.
    pub fn buffer(mut self, updates: usize) -> Self {
        self.buffer = updates;
        self
    }

    /// The event type with which a fanfare server reports a gap (its option `gap-event`).
    ///
    /// `gap` by default. Empty means that no event is taken for a gap.
    pub fn gap_event(mut self, event_type: impl Into<String>) -> Self {
        self.settings.gap_event = event_type.into();
        self
    }

    /// Uses this HTTP proxy for all hosts, or none with `None`, instead of the environment's.
    pub fn proxy(mut self, url: Option<&str>) -> Self {
        self.settings.transport.is_proxy_from_environment = false;
        match url.map(ureq::Proxy::new).transpose() {
            Ok(proxy) => self.settings.transport.proxy = proxy,
            Err(error) => self.template = Err(Error::Request(format!("invalid proxy: {error}"))),
        }
        self
    }

    /// Builds the event source. It connects on the first call of `next`.
    ///
    /// # Errors
    /// [`Error::Request`] if the URL, a header or the proxy is invalid.
    pub fn build(self) -> Result<EventSource, Error> {
        Ok(EventSource::new(self.template?, self.settings))
    }

    /// Builds the event source and starts a thread for it, which connects at once.
    ///
    /// # Errors
    /// As for [`build`](Self::build); [`Error::Network`] if the thread cannot be started.
    pub fn spawn(self) -> Result<EventSourceThread, Error> {
        let buffer = self.buffer;
        EventSourceThread::start(self.build()?, buffer)
    }
}
