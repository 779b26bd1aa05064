//! One world: an engine with its driver, its clients, its publishers and its time, all from one seed.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use fanfare::internals::{
    Access, Appetite, Engine, EventLimits, Frame, PublishAccess, SURPLUS, max_frame_bytes,
};
use fanfare::{Config, DisconnectReason as Reason, Namespace};

use crate::client::{Client, Ended};
use crate::dice::Dice;
use crate::model::{Follower, NAMESPACES, Planned, covers, reduce, show};
use crate::net::{Net, Policy, Socket};
use crate::requests::Writer;

/// What connections are judged by.
pub(crate) struct Rules {
    pub(crate) head_timeout: u64,
    pub(crate) write_timeout: u64,
    pub(crate) keepalive: u64,
    pub(crate) retry: u64,
    pub(crate) max_lag: u64,
    pub(crate) draining: bool,
    pub(crate) grace: u64,
    /// How many events had been published when the drain began.
    pub(crate) drained_from: usize,
    /// Not all namespaces can be in use at once.
    pub(crate) few_namespaces: bool,
}

/// An event in the total order, once it is known which.
struct Slot {
    planned: Option<Rc<Planned>>,
    /// The streams there were.
    audience: Rc<Vec<usize>>,
}

pub(crate) struct World {
    dice: Dice,
    config: Config,
    pub(crate) rules: Rules,
    max_connections: usize,
    engine: Engine,
    net: Net,
    born: Instant,
    now: u64,
    clients: Vec<Client>,
    /// Those not yet judged.
    live: Vec<usize>,
    order: Vec<Slot>,
    /// How many of them, from the first on, are known and were told to the streams.
    resolved: usize,
    witness: Option<usize>,
    /// Bytes of the witness that no event was found for yet.
    witnessed: Vec<u8>,
    /// Bytes its socket took that are among them.
    witness_copied: usize,
    /// To how many streams an event went, by its type.
    went_to: HashMap<String, u64>,
    /// In the last turn some events were not yet known, so bytes of several turns are looked at together.
    held: bool,
    intake: VecDeque<Rc<Planned>>,
    next_event: usize,
    to_connect: usize,
    /// Connections that must end as surplus though no client knows them.
    orphans: usize,
    disconnects: [u64; 9],
    connections_total: u64,
    events_given: u64,
    some_lagged: bool,
    batch: usize,
    /// From when on all who were there have been told to come back later, and when all must be gone.
    farewells: (u64, u64),
    /// The driver would not wait before the next turn.
    busy: bool,
    deadline: Option<u64>,
}

impl World {
    pub(crate) fn new(seed: u64, born: Instant) -> Self {
        let mut dice = Dice::new(seed);
        let roomy = dice.percent(60);
        let config = some_config(&mut dice, roomy);
        config
            .check()
            .expect("the simulator makes valid configurations");
        let max_lag = lag_limit(&config) as u64;
        let max_connections = *dice.pick(&[3, 10, 10_000, 10_000, 10_000]);
        let access = Access {
            publish: PublishAccess::Open,
            loopback: true,
        };
        let engine = Engine::new(
            config.clone(),
            access,
            max_connections,
            None,
            dice.next(),
            born,
        );
        let ms = |duration: Duration| duration.as_millis() as u64;
        let rules = Rules {
            head_timeout: ms(config.head_timeout),
            write_timeout: ms(config.write_timeout),
            keepalive: ms(config.keepalive),
            retry: ms(config.retry),
            max_lag,
            draining: false,
            grace: 0,
            drained_from: usize::MAX,
            few_namespaces: config.max_namespaces < 1000,
        };
        let net = Net::new(Dice::new(dice.next()));
        let batch = dice.between(1, 12);
        let mut world = Self {
            dice,
            config,
            rules,
            max_connections,
            engine,
            net,
            born,
            now: 0,
            clients: Vec::new(),
            live: Vec::new(),
            order: Vec::new(),
            resolved: 0,
            witness: None,
            witnessed: Vec::new(),
            witness_copied: 0,
            went_to: HashMap::new(),
            held: false,
            intake: VecDeque::new(),
            next_event: 0,
            to_connect: 0,
            orphans: 0,
            disconnects: [0; 9],
            connections_total: 0,
            events_given: 0,
            some_lagged: false,
            batch,
            farewells: (u64::MAX, u64::MAX),
            busy: false,
            deadline: None,
        };
        if roomy {
            world.subscribe(vec!["/".into()], Policy::All);
            world.witness = Some(0);
            world.clients[0].witness = true;
        }
        world
    }

    /// Plays the whole life of a world.
    pub(crate) fn play(&mut self) -> Result<(), String> {
        let crowded = self.dice.percent(2);
        if crowded {
            for _ in 0..self.dice.between(500, 1000) {
                let name = (*self.dice.pick(&NAMESPACES[..3])).to_owned();
                let policy = self.some_policy();
                self.subscribe(vec![name], policy);
            }
        }
        let steps = if crowded {
            20
        } else {
            self.dice.between(10, 120)
        };
        let drain_at = if self.dice.percent(30) {
            self.dice.between(0, steps)
        } else {
            usize::MAX
        };
        for step in 0..steps {
            if step == drain_at {
                self.begin_drain()?;
            }
            self.act();
            self.turn()?;
            self.pass_time();
        }
        self.quiesce()?;
        self.end_everyone()
    }

    fn instant(&self) -> Instant {
        self.born + Duration::from_millis(self.now)
    }

    // What happens outside of the engine.

    /// A few things that clients and publishers do.
    fn act(&mut self) {
        for _ in 0..self.dice.between(0, 6) {
            match self.dice.below(100) {
                0..15 => self.to_connect += 1,
                15..17 if self.max_connections < 100 => {
                    self.to_connect += self.dice.between(1, 2 * SURPLUS);
                }
                15..45 => self.send_some(),
                45..80 => self.plan_events(),
                80..84 => self.close_one(),
                84..90 => self.subscribe_some(),
                90..92 => self.kick_some(),
                92..94 => self.change_policy(),
                _ => self.write_readiness(),
            }
        }
    }

    fn some_client(&mut self) -> Option<usize> {
        if self.live.is_empty() {
            return None;
        }
        Some(*self.dice.pick(&self.live)).filter(|&client| !self.clients[client].witness)
    }

    fn send_some(&mut self) {
        for _ in 0..4 {
            let Some(client) = self.some_client() else {
                return;
            };
            let unsent = self.clients[client].unsent();
            let piece = match self.dice.below(5) {
                0 => 1,
                1 => self.dice.between(1, 30),
                2 => self.dice.between(1, 5000),
                _ => unsent,
            };
            if !self.clients[client].closes {
                self.clients[client].sent += piece.min(unsent);
            }
        }
    }

    fn plan_events(&mut self) {
        if self.intake.len() > 200 {
            return;
        }
        let count = match self.dice.below(10) {
            0 => self.dice.between(10, 60),
            1..4 => self.dice.between(2, 10),
            _ => 1,
        };
        for _ in 0..count {
            self.next_event += 1;
            let planned = Planned::any(&mut self.dice, self.next_event, self.config.max_event);
            self.intake.push_back(Rc::new(planned));
        }
    }

    fn close_one(&mut self) {
        if let Some(client) = self.some_client() {
            self.clients[client].closes |= self.clients[client].remote;
        }
    }

    fn change_policy(&mut self) {
        if let Some(client) = self.some_client() {
            self.net.sockets[client].policy = self.some_policy();
        }
    }

    /// A socket reports that it is writable, though nobody asked.
    fn write_readiness(&mut self) {
        if let Some(client) = self.some_client()
            && self.clients[client].is_live()
        {
            let socket = &self.net.sockets[client];
            if !socket.blocked || socket.may_open() {
                self.make_writable(client);
            }
        }
    }

    fn make_writable(&mut self, client: usize) {
        self.net.trace(|| format!("{client} is writable"));
        self.net.sockets[client].blocked = false;
        let now = self.instant();
        self.engine.writable(self.clients[client].conn, now);
    }

    fn subscribe_some(&mut self) {
        let count = if self.dice.percent(30) { 3 } else { 1 };
        let names = (0..count)
            .map(|_| (*self.dice.pick(&NAMESPACES)).to_owned())
            .collect();
        let policy = self.some_policy();
        self.subscribe(names, policy);
    }

    fn kick_some(&mut self) {
        if self.dice.percent(50) {
            if let Some(client) = self.some_client() {
                let id = self.clients[client].id;
                if self.engine.disconnect_id(id, Reason::Kicked) {
                    self.must_end(client, Reason::Kicked);
                }
            }
            return;
        }
        let name = *self.dice.pick(&NAMESPACES[1..]);
        let under: Vec<usize> = self
            .streams()
            .filter(|&client| self.clients[client].must_end.is_none())
            .filter(|&client| {
                let follower = self.clients[client].follower.as_ref();
                follower.is_some_and(|f| f.namespaces.iter().any(|at| covers(name, at)))
            })
            .collect();
        let namespace = Namespace::parse(name).expect("a namespace");
        let count = self.engine.kick_namespace(&namespace);
        if count != under.len() && self.net.fault.is_none() {
            self.net.fault = Some(format!("{count} kicked from {name}, not {under:?}"));
        }
        for client in under {
            self.must_end(client, Reason::Kicked);
        }
    }

    fn must_end(&mut self, client: usize, reason: Reason) {
        self.clients[client].must_end.get_or_insert(reason);
        self.net.sockets[client].over = true;
    }

    fn some_policy(&mut self) -> Policy {
        let bytes = match self.dice.below(3) {
            0 => 0,
            1 => self.dice.between(0, 1000),
            _ => self.dice.between(0, 40_000),
        };
        match self.dice.below(20) {
            0 => Policy::Breaks(bytes, Reason::Client),
            1 => Policy::Breaks(bytes, Reason::Error),
            2 | 3 => Policy::Stalls(bytes),
            4..7 => Policy::Sips(*self.dice.pick(&[1, 7, 100, 3000])),
            7..10 => Policy::Fickle,
            _ => Policy::All,
        }
    }

    fn pass_time(&mut self) {
        let rules = &self.rules;
        self.now += match self.dice.below(20) {
            0..8 => 0,
            8..13 => 1,
            13..16 => self.dice.between(1, 20) as u64,
            16..19 => match self.deadline {
                Some(at) => at.saturating_sub(self.now),
                None => 1,
            },
            _ => *self.dice.pick(&[
                rules.keepalive,
                rules.keepalive * 9 / 8 + 1,
                rules.write_timeout,
                rules.head_timeout,
                rules.write_timeout / 2,
            ]),
        };
    }

    // The driver, as the event loop has it.

    fn turn(&mut self) -> Result<(), String> {
        let now = self.instant();
        self.net.now = self.now;
        self.net
            .trace(|| format!("turn, {} events wait", self.intake.len()));
        for socket in &self.live {
            let socket = &mut self.net.sockets[*socket];
            socket.took_before = socket.took_at;
        }
        self.report_writable();
        self.accept()?;
        self.read()?;
        let idle = self.take_events()?;
        self.engine.settle(idle, now);
        self.engine.tick(now);
        let unfinished = self.engine.flush(&mut self.net, now);
        self.engine.take_opened();
        self.note_streams();
        for conn in self.engine.take_hungry() {
            if let Some(client) = self.net.client(conn) {
                self.clients[client].paused = false;
            }
        }
        self.reap()?;
        let to_read = self.live.iter().any(|&client| {
            let client = &self.clients[client];
            client.is_live() && !client.paused && !client.readable().is_empty()
        });
        self.busy = unfinished || !idle || to_read;
        let deadline = self.engine.next_deadline();
        self.deadline = deadline.map(|at| (at - self.born).as_millis() as u64);
        self.resolve()?;
        if self.resolved < self.order.len() {
            self.held = true;
            self.look_at_answers()?;
        } else {
            self.look_at_everyone(idle && !unfinished)?;
            self.held = false;
        }
        self.check_status()
    }

    fn report_writable(&mut self) {
        for index in 0..self.live.len() {
            let client = self.live[index];
            if self.net.sockets[client].may_open() && self.dice.percent(40) {
                self.make_writable(client);
            }
        }
    }

    fn accept(&mut self) -> Result<(), String> {
        for _ in 0..std::mem::take(&mut self.to_connect) {
            let peer = "127.0.0.1:1".parse().expect("an address");
            let count = self.live_count();
            let full = count >= self.max_connections + SURPLUS || self.rules.draining;
            let now = self.instant();
            self.connections_total += 1;
            match self.engine.accept(peer, now) {
                None if full => self.disconnects[Reason::Overload as usize] += 1,
                Some(conn) if !full => {
                    let asks = self.some_script();
                    let id = self.engine.info(conn).id;
                    let mut client = Client::new(conn, id, asks, self.now);
                    client.surplus = count >= self.max_connections;
                    let policy = self.some_policy();
                    self.add(client, policy);
                }
                other => return Err(format!("accept says {other:?} at {count} connections")),
            }
        }
        Ok(())
    }

    fn some_script(&mut self) -> Vec<crate::requests::Ask> {
        let alone = !self
            .live
            .iter()
            .any(|&client| self.clients[client].is_uploader());
        let uploads =
            cfg!(feature = "publish") && (self.witness.is_some() || alone) && self.dice.percent(35);
        Writer {
            dice: &mut self.dice,
            max_event: self.config.max_event,
            next_event: &mut self.next_event,
        }
        .script(uploads)
    }

    fn add(&mut self, client: Client, policy: Policy) {
        let index = self.net.add(client.conn, Socket::new(policy, self.now));
        assert_eq!(index, self.clients.len());
        self.clients.push(client);
        self.live.push(index);
    }

    fn subscribe(&mut self, names: Vec<String>, policy: Policy) {
        let now = self.instant();
        let namespaces = names
            .iter()
            .map(|name| Namespace::parse(name).expect("a namespace"))
            .collect();
        self.connections_total += 1;
        let fits = self.nodes_with(&names) <= self.config.max_namespaces;
        match self.engine.subscribe(namespaces, now) {
            Ok(conn) if fits => {
                let id = self.engine.info(conn).id;
                let follower = self.follower(&names, false);
                self.add(Client::subscription(conn, id, follower, self.now), policy);
            }
            Err(_) if !fits => self.orphans += 1,
            other => self.net.fault = Some(format!("{names:?} fits {fits}, and is {other:?}")),
        }
    }

    fn follower(&self, names: &[String], remote: bool) -> Follower {
        let keepalive = format!(":{}\n\n", self.config.keepalive_text).into_bytes();
        let prefix = remote.then_some(self.rules.retry);
        Follower::new(reduce(names), self.order.len(), prefix, keepalive)
    }

    /// How many namespaces are in use, those above them included, with these.
    fn nodes_with(&self, names: &[String]) -> usize {
        let streams = self.streams();
        let used = streams
            .filter_map(|client| self.clients[client].follower.as_ref())
            .flat_map(|follower| &follower.namespaces);
        let reduced = reduce(names);
        let mut nodes = BTreeSet::new();
        for name in used.chain(&reduced) {
            let mut path = String::new();
            for segment in name.split('/').filter(|segment| !segment.is_empty()) {
                path.push('/');
                path.push_str(segment);
                nodes.insert(path.clone());
            }
        }
        nodes.len()
    }

    fn live_count(&self) -> usize {
        let live = self.live.iter();
        live.filter(|&&client| self.clients[client].is_live())
            .count()
            + self.orphans
    }

    fn streams(&self) -> impl Iterator<Item = usize> + '_ {
        self.live.iter().copied().filter(|&client| {
            let client = &self.clients[client];
            client.is_live() && client.follower.is_some()
        })
    }

    fn read(&mut self) -> Result<(), String> {
        let now = self.instant();
        for index in 0..self.live.len() {
            let number = self.live[index];
            for _ in 0..4 {
                let client = &mut self.clients[number];
                if client.paused || !client.is_live() || client.hung_up {
                    break;
                }
                let readable = client.readable();
                if readable.is_empty() {
                    if client.closes {
                        self.hang_up(number);
                    }
                    break;
                }
                let piece = readable.len().min(64 << 10);
                let piece = if self.dice.percent(20) {
                    self.dice.between(1, piece)
                } else {
                    piece
                };
                let conn = client.conn;
                let appetite = self.engine.receive(conn, &readable[..piece], now);
                client.delivered += piece;
                client.heard_at = self.now;
                client.paused = appetite == Appetite::Pause;
                self.note_stream(number)?;
                if self.clients[number].follower.is_some() && self.clients[number].broke_protocol()
                {
                    self.must_end(number, Reason::Protocol);
                }
            }
        }
        Ok(())
    }

    fn hang_up(&mut self, client: usize) {
        let now = self.instant();
        self.clients[client].hung_up = true;
        self.engine.hang_up(self.clients[client].conn, now);
        if self.clients[client].follower.is_some() {
            self.must_end(client, Reason::Client);
        }
    }

    fn note_streams(&mut self) {
        for index in 0..self.live.len() {
            if let Err(problem) = self.note_stream(self.live[index]) {
                self.net.fault.get_or_insert(problem);
            }
        }
    }

    /// Notes that a client's stream has begun, and with which event.
    fn note_stream(&mut self, number: usize) -> Result<(), String> {
        let client = &self.clients[number];
        if client.follower.is_some() || !client.is_live() || !self.engine.is_stream(client.conn) {
            return Ok(());
        }
        let names = client.asked_namespaces();
        if client.surplus {
            return Err(format!("surplus client {number} got a stream"));
        }
        if self.nodes_with(&names) > self.config.max_namespaces {
            return Err(format!("{names:?} are namespaces too many"));
        }
        let follower = self.follower(&names, true);
        self.clients[number].follower = Some(follower);
        Ok(())
    }

    /// Takes events from the queue and from uploads in turn; returns whether there are no more.
    fn take_events(&mut self) -> Result<bool, String> {
        let audience = Rc::new(self.streams().collect::<Vec<usize>>());
        for _ in 0..64 {
            let mut taken = false;
            for _ in 0..self.batch {
                if !self.engine.intake_open() {
                    return Ok(false);
                }
                let Some(planned) = self.intake.pop_front() else {
                    break;
                };
                self.publish(&planned, &audience)?;
                taken = true;
            }
            taken |= self.work_on_upload(&audience)?;
            if !taken {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn publish(&mut self, planned: &Rc<Planned>, audience: &Rc<Vec<usize>>) -> Result<(), String> {
        let limits = EventLimits {
            max_event: self.config.max_event,
            namespace: self.config.namespace_limits,
        };
        let frame = if planned.broadcast {
            Frame::broadcast(&planned.event, &limits)
        } else {
            Frame::new(&planned.event, &limits)
        };
        let frame = frame.map_err(|error| error.to_string())?;
        let now = self.instant();
        let retained = self.retained();
        let published = self.engine.publish(&frame, now);
        self.order.push(Slot {
            planned: Some(planned.clone()),
            audience: audience.clone(),
        });
        self.note_pressure(retained, planned);
        let reached = self.count(planned, audience);
        if published.subscribers != reached {
            let says = published.subscribers;
            return Err(format!("published to {says} subscribers, not {reached}"));
        }
        Ok(())
    }

    fn retained(&self) -> u64 {
        self.engine.status(self.instant()).retained_bytes
    }

    fn count(&self, planned: &Planned, audience: &[usize]) -> usize {
        let followers = audience
            .iter()
            .filter_map(|&client| self.clients[client].follower.as_ref());
        followers
            .filter(|follower| planned.reaches(&follower.namespaces))
            .count()
    }

    /// Logs may give way to the limit of all memory when this one comes to them: then whoever is behind may be cut.
    fn note_pressure(&mut self, retained: u64, planned: &Planned) -> u64 {
        let logs: BTreeSet<&String> = self
            .streams()
            .filter_map(|client| self.clients[client].follower.as_ref())
            .flat_map(|follower| &follower.namespaces)
            .filter(|name| planned.is_in(name))
            .collect();
        let after = retained + (logs.len() * planned.wire.len()) as u64;
        if after > self.config.history_total as u64 {
            for index in 0..self.live.len() {
                self.clients[self.live[index]].excused = true;
            }
        }
        after
    }

    #[cfg(not(feature = "publish"))]
    #[expect(
        clippy::needless_pass_by_ref_mut,
        reason = "with publishing it changes the world"
    )]
    fn work_on_upload(&mut self, _audience: &Rc<Vec<usize>>) -> Result<bool, String> {
        Ok(false)
    }

    #[cfg(feature = "publish")]
    fn work_on_upload(&mut self, audience: &Rc<Vec<usize>>) -> Result<bool, String> {
        let now = self.instant();
        let before = self.engine.status(now);
        let worked = self.engine.work_on_upload(now);
        let mut retained = before.retained_bytes;
        for _ in before.events..self.engine.status(now).events {
            let planned = if self.witness.is_none() {
                let uploader = self.live.iter().copied().find(|&client| {
                    self.clients[client].is_uploader() && self.clients[client].is_live()
                });
                let planned = uploader.and_then(|client| {
                    let next = self.clients[client].next_event();
                    self.clients[client].published += 1;
                    next
                });
                Some(planned.ok_or("an event came from nowhere")?)
            } else {
                None
            };
            if let Some(planned) = &planned {
                retained = self.note_pressure(retained, planned);
            }
            self.order.push(Slot {
                planned,
                audience: audience.clone(),
            });
        }
        Ok(worked)
    }

    fn reap(&mut self) -> Result<(), String> {
        let mut reaped = Vec::new();
        self.engine
            .reap(|conn, info, reason| reaped.push((conn, info, reason)));
        for (conn, info, reason) in reaped {
            self.disconnects[reason as usize] += 1;
            let Some(client) = self.net.remove(conn) else {
                if self.orphans == 0 || reason != Reason::Overload {
                    return Err(format!("{info:?} ended for {reason}, and nobody knows it"));
                }
                self.orphans -= 1;
                continue;
            };
            if info.id != self.clients[client].id {
                return Err(format!("client {client} is not {info:?}"));
            }
            if self.clients[client].witness {
                return Err(format!("the witness ended for {reason}"));
            }
            self.net.sockets[client].over = true;
            self.clients[client].ended = Some(Ended {
                reason,
                at: self.now,
                order: self.order.len(),
                events: info.events,
                bytes: info.bytes,
            });
        }
        if self.orphans > 0 {
            return Err("a refused subscription is still there".into());
        }
        Ok(())
    }

    // What is checked after each turn.

    /// Finds out which events the ones published by uploads are, and tells all streams what to expect.
    fn resolve(&mut self) -> Result<(), String> {
        if let Some(witness) = self.witness {
            // It is read like any other too, so the bytes stay.
            let taken = &self.net.sockets[witness].taken;
            self.witnessed
                .extend_from_slice(&taken[self.witness_copied..]);
            self.witness_copied = taken.len();
        }
        let mut at = 0;
        while self.resolved < self.order.len() {
            let Some(planned) = self.identify(at)? else {
                break;
            };
            if self.witness.is_some() {
                at += planned.wire.len();
            }
            self.tell(self.resolved, &planned);
            self.resolved += 1;
        }
        self.witnessed.drain(..at);
        Ok(())
    }

    fn identify(&mut self, at: usize) -> Result<Option<Rc<Planned>>, String> {
        let slot = &self.order[self.resolved];
        if self.witness.is_none() {
            return Ok(slot.planned.clone());
        }
        let bytes = &self.witnessed[at..];
        if let Some(planned) = &slot.planned {
            let whole = bytes.starts_with(&planned.wire);
            return Ok(whole.then(|| planned.clone()));
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        for &client in &self.live {
            if let Some(next) = self.clients[client].next_event()
                && bytes.starts_with(&next.wire)
            {
                self.clients[client].published += 1;
                return Ok(Some(next));
            }
        }
        Ok(None)
    }

    fn tell(&mut self, slot: usize, planned: &Rc<Planned>) {
        let count = self.count(planned, &self.order[slot].audience);
        self.went_to
            .insert(planned.event_type.clone(), count as u64);
        for &client in &self.live {
            let client = &mut self.clients[client];
            let there = client.ended.is_none_or(|ended| slot < ended.order);
            if let Some(follower) = &mut client.follower
                && slot >= follower.joined
                && there
            {
                follower.expect(planned);
            }
        }
    }

    fn look_at_everyone(&mut self, settled: bool) -> Result<(), String> {
        for index in 0..self.live.len() {
            let number = self.live[index];
            self.look_at(number, settled)
                .map_err(|problem| format!("client {number}: {problem}"))?;
        }
        self.witness_copied = 0;
        let clients = &self.clients;
        self.live.retain(|&client| !clients[client].judged);
        Ok(())
    }

    /// Answers can be understood though some events are not yet known.
    fn look_at_answers(&mut self) -> Result<(), String> {
        for &number in &self.live {
            let client = &mut self.clients[number];
            if client.follower.is_none() {
                let socket = &mut self.net.sockets[number];
                client
                    .look(socket, &self.rules, self.now)
                    .map_err(|problem| format!("client {number}: {problem}"))?;
            }
        }
        Ok(())
    }

    fn look_at(&mut self, number: usize, settled: bool) -> Result<(), String> {
        let client = &mut self.clients[number];
        let socket = &mut self.net.sockets[number];
        let noticed = client.look(socket, &self.rules, self.now)?;
        for (event_type, says) in client.claims.drain(..) {
            let is = self.went_to.get(&event_type).copied();
            if is != Some(says) {
                return Err(format!(
                    "{event_type} went to {is:?}, and the answer says {says}"
                ));
            }
        }
        if let Some(ended) = client.ended {
            client.judged = true;
            if let Some(follower) = &client.follower {
                self.events_given += follower.events;
                self.some_lagged |= client.excused || follower.owed > self.rules.max_lag;
            }
            return client
                .judge(ended, socket, &self.rules)
                .map_err(|problem| format!("ended for {}, but {problem}", ended.reason));
        }
        client.check_alive(socket, &self.rules, self.now)?;
        if let Some(late) = noticed.keepalive
            && !self.held
        {
            let quiet = self.now - socket.took_before;
            if late || quiet < self.rules.keepalive {
                return Err(format!("a keepalive after {quiet} ms"));
            }
        }
        if settled {
            self.check_settled(number)?;
        }
        Ok(())
    }

    /// What is true of a stream once a turn had nothing left to do.
    fn check_settled(&mut self, number: usize) -> Result<(), String> {
        let socket = &self.net.sockets[number];
        let client = &mut self.clients[number];
        let Some(follower) = &client.follower else {
            return Ok(());
        };
        let owed = follower.owed;
        if owed == 0 {
            client.excused = false;
        }
        if self.config.coalesce.is_zero() {
            if owed > self.rules.max_lag + 16 {
                return Err(format!("lags by {owed} bytes and is still there"));
            }
            if owed > 0 && !socket.blocked {
                return Err(format!("lacks {owed} bytes, and its socket is open"));
            }
        }
        let told = follower.farewell.is_some() || follower.joined >= self.rules.drained_from;
        let (from, until) = self.farewells;
        if socket.always_open && client.remote && !told && (from..until).contains(&self.now) {
            return Err("was not told to come back later".into());
        }
        let quiet = self.now - socket.given_at;
        let keepalive = self.rules.keepalive;
        let due = keepalive > 0 && client.remote && owed == 0 && !socket.blocked;
        if due && quiet > keepalive + keepalive / 8 {
            return Err(format!("no keepalive in {quiet} ms"));
        }
        Ok(())
    }

    fn check_status(&mut self) -> Result<(), String> {
        if let Some(fault) = self.net.fault.take() {
            return Err(fault);
        }
        let status = self.engine.status(self.instant());
        let streams = self.streams();
        let names: BTreeSet<&String> = streams
            .filter_map(|client| self.clients[client].follower.as_ref())
            .flat_map(|follower| &follower.namespaces)
            .collect();
        let counts: [(&str, u64, u64); 6] = [
            (
                "connections",
                status.connections as u64,
                self.live_count() as u64,
            ),
            (
                "subscribers",
                status.subscribers as u64,
                self.streams().count() as u64,
            ),
            ("namespaces", status.namespaces as u64, names.len() as u64),
            ("events", status.events, self.order.len() as u64),
            ("bytes", status.bytes, self.net.bytes),
            (
                "connections_total",
                status.connections_total,
                self.connections_total,
            ),
        ];
        for (name, says, is) in counts {
            if says != is {
                return Err(format!("status says {says} {name}, it is {is}"));
            }
        }
        if status.disconnects != self.disconnects {
            let is = self.disconnects;
            return Err(format!(
                "status says {:?} ended, it is {is:?}",
                status.disconnects
            ));
        }
        if status.retained_bytes > self.config.history_total as u64 {
            return Err(format!("{} bytes are retained", status.retained_bytes));
        }
        Ok(())
    }

    // The end.

    fn begin_drain(&mut self) -> Result<(), String> {
        if let Some(witness) = self.witness {
            // It may be the first to go, so nothing must come after that only it could tell.
            self.close_uploaders()?;
            self.witness = None;
            self.clients[witness].witness = false;
        }
        let grace = *self.dice.pick(&[0, 1, 50, 1000, 10_000]);
        let now = self.instant();
        self.rules.draining = true;
        self.rules.grace = grace;
        self.rules.drained_from = self.order.len();
        self.farewells = (self.now + grace / 10 * 9, self.now + grace);
        self.engine.drain(Duration::from_millis(grace), now);
        if grace == 0 {
            for index in 0..self.live.len() {
                self.must_end(self.live[index], Reason::Shutdown);
            }
        }
        Ok(())
    }

    fn close_uploaders(&mut self) -> Result<(), String> {
        for _ in 0..20_000 {
            let uploaders: Vec<usize> = self
                .live
                .iter()
                .copied()
                .filter(|&client| self.clients[client].is_uploader())
                .collect();
            if uploaders.is_empty() && self.resolved == self.order.len() {
                return Ok(());
            }
            for client in uploaders {
                if self.clients[client].is_live() {
                    let id = self.clients[client].id;
                    if self.engine.disconnect_id(id, Reason::Kicked) {
                        self.must_end(client, Reason::Kicked);
                    }
                }
            }
            self.turn()?;
            self.now += 1;
        }
        Err("the uploads do not end".into())
    }

    /// Opens all sockets and waits until nothing more happens.
    fn quiesce(&mut self) -> Result<(), String> {
        for &client in &self.live {
            self.net.sockets[client].policy = Policy::All;
        }
        let mut quiet = 0;
        for _ in 0..20_000 {
            for index in 0..self.live.len() {
                let client = self.live[index];
                if self.net.sockets[client].may_open() {
                    self.make_writable(client);
                }
            }
            self.turn()?;
            let nothing_left = self.owed() == 0 && self.intake.is_empty() && !self.busy;
            quiet = if nothing_left { quiet + 1 } else { 0 };
            // A few turns more, for logs to drop what nobody needs now.
            if quiet > 5 && self.retained() == 0 || quiet > 100 {
                return self.check_quiet();
            }
            self.now += u64::from(!self.busy);
        }
        self.check_quiet()?;
        Err("it does not come to rest".into())
    }

    fn owed(&self) -> u64 {
        let followers = self
            .streams()
            .filter_map(|client| self.clients[client].follower.as_ref());
        followers.map(|follower| follower.owed).sum()
    }

    fn check_quiet(&self) -> Result<(), String> {
        if self.resolved != self.order.len() {
            let slot = &self.order[self.resolved];
            let wanted = slot.planned.as_ref().map(|planned| show(&planned.wire));
            let got = show(&self.witnessed);
            return Err(format!(
                "the witness was not given all events, {wanted:?}, but {got}"
            ));
        }
        for &client in &self.live {
            if let Some(follower) = &self.clients[client].follower
                && follower.owed > 0
                && follower.farewell.is_none()
            {
                return Err(format!(
                    "client {client} still lacks {} bytes",
                    follower.owed
                ));
            }
        }
        match self.retained() {
            0 => Ok(()),
            bytes => Err(format!("{bytes} bytes are retained for nobody")),
        }
    }

    fn end_everyone(&mut self) -> Result<(), String> {
        if !self.rules.draining && self.dice.percent(50) {
            self.begin_drain()?;
        }
        if self.rules.draining {
            self.finish_drain()?;
        } else {
            self.close_everyone()?;
        }
        let status = self.engine.status(self.instant());
        let left = (status.connections, status.subscribers, status.namespaces);
        if left != (0, 0, 0) || status.retained_bytes != 0 {
            return Err(format!("at the end there is still {status:?}"));
        }
        if !self.some_lagged && status.deliveries != self.events_given {
            let (says, is) = (status.deliveries, self.events_given);
            return Err(format!("status says {says} deliveries, it is {is}"));
        }
        Ok(())
    }

    fn finish_drain(&mut self) -> Result<(), String> {
        while !self.engine.is_drained() {
            self.turn()?;
            if self.now > self.farewells.1 {
                return Err("the drain goes on beyond its grace".into());
            }
            let next = self.deadline.unwrap_or(self.now);
            let next = if self.busy { self.now } else { next };
            self.now = next.max(self.now + u64::from(self.dice.percent(20)));
            self.now = self.now.min(self.farewells.1.max(self.now));
            if self.now == self.farewells.1 {
                self.turn()?;
                if !self.engine.is_drained() {
                    return Err("somebody is left after the grace".into());
                }
            }
        }
        self.turn()
    }

    fn close_everyone(&mut self) -> Result<(), String> {
        for index in 0..self.live.len() {
            let number = self.live[index];
            let client = &mut self.clients[number];
            client.closes = true;
            client.witness = false;
            if !client.remote && self.engine.disconnect_id(client.id, Reason::Client) {
                self.must_end(number, Reason::Client);
            }
        }
        for _ in 0..10_000 {
            self.turn()?;
            if self.live.is_empty() {
                return Ok(());
            }
            if !self.busy {
                self.now = self.deadline.unwrap_or(self.now).max(self.now + 1);
            }
        }
        Err(format!("clients {:?} do not end", self.live))
    }
}

fn some_config(dice: &mut Dice, roomy: bool) -> Config {
    let ms = |ms: u64| Duration::from_millis(ms);
    let mut config = Config::default();
    config.max_event = *dice.pick(&[40, 40, 300, 300, 1000, 1000, 5000, 20_000]);
    config.max_lag = *dice.pick(&[1, 5000, 50_000, 200_000]);
    config.write_budget = *dice.pick(&[300, 1000, 4096, 16_384]);
    if config.max_event == 40 && dice.percent(20) {
        config.write_budget = 10;
    }
    config.keepalive = ms(*dice.pick(&[0, 20, 500, 15_000]));
    if dice.percent(30) {
        config.keepalive_text = "still here".into();
    }
    config.write_timeout = ms(*dice.pick(&[10, 300, 30_000]));
    config.head_timeout = ms(*dice.pick(&[10, 200, 10_000]));
    config.retry = ms(*dice.pick(&[0, 1, 3000]));
    config.coalesce = ms(*dice.pick(&[0, 0, 0, 1, 10]));
    config.max_namespaces = *dice.pick(&[1, 3, 8, 1000, 1000, 1000]);
    let lag = lag_limit(&config);
    config.history_total = if roomy {
        1 << 30
    } else {
        lag + dice.between(0, 2 * lag)
    };
    config
}

/// What a subscriber may lack: there is room for the largest event, and for what gathers before it.
fn lag_limit(config: &Config) -> usize {
    let least = max_frame_bytes(config.max_event) + config.write_budget;
    config.max_lag.max(least)
}
