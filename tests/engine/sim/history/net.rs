//! The sockets of the clients: some take whole writes, others a few bytes at a time.

use std::collections::BTreeMap;

use fanfare::DisconnectReason as Reason;
use fanfare::internals::{ConnId, Outlet, Slices};

use crate::support::dice::Dice;

pub(super) struct Socket {
    /// The number of the client.
    pub(super) client: usize,
    /// The most that one write takes.
    pub(super) sip: usize,
    /// Full until the world opens it.
    pub(super) blocked: bool,
}

pub(super) struct Net {
    sockets: BTreeMap<ConnId, Socket>,
    /// The writes of this turn.
    written: Vec<(ConnId, Vec<u8>)>,
    dice: Dice,
}

impl Net {
    pub(super) fn new(dice: Dice) -> Self {
        Self {
            sockets: BTreeMap::new(),
            written: Vec::new(),
            dice,
        }
    }

    pub(super) fn add(&mut self, conn: ConnId, client: usize, sip: usize) {
        let blocked = false;
        let socket = Socket {
            client,
            sip,
            blocked,
        };
        self.sockets.insert(conn, socket);
    }

    pub(super) fn socket(&mut self, conn: ConnId) -> &mut Socket {
        let socket = self.sockets.get_mut(&conn);
        socket.expect("a known connection")
    }

    /// Removes a connection; returns the number of its client, if it is known.
    pub(super) fn remove(&mut self, conn: ConnId) -> Option<usize> {
        Some(self.sockets.remove(&conn)?.client)
    }

    pub(super) fn clear(&mut self) {
        self.sockets.clear();
        self.written.clear();
    }

    pub(super) fn take_written(&mut self) -> Vec<(ConnId, Vec<u8>)> {
        std::mem::take(&mut self.written)
    }
}

impl Outlet for Net {
    fn write(&mut self, conn: ConnId, slices: &Slices<'_>) -> Result<usize, Reason> {
        let mut bytes: Vec<u8> = Vec::new();
        let slices = slices.as_slice().iter();
        slices.for_each(|slice| bytes.extend_from_slice(slice));
        let socket = self.sockets.get_mut(&conn);
        let socket = socket.expect("a known connection");
        assert!(!socket.blocked, "written to while it is full");
        let most = match socket.sip {
            usize::MAX => usize::MAX,
            sip => self.dice.between(0, sip),
        };
        let count = bytes.len().min(most);
        socket.blocked = count < bytes.len();
        bytes.truncate(count);
        self.written.push((conn, bytes));
        Ok(count)
    }

    fn publish_pages(&mut self, _: &Slices<'_>, _: usize) {}

    fn finish(&mut self, _: ConnId) {}
}
