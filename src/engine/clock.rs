//! The engine's time, which its driver sets.

use std::time::{Duration, Instant};

/// The time of the current verb, counted from the engine's start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    started: Instant,
    ms: u64,
    us: u64,
}

impl Clock {
    pub(super) fn new(started: Instant) -> Self {
        Self {
            started,
            ms: 0,
            us: 0,
        }
    }

    /// Sets the time to `now`. It never goes back.
    pub(super) fn set(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.started);
        self.ms = self.ms.max(since.as_millis() as u64);
        self.us = self.us.max(since.as_micros() as u64);
    }

    /// Milliseconds since the start.
    pub(super) fn ms(&self) -> u64 {
        self.ms
    }

    /// Microseconds since the start.
    pub(super) fn us(&self) -> u64 {
        self.us
    }

    /// The time `ms` milliseconds after the start.
    pub(super) fn instant_at(&self, ms: u64) -> Instant {
        self.started + Duration::from_millis(ms)
    }

    /// The time from the start to `now`.
    pub(super) fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can be had only from the clock"
)]
mod tests {
    use super::*;

    impl Clock {
        /// A clock that shows this time.
        pub(in crate::engine) fn at_ms(ms: u64) -> Self {
            let started = Instant::now();
            let mut clock = Self::new(started);
            clock.set(started + Duration::from_millis(ms));
            clock
        }
    }

    #[test]
    fn time_counts_from_the_start_and_never_goes_back() {
        let started = Instant::now();
        let mut clock = Clock::new(started);
        for (at_us, ms, us) in [(1_500, 1, 1_500), (900, 1, 1_500), (2_000, 2, 2_000)] {
            clock.set(started + Duration::from_micros(at_us));
            assert_eq!((clock.ms(), clock.us()), (ms, us));
        }
        assert_eq!(clock.instant_at(2), started + Duration::from_millis(2));
    }
}
