//! An engine without sockets, for measurements: the outlet of all subscribers counts bytes and
//! drops them.

#![allow(dead_code, reason = "each program uses a part of what they share")]

use std::time::Instant;

use fanfare::internals::{
    Access, ConnId, Engine, EventLimits, Frame, Namespaces, Outlet, PublishAccess, Slices,
};
use fanfare::{Config, DisconnectReason, Event, Namespace};

/// Takes bytes and counts them.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) bytes: u64,
    pub(crate) writes: u64,
    /// The most bytes that one write takes. A write that is not taken in full leaves the socket
    /// full until the turn continues.
    pub(crate) most: usize,
    full: Vec<ConnId>,
}

impl Outlet for Sink {
    fn write(&mut self, conn: ConnId, slices: &Slices<'_>) -> Result<usize, DisconnectReason> {
        let taken = slices.bytes().min(self.most);
        if taken < slices.bytes() {
            self.full.push(conn);
        }
        self.bytes += taken as u64;
        self.writes += 1;
        Ok(taken)
    }

    fn publish_pages(&mut self, _: &Slices<'_>, _: usize) {}

    fn finish(&mut self, _: ConnId) {}
}

/// An engine and its subscribers, driven in turns as by the event loop, at a constant time.
#[derive(Debug)]
pub(crate) struct SinkEngine {
    pub(crate) engine: Engine,
    pub(crate) sink: Sink,
    now: Instant,
}

impl SinkEngine {
    #[expect(
        clippy::disallowed_methods,
        reason = "an engine needs a time to start from"
    )]
    pub(crate) fn new() -> Self {
        let mut config = Config::default();
        config.history_events = 0;
        let now = Instant::now();
        let access = Access {
            publish: PublishAccess::Open,
            loopback: true,
        };
        Self {
            engine: Engine::new(config, access, usize::MAX / 2, None, 1, 1, now),
            sink: Sink {
                bytes: 0,
                writes: 0,
                most: usize::MAX,
                full: Vec::new(),
            },
            now,
        }
    }

    /// Adds a subscriber of these namespaces.
    pub(crate) fn join(&mut self, namespaces: &[&str]) {
        let namespaces = namespaces.iter().map(|path| namespace(path)).collect();
        let namespaces = Namespaces::new(namespaces).expect("at least one namespace");
        self.engine
            .subscribe(&namespaces, self.now)
            .expect("there is room for a namespace");
        self.engine.take_opened();
    }

    /// Adds `count` subscribers of one namespace.
    pub(crate) fn join_many(&mut self, path: &str, count: usize) {
        (0..count).for_each(|_| self.join(&[path]));
    }

    /// Publishes events as fast as the engine takes them, and delivers them to all subscribers.
    pub(crate) fn turn(&mut self, frames: &[Frame]) {
        for frame in frames {
            if !self.engine.can_append() {
                self.flush();
            }
            self.engine.publish(frame, self.now);
        }
        self.engine.end_intake(true, self.now);
        self.engine.tick(self.now);
        self.flush();
        self.engine
            .reap(|conn, _, reason| panic!("{conn:?} was disconnected: {reason:?}"));
    }

    fn flush(&mut self) {
        while self.engine.flush(&mut self.sink, self.now) || !self.sink.full.is_empty() {
            while let Some(conn) = self.sink.full.pop() {
                self.engine.writable(conn, self.now);
            }
        }
    }
}

pub(crate) fn namespace(path: &str) -> Namespace {
    Namespace::parse(path).expect("a valid namespace")
}

/// An event with `data_bytes` bytes of data, ready to be published.
pub(crate) fn frame(path: &str, data_bytes: usize) -> Frame {
    let event = Event::new(path, "x".repeat(data_bytes));
    Frame::new(&event, &EventLimits::default()).expect("a valid event")
}
