//! Frames on their way from publishers to the event loop: a run of bytes, not a list of what each was allocated in.
//!
//! Memory that one thread allocates and another frees costs more than all else about a small event, and is scattered. Here
//! whoever puts frames in owns its memory, and whoever takes them out walks through one piece of it. Frames that are large, or go
//! elsewhere than to one namespace, are held as they are.

use std::collections::VecDeque;

use crate::event_log::SHARE_FROM;
use crate::event_stream::encode::{Frame, FrameRef, Lent, Target, TargetRef};
use crate::namespace::NamespaceRef;

/// Before each frame in the run: the bytes of its namespace and of its event, with a bit that says whether it is encoded. No
/// namespace stands for one that is held as it is.
const HEAD_BYTES: usize = 4;
const ENCODED: u16 = 1 << 15;
/// Memory that an emptied run keeps, whatever it held: bursts would have to find it again.
const KEEP_BYTES: usize = 1 << 20;

/// Frames in the order in which they were put in.
#[derive(Debug, Default)]
pub(crate) struct FrameRun {
    bytes: Vec<u8>,
    /// How much of it was taken out.
    taken: usize,
    /// Those held as they are.
    aside: VecDeque<Frame>,
    /// The last one of those that was taken out.
    lent: Option<Frame>,
}

impl FrameRun {
    /// Puts a frame in behind the others; gives it back if it was copied, to be freed when others may go on.
    pub(crate) fn push(&mut self, frame: Frame) -> Option<Frame> {
        if let Target::One(namespace) = &frame.target
            && let path = namespace.as_str()
            && let Ok(path_bytes) = u16::try_from(path.len())
            && frame.bytes.len() < SHARE_FROM
        {
            let encoded = if frame.encoded { ENCODED } else { 0 };
            let event_bytes = frame.bytes.len() as u16 | encoded;
            self.bytes.extend_from_slice(&path_bytes.to_le_bytes());
            self.bytes.extend_from_slice(&event_bytes.to_le_bytes());
            self.bytes.extend_from_slice(path.as_bytes());
            self.bytes.extend_from_slice(&frame.bytes);
            return Some(frame);
        }
        self.bytes.extend_from_slice(&[0; HEAD_BYTES]);
        self.aside.push_back(frame);
        None
    }

    /// Whether all are taken out.
    pub(crate) fn is_empty(&self) -> bool {
        self.taken == self.bytes.len()
    }

    /// Takes the next frame out, and says whether it was the last.
    pub(crate) fn next(&mut self) -> Option<(FrameRef<'_>, bool)> {
        let (&[a, b, c, d], rest) = self.bytes[self.taken..].split_first_chunk()?;
        let path_bytes = usize::from(u16::from_le_bytes([a, b]));
        let event_bytes = u16::from_le_bytes([c, d]);
        if path_bytes == 0 {
            self.taken += HEAD_BYTES;
            self.lent = self.aside.pop_front();
            let last = self.taken == self.bytes.len();
            return self.lent.as_ref().map(|frame| (frame.borrowed(), last));
        }
        let (path, rest) = rest.split_at(path_bytes);
        let event = &rest[..usize::from(event_bytes & !ENCODED)];
        self.taken += HEAD_BYTES + path.len() + event.len();
        let path = std::str::from_utf8(path).expect("a namespace's path was put in");
        let frame = FrameRef {
            target: TargetRef::One(NamespaceRef::of_normal(path)),
            bytes: Lent::Slice(event),
            encoded: event_bytes & ENCODED != 0,
        };
        Some((frame, self.taken == self.bytes.len()))
    }

    /// Makes room when all is taken out. Memory that was hardly needed goes.
    pub(crate) fn clear(&mut self) {
        let most = KEEP_BYTES.max(4 * self.bytes.len());
        self.bytes.clear();
        self.bytes.shrink_to(most);
        self.aside.clear();
        self.aside.shrink_to(KEEP_BYTES / size_of::<Frame>());
        self.lent = None;
        self.taken = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::event_stream::encode::EventLimits;

    #[test]
    fn frames_come_out_as_they_went_in() {
        let limits = EventLimits::default();
        let frame = |event: &Event| Frame::new(event, &limits).unwrap();
        let data = |bytes: usize| Event::new("/a/ü", "x".repeat(bytes));
        let frames = [
            frame(&data(0)),
            frame(&Event::new("/", "root")),
            frame(&data(SHARE_FROM - "data:\n\n".len() - 1)),
            frame(&data(SHARE_FROM - "data:\n\n".len())),
            frame(&data(1 << 20)),
            frame(&Event::encoded("/b", "data:1\n\ndata:2\n\n")),
            frame(&data(1).also("/b").also("/c")),
            Frame::broadcast(&data(1), &limits).unwrap(),
            frame(&data(2)),
        ];
        let mut run = FrameRun::default();
        for _ in 0..2 {
            frames
                .iter()
                .for_each(|frame| drop(run.push(frame.clone())));
            for (place, frame) in (1..).zip(&frames) {
                let (lent, last) = run.next().unwrap();
                assert_eq!(last, place == frames.len());
                assert_eq!(&*lent.bytes, &frame.bytes[..]);
                let target = format!("{:?}", lent.target.to_target());
                assert_eq!(target, format!("{:?}", frame.target));
                assert_eq!(lent.encoded, frame.encoded);
            }
            assert!(run.next().is_none());
            run.clear();
        }
    }

    #[test]
    fn memory_that_was_hardly_needed_goes() {
        let event = Event::new("/a", "x".repeat(1000));
        let frame = Frame::new(&event, &EventLimits::default()).unwrap();
        let mut run = FrameRun::default();
        (0..10_000).for_each(|_| drop(run.push(frame.clone())));
        run.clear();
        assert!(run.bytes.capacity() >= 10_000_000);
        drop(run.push(frame));
        run.clear();
        assert_eq!(run.bytes.capacity(), KEEP_BYTES);
    }
}
