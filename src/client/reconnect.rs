//! When to connect, when to wait and when to give up: the state machine of an event source.
//!
//! Implements what WHATWG's [processing model] says about a response's head and a lost connection,
//! with an exponential backoff. It does no I/O: time and random numbers are arguments.
//!
//! ```text
//!            due            200, text/event-stream
//! Waiting ─────────► Connecting ─────────────────► Open
//!    ▲                  │    │                      │ │
//!    └──────────────────┴────┼──────── lost ────────┘ │
//!                            └──► Closed ◄── close ───┘
//! ```
//!
//! [processing model]: https://html.spec.whatwg.org/multipage/server-sent-events.html#sse-processing-model

use std::time::{Duration, Instant};

use super::ReadyState;
use super::error::Error;

/// Redirects that one attempt to connect follows.
const MAX_REDIRECTS: u32 = 10;
/// The upper bound of the random part of the first wait. It doubles with each failure.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// The upper bound of the reconnection time, so that a wrong `retry` field does not silence a
/// client for good.
const MAX_RECONNECTION_TIME: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SourcePhase {
    Waiting { until: Instant },
    Connecting { redirects: u32 },
    Open,
    Closed,
}

/// The next action of the event source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Wait(Duration),
    Connect,
    Read,
    Stop,
}

/// The parts of a response's head that decide what follows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ResponseHead {
    pub(super) status: u16,
    pub(super) content_type: Option<String>,
    pub(super) location: Option<String>,
    /// The start of the body of an error response.
    pub(super) error_text: String,
}

/// The next step after a response that does not end the event source.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FollowUp {
    /// The body is the event stream.
    Stream,
    /// The same request must be sent to this location.
    Redirect(String),
}

#[derive(Debug)]
pub(super) struct Reconnect {
    phase: SourcePhase,
    reconnection_time: Duration,
    max_backoff: Duration,
    /// Consecutive connections, failed ones included, that brought no event.
    failures: u32,
    /// Whether the current connection brought an event.
    received_event: bool,
}

impl Reconnect {
    /// The state of an event source that connects at once.
    pub(super) fn new(now: Instant, reconnection_time: Duration, max_backoff: Duration) -> Self {
        Self {
            phase: SourcePhase::Waiting { until: now },
            reconnection_time: reconnection_time.min(MAX_RECONNECTION_TIME),
            max_backoff,
            failures: 0,
            received_event: false,
        }
    }

    /// The next action at this time.
    pub(super) fn next_action(&mut self, now: Instant) -> Action {
        match self.phase {
            SourcePhase::Waiting { until } if now < until => Action::Wait(until - now),
            SourcePhase::Waiting { .. } => {
                self.phase = SourcePhase::Connecting { redirects: 0 };
                self.received_event = false;
                Action::Connect
            }
            SourcePhase::Connecting { .. } => Action::Connect,
            SourcePhase::Open => Action::Read,
            SourcePhase::Closed => Action::Stop,
        }
    }

    /// Handles the head of a response.
    ///
    /// # Errors
    /// An error ends the event source.
    pub(super) fn on_response(&mut self, head: ResponseHead) -> Result<FollowUp, Error> {
        let accepted = self.judge(head);
        match &accepted {
            Ok(FollowUp::Stream) => self.phase = SourcePhase::Open,
            Ok(FollowUp::Redirect(_)) => {}
            Err(_) => self.close(),
        }
        accepted
    }

    fn judge(&mut self, head: ResponseHead) -> Result<FollowUp, Error> {
        match (head.status, head.location) {
            (200, _) => {
                let given = head.content_type.unwrap_or_default();
                let essence = given.split(';').next().unwrap_or_default().trim();
                if essence.eq_ignore_ascii_case("text/event-stream") {
                    return Ok(FollowUp::Stream);
                }
                Err(Error::ContentType(given))
            }
            (204, _) => Err(Error::NoContent),
            (301 | 302 | 303 | 307 | 308, Some(location)) => self.follow(location),
            (status, _) => Err(Error::Status {
                status,
                body: head.error_text,
            }),
        }
    }

    fn follow(&mut self, location: String) -> Result<FollowUp, Error> {
        let SourcePhase::Connecting { redirects } = &mut self.phase else {
            return Err(Error::Redirect("no request was sent".into()));
        };
        *redirects += 1;
        if *redirects > MAX_REDIRECTS {
            let problem = format!("more than {MAX_REDIRECTS} redirects in a row");
            return Err(Error::Redirect(problem));
        }
        Ok(FollowUp::Redirect(location))
    }

    /// Records that a complete event arrived, so that the next wait starts with the first backoff.
    pub(super) fn on_event(&mut self) {
        self.received_event = true;
    }

    /// Sets the reconnection time, after a `retry` field of the stream.
    pub(super) fn set_reconnection_time(&mut self, reconnection_time: Duration) {
        self.reconnection_time = reconnection_time.min(MAX_RECONNECTION_TIME);
    }

    /// Handles a connection that failed or ended. Returns the time to wait before the next one.
    ///
    /// The wait is the reconnection time plus a random time ("full jitter"). The bound of the
    /// random time is a second at first and doubles with each failure up to `max_backoff`. The
    /// jitter spreads the load when many clients lose a server at the same time.
    pub(super) fn on_lost(&mut self, now: Instant, random: u64) -> Duration {
        self.failures = match self.received_event {
            true => 0,
            false => self.failures + 1,
        };
        let backoff = FIRST_BACKOFF
            .saturating_mul(2_u32.saturating_pow(self.failures))
            .min(self.max_backoff);
        let wait = self.reconnection_time + backoff.mul_f64(random as f64 / u64::MAX as f64);
        self.phase = SourcePhase::Waiting { until: now + wait };
        wait
    }

    pub(super) fn close(&mut self) {
        self.phase = SourcePhase::Closed;
    }

    pub(super) fn state(&self) -> ReadyState {
        match self.phase {
            SourcePhase::Waiting { .. } | SourcePhase::Connecting { .. } => ReadyState::Connecting,
            SourcePhase::Open => ReadyState::Open,
            SourcePhase::Closed => ReadyState::Closed,
        }
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "the tests need an arbitrary instant to start from"
)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn head(status: u16, content_type: &str) -> ResponseHead {
        ResponseHead {
            status,
            content_type: (!content_type.is_empty()).then(|| content_type.into()),
            ..ResponseHead::default()
        }
    }

    fn redirect(status: u16) -> ResponseHead {
        ResponseHead {
            status,
            location: Some("/b".into()),
            ..ResponseHead::default()
        }
    }

    /// An event source that is connecting.
    fn connecting(now: Instant) -> Reconnect {
        let mut reconnect = Reconnect::new(now, 3 * SECOND, 30 * SECOND);
        assert_eq!(reconnect.next_action(now), Action::Connect);
        reconnect
    }

    #[test]
    fn each_response_opens_redirects_or_ends_the_event_source() {
        let now = Instant::now();
        let content_type = |given: &str| Err(Error::ContentType(given.into()));
        let status = |status| {
            Err(Error::Status {
                status,
                body: String::new(),
            })
        };
        let to_b = || Ok(FollowUp::Redirect("/b".into()));
        for (head, expected) in [
            (head(200, "text/event-stream"), Ok(FollowUp::Stream)),
            (
                head(200, "Text/Event-Stream ; charset=utf-8"),
                Ok(FollowUp::Stream),
            ),
            (
                head(200, "text/event-stream;charset=latin1"),
                Ok(FollowUp::Stream),
            ),
            (head(200, "text/event-stream;"), Ok(FollowUp::Stream)),
            (
                head(200, "text/event-stream; x bogus"),
                Ok(FollowUp::Stream),
            ),
            (
                head(200, "text/event-stream x"),
                content_type("text/event-stream x"),
            ),
            (head(200, ""), content_type("")),
            (head(200, "text/html"), content_type("text/html")),
            (
                head(200, "text/event-streams"),
                content_type("text/event-streams"),
            ),
            (
                head(200, "x/y; text/event-stream"),
                content_type("x/y; text/event-stream"),
            ),
            (head(204, ""), Err(Error::NoContent)),
            (head(204, "text/event-stream"), Err(Error::NoContent)),
            (head(201, "text/event-stream"), status(201)),
            (head(205, "text/event-stream"), status(205)),
            (head(304, ""), status(304)),
            (head(301, ""), status(301)),
            (head(401, ""), status(401)),
            (head(500, "text/event-stream"), status(500)),
            (head(503, "text/event-stream"), status(503)),
            (redirect(301), to_b()),
            (redirect(302), to_b()),
            (redirect(303), to_b()),
            (redirect(307), to_b()),
            (redirect(308), to_b()),
            (redirect(300), status(300)),
        ] {
            let mut reconnect = connecting(now);
            let next = match &expected {
                Ok(FollowUp::Stream) => Action::Read,
                Ok(FollowUp::Redirect(_)) => Action::Connect,
                Err(_) => Action::Stop,
            };
            assert_eq!(reconnect.on_response(head.clone()), expected, "{head:?}");
            assert_eq!(reconnect.next_action(now), next, "{head:?}");
        }
    }

    #[test]
    fn redirects_are_counted_for_each_attempt() {
        let now = Instant::now();
        let mut reconnect = connecting(now);
        for _ in 0..2 {
            for _ in 0..MAX_REDIRECTS {
                assert!(reconnect.on_response(redirect(307)).is_ok());
            }
            let wait = reconnect.on_lost(now, 0);
            assert_eq!(reconnect.next_action(now + wait), Action::Connect);
        }
        for _ in 0..MAX_REDIRECTS {
            assert!(reconnect.on_response(redirect(302)).is_ok());
        }
        assert!(matches!(
            reconnect.on_response(redirect(302)),
            Err(Error::Redirect(_))
        ));
        assert_eq!(reconnect.next_action(now), Action::Stop);
    }

    #[test]
    fn it_waits_the_reconnection_time_and_a_random_backoff_that_doubles() {
        let now = Instant::now();
        let mut reconnect = connecting(now);
        for seconds in [2, 4, 8, 16, 30, 30] {
            assert_eq!(reconnect.on_lost(now, 0), 3 * SECOND);
            reconnect.failures -= 1; // The same failure with another random number.
            assert_eq!(reconnect.on_lost(now, u64::MAX), (3 + seconds) * SECOND);
            reconnect.failures -= 1;
            let half = reconnect.on_lost(now, u64::MAX / 2).as_secs_f64();
            assert!(
                (half - 3.0 - f64::from(seconds) / 2.0).abs() < 1e-6,
                "{half}"
            );
        }
    }

    #[test]
    fn only_a_stream_with_an_event_resets_the_backoff() {
        let now = Instant::now();
        let mut reconnect = connecting(now);
        for (has_event, seconds) in [(false, 2), (false, 4), (true, 1), (true, 1), (false, 2)] {
            assert_eq!(
                reconnect.on_response(head(200, "text/event-stream")),
                Ok(FollowUp::Stream)
            );
            if has_event {
                reconnect.on_event();
            }
            let wait = reconnect.on_lost(now, u64::MAX);
            assert_eq!(wait, (3 + seconds) * SECOND);
            assert_eq!(reconnect.next_action(now + wait), Action::Connect);
        }
    }

    #[test]
    fn it_connects_after_the_wait_and_not_before() {
        let now = Instant::now();
        let mut reconnect = connecting(now);
        reconnect.set_reconnection_time(7 * SECOND);
        assert_eq!(reconnect.on_lost(now, 0), 7 * SECOND);
        assert_eq!(reconnect.next_action(now), Action::Wait(7 * SECOND));
        assert_eq!(
            reconnect.next_action(now + 6 * SECOND),
            Action::Wait(SECOND)
        );
        assert_eq!(reconnect.next_action(now + 7 * SECOND), Action::Connect);
        assert_eq!(reconnect.next_action(now), Action::Connect);
    }

    #[test]
    fn reconnection_times_and_backoff_are_limited() {
        let now = Instant::now();
        let mut reconnect = connecting(now);
        reconnect.set_reconnection_time(Duration::from_millis(u64::MAX));
        assert_eq!(reconnect.on_lost(now, 0), MAX_RECONNECTION_TIME);
        reconnect.set_reconnection_time(Duration::ZERO);
        assert_eq!(reconnect.on_lost(now, 0), Duration::ZERO);
        assert_eq!(reconnect.next_action(now), Action::Connect);
        for _ in 0..100 {
            reconnect.on_lost(now, u64::MAX);
        }
        assert_eq!(reconnect.on_lost(now, u64::MAX), 30 * SECOND);
        let mut limited = Reconnect::new(now, Duration::MAX, Duration::MAX);
        assert_eq!(limited.on_lost(now, 0), MAX_RECONNECTION_TIME);
    }

    #[test]
    fn a_closed_event_source_does_nothing() {
        let now = Instant::now();
        let mut reconnect = connecting(now);
        reconnect.close();
        assert_eq!(reconnect.next_action(now + 1000 * SECOND), Action::Stop);
    }
}
