//! Shared by the tests over real sockets: a server that ends with its test, and a client that
//! compares bytes.
//!
//! Nothing here sleeps: a client blocks until bytes arrive, a test until a hook of the server is
//! called.

#![allow(dead_code, reason = "each test program uses a part of what they share")]

pub(crate) mod dice;
pub(crate) mod odd;
#[cfg(feature = "cli")]
pub(crate) mod program;
pub(crate) mod seeds;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fanfare::{
    Builder, ConnectionInfo, DisconnectReason, Event, Handle, Publisher, Server, ServerThread,
    Subscription,
};

/// The longest that a test waits for anything. It fails after that.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// The time, to limit waits and to drive an engine by hand.
#[expect(clippy::disallowed_methods, reason = "this is the tests' clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Calls a function that blocks, on a thread of its own, and panics if it takes longer than the
/// limit.
#[track_caller]
pub(crate) fn within<T: Send + 'static>(
    limit: Duration,
    wait: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (sender, result) = channel();
    let waiting = thread::spawn(move || {
        // The receiver is gone after the limit.
        let _ = sender.send(wait());
    });
    match result.recv_timeout(limit) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => panic!("no end after {limit:?}"),
        Err(RecvTimeoutError::Disconnected) => {
            resume_unwind(waiting.join().expect_err("it ended without a result"))
        }
    }
}

/// The result of a thread, which panics if the thread did or does not end within the limit.
#[track_caller]
pub(crate) fn join_within<T: Send + 'static>(limit: Duration, thread: JoinHandle<T>) -> T {
    within(limit, || thread.join()).unwrap_or_else(|panic| resume_unwind(panic))
}

/// The head of a stream of a server with the default configuration.
pub(crate) const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\n\
    Content-Type: text/event-stream; charset=utf-8\r\n\
    Cache-Control: no-cache, no-transform\r\n\
    X-Accel-Buffering: no\r\n\
    Access-Control-Allow-Origin: *\r\n\
    Fanfare-Replay: none\r\n\
    Connection: close\r\n\r\n";

/// The event that a test publishes last, so that readers know when they have received all.
pub(crate) const LAST: &str = "data:last\n\n";

/// A server on a free port, which ends with the test.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) handle: Handle,
    pub(crate) publisher: Publisher,
    thread: Option<ServerThread>,
    ended: Receiver<(ConnectionInfo, DisconnectReason)>,
}

/// Starts a server as configured on a free port of 127.0.0.1.
pub(crate) fn start(builder: Builder) -> Running {
    start_at(builder, "127.0.0.1:0")
}

/// Starts a server as configured; takes `on_disconnect` for [`Running::next_end`].
pub(crate) fn start_at(builder: Builder, address: &str) -> Running {
    let (sender, ended) = channel();
    let server = builder
        .on_disconnect(move |info, reason| {
            // The test may have dropped the receiver.
            let _ = sender.send((info.clone(), reason));
        })
        .build()
        .expect("a valid configuration");
    let thread = server.spawn(address).expect("a free port");
    Running {
        address: thread.handle().local_addr().expect("a bound server"),
        handle: thread.handle().clone(),
        publisher: thread.publisher().clone(),
        thread: Some(thread),
        ended,
    }
}

impl Running {
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// Sends one request head with the request line `line`, given without its version; returns the
    /// connection.
    pub(crate) fn ask(&self, line: &str, headers: &str) -> Client {
        let mut client = self.connect();
        client.send(request(line, headers));
        client
    }

    /// A subscriber that has read the head of its stream. It receives every later event.
    pub(crate) fn subscribe(&self, target: &str) -> Client {
        let mut client = self.ask(&format!("GET {target}"), "");
        client.read_stream_start();
        client
    }

    /// Publishes in this process.
    pub(crate) fn publish(&self, namespace: &str, data: &str) {
        self.publisher
            .send_timeout(Event::new(namespace, data), TIMEOUT)
            .expect("a server that runs");
    }

    /// Publishes the last event to all subscribers.
    pub(crate) fn publish_last(&self) {
        self.publisher
            .broadcast(Event::new("/", "last"))
            .expect("a server that runs");
    }

    /// The next connection that ends, with the reason.
    pub(crate) fn next_end(&self) -> (ConnectionInfo, DisconnectReason) {
        self.ended
            .recv_timeout(TIMEOUT)
            .expect("a connection that ends")
    }

    /// Waits for the server to end by itself.
    pub(crate) fn join(mut self) {
        let thread = self.thread.take().expect("only this takes it");
        within(TIMEOUT, || thread.join()).expect("a run without errors");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.shutdown(Duration::ZERO);
        let Some(thread) = self.thread.take() else {
            return;
        };
        if thread::panicking() {
            // The test has failed already, and a second panic would hide why.
            let _ = catch_unwind(AssertUnwindSafe(|| within(TIMEOUT, || thread.join())));
        } else {
            within(TIMEOUT, || thread.join()).expect("a run without errors");
        }
    }
}

/// The head of a request.
pub(crate) fn request(line: &str, headers: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

/// A connection, with the bytes that were read and not yet compared.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    unread: Vec<u8>,
    /// Bytes received in all.
    pub(crate) received: u64,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("a server that listens");
        Self::of(stream)
    }

    /// A client with a small receive buffer, so that unread bytes stay with the server.
    pub(crate) fn connect_with_small_buffer(address: SocketAddr) -> Self {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).expect("a socket");
        socket
            .set_recv_buffer_size(4 << 10)
            .expect("a valid buffer size");
        socket
            .connect(&address.into())
            .expect("a server that listens");
        Self::of(socket.into())
    }

    fn of(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a socket");
        stream
            .set_read_timeout(Some(TIMEOUT))
            .expect("a valid timeout");
        stream
            .set_write_timeout(Some(TIMEOUT))
            .expect("a valid timeout");
        Self {
            stream,
            unread: Vec::new(),
            received: 0,
        }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream
            .write_all(bytes.as_ref())
            .expect("a server that reads");
    }

    /// Ends the sending side.
    pub(crate) fn finish(&self) {
        self.stream
            .shutdown(Shutdown::Write)
            .expect("a connection that is open");
    }

    /// Reads once; `false` at the end.
    fn fill(&mut self) -> bool {
        let mut buffer = [0; 64 << 10];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(count) => {
                    self.unread.extend_from_slice(&buffer[..count]);
                    self.received += count as u64;
                    return count > 0;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error} after {:?}", self.peek()),
            }
        }
    }

    /// The bytes that were read and not yet taken.
    pub(crate) fn peek(&self) -> String {
        String::from_utf8_lossy(&self.unread).into_owned()
    }

    fn take(&mut self, count: usize) -> String {
        let rest = self.unread.split_off(count);
        let taken = std::mem::replace(&mut self.unread, rest);
        String::from_utf8(taken).expect("UTF-8")
    }

    /// The text up to and including `end`.
    pub(crate) fn read_through(&mut self, end: &str) -> String {
        let mut searched = 0;
        loop {
            let found = self.unread[searched..]
                .windows(end.len())
                .position(|window| window == end.as_bytes());
            if let Some(at) = found {
                return self.take(searched + at + end.len());
            }
            searched = self.unread.len().saturating_sub(end.len() - 1);
            assert!(self.fill(), "no {end:?}, but the end of {:?}", self.peek());
        }
    }

    /// Reads exactly these bytes.
    #[track_caller]
    pub(crate) fn expect(&mut self, expected: &str) {
        while self.unread.len() < expected.len() && self.fill() {}
        let count = self.unread.len().min(expected.len());
        assert_eq!(self.take(count), expected);
    }

    /// Everything up to the end of the connection.
    pub(crate) fn read_to_end(&mut self) -> String {
        while self.fill() {}
        self.take(self.unread.len())
    }

    /// Everything up to the end of the connection, whether it was closed or reset.
    pub(crate) fn read_to_cut(&mut self) -> Vec<u8> {
        if let Err(error) = self.stream.read_to_end(&mut self.unread) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
        }
        std::mem::take(&mut self.unread)
    }

    /// Checks that nothing more comes before the end of the connection.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        assert_eq!(self.read_to_end(), "");
    }

    /// Everything up to the end of the last event.
    pub(crate) fn read_through_last(&mut self) -> String {
        self.read_through(LAST)
    }

    /// Reads the head of a stream and the first comment after it.
    pub(crate) fn read_stream_start(&mut self) -> String {
        let start = self.read_through("\n\n");
        assert!(start.starts_with("HTTP/1.1 200 OK\r\n"), "{start:?}");
        start
    }

    /// One whole response. It has a length, unless its status is 204.
    pub(crate) fn response(&mut self) -> String {
        let mut response = self.read_through("\r\n\r\n");
        let length = response.split("\r\n").find_map(|line| {
            line.strip_prefix("Content-Length: ")
                .map(|length| length.parse().expect("a number"))
        });
        let length: usize = length.unwrap_or_else(|| {
            assert!(response.starts_with("HTTP/1.1 204 "), "{response:?}");
            0
        });
        while self.unread.len() < length {
            assert!(self.fill(), "a body cut short: {:?}", self.peek());
        }
        response.push_str(&self.take(length));
        response
    }
}

/// The status of a response.
pub(crate) fn status(response: &str) -> u16 {
    response
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest[..3].parse().ok())
        .unwrap_or_else(|| panic!("no response: {response:?}"))
}

/// The value of a response's header.
pub(crate) fn header<'a>(response: &'a str, name: &str) -> Option<&'a str> {
    let head = response.split("\r\n\r\n").next()?;
    head.split("\r\n")
        .filter_map(|line| line.split_once(": "))
        .find(|(given, _)| given.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

/// The body of a response.
pub(crate) fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

/// The value of the first `retry` field.
pub(crate) fn retry_ms(stream: &str) -> Option<u64> {
    stream
        .split('\n')
        .find_map(|line| line.strip_prefix("retry:"))
        .map(|value| value.parse().expect("a number"))
}

/// The data of the next event of a subscription.
pub(crate) fn next_data(subscription: &mut Subscription) -> String {
    subscription.recv_timeout(TIMEOUT).expect("an event").data
}

/// Reads a subscription that has ended: no event comes, and the next call does not wait for one.
#[track_caller]
pub(crate) fn expect_no_event(mut subscription: Subscription) -> Subscription {
    let (event, subscription) = within(TIMEOUT, || (subscription.recv(), subscription));
    assert_eq!(event, None);
    subscription
}

/// A builder with the settings of most tests: no keepalive comments, and no history, so that events
/// have no IDs.
pub(crate) fn builder() -> Builder {
    Server::builder()
        .keepalive(Duration::ZERO)
        .history_events(0)
}
