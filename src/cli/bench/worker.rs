//! A thread that holds many connections and reads them as they become readable.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};

use super::clock::LoadClock;
use super::stream::{Counters, StreamChecker};

/// Loopback addresses that connections are made from, because each has a limited number of ports.
const SOURCE_ADDRESSES: usize = 16;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often an idle worker checks whether the load has ended, and how often a slow one reads.
const TICK: Duration = Duration::from_millis(100);
/// How often a worker adds its results to its status.
const REPORT_INTERVAL: Duration = Duration::from_millis(50);
/// Bytes that a slow reader reads per tick.
const SLOW_READ_BYTES: usize = 1024;
/// How often slow readers read once the load has ended.
const FINAL_READS: usize = 20;
const READ_BYTES: usize = 256 << 10;

/// The configuration of one worker.
#[derive(Debug, Clone)]
pub(super) struct WorkerConfig {
    pub(super) address: SocketAddr,
    /// The request of each connection, and the number of its namespace.
    pub(super) requests: Vec<(String, usize)>,
    /// The number of its first connection among those of all workers.
    pub(super) first: usize,
    /// Whether it reads so slowly that a server has to disconnect it.
    pub(super) is_slow: bool,
    pub(super) publishers: usize,
    pub(super) clock: LoadClock,
}

/// The results of one interval.
#[derive(Debug)]
pub(super) struct Interval {
    pub(super) latency_us: Histogram<u64>,
    pub(super) counters: Counters,
    pub(super) bytes: u64,
    /// When the last event arrived, on the clock of the load.
    pub(super) last_event_us: u64,
}

impl Interval {
    pub(super) fn new() -> Self {
        Self {
            // Without bounds, a histogram grows with its values.
            latency_us: Histogram::new(3).expect("three significant digits are supported"),
            counters: Counters::default(),
            bytes: 0,
            last_event_us: 0,
        }
    }

    /// Moves the results of another interval into this one.
    pub(super) fn merge(&mut self, other: &mut Self) {
        // Both grow with their values, so no value is out of range.
        let _ = self.latency_us.add(&other.latency_us);
        other.latency_us.reset();
        self.counters.add(&std::mem::take(&mut other.counters));
        self.bytes += std::mem::take(&mut other.bytes);
        self.last_event_us = self.last_event_us.max(other.last_event_us);
    }

    /// Checks the bytes that a stream received at this time.
    fn take(
        &mut self,
        stream: &mut StreamChecker,
        bytes: &[u8],
        now_us: u64,
    ) -> Result<(), String> {
        let events_before = self.counters.events;
        self.bytes += bytes.len() as u64;
        let latency_us = &mut self.latency_us;
        let result = stream.take(bytes, &mut self.counters, &mut |due_us| {
            // The histogram grows with its values, so no value is out of range.
            let _ = latency_us.record(now_us.saturating_sub(due_us));
        });
        if self.counters.events > events_before {
            self.last_event_us = now_us;
        }
        result
    }
}

/// The state that a worker shares with the thread that started it.
#[derive(Debug)]
pub(super) struct WorkerStatus {
    interval: Mutex<Interval>,
    /// Number of connections that were refused, failed or were ended by the server.
    pub(super) closed: AtomicUsize,
    /// Number of connections with an open stream.
    pub(super) open: AtomicUsize,
    is_stopped: AtomicBool,
    /// The first failure of a connection.
    problem: Mutex<Option<String>>,
}

impl WorkerStatus {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            interval: Mutex::new(Interval::new()),
            closed: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            is_stopped: AtomicBool::new(false),
            problem: Mutex::default(),
        })
    }

    /// The results since the caller last emptied the interval.
    pub(super) fn interval(&self) -> MutexGuard<'_, Interval> {
        lock(&self.interval)
    }

    /// The first failure of a connection.
    pub(super) fn problem(&self) -> Option<String> {
        lock(&self.problem).clone()
    }

    /// Asks the worker to end.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    fn connection_closed(&self, problem: String) {
        self.closed.fetch_add(1, Ordering::Relaxed);
        lock(&self.problem).get_or_insert(problem);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) struct StreamConnection {
    socket: mio::net::TcpStream,
    pub(super) namespace: usize,
    pub(super) stream: StreamChecker,
}

/// Connects and reads until the status says stop. Returns the connections that are still open.
pub(super) fn run(
    config: &WorkerConfig,
    status: &WorkerStatus,
) -> io::Result<Vec<StreamConnection>> {
    let mut poll = Poll::new()?;
    let mut worker = StreamReader {
        config,
        status,
        connections: Vec::with_capacity(config.requests.len()),
        interval: Interval::new(),
        buffer: vec![0; READ_BYTES],
    };
    worker.connect_all(&poll)?;
    worker.read_until_stopped(&mut poll)?;
    if config.is_slow {
        worker.read_remaining_bytes(&mut poll)?;
    }
    Ok(worker.connections.into_iter().flatten().collect())
}

struct StreamReader<'a> {
    config: &'a WorkerConfig,
    status: &'a WorkerStatus,
    /// `None` for a connection that was closed.
    connections: Vec<Option<StreamConnection>>,
    /// Results that are not yet in the status.
    interval: Interval,
    buffer: Vec<u8>,
}

impl StreamReader<'_> {
    fn connect_all(&mut self, poll: &Poll) -> io::Result<()> {
        let config = self.config;
        for (index, (request, namespace)) in config.requests.iter().enumerate() {
            match connect(config.address, config.first + index, request) {
                Ok(socket) => self.add(poll, socket, *namespace)?,
                Err(error) => {
                    let problem = format!("cannot connect: {error}");
                    self.status.connection_closed(problem);
                }
            }
            if self.status.is_stopped() {
                break;
            }
        }
        Ok(())
    }

    fn add(&mut self, poll: &Poll, socket: TcpStream, namespace: usize) -> io::Result<()> {
        let mut socket = mio::net::TcpStream::from_std(socket);
        // Slow readers read on each tick, whether or not there is something to read.
        if !self.config.is_slow {
            let token = Token(self.connections.len());
            poll.registry()
                .register(&mut socket, token, Interest::READABLE)?;
        }
        self.connections.push(Some(StreamConnection {
            socket,
            namespace,
            stream: StreamChecker::new(self.config.publishers),
        }));
        Ok(())
    }

    fn read_until_stopped(&mut self, poll: &mut Poll) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut reported = self.config.clock.now();
        while !self.status.is_stopped() {
            if let Err(error) = poll.poll(&mut events, Some(TICK))
                && error.kind() != ErrorKind::Interrupted
            {
                return Err(error);
            }
            if self.config.is_slow {
                self.read_each(SLOW_READ_BYTES);
            }
            for event in &events {
                while self.read(event.token().0, READ_BYTES) {}
            }
            // Not after each read, so that the lock is rarely contended.
            let now = self.config.clock.now();
            if now - reported >= REPORT_INTERVAL {
                self.status.interval().merge(&mut self.interval);
                reported = now;
            }
        }
        Ok(())
    }

    /// Reads the rest of what the sockets of slow readers hold. The end of a stream that the server
    /// has closed follows after that.
    fn read_remaining_bytes(&mut self, poll: &mut Poll) -> io::Result<()> {
        let mut events = Events::with_capacity(1);
        for _ in 0..FINAL_READS {
            let bytes_before = self.interval.bytes;
            self.read_each(READ_BYTES);
            if self.interval.bytes == bytes_before {
                break;
            }
            poll.poll(&mut events, Some(TICK))?;
        }
        Ok(())
    }

    /// Reads once from each connection.
    fn read_each(&mut self, max_bytes: usize) {
        for index in 0..self.connections.len() {
            self.read(index, max_bytes);
        }
    }

    /// Reads once from a connection. Returns whether there may be more to read.
    fn read(&mut self, index: usize, max_bytes: usize) -> bool {
        let Some(connection) = &mut self.connections[index] else {
            return false;
        };
        let problem = match connection.socket.read(&mut self.buffer[..max_bytes]) {
            Ok(0) => "the server ended the stream".into(),
            Ok(count) => {
                let was_open = connection.stream.is_open();
                let (stream, bytes) = (&mut connection.stream, &self.buffer[..count]);
                match self
                    .interval
                    .take(stream, bytes, self.config.clock.now_us())
                {
                    Ok(()) => {
                        if !was_open && connection.stream.is_open() {
                            self.status.open.fetch_add(1, Ordering::Relaxed);
                        }
                        // A short read has emptied the socket: readiness is reported again.
                        return count == max_bytes;
                    }
                    Err(problem) => problem,
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(error) if error.kind() == ErrorKind::Interrupted => return true,
            Err(error) => error.to_string(),
        };
        if connection.stream.is_open() {
            self.status.open.fetch_sub(1, Ordering::Relaxed);
        }
        self.status.connection_closed(problem);
        self.connections[index] = None;
        false
    }
}

/// Connects and sends the request. Connections to an IPv4 loopback address are made from several
/// addresses in turn.
fn connect(address: SocketAddr, number: usize, request: &str) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if let IpAddr::V4(to) = address.ip()
        && to.is_loopback()
    {
        let last = 1 + u8::try_from(number % SOURCE_ADDRESSES).unwrap_or(0);
        let source = Ipv4Addr::new(127, 0, 0, last);
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    socket.connect_timeout(&address.into(), CONNECT_TIMEOUT)?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(request.as_bytes())?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_slow_reader_notices_a_closed_stream_after_unread_bytes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = WorkerConfig {
            address: listener.local_addr().unwrap(),
            requests: vec![("GET / HTTP/1.1\r\n\r\n".into(), 0)],
            first: 0,
            is_slow: true,
            publishers: 1,
            clock: LoadClock::start(),
        };
        let status = WorkerStatus::new();
        let thread_status = Arc::clone(&status);
        let reader = std::thread::spawn(move || run(&config, &thread_status).unwrap());
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]).unwrap();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&[b':'; 100 << 10]).unwrap();
        drop(stream);
        status.stop();
        assert!(reader.join().unwrap().is_empty());
        assert_eq!(status.closed.load(Ordering::Relaxed), 1);
    }
}
