//! fanfare is a broadcast engine for [Server-Sent Events](https://html.spec.whatwg.org/multipage/server-sent-events.html): a
//! library to embed and, with the default features, a server to run.
//!
//! Events are published to [namespaces](Namespace) such as `/pets/dogs` and reach their subscribers and those of every
//! namespace above. One thread serves any number of them: each event is encoded once, the same bytes are given to everyone, and
//! whoever cannot keep up is disconnected before it costs anybody else anything.
//!
//! ```no_run
//! use fanfare::{Event, Server};
//!
//! let server = Server::new();
//! let publisher = server.publisher();
//! std::thread::spawn(move || {
//!     publisher.send(Event::new("/pets/dogs", "Corgi").event("new-dog"))
//! });
//! server.serve("127.0.0.1:8001")?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Start with [`Server`]; [`Publisher`] sends events and [`Rollup`] merges many small changes into few of them, [`Handle`] controls a running server, [`Subscription`] receives
//! events in the same process, and with the feature `client`, a `client::EventSource` does so from any server. How it works inside, and why, is told in the repository's `ARCHITECTURE.md`.
//!
//! Events have IDs and are retained for those who come back; [`EventStore`] keeps them beyond the end of the process.
//!
//! # Features
//! - `admin` (default): the status page, its data and the metrics.
//! - `cli` (default): the `fanfare` program.
//! - `client` (default, through `cli`): the module `client`, which receives event streams from any server.
//! - `disk` (default, through `cli`): history in files.
//! - `publish` (default): publishing over HTTP.
//!
//! Without default features there is the engine alone, on mio, httparse, bytes, slab and crossbeam-channel, and on socket2
//! and rustix for socket options and the descriptor limit.

// Tests may unwrap: what fails there fails the test.
#![warn(clippy::unwrap_used)]

// In reading order: words,
mod cidr;
mod event;
mod json;
mod loopback;
mod namespace;

pub mod config;

// parts,
mod event_stream;
mod http;

mod event_log;
mod store;
mod trie;

#[cfg(feature = "admin")]
mod admin;
mod status;

// the engine, and what drives it.
mod engine;

mod publisher;
mod queue;
mod rollup;
mod server;

#[cfg(feature = "client")]
pub mod client;

/// Compiles and runs the Rust blocks of the documents.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../README.md")]
    struct Readme;

    #[doc = include_str!("../docs/embedding.md")]
    struct Embedding;
}

pub use cidr::{Cidr, CidrError};
#[cfg(feature = "admin")]
pub use config::{Admin, AdminAccess};
pub use config::{Config, ConfigError, PublishAccess};
pub use engine::Routing;
pub use event::{Event, EventError};
pub use event_stream::decode::{DecodeError, Decoded, Decoder, StreamEvent};
pub use http::request::RequestHead;
pub use http::response::Response;
pub use namespace::{Namespace, NamespaceError, NamespaceLimits};
pub use publisher::{Publisher, SendError};
pub use rollup::{Rollup, RollupError};
pub use server::builder::Builder;
pub use server::command::{Disconnect, SubscribeError};
pub use server::handle::Handle;
pub use server::subscription::{RecvTimeoutError, Subscription, TryRecvError};
pub use server::{Server, ServerThread};
pub use status::{ConnectionInfo, DisconnectReason, State, Status, StoreState};
#[cfg(feature = "disk")]
pub use store::Fsync;
pub use store::{EventStore, LastEvents, Record, Recovered, Restore};

/// Parts that the program, the simulator and the benchmarks use. They are not part of the public interface.
#[doc(hidden)]
pub mod internals {
    #[cfg(feature = "client")]
    pub use crate::client::url::{Url, UrlError};
    #[cfg(feature = "admin")]
    pub use crate::config::AdminAccess;
    pub use crate::config::{Access, PublishAccess};
    #[cfg(feature = "admin")]
    pub use crate::engine::AdminSetup;
    pub use crate::engine::{ConnId, Engine, Outlet, Published, ReadInterest, SLICE, SURPLUS};
    pub use crate::event::{EventLimits, max_frame_bytes};
    pub use crate::event_log::{EventLog, Extent, Slices};
    pub use crate::event_stream::frame::{BytesRef, Frame, FrameRef, Target, TargetRef};
    pub use crate::http::{Progress, Reject, body, request, response, route};
    pub use crate::namespace::Namespaces;
    #[cfg(feature = "disk")]
    pub use crate::store::disk::{Disk, Files, Folder, SKIP};
    pub use crate::trie::Trie;
}
