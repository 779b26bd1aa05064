//! The simulator: the engine in worlds that a seed makes up, compared with a naive model of what it
//! should do.
//!
//! A world has a configuration, sockets, clients, publishers in the same process, and a time that
//! is a number. Sockets take as many bytes as they like when they like. Clients ask for streams,
//! publish, send malformed requests, stall and vanish. After every turn the output is compared with
//! the model: whole answers, each stream its part of the total order and no other events, every end
//! for its true reason, memory within its limit and only for events that are still needed, nothing
//! left over at the end.
//!
//! `SIM_SEED=n cargo test --test sim` plays the world of one seed again, and prints what sockets do
//! with `SIM_TRACE=1`. `support/seeds.rs` has the other variables. README.md is about bugs that are
//! planted in the engine to see whether the simulator finds them.
//!
//! # Words
//! - dice: the source of chance; each draw is a throw.
//! - planned: an event with all that is expected of it.
//! - follower: the model of one stream: which events it is still to be given.
//! - witness: a subscriber of everything that takes all at once. Events that are published over
//!   HTTP get their place in the total order when the witness is given them.
//! - sip: a socket that sips takes at most a few bytes at a time.
//! - fickle: a fickle socket takes all it is given, some of it or nothing, at random.
//! - calm: a world without failures of the store, where most events go to one namespace. It finds a
//!   gap that is reported though nothing is missing.
//! - paired: a world where all happens at two namespaces, mostly at both. It finds an event that
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
fn every_world_goes_as_the_model_expects() {
    let born = now();
    seeds::play_all(WORLDS, |seed| world::World::new(seed, born).play());
}

#[test]
fn a_client_that_comes_back_gets_what_it_missed() {
    let born = now();
    seeds::play_all(WORLDS, |seed| history::World::new(seed, born).play());
}
