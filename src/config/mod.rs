//! The options of a server. Each is declared once, in `config/list.rs`.

mod access;
mod kind;
mod list;
mod option;
mod value;

use std::fmt;
#[cfg(feature = "disk")]
use std::path::PathBuf;
use std::time::Duration;

use crate::cidr::Cidr;
use crate::event::{EventLimits, max_frame_bytes};
use crate::namespace::NamespaceLimits;
#[cfg(feature = "disk")]
use crate::store::Fsync;

use kind::*;
pub(crate) use list::with_options;

#[cfg(feature = "admin")]
pub use access::AdminAccess;
pub use access::{Access, PublishAccess};
pub use kind::Form;
pub use option::ConfigOption;
#[cfg(feature = "admin")]
pub use value::Admin;
pub use value::{ByteSize, Span, ValueError};

/// A default as a value.
macro_rules! default_value {
    ($kind:ident none) => {
        Default::default()
    };
    ($kind:ident $default:literal) => {
        <$kind as Kind>::parse($default).expect("a test parses all defaults")
    };
}

/// A default as a text.
macro_rules! default_text {
    (none) => {
        "none"
    };
    (none $description:literal) => {
        $description
    };
    ($default:literal) => {
        $default
    };
}

/// Bounds as an option of a value.
macro_rules! bounds {
    () => {
        None
    };
    ($min:literal $max:literal) => {
        Some(Bounds {
            min: $min,
            max: $max,
            or_zero: false,
        })
    };
    ($min:literal $max:literal $zero:literal) => {
        Some(Bounds {
            min: $min,
            max: $max,
            or_zero: true,
        })
    };
}

/// Declares `Config` with its defaults, its debug output and the descriptions of its options.
macro_rules! declare_config {
    ($(
        $(#[doc = $doc:literal])*
        $(#[cfg($cfg:meta)])?
        $name:ident: $type:ty as $kind:ident = $default:tt $($description:literal)?
            $(, $min:literal to $max:literal $(or $zero:literal)?)?;
    )*) => {
        /// Every option of a server. [`Builder`](crate::Builder) has a setter of the same name for
        /// each.
        ///
        /// Durations are used in whole milliseconds; a fraction of one is dropped.
        ///
        /// ```
        /// use std::time::Duration;
        /// use fanfare::{Config, Server};
        ///
        /// let mut config = Config::default();
        /// config.max_lag = 4 << 20;
        /// config.keepalive = Duration::from_secs(30);
        /// let server = Server::builder().config(config.clone()).build()?;
        ///
        /// config.write_timeout = Duration::ZERO;
        /// let error = config.check().unwrap_err();
        /// assert_eq!(error.option, "write-timeout");
        /// # Ok::<(), fanfare::ConfigError>(())
        /// ```
        #[derive(Clone)]
        #[non_exhaustive]
        pub struct Config {$(
            $(#[doc = $doc])*
            ///
            #[doc = concat!("Default: `", default_text!($default $($description)?), "`.")]
            $(#[doc = concat!("Valid: `", $min, "` to `", $max, "`", $(", or `", $zero, "`",)? ".")])?
            $(#[cfg($cfg)])?
            pub $name: $type,
        )*}

        impl Default for Config {
            fn default() -> Self {
                Self {$(
                    $(#[cfg($cfg)])?
                    $name: default_value!($kind $default),
                )*}
            }
        }

        /// Tokens are left out.
        impl fmt::Debug for Config {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut config = f.debug_struct("Config");
                $(
                    $(#[cfg($cfg)])?
                    config.field(stringify!($name), kind::debug::<$kind>(&self.$name));
                )*
                config.finish()
            }
        }

        impl Config {
            /// Every option, in the order in which help texts list them.
            pub const OPTIONS: &'static [ConfigOption] = &[$(
                $(#[cfg($cfg)])?
                ConfigOption {
                    name: option::dashed!($name),
                    doc: &[$($doc),*],
                    default: default_text!($default $($description)?),
                    bounds: bounds!($($min $max $($zero)?)?),
                    value_name: <$kind as Kind>::VALUE_NAME,
                    form: <$kind as Kind>::FORM,
                    is_secret: <$kind as Kind>::SECRET,
                    set: |config, text, bounds| {
                        config.$name = kind::read::<$kind>(text, bounds)?;
                        Ok(())
                    },
                    check: |config, bounds| kind::check::<$kind>(&config.$name, bounds),
                },
            )*];
        }
    };
}

with_options!(declare_config);

/// An invalid option, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigError {
    /// The name of the option as on the command line, without the dashes in front: `max-lag`.
    pub option: &'static str,
    /// The value as it was given, what is wrong with it, and what is expected.
    pub problem: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.option, self.problem)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Checks every option, and the options that depend on each other.
    ///
    /// # Errors
    /// The first invalid option.
    pub fn check(&self) -> Result<(), ConfigError> {
        for option in Self::OPTIONS {
            option.check(self)?;
        }
        let fail = |option, problem| Err(ConfigError { option, problem });
        let (total, lag) = (self.memory_limit(), self.lag_limit());
        if total < lag {
            let total = ByteSize(total);
            let problem = format!(
                "{total} is less than the {lag} bytes that max-lag and max-event let one subscriber lag"
            );
            return fail("history-total", problem);
        }
        #[cfg(feature = "disk")]
        if let Some(path) = &self.data_dir
            && !self.keeps_history()
        {
            let path = path.display();
            let problem = format!("`{path}` requires history, which is turned off");
            return fail("data-dir", problem);
        }
        Ok(())
    }

    /// The limits of a namespace.
    pub fn namespace_limits(&self) -> NamespaceLimits {
        NamespaceLimits {
            segments: self.namespace_segments,
            segment_bytes: self.namespace_segment_bytes,
            path_bytes: self.namespace_bytes,
        }
    }

    /// The limits of an event.
    pub(crate) fn event_limits(&self) -> EventLimits {
        EventLimits {
            max_event: self.max_event,
            namespace: self.namespace_limits(),
        }
    }

    /// Whether events are retained for replay.
    pub(crate) fn keeps_history(&self) -> bool {
        let bounds = [self.history_events, self.history_bytes, self.history_total];
        !self.history_age.is_zero() && bounds.iter().all(|&bound| bound > 0)
    }

    /// Bytes of memory that all logs may take together.
    pub(crate) fn memory_limit(&self) -> usize {
        match self.history_total {
            0 => Self::default().history_total.max(self.lag_limit()),
            total => total,
        }
    }

    /// Bytes of events that may be pending for a subscriber: `max_lag`, but at least the largest
    /// frame and what is collected before it. With less, subscribers would be disconnected for
    /// events that were not written to them yet.
    pub(crate) fn lag_limit(&self) -> usize {
        let least = max_frame_bytes(self.max_event).saturating_add(self.write_budget);
        self.max_lag.max(least)
    }
}

#[cfg(test)]
mod tests;
