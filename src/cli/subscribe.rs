//! `fanfare subscribe`: prints the events of a stream.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use crossbeam_channel::{Receiver, after, never, select};
use fanfare::client::{Error, EventSource, StreamEvent, Update};
use fanfare::config::Span;
use serde::Serialize;

use super::target::{self, ServerTarget};
use super::{Failure, interruption, report, whole_number, write_failure};

#[derive(Debug, clap::Args)]
pub(super) struct Subscribe {
    /// Namespaces of the server, or the URL of one event stream
    #[arg(required = true, value_name = "NAMESPACE")]
    namespaces: Vec<String>,
    #[command(flatten)]
    target: ServerTarget,
    /// How to print events
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: OutputFormat,
    /// Start after the event with this ID
    #[arg(long, value_name = "ID")]
    last_event_id: Option<String>,
    /// Stop after this many events
    #[arg(long, value_name = "COUNT", value_parser = whole_number::<u64>)]
    count: Option<u64>,
    /// Stop after this time, such as 500ms, 30s or 5m; the exit code is 1 if --count is not reached
    #[arg(long, value_name = "DURATION")]
    timeout: Option<Span>,
}

/// How events are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum OutputFormat {
    /// Only the data
    Text,
    /// One JSON object per line: {"id":…,"event":…,"data":…}
    Json,
    /// An event stream, as a server sends it
    Raw,
}

/// The next input of the command.
enum Next {
    Update(Update),
    Timeout,
    Interrupted,
}

/// Prints events as they arrive, and reports everything else on standard error.
pub(super) fn subscribe(options: &Subscribe) -> Result<(), Failure> {
    let url = options.target.stream(&options.namespaces)?;
    let mut source = EventSource::builder(&url);
    if let Some(token) = options.target.token()? {
        source = source.bearer(token);
    }
    if let Some(id) = &options.last_event_id {
        source = source.last_event_id(id);
    }
    let source = source
        .spawn()
        .map_err(|error| Failure::Usage(error.to_string()))?;
    let mut out = Printer::new(options.format);
    let result = copy(options, &url, source.receiver(), &mut out);
    match out.writer.flush() {
        Ok(()) => result,
        Err(error) => write_failure(&error).and(result),
    }
}

/// Prints events until the count or the time is reached, or the stream or the program ends.
fn copy(
    options: &Subscribe,
    url: &str,
    updates: &Receiver<Update>,
    out: &mut Printer,
) -> Result<(), Failure> {
    let interrupted = interruption()?;
    let timeout = options.timeout.map_or_else(never, |span| after(span.0));
    let mut printed = 0;
    while options.count.is_none_or(|count| printed < count) {
        let next = match try_next(updates, &interrupted, &timeout) {
            Some(next) => next,
            // There is nothing to handle now, so what was printed must not wait.
            None => match out.writer.flush() {
                Ok(()) => wait_for_next(updates, &interrupted, &timeout),
                Err(error) => return write_failure(&error),
            },
        };
        match next {
            Next::Update(Update::Event(event)) => {
                if let Err(error) = out.event(&event) {
                    return write_failure(&error);
                }
                printed += 1;
            }
            Next::Update(Update::Closed(error)) => return Err(closed(url, error)),
            Next::Update(update) => report_update(url, &update),
            Next::Interrupted => return Ok(()),
            Next::Timeout => {
                return options.count.map_or(Ok(()), |count| {
                    let problem = format!("only {printed} of {count} events arrived in time");
                    Err(Failure::Failed(problem))
                });
            }
        }
    }
    Ok(())
}

fn report_update(url: &str, update: &Update) {
    match update {
        Update::Open => report(&format!("connected to {url}")),
        Update::Lost { error, wait } => {
            let seconds = wait.as_secs_f64();
            report(&format!("{url}: {error}; reconnecting in {seconds:.1} s"));
        }
        Update::Gap(gap) => report(&format!(
            "events after {} may be missing: {}",
            gap.last_event_id, gap.reason
        )),
        _ => {}
    }
}

fn closed(url: &str, mut error: Error) -> Failure {
    if let Error::Status { body, .. } = &mut error {
        *body = target::error_text(body);
    }
    Failure::Failed(format!("{url}: {error}"))
}

/// The next input, if there is one now. Interrupts and the timeout take precedence over updates.
fn try_next<T>(
    updates: &Receiver<Update>,
    interrupted: &Receiver<()>,
    timeout: &Receiver<T>,
) -> Option<Next> {
    if interrupted.try_recv().is_ok() {
        Some(Next::Interrupted)
    } else if timeout.try_recv().is_ok() {
        Some(Next::Timeout)
    } else {
        updates.try_recv().ok().map(Next::Update)
    }
}

fn wait_for_next<T>(
    updates: &Receiver<Update>,
    interrupted: &Receiver<()>,
    timeout: &Receiver<T>,
) -> Next {
    select! {
        recv(updates) -> update => update.map_or(Next::Interrupted, Next::Update),
        recv(interrupted) -> _ => Next::Interrupted,
        recv(timeout) -> _ => Next::Timeout,
    }
}

struct Printer {
    writer: BufWriter<StdoutLock<'static>>,
    format: OutputFormat,
    /// Control characters in data are replaced on a terminal, because they could control it.
    is_terminal: bool,
}

#[derive(Serialize)]
struct Json<'a> {
    id: Option<&'a str>,
    event: &'a str,
    data: &'a str,
}

impl Printer {
    fn new(format: OutputFormat) -> Self {
        Self {
            writer: BufWriter::with_capacity(64 << 10, io::stdout().lock()),
            format,
            is_terminal: io::stdout().is_terminal(),
        }
    }

    fn event(&mut self, event: &StreamEvent) -> io::Result<()> {
        let id = Some(&*event.last_event_id).filter(|id| !id.is_empty());
        match self.format {
            OutputFormat::Json => {
                let (event, data) = (&*event.event_type, &*event.data);
                serde_json::to_writer(&mut self.writer, &Json { id, event, data })?;
                self.writer.write_all(b"\n")
            }
            OutputFormat::Text if self.is_terminal => {
                let is_control = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
                writeln!(
                    self.writer,
                    "{}",
                    event.data.replace(is_control, "\u{fffd}")
                )
            }
            OutputFormat::Text => {
                self.writer.write_all(event.data.as_bytes())?;
                self.writer.write_all(b"\n")
            }
            OutputFormat::Raw => {
                if let Some(id) = id {
                    self.line("id", id)?;
                }
                if event.event_type != "message" {
                    self.line("event", &event.event_type)?;
                }
                for line in event.data.split('\n') {
                    self.line("data", line)?;
                }
                self.writer.write_all(b"\n")
            }
        }
    }

    /// Prints one line of an event stream. Readers strip one space after the colon, so a value that
    /// starts with a space gets another.
    fn line(&mut self, field: &str, value: &str) -> io::Result<()> {
        let space = if value.starts_with(' ') { " " } else { "" };
        writeln!(self.writer, "{field}:{space}{value}")
    }
}
