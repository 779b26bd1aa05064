//! A server with scripted responses, valid or not, and a proxy that cuts connections.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};

use super::{TIMEOUT, join_within};

/// The usual head of an event stream that ends with its connection.
pub(crate) const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";

/// A listener whose connections are each given to a handler, on a thread of its own, with their
/// number from 0.
struct Listening {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listening {
    fn start(handle: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let ended = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&ended);
        let handle = Arc::new(handle);
        let thread = thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                if is_over.load(Ordering::Acquire) {
                    return;
                }
                let stream = stream.expect("a connection");
                let handle = Arc::clone(&handle);
                thread::spawn(move || handle(number, stream));
            }
        });
        Self {
            address,
            ended,
            thread: Some(thread),
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // A connection wakes it.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            join_within(TIMEOUT, thread);
        }
    }
}

/// A server that hands each connection to the test once its request is complete.
pub(crate) struct OddServer {
    listening: Listening,
    requests: Receiver<String>,
}

impl OddServer {
    /// `answer` gets the number of each connection, from 0, and the request: its head, and its body
    /// if that has a length.
    pub(crate) fn start(answer: impl Fn(usize, &str, TcpStream) + Send + Sync + 'static) -> Self {
        let (sender, requests) = channel();
        let listening = Listening::start(move |number, stream| {
            let request = read_request(&stream);
            // The test may have dropped the receiver.
            let _ = sender.send(request.clone());
            answer(number, &request, stream);
        });
        Self {
            listening,
            requests,
        }
    }

    /// A server that sends the same response to every request, and ends the connection.
    pub(crate) fn responding(response: impl Into<Vec<u8>>) -> Self {
        let response = response.into();
        Self::start(move |_, _, mut stream| {
            let _ = stream.write_all(&response);
        })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.listening.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listening.address
    }

    /// The next request.
    pub(crate) fn next_request(&self) -> String {
        self.requests.recv_timeout(TIMEOUT).expect("a request")
    }
}

/// Reads a request: its head, and its body if that has a length.
fn read_request(stream: &TcpStream) -> String {
    stream.set_read_timeout(Some(TIMEOUT)).expect("a socket");
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        if reader.read_line(&mut request).unwrap_or(0) == 0 {
            return request;
        }
    }
    let length = value_of(&request, "content-length").and_then(|value| value.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).expect("a whole body");
    request.push_str(&String::from_utf8_lossy(&body));
    request
}

/// The value of a request's header.
pub(crate) fn value_of<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    let lines = request.lines().take_while(|line| !line.is_empty());
    lines
        .filter_map(|line| line.split_once(": "))
        .find(|(given, _)| given.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

/// Holds the connection until the other side ends it.
pub(crate) fn hold(mut stream: TcpStream) {
    let _ = stream.set_read_timeout(None);
    let _ = stream.read_to_end(&mut Vec::new());
}

/// A proxy that cuts each connection after `budget(number)` bytes.
pub(crate) struct CuttingProxy {
    listening: Listening,
}

impl CuttingProxy {
    pub(crate) fn start(
        server: SocketAddr,
        budget: impl Fn(usize) -> u64 + Send + Sync + 'static,
    ) -> Self {
        let listening = Listening::start(move |number, client| {
            let upstream = TcpStream::connect(server).expect("a server that listens");
            let (mut from_client, mut to_server) = (
                client.try_clone().expect("a socket"),
                upstream.try_clone().expect("a socket"),
            );
            let up = thread::spawn(move || {
                let _ = std::io::copy(&mut from_client, &mut to_server);
            });
            let _ = std::io::copy(&mut (&upstream).take(budget(number)), &mut (&client));
            let _ = client.shutdown(Shutdown::Both);
            let _ = upstream.shutdown(Shutdown::Both);
            join_within(TIMEOUT, up);
        });
        Self { listening }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.listening.address)
    }
}
