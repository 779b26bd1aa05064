//! The verbs of the status page, its JSON, its event stream and the metrics.
//!
//! An answer over many connections or namespaces is made in slices (`jobs`), so that events do
//! not wait for it.

mod access;
mod jobs;
mod status;
mod watchers;

use std::time::Instant;

use crate::admin::endpoint::{AdminAction, DisconnectRequest, Endpoint};
use crate::admin::json::DisconnectedJson;
use crate::admin::metrics::{Measures, Series};
use crate::admin::{assets, session};
use crate::config::AdminAccess;
use crate::http::Reject;
use crate::http::request::RequestHead;
use crate::http::response::Response;
use crate::json::to_json;
use crate::namespace::NamespaceRef;
use crate::status::DisconnectReason;

use super::client_info::{Agents, ClientInfo};
use super::connection::Phase;
use super::telemetry::TopicMeter;
use super::uploads::Sink;
use super::{ConnId, Engine};
use jobs::Jobs;
use watchers::Watchers;

/// The length of a window, in microseconds. The longest turn that is reported is that of the
/// current window and of the one before.
const WINDOW_US: u64 = 5_000_000;
/// The limit of bytes in the body of an administrator's request.
const MAX_ACTION_BYTES: usize = 8 << 10;

/// What the engine needs to know about the server that contains it.
#[derive(Debug, Clone)]
pub struct AdminSetup {
    /// Who may see and change the state.
    pub access: AdminAccess,
    /// Whether the status page has a listener of its own. Then only the connections marked with
    /// [`Engine::set_for_admin`] have access.
    pub own_listener: bool,
    /// The name of the machine.
    pub node: String,
    /// The time now, in milliseconds of Unix time.
    pub unix_ms: u64,
}

/// The state of the status page and the metrics.
#[derive(Debug)]
pub(super) struct AdminState {
    setup: AdminSetup,
    /// When the engine's time began, in milliseconds of Unix time.
    started_unix_ms: u64,
    watchers: Watchers,
    jobs: Jobs,
    /// The user agents of all streams.
    agents: Agents,
    series: Series,
    measures: Measures,
    /// Passes that ended in this turn: when the first of their events came, and when they began, in
    /// microseconds of the engine's time.
    passes: Vec<(u64, u64)>,
    /// Events in the publish queue, and their bytes.
    queued_events: usize,
    queued_bytes: usize,
    /// The longest turn of the current window and of the one before.
    longest_us: [u64; 2],
    /// When the current window ends, in microseconds of the engine's time.
    window_ends_us: u64,
}

impl AdminState {
    /// Records the end of a pass: when the first of its events came, and when it began, in
    /// microseconds of the engine's time.
    pub(super) fn record_pass(&mut self, since_us: u64, began_us: u64) {
        self.passes.push((since_us, began_us));
    }

    /// Counts an event that was published to a namespace. `meter` is that of any topic on the path
    /// to it but the root, if there is one: it begins with the same segment.
    pub(super) fn count_published(
        &mut self,
        namespace: NamespaceRef<'_>,
        meter: Option<&mut TopicMeter>,
    ) {
        let series = &mut self.series;
        let own = match meter {
            Some(meter) => *meter
                .series
                .get_or_insert_with(|| series.of(namespace.as_str())),
            None => series.of(namespace.as_str()),
        };
        series.count(own);
    }

    /// When the watchers are notified next, in milliseconds of the engine's time.
    pub(super) fn next_report_ms(&self) -> Option<u64> {
        self.watchers.next_report_ms()
    }

    /// Records a turn of the event loop that ended at a time of the engine.
    fn record_turn(&mut self, turn_us: u64, ended_us: u64) {
        self.measures.busy_us += turn_us;
        if ended_us >= self.window_ends_us {
            // Nothing happened in a window that ended before this turn began.
            let missed = ended_us >= self.window_ends_us + WINDOW_US;
            let last = if missed { 0 } else { self.longest_us[0] };
            self.longest_us = [0, last];
            self.window_ends_us = ended_us + WINDOW_US;
        }
        self.longest_us[0] = self.longest_us[0].max(turn_us);
        for (since_us, began_us) in self.passes.drain(..) {
            self.measures.count_pass(since_us, began_us, ended_us);
        }
    }

    fn longest_turn_us(&self) -> u64 {
        self.longest_us[0].max(self.longest_us[1])
    }
}

/// A response that pages of other origins cannot read, and whose type browsers do not guess.
fn guarded(response: Response) -> Response {
    let has_cache_control = response.value("Cache-Control").is_some();
    let response = response
        .same_origin_only()
        .header("X-Content-Type-Options", "nosniff");
    if has_cache_control {
        response
    } else {
        response.header("Cache-Control", "no-store")
    }
}

impl Engine {
    /// Turns the status page and the metrics on.
    pub fn set_admin(&mut self, setup: AdminSetup, now: Instant) {
        self.clock.set(now);
        self.meters.admin = Some(Box::new(AdminState {
            started_unix_ms: setup.unix_ms.saturating_sub(self.clock.ms()),
            setup,
            watchers: Watchers::default(),
            jobs: Jobs::default(),
            agents: Agents::new(),
            series: Series::default(),
            measures: Measures::default(),
            passes: Vec::new(),
            queued_events: 0,
            queued_bytes: 0,
            longest_us: [0; 2],
            window_ends_us: 0,
        }));
    }

    /// Marks a connection as one of the admin listener, which serves the status page and the
    /// metrics only.
    pub fn set_for_admin(&mut self, key: ConnId) {
        self.connections[key].for_admin = true;
    }

    /// Records a turn of the event loop.
    pub fn record_turn(&mut self, began: Instant, ended: Instant) {
        if let Some(admin) = &mut self.meters.admin {
            let turn_us = ended.saturating_duration_since(began).as_micros() as u64;
            let ended_us = self.clock.since_start(ended).as_micros() as u64;
            admin.record_turn(turn_us, ended_us);
        }
    }

    /// Records the events in the publish queue, and their bytes.
    pub fn record_queue(&mut self, events: usize, bytes: usize) {
        if let Some(admin) = &mut self.meters.admin {
            (admin.queued_events, admin.queued_bytes) = (events, bytes);
        }
    }

    /// Records what the request of a stream says about its client.
    pub(super) fn record_client(&mut self, key: ConnId, head: &RequestHead) {
        let Some(admin) = &mut self.meters.admin else {
            return;
        };
        if admin.setup.access == AdminAccess::Off {
            return;
        }
        if let Phase::Streaming(stream) = &mut self.connections[key].phase {
            let set = self.groups.topics_of(stream.membership.group);
            let namespaces = set.map(|topic| &self.topics[topic].namespace);
            stream.client = ClientInfo::new(head, namespaces, &mut admin.agents);
        }
    }

    pub(super) fn forget_client(&mut self, client: &ClientInfo) {
        if let Some(admin) = &mut self.meters.admin {
            client.forget(&mut admin.agents);
        }
    }

    /// Whether a request is for an endpoint of this module.
    pub(super) fn is_for_admin(&self, key: ConnId, head: &RequestHead) -> bool {
        let Some(admin) = &self.meters.admin else {
            return false;
        };
        match (admin.setup.own_listener, self.connections[key].for_admin) {
            // Probes may ask any listener.
            (true, true) => !matches!(head.path(), "/healthz" | "/readyz"),
            (true, false) => false,
            (false, _) => Endpoint::at(head.path()).is_some(),
        }
    }

    /// Answers a request for an endpoint of this module.
    pub(super) fn answer_admin(&mut self, key: ConnId, head: &RequestHead) {
        let endpoint = match self.admit(head) {
            Ok(endpoint) => endpoint,
            Err(refusal) => return self.respond(key, head, &guarded(refusal)),
        };
        let response = match endpoint {
            Endpoint::Redirect => Response::empty(308).header("Location", "admin/"),
            Endpoint::Asset => {
                let name = head.path().strip_prefix("/admin/");
                let asset = name.and_then(|name| assets::asset(name, head));
                asset.unwrap_or_else(|| Reject::not_found().into())
            }
            Endpoint::Session => self.session(head),
            Endpoint::Connection => self.connection(head.query()),
            Endpoint::Events => return self.begin_watching(key, head),
            Endpoint::Action(action) => {
                let action = self.with_scheme(key, head, action);
                return self.begin_upload(key, head, Sink::Action(action), MAX_ACTION_BYTES);
            }
            Endpoint::Status | Endpoint::Namespaces | Endpoint::Metrics => {
                match self.begin_job(key, head, endpoint) {
                    Ok(()) => return,
                    Err(reject) => reject.into(),
                }
            }
        };
        self.respond(key, head, &guarded(response));
    }

    /// Does what the body of an administrator's request asks for.
    pub(super) fn act(&mut self, action: AdminAction, body: &[u8]) -> Response {
        guarded(match action {
            AdminAction::Disconnect => self.act_disconnect(body),
            AdminAction::Login { secure } => self.sign_in(body, secure),
            AdminAction::Logout => Response::empty(204).header("Set-Cookie", session::sign_out()),
        })
    }

    fn act_disconnect(&mut self, body: &[u8]) -> Response {
        let request = DisconnectRequest::parse(body, &self.config.namespace_limits());
        let disconnected = match request {
            Ok(DisconnectRequest::Connection(id)) => {
                usize::from(self.disconnect_id(id, DisconnectReason::Kicked))
            }
            Ok(DisconnectRequest::Namespace(namespace)) => self.kick_namespace(&namespace),
            Err(reject) => return reject.into(),
        };
        Response::json(200, to_json(&DisconnectedJson { disconnected }))
    }
}
