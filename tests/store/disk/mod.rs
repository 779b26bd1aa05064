//! The store in files: on a simulated machine that fails and forgets, and on real files.
//!
//! `SIM_SEED=n cargo test --test store` plays the life of one seed again; `SIM_SEEDS=count` says how many fresh ones to play.

#[path = "../../engine/sim/dice.rs"]
#[allow(
    dead_code,
    reason = "the simulator of the engine throws them more ways"
)]
mod dice;
mod machine;
mod real;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use world::World;

/// Lives when nobody says how many.
const LIVES: u64 = if cfg!(debug_assertions) { 500 } else { 10_000 };

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value} is no number")),
    )
}

fn play(seed: u64) {
    let played = catch_unwind(AssertUnwindSafe(|| World::new(seed).play()));
    let played = played.unwrap_or_else(|_| Err("it panicked".into()));
    played.unwrap_or_else(|problem| panic!("SIM_SEED={seed}: {problem}"));
}

#[test]
fn what_counted_is_there_after_every_end() {
    if let Some(seed) = number("SIM_SEED") {
        return play(seed);
    }
    let first = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
    for index in 0..number("SIM_SEEDS").unwrap_or(LIVES) {
        play(first.wrapping_add(index));
    }
}
