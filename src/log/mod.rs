//! The recent frames of one topic: the outbox of all its subscribers.
//!
//! A log is a run of bytes with an index. Small frames are copied to the end of the run, so that whatever a subscriber lacks is
//! already contiguous and one system call can take it; large ones are held by reference. A reader's place is a byte offset,
//! which never changes its meaning however much is dropped in front, and lag is a subtraction. The log knows neither its readers
//! nor when to drop: its owner tells it.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

use crate::event_stream::frame::{BytesRef, SHARE_FROM};

/// The largest run of small frames in one piece of memory.
const MAX_CHUNK: usize = 96 << 10;
/// Slices in one write: a few chunks, or large frames.
const MAX_SLICES: usize = 8;
/// Room in an emptied index that is kept: as much as was used, within these.
const KEEP_ENTRIES: std::ops::RangeInclusive<usize> = 16..=256;

/// Recent frames in the order of their sequence numbers.
#[derive(Debug, Default)]
pub struct EventLog {
    /// What no other log has.
    id: u64,
    chunks: VecDeque<Chunk>,
    /// One entry for each retained frame.
    entries: VecDeque<Entry>,
    /// How many frames were dropped: the ordinal of `entries[0]`.
    dropped: u64,
    /// Sequence number of the last one dropped.
    dropped_seq: u64,
    /// Offset of the first retained byte, always the start of a frame.
    start: u64,
    /// Offset behind the last byte.
    end: u64,
    /// Offset at which the log was last empty, and how much it held between the last two such times: what to allocate next.
    empty_at: u64,
    expected: usize,
    last_seq: u64,
    /// Bytes of memory that the chunks take.
    held: usize,
    /// The owner's time at which a frame was dropped last.
    dropped_at: u64,
}

#[derive(Debug)]
struct Chunk {
    start: u64,
    bytes: Run,
}

#[derive(Debug)]
enum Run {
    Copied(Vec<u8>),
    Shared(Bytes),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Run::Copied(bytes) => bytes,
            Run::Shared(bytes) => bytes,
        }
    }

    fn end(&self) -> u64 {
        self.start + self.bytes().len() as u64
    }

    /// Bytes of memory that it takes.
    fn held(&self) -> usize {
        match &self.bytes {
            Run::Copied(bytes) => bytes.capacity(),
            Run::Shared(bytes) => bytes.len(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    seq: u64,
    end: u64,
}

/// One retained frame: its sequence number and the offsets of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Sequence number of the event in the total order.
    pub seq: u64,
    /// Offset of its first byte.
    pub start: u64,
    /// Offset behind its last byte.
    pub end: u64,
}

/// Bytes of a log by their offsets: the same ones for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The log's id.
    pub log: u64,
    /// Offset of the first byte.
    pub start: u64,
    /// Offset behind the last byte.
    pub end: u64,
}

impl Extent {
    /// How many bytes.
    pub fn bytes(&self) -> u64 {
        self.end - self.start
    }

    /// Whether another one goes on where this one ends.
    pub fn is_before(&self, next: Self) -> bool {
        (self.log, self.end) == (next.log, next.start)
    }

    /// Whether a byte of a log is one of these.
    pub fn contains(&self, log: u64, offset: u64) -> bool {
        self.log == log && (self.start..self.end).contains(&offset)
    }
}

/// What one write can take: a few slices and their length together.
#[derive(Debug)]
pub struct Slices<'a> {
    list: [IoSlice<'a>; MAX_SLICES],
    count: usize,
    bytes: usize,
    /// The log and the offset that they begin at, if they are nothing but bytes of a log.
    begin: Option<(u64, u64)>,
}

impl<'a> Slices<'a> {
    /// No slices.
    pub fn new() -> Self {
        Self {
            list: [IoSlice::new(&[]); MAX_SLICES],
            count: 0,
            bytes: 0,
            begin: None,
        }
    }

    /// Adds a slice if there is room, and says whether there was.
    pub fn push(&mut self, slice: &'a [u8]) -> bool {
        if self.count == MAX_SLICES {
            return false;
        }
        self.begin = None;
        if !slice.is_empty() {
            self.list[self.count] = IoSlice::new(slice);
            self.count += 1;
            self.bytes += slice.len();
        }
        true
    }

    /// The slices, in order.
    pub fn as_slice(&self) -> &[IoSlice<'a>] {
        &self.list[..self.count]
    }

    /// Bytes of all slices together.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Which bytes of which log they are, if they are nothing else.
    pub fn extent(&self) -> Option<Extent> {
        self.begin.map(|(log, start)| Extent {
            log,
            start,
            end: start + self.bytes as u64,
        })
    }

    /// What is left of them behind so many bytes.
    pub fn after(&self, bytes: usize) -> Slices<'_> {
        let mut rest = Slices::new();
        let mut skip = bytes;
        for slice in self.as_slice() {
            let from = skip.min(slice.len());
            skip -= from;
            rest.push(&slice[from..]);
        }
        rest
    }
}

impl Default for Slices<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl EventLog {
    /// An empty log that may have had frames up to a sequence number, with an id that no other log ever had.
    pub fn new(id: u64, seq: u64) -> Self {
        Self {
            id,
            dropped_seq: seq,
            last_seq: seq,
            ..Self::default()
        }
    }

    /// Appends a frame, with what goes out before it, under its sequence number, which is larger than all before.
    pub fn append(&mut self, seq: u64, prefix: &[u8], frame: BytesRef<'_>) {
        debug_assert!(seq > self.last_seq, "the engine counts upwards");
        let start = self.end;
        self.end += (prefix.len() + frame.len()) as u64;
        self.last_seq = seq;
        self.entries.push_back(Entry { seq, end: self.end });
        let frame = match frame {
            BytesRef::Bytes(frame) if frame.len() >= SHARE_FROM => frame,
            _ => return self.copy(start, prefix, &frame),
        };
        if !prefix.is_empty() {
            self.copy(start, prefix, &[]);
        }
        self.push(Chunk {
            start: start + prefix.len() as u64,
            bytes: Run::Shared(frame.clone()),
        });
    }

    /// Appends bytes to the run of small frames, or begins one.
    fn copy(&mut self, start: u64, prefix: &[u8], frame: &[u8]) {
        let bytes = prefix.len() + frame.len();
        if let Some(Chunk {
            bytes: Run::Copied(run),
            ..
        }) = self.chunks.back_mut()
            && run.capacity() - run.len() >= bytes
        {
            run.extend_from_slice(prefix);
            run.extend_from_slice(frame);
            return;
        }
        // As much as the last fill and a quarter, as one is never quite as large as the other, and what is in two chunks is two
        // slices of each write; or as much as is retained already.
        let retained = (start - self.start) as usize;
        let room = (self.expected + self.expected / 4).max(retained);
        let mut run = Vec::with_capacity(room.min(MAX_CHUNK).max(bytes));
        run.extend_from_slice(prefix);
        run.extend_from_slice(frame);
        self.push(Chunk {
            start,
            bytes: Run::Copied(run),
        });
    }

    fn push(&mut self, chunk: Chunk) {
        self.held += chunk.held();
        self.chunks.push_back(chunk);
    }

    /// Frames that are retained.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no frame is retained.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of memory that the retained frames take, with their index.
    pub fn memory(&self) -> usize {
        let index = self.entries.len() * size_of::<Entry>();
        let chunks = self.chunks.len() * size_of::<Chunk>();
        self.held + index + chunks
    }

    /// Sequence number of the first retained frame.
    pub fn first_seq(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.seq)
    }

    /// Sequence number of the last frame that was dropped, and the owner's time at which that was.
    pub fn dropped(&self) -> (u64, u64) {
        (self.dropped_seq, self.dropped_at)
    }

    /// Offset from which on there are at most so many frames and so many bytes, all behind a sequence number.
    pub fn newest(&self, frames: usize, bytes: u64, after: u64) -> u64 {
        let mut first = self.entries.len().saturating_sub(frames);
        if self.dropped_seq < after {
            first = first.max(self.entries.partition_point(|entry| entry.seq <= after));
        }
        if self.retained() > bytes {
            // A frame starts where the one before it ends.
            let from = self.end - bytes;
            let before = self.entries.partition_point(|entry| entry.end < from);
            first = first.max((before + 1).min(self.entries.len()));
        }
        match first.checked_sub(1) {
            None => self.start,
            Some(before) => self.entries[before].end,
        }
    }

    /// Offset of the first retained byte.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Offset behind the last byte: where a subscriber that lacks nothing stands.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Bytes that are retained.
    pub fn retained(&self) -> u64 {
        self.end - self.start
    }

    /// Sequence number of the last frame ever appended, 0 before the first.
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// How many frames were ever appended: the ordinal of the next one.
    pub fn appended(&self) -> u64 {
        self.dropped + self.entries.len() as u64
    }

    /// Ordinal of the first frame behind a sequence number; `None` when frames behind it were dropped.
    pub fn after(&self, seq: u64) -> Option<u64> {
        if seq >= self.last_seq {
            return Some(self.appended());
        }
        let later = || self.entries.partition_point(|entry| entry.seq <= seq) as u64;
        (seq >= self.dropped_seq).then(|| self.dropped + later())
    }

    /// As [`EventLog::after`]; the first retained frame when some were dropped.
    pub fn after_or_first(&self, seq: u64) -> u64 {
        self.after(seq).unwrap_or(self.dropped)
    }

    /// Offset of the first retained byte of a frame behind a sequence number, or the end.
    pub fn offset_after(&self, seq: u64) -> u64 {
        let next = self.position(self.after_or_first(seq));
        next.map_or(self.end, |next| next.start)
    }

    /// How many frames end at or before an offset that is retained or the end.
    pub fn passed_at(&self, offset: u64) -> u64 {
        if offset == self.end {
            return self.appended();
        }
        self.dropped + self.entries.partition_point(|entry| entry.end <= offset) as u64
    }

    /// Whether the event with this number is there.
    pub fn retains(&self, seq: u64) -> bool {
        self.entries
            .binary_search_by_key(&seq, |entry| entry.seq)
            .is_ok()
    }

    /// Where the frame with this ordinal is; `None` when it was dropped or is still to come.
    pub fn position(&self, ordinal: u64) -> Option<Position> {
        let index = usize::try_from(ordinal.checked_sub(self.dropped)?).ok()?;
        let entry = self.entries.get(index)?;
        let start = if index == 0 {
            self.start
        } else {
            self.entries[index - 1].end
        };
        Some(Position {
            seq: entry.seq,
            start,
            end: entry.end,
        })
    }

    /// Gathers at most `most` bytes from an offset on, as far as the slices have room.
    ///
    /// The offset must be retained or the end.
    pub fn gather<'a>(&'a self, from: u64, most: usize, slices: &mut Slices<'a>) {
        debug_assert!(
            (self.start..=self.end).contains(&from),
            "the caller checked for lag"
        );
        let begin = (slices.count == 0).then_some((self.id, from));
        let first = self.chunks.partition_point(|chunk| chunk.end() <= from);
        let (mut from, mut most) = (from, most);
        for chunk in self.chunks.range(first..) {
            if most == 0 {
                break;
            }
            let rest = &chunk.bytes()[(from - chunk.start) as usize..];
            let taken = rest.len().min(most);
            if !slices.push(&rest[..taken]) {
                break;
            }
            from += taken as u64;
            most -= taken;
        }
        slices.begin = begin;
    }

    /// Gathers the last so many bytes, as far as they are retained and the slices have room.
    pub fn gather_last<'a>(&'a self, bytes: u64, slices: &mut Slices<'a>) {
        let from = self.start.max(self.end.saturating_sub(bytes));
        self.gather(from, (self.end - from) as usize, slices);
    }

    /// The bytes of a retained frame.
    pub fn copy_of(&self, position: Position) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut from = position.start;
        while from < position.end {
            let mut slices = Slices::new();
            self.gather(from, (position.end - from) as usize, &mut slices);
            for slice in slices.as_slice() {
                bytes.extend_from_slice(slice);
            }
            from += slices.bytes() as u64;
        }
        bytes
    }

    /// Offset of the last frame's end in the first piece of memory: what is dropped up to there frees it.
    pub fn first_chunk_end(&self) -> u64 {
        let Some(chunk) = self.chunks.front() else {
            return self.end;
        };
        let within = self
            .entries
            .partition_point(|entry| entry.end < chunk.end());
        self.entries.get(within).map_or(self.end, |entry| entry.end)
    }

    /// Drops every frame that ends at or before an offset, at a time of the owner's; returns how many frames that were.
    pub fn drop_before(&mut self, offset: u64, now: u64) -> usize {
        let before = self.entries.len();
        if offset >= self.end {
            self.drop_all();
        } else {
            while let Some(entry) = self.entries.front().filter(|entry| entry.end <= offset) {
                self.start = entry.end;
                self.dropped_seq = entry.seq;
                self.dropped += 1;
                self.entries.pop_front();
            }
            while let Some(chunk) = self.chunks.pop_front_if(|chunk| chunk.end() <= self.start) {
                self.held -= chunk.held();
            }
        }
        let dropped = before - self.entries.len();
        if dropped > 0 {
            self.dropped_at = now;
        }
        dropped
    }

    fn drop_all(&mut self) {
        if self.entries.is_empty() {
            return;
        }
        self.dropped += self.entries.len() as u64;
        self.dropped_seq = self.last_seq;
        self.start = self.end;
        self.expected = (self.end - self.empty_at).min(MAX_CHUNK as u64) as usize;
        self.empty_at = self.end;
        self.chunks.clear();
        self.held = 0;
        // An idle log costs little, and a busy one need not grow again.
        let used = self.entries.len();
        self.entries.clear();
        self.entries
            .shrink_to(used.clamp(*KEEP_ENTRIES.start(), *KEEP_ENTRIES.end()));
        self.chunks.shrink_to(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(seq: u64, bytes: usize) -> Bytes {
        vec![b'a' + (seq % 26) as u8; bytes].into()
    }

    fn gathered(log: &EventLog, from: u64, most: usize) -> Vec<u8> {
        let mut slices = Slices::new();
        log.gather(from, most, &mut slices);
        slices
            .as_slice()
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect()
    }

    /// The log beside a plain list of frames, through sizes that copy, share, fill chunks and empty the log.
    #[test]
    fn it_agrees_with_a_list_of_frames() {
        let sizes = [1, 100, 4095, 4096, 9000, 108, 60_000, 3, 2000];
        let mut log = EventLog::default();
        let mut all: Vec<u8> = Vec::new();
        let mut ends = vec![0u64];
        for seq in 1..=2000u64 {
            let bytes = frame(seq, sizes[(seq * seq % 9) as usize]);
            log.append(seq, &[], BytesRef::Bytes(&bytes));
            all.extend_from_slice(&bytes);
            ends.push(all.len() as u64);
            if seq % 7 == 0 {
                let keep = (seq % 49) as usize / 5;
                let before = log.len();
                let dropped = log.drop_before(ends[seq as usize - keep], seq);
                assert_eq!(log.len(), before - dropped);
                assert!(log.start() >= ends[seq as usize - keep]);
            }
            assert_eq!(
                (log.end(), log.appended(), log.last_seq()),
                (all.len() as u64, seq, seq)
            );
            for back in 0..4u64.min(seq) {
                let ordinal = seq - back - 1;
                let (start, end) = (ends[ordinal as usize], ends[ordinal as usize + 1]);
                if start >= log.start() {
                    assert_eq!(log.after(ordinal), Some(ordinal));
                    assert_eq!(log.offset_after(ordinal), start);
                    assert_eq!(
                        log.position(ordinal),
                        Some(Position {
                            seq: ordinal + 1,
                            start,
                            end
                        })
                    );
                    assert_eq!(
                        (log.passed_at(start), log.passed_at(end - 1)),
                        (ordinal, ordinal)
                    );
                    let got = gathered(&log, start, 10_000);
                    assert!(!got.is_empty() && all[start as usize..].starts_with(&got));
                    assert_eq!(
                        gathered(&log, end - 1, 1),
                        all[end as usize - 1..end as usize]
                    );
                } else {
                    assert_eq!((log.position(ordinal), log.after(ordinal)), (None, None));
                    assert_eq!(log.offset_after(ordinal), log.start());
                }
            }
        }
    }

    #[test]
    fn an_empty_log_gives_its_memory_back() {
        let mut log = EventLog::default();
        for seq in 1..=10_000 {
            log.append(seq, &[], BytesRef::Bytes(&frame(seq, 100)));
        }
        assert!(log.memory() >= 1_000_000 && log.memory() < 1_400_000);
        assert_eq!(log.drop_before(log.end(), 0), 10_000);
        assert_eq!((log.retained(), log.chunks.len(), log.memory()), (0, 0, 0));
        assert!(log.entries.capacity() <= *KEEP_ENTRIES.end());
        log.append(10_001, &[], BytesRef::Bytes(&frame(1, 100)));
        log.drop_before(log.end(), 0);
        assert!(log.entries.capacity() <= *KEEP_ENTRIES.start());
        assert_eq!((log.after(10_001), log.after(9_999)), (Some(10_001), None));
        assert_eq!(log.offset_after(10_001), 1_000_100);
    }

    #[test]
    fn a_log_that_is_never_empty_goes_on_in_large_chunks() {
        let mut log = EventLog::default();
        let (frame, frames) = (frame(0, 1000), 10_000);
        for seq in 1..=frames {
            log.append(seq, &[], BytesRef::Bytes(&frame));
            log.drop_before(log.end().saturating_sub(200_000), 0);
        }
        assert!(log.chunks.len() <= 5, "{} chunks", log.chunks.len());
    }

    #[test]
    fn a_log_that_fills_as_before_is_one_run() {
        let mut log = EventLog::default();
        for round in 0..3 {
            for seq in 1..=150 {
                log.append(round * 150 + seq, &[], BytesRef::Bytes(&frame(seq, 108)));
            }
            let chunks = log.chunks.len();
            log.drop_before(log.end(), 0);
            assert!(
                round == 0 || chunks == 1,
                "{chunks} chunks in round {round}"
            );
        }
    }
}
