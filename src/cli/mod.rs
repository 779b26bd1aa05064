//! The command line: what it takes, and the one line that says what was wrong.

mod demo;
mod logging;
mod options;
mod serve;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use options::Options;

/// A broadcast server for Server-Sent Events.
#[derive(Debug, Parser)]
#[command(name = "fanfare", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve event streams, and take events over HTTP.
    ///
    /// Every option is a flag, a variable and a key of the file, in this order of precedence: `--max-lag 4MiB`,
    /// `FANFARE_MAX_LAG=4MiB`, and `max-lag: 4MiB` in YAML or `max-lag = "4MiB"` in TOML. Durations are written `500ms`, `15s`, `5m`, `1h`;
    /// sizes `64KiB`, `1MiB`, `1GiB`, or a number of bytes.
    Serve(Box<Serve>),
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

#[derive(Debug, clap::Args)]
struct Serve {
    /// Read options from this file: .yaml, .yml or .toml
    #[arg(long, env = "FANFARE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
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
    // Nobody is left to tell when standard error is gone.
    let _ = writeln!(io::stderr(), "fanfare: {message}");
    ExitCode::from(code)
}

fn parse() -> Result<Command, Failure> {
    refuse_unknown_variables()?;
    match Cli::try_parse() {
        Ok(cli) => Ok(cli.command),
        Err(error) if !error.use_stderr() => {
            print(&error.render().to_string());
            std::process::exit(0)
        }
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Err(Failure::Usage(
                "a command is missing: serve, check-config or completions; --help tells more"
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
    let Some(flag) = argument
        .split_whitespace()
        .next()
        .filter(|flag| flag.starts_with("--"))
    else {
        return line;
    };
    let given =
        std::env::args().any(|given| given == flag || given.starts_with(&format!("{flag}=")));
    let variable = format!("FANFARE_{}", flag[2..].replace('-', "_").to_uppercase());
    if given || std::env::var_os(&variable).is_none() {
        line
    } else {
        format!("{line} (from {variable})")
    }
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
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FANFARE_") && !known.contains(&name.as_os_str()) {
            return Err(Failure::Usage(format!(
                "unknown variable {} in the environment",
                name.to_string_lossy().escape_debug()
            )));
        }
    }
    Ok(())
}

fn carry_out(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(serve) => {
            let from_file = serve
                .config
                .as_deref()
                .map_or(Ok(Options::default()), options::read_file);
            let options = serve.options.or(from_file.map_err(Failure::Usage)?);
            serve::serve(&options)
        }
        Command::CheckConfig { file } => {
            let config = options::read_file(&file).map_err(Failure::Usage)?.config();
            config
                .check()
                .map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))?;
            print(&format!("{}: ok\n", file.display()));
            Ok(())
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "fanfare", &mut script);
            print(&String::from_utf8_lossy(&script));
            Ok(())
        }
    }
}

/// Writes to standard output. Whoever closed it wants no more, which is no failure.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
