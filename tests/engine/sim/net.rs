//! Sockets that follow a policy: the engine's outlet in a world without a network.

use std::collections::VecDeque;

use fanfare::DisconnectReason;
use fanfare::internals::{ConnId, Extent, Outlet, Slices};

use crate::model::show;
use crate::support::dice::Dice;

/// How many shared pages are kept to compare them with what is written.
const SHARED: usize = 8;

/// How a socket takes bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// All bytes.
    All,
    /// At most this number at a time, after which it is full.
    Sips(usize),
    /// Sometimes all, sometimes some, sometimes none.
    Fickle,
    /// This number of bytes, then none ever again.
    Stalls(usize),
    /// This number of bytes, then it fails.
    Breaks(usize, DisconnectReason),
}

pub(crate) struct Socket {
    pub(crate) policy: Policy,
    /// Bytes that it took and the client has not parsed; how many it took in all.
    pub(crate) taken: Vec<u8>,
    pub(crate) taken_bytes: u64,
    /// Full until the world says that it is writable.
    pub(crate) blocked: bool,
    /// When it last took a part of a write, unless it has taken a whole one since.
    pub(crate) short_at: Option<u64>,
    /// When bytes were last written to it; when it last took some; when it last took some before
    /// this turn.
    pub(crate) given_at: u64,
    pub(crate) took_at: u64,
    pub(crate) took_before: u64,
    /// It never was full.
    pub(crate) always_open: bool,
    pub(crate) finished: bool,
    pub(crate) failed: Option<DisconnectReason>,
    /// The engine knows that its connection is over.
    pub(crate) over: bool,
}

impl Socket {
    pub(crate) fn new(policy: Policy, now: u64) -> Self {
        Self {
            policy,
            taken: Vec::new(),
            taken_bytes: 0,
            blocked: false,
            short_at: None,
            given_at: now,
            took_at: now,
            took_before: now,
            always_open: true,
            finished: false,
            failed: None,
            over: false,
        }
    }

    pub(crate) fn may_open(&self) -> bool {
        self.blocked && !matches!(self.policy, Policy::Stalls(_)) && !self.over
    }
}

/// All sockets by the number of the client, and the clients by the engine's keys.
pub(crate) struct Net {
    pub(crate) sockets: Vec<Socket>,
    clients: Vec<Option<usize>>,
    pub(crate) now: u64,
    pub(crate) dice: Dice,
    pub(crate) bytes: u64,
    /// The first call of the engine that is wrong.
    pub(crate) fault: Option<String>,
    shared: VecDeque<(Extent, Vec<u8>)>,
    traced: bool,
}

impl Net {
    pub(crate) fn new(dice: Dice) -> Self {
        Self {
            sockets: Vec::new(),
            clients: Vec::new(),
            now: 0,
            dice,
            bytes: 0,
            fault: None,
            shared: VecDeque::new(),
            traced: std::env::var_os("SIM_TRACE").is_some(),
        }
    }

    pub(crate) fn add(&mut self, conn: ConnId, socket: Socket) -> usize {
        let conn = conn.index();
        if self.clients.len() <= conn {
            self.clients.resize(conn + 1, None);
        }
        assert!(self.clients[conn].is_none(), "a key in use was used again");
        self.sockets.push(socket);
        self.clients[conn] = Some(self.sockets.len() - 1);
        self.sockets.len() - 1
    }

    pub(crate) fn client(&self, conn: ConnId) -> Option<usize> {
        *self.clients.get(conn.index())?
    }

    pub(crate) fn remove(&mut self, conn: ConnId) -> Option<usize> {
        self.clients.get_mut(conn.index())?.take()
    }

    fn capacity(&mut self, client: usize, bytes: usize) -> Result<usize, DisconnectReason> {
        let dice = &mut self.dice;
        let took = self.sockets[client].taken_bytes as usize;
        Ok(match self.sockets[client].policy {
            Policy::All => bytes,
            Policy::Sips(most) => dice.between(1, most).min(bytes),
            Policy::Fickle => match dice.below(3) {
                0 => bytes,
                1 => dice.between(0, bytes),
                _ => 0,
            },
            Policy::Stalls(after) => bytes.min(after.saturating_sub(took)),
            Policy::Breaks(after, _) if took < after => bytes.min(after - took),
            Policy::Breaks(_, reason) => return Err(reason),
        })
    }

    /// Prints an action, with `SIM_TRACE=1`.
    pub(crate) fn trace(&self, action: impl FnOnce() -> String) {
        if self.traced {
            eprintln!("{:>8} {}", self.now, action());
        }
    }

    /// Whether bytes of a log differ from the shared pages.
    fn differs(&self, extent: Extent, bytes: &[u8]) -> bool {
        self.shared.iter().any(|(shared, known)| {
            let Some(common) = shared.overlap(extent) else {
                return false;
            };
            let part = |of: &Extent, bytes: &[u8]| {
                let before = of.bytes_before(common).expect("a part of both") as usize;
                bytes[before..before + common.bytes() as usize].to_vec()
            };
            part(&extent, bytes) != part(shared, known)
        })
    }

    fn fault(&mut self, client: usize, what: &str) {
        self.fault
            .get_or_insert_with(|| format!("client {client}: {what}"));
    }
}

impl Outlet for Net {
    fn write(&mut self, conn: ConnId, slices: &Slices<'_>) -> Result<usize, DisconnectReason> {
        let Some(client) = self.client(conn) else {
            self.fault(usize::MAX, "written to after it was removed");
            return Err(DisconnectReason::Error);
        };
        let bytes = slices.to_vec();
        if slices
            .extent()
            .is_some_and(|extent| self.differs(extent, &bytes))
        {
            self.fault(client, "bytes that differ from the shared pages");
        }
        let socket = &self.sockets[client];
        for (wrong, what) in [
            (bytes.is_empty(), "a write of nothing"),
            (bytes.len() != slices.bytes(), "slices of another length"),
            (socket.blocked, "written to while it is full"),
            (socket.finished, "written to after it was finished"),
            (socket.failed.is_some(), "written to after it failed"),
            (socket.over, "written to after its end was reported"),
        ] {
            if wrong {
                self.fault(client, what);
            }
        }
        let capacity = self.capacity(client, bytes.len());
        self.trace(|| {
            format!(
                "{client} is written {} and takes {capacity:?}",
                show(&bytes)
            )
        });
        let now = self.now;
        let socket = &mut self.sockets[client];
        socket.given_at = now;
        let count = capacity.inspect_err(|&reason| socket.failed = Some(reason))?;
        socket.blocked = count < bytes.len();
        socket.short_at = socket.blocked.then_some(now);
        socket.always_open &= !socket.blocked;
        if count > 0 {
            socket.took_at = now;
        }
        socket.taken.extend_from_slice(&bytes[..count]);
        socket.taken_bytes += count as u64;
        self.bytes += count as u64;
        Ok(count)
    }

    fn publish_pages(&mut self, slices: &Slices<'_>, readers: usize) {
        let extent = slices.extent().expect("shared pages are of one log");
        if readers < 2 {
            self.fault(usize::MAX, "pages for one reader were shared");
        }
        self.shared.push_back((extent, slices.to_vec()));
        if self.shared.len() > SHARED {
            self.shared.pop_front();
        }
    }

    fn finish(&mut self, conn: ConnId) {
        if let Some(client) = self.client(conn) {
            self.sockets[client].finished = true;
        }
    }
}
