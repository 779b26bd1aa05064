//! The program, as a user starts it.
#![cfg(feature = "cli")]

#[path = "../support/mod.rs"]
mod support;

mod commands;
mod serve;
