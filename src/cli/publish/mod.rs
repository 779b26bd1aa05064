//! `fanfare publish`.

use std::io::{self, BufRead, BufReader, Read, Stdin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fanfare::Namespace;
use serde::{Deserialize, Serialize};
use ureq::http::{Request, Response};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, DefaultConnector, NextTimeout, Transport,
};
use ureq::{Agent, AsSendBody, Body, SendBody};

use super::target::{self, Target};
use super::{Failure, print};

/// How long the server may take for its answer.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to look for an answer that comes before all is sent.
const EARLY_RESPONSE_POLL: Duration = Duration::from_millis(1);

#[derive(Debug, clap::Args)]
pub(super) struct Publish {
    /// The namespace; with --ndjson each line names its own
    #[arg(required_unless_present = "ndjson", conflicts_with = "ndjson")]
    namespace: Option<String>,
    /// The data, empty by default; - reads standard input, one event a line
    #[arg(allow_negative_numbers = true, conflicts_with = "ndjson")]
    data: Option<String>,
    #[command(flatten)]
    target: Target,
    /// The event type
    #[arg(long, value_name = "TYPE", conflicts_with = "ndjson")]
    event: Option<String>,
    /// The event's ID
    #[arg(long, value_name = "ID", conflicts_with = "ndjson")]
    id: Option<String>,
    /// The reconnection time of those who receive it, in milliseconds
    #[arg(long, value_name = "MS", conflicts_with = "ndjson")]
    retry: Option<u64>,
    /// Read standard input, one event a line, as JSON: {"namespace":…,"data":…,"event":…,"id":…,"retry":…}
    #[arg(long)]
    ndjson: bool,
}

/// What the server says of events that it was sent.
#[derive(Debug, Default, Deserialize)]
struct PublishReply {
    id: Option<String>,
    subscribers: Option<u64>,
    error: Option<String>,
    line: Option<u64>,
    published: Option<u64>,
}

/// Publishes one event, or all that come on standard input.
pub(super) fn publish(options: &Publish) -> Result<(), Failure> {
    match (&options.namespace, options.data.as_deref()) {
        (Some(namespace), Some("-")) => {
            if options.id.is_some() {
                let problem = "an ID is one event's: --id does not go with -";
                return Err(Failure::Usage(problem.into()));
            }
            let template = LineEvent {
                namespace: target::parse_namespace(namespace)?.as_str().into(),
                event: options.event.clone(),
                retry: options.retry,
                data: "",
            };
            publish_lines(options, Some(template))
        }
        (Some(namespace), data) => publish_one(
            options,
            &target::parse_namespace(namespace)?,
            data.unwrap_or_default(),
        ),
        (None, _) => publish_lines(options, None),
    }
}

fn publish_one(options: &Publish, namespace: &Namespace, data: &str) -> Result<(), Failure> {
    let mut url = options.target.endpoint("publish", namespace)?;
    let retry = options.retry.map(|ms| ms.to_string());
    let query = [
        ("event", &options.event),
        ("id", &options.id),
        ("retry", &retry),
    ];
    let set = query
        .iter()
        .filter_map(|(name, value)| Some((name, value.as_ref()?)));
    for (index, (name, value)) in set.enumerate() {
        let separator = if index == 0 { '?' } else { '&' };
        url.push_str(&format!(
            "{separator}{name}={}",
            target::percent_encode(value)
        ));
    }
    let agent = Agent::new_with_config(config(&url)?);
    let reply = post(&agent, &options.target, &url, "text/plain", data)?;
    if let Some(refusal) = reply.error {
        return Err(Failure::Failed(format!("{url}: {refusal}")));
    }
    let id = reply.id.map_or_else(String::new, |id| format!(" as {id}"));
    let subscribers = counted(reply.subscribers.unwrap_or(0), "subscriber");
    print(&format!("published{id} to {subscribers}\n"))
}

fn publish_lines(options: &Publish, template: Option<LineEvent<'static>>) -> Result<(), Failure> {
    let url = options.target.endpoint("publish", &Namespace::root())?;
    let url = url.trim_end_matches('/');
    let early_response = EarlyResponse::default();
    let agent = Agent::with_parts(
        config(url)?,
        DefaultConnector::new().chain(early_response.clone()),
        DefaultResolver::default(),
    );
    let mut lines = Lines {
        input: BufReader::with_capacity(64 << 10, io::stdin()),
        template,
        early_response,
        encoded: Vec::new(),
        count: 0,
        problem: None,
    };
    let body = SendBody::from_reader(&mut lines);
    let reply = match post(&agent, &options.target, url, "application/x-ndjson", body) {
        Err(Failure::Failed(problem)) if lines.count > 0 => {
            let sent = counted(lines.count, "line");
            let problem = format!("{problem}; how much was published of {sent} is not known");
            return Err(Failure::Failed(problem));
        }
        reply => reply?,
    };
    let published = counted(reply.published.unwrap_or(0), "event");
    match (reply.error, reply.line, lines.problem) {
        (Some(error), Some(line), _) => Err(Failure::Failed(format!(
            "line {line} was refused: {error}; published {published} before it, and none after"
        ))),
        (Some(refusal), None, _) => Err(Failure::Failed(format!(
            "{url}: {refusal}; nothing was published"
        ))),
        (_, _, Some(problem)) => Err(Failure::Failed(format!(
            "{problem}; published {published} before it, and none after"
        ))),
        _ => print(&format!("published {published}\n")),
    }
}

fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

fn config(url: &str) -> Result<ureq::config::Config, Failure> {
    let url = target::parse_url(url)?;
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .user_agent(concat!("fanfare/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_per_read(Some(RESPONSE_TIMEOUT));
    if url.is_loopback() {
        config = config.proxy(None);
    }
    Ok(config.build())
}

fn post(
    agent: &Agent,
    target: &Target,
    url: &str,
    content_type: &str,
    body: impl AsSendBody,
) -> Result<PublishReply, Failure> {
    let mut request = Request::post(url).header("Content-Type", content_type);
    if let Some(token) = target.token()? {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let request = request
        .body(body)
        .map_err(|error| Failure::Usage(error.to_string()))?;
    let reply = match agent.run(request) {
        Ok(response) => reply_of(response),
        Err(ureq::Error::Io(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    reply.map_err(|problem| Failure::Failed(format!("{url}: {problem}")))
}

/// The server's answer. A refusal of a line, or of the request before any, is an answer too; any other refusal is a failure.
fn reply_of(mut response: Response<Body>) -> Result<PublishReply, String> {
    let status = response.status().as_u16();
    let text = response.body_mut().read_to_string().unwrap_or_default();
    let reply: PublishReply = serde_json::from_str(&text).unwrap_or_default();
    if status == 200 || reply.line.is_some() {
        return Ok(reply);
    }
    let refusal = format!(
        "the server answered {status}: {}",
        target::error_text(&text)
    );
    if matches!(status, 401 | 403 | 404 | 405 | 415) {
        return Ok(PublishReply {
            error: Some(refusal),
            ..PublishReply::default()
        });
    }
    Err(refusal)
}

/// The JSON form of a line.
#[derive(Debug, Serialize)]
struct LineEvent<'a> {
    namespace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<u64>,
    data: &'a str,
}

/// Standard input as a body of NDJSON, as it comes.
struct Lines {
    input: BufReader<Stdin>,
    /// What each line is the data of; without one, lines are events as they are.
    template: Option<LineEvent<'static>>,
    early_response: EarlyResponse,
    /// Bytes of the body that are yet to be sent.
    encoded: Vec<u8>,
    /// Lines read.
    count: u64,
    /// Why reading ended before the end.
    problem: Option<String>,
}

impl Lines {
    /// Reads and encodes a line; `false` if there is none.
    fn take_line(&mut self) -> io::Result<bool> {
        let mut line = Vec::new();
        match self.input.read_until(b'\n', &mut line) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(error) => {
                self.problem = Some(format!("cannot read standard input: {error}"));
                return Ok(false);
            }
        }
        self.count += 1;
        let Some(template) = &self.template else {
            self.encoded.append(&mut line);
            if !self.encoded.ends_with(b"\n") {
                self.encoded.push(b'\n');
            }
            return Ok(true);
        };
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Ok(data) = str::from_utf8(line) else {
            self.problem = Some(format!("line {} is not UTF-8", self.count));
            return Ok(false);
        };
        let event = LineEvent {
            namespace: template.namespace.clone(),
            event: template.event.clone(),
            retry: template.retry,
            data,
        };
        serde_json::to_writer(&mut self.encoded, &event)?;
        self.encoded.push(b'\n');
        Ok(true)
    }
}

impl Read for Lines {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.early_response.is_set() {
            return Ok(0);
        }
        // All lines that are there already go together; none waits for one that is yet to come.
        while self.problem.is_none()
            && self.encoded.len() < buffer.len()
            && (self.encoded.is_empty() || self.input.buffer().contains(&b'\n'))
        {
            if !self.take_line()? {
                break;
            }
        }
        let count = self.encoded.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.encoded[..count]);
        self.encoded.drain(..count);
        Ok(count)
    }
}

/// Set once the server has answered, though all is not yet sent: it refused a line, and takes no more.
///
/// As a link in the chain of connectors, it looks for an answer before each write, and passes over writes that are in vain, so that
/// the answer is read rather than lost to a failed write.
#[derive(Debug, Clone, Default)]
struct EarlyResponse(Arc<AtomicBool>);

impl EarlyResponse {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<In: Transport> Connector<In> for EarlyResponse {
    type Out = EarlyResponseTransport<In>;

    fn connect(
        &self,
        _: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let early_response = self.clone();
        Ok(chained.map(|inner| EarlyResponseTransport {
            inner,
            early_response,
        }))
    }
}

#[derive(Debug)]
struct EarlyResponseTransport<In> {
    inner: In,
    early_response: EarlyResponse,
}

impl<In: Transport> Transport for EarlyResponseTransport<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let brief = NextTimeout {
            after: EARLY_RESPONSE_POLL.into(),
            ..timeout
        };
        if !self.early_response.is_set() && matches!(self.inner.await_input(brief), Ok(true)) {
            self.early_response.set();
        }
        if self.early_response.is_set() {
            return Ok(());
        }
        match self.inner.transmit_output(amount, timeout) {
            Err(ureq::Error::Io(error)) if is_cut(&error) => {
                self.early_response.set();
                Ok(())
            }
            result => result,
        }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

fn is_cut(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}
