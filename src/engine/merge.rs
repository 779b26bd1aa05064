//! Streams of several namespaces: a merge of their logs by sequence number, each event once.
//!
//! All subscribers of the same namespaces are one group, so what they lack is merged once for all that stand at the same
//! place. The place is good in every log, as all events have one total order: the number of the last event given in full, and
//! how much of the next one is out. An event that reached several of the logs has the same number in each.

use slab::Slab;

use crate::event_log::{Position, Slices};

use super::groups::{Gone, Limits, Source, Subscribers};
use super::topic::Topic;

/// Several namespaces that somebody listens to on one stream.
#[derive(Debug)]
pub(super) struct TopicSet {
    /// Their topics, and where each one's list of topic_sets has this one.
    pub(super) topics: Box<[(u32, u32)]>,
    pub(super) subscribers: Subscribers<MergeCursor>,
}

impl TopicSet {
    pub(super) fn new(topics: Box<[(u32, u32)]>) -> Self {
        Self {
            topics,
            subscribers: Subscribers::default(),
        }
    }

    /// Notes that it was moved to another place in a topic's list.
    pub(super) fn move_to(&mut self, topic: u32, index: u32) {
        let listed = self.topics.iter_mut().find(|(key, _)| *key == topic);
        listed.expect("a topic lists whom it belongs to").1 = index;
    }
}

/// A place in the total order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MergeCursor {
    /// Number of the last event given in full.
    pub(super) passed: u64,
    /// Bytes of the next one that are out.
    partial: u64,
    /// What the logs had dropped before this time of [`Retention`](super::retention::Retention), the subscriber has been told of; zero when
    /// nothing is missing behind its place.
    since: u64,
}

impl MergeCursor {
    /// Behind an event that was given in full.
    pub(super) fn after(passed: u64, since: u64) -> Self {
        Self {
            passed,
            partial: 0,
            since,
        }
    }
}

/// Memory that merging needs, kept so that a delivery allocates nothing.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    heads: Vec<Head>,
    /// What was gathered, contiguous; empty between passes.
    run: Vec<u8>,
    /// The events that end in it: number, and where.
    ends: Vec<(u64, usize)>,
}

/// The next event of one of the logs.
#[derive(Debug)]
struct Head {
    topic: u32,
    ordinal: u64,
    position: Position,
}

/// The logs of a topic_set as the source of its subscribers' events.
#[derive(Debug)]
pub(super) struct Merge<'a> {
    keys: &'a [(u32, u32)],
    topics: &'a Slab<Topic>,
    scratch: &'a mut Scratch,
    lag: u64,
}

/// Where one stands who was given all events of some topics.
pub(super) fn end_of(keys: &[(u32, u32)], topics: &Slab<Topic>) -> MergeCursor {
    let last = |&(topic, _): &(u32, u32)| topics[topic as usize].log.last_seq();
    let passed = keys.iter().map(last).max().unwrap_or(0);
    MergeCursor::after(passed, 0)
}

impl<'a> Merge<'a> {
    pub(super) fn new(
        keys: &'a [(u32, u32)],
        topics: &'a Slab<Topic>,
        scratch: &'a mut Scratch,
    ) -> Self {
        Self {
            keys,
            topics,
            scratch,
            lag: 0,
        }
    }

    /// Finds the next event of each log; returns how many bytes the logs hold from there on.
    fn find_heads(&mut self, from: MergeCursor) -> Result<u64, Gone> {
        self.scratch.heads.clear();
        let mut bytes = 0;
        for &(topic, _) in self.keys {
            let log = &self.topics[topic as usize].log;
            let (dropped, at) = log.dropped();
            if dropped > from.passed && at >= from.since {
                return Err(Gone);
            }
            let ordinal = log.after_or_first(from.passed);
            if let Some(position) = log.position(ordinal) {
                bytes += log.end() - position.start;
                self.scratch.heads.push(Head {
                    topic,
                    ordinal,
                    position,
                });
            }
        }
        Ok(bytes)
    }

    /// Appends to the run the bytes of one event, from `skip` on, until it has `most`.
    fn copy(&mut self, topic: u32, event: Position, skip: u64, most: usize) {
        let run = &mut self.scratch.run;
        let mut from = event.start + skip;
        let until = event.end.min(from + (most - run.len()) as u64);
        while from < until {
            let mut slices = Slices::new();
            let log = &self.topics[topic as usize].log;
            log.gather(from, (until - from) as usize, &mut slices);
            for slice in slices.as_slice() {
                run.extend_from_slice(slice);
            }
            from += slices.bytes() as u64;
        }
    }
}

impl Source for Merge<'_> {
    type Cursor = MergeCursor;

    fn end(&self) -> MergeCursor {
        end_of(self.keys, self.topics)
    }

    fn passed(&self, place: MergeCursor) -> u64 {
        place.passed
    }

    fn gather(&mut self, from: MergeCursor, limits: &Limits) -> Result<(), Gone> {
        // An event in several of the logs counts in each of them: only if that is too much is it counted one by one.
        let at_most = self.find_heads(from)? - from.partial;
        let count_to = match at_most > limits.max_lag {
            true => limits.max_lag + limits.write_most as u64,
            false => 0,
        };
        self.scratch.run.clear();
        self.scratch.ends.clear();
        let (mut counted, mut skip) = (0, from.partial);
        while (self.scratch.run.len() < limits.write_most || counted <= count_to)
            && let Some(next) = self
                .scratch
                .heads
                .iter()
                .min_by_key(|head| head.position.seq)
        {
            let (topic, event) = (next.topic, next.position);
            let rest = event.end - event.start - skip;
            counted += rest;
            if self.scratch.run.len() < limits.write_most {
                self.copy(topic, event, skip, limits.write_most);
                if self.scratch.run.len() as u64 == counted {
                    self.scratch.ends.push((event.seq, counted as usize));
                }
            }
            skip = 0;
            let topics = self.topics;
            self.scratch
                .heads
                .retain_mut(|head| head.position.seq != event.seq || head.advance(topics));
        }
        self.lag = if count_to > 0 { counted } else { at_most };
        Ok(())
    }

    fn add_to<'a>(&'a self, slices: &mut Slices<'a>) {
        slices.push(&self.scratch.run);
    }

    fn lag(&self) -> u64 {
        self.lag
    }

    fn step(&self, from: MergeCursor, bytes: usize) -> (MergeCursor, u64) {
        let ends = &self.scratch.ends;
        let events = ends.partition_point(|&(_, end)| end <= bytes);
        let mut place = match ends[..events].last() {
            None => MergeCursor {
                partial: from.partial + bytes as u64,
                ..from
            },
            Some(&(passed, end)) => MergeCursor {
                passed,
                partial: (bytes - end) as u64,
                ..from
            },
        };
        if place.since > 0 && place.passed == self.end().passed {
            place.since = 0;
        }
        (place, events as u64)
    }
}

impl Head {
    /// Moves on to the log's next event; returns whether there is one.
    fn advance(&mut self, topics: &Slab<Topic>) -> bool {
        self.ordinal += 1;
        let next = topics[self.topic as usize].log.position(self.ordinal);
        next.inspect(|&position| self.position = position).is_some()
    }
}
