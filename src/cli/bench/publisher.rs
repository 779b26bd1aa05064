//! A thread that publishes at a fixed rate, each event with the time at which it was due.
//!
//! Latency is measured from that time and not from when the event was sent. Otherwise a server that
//! delays publishers would appear faster ("coordinated omission"). Without a rate, an event is due
//! when it is created.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::super::target::error_text;
use super::clock::LoadClock;
use super::stream::write_data;

/// Bytes that one write sends at most, one event more or less.
const BATCH_BYTES: usize = 32 << 10;
/// How long connecting, a write and a response may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The configuration of one publisher.
#[derive(Debug, Clone)]
pub(super) struct PublisherConfig {
    pub(super) address: SocketAddr,
    pub(super) method: PublishMethod,
    /// The path of the request for [`PublishMethod::Lines`].
    pub(super) path: String,
    /// The header lines of each request, `Host` among them.
    pub(super) headers: String,
    /// Its number among all publishers.
    pub(super) number: usize,
    /// The destinations of events, in turn: namespaces for [`PublishMethod::Lines`], otherwise
    /// paths.
    pub(super) targets: Vec<String>,
    /// Bytes of data of an event.
    pub(super) data_bytes: usize,
    /// Events per second; zero is as fast as the server accepts them.
    pub(super) rate: f64,
    pub(super) clock: LoadClock,
}

/// How events are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PublishMethod {
    /// All events as NDJSON in one request.
    Lines,
    /// Each event as the body of a POST request.
    Posts,
}

/// Publishes until `stop` is disconnected. Returns the number of events sent to each target.
pub(super) fn run(config: &PublisherConfig, stop: &Receiver<()>) -> io::Result<Vec<u64>> {
    let stream = TcpStream::connect_timeout(&config.address, TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut reader = BufReader::new(&stream);
    let published = publish(config, stop, &stream, &mut reader);
    match published {
        // A server that closes the connection may have responded first.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => match read_response(&mut reader) {
            Err(response) if response.kind() == ErrorKind::Other => Err(response),
            _ => Err(error),
        },
        published => published,
    }
}

fn publish(
    config: &PublisherConfig,
    stop: &Receiver<()>,
    mut writer: &TcpStream,
    reader: &mut impl BufRead,
) -> io::Result<Vec<u64>> {
    let mut sent = vec![0_u64; config.targets.len()];
    let mut count = 0_u64;
    let mut batch = Vec::with_capacity(2 * BATCH_BYTES);
    if config.method == PublishMethod::Lines {
        let PublisherConfig { path, headers, .. } = config;
        write!(
            writer,
            "POST {path} HTTP/1.1\r\n{headers}Content-Type: application/x-ndjson\r\n\
             Transfer-Encoding: chunked\r\n\r\n"
        )?;
    }
    let start_us = config.clock.now_us();
    while wait_until(config, start_us, count, stop) {
        batch.clear();
        count += fill(config, &mut batch, start_us, count, &mut sent);
        match config.method {
            PublishMethod::Lines => {
                write!(writer, "{:x}\r\n", batch.len())?;
                batch.extend_from_slice(b"\r\n");
                writer.write_all(&batch)?;
            }
            PublishMethod::Posts => {
                writer.write_all(&batch)?;
                read_response(reader)?;
            }
        }
    }
    if config.method == PublishMethod::Lines {
        writer.write_all(b"0\r\n\r\n")?;
        read_response(reader)?;
    }
    Ok(sent)
}

/// Adds the events that are due to a batch, and counts them by target in `sent`. Returns their
/// number. A batch of [`PublishMethod::Posts`] has only one.
fn fill(
    config: &PublisherConfig,
    batch: &mut Vec<u8>,
    start_us: u64,
    count: u64,
    sent: &mut [u64],
) -> u64 {
    let now_us = config.clock.now_us();
    let mut added = 0;
    while batch.len() < BATCH_BYTES {
        let due_us = due_us(config, start_us, count + added, now_us);
        if due_us > now_us {
            break;
        }
        let target = ((count + added) % config.targets.len() as u64) as usize;
        add(config, batch, target, sent[target], due_us);
        sent[target] += 1;
        added += 1;
        if config.method == PublishMethod::Posts {
            break;
        }
    }
    added
}

/// The time at which an event is due.
fn due_us(config: &PublisherConfig, start_us: u64, count: u64, now_us: u64) -> u64 {
    if config.rate == 0.0 {
        return now_us;
    }
    start_us + (count as f64 * 1e6 / config.rate) as u64
}

/// Waits until the next event is due. `false` if the load has ended.
fn wait_until(config: &PublisherConfig, start_us: u64, count: u64, stop: &Receiver<()>) -> bool {
    let now_us = config.clock.now_us();
    let wait_us = due_us(config, start_us, count, now_us).saturating_sub(now_us);
    let stopped = stop.recv_timeout(Duration::from_micros(wait_us));
    stopped == Err(RecvTimeoutError::Timeout)
}

fn add(config: &PublisherConfig, batch: &mut Vec<u8>, target: usize, sequence: u64, due_us: u64) {
    let name = &config.targets[target];
    match config.method {
        PublishMethod::Lines => {
            batch.extend_from_slice(b"{\"namespace\":\"");
            batch.extend_from_slice(name.as_bytes());
            batch.extend_from_slice(b"\",\"data\":\"");
            write_data(batch, config.number, sequence, due_us, config.data_bytes);
            batch.extend_from_slice(b"\"}\n");
        }
        PublishMethod::Posts => {
            let mut data = Vec::with_capacity(config.data_bytes);
            write_data(
                &mut data,
                config.number,
                sequence,
                due_us,
                config.data_bytes,
            );
            let (headers, length) = (&config.headers, data.len());
            let head = format!(
                "POST {name} HTTP/1.1\r\n{headers}Content-Type: text/plain\r\n\
                 Content-Length: {length}\r\n\r\n"
            );
            batch.extend_from_slice(head.as_bytes());
            batch.append(&mut data);
        }
    }
}

/// Reads a response.
///
/// # Errors
/// If its status does not mean success, an error of the kind [`ErrorKind::Other`].
fn read_response(reader: &mut impl BufRead) -> io::Result<()> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(io::Error::other("the server ended the connection"));
        }
    }
    let value = |name: &str| {
        let mut headers = head.lines().filter_map(|line| line.split_once(':'));
        let header = headers.find(|header| header.0.eq_ignore_ascii_case(name))?;
        Some(header.1.trim())
    };
    let mut body = String::new();
    if value("transfer-encoding").is_some() {
        read_chunks(reader, &mut body)?;
    } else {
        let length = value("content-length").and_then(|length| length.parse().ok());
        reader.take(length.unwrap_or(0)).read_to_string(&mut body)?;
    }
    match head.split(' ').nth(1) {
        Some(status) if status.starts_with('2') => Ok(()),
        status => {
            let status = status.unwrap_or_default();
            let problem = format!("the server answered {status}: {}", error_text(&body));
            Err(io::Error::other(problem))
        }
    }
}

fn read_chunks(reader: &mut impl BufRead, body: &mut String) -> io::Result<()> {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
        reader.take(size).read_to_string(body)?;
        reader.read_line(&mut line)?;
        if size == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_read_to_its_end_and_no_further() {
        let mut three: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc\
            HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA;b=c\r\n0123\r\n\r\n89\r\n0\r\n\r\n\
            HTTP/1.1 204 No\r\n\r\n";
        for _ in 0..3 {
            read_response(&mut three).unwrap();
        }
        assert!(three.is_empty());
        let mut refused: &[u8] = b"HTTP/1.1 401 No\r\nContent-Length: 4\r\n\r\nnope";
        let error = read_response(&mut refused).unwrap_err().to_string();
        assert!(error.ends_with("401: nope"), "{error}");
        let mut cut: &[u8] = b"HTTP/1.1 200 OK\r\n";
        assert!(read_response(&mut cut).is_err());
    }

    fn config(method: PublishMethod, targets: &[&str], rate: f64) -> PublisherConfig {
        PublisherConfig {
            address: ([127, 0, 0, 1], 1).into(),
            method,
            path: String::new(),
            headers: String::new(),
            number: 0,
            targets: targets.iter().map(ToString::to_string).collect(),
            data_bytes: 0,
            rate,
            clock: LoadClock::start(),
        }
    }

    #[test]
    fn events_are_due_at_regular_times() {
        let with_rate = config(PublishMethod::Posts, &["/a"], 4.0);
        let due = (0..3).map(|count| due_us(&with_rate, 10, count, 99));
        assert_eq!(due.collect::<Vec<_>>(), [10, 250_010, 500_010]);
        let without_rate = config(PublishMethod::Posts, &["/a"], 0.0);
        assert_eq!(due_us(&without_rate, 10, 7, 99), 99);
    }

    #[test]
    fn a_batch_has_one_post_or_all_lines_that_are_due_and_fit() {
        let targets = ["/a", "/b", "/c"];
        for (method, rate, count, expected) in [
            (PublishMethod::Posts, 0.0, 4, Some([0, 1, 0])),
            (PublishMethod::Lines, 1e-3, 0, Some([1, 0, 0])),
            (PublishMethod::Lines, 1e-3, 1, Some([0, 0, 0])),
            (PublishMethod::Lines, 0.0, 0, None),
        ] {
            let config = config(method, &targets, rate);
            let (mut batch, mut sent) = (Vec::new(), [0; 3]);
            let added = fill(&config, &mut batch, 0, count, &mut sent);
            assert_eq!(added, sent.iter().sum::<u64>());
            match expected {
                Some(expected) => assert_eq!(sent, expected),
                // A full batch ends with the first event that reaches its size.
                None => {
                    let last = batch[..batch.len() - 1].iter().rposition(|&b| b == b'\n');
                    assert!(batch.len() >= BATCH_BYTES && last < Some(BATCH_BYTES));
                    assert!(sent[0] - sent[2] <= 1);
                }
            }
        }
    }
}
