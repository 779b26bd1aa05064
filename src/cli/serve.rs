//! `fanfare serve`: runs the server, logs what it does, and ends it on signals.

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use fanfare::{
    Admin, AdminAccess, Config, ConnectionInfo, DisconnectReason, Handle, Namespace, PublishAccess,
    Server,
};

use super::options::Options;
use super::{Failure, demo, logging, print, signals};

/// How long the program waits for the server after a second signal.
const FORCED_END_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves until a signal ends the program.
pub(super) fn serve(options: &Options) -> Result<(), Failure> {
    logging::start(options.log_format, options.log_level);
    raise_descriptor_limit();
    let (server, address) = start(options)?;
    log_access(&options.config, &address);
    log_admin_access(&options.config, &address, server.handle().admin_addr());
    let (ended, has_ended) = bounded(0);
    end_on_signals(server.handle(), options.config.drain, has_ended.clone())?;
    if options.demo {
        demo::start(&server.publisher(), &has_ended);
        tracing::info!(
            "publishing demo events; try curl -N http://{address}/subscribe/time or \
             http://{address}/subscribe/pets"
        );
    }
    print(&format!("fanfare listening on http://{address}\n"))?;
    let result = server.run();
    drop::<Sender<()>>(ended);
    tracing::info!("the server has ended");
    result.map_err(|error| Failure::Failed(format!("the event loop failed: {error}")))
}

/// Builds the server, binds its address and recovers its history.
fn start(options: &Options) -> Result<(Server, SocketAddr), Failure> {
    let mut server = Server::builder()
        .config(options.config.clone())
        .on_connect(log_connect)
        .on_disconnect(log_disconnect)
        .on_warning(|message| tracing::warn!("{message}"))
        .build()
        .map_err(|error| Failure::Usage(error.to_string()))?;
    let address = server.bind(&options.addr).map_err(|error| {
        let address = options.addr.escape_debug();
        let expected = match error.kind() {
            ErrorKind::InvalidInput => "; expected HOST:PORT such as 127.0.0.1:8001",
            _ => "",
        };
        Failure::Failed(format!("cannot listen on {address}: {error}{expected}"))
    })?;
    server
        .recover()
        .map_err(|error| Failure::Failed(format!("cannot recover history: {error}")))?;
    Ok((server, address))
}

/// Raises the descriptor limit to the maximum. Each connection takes a descriptor, and the default
/// limit is low.
pub(super) fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!("cannot raise the descriptor limit: {error}");
    }
}

fn log_access(config: &Config, address: &SocketAddr) {
    match config.publish_access(address) {
        PublishAccess::Token => tracing::info!("publishing over HTTP requires the publish token"),
        PublishAccess::Open => tracing::warn!(
            "publishing over HTTP is open to everyone on this machine: no publish token is set"
        ),
        PublishAccess::Closed => {
            tracing::warn!(
                "publishing over HTTP is closed: {address} is not a loopback address \
                 and no publish token is set"
            );
        }
        access => tracing::info!("publishing over HTTP: {access:?}"),
    }
}

fn log_admin_access(config: &Config, address: &SocketAddr, own: Option<SocketAddr>) {
    match config.admin_access(address) {
        AdminAccess::Off => tracing::info!("the status page and the metrics are disabled"),
        AdminAccess::Token => {
            tracing::info!("the status page and the metrics require the admin token")
        }
        AdminAccess::Open => tracing::warn!(
            "the status page and the metrics are open to everyone on this machine: \
             no admin token is set"
        ),
        AdminAccess::Closed => {
            let address = own.unwrap_or(*address);
            tracing::warn!(
                "the status page and the metrics are closed: {address} is not a loopback address \
                 and no admin token is set"
            );
        }
        access => tracing::info!("the status page and the metrics: {access:?}"),
    }
    if config.admin != Admin::Off {
        let address = own.unwrap_or(*address);
        tracing::info!("status page: http://{address}/admin/");
    }
}

fn log_connect(info: &ConnectionInfo) {
    let namespaces = names(info);
    tracing::debug!(
        id = info.id,
        peer = peer(info),
        namespaces,
        "event stream started"
    );
}

fn log_disconnect(info: &ConnectionInfo, reason: DisconnectReason) {
    let seconds = info.connected.as_secs_f64();
    let (id, peer, reason, bytes) = (info.id, peer(info), reason.as_str(), info.bytes);
    if info.is_stream() {
        let namespaces = names(info);
        tracing::info!(
            id,
            peer,
            reason,
            namespaces,
            events = info.events,
            bytes,
            seconds,
            "event stream ended"
        );
    } else {
        tracing::debug!(id, peer, reason, bytes, seconds, "connection ended");
    }
}

fn peer(info: &ConnectionInfo) -> String {
    match info.peer {
        None => "this process".into(),
        // Addresses that a proxy reported, and masked addresses, come without a port.
        Some(peer) if peer.port() == 0 => peer.ip().to_string(),
        Some(peer) => peer.to_string(),
    }
}

/// The namespaces, separated by spaces. They have no control characters, and both log formats quote
/// the rest.
fn names(info: &ConnectionInfo) -> String {
    info.namespaces
        .iter()
        .map(Namespace::as_str)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Drains the server on the first signal. The second signal ends the server at once, and the
/// program even if the server does not end.
fn end_on_signals(handle: Handle, grace: Duration, has_ended: Receiver<()>) -> Result<(), Failure> {
    let mut signals = signals()?;
    std::thread::spawn(move || {
        let mut grace = Some(grace);
        for _ in signals.forever() {
            match grace.take() {
                Some(grace) => {
                    tracing::info!(
                        "draining for at most {grace:?}; a second signal ends the server at once"
                    );
                    handle.shutdown(grace);
                }
                None => {
                    handle.shutdown(Duration::ZERO);
                    let _ = has_ended.recv_timeout(FORCED_END_TIMEOUT);
                    let _ = std::io::stderr().flush();
                    std::process::exit(0);
                }
            }
        }
    });
    Ok(())
}
