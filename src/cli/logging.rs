//! Logs, to standard error. What came from outside is escaped.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;

use super::options::{LogFormat, LogLevel};

/// Sets up logging for this process.
pub(super) fn start(format: LogFormat, level: LogLevel) {
    let level = match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let logs = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(level)
        .with_target(false)
        // Told on standard error, a failure to write there would be a panic, and the end of the server.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => logs.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
}
