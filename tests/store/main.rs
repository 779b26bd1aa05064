//! Event stores: the one in files, and the example.

#[path = "../support/mod.rs"]
mod support;

#[cfg(feature = "disk")]
mod disk;
mod example;
mod restored;
