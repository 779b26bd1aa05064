//! Events as publishers build them, before they are encoded, and the limits of an event.
//!
//! Holds values only. Building an event never fails. The rules for a valid event are checked in one
//! place, when it is encoded (`event_stream::encode`, which also has [`Event::encode`]).

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::namespace::{NamespaceError, NamespaceLimits};

/// The limit of bytes in an event type, and in an event's own ID.
pub(crate) const MAX_FIELD_BYTES: usize = 1024;

/// One event of an event stream, for the subscribers of a namespace and of all its ancestors.
///
/// The fields have the meaning of the
/// [WHATWG specification](https://html.spec.whatwg.org/multipage/server-sent-events.html).
/// Building an event never fails. The call that sends an invalid event returns an [`EventError`].
///
/// ```
/// use std::time::Duration;
///
/// use fanfare::Event;
///
/// let event = Event::new("/pets/dogs", "Corgi\nRex")
///     .also("/news")
///     .event("new-dog")
///     .id("7")
///     .retry(Duration::from_secs(2));
/// assert_eq!(
///     event.encode()?,
///     "id:7\nevent:new-dog\nretry:2000\ndata:Corgi\ndata:Rex\n\n"
/// );
/// assert!(Event::new("/pets", "x").event("a\nb").encode().is_err());
/// # Ok::<(), fanfare::EventError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an event does nothing until it is sent"]
pub struct Event {
    pub(crate) namespace: String,
    pub(crate) also: Vec<String>,
    pub(crate) to_all: bool,
    pub(crate) event_type: Option<String>,
    pub(crate) id: Option<String>,
    pub(crate) retry: Option<Duration>,
    pub(crate) content: Content,
}

/// The content of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// Data, sent as one `data` line for each of its lines.
    Data(String),
    /// A comment, which clients ignore.
    Comment(String),
    /// Whole events that the application has encoded, sent unchanged.
    Encoded(Bytes),
}

impl Content {
    /// The size in bytes, to which [`EventLimits::max_event`] applies.
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
    /// Creates an event with data for the subscribers of `namespace` and of its ancestors.
    ///
    /// Lines of the data may end with LF, CR LF or CR. Clients receive each line end as LF.
    pub fn new(namespace: impl Into<String>, data: impl Into<String>) -> Self {
        Self::with(namespace.into(), Content::Data(data.into()))
    }

    /// Creates a comment, whose bytes subscribers receive and conforming clients ignore.
    ///
    /// With history on, it gets an ID and is retained like any other event.
    pub fn comment(namespace: impl Into<String>, text: impl Into<String>) -> Self {
        Self::with(namespace.into(), Content::Comment(text.into()))
    }

    /// Creates an event from bytes of an event stream: one or more whole events, each with an empty
    /// line at its end.
    ///
    /// The bytes are sent unchanged. They must be UTF-8 and end with an empty line, and their IDs
    /// must be ones that [`Event::id`] takes; nothing else about them is checked. Fields that are
    /// set on such an event are sent before the bytes, as part of their first event. With history
    /// on, each of the events without an ID gets one.
    pub fn encoded(namespace: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Self::with(namespace.into(), Content::Encoded(bytes.into()))
    }

    fn with(namespace: String, content: Content) -> Self {
        Self {
            namespace,
            also: Vec::new(),
            to_all: false,
            event_type: None,
            id: None,
            retry: None,
            content,
        }
    }

    /// Sets the event type, by which clients dispatch the event. Without it the type is `message`.
    ///
    /// At most 1,024 bytes, without CR, LF and NUL.
    pub fn event(mut self, event_type: impl Into<String>) -> Self {
        self.event_type = Some(event_type.into());
        self
    }

    /// Sets the event's own ID, which becomes the client's last event ID.
    ///
    /// At most 1,024 bytes, without control characters, and without spaces at its ends: clients
    /// send it back in a header. With history on, a client that reconnects with this ID resumes
    /// after this event, as long as the event is retained. If several events have the same ID, the
    /// client resumes after the last of them. An event without an ID of its own gets one from the
    /// server.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Sets the reconnection time of clients that receive the event, rounded down to milliseconds.
    pub fn retry(mut self, reconnection_time: Duration) -> Self {
        self.retry = Some(reconnection_time);
        self
    }

    /// Adds another namespace. A subscriber that several of them reach gets the event once.
    pub fn also(mut self, namespace: impl Into<String>) -> Self {
        self.also.push(namespace.into());
        self
    }

    /// Makes the event one for every subscriber of every namespace. Its own namespaces must be
    /// valid and are otherwise ignored.
    pub fn to_all(mut self) -> Self {
        self.to_all = true;
        self
    }
}

/// The limits of an event.
#[derive(Debug, Clone, Copy)]
pub struct EventLimits {
    /// Bytes of data; 1 MiB by default.
    pub max_event: usize,
    /// The limits of its namespaces.
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

/// The limit of bytes in an encoded event with `max_event` bytes of data. Each line end in the data
/// may take six bytes, `data:\n`.
pub fn max_frame_bytes(max_event: usize) -> usize {
    const FIELDS: usize = 2 * MAX_FIELD_BYTES
        + "id:\n".len()
        + "event: \n".len()
        + "retry:18446744073709551615\n\n".len();
    max_event
        .saturating_add(1)
        .saturating_mul("data:\n".len())
        .saturating_add(FIELDS)
}

/// The reason why an event is invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventError {
    /// A namespace is invalid.
    Namespace(NamespaceError),
    /// The named field has a CR, LF or NUL, with which it could forge another field.
    ForbiddenCharacter(&'static str),
    /// The ID has a control character, or a space at an end. A client that reconnects could not
    /// send it back in the header `Last-Event-ID`: browsers drop such a space
    /// ([Fetch](https://fetch.spec.whatwg.org/#concept-header-value-normalize)), and servers refuse
    /// control characters.
    UnreturnableId,
    /// The named field has more bytes than the limit.
    TooLarge(&'static str, usize),
    /// The bytes given to [`Event::encoded`] are not UTF-8.
    NotUtf8,
    /// The bytes given to [`Event::encoded`] do not end with an empty line, so the next event would
    /// become part of them.
    NotWhole,
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(error) => error.fmt(f),
            Self::ForbiddenCharacter(field) => write!(f, "{field} must not have a CR, LF or NUL"),
            Self::UnreturnableId => {
                f.write_str("id must not have a control character, or a space at an end")
            }
            Self::TooLarge(field, limit) => {
                write!(f, "{field} exceeds the maximum of {limit} bytes")
            }
            Self::NotUtf8 => f.write_str("encoded event must be UTF-8"),
            Self::NotWhole => f.write_str("encoded event must end with an empty line"),
        }
    }
}

impl std::error::Error for EventError {}

impl From<NamespaceError> for EventError {
    fn from(error: NamespaceError) -> Self {
        Self::Namespace(error)
    }
}
