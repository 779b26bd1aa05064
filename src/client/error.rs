//! What can go wrong with an event source, and what it does about it.

use std::fmt;
use std::io;

use crate::event_stream::decode::DecodeError;

/// Why a connection of an event source failed or ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The URL, a header or a setting cannot be used; the text says why.
    Request(String),
    /// The server said 204: nothing is to be had here, and nobody is to come back.
    NoContent,
    /// The server answered with a status other than 200.
    Status {
        /// The status.
        status: u16,
        /// The first KiB of the body, which may tell more.
        body: String,
    },
    /// The answer is no event stream but of this type; empty if it had none.
    ContentType(String),
    /// A redirect leads nowhere; the text says why.
    Redirect(String),
    /// A line, or the data of an event, has more bytes than the limit, which is given.
    TooLarge(usize),
    /// No byte came for as long as [`read_timeout`](super::Builder::read_timeout), or no connection as long as
    /// [`connect_timeout`](super::Builder::connect_timeout).
    Timeout,
    /// The server ended the stream.
    Ended,
    /// The network, name resolution or TLS failed; the text says how.
    Network(String),
}

impl Error {
    /// Whether the event source gives up for good: connecting again would not help.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Timeout | Self::Ended | Self::Network(_))
    }

    /// What a failed read of the body comes to.
    pub(super) fn of_read(error: io::Error) -> Self {
        Self::of(error.into())
    }

    pub(super) fn of(error: ureq::Error) -> Self {
        match error {
            ureq::Error::Timeout(_) => Self::Timeout,
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => Self::Timeout,
            ureq::Error::Io(error) => Self::Network(error.to_string()),
            ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => {
                Self::Request(error.to_string())
            }
            error => Self::Network(error.to_string()),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(problem) => f.write_str(problem),
            Self::NoContent => f.write_str("the server has nothing to send (204)"),
            Self::Status { status, body } if body.is_empty() => {
                write!(f, "the server answered {status}")
            }
            Self::Status { status, body } => write!(f, "the server answered {status}: {body}"),
            Self::ContentType(given) if given.is_empty() => {
                f.write_str("the answer is no event stream: it has no content type")
            }
            Self::ContentType(given) => write!(f, "the answer is no event stream but {given}"),
            Self::Redirect(problem) => write!(f, "the server's redirect leads nowhere: {problem}"),
            Self::TooLarge(limit) => DecodeError::TooLarge(*limit).fmt(f),
            Self::Timeout => f.write_str("nothing came in time"),
            Self::Ended => f.write_str("the server ended the stream"),
            Self::Network(problem) => f.write_str(problem),
        }
    }
}

impl std::error::Error for Error {}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::TooLarge(limit) => Self::TooLarge(limit),
        }
    }
}
