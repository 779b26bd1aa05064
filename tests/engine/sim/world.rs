//! One world: an engine with its driver, its clients, its publishers and its time, all from one
//! seed.

mod checks;
mod driver;
mod end;

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use fanfare::internals::{Access, Engine, PublishAccess, SLICE, SURPLUS, max_frame_bytes};
#[cfg(feature = "admin")]
use fanfare::internals::{AdminAccess, AdminSetup};
use fanfare::{Config, DisconnectReason as Reason, Namespace};

use crate::client::Client;
use crate::model::{NAMESPACES, Planned, covers};
use crate::net::{Net, Policy};
use crate::support::dice::Dice;

/// The limits and times by which connections are judged.
pub(crate) struct Rules {
    pub(crate) head_timeout: u64,
    pub(crate) write_timeout: u64,
    pub(crate) keepalive: u64,
    pub(crate) retry: u64,
    pub(crate) max_lag: u64,
    pub(crate) draining: bool,
    pub(crate) grace: u64,
    /// How many events had been published when the drain began.
    pub(crate) drained_from: usize,
    /// Not all namespaces can be in use at once.
    pub(crate) few_namespaces: bool,
}

/// A position in the total order.
struct Slot {
    planned: Option<Rc<Planned>>,
    /// The streams at that time.
    listeners: Rc<Vec<usize>>,
}

pub(crate) struct World {
    dice: Dice,
    config: Config,
    pub(crate) rules: Rules,
    max_connections: usize,
    engine: Engine,
    net: Net,
    started: Instant,
    now: u64,
    clients: Vec<Client>,
    /// The clients whose end is not yet checked.
    live: Vec<usize>,
    order: Vec<Slot>,
    /// How many of them are known, from the first on. Only these are due to streams.
    resolved: usize,
    witness: Option<usize>,
    /// Bytes of the witness whose event is not yet known.
    witnessed: Vec<u8>,
    /// How many of the bytes that its socket took are among them.
    witness_copied: usize,
    /// The number of streams that an event went to, by its type.
    went_to: HashMap<String, u64>,
    /// In the last turn some events were not yet known, so the bytes of several turns are parsed
    /// together.
    unresolved: bool,
    queue: VecDeque<Rc<Planned>>,
    next_event: usize,
    to_connect: usize,
    /// Refused subscriptions, which have no client and must end.
    orphans: usize,
    disconnects: [u64; Reason::ALL.len()],
    connections_total: u64,
    events_given: u64,
    some_lagged: bool,
    batch: usize,
    /// The announced drain: the number of queued events that it waits for, and its end.
    drain: Option<(usize, u64)>,
    /// The time from which all streams must have a closing notice, and the time at which all must
    /// be gone.
    closing: (u64, u64),
    /// The next turn follows at once.
    busy: bool,
    deadline: Option<u64>,
}

impl World {
    pub(crate) fn new(seed: u64, started: Instant) -> Self {
        let mut dice = Dice::new(seed);
        let roomy = dice.percent(60);
        let config = some_config(&mut dice, roomy);
        config
            .check()
            .expect("the simulator makes valid configurations");
        let max_lag = lag_limit(&config) as u64;
        let max_connections = *dice.pick(&[3, 10, 10_000, 10_000, 10_000]);
        let access = Access {
            publish: PublishAccess::Open,
            loopback: true,
        };
        let mut engine = Engine::new(
            config.clone(),
            access,
            max_connections,
            None,
            dice.next(),
            1,
            started,
        );
        #[cfg(feature = "admin")]
        {
            let setup = AdminSetup {
                access: AdminAccess::Open,
                own_listener: false,
                node: "simulated".into(),
                unix_ms: 0,
            };
            engine.set_admin(setup, started);
        }
        // One write, a few, or the server's value, which interrupts only passes over many
        // subscribers.
        engine.set_slice(*dice.pick(&[1, 70_000, 200_000, SLICE]));
        let ms = |duration: Duration| duration.as_millis() as u64;
        let rules = Rules {
            head_timeout: ms(config.head_timeout),
            write_timeout: ms(config.write_timeout),
            keepalive: ms(config.keepalive),
            retry: ms(config.retry),
            max_lag,
            draining: false,
            grace: 0,
            drained_from: usize::MAX,
            few_namespaces: config.max_namespaces < 1000,
        };
        let net = Net::new(Dice::new(dice.next()));
        let batch = dice.between(1, 12);
        let mut world = Self {
            dice,
            config,
            rules,
            max_connections,
            engine,
            net,
            started,
            now: 0,
            clients: Vec::new(),
            live: Vec::new(),
            order: Vec::new(),
            resolved: 0,
            witness: None,
            witnessed: Vec::new(),
            witness_copied: 0,
            went_to: HashMap::new(),
            unresolved: false,
            queue: VecDeque::new(),
            next_event: 0,
            to_connect: 0,
            orphans: 0,
            disconnects: [0; Reason::ALL.len()],
            connections_total: 0,
            events_given: 0,
            some_lagged: false,
            batch,
            drain: None,
            closing: (u64::MAX, u64::MAX),
            busy: false,
            deadline: None,
        };
        if roomy {
            world.subscribe(vec!["/".into()], Policy::All);
            world.witness = Some(0);
            world.clients[0].witness = true;
        }
        world
    }

    /// Plays the world from its beginning to its end.
    pub(crate) fn play(&mut self) -> Result<(), String> {
        let crowded = self.dice.percent(3);
        if crowded {
            for _ in 0..self.dice.between(800, 1000) {
                let count = if self.dice.percent(20) { 2 } else { 1 };
                let names = (0..count)
                    .map(|_| (*self.dice.pick(&NAMESPACES[..5])).to_owned())
                    .collect();
                let policy = self.some_policy();
                self.subscribe(names, policy);
            }
        }
        let steps = if crowded {
            20
        } else {
            self.dice.between(10, 120)
        };
        let drain_at = if self.dice.percent(30) {
            self.dice.between(0, steps)
        } else {
            usize::MAX
        };
        for step in 0..steps {
            if step == drain_at {
                self.begin_drain()?;
            }
            self.act();
            self.turn()?;
            self.pass_time();
        }
        self.quiesce()?;
        self.end_everyone()
    }

    fn instant(&self) -> Instant {
        self.started + Duration::from_millis(self.now)
    }

    /// A few random actions of clients and publishers.
    fn act(&mut self) {
        for _ in 0..self.dice.between(0, 6) {
            match self.dice.below(100) {
                0..15 => self.to_connect += 1,
                15..17 if self.max_connections < 100 => {
                    self.to_connect += self.dice.between(1, 2 * SURPLUS);
                }
                15..45 => self.send_some(),
                45..80 => self.plan_events(),
                80..84 => self.close_one(),
                84..90 => self.subscribe_some(),
                90..92 => self.kick_some(),
                92..94 => self.change_policy(),
                _ => self.write_readiness(),
            }
        }
        if self.busy && self.dice.percent(4) {
            // More subscribers leave than a pass that has just begun has written to.
            for _ in 0..self.live.len() / 3 {
                self.kick_one();
            }
        }
    }

    fn some_client(&mut self) -> Option<usize> {
        if self.live.is_empty() {
            return None;
        }
        Some(*self.dice.pick(&self.live)).filter(|&client| !self.clients[client].witness)
    }

    fn send_some(&mut self) {
        for _ in 0..4 {
            let Some(client) = self.some_client() else {
                return;
            };
            let unsent = self.clients[client].unsent();
            let piece = match self.dice.below(5) {
                0 => 1,
                1 => self.dice.between(1, 30),
                2 => self.dice.between(1, 5000),
                _ => unsent,
            };
            if !self.clients[client].closes {
                self.clients[client].sent += piece.min(unsent);
            }
        }
    }

    fn plan_events(&mut self) {
        if self.queue.len() > 200 {
            return;
        }
        let count = match self.dice.below(10) {
            0 => self.dice.between(10, 60),
            1..4 => self.dice.between(2, 10),
            _ => 1,
        };
        for _ in 0..count {
            self.next_event += 1;
            let planned = Planned::any(&mut self.dice, self.next_event, self.config.max_event);
            self.queue.push_back(Rc::new(planned));
        }
    }

    fn close_one(&mut self) {
        if let Some(client) = self.some_client() {
            self.clients[client].closes |= self.clients[client].remote;
        }
    }

    fn change_policy(&mut self) {
        if let Some(client) = self.some_client() {
            self.net.sockets[client].policy = self.some_policy();
        }
    }

    /// A socket reports that it is writable, though nothing waited for it.
    fn write_readiness(&mut self) {
        if let Some(client) = self.some_client()
            && self.clients[client].is_live()
        {
            let socket = &self.net.sockets[client];
            if !socket.blocked || socket.may_open() {
                self.make_writable(client);
            }
        }
    }

    fn make_writable(&mut self, client: usize) {
        self.net.trace(|| format!("{client} is writable"));
        self.net.sockets[client].blocked = false;
        let now = self.instant();
        self.engine.writable(self.clients[client].conn, now);
    }

    fn subscribe_some(&mut self) {
        if self.rules.draining {
            return;
        }
        let count = if self.dice.percent(30) { 3 } else { 1 };
        let names: Vec<String> = (0..count)
            .map(|_| (*self.dice.pick(&NAMESPACES)).to_owned())
            .collect();
        let group = if self.dice.percent(20) {
            self.dice.between(2, 12)
        } else {
            1
        };
        for _ in 0..group {
            let policy = self.some_policy();
            self.subscribe(names.clone(), policy);
        }
    }

    fn kick_some(&mut self) {
        if self.dice.percent(50) {
            for _ in 0..1 + self.live.len() / 20 {
                self.kick_one();
            }
            return;
        }
        let name = *self.dice.pick(&NAMESPACES[1..]);
        let under: Vec<usize> = self
            .streams()
            .filter(|&client| self.clients[client].must_end.is_none())
            .filter(|&client| {
                let follower = self.clients[client].follower.as_ref();
                follower.is_some_and(|f| f.namespaces.iter().any(|at| covers(name, at)))
            })
            .collect();
        let namespace = Namespace::parse(name).expect("a namespace");
        let count = self.engine.kick_namespace(&namespace);
        if count != under.len() && self.net.fault.is_none() {
            self.net.fault = Some(format!("{count} disconnected from {name}, not {under:?}"));
        }
        for client in under {
            self.must_end(client, Reason::Kicked);
        }
    }

    fn kick_one(&mut self) {
        if let Some(client) = self.some_client() {
            let id = self.clients[client].id;
            if self.engine.disconnect_id(id, Reason::Kicked) {
                self.must_end(client, Reason::Kicked);
            }
        }
    }

    fn must_end(&mut self, client: usize, reason: Reason) {
        self.clients[client].must_end.get_or_insert(reason);
        self.net.sockets[client].over = true;
    }

    fn some_policy(&mut self) -> Policy {
        let bytes = match self.dice.below(3) {
            0 => 0,
            1 => self.dice.between(0, 1000),
            _ => self.dice.between(0, 40_000),
        };
        match self.dice.below(20) {
            0 => Policy::Breaks(bytes, Reason::Client),
            1 => Policy::Breaks(bytes, Reason::Error),
            2..5 => Policy::Stalls(bytes),
            5..7 => Policy::Sips(*self.dice.pick(&[1, 7, 100, 3000])),
            7..10 => Policy::Fickle,
            _ => Policy::All,
        }
    }

    fn pass_time(&mut self) {
        let rules = &self.rules;
        self.now += match self.dice.below(20) {
            0..8 => 0,
            8..13 => 1,
            13..16 => self.dice.between(1, 20) as u64,
            16..19 => match self.deadline {
                Some(at) => at.saturating_sub(self.now),
                None => 1,
            },
            _ => *self.dice.pick(&[
                rules.keepalive,
                rules.keepalive * 9 / 8 + 1,
                rules.write_timeout,
                rules.head_timeout,
                rules.write_timeout / 2,
            ]),
        };
    }
}

fn some_config(dice: &mut Dice, roomy: bool) -> Config {
    let ms = |ms: u64| Duration::from_millis(ms);
    let mut config = Config::default();
    config.history_events = 0;
    config.max_event = *dice.pick(&[40, 40, 300, 300, 1000, 1000, 5000, 20_000]);
    config.max_lag = *dice.pick(&[1, 1, 5000, 50_000]);
    config.write_budget = *dice.pick(&[300, 300, 1000, 4096, 16_384]);
    if config.max_event == 40 && dice.percent(20) {
        config.write_budget = 10;
    }
    config.keepalive = ms(*dice.pick(&[0, 20, 500, 15_000]));
    if dice.percent(30) {
        config.keepalive_text = "still here".into();
    }
    config.write_timeout = ms(*dice.pick(&[10, 300, 30_000]));
    config.head_timeout = ms(*dice.pick(&[10, 200, 10_000]));
    config.retry = ms(*dice.pick(&[0, 1, 3000]));
    config.coalesce = ms(*dice.pick(&[0, 0, 0, 1, 10]));
    config.max_namespaces = *dice.pick(&[1, 3, 8, 1000, 1000, 1000]);
    let lag = lag_limit(&config);
    config.history_total = if roomy {
        1 << 30
    } else {
        lag + dice.between(0, 2 * lag)
    };
    config
}

/// The lag limit of the engine: there is room for the largest event, and for a batch before it.
fn lag_limit(config: &Config) -> usize {
    let least = max_frame_bytes(config.max_event) + config.write_budget;
    config.max_lag.max(least)
}
