//! When a store syncs its files.

/// When appended events are synced to disk, so that they survive a power cut.
///
/// Events survive the end of the process, crashes included, with every value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Fsync {
    /// Before an event is delivered or its publisher gets a reply. Publishing waits for the disk.
    Always,
    /// About 100 ms after an event was appended; longer if the disk takes longer. A power cut loses the events since the
    /// last sync.
    #[default]
    Interval,
    /// When the operating system writes them, when a segment is full, and when the server shuts down.
    Never,
}
