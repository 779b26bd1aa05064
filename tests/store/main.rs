//! Stores of events: the one in files, and the example of one.

#[path = "../support/mod.rs"]
mod support;

#[cfg(feature = "disk")]
mod disk;
mod journal;
