//! The events of the benchmark: each carries its number and the time at which it was published, and is checked on receipt.

use std::time::Duration;

use crate::Result;

/// `data:`, eight characters of number, eight of time, filler, and the blank line.
const FIRST: &[u8] = b"data:";
const FIELD: usize = 8;
/// Room for all that is checked of an event: the beginning of a chunk, if it comes in one, and what comes before the filler.
const HEADER: usize = 40;
const LAST: &[u8] = b"\n\n";
/// When nothing limits the rate, the latency of one event in so many is noted. A power of two: every delivery asks whether it is the one.
pub(crate) const SAMPLE: u64 = 32;

/// Nanoseconds of the clock that all processes of a machine share.
pub(crate) fn now_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// What all threads of this process have taken.
pub(crate) fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// 48 bits in eight printable characters, six in each.
fn put(out: &mut Vec<u8>, value: u64) {
    out.extend((0..FIELD).map(|place| b'0' + (value >> (6 * place) & 63) as u8));
}

/// All eight at once, as the reading process does little else: neighbours are joined to 12, then 24, then 48 bits.
fn get(field: [u8; FIELD]) -> u64 {
    let zeros = u64::from_le_bytes([b'0'; FIELD]);
    let sixes = u64::from_le_bytes(field).wrapping_sub(zeros) & 0x3f3f_3f3f_3f3f_3f3f;
    let twelves = (sixes & 0x003f_003f_003f_003f) | (sixes >> 2 & 0x0fc0_0fc0_0fc0_0fc0);
    let halves = (twelves & 0x0000_0fff_0000_0fff) | (twelves >> 4 & 0x00ff_f000_00ff_f000);
    (halves & 0x0000_00ff_ffff) | (halves >> 8 & 0xffff_ff00_0000)
}

/// The data of an event whose frame has `bytes` bytes.
pub(crate) fn data(number: u64, published_ns: u64, bytes: usize) -> String {
    let mut data = Vec::with_capacity(bytes);
    put(&mut data, number);
    put(&mut data, published_ns);
    data.resize(bytes - FIRST.len() - LAST.len(), b'x');
    String::from_utf8(data).expect("printable characters")
}

/// Appends the frame of an event, for writers without an encoder.
pub(crate) fn append(run: &mut Vec<u8>, number: u64, published_ns: u64, bytes: usize) {
    let end = run.len() + bytes;
    run.extend_from_slice(FIRST);
    put(run, number);
    put(run, published_ns);
    run.resize(end - LAST.len(), b'x');
    run.extend_from_slice(LAST);
}

/// Which events a subscriber is to get: those whose number, divided by `of`, leaves one of `width` rests from `start` on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EventSubset {
    pub(crate) modulus: u64,
    pub(crate) first: u64,
    pub(crate) width: u64,
}

impl EventSubset {
    fn residue(&self, number: u64) -> u64 {
        (number + self.modulus - self.first) % self.modulus
    }

    /// The first event from this number on.
    pub(crate) fn from(&self, number: u64) -> u64 {
        match self.residue(number) {
            residue if residue < self.width => number,
            residue => number + self.modulus - residue,
        }
    }

    fn after(&self, number: u64) -> u64 {
        if self.width == self.modulus || self.residue(number) + 1 < self.width {
            number + 1
        } else {
            number + self.modulus - self.width + 1
        }
    }

    /// How many of the first `count` events.
    pub(crate) fn count(&self, count: u64) -> u64 {
        (count / self.modulus) * self.width
            + (0..count % self.modulus)
                .filter(|&rest| self.residue(rest) < self.width)
                .count() as u64
    }
}

/// How events come over the wire: as they are, or each in a chunk of its own (RFC 9112, section 7.1).
#[derive(Debug, Clone)]
pub(crate) struct Framing {
    /// Where in an event its number is.
    first: usize,
    /// Bytes of an event.
    bytes: usize,
    /// A line with its ID comes before them.
    ids: bool,
}

impl Framing {
    pub(crate) fn with_ids(bytes: usize) -> Self {
        Self {
            ids: true,
            ..Self::plain(bytes)
        }
    }

    pub(crate) fn plain(bytes: usize) -> Self {
        Self {
            first: FIRST.len(),
            bytes,
            ids: false,
        }
    }

    pub(crate) fn chunked(bytes: usize) -> Self {
        Self::in_chunks(FIRST.len(), bytes)
    }

    /// As axum's `Sse` writes them, with a space after the colon.
    pub(crate) fn chunked_spaced(bytes: usize) -> Self {
        Self::in_chunks(FIRST.len() + 1, bytes + 1)
    }

    fn in_chunks(first: usize, bytes: usize) -> Self {
        let size = format!("{bytes:X}\r\n");
        Self {
            first: size.len() + first,
            bytes: size.len() + bytes + "\r\n".len(),
            ids: false,
        }
    }
}

/// Reads one subscriber's bytes, cut anywhere.
#[derive(Debug)]
pub(crate) struct Checker {
    subset: EventSubset,
    /// The number of the event that is to come next.
    pub(crate) next: u64,
    framing: Framing,
    /// How much of the running event has come, and what came of its header.
    within: usize,
    header: [u8; HEADER],
    /// The line with the ID of the running event has come.
    id_seen: bool,
    /// Where the line with the ID of the event before ended.
    id_end: usize,
}

impl Checker {
    pub(crate) fn new(subset: EventSubset, framing: Framing) -> Self {
        Self {
            subset,
            next: subset.from(0),
            framing,
            within: 0,
            header: [0; HEADER],
            id_seen: false,
            id_end: 0,
        }
    }

    /// Checks bytes, and tells the number and time of every event that ends in them.
    pub(crate) fn take(&mut self, mut bytes: &[u8], mut each: impl FnMut(u64, u64)) -> Result<()> {
        while !bytes.is_empty() {
            if self.framing.ids && !self.id_seen {
                // Mostly as long as the one before: searching for its end would cost more than all else here.
                if bytes.get(self.id_end) == Some(&b'\n') && bytes.starts_with(b"id:") {
                    bytes = &bytes[self.id_end + 1..];
                    self.id_seen = true;
                    continue;
                }
                let end = bytes.iter().position(|&byte| byte == b'\n');
                self.id_seen = end.is_some();
                self.id_end = end.unwrap_or_default();
                bytes = end.map_or(&[], |end| &bytes[end + 1..]);
                continue;
            }
            if self.within == 0 && bytes.len() >= self.framing.bytes {
                let (event, rest) = bytes.split_at(self.framing.bytes);
                bytes = rest;
                let published = self.check(event)?;
                each(self.complete(), published);
                continue;
            }
            let step = bytes.len().min(self.framing.bytes - self.within);
            if self.within < HEADER {
                let kept = step.min(HEADER - self.within);
                self.header[self.within..self.within + kept].copy_from_slice(&bytes[..kept]);
            }
            self.within += step;
            bytes = &bytes[step..];
            if self.within == self.framing.bytes {
                self.within = 0;
                let published = self.check(&self.header)?;
                each(self.complete(), published);
            }
        }
        Ok(())
    }

    fn check(&self, event: &[u8]) -> Result<u64> {
        let fields = event.get(self.framing.first..).map(<[u8]>::as_chunks);
        if let Some(([number, published, ..], _)) = fields
            && get(*number) == self.next
        {
            return Ok(get(*published));
        }
        let text = String::from_utf8_lossy(&event[..HEADER]);
        Err(format!("event {} was to come, not {text:?}", self.next).into())
    }

    fn complete(&mut self) -> u64 {
        let number = self.next;
        self.id_seen = false;
        self.next = self.subset.after(number);
        number
    }
}
