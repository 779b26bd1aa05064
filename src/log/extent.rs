//! Bytes of a log by name, which lets a driver send them from a copy of its own.
//!
//! The byte at an offset of a log never changes. A driver that knows which bytes of which log a
//! write consists of can therefore replace them with equal bytes that are cheaper to send. On Linux
//! that is a copy in the kernel, made once for many sockets. The name of the bytes is an
//! [`Extent`]:
//!
//! 1. [`EventLog::gather`](super::EventLog::gather) marks [`Slices`](super::Slices) with the extent
//!    of their bytes, if they hold bytes of that log and nothing else.
//! 2. The engine announces bytes that many subscribers are about to be given:
//!    `Outlet::publish_pages` receives slices with an extent. The driver may copy them.
//! 3. `Outlet::write` receives slices as always. If their extent begins in a copy, the driver sends
//!    from the copy; otherwise it writes the slices.
//!
//! An extent is a hint. A driver that ignores it writes the same bytes.

use super::position::Offset;

/// Adjacent bytes of one log. They are the same at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    log: LogId,
    /// Offset of the first byte.
    start: Offset,
    /// Offset after the last byte.
    end: Offset,
}

/// The identity of a log. No two logs of an engine ever have the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogId(pub(crate) u64);

impl Extent {
    /// The bytes of a log from `start` up to `end`.
    pub(super) fn new(log: LogId, start: Offset, end: Offset) -> Self {
        Self { log, start, end }
    }

    /// Number of bytes.
    pub fn bytes(&self) -> u64 {
        self.end - self.start
    }

    /// Whether `next` begins where this extent ends.
    pub fn is_before(&self, next: Self) -> bool {
        (self.log, self.end) == (next.log, next.start)
    }

    /// This extent and `next`, which begins where this one ends.
    pub fn joined(self, next: Self) -> Self {
        debug_assert!(self.is_before(next), "extents are joined at a common end");
        Self {
            end: next.end,
            ..self
        }
    }

    /// How many bytes of this extent come before the first one of `inner`; `None` if that is not in
    /// this extent.
    pub fn bytes_before(&self, inner: Self) -> Option<u64> {
        let contains = self.log == inner.log && (self.start..self.end).contains(&inner.start);
        contains.then(|| inner.start - self.start)
    }

    /// This extent without its first `bytes` bytes.
    pub fn skip(self, bytes: usize) -> Self {
        Self {
            start: self.end.min(self.start + bytes),
            ..self
        }
    }

    /// The bytes that are in both; `None` if there are none.
    pub fn overlap(self, other: Self) -> Option<Self> {
        let (start, end) = (self.start.max(other.start), self.end.min(other.end));
        (self.log == other.log && start < end).then_some(Self { start, end, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(log: u64, start: usize, end: usize) -> Extent {
        Extent::new(LogId(log), Offset::ZERO + start, Offset::ZERO + end)
    }

    #[test]
    fn extents_of_one_log_are_compared_by_their_offsets() {
        let whole = extent(1, 10, 20);
        for (other, is_before, bytes_before, overlap) in [
            (extent(1, 20, 25), true, None, None),
            (extent(2, 20, 25), false, None, None),
            (extent(1, 21, 25), false, None, None),
            (extent(1, 10, 30), false, Some(0), Some((10, 20))),
            (extent(1, 19, 20), false, Some(9), Some((19, 20))),
            (extent(1, 5, 12), false, None, Some((10, 12))),
            (extent(2, 10, 20), false, None, None),
        ] {
            assert_eq!(whole.is_before(other), is_before, "{other:?}");
            assert_eq!(whole.bytes_before(other), bytes_before, "{other:?}");
            let expected = overlap.map(|(start, end)| extent(1, start, end));
            assert_eq!(whole.overlap(other), expected, "{other:?}");
            assert_eq!(other.overlap(whole), expected, "{other:?}");
        }
    }

    #[test]
    fn extents_are_joined_and_skipped_into() {
        let whole = extent(1, 10, 20);
        assert_eq!(whole.joined(extent(1, 20, 25)), extent(1, 10, 25));
        for (bytes, rest) in [(0, 10), (3, 7), (10, 0), (11, 0)] {
            assert_eq!(whole.skip(bytes).bytes(), rest, "{bytes}");
        }
    }
}
