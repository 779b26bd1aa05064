//! Load: thousands of real sockets on one server, in a process of its own. Received bytes and the
//! server's memory are checked, not the time.
#![cfg(feature = "cli")]

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};

/// The longest that a test waits for a socket.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The User-Agent of a browser. The server keeps it for the status page, so it counts in the memory
/// of a subscriber.
const AGENT: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
                     Chrome/148.0.0.0 Safari/537.36";

/// Descriptors are counted per process, so these tests run one at a time.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static RUNNING: Mutex<()> = Mutex::new(());
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The program, serving.
struct Program {
    child: Child,
    address: SocketAddr,
}

impl Program {
    fn start(options: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_fanfare"))
            .args(["serve", "--addr", "127.0.0.1:0", "--log-level", "off"])
            // Every byte is checked, so nothing but events may come.
            .args(["--keepalive", "0", "--history-events", "0"])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.trim().rsplit('/').next().unwrap().parse().unwrap();
        Self { child, address }
    }

    /// A figure of `/proc/PID/status`, in bytes.
    fn memory(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
            * 1024
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TIMEOUT)).unwrap();
        stream
    }

    /// Publishes lines of data to a namespace, as NDJSON in one request; returns after the
    /// response.
    fn publish(&self, namespace: &str, data: impl Iterator<Item = String>) {
        let mut stream = self.connect();
        let head = "POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n\
                    Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut count = 0;
        for data in data {
            let line = format!("{{\"namespace\":\"{namespace}\",\"data\":\"{data}\"}}\n");
            write!(stream, "{:x}\r\n{line}\r\n", line.len()).unwrap();
            count += 1;
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert!(
            reply.ends_with(&format!("{{\"published\":{count}}}")),
            "{reply}"
        );
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Subscribers that check every received byte.
struct Readers {
    poll: Poll,
    readers: Vec<Reader>,
}

struct Reader {
    stream: mio::net::TcpStream,
    /// The bytes before the first event, until they are complete.
    head: Vec<u8>,
    streaming: bool,
    /// The number of received bytes of events.
    received: usize,
}

impl Readers {
    /// Connects subscribers, and returns when each of them has its stream.
    fn subscribe(program: &Program, namespace: &str, count: usize) -> Self {
        let mut readers = Self {
            poll: Poll::new().unwrap(),
            readers: Vec::new(),
        };
        for index in 0..count {
            let mut stream = program.connect();
            let request = format!(
                "GET /subscribe{namespace} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: {AGENT} {index}\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).unwrap();
            stream.set_nonblocking(true).unwrap();
            let mut stream = mio::net::TcpStream::from_std(stream);
            readers
                .poll
                .registry()
                .register(&mut stream, Token(index), Interest::READABLE)
                .unwrap();
            readers.readers.push(Reader {
                stream,
                head: Vec::new(),
                streaming: false,
                received: 0,
            });
        }
        readers.read_until(&[], |reader| reader.streaming);
        readers
    }

    /// Reads until every reader is done, and checks that only the expected events come.
    fn read_until(&mut self, events: &[u8], done: impl Fn(&Reader) -> bool) {
        let mut readiness = Events::with_capacity(1024);
        let mut scratch = vec![0; 256 << 10];
        let mut left = self.readers.iter().filter(|reader| !done(reader)).count();
        while left > 0 {
            self.poll.poll(&mut readiness, Some(TIMEOUT)).unwrap();
            assert!(
                !readiness.is_empty(),
                "{left} of {} readers received nothing",
                self.readers.len()
            );
            for ready in &readiness {
                let reader = &mut self.readers[ready.token().0];
                let before = done(reader);
                reader.read(events, &mut scratch);
                left -= usize::from(done(reader) && !before);
            }
        }
    }
}

impl Reader {
    fn read(&mut self, events: &[u8], scratch: &mut [u8]) {
        loop {
            match self.stream.read(scratch) {
                Ok(0) => panic!("cut after {} bytes of events", self.received),
                Ok(count) => self.take(events, &scratch[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn take(&mut self, events: &[u8], bytes: &[u8]) {
        let mut bytes = bytes;
        if !self.streaming {
            self.head.extend_from_slice(bytes);
            // The head ends with an empty line, and so does the comment after it.
            let Some(at) = self.head.windows(2).position(|pair| pair == b"\n\n") else {
                return;
            };
            self.streaming = true;
            let rest = self.head.split_off(at + 2);
            assert!(self.head.starts_with(b"HTTP/1.1 200 OK\r\n"));
            assert!(events.starts_with(&rest));
            self.received = rest.len();
            bytes = &[];
        }
        let expected = &events[self.received..];
        assert!(expected.starts_with(bytes), "bytes that were not published");
        self.received += bytes.len();
    }
}

fn numbered(count: usize, bytes: usize) -> impl Iterator<Item = String> + Clone {
    (0..count).map(move |number| format!("{number:08} {}", "x".repeat(bytes - 9)))
}

fn encoded(data: impl Iterator<Item = String>) -> Vec<u8> {
    data.map(|data| format!("data:{data}\n\n"))
        .collect::<String>()
        .into_bytes()
}

#[test]
fn fifteen_thousand_subscribers_each_get_every_event() {
    let _alone = one_at_a_time();
    let program = Program::start(&[]);
    // The memory of the first connections includes what the program allocates once.
    let first = Readers::subscribe(&program, "/all", 100);
    let before = program.memory("VmRSS");
    let mut readers = Readers::subscribe(&program, "/all", 15_000);
    let each = (program.memory("VmRSS") - before) / 15_000;
    assert!(
        each <= 512,
        "{each} bytes of memory for each idle subscriber"
    );
    drop(first);
    let events = numbered(20, 100);
    let expected = encoded(events.clone());
    for event in events {
        program.publish("/all", [event].into_iter());
    }
    readers.read_until(&expected, |reader| reader.received == expected.len());
}

#[test]
fn subscribers_that_never_read_are_disconnected_and_others_lose_nothing() {
    let _alone = one_at_a_time();
    let program = Program::start(&[]);
    let mut readers = Readers::subscribe(&program, "/all", 900);
    let silent: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = program.connect();
            stream
                .write_all(b"GET /subscribe/all HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .unwrap();
            stream
        })
        .collect();
    // Enough for the largest receive buffer, and then for the lag.
    let events = numbered(16_000, 1_000);
    let expected = encoded(events.clone());
    std::thread::scope(|scope| {
        scope.spawn(|| program.publish("/all", events));
        readers.read_until(&expected, |reader| reader.received == expected.len());
    });
    let peak = program.memory("VmHWM");
    assert!(peak < 100 << 20, "{peak} bytes of memory");
    for mut stream in silent {
        let mut received = Vec::new();
        // The connection is closed or reset before the last event.
        let _ = stream.read_to_end(&mut received);
        assert!(
            received.len() < expected.len(),
            "a subscriber that did not read received everything"
        );
    }
}

#[test]
fn twenty_thousand_connections_come_and_go_and_a_steady_stream_loses_nothing() {
    let _alone = one_at_a_time();
    let program = Program::start(&[]);
    let mut readers = Readers::subscribe(&program, "/steady", 50);
    let events = numbered(2_000, 100);
    let expected = encoded(events.clone());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for turn in 0..10_000 {
                    let mut stream = program.connect();
                    if turn % 2 == 0 {
                        stream
                            .write_all(b"GET /subscribe/steady HTTP/1.1\r\nHost: localhost\r\n\r\n")
                            .unwrap();
                        stream.read_exact(&mut [0; 64]).unwrap();
                    }
                }
            });
        }
        scope.spawn(|| events.for_each(|event| program.publish("/steady", [event].into_iter())));
        readers.read_until(&expected, |reader| reader.received == expected.len());
    });
}

/// Random bytes, and valid requests that are truncated or have a few bytes changed.
fn noise(random: &mut impl FnMut() -> usize) -> Vec<u8> {
    let requests: [&[u8]; 6] = [
        b"GET /subscribe/noise HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n",
        b"POST /publish/noise?event=e&id=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
        b"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n\
          Transfer-Encoding: chunked\r\n\r\n22\r\n{\"namespace\":\"/noise\",\"data\":\"x\"}\n\r\n0\r\n\r\n",
        b"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 33\r\n\r\n\
          {\"namespace\":\"/noise\",\"data\":\"x\"}",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HEAD /subscribe?ns=/a&ns=%2Fb HTTP/1.0\r\n\r\n",
    ];
    if random().is_multiple_of(4) {
        return (0..random() % 4096).map(|_| random() as u8).collect();
    }
    let mut bytes = requests[random() % requests.len()].to_vec();
    for _ in 0..random() % 6 {
        let at = random() % bytes.len();
        match random() % 3 {
            0 => bytes[at] = random() as u8,
            1 => bytes.insert(at, random() as u8),
            _ => drop(bytes.remove(at)),
        }
    }
    if random().is_multiple_of(3) {
        bytes.truncate(random() % bytes.len());
    }
    bytes
}

/// The number of connections with random bytes; `NOISE=1000000` takes many minutes.
fn noisy_connections() -> usize {
    std::env::var("NOISE").map_or(5_000, |count| count.parse().unwrap())
}

#[test]
fn random_bytes_harm_no_other_connection() {
    let _alone = one_at_a_time();
    let program = Program::start(&["--head-timeout", "1s"]);
    let mut readers = Readers::subscribe(&program, "/steady", 10);
    let mut state = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0) | 1;
    eprintln!("the noise has seed {state}");
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize
    };
    let mut open = std::collections::VecDeque::new();
    let mut bytes_after_warm_up = 0;
    for turn in 0..noisy_connections() {
        let mut stream = program.connect();
        // The server may end the connection before all is sent.
        let _ = stream.write_all(&noise(&mut random));
        open.push_back(stream);
        if open.len() > 200 {
            open.remove(random() % open.len());
        }
        if turn == 2_000 {
            bytes_after_warm_up = program.memory("VmRSS");
        }
    }
    drop(open);
    assert!(
        program.memory("VmRSS") < bytes_after_warm_up + (8 << 20),
        "memory grew from {bytes_after_warm_up} bytes"
    );
    let events = numbered(100, 100);
    let expected = encoded(events.clone());
    program.publish("/steady", events);
    readers.read_until(&expected, |reader| reader.received == expected.len());
}
