//! The thread that runs a store, so that the event loop never waits for one.
//!
//! The thread appends one batch of events after the other and replies to each. In between it syncs
//! what was appended, and prunes. The event loop sends a batch after the reply to the previous one,
//! and gathers the next meanwhile.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, unbounded};

use crate::store::{EventStore, Record};

/// The time from an append to the sync that follows.
const SYNC_AFTER: Duration = Duration::from_millis(100);
/// The time from a failed sync to the next attempt.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The work of the store in one step.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Events to append, in the order of their numbers; there may be none.
    pub(crate) records: Arc<Vec<Record>>,
    /// Events before this number may be deleted.
    pub(crate) prune_before: u64,
}

/// A report of the store's thread.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The batch in flight is stored.
    Stored,
    /// None of the batch in flight is stored, for this reason.
    Failed(String),
    /// Syncing or pruning failed, for this reason. Reported once, until it succeeds.
    SyncFailed(String),
    /// Syncing and pruning succeed again.
    SyncRecovered,
}

/// A store on its thread.
#[derive(Debug)]
pub(crate) struct StoreThread {
    /// `None` once no more batches can be sent.
    batches: Option<Sender<Batch>>,
    replies: Receiver<Reply>,
    thread: Option<JoinHandle<()>>,
    in_flight: bool,
}

impl StoreThread {
    /// Starts the thread of an open store. `wake` is called after each reply, and when the thread
    /// ends.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn spawn(
        event_store: Box<dyn EventStore>,
        wake: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let (batches, to_do) = bounded(1);
        let (sender, replies) = unbounded();
        let mut worker = StoreWorker {
            event_store,
            replies: sender,
            prune_before: 0,
            sync_at: None,
            sync_failed: false,
            wake: Wake(wake),
        };
        let thread = std::thread::Builder::new()
            .name("fanfare-store".into())
            .spawn(move || worker.run(&to_do))?;
        Ok(Self {
            batches: Some(batches),
            replies,
            thread: Some(thread),
            in_flight: false,
        })
    }

    /// Whether a batch waits for its reply, so that the next one cannot be sent.
    pub(crate) fn is_busy(&self) -> bool {
        self.in_flight
    }

    /// Sends a batch. The reply will be [`Reply::Stored`] or [`Reply::Failed`].
    pub(crate) fn send(&mut self, batch: Batch) {
        debug_assert!(!self.in_flight, "one batch at a time");
        self.in_flight = true;
        if let Some(batches) = &self.batches {
            // If the thread has ended, `try_reply` reports that.
            let _ = batches.send(batch);
        }
    }

    /// Whether there is a reply.
    pub(crate) fn has_reply(&self) -> bool {
        !self.replies.is_empty()
    }

    /// Returns the next reply, if there is one.
    pub(crate) fn try_reply(&mut self) -> Option<Reply> {
        let reply = match self.replies.try_recv() {
            Ok(reply) => reply,
            Err(TryRecvError::Disconnected) if self.in_flight => {
                Reply::Failed("the store's thread has ended".into())
            }
            Err(_) => return None,
        };
        if matches!(reply, Reply::Stored | Reply::Failed(_)) {
            self.in_flight = false;
        }
        Some(reply)
    }
}

impl Drop for StoreThread {
    /// Waits until the batch in flight is stored and everything is synced.
    fn drop(&mut self) {
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // The message of a panic is on stderr already.
            let _ = thread.join();
        }
    }
}

/// The state of the thread.
struct StoreWorker<W: Fn()> {
    event_store: Box<dyn EventStore>,
    replies: Sender<Reply>,
    /// Events before this number may be deleted.
    prune_before: u64,
    /// When to sync; `None` if nothing was appended since the last sync.
    sync_at: Option<Instant>,
    sync_failed: bool,
    /// Dropped after `replies`, so that the event loop finds them closed when it wakes.
    wake: Wake<W>,
}

/// Wakes the event loop, also when it is dropped: after a panic, the batch in flight gets no reply.
struct Wake<W: Fn()>(W);

impl<W: Fn()> Drop for Wake<W> {
    fn drop(&mut self) {
        (self.0)();
    }
}

impl<W: Fn()> StoreWorker<W> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a store's thread has a clock of its own: the event loop does not wait for it"
    )]
    fn run(&mut self, batches: &Receiver<Batch>) {
        loop {
            let batch = match self.sync_at {
                Some(at) => batches.recv_deadline(at),
                None => batches.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match batch {
                Ok(batch) => self.store(batch, SystemTime::now(), Instant::now()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = Instant::now();
            if self.sync_at.is_some_and(|at| now >= at) {
                self.sync_and_prune(now);
            }
        }
        if self.sync_at.is_some() {
            self.sync_and_prune(Instant::now());
        }
    }

    fn store(&mut self, batch: Batch, at: SystemTime, now: Instant) {
        self.prune_before = batch.prune_before;
        self.sync_at.get_or_insert(now + SYNC_AFTER);
        let reply = match self.event_store.append(&batch.records, at) {
            Ok(()) => Reply::Stored,
            Err(error) => Reply::Failed(error.to_string()),
        };
        // The engine can then take the events out of the `Arc` without a copy.
        drop(batch);
        self.reply(reply);
    }

    /// Syncs and prunes. If one fails, the other runs nevertheless: pruning may free the space that
    /// syncing needs.
    fn sync_and_prune(&mut self, now: Instant) {
        let synced = self.event_store.sync();
        let pruned = self.event_store.prune(self.prune_before);
        match synced.and(pruned) {
            Ok(()) => {
                self.sync_at = None;
                if std::mem::take(&mut self.sync_failed) {
                    self.reply(Reply::SyncRecovered);
                }
            }
            Err(error) => {
                self.sync_at = Some(now + RETRY_AFTER);
                if !std::mem::replace(&mut self.sync_failed, true) {
                    self.reply(Reply::SyncFailed(error.to_string()));
                }
            }
        }
    }

    fn reply(&self, reply: Reply) {
        // At shutdown the receiver may be gone.
        let _ = self.replies.send(reply);
        (self.wake.0)();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Recovered, Restore};
    use crossbeam_channel::never;

    /// Records the calls and returns what the test sends.
    struct Scripted {
        calls: Sender<String>,
        appends: Receiver<io::Result<()>>,
        syncs: Receiver<io::Result<()>>,
    }

    impl EventStore for Scripted {
        fn open(&mut self, _: u64, _: &mut dyn Restore) -> io::Result<Recovered> {
            unreachable!("the thread starts with a store that is open")
        }

        fn append(&mut self, records: &[Record], _: SystemTime) -> io::Result<()> {
            let numbers: Vec<u64> = records.iter().map(Record::seq).collect();
            self.calls.send(format!("append {numbers:?}")).unwrap();
            self.appends.recv().expect("the script ends in a panic")
        }

        fn sync(&mut self) -> io::Result<()> {
            self.calls.send("sync".into()).unwrap();
            self.syncs.recv().unwrap_or(Ok(()))
        }

        fn prune(&mut self, before: u64) -> io::Result<()> {
            self.calls.send(format!("prune {before}")).unwrap();
            Ok(())
        }
    }

    impl Drop for Scripted {
        fn drop(&mut self) {
            self.calls.send("end".into()).unwrap();
        }
    }

    struct Script {
        store: StoreThread,
        woken: Receiver<()>,
        calls: Receiver<String>,
        appends: Sender<io::Result<()>>,
    }

    fn start(syncs: Receiver<io::Result<()>>) -> Script {
        let (sender, calls) = unbounded();
        let (appends, answers) = unbounded();
        let (wake, woken) = unbounded();
        let event_store = Scripted {
            calls: sender,
            appends: answers,
            syncs,
        };
        let wake = move || wake.send(()).unwrap_or_default();
        Script {
            store: StoreThread::spawn(Box::new(event_store), wake).unwrap(),
            woken,
            calls,
            appends,
        }
    }

    fn batch(numbers: &[u64], prune_before: u64) -> Batch {
        let record = |&seq| Record::new(seq, vec![], &b"data\n\n"[..]);
        Batch {
            records: Arc::new(numbers.iter().map(record).collect()),
            prune_before,
        }
    }

    impl Script {
        fn next_reply(&mut self) -> Reply {
            loop {
                self.woken.recv().unwrap();
                if let Some(reply) = self.store.try_reply() {
                    return reply;
                }
            }
        }
    }

    #[test]
    fn a_batch_gets_a_reply_and_is_synced_at_the_end() {
        let (never_answers, syncs) = unbounded();
        drop(never_answers);
        let mut script = start(syncs);
        script.store.send(batch(&[1, 2], 0));
        assert!(script.store.is_busy());
        assert_eq!(script.store.try_reply(), None);
        script.appends.send(Ok(())).unwrap();
        assert_eq!(script.next_reply(), Reply::Stored);
        assert!(!script.store.is_busy());
        script.store.send(batch(&[3], 2));
        script
            .appends
            .send(Err(io::ErrorKind::StorageFull.into()))
            .unwrap();
        assert!(matches!(script.next_reply(), Reply::Failed(_)));
        drop(script.store);
        let calls: Vec<String> = script.calls.iter().collect();
        assert_eq!(calls.first().unwrap(), "append [1, 2]");
        assert_eq!(calls[calls.len() - 3..], ["sync", "prune 2", "end"]);
    }

    #[test]
    fn a_failed_sync_is_reported_once_and_so_is_its_recovery() {
        let (answers, syncs) = unbounded();
        answers.send(Err(io::Error::other("bad"))).unwrap();
        answers.send(Err(io::Error::other("worse"))).unwrap();
        drop(answers);
        let mut script = start(syncs);
        script.appends.send(Ok(())).unwrap();
        script.store.send(batch(&[1], 0));
        assert_eq!(script.next_reply(), Reply::Stored);
        assert_eq!(script.next_reply(), Reply::SyncFailed("bad".into()));
        assert_eq!(script.next_reply(), Reply::SyncRecovered);
        let calls: Vec<String> = script.calls.try_iter().collect();
        assert_eq!(calls.iter().filter(|call| *call == "sync").count(), 3);
    }

    #[test]
    fn a_store_that_panics_fails_its_batch_and_all_that_come() {
        let mut script = start(never());
        script.store.send(batch(&[1], 0));
        drop(script.appends);
        let mut reply = || loop {
            if let Some(reply) = script.store.try_reply() {
                return reply;
            }
            script.woken.recv().unwrap();
        };
        let ended = Reply::Failed("the store's thread has ended".into());
        assert_eq!(reply(), ended);
        script.store.send(batch(&[2], 0));
        assert_eq!(script.store.try_reply(), Some(ended));
    }
}
