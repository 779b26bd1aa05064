//! Listeners: the sockets that accept connections, and the wait after descriptors have run out.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use rustix::io::Errno;

/// The token of the first listener. The tokens of the others are the numbers below it.
const FIRST_TOKEN: usize = usize::MAX - 1;
/// How long to wait until the next accept when descriptors or memory have run out. The end of a
/// connection ends the wait.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// The bound sockets of a server.
pub(super) struct Sockets {
    pub(super) common: Vec<TcpListener>,
    /// The status page's own socket, which serves nothing else.
    pub(super) admin: Option<TcpListener>,
}

/// The listeners of a running server.
pub(super) struct Listeners {
    list: Vec<Listener>,
    /// When to accept again; set while descriptors or memory have run out.
    retry_at: Option<Instant>,
}

struct Listener {
    socket: TcpListener,
    for_admin: bool,
    /// Whether connections may be waiting to be accepted.
    pending: bool,
}

/// An accepted connection.
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) address: SocketAddr,
    /// Whether the status page's own listener accepted it.
    #[cfg_attr(not(feature = "admin"), allow(dead_code))]
    pub(super) for_admin: bool,
}

impl Listeners {
    /// Registers sockets with the poller.
    pub(super) fn register(sockets: Sockets, registry: &Registry) -> io::Result<Self> {
        let common = sockets.common.into_iter().map(|socket| (socket, false));
        let admin = sockets.admin.into_iter().map(|socket| (socket, true));
        let mut list = Vec::new();
        for (mut socket, for_admin) in common.chain(admin) {
            let token = Token(FIRST_TOKEN - list.len());
            registry.register(&mut socket, token, Interest::READABLE)?;
            list.push(Listener {
                socket,
                for_admin,
                pending: true,
            });
        }
        Ok(Self {
            list,
            retry_at: None,
        })
    }

    /// The addresses that serve more than the status page.
    pub(super) fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let common = self.list.iter().filter(|listener| !listener.for_admin);
        common
            .map(|listener| listener.socket.local_addr())
            .collect()
    }

    /// Whether the status page has a listener of its own.
    pub(super) fn has_own_for_admin(&self) -> bool {
        self.list.iter().any(|listener| listener.for_admin)
    }

    /// Records that a socket is ready. Returns whether the token belongs to a listener.
    pub(super) fn on_ready(&mut self, Token(token): Token) -> bool {
        let index = FIRST_TOKEN.checked_sub(token);
        let listener = index.and_then(|index| self.list.get_mut(index));
        let found = listener.is_some();
        if let Some(listener) = listener {
            listener.pending = true;
        }
        found
    }

    /// Whether there may be a connection to accept now.
    pub(super) fn has_pending(&self) -> bool {
        self.retry_at.is_none() && self.list.iter().any(|listener| listener.pending)
    }

    /// When to accept again, if descriptors or memory have run out.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Ends the wait for descriptors: one has become free.
    pub(super) fn retry_now(&mut self) {
        self.retry_at = None;
    }

    /// Accepts a connection in at most `budget` attempts, and subtracts them from `budget`. `None`
    /// if no connection was accepted.
    ///
    /// # Errors
    /// Descriptors or memory have run out. Nothing is accepted for [`RETRY_AFTER`].
    pub(super) fn accept(
        &mut self,
        budget: &mut usize,
        now: Instant,
    ) -> io::Result<Option<Accepted>> {
        if self.retry_at.is_some_and(|at| now < at) {
            return Ok(None);
        }
        self.retry_at = None;
        for listener in &mut self.list {
            while listener.pending && *budget > 0 {
                *budget -= 1;
                match listener.socket.accept() {
                    Ok((stream, address)) => {
                        return Ok(Some(Accepted {
                            stream,
                            address,
                            for_admin: listener.for_admin,
                        }));
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        listener.pending = false;
                    }
                    Err(error) if is_about_one_connection(&error) => {}
                    Err(error) => {
                        self.retry_at = Some(now + RETRY_AFTER);
                        return Err(error);
                    }
                }
            }
        }
        Ok(None)
    }

    /// Closes all listeners.
    pub(super) fn close(&mut self) {
        self.list.clear();
    }
}

/// Whether an accept failed because of one connection, which is gone now, and not because of
/// missing descriptors or memory.
fn is_about_one_connection(error: &io::Error) -> bool {
    !matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "the clock is the only source of an Instant"
    )]
    fn now() -> Instant {
        Instant::now()
    }

    fn socket() -> TcpListener {
        TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap()
    }

    #[test]
    fn connections_are_accepted_within_the_budget_and_know_their_listener() {
        let poll = mio::Poll::new().unwrap();
        let (common, admin) = (socket(), socket());
        let addresses = [common.local_addr().unwrap(), admin.local_addr().unwrap()];
        let sockets = Sockets {
            common: vec![common],
            admin: Some(admin),
        };
        let mut listeners = Listeners::register(sockets, poll.registry()).unwrap();
        assert_eq!(listeners.addresses().unwrap(), addresses[..1]);
        let clients = addresses.map(|address| std::net::TcpStream::connect(address).unwrap());
        for (client, for_admin) in clients.iter().zip([false, true]) {
            assert!(listeners.accept(&mut 0, now()).unwrap().is_none());
            // Two attempts: the first may find that no connection waits at the other listener.
            let accepted = listeners.accept(&mut 2, now()).unwrap().unwrap();
            assert_eq!(accepted.address, client.local_addr().unwrap());
            assert_eq!(accepted.for_admin, for_admin);
        }
        assert!(listeners.accept(&mut 2, now()).unwrap().is_none());
        assert!(!listeners.has_pending());
    }

    #[test]
    fn only_tokens_of_listeners_make_one_pending() {
        let poll = mio::Poll::new().unwrap();
        let sockets = Sockets {
            common: vec![socket(), socket()],
            admin: None,
        };
        let mut listeners = Listeners::register(sockets, poll.registry()).unwrap();
        assert!(listeners.accept(&mut 2, now()).unwrap().is_none());
        for other in [usize::MAX, FIRST_TOKEN - 2, 1, 0] {
            assert!(!listeners.on_ready(Token(other)));
        }
        assert!(!listeners.has_pending());
        assert!(listeners.on_ready(Token(FIRST_TOKEN - 1)));
        assert!(listeners.has_pending());
        listeners.close();
        assert!(!listeners.on_ready(Token(FIRST_TOKEN)));
    }
}
