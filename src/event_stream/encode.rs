//! Encoding: from an [`Event`] to the bytes of an event stream, once for all subscribers.
//!
//! Owns the rules for a valid event: a [`Frame`] is checked, bounded and complete, and no field can
//! forge another one. Knows nothing of subscribers.

use bytes::Bytes;

use crate::event::{Content, Event, EventError, EventLimits, MAX_FIELD_BYTES};
use crate::event_stream::frame::{Frame, Target, ids};
use crate::namespace::Namespace;

impl Frame {
    /// Checks an event against the limits and encodes it.
    ///
    /// # Errors
    /// An [`EventError`] if the event is invalid.
    pub fn new(event: &Event, limits: &EventLimits) -> Result<Self, EventError> {
        let parse = |path: &String| Namespace::parse_within(path, &limits.namespace);
        let first = parse(&event.namespace)?;
        let mut all = event
            .also
            .iter()
            .map(parse)
            .collect::<Result<Vec<_>, _>>()?;
        let target = if event.to_all {
            Target::Everyone
        } else if all.is_empty() {
            Target::One(first)
        } else {
            all.insert(0, first);
            Target::Many(all)
        };
        Ok(Self {
            target,
            bytes: encode(event, limits.max_event)?,
            encoded: event.content.is_encoded(),
        })
    }
}

impl Event {
    /// Encodes the event for the wire, with the default limit of 1 MiB of data.
    ///
    /// The fields come in the order `id`, `event`, `retry`, `data`. A space follows the colon only
    /// if the value begins with one. Absent fields are left out, but there is always at least one
    /// `data` line. The namespaces are not part of the encoded event and are not checked.
    ///
    /// # Errors
    /// An [`EventError`] that names the invalid field.
    pub fn encode(&self) -> Result<Bytes, EventError> {
        encode(self, EventLimits::default().max_event)
    }
}

fn encode(event: &Event, max_event: usize) -> Result<Bytes, EventError> {
    if let Content::Encoded(bytes) = &event.content
        && event.id.is_none()
        && event.event_type.is_none()
        && event.retry.is_none()
    {
        check_size(event, max_event)?;
        return complete_events(bytes).map(|_| bytes.clone());
    }
    let mut frame = String::with_capacity(frame_bytes(event));
    encode_into(event, max_event, &mut frame)?;
    Ok(frame.into())
}

/// Checks an event and appends its encoding to `frame`. After an error, `frame` may have a part of
/// it.
pub(crate) fn encode_into(
    event: &Event,
    max_event: usize,
    frame: &mut String,
) -> Result<(), EventError> {
    check_size(event, max_event)?;
    if let Some(id) = &event.id {
        check_id(id.as_bytes())?;
        put_field(frame, "id", id)?;
    }
    if let Some(event_type) = &event.event_type {
        put_field(frame, "event", event_type)?;
    }
    if let Some(retry) = event.retry {
        let retry_ms = u64::try_from(retry.as_millis()).unwrap_or(u64::MAX);
        put_line(frame, "retry", &retry_ms.to_string());
    }
    match &event.content {
        Content::Data(data) => for_each_line(data, |line| put_line(frame, "data", line)),
        Content::Comment(text) => for_each_line(text, |line| put_line(frame, "", line)),
        Content::Encoded(bytes) => {
            frame.push_str(complete_events(bytes)?);
            return Ok(());
        }
    }
    frame.push('\n');
    Ok(())
}

fn check_size(event: &Event, max_event: usize) -> Result<(), EventError> {
    let name = match &event.content {
        Content::Data(_) => "data",
        Content::Comment(_) => "comment",
        Content::Encoded(_) => "encoded event",
    };
    if event.content.bytes() > max_event {
        return Err(EventError::TooLarge(name, max_event));
    }
    Ok(())
}

/// The size of the encoded event if its data is one line. The capacity then suffices for one
/// allocation.
fn frame_bytes(event: &Event) -> usize {
    let field = |name: &str, value: &Option<String>| {
        value.as_ref().map_or(0, |value| name.len() + value.len())
    };
    let name = match &event.content {
        Content::Data(data) if data.starts_with(' ') => "data: \n\n",
        Content::Data(_) => "data:\n\n",
        Content::Comment(_) => ":\n\n",
        Content::Encoded(_) => "",
    };
    let fields = field("id:\n", &event.id) + field("event:\n", &event.event_type);
    let retry = event.retry.map_or(0, |_| "retry:65536\n".len());
    fields + retry + name.len() + event.content.bytes()
}

/// Encodes a comment and an empty line. The text must be one line, which the configuration checks.
pub(crate) fn comment(text: &str) -> Vec<u8> {
    format!(":{text}\n\n").into_bytes()
}

/// Checks that bytes from the application are UTF-8 and end with an empty line, so that they are
/// complete events.
fn complete_events(bytes: &[u8]) -> Result<&str, EventError> {
    let text = std::str::from_utf8(bytes).map_err(|_| EventError::NotUtf8)?;
    // An empty line is a line end that follows another one. CR LF is a single line end.
    let without_one = |bytes: &[u8]| match bytes {
        [.., b'\r', b'\n'] => Some(bytes.len() - 2),
        [.., b'\r' | b'\n'] => Some(bytes.len() - 1),
        _ => None,
    };
    match without_one(bytes).and_then(|rest| without_one(&bytes[..rest])) {
        Some(_) => ids(bytes).try_for_each(check_id).map(|()| text),
        None => Err(EventError::NotWhole),
    }
}

/// Checks that clients can send an ID back in a header. An ID with a NUL is one that they ignore.
fn check_id(id: &[u8]) -> Result<(), EventError> {
    let has_control = id.iter().any(u8::is_ascii_control) && !id.contains(&0);
    if has_control || id.starts_with(b" ") || id.ends_with(b" ") {
        return Err(EventError::UnreturnableId);
    }
    Ok(())
}

fn put_field(frame: &mut String, name: &'static str, value: &str) -> Result<(), EventError> {
    if value.len() > MAX_FIELD_BYTES {
        return Err(EventError::TooLarge(name, MAX_FIELD_BYTES));
    }
    if value.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        return Err(EventError::ForbiddenCharacter(name));
    }
    put_line(frame, name, value);
    Ok(())
}

fn put_line(frame: &mut String, name: &str, value: &str) {
    frame.push_str(name);
    // A client removes one space after the colon, so a value that begins with a space needs
    // another.
    frame.push_str(if value.starts_with(' ') { ": " } else { ":" });
    frame.push_str(value);
    frame.push('\n');
}

/// Calls `each` with every line of the text. The last line needs no line end.
///
/// LF and CR are searched for one after the other. A search for a single byte is vectorized; a
/// search for either of two goes character by character.
fn for_each_line(text: &str, mut each: impl FnMut(&str)) {
    let bytes = text.as_bytes();
    if !bytes.contains(&b'\n') && !bytes.contains(&b'\r') {
        return each(text);
    }
    let mut rest = text;
    while let Some((lines, after)) = rest.split_once('\n') {
        let lines = lines.strip_suffix('\r').unwrap_or(lines);
        lines.split('\r').for_each(&mut each);
        rest = after;
    }
    rest.split('\r').for_each(each);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::max_frame_bytes;
    use std::time::Duration;

    #[test]
    fn encoded_events_are_exact() {
        let event = |data: &str| Event::new("/", data);
        for (event, wire) in [
            (
                event("Corgi").event("new-dog"),
                "event:new-dog\ndata:Corgi\n\n",
            ),
            (event(""), "data:\n\n"),
            (event("a\nb\r\nc\rd"), "data:a\ndata:b\ndata:c\ndata:d\n\n"),
            (event("\n\r"), "data:\ndata:\ndata:\n\n"),
            (
                event("a\r\r\n\n\rb"),
                "data:a\ndata:\ndata:\ndata:\ndata:b\n\n",
            ),
            (event(" a\n b"), "data:  a\ndata:  b\n\n"),
            (
                event("x").retry(Duration::from_secs(2)).event("e").id("1"),
                "id:1\nevent:e\nretry:2000\ndata:x\n\n",
            ),
            (event("x").id(""), "id:\ndata:x\n\n"),
            (event("x").event(" e"), "event:  e\ndata:x\n\n"),
            (event("x").id("ü 1"), "id:ü 1\ndata:x\n\n"),
            (Event::comment("/", "a\nb"), ":a\n:b\n\n"),
            (Event::encoded("/", "data:x\r\n\r\n"), "data:x\r\n\r\n"),
            (
                Event::encoded("/", "data:x\n\n").id("7"),
                "id:7\ndata:x\n\n",
            ),
        ] {
            assert_eq!(event.encode().as_deref(), Ok(wire.as_bytes()), "{event:?}");
        }
    }

    #[test]
    fn no_field_can_be_forged_and_each_limit_is_exact() {
        let event = || Event::new("/", "x");
        let long = |n: usize| "i".repeat(n);
        for (event, error) in [
            (
                event().event("a\ndata:b"),
                Some(EventError::ForbiddenCharacter("event")),
            ),
            (
                event().event("a\r"),
                Some(EventError::ForbiddenCharacter("event")),
            ),
            (event().id("\0"), Some(EventError::ForbiddenCharacter("id"))),
            (event().id(long(1024)), None),
            (
                event().id(long(1025)),
                Some(EventError::TooLarge("id", 1024)),
            ),
            (
                event().event(long(1025)),
                Some(EventError::TooLarge("event", 1024)),
            ),
            (Event::new("/", long(1 << 20)), None),
            (
                Event::new("/", long((1 << 20) + 1)),
                Some(EventError::TooLarge("data", 1 << 20)),
            ),
            (
                Event::encoded("/", &b"data:x\n"[..]),
                Some(EventError::NotWhole),
            ),
            (
                Event::encoded("/", &b"data:x\r\n"[..]),
                Some(EventError::NotWhole),
            ),
            (Event::encoded("/", &b""[..]), Some(EventError::NotWhole)),
            (
                Event::encoded("/", &b"\xff\n\n"[..]),
                Some(EventError::NotUtf8),
            ),
        ] {
            assert_eq!(event.encode().err(), error);
        }
    }

    #[test]
    fn an_id_is_one_that_a_client_can_send_back_in_a_header() {
        for (id, valid) in [
            ("", true),
            ("a b", true),
            ("ü\u{85}\u{2028}", true),
            (" a", false),
            ("a ", false),
            ("a\tb", false),
            ("\u{1}", false),
            ("a\u{1f}", false),
            ("\u{7f}", false),
        ] {
            let expected = (!valid).then_some(EventError::UnreturnableId);
            let event = Event::new("/", "x").id(id);
            assert_eq!(event.encode().err(), expected, "{id:?}");
            let wire = format!("data:x\n\nid: {id}\ndata:y\n\n");
            assert_eq!(Event::encoded("/", wire).encode().err(), expected, "{id:?}");
        }
        // Clients ignore an ID with a NUL.
        assert!(Event::encoded("/", "id:\0\u{1}\n\n").encode().is_ok());
    }

    #[test]
    fn no_frame_exceeds_max_frame_bytes() {
        let max_event = 64;
        let longest = |content: &str| {
            let event = Event::new("/", content)
                .id("i".repeat(1024))
                .event(" ".repeat(1024))
                .retry(Duration::MAX);
            encode(&event, max_event).unwrap().len()
        };
        assert_eq!(longest(&"\n".repeat(max_event)), max_frame_bytes(max_event));
        assert!(longest(&"\n ".repeat(max_event / 2)) < max_frame_bytes(max_event));
    }
}
