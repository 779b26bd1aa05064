//! A thread that holds many connections and reads them as they become readable.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use mio::{Interest, Poll, Token};
use socket2::{Domain, Socket, Type};

use super::Clock;
use super::stream::{Counters, StreamChecker};

/// Loopback addresses that connections come from, so that the ports of one are no limit.
const SOURCES: usize = 16;
/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a worker with nothing to read looks whether it is over, and a slow reader reads.
const TICK: Duration = Duration::from_millis(100);
/// How often a worker tells what came.
const TELL: Duration = Duration::from_millis(50);
/// Bytes that a slow reader reads in that time.
const SLOW_READ: usize = 1024;
/// How often slow readers look once more at the end.
const LAST_LOOKS: usize = 20;
const READ: usize = 256 << 10;

/// What one worker is to do.
#[derive(Debug, Clone)]
pub(super) struct WorkerConfig {
    pub(super) address: SocketAddr,
    /// The request of each connection, and which namespace it is for.
    pub(super) requests: Vec<(String, usize)>,
    /// The number of its first connection among all.
    pub(super) first: usize,
    /// It reads so slowly that no server can wait for it.
    pub(super) slow: bool,
    pub(super) publishers: usize,
    pub(super) clock: Clock,
}

/// What has come since it was last asked.
#[derive(Debug)]
pub(super) struct Interval {
    pub(super) latency_us: Histogram<u64>,
    pub(super) counters: Counters,
    pub(super) bytes: u64,
    /// When an event last came.
    pub(super) last_us: u64,
}

impl Interval {
    pub(super) fn new() -> Self {
        Self {
            // It grows with its values.
            latency_us: Histogram::new(3).expect("a histogram may have three digits"),
            counters: Counters::default(),
            bytes: 0,
            last_us: 0,
        }
    }

    /// Adds another one's values and empties it.
    pub(super) fn drain(&mut self, other: &mut Self) {
        // Both grow as they need to, so no value is out of range.
        let _ = self.latency_us.add(&other.latency_us);
        other.latency_us.reset();
        let Counters {
            events,
            lost,
            duplicated,
            out_of_order,
        } = std::mem::take(&mut other.counters);
        self.counters.events += events;
        self.counters.lost += lost;
        self.counters.duplicated += duplicated;
        self.counters.out_of_order += out_of_order;
        self.bytes += std::mem::take(&mut other.bytes);
        self.last_us = self.last_us.max(other.last_us);
    }
}

/// What a worker and its owner both see.
#[derive(Debug)]
pub(super) struct WorkerStatus {
    interval: Mutex<Interval>,
    /// Connections that are over: refused, failed or cut.
    pub(super) gone: AtomicUsize,
    /// Connections whose stream has begun.
    pub(super) open: AtomicUsize,
    is_over: AtomicBool,
    /// What went wrong first.
    problem: Mutex<Option<String>>,
}

impl WorkerStatus {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            interval: Mutex::new(Interval::new()),
            gone: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
            problem: Mutex::default(),
        })
    }

    pub(super) fn interval(&self) -> MutexGuard<'_, Interval> {
        lock(&self.interval)
    }

    /// What went wrong first.
    pub(super) fn problem(&self) -> Option<String> {
        lock(&self.problem).clone()
    }

    /// Tells the worker to come to its end.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    fn gone(&self, problem: String) {
        self.gone.fetch_add(1, Ordering::Relaxed);
        lock(&self.problem).get_or_insert(problem);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection of the load.
pub(super) struct Connection {
    socket: mio::net::TcpStream,
    pub(super) namespace: usize,
    pub(super) stream: StreamChecker,
}

/// Connects, reads until it is over, and gives back the connections that are still open.
pub(super) fn run(config: &WorkerConfig, status: &WorkerStatus) -> io::Result<Vec<Connection>> {
    let mut poll = Poll::new()?;
    let mut connections = Vec::with_capacity(config.requests.len());
    for (index, (request, namespace)) in config.requests.iter().enumerate() {
        match connect(config.address, config.first + index, request) {
            Ok(socket) => {
                let mut socket = mio::net::TcpStream::from_std(socket);
                if !config.slow {
                    let token = Token(connections.len());
                    poll.registry()
                        .register(&mut socket, token, Interest::READABLE)?;
                }
                connections.push(Some(Connection {
                    socket,
                    namespace: *namespace,
                    stream: StreamChecker::new(config.publishers),
                }));
            }
            Err(error) => status.gone(format!("cannot connect: {error}")),
        }
        if status.is_over.load(Ordering::Relaxed) {
            break;
        }
    }
    let mut readable = mio::Events::with_capacity(1024);
    let mut buffer = vec![0; if config.slow { SLOW_READ } else { READ }];
    let (mut interval, mut told) = (Interval::new(), config.clock.now());
    while !status.is_over.load(Ordering::Relaxed) {
        if let Err(error) = poll.poll(&mut readable, Some(TICK))
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(error);
        }
        if config.slow {
            for slot in &mut connections {
                read(config, slot, &mut buffer, &mut interval, status);
            }
        } else {
            for readiness in &readable {
                let slot = &mut connections[readiness.token().0];
                while read(config, slot, &mut buffer, &mut interval, status) {}
            }
        }
        // Seldom, so that nobody waits for the lock.
        let now = config.clock.now();
        if now - told >= TELL {
            status.interval().drain(&mut interval);
            told = now;
        }
    }
    if config.slow {
        // That the server has cut them is seen only behind all that the socket still holds.
        let mut buffer = vec![0; READ];
        for _ in 0..LAST_LOOKS {
            let before = interval.bytes;
            for slot in &mut connections {
                read(config, slot, &mut buffer, &mut interval, status);
            }
            if interval.bytes == before {
                break;
            }
            poll.poll(&mut readable, Some(TICK))?;
        }
    }
    Ok(connections.into_iter().flatten().collect())
}

/// Reads once; whether there may be more.
fn read(
    config: &WorkerConfig,
    slot: &mut Option<Connection>,
    buffer: &mut [u8],
    interval: &mut Interval,
    status: &WorkerStatus,
) -> bool {
    let Some(connection) = slot else {
        return false;
    };
    let problem = match connection.socket.read(buffer) {
        Ok(0) => "the server ended the stream".into(),
        Ok(count) => {
            let was_open = connection.stream.is_open();
            let now_us = config.clock.now_us();
            let Interval {
                latency_us,
                counters,
                bytes,
                last_us,
            } = interval;
            let before = counters.events;
            *bytes += count as u64;
            let taken = connection
                .stream
                .take(&buffer[..count], counters, &mut |sent_us| {
                    // It grows as it needs to, so no value is out of range.
                    let _ = latency_us.record(now_us.saturating_sub(sent_us));
                });
            if counters.events > before {
                *last_us = now_us;
            }
            match taken {
                Ok(()) => {
                    if !was_open && connection.stream.is_open() {
                        status.open.fetch_add(1, Ordering::Relaxed);
                    }
                    // A short read has emptied the socket: what comes later is told anew.
                    return count == buffer.len() && !config.slow;
                }
                Err(problem) => problem,
            }
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
        Err(error) if error.kind() == ErrorKind::Interrupted => return true,
        Err(error) => error.to_string(),
    };
    if connection.stream.is_open() {
        status.open.fetch_sub(1, Ordering::Relaxed);
    }
    status.gone(problem);
    *slot = None;
    false
}

/// Connects from one of several addresses, if the server is on this machine, and sends the request.
fn connect(address: SocketAddr, number: usize, request: &str) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if let IpAddr::V4(to) = address.ip()
        && to.is_loopback()
    {
        let last = 1 + u8::try_from(number % SOURCES).unwrap_or(0);
        let source = Ipv4Addr::new(127, 0, 0, last);
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    socket.connect_timeout(&address.into(), PATIENCE)?;
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
    fn a_slow_reader_that_was_cut_is_seen_behind_all_that_it_has_not_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = WorkerConfig {
            address: listener.local_addr().unwrap(),
            requests: vec![("GET / HTTP/1.1\r\n\r\n".into(), 0)],
            first: 0,
            slow: true,
            publishers: 1,
            clock: Clock::start(),
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
        status.end();
        assert!(reader.join().unwrap().is_empty());
        assert_eq!(status.gone.load(Ordering::Relaxed), 1);
    }
}
