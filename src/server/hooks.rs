//! The parts of an application that the server calls: its hooks and its event store.

use crate::engine::RouteHook;
use crate::status::{ConnectionInfo, DisconnectReason};
use crate::store::EventStore;

type ConnectHook = Box<dyn FnMut(&ConnectionInfo) + Send>;
type DisconnectHook = Box<dyn FnMut(&ConnectionInfo, DisconnectReason) + Send>;
type WarningHook = Box<dyn FnMut(&str) + Send>;

/// The hooks and the store of an application; each is optional.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) route: Option<RouteHook>,
    pub(crate) on_connect: Option<ConnectHook>,
    pub(crate) on_disconnect: Option<DisconnectHook>,
    pub(crate) on_warning: Option<WarningHook>,
    pub(crate) event_store: Option<Box<dyn EventStore>>,
}

impl Hooks {
    /// Passes a message to the warning hook.
    pub(crate) fn warn(&mut self, message: &str) {
        if let Some(hook) = &mut self.on_warning {
            hook(message);
        }
    }
}
