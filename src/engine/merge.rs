//! A stream of several namespaces: a merge of their logs by sequence number, each event once.
//!
//! The place is one ordinal for each log, and how much of the next event is out. An event that reached several of the logs has
//! the same number in each, so all readers that stand at it move on together.

use crate::event_log::{EventLog, Position, Slices};

use super::ConnId;
use super::topic::Topic;

/// The place of one subscriber in several logs.
#[derive(Debug)]
pub(super) struct Merge {
    readers: Box<[Reader]>,
    /// Bytes of the next event that are already out.
    partial: usize,
    /// Events given in full.
    pub(super) events: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Reader {
    topic: u32,
    /// Where the subscriber stands in the topic's list of those like it.
    index: u32,
    /// Ordinal in the topic's log of the first event not given in full.
    next: u64,
}

/// Memory that merging needs, kept so that a delivery allocates nothing.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    readers: Vec<Reader>,
    /// What was gathered, contiguous.
    pub(super) run: Vec<u8>,
}

/// A subscriber's next event is no longer there.
#[derive(Debug)]
pub(super) struct Gone;

type Topics = slab::Slab<Topic>;

impl Merge {
    /// Joins topics, at the end of each log.
    pub(super) fn join(key: ConnId, topics: &mut Topics, keys: &[u32]) -> Self {
        let join = |&topic: &u32| {
            let Topic { log, merged, .. } = &mut topics[topic as usize];
            merged.push(key);
            Reader {
                topic,
                index: (merged.len() - 1) as u32,
                next: log.appended(),
            }
        };
        let readers = keys.iter().map(join).collect();
        Self {
            readers,
            partial: 0,
            events: 0,
        }
    }

    /// The topics, and where in each one's list the subscriber stands.
    pub(super) fn places(&self) -> impl Iterator<Item = (u32, u32)> {
        self.readers
            .iter()
            .map(|reader| (reader.topic, reader.index))
    }

    /// Notes that it was moved to another place in a topic's list.
    pub(super) fn move_to(&mut self, topic: u32, index: u32) {
        for reader in &mut self.readers {
            if reader.topic == topic {
                reader.index = index;
            }
        }
    }

    /// Bytes that the logs hold for the subscriber; an event in several of them counts in each, so it may lack fewer.
    pub(super) fn lag_at_most(&self, topics: &Topics) -> Result<u64, Gone> {
        let mut lag = 0;
        for reader in &self.readers {
            let log = &topics[reader.topic as usize].log;
            lag += log.end() - log.offset_of(reader.next).ok_or(Gone)?;
        }
        Ok(lag.saturating_sub(self.partial as u64))
    }

    /// Whether the subscriber lacks more than so many bytes. Events are looked at one by one only when it is close.
    pub(super) fn lacks_more_than(
        &self,
        most: u64,
        topics: &Topics,
        scratch: &mut Scratch,
    ) -> Result<bool, Gone> {
        if self.lag_at_most(topics)? <= most {
            return Ok(false);
        }
        let most = most + self.partial as u64;
        let mut lag = 0;
        scratch.readers.clear();
        scratch.readers.extend_from_slice(&self.readers);
        while lag <= most
            && let Some((_, position)) = next_event(topics, &mut scratch.readers)?
        {
            lag += position.end - position.start;
        }
        Ok(lag > most)
    }

    /// The offset in the log of one of its topics that it still needs.
    pub(super) fn needed(&self, topics: &Topics, topic: u32) -> Option<u64> {
        let reader = self.readers.iter().find(|reader| reader.topic == topic)?;
        topics[topic as usize].log.offset_of(reader.next)
    }

    /// Copies what it lacks, in order and `most` bytes at the most, into the scratch run.
    pub(super) fn gather(
        &self,
        topics: &Topics,
        most: usize,
        scratch: &mut Scratch,
    ) -> Result<(), Gone> {
        let Scratch { readers, run } = scratch;
        readers.clear();
        readers.extend_from_slice(&self.readers);
        run.clear();
        let mut skip = self.partial as u64;
        while run.len() < most
            && let Some((log, position)) = next_event(topics, readers)?
        {
            let mut from = position.start + skip;
            let until = position.end.min(from + (most - run.len()) as u64);
            skip = 0;
            while from < until {
                let mut slices = Slices::new();
                log.gather(from, (until - from) as usize, &mut slices);
                slices
                    .as_slice()
                    .iter()
                    .for_each(|slice| run.extend_from_slice(slice));
                from += slices.bytes() as u64;
            }
        }
        Ok(())
    }

    /// Moves the place by bytes that were gathered and written; returns how many events that completed.
    pub(super) fn advance(
        &mut self,
        topics: &Topics,
        written: usize,
        scratch: &mut Scratch,
    ) -> u64 {
        let mut partial = self.partial + written;
        let before = self.events;
        scratch.readers.clear();
        scratch.readers.extend_from_slice(&self.readers);
        while let Ok(Some((_, position))) = next_event(topics, &mut scratch.readers) {
            let length = (position.end - position.start) as usize;
            if partial < length {
                break;
            }
            partial -= length;
            self.events += 1;
            self.readers.copy_from_slice(&scratch.readers);
        }
        self.partial = partial;
        self.events - before
    }
}

/// The event that comes next in the total order; the readers that stood at it are moved behind it.
fn next_event<'a>(
    topics: &'a Topics,
    readers: &mut [Reader],
) -> Result<Option<(&'a EventLog, Position)>, Gone> {
    let mut next: Option<(&EventLog, Position)> = None;
    for reader in readers.iter() {
        let log = &topics[reader.topic as usize].log;
        if reader.next == log.appended() {
            continue;
        }
        let position = log.position(reader.next).ok_or(Gone)?;
        if next.is_none_or(|(_, least)| position.seq < least.seq) {
            next = Some((log, position));
        }
    }
    if let Some((_, event)) = next {
        for reader in readers.iter_mut() {
            let position = topics[reader.topic as usize].log.position(reader.next);
            reader.next += u64::from(position.is_some_and(|position| position.seq == event.seq));
        }
    }
    Ok(next)
}
