//! Who may publish and who may see the status: values made once at the start from the options and the bound addresses.

use core::net::SocketAddr;

#[cfg(feature = "admin")]
use super::Admin;
use super::Config;
use crate::loopback::is_loopback_address;

/// Who may publish over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishAccess {
    /// Whoever shows the token.
    Token,
    /// Whoever reaches the server, which is bound to a loopback address.
    Open,
    /// Nobody: there is no token, and the server is bound to an address that others can reach.
    Closed,
}

/// Who may see the status and the metrics, and disconnect.
#[cfg(feature = "admin")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminAccess {
    /// Whoever shows the token.
    Token,
    /// Whoever reaches the server, which is bound to a loopback address.
    Open,
    /// Nobody: there is no token, and the server is bound to an address that others can reach.
    Closed,
    /// Nobody: it is turned off.
    Off,
}

/// What requests are checked against.
#[derive(Debug, Clone, Copy)]
pub struct Access {
    /// Who may publish.
    pub publish: PublishAccess,
    /// Every address that the server is bound to is a loopback address.
    pub loopback: bool,
}

impl Config {
    /// Who may publish over HTTP on a server that is bound to an address.
    pub fn publish_access(&self, bound: &SocketAddr) -> PublishAccess {
        self.access(std::slice::from_ref(bound)).publish
    }

    /// Who may see the status and the metrics of a server that is bound to an address, or that serves them on one of their own.
    #[cfg(feature = "admin")]
    pub fn admin_access(&self, bound: &SocketAddr) -> AdminAccess {
        let bound = match &self.admin {
            Admin::Off => return AdminAccess::Off,
            Admin::On => bound,
            Admin::At(own) => own,
        };
        match &self.admin_token {
            Some(_) => AdminAccess::Token,
            None if is_loopback(bound) => AdminAccess::Open,
            None => AdminAccess::Closed,
        }
    }

    /// What requests are checked against on a server that is bound to these addresses.
    pub(crate) fn access(&self, bound: &[SocketAddr]) -> Access {
        let loopback = bound.iter().all(is_loopback);
        let publish = match (&self.publish_token, loopback) {
            (Some(_), _) => PublishAccess::Token,
            (None, true) => PublishAccess::Open,
            (None, false) => PublishAccess::Closed,
        };
        Access { publish, loopback }
    }
}

fn is_loopback(address: &SocketAddr) -> bool {
    is_loopback_address(address.ip())
}
