//! The library, as an application uses it.

#[path = "../support/mod.rs"]
mod support;

mod conformance;
mod properties;
mod rollup;
mod servers;
