//! What a delivery costs over real sockets, beside a bare loop of `write` calls in the same run: `cargo bench --bench fanout`.
//!
//! The server runs in a process of its own, pinned to one core; its subscribers are read from another. Every byte that each
//! subscriber gets is counted and must be exactly what was published. Figures are medians of several runs, and the ratio to the
//! bare loop is what carries over to other machines: it writes the same bytes to as many sockets, and does nothing else.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use fanfare::{Event, Server};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

const SUBSCRIBERS: usize = 1_000;
/// Bytes of an event's data, and of the event on the wire.
const DATA: usize = 101;
const FRAME: usize = DATA + "data:\n\n".len();
const SERVER_CORE: &str = "0";
const LOAD_CORE: usize = 1;
const RUNS: usize = 3;
const SECONDS: u64 = 2;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |index: usize| {
        arguments
            .get(index)
            .map_or(Ok(0), |text| text.parse::<usize>())
    };
    match arguments.get(1).map(String::as_str) {
        Some("--server") => serve(number(2)?),
        Some("--bare") => write_bare(number(2)?),
        _ if arguments.iter().any(|argument| argument == "--bench") => measure(),
        // `cargo test --benches` only wants to know that it starts.
        _ => Ok(()),
    }
}

fn measure() -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{SUBSCRIBERS} subscribers of one namespace, {FRAME}-byte events, publisher flat out; medians of {RUNS} runs"
    )?;
    writeln!(
        out,
        "{:>12} {:>14} {:>14} {:>14} {:>10} {:>7}",
        "bytes/write", "deliveries/s", "per CPU s", "bare loop", "µs each", "ratio"
    )?;
    for budget in [16 << 10, 64 << 10] {
        let (mut wall, mut cpu, mut bare) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..RUNS {
            let run = saturate("--server", budget)?;
            wall.push(run.deliveries / run.wall.as_secs_f64());
            cpu.push(run.deliveries / run.cpu.as_secs_f64());
            let run = saturate("--bare", budget)?;
            bare.push(run.deliveries / run.cpu.as_secs_f64());
        }
        let (wall, cpu, bare) = (median(wall), median(cpu), median(bare));
        let (millions, each) = (|figure: f64| format!("{:.1} M", figure / 1e6), 1e6 / cpu);
        writeln!(
            out,
            "{budget:>12} {:>14} {:>14} {:>14} {each:>10.4} {:>7.2}",
            millions(wall),
            millions(cpu),
            millions(bare),
            cpu / bare
        )?;
    }
    Ok(())
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// What one run came to.
struct Run {
    deliveries: f64,
    wall: Duration,
    /// Of the writing process.
    cpu: Duration,
}

/// Starts a writer on its core, reads all that it writes from ours, and checks how much that is.
fn saturate(kind: &str, budget: usize) -> Outcome<Run> {
    let mut writer = Writer::start(kind, budget)?;
    let mut core = rustix::thread::CpuSet::new();
    core.set(LOAD_CORE);
    rustix::thread::sched_setaffinity(None, &core)?;
    let mut crowd = Crowd::connect(writer.address)?;
    let start = Instant::now();
    writer.say("go")?;
    // The writer says how many bytes each should have got, and what it took, as soon as it has written them.
    let (each, cpu) = crowd.read_until_told(&mut writer)?;
    crowd.read_to(each)?;
    let wall = start.elapsed();
    writer.end()?;
    Ok(Run {
        deliveries: each as f64 / FRAME as f64 * SUBSCRIBERS as f64,
        wall,
        cpu,
    })
}

/// The process that writes.
struct Writer {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Writer {
    fn start(kind: &str, budget: usize) -> Outcome<Self> {
        let mut child = Command::new("taskset")
            .args(["-c", SERVER_CORE])
            .arg(std::env::current_exe()?)
            .args([kind, &budget.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        Ok(Self {
            stdin: child.stdin.take(),
            child,
            stdout,
            address: line.trim().parse()?,
        })
    }

    fn say(&mut self, word: &str) -> Outcome<()> {
        Ok(writeln!(self.stdin.as_mut().ok_or("no stdin")?, "{word}")?)
    }

    fn end(mut self) -> Outcome<()> {
        drop(self.stdin.take());
        self.child.wait()?;
        Ok(())
    }
}

/// The subscribers, all read by this thread.
struct Crowd {
    poll: Poll,
    streams: Vec<TcpStream>,
    /// Bytes of events that each has got.
    received: Vec<usize>,
    events: Events,
    scratch: Vec<u8>,
}

impl Crowd {
    fn connect(address: SocketAddr) -> Outcome<Self> {
        let poll = Poll::new()?;
        let mut streams = Vec::new();
        for index in 0..SUBSCRIBERS {
            let mut stream = std::net::TcpStream::connect(address)?;
            stream.write_all(b"GET /subscribe/a HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
            read_head(&mut stream)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry()
                .register(&mut stream, Token(index), Interest::READABLE)?;
            streams.push(stream);
        }
        let events = Events::with_capacity(SUBSCRIBERS);
        Ok(Self {
            poll,
            streams,
            received: vec![0; SUBSCRIBERS],
            events,
            scratch: vec![0; 256 << 10],
        })
    }

    fn read_some(&mut self, patience: Duration) -> Outcome<()> {
        self.poll.poll(&mut self.events, Some(patience))?;
        for ready in &self.events {
            let Token(index) = ready.token();
            loop {
                match self.streams[index].read(&mut self.scratch) {
                    Ok(0) => return Err("a subscriber was cut".into()),
                    Ok(count) => self.received[index] += count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    fn read_until_told(&mut self, writer: &mut Writer) -> Outcome<(usize, Duration)> {
        std::thread::scope(|scope| {
            let told = scope.spawn(|| {
                let mut line = String::new();
                writer.stdout.read_line(&mut line).map(|_| line)
            });
            while !told.is_finished() {
                self.read_some(Duration::from_millis(20))?;
            }
            let line = told.join().map_err(|_| "the reader of figures failed")??;
            let mut words = line.split_whitespace().map(str::parse::<u64>);
            let mut next = || words.next().ok_or("the writer said too little");
            Ok((next()?? as usize, Duration::from_nanos(next()??)))
        })
    }

    fn read_to(&mut self, each: usize) -> Outcome<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.received.iter().any(|&received| received < each) {
            if Instant::now() > deadline {
                return Err("events were lost".into());
            }
            self.read_some(Duration::from_millis(20))?;
        }
        if self.received.iter().any(|&received| received != each) {
            return Err("more came than was published".into());
        }
        Ok(())
    }
}

/// Reads what comes before the first event: the head, and a comment.
fn read_head(stream: &mut std::net::TcpStream) -> Outcome<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\n\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(())
}

/// The server and a publisher, on one core.
fn serve(budget: usize) -> Outcome<()> {
    let server = Server::builder()
        .write_budget(budget)
        .build()?
        .spawn("127.0.0.1:0")?;
    say(&format!(
        "{}",
        server.handle().local_addr().ok_or("not bound")?
    ))?;
    wait_for_word()?;
    let written_before = server.handle().status().bytes;
    let before = cpu_time()?;
    let data = "x".repeat(DATA);
    let until = Instant::now() + Duration::from_secs(SECONDS);
    let mut count = 0;
    while Instant::now() < until {
        for _ in 0..64 {
            server.publisher().send(Event::new("/a", data.as_str()))?;
        }
        count += 64;
    }
    // All is written when all bytes are counted.
    let all = written_before + (count * FRAME * SUBSCRIBERS) as u64;
    while server.handle().status().bytes < all {
        std::thread::park_timeout(Duration::from_millis(1));
    }
    say(&format!(
        "{} {}",
        count * FRAME,
        (cpu_time()? - before).as_nanos()
    ))?;
    let _ = wait_for_word();
    server.handle().shutdown(Duration::ZERO);
    Ok(server.join()?)
}

/// The limit: the same number of sockets, the same bytes a write, and nothing but `write`.
fn write_bare(budget: usize) -> Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    socket2::SockRef::from(&listener).set_send_buffer_size(64 << 10)?;
    say(&format!("{}", listener.local_addr()?))?;
    let mut streams = Vec::new();
    for _ in 0..SUBSCRIBERS {
        let (mut stream, _) = listener.accept()?;
        let mut request = [0; 256];
        let _ = stream.read(&mut request)?;
        stream.write_all(b"\n\n")?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    wait_for_word()?;
    let run = vec![b'x'; budget / FRAME * FRAME];
    let before = cpu_time()?;
    let until = Instant::now() + Duration::from_secs(SECONDS);
    let mut each = 0;
    while Instant::now() < until {
        for stream in &mut streams {
            stream.write_all(&run)?;
        }
        each += run.len();
    }
    say(&format!("{each} {}", (cpu_time()? - before).as_nanos()))?;
    let _ = wait_for_word();
    Ok(())
}

fn say(line: &str) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn wait_for_word() -> Outcome<()> {
    std::io::stdin().lock().read_line(&mut String::new())?;
    Ok(())
}

/// What all threads of this process have taken.
fn cpu_time() -> Outcome<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Ok(Duration::new(
        u64::try_from(time.tv_sec)?,
        u32::try_from(time.tv_nsec)?,
    ))
}
