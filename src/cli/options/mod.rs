//! The options of `serve`: those of the server, which the library declares, and four of the program
//! itself. Each is a flag, an environment variable and a key of a file.

mod file;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, PossibleValuesParser};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, FromArgMatches, ValueHint};
use fanfare::config::{ConfigOption, Form};
use fanfare::{Admin, Config};

pub(super) use file::read_file;

/// The values of all options.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) config: Config,
    pub(super) addr: String,
    pub(super) demo: bool,
    pub(super) log_format: LogFormat,
    pub(super) log_level: LogLevel,
    /// The source of each value that is not a default.
    sources: BTreeMap<&'static str, GivenBy>,
    file: Option<PathBuf>,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogFormat {
    Text,
    Json,
}

impl LogFormat {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("expected `text` or `json`".into()),
        }
    }
}

/// The least severe messages that are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
}

impl LogLevel {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "error" => Ok(Self::Error),
            "warn" => Ok(Self::Warn),
            "info" => Ok(Self::Info),
            "debug" => Ok(Self::Debug),
            _ => Err("expected `off`, `error`, `warn`, `info` or `debug`".into()),
        }
    }
}

/// The source of a value.
#[derive(Debug, Clone, Copy)]
enum GivenBy {
    Flag,
    Variable,
    File,
}

/// An option as the command line and files know it.
struct ServeOption {
    name: &'static str,
    value_name: &'static str,
    help: String,
    default: &'static str,
    form: Form,
    is_secret: bool,
    setter: Setter,
}

/// How an option is set.
enum Setter {
    Server(&'static ConfigOption),
    Program(ProgramSetter),
}

type ProgramSetter = fn(&mut Options, &str) -> Result<(), String>;

/// An option of the program itself.
struct ProgramOption {
    name: &'static str,
    value_name: &'static str,
    help: &'static str,
    default: &'static str,
    form: Form,
    set: ProgramSetter,
}

/// The options of the program that help texts list before those of the server.
const FIRST: &[ProgramOption] = &[
    ProgramOption {
        name: "addr",
        value_name: "HOST:PORT",
        help: "Address to listen on; port 0 chooses a free port",
        default: "127.0.0.1:8001",
        form: Form::One,
        set: |options, text| {
            options.addr = text.into();
            Ok(())
        },
    },
    ProgramOption {
        name: "demo",
        value_name: "BOOL",
        help: "Also publish the time to /time every second, and pets to /pets",
        default: "false",
        form: Form::Switch,
        set: |options, text| {
            options.demo = text.parse().map_err(|_| "expected `true` or `false`")?;
            Ok(())
        },
    },
];

/// The options of the program that help texts list after those of the server.
const LAST: &[ProgramOption] = &[
    ProgramOption {
        name: "log-format",
        value_name: "FORMAT",
        help: "How logs are written to standard error",
        default: "text",
        form: Form::Choice(&["text", "json"]),
        set: |options, text| {
            options.log_format = LogFormat::parse(text)?;
            Ok(())
        },
    },
    ProgramOption {
        name: "log-level",
        value_name: "LEVEL",
        help: "Least severe messages to log: failures (`error`), problems (`warn`), the end of \
               each event stream (`info`), or other connections (`debug`)",
        default: "info",
        form: Form::Choice(&["off", "error", "warn", "info", "debug"]),
        set: |options, text| {
            options.log_level = LogLevel::parse(text)?;
            Ok(())
        },
    },
];

/// The options in the order of the help text.
fn entries() -> impl Iterator<Item = ServeOption> {
    let server = Config::OPTIONS.iter().map(ServeOption::of_server);
    let [first, last] = [FIRST, LAST].map(|options| options.iter().map(ServeOption::of_program));
    first.chain(server).chain(last)
}

impl ServeOption {
    fn of_program(option: &'static ProgramOption) -> Self {
        Self {
            name: option.name,
            value_name: option.value_name,
            help: option.help.into(),
            default: option.default,
            form: option.form,
            is_secret: false,
            setter: Setter::Program(option.set),
        }
    }

    fn of_server(option: &'static ConfigOption) -> Self {
        Self {
            name: option.name(),
            value_name: option.value_name(),
            help: option.help(),
            default: option.default_text(),
            form: option.form(),
            is_secret: option.is_secret(),
            setter: Setter::Server(option),
        }
    }

    fn arg(&self) -> Arg {
        let arg = Arg::new(self.name)
            .long(self.name)
            .env(variable(self.name))
            .value_name(self.value_name)
            // So that the error for `-1` names the option.
            .allow_negative_numbers(true)
            .help(format!("{} [default: {}]", self.help, self.default))
            .hide_env_values(self.is_secret);
        match self.form {
            Form::Switch => arg.num_args(0..=1).default_missing_value("true"),
            Form::Path => arg
                .value_parser(OsStringValueParser::new())
                .value_hint(ValueHint::DirPath),
            Form::Choice(words) => arg
                .value_parser(PossibleValuesParser::new(words))
                .hide_possible_values(true),
            Form::List(_) => arg.action(ArgAction::Append),
            _ => arg,
        }
    }

    /// The value of this option among the arguments or in the environment. Several values are one
    /// list.
    fn given(&self, matches: &ArgMatches) -> Option<OsString> {
        let values = matches.get_raw(self.name)?;
        let separator = match self.form {
            Form::List(separator) => separator.to_string(),
            _ => String::new(),
        };
        let values: Vec<_> = values.collect();
        Some(values.join(OsStr::new(&separator)))
    }

    /// # Errors
    /// The name of the option, the text, and what is expected.
    fn set(&self, options: &mut Options, text: &OsStr) -> Result<(), String> {
        match self.setter {
            Setter::Server(option) => {
                let with_address = (self.name == "admin").then(|| with_address(text));
                let text = with_address.as_deref().unwrap_or(text);
                let result = option.set(&mut options.config, text);
                result.map_err(|error| error.to_string())
            }
            Setter::Program(set) => {
                let text = text.to_string_lossy();
                let invalid = |problem| {
                    let (name, value) = (self.name, text.escape_debug());
                    format!("{name}: invalid value `{value}`: {problem}")
                };
                set(options, &text).map_err(invalid)
            }
        }
    }
}

/// The environment variable of an option: `FANFARE_MAX_LAG` of `max-lag`.
pub(super) fn variable(option: &str) -> String {
    format!("FANFARE_{}", option.replace('-', "_").to_uppercase())
}

/// `localhost:9001` as an address, which is what the library takes. Other texts are returned as
/// they are.
fn with_address(text: &OsStr) -> OsString {
    let resolve = |text: &str| match text.parse::<Admin>() {
        Ok(_) => None,
        Err(_) => text.to_socket_addrs().ok()?.next(),
    };
    let address = text.to_str().and_then(resolve);
    address.map_or_else(|| text.into(), |address| address.to_string().into())
}

impl Options {
    fn defaults() -> Self {
        let mut options = Self {
            config: Config::default(),
            addr: String::new(),
            demo: false,
            log_format: LogFormat::Text,
            log_level: LogLevel::Info,
            sources: BTreeMap::new(),
            file: None,
        };
        for entry in entries() {
            if let Setter::Program(set) = entry.setter {
                set(&mut options, entry.default).expect("a default is valid");
            }
        }
        options
    }

    /// The options of flags over those of the environment over those of a file over defaults,
    /// checked.
    ///
    /// # Errors
    /// One line that names the first invalid option, where its value comes from, and what is
    /// expected.
    pub(super) fn read(file: Option<&Path>, given: &Given) -> Result<Self, String> {
        let mut options = file.map_or_else(|| Ok(Self::defaults()), read_file)?;
        for (entry, text, source) in &given.0 {
            options.sources.insert(entry.name, *source);
            let result = entry.set(&mut options, text);
            result.map_err(|error| options.with_source(entry.name, error))?;
        }
        options.check()?;
        Ok(options)
    }

    /// Checks the options together.
    ///
    /// # Errors
    /// As [`Options::read`].
    pub(super) fn check(&self) -> Result<(), String> {
        let result = self.config.check();
        result.map_err(|error| self.with_source(error.option, error.to_string()))
    }

    /// An error with the variable or the file that the option comes from.
    fn with_source(&self, option: &str, error: String) -> String {
        match (self.sources.get(option), &self.file) {
            (Some(GivenBy::Variable), _) => format!("{error} (from {})", variable(option)),
            (Some(GivenBy::File), Some(path)) => format!("{}: {error}", path.display()),
            _ => error,
        }
    }
}

/// The options that the command line and the environment give a value.
pub(super) struct Given(Vec<(ServeOption, OsString, GivenBy)>);

impl clap::Args for Given {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.args(entries().map(|entry| entry.arg()))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = entries().filter_map(|entry| {
            let text = entry.given(matches)?;
            let source = match matches.value_source(entry.name) {
                Some(ValueSource::EnvVariable) => GivenBy::Variable,
                _ => GivenBy::Flag,
            };
            Some((entry, text, source))
        });
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
