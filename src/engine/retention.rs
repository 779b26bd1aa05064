//! Retention: which events stay in the logs, and which are missing.
//!
//! A log holds the pending events of its subscribers. With history, it also holds those that a
//! returning client may ask for. History is bounded by count, bytes and age in each namespace, and
//! by memory for all namespaces together.
//!
//! [`Retention::is_missing`] is the only place that decides whether a stream misses an event.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet, VecDeque};

use crate::config::Config;
use crate::log::{EventLog, LogId, Offset, Seq};
use crate::namespace::Namespace;
use crate::status::Status;
use crate::store::LastEvents;

use super::event_ids::EventIds;
use super::groups::Groups;
use super::ids::TopicId;
use super::topics::{Topic, Topics};

/// Events expire in groups, each of which spans this part of `history_age`. An event may stay
/// longer by as much.
const AGE_PARTS: u64 = 64;
/// Memory that a namespace in use takes in addition to its log and its path, in bytes.
const TOPIC_MEMORY: usize = size_of::<Topic>() + 256;

/// The limits of history, and what is retained.
#[derive(Debug)]
pub(super) struct Retention {
    /// Whether logs retain events that every subscriber has received.
    history: bool,
    max_events: usize,
    max_bytes: u64,
    age_ms: i64,
    max_memory: usize,
    /// Limit of the pending bytes of a subscriber.
    max_lag: u64,
    /// Retained events, their bytes, and the memory that they take, in all logs together.
    events: usize,
    bytes: u64,
    memory: usize,
    /// Number of events dropped because of `max_memory`.
    evicted: u64,
    /// When the events that have not expired were published, oldest first.
    ages: VecDeque<Age>,
    /// Events up to this number have expired.
    expired: Seq,
    /// The first retained event of each log. An entry that differs from its topic's `usage.oldest`
    /// is stale.
    oldest: BinaryHeap<Reverse<(Seq, TopicId)>>,
    /// Topics by the binary logarithm of the memory that they take.
    by_size: Vec<Vec<TopicId>>,
    /// The last events of namespaces that are not in use.
    last_events: LastEvents,
    /// Number of logs that were ever made.
    logs_made: u64,
    /// Events up to this number may be missing in any namespace.
    lost: Seq,
    /// A clock for drops that advances with replays. An event dropped before a replay began has an
    /// earlier tick than one dropped later.
    tick: u64,
    /// Whether events were dropped since the last tick.
    dropped_in_tick: bool,
    /// Topics whose logs may hold events that are no longer needed.
    untrimmed: Vec<TopicId>,
}

/// Events that were published within a short time.
#[derive(Debug)]
struct Age {
    /// When the first event was published, in milliseconds of the engine's time; negative before
    /// its start.
    from_ms: i64,
    /// When the last event was published.
    until_ms: i64,
    /// Number of the last event.
    seq: Seq,
}

impl Retention {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            history: config.keeps_history(),
            max_events: config.history_events,
            max_bytes: config.history_bytes as u64,
            age_ms: config.history_age.as_millis() as i64,
            max_memory: config.memory_limit(),
            max_lag: config.lag_limit() as u64,
            events: 0,
            bytes: 0,
            memory: 0,
            evicted: 0,
            ages: VecDeque::new(),
            expired: Seq::ZERO,
            oldest: BinaryHeap::new(),
            by_size: vec![Vec::new(); usize::BITS as usize + 1],
            last_events: LastEvents::default(),
            logs_made: 0,
            lost: Seq::ZERO,
            tick: 0,
            dropped_in_tick: false,
            untrimmed: Vec::new(),
        }
    }

    /// Whether logs retain events that every subscriber has received.
    pub(super) fn keeps_history(&self) -> bool {
        self.history
    }

    /// Makes a log for a namespace that comes into use.
    pub(super) fn new_log(&mut self, namespace: &Namespace) -> EventLog {
        self.logs_made += 1;
        EventLog::new(LogId(self.logs_made), self.last_gone(namespace))
    }

    /// The last event of a namespace that is not in use, or a later one if that is not known. The
    /// event is gone.
    fn last_gone(&self, namespace: &Namespace) -> Seq {
        Seq::new(self.last_events.last_seq_of(namespace)).max(self.lost)
    }

    /// Whether a stream of these namespaces that continues after an event misses one: an event that
    /// a log dropped and no other log of the stream retains. What is unknown counts as missing.
    pub(super) fn is_missing(&self, after: Seq, namespaces: &[Namespace], topics: &Topics) -> bool {
        let in_use = |namespace| Some(&topics[topics.find(namespace)?]);
        let set: Vec<&Topic> = namespaces.iter().filter_map(in_use).collect();
        namespaces.iter().any(|namespace| match in_use(namespace) {
            Some(topic) => self.misses_in(topic, after, &set),
            None => self.last_gone(namespace) > after,
        })
    }

    fn misses_in(&self, topic: &Topic, after: Seq, set: &[&Topic]) -> bool {
        let gone = topic.log.dropped_seq();
        let retained = |seq: Seq| set.iter().any(|topic| topic.log.find(seq).is_some());
        let multi_target = topic.usage.multi_target.iter();
        let mut later = multi_target.skip_while(|seq| **seq <= after);
        topic.usage.single_target.max(self.lost) > after
            || later.any(|&seq| seq <= gone && !retained(seq))
    }

    /// The tick at which a replay begins. Events dropped before it are known to its subscriber.
    pub(super) fn tick_of_replay(&mut self) -> u64 {
        if self.dropped_in_tick || self.tick == 0 {
            self.dropped_in_tick = false;
            self.tick += 1;
        }
        self.tick
    }

    /// Records the last event of a namespace that is not in use.
    pub(super) fn record_last(&mut self, namespace: &Namespace, seq: Seq) {
        if self.history {
            self.last_events.record_at(namespace, seq.get());
        }
    }

    /// Records that events up to this number may be missing in any namespace.
    pub(super) fn record_lost(&mut self, seq: Seq) {
        self.lost = self.lost.max(seq);
    }

    /// Records that events up to this number may be missing in any namespace that is not in use.
    pub(super) fn raise_watermark(&mut self, seq: Seq) {
        self.last_events.raise_watermark(seq.get());
    }

    /// Sets the last events that a store knows.
    pub(super) fn set_last_events(&mut self, last_events: LastEvents) {
        self.last_events = last_events;
    }

    /// Records when an event was published, in milliseconds of the engine's time.
    pub(super) fn record_age(&mut self, seq: Seq, published_ms: i64) {
        if !self.history {
            return;
        }
        match self.ages.back_mut() {
            Some(last) if published_ms < last.from_ms + self.age_ms / AGE_PARTS as i64 => {
                last.until_ms = last.until_ms.max(published_ms);
                last.seq = seq;
            }
            _ => self.ages.push_back(Age {
                from_ms: published_ms,
                until_ms: published_ms,
                seq,
            }),
        }
    }

    /// When the next events expire, in milliseconds of the engine's time.
    pub(super) fn next_expiry(&self) -> Option<u64> {
        let first = self.ages.front()?;
        Some((first.until_ms + self.age_ms).max(0) as u64)
    }

    /// Expires events by age, and lists the logs that hold some for the next [`trim`](Self::trim).
    /// Returns whether there are any.
    pub(super) fn expire(&mut self, now_ms: u64, topics: &mut Topics) -> bool {
        while let Some(first) = self
            .ages
            .pop_front_if(|first| first.until_ms + self.age_ms <= now_ms as i64)
        {
            self.expired = first.seq;
        }
        let mut any = false;
        while let Some(&Reverse((seq, id))) = self.oldest.peek()
            && seq <= self.expired
        {
            self.oldest.pop();
            if let Some(topic) = topics.get_mut(id).filter(|topic| topic.usage.oldest == seq) {
                topic.usage.oldest = Seq::ZERO;
                any = true;
                if !std::mem::replace(&mut topic.usage.untrimmed, true) {
                    self.untrimmed.push(id);
                }
            }
        }
        any
    }

    /// The first event that any log retains.
    pub(super) fn first_retained(&mut self, topics: &mut Topics) -> Option<Seq> {
        while let Some(&Reverse((seq, id))) = self.oldest.peek() {
            let topic = topics.get_mut(id);
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
            usage.oldest = first.unwrap_or_default();
            self.oldest.extend(first.map(|first| Reverse((first, id))));
        }
        None
    }

    /// The offset from which on history retains a log.
    fn kept_from(&self, log: &EventLog) -> Offset {
        if self.history {
            log.start_of_newest(self.max_events, self.max_bytes, self.expired)
        } else {
            log.end()
        }
    }

    /// Lists a topic whose log may hold events that are no longer needed.
    pub(super) fn list_untrimmed(&mut self, id: TopicId, topics: &mut Topics) {
        let topic = &mut topics[id];
        if !topic.log.is_empty() && !std::mem::replace(&mut topic.usage.untrimmed, true) {
            self.untrimmed.push(id);
        }
    }

    /// Lists a topic whose log is empty, so that the next trim can free it.
    pub(super) fn list_unused(&mut self, id: TopicId, topics: &mut Topics) {
        topics[id].usage.untrimmed = true;
        self.untrimmed.push(id);
    }

    /// Whether no log is listed.
    pub(super) fn is_trimmed(&self) -> bool {
        self.untrimmed.is_empty()
    }

    /// Drops the events that are no longer needed from the listed logs. Must not be called while a
    /// pass runs, because the least cursor of its group is not known then.
    pub(super) fn trim(&mut self, topics: &mut Topics, groups: &Groups, ids: &mut EventIds) {
        while let Some(id) = self.untrimmed.pop() {
            let Some(topic) = topics.get_mut(id) else {
                continue;
            };
            topic.usage.untrimmed = false;
            let needed = |group| groups.needed_from(group, &topic.log);
            let needed = topic
                .groups()
                .filter_map(needed)
                .min()
                .unwrap_or(Offset::MAX);
            // Called even if no event can be dropped: it also finds when the log's first event
            // expires.
            self.drop_unneeded(id, needed, topics, ids);
            self.free_if_unused(id, topics, ids);
        }
    }

    /// Drops the events of a log that neither history nor a subscriber needs. Subscribers need the
    /// bytes from the offset `needed` on, but no more than their lag limit.
    pub(super) fn drop_unneeded(
        &mut self,
        id: TopicId,
        needed: Offset,
        topics: &mut Topics,
        ids: &mut EventIds,
    ) {
        let log = &topics[id].log;
        let mut offset = needed.max(log.end().saturating_sub(self.max_lag));
        if offset > log.start() {
            offset = offset.min(self.kept_from(log));
        }
        self.drop_before(offset, id, topics, ids);
    }

    /// If the logs take more memory than `max_memory`, drops the oldest events of one of the
    /// largest logs and returns its topic. To be repeated until it returns `None`.
    pub(super) fn evict(&mut self, topics: &mut Topics, ids: &mut EventIds) -> Option<TopicId> {
        if self.memory + ids.memory() <= self.max_memory {
            return None;
        }
        let largest = self.by_size.iter().rev().find_map(|list| list.first());
        let largest = *largest?;
        let events = self.events;
        let offset = topics[largest].log.first_chunk_end();
        self.drop_before(offset, largest, topics, ids);
        self.evicted += (events - self.events) as u64;
        Some(largest)
    }

    /// Frees a topic that has no subscribers and retains no events.
    pub(super) fn free_if_unused(&mut self, id: TopicId, topics: &mut Topics, ids: &mut EventIds) {
        if topics[id].has_subscribers() {
            return;
        }
        if !self.history {
            self.drop_before(Offset::MAX, id, topics, ids);
        }
        if topics[id].log.is_empty() {
            let topic = topics.remove(id);
            self.record_last(&topic.namespace, topic.log.last_seq());
        }
    }

    /// Drops the events of a log before an offset, and updates the counts.
    fn drop_before(
        &mut self,
        offset: Offset,
        id: TopicId,
        topics: &mut Topics,
        ids: &mut EventIds,
    ) {
        let topic = &mut topics[id];
        if offset > topic.log.start() {
            self.drop_some(offset, topic, ids);
        }
        self.count(id, topics);
    }

    fn drop_some(&mut self, offset: Offset, topic: &mut Topic, ids: &mut EventIds) {
        let Topic { log, usage, .. } = topic;
        if !usage.multi_target.is_empty() {
            log.positions()
                .take_while(|position| position.end <= offset)
                .for_each(|position| usage.record_dropped(position.seq));
        }
        if log.drop_before(offset, self.tick) == 0 {
            return;
        }
        self.dropped_in_tick = true;
        let gone = log.dropped_seq();
        if usage.multi_target.is_empty() {
            usage.single_target = gone;
        }
        while let Some(seq) = usage.custom_ids.pop_front_if(|seq| *seq <= gone) {
            ids.release(seq);
        }
    }

    fn count(&mut self, id: TopicId, topics: &mut Topics) {
        let topic = &mut topics[id];
        let (events, bytes, memory) = usage_of(topic);
        let Topic { log, usage, .. } = topic;
        self.events = self.events + events - usage.events;
        self.bytes = self.bytes + bytes - usage.bytes;
        self.memory = self.memory + memory - usage.memory;
        (usage.events, usage.bytes, usage.memory) = (events, bytes, memory);
        if self.history
            && usage.oldest == Seq::ZERO
            && let Some(first) = log.first_seq()
        {
            usage.oldest = first;
            self.oldest.push(Reverse((first, id)));
        }
        let size = (usize::BITS - memory.leading_zeros()) as usize;
        if size != usage.size_class {
            self.list_by_size(id, size, topics);
        }
    }

    fn list_by_size(&mut self, id: TopicId, size: usize, topics: &mut Topics) {
        let usage = &mut topics[id].usage;
        let before = std::mem::replace(&mut usage.size_class, size);
        let index = std::mem::replace(&mut usage.class_index, self.by_size[size].len() as u32);
        if size > 0 {
            self.by_size[size].push(id);
        }
        if before > 0 {
            self.by_size[before].swap_remove(index as usize);
            if let Some(&moved) = self.by_size[before].get(index as usize) {
                topics[moved].usage.class_index = index;
            }
        }
    }

    /// Adds what is retained to a status.
    pub(super) fn report(&self, ids: &EventIds, status: &mut Status) {
        status.retained_events = self.events;
        status.retained_bytes = self.bytes;
        status.retained_memory = (self.memory + ids.memory()) as u64;
        status.evicted = self.evicted;
    }

    /// Asserts that the counts agree with the logs.
    pub(super) fn check(&self, topics: &Topics) {
        let untrimmed: HashSet<_> = self.untrimmed.iter().collect();
        let oldest: HashSet<_> = self.oldest.iter().map(|&Reverse(entry)| entry).collect();
        let (mut events, mut bytes, mut memory) = (0, 0, 0);
        for (id, topic) in topics.iter() {
            let usage = &topic.usage;
            let counted = (usage.events, usage.bytes, usage.memory);
            assert_eq!(counted, usage_of(topic), "{}", topic.namespace.as_str());
            events += usage.events;
            bytes += usage.bytes;
            memory += usage.memory;
            if usage.size_class > 0 {
                assert_eq!(
                    self.by_size[usage.size_class][usage.class_index as usize],
                    id
                );
            }
            assert!(
                usage
                    .custom_ids
                    .iter()
                    .all(|&seq| topic.log.find(seq).is_some())
            );
            assert!(!usage.untrimmed || untrimmed.contains(&id));
            assert!(usage.oldest == Seq::ZERO || oldest.contains(&(usage.oldest, id)));
        }
        assert_eq!(
            (self.events, self.bytes, self.memory),
            (events, bytes, memory)
        );
    }
}

/// The events that a topic's log retains, their bytes, and the memory that they take.
fn usage_of(topic: &Topic) -> (usize, u64, usize) {
    let Topic {
        log,
        usage,
        namespace,
        ..
    } = topic;
    let memory = match log.len() {
        0 => 0,
        _ => log.memory() + usage.memory() + TOPIC_MEMORY + namespace.as_str().len(),
    };
    (log.len(), log.retained(), memory)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::tests::{Parts, Sockets, name};

    fn config(history_events: usize, history_bytes: usize) -> Config {
        Config {
            history_events,
            history_bytes,
            ..Config::default()
        }
    }

    fn trim(parts: &mut Parts) {
        parts
            .retention
            .trim(&mut parts.topics, &parts.groups, &mut parts.ids);
        parts.check();
    }

    #[test]
    fn history_is_bounded_by_count_and_bytes() {
        for (history_events, history_bytes, retained) in [
            (1000, 1000, &[1, 2, 3, 4, 5][..]),
            (3, 1000, &[3, 4, 5]),
            (1, 1000, &[5]),
            (1000, 12, &[3, 4, 5]),
            (1000, 11, &[4, 5]),
            (1000, 3, &[]),
            (0, 1000, &[]),
            (1000, 0, &[]),
        ] {
            let mut parts = Parts::new(&config(history_events, history_bytes));
            for _ in 0..5 {
                parts.publish(&["/a"], "1234", 0);
            }
            assert_eq!(
                parts.retained("/a"),
                retained,
                "{history_events} {history_bytes}"
            );
            parts.check();
        }
    }

    #[test]
    fn events_expire_by_age_within_a_part_of_it() {
        let mut parts = Parts::new(&Config {
            history_age: Duration::from_millis(100 * AGE_PARTS),
            ..Config::default()
        });
        for published_ms in [0, 50, 100, 6000] {
            parts.publish(&["/a"], "1234", published_ms);
        }
        for (now_ms, retained, next_expiry) in [
            (6449, &[1, 2, 3, 4][..], Some(6450)),
            (6450, &[3, 4], Some(6500)),
            (6500, &[4], Some(12_400)),
            (12_400, &[], None),
        ] {
            parts.retention.expire(now_ms, &mut parts.topics);
            trim(&mut parts);
            assert_eq!(parts.retained("/a"), retained, "{now_ms}");
            assert_eq!(parts.retention.next_expiry(), next_expiry, "{now_ms}");
        }
        assert_eq!(parts.topics.len(), 0);
    }

    #[test]
    fn without_history_a_log_holds_the_pending_events_of_its_subscribers() {
        for (set, room, retained) in [
            (&["/a"][..], [0, 12], &[1, 2, 3][..]),
            (&["/a"], [3, 12], &[1, 2, 3]),
            (&["/a"], [4, 12], &[2, 3]),
            (&["/a"], [6, 9], &[2, 3]),
            (&["/a"], [12, 12], &[]),
            (&["/a", "/b"], [6, 9], &[2, 3]),
            (&["/a", "/b"], [12, 12], &[]),
        ] {
            let mut parts = Parts::new(&config(0, 0));
            let [member, _] = [0, 1].map(|conn| parts.join(conn, set));
            for _ in 0..3 {
                parts.publish(&["/a"], "1234", 0);
            }
            assert_eq!(parts.retained("/a"), [1, 2, 3]);
            parts.fan_out(member.group, &mut Sockets::new(&room));
            let topic = parts.topics(&["/a"])[0];
            parts.retention.list_untrimmed(topic, &mut parts.topics);
            trim(&mut parts);
            assert_eq!(parts.retained("/a"), retained, "{set:?} {room:?}");
        }
    }

    #[test]
    fn a_subscriber_is_kept_no_more_than_its_lag_limit() {
        let mut parts = Parts::new(&config(0, 0));
        parts.retention.max_lag = 8;
        parts.join(0, &["/a"]);
        for _ in 0..3 {
            parts.publish(&["/a"], "1234", 0);
        }
        assert_eq!(parts.retained("/a"), [2, 3]);
    }

    #[test]
    fn the_largest_log_is_evicted_until_memory_is_within_its_limit() {
        let mut parts = Parts::new(&config(1000, 1 << 20));
        let text = "x".repeat(5000);
        for _ in 0..100 {
            parts.publish(&["/large"], &text, 0);
        }
        for _ in 0..10 {
            parts.publish(&["/small"], &text, 0);
        }
        parts.retention.max_memory = 200_000;
        let large = parts.topics(&["/large"])[0];
        while let Some(topic) = parts.retention.evict(&mut parts.topics, &mut parts.ids) {
            assert_eq!(topic, large);
            parts.check();
        }
        assert!((1..=200_000).contains(&parts.retention.memory));
        assert_eq!(parts.retained("/small").len(), 10);
        let kept = parts.retained("/large");
        assert_eq!(kept.last(), Some(&100));
        assert_eq!(parts.retention.evicted, 100 - kept.len() as u64);
    }

    #[test]
    fn an_event_is_missing_if_no_log_of_the_stream_retains_it() {
        let mut parts = Parts::new(&config(2, 1000));
        for paths in [&["/a"][..], &["/a", "/b"], &["/a"], &["/a"]] {
            parts.publish(paths, "1234", 0);
        }
        assert_eq!(
            (parts.retained("/a"), parts.retained("/b")),
            (vec![3, 4], vec![2])
        );
        let missing = |parts: &Parts, after: u64, paths: &[&str]| {
            let namespaces: Vec<_> = paths.iter().map(|path| name(path)).collect();
            let after = Seq::new(after);
            parts
                .retention
                .is_missing(after, &namespaces, &parts.topics)
        };
        for (after, paths, is_missing) in [
            (0, &["/a"][..], true),
            (1, &["/a"], true),
            (2, &["/a"], false),
            (4, &["/a"], false),
            (0, &["/b"], false),
            (0, &["/a", "/b"], true),
            (1, &["/a", "/b"], false),
            (0, &["/c"], false),
        ] {
            assert_eq!(
                missing(&parts, after, paths),
                is_missing,
                "{after} {paths:?}"
            );
        }
        type Lose = fn(&mut Retention);
        let lost: [(Lose, &str); 3] = [
            (
                |retention| retention.record_last(&name("/c"), Seq::new(5)),
                "/c",
            ),
            (|retention| retention.raise_watermark(Seq::new(5)), "/d"),
            (|retention| retention.record_lost(Seq::new(5)), "/a"),
        ];
        for (lose, path) in lost {
            assert!(!missing(&parts, 4, &[path]), "{path}");
            lose(&mut parts.retention);
            assert!(missing(&parts, 4, &[path]), "{path}");
            assert!(!missing(&parts, 5, &[path]), "{path}");
        }
    }

    #[test]
    fn a_topic_without_events_is_freed_and_its_last_event_is_remembered() {
        let mut parts = Parts::new(&config(2, 3));
        parts.publish(&["/a"], "1234", 0);
        let topic = parts.topics(&["/a"])[0];
        let Parts {
            topics,
            retention,
            ids,
            ..
        } = &mut parts;
        retention.free_if_unused(topic, topics, ids);
        assert_eq!(topics.len(), 0);
        for (after, is_missing) in [(0, true), (1, false)] {
            let after = Seq::new(after);
            assert_eq!(
                retention.is_missing(after, &[name("/a")], topics),
                is_missing
            );
        }
    }

    #[test]
    fn a_tick_ends_when_an_event_was_dropped_in_it() {
        let mut parts = Parts::new(&config(1, 1000));
        for (published, tick) in [(0, 1), (1, 1), (1, 2), (0, 2), (3, 3)] {
            for _ in 0..published {
                parts.publish(&["/a"], "1234", 0);
            }
            assert_eq!(parts.retention.tick_of_replay(), tick);
        }
    }
}
