//! The event source: carries out what [`Reconnect`] decides, and decodes what it reads.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Read;
use std::time::Duration;

use crossbeam_channel::{Receiver, select};
use ureq::BodyReader;

use super::close::CloseHandle;
use super::error::Error;
use super::gap::Gap;
use super::reconnect::{Action, FollowUp, Reconnect};
use super::request::{Hop, RequestTemplate};
use super::transport::{Answer, Transport, TransportSettings, now};
use super::{EventSourceBuilder, ReadyState, Update};
use crate::event_stream::decode::{Decoded, Decoder};

/// Bytes that one read takes at most.
const READ_BYTES: usize = 64 << 10;

#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) last_event_id: String,
    pub(super) reconnection_time: Duration,
    pub(super) max_backoff: Duration,
    pub(super) max_event: usize,
    pub(super) gap_event: String,
    pub(super) transport: TransportSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            last_event_id: String::new(),
            reconnection_time: Duration::from_secs(3),
            max_backoff: Duration::from_secs(30),
            max_event: 16 << 20,
            gap_event: "gap".into(),
            transport: TransportSettings::default(),
        }
    }
}

/// A subscription to an event stream that reconnects when the connection is lost.
///
/// It is a blocking iterator: `next` connects, waits or reads on the calling thread until there is
/// an [`Update`]. It ends after [`Update::Closed`], or as soon as it is closed. Use
/// [`EventSourceBuilder::spawn`] to read on a separate thread, and [`CloseHandle`] to close it from
/// another thread. Dropping it closes the connection.
///
/// It does not promise that every event arrives: a server may have discarded events while the
/// client was disconnected. A fanfare server with history reports that as [`Update::Gap`]; other
/// servers may not. Each event is returned once if the server honors `Last-Event-ID`.
///
/// ```no_run
/// use std::time::Duration;
///
/// use fanfare::client::{EventSource, Update};
///
/// let mut source = EventSource::builder("https://example.org/subscribe/pets")
///     .bearer("token")
///     .read_timeout(Duration::from_secs(60))
///     .build()?;
/// let first = source.find_map(|update| match update {
///     Update::Event(event) => Some(event.data),
///     _ => None,
/// });
/// # Ok::<(), fanfare::client::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "it does nothing until `next` is called"]
pub struct EventSource {
    template: RequestTemplate,
    settings: Settings,
    transport: Transport,
    close_handle: CloseHandle,
    /// Carries nothing: it is disconnected when the event source is closed.
    closed: Receiver<()>,
    reconnect: Reconnect,
    stream: Option<OpenStream>,
    last_event_id: String,
    /// Updates that `next` has yet to return, oldest first.
    pending: VecDeque<Update>,
    buffer: Vec<u8>,
}

/// A stream that is being read.
struct OpenStream {
    body: BodyReader<'static>,
    decoder: Decoder,
    /// Whether no event has arrived yet: only the first can report a gap.
    is_at_start: bool,
}

impl std::fmt::Debug for OpenStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenStream").finish_non_exhaustive()
    }
}

impl EventSource {
    /// An event source with the default settings. It connects on the first call of `next`.
    ///
    /// # Errors
    /// [`Error::Request`] if the URL is not an absolute `http` or `https` URL, or contains
    /// credentials.
    pub fn connect(url: &str) -> Result<Self, Error> {
        Self::builder(url).build()
    }

    /// Starts to configure an event source for this URL.
    pub fn builder(url: &str) -> EventSourceBuilder {
        EventSourceBuilder::new(url)
    }

    pub(super) fn new(template: RequestTemplate, settings: Settings) -> Self {
        let transport = Transport::new(settings.transport.clone());
        let (close_handle, closed) = CloseHandle::new(transport.agent().clone());
        Self {
            template,
            reconnect: Reconnect::new(now(), settings.reconnection_time, settings.max_backoff),
            last_event_id: settings.last_event_id.clone(),
            settings,
            transport,
            close_handle,
            closed,
            stream: None,
            pending: VecDeque::new(),
            buffer: vec![0; READ_BYTES],
        }
    }

    /// A handle that closes this event source from any thread.
    pub fn close_handle(&self) -> CloseHandle {
        self.close_handle.clone()
    }

    /// Closes this event source; see [`CloseHandle::close`].
    pub fn close(&self) {
        self.close_handle.close();
    }

    /// The state, as of the last update.
    pub fn state(&self) -> ReadyState {
        self.close_handle.state()
    }

    /// A receiver that is disconnected when the event source is closed.
    pub(super) fn closed(&self) -> &Receiver<()> {
        &self.closed
    }

    fn advance(&mut self) {
        match self.reconnect.next_action(now()) {
            // Ends early if the event source is closed.
            Action::Wait(time) => drop(self.closed.recv_timeout(time)),
            Action::Connect => self.connect_once(),
            Action::Read => self.read(),
            Action::Stop => self.close_handle.end(),
        }
        self.close_handle.set_state(self.reconnect.state());
    }

    /// Makes one attempt to connect, following redirects.
    fn connect_once(&mut self) {
        let mut hop = self.template.first_hop();
        loop {
            let (head, body) = match self.request(&hop) {
                None => return, // The event source was closed.
                Some(Ok(answer)) => answer,
                Some(Err(error)) => return self.lose(error),
            };
            let status = head.status;
            let next = match self.reconnect.on_response(head) {
                Ok(FollowUp::Stream) => return self.open(body),
                Ok(FollowUp::Redirect(location)) => hop.redirected(status, &location),
                Err(error) => Err(error),
            };
            hop = match next {
                Ok(hop) => hop,
                Err(error) => return self.fail(error),
            };
        }
    }

    /// Sends a request and waits for the head of the response. `None` if the event source is
    /// closed meanwhile.
    fn request(&self, hop: &Hop) -> Option<Answer> {
        let request = self.template.request(hop, &self.last_event_id);
        let answer = match self.transport.send(request, hop.is_loopback()) {
            Ok(answer) => answer,
            Err(error) => return Some(Err(Error::from_io(error))),
        };
        select! {
            recv(answer) -> answer => Some(answer.unwrap_or_else(|_| {
                Err(Error::from_io(std::io::Error::other("the connecting thread panicked")))
            })),
            recv(self.closed) -> _ => None,
        }
    }

    fn open(&mut self, body: BodyReader<'static>) {
        let decoder = Decoder::with_limit(self.settings.max_event);
        self.stream = Some(OpenStream {
            body,
            decoder: decoder.resuming(&self.last_event_id),
            is_at_start: true,
        });
        self.pending.push_back(Update::Open);
    }

    fn read(&mut self) {
        let Some(stream) = &mut self.stream else {
            return self.lose(Error::Ended);
        };
        let count = match stream.body.read(&mut self.buffer) {
            Ok(0) => return self.lose(Error::Ended),
            Ok(count) => count,
            Err(error) => return self.lose(Error::from_read(error)),
        };
        let (pending, reconnect) = (&mut self.pending, &mut self.reconnect);
        let (is_at_start, gap_event) = (&mut stream.is_at_start, &self.settings.gap_event);
        let decoded = stream
            .decoder
            .push(&self.buffer[..count], &mut |decoded| match decoded {
                Decoded::Event(event) => {
                    reconnect.on_event();
                    let may_be_gap = std::mem::take(is_at_start) && event.event_type == *gap_event;
                    let gap = may_be_gap.then(|| Gap::parse(&event)).flatten();
                    pending.push_back(gap.map_or(Update::Event(event), Update::Gap));
                }
                Decoded::Retry(time) => reconnect.set_reconnection_time(time),
                Decoded::Comment(_) => {}
            });
        if let Err(error) = decoded {
            self.fail(error.into());
        }
    }

    /// Ends the connection and schedules the next one, unless the error is final.
    fn lose(&mut self, error: Error) {
        if error.is_final() {
            return self.fail(error);
        }
        if let Some(stream) = self.stream.take() {
            let id = stream.decoder.last_event_id();
            id.clone_into(&mut self.last_event_id);
        }
        let wait = self.reconnect.on_lost(now(), random());
        self.pending.push_back(Update::Lost { error, wait });
    }

    /// Ends the event source.
    fn fail(&mut self, error: Error) {
        self.stream = None;
        self.reconnect.close();
        self.pending.push_back(Update::Closed(error));
    }
}

impl Iterator for EventSource {
    type Item = Update;

    fn next(&mut self) -> Option<Update> {
        loop {
            if self.close_handle.is_closed() {
                return None;
            }
            if let Some(update) = self.pending.pop_front() {
                return Some(update);
            }
            self.advance();
        }
    }
}

impl Drop for EventSource {
    fn drop(&mut self) {
        self.close_handle.end();
    }
}

/// A number that is random enough for jitter: it comes from the keys of a hash map.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
