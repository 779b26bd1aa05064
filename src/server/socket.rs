//! Sockets: how they are created and configured, and the outlet through which the engine writes to
//! them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::config::Config;
use crate::engine::{ConnId, Outlet};
use crate::log::Slices;
use crate::status::DisconnectReason;

use super::pipe::Pipe;
#[cfg(target_os = "linux")]
use super::sendfile::Pages;

/// The silence after which TCP probes whether the peer is alive.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// Opens a listener. The sockets that it accepts inherit its options, so that an accept is one
/// system call.
pub(super) fn listen(address: SocketAddr, config: &Config) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` also accepts IPv4, on every system alike.
        socket.set_only_v6(false)?;
    }
    prepare(&SockRef::from(&socket), config)?;
    socket.bind(&address.into())?;
    // The kernel reduces this to its own limit.
    socket.listen(i32::from(u16::MAX))?;
    socket.set_nonblocking(true)?;
    Ok(TcpListener::from_std(socket.into()))
}

fn prepare(socket: &SockRef<'_>, config: &Config) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &socket2::TcpKeepalive::new()
            .with_time(TCP_KEEPALIVE)
            .with_interval(TCP_KEEPALIVE / 4),
    )?;
    if config.send_buffer > 0 {
        socket.set_send_buffer_size(config.send_buffer)?;
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        // Ends the connection when a dead peer acknowledges nothing, although the kernel still has
        // room for more bytes.
        socket.set_tcp_user_timeout(Some(config.write_timeout))?;
        // Keeps little unsent data in the kernel, so that the lag of a slow reader becomes visible.
        if config.send_buffer > 0 {
            socket.set_tcp_notsent_lowat(u32::try_from(config.send_buffer).unwrap_or(u32::MAX))?;
        }
    }
    Ok(())
}

/// How many connections the descriptor limit allows, less a reserve for the surplus connections
/// that only get an error response, and for the application's own files.
pub(super) fn connection_limit() -> usize {
    const RESERVE: u64 = crate::engine::SURPLUS as u64 + 128;
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile)
        .current
        .unwrap_or(1 << 20);
    usize::try_from(descriptors.saturating_sub(RESERVE.min(descriptors / 2))).unwrap_or(usize::MAX)
}

/// The destination of a connection's bytes.
#[derive(Debug)]
pub(super) enum Peer {
    /// A client's socket.
    Remote(Remote),
    /// A subscription in this process.
    Local(Arc<Pipe>),
}

#[derive(Debug)]
pub(super) struct Remote {
    pub(super) stream: TcpStream,
    /// Whether there may be bytes to read.
    pub(super) readable: bool,
    /// Whether the peer has closed its half. No further readiness is reported then, so the socket
    /// must be read up to its end.
    pub(super) closing: bool,
    /// Whether the engine wants no bytes of it now.
    pub(super) paused: bool,
    /// Whether it is listed to be read again.
    pub(super) scheduled: bool,
}

impl Remote {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            readable: false,
            closing: false,
            paused: false,
            scheduled: false,
        }
    }

    /// Reads once; `None` when there is nothing.
    pub(super) fn read(&mut self, scratch: &mut [u8]) -> Result<Option<usize>, DisconnectReason> {
        loop {
            match self.stream.read(scratch) {
                Ok(count) => {
                    // A short read has emptied the socket. Only the end of the stream can follow.
                    self.readable = count == scratch.len() || (self.closing && count > 0);
                    return Ok(Some(count));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.readable = false;
                    return Ok(None);
                }
                Err(error) => return Err(reason_of(&error)),
            }
        }
    }
}

fn reason_of(error: &io::Error) -> DisconnectReason {
    match error.kind() {
        ErrorKind::BrokenPipe
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::NotConnected => DisconnectReason::Client,
        // `TCP_USER_TIMEOUT`: nothing was acknowledged in time.
        ErrorKind::TimedOut => DisconnectReason::Stalled,
        _ => DisconnectReason::Error,
    }
}

/// The peers of all connections, by the engine's keys.
#[derive(Debug, Default)]
pub(super) struct Peers {
    list: Vec<Option<Peer>>,
    #[cfg(target_os = "linux")]
    pages: Pages,
}

impl Peers {
    pub(super) fn insert(&mut self, conn: ConnId, peer: Peer) {
        let index = conn.index();
        if self.list.len() <= index {
            self.list.resize_with(index + 1, || None);
        }
        self.list[index] = Some(peer);
    }

    pub(super) fn remove(&mut self, conn: ConnId) -> Option<Peer> {
        self.list.get_mut(conn.index())?.take()
    }

    pub(super) fn remote(&mut self, conn: ConnId) -> Option<&mut Remote> {
        match self.list.get_mut(conn.index())? {
            Some(Peer::Remote(remote)) => Some(remote),
            _ => None,
        }
    }
}

impl Drop for Peers {
    /// Ends all subscriptions, so that none waits for an event loop that has panicked.
    fn drop(&mut self) {
        for peer in self.list.iter().flatten() {
            if let Peer::Local(pipe) = peer {
                pipe.end(DisconnectReason::Error);
            }
        }
    }
}

impl Outlet for Peers {
    fn write(&mut self, conn: ConnId, slices: &Slices<'_>) -> Result<usize, DisconnectReason> {
        match self.list.get_mut(conn.index()) {
            Some(Some(Peer::Remote(remote))) => {
                #[cfg(target_os = "linux")]
                let written = send(&mut remote.stream, &self.pages, slices);
                #[cfg(not(target_os = "linux"))]
                let written = write(&mut remote.stream, slices);
                written.map_err(|error| reason_of(&error))
            }
            Some(Some(Peer::Local(pipe))) => Ok(pipe.write(slices.as_slice())),
            _ => Err(DisconnectReason::Error),
        }
    }

    fn publish_pages(&mut self, slices: &Slices<'_>, readers: usize) {
        #[cfg(target_os = "linux")]
        self.pages.publish(slices, readers);
    }

    fn finish(&mut self, conn: ConnId) {
        if let Some(remote) = self.remote(conn) {
            // If the socket cannot be shut down, the connection has ended, and the next read
            // reports that.
            let _ = remote.stream.shutdown(Shutdown::Write);
        }
    }
}

/// Sends the bytes that are in files with `sendfile`, and writes the rest.
#[cfg(target_os = "linux")]
fn send(stream: &mut TcpStream, pages: &Pages, slices: &Slices<'_>) -> io::Result<usize> {
    let sent = pages.send(stream, slices)?;
    if sent.bytes == 0 && !sent.full {
        return write(stream, slices);
    }
    if sent.full || sent.bytes == slices.bytes() {
        return Ok(sent.bytes);
    }
    // The bytes that were sent must be counted. The next write repeats the error.
    let rest = write(stream, &slices.after(sent.bytes));
    Ok(sent.bytes + rest.unwrap_or_default())
}

fn write(stream: &mut TcpStream, slices: &Slices<'_>) -> io::Result<usize> {
    loop {
        let written = match slices.as_slice() {
            [one] => stream.write(one),
            several => stream.write_vectored(several),
        };
        match written {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            written => return written,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails on a system where the options of a listener are not inherited.
    #[test]
    fn accepted_sockets_inherit_the_options_of_the_listener() {
        let config = Config {
            write_timeout: Duration::from_secs(7),
            ..Config::default()
        };
        let listener = listen("127.0.0.1:0".parse().unwrap(), &config).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accepted = loop {
            if let Ok((accepted, _)) = listener.accept() {
                break accepted;
            }
        };
        let socket = SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        #[cfg(target_os = "linux")]
        {
            assert_eq!(
                socket.tcp_user_timeout().unwrap(),
                Some(Duration::from_secs(7))
            );
            assert_eq!(socket.tcp_notsent_lowat().unwrap(), 64 << 10);
            // Linux doubles the size, to have room for its own bookkeeping.
            assert_eq!(socket.send_buffer_size().unwrap(), 128 << 10);
        }
    }
}
