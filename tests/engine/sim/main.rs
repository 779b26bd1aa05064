//! The simulator: runs the engine in worlds derived from seeds, and compares it with a naive model.
//!
//! A world has a configuration, sockets, clients, publishers in the same process, and a time that
//! is a number. Sockets take any number of bytes at any time. Clients ask for streams, publish,
//! send malformed requests, stall and vanish. The checks after every turn:
//! - Responses are complete.
//! - Each stream has its part of the total order, and no other events.
//! - Each connection ends for its true reason.
//! - Memory is within its limit, and used only for events that are still needed. At the end, none
//!   is used.
//!
//! `SIM_SEED=n cargo test --test sim` plays the world of one seed again; with `SIM_TRACE=1` it
//! prints the writes to sockets. `support/seeds.rs` has the other variables. README.md has a record
//! of planted bugs, which shows whether the simulator finds them.
//!
//! # Words
//! - dice: the source of chance; each draw is a throw.
//! - planned: an event with its expected form in a stream.
//! - follower: the model of one stream: the events that are due to it.
//! - witness: a subscriber of all namespaces, with a socket that is never full. Events that are
//!   published over HTTP get their number in the total order when the witness receives them.
//! - sip: a socket that sips takes at most a few bytes at a time.
//! - fickle: a fickle socket takes all bytes of a write, some or none, at random.
//! - calm: a world without failures of the store, where most events go to one namespace. It finds a
//!   gap that is reported though nothing is missing.
//! - paired: a world with two namespaces, where most events go to both. It finds an event that
//!   one log still has and another has dropped.

#[path = "../../support/mod.rs"]
mod support;

mod client;
mod history;
mod model;
mod net;
mod requests;
mod world;

use support::{now, seeds};

/// How many worlds are played by default.
const WORLDS: u64 = if cfg!(debug_assertions) { 40 } else { 300 };

#[test]
fn each_stream_receives_its_events_once_and_in_order() {
    let started = now();
    seeds::play_all(WORLDS, |seed| world::World::new(seed, started).play());
}

#[test]
fn a_client_that_reconnects_receives_the_missed_events_or_a_gap() {
    let started = now();
    seeds::play_all(WORLDS, |seed| history::World::new(seed, started).play());
}
