//! Starting a server: creating its engine, and restoring the events of its store.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use crate::config::Config;
#[cfg(feature = "admin")]
use crate::engine::AdminSetup;
use crate::engine::{Engine, Recovery};
#[cfg(feature = "admin")]
use crate::loopback::is_loopback_address;
use crate::store::{EventStore, LastEvents, Record, Restore};

use super::hooks::Hooks;
use super::socket;

/// The engine and the store with which the event loop starts.
pub(super) struct Startup {
    pub(super) engine: Engine,
    /// The open store, if there is one.
    pub(super) event_store: Option<Box<dyn EventStore>>,
}

impl Startup {
    /// Creates the engine and restores the events of the store.
    ///
    /// # Errors
    /// The store cannot be opened.
    #[expect(
        clippy::disallowed_methods,
        reason = "the ages of restored events count from here"
    )]
    pub(super) fn new(config: &Config, hooks: &mut Hooks) -> io::Result<Self> {
        let random = RandomState::new();
        // 41 bits, which are eight digits in base 36. Two starts with the same epoch are very
        // unlikely.
        let fresh_epoch = random.hash_one(1) >> 23;
        let max_connections = config.max_connections;
        let mut engine = Engine::new(
            config.clone(),
            config.access(&[]),
            max_connections.unwrap_or_else(socket::connection_limit),
            hooks.route.take(),
            random.hash_one(0),
            fresh_epoch,
            Instant::now(),
        );
        let mut event_store = event_store(config, hooks)?;
        if let Some(store) = &mut event_store {
            let now = SystemTime::now();
            let damage;
            (engine, damage) = restore(engine, store.as_mut(), fresh_epoch, now)?;
            if let Some(damage) = damage {
                hooks.warn(&format!("some stored events could not be read: {damage}"));
            }
        }
        Ok(Self {
            engine,
            event_store,
        })
    }

    /// Sets who has access to publishing and to the status page. Both depend on the addresses that
    /// the server is bound to.
    #[cfg_attr(
        feature = "admin",
        expect(
            clippy::disallowed_methods,
            reason = "the uptime on the status page counts from here"
        )
    )]
    pub(super) fn set_addresses(
        &mut self,
        config: &Config,
        addresses: &[SocketAddr],
        own_listener: bool,
    ) {
        #[cfg(feature = "admin")]
        {
            let setup = admin_setup(config, addresses, own_listener);
            self.engine.set_admin(setup, Instant::now());
        }
        #[cfg(not(feature = "admin"))]
        let _ = own_listener;
        self.engine.set_access(config.access(addresses));
    }
}

#[cfg(feature = "admin")]
#[expect(
    clippy::disallowed_methods,
    reason = "the status page shows when the server started"
)]
fn admin_setup(config: &Config, addresses: &[SocketAddr], own_listener: bool) -> AdminSetup {
    let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
    // An address that other machines can reach has stricter rules, so it decides.
    let public = addresses
        .iter()
        .find(|address| !is_loopback_address(address.ip()));
    let bound = public.or(addresses.first()).unwrap_or(&unspecified);
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    AdminSetup {
        access: config.admin_access(bound),
        own_listener,
        node: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        // A clock before 1970 has not been set; it counts as 1970.
        unix_ms: since_1970.map_or(0, |since| since.as_millis() as u64),
    }
}

/// Returns the application's store, or else the one in `data_dir`.
fn event_store(config: &Config, hooks: &mut Hooks) -> io::Result<Option<Box<dyn EventStore>>> {
    let store = hooks.event_store.take();
    #[cfg(feature = "disk")]
    if store.is_none()
        && let Some(path) = &config.data_dir
    {
        use crate::store::disk::Disk;
        let disk = Disk::open(path, config.fsync, Disk::SEGMENT_BYTES)?;
        return Ok(Some(Box::new(disk)));
    }
    #[cfg(not(feature = "disk"))]
    let _ = config;
    Ok(store)
}

/// Opens a store and restores its events. Returns the engine that continues after them, and a
/// description of what could not be read.
#[expect(
    clippy::disallowed_methods,
    reason = "the engine starts once all events are restored"
)]
fn restore(
    engine: Engine,
    store: &mut dyn EventStore,
    fresh_epoch: u64,
    now: SystemTime,
) -> io::Result<(Engine, Option<String>)> {
    let mut restore = EngineRestore {
        recovery: Recovery::new(engine),
        now,
        last_seq: None,
        misuse: None,
    };
    let recovered = store.open(fresh_epoch, &mut restore)?;
    let recovery = restore.check()?;
    let engine = recovery.finish(recovered.next_seq, Instant::now());
    Ok((engine, recovered.damage))
}

/// Passes the content of a store on to the engine, in the order that the engine relies on.
struct EngineRestore {
    recovery: Recovery,
    now: SystemTime,
    /// The number of the last event restored or known to be gone; `None` before `begin`.
    last_seq: Option<u64>,
    /// The first violation of the contract of [`Restore`]. Later calls do nothing.
    misuse: Option<String>,
}

impl EngineRestore {
    fn check(self) -> io::Result<Recovery> {
        let missing = || "it must call `Restore::begin`".to_owned();
        match self
            .misuse
            .or_else(|| self.last_seq.is_none().then(missing))
        {
            Some(misuse) => Err(io::Error::new(
                ErrorKind::InvalidData,
                format!("invalid event store: {misuse}"),
            )),
            None => Ok(self.recovery),
        }
    }
}

impl Restore for EngineRestore {
    fn begin(&mut self, epoch: u64, last_events: LastEvents) {
        if self.last_seq.is_some() {
            let misuse = || "it must call `Restore::begin` only once".into();
            self.misuse.get_or_insert_with(misuse);
            return;
        }
        self.last_seq = Some(last_events.last_seq());
        self.recovery.begin(epoch, last_events);
    }

    fn event(&mut self, record: Record, at: SystemTime) {
        if self.misuse.is_some() {
            return;
        }
        let seq = record.seq();
        self.misuse = match self.last_seq {
            None => Some("it must call `Restore::begin` before it restores events".into()),
            Some(last_seq) if seq <= last_seq => {
                Some(format!("the number of event {seq} must exceed {last_seq}"))
            }
            Some(_) => None,
        };
        if self.misuse.is_none() {
            self.last_seq = Some(seq);
            let age = self.now.duration_since(at).unwrap_or_default();
            self.recovery.restore(&record, age);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Server;
    use crate::store::Recovered;

    type Script = fn(&mut dyn Restore);

    /// A store that calls `restore` as a test specifies.
    struct Scripted(Script);

    impl EventStore for Scripted {
        fn open(&mut self, _: u64, restore: &mut dyn Restore) -> io::Result<Recovered> {
            (self.0)(restore);
            Ok(Recovered::new(10))
        }

        fn append(&mut self, _: &[Record], _: SystemTime) -> io::Result<()> {
            Ok(())
        }
    }

    fn start(script: Script) -> Result<(), String> {
        let store = Scripted(script);
        let mut server = Server::builder().event_store(store).build().unwrap();
        server.recover().map_err(|error| error.to_string())
    }

    fn event(restore: &mut dyn Restore, seq: u64) {
        let record = Record::new(seq, vec![], &b"data\n\n"[..]);
        restore.event(record, SystemTime::UNIX_EPOCH);
    }

    #[test]
    fn a_store_may_leave_numbers_out() {
        let started = start(|restore| {
            restore.begin(5, LastEvents::default());
            event(restore, 2);
            event(restore, 9);
        });
        assert_eq!(started, Ok(()));
    }

    #[test]
    fn a_store_that_violates_the_contract_of_restore_is_refused() {
        let scripts: [(Script, &str); 6] = [
            (|_| {}, "it must call `Restore::begin`"),
            (
                |restore| {
                    event(restore, 1);
                    restore.begin(5, LastEvents::default());
                },
                "it must call `Restore::begin` before it restores events",
            ),
            (
                |restore| {
                    restore.begin(5, LastEvents::default());
                    restore.begin(5, LastEvents::default());
                },
                "it must call `Restore::begin` only once",
            ),
            (
                |restore| {
                    restore.begin(5, LastEvents::default());
                    event(restore, 0);
                },
                "the number of event 0 must exceed 0",
            ),
            (
                |restore| {
                    restore.begin(5, LastEvents::default());
                    event(restore, 2);
                    event(restore, 2);
                },
                "the number of event 2 must exceed 2",
            ),
            (
                |restore| {
                    let mut last_events = LastEvents::default();
                    last_events.raise_watermark(3);
                    restore.begin(5, last_events);
                    event(restore, 3);
                },
                "the number of event 3 must exceed 3",
            ),
        ];
        for (script, misuse) in scripts {
            assert_eq!(start(script), Err(format!("invalid event store: {misuse}")));
        }
    }
}
