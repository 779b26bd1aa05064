//! The keys of connections, topics and groups. A key is used again after what it names is gone.

/// The key of a connection, which is valid until the connection is reaped.
pub type ConnId = u32;

/// The key of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TopicId(pub(super) u32);

/// The key of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupId(pub(super) u32);
