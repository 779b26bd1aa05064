//! The writing processes: fanfare, a bare loop, and axum. Each says its address, then does as it is told over standard input.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use fanfare::{Event, Server};

use crate::Outcome;
use crate::frame::{self, SAMPLE, cpu_time, now_ns};
use crate::peer;
use crate::worlds::{Row, Writer, namespace};

/// Runs the writer of a row in this process.
pub(crate) fn run(row: &Row) -> Outcome<()> {
    crate::crowd::prepare_process()?;
    match row.writer {
        Writer::Fanfare => fanfare(row),
        Writer::Bare => bare(row),
        Writer::Axum | Writer::AxumSse => peer::axum(row),
    }
}

/// One line to the reading process.
pub(crate) fn say(line: impl std::fmt::Display) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// What the reading process asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Resident memory and CPU time, now.
    Tell,
    /// Publish, and say how many events there were.
    Go,
    End,
}

/// The next order.
pub(crate) fn next_order() -> Outcome<Order> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(match line.trim() {
        "tell" => Order::Tell,
        "go" => Order::Go,
        _ => Order::End,
    })
}

/// Resident memory in bytes, and CPU time in nanoseconds.
pub(crate) fn tell() -> Outcome<()> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .ok_or("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    say(format!("{} {}", kib << 10, cpu_time().as_nanos()))
}

fn obey(mut go: impl FnMut() -> Outcome<u64>) -> Outcome<()> {
    loop {
        match next_order()? {
            Order::Tell => tell()?,
            Order::Go => say(go()?)?,
            Order::End => return Ok(()),
        }
    }
}

/// When each event is to be published: at an even rate, or at once.
pub(crate) struct Schedule {
    start: u64,
    until: u64,
    period: Option<u64>,
    number: u64,
    most: u64,
    now: u64,
}

impl Schedule {
    pub(crate) fn start(row: &Row) -> Self {
        let start = now_ns();
        Self {
            start,
            until: start + u64::from(row.seconds) * 1_000_000_000,
            period: row.rate.map(|rate| 1_000_000_000 / u64::from(rate)),
            number: 0,
            most: row.count().unwrap_or(u64::MAX),
            now: start,
        }
    }

    /// How many events there were.
    pub(crate) fn count(&self) -> u64 {
        self.number
    }

    /// The next event's number and the time at which it is due, which counts as that of publishing it however late it is.
    /// When nothing limits the rate, the clock is read only for events whose latency is noted.
    pub(crate) fn next(&mut self) -> Option<(u64, u64)> {
        match self.period {
            Some(period) => self.now = self.start + self.number * period,
            None if self.number.is_multiple_of(SAMPLE) => self.now = now_ns(),
            None => {}
        }
        (self.now < self.until && self.number < self.most).then(|| {
            self.number += 1;
            (self.number - 1, self.now)
        })
    }

    /// How long until an event is due.
    pub(crate) fn wait(&self, due: u64) -> Option<Duration> {
        self.period?;
        let wait = Duration::from_nanos(due.checked_sub(now_ns())?);
        (!wait.is_zero()).then_some(wait)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "events are published at their times"
)]
fn sleep_until(schedule: &Schedule, due: u64) {
    if let Some(wait) = schedule.wait(due) {
        std::thread::sleep(wait);
    }
}

fn fanfare(row: &Row) -> Outcome<()> {
    let server = Server::builder()
        .write_budget(row.budget)
        .queue_bytes(row.queue_bytes)
        .max_lag(row.max_lag)
        .coalesce(Duration::from_millis(row.coalesce_ms))
        .history_events(row.history)
        .build()?
        .spawn("127.0.0.1:0")?;
    say(server.handle().local_addr().ok_or("not bound")?)?;
    let names: Vec<String> = (0..row.namespaces()).map(namespace).collect();
    obey(|| {
        let mut schedule = Schedule::start(row);
        while let Some((number, due)) = schedule.next() {
            sleep_until(&schedule, due);
            let name = names[(number % row.namespaces()) as usize].as_str();
            server
                .publisher()
                .send(Event::new(name, frame::data(number, due, row.frame)))?;
        }
        Ok(schedule.count())
    })?;
    server.handle().shutdown(Duration::ZERO);
    Ok(server.join()?)
}

/// The limit: the same number of sockets, the same bytes a write, and nothing but `write`.
fn bare(row: &Row) -> Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let socket = socket2::SockRef::from(&listener);
    socket.listen(i32::from(u16::MAX))?;
    socket.set_send_buffer_size(64 << 10)?;
    socket.set_tcp_nodelay(true)?;
    say(listener.local_addr()?)?;
    // The root comes first, then each namespace.
    let mut groups: Vec<Group> = Vec::new();
    groups.resize_with(row.namespaces() as usize + 1, Group::default);
    for index in 0..row.subscribers {
        let (mut stream, _) = listener.accept()?;
        let mut request = [0; 1024];
        let _ = stream.read(&mut request)?;
        stream.write_all(peer::HEAD.as_bytes())?;
        let share = row.subscription(index).1;
        let of_all = share.width == share.of;
        let group = if of_all { 0 } else { share.start + 1 };
        groups[group as usize].streams.push(stream);
    }
    obey(|| {
        let mut schedule = Schedule::start(row);
        while let Some((number, due)) = schedule.next() {
            sleep_until(&schedule, due);
            for group in [0, number % row.namespaces() + 1] {
                groups[group as usize].append(row, number, due)?;
            }
        }
        groups.iter_mut().try_for_each(Group::write)?;
        Ok(schedule.count())
    })
}

/// Those to whom the bare loop writes the same bytes.
#[derive(Debug, Default)]
struct Group {
    streams: Vec<TcpStream>,
    run: Vec<u8>,
}

impl Group {
    /// Adds an event, and writes when no other has room in one write.
    fn append(&mut self, row: &Row, number: u64, due: u64) -> Outcome<()> {
        if self.streams.is_empty() {
            return Ok(());
        }
        frame::append(&mut self.run, number, due, row.frame);
        match self.run.len() + row.frame > row.budget {
            true => self.write(),
            false => Ok(()),
        }
    }

    fn write(&mut self) -> Outcome<()> {
        for stream in &mut self.streams {
            stream.write_all(&self.run)?;
        }
        self.run.clear();
        Ok(())
    }
}

/// A writer as the reading process sees it.
pub(crate) struct WriterProcess {
    child: std::process::Child,
    stdin: Option<std::process::ChildStdin>,
    stdout: BufReader<std::process::ChildStdout>,
    pub(crate) address: std::net::SocketAddr,
}

/// What a writer says of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) resident: u64,
    pub(crate) cpu: Duration,
}

impl WriterProcess {
    /// Starts the writer of a row on a core.
    pub(crate) fn start(row: usize, core: usize) -> Outcome<Self> {
        let mut child = std::process::Command::new("taskset")
            .args(["-c", &core.to_string()])
            .arg(std::env::current_exe()?)
            .args(["--writer", &row.to_string()])
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

    fn order(&mut self, word: &str) -> Outcome<()> {
        Ok(writeln!(self.stdin.as_mut().ok_or("no stdin")?, "{word}")?)
    }

    fn hear(&mut self) -> Outcome<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line)
    }

    /// Asks it for its memory and CPU time.
    pub(crate) fn tell(&mut self) -> Outcome<Told> {
        self.order("tell")?;
        let line = self.hear()?;
        let (resident, cpu) = line
            .trim()
            .split_once(' ')
            .ok_or("the writer said too little")?;
        Ok(Told {
            resident: resident.parse()?,
            cpu: Duration::from_nanos(cpu.parse()?),
        })
    }

    /// Lets it publish, and does something until it has; returns how many events it published, and when it began.
    pub(crate) fn publish(
        &mut self,
        mut meanwhile: impl FnMut() -> Outcome<()>,
    ) -> Outcome<(u64, Instant)> {
        let start = Instant::now();
        self.order("go")?;
        std::thread::scope(|scope| {
            let told = scope.spawn(|| self.hear().map_err(|error| error.to_string()));
            while !told.is_finished() {
                meanwhile()?;
            }
            let line = told.join().map_err(|_| "the reader of figures failed")??;
            Ok((line.trim().parse().map_err(|_| "the writer failed")?, start))
        })
    }

    /// Lets it end.
    pub(crate) fn end(mut self) -> Outcome<()> {
        drop(self.stdin.take());
        self.child.wait()?;
        Ok(())
    }
}
