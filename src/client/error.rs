//! Errors of an event source, and which of them end it.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::event_stream::decode::DecodeError;

/// Why a connection of an event source failed or ended.
///
/// [`is_final`](Self::is_final) separates the errors that end the event source from those after
/// which it reconnects.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The URL, a header or the proxy is invalid. The text names it and says what is expected.
    Request(String),
    /// The server responded with status 204, which asks clients to stop reconnecting
    /// (see WHATWG's [processing model]).
    ///
    /// [processing model]: https://html.spec.whatwg.org/multipage/server-sent-events.html#sse-processing-model
    NoContent,
    /// The server responded with a status other than 200 and 204 that is not a redirect.
    Status {
        /// The status.
        status: u16,
        /// At most the first 1,024 bytes of the body, which may explain the status.
        body: String,
    },
    /// The response has this content type, or none if it is empty, instead of `text/event-stream`.
    ContentType(String),
    /// A redirect is invalid, or there were too many in a row. The text says which.
    Redirect(String),
    /// A line, or the data of an event, exceeds this limit in bytes
    /// ([`max_event`](super::EventSourceBuilder::max_event)).
    TooLarge(usize),
    /// [`read_timeout`](super::EventSourceBuilder::read_timeout) or
    /// [`connect_timeout`](super::EventSourceBuilder::connect_timeout) has passed.
    Timeout,
    /// The server ended the stream.
    Ended,
    /// The network, name resolution or TLS failed, or a thread could not be started.
    Network(NetworkError),
}

impl Error {
    /// Whether the event source ends with this error. After every other error it reconnects.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Timeout | Self::Ended | Self::Network(_))
    }

    pub(super) fn from_ureq(error: ureq::Error) -> Self {
        match error {
            ureq::Error::Timeout(_) => Self::Timeout,
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => Self::Timeout,
            ureq::Error::Io(error) => Self::from_io(error),
            ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => {
                Self::Request(error.to_string())
            }
            error => Self::from_io(io::Error::other(error)),
        }
    }

    /// The error of a read from a body, whose `io::Error` may carry an error of `ureq`.
    pub(super) fn from_read(error: io::Error) -> Self {
        Self::from_ureq(error.into())
    }

    pub(super) fn from_io(error: io::Error) -> Self {
        Self::Network(NetworkError(Arc::new(error)))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(problem) => f.write_str(problem),
            Self::NoContent => {
                f.write_str("the server answered 204 and does not want clients to reconnect")
            }
            Self::Status { status, body } if body.is_empty() => {
                write!(f, "the server answered {status}")
            }
            Self::Status { status, body } => write!(f, "the server answered {status}: {body}"),
            Self::ContentType(given) if given.is_empty() => f.write_str(
                "the response must have the content type text/event-stream, but has none",
            ),
            Self::ContentType(given) => write!(
                f,
                "the response must have the content type text/event-stream, not {given}"
            ),
            Self::Redirect(problem) => write!(f, "invalid redirect: {problem}"),
            Self::TooLarge(limit) => DecodeError::TooLarge(*limit).fmt(f),
            Self::Timeout => f.write_str("the server did not respond in time"),
            Self::Ended => f.write_str("the server ended the stream"),
            Self::Network(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Network(error) => error.source(),
            _ => None,
        }
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::TooLarge(limit) => Self::TooLarge(limit),
        }
    }
}

/// A failure of the network, of name resolution or of TLS.
///
/// Two of them are equal if they have the same kind and the same text.
#[derive(Debug, Clone)]
pub struct NetworkError(Arc<io::Error>);

impl NetworkError {
    /// The kind, such as [`ConnectionRefused`](io::ErrorKind::ConnectionRefused). It is
    /// [`Other`](io::ErrorKind::Other) for a failure that the operating system did not report.
    pub fn kind(&self) -> io::ErrorKind {
        self.0.kind()
    }
}

impl PartialEq for NetworkError {
    fn eq(&self, other: &Self) -> bool {
        self.kind() == other.kind() && self.to_string() == other.to_string()
    }
}

impl Eq for NetworkError {}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for NetworkError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn only_errors_that_may_pass_are_followed_by_a_reconnection() {
        let network = |error: io::Error| Error::from_ureq(error.into());
        for (error, is_final, text) in [
            (Error::NoContent, true, "204"),
            (Error::ContentType(String::new()), true, "but has none"),
            (Error::ContentType("a/b".into()), true, "not a/b"),
            (Error::TooLarge(7), true, "7"),
            (Error::from_ureq(ureq::Error::BadUri("x".into())), true, "x"),
            (Error::Ended, false, "ended"),
            (
                network(io::ErrorKind::TimedOut.into()),
                false,
                "did not respond",
            ),
            (
                network(io::ErrorKind::ConnectionRefused.into()),
                false,
                "refused",
            ),
            (
                Error::from_ureq(ureq::Error::HostNotFound),
                false,
                "host not found",
            ),
        ] {
            assert_eq!(error.is_final(), is_final, "{error}");
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn a_network_error_gives_access_to_its_kind_and_source() {
        let Error::Network(refused) = Error::from_io(io::ErrorKind::ConnectionRefused.into())
        else {
            panic!("an I/O error is a network error");
        };
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert!(refused.source().is_none());
        let tls = Error::from_io(io::Error::other(io::Error::other("bad certificate")));
        assert_eq!(tls, tls.clone());
        assert_ne!(tls, Error::Network(refused));
        assert!(tls.to_string().contains("bad certificate"));
    }
}
