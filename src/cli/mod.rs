//! The command line: commands, usage errors and exit codes.

mod bench;
mod demo;
mod logging;
mod options;
mod publish;
mod serve;
mod subscribe;
mod target;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use bench::Bench;
use options::{Given, Options};
use publish::Publish;
use subscribe::Subscribe;

/// A broadcast server for Server-Sent Events, with a client and a load generator.
#[derive(Parser)]
#[command(name = "fanfare", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve event streams and accept events over HTTP.
    ///
    /// Each option is a flag, an environment variable and a key of the configuration file:
    /// `--max-lag 4MiB`, `FANFARE_MAX_LAG=4MiB`, and `max-lag: 4MiB` in YAML or
    /// `max-lag = "4MiB"` in TOML. A flag takes precedence over a variable, and a variable over the
    /// file. Durations have a unit: `500ms`, `15s`, `5m` or `1h`. Sizes are `64KiB`, `1MiB`, `1GiB`
    /// or a number of bytes.
    Serve(Box<Serve>),
    /// Publish one event, or one event per line of standard input.
    Publish(Publish),
    /// Print the events of namespaces, or of any event stream.
    ///
    /// Reconnects when the connection is lost and reports that on standard error. The exit code is
    /// 0 when all requested events have arrived or on an interrupt, and 1 when the server rejects
    /// the request.
    Subscribe(Subscribe),
    /// Measure a server under a load of subscribers and publishers.
    ///
    /// Each event carries its number, so that lost, duplicated and reordered events are detected,
    /// and the time at which it was due, so that a server that delays publishers does not appear
    /// faster. The exit code is 1 unless every event arrived once and in order.
    Bench(Box<Bench>),
    /// Check a configuration file.
    CheckConfig {
        /// The file, which ends in .yaml, .yml or .toml
        file: PathBuf,
    },
    /// Print a completion script for a shell.
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(clap::Args)]
struct Serve {
    /// Configuration file, which ends in .yaml, .yml or .toml
    #[arg(long, env = "FANFARE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Given,
}

/// Why a command failed: one line for standard error, and an exit code.
#[derive(Debug)]
enum Failure {
    /// The command line or the configuration is invalid. Exit code 2.
    Usage(String),
    /// The command could not do what it was asked to do. Exit code 1.
    Failed(String),
}

/// Runs the program with the arguments of this process.
pub(crate) fn run() -> ExitCode {
    let (message, code) = match parse().and_then(execute) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => (message, 2),
        Err(Failure::Failed(message)) => (message, 1),
    };
    report(&message);
    ExitCode::from(code)
}

/// Prints one line on standard error, with control characters replaced. Ignores write errors,
/// because they cannot be reported anywhere.
fn report(message: &str) {
    let line = message.replace(char::is_control, "\u{fffd}");
    let _ = writeln!(io::stderr(), "fanfare: {line}");
}

/// Handles SIGTERM and SIGINT from here on.
fn signals() -> Result<Signals, Failure> {
    Signals::new([SIGTERM, SIGINT])
        .map_err(|error| Failure::Failed(format!("cannot handle signals: {error}")))
}

/// Returns a channel that receives a message on the first SIGTERM or SIGINT. The second signal ends
/// the program.
fn interruption() -> Result<Receiver<()>, Failure> {
    let mut signals = signals()?;
    let (sender, interrupted) = bounded(1);
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if sender.try_send(()).is_err() {
                std::process::exit(0);
            }
        }
    });
    Ok(interrupted)
}

fn parse() -> Result<Command, Failure> {
    match Cli::try_parse() {
        Ok(cli) => Ok(cli.command),
        Err(error) if !error.use_stderr() => {
            print(&error.render().to_string())?;
            std::process::exit(0)
        }
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Err(Failure::Usage(
                "a command is required: serve, publish, subscribe, bench, check-config or completions; \
                 see --help"
                    .into(),
            ))
        }
        Err(error) => Err(Failure::Usage(one_line(&error))),
    }
}

/// The first sentence of an error, with a similar name if there is one, or with the environment
/// variable if the value came from one.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let mut parts = text.split("\n\n").map(|part| {
        let words: Vec<_> = part.split_whitespace().collect();
        words.join(" ")
    });
    let first = parts.next().unwrap_or_default();
    let mut line = first.strip_prefix("error: ").unwrap_or(&first).to_owned();
    let similar = parts.find(|part| part.starts_with("tip:") && part.contains("similar"));
    if let Some(tip) = similar {
        line.push_str(&tip.replacen("tip:", ";", 1));
    }
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return line;
    };
    let flag = argument.split_whitespace().next();
    let option = flag.and_then(|flag| flag.strip_prefix("--"));
    match option.and_then(variable_of) {
        Some(variable) => format!("{line} (from {variable})"),
        None => line,
    }
}

/// The environment variable that set an option. `None` if a flag or the file set it.
fn variable_of(option: &str) -> Option<String> {
    let flag = format!("--{option}");
    let given = std::env::args_os().any(|argument| {
        let argument = argument.to_string_lossy();
        argument
            .strip_prefix(&*flag)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    });
    let variable = options::variable(option);
    (!given && std::env::var_os(&variable).is_some()).then_some(variable)
}

/// Rejects unknown variables that start with `FANFARE_`, so that a misspelt one is not ignored.
fn refuse_unknown_variables() -> Result<(), Failure> {
    let mut command = Cli::command();
    command.build();
    let known: Vec<_> = command
        .get_subcommands()
        .flat_map(clap::Command::get_arguments)
        .filter_map(clap::Arg::get_env)
        .collect();
    for (variable, value) in std::env::vars_os() {
        let name = variable.to_string_lossy();
        if name.starts_with("FANFARE_")
            && !known.contains(&variable.as_os_str())
            && !is_service_link(&name, &value.to_string_lossy())
        {
            return Err(Failure::Usage(format!(
                "unknown variable {} in the environment",
                name.escape_debug()
            )));
        }
    }
    Ok(())
}

/// Whether Kubernetes sets this variable in containers for a service named `fanfare` or
/// `fanfare-…`, as in `FANFARE_SERVICE_HOST`, `FANFARE_PORT=tcp://…` and
/// `FANFARE_PORT_8001_TCP_ADDR`.
fn is_service_link(name: &str, value: &str) -> bool {
    let of_one_port = name
        .split("_PORT_")
        .skip(1)
        .any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || of_one_port
        || name.ends_with("_PORT") && value.contains("://")
}

fn execute(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(serve) => {
            refuse_unknown_variables()?;
            let options = Options::read(serve.config.as_deref(), &serve.options);
            serve::serve(&options.map_err(Failure::Usage)?)
        }
        Command::Bench(bench) => bench::bench(&bench),
        Command::Publish(publish) => publish::publish(&publish),
        Command::Subscribe(subscribe) => subscribe::subscribe(&subscribe),
        Command::CheckConfig { file } => {
            let options = options::read_file(&file).map_err(Failure::Usage)?;
            options.check().map_err(Failure::Usage)?;
            print(&format!("{}: ok\n", file.display()))
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "fanfare", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
    }
}

/// Parses the value of an argument that is a number.
fn whole_number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "expected a whole number".into())
}

/// Writes to standard output.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.or_else(|error| write_failure(&error))
}

/// The result of a failed write to standard output. A closed pipe is not a failure: its reader has
/// read enough.
fn write_failure(error: &io::Error) -> Result<(), Failure> {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "cannot write to standard output: {error}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn service_links_of_kubernetes_are_recognized() {
        for (name, value, expected) in [
            ("FANFARE_SERVICE_HOST", "10.0.0.1", true),
            ("FANFARE_WEB_SERVICE_PORT_HTTP", "8001", true),
            ("FANFARE_PORT", "tcp://10.0.0.1:8001", true),
            ("FANFARE_PORT_8001_TCP_ADDR", "10.0.0.1", true),
            ("FANFARE_PORT", "8001", false),
            ("FANFARE_PORT_NAME", "x", false),
            ("FANFARE_MAX_LAGG", "7", false),
        ] {
            assert_eq!(is_service_link(name, value), expected, "{name}={value}");
        }
    }
}
