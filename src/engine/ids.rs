//! The keys of connections, topics and groups. A key is used again after what it names is gone.

/// The key of a connection, which is valid until the connection is reaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(u32);

impl ConnId {
    /// The key of the connection at an index of a list that drivers keep.
    pub fn from_index(index: usize) -> Self {
        Self(index as u32)
    }

    /// The index for such a list. Indices are small: those of ended connections are used again.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The key of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TopicId(pub(super) u32);

/// The key of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupId(pub(super) u32);
