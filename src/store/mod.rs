//! What keeps events beyond the end of the process: what it is given, and what it must hold to.
//!
//! Owns the words between the engine's memory and a store. Knows neither files nor threads: a driver calls an [`EventStore`] on a thread of
//! its own, so that a store may take its time.

#[cfg(feature = "disk")]
pub(crate) mod disk;
#[cfg(feature = "disk")]
mod fsync;
mod last_events;

use std::io;
use std::time::SystemTime;

use bytes::Bytes;

use crate::event_stream::frame::{Frame, Target};
use crate::namespace::Namespace;

#[cfg(feature = "disk")]
pub use fsync::Fsync;
pub use last_events::LastEvents;

/// One event as a store keeps it: its number in the total order, where it was published, and its bytes.
#[derive(Debug, Clone)]
pub struct Record {
    pub(crate) seq: u64,
    pub(crate) frame: Frame,
}

impl Record {
    /// Makes a record of what [`seq`](Self::seq), [`namespaces`](Self::namespaces) and [`bytes`](Self::bytes) told.
    ///
    /// The bytes go to subscribers as they are, so they must be those that the store was given.
    pub fn new(seq: u64, mut namespaces: Vec<Namespace>, bytes: impl Into<Bytes>) -> Self {
        let target = match namespaces.len() {
            0 => Target::Everyone,
            1 => Target::One(namespaces.remove(0)),
            _ => Target::Many(namespaces),
        };
        let bytes = bytes.into();
        Self {
            seq,
            frame: Frame {
                target,
                bytes,
                encoded: true,
            },
        }
    }

    /// The event's number in the total order, from 1.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The namespaces that it was published to; none if it was broadcast to all.
    pub fn namespaces(&self) -> &[Namespace] {
        match &self.frame.target {
            Target::One(namespace) => std::slice::from_ref(namespace),
            Target::Many(namespaces) => namespaces,
            Target::Everyone => &[],
        }
    }

    /// The whole event as it goes over the wire: UTF-8.
    pub fn bytes(&self) -> &Bytes {
        &self.frame.bytes
    }
}

/// What a store knows beside its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The number of the next event: larger than any that anybody may have seen in this epoch, whether or not that event is still there.
    pub next: u64,
    /// What could not be read and was left out, in words for the log; `None` if nothing was.
    pub dropped: Option<String>,
}

/// A store of events: history that outlives the process.
///
/// It is called on a thread of its own, one call at a time, and may block. An event is delivered to subscribers only after
/// [`append`](Self::append) returned `Ok` for it. The store's end is its [`Drop`]; before that comes a last [`sync`](Self::sync).
pub trait EventStore: Send {
    /// The epoch of its events' ids: `fresh` if it is empty. Called once, before everything else.
    ///
    /// # Errors
    /// Whatever keeps the store from being read or used. The server does not start then.
    fn epoch(&mut self, fresh: u64) -> io::Result<u64>;

    /// What is known of the events before the first that it still has, as far as that goes. Called once, after [`epoch`](Self::epoch). A store that does
    /// not know costs nobody an event; but whoever comes back after a restart with an event from before the first is told of a gap, even if nothing
    /// was missed since.
    ///
    /// # Errors
    /// As those of [`epoch`](Self::epoch).
    fn last_events(&mut self) -> io::Result<LastEvents> {
        Ok(LastEvents::default())
    }

    /// Hands out the events that it has, in the order of their numbers, each with the time when it was appended. Called once, after
    /// [`last_events`](Self::forgotten). Numbers may be missing between them.
    ///
    /// # Errors
    /// As those of [`epoch`](Self::epoch).
    fn recover(&mut self, each: &mut dyn FnMut(Record, SystemTime)) -> io::Result<Recovered>;

    /// Appends events in the order of their numbers, perhaps none; on `Ok`, they survive the end of this process.
    ///
    /// # Errors
    /// Whatever went wrong. None of the events counts then: those from requests are refused, and those from publishers in the process go on
    /// without being stored, under these numbers. So until an append works again, somebody may have seen numbers that the store has not.
    fn append(&mut self, records: &[Record], at: SystemTime) -> io::Result<()>;

    /// Makes what was appended survive a power cut, if the store does not do that at once or leaves it to others. Called some 100 ms
    /// after an append, whether that worked or not.
    ///
    /// # Errors
    /// Whatever went wrong; what was appended counts nevertheless. It is called again until it works.
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// The events before this number are no longer wanted; the store may delete them when it likes. Called after each
    /// [`sync`](Self::sync).
    ///
    /// # Errors
    /// Whatever went wrong. It is called again until it works.
    fn prune(&mut self, before: u64) -> io::Result<()> {
        let _ = before;
        Ok(())
    }
}
