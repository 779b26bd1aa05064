//! The turns of a world: the work of the server's event loop, with simulated sockets.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

#[cfg(feature = "publish")]
use fanfare::internals::max_frame_bytes;
use fanfare::internals::{EventLimits, Frame, Namespaces, ReadInterest, SURPLUS};
use fanfare::{DisconnectReason as Reason, Namespace, Status};

use super::{Slot, World};
use crate::client::{Client, Ended};
use crate::model::{Follower, NAMESPACES, Planned, reduce};
use crate::net::{Policy, Socket};
use crate::requests::{Ask, Writer};

impl World {
    pub(super) fn turn(&mut self) -> Result<(), String> {
        let now = self.instant();
        self.net.now = self.now;
        self.net
            .trace(|| format!("turn, {} events wait", self.queue.len()));
        for socket in &self.live {
            let socket = &mut self.net.sockets[*socket];
            socket.took_before = socket.took_at;
        }
        self.report_writable();
        self.accept()?;
        self.read()?;
        let idle = self.take_events()?;
        self.engine.end_intake(idle, now);
        self.start_drain();
        self.engine.tick(now);
        let unfinished = self.engine.flush(&mut self.net, now);
        self.engine.take_opened();
        self.note_streams();
        for conn in self.engine.take_readable_again() {
            if let Some(client) = self.net.client(conn) {
                self.clients[client].paused = false;
            }
        }
        self.reap()?;
        let to_read = self.live.iter().any(|&client| {
            let client = &self.clients[client];
            client.is_live() && !client.paused && !client.readable().is_empty()
        });
        self.busy = unfinished || !idle && !self.engine.is_paused() || to_read;
        let deadline = self.engine.next_deadline();
        self.deadline = deadline.map(|at| (at - self.started).as_millis() as u64);
        self.resolve()?;
        if self.resolved < self.order.len() {
            self.unresolved = true;
            self.check_responses()?;
        } else {
            self.check_clients(idle && !unfinished)?;
            self.unresolved = false;
            if idle && !unfinished {
                self.check_retained()?;
            }
        }
        self.check_status()
    }

    /// Starts the announced drain once the events that were queued then are published.
    fn start_drain(&mut self) {
        let due = |(queued, until): &mut (usize, u64)| *queued == 0 || self.now >= *until;
        let Some((_, until)) = self.drain.take_if(due) else {
            return;
        };
        let grace = until.saturating_sub(self.now);
        self.rules.drained_from = self.order.len();
        self.closing = (self.now + grace / 10 * 9, until);
        self.engine
            .drain(Duration::from_millis(grace), self.instant());
    }

    pub(super) fn report_writable(&mut self) {
        for index in 0..self.live.len() {
            let client = self.live[index];
            if self.net.sockets[client].may_open() && self.dice.percent(40) {
                self.make_writable(client);
            }
        }
    }

    pub(super) fn accept(&mut self) -> Result<(), String> {
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
                other => return Err(format!("accept returned {other:?} at {count} connections")),
            }
        }
        Ok(())
    }

    pub(super) fn some_script(&mut self) -> Vec<Ask> {
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

    pub(super) fn add(&mut self, client: Client, policy: Policy) {
        let index = self.net.add(client.conn, Socket::new(policy, self.now));
        assert_eq!(index, self.clients.len());
        self.clients.push(client);
        self.live.push(index);
    }

    pub(super) fn subscribe(&mut self, names: Vec<String>, policy: Policy) {
        let now = self.instant();
        let parsed = names
            .iter()
            .map(|name| Namespace::parse(name).expect("a namespace"));
        let namespaces = Namespaces::new(parsed.collect()).expect("at least one name");
        self.connections_total += 1;
        let fits = self.nodes_with(&names) <= self.config.max_namespaces;
        match self.engine.subscribe(&namespaces, now) {
            Ok(conn) if fits => {
                let id = self.engine.info(conn).id;
                let follower = self.follower(&names, false);
                self.add(Client::subscription(conn, id, follower, self.now), policy);
            }
            Err(_) if !fits => self.orphans += 1,
            other => self.net.fault = Some(format!("{names:?} fits {fits}, and is {other:?}")),
        }
    }

    pub(super) fn follower(&self, names: &[String], remote: bool) -> Follower {
        let keepalive = format!(":{}\n\n", self.config.keepalive_text).into_bytes();
        let prefix = remote.then_some(self.rules.retry);
        Follower::new(reduce(names), self.order.len(), prefix, keepalive)
    }

    /// How many namespaces are in use together with these, ancestors included.
    pub(super) fn nodes_with(&self, names: &[String]) -> usize {
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

    pub(super) fn live_count(&self) -> usize {
        let live = self.live.iter();
        live.filter(|&&client| self.clients[client].is_live())
            .count()
            + self.orphans
    }

    pub(super) fn streams(&self) -> impl Iterator<Item = usize> + '_ {
        self.live.iter().copied().filter(|&client| {
            let client = &self.clients[client];
            client.is_live() && client.follower.is_some()
        })
    }

    pub(super) fn read(&mut self) -> Result<(), String> {
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
                let interest = self.engine.receive(conn, &readable[..piece], now);
                client.deliver(piece, self.now);
                client.paused = interest == ReadInterest::Pause;
                self.note_stream(number)?;
                if self.clients[number].follower.is_some() && self.clients[number].broke_protocol()
                {
                    self.must_end(number, Reason::Protocol);
                }
            }
        }
        Ok(())
    }

    pub(super) fn hang_up(&mut self, client: usize) {
        let now = self.instant();
        self.clients[client].hung_up = true;
        self.engine.hang_up(self.clients[client].conn, now);
        if self.clients[client].follower.is_some() {
            self.must_end(client, Reason::Client);
        }
    }

    pub(super) fn note_streams(&mut self) {
        for index in 0..self.live.len() {
            if let Err(problem) = self.note_stream(self.live[index]) {
                self.net.fault.get_or_insert(problem);
            }
        }
    }

    /// Notes that a client's stream has begun.
    pub(super) fn note_stream(&mut self, number: usize) -> Result<(), String> {
        let client = &self.clients[number];
        if client.follower.is_some() || !client.is_live() || !self.engine.is_stream(client.conn) {
            return Ok(());
        }
        let names = client.asked_namespaces();
        if client.surplus {
            return Err(format!("surplus client {number} got a stream"));
        }
        if self.nodes_with(&names) > self.config.max_namespaces {
            return Err(format!("{names:?} are more namespaces than allowed"));
        }
        let follower = self.follower(&names, true);
        self.clients[number].follower = Some(follower);
        Ok(())
    }

    /// Takes events from the queue and from uploads alternately; returns whether none are left.
    pub(super) fn take_events(&mut self) -> Result<bool, String> {
        let listeners = Rc::new(self.streams().collect::<Vec<usize>>());
        for _ in 0..64 {
            let mut taken = false;
            for _ in 0..self.batch {
                if !self.engine.can_append() {
                    return Ok(false);
                }
                let Some(planned) = self.queue.pop_front() else {
                    break;
                };
                self.publish(&planned, &listeners)?;
                taken = true;
                if let Some((queued, _)) = &mut self.drain {
                    *queued = queued.saturating_sub(1);
                }
            }
            taken |= self.work_on_upload(&listeners)?;
            if !taken {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn publish(
        &mut self,
        planned: &Rc<Planned>,
        listeners: &Rc<Vec<usize>>,
    ) -> Result<(), String> {
        let limits = EventLimits {
            max_event: self.config.max_event,
            namespace: self.config.namespace_limits(),
        };
        let event = planned.event.clone();
        let event = if planned.broadcast {
            event.to_all()
        } else {
            event
        };
        let frame = Frame::new(&event, &limits);
        let frame = frame.map_err(|error| error.to_string())?;
        let now = self.instant();
        let before = self.engine.status(now);
        let published = self.engine.publish(&frame, now);
        let published = published.expect("without a store it is published at once");
        self.order.push(Slot {
            planned: Some(planned.clone()),
            listeners: listeners.clone(),
        });
        self.note_pressure(&before, planned.wire.len())?;
        let reached = self.count(planned, listeners);
        if published.subscribers != reached {
            let counted = published.subscribers;
            return Err(format!(
                "published to {counted} subscribers, expected {reached}"
            ));
        }
        Ok(())
    }

    pub(super) fn retained(&self) -> u64 {
        self.engine.status(self.instant()).retained_bytes
    }

    pub(super) fn count(&self, planned: &Planned, listeners: &[usize]) -> usize {
        let followers = listeners
            .iter()
            .filter_map(|&client| self.clients[client].follower.as_ref());
        followers
            .filter(|follower| planned.reaches(&follower.namespaces))
            .count()
    }

    /// Notes that events were evicted for the limit of all memory. Lagging subscribers may then be
    /// disconnected.
    pub(super) fn note_pressure(&mut self, before: &Status, bytes: usize) -> Result<(), String> {
        let after = self.engine.status(self.instant());
        if after.evicted == before.evicted {
            return Ok(());
        }
        // The most memory that the logs can take for an event of this size.
        let most = NAMESPACES.len() * (3 * bytes + (100 << 10));
        if before.retained_memory + (most as u64) < self.config.history_total as u64 {
            return Err(format!("events were evicted below the limit: {before:?}"));
        }
        for index in 0..self.live.len() {
            self.clients[self.live[index]].excused = true;
        }
        Ok(())
    }

    #[cfg(not(feature = "publish"))]
    #[expect(
        clippy::needless_pass_by_ref_mut,
        reason = "with publishing it changes the world"
    )]
    pub(super) fn work_on_upload(&mut self, _listeners: &Rc<Vec<usize>>) -> Result<bool, String> {
        Ok(false)
    }

    #[cfg(feature = "publish")]
    pub(super) fn work_on_upload(&mut self, listeners: &Rc<Vec<usize>>) -> Result<bool, String> {
        let now = self.instant();
        let before = self.engine.status(now);
        let worked = self.engine.work_on_upload(now);
        let mut bytes = 0;
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
                Some(planned.ok_or("an event without a publisher")?)
            } else {
                None
            };
            if let Some(planned) = &planned {
                bytes += planned.wire.len();
            }
            self.order.push(Slot {
                planned,
                listeners: listeners.clone(),
            });
        }
        // The events of a request are not known before the witness gets them.
        let most = 100 * max_frame_bytes(self.config.max_event);
        self.note_pressure(&before, if self.witness.is_none() { bytes } else { most })?;
        Ok(worked)
    }

    pub(super) fn reap(&mut self) -> Result<(), String> {
        let mut reaped = Vec::new();
        self.engine
            .reap(|conn, info, reason| reaped.push((conn, info, reason)));
        self.engine.check();
        for (conn, info, reason) in reaped {
            self.disconnects[reason as usize] += 1;
            let Some(client) = self.net.remove(conn) else {
                if self.orphans == 0 || reason != Reason::Overload {
                    return Err(format!("{info:?} of no client ended for {reason}"));
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
            return Err("a refused subscription was not reaped".into());
        }
        Ok(())
    }
}
