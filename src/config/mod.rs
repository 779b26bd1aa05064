//! What a server can be told: every option with its default, its unit and its limits, checked together at the start.

use std::fmt;
#[cfg(feature = "disk")]
use std::path::PathBuf;
use std::time::Duration;

use core::net::SocketAddr;

use crate::cidr::Cidr;
use crate::event::{EventLimits, MAX_FIELD_BYTES, max_frame_bytes};
use crate::http::header::check_header;
use crate::namespace::NamespaceLimits;
#[cfg(feature = "disk")]
use crate::store::Fsync;

/// Every option of a server; the [`Builder`](crate::Builder) sets them by the same names.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// A stream on which nothing was written for this long gets a comment; zero turns it off. 15 s by default.
    pub keepalive: Duration,
    /// The text of that comment, one line; empty by default.
    pub keepalive_text: String,
    /// The reconnection time that a stream begins with, ±50 % at random for each; zero leaves it out. 3 s by default.
    pub retry: Duration,
    /// Bytes of its events that a subscriber may lack before it is disconnected; there is always room for the largest event. 1 MiB by default.
    pub max_lag: usize,
    /// A connection that takes nothing for this long while it has something to take is disconnected. 30 s by default.
    pub write_timeout: Duration,
    /// A request's head must be complete in this time. 10 s by default.
    pub head_timeout: Duration,
    /// Connections at once; `None`, the default, is the descriptor limit less a reserve.
    pub max_connections: Option<usize>,
    /// Namespaces in use at once, those above them included. 1,000,000 by default.
    pub max_namespaces: usize,
    /// What a namespace's path is held to.
    pub namespace_limits: NamespaceLimits,
    /// Bytes of data in one event. 1 MiB by default.
    pub max_event: usize,
    /// Events that may wait between publishers and the event loop. 16,384 by default.
    pub queue: usize,
    /// Bytes of events that may wait there; there is always room for one event. Publishers that can wait put in less under load, see
    /// [`Publisher`](crate::Publisher). 1 MiB by default.
    pub queue_bytes: usize,
    /// Bytes of the kernel's send buffer of a connection (`SO_SNDBUF`); zero leaves it to the kernel. 64 KiB by default.
    pub send_buffer: usize,
    /// Bytes of events that gather for a namespace before its subscribers are written to, while publishers keep on. More is faster and later. 16 KiB by default.
    pub write_budget: usize,
    /// The least time between two writes to the subscribers of a namespace: fewer, larger writes. Zero by default.
    pub coalesce: Duration,
    /// Events that each namespace retains for those who come back; zero turns history off. 1,000 by default.
    pub history_events: usize,
    /// How long they are retained, and up to a sixty-fourth of that longer; zero turns history off. 5 min by default.
    pub history_age: Duration,
    /// Bytes of them that each namespace retains; zero turns history off. 4 MiB by default.
    pub history_bytes: usize,
    /// Bytes of memory that all retained events may take together, what slow subscribers still need included; the largest log gives way first.
    /// Zero turns history off, and leaves 256 MiB, the default, to what subscribers need.
    pub history_total: usize,
    /// The type of the event that tells a stream of events missing before it; empty, there is none. `gap` by default.
    pub gap_event: String,
    /// The folder that keeps events beyond the end of the process; made if it is not there. Without one, the default, they end with it.
    #[cfg(feature = "disk")]
    pub data_dir: Option<PathBuf>,
    /// When what is in that folder is made to survive a power cut. At the latest 100 ms later by default.
    #[cfg(feature = "disk")]
    pub fsync: Fsync,
    /// Origins that may read streams from a browser; `*`, the default, is any.
    pub cors_origins: Vec<String>,
    /// Headers of a stream's head, added or in place of the usual ones.
    pub headers: Vec<(String, String)>,
    /// How long a drain may take. 10 s by default.
    pub drain: Duration,
    /// What publishers must show as `Authorization: Bearer …`; without one, publishing over HTTP is open on a loopback address and closed on any other.
    pub publish_token: Option<String>,
    /// Proxies that are believed when they say, in `Forwarded`, `X-Forwarded-For` or `X-Real-IP`, whom a connection is from. None by default.
    pub trusted_proxies: Vec<Cidr>,
    /// Addresses of clients are told without their last part, wherever they are told: in status, logs and hooks. Off by default.
    pub mask_addresses: bool,
    /// Where the status page and the metrics are served. [`Admin::On`] by default.
    #[cfg(feature = "admin")]
    pub admin: Admin,
    /// What the status page and the metrics ask for; without it they are open on a loopback address and closed on any other.
    #[cfg(feature = "admin")]
    pub admin_token: Option<String>,
}

/// Where the status page and the metrics are served.
#[cfg(feature = "admin")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Admin {
    /// With everything else.
    #[default]
    On,
    /// Nowhere: whoever asks is told so.
    Off,
    /// On this address, where nothing else is served, and not with everything else.
    At(SocketAddr),
}

#[cfg(feature = "admin")]
impl std::str::FromStr for Admin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            address => address
                .parse()
                .map(Self::At)
                .map_err(|_| "neither `on` nor `off` nor an address such as 127.0.0.1:9001"),
        }
    }
}

/// Who may publish over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishAccess {
    /// Whoever shows the token.
    Token,
    /// Whoever reaches the server, which is bound to a loopback address.
    Open,
    /// Nobody: there is no token, and the server is bound to an address that others can reach.
    Closed,
}

/// Who may see the status and the metrics, and disconnect.
#[cfg(feature = "admin")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminAccess {
    /// Whoever shows the token.
    Token,
    /// Whoever reaches the server, which is bound to a loopback address.
    Open,
    /// Nobody: there is no token, and the server is bound to an address that others can reach.
    Closed,
    /// Nobody: it is turned off.
    Off,
}

/// What requests are checked against.
#[derive(Debug, Clone, Copy)]
pub struct Access {
    /// Who may publish.
    pub publish: PublishAccess,
    /// Every address that the server is bound to is a loopback address.
    pub loopback: bool,
}

/// Bytes that all retained events may take together, by default.
const HISTORY_TOTAL: usize = 256 << 20;

impl Default for Config {
    fn default() -> Self {
        Self {
            keepalive: Duration::from_secs(15),
            keepalive_text: String::new(),
            retry: Duration::from_secs(3),
            max_lag: 1 << 20,
            write_timeout: Duration::from_secs(30),
            head_timeout: Duration::from_secs(10),
            max_connections: None,
            max_namespaces: 1_000_000,
            namespace_limits: NamespaceLimits::default(),
            max_event: 1 << 20,
            queue: 16_384,
            queue_bytes: 1 << 20,
            send_buffer: 64 << 10,
            write_budget: 16 << 10,
            coalesce: Duration::ZERO,
            history_events: 1000,
            history_age: Duration::from_secs(300),
            history_bytes: 4 << 20,
            history_total: HISTORY_TOTAL,
            gap_event: "gap".into(),
            #[cfg(feature = "disk")]
            data_dir: None,
            #[cfg(feature = "disk")]
            fsync: Fsync::default(),
            cors_origins: vec!["*".into()],
            headers: Vec::new(),
            drain: Duration::from_secs(10),
            publish_token: None,
            trusted_proxies: Vec::new(),
            mask_addresses: false,
            #[cfg(feature = "admin")]
            admin: Admin::On,
            #[cfg(feature = "admin")]
            admin_token: None,
        }
    }
}

/// An option that may not be as it is, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The option's name as on the command line, without dashes in front: `max-lag`.
    pub option: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.option, self.problem)
    }
}

impl std::error::Error for ConfigError {}

/// Numbers of which each has its least and its most sensible value.
type Bound = (&'static str, u128, u128, u128);

impl Config {
    /// Checks every option, and them against each other.
    ///
    /// # Errors
    /// The first option that may not be as it is, by name.
    pub fn check(&self) -> Result<(), ConfigError> {
        let day_ms = 86_400_000;
        let namespace = &self.namespace_limits;
        let bounds: [Bound; 23] = [
            ("keepalive", self.keepalive.as_millis(), 0, day_ms),
            ("retry", self.retry.as_millis(), 0, day_ms),
            ("max-lag", self.max_lag as u128, 1, 1 << 40),
            ("write-timeout", self.write_timeout.as_millis(), 1, day_ms),
            ("head-timeout", self.head_timeout.as_millis(), 1, day_ms),
            (
                "max-connections",
                self.max_connections.unwrap_or(1) as u128,
                1,
                1 << 28,
            ),
            ("max-namespaces", self.max_namespaces as u128, 1, 1 << 30),
            ("namespace-segments", namespace.segments as u128, 1, 256),
            (
                "namespace-segment-bytes",
                namespace.segment_bytes as u128,
                1,
                4096,
            ),
            ("namespace-bytes", namespace.path_bytes as u128, 1, 4096),
            ("max-event", self.max_event as u128, 1, 1 << 30),
            ("queue", self.queue as u128, 1, 1 << 24),
            ("queue-bytes", self.queue_bytes as u128, 1, 1 << 40),
            ("send-buffer", self.send_buffer as u128, 0, 1 << 30),
            ("write-budget", self.write_budget as u128, 1, 1 << 30),
            ("coalesce", self.coalesce.as_millis(), 0, 60_000),
            ("history-events", self.history_events as u128, 0, 1 << 32),
            (
                "history-age",
                self.history_age.as_millis(),
                0,
                3650 * day_ms,
            ),
            ("history-bytes", self.history_bytes as u128, 0, 1 << 44),
            ("history-total", self.history_total as u128, 0, 1 << 44),
            ("drain", self.drain.as_millis(), 0, day_ms),
            // Two that guard against a unit left out: 15 where 15s was meant.
            (
                "keepalive",
                if self.keepalive.is_zero() {
                    1
                } else {
                    self.keepalive.as_millis()
                },
                1,
                day_ms,
            ),
            ("coalesce", self.coalesce.as_nanos() % 1_000_000, 0, 0),
        ];
        for (option, value, least, most) in bounds {
            if !(least..=most).contains(&value) {
                return Err(ConfigError {
                    option,
                    problem: format!("{value} is not between {least} and {most}"),
                });
            }
        }
        if self.memory_limit() < self.lag_limit() {
            return Err(ConfigError {
                option: "history-total",
                problem: format!(
                    "must have room for one subscriber's lag, {} bytes",
                    self.lag_limit()
                ),
            });
        }
        self.check_texts()
    }

    fn check_texts(&self) -> Result<(), ConfigError> {
        let fail = |option, problem| Err(ConfigError { option, problem });
        if self.keepalive_text.contains(['\r', '\n']) {
            return fail("keepalive-text", "must be one line".into());
        }
        if self.gap_event.contains(['\r', '\n', '\0']) || self.gap_event.len() > MAX_FIELD_BYTES {
            return fail(
                "gap-event",
                format!("must be at most {MAX_FIELD_BYTES} bytes without CR, LF and NUL"),
            );
        }
        for origin in &self.cors_origins {
            if !is_origin(origin) {
                return fail(
                    "cors-origins",
                    format!(
                        "`{}` is no origin such as https://example.org",
                        origin.escape_debug()
                    ),
                );
            }
        }
        if self.cors_origins.len() > 1 && self.cors_origins.iter().any(|origin| origin == "*") {
            return fail(
                "cors-origins",
                "`*` stands for all origins and so must stand alone".into(),
            );
        }
        for (name, value) in &self.headers {
            if let Err(problem) = check_header(name, value) {
                return fail("headers", format!("`{}` {problem}", name.escape_debug()));
            }
        }
        #[cfg(feature = "disk")]
        if self.data_dir.is_some() && !self.keeps_history() {
            return fail("data-dir", "keeps nothing, as history is turned off".into());
        }
        let tokens = [
            ("publish-token", &self.publish_token),
            #[cfg(feature = "admin")]
            ("admin-token", &self.admin_token),
        ];
        for (option, token) in tokens {
            let may_be = |token: &String| {
                !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())
            };
            if !token.as_ref().is_none_or(may_be) {
                return fail(
                    option,
                    "must be one or more visible ASCII characters".into(),
                );
            }
        }
        Ok(())
    }

    /// Whether events are retained for those who come back.
    pub(crate) fn keeps_history(&self) -> bool {
        let bounds = [self.history_events, self.history_bytes, self.history_total];
        !self.history_age.is_zero() && bounds.iter().all(|&bound| bound > 0)
    }

    /// Bytes of memory that all logs may take together.
    pub(crate) fn memory_limit(&self) -> usize {
        match self.history_total {
            0 => HISTORY_TOTAL.max(self.lag_limit()),
            total => total,
        }
    }

    /// What an event is held to.
    pub(crate) fn event_limits(&self) -> EventLimits {
        EventLimits {
            max_event: self.max_event,
            namespace: self.namespace_limits,
        }
    }

    /// Who may publish over HTTP on a server that is bound to an address.
    pub fn publish_access(&self, bound: &SocketAddr) -> PublishAccess {
        self.access(std::slice::from_ref(bound)).publish
    }

    /// Who may see the status and the metrics of a server that is bound to an address, or that serves them on one of their own.
    #[cfg(feature = "admin")]
    pub fn admin_access(&self, bound: &SocketAddr) -> AdminAccess {
        let bound = match &self.admin {
            Admin::Off => return AdminAccess::Off,
            Admin::On => bound,
            Admin::At(own) => own,
        };
        match &self.admin_token {
            Some(_) => AdminAccess::Token,
            None if is_loopback(bound) => AdminAccess::Open,
            None => AdminAccess::Closed,
        }
    }

    /// What requests are checked against on a server that is bound to these addresses.
    pub(crate) fn access(&self, bound: &[SocketAddr]) -> Access {
        let loopback = bound.iter().all(is_loopback);
        let publish = match (&self.publish_token, loopback) {
            (Some(_), _) => PublishAccess::Token,
            (None, true) => PublishAccess::Open,
            (None, false) => PublishAccess::Closed,
        };
        Access { publish, loopback }
    }

    /// `max_lag`, with room for the largest frame, not the largest data, and for what may have gathered before it: else
    /// those who take all they are given would be cut for what they were not yet given.
    pub(crate) fn lag_limit(&self) -> usize {
        let least = max_frame_bytes(self.max_event).saturating_add(self.write_budget);
        self.max_lag.max(least)
    }
}

fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

fn is_origin(origin: &str) -> bool {
    let Some((scheme, host)) = origin.split_once("://") else {
        return origin == "*";
    };
    let is_scheme = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
    let is_host = |b: u8| b.is_ascii_graphic() && !b"/?#,@".contains(&b);
    !scheme.is_empty()
        && scheme.bytes().all(is_scheme)
        && !host.is_empty()
        && host.bytes().all(is_host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_out_of_bounds_is_named() {
        type Change = (&'static str, fn(&mut Config));
        let changes: [Change; 18] = [
            ("max-lag", |c| c.max_lag = 0),
            ("write-timeout", |c| c.write_timeout = Duration::ZERO),
            ("head-timeout", |c| {
                c.head_timeout = Duration::from_micros(1)
            }),
            ("max-connections", |c| c.max_connections = Some(0)),
            ("max-namespaces", |c| c.max_namespaces = 0),
            ("namespace-segments", |c| c.namespace_limits.segments = 257),
            ("keepalive", |c| c.keepalive = Duration::from_micros(3)),
            ("coalesce", |c| c.coalesce = Duration::from_micros(3)),
            ("history-total", |c| c.history_total = 1 << 20),
            ("keepalive-text", |c| c.keepalive_text = "a\nb".into()),
            ("cors-origins", |c| {
                c.cors_origins = vec!["example.org".into()]
            }),
            ("cors-origins", |c| {
                c.cors_origins = vec![" https://a".into()]
            }),
            ("cors-origins", |c| {
                c.cors_origins = vec!["https://a/".into()]
            }),
            ("cors-origins", |c| {
                c.cors_origins = vec!["*".into(), "https://a".into()]
            }),
            ("headers", |c| {
                c.headers = vec![("Content-Length".into(), "3".into())]
            }),
            ("headers", |c| {
                c.headers = vec![("X-A".into(), "a\r\nb".into())]
            }),
            ("headers", |c| c.headers = vec![("X A".into(), "b".into())]),
            ("publish-token", |c| c.publish_token = Some(String::new())),
        ];
        assert_eq!(Config::default().check(), Ok(()));
        for (option, change) in changes {
            let mut config = Config::default();
            change(&mut config);
            assert_eq!(config.check().unwrap_err().option, option);
        }
    }
}
