//! The checks after each turn.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use fanfare::DisconnectReason as Reason;

use super::World;
use crate::model::Planned;

impl World {
    /// Finds out which events uploads have published, and adds the known events to those that are
    /// due to streams.
    pub(super) fn resolve(&mut self) -> Result<(), String> {
        if let Some(witness) = self.witness {
            // The client parses the bytes too, so they stay.
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
            self.expect(self.resolved, &planned);
            self.resolved += 1;
        }
        self.witnessed.drain(..at);
        Ok(())
    }

    pub(super) fn identify(&mut self, at: usize) -> Result<Option<Rc<Planned>>, String> {
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

    /// Makes a known event due to its streams.
    fn expect(&mut self, slot: usize, planned: &Rc<Planned>) {
        let count = self.count(planned, &self.order[slot].listeners);
        self.went_to
            .insert(planned.event_type.clone(), count as u64);
        for &client in &self.live {
            let client = &mut self.clients[client];
            let there = client.ended.is_none_or(|ended| slot < ended.order);
            if let Some(follower) = &mut client.follower
                && slot >= follower.joined
                && there
            {
                follower.expect(slot, planned);
            }
        }
    }

    pub(super) fn check_clients(&mut self, idle: bool) -> Result<(), String> {
        for index in 0..self.live.len() {
            let number = self.live[index];
            self.check_client(number, idle)
                .map_err(|problem| format!("client {number}: {problem}"))?;
        }
        self.witness_copied = 0;
        let clients = &self.clients;
        self.live.retain(|&client| !clients[client].judged);
        Ok(())
    }

    /// Responses can be parsed though some events are not yet known.
    pub(super) fn check_responses(&mut self) -> Result<(), String> {
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

    pub(super) fn check_client(&mut self, number: usize, idle: bool) -> Result<(), String> {
        let client = &mut self.clients[number];
        let socket = &mut self.net.sockets[number];
        let seen = client.look(socket, &self.rules, self.now)?;
        for (event_type, counted) in client.claims.drain(..) {
            let is = self.went_to.get(&event_type).copied();
            if is != Some(counted) {
                return Err(format!(
                    "{event_type} went to {is:?} subscribers, the response counted {counted}"
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
        if let Some(late) = seen.keepalive
            && !self.unresolved
        {
            let quiet = self.now - socket.took_before;
            if late || quiet < self.rules.keepalive {
                return Err(format!("a keepalive after {quiet} ms of silence"));
            }
        }
        if idle {
            self.check_idle(number)?;
        }
        Ok(())
    }

    /// Checks a stream after a turn that had nothing left to do.
    pub(super) fn check_idle(&mut self, number: usize) -> Result<(), String> {
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
            if owed > self.rules.max_lag {
                return Err(format!("lags by {owed} bytes and is still connected"));
            }
            if owed > 0 && !socket.blocked {
                return Err(format!(
                    "is missing {owed} bytes, though its socket is open"
                ));
            }
        }
        let has_notice =
            follower.closing_notice.is_some() || follower.joined >= self.rules.drained_from;
        let (from, until) = self.closing;
        if socket.always_open && client.remote && !has_notice && (from..until).contains(&self.now) {
            return Err("no closing notice".into());
        }
        let quiet = self.now - socket.given_at;
        let keepalive = self.rules.keepalive;
        let due = keepalive > 0 && client.remote && owed == 0 && !socket.blocked;
        if due && quiet > keepalive + keepalive / 8 {
            return Err(format!("no keepalive in {quiet} ms of silence"));
        }
        Ok(())
    }

    /// Checks that logs hold only events that are still needed, once nothing is left to do.
    pub(super) fn check_retained(&self) -> Result<(), String> {
        if !self.config.coalesce.is_zero() || self.deadline == Some(self.now) {
            return Ok(());
        }
        let mut needed = BTreeMap::<&str, u64>::new();
        for client in self.streams() {
            if let Some(follower) = &self.clients[client].follower {
                for name in &follower.namespaces {
                    let most = needed.entry(name).or_default();
                    *most = follower.needed_in(name).max(*most);
                }
            }
        }
        let (is, most) = (self.retained(), needed.values().sum());
        if is > most {
            return Err(format!(
                "{is} bytes are retained, but only {most} are needed"
            ));
        }
        Ok(())
    }

    pub(super) fn check_status(&mut self) -> Result<(), String> {
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
        for (name, counted, is) in counts {
            if counted != is {
                return Err(format!("status has {counted} {name}, expected {is}"));
            }
        }
        for &reason in Reason::ALL {
            let (counted, is) = (
                status.disconnects(reason),
                self.disconnects[reason as usize],
            );
            if counted != is {
                return Err(format!(
                    "status has {counted} ends by {reason}, expected {is}"
                ));
            }
        }
        if status.retained_memory > self.config.history_total as u64 {
            return Err(format!(
                "{} bytes exceed history_total",
                status.retained_memory
            ));
        }
        Ok(())
    }
}
