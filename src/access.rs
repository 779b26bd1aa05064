//! Who may publish over HTTP: a value made once at the start from the configuration and the address.

use core::net::SocketAddr;

use crate::config::Config;

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

    /// What requests are checked against on a server that is bound to these addresses.
    pub(crate) fn access(&self, bound: &[SocketAddr]) -> Access {
        let loopback = bound
            .iter()
            .all(|address| address.ip().to_canonical().is_loopback());
        let publish = match (&self.publish_token, loopback) {
            (Some(_), _) => PublishAccess::Token,
            (None, true) => PublishAccess::Open,
            (None, false) => PublishAccess::Closed,
        };
        Access { publish, loopback }
    }
}
