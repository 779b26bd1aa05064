//! Stores of events: the one in files, and the example of one.

#[cfg(feature = "disk")]
mod disk;
mod journal;
