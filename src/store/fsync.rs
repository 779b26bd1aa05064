//! When a store syncs its files.

use std::fmt;
use std::str::FromStr;

use crate::config::ValueError;

/// When appended events are synced to disk, so that they survive a power cut.
///
/// Events survive the end of the process, crashes included, with every value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Fsync {
    /// Before an event is delivered or its publisher gets a reply. Publishing waits for the disk.
    Always,
    /// About 100 ms after an event was appended; longer if the disk takes longer. A power cut loses
    /// the events since the last sync.
    #[default]
    Interval,
    /// When the operating system writes them, when a segment is full, and when the server shuts
    /// down.
    Never,
}

impl FromStr for Fsync {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "always" => Ok(Self::Always),
            "interval" => Ok(Self::Interval),
            "never" => Ok(Self::Never),
            _ => Err(ValueError::new("expected `always`, `interval` or `never`")),
        }
    }
}

impl fmt::Display for Fsync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Always => "always",
            Self::Interval => "interval",
            Self::Never => "never",
        })
    }
}
