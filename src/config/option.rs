//! One option, described by its name, default, bounds and help.

use std::ffi::OsStr;

use super::kind::{Bounds, Form};
use super::{Config, ConfigError};

type Set = fn(&mut Config, &OsStr, Option<&Bounds>) -> Result<(), String>;
type Check = fn(&Config, Option<&Bounds>) -> Result<(), String>;

/// An option of a server, for programs that read options from flags, the environment or files.
///
/// ```
/// use fanfare::Config;
///
/// let mut config = Config::default();
/// let max_lag = Config::OPTIONS.iter().find(|option| option.name() == "max-lag");
/// max_lag.expect("an option of this name").set(&mut config, "4MiB")?;
/// assert_eq!(config.max_lag, 4 << 20);
/// # Ok::<(), fanfare::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct ConfigOption {
    pub(super) name: &'static str,
    /// The lines of the documentation.
    pub(super) doc: &'static [&'static str],
    pub(super) default: &'static str,
    pub(super) bounds: Option<Bounds>,
    pub(super) value_name: &'static str,
    pub(super) form: Form,
    pub(super) is_secret: bool,
    pub(super) set: Set,
    pub(super) check: Check,
}

impl ConfigOption {
    /// The name on a command line and in a file: `max-lag`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The meaning of the option, in one paragraph without a full stop.
    pub fn help(&self) -> String {
        let lines = self.doc.iter().map(|line| line.trim());
        let paragraph: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
        paragraph.join(" ").trim_end_matches('.').into()
    }

    /// The placeholder of the value in a help text: `SIZE`.
    pub fn value_name(&self) -> &'static str {
        self.value_name
    }

    /// The default as it is written, or a description such as `none`.
    pub fn default_text(&self) -> &'static str {
        self.default
    }

    /// The valid values of a number: `1ms to 24h, or 0`.
    pub fn bounds(&self) -> Option<String> {
        let bounds = self.bounds.as_ref();
        bounds.map(ToString::to_string)
    }

    /// The form of the value.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Whether the value is a secret, which no help text or log may show.
    pub fn is_secret(&self) -> bool {
        self.is_secret
    }

    /// Sets the option in a configuration. The items of a list are separated as
    /// [`ConfigOption::form`] says.
    ///
    /// # Errors
    /// The text is not a value of this option, or the value is out of bounds.
    pub fn set(&self, config: &mut Config, text: impl AsRef<OsStr>) -> Result<(), ConfigError> {
        let result = (self.set)(config, text.as_ref(), self.bounds.as_ref());
        result.map_err(|problem| self.error(problem))
    }

    /// Checks the value in a configuration, by itself.
    pub(super) fn check(&self, config: &Config) -> Result<(), ConfigError> {
        (self.check)(config, self.bounds.as_ref()).map_err(|problem| self.error(problem))
    }

    fn error(&self, problem: String) -> ConfigError {
        ConfigError {
            option: self.name,
            problem,
        }
    }
}

/// The name of an option with dashes: `max-lag` of `max_lag`.
macro_rules! dashed {
    ($field:ident) => {{
        const FIELD: &str = stringify!($field);
        const BYTES: [u8; FIELD.len()] = $crate::config::option::with_dashes(FIELD);
        match std::str::from_utf8(&BYTES) {
            Ok(name) => name,
            Err(_) => unreachable!(),
        }
    }};
}

pub(super) use dashed;

pub(super) const fn with_dashes<const LENGTH: usize>(field: &str) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    let mut at = 0;
    while at < LENGTH {
        let byte = field.as_bytes()[at];
        bytes[at] = if byte == b'_' { b'-' } else { byte };
        at += 1;
    }
    bytes
}
