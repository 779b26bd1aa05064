//! The merge: the logs of several topics as one source of events, in order and each event once.
//!
//! Logs are merged by sequence number. An event that is in several of them has the same number in
//! each. A cursor is the number of the last event given in full, and the number of bytes given of
//! the next one, so it is valid in every log. The merge runs once for all subscribers at a cursor.

use std::collections::BinaryHeap;

use crate::log::{Ordinal, Position, Seq, Slices};

use super::fan_out::{Gone, Limits, Source};
use super::ids::TopicId;
use super::topics::Topics;

/// A position in the total order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MergeCursor {
    /// The last event given in full.
    pub(super) passed: Seq,
    /// Number of bytes given of the next event.
    partial: usize,
    /// Events that a log dropped before this tick of [`Retention`](super::retention::Retention) are
    /// not missing: they were reported to the subscriber as a gap, or another log has them. 0 if
    /// there are none.
    known_tick: u64,
}

impl MergeCursor {
    /// The cursor after an event that was given in full.
    pub(super) fn after(passed: Seq, known_tick: u64) -> Self {
        Self {
            passed,
            partial: 0,
            known_tick,
        }
    }
}

/// Memory of a merge. Kept, so that a delivery allocates nothing.
#[derive(Debug, Default)]
pub(super) struct MergeBuffers {
    heads: Vec<LogHead>,
    /// The gathered bytes, contiguous.
    bytes: Vec<u8>,
    /// The events that end in these bytes, and where they end.
    ends: Vec<(Seq, usize)>,
}

/// The next event of a log.
#[derive(Debug)]
struct LogHead {
    topic: TopicId,
    ordinal: Ordinal,
    position: Position,
}

impl LogHead {
    /// Moves to the log's next event. Returns whether there is one.
    fn advance(&mut self, topics: &Topics) -> bool {
        self.ordinal = self.ordinal.next();
        let next = topics[self.topic].log.position(self.ordinal);
        next.inspect(|&position| self.position = position).is_some()
    }
}

/// The logs of several topics as the source of a group's events.
#[derive(Debug)]
pub(super) struct Merge<'a, L> {
    set: &'a [L],
    topics: &'a Topics,
    buffers: &'a mut MergeBuffers,
    lag: u64,
}

/// The cursor after all events of these topics.
pub(super) fn end_of<L: Copy + Into<TopicId>>(set: &[L], topics: &Topics) -> MergeCursor {
    let last = |&topic: &L| topics[topic.into()].log.last_seq();
    MergeCursor::after(set.iter().map(last).max().unwrap_or_default(), 0)
}

impl<'a, L: Copy + Into<TopicId>> Merge<'a, L> {
    pub(super) fn new(set: &'a [L], topics: &'a Topics, buffers: &'a mut MergeBuffers) -> Self {
        Self {
            set,
            topics,
            buffers,
            lag: 0,
        }
    }

    /// Finds the next event of each log. Returns the number of bytes that the logs hold from there
    /// on.
    fn find_heads(&mut self, from: MergeCursor) -> Result<u64, Gone> {
        self.buffers.heads.clear();
        let mut bytes = 0;
        for &topic in self.set {
            let topic = topic.into();
            let log = &self.topics[topic].log;
            if log.dropped_seq() > from.passed && log.dropped_tick() >= from.known_tick {
                return Err(Gone);
            }
            let ordinal = log.ordinal_after(from.passed);
            if let Some(position) = log.position(ordinal) {
                bytes += log.end() - position.start;
                self.buffers.heads.push(LogHead {
                    topic,
                    ordinal,
                    position,
                });
            }
        }
        Ok(bytes)
    }

    /// Gathers the bytes of an event after its first `skip` bytes, until there are `max` in all.
    fn copy(&mut self, topic: TopicId, event: Position, skip: usize, max: usize) {
        let bytes = &mut self.buffers.bytes;
        let from = event.start + skip;
        let end = event.end.min(from + (max - bytes.len()));
        self.topics[topic].log.copy_to(bytes, from, end);
    }
}

impl<L: Copy + Into<TopicId>> Source for Merge<'_, L> {
    type Cursor = MergeCursor;

    fn end(&self) -> MergeCursor {
        end_of(self.set, self.topics)
    }

    fn is_in_later_event(&self, cursor: MergeCursor, other: MergeCursor) -> bool {
        cursor.passed > other.passed
    }

    fn gather(&mut self, from: MergeCursor, limits: &Limits) -> Result<(), Gone> {
        // This counts an event in several logs several times. Only if the sum exceeds the limit,
        // events are counted once each, which takes longer.
        let at_most = self.find_heads(from)? - from.partial as u64;
        let count_to = match at_most > limits.max_lag {
            true => limits.max_lag + limits.max_write as u64,
            false => 0,
        };
        self.buffers.bytes.clear();
        self.buffers.ends.clear();
        let (mut counted, mut skip) = (0, from.partial);
        while (self.buffers.bytes.len() < limits.max_write || counted <= count_to)
            && let Some(next) = self
                .buffers
                .heads
                .iter()
                .min_by_key(|head| head.position.seq)
        {
            let (topic, event) = (next.topic, next.position);
            counted += event.end - event.start - skip as u64;
            if self.buffers.bytes.len() < limits.max_write {
                self.copy(topic, event, skip, limits.max_write);
                if self.buffers.bytes.len() as u64 == counted {
                    self.buffers.ends.push((event.seq, counted as usize));
                }
            }
            skip = 0;
            let topics = self.topics;
            self.buffers
                .heads
                .retain_mut(|head| head.position.seq != event.seq || head.advance(topics));
        }
        self.lag = if count_to > 0 { counted } else { at_most };
        Ok(())
    }

    fn add_to<'a>(&'a self, slices: &mut Slices<'a>) {
        slices.push(&self.buffers.bytes);
    }

    fn lag(&self) -> u64 {
        self.lag
    }

    fn advance(&self, from: MergeCursor, bytes: usize) -> (MergeCursor, u64) {
        let ends = &self.buffers.ends;
        let events = ends.partition_point(|&(_, end)| end <= bytes);
        let mut cursor = match ends[..events].last() {
            None => MergeCursor {
                partial: from.partial + bytes,
                ..from
            },
            Some(&(passed, end)) => MergeCursor {
                passed,
                partial: bytes - end,
                ..from
            },
        };
        if cursor.known_tick > 0 && cursor.passed == self.end().passed {
            cursor.known_tick = 0;
        }
        (cursor, events as u64)
    }
}

/// The event before the last `count` retained events of these topics; [`Seq::ZERO`] if they retain
/// no more than those. An event in several logs counts once.
pub(super) fn seq_before_last(set: &[TopicId], topics: &Topics, count: u64) -> Seq {
    let retained = |&topic: &TopicId| topics[topic].log.len() as u64;
    if set.iter().map(retained).sum::<u64>() <= count {
        return Seq::ZERO;
    }
    let seq_at = |topic: TopicId, ordinal: Ordinal| {
        let position = topics[topic].log.position(ordinal)?;
        Some((position.seq, topic, ordinal))
    };
    let last = |&topic: &TopicId| seq_at(topic, topics[topic].log.next_ordinal().previous()?);
    let mut heads: BinaryHeap<_> = set.iter().filter_map(last).collect();
    let (mut found, mut last_found) = (0, None);
    while let Some((seq, topic, ordinal)) = heads.pop() {
        if last_found != Some(seq) {
            if found == count {
                return seq;
            }
            found += 1;
            last_found = Some(seq);
        }
        let before = ordinal.previous();
        heads.extend(before.and_then(|before| seq_at(topic, before)));
    }
    Seq::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::engine::tests::Parts;

    /// Logs with five events, numbered from 1, one of them in two logs.
    fn parts() -> (Parts, Vec<TopicId>) {
        let mut parts = Parts::new(&Config::default());
        for (paths, text) in [
            (&["/a"][..], "a1."),
            (&["/b"], "b2."),
            (&["/a", "/b"], "both3."),
            (&["/c"], "c4."),
            (&["/b"], "b5."),
        ] {
            parts.publish(paths, text, 0);
        }
        let set = parts.topics(&["/a", "/b"]);
        (parts, set)
    }

    fn limits(max_write: usize, max_lag: u64) -> Limits {
        Limits { max_write, max_lag }
    }

    fn after(seq: u64) -> MergeCursor {
        MergeCursor::after(Seq::new(seq), 0)
    }

    #[test]
    fn bytes_after_a_cursor_are_those_of_each_event_once_in_order() {
        let (parts, set) = parts();
        for (passed, partial, expected, events) in [
            (0, 0, "a1.b2.both3.b5.", 4),
            (0, 2, ".b2.both3.b5.", 4),
            (1, 0, "b2.both3.b5.", 3),
            (2, 0, "both3.b5.", 2),
            (2, 4, "3.b5.", 2),
            (3, 0, "b5.", 1),
            (4, 0, "b5.", 1),
            (5, 0, "", 0),
        ] {
            let mut buffers = MergeBuffers::default();
            let mut merge = Merge::new(&set, &parts.topics, &mut buffers);
            let from = MergeCursor {
                partial,
                ..after(passed)
            };
            merge.gather(from, &limits(1000, 1000)).unwrap();
            let mut slices = Slices::new();
            merge.add_to(&mut slices);
            assert_eq!(slices.to_vec(), expected.as_bytes());
            assert_eq!(merge.advance(from, expected.len()), (merge.end(), events));
        }
    }

    #[test]
    fn writes_of_any_size_give_each_event_once() {
        let (parts, set) = parts();
        for max_write in 1..=16 {
            for taken_at_most in 1..=max_write {
                let mut buffers = MergeBuffers::default();
                let mut merge = Merge::new(&set, &parts.topics, &mut buffers);
                let (mut cursor, mut bytes, mut events) = (after(0), Vec::new(), 0);
                while cursor < merge.end() {
                    merge.gather(cursor, &limits(max_write, 1000)).unwrap();
                    let mut slices = Slices::new();
                    merge.add_to(&mut slices);
                    assert!((1..=max_write).contains(&slices.bytes()));
                    let taken = slices.bytes().min(taken_at_most);
                    bytes.extend_from_slice(&slices.to_vec()[..taken]);
                    let (next, completed) = merge.advance(cursor, taken);
                    assert_eq!(merge.is_in_later_event(next, cursor), completed > 0);
                    (cursor, events) = (next, events + completed);
                }
                assert_eq!(bytes, b"a1.b2.both3.b5.");
                assert_eq!(events, 4);
            }
        }
    }

    #[test]
    fn lag_is_exact_when_it_exceeds_the_limit() {
        let (parts, set) = parts();
        for (max_lag, lag) in [(100, 21), (21, 21), (20, 15), (14, 15)] {
            let mut buffers = MergeBuffers::default();
            let mut merge = Merge::new(&set, &parts.topics, &mut buffers);
            merge.gather(after(0), &limits(5, max_lag)).unwrap();
            assert_eq!(merge.lag(), lag, "{max_lag}");
        }
    }

    #[test]
    fn dropped_events_are_missed_unless_they_were_reported() {
        let (mut parts, set) = parts();
        let log = &mut parts.topics[set[0]].log;
        let first = log.first_after(Seq::ZERO).unwrap();
        log.drop_before(first.end, 3);
        for (passed, known_tick, is_gone) in [
            (0, 0, true),
            (0, 3, true),
            (0, 4, false),
            (1, 0, false),
            (2, 3, false),
        ] {
            let mut buffers = MergeBuffers::default();
            let mut merge = Merge::new(&set, &parts.topics, &mut buffers);
            let from = MergeCursor {
                known_tick,
                ..after(passed)
            };
            let gathered = merge.gather(from, &limits(100, 100));
            assert_eq!(gathered.is_err(), is_gone, "{passed} {known_tick}");
        }
    }

    #[test]
    fn a_subscriber_that_caught_up_knows_of_no_dropped_events() {
        let (parts, set) = parts();
        let mut buffers = MergeBuffers::default();
        let mut merge = Merge::new(&set, &parts.topics, &mut buffers);
        let from = MergeCursor {
            known_tick: 9,
            ..after(0)
        };
        merge.gather(from, &limits(100, 100)).unwrap();
        for (bytes, known_tick) in [(0, 9), (14, 9), (15, 0)] {
            assert_eq!(merge.advance(from, bytes).0.known_tick, known_tick);
        }
    }

    #[test]
    fn the_last_events_are_counted_once_each() {
        let (parts, set) = parts();
        for (count, seq) in [(0, 5), (1, 3), (2, 2), (3, 1), (4, 0), (5, 0), (9, 0)] {
            let found = seq_before_last(&set, &parts.topics, count);
            assert_eq!(found, Seq::new(seq), "{count}");
        }
        assert_eq!(seq_before_last(&[], &parts.topics, 0), Seq::ZERO);
    }
}
