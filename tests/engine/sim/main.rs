//! The simulator: the engine in worlds that a seed makes up, against a naive model of what it should do.
//!
//! A world has a configuration, sockets that take what they like when they like, clients that ask for streams, publish,
//! talk nonsense, stall and vanish, publishers in the same process, and a time that is a number. After every turn what came
//! out is held against what should have: whole answers, each stream its part of the total order and nothing else, every
//! end for its true reason, memory within its limit and for what is still needed, nothing left over.
//!
//! `SIM_SEED=n cargo test --test sim` plays the world of one seed again, and tells what sockets do with `SIM_TRACE=1`.
//! `SIM_SEEDS=count` says how many fresh ones to play; with `SIM_SURVEY=1` all of them are, and the problems are counted.

mod client;
mod dice;
mod history;
mod model;
mod net;
mod requests;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use world::World;

/// Fresh worlds when nobody says how many.
const WORLDS: u64 = if cfg!(debug_assertions) { 40 } else { 300 };

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value} is no number")),
    )
}

/// Plays the world of one seed; what went wrong in it, if anything did.
type Play = fn(u64, Instant) -> Result<(), String>;

#[test]
fn every_world_goes_as_the_model_says() {
    play_all(|seed, born| World::new(seed, born).play());
}

#[test]
fn whoever_comes_back_gets_what_is_missing() {
    play_all(|seed, born| history::World::new(seed, born).play());
}

#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can be had only from the clock; all others are this one and a number"
)]
fn play_all(world: Play) {
    let born = Instant::now();
    let play = |seed, born| {
        let played = catch_unwind(AssertUnwindSafe(|| world(seed, born)));
        played.unwrap_or_else(|_| Err("it panicked".into()))
    };
    if let Some(seed) = number("SIM_SEED") {
        play(seed, born).unwrap_or_else(|problem| panic!("SIM_SEED={seed}: {problem}"));
        return;
    }
    let first = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
    let seeds = (0..number("SIM_SEEDS").unwrap_or(WORLDS)).map(|index| first.wrapping_add(index));
    if std::env::var_os("SIM_SURVEY").is_some() {
        return survey(seeds, |seed| play(seed, born));
    }
    for seed in seeds {
        play(seed, born).unwrap_or_else(|problem| panic!("SIM_SEED={seed}: {problem}"));
    }
}

/// Plays on whatever goes wrong, and says what did: each kind of problem once, how often, and a seed that has it.
fn survey(seeds: impl Iterator<Item = u64>, play: impl Fn(u64) -> Result<(), String>) {
    let mut kinds = BTreeMap::<String, (usize, u64)>::new();
    for seed in seeds {
        if let Err(problem) = play(seed) {
            let kind = problem.split(|c: char| c.is_ascii_digit());
            let kind: Vec<&str> = kind.filter(|part| !part.is_empty()).collect();
            kinds.entry(kind.join("#")).or_insert((0, seed)).0 += 1;
        }
    }
    for (kind, (count, seed)) in &kinds {
        eprintln!("{count} x SIM_SEED={seed}: {kind:.160}");
    }
    assert!(kinds.is_empty(), "some worlds did not go as the model says");
}
