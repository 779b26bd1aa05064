//! Answers over all connections or namespaces, made in slices: one in each call of [`Engine::flush`], so that no event waits for the whole.
//!
//! What comes or goes meanwhile may be in the answer or not; everything else is in it, once.

use std::collections::{BTreeMap, btree_map};
use std::fmt;

use serde_json::value::RawValue;

use crate::admin::endpoint::Endpoint;
use crate::admin::json::{
    ConnectionJson, NamespaceJson, NamespacesJson, PageJson, StatusPageJson, json, raw_json,
};
use crate::admin::metrics::Snapshot;
use crate::admin::paging::{ListQuery, Page, SortKey};
use crate::http::Reject;
use crate::http::request::{RequestHead, RequestReader, decimal};
use crate::http::response::Response;
use crate::http::route::{decode_form, query_pairs};
use crate::namespace::Namespace;

use super::super::connection::{Connection, Phase, Stream};
use super::super::topics::Topic;
use super::super::{ConnId, Engine};
use super::guarded;

/// Steps of a job in one slice: a few tenths of a millisecond.
const STEPS: usize = 1_000;
/// Bytes of an answer that are written in one slice.
const WRITTEN: usize = 128 << 10;

/// An answer that is being made for a connection.
pub(super) struct Job {
    key: ConnId,
    id: u64,
    head: RequestHead,
    work: Work,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// How far an answer is.
enum Work {
    Connections(Connections),
    Rows(Rows),
    Topics(Topics),
    Namespaces(Namespaces),
    Metrics(Metrics),
    Done(Response),
}

/// Looking at connections, from a key on.
struct Connections {
    query: ListQuery<ConnectionSort>,
    page: Page<ConnId>,
    next: usize,
    total: usize,
}

/// Writing the connections that were found, the last one first.
struct Rows {
    rows: Vec<(u64, ConnId)>,
    written: Vec<Box<RawValue>>,
    page: PageJson,
}

/// Looking at topics, from a key on.
struct Topics {
    query: ListQuery<NamespaceSort>,
    /// Only what is right below it is asked for, and itself.
    under: Option<(Namespace, Row)>,
    rows: BTreeMap<Box<str>, Row>,
    next: usize,
}

/// Choosing among the namespaces that were found.
struct Namespaces {
    topics: Topics,
    page: Page<(Box<str>, Row)>,
    rest: btree_map::IntoIter<Box<str>, Row>,
    total: usize,
}

/// Counting the subscribers of topics, from a key on.
struct Metrics {
    subscribers: Vec<usize>,
    next: usize,
}

#[derive(Debug, Clone, Copy)]
enum ConnectionSort {
    Id,
    Namespace,
    ClientIp,
    UserAgent,
    Events,
    Bytes,
    Lag,
    LastWrite,
}

const CONNECTION_SORTS: [(&str, ConnectionSort); 9] = [
    ("id", ConnectionSort::Id),
    ("namespace", ConnectionSort::Namespace),
    ("client_ip", ConnectionSort::ClientIp),
    ("user_agent", ConnectionSort::UserAgent),
    // They are numbered in the order they came.
    ("created_at", ConnectionSort::Id),
    ("msgs_sent", ConnectionSort::Events),
    ("bytes_sent", ConnectionSort::Bytes),
    ("lag", ConnectionSort::Lag),
    ("last_write", ConnectionSort::LastWrite),
];

#[derive(Debug, Clone, Copy)]
enum NamespaceSort {
    Namespace,
    Subscribers,
    Below,
    Events,
    RetainedBytes,
    LastEvent,
}

const NAMESPACE_SORTS: [(&str, NamespaceSort); 6] = [
    ("namespace", NamespaceSort::Namespace),
    ("subscribers", NamespaceSort::Subscribers),
    ("subscribers_below", NamespaceSort::Below),
    ("events", NamespaceSort::Events),
    ("retained_bytes", NamespaceSort::RetainedBytes),
    ("last_event_at", NamespaceSort::LastEvent),
];

/// What is known of a namespace in use, or above one.
#[derive(Debug, Clone, Copy, Default)]
struct Row {
    subscribers: usize,
    /// Its own and those of the ones below it.
    below: usize,
    events: u64,
    retained_events: usize,
    retained_bytes: u64,
    /// In milliseconds of the engine's time.
    last_at: Option<i64>,
}

impl Row {
    fn sort_key(&self, path: &str, sort: NamespaceSort) -> SortKey {
        SortKey::Number(match sort {
            NamespaceSort::Namespace => return SortKey::Text(path.into()),
            NamespaceSort::Subscribers => self.subscribers as u64,
            NamespaceSort::Below => self.below as u64,
            NamespaceSort::Events => self.events,
            NamespaceSort::RetainedBytes => self.retained_bytes,
            // In the order of the times, with those that have none first.
            NamespaceSort::LastEvent => self.last_at.map_or(0, |at| at.cast_unsigned() ^ (1 << 63)),
        })
    }

    /// Adds what a topic at this namespace has, or (`own` false) below it.
    fn add(&mut self, topic: &Topic, subscribers: usize, own: bool) {
        self.below += subscribers;
        if own {
            self.subscribers = subscribers;
            self.events = topic.log.appended();
            self.retained_events = topic.log.len();
            self.retained_bytes = topic.log.retained();
            self.last_at = topic.meter.last_event_ms;
        }
    }
}

impl Topics {
    /// Adds what a topic has to the rows of itself and of those above it; returns how many steps that took.
    fn add(&mut self, topic: &Topic, subscribers: usize) -> usize {
        let namespace = &topic.namespace;
        let Some((under, at)) = &mut self.under else {
            let path = namespace.as_str();
            let mut steps = 0;
            for prefix in prefixes(path) {
                row(&mut self.rows, prefix).add(topic, subscribers, prefix == path);
                steps += 1;
            }
            return steps;
        };
        if under.contains(namespace) {
            at.add(topic, subscribers, under == namespace);
            if under != namespace {
                let child = namespace.by_ref().ancestor(under.segments().count() + 1);
                row(&mut self.rows, child.as_str()).add(topic, subscribers, child == *namespace);
            }
        }
        1
    }
}

fn row<'a>(rows: &'a mut BTreeMap<Box<str>, Row>, path: &str) -> &'a mut Row {
    // Looked up first, for an entry would cost a copy of the path even where it exists.
    if !rows.contains_key(path) {
        rows.insert(path.into(), Row::default());
    }
    rows.get_mut(path)
        .expect("it was there or was inserted just now")
}

/// A path and those above it, from the root down.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    let below = path[1..].match_indices('/').map(|(at, _)| &path[..=at]);
    let whole = (path != "/").then_some(path);
    std::iter::once("/").chain(below).chain(whole)
}

impl Engine {
    /// The work that an endpoint's answer takes.
    pub(super) fn job(
        &self,
        endpoint: Endpoint,
        key: ConnId,
        head: &RequestHead,
    ) -> Result<Job, Reject> {
        let work = match endpoint {
            Endpoint::Status => {
                let query = ListQuery::parse(head.query(), &CONNECTION_SORTS)?;
                let page = query.page();
                Work::Connections(Connections {
                    query,
                    page,
                    next: 0,
                    total: 0,
                })
            }
            Endpoint::Namespaces => Work::Topics(Topics {
                query: ListQuery::parse(head.query(), &NAMESPACE_SORTS)?,
                under: self
                    .under(head.query())?
                    .map(|under| (under, Row::default())),
                rows: BTreeMap::new(),
                next: 0,
            }),
            _ => {
                let series = self
                    .meters
                    .admin
                    .as_ref()
                    .map(|admin| admin.series.subscribers());
                Work::Metrics(Metrics {
                    subscribers: series.unwrap_or_default(),
                    next: 0,
                })
            }
        };
        Ok(Job {
            key,
            id: self.connections[key].id,
            head: head.clone(),
            work,
        })
    }

    fn under(&self, query: &str) -> Result<Option<Namespace>, Reject> {
        let limits = &self.config.namespace_limits();
        for pair in query_pairs(query) {
            let (name, value) = pair?;
            if name == "under" {
                let namespace = Namespace::parse_within(&decode_form(value)?, limits);
                return namespace
                    .map(Some)
                    .map_err(|error| Reject::bad(error.to_string()));
            }
        }
        Ok(None)
    }

    /// Begins with the work for an answer; until it is there, its connection is one that is being answered.
    pub(super) fn begin_job(&mut self, job: Job, reader: Box<RequestReader>) {
        self.connections[job.key].phase = Phase::Responding { reader };
        if let Some(admin) = &mut self.meters.admin {
            admin.jobs.push_back(job);
        }
    }

    /// Does a slice of the work for the answer that has waited longest; returns whether there is more.
    pub(in super::super) fn work_on_report(&mut self) -> bool {
        let Some(mut job) = self
            .meters
            .admin
            .as_mut()
            .and_then(|admin| admin.jobs.pop_front())
        else {
            return false;
        };
        let waits = |connection: &Connection| connection.id == job.id && connection.ended.is_none();
        if !self.connections.get(job.key).is_some_and(waits) {
            return true;
        }
        job.work = match job.work {
            Work::Connections(work) => self.look_at_connections(work),
            Work::Rows(work) => self.write_rows(work),
            Work::Topics(work) => self.look_at_topics(work),
            Work::Namespaces(work) => self.choose_namespaces(work),
            Work::Metrics(work) => self.count_subscribers(work, &job.head),
            done @ Work::Done(_) => done,
        };
        if let Work::Done(answer) = job.work {
            if let Phase::Responding { reader } = &mut self.connections[job.key].phase {
                let reader = std::mem::take(reader);
                self.respond(job.key, reader, &job.head, &guarded(answer));
            }
        } else if let Some(admin) = &mut self.meters.admin {
            admin.jobs.push_front(job);
        }
        true
    }

    fn look_at_connections(&self, mut work: Connections) -> Work {
        let mut steps = 0;
        while let Some((next, key)) = self.connections.next_from(work.next) {
            if steps >= STEPS {
                return Work::Connections(work);
            }
            work.next = next;
            steps += 1;
            let Some((connection, stream)) = self.listed(key) else {
                continue;
            };
            work.total += 1;
            steps += self.namespaces_of(stream.membership).count();
            if self.matches(&work.query, connection, stream) {
                let sort_key = self.sort_key(work.query.sort, connection, stream);
                work.page.offer(sort_key, connection.id, key);
            }
        }
        Work::Rows(Rows {
            page: work.query.page_json(work.total, work.page.matched),
            rows: work.page.into_rows(),
            written: Vec::new(),
        })
    }

    /// A connection that is in the list: an event stream that goes on.
    fn listed(&self, key: ConnId) -> Option<(&Connection, &Stream)> {
        let connection = self.connections.get(key)?;
        let stream = connection.stream()?;
        connection.ended.is_none().then_some((connection, stream))
    }

    fn matches(
        &self,
        query: &ListQuery<ConnectionSort>,
        connection: &Connection,
        stream: &Stream,
    ) -> bool {
        if query.filter.is_empty() {
            return true;
        }
        let (id, address) = (connection.id.to_string(), self.address_of(connection));
        let own = [id.as_str(), &address, stream.client.agent()];
        query.matches(
            own.into_iter()
                .chain(self.namespaces_of(stream.membership).map(Namespace::as_str)),
        )
    }

    fn sort_key(&self, sort: ConnectionSort, connection: &Connection, stream: &Stream) -> SortKey {
        let state = self.groups.state(stream.membership);
        SortKey::Number(match sort {
            ConnectionSort::Id => connection.id,
            ConnectionSort::Namespace => {
                let first = self.namespaces_of(stream.membership).next();
                return SortKey::Text(first.map_or("", Namespace::as_str).into());
            }
            ConnectionSort::ClientIp => return SortKey::Text(self.address_of(connection).into()),
            ConnectionSort::UserAgent => return SortKey::Text(stream.client.agent().into()),
            ConnectionSort::Events => state.events,
            ConnectionSort::Bytes => connection.bytes + state.bytes,
            ConnectionSort::Lag => self.groups.lag(stream.membership, &self.topics),
            ConnectionSort::LastWrite => self.last_write(connection, stream),
        })
    }

    fn address_of(&self, connection: &Connection) -> String {
        let peer = connection.shown_peer(self.config.mask_addresses);
        let peer = peer.map(|peer| peer.ip().to_canonical());
        peer.map_or_else(String::new, |address| address.to_string())
    }

    /// Milliseconds since a stream was last given something.
    fn last_write(&self, connection: &Connection, stream: &Stream) -> u64 {
        let at = self
            .groups
            .state(stream.membership)
            .active_ms
            .max(connection.active_ms);
        self.clock.ms().saturating_sub(at)
    }

    fn write_rows(&self, mut work: Rows) -> Work {
        let mut bytes = 0;
        while let Some((id, key)) = work.rows.pop() {
            // A connection that ended since is left out. Its key may belong to another one now.
            let listed = self.listed(key);
            if let Some((connection, stream)) = listed.filter(|(found, _)| found.id == id) {
                let row = raw_json(&self.connection_json(connection, stream));
                bytes += row.get().len();
                work.written.push(row);
            }
            if bytes > WRITTEN {
                return Work::Rows(work);
            }
        }
        let Some(status) = self.status_json() else {
            return Work::Done(Reject::not_found().into());
        };
        let answer = StatusPageJson {
            status,
            connections: work.written,
            page: work.page,
        };
        Work::Done(Response::json(200, json(&answer)))
    }

    fn connection_json<'a>(
        &'a self,
        connection: &Connection,
        stream: &'a Stream,
    ) -> ConnectionJson<'a> {
        let state = self.groups.state(stream.membership);
        let namespaces: Vec<&str> = self
            .namespaces_of(stream.membership)
            .map(Namespace::as_str)
            .collect();
        ConnectionJson {
            request_path: stream.client.path(self.namespaces_of(stream.membership)),
            namespace: namespaces.first().copied().unwrap_or_default(),
            created_at: self.unix_ms(connection.since_ms as i64) / 1000,
            client_ip: self.address_of(connection),
            user_agent: stream.client.agent(),
            msgs_sent: state.events,
            id: connection.id,
            namespaces,
            bytes_sent: connection.bytes + state.bytes,
            lag: self.groups.lag(stream.membership, &self.topics),
            last_write_ms: self.last_write(connection, stream),
            connected_ms: self.clock.ms() - connection.since_ms,
        }
    }

    /// The answer for one connection.
    pub(super) fn connection(&self, query: &str) -> Response {
        let pairs = query_pairs(query).filter_map(Result::ok);
        let id = pairs.filter(|(name, _)| name == "id").last();
        let Some(id) = id.and_then(|(_, id)| decimal(id.as_bytes())) else {
            return Response::error(400, "id must be a number");
        };
        let mut keys = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.id == id);
        match keys.next().and_then(|(key, _)| self.listed(key as ConnId)) {
            Some((connection, stream)) => {
                Response::json(200, json(&self.connection_json(connection, stream)))
            }
            None => Response::error(404, &format!("no event stream has the id {id}")),
        }
    }

    /// Walks over topics from a key on, a slice of them; returns whether that was all.
    fn topics_from(&self, next: &mut usize, mut each: impl FnMut(&Topic, usize) -> usize) -> bool {
        let mut steps = 0;
        while let Some((after, topic)) = self.topics.next_from(*next) {
            if steps >= STEPS {
                return false;
            }
            *next = after;
            let topic = &self.topics[topic];
            let subscribers = topic.groups().map(|group| self.groups.len(group)).sum();
            steps += 1 + topic.groups().count() + each(topic, subscribers);
        }
        true
    }

    fn look_at_topics(&self, mut work: Topics) -> Work {
        let mut next = work.next;
        let all = self.topics_from(&mut next, |topic, subscribers| work.add(topic, subscribers));
        work.next = next;
        if !all {
            return Work::Topics(work);
        }
        let rows = std::mem::take(&mut work.rows);
        Work::Namespaces(Namespaces {
            page: work.query.page(),
            total: rows.len(),
            rest: rows.into_iter(),
            topics: work,
        })
    }

    fn choose_namespaces(&self, mut work: Namespaces) -> Work {
        let query = &work.topics.query;
        for _ in 0..STEPS {
            let Some((path, row)) = work.rest.next() else {
                return Work::Done(self.namespaces_answer(work));
            };
            if query.matches([&*path]) {
                // They come in order, so how many are left tells one from the other.
                let number = (work.total - work.rest.len()) as u64;
                work.page
                    .offer(row.sort_key(&path, query.sort), number, (path, row));
            }
        }
        Work::Namespaces(work)
    }

    fn namespaces_answer(&self, work: Namespaces) -> Response {
        let topics = &work.topics;
        let page = topics.query.page_json(work.total, work.page.matched);
        let at = topics.under.as_ref();
        let rows = work.page.into_rows();
        let namespaces = rows
            .iter()
            .rev()
            .map(|(_, (path, row))| self.namespace_json(path, row));
        let answer = NamespacesJson {
            page,
            at: at.map(|(under, row)| self.namespace_json(under.as_str(), row)),
            namespaces: namespaces.collect(),
        };
        Response::json(200, json(&answer))
    }

    fn namespace_json<'a>(&self, path: &'a str, row: &Row) -> NamespaceJson<'a> {
        let namespace = Namespace::parse_within(path, &self.config.namespace_limits());
        NamespaceJson {
            namespace: path,
            subscribers: row.subscribers,
            subscribers_below: row.below,
            events: row.events,
            retained_events: row.retained_events,
            retained_bytes: row.retained_bytes,
            last_event_at: row.last_at.map(|at| self.unix_ms(at)),
            children: namespace.map_or(0, |namespace| self.topics.children(&namespace)),
        }
    }

    fn count_subscribers(&self, mut work: Metrics, head: &RequestHead) -> Work {
        let Some(admin) = &self.meters.admin else {
            return Work::Done(Reject::not_found().into());
        };
        let Metrics { subscribers, next } = &mut work;
        let all = self.topics_from(next, |topic, count| {
            admin
                .series
                .add_subscribers(&topic.namespace, count, subscribers);
            1
        });
        if !all {
            return Work::Metrics(work);
        }
        let snapshot = Snapshot {
            status: self.counters(),
            started_ms: admin.started_unix_ms,
            queue_bytes: admin.queued.1,
            retained_limit: self.config.memory_limit(),
            longest_turn_us: admin.longest_turn_us(),
            measures: admin.measures,
            write_events: self.schedule.report.write_sizes,
            namespaces: admin.series.counts(subscribers),
        };
        Work::Done(snapshot.response(head))
    }
}
