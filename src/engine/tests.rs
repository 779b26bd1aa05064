//! Parts of an engine with events and subscribers, for the unit tests of the parts.

use crate::config::Config;
use crate::event_stream::frame::BytesRef;
use crate::log::{Offset, Seq, Slices};
use crate::namespace::Namespace;
use crate::status::DisconnectReason;

use super::clock::Clock;
use super::event_ids::EventIds;
use super::fan_out::{Limits, PassState, WriteResults, Writer};
use super::groups::{Groups, Membership, NewSubscriber};
use super::ids::{GroupId, TopicId};
use super::retention::Retention;
use super::topics::{Topic, Topics};
use super::{ConnId, Outlet};

pub(super) fn name(path: &str) -> Namespace {
    Namespace::parse(path).unwrap()
}

/// The parts that hold events and subscribers.
pub(super) struct Parts {
    pub(super) topics: Topics,
    pub(super) groups: Groups,
    pub(super) retention: Retention,
    pub(super) ids: EventIds,
}

impl Parts {
    pub(super) fn new(config: &Config) -> Self {
        let limits = Limits {
            max_write: 100,
            max_lag: 1000,
        };
        Self {
            topics: Topics::new(config.max_namespaces),
            groups: Groups::new(limits),
            retention: Retention::new(config),
            ids: EventIds::new(7),
        }
    }

    /// The topics of namespaces. Makes those that are not in use.
    pub(super) fn topics(&mut self, paths: &[&str]) -> Vec<TopicId> {
        let Self {
            topics, retention, ..
        } = self;
        let mut topic =
            |path: &&str| topics.find_or_insert(&name(path), |of| retention.new_log(of));
        paths.iter().map(|path| topic(path).unwrap()).collect()
    }

    /// Publishes an event to the logs of these namespaces, not to those above them.
    pub(super) fn publish(&mut self, paths: &[&str], text: &str, published_ms: i64) -> Seq {
        let seq = self.ids.next();
        self.retention.record_age(seq, published_ms);
        for id in self.topics(paths) {
            let Topic { log, usage, .. } = &mut self.topics[id];
            log.append(seq, &[], BytesRef::Slice(text.as_bytes()));
            usage.record(seq, false, paths.len() > 1);
            let needed = match self.topics[id].has_subscribers() {
                true => Offset::ZERO,
                false => Offset::MAX,
            };
            self.retention
                .drop_unneeded(id, needed, &mut self.topics, &mut self.ids);
        }
        seq
    }

    /// Adds a subscriber after the last event.
    pub(super) fn join(&mut self, conn: usize, paths: &[&str]) -> Membership {
        let set = self.topics(paths);
        let new = NewSubscriber {
            conn: ConnId::from_index(conn),
            after: self.ids.seq(),
            known_tick: 0,
            writable: true,
            now_ms: 0,
        };
        self.groups.join(set, new, &mut self.topics)
    }

    /// A whole pass over a group.
    pub(super) fn fan_out(&mut self, group: GroupId, sockets: &mut Sockets) {
        self.groups.members_mut(group).pass.state = PassState::Due;
        let mut writer = Writer {
            outlet: sockets,
            clock: Clock::at_ms(0),
            limits: self.groups.limits(),
            budget: usize::MAX,
            results: &mut WriteResults::default(),
        };
        self.groups.fan_out(group, &self.topics, &mut writer);
        self.groups.members_mut(group).pass.state = PassState::Clean;
    }

    /// The numbers of the events that a namespace retains.
    pub(super) fn retained(&self, path: &str) -> Vec<u64> {
        let topic = self.topics.find(&name(path)).map(|id| &self.topics[id]);
        let events = topic.into_iter().flat_map(|topic| topic.log.positions());
        events.map(|event| event.seq.get()).collect()
    }

    pub(super) fn check(&self) {
        self.topics.check();
        self.groups.check(&self.topics);
        self.retention.check(&self.topics);
        self.ids.check();
    }
}

/// Sockets by connection, each with room for a number of bytes.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    pub(super) room: Vec<usize>,
    /// What each took.
    pub(super) taken: Vec<String>,
}

impl Sockets {
    pub(super) fn new(room: &[usize]) -> Self {
        Self {
            room: room.to_vec(),
            taken: vec![String::new(); room.len()],
        }
    }
}

impl Outlet for Sockets {
    fn write(&mut self, conn: ConnId, slices: &Slices<'_>) -> Result<usize, DisconnectReason> {
        let conn = conn.index();
        let bytes = slices.to_vec();
        let count = bytes.len().min(self.room[conn]);
        self.room[conn] -= count;
        self.taken[conn].push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        Ok(count)
    }

    fn publish_pages(&mut self, _: &Slices<'_>, _: usize) {}

    fn finish(&mut self, _: ConnId) {}
}
