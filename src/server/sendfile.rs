//! What many sockets are about to be sent, once in the kernel, which hands each of them references in place of a copy.
//!
//! A `write` copies its bytes for every socket anew, and from some kilobytes on that is most of what it costs. `sendfile(2)` takes the pages
//! of a file as they are, and an anonymous file (`memfd_create(2)`) is memory. Pages that are on their way must not change, so
//! bytes are only ever appended; a file that is full is let go, and its pages are freed when the last socket has sent them.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use mio::net::TcpStream;
use rustix::fd::OwnedFd;
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::event_log::{Extent, Slices};

/// Fewer bytes are copied as cheaply as their pages are handed over.
const LEAST_BYTES: usize = 12 << 10;
/// For fewer readers it is not worth the copy into the file.
const LEAST_READERS: usize = 16;
/// Bytes of one file, and of all that is kept for those who are behind.
const FILE_BYTES: u64 = 1 << 20;
const KEPT_BYTES: u64 = 2 << 20;

/// Recent bytes of busy logs.
#[derive(Debug, Default)]
pub(super) struct Pages {
    pieces: VecDeque<Piece>,
}

/// Bytes of one log, and where they are.
#[derive(Debug)]
struct Piece {
    extent: Extent,
    file: Arc<OwnedFd>,
    offset: u64,
}

impl Piece {
    fn file_end(&self) -> u64 {
        self.offset + self.extent.bytes()
    }
}

impl Pages {
    /// Takes in bytes of a log, if so many readers make that worth it and the first is not there yet. Where it cannot, they are copied as ever.
    pub(super) fn publish(&mut self, slices: &Slices<'_>, readers: usize) {
        let Some(extent) = slices.extent() else {
            return;
        };
        let worth_it = slices.bytes() >= LEAST_BYTES && readers >= LEAST_READERS;
        if !worth_it || extent.bytes() > KEPT_BYTES || self.find(extent).is_some() {
            return;
        }
        let last = self.pieces.back();
        let room = last.filter(|last| last.file_end() + extent.bytes() <= FILE_BYTES);
        let (file, offset) = match room {
            Some(last) => (Arc::clone(&last.file), last.file_end()),
            None => match new_file(extent.bytes()) {
                Some(file) => (Arc::new(file), 0),
                None => return,
            },
        };
        if rustix::io::pwritev(&*file, slices.as_slice(), offset) != Ok(slices.bytes()) {
            return;
        }
        match self.pieces.back_mut() {
            Some(last) if offset > 0 && last.extent.is_before(extent) => {
                last.extent.end = extent.end
            }
            _ => self.pieces.push_back(Piece {
                extent,
                file,
                offset,
            }),
        }
        let mut kept: u64 = self.pieces.iter().map(|piece| piece.extent.bytes()).sum();
        while kept > KEPT_BYTES
            && let Some(first) = self.pieces.pop_front()
        {
            kept -= first.extent.bytes();
        }
    }

    /// Gives a socket what is here of these bytes, from the first one on. Fewer than there are here means that it takes no more.
    ///
    /// # Errors
    /// Those of the socket.
    pub(super) fn send(&self, stream: &TcpStream, slices: &Slices<'_>) -> io::Result<PagesSent> {
        let mut sent = PagesSent::default();
        let Some(mut wanted) = slices.extent() else {
            return Ok(sent);
        };
        while wanted.bytes() >= LEAST_BYTES as u64
            && let Some(piece) = self.find(wanted)
        {
            let mut offset = piece.offset + wanted.start - piece.extent.start;
            let here = wanted.end.min(piece.extent.end) - wanted.start;
            match rustix::fs::sendfile(stream, &*piece.file, Some(&mut offset), here as usize) {
                // There is no more in the file, which cannot be.
                Ok(0) => break,
                Ok(bytes) => {
                    sent.bytes += bytes;
                    wanted.start += bytes as u64;
                    sent.full = (bytes as u64) < here;
                }
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => sent.full = true,
                Err(error) if sent.bytes == 0 => return Err(error.into()),
                // The next write will tell.
                Err(_) => sent.full = true,
            }
            if sent.full {
                break;
            }
        }
        Ok(sent)
    }

    fn find(&self, wanted: Extent) -> Option<&Piece> {
        let begins_in = |piece: &&Piece| piece.extent.contains(wanted.log, wanted.start);
        self.pieces.iter().rev().find(begins_in)
    }
}

/// A file that can take so many bytes, unless that could end the process: by `SIGXFSZ`, if it may have no file so large, or by `SIGPIPE`.
fn new_file(bytes: u64) -> Option<OwnedFd> {
    let most = getrlimit(Resource::Fsize).current;
    if most.is_some_and(|most| most < bytes.max(FILE_BYTES)) {
        return None;
    }
    let status = std::fs::read_to_string("/proc/thread-self/status").ok()?;
    if !survives_sigpipe(&status) {
        return None;
    }
    rustix::fs::memfd_create("fanfare", MemfdFlags::CLOEXEC).ok()
}

/// Whether a thread blocks, ignores or catches the signal that `sendfile`, unlike `write` as Rust does it, raises when the other end is gone.
/// Rust programs ignore it from the start, unless they or whatever they are embedded in say otherwise. See proc_pid_status(5).
fn survives_sigpipe(status: &str) -> bool {
    const SIGPIPE: u64 = 1 << (13 - 1);
    let masks = ["SigBlk:", "SigIgn:", "SigCgt:"].map(|name| {
        let mask = status.lines().find_map(|line| line.strip_prefix(name));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
    });
    masks.iter().flatten().any(|mask| mask & SIGPIPE > 0)
}

/// What a socket was sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PagesSent {
    pub(super) bytes: usize,
    /// It takes no more.
    pub(super) full: bool,
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Duration;

    use super::*;
    use crate::event_log::EventLog;
    use crate::event_stream::frame::BytesRef;

    const READERS: usize = LEAST_READERS;

    /// A log whose bytes tell where they are.
    struct Numbered {
        log: EventLog,
        seq: u64,
    }

    fn numbers(start: u64, end: u64) -> Vec<u8> {
        let from = start / 16;
        let all =
            (from..end.div_ceil(16)).flat_map(|place| format!("{:016x}", 16 * place).into_bytes());
        let skip = (start - 16 * from) as usize;
        all.skip(skip).take((end - start) as usize).collect()
    }

    impl Numbered {
        fn new(id: u64) -> Self {
            let log = EventLog::new(id, 0);
            Self { log, seq: 0 }
        }

        /// Appends so many bytes in one piece, and shares them.
        fn publish(&mut self, bytes: u64, pages: &mut Pages, readers: usize) {
            self.seq += 1;
            let start = self.log.end();
            let frame = numbers(start, start + bytes).into();
            self.log.append(self.seq, b"", BytesRef::Bytes(&frame));
            let mut news = Slices::new();
            self.log.gather_last(bytes, &mut news);
            assert_eq!(news.bytes() as u64, bytes);
            pages.publish(&news, readers);
        }

        fn from(&self, start: u64, most: usize) -> Slices<'_> {
            let mut slices = Slices::new();
            self.log.gather(start, most, &mut slices);
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
    fn what_is_shared_arrives_byte_for_byte_wherever_it_begins() {
        let (mut pages, mut numbered) = (Pages::default(), Numbered::new(1));
        for bytes in [16 << 10, 40_000, 12 << 10, 30_000] {
            numbered.publish(bytes, &mut pages, READERS);
        }
        assert_eq!(pages.pieces.len(), 1);
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
    fn what_is_little_or_for_few_or_of_another_log_or_older_or_newer_is_left_to_be_copied() {
        let (mut pages, mut numbered) = (Pages::default(), Numbered::new(1));
        let (server, _client) = pair();
        let is_left = |pages: &Pages, slices: &Slices<'_>| {
            assert_eq!(pages.send(&server, slices).unwrap(), sent(0));
        };
        numbered.publish(LEAST_BYTES as u64 - 16, &mut pages, READERS);
        numbered.publish(LEAST_BYTES as u64, &mut pages, READERS - 1);
        // More than is kept would only be written.
        numbered.publish(KEPT_BYTES + 16, &mut pages, READERS);
        assert!(pages.pieces.is_empty());
        let before = numbered.log.end();
        numbered.publish(2 * LEAST_BYTES as u64, &mut pages, READERS);
        assert_eq!(pages.pieces.len(), 1);
        is_left(&pages, &numbered.from(before - 1, 1 << 20));
        is_left(&pages, &numbered.from(before, LEAST_BYTES - 1));
        let end = numbered.log.end();
        numbered.publish(LEAST_BYTES as u64 + 16, &mut pages, 1);
        is_left(&pages, &numbered.from(end, 1 << 20));
        let mut other = Numbered::new(2);
        other.publish(end, &mut pages, 1);
        is_left(&pages, &other.from(before, 1 << 20));
        // The bytes of something else come first.
        let mut mixed = Slices::new();
        mixed.push(b"HTTP/1.1 200 OK");
        numbered.log.gather(before, 1 << 20, &mut mixed);
        is_left(&pages, &mixed);
        // Of what goes beyond what is here, this much is.
        let slices = numbered.from(before, 1 << 20);
        assert_eq!(pages.send(&server, &slices).unwrap(), sent(2 * LEAST_BYTES));
    }

    #[test]
    fn what_is_on_its_way_stays_as_it_is_while_files_come_and_go() {
        let (mut pages, mut numbered) = (Pages::default(), Numbered::new(1));
        let (server, mut client) = pair();
        let bytes = 48 << 10;
        numbered.publish(bytes, &mut pages, READERS);
        assert_eq!(
            pages
                .send(&server, &numbered.from(0, bytes as usize))
                .unwrap(),
            sent(bytes as usize)
        );
        for _ in 0..200 {
            numbered.publish(bytes, &mut pages, READERS);
            let kept: u64 = pages.pieces.iter().map(|piece| piece.extent.bytes()).sum();
            assert!(kept <= KEPT_BYTES);
            assert!(
                pages
                    .pieces
                    .iter()
                    .all(|piece| piece.file_end() <= FILE_BYTES)
            );
        }
        assert!(pages.pieces.len() <= 3);
        assert_eq!(
            pages
                .send(&server, &numbered.from(0, bytes as usize))
                .unwrap(),
            sent(0)
        );
        let mut read = vec![0; bytes as usize];
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
        while at < numbered.log.end() {
            let slices = numbered.from(at, 1 << 20);
            let sent = pages.send(&server, &slices).unwrap();
            at += sent.bytes as u64;
            if sent.full {
                let mut some = vec![0; 100_000];
                let count = client.read(&mut some).unwrap();
                read.extend_from_slice(&some[..count]);
            }
        }
        assert!(!read.is_empty(), "the socket was never full");
        let mut rest = vec![0; at as usize - read.len()];
        client.read_exact(&mut rest).unwrap();
        read.extend(rest);
        assert!(read == numbers(0, at));
    }

    #[test]
    fn nothing_is_shared_where_sigpipe_would_end_the_process() {
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
    fn the_other_end_may_be_gone() {
        let (mut pages, mut numbered) = (Pages::default(), Numbered::new(1));
        numbered.publish(64 << 10, &mut pages, READERS);
        let (mut server, client) = pair();
        let slices = numbered.from(0, 1 << 20);
        assert_eq!(pages.send(&server, &slices).unwrap(), sent(64 << 10));
        // With bytes that it has not read, it resets the connection.
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
