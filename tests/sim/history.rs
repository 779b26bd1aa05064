//! Worlds of clients that come back: what a stream is given after the event it names, held against a naive list of all events.
//!
//! The model keeps every event for ever and says of each whether a log must still retain it. A stream that is told that nothing is missing
//! must be given every later event of its namespaces, one that is told of a gap all that must still be there, and a gap may
//! be told only where something is not. Between the turns everyone may be cut off, at any byte, and come back.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfare::internals::{
    Access, ConnId, Engine, EventLimits, Frame, Outlet, PublishAccess, ReadInterest, Slices,
};
use fanfare::{Config, Decoded, Decoder, DisconnectReason as Reason, Event, LastEvents, Record};

use crate::dice::Dice;
use crate::model::{covers, reduce, show};

/// Few, so that they meet often.
const NAMES: [&str; 7] = ["/", "/a", "/a/b", "/a/c", "/ab", "/d/e/f", "/d"];
/// In calm worlds most events go here.
const LOUD: &str = "/ab";
/// IDs that publishers give, some more than once.
const OWN_IDS: [&str; 4] = ["mine", "x-5", "w1-3", "ü"];

/// An event that was published.
struct Told {
    /// Where it went; all namespaces then in use if empty.
    namespaces: Vec<String>,
    /// Namespaces that certainly were in use, if it went to all.
    used: Vec<String>,
    /// Its data, which no other has.
    data: String,
    id: String,
    own: bool,
    bytes: u64,
    at: u64,
    /// The store has it, for good or until the power goes.
    stored: bool,
    synced: bool,
    /// It did not come through a crash, or its number was never used.
    lost: bool,
    /// The store has deleted it, as nobody wanted it.
    forgotten: bool,
}

/// A store that does what a script says.
#[derive(Default)]
struct Store {
    records: Vec<(Record, u64)>,
    synced: usize,
    /// What it knows of those that it has deleted.
    last_events: LastEvents,
    /// Each append is safe at once.
    always: bool,
    /// What is with the store.
    out: Option<Arc<Vec<Record>>>,
    fails: bool,
    /// The last append failed, so events may have numbers of which the store knows nothing.
    failed: bool,
}

/// One stream, from its request on.
struct Stream {
    conn: ConnId,
    /// Bytes that came and were not looked at.
    rest: Vec<u8>,
    head: Option<String>,
    decoder: Decoder,
    /// How much its socket takes at a time.
    sip: usize,
    /// Events that there were when it began, and what it asked for.
    joined: usize,
    asked: Asked,
    /// What of the events before had to be there.
    required: Vec<usize>,
    outcome: Option<String>,
    /// Why there is a gap, and what is said to come first.
    gap: Option<(String, String)>,
    /// Events it was given, by index.
    got: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq)]
enum Asked {
    Live,
    All,
    Last(usize),
    After(String),
}

struct Client {
    names: Vec<String>,
    last_id: String,
    /// It takes its time to come back.
    away: bool,
    stream: Option<Stream>,
}

#[derive(Default)]
struct Net {
    streams: BTreeMap<ConnId, (usize, usize, bool)>,
    taken: Vec<(ConnId, Vec<u8>)>,
    dice: Option<Dice>,
}

impl Outlet for Net {
    fn write(&mut self, conn: ConnId, slices: &Slices<'_>) -> Result<usize, Reason> {
        let mut bytes: Vec<u8> = Vec::new();
        slices
            .as_slice()
            .iter()
            .for_each(|slice| bytes.extend_from_slice(slice));
        let (_, sip, blocked) = self
            .streams
            .get_mut(&conn)
            .expect("a connection that is there");
        assert!(!*blocked, "written to though it is full");
        let dice = self.dice.as_mut().expect("the world gave it");
        let most = if *sip == usize::MAX {
            *sip
        } else {
            dice.between(0, *sip)
        };
        let count = bytes.len().min(most);
        *blocked = count < bytes.len();
        bytes.truncate(count);
        self.taken.push((conn, bytes));
        Ok(count)
    }

    fn publish_pages(&mut self, _: &Slices<'_>, _: usize) {}

    fn finish(&mut self, _: ConnId) {}
}

pub(crate) struct World {
    dice: Dice,
    config: Config,
    engine: Engine,
    net: Net,
    epoch: u32,
    /// No store fails, no power is cut, nothing goes to everyone, and most events go to one namespace: who missed nothing of another must be told so.
    calm: bool,
    /// All that goes on, goes on at two namespaces, mostly at both: what one has dropped the other may have.
    paired: bool,
    born: Instant,
    now: u64,
    told: Vec<Told>,
    /// Events up to this one may have been evicted for the bound of all memory.
    evicted: usize,
    clients: Vec<Client>,
    next: usize,
    store: Option<Store>,
    /// Events that were published and not yet delivered.
    coming: VecDeque<Told>,
    /// The engine has more to give.
    busy: bool,
}

fn engine(config: &Config, epoch: u32, now: Instant) -> Engine {
    let access = Access {
        publish: PublishAccess::Open,
        loopback: true,
    };
    Engine::new(config.clone(), access, 10_000, None, 1, epoch.into(), now)
}

impl World {
    pub(crate) fn new(seed: u64, born: Instant) -> Self {
        let mut dice = Dice::new(seed);
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
            .check()
            .expect("the simulator makes valid configurations");
        let engine = engine(&config, 1, born);
        let clients = (0..dice.between(1, 8)).map(|_| Client {
            names: Vec::new(),
            last_id: String::new(),
            away: dice.percent(30),
            stream: None,
        });
        Self {
            clients: clients.collect(),
            net: Net {
                dice: Some(Dice::new(dice.next())),
                ..Net::default()
            },
            calm: dice.percent(40),
            paired: dice.percent(20),
            dice,
            config,
            engine,
            epoch: 1,
            born,
            now: 0,
            told: Vec::new(),
            evicted: 0,
            next: 0,
            store: None,
            coming: VecDeque::new(),
            busy: false,
        }
    }

    pub(crate) fn play(&mut self) -> Result<(), String> {
        if self.dice.percent(50) {
            let always = self.dice.percent(50);
            self.store = Some(Store {
                always,
                ..Store::default()
            });
            self.engine.use_store(1, self.instant());
        }
        for _ in 0..self.dice.between(10, 150) {
            for _ in 0..self.dice.between(0, 5) {
                match self.dice.below(20) {
                    0..8 => self.publish(),
                    8..12 => self.connect()?,
                    12..14 => self.cut(),
                    14..16 => self.open_some(),
                    16 => self.now += self.dice.between(1, 200) as u64,
                    17 if self.dice.percent(10) => {
                        self.now += self.config.history_age.as_millis() as u64
                    }
                    18 if self.dice.percent(20) => self.restart()?,
                    19 if self.dice.percent(20) => {
                        let fails = !self.calm && self.dice.percent(40);
                        self.store.iter_mut().for_each(|store| store.fails = fails);
                    }
                    _ => {}
                }
            }
            self.turn()?;
        }
        for client in 0..self.clients.len() {
            if let Some(stream) = &mut self.clients[client].stream {
                stream.sip = usize::MAX;
                self.net.streams.get_mut(&stream.conn).expect("a stream").1 = usize::MAX;
            }
        }
        self.store.iter_mut().for_each(|store| store.fails = false);
        let mut turns = 0;
        while self.busy || !self.engine.all_stored() || turns < 3 {
            turns = if self.busy { 0 } else { turns + 1 };
            self.open_all();
            self.turn()?;
            // Publishers may be paused for a time.
            self.now += u64::from(!self.busy);
        }
        for number in 0..self.clients.len() {
            if let Some(stream) = &self.clients[number].stream {
                self.check_all_came(number, stream)?;
            }
        }
        self.age_all()
    }

    /// When all are gone and everything is too old, nothing is left.
    fn age_all(&mut self) -> Result<(), String> {
        (0..self.clients.len()).for_each(|client| self.cut_off(client));
        self.turn()?;
        let age = self.config.history_age.as_millis() as u64;
        self.now += age + age / 64 + 1;
        self.turn()?;
        let status = self.engine.status(self.instant());
        let left = (
            status.namespaces,
            status.retained_events,
            status.retained_memory,
        );
        if left != (0, 0, 0)
            || self
                .engine
                .next_deadline()
                .is_some_and(|at| at < self.instant())
        {
            return Err(format!("at the end there is still {status:?}"));
        }
        Ok(())
    }

    fn instant(&self) -> Instant {
        self.born + Duration::from_millis(self.now)
    }

    fn names(&mut self) -> Vec<String> {
        if self.paired {
            let names: &[&str] = match self.dice.below(4) {
                0 => &["/a"],
                1 => &["/d"],
                _ => &["/a", "/d"],
            };
            return names.iter().map(|&name| name.to_owned()).collect();
        }
        let count = if self.dice.percent(30) {
            self.dice.between(2, 3)
        } else {
            1
        };
        (0..count)
            .map(|_| (*self.dice.pick(&NAMES)).to_owned())
            .collect()
    }

    fn publish(&mut self) {
        let count = if self.dice.percent(10) {
            30
        } else {
            self.dice.between(1, 3)
        };
        for _ in 0..count {
            self.publish_one();
        }
    }

    fn publish_one(&mut self) {
        self.next += 1;
        let namespaces = match self.calm && self.dice.percent(90) {
            true => vec![LOUD.to_owned()],
            false => self.names(),
        };
        let broadcast = !self.calm && self.dice.percent(5);
        let mut data = format!("n{}.", self.next);
        if self.dice.percent(20) {
            let most = self.config.max_event - data.len();
            data.push_str(&"x".repeat(self.dice.between(0, most)));
        }
        let own = self.dice.percent(15).then(|| *self.dice.pick(&OWN_IDS));
        let mut pieces = vec![(data.clone(), own)];
        let mut event = if self.dice.percent(10) && data.len() < 40 {
            // Two events in one, the second with an ID of its own in its last line.
            let second = format!("n{}.second", self.next);
            let id = own.map_or_else(String::new, |id| format!("id: {id}\r\n"));
            pieces = vec![(data.clone(), None), (second.clone(), own)];
            Event::encoded(
                &namespaces[0],
                format!("data:{data}\n\n\ndata:{second}\r\n{id}\r\n"),
            )
        } else {
            let event = Event::new(&namespaces[0], data.clone());
            own.iter().fold(event, |event, id| event.id(*id))
        };
        for also in &namespaces[1..] {
            event = event.also(also);
        }
        let limits = EventLimits {
            max_event: self.config.max_event,
            ..EventLimits::default()
        };
        let frame = if broadcast {
            Frame::broadcast(&event, &limits)
        } else {
            Frame::new(&event, &limits)
        };
        let frame = frame.expect("an event that may be");
        let bytes = frame.bytes.len() as u64 + 3 + "id:1-\n".len() as u64;
        let used = if broadcast { self.used() } else { Vec::new() };
        let before = self.engine.status(self.instant()).evicted;
        let published = self.engine.publish(&frame, self.instant());
        for (data, own) in pieces {
            self.coming.push_back(Told {
                namespaces: if broadcast {
                    Vec::new()
                } else {
                    namespaces.clone()
                },
                used: used.clone(),
                data,
                id: own.unwrap_or_default().to_owned(),
                own: own.is_some(),
                bytes,
                at: self.now,
                stored: false,
                synced: false,
                lost: false,
                forgotten: false,
            });
        }
        let Some(published) = published else {
            return;
        };
        while !self.coming.is_empty() {
            self.delivered(None);
        }
        assert_eq!(
            published.seq,
            self.told.len() as u64,
            "events are counted from 1 without gaps"
        );
        if self.engine.status(self.instant()).evicted > before {
            self.evicted = self.told.len();
        }
    }

    /// The next of the coming events was delivered, and has a number; what the store knows of it.
    fn delivered(&mut self, stored: Option<bool>) {
        let mut told = self.coming.pop_front().expect("nothing comes from nowhere");
        if !told.own {
            told.id = format!("{}-{}", self.epoch(), self.told.len() + 1);
        }
        told.stored = stored == Some(true);
        told.synced = told.stored && self.store.as_ref().is_some_and(|store| store.always);
        told.at = self.now;
        if told.namespaces.is_empty() {
            told.used = self.used();
        }
        self.told.push(told);
    }

    /// The store answers, or takes the next batch; what is stored is delivered.
    fn attend_to_store(&mut self) -> Result<(), String> {
        let now = self.instant();
        let Some(store) = &mut self.store else {
            return Ok(());
        };
        if let Some(batch) = store.out.take_if(|_| self.dice.percent(60)) {
            let well = !store.fails;
            store.failed = !well;
            if well {
                store
                    .records
                    .extend(batch.iter().map(|record| (record.clone(), self.now)));
            }
            if store.always {
                store.synced = store.records.len();
            }
            drop(batch);
            let outcome = if well { Ok(()) } else { Err("it fails".into()) };
            self.engine.stored(outcome, now);
        }
        if self.dice.percent(10) {
            let store = self.store.as_mut().expect("as before");
            store.synced = store.records.len();
            self.told
                .iter_mut()
                .for_each(|told| told.synced |= told.stored);
        }
        loop {
            let before = self.engine.status(now);
            if !self.engine.deliver_stored(now) {
                break;
            }
            let seq = self.told.len() as u64 + 1;
            let store = self.store.as_ref().expect("as before");
            let stored = store
                .records
                .iter()
                .rev()
                .any(|(record, _)| record.seq() == seq);
            self.delivered(Some(stored));
            if self.engine.status(now).evicted > before.evicted {
                self.evicted = self.told.len();
            }
        }
        let store = self.store.as_mut().expect("as before");
        if store.out.is_none()
            && let Some((batch, forget)) = self.engine.take_batch()
        {
            let synced = store.synced;
            let kept = store
                .records
                .iter()
                .position(|(record, _)| record.seq() >= forget);
            let forgotten = kept.unwrap_or(store.records.len());
            let records: Vec<(Record, u64)> = store.records.drain(..forgotten).collect();
            store.synced = synced.saturating_sub(forgotten);
            store.out = Some(batch);
            for (record, _) in &records {
                let store = self.store.as_mut().expect("as before");
                store.last_events.record(record.seq(), record.namespaces());
                let event = record.seq() as usize - 1;
                if NAMES.iter().any(|name| self.must_retain(name, event)) {
                    return Err(format!("the store is to forget {}", self.told[event].id));
                }
                self.told[event].forgotten = true;
            }
        }
        Ok(())
    }

    /// The process ends, and the power with it or not; another one goes on with what the store has.
    fn crash(&mut self) -> Result<(), String> {
        let power_cut = !self.calm && self.dice.percent(40);
        let store = self.store.as_mut().expect("only with a store");
        // A batch may be stored though nobody was told.
        if let Some(batch) = store
            .out
            .take()
            .filter(|_| !store.fails && self.dice.percent(50))
        {
            store
                .records
                .extend(batch.iter().map(|record| (record.clone(), self.now)));
        }
        if power_cut {
            let kept = self.dice.between(store.synced, store.records.len());
            store.records.truncate(kept);
        }
        store.synced = store.records.len();
        let records = store.records.clone();
        let has = |seq: usize| records.iter().any(|(record, _)| record.seq() == seq as u64);
        let first = records
            .first()
            .map_or(usize::MAX, |(record, _)| record.seq() as usize);
        for (index, told) in self.told.iter_mut().enumerate() {
            if told.synced && index + 1 >= first && !has(index + 1) {
                return Err(format!("the store lost {}, which was safe", told.id));
            }
            told.used.clear();
            let record = records
                .iter()
                .find(|(record, _)| record.seq() == index as u64 + 1);
            told.lost = record.is_none() && !told.forgotten;
            told.stored &= record.is_some();
            // It was stored before it was delivered.
            told.at = record.map_or(told.at, |(_, at)| *at);
        }
        // What was stored and not yet delivered is there now.
        let mut coming = std::mem::take(&mut self.coming);
        while has(self.told.len() + 1) {
            let mut told = coming.pop_front().ok_or("the store has what never was")?;
            let seq = self.told.len() + 1;
            if !told.own {
                told.id = format!("{}-{seq}", self.epoch());
            }
            let at = records
                .iter()
                .find(|(record, _)| record.seq() == seq as u64);
            told.at = at.map_or(0, |(_, at)| *at);
            (told.stored, told.synced) = (true, true);
            told.used.clear();
            self.told.push(told);
        }
        let store = self.store.as_mut().expect("as before");
        let skip = if power_cut || std::mem::take(&mut store.failed) {
            7
        } else {
            0
        };
        for _ in 0..skip {
            self.told.push(Told {
                namespaces: Vec::new(),
                used: Vec::new(),
                data: String::new(),
                id: String::new(),
                own: false,
                bytes: 0,
                at: self.now,
                stored: false,
                synced: false,
                lost: true,
                forgotten: false,
            });
        }
        self.engine = engine(&self.config, self.epoch, self.instant());
        self.engine.set_epoch(self.epoch.into());
        let store = self.store.as_ref().expect("as before");
        self.engine.set_last_events(store.last_events.clone());
        for (record, at) in &records {
            self.engine
                .restore(record, Duration::from_millis(self.now - at));
        }
        self.engine
            .use_store(self.told.len() as u64 + 1, self.instant());
        self.evicted = if self.engine.status(self.instant()).evicted > 0 {
            self.told.len()
        } else {
            0
        };
        self.net.streams.clear();
        self.net.taken.clear();
        for client in &mut self.clients {
            if let Some(stream) = client.stream.take() {
                client.last_id = stream.decoder.last_event_id().to_owned();
            }
        }
        Ok(())
    }

    /// Namespaces that certainly are in use.
    fn used(&self) -> Vec<String> {
        let listened = self.clients.iter().filter(|client| client.stream.is_some());
        let listened: Vec<&String> = listened.flat_map(|client| &client.names).collect();
        let retained = |name: &str| (0..self.told.len()).any(|event| self.must_retain(name, event));
        let is_used = |name: &&str| listened.iter().any(|at| at == name) || retained(name);
        NAMES
            .iter()
            .copied()
            .filter(is_used)
            .map(str::to_owned)
            .collect()
    }

    /// Whether an event went to a namespace: certainly, certainly not, or who knows.
    fn is_in(&self, name: &str, event: usize) -> Option<bool> {
        let told = &self.told[event];
        if told.namespaces.is_empty() {
            return told.used.iter().any(|used| used == name).then_some(true);
        }
        Some(told.namespaces.iter().any(|at| covers(name, at)))
    }

    fn is_part(&self, names: &[String], event: usize) -> Option<bool> {
        let of = names.iter().map(|name| self.is_in(name, event));
        of.reduce(|one, other| match (one, other) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        })
        .flatten()
    }

    /// Whether the log of a namespace must still retain an event.
    fn must_retain(&self, name: &str, event: usize) -> bool {
        let told = &self.told[event];
        if event < self.evicted
            || told.lost
            || told.forgotten
            || self.is_in(name, event) != Some(true)
        {
            return false;
        }
        // Whoever may be in counts: then the log may be fuller than is certain.
        let newer =
            (event..self.told.len()).filter(|&other| self.is_in(name, other) != Some(false));
        let (count, bytes) = newer.fold((0, 0), |(count, bytes), other| {
            (count + 1, bytes + self.told[other].bytes)
        });
        let age = self.config.history_age.as_millis() as u64;
        count <= self.config.history_events
            && bytes <= self.config.history_bytes as u64
            && self.now < told.at + age
    }

    fn connect(&mut self) -> Result<(), String> {
        let number = self.dice.below(self.clients.len());
        let stays_away = self.clients[number].away && self.dice.percent(90);
        if self.clients[number].stream.is_some() || stays_away {
            return Ok(());
        }
        if self.clients[number].names.is_empty() || self.dice.percent(5) {
            self.clients[number].names = reduce(&self.names());
            self.clients[number].last_id = String::new();
        }
        let last_id = self.clients[number].last_id.clone();
        let asked = match self.dice.below(20) {
            0 => Asked::All,
            1 => Asked::Last(self.dice.between(0, 9)),
            2 => Asked::After(
                (*self
                    .dice
                    .pick(&["what", "1-99999", "9-1", "1-", "-3", "1-+1", "mine"]))
                .into(),
            ),
            3 => Asked::Live,
            _ if last_id.is_empty() => Asked::Live,
            _ => Asked::After(last_id),
        };
        let pairs: Vec<String> = self.clients[number]
            .names
            .iter()
            .map(|name| format!("ns={name}"))
            .collect();
        let (query, header) = match &asked {
            Asked::Live => (String::new(), String::new()),
            Asked::All => ("&replay=all".into(), String::new()),
            Asked::Last(count) => (format!("&replay={count}"), String::new()),
            Asked::After(id) if self.dice.percent(50) => (
                format!("&replay=all&lastEventId={}", id.replace('+', "%2B")),
                String::new(),
            ),
            Asked::After(id) => (
                "&lastEventId=other".into(),
                format!("Last-Event-ID: {id}\r\n"),
            ),
        };
        let target = format!("/subscribe?{}{query}", pairs.join("&"));
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n");
        let now = self.instant();
        let peer = "127.0.0.1:1".parse().expect("an address");
        let conn = self
            .engine
            .accept(peer, now)
            .ok_or("there is room for one more")?;
        let sip = *self.dice.pick(&[usize::MAX, usize::MAX, 1, 40, 3000]);
        self.net.streams.insert(conn, (number, sip, false));
        let interest = self.engine.receive(conn, request.as_bytes(), now);
        if interest != ReadInterest::More || !self.engine.is_stream(conn) {
            return Err(format!("{request:?} is no stream"));
        }
        let names = self.clients[number].names.clone();
        let required = (0..self.told.len())
            .filter(|&event| names.iter().any(|name| self.must_retain(name, event)));
        self.clients[number].stream = Some(Stream {
            conn,
            rest: Vec::new(),
            head: None,
            decoder: Decoder::new().resuming(&self.clients[number].last_id),
            sip,
            joined: self.told.len(),
            required: required.collect(),
            asked,
            outcome: None,
            gap: None,
            got: Vec::new(),
        });
        self.check_claim(number)
    }

    /// Finds out what the engine says of the request, by its head alone.
    fn check_claim(&mut self, number: usize) -> Result<(), String> {
        // The head and the gap come with the first bytes: they are looked at when they come, but what must be true of them is known now.
        let client = &self.clients[number];
        let stream = client.stream.as_ref().expect("it has just begun");
        let claim = match &stream.asked {
            Asked::Live => "none".to_owned(),
            Asked::All | Asked::Last(_) => "complete".to_owned(),
            Asked::After(id) => self.due_claim(&client.names, id),
        };
        self.clients[number]
            .stream
            .as_mut()
            .expect("as before")
            .outcome = Some(claim);
        Ok(())
    }

    /// What must be said to one who goes on after an event: `complete`, `gap`, with the reason, or either, as far as that is known.
    fn due_claim(&self, names: &[String], id: &str) -> String {
        let own = self
            .told
            .iter()
            .rposition(|told| told.own && told.id == id && !told.lost);
        let retained = |event: usize| {
            NAMES
                .iter()
                .chain(&["/d/e"])
                .any(|name| self.must_retain(name, event))
        };
        let behind = match own {
            Some(event) if retained(event) => event + 1,
            Some(_) => return "any".into(),
            None => match self.seq_of(id) {
                Ok(seq) => seq,
                Err(reason) => return format!("gap {reason}"),
            },
        };
        if (behind..self.told.len()).any(|event| self.told[event].lost) {
            // What a crash took is missing from all streams, as far as anybody knows.
            let surely = |name: &String| {
                (behind..self.told.len())
                    .any(|event| self.told[event].lost && self.is_in(name, event) == Some(true))
            };
            return match names.iter().any(surely) {
                true => "gap expired".into(),
                false => "complete or gap expired".into(),
            };
        }
        let retained = |event| names.iter().any(|name| self.must_retain(name, event));
        let is_part = |event| self.is_part(names, event);
        let surely = |event| is_part(event) == Some(false) || retained(event);
        let events = behind..self.told.len();
        match events.into_iter().all(surely) {
            true => "complete".into(),
            false => "complete or gap expired".into(),
        }
    }

    /// As it stands in IDs: no world has as many restarts as there are digits.
    fn epoch(&self) -> char {
        char::from_digit(self.epoch, 36).expect("a digit")
    }

    fn seq_of(&self, id: &str) -> Result<usize, &'static str> {
        let (epoch, seq) = id.split_once('-').ok_or("unknown")?;
        let is_number = !seq.is_empty() && seq.bytes().all(|byte| byte.is_ascii_digit());
        if epoch.is_empty() || !is_number || !epoch.bytes().all(|byte| byte.is_ascii_alphanumeric())
        {
            return Err("unknown");
        }
        if !epoch.chars().eq([self.epoch()]) {
            return Err("epoch");
        }
        let seq: usize = seq.parse().map_err(|_| "unknown")?;
        if seq > self.told.len() {
            Err("unknown")
        } else {
            Ok(seq)
        }
    }

    /// The connection breaks, wherever it is.
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

    fn restart(&mut self) -> Result<(), String> {
        if self.store.is_some() {
            return self.crash();
        }
        self.epoch += 1;
        self.engine = engine(&self.config, self.epoch, self.instant());
        // Time goes on in the new one from its own beginning.
        self.born = self.instant();
        self.now = 0;
        self.net.streams.clear();
        self.net.taken.clear();
        self.told.clear();
        self.evicted = 0;
        for client in &mut self.clients {
            client.stream = None;
        }
        Ok(())
    }

    fn open_some(&mut self) {
        for number in 0..self.clients.len() {
            if self.dice.percent(60) {
                self.open(number);
            }
        }
    }

    fn open_all(&mut self) {
        (0..self.clients.len()).for_each(|number| self.open(number));
    }

    fn open(&mut self, number: usize) {
        let now = self.instant();
        if let Some(stream) = &self.clients[number].stream {
            let (_, _, blocked) = self.net.streams.get_mut(&stream.conn).expect("a stream");
            if std::mem::take(blocked) {
                self.engine.writable(stream.conn, now);
            }
        }
    }

    fn turn(&mut self) -> Result<(), String> {
        let now = self.instant();
        self.attend_to_store()?;
        self.engine.end_intake(true, now);
        self.engine.tick(now);
        self.busy = self.engine.flush(&mut self.net, now);
        self.engine.take_opened();
        self.engine.take_readable_again();
        for (conn, bytes) in std::mem::take(&mut self.net.taken) {
            let (number, ..) = self.net.streams[&conn];
            self.take(number, &bytes).map_err(|problem| {
                let client = &self.clients[number];
                let stream = client.stream.as_ref();
                let (asked, due) =
                    stream.map_or((None, None), |s| (Some(&s.asked), s.outcome.as_ref()));
                format!(
                    "client {number} of {:?} asked {asked:?}, due {due:?}: {problem}",
                    client.names
                )
            })?;
        }
        let mut reaped = Vec::new();
        self.engine
            .reap(|conn, _, reason| reaped.push((conn, reason)));
        for (conn, reason) in reaped {
            let (number, _, _) = self
                .net
                .streams
                .remove(&conn)
                .ok_or("a stranger was reaped")?;
            let client = &mut self.clients[number];
            let stream = client.stream.take().ok_or("it was there")?;
            client.last_id = stream.decoder.last_event_id().to_owned();
            match reason {
                Reason::Client => {}
                Reason::Lagged => self.check_lagged(number, &stream)?,
                other => return Err(format!("client {number} ended for {other}")),
            }
        }
        let status = self.engine.status(self.instant());
        if status.retained_memory > self.config.history_total as u64 {
            return Err(format!("{} bytes are retained", status.retained_memory));
        }
        Ok(())
    }

    /// What it still lacks must be too much, or gone.
    fn check_lagged(&self, number: usize, stream: &Stream) -> Result<(), String> {
        let names = &self.clients[number].names;
        // More than must be may have been there when it came.
        let from = stream
            .got
            .last()
            .map_or_else(|| self.begin(stream), |last| last + 1);
        let lacks: Vec<usize> = (from..self.told.len())
            .filter(|&event| self.is_part(names, event) != Some(false))
            .collect();
        let bytes: u64 = lacks.iter().map(|&event| self.told[event].bytes).sum();
        let gone = lacks
            .iter()
            .any(|&event| !names.iter().any(|name| self.must_retain(name, event)));
        let least = 6 * (self.config.max_event + 1) + self.config.write_budget;
        if bytes > self.config.max_lag.max(least) as u64 || gone {
            return Ok(());
        }
        Err(format!(
            "client {number} of {names:?} was cut as lagged, and lacks {bytes} bytes, all of which are there"
        ))
    }

    /// Bytes came to a client.
    fn take(&mut self, number: usize, bytes: &[u8]) -> Result<(), String> {
        let stream = self.clients[number]
            .stream
            .as_mut()
            .ok_or("it has no stream")?;
        stream.rest.extend_from_slice(bytes);
        if stream.head.is_none() {
            let Some(end) = stream.rest.windows(4).position(|four| four == b"\r\n\r\n") else {
                return Ok(());
            };
            let head: Vec<u8> = stream.rest.drain(..end + 4).collect();
            let head = String::from_utf8_lossy(&head).into_owned();
            let says = head
                .lines()
                .find_map(|line| line.strip_prefix("Fanfare-Replay: "));
            let says = says
                .ok_or_else(|| format!("no Fanfare-Replay in {head:?}"))?
                .to_owned();
            let due = stream.outcome.clone().unwrap_or_default();
            let first = |due: &str| due.split(' ').next().unwrap_or_default().to_owned();
            if due != "any" && !due.contains(" or ") && first(&due) != says
                || says == "none" && due != "none"
            {
                return Err(format!("it says {says}"));
            }
            stream.head = Some(says);
        }
        let bytes = std::mem::take(&mut stream.rest);
        let mut events = Vec::new();
        stream
            .decoder
            .push(&bytes, &mut |decoded| {
                if let Decoded::Event(event) = decoded {
                    events.push(event);
                }
            })
            .map_err(|error| error.to_string())?;
        for event in events {
            if event.event_type == "gap" {
                self.take_gap(number, &event.data)?;
            } else {
                self.take_event(number, &event.data, &event.last_event_id)?;
            }
        }
        Ok(())
    }

    fn take_gap(&mut self, number: usize, data: &str) -> Result<(), String> {
        let stream = self.clients[number]
            .stream
            .as_mut()
            .expect("it takes bytes");
        let due = stream.outcome.clone().unwrap_or_default();
        if stream.head.as_deref() != Some("gap") || stream.gap.is_some() || !stream.got.is_empty() {
            return Err(format!("a gap comes from nowhere: {data}"));
        }
        let json: serde_json::Value =
            serde_json::from_str(data).map_err(|error| error.to_string())?;
        let Asked::After(id) = &stream.asked else {
            return Err("it asked for nothing".into());
        };
        let reason = json["reason"].as_str().unwrap_or_default();
        if json["lastEventId"].as_str() != Some(id)
            || !(due == "any" || due.ends_with(&format!("gap {reason}")))
        {
            return Err(format!("a gap of another kind: {data}"));
        }
        let resumed_at = json["resumedAt"].as_str().ok_or("it resumes nowhere")?;
        stream.gap = Some((reason.to_owned(), resumed_at.to_owned()));
        Ok(())
    }

    fn take_event(&mut self, number: usize, data: &str, id: &str) -> Result<(), String> {
        let names = self.clients[number].names.clone();
        let event = self.told.iter().rposition(|told| told.data == data);
        let event =
            event.ok_or_else(|| format!("{} was never published", show(data.as_bytes())))?;
        if self.told[event].id != id {
            return Err(format!("{data:.20} came as {id}"));
        }
        if self.is_part(&names, event) == Some(false) {
            return Err(format!("{data:.20} is of another namespace"));
        }
        let stream = self.clients[number]
            .stream
            .as_ref()
            .expect("it takes bytes");
        if stream.head.as_deref() == Some("gap") && stream.gap.is_none() {
            return Err("an event comes before the gap is told".into());
        }
        if stream.got.is_empty()
            && event < stream.joined
            && stream.gap.as_ref().is_some_and(|(_, at)| at != id)
        {
            return Err(format!("resumed at {:?}, and {id} comes", stream.gap));
        }
        if stream.got.last().is_some_and(|&last| event <= last) {
            return Err(format!("{data:.20} came out of order"));
        }
        self.check_nothing_between(&names, stream, event)?;
        let stream = self.clients[number].stream.as_mut().expect("as before");
        stream.got.push(event);
        Ok(())
    }

    /// Nothing that had to come was left out before an event.
    fn check_nothing_between(
        &self,
        names: &[String],
        stream: &Stream,
        event: usize,
    ) -> Result<(), String> {
        let begin = self.begin(stream);
        if event < begin {
            return Err(format!(
                "{} comes, which is not behind the place",
                self.told[event].id
            ));
        }
        let from = stream.got.last().map_or(begin, |last| last + 1);
        let complete =
            stream.head.as_deref() == Some("complete") && matches!(stream.asked, Asked::After(_));
        let left_out = (from..event).find(|&between| {
            let had_to_be =
                stream.required.contains(&between) && between >= self.surely_from(names, stream);
            self.is_part(names, between) == Some(true)
                && (complete || between >= stream.joined || had_to_be)
        });
        match left_out {
            None => Ok(()),
            Some(left_out) => Err(format!("{} was left out", self.told[left_out].id)),
        }
    }

    /// The first event that may come.
    fn begin(&self, stream: &Stream) -> usize {
        match &stream.asked {
            Asked::Live => stream.joined,
            Asked::All => 0,
            Asked::Last(count) => self.nth_before(stream.joined, *count, |event| {
                stream.required.contains(&event)
            }),
            Asked::After(id) => {
                let own = self.told[..stream.joined]
                    .iter()
                    .rposition(|told| told.own && told.id == *id && !told.lost);
                // Before the head came, nobody knows.
                let unknown = match &stream.gap {
                    Some((reason, _)) => reason != "expired",
                    None => stream.head.is_none(),
                };
                match own {
                    Some(_) if unknown => 0,
                    Some(event) => event + 1,
                    None => self.seq_of(id).unwrap_or(0).min(stream.joined),
                }
            }
        }
    }

    /// The first event of those before that had to come, if it was retained.
    fn surely_from(&self, names: &[String], stream: &Stream) -> usize {
        let may_be = |event| self.is_part(names, event) != Some(false);
        match &stream.asked {
            Asked::Last(count) => self.nth_before(stream.joined, *count, may_be),
            _ => 0,
        }
    }

    fn nth_before(&self, before: usize, count: usize, is_one: impl Fn(usize) -> bool) -> usize {
        let mut some = (0..before).rev().filter(|&event| is_one(event));
        match count.checked_sub(1) {
            None => before,
            Some(nth) => some.nth(nth).unwrap_or(0),
        }
    }

    fn check_all_came(&self, number: usize, stream: &Stream) -> Result<(), String> {
        let names = &self.clients[number].names;
        let begin = self.begin(stream);
        let from = stream.got.last().map_or(begin, |last| last + 1);
        let surely_from = self.surely_from(names, stream);
        let lacking = (from..self.told.len()).find(|&event| {
            let had_to_be = stream.required.contains(&event) && event >= surely_from;
            self.is_part(names, event) == Some(true) && (event >= stream.joined || had_to_be)
        });
        match lacking {
            None => Ok(()),
            Some(event) => Err(format!(
                "client {number} of {names:?} asked {:?} and was not given {}",
                stream.asked, self.told[event].id
            )),
        }
    }
}
