//! Looking at the engine and acting on it over HTTP: the status page, its data, its events and the metrics.
//!
//! Answers over many connections or namespaces are made in slices (`jobs`). The page's own events cost nothing while nobody watches; they go
//! to watchers as they are, not through a log, since whoever cannot take one has no use for it when the next is there.

mod jobs;

use std::collections::VecDeque;
use std::time::Instant;

use crate::admin::endpoint::{AdminAction, DisconnectRequest, Endpoint, LoginRequest};
use crate::admin::json::{DisconnectedJson, LoopJson, SessionJson, StatusJson, json};
use crate::admin::metrics::{Measures, Series};
use crate::admin::{assets, session};
use crate::config::{AdminAccess, PublishAccess};
use crate::http::Reject;
use crate::http::access::{same_secret, shows_token};
use crate::http::request::{RequestHead, RequestReader};
use crate::http::response::{self, Response};
use crate::http::{proxy, route};
use crate::namespace::NamespaceRef;
use crate::status::{DisconnectReason, State, Status, StoreState};

use super::client_info::{Agents, ClientInfo};
use super::connection::Phase;
use super::topics::Topic;
use super::{ConnId, Engine};
use jobs::Job;

/// Time between two of the page's own events.
const REPORT_MS: u64 = 1_000;
/// The longest turn is that of this time, and of the one before it.
const WINDOW_US: u64 = 5_000_000;
/// Bytes of a body that says what to do.
pub(super) const ACTION_MOST: usize = 8 << 10;

/// What the engine cannot know by itself of the server that it is in.
#[derive(Debug, Clone)]
pub struct AdminSetup {
    /// Who may look and act.
    pub access: AdminAccess,
    /// Only connections that [`Engine::set_for_admin`] names may.
    pub own_listener: bool,
    /// The name of the machine.
    pub node: String,
    /// The time now, in milliseconds of Unix time.
    pub unix_ms: u64,
}

/// What is kept for those who look.
#[derive(Debug)]
pub(super) struct Admin {
    setup: AdminSetup,
    /// When the engine's time began, in milliseconds of Unix time.
    started_unix_ms: u64,
    /// Connections that receive the status each second, and when they do next.
    watchers: Vec<ConnId>,
    next_report_ms: u64,
    /// Answers that are being made, the first one now.
    jobs: VecDeque<Job>,
    /// What clients of streams say they are.
    agents: Agents,
    series: Series,
    measures: Measures,
    /// Passes that ended in this turn: when the first of their events came, and when they began.
    passes: Vec<(u64, u64)>,
    /// Events and bytes that wait to be published.
    queued: (usize, usize),
    /// The longest turn of this window and of the last one, and when this one ends.
    longest_us: [u64; 2],
    window_ends_us: u64,
}

impl Admin {
    /// Records a pass that is over: when the first of its events came, and when it began, in microseconds of the engine's
    /// time.
    pub(super) fn record_pass(&mut self, since_us: u64, began_us: u64) {
        self.passes.push((since_us, began_us));
    }

    /// Counts an event that was published to a namespace; `topic` is the last one on the way to it, if there is one.
    pub(super) fn count_published(
        &mut self,
        namespace: NamespaceRef<'_>,
        topic: Option<&mut Topic>,
    ) {
        let series = &mut self.series;
        // Any topic on the way but the root's begins with the same segment.
        let own = match topic.filter(|topic| topic.namespace.as_str() != "/") {
            Some(topic) => *topic
                .meter
                .series
                .get_or_insert_with(|| series.of(namespace.as_str())),
            None => series.of(namespace.as_str()),
        };
        series.count(own);
    }

    /// When the watchers are notified next, in milliseconds of the engine's time.
    pub(super) fn next_report_ms(&self) -> Option<u64> {
        (!self.watchers.is_empty()).then_some(self.next_report_ms)
    }

    fn longest_turn_us(&self) -> u64 {
        self.longest_us[0].max(self.longest_us[1])
    }
}

/// An answer that no page of another origin may read, and that is what it says it is.
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
    /// Makes the engine one that can be looked at.
    pub fn set_admin(&mut self, setup: AdminSetup, now: Instant) {
        self.clock.set(now);
        self.meters.admin = Some(Box::new(Admin {
            started_unix_ms: setup.unix_ms.saturating_sub(self.clock.ms()),
            setup,
            watchers: Vec::new(),
            next_report_ms: 0,
            jobs: VecDeque::new(),
            agents: Agents::new(),
            series: Series::default(),
            measures: Measures::default(),
            passes: Vec::new(),
            queued: (0, 0),
            longest_us: [0; 2],
            window_ends_us: 0,
        }));
    }

    /// Notes that a connection came to the listener for those who look, where nothing else is served.
    pub fn set_for_admin(&mut self, key: ConnId) {
        self.connections[key].for_admin = true;
    }

    /// Records a turn of the event loop: when it began and ended, and the events and bytes in the publish queue.
    pub fn record_turn(&mut self, began: Instant, ended: Instant, queued: (usize, usize)) {
        let Some(admin) = &mut self.meters.admin else {
            return;
        };
        let turn_us = ended.saturating_duration_since(began).as_micros() as u64;
        let ended_us = self.clock.since_start(ended).as_micros() as u64;
        admin.queued = queued;
        admin.measures.busy_us += turn_us;
        if ended_us >= admin.window_ends_us {
            // A window in which nothing happened is one too.
            let missed = ended_us >= admin.window_ends_us + WINDOW_US;
            let last = if missed { 0 } else { admin.longest_us[0] };
            admin.longest_us = [0, last];
            admin.window_ends_us = ended_us + WINDOW_US;
        }
        admin.longest_us[0] = admin.longest_us[0].max(turn_us);
        for (since_us, began_us) in admin.passes.drain(..) {
            admin.measures.count_pass(since_us, began_us, ended_us);
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

    /// Whether a request is for what is answered here.
    pub(super) fn is_for_admin(&self, key: ConnId, head: &RequestHead) -> bool {
        let Some(admin) = &self.meters.admin else {
            return false;
        };
        match (admin.setup.own_listener, self.connections[key].for_admin) {
            // Whoever watches over a server asks each of its listeners whether it is there.
            (true, true) => !matches!(head.path(), "/healthz" | "/readyz"),
            (true, false) => false,
            (false, _) => Endpoint::at(head.path()).is_some(),
        }
    }

    pub(super) fn answer_admin(
        &mut self,
        key: ConnId,
        reader: Box<RequestReader>,
        head: &RequestHead,
    ) {
        let endpoint = match self.admit(head) {
            Ok(endpoint) => endpoint,
            Err(answer) => return self.respond(key, reader, head, &guarded(answer)),
        };
        let answer = match endpoint {
            Endpoint::Redirect => Response::empty(308).header("Location", "admin/"),
            Endpoint::Asset => {
                let name = head.path().strip_prefix("/admin/");
                let answer = name.and_then(|name| assets::asset(name, head));
                answer.unwrap_or_else(|| Reject::not_found().into())
            }
            Endpoint::Session => self.session(head),
            Endpoint::Connection => self.connection(head.query()),
            Endpoint::Events => return self.begin_watching(key, head),
            Endpoint::Action(action) => {
                let action = self.with_scheme(key, head, action);
                return self.receive_action(key, reader, head, action);
            }
            Endpoint::Status | Endpoint::Namespaces | Endpoint::Metrics => {
                match self.job(endpoint, key, head) {
                    Ok(job) => return self.begin_job(job, reader),
                    Err(reject) => reject.into(),
                }
            }
        };
        self.respond(key, reader, head, &guarded(answer));
    }

    /// What a request asks for, if it may.
    fn admit(&self, head: &RequestHead) -> Result<Endpoint, Response> {
        let endpoint = Endpoint::at(head.path()).ok_or_else(Reject::not_found)?;
        let allow = endpoint.allow();
        if head.method() == "OPTIONS" {
            return Err(Response::empty(204).header("Allow", allow));
        }
        if !endpoint.takes(head.method()) {
            return Err(Reject::method_not_allowed(allow).into());
        }
        if self.admin_access() == AdminAccess::Off {
            let message = "the status page and the metrics are disabled: admin=off";
            return Err(Reject::new(403, message).into());
        }
        match endpoint {
            Endpoint::Redirect | Endpoint::Asset => {}
            Endpoint::Session => refuse_foreign(head)?,
            // Whoever is about to show the token, or no longer wants to.
            Endpoint::Action(AdminAction::Login { .. } | AdminAction::Logout) => {
                refuse_foreign(head)?
            }
            _ => self.check_admin(head)?,
        }
        Ok(endpoint)
    }

    fn admin_access(&self) -> AdminAccess {
        self.meters
            .admin
            .as_ref()
            .map_or(AdminAccess::Off, |admin| admin.setup.access)
    }

    fn check_admin(&self, head: &RequestHead) -> Result<(), Reject> {
        refuse_foreign(head)?;
        match self.admin_access() {
            AdminAccess::Token if self.is_signed_in(head) => Ok(()),
            AdminAccess::Token => {
                let reject = Reject::new(
                    401,
                    "the admin token is required: send `Authorization: Bearer TOKEN`, or sign in",
                );
                Err(reject.with_header("WWW-Authenticate", "Bearer realm=\"fanfare admin\""))
            }
            AdminAccess::Open if route::host_is_loopback(head) => Ok(()),
            AdminAccess::Open => Err(Reject::new(
                403,
                "without an admin token, the Host must be a loopback name",
            )),
            AdminAccess::Closed | AdminAccess::Off => Err(Reject::new(
                403,
                "access is closed: set admin-token, or bind the server to a loopback address",
            )),
        }
    }

    fn is_signed_in(&self, head: &RequestHead) -> bool {
        let token = self.config.admin_token.as_deref();
        token.is_some_and(|token| shows_token(head, token) || session::is_signed_in(head, token))
    }

    fn session(&self, head: &RequestHead) -> Response {
        let elsewhere = self
            .meters
            .admin
            .as_ref()
            .is_some_and(|admin| admin.setup.own_listener);
        let session = SessionJson {
            login: self.config.admin_token.is_some(),
            signed_in: self.check_admin(head).is_ok(),
            publish: match self.rules.access.publish {
                _ if elsewhere => "elsewhere",
                PublishAccess::Open => "open",
                PublishAccess::Token => "token",
                PublishAccess::Closed => "closed",
            },
        };
        Response::json(200, json(&session))
    }

    fn with_scheme(&self, key: ConnId, head: &RequestHead, action: AdminAction) -> AdminAction {
        let peer = self.connections[key].peer;
        let trusted = &self.config.trusted_proxies;
        let secure = peer.is_some_and(|peer| proxy::is_https(head, peer.ip(), trusted));
        match action {
            AdminAction::Login { .. } => AdminAction::Login { secure },
            action => action,
        }
    }

    /// Does what a body asks for.
    pub(super) fn act(&mut self, action: AdminAction, body: &[u8]) -> Response {
        guarded(match action {
            AdminAction::Disconnect => self.act_disconnect(body),
            AdminAction::Login { secure } => self.act_login(body, secure),
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
        Response::json(200, json(&DisconnectedJson { disconnected }))
    }

    fn act_login(&self, body: &[u8], secure: bool) -> Response {
        let token = match LoginRequest::parse(body) {
            Ok(request) => request.token,
            Err(reject) => return reject.into(),
        };
        match &self.config.admin_token {
            None => Response::error(409, "sign-in is disabled: the server has no admin token"),
            Some(expected) if same_secret(&token, expected) => {
                Response::empty(204).header("Set-Cookie", session::sign_in(expected, secure))
            }
            Some(_) => Response::error(401, "invalid admin token"),
        }
    }

    /// Makes a connection one that receives the status each second, the first one at once.
    fn begin_watching(&mut self, key: ConnId, head: &RequestHead) {
        let mut bytes = response::stream_head(&[], &[("X-Content-Type-Options", "nosniff".into())]);
        if head.method() == "HEAD" {
            return self.close_with(key, &bytes, DisconnectReason::Client);
        }
        bytes.extend_from_slice(self.status_event().as_bytes());
        self.connections[key].phase = Phase::Watching { ignored: 0 };
        if let Some(admin) = &mut self.meters.admin {
            if admin.watchers.is_empty() {
                admin.next_report_ms = self.clock.ms() + REPORT_MS;
            }
            admin.watchers.push(key);
        }
        self.push_outgoing(key, &bytes);
    }

    pub(super) fn forget_watcher(&mut self, key: ConnId) {
        if let Some(admin) = &mut self.meters.admin {
            admin.watchers.retain(|&watcher| watcher != key);
        }
    }

    /// Tells all who watch how things are, if a second is over; those who have not yet taken what they were told last are left out.
    pub(super) fn notify_watchers(&mut self) {
        if self
            .meters
            .next_report_ms()
            .is_none_or(|at| self.clock.ms() < at)
        {
            return;
        }
        let event = self.status_event();
        let Some(admin) = &mut self.meters.admin else {
            return;
        };
        admin.next_report_ms = self.clock.ms() + REPORT_MS;
        for key in admin.watchers.clone() {
            let connection = &self.connections[key];
            if connection.outgoing.is_empty() && connection.ended.is_none() {
                self.push_outgoing(key, event.as_bytes());
            }
        }
    }

    fn status_event(&self) -> String {
        let status = self
            .status_json()
            .map_or_else(String::new, |status| json(&status));
        format!("event:status\ndata:{status}\n\n")
    }

    /// The counters at this moment.
    fn counters(&self) -> Status {
        let queued = self.meters.admin.as_ref().map_or(0, |admin| admin.queued.0);
        Status {
            queued,
            ..self.status(self.clock.instant_at(self.clock.ms()))
        }
    }

    /// A moment of the engine's time in milliseconds of Unix time.
    fn unix_ms(&self, at_ms: i64) -> u64 {
        let started_unix_ms = self
            .meters
            .admin
            .as_ref()
            .map_or(0, |admin| admin.started_unix_ms);
        started_unix_ms.saturating_add_signed(at_ms)
    }

    fn status_json(&self) -> Option<StatusJson<'_>> {
        let admin = self.meters.admin.as_ref()?;
        let status = self.counters();
        let reasons = DisconnectReason::ALL;
        Some(StatusJson {
            node: &admin.setup.node,
            status: if status.state == State::Draining {
                "DRAINING"
            } else {
                "OK"
            },
            reported_at: self.unix_ms(self.clock.ms() as i64) / 1000,
            startup_time: admin.started_unix_ms / 1000,
            msgs_broadcast: status.events,
            version: env!("CARGO_PKG_VERSION"),
            uptime_ms: status.uptime.as_millis() as u64,
            state: if status.state == State::Draining {
                "draining"
            } else {
                "serving"
            },
            warnings: self.warnings(&status),
            connections_now: status.connections,
            connections_peak: status.connections_peak,
            connections_total: status.connections_total,
            subscribers: status.subscribers,
            events: status.events,
            deliveries: status.deliveries,
            bytes_sent: status.bytes,
            queue_events: status.queued,
            queue_bytes: admin.queued.1,
            namespaces: status.namespaces,
            retained_events: status.retained_events,
            retained_bytes: status.retained_bytes,
            retained_limit: self.config.memory_limit(),
            disconnects: reasons
                .iter()
                .map(|&reason| (reason.as_str(), status.disconnects(reason)))
                .collect(),
            turns: LoopJson {
                busy_ms: admin.measures.busy_us / 1000,
                longest_turn_us: admin.longest_turn_us(),
            },
        })
    }

    /// What an operator should know.
    fn warnings(&self, status: &Status) -> Vec<String> {
        let publish = match self.rules.access.publish {
            PublishAccess::Open => {
                "publishing is open to everyone on this machine: no publish token is set"
            }
            PublishAccess::Closed => {
                "publishing over HTTP is closed: no publish token is set, and the server is not bound to a loopback address"
            }
            PublishAccess::Token => "",
        };
        let admin = match self.admin_access() {
            AdminAccess::Open => {
                "this page is open to everyone on this machine: no admin token is set"
            }
            _ => "",
        };
        let evicted = match status.evicted {
            0 => String::new(),
            count => format!(
                "{count} retained events were dropped early because history-total was reached"
            ),
        };
        let store = match status.store {
            StoreState::Failing => "events cannot be stored, so publishing over HTTP is refused",
            StoreState::Working | StoreState::None => "",
        };
        let all = [store.into(), publish.into(), admin.into(), evicted];
        all.into_iter()
            .filter(|warning: &String| !warning.is_empty())
            .collect()
    }
}

/// Neither are pages of other sites to be used by them, nor data to be read through a visitor's browser.
fn refuse_foreign(head: &RequestHead) -> Result<(), Reject> {
    match route::is_foreign(head) {
        true => Err(Reject::new(
            403,
            "requests from pages of other origins are not allowed",
        )),
        false => Ok(()),
    }
}
