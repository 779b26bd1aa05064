//! The options of `serve`: flag, variable and key of a file from one list.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use fanfare::{Admin, Cidr, CidrError, Config, Fsync, NamespaceLimits};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

/// Declares the options once: as flag and variable for clap, as key for serde, and how two sources are merged.
macro_rules! options {
    ($($(#[$meta:meta])* $name:ident / $underscored:literal / $env:literal: $type:ty,)*) => {
        /// What was said of each option by one source, or by several merged.
        #[derive(Debug, Clone, Default, clap::Args, Deserialize)]
        #[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
        pub(crate) struct Options {$(
            $(#[$meta])*
            #[arg(long, env = $env)]
            #[serde(alias = $underscored)]
            pub(crate) $name: Option<$type>,
        )*}

        impl Options {
            /// These options, and what they leave open from others.
            pub(crate) fn or(self, others: Self) -> Self {
                Self { $($name: self.$name.or(others.$name),)* }
            }

            /// Whether the option of this name, `max-lag`, is among what was said.
            pub(crate) fn has(&self, option: &str) -> bool {
                match option.replace('-', "_").as_str() {
                    $($underscored => self.$name.is_some(),)*
                    _ => false,
                }
            }
        }
    };
}

options! {
    /// Address to listen on; port 0 takes a free one [default: 127.0.0.1:8001]
    #[arg(value_name = "HOST:PORT")]
    addr / "addr" / "FANFARE_ADDR": String,
    /// Also publish the time to /time each second, and pets to /pets
    #[arg(num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    demo / "demo" / "FANFARE_DEMO": bool,
    /// What publishers must show as `Authorization: Bearer TOKEN`; without one, publishing is open on a loopback address and closed on any other
    #[arg(hide_env_values = true, value_name = "TOKEN")]
    publish_token / "publish_token" / "FANFARE_PUBLISH_TOKEN": String,
    /// Where the status page and the metrics are: with all else, nowhere, or alone at an address [default: on]
    #[arg(value_name = "on|off|HOST:PORT")]
    admin / "admin" / "FANFARE_ADMIN": AdminAt,
    /// What the status page and the metrics ask for; without one, they are open on a loopback address and closed on any other
    #[arg(hide_env_values = true, value_name = "TOKEN")]
    admin_token / "admin_token" / "FANFARE_ADMIN_TOKEN": String,
    /// Tell addresses of clients without their last part, in the status and in logs
    #[arg(num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    mask_addresses / "mask_addresses" / "FANFARE_MASK_ADDRESSES": bool,
    /// Proxies, separated by commas, that are believed about whom a connection is from: 10.0.0.0/8 [default: none]
    #[arg(value_name = "NETWORKS", value_delimiter = ',')]
    #[serde(deserialize_with = "one_or_more")]
    trusted_proxies / "trusted_proxies" / "FANFARE_TRUSTED_PROXIES": Vec<Proxy>,
    /// Silence on a stream before a comment is sent; 0 turns it off [default: 15s]
    #[arg(value_name = "DURATION")]
    keepalive / "keepalive" / "FANFARE_KEEPALIVE": Span,
    /// Text of that comment, one line [default: none]
    #[arg(value_name = "TEXT")]
    keepalive_text / "keepalive_text" / "FANFARE_KEEPALIVE_TEXT": String,
    /// Reconnection time that a stream begins with, ±50 % at random; 0 leaves it out [default: 3s]
    #[arg(value_name = "DURATION")]
    retry / "retry" / "FANFARE_RETRY": Span,
    /// Bytes of its events a subscriber may lack before it is disconnected; there is always room for the largest event [default: 1MiB]
    #[arg(value_name = "SIZE")]
    max_lag / "max_lag" / "FANFARE_MAX_LAG": Size,
    /// How long a socket may take nothing while it has something to take [default: 30s]
    #[arg(value_name = "DURATION")]
    write_timeout / "write_timeout" / "FANFARE_WRITE_TIMEOUT": Span,
    /// How long a request's head may take to arrive [default: 10s]
    #[arg(value_name = "DURATION")]
    head_timeout / "head_timeout" / "FANFARE_HEAD_TIMEOUT": Span,
    /// Connections at once [default: the descriptor limit less 256]
    #[arg(value_name = "COUNT")]
    max_connections / "max_connections" / "FANFARE_MAX_CONNECTIONS": usize,
    /// Namespaces in use at once, those above them included [default: 1000000]
    #[arg(value_name = "COUNT")]
    max_namespaces / "max_namespaces" / "FANFARE_MAX_NAMESPACES": usize,
    /// Segments of a namespace [default: 16]
    #[arg(value_name = "COUNT")]
    namespace_segments / "namespace_segments" / "FANFARE_NAMESPACE_SEGMENTS": usize,
    /// Bytes of one segment of a namespace [default: 128]
    #[arg(value_name = "SIZE")]
    namespace_segment_bytes / "namespace_segment_bytes" / "FANFARE_NAMESPACE_SEGMENT_BYTES": Size,
    /// Bytes of a namespace [default: 1024]
    #[arg(value_name = "SIZE")]
    namespace_bytes / "namespace_bytes" / "FANFARE_NAMESPACE_BYTES": Size,
    /// Bytes of data in one event [default: 1MiB]
    #[arg(value_name = "SIZE")]
    max_event / "max_event" / "FANFARE_MAX_EVENT": Size,
    /// Events that may wait between publishers and the event loop [default: 16384]
    #[arg(value_name = "COUNT")]
    queue / "queue" / "FANFARE_QUEUE": usize,
    /// Bytes of events that may wait there; there is always room for one [default: 1MiB]
    #[arg(value_name = "SIZE")]
    queue_bytes / "queue_bytes" / "FANFARE_QUEUE_BYTES": Size,
    /// Send buffer of a connection in the kernel; 0 leaves it to the kernel [default: 64KiB]
    #[arg(value_name = "SIZE")]
    send_buffer / "send_buffer" / "FANFARE_SEND_BUFFER": Size,
    /// Bytes of events that gather for a namespace before they are written while publishers keep on [default: 16KiB]
    #[arg(value_name = "SIZE")]
    write_budget / "write_budget" / "FANFARE_WRITE_BUDGET": Size,
    /// Least time between two writes to a namespace's subscribers [default: 0]
    #[arg(value_name = "DURATION")]
    coalesce / "coalesce" / "FANFARE_COALESCE": Span,
    /// Events that each namespace retains for those who come back; 0 turns history off [default: 1000]
    #[arg(value_name = "COUNT")]
    history_events / "history_events" / "FANFARE_HISTORY_EVENTS": usize,
    /// How long they are retained; 0 turns history off [default: 5m]
    #[arg(value_name = "DURATION")]
    history_age / "history_age" / "FANFARE_HISTORY_AGE": Span,
    /// Bytes of them that each namespace retains; 0 turns history off [default: 4MiB]
    #[arg(value_name = "SIZE")]
    history_bytes / "history_bytes" / "FANFARE_HISTORY_BYTES": Size,
    /// Memory of all retained events together; the largest log gives way first, 0 turns history off [default: 256MiB]
    #[arg(value_name = "SIZE")]
    history_total / "history_total" / "FANFARE_HISTORY_TOTAL": Size,
    /// Folder that keeps events beyond the end of the process [default: none]
    #[arg(value_name = "DIR")]
    data_dir / "data_dir" / "FANFARE_DATA_DIR": PathBuf,
    /// When what is in it is made to survive a power cut: before it is delivered, within 100 ms, or as the system likes [default: interval]
    #[arg(value_name = "WHEN")]
    fsync / "fsync" / "FANFARE_FSYNC": Sync,
    /// Type of the event that tells a stream what is missing before it; empty, there is none [default: gap]
    #[arg(value_name = "TYPE")]
    gap_event / "gap_event" / "FANFARE_GAP_EVENT": String,
    /// Origins whose pages may read streams, separated by commas; * is any [default: *]
    #[arg(value_name = "ORIGINS", value_delimiter = ',')]
    #[serde(deserialize_with = "one_or_more")]
    cors_origins / "cors_origins" / "FANFARE_CORS_ORIGINS": Vec<String>,
    /// A header of a stream's head, added or in place of the usual one; may be repeated. In the variable one a line, in a file a map
    #[arg(value_name = "NAME: VALUE", value_delimiter = '\n')]
    #[serde(deserialize_with = "header_map")]
    headers / "headers" / "FANFARE_HEADERS": Vec<Header>,
    /// How long a drain may take [default: 10s]
    #[arg(value_name = "DURATION")]
    drain / "drain" / "FANFARE_DRAIN": Span,
    /// How logs are written to standard error [default: text]
    #[arg(value_name = "FORMAT")]
    log_format / "log_format" / "FANFARE_LOG_FORMAT": LogFormat,
    /// What is logged [default: info]
    #[arg(value_name = "LEVEL")]
    log_level / "log_level" / "FANFARE_LOG_LEVEL": LogLevel,
}

impl Options {
    /// The server's configuration with these options, not yet checked.
    pub(crate) fn config(&self) -> Config {
        fn set<T: Clone>(place: &mut T, value: Option<&T>) {
            if let Some(value) = value {
                place.clone_from(value);
            }
        }
        let span = |value: &Option<Span>| value.as_ref().map(|span| span.0);
        let size = |value: &Option<Size>| value.as_ref().map(|size| size.0);
        let mut config = Config::default();
        set(&mut config.keepalive, span(&self.keepalive).as_ref());
        set(&mut config.keepalive_text, self.keepalive_text.as_ref());
        set(&mut config.retry, span(&self.retry).as_ref());
        set(&mut config.max_lag, size(&self.max_lag).as_ref());
        set(
            &mut config.write_timeout,
            span(&self.write_timeout).as_ref(),
        );
        set(&mut config.head_timeout, span(&self.head_timeout).as_ref());
        config.max_connections = self.max_connections;
        set(&mut config.max_namespaces, self.max_namespaces.as_ref());
        let NamespaceLimits {
            segments,
            segment_bytes,
            path_bytes,
        } = &mut config.namespace_limits;
        set(segments, self.namespace_segments.as_ref());
        set(segment_bytes, size(&self.namespace_segment_bytes).as_ref());
        set(path_bytes, size(&self.namespace_bytes).as_ref());
        set(&mut config.max_event, size(&self.max_event).as_ref());
        set(&mut config.queue, self.queue.as_ref());
        set(&mut config.queue_bytes, size(&self.queue_bytes).as_ref());
        set(&mut config.send_buffer, size(&self.send_buffer).as_ref());
        set(&mut config.write_budget, size(&self.write_budget).as_ref());
        set(&mut config.coalesce, span(&self.coalesce).as_ref());
        set(&mut config.history_events, self.history_events.as_ref());
        set(&mut config.history_age, span(&self.history_age).as_ref());
        set(
            &mut config.history_bytes,
            size(&self.history_bytes).as_ref(),
        );
        set(&mut config.gap_event, self.gap_event.as_ref());
        config.data_dir.clone_from(&self.data_dir);
        if let Some(sync) = self.fsync {
            config.fsync = match sync {
                Sync::Always => Fsync::Always,
                Sync::Interval => Fsync::Interval,
                Sync::Never => Fsync::Never,
            };
        }
        set(
            &mut config.history_total,
            size(&self.history_total).as_ref(),
        );
        if let Some(origins) = &self.cors_origins {
            let origins = origins.iter().map(|origin| origin.trim().into());
            config.cors_origins = origins.collect();
        }
        let headers = self.headers.iter().flatten();
        config.headers = headers
            .map(|Header(name, value)| (name.clone(), value.clone()))
            .collect();
        set(&mut config.drain, span(&self.drain).as_ref());
        config.publish_token.clone_from(&self.publish_token);
        set(&mut config.admin, self.admin.map(|admin| admin.0).as_ref());
        config.admin_token.clone_from(&self.admin_token);
        set(&mut config.mask_addresses, self.mask_addresses.as_ref());
        let proxies = self.trusted_proxies.iter().flatten();
        config.trusted_proxies = proxies.map(|proxy| proxy.0).collect();
        config
    }
}

/// Reads a YAML or TOML file.
///
/// # Errors
/// One line that names the file, the place in it, and what is wrong there.
pub(crate) fn read_file(path: &Path) -> Result<Options, String> {
    let name = path.display();
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("cannot read {name}: {error}"))?;
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => toml::from_str(&text).map_err(|error| {
            let line = error
                .span()
                .map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            format!("{name}:{}", at_line(line, &text, error.message()))
        }),
        // An empty YAML document is null, and says nothing of any option.
        Some("yaml" | "yml") => serde_saphyr::from_str::<Option<Options>>(&text)
            .map(Option::unwrap_or_default)
            .map_err(|error| {
                let line = error.location().map_or(1, |location| location.line());
                let line = usize::try_from(line).unwrap_or(1);
                let message = error.without_snippet().to_string();
                format!("{name}:{}", at_line(line, &text, &message))
            }),
        _ => Err(format!(
            "{name}: a configuration file ends in .yaml, .yml or .toml"
        )),
    }
}

/// The line, the key in it, and what a parser says of it: `3: max-lag: …`.
fn at_line(line: usize, text: &str, message: &str) -> String {
    let message = in_short(message);
    let source = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let is_key = |key: &&str| {
        !key.is_empty()
            && key
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b"-_".contains(&b))
    };
    let key = source.split_once([':', '=']).map(|(key, _)| key.trim());
    match key.filter(is_key) {
        Some(key) if !message.contains(&format!("`{key}`")) => format!("{line}: {key}: {message}"),
        _ => format!("{line}: {message}"),
    }
}

/// What a parser says, without the place, which is given already, and without the list of all keys there are.
fn in_short(message: &str) -> &str {
    let line = message.lines().next().unwrap_or_default();
    let line = line.rfind(" at line ").map_or(line, |at| &line[..at]);
    if line.starts_with("unknown field") {
        line.split(", expected").next().unwrap_or_default()
    } else {
        line
    }
}

/// A duration: `500ms`, `15s`, `5m`, `1h`, or `0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split_unit(text)?;
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "" if number == 0 => 1,
            "" => {
                return Err(format!(
                    "a duration needs a unit: {number}ms, {number}s, {number}m or {number}h"
                ));
            }
            _ => {
                return Err(format!(
                    "`{}` is no unit of time: ms, s, m, h",
                    unit.escape_debug()
                ));
            }
        };
        let ms = number
            .checked_mul(unit_ms)
            .ok_or("the duration is too long")?;
        Ok(Self(Duration::from_millis(ms)))
    }
}

/// A size: `64KiB`, `1MiB`, `1GiB`, or a number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) usize);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split_unit(text)?;
        let unit_bytes = match unit {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => {
                return Err(format!(
                    "`{}` is no unit of size: B, KiB, MiB, GiB",
                    unit.escape_debug()
                ));
            }
        };
        let bytes = number
            .checked_mul(unit_bytes)
            .and_then(|bytes| usize::try_from(bytes).ok());
        Ok(Self(bytes.ok_or("the size is too large")?))
    }
}

fn split_unit(text: &str) -> Result<(u64, &str), String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number = text[..digits]
        .parse()
        .map_err(|_| format!("`{}` does not begin with a number", text.escape_debug()))?;
    Ok((number, text[digits..].trim_start()))
}

/// Where the status page is: `on`, `off`, or an address, by name or number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AdminAt(pub(crate) Admin);

impl FromStr for AdminAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = |problem: &'static str| {
            let address = text.to_socket_addrs().ok().and_then(|mut all| all.next());
            address.map(Admin::At).ok_or_else(|| problem.to_string())
        };
        text.parse().or_else(named).map(Self)
    }
}

/// A network of proxies, such as `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Proxy(pub(crate) Cidr);

impl FromStr for Proxy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let network = text.trim().parse();
        network
            .map(Self)
            .map_err(|error: CidrError| error.to_string())
    }
}

/// A header, written `Name: value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header(String, String);

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once(':')
            .ok_or("a header is written `Name: value`")?;
        Ok(Self(name.trim().into(), value.trim().into()))
    }
}

/// When files are made to survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Sync {
    /// Before an event is delivered, and its publisher told
    Always,
    /// At the latest 100 ms later
    Interval,
    /// As the system likes, and at a clean end
    Never,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// A line of text each
    Text,
    /// A JSON object each
    Json,
}

/// What is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    /// Nothing
    Off,
    /// What failed
    Error,
    /// And what an operator should know
    Warn,
    /// And the end of each event stream
    Info,
    /// And every other connection
    Debug,
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written {
            form: "a duration such as 15s",
            of: PhantomData,
        })
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written {
            form: "a size such as 64KiB",
            of: PhantomData,
        })
    }
}

impl<'de> Deserialize<'de> for AdminAt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written {
            form: "on, off or an address",
            of: PhantomData,
        })
    }
}

impl<'de> Deserialize<'de> for Proxy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written {
            form: "a network such as 10.0.0.0/8",
            of: PhantomData,
        })
    }
}

/// Reads from a file what is written there as on the command line, or as a bare number.
struct Written<T> {
    form: &'static str,
    of: PhantomData<T>,
}

impl<T: FromStr<Err = String>> Visitor<'_> for Written<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.form)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_bool<E: Error>(self, on: bool) -> Result<T, E> {
        self.visit_str(if on { "on" } else { "off" })
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        let number = u64::try_from(number)
            .map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))?;
        self.visit_u64(number)
    }
}

/// In a file, several values are a list; one may stand alone.
fn one_or_more<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a text or a list of texts")]
    enum OneOrMore<T> {
        One(T),
        More(Vec<T>),
    }
    Ok(Some(match OneOrMore::deserialize(deserializer)? {
        OneOrMore::One(one) => vec![one],
        OneOrMore::More(more) => more,
    }))
}

fn header_map<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Header>>, D::Error> {
    let map = BTreeMap::<String, String>::deserialize(deserializer)?;
    Ok(Some(
        map.into_iter()
            .map(|(name, value)| Header(name, value))
            .collect(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_read_as_written() {
        for (text, ms) in [
            ("500ms", 500),
            ("15s", 15_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("0", 0),
            ("2 s", 2_000),
        ] {
            assert_eq!(text.parse(), Ok(Span(Duration::from_millis(ms))), "{text}");
        }
        for (text, bytes) in [
            ("0", 0),
            ("100", 100),
            ("7B", 7),
            ("64KiB", 65_536),
            ("1MiB", 1 << 20),
            ("2GiB", 2 << 30),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in [
            "",
            "15",
            "s",
            "-1s",
            "1.5s",
            "15 seconds",
            "99999999999999999999s",
            "9999999999999999999h",
        ] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        for text in ["", "KiB", "64KB", "64k", "-1", "99999999999GiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
