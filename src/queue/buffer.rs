//! Frames on their way from publishers to the event loop: one piece of text, not a list of what each was allocated in.
//!
//! Memory that one thread allocates and another frees costs more than all else about a small event, and is scattered. Here
//! whoever puts frames in owns their memory, and whoever takes them out walks through one piece of it. Frames that are large, or go
//! elsewhere than to one namespace, are held as they are.

use std::collections::VecDeque;

use crate::event::{Event, EventError, EventLimits};
use crate::event_stream::encode::encode_into;
use crate::event_stream::frame::{BytesRef, Frame, FrameRef, SHARE_FROM, TargetRef};
use crate::namespace::{self, NamespaceRef};

/// Memory that an emptied buffer keeps, whatever it held: bursts would have to find it again.
const KEEP_BYTES: usize = 1 << 20;
const KEEP_ITEMS: usize = KEEP_BYTES / 64;

/// Frames in the order in which they were put in.
#[derive(Debug, Default)]
pub(crate) struct EventBuffer {
    text: String,
    /// What of the text each frame is; nothing for one that is held as it is.
    items: Vec<Option<Item>>,
    whole: VecDeque<Frame>,
    /// How many frames were taken out, and how much of the text.
    taken: usize,
    taken_text: usize,
    /// The last one of those held as they are that was taken out.
    lent: Option<Frame>,
}

/// A frame as text: the path of its namespace and, behind it, the event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    path_bytes: u32,
    event_bytes: u32,
    encoded: bool,
}

/// A frame to be put in.
#[derive(Debug)]
pub(crate) enum EncodedEvent<'a> {
    /// To be copied.
    Text(&'a str, Item),
    /// To be held as it is.
    Whole(Frame),
}

impl EncodedEvent<'_> {
    /// Checks an event and encodes it, into `scratch` if it is to be copied.
    ///
    /// # Errors
    /// An [`EventError`] that names what may not be sent.
    pub(crate) fn new<'s>(
        event: &Event,
        limits: &EventLimits,
        scratch: &'s mut String,
    ) -> Result<EncodedEvent<'s>, EventError> {
        if !event.also.is_empty() || event.content.bytes() >= SHARE_FROM {
            return Frame::new(event, limits).map(EncodedEvent::Whole);
        }
        let path = namespace::normal_form(&event.namespace, &limits.namespace)?;
        scratch.clear();
        scratch.push_str(&path);
        encode_into(event, limits.max_event, scratch)?;
        let item = Item {
            path_bytes: path.len() as u32,
            event_bytes: (scratch.len() - path.len()) as u32,
            encoded: event.content.is_encoded(),
        };
        Ok(EncodedEvent::Text(scratch, item))
    }

    /// How many bytes the event takes on the wire.
    pub(crate) fn event_bytes(&self) -> usize {
        match self {
            Self::Text(_, item) => item.event_bytes as usize,
            Self::Whole(frame) => frame.bytes.len(),
        }
    }
}

impl EventBuffer {
    /// Puts a frame in behind the others.
    pub(crate) fn push(&mut self, encoded: EncodedEvent<'_>) {
        self.items.push(match encoded {
            EncodedEvent::Text(text, item) => {
                self.text.push_str(text);
                Some(item)
            }
            EncodedEvent::Whole(frame) => {
                self.whole.push_back(frame);
                None
            }
        });
    }

    /// Whether all are taken out.
    pub(crate) fn is_empty(&self) -> bool {
        self.taken == self.items.len()
    }

    /// Takes the next frame out, and says whether it was the last.
    pub(crate) fn next(&mut self) -> Option<(FrameRef<'_>, bool)> {
        let item = *self.items.get(self.taken)?;
        self.taken += 1;
        let last = self.is_empty();
        let Some(item) = item else {
            self.lent = self.whole.pop_front();
            return self.lent.as_ref().map(|frame| (frame.by_ref(), last));
        };
        let (path, rest) = self.text[self.taken_text..].split_at(item.path_bytes as usize);
        let event = &rest[..item.event_bytes as usize];
        self.taken_text += path.len() + event.len();
        let frame = FrameRef {
            target: TargetRef::One(NamespaceRef::of_normal(path)),
            bytes: BytesRef::Slice(event.as_bytes()),
            encoded: item.encoded,
        };
        Some((frame, last))
    }

    /// Makes room when all is taken out. Memory that was hardly needed goes.
    pub(crate) fn clear(&mut self) {
        let items = KEEP_ITEMS.max(4 * self.items.len());
        let text_bytes = KEEP_BYTES.max(4 * self.text.len());
        self.items.clear();
        self.items.shrink_to(items);
        self.text.clear();
        self.text.shrink_to(text_bytes);
        self.whole.clear();
        self.whole.shrink_to(KEEP_BYTES / size_of::<Frame>());
        self.lent = None;
        (self.taken, self.taken_text) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, EventLimits};

    #[test]
    fn frames_come_out_as_they_went_in() {
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
            data(2),
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
            let everyone = Frame::broadcast(&data(1), &limits).unwrap();
            buffer.push(EncodedEvent::Whole(everyone.clone()));
            frames.push(everyone);
            for (place, frame) in (1..).zip(&frames) {
                let (lent, last) = buffer.next().unwrap();
                assert_eq!(last, place == frames.len());
                assert_eq!(&*lent.bytes, &frame.bytes[..]);
                let target = format!("{:?}", lent.target.to_target());
                assert_eq!(target, format!("{:?}", frame.target));
                assert_eq!(lent.encoded, frame.encoded);
            }
            assert!(buffer.next().is_none());
            buffer.clear();
        }
    }

    #[test]
    fn what_is_refused_is_refused_as_any_frame_and_leaves_nothing() {
        let limits = EventLimits::default();
        let mut scratch = String::new();
        for refused in [
            Event::new("/a/..", "x"),
            Event::new("/a", "x").id("1").event("two\nlines"),
            Event::encoded("/a", "data:x\n").id("1"),
            Event::new("/a", "x".repeat((1 << 20) + 1)),
        ] {
            let error = Frame::new(&refused, &limits).unwrap_err();
            let encoded = EncodedEvent::new(&refused, &limits, &mut scratch);
            assert_eq!(encoded.unwrap_err(), error);
        }
        let mut buffer = EventBuffer::default();
        buffer.push(EncodedEvent::new(&Event::new("/a", "1"), &limits, &mut scratch).unwrap());
        assert_eq!(&*buffer.next().unwrap().0.bytes, b"data:1\n\n");
    }

    #[test]
    fn memory_that_was_hardly_needed_goes() {
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
