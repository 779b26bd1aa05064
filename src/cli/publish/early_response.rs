//! Notices a response that arrives while the request body is still being sent.
//!
//! A server that refuses a line responds at once, reads no further and closes the connection.
//! Without this, the next write would fail and the response would be lost.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// How long to look for an early response before each write.
const EARLY_RESPONSE_POLL: Duration = Duration::from_millis(1);

/// A flag that is set when the server has responded early.
///
/// As a `Connector` it wraps each connection in a transport that looks for a response before each
/// write. Once there is one, the transport discards the rest of the body.
#[derive(Debug, Clone, Default)]
pub(super) struct EarlyResponse(Arc<AtomicBool>);

impl EarlyResponse {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<In: Transport> Connector<In> for EarlyResponse {
    type Out = EarlyResponseTransport<In>;

    fn connect(
        &self,
        _: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let early_response = self.clone();
        Ok(chained.map(|inner| EarlyResponseTransport {
            inner,
            early_response,
        }))
    }
}

#[derive(Debug)]
pub(super) struct EarlyResponseTransport<In> {
    inner: In,
    early_response: EarlyResponse,
}

impl<In: Transport> Transport for EarlyResponseTransport<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let poll = NextTimeout {
            after: EARLY_RESPONSE_POLL.into(),
            ..timeout
        };
        if !self.early_response.is_set() && matches!(self.inner.await_input(poll), Ok(true)) {
            self.early_response.set();
        }
        if self.early_response.is_set() {
            return Ok(());
        }
        match self.inner.transmit_output(amount, timeout) {
            Err(ureq::Error::Io(error)) if is_disconnect(&error) => {
                self.early_response.set();
                Ok(())
            }
            result => result,
        }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

fn is_disconnect(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}
