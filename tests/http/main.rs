//! The server over real sockets: streams, requests and their limits, history, the data of the admin
//! page.

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod history;
mod limits;
mod routes;
mod wire;
