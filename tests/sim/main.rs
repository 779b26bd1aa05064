//! The simulator: the engine in worlds that a seed makes up, against a naive model of what it should do.
//!
//! A world has a configuration, sockets that take what they like when they like, clients that ask for streams, publish,
//! talk nonsense, stall and vanish, publishers in the same process, and a time that is a number. After every turn what came
//! out is held against what should have: whole answers, each stream its part of the total order and nothing else, every
//! end for its true reason, memory within its limit, nothing left over.
//!
//! `SIM_SEED=n cargo test --test sim` plays the world of one seed again; `SIM_SEEDS=count` says how many fresh ones to play.

mod client;
mod dice;
mod model;
mod net;
mod requests;
mod world;

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

/// Plays one world; what went wrong in it, if anything did.
fn play(seed: u64, born: Instant) -> Result<(), String> {
    let played = catch_unwind(AssertUnwindSafe(|| World::new(seed, born).play()));
    played.unwrap_or_else(|_| Err("it panicked".into()))
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can be had only from the clock; all others are this one and a number"
)]
fn every_world_goes_as_the_model_says() {
    let born = Instant::now();
    if let Some(seed) = number("SIM_SEED") {
        play(seed, born).unwrap_or_else(|problem| panic!("SIM_SEED={seed}: {problem}"));
        return;
    }
    let first = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
    if std::env::var("SIM_SURVEY").is_ok() {
        let mut tally = std::collections::BTreeMap::<String, (u64, u64)>::new();
        for index in 0..number("SIM_SEEDS").unwrap_or(WORLDS) {
            let seed = first.wrapping_add(index);
            if let Err(problem) = play(seed, born) {
                let kind: String = problem
                    .chars()
                    .map(|c| if c.is_ascii_digit() { '#' } else { c })
                    .take(160)
                    .collect();
                let kind = kind
                    .replace("##", "#")
                    .replace("##", "#")
                    .replace("##", "#")
                    .replace("##", "#");
                let e = tally.entry(kind).or_insert((0, seed));
                e.0 += 1;
            }
        }
        let mut list: Vec<_> = tally.into_iter().collect();
        list.sort_by_key(|(_, (n, _))| std::cmp::Reverse(*n));
        for (kind, (n, seed)) in list.iter().take(25) {
            println!("{n} x [{seed}] {kind}");
        }
        return;
    }
    for index in 0..number("SIM_SEEDS").unwrap_or(WORLDS) {
        let seed = first.wrapping_add(index);
        play(seed, born).unwrap_or_else(|problem| panic!("SIM_SEED={seed}: {problem}"));
    }
}
