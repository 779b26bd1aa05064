//! The requests of clients, valid and not, and the response that each must get.

use std::rc::Rc;

use crate::model::{NAMESPACES, Planned};
use crate::support::dice::Dice;

/// One request.
pub(crate) struct Ask {
    pub(crate) bytes: Vec<u8>,
    pub(crate) head_bytes: usize,
    pub(crate) want: Want,
    /// What it publishes if all of it arrives.
    pub(crate) publishes: Vec<Rc<Planned>>,
    /// It is `HEAD`, so the response has no body.
    pub(crate) head_only: bool,
    /// `100 Continue` may come before the response.
    pub(crate) continues: bool,
    /// It has `Accept: text/event-stream`.
    pub(crate) accepts_stream: bool,
}

/// The response that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Want {
    Status(u16),
    /// An event stream of these namespaces.
    Stream(Vec<String>),
    /// The head of an event stream.
    StreamHead,
    /// An event is published, and the response has the number of subscribers.
    Event,
    /// This number of lines is published, in all or before the invalid line.
    Lines(usize, Option<usize>),
    /// Any error, and the end of the connection.
    Rejection,
}

impl Ask {
    fn new(head: String, body: &[u8], want: Want) -> Self {
        let mut bytes = head.into_bytes();
        let head_bytes = bytes.len();
        bytes.extend_from_slice(body);
        Self {
            bytes,
            head_bytes,
            want,
            publishes: Vec::new(),
            head_only: false,
            continues: false,
            accepts_stream: false,
        }
    }

    pub(crate) fn is_upload(&self) -> bool {
        !self.publishes.is_empty() || matches!(self.want, Want::Lines(..))
    }
}

/// Writes requests.
pub(crate) struct Writer<'a> {
    pub(crate) dice: &'a mut Dice,
    pub(crate) max_event: usize,
    /// The number of the next event.
    pub(crate) next_event: &'a mut usize,
}

impl Writer<'_> {
    /// All requests of one client, in order. Only the last can be for a stream.
    pub(crate) fn script(&mut self, uploads: bool) -> Vec<Ask> {
        let mut script = Vec::new();
        if uploads {
            for _ in 0..self.dice.between(1, 5) {
                script.push(if self.dice.percent(80) {
                    self.upload()
                } else {
                    self.simple()
                });
            }
        }
        for _ in 0..[0, 0, 0, 1, 3][self.dice.below(5)] {
            script.push(self.simple());
        }
        match self.dice.below(20) {
            0 | 1 => script.push(self.broken()),
            2 => {}
            _ => script.push(self.stream()),
        }
        script
    }

    fn stream(&mut self) -> Ask {
        let count = if self.dice.percent(35) {
            self.dice.between(2, 6)
        } else {
            1
        };
        let names: Vec<String> = (0..count)
            .map(|_| (*self.dice.pick(&NAMESPACES)).to_owned())
            .collect();
        let target = if count == 1 && self.dice.percent(70) {
            format!("/subscribe{}", names[0])
        } else {
            let pairs: Vec<String> = names.iter().map(|name| format!("ns={name}")).collect();
            format!("/subscribe?{}", pairs.join("&"))
        };
        let accepts = self.dice.percent(70);
        let accept = if accepts {
            "Accept: text/event-stream\r\n"
        } else {
            ""
        };
        let head_only = self.dice.percent(7);
        let method = if head_only { "HEAD" } else { "GET" };
        let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{accept}\r\n");
        // Bytes after a stream's request are ignored, up to a limit.
        let noise = match self.dice.below(12) {
            0 => "noise".repeat(100),
            1 => "noise".repeat(900),
            _ => String::new(),
        };
        let want = if head_only {
            Want::StreamHead
        } else {
            Want::Stream(names)
        };
        let mut ask = Ask::new(head, noise.as_bytes(), want);
        ask.head_only = head_only;
        ask.accepts_stream = accepts;
        ask
    }

    fn simple(&mut self) -> Ask {
        let host = "Host: localhost\r\n";
        let (line, headers, status) = *self.dice.pick(&[
            ("GET /healthz HTTP/1.1", "", 200),
            ("GET /healthz HTTP/1.1", "", 200),
            ("GET /readyz HTTP/1.1", "", 200),
            ("HEAD /healthz HTTP/1.1", "", 200),
            ("GET /nowhere HTTP/1.1", "", 404),
            ("POST /subscribe/a HTTP/1.1", "", 405),
            ("GET /publish/a HTTP/1.1", "", 405),
            ("OPTIONS /subscribe HTTP/1.1", "Origin: http://o\r\n", 204),
            ("GET /subscribe/a/../b HTTP/1.1", "", 400),
            ("GET /subscribe/%zz HTTP/1.1", "", 400),
            ("GET /healthz HTTP/1.0", "Connection: keep-alive\r\n", 200),
            ("GET /healthz HTTP/1.0", "", 200),
            ("GET /healthz HTTP/1.1", "Connection: close\r\n", 200),
            ("GET /healthz HTTP/1.1", "Content-Length: 3\r\n", 200),
            #[cfg(feature = "admin")]
            ("GET /admin/status.json?sort=-lag HTTP/1.1", "", 200),
            #[cfg(feature = "admin")]
            ("GET /admin/namespaces.json HTTP/1.0", "", 200),
            #[cfg(feature = "admin")]
            ("HEAD /metrics HTTP/1.1", "", 200),
            #[cfg(feature = "admin")]
            ("GET /admin/connection.json?id=0 HTTP/1.1", "", 404),
        ]);
        let body = if headers.starts_with("Content-Length") {
            "abc"
        } else {
            ""
        };
        let head = format!("{line}\r\n{host}{headers}\r\n");
        let mut ask = Ask::new(head, body.as_bytes(), Want::Status(status));
        ask.head_only = line.starts_with("HEAD");
        ask
    }

    fn broken(&mut self) -> Ask {
        let host = "Host: localhost\r\n";
        let bytes = match self.dice.below(9) {
            0 => "GET /healthz HTTP/1.1\r\n\r\n".to_owned(),
            1 => format!("GET /healthz HTTP/1.1\r\n{host}{host}\r\n"),
            2 => "WHAT IS THIS\r\n\r\n".to_owned(),
            3 => "\u{1}\u{2}\u{3}\u{4}".to_owned(),
            4 => format!(
                "GET /healthz HTTP/1.1\r\n{host}X: {}\r\n\r\n",
                "a".repeat(9000)
            ),
            5 => format!("GET /healthz HTTP/1.1\r\n{host}A: b\r\n folded\r\n\r\n"),
            6 => format!(
                "POST /publish/a HTTP/1.1\r\n{host}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
            ),
            7 => format!(
                "GET /healthz HTTP/1.1\r\n{host}{}\r\n",
                "A: b\r\n".repeat(70)
            ),
            _ => "GET /healthz\n\n".to_owned(),
        };
        Ask::new(bytes, b"", Want::Rejection)
    }

    fn upload(&mut self) -> Ask {
        let form = self.dice.below(10);
        match form {
            0..3 => self.raw(),
            3..5 => self.json(),
            5 => self.refused(),
            _ => self.lines(),
        }
    }

    fn planned(&mut self) -> Planned {
        *self.next_event += 1;
        Planned::data(self.dice, *self.next_event, self.max_event)
    }

    fn raw(&mut self) -> Ask {
        let mut planned = self.planned();
        planned.namespaces.truncate(1);
        let broadcast = if planned.broadcast {
            "&broadcast=1"
        } else {
            ""
        };
        let target = format!(
            "/publish{}?event={}{broadcast}",
            planned.namespaces[0], planned.event_type
        );
        let body = planned.data.clone();
        let mut ask = self.post(&target, "text/plain", body.as_bytes(), Want::Event);
        ask.publishes = vec![planned.into()];
        ask
    }

    fn json(&mut self) -> Ask {
        let planned = self.planned();
        let target = if planned.broadcast {
            "/publish?broadcast=1"
        } else {
            "/publish"
        };
        let body = json_of(&planned);
        let mut ask = self.post(target, "application/json", body.as_bytes(), Want::Event);
        ask.publishes = vec![planned.into()];
        ask
    }

    fn lines(&mut self) -> Ask {
        let broadcast = self.dice.percent(5);
        let count = match self.dice.below(8) {
            0 => 0,
            1 => self.dice.between(50, 300),
            _ => self.dice.between(1, 12),
        };
        let bad_at = self.dice.percent(20).then(|| self.dice.between(0, count));
        let (mut body, mut line, mut publishes) = (String::new(), 0, Vec::new());
        let mut bad_line = None;
        for index in 0..=count {
            if bad_at == Some(index) {
                bad_line = Some(line + 1);
                body.push_str("{\"namespace\":7}\n");
                line += 1;
            }
            if index == count {
                break;
            }
            if self.dice.percent(5) {
                body.push('\n');
                line += 1;
            }
            let mut planned = self.planned();
            planned.broadcast = broadcast;
            body.push_str(&json_of(&planned));
            body.push_str(if self.dice.percent(20) { "\r\n" } else { "\n" });
            line += 1;
            if bad_line.is_none() {
                publishes.push(planned.into());
            }
        }
        if bad_line.is_none() && self.dice.percent(30) && body.ends_with('\n') {
            body.pop();
        }
        let target = if broadcast {
            "/publish?broadcast=1"
        } else {
            "/publish"
        };
        let want = Want::Lines(publishes.len(), bad_line);
        let mut ask = self.post(target, "application/x-ndjson", body.as_bytes(), want);
        ask.publishes = publishes;
        ask
    }

    fn refused(&mut self) -> Ask {
        let large = "x".repeat(self.max_event + 1);
        match self.dice.below(4) {
            0 => self.post(
                "/publish/a",
                "text/plain",
                large.as_bytes(),
                Want::Status(413),
            ),
            1 => self.post("/publish/a", "text/plain", b"\xff", Want::Status(400)),
            2 => self.post("/publish", "application/json", b"{", Want::Status(400)),
            _ => self.post("/publish", "text/plain", b"x", Want::Status(415)),
        }
    }

    fn post(&mut self, target: &str, media_type: &str, body: &[u8], want: Want) -> Ask {
        let chunked = self.dice.percent(40);
        let continues = self.dice.percent(20);
        let framing = if chunked {
            "Transfer-Encoding: chunked".to_owned()
        } else {
            format!("Content-Length: {}", body.len())
        };
        let expect = if continues {
            "Expect: 100-continue\r\n"
        } else {
            ""
        };
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\n{framing}\r\n{expect}\r\n"
        );
        let body = if chunked {
            self.chunks(body)
        } else {
            body.to_vec()
        };
        let mut ask = Ask::new(head, &body, want);
        ask.continues = continues;
        ask
    }

    fn chunks(&mut self, mut body: &[u8]) -> Vec<u8> {
        let most = *self.dice.pick(&[3, 50, 5000, 100_000]);
        let mut out = Vec::new();
        while !body.is_empty() {
            let (chunk, rest) = body.split_at(self.dice.between(1, most).min(body.len()));
            let extension = if self.dice.percent(10) { ";x=y" } else { "" };
            out.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
            out.extend_from_slice(chunk);
            out.extend_from_slice(b"\r\n");
            body = rest;
        }
        out.extend_from_slice(b"0\r\n\r\n");
        out
    }
}

fn json_of(planned: &Planned) -> String {
    let mut form = serde_json::json!({ "data": planned.data, "event": planned.event_type });
    if let [namespace] = &planned.namespaces[..] {
        form["namespace"] = namespace.as_str().into();
    } else {
        form["namespaces"] = planned.namespaces.clone().into();
    }
    form.to_string()
}

/// The head of a response, as a client parses it.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: u16,
    /// Its length, the empty line included.
    pub(crate) bytes: usize,
    pub(crate) length: Option<usize>,
    pub(crate) closes: bool,
    pub(crate) is_stream: bool,
}

/// Parses the head of a response; `None` while it is incomplete.
pub(crate) fn response_head(bytes: &[u8]) -> Option<Result<ResponseHead, String>> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
    Some(parse_head(&text, end).ok_or(format!("{text:?} is not a response")))
}

fn parse_head(text: &str, bytes: usize) -> Option<ResponseHead> {
    let mut lines = text.trim_end().split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?;
    let mut head = ResponseHead {
        status: status.get(..3)?.parse().ok()?,
        bytes,
        length: None,
        closes: false,
        is_stream: false,
    };
    for line in lines {
        let (name, value) = line.split_once(": ")?;
        match name {
            "Content-Length" => head.length = Some(value.parse().ok()?),
            "Connection" => head.closes = value == "close",
            "Content-Type" => head.is_stream = value.starts_with("text/event-stream"),
            _ => {}
        }
    }
    Some(head)
}
