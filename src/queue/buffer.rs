//! The encoded events of the publish queue, most of them in one piece of memory.
//!
//! Memory that one thread allocates and another frees costs more than all other work on a small
//! event, and is scattered. So publishers copy small events to the end of one buffer, which the
//! event loop reads in order. Large events, and events for several namespaces, keep their own
//! memory.

use std::collections::VecDeque;

use crate::event::{Event, EventError, EventLimits};
use crate::event_stream::encode::encode_into;
use crate::event_stream::frame::{BytesRef, Frame, FrameRef, SHARE_FROM, TargetRef};
use crate::namespace::{self, NamespaceRef};

/// The capacity that an emptied buffer always keeps, so that a burst need not allocate it again.
const KEEP_BYTES: usize = 1 << 20;
const KEEP_ITEMS: usize = KEEP_BYTES / 64;

/// An event that has been checked and encoded, ready for an [`EventBuffer`].
#[derive(Debug)]
pub(crate) enum EncodedEvent<'a> {
    /// A small event for one namespace, which the buffer copies.
    Text {
        /// The namespace's path, then the event as it goes over the wire.
        text: &'a str,
        path_bytes: usize,
        /// See [`Frame::encoded`].
        encoded: bool,
    },
    /// Any other event, which the buffer keeps as it is.
    Frame(Frame),
}

impl EncodedEvent<'_> {
    /// Checks and encodes an event, into `scratch` if it is small and for one namespace.
    ///
    /// # Errors
    /// The [`EventError`] that [`Frame::new`] returns for the event.
    pub(crate) fn new<'s>(
        event: &Event,
        limits: &EventLimits,
        scratch: &'s mut String,
    ) -> Result<EncodedEvent<'s>, EventError> {
        let is_for_one = event.also.is_empty() && !event.to_all;
        if !is_for_one || event.content.bytes() >= SHARE_FROM {
            return Frame::new(event, limits).map(EncodedEvent::Frame);
        }
        let path = namespace::normal_form(&event.namespace, &limits.namespace)?;
        scratch.clear();
        scratch.push_str(&path);
        encode_into(event, limits.max_event, scratch)?;
        Ok(EncodedEvent::Text {
            text: scratch,
            path_bytes: path.len(),
            encoded: event.content.is_encoded(),
        })
    }

    /// The event's size on the wire.
    pub(crate) fn event_bytes(&self) -> usize {
        match self {
            Self::Text {
                text, path_bytes, ..
            } => text.len() - path_bytes,
            Self::Frame(frame) => frame.bytes.len(),
        }
    }
}

/// Encoded events, first in, first out.
#[derive(Debug, Default)]
pub(crate) struct EventBuffer {
    /// The paths and events of all [`Item::Text`], end to end.
    text: String,
    /// One item for each event, in order.
    items: Vec<Item>,
    /// The events of all [`Item::Frame`] that have not been taken out.
    frames: VecDeque<Frame>,
    /// The number of items that were taken out, and of bytes of `text`.
    taken_items: usize,
    taken_text: usize,
    /// The frame that [`EventBuffer::next`] returned last, kept alive for its borrower.
    current: Option<Frame>,
}

/// The location of one event's bytes.
#[derive(Debug, Clone, Copy)]
enum Item {
    /// In `text`, after the previous items: the path, then the event.
    Text {
        path_bytes: u32,
        event_bytes: u32,
        encoded: bool,
    },
    /// In `frames`.
    Frame,
}

impl EventBuffer {
    /// Appends an event.
    pub(crate) fn push(&mut self, event: EncodedEvent<'_>) {
        let event_bytes = event.event_bytes() as u32;
        self.items.push(match event {
            EncodedEvent::Text {
                text,
                path_bytes,
                encoded,
            } => {
                self.text.push_str(text);
                Item::Text {
                    path_bytes: path_bytes as u32,
                    event_bytes,
                    encoded,
                }
            }
            EncodedEvent::Frame(frame) => {
                self.frames.push_back(frame);
                Item::Frame
            }
        });
    }

    /// Whether all events have been taken out.
    pub(crate) fn is_empty(&self) -> bool {
        self.taken_items == self.items.len()
    }

    /// Takes out the next event, and reports whether it was the last.
    pub(crate) fn next(&mut self) -> Option<(FrameRef<'_>, bool)> {
        let item = *self.items.get(self.taken_items)?;
        self.taken_items += 1;
        let last = self.is_empty();
        let Item::Text {
            path_bytes,
            event_bytes,
            encoded,
        } = item
        else {
            self.current = self.frames.pop_front();
            return self.current.as_ref().map(|frame| (frame.by_ref(), last));
        };
        let (path, rest) = self.text[self.taken_text..].split_at(path_bytes as usize);
        let event = &rest[..event_bytes as usize];
        self.taken_text += path.len() + event.len();
        let frame = FrameRef {
            target: TargetRef::One(NamespaceRef::of_normal(path)),
            bytes: BytesRef::Slice(event.as_bytes()),
            encoded,
        };
        Some((frame, last))
    }

    /// Removes all items, which must have been taken out. Keeps a capacity of four times their
    /// memory, and at least [`KEEP_BYTES`]; frees the rest.
    pub(crate) fn clear(&mut self) {
        let items = KEEP_ITEMS.max(4 * self.items.len());
        let text_bytes = KEEP_BYTES.max(4 * self.text.len());
        self.items.clear();
        self.items.shrink_to(items);
        self.text.clear();
        self.text.shrink_to(text_bytes);
        self.frames.clear();
        self.frames.shrink_to(KEEP_BYTES / size_of::<Frame>());
        self.current = None;
        (self.taken_items, self.taken_text) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, EventLimits};

    #[test]
    fn events_come_out_as_they_went_in() {
        let limits = EventLimits::default();
        let data = |bytes: usize| Event::new("a//ü", "x".repeat(bytes));
        let events = [
            data(0),
            Event::new("", "root"),
            Event::new("/b/", "\n".repeat(SHARE_FROM - 1)),
            data(SHARE_FROM - 1),
            data(SHARE_FROM),
            data(1 << 20),
            Event::encoded("/b", "data:1\n\ndata:2\n\n"),
            data(1).also("/b").also("/c"),
            data(1).to_all(),
        ];
        let (mut buffer, mut scratch) = (EventBuffer::default(), String::new());
        for _ in 0..2 {
            let mut frames = Vec::new();
            for event in &events {
                let frame = Frame::new(event, &limits).unwrap();
                let encoded = EncodedEvent::new(event, &limits, &mut scratch).unwrap();
                assert_eq!(encoded.event_bytes(), frame.bytes.len());
                buffer.push(encoded);
                frames.push(frame);
            }
            for (number, frame) in (1..).zip(&frames) {
                let (taken, last) = buffer.next().unwrap();
                assert_eq!(last, number == frames.len());
                assert_eq!(&*taken.bytes, &frame.bytes[..]);
                let target = format!("{:?}", taken.target.to_target());
                assert_eq!(target, format!("{:?}", frame.target));
                assert_eq!(taken.encoded, frame.encoded);
            }
            assert!(buffer.next().is_none());
            buffer.clear();
        }
    }

    #[test]
    fn invalid_events_get_the_error_of_a_frame_and_leave_no_bytes() {
        let limits = EventLimits::default();
        let mut scratch = String::new();
        for invalid in [
            Event::new("/a/..", "x"),
            Event::new("/a", "x").id("1").event("two\nlines"),
            Event::encoded("/a", "data:x\n").id("1"),
            Event::new("/a", "x".repeat((1 << 20) + 1)),
        ] {
            let error = Frame::new(&invalid, &limits).unwrap_err();
            let encoded = EncodedEvent::new(&invalid, &limits, &mut scratch);
            assert_eq!(encoded.unwrap_err(), error);
        }
        let mut buffer = EventBuffer::default();
        buffer.push(EncodedEvent::new(&Event::new("/a", "1"), &limits, &mut scratch).unwrap());
        assert_eq!(&*buffer.next().unwrap().0.bytes, b"data:1\n\n");
    }

    #[test]
    fn an_item_is_twelve_bytes() {
        assert_eq!(size_of::<Item>(), 12);
    }

    #[test]
    fn memory_beyond_four_times_the_need_is_freed() {
        let (limits, mut scratch) = (EventLimits::default(), String::new());
        let event = Event::new("/a", "x".repeat(1000));
        let mut buffer = EventBuffer::default();
        for _ in 0..100_000 {
            buffer.push(EncodedEvent::new(&event, &limits, &mut scratch).unwrap());
        }
        buffer.clear();
        assert!(buffer.text.capacity() >= 100_000_000 && buffer.items.capacity() >= 100_000);
        buffer.push(EncodedEvent::new(&event, &limits, &mut scratch).unwrap());
        buffer.clear();
        assert_eq!(buffer.text.capacity(), KEEP_BYTES);
        assert_eq!(buffer.items.capacity(), KEEP_ITEMS);
    }
}
