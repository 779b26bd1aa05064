//! The engine: the one owner of all mutable state but sockets and the clock.
//!
//! It does no I/O. A driver tells it what happened and the time at which it did, and takes from it what is to be done: the event loop of
//! [`Server`](crate::Server) with sockets, the simulator with scripted ones. Its verbs, in the order of a turn:
//!
//! - [`accept`](Engine::accept), [`receive`](Engine::receive), [`writable`](Engine::writable), [`hang_up`](Engine::hang_up): what sockets report;
//! - [`publish`](Engine::publish) while [`can_append`](Engine::can_append) says so, then [`end_intake`](Engine::end_intake);
//! - [`tick`](Engine::tick): what falls due;
//! - [`flush`](Engine::flush): gives bytes to an [`Outlet`];
//! - [`reap`](Engine::reap): frees what ended in this turn. Nothing is freed before.

#[cfg(feature = "admin")]
mod admin;
mod connection;
mod flush;
mod groups;
mod merge;
mod random;
mod replay;
mod requests;
mod retention;
mod storing;
mod timers;
mod topic;
#[cfg(feature = "publish")]
mod upload;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use core::net::SocketAddr;
use slab::Slab;

use crate::cidr::masked;
use crate::config::Access;
use crate::config::Config;
use crate::event_log::Slices;
use crate::event_stream::frame::{BytesRef, Frame, FrameRef, TargetRef, own_id};
use crate::http::request::RequestHead;
use crate::http::response::Response;
use crate::namespace::{Namespace, NamespaceRef, Namespaces};
use crate::status::{ConnectionInfo, DisconnectReason, State, Status};
use crate::trie::Trie;

#[cfg(feature = "admin")]
pub use admin::AdminSetup;
use connection::{ClosingNotice, Connection, Membership, Phase, Stream};
pub use flush::SLICE;
use groups::{GroupId, Limits, Pass, SubscriberState, Turn};
use merge::{Scratch, TopicSet};
use random::Random;
use replay::{EventIds, Resume, Start};
use retention::Retention;
use storing::{Origin, Storing};
use topic::Topic;

/// The key of a connection: good until it is reaped, then used again.
pub type ConnId = u32;

/// Connections accepted beyond `max_connections`, so that they can be told: each gets one answer and is closed.
pub const SURPLUS: usize = 128;

/// How long events may gather while publishers keep on, before all that lack them are written to: so that a write is worth its call.
const BATCH_MS: u64 = 20;

/// Where the engine's bytes go.
pub trait Outlet {
    /// Gives bytes to a connection; returns how many it took. Fewer than all means that it takes no more until
    /// [`Engine::writable`] is called.
    ///
    /// # Errors
    /// Why the connection is over.
    fn write(&mut self, conn: ConnId, slices: &Slices<'_>) -> Result<usize, DisconnectReason>;

    /// Announces bytes of a log that `readers` subscribers will be given, in one write or several,
    /// now or later, so that the outlet can prepare memory that all their sockets usage.
    fn publish_pages(&mut self, slices: &Slices<'_>, readers: usize);

    /// Tells the other side that nothing more comes, while its bytes are still read.
    fn finish(&mut self, conn: ConnId);
}

/// Whether the engine wants more bytes of a connection now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadInterest {
    /// Go on reading.
    More,
    /// Leave them in the socket until [`Engine::take_readable_again`] names the connection.
    Pause,
}

/// What became of a published event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Its number in the total order.
    pub seq: u64,
    /// How many subscribers it goes to.
    pub subscribers: usize,
}

/// What a [`route`](crate::Builder::route) hook makes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Routing {
    /// What the server does by itself.
    Default,
    /// An event stream of these namespaces, overlaps reduced to the ancestor.
    Subscribe(Vec<Namespace>),
    /// A response of the application's own. A body that comes with the request is not read: the connection ends after the response.
    Respond(Response),
    /// An error response with this status, 400 to 599, and message.
    Refuse(u16, String),
}

/// The application's say in what a request is for.
pub(crate) type RouteHook = Box<dyn FnMut(&RequestHead) -> Routing + Send>;

/// All namespaces that may be are in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamespacesFull;

/// The broadcast engine. See the module's own words.
pub struct Engine {
    config: Config,
    access: Access,
    route: Option<RouteHook>,
    limits: Limits,
    /// What events may cost in one call of `flush`, in bytes that could have been copied in that time.
    slice: usize,
    max_connections: usize,
    connections: Slab<Connection>,
    topics: Slab<Topic>,
    namespaces: Trie<u32>,
    topic_sets: Slab<TopicSet>,
    /// The topic_set of these topics, which are in the order of their names.
    topic_set_of: HashMap<Box<[u32]>, u32>,
    /// Audiences to which something came since their last pass, with when theirs is due at the latest; in the order of these times, unless
    /// passes are to be `coalesce` apart. Those that had their pass meanwhile are skipped.
    dirty: VecDeque<(GroupId, u64)>,
    /// More events come, so that these audiences wait for them.
    batching: bool,
    /// Audiences whose pass is next or, the first one, running. A key here may be of one that is gone: its turn tells.
    due: VecDeque<GroupId>,
    pause: Pause,
    /// Topics whose logs may hold what nobody needs any more.
    untrimmed: Vec<u32>,
    /// Connections with something to write that is not a pass's to give.
    ready: VecDeque<ConnId>,
    /// Streams left with something to write though their sockets would take more.
    lagging: VecDeque<ConnId>,
    /// Those of them that are given what they asked to be replayed.
    replaying: VecDeque<ConnId>,
    #[cfg(feature = "publish")]
    /// Uploads with bytes to work on, in the order they came.
    uploads: VecDeque<ConnId>,
    #[cfg(feature = "publish")]
    /// Bytes that all unfinished uploads hold together.
    upload_bytes: usize,
    readable_again: Vec<ConnId>,
    opened: Vec<ConnId>,
    ended: Vec<ConnId>,
    /// One entry for each connection: when to look at it, its id and its key.
    timers: BinaryHeap<Reverse<(u64, u64, ConnId)>>,
    drain: Option<timers::Drain>,
    scratch: Scratch,
    report: groups::Report,
    random: Random,
    started: Instant,
    /// The time of the verb that is being flushing_bytes out, in milliseconds since `started`.
    now_ms: u64,
    #[cfg(feature = "admin")]
    now_us: u64,
    seq: u64,
    ids: EventIds,
    /// Memory for what goes out before an event.
    prefix: Vec<u8>,
    /// The topics that it goes to, from the root down.
    path: Vec<u32>,
    retention: Retention,
    storing: Option<Storing>,
    next_id: u64,
    stats: Status,
    #[cfg(feature = "admin")]
    admin: Option<Box<admin::Admin>>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("status", &self.stats)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine for a checked configuration. `seed` decides jitter and the order of a drain, nothing else; `epoch` is the name of the
    /// history that begins.
    pub fn new(
        config: Config,
        access: Access,
        max_connections: usize,
        route: Option<RouteHook>,
        seed: u64,
        epoch: u64,
        now: Instant,
    ) -> Self {
        let limits = Limits {
            // Four times what gathers in one turn, so that whoever fell behind catches up while all goes on.
            write_most: config.write_budget.saturating_mul(4),
            max_lag: config.lag_limit() as u64,
        };
        Self {
            retention: Retention::new(&config),
            config,
            access,
            route,
            limits,
            slice: SLICE,
            max_connections,
            connections: Slab::new(),
            topics: Slab::new(),
            namespaces: Trie::new(),
            topic_sets: Slab::new(),
            topic_set_of: HashMap::new(),
            pause: Pause::default(),
            untrimmed: Vec::new(),
            dirty: VecDeque::new(),
            batching: false,
            due: VecDeque::new(),
            ready: VecDeque::new(),
            lagging: VecDeque::new(),
            replaying: VecDeque::new(),
            #[cfg(feature = "publish")]
            uploads: VecDeque::new(),
            #[cfg(feature = "publish")]
            upload_bytes: 0,
            readable_again: Vec::new(),
            opened: Vec::new(),
            ended: Vec::new(),
            timers: BinaryHeap::new(),
            drain: None,
            scratch: Scratch::default(),
            report: groups::Report::default(),
            random: Random::new(seed),
            started: now,
            now_ms: 0,
            #[cfg(feature = "admin")]
            now_us: 0,
            seq: 0,
            ids: EventIds::new(epoch),
            prefix: Vec::new(),
            path: Vec::new(),
            storing: None,
            next_id: 1,
            #[cfg(feature = "admin")]
            admin: None,
            stats: Status {
                state: State::Serving,
                ..Status::default()
            },
        }
    }

    /// Says what events may cost in one call of [`flush`](Engine::flush), in bytes that could have been copied in that time, 23,000
    /// of them for a write; [`SLICE`] by default. With less, passes over a few subscribers are cut as those over thousands are.
    pub fn set_slice(&mut self, bytes: usize) {
        self.slice = bytes;
    }

    /// Says who may publish.
    pub fn set_access(&mut self, access: Access) {
        self.access = access;
    }

    fn set_now(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.started);
        self.now_ms = self.now_ms.max(since.as_millis() as u64);
        #[cfg(feature = "admin")]
        {
            self.now_us = self.now_us.max(since.as_micros() as u64);
        }
    }

    /// Takes in a connection; `None` when there are too many even to tell it so.
    pub fn accept(&mut self, peer: SocketAddr, now: Instant) -> Option<ConnId> {
        self.set_now(now);
        if self.connections.len() >= self.max_connections + SURPLUS || self.is_draining() {
            self.stats.connections_total += 1;
            self.stats.disconnects[DisconnectReason::Overload as usize] += 1;
            return None;
        }
        let surplus = self.connections.len() >= self.max_connections;
        let key = self.insert(Connection::new(
            self.next_id,
            Some(peer),
            surplus,
            self.now_ms,
        ));
        self.arm_first_timer(key);
        Some(key)
    }

    /// Takes in a subscriber that is no socket.
    ///
    /// # Errors
    /// When a namespace would be one too many.
    pub fn subscribe(
        &mut self,
        namespaces: &Namespaces,
        now: Instant,
    ) -> Result<ConnId, NamespacesFull> {
        self.set_now(now);
        let key = self.insert(Connection::new(self.next_id, None, false, self.now_ms));
        let subscribed = self.start_stream(key, namespaces, &Resume::live());
        match subscribed {
            Ok(_) => self.arm_first_timer(key),
            Err(_) => self.disconnect(key, DisconnectReason::Overload),
        }
        subscribed.map(|_| key)
    }

    fn insert(&mut self, connection: Connection) -> ConnId {
        self.next_id += 1;
        let key = self.connections.insert(connection) as ConnId;
        self.stats.connections_total += 1;
        self.stats.connections_peak = self.stats.connections_peak.max(self.connections.len());
        key
    }

    /// Makes a connection a subscriber of namespaces; returns what there is for it to begin with: the
    /// event that tells of a gap, or the ID of its place.
    fn start_stream(
        &mut self,
        key: ConnId,
        namespaces: &Namespaces,
        resume: &Resume,
    ) -> Result<Vec<u8>, NamespacesFull> {
        let namespaces = namespaces.as_slice();
        let mut topics = Vec::with_capacity(namespaces.len());
        for namespace in namespaces {
            match self.topic_at(namespace) {
                Ok(topic) => topics.push(topic),
                Err(full) => {
                    topics
                        .into_iter()
                        .for_each(|topic| self.free_if_unused(topic));
                    return Err(full);
                }
            }
        }
        let (after, first) = self.start_after(&topics, resume.start);
        let begin = match &resume.gap {
            Some((reason, asked)) => self.gap_event(*reason, asked, &topics, first),
            None if first.is_none() && self.retention.history => self.ids.line(self.seq).to_vec(),
            None => Vec::new(),
        };
        let place = self.join(key, topics, after, resume);
        let stream = Stream {
            membership: place,
            ignored: 0,
            closing_notice: ClosingNotice::None,
            #[cfg(feature = "admin")]
            client: admin::ClientInfo::default(),
        };
        self.connections[key as usize].phase = Phase::Streaming(Box::new(stream));
        self.stats.subscribers += 1;
        self.opened.push(key);
        Ok(begin)
    }

    fn topic_at(&mut self, namespace: &Namespace) -> Result<u32, NamespacesFull> {
        let most = self.config.max_namespaces;
        let new = || new_topic(&mut self.topics, &mut self.retention, namespace.clone());
        match self.namespaces.insert_with(namespace, most, new) {
            Ok(key) => Ok(*key),
            Err(_) => Err(NamespacesFull),
        }
    }

    /// Adds a connection to those who listen to these topics, behind an event.
    fn join(&mut self, key: ConnId, topics: Vec<u32>, after: u64, resume: &Resume) -> Membership {
        let connection = &self.connections[key as usize];
        let lacks = |&topic: &u32| {
            let log = &self.topics[topic as usize].log;
            log.end() - log.offset_after(after)
        };
        let state = SubscriberState {
            active_at: self.now_ms,
            lag_limit: self.limits.max_lag + topics.iter().map(lacks).sum::<u64>(),
            events: 0,
            bytes: 0,
            conn: key,
            writable: connection.writable && connection.outgoing.is_empty(),
            blocked: false,
        };
        if let [topic] = *topics {
            let Topic {
                log, subscribers, ..
            } = &mut self.topics[topic as usize];
            return Membership {
                group: GroupId::Topic(topic),
                index: subscribers.join(log.offset_after(after), state),
            };
        }
        // What one of the logs has dropped is known to be missing, or is in another.
        let since = match resume.start {
            Start::End => 0,
            _ => self.retention.now_of_replay(),
        };
        let topic_set = self.topic_set_of(topics);
        let TopicSet { subscribers, .. } = &mut self.topic_sets[topic_set as usize];
        Membership {
            group: GroupId::TopicSet(topic_set),
            index: subscribers.join(merge::MergeCursor::after(after, since), state),
        }
    }

    fn topic_set_of(&mut self, topics: Vec<u32>) -> u32 {
        let topics = topics.into_boxed_slice();
        if let Some(&key) = self.topic_set_of.get(&topics) {
            return key;
        }
        let key = self.topic_sets.vacant_key() as u32;
        let listed = topics.iter().map(|&topic| {
            let topic_sets = &mut self.topics[topic as usize].topic_sets;
            topic_sets.push(key);
            (topic, (topic_sets.len() - 1) as u32)
        });
        let listed = listed.collect();
        self.topic_sets.insert(TopicSet::new(listed));
        self.topic_set_of.insert(topics, key);
        key
    }

    /// The namespaces of a stream, in order.
    fn namespaces_of(&self, place: Membership) -> impl Iterator<Item = &Namespace> {
        let (one, several) = match place.group {
            GroupId::Topic(key) => (Some(key), &[][..]),
            GroupId::TopicSet(key) => (None, &*self.topic_sets[key as usize].topics),
        };
        let topics = one
            .into_iter()
            .chain(several.iter().map(|&(topic, _)| topic));
        topics.map(|topic| &self.topics[topic as usize].namespace)
    }

    /// What a subscriber has.
    fn state(&self, Membership { group, index }: Membership) -> &SubscriberState {
        match group {
            GroupId::Topic(key) => {
                &self.topics[key as usize].subscribers.list[index as usize].state
            }
            GroupId::TopicSet(key) => {
                &self.topic_sets[key as usize].subscribers.list[index as usize].state
            }
        }
    }

    fn state_mut(&mut self, Membership { group, index }: Membership) -> &mut SubscriberState {
        match group {
            GroupId::Topic(key) => {
                &mut self.topics[key as usize].subscribers.list[index as usize].state
            }
            GroupId::TopicSet(key) => {
                &mut self.topic_sets[key as usize].subscribers.list[index as usize].state
            }
        }
    }

    /// The passes over an group, if it is still there.
    fn pass_of(&mut self, group: GroupId) -> Option<&mut Pass> {
        match group {
            GroupId::Topic(key) => self
                .topics
                .get_mut(key as usize)
                .map(|topic| &mut topic.subscribers.pass),
            GroupId::TopicSet(key) => self
                .topic_sets
                .get_mut(key as usize)
                .map(|topic_set| &mut topic_set.subscribers.pass),
        }
    }

    /// Whether events may be published now. Not while subscribers are still being given what came before, nor in a pause: a publisher
    /// waits so that whoever can keep up is never cut.
    pub fn can_append(&self) -> bool {
        self.due.is_empty() && self.lagging.is_empty() && !self.is_paused()
    }

    /// Whether events have to wait, until [`Engine::next_deadline`] at the latest, as some subscribers are held back.
    pub fn is_paused(&self) -> bool {
        self.pause.blocked > 0 && self.now_ms < self.pause.until
    }

    /// Appends an event to the logs of everyone who is to have it and, with history on, of every namespace that it reaches. With a store,
    /// it goes there first, and nothing can be told of it yet.
    pub fn publish(&mut self, frame: &Frame, now: Instant) -> Option<Published> {
        self.publish_ref(frame.by_ref(), now)
    }

    /// As [`Engine::publish`], for a frame that is kept elsewhere.
    pub fn publish_ref(&mut self, frame: FrameRef<'_>, now: Instant) -> Option<Published> {
        self.set_now(now);
        self.publish_from(frame, None)
    }

    fn publish_from(&mut self, frame: FrameRef<'_>, origin: Option<Origin>) -> Option<Published> {
        if !(frame.encoded && self.retention.history) {
            return self.publish_one(frame, origin);
        }
        // Each has a number and an ID of its own.
        let mut published = None;
        frame.for_each_event(|bytes| {
            published = self.publish_one(FrameRef { bytes, ..frame }, origin);
        });
        published
    }

    fn publish_one(&mut self, frame: FrameRef<'_>, origin: Option<Origin>) -> Option<Published> {
        if let Some(storing) = &mut self.storing {
            storing.push(frame, origin);
            return None;
        }
        Some(self.append_to_logs(frame, self.now_ms as i64))
    }

    fn append_to_logs(&mut self, frame: FrameRef<'_>, published_ms: i64) -> Published {
        let FrameRef {
            target,
            bytes: event,
            encoded,
        } = frame;
        self.seq += 1;
        self.stats.events += 1;
        self.retention.note_age(self.seq, published_ms);
        let own_id = (self.retention.history && (encoded || event.starts_with(b"id:")))
            .then(|| own_id(&event))
            .flatten();
        let mut prefix = std::mem::take(&mut self.prefix);
        prefix.clear();
        if self.retention.history && !event.starts_with(b"id:") && own_id.is_none() {
            prefix.extend_from_slice(self.ids.line(self.seq));
        }
        if let Some(id) = own_id {
            self.ids.remember(id, self.seq);
        }
        let mut append = Append {
            event,
            #[cfg(feature = "admin")]
            at_ms: published_ms,
            prefix,
            named: own_id.is_some(),
            reached: Reached::default(),
        };
        match target {
            TargetRef::One(namespace) => self.publish_at(namespace, &mut append),
            TargetRef::Many(namespaces) => {
                append.reached.multi_target = true;
                for namespace in namespaces {
                    self.publish_at(namespace.by_ref(), &mut append);
                }
            }
            TargetRef::Everyone => {
                append.reached.multi_target = true;
                #[cfg(feature = "admin")]
                self.count_published("/", None);
                for index in 0..self.topics.capacity() {
                    if self.topics.contains(index) {
                        self.append(index as u32, &mut append);
                    }
                }
            }
        }
        if append.named {
            self.ids.release(self.seq);
        }
        self.prefix = append.prefix;
        self.evict();
        Published {
            seq: self.seq,
            subscribers: append.reached.count(),
        }
    }

    fn publish_at(&mut self, namespace: NamespaceRef<'_>, append: &mut Append<'_>) {
        let mut path = std::mem::take(&mut self.path);
        if self.retention.history {
            let Self {
                namespaces,
                topics,
                retention,
                ..
            } = self;
            let most = self.config.max_namespaces;
            let filled = namespaces.fill_path(namespace.segments(), most, |depth, topic| {
                let new = || new_topic(topics, retention, namespace.ancestor(depth));
                path.push(*topic.get_or_insert_with(new));
            });
            if let Err(depth) = filled {
                // The namespaces that are too many keep no history, and whoever comes back to them is told.
                let segments = namespace.segments().count();
                (depth..=segments)
                    .for_each(|depth| retention.forget(&namespace.ancestor(depth), self.seq));
            }
        } else {
            self.namespaces
                .for_each_on_path(namespace.segments(), |topic| path.push(*topic));
        }
        #[cfg(feature = "admin")]
        self.count_published(namespace.as_str(), path.last().copied());
        path.drain(..).for_each(|key| self.append(key, append));
        self.path = path;
    }

    fn append(&mut self, key: u32, append: &mut Append<'_>) {
        let topic = &mut self.topics[key as usize];
        if topic.log.last_seq() == self.seq {
            return;
        }
        topic.log.append(self.seq, &append.prefix, append.event);
        if append.named {
            self.ids.hold(self.seq);
            topic.usage.custom_ids.push_back(self.seq);
        }
        if append.reached.multi_target && self.retention.history {
            topic.usage.multi_target.push_back(self.seq);
        }
        append.reached.add(topic, &self.topic_sets);
        #[cfg(feature = "admin")]
        {
            topic.last_at = Some(append.at_ms);
        }
        let bytes = append.prefix.len() + append.event.len();
        let has_subscribers = topic.has_subscribers();
        if !has_subscribers {
            self.drop_unneeded(key, u64::MAX);
            if self.topics[key as usize].log.is_empty() {
                // It was too large to be retained at all, and so the topic may go.
                self.topics[key as usize].untrimmed = true;
                self.untrimmed.push(key);
            }
            return;
        }
        // Whoever still lacks what is dropped here lacks more than may be, and is cut when its turn comes.
        self.drop_unneeded(key, 0);
        self.schedule(GroupId::Topic(key), bytes);
        for index in 0..self.topics[key as usize].topic_sets.len() {
            let topic_set = self.topics[key as usize].topic_sets[index];
            self.schedule(GroupId::TopicSet(topic_set), bytes);
        }
    }

    /// Notes that an group has so many bytes more of events; enough of them make its pass due.
    fn schedule(&mut self, group: GroupId, bytes: usize) {
        let budget = self.config.write_budget as u64;
        let now_ms = self.now_ms;
        let coalesce_ms = self.config.coalesce.as_millis() as u64;
        #[cfg(feature = "admin")]
        let now_us = self.now_us;
        let Some(pass) = self.pass_of(group) else {
            return;
        };
        #[cfg(feature = "admin")]
        if pass.pending_bytes == 0 {
            pass.since_us = now_us;
        }
        pass.pending_bytes += bytes as u64;
        match pass.turn {
            Turn::Passing(_) => pass.turn = Turn::Passing(true),
            Turn::Due => {}
            // Another like this one would be more than a write is to give.
            Turn::Clean | Turn::Dirty if pass.pending_bytes + bytes as u64 > budget => {
                pass.turn = Turn::Due;
                self.due.push_back(group);
            }
            Turn::Clean => {
                pass.turn = Turn::Dirty;
                pass.due_at = match coalesce_ms {
                    0 => now_ms + BATCH_MS,
                    _ => pass.began_at + coalesce_ms,
                };
                let due_at = pass.due_at;
                self.dirty.push_back((group, due_at));
            }
            Turn::Dirty => {}
        }
    }

    /// Makes the pass over an group due, whatever came.
    fn schedule_now(&mut self, group: GroupId) {
        if let Some(pass) = self.pass_of(group)
            && matches!(pass.turn, Turn::Clean | Turn::Dirty)
        {
            pass.turn = Turn::Due;
            self.due.push_back(group);
        }
    }

    /// Ends a connection at the end of the turn. The first reason counts.
    pub fn disconnect(&mut self, key: ConnId, reason: DisconnectReason) {
        let Some(connection) = self.connections.get_mut(key as usize) else {
            return;
        };
        if connection.ended.is_some() {
            return;
        }
        connection.ended = Some(reason);
        self.ended.push(key);
        if let Some(place) = connection.membership() {
            self.state_mut(place).writable = false;
        }
    }

    /// Ends the connection with this id; returns whether there is one.
    pub fn disconnect_id(&mut self, id: u64, reason: DisconnectReason) -> bool {
        let found = self
            .connections
            .iter()
            .find(|(_, connection)| connection.id == id && connection.ended.is_none());
        let key = found.map(|(key, _)| key as ConnId);
        key.inspect(|&key| self.disconnect(key, reason)).is_some()
    }

    /// Ends every stream of a namespace or of one below it for the reason `kicked`; returns how many.
    pub fn kick_namespace(&mut self, namespace: &Namespace) -> usize {
        let mut keys = Vec::new();
        self.namespaces.for_each_under(namespace, |topic| {
            let topic = &self.topics[*topic as usize];
            keys.extend(topic.subscribers.conns());
            for &topic_set in &topic.topic_sets {
                keys.extend(self.topic_sets[topic_set as usize].subscribers.conns());
            }
        });
        keys.retain(|&key| self.connections[key as usize].ended.is_none());
        keys.sort_unstable();
        keys.dedup();
        keys.iter()
            .for_each(|&key| self.disconnect(key, DisconnectReason::Kicked));
        keys.len()
    }

    /// Frees what ended in this turn, and hands out what is known of it.
    pub fn reap(&mut self, mut each: impl FnMut(ConnId, ConnectionInfo, DisconnectReason)) {
        self.end_the_idle();
        while let Some(key) = self.ended.pop() {
            let info = self.info(key);
            let had_pending = self.has_pending(key);
            let connection = self.connections.remove(key as usize);
            let reason = connection
                .ended
                .expect("whoever is on the list has a reason: `disconnect` put it there");
            self.stats.disconnects[reason as usize] += 1;
            match connection.phase {
                Phase::Streaming(stream) => {
                    #[cfg(feature = "admin")]
                    self.forget_client(&stream.client);
                    self.leave(stream.membership, had_pending);
                }
                #[cfg(feature = "publish")]
                Phase::Upload(upload) => self.upload_bytes -= upload.held(),
                #[cfg(feature = "admin")]
                Phase::Watching { .. } => self.forget_watcher(key),
                _ => {}
            }
            each(key, info, reason);
            if self.ended.is_empty() {
                self.end_the_idle();
            }
        }
    }

    fn leave(&mut self, place: Membership, had_pending: bool) {
        let Membership { group, index } = place;
        self.stats.subscribers -= 1;
        self.unblock(usize::from(self.state(place).blocked));
        let moved = match group {
            GroupId::Topic(key) => self.topics[key as usize].subscribers.leave(index),
            GroupId::TopicSet(key) => self.topic_sets[key as usize].subscribers.leave(index),
        };
        if let Some(moved) = moved
            && let Phase::Streaming(stream) = &mut self.connections[moved as usize].phase
        {
            stream.membership.index = index;
        }
        if had_pending {
            // A pass will find what the others need.
            self.schedule(group, 0);
            self.list_untrimmed(group);
        }
        match group {
            GroupId::Topic(key) => self.free_if_unused(key),
            GroupId::TopicSet(key) => self.free_topic_set(key),
        }
    }

    /// Frees a topic_set that nobody has.
    fn free_topic_set(&mut self, key: u32) {
        if !self.topic_sets[key as usize].subscribers.list.is_empty() {
            return;
        }
        let TopicSet { topics, .. } = self.topic_sets.remove(key as usize);
        let keys: Box<[u32]> = topics.iter().map(|&(topic, _)| topic).collect();
        self.topic_set_of.remove(&keys);
        for &(topic, index) in &topics {
            let topic_sets = &mut self.topics[topic as usize].topic_sets;
            topic_sets.swap_remove(index as usize);
            if let Some(&moved) = topic_sets.get(index as usize) {
                self.topic_sets[moved as usize].move_to(topic, index);
            }
            self.list_untrimmed(GroupId::Topic(topic));
            self.free_if_unused(topic);
        }
    }

    /// What is known of a connection.
    pub fn info(&self, key: ConnId) -> ConnectionInfo {
        let connection = &self.connections[key as usize];
        let state = connection.membership().map(|place| self.state(place));
        let (events, bytes) = state.map_or((0, 0), |state| (state.events, state.bytes));
        ConnectionInfo {
            id: connection.id,
            peer: connection.peer.map(|peer| self.shown_address(peer)),
            namespaces: connection.membership().map_or_else(Vec::new, |place| {
                self.namespaces_of(place).cloned().collect()
            }),
            events,
            bytes: connection.bytes + bytes,
            connected: Duration::from_millis(self.now_ms - connection.since_ms),
        }
    }

    /// A client's address as it may be told.
    fn shown_address(&self, peer: SocketAddr) -> SocketAddr {
        match self.config.mask_addresses {
            true => SocketAddr::new(masked(peer.ip()), 0),
            false => peer,
        }
    }

    /// Streams that began since the last call.
    pub fn take_opened(&mut self) -> Vec<ConnId> {
        std::mem::take(&mut self.opened)
    }

    /// Connections whose bytes are wanted again since the last call.
    pub fn take_readable_again(&mut self) -> Vec<ConnId> {
        std::mem::take(&mut self.readable_again)
    }

    /// Whether a connection is an event stream.
    pub fn is_stream(&self, key: ConnId) -> bool {
        self.connections
            .get(key as usize)
            .is_some_and(|connection| connection.stream().is_some())
    }

    /// The counters, at a moment.
    pub fn status(&self, now: Instant) -> Status {
        let mut status = Status {
            uptime: now.saturating_duration_since(self.started),
            connections: self.connections.len(),
            namespaces: self.topics.len(),
            ..self.stats
        };
        self.retention.report(&self.ids, &mut status);
        status
    }
}

/// An event on its way into the logs.
struct Append<'a> {
    event: BytesRef<'a>,
    /// When it was published, in milliseconds of the engine's time; before that, negative.
    #[cfg(feature = "admin")]
    at_ms: i64,
    /// The line with its ID, if it has none of its own.
    prefix: Vec<u8>,
    /// It has.
    named: bool,
    reached: Reached,
}

fn new_topic(topics: &mut Slab<Topic>, retention: &mut Retention, namespace: Namespace) -> u32 {
    let log = retention.log_of(&namespace);
    topics.insert(Topic::new(namespace, log)) as u32
}

/// A time in which no events are taken, as some subscribers are held back.
#[derive(Debug, Default)]
struct Pause {
    /// In milliseconds of the engine's time.
    until: u64,
    /// It ends before if so many took something.
    blocked: usize,
}

/// Counts the subscribers that an event reaches, each once.
#[derive(Debug, Default)]
struct Reached {
    count: usize,
    /// The event goes to several namespaces, so a topic_set may be reached more than once.
    multi_target: bool,
    topic_sets: Vec<(u32, usize)>,
}

impl Reached {
    fn add(&mut self, topic: &Topic, topic_sets: &Slab<TopicSet>) {
        self.count += topic.subscribers.list.len();
        for &key in &topic.topic_sets {
            let count = topic_sets[key as usize].subscribers.list.len();
            if self.multi_target {
                self.topic_sets.push((key, count));
            } else {
                // Overlaps are reduced, so a topic_set is at most once on the way from the root to a namespace.
                self.count += count;
            }
        }
    }

    fn count(mut self) -> usize {
        self.topic_sets.sort_unstable();
        self.topic_sets.dedup();
        self.count
            + self
                .topic_sets
                .iter()
                .map(|(_, count)| count)
                .sum::<usize>()
    }
}
