//! The application's hooks and its own store.

use crate::engine::RouteHook;
use crate::status::{ConnectionInfo, DisconnectReason};
use crate::store::EventStore;

type ConnectHook = Box<dyn FnMut(&ConnectionInfo) + Send>;
type DisconnectHook = Box<dyn FnMut(&ConnectionInfo, DisconnectReason) + Send>;
type WarningHook = Box<dyn FnMut(&str) + Send>;

/// What the application wants to be told, and asked.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) route: Option<RouteHook>,
    pub(crate) on_connect: Option<ConnectHook>,
    pub(crate) on_disconnect: Option<DisconnectHook>,
    pub(crate) on_warning: Option<WarningHook>,
    pub(crate) event_store: Option<Box<dyn EventStore>>,
}

impl Hooks {
    pub(crate) fn warn(&mut self, message: &str) {
        if let Some(hook) = &mut self.on_warning {
            hook(message);
        }
    }
}
