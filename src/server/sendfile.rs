//! Copies of log bytes in the kernel, which are sent to many sockets by reference.
//!
//! `write` copies its bytes again for each socket. From some kilobytes on, that is most of its
//! cost. `sendfile(2)` gives a socket references to the pages of a file instead, and an anonymous
//! file (`memfd_create(2)`) is memory. This file keeps recent bytes of busy logs in such files,
//! under their [`Extent`], and sends from there what it has.
//!
//! Pages that a socket has not sent yet must not change, so files are only appended to. A full file
//! is dropped; the kernel frees its pages when the last socket has sent them.
//!
//! A failure here is not an error: the bytes are then copied as without this file.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use mio::net::TcpStream;
use rustix::fd::OwnedFd;
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::log::{Extent, Slices};

/// The minimum size of a write. Copying fewer bytes costs no more.
const MIN_BYTES: usize = 12 << 10;
/// The minimum number of readers. For fewer, the copy to the file does not pay off.
const MIN_READERS: usize = 16;
/// The size of a file, in bytes.
const FILE_BYTES: u64 = 1 << 20;
/// The limit of bytes that all files together keep for lagging subscribers.
const MAX_KEPT_BYTES: u64 = 2 << 20;

/// Recent bytes of busy logs, in files.
#[derive(Debug, Default)]
pub(super) struct Pages {
    /// Oldest first.
    ranges: VecDeque<FileRange>,
}

/// Bytes of one log in a file.
#[derive(Debug)]
struct FileRange {
    extent: Extent,
    file: Arc<OwnedFd>,
    /// The offset of the first byte in the file.
    file_start: u64,
}

impl FileRange {
    fn file_end(&self) -> u64 {
        self.file_start + self.extent.bytes()
    }
}

impl Pages {
    /// Copies bytes of a log to a file, unless they are too few, have too few readers, or their
    /// first byte is in a file already.
    pub(super) fn publish(&mut self, slices: &Slices<'_>, readers: usize) {
        let Some(extent) = slices.extent() else {
            return;
        };
        let worth_it = slices.bytes() >= MIN_BYTES && readers >= MIN_READERS;
        if !worth_it || extent.bytes() > MAX_KEPT_BYTES || self.find(extent).is_some() {
            return;
        }
        let Some((file, file_start)) = self.file_for(extent.bytes()) else {
            return;
        };
        if rustix::io::pwritev(&*file, slices.as_slice(), file_start) != Ok(slices.bytes()) {
            return;
        }
        match self.ranges.back_mut() {
            Some(last) if file_start > 0 && last.extent.is_before(extent) => {
                last.extent = last.extent.joined(extent);
            }
            _ => self.ranges.push_back(FileRange {
                extent,
                file,
                file_start,
            }),
        }
        let mut kept: u64 = self.ranges.iter().map(|range| range.extent.bytes()).sum();
        while kept > MAX_KEPT_BYTES
            && let Some(first) = self.ranges.pop_front()
        {
            kept -= first.extent.bytes();
        }
    }

    /// A file with room for `bytes` bytes, the last one or a new one, and the offset of the room.
    fn file_for(&self, bytes: u64) -> Option<(Arc<OwnedFd>, u64)> {
        let last = self.ranges.back();
        match last.filter(|last| last.file_end() + bytes <= FILE_BYTES) {
            Some(last) => Some((Arc::clone(&last.file), last.file_end())),
            None => Some((Arc::new(new_file(bytes)?), 0)),
        }
    }

    /// Sends these bytes to a socket, from the first one on, as far as they are in files and the
    /// socket has room.
    ///
    /// # Errors
    /// The error of the socket, if no bytes were sent. A later error is left to the next write.
    pub(super) fn send(&self, stream: &TcpStream, slices: &Slices<'_>) -> io::Result<PagesSent> {
        let mut sent = PagesSent::default();
        let Some(mut remaining) = slices.extent() else {
            return Ok(sent);
        };
        while remaining.bytes() >= MIN_BYTES as u64
            && let Some((range, before)) = self.find(remaining)
        {
            let mut file_offset = range.file_start + before;
            let found = remaining.bytes().min(range.extent.bytes() - before) as usize;
            match rustix::fs::sendfile(stream, &*range.file, Some(&mut file_offset), found) {
                // The file is shorter than it was written. Nothing truncates it.
                Ok(0) => break,
                Ok(bytes) => {
                    sent.bytes += bytes;
                    remaining = remaining.skip(bytes);
                    sent.full = bytes < found;
                }
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => sent.full = true,
                Err(error) if sent.bytes == 0 => return Err(error.into()),
                Err(_) => sent.full = true,
            }
            if sent.full {
                break;
            }
        }
        Ok(sent)
    }

    /// The range that contains the first byte of an extent, and the number of bytes before that.
    fn find(&self, extent: Extent) -> Option<(&FileRange, u64)> {
        let mut newest_first = self.ranges.iter().rev();
        newest_first.find_map(|range| Some((range, range.extent.bytes_before(extent)?)))
    }
}

/// The result of [`Pages::send`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PagesSent {
    pub(super) bytes: usize,
    /// Whether the socket takes no more bytes.
    pub(super) full: bool,
}

/// Creates a file that can take `bytes` bytes. `None` if that fails, or if using it could end the
/// process: by `SIGXFSZ`, where the size of files is limited, or by `SIGPIPE`.
fn new_file(bytes: u64) -> Option<OwnedFd> {
    let max = getrlimit(Resource::Fsize).current;
    if max.is_some_and(|max| max < bytes.max(FILE_BYTES)) {
        return None;
    }
    let status = std::fs::read_to_string("/proc/thread-self/status").ok()?;
    if !survives_sigpipe(&status) {
        return None;
    }
    rustix::fs::memfd_create("fanfare", MemfdFlags::CLOEXEC).ok()
}

/// Whether a thread with this status, in the format of proc_pid_status(5), blocks, ignores or
/// catches `SIGPIPE`.
///
/// `sendfile` raises the signal when the peer has closed the connection; Rust's `write` to a socket
/// does not. Rust programs ignore the signal from their start, but a program in another language
/// that embeds this library may not.
fn survives_sigpipe(status: &str) -> bool {
    const SIGPIPE: u64 = 1 << (13 - 1);
    let masks = ["SigBlk:", "SigIgn:", "SigCgt:"].map(|name| {
        let mask = status.lines().find_map(|line| line.strip_prefix(name));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
    });
    masks.iter().flatten().any(|mask| mask & SIGPIPE > 0)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Duration;

    use super::*;
    use crate::event_stream::frame::BytesRef;
    use crate::log::{EventLog, LogId, Offset, Seq};

    const READERS: usize = MIN_READERS;

    /// A log whose bytes are their offsets in hexadecimal digits.
    struct Numbered {
        log: EventLog,
    }

    fn numbers(start: usize, end: usize) -> Vec<u8> {
        let from = start / 16;
        let all =
            (from..end.div_ceil(16)).flat_map(|word| format!("{:016x}", 16 * word).into_bytes());
        all.skip(start - 16 * from).take(end - start).collect()
    }

    impl Numbered {
        fn new(id: u64) -> Self {
            let log = EventLog::new(LogId(id), Seq::ZERO);
            Self { log }
        }

        fn end(&self) -> usize {
            (self.log.end() - Offset::ZERO) as usize
        }

        /// Appends a frame of `bytes` bytes, and publishes it.
        fn publish(&mut self, bytes: usize, pages: &mut Pages, readers: usize) {
            let start = self.end();
            let frame = numbers(start, start + bytes).into();
            let seq = self.log.last_seq().next();
            self.log.append(seq, b"", BytesRef::Bytes(&frame));
            let mut slices = Slices::new();
            self.log.gather_last(bytes as u64, &mut slices);
            assert_eq!(slices.bytes(), bytes);
            pages.publish(&slices, readers);
        }

        fn from(&self, start: usize, max: usize) -> Slices<'_> {
            let mut slices = Slices::new();
            self.log.gather(Offset::ZERO + start, max, &mut slices);
            slices
        }
    }

    fn pair() -> (TcpStream, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        (TcpStream::from_std(server), client)
    }

    fn sent(bytes: usize) -> PagesSent {
        PagesSent { bytes, full: false }
    }

    #[test]
    fn published_bytes_arrive_wherever_they_begin() {
        let (mut pages, mut numbered) = (Pages::default(), Numbered::new(1));
        for bytes in [16 << 10, 40_000, 12 << 10, 30_000] {
            numbered.publish(bytes, &mut pages, READERS);
        }
        assert_eq!(pages.ranges.len(), 1);
        let (server, mut client) = pair();
        for start in [0, 1, 4095, 4096, 16_383, 16_384, 50_001] {
            let slices = numbered.from(start, 20_000);
            assert_eq!(pages.send(&server, &slices).unwrap(), sent(20_000));
            let mut read = vec![0; 20_000];
            client.read_exact(&mut read).unwrap();
            assert!(read == numbers(start, start + 20_000), "from {start} on");
        }
    }

    #[test]
    fn other_bytes_are_left_to_be_copied() {
        let (mut pages, mut numbered) = (Pages::default(), Numbered::new(1));
        let (server, _client) = pair();
        let is_left = |pages: &Pages, slices: &Slices<'_>| {
            assert_eq!(pages.send(&server, slices).unwrap(), sent(0));
        };
        numbered.publish(MIN_BYTES - 16, &mut pages, READERS);
        numbered.publish(MIN_BYTES, &mut pages, READERS - 1);
        // More than is kept.
        numbered.publish(MAX_KEPT_BYTES as usize + 16, &mut pages, READERS);
        assert!(pages.ranges.is_empty());
        let before = numbered.end();
        numbered.publish(2 * MIN_BYTES, &mut pages, READERS);
        assert_eq!(pages.ranges.len(), 1);
        is_left(&pages, &numbered.from(before - 1, 1 << 20));
        is_left(&pages, &numbered.from(before, MIN_BYTES - 1));
        let end = numbered.end();
        numbered.publish(MIN_BYTES + 16, &mut pages, 1);
        is_left(&pages, &numbered.from(end, 1 << 20));
        let mut other = Numbered::new(2);
        other.publish(end, &mut pages, 1);
        is_left(&pages, &other.from(before, 1 << 20));
        // Bytes that are not of a log come first.
        let mut mixed = Slices::new();
        mixed.push(b"HTTP/1.1 200 OK");
        numbered
            .log
            .gather(Offset::ZERO + before, 1 << 20, &mut mixed);
        is_left(&pages, &mixed);
        // Bytes in files, then bytes that are not.
        let slices = numbered.from(before, 1 << 20);
        assert_eq!(pages.send(&server, &slices).unwrap(), sent(2 * MIN_BYTES));
    }

    #[test]
    fn bytes_in_a_socket_stay_the_same_while_files_come_and_go() {
        let (mut pages, mut numbered) = (Pages::default(), Numbered::new(1));
        let (server, mut client) = pair();
        let bytes = 48 << 10;
        numbered.publish(bytes, &mut pages, READERS);
        assert_eq!(
            pages.send(&server, &numbered.from(0, bytes)).unwrap(),
            sent(bytes)
        );
        for _ in 0..200 {
            numbered.publish(bytes, &mut pages, READERS);
            let kept: u64 = pages.ranges.iter().map(|range| range.extent.bytes()).sum();
            assert!(kept <= MAX_KEPT_BYTES);
            assert!(
                pages
                    .ranges
                    .iter()
                    .all(|range| range.file_end() <= FILE_BYTES)
            );
        }
        assert!(pages.ranges.len() <= 3);
        assert_eq!(
            pages.send(&server, &numbered.from(0, bytes)).unwrap(),
            sent(0)
        );
        let mut read = vec![0; bytes];
        client.read_exact(&mut read).unwrap();
        assert!(read == numbers(0, bytes));
    }

    #[test]
    fn a_full_socket_takes_a_part_and_then_nothing() {
        let (mut pages, mut numbered) = (Pages::default(), Numbered::new(1));
        let (server, mut client) = pair();
        let socket = socket2::SockRef::from(&server);
        socket.set_send_buffer_size(64 << 10).unwrap();
        for _ in 0..15 {
            numbered.publish(64 << 10, &mut pages, READERS);
        }
        let (mut at, mut read) = (0, Vec::new());
        while at < numbered.end() {
            let slices = numbered.from(at, 1 << 20);
            let sent = pages.send(&server, &slices).unwrap();
            at += sent.bytes;
            if sent.full {
                let mut some = vec![0; 100_000];
                let count = client.read(&mut some).unwrap();
                read.extend_from_slice(&some[..count]);
            }
        }
        assert!(!read.is_empty(), "the socket was never full");
        let mut rest = vec![0; at - read.len()];
        client.read_exact(&mut rest).unwrap();
        read.extend(rest);
        assert!(read == numbers(0, at));
    }

    #[test]
    fn no_file_is_made_where_sigpipe_would_end_the_process() {
        for (status, survives) in [
            (
                "SigPnd:\t1000\nSigBlk:\t0000\nSigIgn:\t0000000000001000\nSigCgt:\t0",
                true,
            ),
            ("SigBlk:\t0000000000001000\nSigIgn:\t0", true),
            ("SigCgt:\t0000000000001440", true),
            (
                "SigPnd:\t1000\nShdPnd:\t1000\nSigBlk:\t0\nSigIgn:\t0000000000002800\nSigCgt:\t440",
                false,
            ),
            ("SigIgn:\tnoise", false),
            ("", false),
        ] {
            assert_eq!(survives_sigpipe(status), survives, "{status:?}");
        }
    }

    #[test]
    fn a_peer_that_is_gone_is_an_error() {
        let (mut pages, mut numbered) = (Pages::default(), Numbered::new(1));
        numbered.publish(64 << 10, &mut pages, READERS);
        let (mut server, client) = pair();
        let slices = numbered.from(0, 1 << 20);
        assert_eq!(pages.send(&server, &slices).unwrap(), sent(64 << 10));
        // A peer that closes with unread bytes resets the connection.
        drop(client);
        let (mut poll, mut events) = (mio::Poll::new().unwrap(), mio::Events::with_capacity(1));
        let registry = poll.registry();
        registry
            .register(&mut server, mio::Token(0), mio::Interest::READABLE)
            .unwrap();
        poll.poll(&mut events, Some(Duration::from_secs(60)))
            .unwrap();
        assert!(pages.send(&server, &slices).is_err());
    }
}
