//! `admin` and `telemetry` without the feature `admin`: the same names with empty types
//! and methods, so that their callers need not know whether the feature is on.

#![allow(
    clippy::needless_pass_by_ref_mut,
    clippy::unused_self,
    reason = "the signatures are those of the feature"
)]

use crate::http::Reject;
use crate::http::request::RequestHead;
use crate::namespace::NamespaceRef;

use super::{ConnId, Engine};

/// Never made.
#[derive(Debug)]
pub(super) enum AdminState {}

impl AdminState {
    pub(super) fn record_pass(&mut self, _since_us: u64, _began_us: u64) {
        match *self {}
    }

    pub(super) fn count_published(
        &mut self,
        _namespace: NamespaceRef<'_>,
        _meter: Option<&mut TopicMeter>,
    ) {
        match *self {}
    }

    pub(super) fn next_report_ms(&self) -> Option<u64> {
        match *self {}
    }
}

#[derive(Debug, Default)]
pub(super) struct TopicMeter {}

impl TopicMeter {
    pub(super) fn record_event(&mut self, _published_ms: i64) {}
}

#[derive(Debug, Default)]
pub(super) struct WriteSizes {}

impl WriteSizes {
    pub(super) fn count(&mut self, _events: u64) {}
}

#[derive(Debug, Default)]
pub(super) struct ClientInfo {}

impl Engine {
    pub(super) fn record_client(&mut self, _key: ConnId, _head: &RequestHead) {}

    pub(super) fn forget_client(&mut self, _client: &ClientInfo) {}

    pub(super) fn forget_watcher(&mut self, _key: ConnId) {}

    pub(super) fn notify_watchers(&mut self) {}

    pub(super) fn work_on_job(&mut self) -> bool {
        false
    }

    pub(super) fn is_for_admin(&self, key: ConnId, _head: &RequestHead) -> bool {
        self.connections[key].for_admin
    }

    /// Not called, since no connection is for this.
    pub(super) fn answer_admin(&mut self, key: ConnId, head: &RequestHead) {
        self.respond(key, head, &Reject::not_found().into());
    }
}

/// Never made.
#[cfg(feature = "publish")]
#[derive(Debug, Clone, Copy)]
pub(super) enum AdminAction {}

#[cfg(feature = "publish")]
impl Engine {
    pub(super) fn act(
        &mut self,
        action: AdminAction,
        _body: &[u8],
    ) -> crate::http::response::Response {
        match action {}
    }
}
