//! The kinds of options: how a value is parsed, written and checked.

use std::ffi::OsStr;
use std::fmt;
#[cfg(feature = "disk")]
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::cidr::Cidr;
use crate::event::MAX_FIELD_BYTES;
use crate::http::header::check_header;
#[cfg(feature = "disk")]
use crate::store::Fsync;

#[cfg(feature = "admin")]
use super::Admin;
use super::{ByteSize, Span};

/// The form of an option's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Form {
    /// One value.
    One,
    /// `true` or `false`.
    Switch,
    /// A path.
    Path,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Any number of values, separated by this character.
    List(char),
}

/// The least and the greatest value of an option, as they are written, and whether 0 is valid in
/// addition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) min: &'static str,
    pub(super) max: &'static str,
    pub(super) or_zero: bool,
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_zero = if self.or_zero { ", or 0" } else { "" };
        write!(f, "{} to {}{or_zero}", self.min, self.max)
    }
}

impl Bounds {
    /// Checks that a number is within the bounds. `given` is the number as it was written.
    fn check<T, E>(
        &self,
        number: T,
        given: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<(), String>
    where
        T: PartialOrd,
        E: fmt::Debug,
    {
        let parse = |text| parse(text).expect("a test parses all bounds");
        let Self { min, max, or_zero } = self;
        if *or_zero && number == parse("0") {
            Ok(())
        } else if number < parse(min) {
            let or_zero = if *or_zero { ", and is not 0" } else { "" };
            Err(format!(
                "{given} is less than the minimum of {min}{or_zero}"
            ))
        } else if number > parse(max) {
            Err(format!("{given} exceeds the maximum of {max}"))
        } else {
            Ok(())
        }
    }
}

/// A kind of options.
pub(super) trait Kind {
    /// The type of the field of [`Config`](super::Config).
    type Value: fmt::Debug;
    /// The placeholder of the value in a help text: `SIZE`.
    const VALUE_NAME: &'static str;
    const FORM: Form = Form::One;
    /// Whether values are left out of debug output and help texts.
    const SECRET: bool = false;

    /// # Errors
    /// A message with what is expected.
    fn parse(text: &str) -> Result<Self::Value, String>;

    /// # Errors
    /// As [`Kind::parse`]; only paths may have bytes that are not UTF-8.
    fn parse_os(text: &OsStr) -> Result<Self::Value, String> {
        Self::parse(text.to_str().ok_or("expected UTF-8")?)
    }

    /// The text that parses as this value.
    fn write(value: &Self::Value) -> String;

    /// Checks what parsing does not: a program can set any value. `given` is the value as it was
    /// written.
    ///
    /// # Errors
    /// A message with the problem.
    fn check(_value: &Self::Value, _given: &str, _bounds: Option<&Bounds>) -> Result<(), String> {
        Ok(())
    }
}

/// Parses the text of an option and checks the value.
pub(super) fn read<K: Kind>(text: &OsStr, bounds: Option<&Bounds>) -> Result<K::Value, String> {
    let given = text.to_string_lossy();
    let value = K::parse_os(text).map_err(|problem| invalid(&given, &problem))?;
    K::check(&value, &given, bounds)?;
    Ok(value)
}

/// Checks a value that a program has set.
pub(super) fn check<K: Kind>(value: &K::Value, bounds: Option<&Bounds>) -> Result<(), String> {
    K::check(value, &K::write(value), bounds)
}

/// The value in debug output.
pub(super) fn debug<K: Kind>(value: &K::Value) -> &dyn fmt::Debug {
    let is_hidden = K::SECRET && !K::write(value).is_empty();
    if is_hidden { &"[hidden]" } else { value }
}

fn invalid(text: &str, problem: &str) -> String {
    format!("invalid value `{}`: {problem}", text.escape_debug())
}

fn parse_as<T: FromStr>(text: &str) -> Result<T, String>
where
    T::Err: fmt::Display,
{
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// A duration; what is less than a millisecond does not count.
pub(super) struct Time;

impl Kind for Time {
    type Value = Duration;
    const VALUE_NAME: &'static str = "DURATION";

    fn parse(text: &str) -> Result<Duration, String> {
        parse_as::<Span>(text).map(|span| span.0)
    }

    fn write(value: &Duration) -> String {
        Span(*value).to_string()
    }

    fn check(value: &Duration, given: &str, bounds: Option<&Bounds>) -> Result<(), String> {
        let bounds = bounds.expect("a duration has bounds");
        bounds.check(Span(*value), given, Span::from_str)
    }
}

/// A number of bytes.
pub(super) struct Size;

impl Kind for Size {
    type Value = usize;
    const VALUE_NAME: &'static str = "SIZE";

    fn parse(text: &str) -> Result<usize, String> {
        parse_as::<ByteSize>(text).map(|size| size.0)
    }

    fn write(value: &usize) -> String {
        ByteSize(*value).to_string()
    }

    fn check(value: &usize, given: &str, bounds: Option<&Bounds>) -> Result<(), String> {
        let bounds = bounds.expect("a size has bounds");
        bounds.check(*value as u64, given, ByteSize::parse_u64)
    }
}

/// A number of things.
pub(super) struct Count;

impl Kind for Count {
    type Value = usize;
    const VALUE_NAME: &'static str = "COUNT";

    fn parse(text: &str) -> Result<usize, String> {
        text.parse().map_err(|_| "expected a whole number".into())
    }

    fn write(value: &usize) -> String {
        value.to_string()
    }

    fn check(value: &usize, given: &str, bounds: Option<&Bounds>) -> Result<(), String> {
        let bounds = bounds.expect("a count has bounds");
        bounds.check(*value as u64, given, u64::from_str)
    }
}

/// A number of things that has a default only at run time.
pub(super) struct OptionalCount;

impl Kind for OptionalCount {
    type Value = Option<usize>;
    const VALUE_NAME: &'static str = Count::VALUE_NAME;

    fn parse(text: &str) -> Result<Option<usize>, String> {
        Count::parse(text).map(Some)
    }

    fn write(value: &Option<usize>) -> String {
        value.as_ref().map(Count::write).unwrap_or_default()
    }

    fn check(value: &Option<usize>, given: &str, bounds: Option<&Bounds>) -> Result<(), String> {
        value.map_or(Ok(()), |value| Count::check(&value, given, bounds))
    }
}

/// `true` or `false`.
pub(super) struct Switch;

impl Kind for Switch {
    type Value = bool;
    const VALUE_NAME: &'static str = "BOOL";
    const FORM: Form = Form::Switch;

    fn parse(text: &str) -> Result<bool, String> {
        text.parse()
            .map_err(|_| "expected `true` or `false`".into())
    }

    fn write(value: &bool) -> String {
        value.to_string()
    }
}

/// A text of one line.
pub(super) struct Line;

impl Kind for Line {
    type Value = String;
    const VALUE_NAME: &'static str = "TEXT";

    fn parse(text: &str) -> Result<String, String> {
        Ok(text.into())
    }

    fn write(value: &String) -> String {
        value.clone()
    }

    fn check(value: &String, given: &str, _: Option<&Bounds>) -> Result<(), String> {
        match value.contains(['\r', '\n']) {
            true => Err(invalid(given, "expected one line")),
            false => Ok(()),
        }
    }
}

/// The type of an event.
pub(super) struct EventType;

impl Kind for EventType {
    type Value = String;
    const VALUE_NAME: &'static str = "TYPE";

    fn parse(text: &str) -> Result<String, String> {
        Ok(text.into())
    }

    fn write(value: &String) -> String {
        value.clone()
    }

    fn check(value: &String, given: &str, _: Option<&Bounds>) -> Result<(), String> {
        if value.contains(['\r', '\n', '\0']) {
            Err(invalid(given, "expected a text without CR, LF and NUL"))
        } else if value.len() > MAX_FIELD_BYTES {
            Err(format!(
                "{} bytes exceed the maximum of {MAX_FIELD_BYTES} bytes",
                value.len()
            ))
        } else {
            Ok(())
        }
    }
}

/// A secret that requests must show.
pub(super) struct Token;

impl Kind for Token {
    type Value = Option<String>;
    const VALUE_NAME: &'static str = "TOKEN";
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Option<String>, String> {
        Ok(Some(text.into()))
    }

    fn write(value: &Option<String>) -> String {
        value.clone().unwrap_or_default()
    }

    fn check(value: &Option<String>, _: &str, _: Option<&Bounds>) -> Result<(), String> {
        let is_valid =
            |token: &String| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        match value.as_ref().is_none_or(is_valid) {
            true => Ok(()),
            // The message goes to logs, so it does not have the token.
            false => Err("must be one or more visible ASCII characters".into()),
        }
    }
}

/// A directory.
#[cfg(feature = "disk")]
pub(super) struct Directory;

#[cfg(feature = "disk")]
impl Kind for Directory {
    type Value = Option<PathBuf>;
    const VALUE_NAME: &'static str = "DIR";
    const FORM: Form = Form::Path;

    fn parse(text: &str) -> Result<Option<PathBuf>, String> {
        Ok(Some(text.into()))
    }

    fn parse_os(text: &OsStr) -> Result<Option<PathBuf>, String> {
        Ok(Some(text.into()))
    }

    fn write(value: &Option<PathBuf>) -> String {
        let path = value.as_ref();
        path.map_or_else(String::new, |path| path.display().to_string())
    }
}

#[cfg(feature = "disk")]
impl Kind for Fsync {
    type Value = Self;
    const VALUE_NAME: &'static str = "WHEN";
    const FORM: Form = Form::Choice(&["always", "interval", "never"]);

    fn parse(text: &str) -> Result<Self, String> {
        parse_as(text)
    }

    fn write(value: &Self) -> String {
        value.to_string()
    }
}

#[cfg(feature = "admin")]
impl Kind for Admin {
    type Value = Self;
    const VALUE_NAME: &'static str = "on|off|HOST:PORT";

    fn parse(text: &str) -> Result<Self, String> {
        parse_as(text)
    }

    fn write(value: &Self) -> String {
        value.to_string()
    }
}

/// The items of a list; none of an empty text.
fn items(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let rest = (!text.is_empty()).then_some(text);
    rest.into_iter()
        .flat_map(move |rest| rest.split(separator).map(str::trim))
}

/// Origins of pages, `https://example.org`, or `*`.
pub(super) struct Origins;

impl Kind for Origins {
    type Value = Vec<String>;
    const VALUE_NAME: &'static str = "ORIGINS";
    const FORM: Form = Form::List(',');

    fn parse(text: &str) -> Result<Vec<String>, String> {
        Ok(items(text, ',').map(Into::into).collect())
    }

    fn write(value: &Vec<String>) -> String {
        value.join(",")
    }

    fn check(value: &Vec<String>, given: &str, _: Option<&Bounds>) -> Result<(), String> {
        for origin in value {
            if !is_origin(origin) {
                let expected = "expected an origin such as https://example.org";
                return Err(invalid(origin, expected));
            }
        }
        if value.len() > 1 && value.iter().any(|origin| origin == "*") {
            return Err(invalid(
                given,
                "`*` allows all origins and must be the only one",
            ));
        }
        Ok(())
    }
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

/// Networks, `10.0.0.0/8`.
pub(super) struct Networks;

impl Kind for Networks {
    type Value = Vec<Cidr>;
    const VALUE_NAME: &'static str = "NETWORKS";
    const FORM: Form = Form::List(',');

    fn parse(text: &str) -> Result<Vec<Cidr>, String> {
        let problem = |item: &str, problem: String| match item == text {
            true => problem,
            false => format!("`{}` {problem}", item.escape_debug()),
        };
        items(text, ',')
            .map(|item| parse_as(item).map_err(|error| problem(item, error)))
            .collect()
    }

    fn write(value: &Vec<Cidr>) -> String {
        let texts: Vec<_> = value.iter().map(ToString::to_string).collect();
        texts.join(",")
    }
}

/// Headers, `Name: value`, each on a line of its own.
pub(super) struct Headers;

impl Kind for Headers {
    type Value = Vec<(String, String)>;
    const VALUE_NAME: &'static str = "NAME: VALUE";
    const FORM: Form = Form::List('\n');

    fn parse(text: &str) -> Result<Self::Value, String> {
        items(text, '\n')
            .map(|line| {
                let (name, value) = line
                    .split_once(':')
                    .ok_or("expected a header such as `Name: value`")?;
                Ok((name.trim().into(), value.trim().into()))
            })
            .collect()
    }

    fn write(value: &Self::Value) -> String {
        let lines: Vec<_> = value
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        lines.join("\n")
    }

    fn check(value: &Self::Value, _: &str, _: Option<&Bounds>) -> Result<(), String> {
        for (name, value) in value {
            check_header(name, value)
                .map_err(|problem| format!("`{}` {problem}", name.escape_debug()))?;
        }
        Ok(())
    }
}
