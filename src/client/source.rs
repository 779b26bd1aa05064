//! The event source: it does what the rules of `reconnect` say, with `ureq` for HTTP.
//!
//! Reading blocks, and is ended from any thread by shutting the agent's sockets down. Connecting cannot be ended so: it is done on a
//! thread of its own each time, which whoever closes the event source leaves behind.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use ureq::http::{Response, header};
use ureq::{Agent, Body, BodyReader, Proxy};

use super::error::Error;
use super::gap::Gap;
use super::reconnect::{Accepted, Action, Reconnect, ResponseHead};
use super::request::{Hop, RequestTemplate};
use super::{Builder, State, Update};
use crate::event_stream::decode::{Decoded, Decoder};

/// Bytes of a refusal's body that are kept.
const MAX_TEXT: usize = 1024;
/// How long a body may trickle in before what came of it is enough.
const TEXT_PATIENCE: Duration = Duration::from_secs(5);
/// Bytes that one read takes at the most.
const READ_BYTES: usize = 64 << 10;

#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) last_event_id: String,
    pub(super) reconnection_time: Duration,
    pub(super) max_backoff: Duration,
    pub(super) read_timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) max_event: usize,
    pub(super) gap_event: String,
    pub(super) proxy: Option<Proxy>,
    /// The proxy is the environment's, which is not asked for hosts of this machine.
    pub(super) environment: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            last_event_id: String::new(),
            reconnection_time: Duration::from_secs(3),
            max_backoff: Duration::from_secs(30),
            read_timeout: Duration::from_secs(45),
            connect_timeout: Duration::from_secs(10),
            max_event: 16 << 20,
            gap_event: "gap".into(),
            proxy: Proxy::try_from_env(),
            environment: true,
        }
    }
}

/// An event stream that is made again whenever it is lost.
///
/// It is an iterator that waits for the next [`Update`] on the thread that asks, and ends after [`Update::Closed`], or at once when it
/// is closed. [`Builder::spawn`] makes one that reads on a thread of its own. Dropping it closes it.
#[derive(Debug)]
pub struct EventSource {
    template: RequestTemplate,
    settings: Settings,
    agent: Agent,
    close_handle: CloseHandle,
    /// Never carries anything: it ends when the event source is closed.
    closed: Receiver<()>,
    reconnect: Reconnect,
    stream: Option<OpenStream>,
    last_event_id: String,
    /// Updates that are due, in order.
    pending: VecDeque<Update>,
    buffer: Vec<u8>,
}

/// A stream that is being read.
struct OpenStream {
    body: BodyReader<'static>,
    decoder: Decoder,
    /// No event has come yet: only the first can tell of a gap.
    at_start: bool,
}

impl std::fmt::Debug for OpenStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenStream").finish_non_exhaustive()
    }
}

/// Closes an [`EventSource`] from any thread.
#[derive(Debug, Clone)]
pub struct CloseHandle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    agent: Agent,
    /// What the rules say; whoever closes it comes before that.
    state: Mutex<State>,
    is_closed: AtomicBool,
    /// Dropped to wake whoever waits for the receiver's end.
    signal: Mutex<Option<Sender<()>>>,
    /// Where a thread of its own leaves updates, which are of no more use once it is closed.
    updates: OnceLock<Receiver<Update>>,
}

impl CloseHandle {
    /// Ends the event source at once: it hands out nothing more, and its connection is cut. The call waits for nothing.
    pub fn close(&self) {
        self.end();
        if let Some(updates) = self.0.updates.get() {
            updates.try_iter().for_each(drop);
        }
    }

    /// As [`CloseHandle::close`], but for updates that a thread has handed out already.
    fn end(&self) {
        self.0.is_closed.store(true, Ordering::Release);
        if lock(&self.0.signal).take().is_some() {
            self.0.agent.clone().shutdown();
        }
    }

    /// Where the event source stands.
    pub fn state(&self) -> State {
        if self.is_closed() {
            return State::Closed;
        }
        *lock(&self.0.state)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed.load(Ordering::Acquire)
    }

    pub(super) fn set_updates(&self, updates: Receiver<Update>) {
        let _ = self.0.updates.set(updates);
    }
}

impl EventSource {
    /// An event source with the default settings, which connects when it is first asked for an update.
    ///
    /// # Errors
    /// [`Error::Request`] if this is no URL of `http` or `https`.
    pub fn connect(url: &str) -> Result<Self, Error> {
        Self::builder(url).build()
    }

    /// The settings of an event source for this URL.
    pub fn builder(url: &str) -> Builder {
        Builder::new(url)
    }

    pub(super) fn new(template: RequestTemplate, settings: Settings) -> Self {
        let agent = agent(&settings);
        let (signal, closed) = bounded(0);
        let inner = Inner {
            agent: agent.clone(),
            state: Mutex::new(State::Connecting),
            is_closed: AtomicBool::new(false),
            signal: Mutex::new(Some(signal)),
            updates: OnceLock::new(),
        };
        Self {
            template,
            reconnect: Reconnect::new(now(), settings.reconnection_time, settings.max_backoff),
            last_event_id: settings.last_event_id.clone(),
            settings,
            agent,
            close_handle: CloseHandle(Arc::new(inner)),
            closed,
            stream: None,
            pending: VecDeque::new(),
            buffer: vec![0; READ_BYTES],
        }
    }

    /// What closes it from another thread.
    pub fn close_handle(&self) -> CloseHandle {
        self.close_handle.clone()
    }

    /// Ends it; see [`CloseHandle::close`].
    pub fn close(&self) {
        self.close_handle.close();
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.close_handle.state()
    }

    /// Ends when the event source is closed.
    pub(super) fn closed(&self) -> &Receiver<()> {
        &self.closed
    }

    fn step(&mut self) {
        match self.reconnect.next_action(now()) {
            // Ends early when it is closed.
            Action::Wait(time) => drop(self.closed.recv_timeout(time)),
            Action::Connect => self.attempt(),
            Action::Read => self.read(),
            Action::Stop => self.close_handle.end(),
        }
        *lock(&self.close_handle.0.state) = self.reconnect.state();
    }

    /// Connects, as far as redirects lead.
    fn attempt(&mut self) {
        let mut hop = self.template.first_hop();
        loop {
            let (head, body) = match self.ask(&hop) {
                None => return, // It was closed.
                Some(Ok(answer)) => answer,
                Some(Err(error)) => return self.lost(error),
            };
            let status = head.status;
            let next = match self.reconnect.on_response(head) {
                Ok(Accepted::Stream) => return self.open(body),
                Ok(Accepted::Redirect(location)) => hop.redirected(status, &location),
                Err(error) => Err(error),
            };
            hop = match next {
                Ok(hop) => hop,
                Err(error) => return self.fail(error),
            };
        }
    }

    /// Sends a request on a thread of its own and waits for the head of the response; `None` if it is closed meanwhile.
    fn ask(&self, hop: &Hop) -> Option<Result<HeadAndBody, Error>> {
        let (sender, answer) = bounded(1);
        let request = self.template.request(hop, &self.last_event_id);
        let agent = self.agent.clone();
        let direct = self.settings.environment && hop.is_loopback();
        let proxy = self.settings.proxy.clone().filter(|_| !direct);
        let asked = std::thread::Builder::new()
            .name("event-source-connect".into())
            .spawn(move || {
                let request = agent.configure_request(request).proxy(proxy).build();
                let response = agent.run(request).map_err(Error::of);
                // Nobody waits for it any more when the event source was closed.
                let _ = sender.send(response.map(head_and_body));
            });
        if let Err(error) = asked {
            return Some(Err(Error::Network(error.to_string())));
        }
        select! {
            recv(answer) -> answer => Some(answer.unwrap_or_else(|_| Err(Error::Network("the connection failed".into())))),
            recv(self.closed) -> _ => None,
        }
    }

    fn open(&mut self, body: BodyReader<'static>) {
        self.stream = Some(OpenStream {
            body,
            decoder: Decoder::with_limit(self.settings.max_event).resuming(&self.last_event_id),
            at_start: true,
        });
        self.pending.push_back(Update::Open);
    }

    fn read(&mut self) {
        let Some(stream) = &mut self.stream else {
            return self.lost(Error::Ended);
        };
        let count = match stream.body.read(&mut self.buffer) {
            Ok(0) => return self.lost(Error::Ended),
            Ok(count) => count,
            Err(error) => return self.lost(Error::of_read(error)),
        };
        let (pending, reconnect) = (&mut self.pending, &mut self.reconnect);
        let (at_start, gap_event) = (&mut stream.at_start, &self.settings.gap_event);
        let decoded = stream
            .decoder
            .push(&self.buffer[..count], &mut |decoded| match decoded {
                Decoded::Event(event) => {
                    reconnect.on_event();
                    let may_be_gap = std::mem::take(at_start) && event.event_type == *gap_event;
                    let gap = may_be_gap.then(|| Gap::of(&event)).flatten();
                    pending.push_back(gap.map_or(Update::Event(event), Update::Gap));
                }
                Decoded::Retry(time) => reconnect.set_reconnection_time(time),
                Decoded::Comment(_) => {}
            });
        if let Err(error) = decoded {
            self.fail(error.into());
        }
    }

    /// The connection is gone, and another is due.
    fn lost(&mut self, error: Error) {
        if error.is_final() {
            return self.fail(error);
        }
        if let Some(stream) = self.stream.take() {
            stream
                .decoder
                .last_event_id()
                .clone_into(&mut self.last_event_id);
        }
        let wait = self.reconnect.on_lost(now(), random());
        self.pending.push_back(Update::Lost { error, wait });
    }

    /// It is over.
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
            self.step();
        }
    }
}

impl Drop for EventSource {
    fn drop(&mut self) {
        self.close_handle.end();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn agent(settings: &Settings) -> Agent {
    let limit = |time: Duration| (!time.is_zero()).then_some(time);
    let config = Agent::config_builder()
        .http_status_as_error(false)
        // Redirects are followed here, as only here it is known what may go along.
        .max_redirects(0)
        .user_agent(concat!("fanfare/", env!("CARGO_PKG_VERSION")))
        // A connection has one stream in its life; there is nothing to be kept for another.
        .max_idle_connections(0)
        .timeout_per_read(limit(settings.read_timeout))
        .timeout_recv_response(limit(settings.read_timeout))
        .timeout_per_write(limit(settings.read_timeout))
        .timeout_resolve(limit(settings.connect_timeout))
        .timeout_connect(limit(settings.connect_timeout))
        .build();
    config.into()
}

type HeadAndBody = (ResponseHead, BodyReader<'static>);

fn head_and_body(response: Response<Body>) -> HeadAndBody {
    let (parts, body) = response.into_parts();
    // Of several, the last counts.
    let text_of = |name| {
        let value = parts.headers.get_all(name).iter().next_back()?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let status = parts.status.as_u16();
    let mut body = body.into_reader();
    let text = match status {
        400.. => read_text(&mut body),
        _ => Vec::new(),
    };
    let head = ResponseHead {
        status,
        content_type: text_of(header::CONTENT_TYPE),
        location: text_of(header::LOCATION),
        text: String::from_utf8_lossy(&text).trim().into(),
    };
    (head, body)
}

/// The beginning of a refusal's body, or what comes of it in time; what cannot be read is not needed either.
fn read_text(body: &mut impl Read) -> Vec<u8> {
    let mut text = [0; MAX_TEXT];
    let (mut length, started) = (0, now());
    while now() - started < TEXT_PATIENCE {
        match body.read(&mut text[length..]) {
            Ok(0) | Err(_) => break,
            Ok(count) => length += count,
        }
    }
    text[..length].to_vec()
}

#[expect(
    clippy::disallowed_methods,
    reason = "an event source's clock is its own thread's"
)]
fn now() -> Instant {
    Instant::now()
}

/// Random enough for jitter: the keys that the standard library's hash maps get.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
