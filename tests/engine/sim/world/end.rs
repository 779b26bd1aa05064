//! The end of a world: nothing is left to do, all clients leave, and no memory is used.

use fanfare::DisconnectReason as Reason;
use fanfare::internals::SLICE;

use super::World;
use crate::model::show;
use crate::net::Policy;

impl World {
    pub(super) fn begin_drain(&mut self) -> Result<(), String> {
        self.dismiss_witness()?;
        let grace = *self.dice.pick(&[0, 1, 50, 1000, 10_000]);
        self.rules.draining = true;
        self.rules.grace = grace;
        self.engine.announce_drain();
        self.drain = Some((self.queue.len(), self.now + grace));
        Ok(())
    }

    /// The witness may end first, so uploads must end before: only the witness shows the order of
    /// their events.
    fn dismiss_witness(&mut self) -> Result<(), String> {
        if let Some(witness) = self.witness {
            self.close_uploaders()?;
            self.witness = None;
            self.clients[witness].witness = false;
        }
        Ok(())
    }

    pub(super) fn close_uploaders(&mut self) -> Result<(), String> {
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

    /// Opens all sockets and plays turns until nothing more happens.
    pub(super) fn quiesce(&mut self) -> Result<(), String> {
        for &client in &self.live {
            self.net.sockets[client].policy = Policy::All;
        }
        self.engine.set_slice(SLICE);
        let mut quiet = 0;
        for _ in 0..20_000 {
            let is_early = self.is_before_deadline();
            for index in 0..self.live.len() {
                let client = self.live[index];
                if self.net.sockets[client].may_open() {
                    self.make_writable(client);
                }
            }
            let bytes = self.net.bytes;
            self.turn()?;
            if is_early && self.net.bytes > bytes {
                return Err("a driver would have slept while bytes were due".into());
            }
            let nothing_left = self.owed() == 0 && self.queue.is_empty() && !self.busy;
            quiet = if nothing_left { quiet + 1 } else { 0 };
            // Logs drop events that are no longer needed within a few turns.
            if quiet > 5 && self.retained() == 0 || quiet > 100 {
                return self.check_quiet();
            }
            self.now += u64::from(!self.busy);
        }
        self.check_quiet()?;
        Err("it does not come to rest".into())
    }

    /// Whether a driver would still sleep: nothing comes from outside, and no deadline is reached.
    fn is_before_deadline(&self) -> bool {
        let changes = |&client: &usize| {
            let client_closes = self.clients[client].closes && !self.clients[client].hung_up;
            client_closes || self.net.sockets[client].may_open()
        };
        let is_quiet = self.to_connect == 0 && self.queue.is_empty() && !self.busy;
        is_quiet && self.deadline.is_none_or(|at| self.now < at) && !self.live.iter().any(changes)
    }

    pub(super) fn owed(&self) -> u64 {
        let followers = self
            .streams()
            .filter_map(|client| self.clients[client].follower.as_ref());
        followers.map(|follower| follower.owed).sum()
    }

    pub(super) fn check_quiet(&self) -> Result<(), String> {
        if self.resolved != self.order.len() {
            let slot = &self.order[self.resolved];
            let expected = slot.planned.as_ref().map(|planned| show(&planned.wire));
            let got = show(&self.witnessed);
            return Err(format!(
                "the witness did not receive {expected:?}, but {got}"
            ));
        }
        for &client in &self.live {
            if let Some(follower) = &self.clients[client].follower
                && follower.owed > 0
                && follower.closing_notice.is_none()
            {
                return Err(format!(
                    "client {client} is missing {} bytes at the end",
                    follower.owed
                ));
            }
        }
        match self.retained() {
            0 => Ok(()),
            bytes => Err(format!("{bytes} bytes are retained for no subscriber")),
        }
    }

    pub(super) fn end_everyone(&mut self) -> Result<(), String> {
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
            return Err(format!("not everything is released at the end: {status:?}"));
        }
        if !self.some_lagged && status.deliveries != self.events_given {
            let (counted, expected) = (status.deliveries, self.events_given);
            return Err(format!(
                "status has {counted} deliveries, expected {expected}"
            ));
        }
        Ok(())
    }

    pub(super) fn finish_drain(&mut self) -> Result<(), String> {
        while !self.engine.is_drained() {
            self.turn()?;
            if self.now >= self.closing.1 && !self.engine.is_drained() {
                return Err("a connection is left after the grace".into());
            }
            let next = self.deadline.filter(|_| !self.busy);
            let some_ms = u64::from(self.dice.percent(20));
            self.now = next.unwrap_or_default().max(self.now + some_ms);
        }
        self.turn()
    }

    pub(super) fn close_everyone(&mut self) -> Result<(), String> {
        self.dismiss_witness()?;
        for index in 0..self.live.len() {
            let number = self.live[index];
            let client = &mut self.clients[number];
            client.closes = true;
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
