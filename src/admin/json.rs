//! The JSON of the server, its connections and its namespaces.
//!
//! `admin-ui/openapi.yaml` describes the fields. Times without a unit in their name are Unix
//! seconds.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::json::to_json;

/// The server's counters: the data of the page's events, and the first part of `status.json`.
#[derive(Debug, Serialize)]
pub(crate) struct StatusJson<'a> {
    pub(crate) node: &'a str,
    pub(crate) status: &'static str,
    pub(crate) reported_at: u64,
    pub(crate) startup_time: u64,
    pub(crate) msgs_broadcast: u64,
    pub(crate) version: &'static str,
    pub(crate) uptime_ms: u64,
    pub(crate) state: &'static str,
    pub(crate) warnings: Vec<String>,
    pub(crate) connections_now: usize,
    pub(crate) connections_peak: usize,
    pub(crate) connections_total: u64,
    pub(crate) subscribers: usize,
    pub(crate) events: u64,
    pub(crate) deliveries: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) queue_events: usize,
    pub(crate) queue_bytes: usize,
    pub(crate) namespaces: usize,
    pub(crate) retained_events: usize,
    pub(crate) retained_bytes: u64,
    pub(crate) retained_limit: usize,
    pub(crate) disconnects: BTreeMap<&'static str, u64>,
    #[serde(rename = "loop")]
    pub(crate) turns: LoopJson,
}

/// The load of the event loop.
#[derive(Debug, Serialize)]
pub(crate) struct LoopJson {
    pub(crate) busy_ms: u64,
    pub(crate) longest_turn_us: u64,
}

/// `status.json`: the counters and a page of the event streams.
#[derive(Debug, Serialize)]
pub(crate) struct StatusPageJson<'a> {
    #[serde(flatten)]
    pub(crate) status: StatusJson<'a>,
    /// Each a [`ConnectionJson`].
    pub(crate) connections: Vec<Box<RawValue>>,
    #[serde(flatten)]
    pub(crate) page: PageJson,
}

/// `namespaces.json`: a page of the namespaces in use.
#[derive(Debug, Serialize)]
pub(crate) struct NamespacesJson<'a> {
    #[serde(flatten)]
    pub(crate) page: PageJson,
    /// The namespace given as `under`, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<NamespaceJson<'a>>,
    pub(crate) namespaces: Vec<NamespaceJson<'a>>,
}

/// The fields common to all pages of a list.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct PageJson {
    /// Rows of the whole list.
    pub(crate) total: usize,
    /// Rows that the filter matches.
    pub(crate) matched: usize,
    pub(crate) limit: usize,
    pub(crate) offset: usize,
}

/// One event stream: `connection.json`, and a row of `status.json`.
#[derive(Debug, Serialize)]
pub(crate) struct ConnectionJson<'a> {
    pub(crate) request_path: String,
    pub(crate) namespace: &'a str,
    pub(crate) created_at: u64,
    pub(crate) client_ip: String,
    pub(crate) user_agent: &'a str,
    pub(crate) msgs_sent: u64,
    pub(crate) id: u64,
    pub(crate) namespaces: Vec<&'a str>,
    pub(crate) bytes_sent: u64,
    pub(crate) lag: u64,
    pub(crate) last_write_ms: u64,
    pub(crate) connected_ms: u64,
}

/// A row of `namespaces.json`.
#[derive(Debug, Serialize)]
pub(crate) struct NamespaceJson<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) subscribers: usize,
    pub(crate) subscribers_below: usize,
    pub(crate) events: u64,
    pub(crate) retained_events: usize,
    pub(crate) retained_bytes: u64,
    pub(crate) last_event_at: Option<u64>,
    pub(crate) children: usize,
}

/// The access of the page, which it requests first: `session.json`.
#[derive(Debug, Serialize)]
pub(crate) struct SessionJson {
    pub(crate) login: bool,
    pub(crate) signed_in: bool,
    pub(crate) publish: &'static str,
}

/// The result of disconnecting connections.
#[derive(Debug, Serialize)]
pub(crate) struct DisconnectedJson {
    pub(crate) disconnected: usize,
}

/// The JSON of a value of this module, to be a part of another value.
pub(crate) fn raw_json(value: &impl Serialize) -> Box<RawValue> {
    RawValue::from_string(to_json(value)).expect("serialization gives valid JSON")
}
