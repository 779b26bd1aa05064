//! Plays simulations from seeds. A seed determines everything that happens in its simulation.
//!
//! `SIM_SEED=n` plays the seed n alone. `SIM_SEEDS=count` sets how many fresh seeds are played;
//! with `SIM_SURVEY=1` a problem does not end the test, and the problems are counted by kind.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    let number = value.parse();
    Some(number.unwrap_or_else(|_| panic!("{name}={value} is not a number")))
}

/// Plays the seed `SIM_SEED`, or fresh ones: `SIM_SEEDS`, or else `count` of them. `play` returns
/// the first problem.
pub(crate) fn play_all(count: u64, play: impl Fn(u64) -> Result<(), String>) {
    let play = |seed| {
        let played = catch_unwind(AssertUnwindSafe(|| play(seed)));
        played.unwrap_or_else(|_| Err("it panicked".into()))
    };
    if let Some(seed) = number("SIM_SEED") {
        return play(seed).unwrap_or_else(|problem| panic!("{problem}"));
    }
    let first = RandomState::new().hash_one(0);
    let seeds = (0..number("SIM_SEEDS").unwrap_or(count)).map(|index| first.wrapping_add(index));
    if std::env::var_os("SIM_SURVEY").is_some() {
        return report_kinds(seeds, play);
    }
    for (index, seed) in seeds.enumerate() {
        play(seed).unwrap_or_else(|problem| {
            panic!("SIM_SEED={seed}: {problem}\nafter {index} seeds without a problem")
        });
    }
}

/// Plays all seeds, and reports each kind of problem once, with its frequency and a seed.
fn report_kinds(seeds: impl Iterator<Item = u64>, play: impl Fn(u64) -> Result<(), String>) {
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
    assert!(kinds.is_empty(), "some seeds have problems");
}
