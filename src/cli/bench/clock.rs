//! The clock of a load.

use std::time::{Duration, Instant};

/// The time since the load started. All threads of a load share one clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct LoadClock(Instant);

#[expect(
    clippy::disallowed_methods,
    reason = "the threads of a load measure time themselves"
)]
impl LoadClock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(self) -> Duration {
        Instant::now() - self.0
    }

    pub(super) fn now_us(self) -> u64 {
        self.now().as_micros() as u64
    }
}
