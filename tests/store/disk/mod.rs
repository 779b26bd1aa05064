//! The store in files: on a simulated machine that fails and forgets, and on real files.
//!
//! `SIM_SEED=n cargo test --test store` plays the life of one seed again; see `support/seeds.rs`.

mod machine;
mod real;
mod world;

use crate::support::seeds;

/// How many lives are played by default.
const LIVES: u64 = if cfg!(debug_assertions) { 500 } else { 10_000 };

#[test]
fn synced_events_are_there_after_every_end() {
    seeds::play_all(LIVES, |seed| world::World::new(seed).play());
}
