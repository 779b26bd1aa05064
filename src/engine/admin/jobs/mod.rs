//! Answers over all connections or all namespaces, made in slices: one in each call of
//! [`Engine::flush`], so that events do not wait for the whole.
//!
//! A connection or namespace that begins or ends meanwhile may be in the answer or not. Every other
//! one is in it once.

mod connections;
mod namespaces;

use std::collections::VecDeque;

use crate::admin::endpoint::Endpoint;
use crate::admin::metrics::Snapshot;
use crate::http::Reject;
use crate::http::request::RequestHead;
use crate::http::response::Response;

use super::super::connection::Phase;
use super::super::ids::TopicId;
use super::super::topics::Topic;
use super::super::{ConnId, Engine};
use super::guarded;
use connections::{ConnectionRows, ConnectionScan};
use namespaces::{NamespaceChoice, NamespaceScan};

/// The limit of steps in one slice: a few tenths of a millisecond.
const MAX_STEPS: usize = 1_000;
/// Bytes of an answer after which a slice ends.
const SLICE_BYTES: usize = 128 << 10;

/// The answers that are being made, the current one first.
#[derive(Debug, Default)]
pub(super) struct Jobs(VecDeque<Job>);

/// An answer that is being made for a connection.
#[derive(Debug)]
struct Job {
    key: ConnId,
    id: u64,
    head: RequestHead,
    work: Work,
}

/// The next step of an answer.
#[derive(Debug)]
enum Work {
    ScanConnections(ConnectionScan),
    WriteConnections(ConnectionRows),
    ScanNamespaces(NamespaceScan),
    ChooseNamespaces(NamespaceChoice),
    CountSubscribers(SubscriberCounts),
    Done(Response),
}

/// The subscribers of each series of the metrics, counted up to a topic.
#[derive(Debug)]
struct SubscriberCounts {
    counts: Vec<usize>,
    next: usize,
}

/// The subscribers of a topic by group: the depth from which on they are counted with this topic,
/// and how many they are. A group of several topics has an earlier one for the ancestors that the
/// two share, so that it is counted once in each namespace.
struct Subscribers(Vec<(usize, usize)>);

impl Subscribers {
    /// Those that count with this topic in its ancestor with `depth` segments, or in itself.
    fn at_depth(&self, depth: usize) -> usize {
        let counted = self.0.iter().filter(|(from, _)| *from <= depth);
        counted.map(|(_, count)| count).sum()
    }
}

impl Engine {
    /// The first step of an endpoint's answer.
    fn work_for(&self, endpoint: Endpoint, head: &RequestHead) -> Result<Work, Reject> {
        Ok(match endpoint {
            Endpoint::Status => Work::ScanConnections(ConnectionScan::new(head.query())?),
            Endpoint::Namespaces => {
                let limits = self.config.namespace_limits();
                Work::ScanNamespaces(NamespaceScan::new(head.query(), &limits)?)
            }
            _ => {
                let admin = self.meters.admin.as_ref();
                let counts = admin.map(|admin| admin.series.subscribers());
                Work::CountSubscribers(SubscriberCounts {
                    counts: counts.unwrap_or_default(),
                    next: 0,
                })
            }
        })
    }

    /// Begins to make an endpoint's answer. Until it is made, its connection is in the phase of a
    /// response.
    ///
    /// # Errors
    /// 400 for an invalid query.
    pub(super) fn begin_job(
        &mut self,
        key: ConnId,
        head: &RequestHead,
        endpoint: Endpoint,
    ) -> Result<(), Reject> {
        let work = self.work_for(endpoint, head)?;
        let reader = self.connections[key].take_reader();
        self.connections
            .set_phase(key, Phase::Responding { reader });
        if let Some(admin) = &mut self.meters.admin {
            admin.jobs.0.push_back(Job {
                key,
                id: self.connections[key].id,
                head: head.clone(),
                work,
            });
        }
        Ok(())
    }

    /// Does a slice of the answer that has waited longest. Returns whether there was one.
    pub(in super::super) fn work_on_job(&mut self) -> bool {
        let admin = self.meters.admin.as_mut();
        let Some(mut job) = admin.and_then(|admin| admin.jobs.0.pop_front()) else {
            return false;
        };
        let connection = self.connections.with_id(job.key, job.id);
        if connection.is_none_or(|connection| connection.ended.is_some()) {
            return true;
        }
        job.work = match job.work {
            Work::ScanConnections(scan) => self.scan_connections(scan),
            Work::WriteConnections(rows) => self.write_connections(rows),
            Work::ScanNamespaces(scan) => self.scan_namespaces(scan),
            Work::ChooseNamespaces(choice) => self.choose_namespaces(choice),
            Work::CountSubscribers(counts) => self.count_subscribers(counts, &job.head),
            done @ Work::Done(_) => done,
        };
        if let Work::Done(response) = job.work {
            self.respond(job.key, &job.head, &guarded(response));
        } else if let Some(admin) = &mut self.meters.admin {
            admin.jobs.0.push_front(job);
        }
        true
    }

    /// Walks over topics from a key on, up to the end of a slice. `each` gets a topic with its
    /// subscribers and returns its number of steps. Returns whether all topics were visited.
    fn for_topics_from(
        &self,
        next: &mut usize,
        mut each: impl FnMut(&Topic, &Subscribers) -> usize,
    ) -> bool {
        let mut steps = 0;
        while let Some((after, topic)) = self.topics.next_from(*next) {
            if steps >= MAX_STEPS {
                return false;
            }
            *next = after;
            let (subscribers, taken) = self.subscribers_of(topic);
            steps += taken + each(&self.topics[topic], &subscribers);
        }
        true
    }

    /// The subscribers of a topic, and the number of steps to find them.
    fn subscribers_of(&self, topic: TopicId) -> (Subscribers, usize) {
        let namespace = &self.topics[topic].namespace;
        let mut steps = 1;
        let from_depth = self.topics[topic].groups().map(|group| {
            let earlier = self.groups.topics_of(group).take_while(|&id| id != topic);
            let shared = earlier.map(|id| {
                steps += 1;
                let pairs = self.topics[id]
                    .namespace
                    .segments()
                    .zip(namespace.segments());
                1 + pairs.take_while(|(a, b)| a == b).count()
            });
            let depth = shared.max().unwrap_or_default();
            steps += 1;
            (depth, self.groups.len(group))
        });
        let subscribers = Subscribers(from_depth.collect());
        (subscribers, steps)
    }

    fn count_subscribers(&self, mut work: SubscriberCounts, head: &RequestHead) -> Work {
        let Some(admin) = &self.meters.admin else {
            return Work::Done(Reject::not_found().into());
        };
        let SubscriberCounts { counts, next } = &mut work;
        let all = self.for_topics_from(next, |topic, subscribers| {
            // A series is named by the first segment.
            let count = subscribers.at_depth(1);
            admin
                .series
                .add_subscribers(&topic.namespace, count, counts);
            1
        });
        if !all {
            return Work::CountSubscribers(work);
        }
        let snapshot = Snapshot {
            status: self.counters(),
            started_ms: admin.started_unix_ms,
            queue_bytes: admin.queued_bytes,
            retained_limit: self.config.memory_limit(),
            longest_turn_us: admin.longest_turn_us(),
            measures: admin.measures,
            write_events: self.schedule.results.write_sizes,
            namespaces: admin.series.counts(counts),
        };
        Work::Done(snapshot.response(head))
    }
}
