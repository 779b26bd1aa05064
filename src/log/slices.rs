//! The bytes of one write.

use std::io::IoSlice;

use super::extent::Extent;

/// The most slices in one write: a few chunks, or large frames.
const MAX_SLICES: usize = 8;

/// The bytes of one write, as up to eight slices.
#[derive(Debug)]
pub struct Slices<'a> {
    list: [IoSlice<'a>; MAX_SLICES],
    count: usize,
    bytes: usize,
    /// The name of the bytes, if all of them are of one log: see [`Extent`].
    extent: Option<Extent>,
}

impl<'a> Slices<'a> {
    /// No slices.
    pub fn new() -> Self {
        Self {
            list: [IoSlice::new(&[]); MAX_SLICES],
            count: 0,
            bytes: 0,
            extent: None,
        }
    }

    /// Adds a slice if there is room; returns whether there was. Then the slices have no extent.
    pub fn push(&mut self, slice: &'a [u8]) -> bool {
        if self.count == MAX_SLICES {
            return false;
        }
        self.extent = None;
        if !slice.is_empty() {
            self.list[self.count] = IoSlice::new(slice);
            self.count += 1;
            self.bytes += slice.len();
        }
        true
    }

    /// Names the bytes, all of which are of one log.
    pub(super) fn set_extent(&mut self, extent: Extent) {
        debug_assert_eq!(extent.bytes(), self.bytes as u64);
        self.extent = Some(extent);
    }

    /// The slices, in order.
    pub fn as_slice(&self) -> &[IoSlice<'a>] {
        &self.list[..self.count]
    }

    /// Whether the slices have no bytes.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Bytes of all slices together.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A copy of the bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bytes);
        for slice in self.as_slice() {
            bytes.extend_from_slice(slice);
        }
        bytes
    }

    /// Which bytes of which log these are; `None` if other bytes are among them.
    pub fn extent(&self) -> Option<Extent> {
        self.extent
    }

    /// The slices without their first `bytes` bytes. They have no extent.
    pub fn after(&self, bytes: usize) -> Slices<'_> {
        let mut rest = Slices::new();
        let mut skip = bytes;
        for slice in self.as_slice() {
            let from = skip.min(slice.len());
            skip -= from;
            rest.push(&slice[from..]);
        }
        rest
    }
}

impl Default for Slices<'_> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::extent::LogId;
    use crate::log::position::Offset;

    fn text(slices: &Slices<'_>) -> String {
        let slices = slices.as_slice().iter();
        slices
            .map(|slice| std::str::from_utf8(slice).unwrap())
            .collect::<Vec<_>>()
            .join("|")
    }

    #[test]
    fn bytes_after_a_count_begin_within_a_slice() {
        let mut slices = Slices::new();
        for slice in ["abc", "", "de", "f"] {
            assert!(slices.push(slice.as_bytes()));
        }
        assert_eq!(slices.bytes(), 6);
        for (bytes, rest) in [
            (0, "abc|de|f"),
            (1, "bc|de|f"),
            (3, "de|f"),
            (4, "e|f"),
            (6, ""),
            (7, ""),
        ] {
            assert_eq!(text(&slices.after(bytes)), rest, "{bytes}");
        }
    }

    #[test]
    fn there_is_room_for_a_bounded_number_of_slices() {
        let mut slices = Slices::new();
        for _ in 0..MAX_SLICES {
            assert!(slices.push(b"a"));
        }
        assert!(!slices.push(b"b"));
        assert_eq!(slices.bytes(), MAX_SLICES);
    }

    #[test]
    fn other_bytes_take_the_extent_away() {
        let mut slices = Slices::new();
        slices.push(b"abc");
        let extent = Extent::new(LogId(1), Offset::ZERO + 7, Offset::ZERO + 10);
        slices.set_extent(extent);
        assert_eq!(slices.extent(), Some(extent));
        assert_eq!(slices.after(1).extent(), None);
        slices.push(b"d");
        assert_eq!(slices.extent(), None);
    }
}
