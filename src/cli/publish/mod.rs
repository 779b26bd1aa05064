//! `fanfare publish`: publishes one event, or one event per line of standard input.

mod early_response;
mod lines;

use std::time::Duration;

use fanfare::Namespace;
use serde::Deserialize;
use ureq::config::Config;
use ureq::http::{Request, Response};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector, DefaultConnector};
use ureq::{Agent, AsSendBody, Body, SendBody};

use super::target::{self, ServerTarget};
use super::{Failure, print, whole_number};
use early_response::EarlyResponse;
use lines::{LineTemplate, Lines};

/// How long the server may take to respond.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(super) struct Publish {
    /// Namespace to publish to; with --ndjson, each line has its own
    #[arg(required_unless_present = "ndjson", conflicts_with = "ndjson")]
    namespace: Option<String>,
    /// Data of the event, empty by default; - reads one event per line from standard input
    #[arg(allow_negative_numbers = true, conflicts_with = "ndjson")]
    data: Option<String>,
    #[command(flatten)]
    target: ServerTarget,
    /// Event type
    #[arg(long, value_name = "TYPE", conflicts_with = "ndjson")]
    event: Option<String>,
    /// Event ID
    #[arg(long, value_name = "ID", conflicts_with = "ndjson")]
    id: Option<String>,
    /// Reconnection time for the subscribers that receive the event, in milliseconds
    #[arg(long, value_name = "MS", value_parser = whole_number::<u64>, conflicts_with = "ndjson")]
    retry: Option<u64>,
    /// Read one event per line from standard input, each a JSON object:
    /// {"namespace":…,"data":…,"event":…,"id":…,"retry":…}
    #[arg(long)]
    ndjson: bool,
}

/// The body of a response to `POST /publish`. A single event sets `id` and `subscribers`, a request
/// of several lines `published`, an error `error` and perhaps `line`.
#[derive(Debug, Default, Deserialize)]
struct PublishReply {
    id: Option<String>,
    subscribers: Option<u64>,
    error: Option<String>,
    line: Option<u64>,
    published: Option<u64>,
}

/// Publishes one event, or all events of standard input.
pub(super) fn publish(options: &Publish) -> Result<(), Failure> {
    match (&options.namespace, options.data.as_deref()) {
        (Some(namespace), Some("-")) => {
            if options.id.is_some() {
                let problem =
                    "--id cannot be used with -, because each event needs an ID of its own";
                return Err(Failure::Usage(problem.into()));
            }
            let template = LineTemplate {
                namespace: target::parse_namespace(namespace)?.as_str().into(),
                event: options.event.clone(),
                retry: options.retry,
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
    url.push_str(&query(options));
    let agent = Agent::new_with_config(config(&url)?);
    let reply = post(&agent, &options.target, &url, "text/plain", data)?;
    if let Some(error) = reply.error {
        return Err(Failure::Failed(format!("{url}: {error}")));
    }
    let id = reply.id.map_or_else(String::new, |id| format!(" as {id}"));
    let subscribers = count(reply.subscribers.unwrap_or(0), "subscriber");
    print(&format!("published{id} to {subscribers}\n"))
}

/// The query of a request that publishes one event, with its `?` if it is not empty.
fn query(options: &Publish) -> String {
    let retry = options.retry.map(|ms| ms.to_string());
    let parameters = [
        ("event", &options.event),
        ("id", &options.id),
        ("retry", &retry),
    ];
    let mut query = String::new();
    for (name, value) in parameters {
        if let Some(value) = value {
            let separator = if query.is_empty() { '?' } else { '&' };
            let value = target::percent_encode(value);
            query.push_str(&format!("{separator}{name}={value}"));
        }
    }
    query
}

fn publish_lines(options: &Publish, template: Option<LineTemplate>) -> Result<(), Failure> {
    let url = options.target.endpoint("publish", &Namespace::root())?;
    let url = url.trim_end_matches('/');
    let early_response = EarlyResponse::default();
    let agent = Agent::with_parts(
        config(url)?,
        DefaultConnector::new().chain(early_response.clone()),
        DefaultResolver::default(),
    );
    let mut lines = Lines::new(template, early_response);
    let body = SendBody::from_reader(&mut lines);
    let reply = post(&agent, &options.target, url, "application/x-ndjson", body);
    let (sent, problem) = lines.finish();
    let reply = match reply {
        Err(Failure::Failed(error)) if sent > 0 => {
            let sent = count(sent, "line");
            let problem = format!("{error}; it is unknown how many of {sent} were published");
            return Err(Failure::Failed(problem));
        }
        reply => reply?,
    };
    lines_result(url, reply, problem)
}

/// The result of a request of several lines. `problem` is why reading standard input ended early.
fn lines_result(url: &str, reply: PublishReply, problem: Option<String>) -> Result<(), Failure> {
    let published = count(reply.published.unwrap_or(0), "event");
    match (reply.error, reply.line, problem) {
        (Some(error), Some(line), _) => Err(Failure::Failed(format!(
            "line {line} was refused: {error}; published {published} before it, and none after"
        ))),
        (Some(error), None, _) => Err(Failure::Failed(format!(
            "{url}: {error}; nothing was published"
        ))),
        (_, _, Some(problem)) => Err(Failure::Failed(format!(
            "{problem}; published {published} before it, and none after"
        ))),
        _ => print(&format!("published {published}\n")),
    }
}

/// A number with its noun, such as `2 events`.
fn count(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

fn config(url: &str) -> Result<Config, Failure> {
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
    target: &ServerTarget,
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
        Ok(mut response) => read_reply(&mut response),
        // Without the prefix `io: ` of `ureq`.
        Err(ureq::Error::Io(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    reply.map_err(|problem| Failure::Failed(format!("{url}: {problem}")))
}

/// Reads the reply to a request.
///
/// # Errors
/// If the status leaves open whether events were published. An error that names a line, or a status
/// that refuses the whole request, is a reply.
fn read_reply(response: &mut Response<Body>) -> Result<PublishReply, String> {
    let status = response.status().as_u16();
    let text = response.body_mut().read_to_string().unwrap_or_default();
    let reply: PublishReply = serde_json::from_str(&text).unwrap_or_default();
    if status == 200 || reply.line.is_some() {
        return Ok(reply);
    }
    let text = target::error_text(&text);
    let error = format!("the server answered {status}: {text}");
    if matches!(status, 401 | 403 | 404 | 405 | 415) {
        return Ok(PublishReply {
            error: Some(error),
            ..PublishReply::default()
        });
    }
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_its_noun_in_singular_or_plural() {
        for (number, expected) in [(0, "0 events"), (1, "1 event"), (2, "2 events")] {
            assert_eq!(count(number, "event"), expected);
        }
    }

    #[test]
    fn an_error_says_how_much_was_published() {
        let reply = |error: Option<&str>, line| PublishReply {
            error: error.map(Into::into),
            line,
            published: line.map(|line| line - 1),
            ..PublishReply::default()
        };
        for (reply, problem, expected) in [
            (
                reply(Some("bad"), Some(3)),
                None,
                "line 3 was refused: bad; published 2 events before it, and none after",
            ),
            (
                reply(Some("bad"), None),
                None,
                "http://a: bad; nothing was published",
            ),
            (
                reply(None, Some(2)),
                Some("line 2 is not UTF-8"),
                "line 2 is not UTF-8; published 1 event before it, and none after",
            ),
        ] {
            let result = lines_result("http://a", reply, problem.map(Into::into));
            assert!(
                matches!(&result, Err(Failure::Failed(text)) if text == expected),
                "{result:?}"
            );
        }
    }
}
