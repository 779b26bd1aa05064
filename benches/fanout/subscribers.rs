//! The subscribers, all read by one thread on a core of its own.

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
/// Connections opened before the first answer is read.
const AT_ONCE: usize = 64;
/// Reads from one socket before the others have their turn: of what a socket holds, a part that is left would close its window.
const READS: usize = 4;
/// How often it looks what there is to read beside a writer that is flat out: to look disturbs the writer, too.
const POLL_EVERY: Duration = Duration::from_micros(200);
/// How long the last events may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Allows this process as many sockets as it may have.
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
    run_beside(row, Some(WRITER_CORE))
}

/// Runs a row once, shortened.
pub(crate) fn run_short(row: &Row) -> Result<()> {
    run_beside(&row.shortened(), None).map(drop)
}

/// Runs a row whose writer is on this core, or on any if the row is shortened.
fn run_beside(row: &Row, writer_core: Option<usize>) -> Result<Measurement> {
    let index = ROWS
        .iter()
        .position(|other| other.name == row.name)
        .ok_or("no such row")?;
    let mut writer = WriterProcess::start(index, writer_core)?;
    let bare = row.writer == Writer::Bare;
    // A bare loop hears no orders before all are connected.
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
            connected.resident.saturating_sub(before.resident) as f64 / row.subscribers as f64
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

/// How long after publishing events were received.
#[derive(Debug)]
pub(crate) struct Latency {
    receipts: Histogram<u64>,
    lasts: Histogram<u64>,
}

impl Default for Latency {
    fn default() -> Self {
        // From a microsecond to a minute, in three digits.
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
    /// Milliseconds: median, 99th percentile and maximum of all receipts, then of the last one of each event.
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
    members: Vec<Member>,
    events: Events,
    scratch: Vec<u8>,
    sample: u64,
    /// How long it sleeps at the most when there is nothing to read. Not at all beside a writer that is flat out, for whom it is to be no trouble
    /// to wake it: nobody would who is on another machine.
    sleep: Duration,
    /// When it looked last.
    polled: Instant,
    /// Sockets that may have more than was read. Each has its turn again when all others had theirs: a writer may fill one as fast as it is read.
    unread: Vec<usize>,
    latency: Latency,
    /// Of each sampled event, how many have received it, and when the last one did.
    seen: Vec<(u32, u64)>,
    /// How many are to receive each event, one after the other in a round.
    listeners: Vec<u32>,
}

struct Member {
    stream: TcpStream,
    checker: Checker,
    /// It is listed as one that may have more than was read.
    unread: bool,
}

impl Subscribers {
    fn connect(row: &Row, address: SocketAddr) -> Result<Self> {
        let mut listeners = vec![0; row.namespaces() as usize];
        for index in 0..row.subscribers {
            let subset = row.subscription(index).1;
            (0..row.namespaces())
                .filter(|&event| subset.from(event) == event)
                .for_each(|event| listeners[event as usize] += 1);
        }
        let mut subscribers = Self {
            poll: Poll::new()?,
            row: *row,
            address,
            members: Vec::new(),
            events: Events::with_capacity(1024),
            scratch: vec![0; 64 << 10],
            sample: if row.rate.is_none() { SAMPLE } else { 1 },
            sleep: match row.rate {
                None => Duration::ZERO,
                Some(_) => Duration::from_millis(20),
            },
            polled: Instant::now(),
            unread: Vec::new(),
            latency: Latency::default(),
            seen: Vec::new(),
            listeners,
        };
        let all = row.subscribers + row.slow;
        for first in (0..all).step_by(AT_ONCE) {
            let group = first..all.min(first + AT_ONCE);
            let streams: Vec<_> = group
                .map(|index| subscribers.ask(index))
                .collect::<Result<_>>()?;
            for stream in streams {
                subscribers.take_in(stream)?;
            }
            if row.replay {
                subscribers.read_some()?;
            }
        }
        Ok(subscribers)
    }

    fn ask(&self, index: usize) -> Result<std::net::TcpStream> {
        let mut stream = std::net::TcpStream::connect(self.address)?;
        let (path, _) = self.row.subscription(index);
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
        Ok(stream)
    }

    fn take_in(&mut self, mut stream: std::net::TcpStream) -> Result<()> {
        // The head of a stream ends with a comment. hyper knows no stream that ends with its connection, so its events are chunks.
        let (end, framing): (&[u8], _) = match self.row.writer {
            Writer::Axum => (b":\n\n\r\n", Framing::chunked(self.row.frame)),
            Writer::AxumSse => (b"\n\n\r\n", Framing::chunked_spaced(self.row.frame)),
            _ if self.row.history > 0 => (b":\n\n", Framing::with_ids(self.row.frame)),
            _ => (b":\n\n", Framing::plain(self.row.frame)),
        };
        let rest = read_head(&mut stream, end)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let index = self.members.len();
        self.poll
            .registry()
            .register(&mut stream, Token(index), Interest::READABLE)?;
        let mut checker = Checker::new(self.row.subscription(index).1, framing);
        checker.take(&rest, |_, _| {})?;
        self.members.push(Member {
            stream,
            checker,
            unread: false,
        });
        Ok(())
    }

    fn read_some(&mut self) -> Result<()> {
        while self.sleep.is_zero() && self.polled.elapsed() < POLL_EVERY {
            std::hint::spin_loop();
        }
        self.polled = Instant::now();
        let sleep = if self.unread.is_empty() {
            self.sleep
        } else {
            Duration::ZERO
        };
        self.poll.poll(&mut self.events, Some(sleep))?;
        let mut turn = std::mem::take(&mut self.unread);
        let mut cut = Vec::new();
        for ready in &self.events {
            let Token(index) = ready.token();
            if index < self.row.subscribers {
                if !self.members[index].unread {
                    turn.push(index);
                }
            } else if ready.is_read_closed() || ready.is_error() {
                cut.push(index);
            }
        }
        for index in turn {
            let (mut reads, mut all) = (0, false);
            while !all && reads < READS {
                reads += 1;
                all = read_once(
                    &mut self.members[index],
                    &mut self.scratch,
                    self.sample,
                    &mut self.latency,
                    &mut self.seen,
                    &self.listeners,
                )?;
            }
            self.members[index].unread = !all;
            if !all {
                self.unread.push(index);
            }
        }
        for index in cut {
            self.come_back(index)?;
        }
        Ok(())
    }

    /// A slow one that was cut connects again, and again reads nothing but the head.
    fn come_back(&mut self, index: usize) -> Result<()> {
        let stream = self.ask(index)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        self.poll
            .registry()
            .register(&mut stream, Token(index), Interest::READABLE)?;
        self.members[index].stream = stream;
        Ok(())
    }

    fn read_to(&mut self, count: u64) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let row = self.row;
        loop {
            let members = self.members[..row.subscribers].iter().enumerate();
            let mut behind = members.filter(|(index, member)| {
                member.checker.next < row.subscription(*index).1.from(count)
            });
            let Some((index, member)) = behind.next() else {
                break;
            };
            if Instant::now() > deadline {
                return Err(format!(
                    "subscriber {index} has no event {} of {count}",
                    member.checker.next
                )
                .into());
            }
            self.read_some()?;
        }
        let mut members = self.members[..row.subscribers].iter().enumerate();
        match members
            .any(|(index, member)| member.checker.next > row.subscription(index).1.from(count))
        {
            true => Err("more came than was published".into()),
            false => Ok(()),
        }
    }
}

/// Reads once; returns whether that was all there is.
fn read_once(
    member: &mut Member,
    scratch: &mut [u8],
    sample: u64,
    latency: &mut Latency,
    seen: &mut Vec<(u32, u64)>,
    listeners: &[u32],
) -> Result<bool> {
    let count = match member.stream.read(scratch) {
        Ok(0) => return Err("a subscriber was cut".into()),
        Ok(count) => count,
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
        Err(error) => return Err(error.into()),
    };
    let now = now_ns();
    member
        .checker
        .take(&scratch[..count], |number, published| {
            if number & (sample - 1) != 0 {
                return;
            }
            let took = now.saturating_sub(published);
            latency.receipts.saturating_record(took);
            let place = (number / sample) as usize;
            if seen.len() <= place {
                seen.resize(place + 1, (0, 0));
            }
            let (receipts, last) = &mut seen[place];
            *receipts += 1;
            *last = took.max(*last);
            if *receipts == listeners[(number % listeners.len() as u64) as usize] {
                latency.lasts.saturating_record(*last);
            }
        })?;
    // Fewer than asked for is all there is.
    Ok(count < scratch.len())
}

/// Reads what comes before the first event, the head and a comment; returns what came of the events.
fn read_head(stream: &mut std::net::TcpStream, end: &[u8]) -> Result<Vec<u8>> {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(at) = read.windows(end.len()).position(|bytes| bytes == end) {
            return Ok(read.split_off(at + end.len()));
        }
        match stream.read(&mut buffer)? {
            0 => return Err("no head came".into()),
            count => read.extend_from_slice(&buffer[..count]),
        }
    }
}
