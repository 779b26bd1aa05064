//! What is retained of the events that went out, for how long, and what gives way when it is too much.
//!
//! A log holds what its subscribers still need and, with history on, what whoever comes back may ask for. Here is where that ends: in
//! each namespace by count, bytes and age, and for all of them together by memory. And what is known of events that are
//! gone, so that nobody is told that nothing is missing when something is, or the other way round.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use slab::Slab;

use crate::config::Config;
use crate::event_log::EventLog;
use crate::namespace::Namespace;
use crate::status::Status;
use crate::store::LastEvents;

use super::Engine;
use super::groups::GroupId;
use super::replay::EventIds;
use super::topic::Topic;

/// Parts of the age at which events go: so much longer than it, at the most, one may stay.
const AGE_PARTS: u64 = 64;
/// Events that went to several namespaces of which one keeps in mind that it dropped them.
const MAX_MULTI_TARGET: usize = 64;
/// Memory that a namespace in use takes beside its log and its path.
const TOPIC_MEMORY: usize = size_of::<Topic>() + 256;

/// The bounds of what is retained, and where they are now.
#[derive(Debug)]
pub(super) struct Retention {
    /// With history off, nothing is retained but what subscribers need.
    pub(super) history: bool,
    events_most: usize,
    bytes_most: u64,
    age_ms: i64,
    memory_most: usize,
    /// What all logs hold together.
    events: usize,
    bytes: u64,
    memory: usize,
    /// Events that were evicted to stay within the bound of all memory.
    evicted: u64,
    /// When events were published that are not yet too old, oldest first.
    ages: VecDeque<Age>,
    /// Events up to this number are too old.
    aged: u64,
    /// The first retained event of each log, and whose it is. An entry that is not the one its topic remembers means nothing.
    oldest: BinaryHeap<Reverse<(u64, u32)>>,
    /// Topics by the binary logarithm of the memory they take.
    by_size: Vec<Vec<u32>>,
    /// The last events of namespaces that are not in use.
    last_events: LastEvents,
    /// How many logs there ever were.
    logs: u64,
    /// Events up to this number may be missing anywhere.
    lost: u64,
    /// Counts the replays that look past a gap, so that what a log drops later can be told from what it had dropped before.
    now: u64,
    /// Whether anything was dropped since it was counted last.
    dropped: bool,
}

/// Some events that were published within a short time.
#[derive(Debug)]
struct Age {
    /// Of the first and the last of them, in milliseconds of the engine's time; before it, negative.
    from_ms: i64,
    until_ms: i64,
    /// The last one's number.
    seq: u64,
}

/// What a topic counts for in all that is retained.
#[derive(Debug, Default)]
pub(super) struct TopicUsage {
    events: usize,
    bytes: u64,
    memory: usize,
    /// Where it is listed by its size: the list, and the place in it.
    size: usize,
    index: u32,
    /// The first retained event as it is listed by age; 0 when it is not.
    oldest: u64,
    /// Events with an id of their own that the log retains, in order.
    pub(super) custom_ids: VecDeque<u64>,
    /// The last event that it dropped of those that went to no other namespaces but those above.
    single_target: u64,
    /// Events behind that one that went to others, too, dropped or not, in order.
    pub(super) multi_target: VecDeque<u64>,
}

impl TopicUsage {
    pub(super) fn of(log: &EventLog) -> Self {
        Self {
            single_target: log.dropped().0,
            ..Self::default()
        }
    }

    /// Memory that it takes beside itself.
    fn held(&self) -> usize {
        self.multi_target.capacity() * size_of::<u64>()
    }

    /// Notes that the log is about to drop an event.
    fn note_dropped(&mut self, seq: u64) {
        let at = match self.multi_target.binary_search(&seq) {
            Ok(at) if at < MAX_MULTI_TARGET => return,
            Ok(at) => at + 1,
            Err(at) => at,
        };
        self.multi_target.drain(..at);
        let most = 2 * self.multi_target.len();
        self.multi_target.shrink_to(most.max(MAX_MULTI_TARGET));
        self.single_target = seq;
    }
}

impl Retention {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            history: config.keeps_history(),
            events_most: config.history_events,
            bytes_most: config.history_bytes as u64,
            age_ms: config.history_age.as_millis() as i64,
            memory_most: config.memory_limit(),
            events: 0,
            bytes: 0,
            memory: 0,
            evicted: 0,
            ages: VecDeque::new(),
            aged: 0,
            oldest: BinaryHeap::new(),
            by_size: vec![Vec::new(); usize::BITS as usize + 1],
            last_events: LastEvents::default(),
            logs: 0,
            lost: 0,
            now: 0,
            dropped: false,
        }
    }

    /// A log for a namespace that comes into use.
    pub(super) fn log_of(&mut self, namespace: &Namespace) -> EventLog {
        self.logs += 1;
        EventLog::new(self.logs, self.last_gone(namespace))
    }

    /// The last event that is gone of a namespace which is not in use, or may be.
    pub(super) fn last_gone(&self, namespace: &Namespace) -> u64 {
        self.last_events.last_seq_of(namespace).max(self.lost)
    }

    /// Whether a stream of these topics would miss an event behind this one, as one of them has dropped it, and no other retains it.
    pub(super) fn is_missing(&self, topic: &Topic, after: u64, others: &[&Topic]) -> bool {
        let gone = topic.log.dropped().0;
        let retained = |seq: u64| others.iter().any(|other| other.log.retains(seq));
        let several = topic.usage.multi_target.iter();
        let mut several = several.skip_while(|seq| **seq <= after);
        topic.usage.single_target.max(self.lost) > after
            || several.any(|&seq| seq <= gone && !retained(seq))
    }

    /// An event was published that may have gone to a namespace which is not in use.
    pub(super) fn forget(&mut self, namespace: &Namespace, seq: u64) {
        if !self.history {
            return;
        }
        self.last_events.record_at(namespace, seq);
    }

    /// Events up to this number may be missing anywhere.
    pub(super) fn lose(&mut self, seq: u64) {
        self.lost = self.lost.max(seq);
    }

    /// Events up to this number may have gone to any namespace that is not in use now.
    pub(super) fn forget_unused(&mut self, seq: u64) {
        self.last_events.raise_watermark(seq);
    }

    /// Goes on from what a store knows of the events that it has no longer.
    pub(super) fn remember(&mut self, last_events: LastEvents) {
        self.last_events = last_events;
    }

    /// The time of a replay that looks past what is missing now.
    pub(super) fn now_of_replay(&mut self) -> u64 {
        if self.dropped || self.now == 0 {
            self.dropped = false;
            self.now += 1;
        }
        self.now
    }

    /// An event was published.
    pub(super) fn note_age(&mut self, seq: u64, now_ms: i64) {
        if !self.history {
            return;
        }
        match self.ages.back_mut() {
            Some(last) if now_ms < last.from_ms + self.age_ms / AGE_PARTS as i64 => {
                last.until_ms = last.until_ms.max(now_ms);
                last.seq = seq;
            }
            _ => self.ages.push_back(Age {
                from_ms: now_ms,
                until_ms: now_ms,
                seq,
            }),
        }
    }

    /// When the next events will be too old.
    pub(super) fn next_aging(&self) -> Option<u64> {
        let first = self.ages.front()?;
        Some((first.until_ms + self.age_ms).max(0) as u64)
    }

    /// Finds the events that are too old now, and hands out the topics that have some.
    pub(super) fn age(&mut self, now_ms: u64, topics: &mut Slab<Topic>, mut each: impl FnMut(u32)) {
        while let Some(first) = self
            .ages
            .pop_front_if(|first| first.until_ms + self.age_ms <= now_ms as i64)
        {
            self.aged = first.seq;
        }
        while let Some(&Reverse((seq, key))) = self.oldest.peek()
            && seq <= self.aged
        {
            self.oldest.pop();
            let usage = topics.get_mut(key as usize).map(|topic| &mut topic.usage);
            if let Some(usage) = usage.filter(|usage| usage.oldest == seq) {
                usage.oldest = 0;
                each(key);
            }
        }
    }

    /// The first event that any log retains.
    pub(super) fn oldest_wanted(&mut self, topics: &mut Slab<Topic>) -> Option<u64> {
        while let Some(&Reverse((seq, key))) = self.oldest.peek() {
            let topic = topics.get_mut(key as usize);
            let Some(Topic { log, usage, .. }) = topic.filter(|topic| topic.usage.oldest == seq)
            else {
                self.oldest.pop();
                continue;
            };
            let first = log.first_seq();
            if first == Some(seq) {
                return first;
            }
            self.oldest.pop();
            usage.oldest = first.unwrap_or(0);
            self.oldest.extend(first.map(|first| Reverse((first, key))));
        }
        None
    }

    /// Offset in a log from which on history retains it.
    pub(super) fn kept_from(&self, log: &EventLog) -> u64 {
        if self.history {
            log.newest(self.events_most, self.bytes_most, self.aged)
        } else {
            log.end()
        }
    }

    /// Drops from a topic's log what lies before an offset, and counts what it holds now.
    pub(super) fn drop_before(
        &mut self,
        offset: u64,
        key: u32,
        topics: &mut Slab<Topic>,
        ids: &mut EventIds,
    ) {
        let topic = &mut topics[key as usize];
        if offset > topic.log.start() {
            self.drop_some(offset, topic, ids);
        }
        self.count(key, topics);
    }

    fn drop_some(&mut self, offset: u64, topic: &mut Topic, ids: &mut EventIds) {
        let Topic { log, usage, .. } = topic;
        if !usage.multi_target.is_empty() {
            let first = log.appended() - log.len() as u64;
            (first..)
                .map_while(|ordinal| log.position(ordinal))
                .take_while(|position| position.end <= offset)
                .for_each(|position| usage.note_dropped(position.seq));
        }
        if log.drop_before(offset, self.now) == 0 {
            return;
        }
        self.dropped = true;
        let gone = log.dropped().0;
        if usage.multi_target.is_empty() {
            usage.single_target = gone;
        }
        while let Some(seq) = usage.custom_ids.pop_front_if(|seq| *seq <= gone) {
            ids.release(seq);
        }
    }

    fn count(&mut self, key: u32, topics: &mut Slab<Topic>) {
        let Topic {
            log,
            usage,
            namespace,
            ..
        } = &mut topics[key as usize];
        let (events, bytes) = (log.len(), log.retained());
        let memory = match events {
            0 => 0,
            _ => log.memory() + usage.held() + TOPIC_MEMORY + namespace.as_str().len(),
        };
        self.events = self.events + events - usage.events;
        self.bytes = self.bytes + bytes - usage.bytes;
        self.memory = self.memory + memory - usage.memory;
        (usage.events, usage.bytes, usage.memory) = (events, bytes, memory);
        if self.history
            && usage.oldest == 0
            && let Some(first) = log.first_seq()
        {
            usage.oldest = first;
            self.oldest.push(Reverse((first, key)));
        }
        let size = (usize::BITS - memory.leading_zeros()) as usize;
        if size != usage.size {
            self.list_by_size(key, size, topics);
        }
    }

    fn list_by_size(&mut self, key: u32, size: usize, topics: &mut Slab<Topic>) {
        let usage = &mut topics[key as usize].usage;
        let before = std::mem::replace(&mut usage.size, size);
        let index = std::mem::replace(&mut usage.index, self.by_size[size].len() as u32);
        if size > 0 {
            self.by_size[size].push(key);
        }
        if before > 0 {
            self.by_size[before].swap_remove(index as usize);
            if let Some(&moved) = self.by_size[before].get(index as usize) {
                topics[moved as usize].usage.index = index;
            }
        }
    }

    /// Tells what is retained.
    pub(super) fn report(&self, ids: &EventIds, status: &mut Status) {
        status.retained_events = self.events;
        status.retained_bytes = self.bytes;
        status.retained_memory = (self.memory + ids.memory()) as u64;
        status.evicted = self.evicted;
    }

    /// A log that holds about as much as any other, if all together hold too much.
    fn largest_of_too_much(&self, ids: &EventIds) -> Option<u32> {
        if self.memory + ids.memory() <= self.memory_most {
            return None;
        }
        let largest = self.by_size.iter().rev().find_map(|keys| keys.first());
        largest.copied()
    }
}

impl Engine {
    /// Notes that the logs of an group may hold what nobody needs any more.
    pub(super) fn list_untrimmed(&mut self, group: GroupId) {
        match group {
            GroupId::Topic(key) => self.list_topic_untrimmed(key),
            GroupId::TopicSet(key) => {
                for index in 0..self.topic_sets[key as usize].topics.len() {
                    let (topic, _) = self.topic_sets[key as usize].topics[index];
                    self.list_topic_untrimmed(topic);
                }
            }
        }
    }

    fn list_topic_untrimmed(&mut self, key: u32) {
        let topic = &mut self.topics[key as usize];
        if !topic.untrimmed && !topic.log.is_empty() {
            topic.untrimmed = true;
            self.untrimmed.push(key);
        }
    }

    /// Drops from the logs what nobody needs any more. Not while a pass runs: it has yet to find out who needs what.
    pub(super) fn trim(&mut self) {
        while let Some(key) = self.untrimmed.pop() {
            let Some(topic) = self.topics.get_mut(key as usize) else {
                continue;
            };
            topic.untrimmed = false;
            let passed = |&key: &u32| self.topic_sets[key as usize].subscribers.least();
            let passed = topic.topic_sets.iter().filter_map(passed).min();
            let needed = [
                topic.subscribers.least(),
                passed.map(|point| topic.log.offset_after(point.passed)),
            ];
            let needed = needed.into_iter().flatten().min().unwrap_or(u64::MAX);
            // Counted though nothing may be dropped: it may have to be looked at again when more is too old.
            self.drop_unneeded(key, needed);
            self.free_if_unused(key);
        }
    }

    /// Drops from a log what neither history keeps nor, from an offset on, somebody needs, who may lack `max_lag`; counts what it holds now.
    pub(super) fn drop_unneeded(&mut self, key: u32, needed: u64) {
        let log = &self.topics[key as usize].log;
        let mut offset = needed.max(log.end().saturating_sub(self.limits.max_lag));
        if offset > log.start() {
            offset = offset.min(self.retention.kept_from(log));
        }
        self.retention
            .drop_before(offset, key, &mut self.topics, &mut self.ids);
    }

    /// Makes the largest logs drop their oldest events until all together are within the total again.
    pub(super) fn evict(&mut self) {
        while let Some(key) = self.retention.largest_of_too_much(&self.ids) {
            let events = self.retention.events;
            let offset = self.topics[key as usize].log.first_chunk_end();
            self.retention
                .drop_before(offset, key, &mut self.topics, &mut self.ids);
            self.retention.evicted += (events - self.retention.events) as u64;
            // Whoever lacks what went is cut in the next pass.
            self.schedule_now(GroupId::Topic(key));
            for index in 0..self.topics[key as usize].topic_sets.len() {
                let topic_set = self.topics[key as usize].topic_sets[index];
                self.schedule_now(GroupId::TopicSet(topic_set));
            }
            self.free_if_unused(key);
        }
    }

    /// Lets events go that are too old.
    pub(super) fn age_out(&mut self) {
        let (topics, untrimmed) = (&mut self.topics, &mut self.untrimmed);
        let mut aged = Vec::new();
        self.retention
            .age(self.now_ms, topics, |key| aged.push(key));
        if let Some(storing) = &mut self.storing
            && !aged.is_empty()
        {
            storing.note_aged();
        }
        for key in aged {
            let topic = &mut topics[key as usize];
            if !std::mem::replace(&mut topic.untrimmed, true) {
                untrimmed.push(key);
            }
        }
    }

    /// Frees a topic that nobody needs, and of which nothing is retained.
    pub(super) fn free_if_unused(&mut self, key: u32) {
        let topic = &self.topics[key as usize];
        if !topic.has_subscribers() && !self.retention.history {
            self.retention
                .drop_before(u64::MAX, key, &mut self.topics, &mut self.ids);
        }
        let topic = &self.topics[key as usize];
        if !topic.has_subscribers() && topic.log.is_empty() {
            let topic = self.topics.remove(key as usize);
            self.retention
                .forget(&topic.namespace, topic.log.last_seq());
            self.namespaces.remove(&topic.namespace);
        }
    }
}
