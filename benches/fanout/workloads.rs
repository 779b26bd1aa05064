//! The rows of the table: the writer, the subscribers and the events of each.

use std::time::Duration;

use crate::frame::EventSubset;

/// The writing process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writer {
    /// The server, with a publisher on another thread of its process.
    Fanfare,
    /// A loop of `write` on blocking sockets.
    Bare,
    /// axum with a channel of bytes, each event encoded once.
    Axum,
    /// axum with its own type for event streams, as users would write it.
    AxumSse,
}

/// The namespaces of the subscribers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Layout {
    /// All subscribe to one namespace.
    One,
    /// The first `roots` subscribe to the root, the others evenly to `namespaces` below it. Events
    /// go to these in turn.
    Spread { namespaces: u64, roots: usize },
    /// Each subscribes to eight of `namespaces`. Events go to these in turn.
    Eight { namespaces: u64 },
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    /// The workload, and after a slash the variant.
    pub(crate) name: &'static str,
    pub(crate) writer: Writer,
    pub(crate) subscribers: usize,
    pub(crate) layout: Layout,
    /// The size of an event on the wire in bytes.
    pub(crate) frame: usize,
    /// Events per second. `None` means without limit, 0 no events.
    pub(crate) rate: Option<u32>,
    pub(crate) duration: Duration,
    /// `write_budget`, or the bytes that the bare loop writes at once.
    pub(crate) budget: usize,
    pub(crate) queue_bytes: usize,
    pub(crate) coalesce_ms: u64,
    pub(crate) max_lag: usize,
    /// The number of additional subscribers that never read, and reconnect when they are
    /// disconnected.
    pub(crate) slow: usize,
    /// The number of retained events. Unless it is 0, each event has an ID.
    pub(crate) history: usize,
    /// Whether subscribers connect after all events are published, and replay them.
    pub(crate) replay: bool,
    /// The rows that this one is compared with.
    pub(crate) against: &'static [&'static str],
}

impl Row {
    /// The same with few subscribers and for a short time, to check that it runs.
    pub(crate) fn shortened(&self) -> Self {
        Self {
            subscribers: self.subscribers.min(20),
            duration: self.duration.min(Duration::from_millis(50)),
            slow: self.slow.min(2),
            history: self.history.min(100),
            ..*self
        }
    }

    pub(crate) fn workload(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }

    /// The number of events, unless they are published for a time.
    pub(crate) fn count(&self) -> Option<u64> {
        self.replay.then_some(self.history as u64)
    }

    /// Whether events are published.
    pub(crate) fn events(&self) -> bool {
        self.rate != Some(0)
    }

    pub(crate) fn namespaces(&self) -> u64 {
        match self.layout {
            Layout::One => 1,
            Layout::Spread { namespaces, .. } | Layout::Eight { namespaces } => namespaces,
        }
    }

    /// The request target of a subscriber, and the events that it must receive.
    pub(crate) fn subscription(&self, index: usize) -> (String, EventSubset) {
        let all = EventSubset {
            modulus: 1,
            first: 0,
            width: 1,
        };
        match self.layout {
            Layout::Spread { roots, .. } if index < roots => ("/subscribe".into(), all),
            Layout::One | Layout::Spread { .. } => {
                let start = index as u64 % self.namespaces();
                let query = if self.replay { "?replay=all" } else { "" };
                (
                    format!("/subscribe{}{query}", namespace(start)),
                    EventSubset {
                        modulus: self.namespaces(),
                        first: start,
                        width: 1,
                    },
                )
            }
            Layout::Eight { namespaces } => {
                let start = index as u64 % namespaces;
                let names =
                    (0..8).map(|offset| format!("ns={}", namespace((start + offset) % namespaces)));
                let query = names.collect::<Vec<_>>().join("&");
                (
                    format!("/subscribe?{query}"),
                    EventSubset {
                        modulus: namespaces,
                        first: start,
                        width: 8,
                    },
                )
            }
        }
    }
}

/// The name of a namespace.
pub(crate) fn namespace(index: u64) -> String {
    format!("/n/{index}")
}

const SATURATED: Row = Row {
    name: "",
    writer: Writer::Fanfare,
    subscribers: 1_000,
    layout: Layout::One,
    frame: 108,
    rate: None,
    duration: Duration::from_secs(2),
    budget: 16 << 10,
    queue_bytes: 1 << 20,
    coalesce_ms: 0,
    max_lag: 1 << 20,
    slow: 0,
    history: 0,
    replay: false,
    against: &[],
};
/// The other writers with the same budget.
const SATURATED_OTHERS: &[&str] = &[
    "saturated/bare, 16 KiB",
    "saturated/axum",
    "saturated/axum, Sse",
];
const MANY: Row = Row {
    layout: Layout::Spread {
        namespaces: 100,
        roots: 10,
    },
    // A subscriber of the root receives all events, a hundred megabytes per second, and the reading
    // process may lag for a short time.
    max_lag: 64 << 20,
    ..SATURATED
};
const STEADY: Row = Row {
    rate: Some(100),
    duration: Duration::from_secs(3),
    ..SATURATED
};
const BUSY: Row = Row {
    rate: Some(1_000),
    ..STEADY
};
const LONE: Row = Row {
    subscribers: 10_000,
    rate: Some(1),
    // There is one event per second, so it runs longer than the others.
    duration: Duration::from_secs(10),
    ..SATURATED
};
const LARGE: Row = Row {
    subscribers: 200,
    frame: 64 << 10,
    budget: 64 << 10,
    ..SATURATED
};
const IDLE: Row = Row {
    subscribers: 15_000,
    rate: Some(0),
    duration: Duration::ZERO,
    ..SATURATED
};

/// All rows. Those of a workload are adjacent.
pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "saturated/bare, 1 event per write",
        writer: Writer::Bare,
        budget: 108,
        ..SATURATED
    },
    Row {
        name: "saturated/bare, 4 KiB",
        writer: Writer::Bare,
        budget: 4 << 10,
        ..SATURATED
    },
    Row {
        name: "saturated/bare, 16 KiB",
        writer: Writer::Bare,
        ..SATURATED
    },
    Row {
        name: "saturated/bare, 64 KiB",
        writer: Writer::Bare,
        budget: 64 << 10,
        ..SATURATED
    },
    Row {
        name: "saturated/axum",
        writer: Writer::Axum,
        ..SATURATED
    },
    Row {
        name: "saturated/axum, Sse",
        writer: Writer::AxumSse,
        ..SATURATED
    },
    Row {
        name: "saturated/fanfare",
        against: SATURATED_OTHERS,
        ..SATURATED
    },
    Row {
        name: "saturated/fanfare, 8 KiB queue",
        queue_bytes: 8 << 10,
        against: SATURATED_OTHERS,
        ..SATURATED
    },
    Row {
        name: "saturated/fanfare, 64 KiB",
        budget: 64 << 10,
        against: &[
            "saturated/bare, 64 KiB",
            "saturated/axum",
            "saturated/axum, Sse",
        ],
        ..SATURATED
    },
    Row {
        name: "saturated/fanfare, history",
        history: 1_000,
        against: &["saturated/fanfare"],
        ..SATURATED
    },
    Row {
        name: "storm/10000 replay 1000 events",
        subscribers: 10_000,
        history: 1_000,
        replay: true,
        against: &["saturated/fanfare", "idle/fanfare"],
        ..SATURATED
    },
    Row {
        name: "many/bare",
        writer: Writer::Bare,
        ..MANY
    },
    Row {
        name: "many/100 namespaces, 10 on the root",
        against: &["many/bare", "saturated/fanfare"],
        ..MANY
    },
    Row {
        name: "merged/8 namespaces",
        layout: Layout::Eight { namespaces: 8 },
        against: &["saturated/fanfare"],
        ..SATURATED
    },
    Row {
        name: "merged/8 of 64 namespaces",
        layout: Layout::Eight { namespaces: 64 },
        against: &["saturated/fanfare"],
        ..SATURATED
    },
    Row {
        name: "mixed/50 additional slow readers",
        slow: 50,
        against: &["saturated/fanfare"],
        ..SATURATED
    },
    Row {
        name: "large/bare",
        writer: Writer::Bare,
        ..LARGE
    },
    Row {
        name: "large/fanfare",
        budget: 16 << 10,
        against: &["large/bare"],
        ..LARGE
    },
    Row {
        name: "steady/100 per second, bare",
        writer: Writer::Bare,
        budget: 108,
        ..STEADY
    },
    Row {
        name: "steady/100 per second, axum",
        writer: Writer::Axum,
        ..STEADY
    },
    Row {
        name: "steady/100 per second, fanfare",
        against: &["steady/100 per second, bare", "steady/100 per second, axum"],
        ..STEADY
    },
    Row {
        name: "steady/1000 per second, axum",
        writer: Writer::Axum,
        ..BUSY
    },
    Row {
        name: "steady/1000 per second, fanfare",
        against: &["steady/1000 per second, axum"],
        ..BUSY
    },
    Row {
        name: "steady/1000 per second, coalesce 10 ms",
        coalesce_ms: 10,
        against: &["steady/1000 per second, fanfare"],
        ..BUSY
    },
    Row {
        name: "lone/bare",
        writer: Writer::Bare,
        budget: 108,
        ..LONE
    },
    Row {
        name: "lone/axum",
        writer: Writer::Axum,
        ..LONE
    },
    Row {
        name: "lone/fanfare",
        against: &["lone/bare", "lone/axum"],
        ..LONE
    },
    Row {
        name: "separate/10000 namespaces of one",
        layout: Layout::Spread {
            namespaces: 10_000,
            roots: 0,
        },
        subscribers: 10_000,
        against: &["lone/fanfare"],
        ..SATURATED
    },
    Row {
        name: "idle/bare accept loop",
        writer: Writer::Bare,
        ..IDLE
    },
    Row {
        name: "idle/axum",
        writer: Writer::Axum,
        ..IDLE
    },
    Row {
        name: "idle/fanfare",
        against: &["idle/bare accept loop", "idle/axum"],
        ..IDLE
    },
];
