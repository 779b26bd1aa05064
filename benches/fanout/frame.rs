//! The events of the benchmark. Each carries its number and the time at which it was published, and
//! each subscriber checks what it receives.

use std::time::Duration;

use crate::Result;

/// How an event starts. Eight characters of number, eight of time and filler follow.
const FIRST: &[u8] = b"data:";
const FIELD: usize = 8;
/// At least the length of the part that is checked: the size of a chunk, and everything before the
/// filler.
const HEADER: usize = 40;
/// How an event ends.
const LAST: &[u8] = b"\n\n";
/// Without a rate, the latency of one in this many events is recorded. It is a power of two, as
/// each delivery tests for it.
pub(crate) const SAMPLE: u64 = 32;

/// Nanoseconds of the clock that all processes of a machine share.
pub(crate) fn now_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The CPU time of all threads of this process.
pub(crate) fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Appends 48 bits as eight printable characters of six bits each.
fn put(out: &mut Vec<u8>, value: u64) {
    out.extend((0..FIELD).map(|digit| b'0' + (value >> (6 * digit) & 63) as u8));
}

/// Reads all eight characters at once, because the reading process does little else. Neighbors are
/// joined to 12, then 24, then 48 bits.
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
pub(crate) fn append(buffer: &mut Vec<u8>, number: u64, published_ns: u64, bytes: usize) {
    let end = buffer.len() + bytes;
    buffer.extend_from_slice(FIRST);
    put(buffer, number);
    put(buffer, published_ns);
    buffer.resize(end - LAST.len(), b'x');
    buffer.extend_from_slice(LAST);
}

/// The events that a subscriber must receive: those whose number modulo `modulus` is one of `width`
/// consecutive residues from `first` on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EventSubset {
    pub(crate) modulus: u64,
    pub(crate) first: u64,
    pub(crate) width: u64,
}

impl EventSubset {
    /// The distance of an event from the start of its round.
    fn residue(&self, number: u64) -> u64 {
        (number + self.modulus - self.first) % self.modulus
    }

    /// The first event of the subset with this number or a higher one.
    pub(crate) fn first_from(&self, number: u64) -> u64 {
        match self.residue(number) {
            residue if residue < self.width => number,
            residue => number + self.modulus - residue,
        }
    }

    /// The event of the subset that follows this one.
    fn next_after(&self, number: u64) -> u64 {
        if self.width == self.modulus || self.residue(number) + 1 < self.width {
            number + 1
        } else {
            number + self.modulus - self.width + 1
        }
    }

    /// How many of the first `count` events are in the subset.
    pub(crate) fn count(&self, count: u64) -> u64 {
        (count / self.modulus) * self.width
            + (0..count % self.modulus)
                .filter(|&rest| self.residue(rest) < self.width)
                .count() as u64
    }
}

/// How events are framed on the wire: not at all, or each in a chunk (RFC 9112, section 7.1).
#[derive(Debug, Clone)]
pub(crate) struct Framing {
    /// The offset of the number in an event.
    number_offset: usize,
    /// The size of an event with its framing, without an ID.
    bytes: usize,
    /// Whether each event starts with a line with its ID.
    has_ids: bool,
}

impl Framing {
    pub(crate) fn with_ids(bytes: usize) -> Self {
        Self {
            has_ids: true,
            ..Self::plain(bytes)
        }
    }

    pub(crate) fn plain(bytes: usize) -> Self {
        Self {
            number_offset: FIRST.len(),
            bytes,
            has_ids: false,
        }
    }

    pub(crate) fn chunked(bytes: usize) -> Self {
        Self::in_chunks(FIRST.len(), bytes)
    }

    /// Chunks of axum's `Sse`, which writes a space after the colon.
    pub(crate) fn chunked_spaced(bytes: usize) -> Self {
        Self::in_chunks(FIRST.len() + 1, bytes + 1)
    }

    fn in_chunks(number_offset: usize, bytes: usize) -> Self {
        let size = format!("{bytes:X}\r\n");
        Self {
            number_offset: size.len() + number_offset,
            bytes: size.len() + bytes + "\r\n".len(),
            has_ids: false,
        }
    }
}

/// Checks the bytes of one subscriber, which arrive in pieces of any size.
#[derive(Debug)]
pub(crate) struct Checker {
    subset: EventSubset,
    /// The number of the next event.
    pub(crate) next: u64,
    framing: Framing,
    /// The number of bytes of the current event that have arrived.
    received: usize,
    /// The first of these bytes.
    header: [u8; HEADER],
    /// Whether the line with the ID of the current event has arrived.
    has_id: bool,
    /// The offset of the end of the previous event's line with an ID.
    id_end: usize,
}

impl Checker {
    pub(crate) fn new(subset: EventSubset, framing: Framing) -> Self {
        Self {
            subset,
            next: subset.first_from(0),
            framing,
            received: 0,
            header: [0; HEADER],
            has_id: false,
            id_end: 0,
        }
    }

    /// Checks the next bytes. Calls `each` with the number and the time of each event that ends in
    /// them.
    pub(crate) fn take(&mut self, mut bytes: &[u8], mut each: impl FnMut(u64, u64)) -> Result<()> {
        while !bytes.is_empty() {
            if self.framing.has_ids && !self.has_id {
                // IDs mostly have the length of the previous one. To search for the end would cost
                // more than everything else here.
                if bytes.get(self.id_end) == Some(&b'\n') && bytes.starts_with(b"id:") {
                    bytes = &bytes[self.id_end + 1..];
                    self.has_id = true;
                    continue;
                }
                let end = bytes.iter().position(|&byte| byte == b'\n');
                self.has_id = end.is_some();
                self.id_end = end.unwrap_or_default();
                bytes = end.map_or(&[], |end| &bytes[end + 1..]);
                continue;
            }
            if self.received == 0 && bytes.len() >= self.framing.bytes {
                let (event, rest) = bytes.split_at(self.framing.bytes);
                bytes = rest;
                let published = self.check(event)?;
                each(self.complete(), published);
                continue;
            }
            let step = bytes.len().min(self.framing.bytes - self.received);
            if self.received < HEADER {
                let kept = step.min(HEADER - self.received);
                self.header[self.received..self.received + kept].copy_from_slice(&bytes[..kept]);
            }
            self.received += step;
            bytes = &bytes[step..];
            if self.received == self.framing.bytes {
                self.received = 0;
                let published = self.check(&self.header)?;
                each(self.complete(), published);
            }
        }
        Ok(())
    }

    fn check(&self, event: &[u8]) -> Result<u64> {
        let fields = event
            .get(self.framing.number_offset..)
            .map(<[u8]>::as_chunks);
        if let Some(([number, published, ..], _)) = fields
            && get(*number) == self.next
        {
            return Ok(get(*published));
        }
        let text = String::from_utf8_lossy(&event[..HEADER]);
        Err(format!("expected event {}, not {text:?}", self.next).into())
    }

    fn complete(&mut self) -> u64 {
        let number = self.next;
        self.has_id = false;
        self.next = self.subset.next_after(number);
        number
    }
}
