//! `fanfare subscribe`.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use crossbeam_channel::{Receiver, after, never, select};
use fanfare::client::{Error, EventSource, StreamEvent, Update};
use fanfare::config::Span;
use serde::Serialize;

use super::target::{self, Target};
use super::{Failure, interruption, report};

#[derive(Debug, clap::Args)]
pub(super) struct Subscribe {
    /// Namespaces of the server, or the full URL of any event stream
    #[arg(required = true, value_name = "NAMESPACE")]
    namespaces: Vec<String>,
    #[command(flatten)]
    target: Target,
    /// How events are written
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
    /// Begin after the event with this ID
    #[arg(long, value_name = "ID")]
    last_event_id: Option<String>,
    /// End after this many events
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,
    /// End after this time, such as 500ms, 30s or 5m; a failure if there is a count that was not reached
    #[arg(long, value_name = "DURATION")]
    timeout: Option<Span>,
}

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// The data alone
    Text,
    /// A JSON object a line: {"id":…,"event":…,"data":…}
    Json,
    /// An event stream, as a server would send it
    Raw,
}

/// What comes next.
enum Next {
    Update(Update),
    TimeIsUp,
    Interrupted,
}

/// Writes events as they come, and tells on standard error what else happens.
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
    let mut out = Out::new(options.format);
    let result = copy(options, &url, source.receiver(), &mut out);
    match out.writer.flush() {
        Ok(()) => result,
        Err(error) => unwritten(&error).and(result),
    }
}

fn copy(
    options: &Subscribe,
    url: &str,
    updates: &Receiver<Update>,
    out: &mut Out,
) -> Result<(), Failure> {
    let interrupted = interruption()?;
    let timeout = options.timeout.map_or_else(never, |span| after(span.0));
    let mut written = 0;
    while options.count.is_none_or(|count| written < count) {
        let next = match next_at_once(updates, &interrupted, &timeout) {
            Some(next) => next,
            // Nothing more for now: what was written so far must not wait.
            None => match out.writer.flush() {
                Ok(()) => next(updates, &interrupted, &timeout),
                Err(error) => return unwritten(&error),
            },
        };
        match next {
            Next::Update(Update::Event(event)) => {
                if let Err(error) = out.event(&event) {
                    return unwritten(&error);
                }
                written += 1;
            }
            Next::Update(Update::Open) => report(&format!("connected to {url}")),
            Next::Update(Update::Lost { error, wait }) => {
                let seconds = wait.as_secs_f64();
                report(&format!("{url}: {error}; again in {seconds:.1} s"));
            }
            Next::Update(Update::Gap(gap)) => report(&format!(
                "events after {} may be missing: {}",
                gap.last_event_id, gap.reason
            )),
            Next::Update(Update::Closed(mut error)) => {
                if let Error::Status { body, .. } = &mut error {
                    *body = target::error_text(body);
                }
                return Err(Failure::Failed(format!("{url}: {error}")));
            }
            Next::Update(_) => {}
            Next::Interrupted => return Ok(()),
            Next::TimeIsUp => {
                return options.count.map_or(Ok(()), |count| {
                    let problem = format!("{written} of {count} events came in time");
                    Err(Failure::Failed(problem))
                });
            }
        }
    }
    Ok(())
}

fn next_at_once<T>(
    updates: &Receiver<Update>,
    interrupted: &Receiver<()>,
    timeout: &Receiver<T>,
) -> Option<Next> {
    if interrupted.try_recv().is_ok() {
        Some(Next::Interrupted)
    } else if timeout.try_recv().is_ok() {
        Some(Next::TimeIsUp)
    } else {
        updates.try_recv().ok().map(Next::Update)
    }
}

fn next<T>(updates: &Receiver<Update>, interrupted: &Receiver<()>, timeout: &Receiver<T>) -> Next {
    select! {
        recv(updates) -> update => update.map_or(Next::Interrupted, Next::Update),
        recv(interrupted) -> _ => Next::Interrupted,
        recv(timeout) -> _ => Next::TimeIsUp,
    }
}

/// Whoever closed standard output wants no more, which is no failure.
fn unwritten(error: &io::Error) -> Result<(), Failure> {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "cannot write to standard output: {error}"
    )))
}

struct Out {
    writer: BufWriter<StdoutLock<'static>>,
    format: Format,
    /// What comes from outside must not command a terminal.
    is_terminal: bool,
}

#[derive(Serialize)]
struct Json<'a> {
    id: Option<&'a str>,
    event: &'a str,
    data: &'a str,
}

impl Out {
    fn new(format: Format) -> Self {
        Self {
            writer: BufWriter::with_capacity(64 << 10, io::stdout().lock()),
            format,
            is_terminal: io::stdout().is_terminal(),
        }
    }

    fn event(&mut self, event: &StreamEvent) -> io::Result<()> {
        let id = Some(&*event.last_event_id).filter(|id| !id.is_empty());
        match self.format {
            Format::Json => {
                let (event, data) = (&*event.event_type, &*event.data);
                serde_json::to_writer(&mut self.writer, &Json { id, event, data })?;
                self.writer.write_all(b"\n")
            }
            Format::Text if self.is_terminal => {
                let commands = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
                writeln!(self.writer, "{}", event.data.replace(commands, "\u{fffd}"))
            }
            Format::Text => {
                self.writer.write_all(event.data.as_bytes())?;
                self.writer.write_all(b"\n")
            }
            Format::Raw => {
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

    /// One line of an event stream. A reader strips one space after the colon, so a value that begins with one needs another.
    fn line(&mut self, field: &str, value: &str) -> io::Result<()> {
        let space = if value.starts_with(' ') { " " } else { "" };
        writeln!(self.writer, "{field}:{space}{value}")
    }
}
