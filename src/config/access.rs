//! Access to publishing and to the status page. It follows from the options and the addresses that
//! the server is bound to, and is computed once at the start.

use core::net::SocketAddr;

#[cfg(feature = "admin")]
use super::Admin;
use super::Config;
use crate::loopback::is_loopback_address;

/// Which clients may publish over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishAccess {
    /// Clients that send the token.
    Token,
    /// All clients: a server without a token, bound to loopback addresses only.
    Open,
    /// No client: a server without a token, bound to an address that is not loopback.
    Closed,
}

/// Which clients may see the status and the metrics, and disconnect subscribers.
#[cfg(feature = "admin")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdminAccess {
    /// Clients that send the token.
    Token,
    /// All clients: a status page without a token, served on loopback addresses only.
    Open,
    /// No client: a status page without a token, served on an address that is not loopback.
    Closed,
    /// No client: the option `admin` is `off`.
    Off,
}

/// The access that requests are checked against.
#[derive(Debug, Clone, Copy)]
pub struct Access {
    /// Which clients may publish.
    pub publish: PublishAccess,
    /// Whether the server is bound to loopback addresses only.
    pub loopback: bool,
}

impl Config {
    /// Which clients may publish over HTTP to a server that is bound to this address.
    pub fn publish_access(&self, bound: &SocketAddr) -> PublishAccess {
        self.access(std::slice::from_ref(bound)).publish
    }

    /// Which clients may see the status and the metrics of a server that is bound to this address.
    /// With [`Admin::At`], that address counts instead.
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

    /// The access to a server that is bound to these addresses.
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
