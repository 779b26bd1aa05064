//! The writing processes: fanfare, a bare loop, and axum. Each prints its address and then carries
//! out the orders that it reads from standard input.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use fanfare::{Event, Server};

use crate::Result;
use crate::frame::{self, SAMPLE, cpu_time, now_ns};
use crate::peer;
use crate::workloads::{Row, Writer, namespace};

/// Runs the writer of a row in this process.
pub(crate) fn run(row: &Row) -> Result<()> {
    crate::subscribers::prepare_process()?;
    match row.writer {
        Writer::Fanfare => fanfare(row),
        Writer::Bare => bare(row),
        Writer::Axum | Writer::AxumSse => peer::axum(row),
    }
}

/// Sends one line to the reading process.
pub(crate) fn write_line(line: impl std::fmt::Display) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// An order of the reading process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Report resident memory and CPU time.
    Usage,
    /// Publish, and report the number of events.
    Publish,
    End,
}

/// Reads the next order.
pub(crate) fn next_order() -> Result<Order> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(match line.trim() {
        "usage" => Order::Usage,
        "publish" => Order::Publish,
        _ => Order::End,
    })
}

/// Reports resident memory in bytes and CPU time in nanoseconds.
pub(crate) fn write_usage() -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .ok_or("/proc/self/status has no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    write_line(format!("{} {}", kib << 10, cpu_time().as_nanos()))
}

fn run_orders(mut publish: impl FnMut() -> Result<u64>) -> Result<()> {
    loop {
        match next_order()? {
            Order::Usage => write_usage()?,
            Order::Publish => write_line(publish()?)?,
            Order::End => return Ok(()),
        }
    }
}

/// The times at which events are due: at a regular rate, or without limit.
pub(crate) struct Pacer {
    start_ns: u64,
    end_ns: u64,
    period_ns: Option<u64>,
    number: u64,
    max_events: u64,
    now_ns: u64,
}

impl Pacer {
    pub(crate) fn start(row: &Row) -> Self {
        let start_ns = now_ns();
        Self {
            start_ns,
            end_ns: start_ns + row.duration.as_nanos() as u64,
            period_ns: row.rate.map(|rate| 1_000_000_000 / u64::from(rate)),
            number: 0,
            max_events: row.count().unwrap_or(u64::MAX),
            now_ns: start_ns,
        }
    }

    /// The number of events so far.
    pub(crate) fn count(&self) -> u64 {
        self.number
    }

    /// The number of the next event and the time at which it is due, which counts as the time of
    /// publishing even if the event is late. Without a rate, the clock is read only for events
    /// whose latency is recorded.
    pub(crate) fn next(&mut self) -> Option<(u64, u64)> {
        match self.period_ns {
            Some(period_ns) => self.now_ns = self.start_ns + self.number * period_ns,
            None if self.number.is_multiple_of(SAMPLE) => self.now_ns = now_ns(),
            None => {}
        }
        (self.now_ns < self.end_ns && self.number < self.max_events).then(|| {
            self.number += 1;
            (self.number - 1, self.now_ns)
        })
    }

    /// The time until an event is due. `None` if it is due already.
    pub(crate) fn wait(&self, due_ns: u64) -> Option<Duration> {
        self.period_ns?;
        let wait = Duration::from_nanos(due_ns.checked_sub(now_ns())?);
        (!wait.is_zero()).then_some(wait)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "events are published when they are due"
)]
fn sleep_until(pacer: &Pacer, due_ns: u64) {
    if let Some(wait) = pacer.wait(due_ns) {
        std::thread::sleep(wait);
    }
}

fn fanfare(row: &Row) -> Result<()> {
    let server = Server::builder()
        .write_budget(row.budget)
        .queue_bytes(row.queue_bytes)
        .max_lag(row.max_lag)
        .coalesce(Duration::from_millis(row.coalesce_ms))
        .history_events(row.history)
        .build()?
        .spawn("127.0.0.1:0")?;
    write_line(server.handle().local_addr().ok_or("not bound")?)?;
    let names: Vec<String> = (0..row.namespaces()).map(namespace).collect();
    run_orders(|| {
        let mut pacer = Pacer::start(row);
        while let Some((number, due_ns)) = pacer.next() {
            sleep_until(&pacer, due_ns);
            let name = names[(number % row.namespaces()) as usize].as_str();
            server
                .publisher()
                .send(Event::new(name, frame::data(number, due_ns, row.frame)))?;
        }
        Ok(pacer.count())
    })?;
    server.handle().shutdown(Duration::ZERO);
    Ok(server.join()?)
}

/// The upper limit: as many sockets and as many bytes per write, and nothing but `write`.
fn bare(row: &Row) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let socket = socket2::SockRef::from(&listener);
    socket.listen(i32::from(u16::MAX))?;
    socket.set_send_buffer_size(64 << 10)?;
    socket.set_tcp_nodelay(true)?;
    write_line(listener.local_addr()?)?;
    // Subscribers of the root are group 0. Those of each namespace follow.
    let mut groups: Vec<Group> = Vec::new();
    groups.resize_with(row.namespaces() as usize + 1, Group::default);
    for index in 0..row.subscribers {
        let (mut stream, _) = listener.accept()?;
        let mut request = [0; 1024];
        let _ = stream.read(&mut request)?;
        stream.write_all(peer::HEAD.as_bytes())?;
        let subset = row.subscription(index).1;
        let is_root = subset.width == subset.modulus;
        let group = if is_root { 0 } else { subset.first + 1 };
        groups[group as usize].streams.push(stream);
    }
    run_orders(|| {
        let mut pacer = Pacer::start(row);
        while let Some((number, due_ns)) = pacer.next() {
            sleep_until(&pacer, due_ns);
            for group in [0, number % row.namespaces() + 1] {
                groups[group as usize].append(row, number, due_ns)?;
            }
        }
        groups.iter_mut().try_for_each(Group::write)?;
        Ok(pacer.count())
    })
}

/// The subscribers to which the bare loop writes the same bytes.
#[derive(Debug, Default)]
struct Group {
    streams: Vec<TcpStream>,
    buffer: Vec<u8>,
}

impl Group {
    /// Adds an event, and writes when another one would exceed the budget.
    fn append(&mut self, row: &Row, number: u64, due_ns: u64) -> Result<()> {
        if self.streams.is_empty() {
            return Ok(());
        }
        frame::append(&mut self.buffer, number, due_ns, row.frame);
        match self.buffer.len() + row.frame > row.budget {
            true => self.write(),
            false => Ok(()),
        }
    }

    fn write(&mut self) -> Result<()> {
        for stream in &mut self.streams {
            stream.write_all(&self.buffer)?;
        }
        self.buffer.clear();
        Ok(())
    }
}

/// The writing process, as the reading process controls it.
pub(crate) struct WriterProcess {
    child: std::process::Child,
    stdin: Option<std::process::ChildStdin>,
    stdout: BufReader<std::process::ChildStdout>,
    pub(crate) address: std::net::SocketAddr,
}

/// Resident memory in bytes, and CPU time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) resident_bytes: u64,
    pub(crate) cpu: Duration,
}

impl WriterProcess {
    /// Starts the writer of a row on a core, or on any with the row shortened.
    pub(crate) fn start(row: usize, core: Option<usize>) -> Result<Self> {
        let program = std::env::current_exe()?;
        let mut command = match core {
            Some(core) => {
                let mut command = std::process::Command::new("taskset");
                command.args(["-c", &core.to_string()]).arg(program);
                command.args(["--writer", &row.to_string()]);
                command
            }
            None => {
                let mut command = std::process::Command::new(program);
                command.args(["--writer", &row.to_string(), "--short"]);
                command
            }
        };
        let mut child = command
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let address = line
            .trim()
            .parse()
            .map_err(|_| "the writer did not start")?;
        Ok(Self {
            stdin: child.stdin.take(),
            child,
            stdout,
            address,
        })
    }

    fn order(&mut self, word: &str) -> Result<()> {
        Ok(writeln!(self.stdin.as_mut().ok_or("no stdin")?, "{word}")?)
    }

    fn read_line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line)
    }

    /// Asks for memory and CPU time.
    pub(crate) fn usage(&mut self) -> Result<Usage> {
        self.order("usage")?;
        let line = self.read_line()?;
        let (resident, cpu) = line
            .trim()
            .split_once(' ')
            .ok_or("the writer reported one number instead of two")?;
        Ok(Usage {
            resident_bytes: resident.parse()?,
            cpu: Duration::from_nanos(cpu.parse()?),
        })
    }

    /// Lets the writer publish and calls `meanwhile` until it has. Returns the number of events,
    /// and when publishing started.
    pub(crate) fn publish(
        &mut self,
        mut meanwhile: impl FnMut() -> Result<()>,
    ) -> Result<(u64, Instant)> {
        let start = Instant::now();
        self.order("publish")?;
        std::thread::scope(|scope| {
            let reply = scope.spawn(|| self.read_line().map_err(|error| error.to_string()));
            while !reply.is_finished() {
                meanwhile()?;
            }
            let line = reply
                .join()
                .map_err(|_| "the thread that reads the reply failed")??;
            Ok((line.trim().parse().map_err(|_| "the writer failed")?, start))
        })
    }

    /// Ends the writer.
    pub(crate) fn end(mut self) -> Result<()> {
        drop(self.stdin.take());
        self.child.wait()?;
        Ok(())
    }
}
