//! fanfare is a broadcast engine for [Server-Sent Events]: a library to embed and, with the default
//! features, a server to run.
//!
//! Events are published to [namespaces](Namespace), for example `/pets/dogs`. An event reaches the
//! subscribers of its namespace and of every namespace above. One thread serves any number of
//! subscribers. Each event is encoded once, and all subscribers are sent the same bytes. A
//! subscriber that cannot keep up is disconnected before it affects others.
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
//! Start with [`Server`], and with [`Builder`] for its options and hooks.
//! - [`Publisher`] sends events, and [`Rollup`] merges many small changes into few events.
//! - [`Handle`] controls a running server and reports its [`Status`].
//! - [`Subscription`] receives events in the same process. With the feature `client`, a
//!   `client::EventSource` receives them from any server.
//! - Events have IDs and are retained for clients that reconnect. [`EventStore`] keeps them across
//!   restarts.
//!
//! `ARCHITECTURE.md` in the repository describes how it works inside.
//!
//! # Features
//! An application does not need the program, which is a default feature:
//!
//! ```sh
//! cargo add fanfare --no-default-features --features publish,admin
//! ```
//!
//! | feature | brings | crates in total |
//! |---|---|---:|
//! | none | the server, publishers and subscriptions in the process, history in memory | 12 |
//! | `publish` | `POST /publish` | 24 |
//! | `admin` | the status page, its JSON and the metrics; includes `publish` | 24 |
//! | `disk` | history in files | 14 |
//! | `client` | an event source for any server, over HTTP and TLS | 40 |
//! | `cli` (default) | the program `fanfare`; includes all others | 103 |
//!
//! The public interface has types of [`bytes`] and [`crossbeam_channel`], which are re-exported.
//!
//! [Server-Sent Events]: https://html.spec.whatwg.org/multipage/server-sent-events.html

// Tests may unwrap: a panic fails the test.
#![warn(clippy::print_stdout, clippy::unwrap_used)]

// Words: values, their syntax and their limits.

// Namespaces are the paths that events are published to.
mod namespace;

// Events as a publisher makes them, before they are encoded.
mod event;

// Networks of addresses, `10.0.0.0/8`.
mod cidr;

// Hosts and addresses of this machine.
mod loopback;

// JSON strings, for parts that are built without a JSON library.
mod json;

// The status of a server and of its connections.
mod status;

// The options, each declared once.
pub mod config;

// Parts: each does one thing, without sockets, threads or a clock.

// The format of event streams, in both directions.
mod event_stream;

// HTTP requests and responses as bytes, and the route of a request.
mod http;

// A value for each namespace, found together with those of its ancestors.
mod trie;

// The recent frames of one topic, which are the outbox of its subscribers.
mod log;

// The interface of a store of events; with the feature `disk`, a store in files.
mod store;

// The status page, its JSON and the metrics.
#[cfg(feature = "admin")]
mod admin;

// The engine: owns all mutable state, knows topics, subscribers and connections, and does no I/O.
mod engine;

// Drivers: sockets, threads, files and the clock.

// Publishers, which send events from any thread.
mod publisher;

// The queue between publishers and the event loop.
mod queue;

// The server: runs the event loop around the engine.
mod server;

// Roll-ups, which publish many small changes as one event per interval.
mod rollup;

// The client, which shares only the format of event streams with the server.
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

pub use bytes;
pub use crossbeam_channel;

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

/// Parts that the program, the simulator and the benchmarks use. They are not part of the public
/// interface.
#[doc(hidden)]
pub mod internals {
    #[cfg(feature = "client")]
    pub use crate::client::url::{Url, UrlError};
    #[cfg(feature = "admin")]
    pub use crate::config::AdminAccess;
    pub use crate::config::{Access, PublishAccess};
    #[cfg(feature = "admin")]
    pub use crate::engine::AdminSetup;
    pub use crate::engine::{
        ConnId, Engine, Outlet, Published, ReadInterest, Recovery, SLICE, SURPLUS,
    };
    pub use crate::event::{EventLimits, max_frame_bytes};
    pub use crate::event_stream::frame::{BytesRef, Frame, FrameRef, Target, TargetRef};
    pub use crate::http::{Progress, Reject, body, request, response, route};
    pub use crate::log::{EventLog, Extent, LogId, Offset, Ordinal, Position, Seq, Slices};
    pub use crate::namespace::Namespaces;
    #[cfg(feature = "disk")]
    pub use crate::store::disk::{Disk, Files, Folder, SKIP};
    pub use crate::trie::Trie;
}
