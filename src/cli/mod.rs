//! The command line: what it takes, and the one line that says what was wrong.

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

/// A broadcast server for Server-Sent Events, and what to use with it.
#[derive(Parser)]
#[command(name = "fanfare", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve event streams, and take events over HTTP.
    ///
    /// Every option is a flag, a variable and a key of the file, in this order of precedence: `--max-lag 4MiB`,
    /// `FANFARE_MAX_LAG=4MiB`, and `max-lag: 4MiB` in YAML or `max-lag = "4MiB"` in TOML. Durations are written `500ms`, `15s`, `5m`, `1h`;
    /// sizes `64KiB`, `1MiB`, `1GiB`, or a number of bytes.
    Serve(Box<Serve>),
    /// Publish an event, or each line of standard input.
    Publish(Publish),
    /// Receive the events of namespaces, or of any event stream.
    ///
    /// A lost connection is made again; what happens is told on standard error. Ends with 0 when it has all it was asked for or is
    /// interrupted, and with 1 when the server refuses it.
    Subscribe(Subscribe),
    /// Put a load of readers and publishers on a server and measure how it does.
    ///
    /// Every event carries its number, so that loss, doubles and disorder are seen, and the time at which it was due, so that a
    /// server that makes publishers wait does not look faster for it. Ends with 1 unless every event came, once and in order.
    Bench(Box<Bench>),
    /// Say whether a configuration file is right, and if not, what is wrong with it.
    CheckConfig {
        /// A file that ends in .yaml, .yml or .toml
        file: PathBuf,
    },
    /// Write a completion script for a shell to standard output.
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(clap::Args)]
struct Serve {
    /// Read options from this file: .yaml, .yml or .toml
    #[arg(long, env = "FANFARE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Given,
}

/// What ends the program before its time: one line, and an exit code.
#[derive(Debug)]
enum Failure {
    /// It was asked for what cannot be: exit code 2.
    Usage(String),
    /// What it was asked for did not work: exit code 1.
    Failed(String),
}

/// Runs the program with the arguments of this process.
pub(crate) fn run() -> ExitCode {
    let (message, code) = match parse().and_then(carry_out) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => (message, 2),
        Err(Failure::Failed(message)) => (message, 1),
    };
    tell(&message);
    ExitCode::from(code)
}

/// Says something on standard error: one line, whatever a name in it is made of. Nobody is left to tell when that is gone.
fn tell(message: &str) {
    let line = message.replace(char::is_control, "\u{fffd}");
    let _ = writeln!(io::stderr(), "fanfare: {line}");
}

/// Says once that the user wants the program to end; a second time ends it.
fn interruption() -> Result<Receiver<()>, Failure> {
    let mut signals = Signals::new([SIGTERM, SIGINT])
        .map_err(|error| Failure::Failed(format!("cannot watch for signals: {error}")))?;
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
                "a command is missing: serve, publish, subscribe, bench, check-config or completions; --help tells more"
                    .into(),
            ))
        }
        Err(error) => Err(Failure::Usage(one_line(&error))),
    }
}

/// The first sentence of an error, and where the wrong value came from if no flag was given.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let line = first
        .strip_prefix("error: ")
        .unwrap_or(first)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return line;
    };
    let option = argument.split_whitespace().next();
    match option
        .and_then(|flag| flag.strip_prefix("--"))
        .and_then(variable_of)
    {
        Some(variable) => format!("{line} (from {variable})"),
        None => line,
    }
}

/// The variable that an option has its value from: none if a flag gave it, or no variable is set.
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

/// A variable with a slip in its name would otherwise be a setting that silently is not made.
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

/// Whether a variable is one that Kubernetes sets in every container for a service called `fanfare`, or `fanfare-…`:
/// `FANFARE_SERVICE_HOST`, `FANFARE_PORT=tcp://…`, `FANFARE_PORT_8001_TCP_ADDR` and their like.
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

fn carry_out(command: Command) -> Result<(), Failure> {
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

/// Writes to standard output. Whoever closed it wants no more, which is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Failed(format!(
            "cannot write to standard output: {error}"
        ))),
        _ => Ok(()),
    }
}
