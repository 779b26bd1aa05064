//! One HTTP request at a time with `ureq`, on a thread that can be abandoned.
//!
//! Reading a body blocks; shutting the agent down ends it from any thread. Name resolution and
//! connecting cannot be ended, so each request runs on a thread of its own, which ends by itself
//! after the event source is closed.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use ureq::http::{Request, Response, header};
use ureq::{Agent, Body, BodyReader, Proxy};

use super::error::Error;
use super::reconnect::ResponseHead;

/// Bytes of an error response's body that are kept.
const MAX_ERROR_TEXT_BYTES: usize = 1024;
/// How long to read the body of an error response.
const ERROR_TEXT_TIMEOUT: Duration = Duration::from_secs(5);

/// The result of a request: the head of the response and its body.
pub(super) type Answer = Result<(ResponseHead, BodyReader<'static>), Error>;

/// How requests are sent.
#[derive(Debug, Clone)]
pub(super) struct TransportSettings {
    pub(super) read_timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) proxy: Option<Proxy>,
    /// The proxy is from the environment, so it is not used for loopback hosts.
    pub(super) is_proxy_from_environment: bool,
}

impl Default for TransportSettings {
    fn default() -> Self {
        Self {
            read_timeout: Duration::from_secs(45),
            connect_timeout: Duration::from_secs(10),
            proxy: Proxy::try_from_env(),
            is_proxy_from_environment: true,
        }
    }
}

#[derive(Debug)]
pub(super) struct Transport {
    agent: Agent,
    settings: TransportSettings,
}

impl Transport {
    pub(super) fn new(settings: TransportSettings) -> Self {
        let agent = agent(&settings);
        Self { agent, settings }
    }

    pub(super) fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Sends a request on a thread of its own. The channel receives one answer.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    pub(super) fn send(
        &self,
        request: Request<Vec<u8>>,
        is_loopback: bool,
    ) -> io::Result<Receiver<Answer>> {
        let is_direct = self.settings.is_proxy_from_environment && is_loopback;
        let proxy = self.settings.proxy.clone().filter(|_| !is_direct);
        let agent = self.agent.clone();
        let (sender, answer) = bounded(1);
        std::thread::Builder::new()
            .name("event-source-connect".into())
            .spawn(move || {
                let request = agent.configure_request(request).proxy(proxy).build();
                let response = agent.run(request).map_err(Error::from_ureq);
                // The receiver is gone if the event source was closed meanwhile.
                let _ = sender.send(response.map(head_and_body));
            })?;
        Ok(answer)
    }
}

fn agent(settings: &TransportSettings) -> Agent {
    let limit = |time: Duration| (!time.is_zero()).then_some(time);
    let config = Agent::config_builder()
        .http_status_as_error(false)
        // The event source follows redirects, because it knows which headers may be sent along.
        .max_redirects(0)
        .user_agent(concat!("fanfare/", env!("CARGO_PKG_VERSION")))
        // A connection carries one stream, so it is never used again.
        .max_idle_connections(0)
        .timeout_per_read(limit(settings.read_timeout))
        .timeout_recv_response(limit(settings.read_timeout))
        .timeout_per_write(limit(settings.read_timeout))
        .timeout_resolve(limit(settings.connect_timeout))
        .timeout_connect(limit(settings.connect_timeout))
        .build();
    config.into()
}

fn head_and_body(response: Response<Body>) -> (ResponseHead, BodyReader<'static>) {
    let (parts, body) = response.into_parts();
    // Of several headers with one name, the last counts.
    let text_of = |name| {
        let value = parts.headers.get_all(name).iter().next_back()?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let status = parts.status.as_u16();
    let mut body = body.into_reader();
    let error_text = match status {
        400.. => read_error_text(&mut body),
        _ => Vec::new(),
    };
    let head = ResponseHead {
        status,
        content_type: text_of(header::CONTENT_TYPE),
        location: text_of(header::LOCATION),
        error_text: String::from_utf8_lossy(&error_text).trim().into(),
    };
    (head, body)
}

/// Reads the start of an error response's body. A body that cannot be read counts as empty.
fn read_error_text(body: &mut impl Read) -> Vec<u8> {
    let mut text = [0; MAX_ERROR_TEXT_BYTES];
    let (mut length, started) = (0, now());
    while now() - started < ERROR_TEXT_TIMEOUT {
        match body.read(&mut text[length..]) {
            Ok(0) | Err(_) => break,
            Ok(count) => length += count,
        }
    }
    text[..length].to_vec()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the client reads the clock on threads of its own"
)]
pub(super) fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_an_error_is_limited() {
        for (body, expected) in [
            (Vec::new(), 0),
            (vec![b'x'; 10], 10),
            (vec![b'x'; MAX_ERROR_TEXT_BYTES + 1], MAX_ERROR_TEXT_BYTES),
        ] {
            assert_eq!(read_error_text(&mut &*body).len(), expected);
        }
    }
}
