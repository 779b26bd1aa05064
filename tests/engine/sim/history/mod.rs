//! Worlds of clients that reconnect: the events of a stream that names its last event, compared
//! with a naive list of all events.
//!
//! The model keeps every event, and knows whether a log must still retain it. A stream whose head
//! says that nothing is missing must receive every later event of its namespaces. A stream with a
//! gap must receive every event that must be retained, and a gap is allowed only where an event may
//! be missing. Between turns each connection may be cut, at any byte, and the client reconnects.

mod checks;
mod client;
mod due;
mod events;
mod net;
mod publish;
mod store;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use fanfare::internals::{Access, Engine, PublishAccess, Recovery};
use fanfare::{Config, DisconnectReason as Reason, LastEvents};

use crate::support::dice::Dice;
use client::Client;
use events::Published;
use net::Net;
use store::Store;

/// Few, so that they meet often.
const NAMES: [&str; 7] = ["/", "/a", "/a/b", "/a/c", "/ab", "/d/e/f", "/d"];
/// In calm worlds most events go here.
const LOUD: &str = "/ab";
/// IDs that publishers give, some more than once.
const OWN_IDS: [&str; 4] = ["mine", "x-5", "w1-3", "ü"];

pub(crate) struct World {
    dice: Dice,
    config: Config,
    engine: Engine,
    net: Net,
    epoch: u32,
    /// No store fails, no power is cut, no event goes to all, and most events go to one namespace.
    /// A client of another namespace that missed nothing must not receive a gap.
    calm: bool,
    /// Only two namespaces are used, mostly both at once. One log may still have an event that the
    /// other has dropped.
    paired: bool,
    started: Instant,
    now: u64,
    events: Vec<Published>,
    /// Events before this one may have been evicted for the bound of all memory.
    evicted: usize,
    clients: Vec<Client>,
    /// How many events were published, including those without a number.
    published: usize,
    store: Option<Store>,
    /// Events that were published and not yet delivered.
    coming: VecDeque<Published>,
    /// The engine has more to write.
    busy: bool,
}

fn engine(config: &Config, epoch: u32, now: Instant) -> Engine {
    let access = Access {
        publish: PublishAccess::Open,
        loopback: true,
    };
    Engine::new(config.clone(), access, 10_000, None, 1, epoch.into(), now)
}

fn some_config(dice: &mut Dice) -> Config {
    let mut config = Config::default();
    config.keepalive = Duration::ZERO;
    config.retry = Duration::from_millis(*dice.pick(&[0, 3000]));
    config.write_timeout = Duration::from_secs(86_400);
    config.head_timeout = config.write_timeout;
    config.max_event = *dice.pick(&[100, 3000, 10_000]);
    config.write_budget = *dice.pick(&[300, 4096]);
    config.history_events = *dice.pick(&[1, 3, 20, 1000]);
    config.history_bytes = *dice.pick(&[500, 5000, 1 << 20]);
    config.history_age = Duration::from_millis(*dice.pick(&[1, 100, 5000, 3_600_000]));
    config.max_lag = *dice.pick(&[1, 20_000]);
    let lag = 6 * (config.max_event + 1) + 3000 + config.write_budget;
    config.history_total = *dice.pick(&[lag + 20_000, 1 << 30]);
    config
}

impl World {
    pub(crate) fn new(seed: u64, started: Instant) -> Self {
        let mut dice = Dice::new(seed);
        let config = some_config(&mut dice);
        config
            .check()
            .expect("the simulator makes valid configurations");
        let clients = (0..dice.between(1, 8)).map(|_| Client::new(dice.percent(30)));
        Self {
            clients: clients.collect(),
            net: Net::new(Dice::new(dice.next())),
            calm: dice.percent(40),
            paired: dice.percent(20),
            dice,
            engine: engine(&config, 1, started),
            config,
            epoch: 1,
            started,
            now: 0,
            events: Vec::new(),
            evicted: 0,
            published: 0,
            store: None,
            coming: VecDeque::new(),
            busy: false,
        }
    }

    pub(crate) fn play(&mut self) -> Result<(), String> {
        if self.dice.percent(50) {
            self.store = Some(Store::new(self.dice.percent(50)));
            let new = engine(&self.config, self.epoch, self.instant());
            let mut recovery = Recovery::new(new);
            recovery.begin(self.epoch.into(), LastEvents::default());
            self.engine = recovery.finish(1, self.instant());
        }
        for _ in 0..self.dice.between(10, 150) {
            for _ in 0..self.dice.between(0, 5) {
                self.act()?;
            }
            self.turn()?;
        }
        self.come_to_rest()?;
        for number in 0..self.clients.len() {
            if let Some(stream) = &self.clients[number].stream {
                self.check_all_came(number, stream)?;
            }
        }
        self.age_all()
    }

    /// One random action, or none.
    fn act(&mut self) -> Result<(), String> {
        match self.dice.below(20) {
            0..8 => self.publish(),
            8..12 => self.connect()?,
            12..14 => self.cut(),
            14..16 => self.open_some(),
            16 => self.now += self.dice.between(1, 200) as u64,
            17 if self.dice.percent(10) => self.now += self.config.history_age.as_millis() as u64,
            18 if self.dice.percent(20) => self.restart()?,
            19 if self.dice.percent(20) => {
                let fails = !self.calm && self.dice.percent(40);
                self.store.iter_mut().for_each(|store| store.fails = fails);
            }
            _ => {}
        }
        Ok(())
    }

    /// Opens all sockets and lets the store work, until nothing is left to do.
    fn come_to_rest(&mut self) -> Result<(), String> {
        for stream in self
            .clients
            .iter()
            .filter_map(|client| client.stream.as_ref())
        {
            self.net.socket(stream.conn).sip = usize::MAX;
        }
        self.store.iter_mut().for_each(|store| store.fails = false);
        let mut quiet_turns = 0;
        for _ in 0..20_000 {
            if !self.busy && self.engine.all_stored() && quiet_turns >= 3 {
                return Ok(());
            }
            quiet_turns = if self.busy { 0 } else { quiet_turns + 1 };
            (0..self.clients.len()).for_each(|number| self.open(number));
            self.turn()?;
            // Publishers may be paused for a time.
            self.now += u64::from(!self.busy);
        }
        Err("it does not come to rest".into())
    }

    /// Checks that nothing is left once all clients have left and all events are too old.
    fn age_all(&mut self) -> Result<(), String> {
        (0..self.clients.len()).for_each(|client| self.cut_off(client));
        self.turn()?;
        let age = self.config.history_age.as_millis() as u64;
        self.now += age + age / 64 + 1;
        self.turn()?;
        let now = self.instant();
        let status = self.engine.status(now);
        let left = (
            status.namespaces,
            status.retained_events,
            status.retained_memory,
        );
        let is_late = self.engine.next_deadline().is_some_and(|at| at < now);
        if left != (0, 0, 0) || is_late {
            return Err(format!("at the end there is still {status:?}"));
        }
        Ok(())
    }

    fn instant(&self) -> Instant {
        self.started + Duration::from_millis(self.now)
    }

    /// A connection breaks.
    fn cut(&mut self) {
        let number = self.dice.below(self.clients.len());
        self.cut_off(number);
    }

    fn cut_off(&mut self, number: usize) {
        let now = self.instant();
        if let Some(stream) = &self.clients[number].stream {
            self.engine.hang_up(stream.conn, now);
        }
    }

    fn open_some(&mut self) {
        for number in 0..self.clients.len() {
            if self.dice.percent(60) {
                self.open(number);
            }
        }
    }

    fn open(&mut self, number: usize) {
        let now = self.instant();
        if let Some(stream) = &self.clients[number].stream
            && std::mem::take(&mut self.net.socket(stream.conn).blocked)
        {
            self.engine.writable(stream.conn, now);
        }
    }

    /// The process ends and another one begins: with the events of the store, or with none and in
    /// a new epoch.
    fn restart(&mut self) -> Result<(), String> {
        if self.store.is_some() {
            return self.crash();
        }
        self.epoch += 1;
        self.engine = engine(&self.config, self.epoch, self.instant());
        // The new process has a time of its own.
        self.started = self.instant();
        self.now = 0;
        self.net.clear();
        self.events.clear();
        self.evicted = 0;
        for client in &mut self.clients {
            client.stream = None;
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<(), String> {
        let now = self.instant();
        self.attend_to_store()?;
        self.engine.end_intake(true, now);
        self.engine.tick(now);
        self.busy = self.engine.flush(&mut self.net, now);
        self.engine.take_opened();
        self.engine.take_readable_again();
        for (conn, bytes) in self.net.take_written() {
            let number = self.net.socket(conn).client;
            self.take(number, &bytes).map_err(|problem| {
                let client = &self.clients[number];
                let stream = client.stream.as_ref();
                let (asked, due) = stream.map(|stream| (&stream.asked, stream.due)).unzip();
                format!(
                    "client {number} of {:?} asked {asked:?}, due {due:?}: {problem}",
                    client.names
                )
            })?;
        }
        self.reap()?;
        let status = self.engine.status(self.instant());
        if status.retained_memory > self.config.history_total as u64 {
            return Err(format!("{} bytes are retained", status.retained_memory));
        }
        Ok(())
    }

    fn reap(&mut self) -> Result<(), String> {
        let mut reaped = Vec::new();
        self.engine
            .reap(|conn, _, reason| reaped.push((conn, reason)));
        self.engine.check();
        for (conn, reason) in reaped {
            let number = self
                .net
                .remove(conn)
                .ok_or("an unknown connection was reaped")?;
            let client = &mut self.clients[number];
            let stream = client
                .leave()
                .ok_or("a connection without a stream was reaped")?;
            match reason {
                Reason::Client => {}
                Reason::Lagged => self.check_lagged(number, &stream)?,
                other => return Err(format!("client {number} ended for {other}")),
            }
        }
        Ok(())
    }
}
