//! Positions in the total order of events, and in a log.
//!
//! An event has one [`Seq`], which is the same in every log. In each log that has the event, its
//! frame has an [`Ordinal`] and begins at an [`Offset`]. These are types, so that one cannot be
//! passed for another.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// Sequence number of an event in the total order. The first event has 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(u64);

impl Seq {
    /// The number before that of the first event.
    pub const ZERO: Self = Self(0);

    /// The sequence number with this value.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The value, as stores and event IDs have it.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number of the next event.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The number of the event before; [`Seq::ZERO`] if there is none.
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Byte offset in a log: the number of bytes that were appended before it. The byte at an offset
/// never changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offset(u64);

impl Offset {
    /// The offset of the first byte that was ever appended.
    pub const ZERO: Self = Self(0);
    /// An offset after every byte.
    pub const MAX: Self = Self(u64::MAX);

    /// The offset `bytes` bytes before, but at least [`Offset::ZERO`].
    pub const fn saturating_sub(self, bytes: u64) -> Self {
        Self(self.0.saturating_sub(bytes))
    }
}

impl Add<usize> for Offset {
    type Output = Self;

    fn add(self, bytes: usize) -> Self {
        Self(self.0 + bytes as u64)
    }
}

impl AddAssign<usize> for Offset {
    fn add_assign(&mut self, bytes: usize) {
        self.0 += bytes as u64;
    }
}

/// The bytes between two offsets.
impl Sub for Offset {
    type Output = u64;

    fn sub(self, from: Self) -> u64 {
        self.0 - from.0
    }
}

/// The number of frames that were appended to a log before a frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ordinal(u64);

impl Ordinal {
    /// The ordinal of the next frame.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The ordinal of the frame before, if there is one.
    pub const fn previous(self) -> Option<Self> {
        match self.0.checked_sub(1) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }
}

impl Add<usize> for Ordinal {
    type Output = Self;

    fn add(self, frames: usize) -> Self {
        Self(self.0 + frames as u64)
    }
}

/// The frames between two ordinals.
impl Sub for Ordinal {
    type Output = u64;

    fn sub(self, from: Self) -> u64 {
        self.0 - from.0
    }
}

/// Where a retained frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Sequence number of the event.
    pub seq: Seq,
    /// Offset of the first byte.
    pub start: Offset,
    /// Offset after the last byte.
    pub end: Offset,
}
