//! The interface of event stores, which keep events beyond the end of the process.
//!
//! Owns the trait [`EventStore`] and the values that pass between the engine and a store. Knows
//! neither threads nor, with the exception of the store in `disk`, files: a driver calls a store on
//! a thread of its own, so a store may block.

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

/// An event as a store keeps it: its number in the total order, its namespaces and its encoded
/// bytes.
#[derive(Debug, Clone)]
pub struct Record {
    pub(crate) seq: u64,
    pub(crate) frame: Frame,
}

impl Record {
    /// Makes a record from the values of [`seq`](Self::seq), [`namespaces`](Self::namespaces) and
    /// [`bytes`](Self::bytes) of a record that was appended before.
    ///
    /// `bytes` go to subscribers unchecked, so they must be exactly those that
    /// [`EventStore::append`] was given.
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

    /// Returns the event's number in the total order, which starts at 1.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Returns the namespaces the event was published to; empty for an event that was broadcast.
    ///
    /// Namespaces above them are not listed.
    pub fn namespaces(&self) -> &[Namespace] {
        match &self.frame.target {
            Target::One(namespace) => std::slice::from_ref(namespace),
            Target::Many(namespaces) => namespaces,
            Target::Everyone => &[],
        }
    }

    /// Returns the event as it goes over the wire: UTF-8, one whole event with its blank line.
    ///
    /// There is an `id` field only if the publisher gave the event an ID.
    pub fn bytes(&self) -> &Bytes {
        &self.frame.bytes
    }
}

/// The result of opening a store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// The number of the next event.
    ///
    /// It must exceed the number of every event of this epoch that a subscriber may have received,
    /// including events that are no longer stored and events that could not be stored.
    pub next_seq: u64,
    /// A description of the data that could not be read, for the log; `None` if the store is
    /// intact.
    pub damage: Option<String>,
}

impl Recovered {
    /// Makes the result of opening an intact store.
    pub fn new(next_seq: u64) -> Self {
        Self {
            next_seq,
            damage: None,
        }
    }
}

/// Receives the content of an event store while it is opened: [`begin`](Self::begin) once, then
/// [`event`](Self::event) for each stored event.
///
/// The server implements it. A server whose store calls the methods in another order does not
/// start.
pub trait Restore {
    /// Sets the epoch of the stored events, and the last events of namespaces before the first
    /// stored event.
    ///
    /// A store that does not keep `last_events` passes `LastEvents::default()`. No stored
    /// event is lost then, but after a restart a client that resumes from an event before the first
    /// stored one receives a gap event, even if it missed nothing.
    fn begin(&mut self, epoch: u64, last_events: LastEvents);

    /// Restores an event with the time it was appended at.
    ///
    /// Events come in ascending order of their numbers, after those that `last_events` covers.
    /// Numbers may be missing; the events with these numbers count as lost.
    fn event(&mut self, record: Record, at: SystemTime);
}

/// A store of events: history that outlives the process.
///
/// [`Builder::event_store`](crate::Builder::event_store) makes a server use one. An event is
/// delivered to subscribers only after [`append`](Self::append) returned `Ok` for it.
///
/// # Threads
/// [`open`](Self::open) is called on the thread that starts the server. All other calls come from a
/// thread of their own, one at a time, and may block; events gather meanwhile, up to about 1 MiB,
/// and then publishers wait. At shutdown the store gets a last `sync` and `prune`, if events were
/// appended since the previous ones, and is dropped.
///
/// A store that panics fails its batch and all that follow, as if each `append` returned an error.
///
/// # Example
/// A store in memory, as a test may use it. The repository's `examples/event_store.rs` keeps events
/// in a file.
///
/// ```
/// use std::io;
/// use std::time::SystemTime;
///
/// use fanfare::{EventStore, LastEvents, Record, Recovered, Restore, Server};
///
/// #[derive(Default)]
/// struct Memory(Vec<Record>);
///
/// impl EventStore for Memory {
///     fn open(&mut self, fresh_epoch: u64, restore: &mut dyn Restore) -> io::Result<Recovered> {
///         restore.begin(fresh_epoch, LastEvents::default());
///         Ok(Recovered::new(1))
///     }
///
///     fn append(&mut self, records: &[Record], _at: SystemTime) -> io::Result<()> {
///         self.0.extend_from_slice(records);
///         Ok(())
///     }
///
///     fn prune(&mut self, before: u64) -> io::Result<()> {
///         self.0.retain(|record| record.seq() >= before);
///         Ok(())
///     }
/// }
///
/// let server = Server::builder().event_store(Memory::default()).build()?;
/// # Ok::<(), fanfare::ConfigError>(())
/// ```
pub trait EventStore: Send {
    /// Opens the store and hands its content to `restore`. Called once, before all other methods.
    ///
    /// An empty store adopts `fresh_epoch`, and keeps it with its first events: an epoch identifies
    /// the history that event IDs belong to, and must stay the same as long as numbers continue.
    ///
    /// # Errors
    /// The store cannot be read or written. The server does not start.
    fn open(&mut self, fresh_epoch: u64, restore: &mut dyn Restore) -> io::Result<Recovered>;

    /// Appends events in ascending order of their numbers. `records` may be empty. After `Ok` the
    /// events must survive the end of the process, a crash included.
    ///
    /// `at` is the time of the call, and becomes the age of the events when they are restored.
    ///
    /// # Errors
    /// None of the events may then be restored later. Events that were published over HTTP are
    /// refused with 507. Events from publishers in this process are delivered under their numbers
    /// without being stored, so the store must allow for that in [`Recovered::next_seq`] until an
    /// append succeeds.
    fn append(&mut self, records: &[Record], at: SystemTime) -> io::Result<()>;

    /// Makes appended events survive a power cut. Called about 100 ms after an append, even if that
    /// failed.
    ///
    /// The default does nothing: it suits a store that syncs in `append`, or one that leaves it to
    /// the operating system.
    ///
    /// # Errors
    /// Appended events stay valid, and publishing over HTTP is refused with 507. The call is
    /// repeated every second until it succeeds.
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Allows the store to delete the events before the number `before`, now or later. Called after
    /// each [`sync`](Self::sync).
    ///
    /// Deleted events should be added to the [`LastEvents`] that [`open`](Self::open) passes on.
    /// The default does nothing, so the store grows without bound.
    ///
    /// # Errors
    /// Handled as those of [`sync`](Self::sync).
    fn prune(&mut self, before: u64) -> io::Result<()> {
        let _ = before;
        Ok(())
    }
}
