//! The values of options that have a text form of their own: durations, sizes, and where the status
//! page is.

#[cfg(feature = "admin")]
use core::net::SocketAddr;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A text that is not a value of the expected type. Its message says what is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueError(String);

impl ValueError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ValueError {}

/// A duration as options are written: `500ms`, `15s`, `5m`, `1h`, or `0`.
///
/// ```
/// use fanfare::config::Span;
///
/// let span: Span = "300s".parse()?;
/// assert_eq!((span.0.as_secs(), span.to_string()), (300, "5m".to_string()));
/// # Ok::<(), fanfare::config::ValueError>(())
/// ```
///
/// A part of a millisecond cannot be parsed. It is displayed as [`Duration`] does in its `Debug`
/// form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (number, unit) = split_unit(text, "a duration such as 500ms, 15s, 5m or 1h")?;
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "" if number == 0 => 1,
            "" => {
                let n = number;
                let message = format!("a duration needs a unit: {n}ms, {n}s, {n}m or {n}h");
                return Err(ValueError(message));
            }
            _ => return Err(unknown_unit("time", unit, "ms, s, m or h")),
        };
        let ms = number.checked_mul(unit_ms);
        let ms = ms.ok_or_else(|| ValueError::new("the duration is too long"))?;
        Ok(Self(Duration::from_millis(ms)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        if !self.0.subsec_nanos().is_multiple_of(1_000_000) {
            return write!(f, "{:?}", self.0);
        }
        let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
        write_in_units(f, ms, &units)
    }
}

/// A number of bytes as options are written: `64KiB`, `1MiB`, `1GiB`, `100B`, or `100`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub usize);

impl ByteSize {
    /// The bytes that a text stands for, on 32-bit machines too.
    pub(super) fn parse_u64(text: &str) -> Result<u64, ValueError> {
        let (number, unit) = split_unit(text, "a size such as 100B, 64KiB, 1MiB or 1GiB")?;
        let unit_bytes = match unit {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(unknown_unit("size", unit, "B, KiB, MiB or GiB")),
        };
        let bytes = number.checked_mul(unit_bytes);
        bytes.ok_or_else(|| ValueError::new("the size is too large"))
    }
}

impl FromStr for ByteSize {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let bytes = usize::try_from(Self::parse_u64(text)?);
        bytes
            .map(Self)
            .map_err(|_| ValueError::new("the size is too large"))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [
            (1 << 30, "GiB"),
            (1 << 20, "MiB"),
            (1 << 10, "KiB"),
            (1, "B"),
        ];
        write_in_units(f, self.0 as u128, &units)
    }
}

/// Splits `15s` into 15 and `s`. The error for a text without a number says what was `expected`.
fn split_unit<'a>(text: &'a str, expected: &str) -> Result<(u64, &'a str), ValueError> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    match number.parse() {
        Ok(number) => Ok((number, unit.trim_start())),
        Err(_) if number.is_empty() => Err(ValueError(format!("expected {expected}"))),
        Err(_) => Err(ValueError::new("the number is too large")),
    }
}

fn unknown_unit(of: &str, unit: &str, known: &str) -> ValueError {
    let unit = unit.escape_debug();
    ValueError(format!("unknown {of} unit `{unit}`: use {known}"))
}

/// Writes a number in the largest unit of which it is a multiple.
fn write_in_units(f: &mut fmt::Formatter<'_>, number: u128, units: &[(u128, &str)]) -> fmt::Result {
    let is_multiple = |(size, _): &&(u128, &str)| number.is_multiple_of(*size);
    match units.iter().find(is_multiple) {
        Some((size, unit)) if number > 0 => write!(f, "{}{unit}", number / size),
        _ => write!(f, "0"),
    }
}

/// Where the status page and the metrics are served.
#[cfg(feature = "admin")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Admin {
    /// On every address of the server, like everything else. Written `on`.
    #[default]
    On,
    /// Nowhere: requests for them are answered with an error that says so. Written `off`.
    Off,
    /// Only on this address, which serves nothing else. Written `127.0.0.1:9001`.
    At(SocketAddr),
}

#[cfg(feature = "admin")]
impl FromStr for Admin {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "on" | "true" => Ok(Self::On),
            "off" | "false" => Ok(Self::Off),
            address => address.parse().map(Self::At).map_err(|_| {
                ValueError::new("expected `on`, `off` or an address such as 127.0.0.1:9001")
            }),
        }
    }
}

#[cfg(feature = "admin")]
impl fmt::Display for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On => f.write_str("on"),
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_parsed_and_displayed() {
        for (text, ms, displayed) in [
            ("500ms", 500, "500ms"),
            ("15s", 15_000, "15s"),
            ("5m", 300_000, "5m"),
            ("120s", 120_000, "2m"),
            ("90s", 90_000, "90s"),
            ("1h", 3_600_000, "1h"),
            ("0", 0, "0"),
            ("0s", 0, "0"),
            ("2 s", 2_000, "2s"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.0, Duration::from_millis(ms), "{text}");
            assert_eq!(span.to_string(), displayed);
        }
        assert_eq!(Span(Duration::from_micros(1500)).to_string(), "1.5ms");
        for (text, bytes, displayed) in [
            ("0", 0, "0"),
            ("100", 100, "100B"),
            ("7B", 7, "7B"),
            ("1024", 1024, "1KiB"),
            ("64KiB", 65_536, "64KiB"),
            ("1MiB", 1 << 20, "1MiB"),
            ("2GiB", 2 << 30, "2GiB"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(size, ByteSize(bytes), "{text}");
            assert_eq!(size.to_string(), displayed);
        }
    }

    #[test]
    fn an_invalid_duration_or_size_is_an_error_with_what_is_expected() {
        for (text, expected) in [
            ("", "expected a duration such as 500ms, 15s, 5m or 1h"),
            ("s", "expected a duration such as 500ms, 15s, 5m or 1h"),
            ("-1s", "expected a duration such as 500ms, 15s, 5m or 1h"),
            ("15", "a duration needs a unit: 15ms, 15s, 15m or 15h"),
            ("1.5s", "unknown time unit `.5s`: use ms, s, m or h"),
            ("3x", "unknown time unit `x`: use ms, s, m or h"),
            ("99999999999999999999s", "the number is too large"),
            ("9999999999999999999h", "the duration is too long"),
        ] {
            let error = text.parse::<Span>().unwrap_err();
            assert_eq!(error.to_string(), expected, "{text}");
        }
        for (text, expected) in [
            ("", "expected a size such as 100B, 64KiB, 1MiB or 1GiB"),
            ("KiB", "expected a size such as 100B, 64KiB, 1MiB or 1GiB"),
            ("-1", "expected a size such as 100B, 64KiB, 1MiB or 1GiB"),
            ("64KB", "unknown size unit `KB`: use B, KiB, MiB or GiB"),
            ("64k", "unknown size unit `k`: use B, KiB, MiB or GiB"),
            ("99999999999GiB", "the size is too large"),
        ] {
            let error = text.parse::<ByteSize>().unwrap_err();
            assert_eq!(error.to_string(), expected, "{text}");
        }
    }

    #[cfg(feature = "admin")]
    #[test]
    fn words_are_parsed_as_they_are_displayed() {
        for text in ["on", "off", "127.0.0.1:9001", "[::1]:9001"] {
            assert_eq!(text.parse::<Admin>().unwrap().to_string(), text);
        }
    }
}
