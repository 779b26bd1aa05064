//! Events: what a publisher hands in, before it is encoded.
//!
//! Holds values only. What may be sent is decided in one place, when the event is encoded
//! (`event_stream::encode`), so that building an event never fails.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::namespace::{NamespaceError, NamespaceLimits};

/// Bytes that an event type, and that an event's own id, may have.
pub(crate) const MAX_FIELD_BYTES: usize = 1024;

/// One event of an event stream, on its way to the subscribers of a namespace and of those above it.
///
/// Field meanings are those of the [WHATWG specification](https://html.spec.whatwg.org/multipage/server-sent-events.html).
/// Building never fails; an event that may not be sent is refused by the call that sends it, with an [`EventError`].
///
/// ```
/// use fanfare::Event;
///
/// let event = Event::new("/pets/dogs", "Corgi").event("new-dog");
/// assert_eq!(event.encode()?, "event:new-dog\ndata:Corgi\n\n");
/// # Ok::<(), fanfare::EventError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub(crate) namespace: String,
    pub(crate) also: Vec<String>,
    pub(crate) event_type: Option<String>,
    pub(crate) id: Option<String>,
    pub(crate) retry: Option<Duration>,
    pub(crate) content: Content,
}

/// What an event carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// Data, sent as one `data` line for each of its lines.
    Data(String),
    /// A comment, which clients ignore.
    Comment(String),
    /// An application's own wire form: whole events, sent as they are.
    Encoded(Bytes),
}

impl Content {
    /// Its size in bytes, which an event's limit is for.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Data(text) | Self::Comment(text) => text.len(),
            Self::Encoded(bytes) => bytes.len(),
        }
    }

    pub(crate) fn is_encoded(&self) -> bool {
        matches!(self, Self::Encoded(_))
    }
}

impl Event {
    /// An event with data for the subscribers of `namespace` and of those above it.
    ///
    /// Lines of the data may end in LF, CR LF or CR; clients get them back with LF.
    pub fn new(namespace: impl Into<String>, data: impl Into<String>) -> Self {
        Self::with(namespace.into(), Content::Data(data.into()))
    }

    /// A comment: subscribers receive its bytes, and every conforming client ignores them. With history on it has an ID and is retained as
    /// any event is.
    pub fn comment(namespace: impl Into<String>, text: impl Into<String>) -> Self {
        Self::with(namespace.into(), Content::Comment(text.into()))
    }

    /// Bytes that are already an event stream's: one or more whole events, each ended by an empty line.
    ///
    /// They are sent as they are, after a check that they are UTF-8 and end with an empty line. Fields set on such an
    /// event go out before them, as part of their first event. With history on, each of them without an id is given one.
    pub fn encoded(namespace: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Self::with(namespace.into(), Content::Encoded(bytes.into()))
    }

    fn with(namespace: String, content: Content) -> Self {
        Self {
            namespace,
            also: Vec::new(),
            event_type: None,
            id: None,
            retry: None,
            content,
        }
    }

    /// Sets the event type, which clients dispatch on; without one it is `message`. At most 1,024 bytes, without CR, LF and NUL.
    pub fn event(mut self, event_type: impl Into<String>) -> Self {
        self.event_type = Some(event_type.into());
        self
    }

    /// Sets the event's id, which becomes the client's last event ID. At most 1,024 bytes, without CR, LF and NUL.
    ///
    /// With history on, whoever comes back with it goes on behind this event, for as long as it is retained; of several with the same id,
    /// behind the last. An event without an id of its own is given one then.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Sets the reconnection time of clients that receive the event, in whole milliseconds.
    pub fn retry(mut self, reconnection_time: Duration) -> Self {
        self.retry = Some(reconnection_time);
        self
    }

    /// Adds a further namespace; a subscriber that several of them reach gets the event once.
    pub fn also(mut self, namespace: impl Into<String>) -> Self {
        self.also.push(namespace.into());
        self
    }
}

/// The limits that an event is held to.
#[derive(Debug, Clone, Copy)]
pub struct EventLimits {
    /// Bytes of data in one event.
    pub max_event: usize,
    /// What its namespaces are held to.
    pub namespace: NamespaceLimits,
}

impl Default for EventLimits {
    fn default() -> Self {
        Self {
            max_event: 1 << 20,
            namespace: NamespaceLimits::default(),
        }
    }
}

/// The bytes that the largest event may take on the wire: a mebibyte of line ends encodes to six.
pub fn max_frame_bytes(max_event: usize) -> usize {
    const FIELDS: usize = 2 * MAX_FIELD_BYTES
        + "id: \n".len()
        + "event: \n".len()
        + "retry:18446744073709551615\n\n".len();
    max_event
        .saturating_add(1)
        .saturating_mul("data:\n".len())
        .saturating_add(FIELDS)
}

/// Why an event may not be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventError {
    /// One of its namespaces is none.
    Namespace(NamespaceError),
    /// A field, named here, has a CR, LF or NUL: it could forge another field.
    ForbiddenCharacter(&'static str),
    /// A field, named here, is longer than the limit given in bytes.
    TooLarge(&'static str, usize),
    /// The bytes given to [`Event::encoded`] are not UTF-8.
    NotUtf8,
    /// The bytes given to [`Event::encoded`] do not end with an empty line, so the next event would join them.
    NotWhole,
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(error) => error.fmt(f),
            Self::ForbiddenCharacter(field) => write!(f, "{field} has a CR, LF or NUL"),
            Self::TooLarge(field, limit) => write!(f, "{field} is larger than {limit} bytes"),
            Self::NotUtf8 => f.write_str("encoded event is not UTF-8"),
            Self::NotWhole => f.write_str("encoded event does not end with an empty line"),
        }
    }
}

impl std::error::Error for EventError {}

impl From<NamespaceError> for EventError {
    fn from(error: NamespaceError) -> Self {
        Self::Namespace(error)
    }
}
