//! Publishing: the verbs that append an event to the logs and schedule the groups that receive it.

use std::time::Instant;

use crate::event_stream::frame::{BytesRef, Frame, FrameRef, TargetRef, own_id};
use crate::log::{Offset, Seq};
use crate::namespace::{Namespace, NamespaceRef};

use super::groups::Groups;
use super::ids::{GroupId, TopicId};
use super::pending_writes::RequestId;
use super::topics::Topic;
use super::{Engine, Published};

impl Engine {
    /// Whether events are taken now: with a store, while it has room for them; without one, while
    /// they can be [appended](Self::can_append).
    pub fn accepting_events(&self) -> bool {
        match &self.store {
            None => self.can_append(),
            Some(store) => store.has_room(),
        }
    }

    /// Whether events may be appended to the logs now. See [`flow`](super::flow).
    pub fn can_append(&self) -> bool {
        self.schedule.can_append(self.clock.ms())
    }

    /// Publishes an event: appends it to the logs of its namespaces and of those above them, if
    /// they have subscribers or keep history.
    ///
    /// With a store, the event goes there first, and the result is `None`.
    pub fn publish(&mut self, frame: &Frame, now: Instant) -> Option<Published> {
        self.publish_ref(frame.by_ref(), now)
    }

    /// As [`Engine::publish`], for a borrowed frame.
    pub fn publish_ref(&mut self, frame: FrameRef<'_>, now: Instant) -> Option<Published> {
        self.clock.set(now);
        self.publish_for(None, frame)
    }

    /// Publishes an event, or each event of an encoded frame, for the request that brought it.
    pub(super) fn publish_for(
        &mut self,
        request: Option<RequestId>,
        frame: FrameRef<'_>,
    ) -> Option<Published> {
        if !(frame.encoded && self.retention.keeps_history()) {
            return self.publish_one(request, frame);
        }
        // With history, each event has a number and an ID of its own.
        let mut published = None;
        frame.for_each_event(|bytes| {
            published = self.publish_one(request, FrameRef { bytes, ..frame });
        });
        published
    }

    fn publish_one(
        &mut self,
        request: Option<RequestId>,
        frame: FrameRef<'_>,
    ) -> Option<Published> {
        if let Some(store) = &mut self.store {
            store.push(frame, request);
            return None;
        }
        Some(self.append(frame, self.clock.ms() as i64))
    }

    /// Appends an event to the logs under the next number. `published_ms` is in milliseconds of the
    /// engine's time, negative before its start.
    pub(super) fn append(&mut self, frame: FrameRef<'_>, published_ms: i64) -> Published {
        let FrameRef {
            target,
            bytes: event,
            encoded,
        } = frame;
        let seq = self.ids.next();
        self.meters.status.events += 1;
        self.retention.record_age(seq, published_ms);
        let has_id = event.starts_with(b"id:");
        let custom_id = (self.retention.keeps_history() && (encoded || has_id))
            .then(|| own_id(&event))
            .flatten();
        if let Some(id) = custom_id {
            self.ids.record(id);
        }
        let mut append = Append {
            seq,
            event,
            published_ms,
            with_id_line: self.retention.keeps_history() && !has_id && custom_id.is_none(),
            custom_id: custom_id.is_some(),
            multi_target: !matches!(target, TargetRef::One(_)),
            reached: Reached::default(),
        };
        self.append_to_target(target, &mut append);
        if append.custom_id {
            self.ids.release(seq);
        }
        self.evict();
        Published {
            seq,
            subscribers: append.reached.count(),
        }
    }

    fn append_to_target(&mut self, target: TargetRef<'_>, append: &mut Append<'_>) {
        match target {
            TargetRef::One(namespace) => self.append_on_path(namespace, append),
            TargetRef::Many(namespaces) => {
                for namespace in namespaces {
                    self.append_on_path(namespace.by_ref(), append);
                }
            }
            TargetRef::Everyone => {
                self.meters
                    .count_published(Namespace::root().by_ref(), None, &mut self.topics);
                let mut next = 0;
                while let Some((after, topic)) = self.topics.next_from(next) {
                    next = after;
                    self.append_to_topic(topic, append);
                }
            }
        }
    }

    /// Appends an event to the topics from the root to a namespace.
    fn append_on_path(&mut self, namespace: NamespaceRef<'_>, append: &mut Append<'_>) {
        if self.retention.keeps_history() {
            let new_log = |namespace: &_| self.retention.new_log(namespace);
            let filled = self.topics.fill_path(namespace, new_log);
            if let Err(depth) = filled {
                // Namespaces above the limit keep no history. A client that resumes in one receives
                // a gap.
                let depths = depth..=namespace.segments().count();
                for namespace in depths.map(|depth| namespace.ancestor(depth)) {
                    self.retention.record_last(&namespace, append.seq);
                }
            }
        } else {
            self.topics.collect_path(namespace);
        }
        let last = self.topics.end_of_path();
        self.meters
            .count_published(namespace, last, &mut self.topics);
        let mut index = 0;
        while let Some(topic) = self.topics.on_path(index) {
            index += 1;
            self.append_to_topic(topic, append);
        }
    }

    fn append_to_topic(&mut self, id: TopicId, append: &mut Append<'_>) {
        let topic = &mut self.topics[id];
        if topic.log.last_seq() == append.seq {
            return;
        }
        let id_line = match append.with_id_line {
            true => self.ids.line(),
            false => &[],
        };
        let bytes = id_line.len() + append.event.len();
        topic.log.append(append.seq, id_line, append.event);
        if append.custom_id {
            self.ids.hold(append.seq);
        }
        let multi_target = append.multi_target && self.retention.keeps_history();
        topic
            .usage
            .record(append.seq, append.custom_id, multi_target);
        topic.meter.record_event(append.published_ms);
        append.reached.add(topic, &self.groups, append.multi_target);
        if !topic.has_subscribers() {
            self.drop_unneeded(id, Offset::MAX);
            if self.topics[id].log.is_empty() {
                // The event was too large to be retained, so the topic may be unused.
                self.retention.list_unused(id, &mut self.topics);
            }
            return;
        }
        // A subscriber that has not received a dropped event exceeds its lag limit. The next pass
        // ends it.
        self.drop_unneeded(id, Offset::ZERO);
        for group in self.topics[id].groups() {
            self.schedule
                .schedule(group, &mut self.groups, bytes, &self.clock);
        }
    }

    fn drop_unneeded(&mut self, id: TopicId, needed: Offset) {
        self.retention
            .drop_unneeded(id, needed, &mut self.topics, &mut self.ids);
    }

    /// Drops the oldest events of the largest logs until the memory of all logs is within its
    /// limit.
    fn evict(&mut self) {
        while let Some(id) = self.retention.evict(&mut self.topics, &mut self.ids) {
            // The next pass ends the subscribers for which a dropped event was pending.
            for group in self.topics[id].groups() {
                self.schedule.schedule_now(group, &mut self.groups);
            }
            self.retention
                .free_if_unused(id, &mut self.topics, &mut self.ids);
        }
    }
}

/// An event on its way into the logs.
struct Append<'a> {
    seq: Seq,
    event: BytesRef<'a>,
    published_ms: i64,
    /// Whether a line with its ID goes before it.
    with_id_line: bool,
    /// Whether the publisher chose its ID.
    custom_id: bool,
    /// Whether it goes to several namespaces.
    multi_target: bool,
    reached: Reached,
}

/// Counts the subscribers that an event reaches, each once.
#[derive(Debug, Default)]
struct Reached {
    count: usize,
    /// Groups that several of its namespaces may reach, and their numbers of subscribers.
    groups: Vec<(GroupId, usize)>,
}

impl Reached {
    fn add(&mut self, topic: &Topic, groups: &Groups, multi_target: bool) {
        for group in topic.groups() {
            let count = groups.len(group);
            // No two namespaces of a group are on one path, so an event of one namespace reaches it
            // once.
            if multi_target && Some(group) != topic.own_group {
                self.groups.push((group, count));
            } else {
                self.count += count;
            }
        }
    }

    fn count(mut self) -> usize {
        self.groups.sort_unstable();
        self.groups.dedup();
        let counts = self.groups.iter().map(|(_, count)| count);
        self.count + counts.sum::<usize>()
    }
}
