//! The subscribers, which one thread reads on its own core.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::frame::{Checker, Framing, SAMPLE, now_ns};
use crate::workloads::{ROWS, Row, Writer};
use crate::writer::WriterProcess;
use crate::{Measurement, Result};

const WRITER_CORE: usize = 0;
const READER_CORE: usize = 1;
/// Connections that are opened before the first response is read.
const CONNECT_BATCH: usize = 64;
/// Reads from one socket before the next one is read. Bytes left in a socket would close its
/// window.
const READS_PER_TURN: usize = 4;
/// How often the sockets are polled while the writer has no rate: polling slows the writer too.
const POLL_INTERVAL: Duration = Duration::from_micros(200);
/// How long the last events may take to arrive.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Raises the descriptor limit of this process to the maximum.
pub(crate) fn prepare_process() -> Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

/// Runs a row once, with its writer and its subscribers on a core each.
pub(crate) fn run(row: &Row) -> Result<Measurement> {
    let mut core = rustix::thread::CpuSet::new();
    core.set(READER_CORE);
    rustix::thread::sched_setaffinity(None, &core)?;
    run_with_writer(row, Some(WRITER_CORE))
}

/// Runs a row once, shortened.
pub(crate) fn run_short(row: &Row) -> Result<()> {
    run_with_writer(&row.shortened(), None).map(drop)
}

/// Runs a row whose writer is on this core, or on any if the row is shortened.
fn run_with_writer(row: &Row, writer_core: Option<usize>) -> Result<Measurement> {
    let index = ROWS
        .iter()
        .position(|other| other.name == row.name)
        .ok_or("the row is not in the table")?;
    let mut writer = WriterProcess::start(index, writer_core)?;
    let bare = row.writer == Writer::Bare;
    // The bare loop reads no orders before all subscribers are connected.
    let before = if bare { None } else { Some(writer.usage()?) };
    let published = match row.replay {
        true => Some(writer.publish(|| Ok(()))?.0),
        false => None,
    };
    let before_all = if bare { None } else { Some(writer.usage()?) };
    let start = Instant::now();
    let mut subscribers = Subscribers::connect(row, writer.address)?;
    let connecting = start.elapsed();
    let connected = writer.usage()?;
    let mut run = Measurement {
        deliveries: 0,
        wall: Duration::ZERO,
        cpu: Duration::ZERO,
        latency: Latency::default(),
        bytes_per_connection: before.map_or(f64::NAN, |before| {
            connected
                .resident_bytes
                .saturating_sub(before.resident_bytes) as f64
                / row.subscribers as f64
        }),
        connects_per_second: row.subscribers as f64 / connecting.as_secs_f64(),
        connects_per_cpu_second: row.subscribers as f64
            / (connected.cpu - before.map_or(Duration::ZERO, |before| before.cpu)).as_secs_f64(),
    };
    if let (Some(count), Some(before)) = (published, before_all) {
        subscribers.read_to(count)?;
        run.wall = start.elapsed();
        run.cpu = writer.usage()?.cpu - before.cpu;
        run.deliveries = count * row.subscribers as u64;
    } else if row.events() {
        let (count, start) = writer.publish(|| subscribers.read_some())?;
        subscribers.read_to(count)?;
        run.wall = start.elapsed();
        run.cpu = writer.usage()?.cpu - connected.cpu;
        run.deliveries = (0..row.subscribers)
            .map(|index| row.subscription(index).1.count(count))
            .sum();
        run.latency = subscribers.latency;
    }
    writer.end()?;
    Ok(run)
}

/// The times from publishing to receipt.
#[derive(Debug)]
pub(crate) struct Latency {
    receipts: Histogram<u64>,
    lasts: Histogram<u64>,
}

impl Default for Latency {
    fn default() -> Self {
        // From a microsecond to a minute, with three digits.
        let histogram = || {
            Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("the bounds are in order")
        };
        Self {
            receipts: histogram(),
            lasts: histogram(),
        }
    }
}

impl Latency {
    /// In milliseconds: median, 99th percentile and maximum of all receipts, then of the last
    /// receipt of each event.
    pub(crate) fn figures_ms(&self) -> [f64; 6] {
        let figure = |histogram: &Histogram<u64>, quantile| {
            histogram.value_at_quantile(quantile) as f64 / 1e6
        };
        let [(a, b, c), (d, e, f)] = [&self.receipts, &self.lasts].map(|histogram| {
            (
                figure(histogram, 0.5),
                figure(histogram, 0.99),
                figure(histogram, 1.0),
            )
        });
        [a, b, c, d, e, f]
    }
}

struct Subscribers {
    poll: Poll,
    row: Row,
    address: SocketAddr,
    subscribers: Vec<Subscriber>,
    events: Events,
    scratch: Vec<u8>,
    sample: u64,
    /// The timeout of a poll. Zero if the writer has no rate: it must not spend time on waking the
    /// reader, as it would not with subscribers on another machine.
    poll_timeout: Duration,
    /// When the sockets were last polled.
    polled: Instant,
    /// Sockets that may have more bytes. Each is read again after all others, as the writer may
    /// fill one as fast as it is read.
    unread: Vec<usize>,
    latency: Latency,
    /// For each sampled event: the number of its receipts, and the latency of the last one.
    receipts: Vec<(u32, u64)>,
    /// The number of subscribers that must receive each event of a round.
    expected_receipts: Vec<u32>,
}

struct Subscriber {
    stream: TcpStream,
    checker: Checker,
    /// Whether it is listed in `unread`.
    is_unread: bool,
}

impl Subscribers {
    fn connect(row: &Row, address: SocketAddr) -> Result<Self> {
        let mut expected_receipts = vec![0; row.namespaces() as usize];
        for index in 0..row.subscribers {
            let subset = row.subscription(index).1;
            (0..row.namespaces())
                .filter(|&event| subset.first_from(event) == event)
                .for_each(|event| expected_receipts[event as usize] += 1);
        }
        let mut subscribers = Self {
            poll: Poll::new()?,
            row: *row,
            address,
            subscribers: Vec::new(),
            events: Events::with_capacity(1024),
            scratch: vec![0; 64 << 10],
            sample: if row.rate.is_none() { SAMPLE } else { 1 },
            poll_timeout: match row.rate {
                None => Duration::ZERO,
                Some(_) => Duration::from_millis(20),
            },
            polled: Instant::now(),
            unread: Vec::new(),
            latency: Latency::default(),
            receipts: Vec::new(),
            expected_receipts,
        };
        let all = row.subscribers + row.slow;
        for first in (0..all).step_by(CONNECT_BATCH) {
            let group = first..all.min(first + CONNECT_BATCH);
            let streams: Vec<_> = group
                .map(|index| subscribers.request(index))
                .collect::<Result<_>>()?;
            for stream in streams {
                subscribers.add(stream)?;
            }
            if row.replay {
                subscribers.read_some()?;
            }
        }
        Ok(subscribers)
    }

    /// Connects and sends a request.
    fn request(&self, index: usize) -> Result<std::net::TcpStream> {
        let mut stream = std::net::TcpStream::connect(self.address)?;
        let (path, _) = self.row.subscription(index);
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
        Ok(stream)
    }

    /// Reads the head of a stream and adds its subscriber.
    fn add(&mut self, mut stream: std::net::TcpStream) -> Result<()> {
        // The head of a stream ends with a comment. hyper does not send bodies that end with the
        // connection, so events of axum are chunks.
        let (end, framing): (&[u8], _) = match self.row.writer {
            Writer::Axum => (b":\n\n\r\n", Framing::chunked(self.row.frame)),
            Writer::AxumSse => (b"\n\n\r\n", Framing::chunked_spaced(self.row.frame)),
            _ if self.row.history > 0 => (b":\n\n", Framing::with_ids(self.row.frame)),
            _ => (b":\n\n", Framing::plain(self.row.frame)),
        };
        let rest = read_head(&mut stream, end)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let index = self.subscribers.len();
        self.poll
            .registry()
            .register(&mut stream, Token(index), Interest::READABLE)?;
        let mut checker = Checker::new(self.row.subscription(index).1, framing);
        checker.take(&rest, |_, _| {})?;
        self.subscribers.push(Subscriber {
            stream,
            checker,
            is_unread: false,
        });
        Ok(())
    }

    /// Polls once and reads from each readable socket.
    fn read_some(&mut self) -> Result<()> {
        while self.poll_timeout.is_zero() && self.polled.elapsed() < POLL_INTERVAL {
            std::hint::spin_loop();
        }
        self.polled = Instant::now();
        let timeout = if self.unread.is_empty() {
            self.poll_timeout
        } else {
            Duration::ZERO
        };
        self.poll.poll(&mut self.events, Some(timeout))?;
        let mut readable = std::mem::take(&mut self.unread);
        let mut closed = Vec::new();
        for ready in &self.events {
            let Token(index) = ready.token();
            if index < self.row.subscribers {
                if !self.subscribers[index].is_unread {
                    readable.push(index);
                }
            } else if ready.is_read_closed() || ready.is_error() {
                closed.push(index);
            }
        }
        for index in readable {
            let (mut reads, mut is_empty) = (0, false);
            while !is_empty && reads < READS_PER_TURN {
                reads += 1;
                is_empty = read_once(
                    &mut self.subscribers[index],
                    &mut self.scratch,
                    self.sample,
                    &mut self.latency,
                    &mut self.receipts,
                    &self.expected_receipts,
                )?;
            }
            self.subscribers[index].is_unread = !is_empty;
            if !is_empty {
                self.unread.push(index);
            }
        }
        for index in closed {
            self.reconnect(index)?;
        }
        Ok(())
    }

    /// Reconnects a slow subscriber that was disconnected. It never reads.
    fn reconnect(&mut self, index: usize) -> Result<()> {
        let stream = self.request(index)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        self.poll
            .registry()
            .register(&mut stream, Token(index), Interest::READABLE)?;
        self.subscribers[index].stream = stream;
        Ok(())
    }

    /// Reads until each subscriber has received its part of the first `count` events.
    fn read_to(&mut self, count: u64) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        let row = self.row;
        loop {
            let subscribers = self.subscribers[..row.subscribers].iter().enumerate();
            let mut incomplete = subscribers.filter(|(index, subscriber)| {
                subscriber.checker.next < row.subscription(*index).1.first_from(count)
            });
            let Some((index, subscriber)) = incomplete.next() else {
                break;
            };
            if Instant::now() > deadline {
                return Err(format!(
                    "subscriber {index} has not received event {} of {count}",
                    subscriber.checker.next
                )
                .into());
            }
            self.read_some()?;
        }
        let mut subscribers = self.subscribers[..row.subscribers].iter().enumerate();
        match subscribers.any(|(index, subscriber)| {
            subscriber.checker.next > row.subscription(index).1.first_from(count)
        }) {
            true => Err("more events arrived than were published".into()),
            false => Ok(()),
        }
    }
}

/// Reads once. Returns whether the socket is empty.
fn read_once(
    subscriber: &mut Subscriber,
    scratch: &mut [u8],
    sample: u64,
    latency: &mut Latency,
    receipts: &mut Vec<(u32, u64)>,
    expected_receipts: &[u32],
) -> Result<bool> {
    let count = match subscriber.stream.read(scratch) {
        Ok(0) => return Err("a subscriber was disconnected".into()),
        Ok(count) => count,
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
        Err(error) => return Err(error.into()),
    };
    let now = now_ns();
    subscriber
        .checker
        .take(&scratch[..count], |number, published| {
            if number & (sample - 1) != 0 {
                return;
            }
            let took = now.saturating_sub(published);
            latency.receipts.saturating_record(took);
            let index = (number / sample) as usize;
            if receipts.len() <= index {
                receipts.resize(index + 1, (0, 0));
            }
            let (count, last) = &mut receipts[index];
            *count += 1;
            *last = took.max(*last);
            if *count == expected_receipts[(number % expected_receipts.len() as u64) as usize] {
                latency.lasts.saturating_record(*last);
            }
        })?;
    // A short read has emptied the socket.
    Ok(count < scratch.len())
}

/// Reads the head and the comment after it. Returns the bytes of events that were read with it.
fn read_head(stream: &mut std::net::TcpStream, end: &[u8]) -> Result<Vec<u8>> {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(at) = read.windows(end.len()).position(|bytes| bytes == end) {
            return Ok(read.split_off(at + end.len()));
        }
        match stream.read(&mut buffer)? {
            0 => return Err("the connection ended before the head".into()),
            count => read.extend_from_slice(&buffer[..count]),
        }
    }
}
