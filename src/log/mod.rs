//! The recent frames of one topic: the outbox of all its subscribers.
//!
//! A log is bytes with an index of frames. A reader's position is an offset in these bytes, which
//! keeps its meaning however much is dropped before it, so lag is a subtraction. The pending bytes
//! of a subscriber are mostly contiguous, and one system call can take them. The log knows neither
//! its readers nor when to drop frames: its owner decides.

mod chunks;
pub(crate) mod extent;
pub(crate) mod position;
pub(crate) mod slices;

use std::collections::VecDeque;

use crate::event_stream::frame::BytesRef;

use chunks::Chunks;
pub use extent::{Extent, LogId};
pub use position::{Offset, Ordinal, Position, Seq};
pub use slices::Slices;

/// Capacity of the index that an empty log keeps: what it used, within these limits.
const KEEP_ENTRIES: std::ops::RangeInclusive<usize> = 16..=256;

/// Recent frames in the order of their sequence numbers.
#[derive(Debug, Default)]
pub struct EventLog {
    id: LogId,
    chunks: Chunks,
    /// One entry for each retained frame.
    entries: VecDeque<Entry>,
    /// Ordinal of `entries[0]`: the number of frames that were dropped.
    first_ordinal: Ordinal,
    /// Offset of the first retained byte, which is the start of a frame.
    start: Offset,
    /// Offset after the last byte.
    end: Offset,
    /// Sequence number of the last frame that was appended.
    last_seq: Seq,
    /// Sequence number of the last frame that was dropped.
    dropped_seq: Seq,
    /// The owner's tick when a frame was last dropped.
    dropped_tick: u64,
}

/// The index entry of a frame. The frame starts where the one before it ends.
#[derive(Debug, Clone, Copy)]
struct Entry {
    seq: Seq,
    end: Offset,
}

impl EventLog {
    /// Makes an empty log. Frames up to the sequence number `seq` count as dropped.
    pub fn new(id: LogId, seq: Seq) -> Self {
        Self {
            id,
            dropped_seq: seq,
            last_seq: seq,
            ..Self::default()
        }
    }

    /// Appends a frame, and before it a prefix that goes out with it. `seq` exceeds every earlier
    /// sequence number.
    pub fn append(&mut self, seq: Seq, prefix: &[u8], frame: BytesRef<'_>) {
        debug_assert!(seq > self.last_seq, "the engine counts upwards");
        let retained = self.retained() as usize;
        self.chunks.append(self.end, prefix, frame, retained);
        self.end += prefix.len() + frame.len();
        self.last_seq = seq;
        self.entries.push_back(Entry { seq, end: self.end });
    }

    /// Number of retained frames.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no frame is retained.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Memory that the retained frames and their index take, in bytes.
    pub fn memory(&self) -> usize {
        self.chunks.memory() + self.entries.len() * size_of::<Entry>()
    }

    /// Offset of the first retained byte.
    pub fn start(&self) -> Offset {
        self.start
    }

    /// Offset after the last byte: the position of a subscriber that has received everything.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// Number of retained bytes.
    pub fn retained(&self) -> u64 {
        self.end - self.start
    }

    /// Sequence number of the first retained frame.
    pub fn first_seq(&self) -> Option<Seq> {
        self.entries.front().map(|entry| entry.seq)
    }

    /// Sequence number of the last frame that was appended; [`Seq::ZERO`] before the first.
    pub fn last_seq(&self) -> Seq {
        self.last_seq
    }

    /// Sequence number of the last frame that was dropped. Every later frame is retained.
    pub fn dropped_seq(&self) -> Seq {
        self.dropped_seq
    }

    /// The tick that [`drop_before`](Self::drop_before) was last given when it dropped a frame.
    pub fn dropped_tick(&self) -> u64 {
        self.dropped_tick
    }

    /// Number of frames that were ever appended.
    pub fn appended(&self) -> u64 {
        self.next_ordinal() - Ordinal::default()
    }

    /// Ordinal of the next frame to be appended.
    pub fn next_ordinal(&self) -> Ordinal {
        self.first_ordinal + self.entries.len()
    }

    /// Ordinal of the first retained frame after a sequence number, or of the next one to be
    /// appended. Frames in between may have been dropped.
    pub fn ordinal_after(&self, seq: Seq) -> Ordinal {
        if seq >= self.last_seq {
            return self.next_ordinal();
        }
        let passed = self.entries.partition_point(|entry| entry.seq <= seq);
        self.first_ordinal + passed
    }

    /// Ordinal of the first frame that ends after an offset, which is retained or the end.
    pub fn ordinal_at(&self, offset: Offset) -> Ordinal {
        if offset == self.end {
            return self.next_ordinal();
        }
        let passed = self.entries.partition_point(|entry| entry.end <= offset);
        self.first_ordinal + passed
    }

    /// The frame with an ordinal; `None` if it was dropped or not appended yet.
    pub fn position(&self, ordinal: Ordinal) -> Option<Position> {
        if ordinal < self.first_ordinal {
            return None;
        }
        self.position_of_entry((ordinal - self.first_ordinal) as usize)
    }

    fn position_of_entry(&self, index: usize) -> Option<Position> {
        let entry = self.entries.get(index)?;
        let start = match index.checked_sub(1) {
            None => self.start,
            Some(before) => self.entries[before].end,
        };
        Some(Position {
            seq: entry.seq,
            start,
            end: entry.end,
        })
    }

    /// The retained frames, oldest first.
    pub fn positions(&self) -> impl Iterator<Item = Position> {
        (0..self.len()).filter_map(|index| self.position_of_entry(index))
    }

    /// The frame with a sequence number, if it is retained.
    pub fn find(&self, seq: Seq) -> Option<Position> {
        let index = self.entries.binary_search_by_key(&seq, |entry| entry.seq);
        self.position_of_entry(index.ok()?)
    }

    /// The first retained frame after a sequence number.
    pub fn first_after(&self, seq: Seq) -> Option<Position> {
        self.position(self.ordinal_after(seq))
    }

    /// Offset of the first retained frame after a sequence number, or the end.
    pub fn offset_after(&self, seq: Seq) -> Offset {
        self.first_after(seq).map_or(self.end, |next| next.start)
    }

    /// Offset from which on there are at most `frames` frames and `bytes` bytes, all of them after
    /// the sequence number `after`.
    pub fn start_of_newest(&self, frames: usize, bytes: u64, after: Seq) -> Offset {
        let mut first = self.entries.len().saturating_sub(frames);
        if self.dropped_seq < after {
            first = first.max(self.entries.partition_point(|entry| entry.seq <= after));
        }
        if self.retained() > bytes {
            let from = self.end.saturating_sub(bytes);
            let before = self.entries.partition_point(|entry| entry.end < from);
            first = first.max((before + 1).min(self.entries.len()));
        }
        match first.checked_sub(1) {
            None => self.start,
            Some(before) => self.entries[before].end,
        }
    }

    /// Adds at most `max` bytes from an offset on to `slices`, while those have room. If they were
    /// empty, they get the [`Extent`] of the bytes.
    ///
    /// The offset is retained or the end.
    pub fn gather<'a>(&'a self, from: Offset, max: usize, slices: &mut Slices<'a>) {
        debug_assert!(
            (self.start..=self.end).contains(&from),
            "the caller checked for lag"
        );
        let alone = slices.is_empty();
        let end = self.chunks.gather(from, max, slices);
        if alone {
            slices.set_extent(Extent::new(self.id, from, end));
        }
    }

    /// Adds the last `bytes` bytes to `slices`, as far as they are retained and there is room.
    pub fn gather_last<'a>(&'a self, bytes: u64, slices: &mut Slices<'a>) {
        let from = self.start.max(self.end.saturating_sub(bytes));
        self.gather(from, (self.end - from) as usize, slices);
    }

    /// Appends a copy of the retained bytes from `from` up to `end` to `bytes`.
    pub fn copy_to(&self, bytes: &mut Vec<u8>, mut from: Offset, end: Offset) {
        while from < end {
            let mut slices = Slices::new();
            self.gather(from, (end - from) as usize, &mut slices);
            for slice in slices.as_slice() {
                bytes.extend_from_slice(slice);
            }
            from += slices.bytes();
        }
    }

    /// A copy of the bytes of a retained frame.
    pub fn bytes_of(&self, position: Position) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.copy_to(&mut bytes, position.start, position.end);
        bytes
    }

    /// End of the last frame with bytes in the first piece of memory: dropping the frames before
    /// this offset frees it.
    pub fn first_chunk_end(&self) -> Offset {
        let Some(chunk_end) = self.chunks.first_end() else {
            return self.end;
        };
        let before = self.entries.partition_point(|entry| entry.end < chunk_end);
        self.entries.get(before).map_or(self.end, |entry| entry.end)
    }

    /// Drops every frame that ends at or before an offset; returns how many. `tick` is recorded as
    /// [`dropped_tick`](Self::dropped_tick).
    pub fn drop_before(&mut self, offset: Offset, tick: u64) -> usize {
        let before = self.entries.len();
        if offset >= self.end {
            self.drop_all();
        } else {
            while let Some(entry) = self.entries.pop_front_if(|entry| entry.end <= offset) {
                self.start = entry.end;
                self.dropped_seq = entry.seq;
                self.first_ordinal = self.first_ordinal.next();
            }
            self.chunks.drop_before(self.start);
        }
        let dropped = before - self.entries.len();
        if dropped > 0 {
            self.dropped_tick = tick;
        }
        dropped
    }

    fn drop_all(&mut self) {
        if self.entries.is_empty() {
            return;
        }
        self.first_ordinal = self.next_ordinal();
        self.dropped_seq = self.last_seq;
        self.start = self.end;
        self.chunks.clear(self.end);
        // An idle log takes little memory, and a busy one does not grow its index again.
        let used = self.entries.len();
        self.entries.clear();
        let keep = used.clamp(*KEEP_ENTRIES.start(), *KEEP_ENTRIES.end());
        self.entries.shrink_to(keep);
    }

    /// Asserts that the index is in order and covers the retained bytes.
    ///
    /// # Panics
    /// When it is not.
    pub fn check(&self) {
        let mut before = (self.dropped_seq, self.start);
        for entry in &self.entries {
            let next = (entry.seq, entry.end);
            assert!(before.0 < next.0, "sequence numbers ascend");
            assert!(before.1 <= next.1, "offsets ascend");
            before = next;
        }
        let last = (self.last_seq, self.end);
        assert_eq!(before, last, "the last frame ends the log");
        self.chunks.check(self.start, self.end);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn offset(bytes: usize) -> Offset {
        Offset::ZERO + bytes
    }

    fn frame(seq: u64, bytes: usize) -> Bytes {
        vec![b'a' + (seq % 26) as u8; bytes].into()
    }

    fn append(log: &mut EventLog, seq: u64, frame: &Bytes) {
        log.append(Seq::new(seq), &[], BytesRef::Bytes(frame));
    }

    fn gathered(log: &EventLog, from: Offset, max: usize) -> Vec<u8> {
        let mut slices = Slices::new();
        log.gather(from, max, &mut slices);
        slices.to_vec()
    }

    /// Number of slices of a write with everything in the log.
    fn slices(log: &EventLog) -> usize {
        let mut slices = Slices::new();
        log.gather(log.start(), usize::MAX, &mut slices);
        slices.as_slice().len()
    }

    /// The log next to a plain list of frames, with sizes that are copied and shared, fill chunks
    /// and empty the log.
    #[test]
    fn it_agrees_with_a_list_of_frames() {
        let sizes = [1, 100, 4095, 4096, 9000, 108, 60_000, 3, 2000];
        let mut log = EventLog::default();
        let mut all: Vec<u8> = Vec::new();
        let mut ends = vec![0];
        for count in 1..=2000 {
            let bytes = frame(count, sizes[(count * count % 9) as usize]);
            append(&mut log, count, &bytes);
            all.extend_from_slice(&bytes);
            ends.push(all.len());
            log.check();
            let count = count as usize;
            if count.is_multiple_of(7) {
                let keep = count % 49 / 5;
                let before = log.len();
                let dropped = log.drop_before(offset(ends[count - keep]), 0);
                assert_eq!(log.len(), before - dropped);
                assert!(log.start() >= offset(ends[count - keep]));
                log.check();
            }
            assert_eq!(log.end(), offset(all.len()));
            assert_eq!(log.appended(), count as u64);
            assert_eq!(log.last_seq(), Seq::new(count as u64));
            for index in count.saturating_sub(4)..count {
                check_frame(&log, &all, index, (ends[index], ends[index + 1]));
            }
        }
    }

    /// Compares a frame of the log with its bytes among all.
    fn check_frame(log: &EventLog, all: &[u8], index: usize, (start, end): (usize, usize)) {
        let (ordinal, before) = (Ordinal::default() + index, Seq::new(index as u64));
        if offset(start) < log.start() {
            assert_eq!(log.position(ordinal), None);
            assert_eq!(log.ordinal_after(before), log.first_ordinal);
            assert_eq!(log.offset_after(before), log.start());
            return;
        }
        let position = Position {
            seq: before.next(),
            start: offset(start),
            end: offset(end),
        };
        assert_eq!(log.position(ordinal), Some(position));
        assert_eq!(log.ordinal_after(before), ordinal);
        assert_eq!(log.offset_after(before), position.start);
        assert_eq!(log.ordinal_at(offset(start)), ordinal);
        assert_eq!(log.ordinal_at(offset(end - 1)), ordinal);
        let got = gathered(log, position.start, 10_000);
        assert!(!got.is_empty() && all[start..].starts_with(&got));
        assert_eq!(gathered(log, offset(end - 1), 1), all[end - 1..end]);
    }

    #[test]
    fn an_empty_log_gives_its_memory_back() {
        let mut log = EventLog::default();
        for seq in 1..=10_000 {
            append(&mut log, seq, &frame(seq, 100));
        }
        assert!(log.memory() >= 1_000_000 && log.memory() < 1_400_000);
        assert_eq!(log.drop_before(log.end(), 0), 10_000);
        assert_eq!((log.retained(), log.memory()), (0, 0));
        assert!(log.entries.capacity() <= *KEEP_ENTRIES.end());
        append(&mut log, 10_001, &frame(1, 100));
        log.drop_before(log.end(), 0);
        assert!(log.entries.capacity() <= *KEEP_ENTRIES.start());
        assert_eq!(log.appended(), 10_001);
        assert_eq!(log.offset_after(Seq::new(10_001)), offset(1_000_100));
    }

    #[test]
    fn a_log_that_is_never_empty_continues_in_large_chunks() {
        let mut log = EventLog::default();
        let (frame, frames) = (frame(0, 1000), 10_000);
        for seq in 1..=frames {
            append(&mut log, seq, &frame);
            log.drop_before(log.end().saturating_sub(200_000), 0);
        }
        let slices = slices(&log);
        assert!(slices <= 5, "{slices} slices");
    }

    #[test]
    fn a_log_that_fills_as_before_is_one_slice() {
        let mut log = EventLog::default();
        for round in 0..3 {
            for seq in 1..=150 {
                append(&mut log, round * 150 + seq, &frame(seq, 108));
            }
            let slices = slices(&log);
            log.drop_before(log.end(), 0);
            assert!(
                round == 0 || slices == 1,
                "{slices} slices in round {round}"
            );
        }
    }

    #[test]
    fn the_newest_frames_are_bounded_by_count_bytes_and_number() {
        let mut log = EventLog::default();
        for seq in 1..=5 {
            append(&mut log, seq, &frame(seq, 10));
        }
        for (frames, bytes, after, start) in [
            (5, 50, 0, 0),
            (9, 99, 0, 0),
            (2, 99, 0, 30),
            (0, 99, 0, 50),
            (9, 20, 0, 30),
            (9, 19, 0, 40),
            (9, 9, 0, 50),
            (9, 99, 3, 30),
            (9, 99, 5, 50),
            (2, 10, 1, 40),
        ] {
            let found = log.start_of_newest(frames, bytes, Seq::new(after));
            assert_eq!(found, offset(start), "{frames} {bytes} {after}");
        }
        log.drop_before(offset(25), 0);
        assert_eq!(log.start_of_newest(9, 99, Seq::new(1)), offset(20));
        assert_eq!(log.start_of_newest(9, 25, Seq::ZERO), offset(30));
    }

    #[test]
    fn a_frame_is_found_by_its_number_or_the_one_before() {
        let mut log = EventLog::new(LogId(1), Seq::new(3));
        for seq in [4, 6, 9].map(Seq::new) {
            log.append(seq, b"id\n", BytesRef::Slice(b"1234567"));
        }
        log.drop_before(offset(10), 7);
        assert_eq!((log.dropped_seq(), log.dropped_tick()), (Seq::new(4), 7));
        let seq = |position: Option<Position>| position.map(|position| position.seq.get());
        for (after, found, next) in [
            (0, None, Some(6)),
            (4, None, Some(6)),
            (5, None, Some(6)),
            (6, Some(6), Some(9)),
            (8, None, Some(9)),
            (9, Some(9), None),
            (10, None, None),
        ] {
            assert_eq!(seq(log.find(Seq::new(after))), found, "{after}");
            assert_eq!(seq(log.first_after(Seq::new(after))), next, "{after}");
        }
        let position = log.find(Seq::new(9)).unwrap();
        assert_eq!(log.bytes_of(position), b"id\n1234567");
        assert!(log.positions().map(|frame| frame.seq.get()).eq([6, 9]));
    }
}
