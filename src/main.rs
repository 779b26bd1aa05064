//! The `fanfare` program.

#![warn(clippy::print_stdout, clippy::unwrap_used)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
