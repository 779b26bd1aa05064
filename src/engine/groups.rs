//! The groups of subscribers. A group has all subscribers of the same set of namespaces.
//!
//! A group of one namespace reads the log of its topic. A group of several reads a merge of their
//! logs. [`Feed`] is the only type that knows the difference.

use std::collections::HashMap;

use slab::Slab;

use crate::log::{EventLog, Offset, Seq, Slices};
use crate::status::DisconnectReason;

use super::Outlet;
use super::fan_out::{
    self, Cursors, Limits, LogReader, Members, Pass, SubscriberState, Writer, Written,
};
use super::ids::{ConnId, GroupId, TopicId};
use super::merge::{self, Merge, MergeBuffers, MergeCursor};
use super::topics::Topics;

/// The position of a subscriber in the list of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) group: GroupId,
    index: u32,
}

/// The subscribers of the same namespaces.
#[derive(Debug)]
struct Group {
    members: Members,
    feed: Feed,
}

/// The source of a group's events, and the cursors of its subscribers in it.
#[derive(Debug)]
enum Feed {
    /// The log of one topic. A cursor is the offset of the first byte not given.
    One(TopicId, Cursors<Offset>),
    /// The logs of several topics.
    Merged(TopicSet, Cursors<MergeCursor>),
}

/// The topics of a group of several namespaces, in the order of their names.
type TopicSet = Box<[SetTopic]>;

/// A topic of a set.
#[derive(Debug, Clone, Copy)]
struct SetTopic {
    topic: TopicId,
    /// The group's index in the topic's list of groups.
    index: u32,
}

impl From<SetTopic> for TopicId {
    fn from(listed: SetTopic) -> Self {
        listed.topic
    }
}

impl Feed {
    fn topics(&self) -> impl Iterator<Item = TopicId> {
        let (one, set) = match self {
            Self::One(topic, _) => (Some(*topic), &[][..]),
            Self::Merged(set, _) => (None, &**set),
        };
        one.into_iter().chain(set.iter().map(|listed| listed.topic))
    }
}

/// A subscriber that joins a group.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewSubscriber {
    pub(super) conn: ConnId,
    /// The event that it continues after.
    pub(super) after: Seq,
    /// Events dropped before this tick of [`Retention`](super::retention::Retention) were reported
    /// to it.
    pub(super) known_tick: u64,
    /// Whether a pass may write to it.
    pub(super) writable: bool,
    pub(super) now_ms: u64,
}

/// What changed when a subscriber left.
#[derive(Debug)]
pub(super) struct Left {
    /// The connection that took over its index.
    pub(super) moved: Option<ConnId>,
    /// Whether it was blocked.
    pub(super) was_blocked: bool,
    /// The topics of its group, if that was freed because it is empty.
    pub(super) freed: Vec<TopicId>,
}

/// The groups in use.
#[derive(Debug)]
pub(super) struct Groups {
    slab: Slab<Group>,
    by_topics: HashMap<Box<[TopicId]>, GroupId>,
    buffers: MergeBuffers,
    limits: Limits,
}

impl Groups {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            slab: Slab::new(),
            by_topics: HashMap::new(),
            buffers: MergeBuffers::default(),
            limits,
        }
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// Adds a subscriber to the group of these topics, which must be in the order of their names.
    pub(super) fn join(
        &mut self,
        set: Vec<TopicId>,
        new: NewSubscriber,
        topics: &mut Topics,
    ) -> Membership {
        let missing = |&topic: &TopicId| {
            let log = &topics[topic].log;
            log.end() - log.offset_after(new.after)
        };
        let state = SubscriberState {
            active_ms: new.now_ms,
            lag_limit: self.limits.max_lag + set.iter().map(missing).sum::<u64>(),
            events: 0,
            bytes: 0,
            conn: new.conn,
            writable: new.writable,
            blocked: false,
        };
        let group = match *set {
            [topic] => self.group_of_one(topic, topics),
            _ => self.group_of_several(set, topics),
        };
        let Group { members, feed } = &mut self.slab[group.0 as usize];
        match feed {
            Feed::One(topic, cursors) => cursors.push(topics[*topic].log.offset_after(new.after)),
            Feed::Merged(_, cursors) => {
                cursors.push(MergeCursor::after(new.after, new.known_tick));
            }
        }
        fan_out::push(&mut members.states, state);
        let index = (members.states.len() - 1) as u32;
        Membership { group, index }
    }

    fn group_of_one(&mut self, topic: TopicId, topics: &mut Topics) -> GroupId {
        let own = &mut topics[topic].own_group;
        *own.get_or_insert_with(|| {
            let feed = Feed::One(topic, Cursors::default());
            let members = Members::default();
            GroupId(self.slab.insert(Group { members, feed }) as u32)
        })
    }

    fn group_of_several(&mut self, set: Vec<TopicId>, topics: &mut Topics) -> GroupId {
        let set = set.into_boxed_slice();
        if let Some(&group) = self.by_topics.get(&set) {
            return group;
        }
        let group = GroupId(self.slab.vacant_key() as u32);
        let listed = set.iter().map(|&topic| {
            let groups = &mut topics[topic].shared_groups;
            groups.push(group);
            let index = (groups.len() - 1) as u32;
            SetTopic { topic, index }
        });
        let feed = Feed::Merged(listed.collect(), Cursors::default());
        self.slab.insert(Group {
            members: Members::default(),
            feed,
        });
        self.by_topics.insert(set, group);
        group
    }

    /// Removes a subscriber, and its group if that becomes empty.
    pub(super) fn leave(&mut self, member: Membership, topics: &mut Topics) -> Left {
        let (group, index) = (
            &mut self.slab[member.group.0 as usize],
            member.index as usize,
        );
        let gone = group.members.remove(index);
        match &mut group.feed {
            Feed::One(_, cursors) => drop(cursors.list.swap_remove(index)),
            Feed::Merged(_, cursors) => drop(cursors.list.swap_remove(index)),
        }
        let moved = group.members.states.get(index).map(|state| state.conn);
        let freed = match group.members.states.is_empty() {
            true => self.free(member.group, topics),
            false => Vec::new(),
        };
        Left {
            moved,
            was_blocked: gone.blocked,
            freed,
        }
    }

    /// Frees an empty group; returns its topics.
    fn free(&mut self, id: GroupId, topics: &mut Topics) -> Vec<TopicId> {
        let Group { feed, .. } = self.slab.remove(id.0 as usize);
        let set: Vec<TopicId> = feed.topics().collect();
        match feed {
            Feed::One(topic, _) => topics[topic].own_group = None,
            Feed::Merged(listed, _) => {
                self.by_topics.remove(&*set);
                for SetTopic { topic, index } in listed {
                    let groups = &mut topics[topic].shared_groups;
                    groups.swap_remove(index as usize);
                    if let Some(&moved) = groups.get(index as usize) {
                        self.set_index(moved, topic, index);
                    }
                }
            }
        }
        set
    }

    /// Records that a group has another index in a topic's list.
    fn set_index(&mut self, GroupId(key): GroupId, topic: TopicId, index: u32) {
        if let Feed::Merged(set, _) = &mut self.slab[key as usize].feed {
            let listed = set.iter_mut().find(|listed| listed.topic == topic);
            listed
                .expect("a topic lists only groups that include it")
                .index = index;
        }
    }

    pub(super) fn state(&self, member: Membership) -> &SubscriberState {
        &self.slab[member.group.0 as usize].members.states[member.index as usize]
    }

    pub(super) fn state_mut(&mut self, member: Membership) -> &mut SubscriberState {
        &mut self.slab[member.group.0 as usize].members.states[member.index as usize]
    }

    /// The passes over a group, if it exists.
    pub(super) fn pass_mut(&mut self, GroupId(key): GroupId) -> Option<&mut Pass> {
        let group = self.slab.get_mut(key as usize)?;
        Some(&mut group.members.pass)
    }

    /// The members of a group, which must exist.
    pub(super) fn members_mut(&mut self, GroupId(key): GroupId) -> &mut Members {
        &mut self.slab[key as usize].members
    }

    /// All groups, without their cursors.
    pub(super) fn iter(&self) -> impl Iterator<Item = (GroupId, &Members)> {
        let groups = self.slab.iter();
        groups.map(|(key, group)| (GroupId(key as u32), &group.members))
    }

    /// Number of subscribers of a group.
    pub(super) fn len(&self, GroupId(key): GroupId) -> usize {
        self.slab[key as usize].members.states.len()
    }

    /// The topics of a group, in the order of their names.
    pub(super) fn topics_of(&self, GroupId(key): GroupId) -> impl Iterator<Item = TopicId> {
        self.slab[key as usize].feed.topics()
    }

    /// The connections of a group's subscribers.
    pub(super) fn conns(&self, GroupId(key): GroupId) -> impl Iterator<Item = ConnId> {
        let states = self.slab[key as usize].members.states.iter();
        states.map(|state| state.conn)
    }

    /// Whether a subscriber has pending events.
    pub(super) fn has_pending(&self, member: Membership, topics: &Topics) -> bool {
        let index = member.index as usize;
        match &self.slab[member.group.0 as usize].feed {
            Feed::One(topic, cursors) => cursors.list[index] < topics[*topic].log.end(),
            Feed::Merged(set, cursors) => cursors.list[index] < merge::end_of(set, topics),
        }
    }

    /// Pending bytes of a subscriber. An event in several logs counts in each.
    #[cfg(feature = "admin")]
    pub(super) fn lag(&self, member: Membership, topics: &Topics) -> u64 {
        let index = member.index as usize;
        match &self.slab[member.group.0 as usize].feed {
            Feed::One(topic, cursors) => topics[*topic].log.end() - cursors.list[index],
            Feed::Merged(set, cursors) => {
                let passed = cursors.list[index].passed;
                let missing = |listed: &SetTopic| {
                    let log = &topics[listed.topic].log;
                    log.end() - log.offset_after(passed)
                };
                set.iter().map(missing).sum()
            }
        }
    }

    /// Offset of the first byte of a log that a group still needs, as of its last pass; `None` if
    /// it needs no byte.
    pub(super) fn needed_from(&self, GroupId(key): GroupId, log: &EventLog) -> Option<Offset> {
        match &self.slab[key as usize].feed {
            Feed::One(_, cursors) => cursors.least(),
            Feed::Merged(_, cursors) => Some(log.offset_after(cursors.least()?.passed)),
        }
    }

    /// Begins or continues the pass over a group, until it is complete or the budget is used up.
    pub(super) fn fan_out(
        &mut self,
        GroupId(key): GroupId,
        topics: &Topics,
        writer: &mut Writer<'_, impl Outlet>,
    ) {
        let Group { members, feed } = &mut self.slab[key as usize];
        match feed {
            Feed::One(topic, cursors) => {
                let log = &topics[*topic].log;
                fan_out::publish_pages(members, log, writer);
                fan_out::fan_out(members, cursors, LogReader::new(log), writer);
            }
            Feed::Merged(set, cursors) => {
                let merge = Merge::new(set, topics, &mut self.buffers);
                fan_out::fan_out(members, cursors, merge, writer);
            }
        }
    }

    /// Writes to one subscriber: `first`, then its pending events. Returns the result, and
    /// the number of bytes that the socket took.
    pub(super) fn write_one(
        &mut self,
        member: Membership,
        first: &[u8],
        topics: &Topics,
        writer: &mut Writer<'_, impl Outlet>,
    ) -> Result<(Written, usize), DisconnectReason> {
        let Group { members, feed } = &mut self.slab[member.group.0 as usize];
        let index = member.index as usize;
        match feed {
            Feed::One(topic, cursors) => {
                let reader = LogReader::new(&topics[*topic].log);
                fan_out::write_one(members, cursors, index, reader, first, writer)
            }
            Feed::Merged(set, cursors) => {
                let merge = Merge::new(set, topics, &mut self.buffers);
                fan_out::write_one(members, cursors, index, merge, first, writer)
            }
        }
    }

    /// Announces the pending bytes of a subscriber of one namespace to the outlet, for `readers`
    /// subscribers.
    pub(super) fn publish_replay_pages(
        &self,
        member: Membership,
        readers: usize,
        topics: &Topics,
        outlet: &mut impl Outlet,
    ) {
        if let Feed::One(topic, cursors) = &self.slab[member.group.0 as usize].feed {
            let log = &topics[*topic].log;
            let from = cursors.list[member.index as usize].max(log.start());
            let mut slices = Slices::new();
            log.gather(from, self.limits.max_write, &mut slices);
            outlet.publish_pages(&slices, readers);
        }
    }

    /// Asserts that topics and groups refer to each other, and that each subscriber has a valid
    /// cursor.
    pub(super) fn check(&self, topics: &Topics) {
        for (key, Group { members, feed }) in &self.slab {
            let id = GroupId(key as u32);
            members.check();
            assert!(!members.states.is_empty(), "an empty group is freed");
            let cursors = match feed {
                Feed::One(topic, cursors) => {
                    assert_eq!(topics[*topic].own_group, Some(id));
                    cursors.check(&members.pass, |offset| offset);
                    let end = topics[*topic].log.end();
                    assert!(cursors.list.iter().all(|&cursor| cursor <= end));
                    cursors.list.len()
                }
                Feed::Merged(set, cursors) => {
                    for listed in set {
                        let groups = &topics[listed.topic].shared_groups;
                        assert_eq!(groups.get(listed.index as usize), Some(&id));
                    }
                    cursors.check(&members.pass, |cursor| cursor.passed);
                    cursors.list.len()
                }
            };
            assert_eq!(
                cursors,
                members.states.len(),
                "each subscriber has a cursor"
            );
        }
        let merged = |(_, group): &(usize, &Group)| matches!(group.feed, Feed::Merged(..));
        assert_eq!(
            self.by_topics.len(),
            self.slab.iter().filter(merged).count()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::engine::tests::Parts;

    fn parts() -> Parts {
        Parts::new(&Config::default())
    }

    #[test]
    fn subscribers_of_the_same_namespaces_are_one_group() {
        let mut parts = parts();
        let sets: [&[&str]; 6] = [
            &["/a"],
            &["/a"],
            &["/a", "/b"],
            &["/a", "/b"],
            &["/b"],
            &["/a", "/b", "/c"],
        ];
        let joined = (0..).zip(sets).map(|(conn, set)| parts.join(conn, set));
        let members: Vec<_> = joined.collect();
        for (member, set) in members.iter().zip(sets) {
            for (other, other_set) in members.iter().zip(sets) {
                assert_eq!(member.group == other.group, set == other_set);
            }
            let names = parts.groups.topics_of(member.group);
            let names: Vec<_> = names
                .map(|id| parts.topics[id].namespace.as_str())
                .collect();
            assert_eq!(names, set);
        }
        assert_eq!(parts.groups.len(members[0].group), 2);
        parts.check();
    }

    #[test]
    fn the_last_subscriber_takes_the_index_of_one_that_leaves() {
        for (leaving, moved, left) in [
            (0, Some(2), [2, 1]),
            (1, Some(2), [0, 2]),
            (2, None, [0, 1]),
        ] {
            for set in [&["/a"][..], &["/a", "/b"]] {
                let mut parts = parts();
                let members = [0, 1, 2].map(|conn| parts.join(conn, set));
                let gone = parts.groups.leave(members[leaving], &mut parts.topics);
                assert_eq!(gone.moved.map(ConnId::index), moved);
                assert!(gone.freed.is_empty());
                assert!(
                    parts
                        .groups
                        .conns(members[0].group)
                        .map(ConnId::index)
                        .eq(left)
                );
                parts.check();
            }
        }
    }

    #[test]
    fn a_group_is_freed_with_its_last_subscriber() {
        let sets = [&["/a"][..], &["/a", "/b"], &["/b", "/c"], &["/a", "/c"]];
        for first in 0..sets.len() {
            let mut parts = parts();
            let mut members: Vec<_> = (0..)
                .zip(sets)
                .map(|(conn, set)| parts.join(conn, set))
                .collect();
            members.rotate_left(first);
            for member in members {
                let topics: Vec<_> = parts.groups.topics_of(member.group).collect();
                let gone = parts.groups.leave(member, &mut parts.topics);
                assert_eq!((gone.moved, gone.freed), (None, topics));
                assert!(parts.groups.pass_mut(member.group).is_none());
                parts.check();
            }
            assert!(
                parts
                    .topics
                    .iter()
                    .all(|(_, topic)| !topic.has_subscribers())
            );
        }
    }

    #[test]
    fn events_of_its_namespaces_are_pending_from_the_time_a_subscriber_joins() {
        for (set, has_pending, lag) in [
            (&["/a"][..], true, 7),
            (&["/b"], true, 8),
            (&["/c"], false, 0),
            (&["/a", "/b"], true, 15),
            (&["/c", "/d"], false, 0),
        ] {
            let mut parts = parts();
            parts.publish(&["/a", "/b", "/c"], "before", 0);
            let member = parts.join(0, set);
            assert!(!parts.groups.has_pending(member, &parts.topics));
            parts.publish(&["/a", "/b"], "ab", 0);
            parts.publish(&["/a"], "alone", 0);
            parts.publish(&["/b"], "longer", 0);
            assert_eq!(parts.groups.has_pending(member, &parts.topics), has_pending);
            #[cfg(feature = "admin")]
            assert_eq!(parts.groups.lag(member, &parts.topics), lag);
            let topics: Vec<_> = parts.groups.topics_of(member.group).collect();
            let needed = |log: &EventLog| {
                let from = parts.groups.needed_from(member.group, log);
                log.end() - from.expect("the group has a subscriber")
            };
            let logs = topics.iter().map(|&id| &parts.topics[id].log);
            assert_eq!(logs.map(needed).sum::<u64>(), lag, "{set:?}");
            parts.check();
        }
    }
}
