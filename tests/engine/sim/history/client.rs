//! A client that asks for a stream, is cut off, and reconnects with the ID of its last event.

use fanfare::Decoder;
use fanfare::internals::{ConnId, ReadInterest};

use super::World;
use super::due::{Claim, Due, GapReason};
use crate::model::reduce;

/// IDs that name no event, except that a publisher may give the last one.
const ODD_IDS: [&str; 7] = ["odd", "1-99999", "9-1", "1-", "-3", "1-+1", "mine"];

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Asked {
    Live,
    All,
    Last(usize),
    After(String),
}

/// One stream, from its request on.
pub(super) struct Stream {
    pub(super) conn: ConnId,
    /// Bytes that were received and not yet decoded.
    pub(super) rest: Vec<u8>,
    /// The claim of its head, once received.
    pub(super) claim: Option<Claim>,
    pub(super) decoder: Decoder,
    pub(super) asked: Asked,
    /// How many events there were when it began.
    pub(super) joined: usize,
    /// The events before that must be retained when it began.
    pub(super) required: Vec<usize>,
    pub(super) due: Due,
    /// The reason of the gap event, and the ID that it announces as the next.
    pub(super) gap: Option<(GapReason, String)>,
    /// The received events, by index.
    pub(super) got: Vec<usize>,
}

pub(super) struct Client {
    pub(super) names: Vec<String>,
    pub(super) last_id: String,
    /// It reconnects late.
    away: bool,
    pub(super) stream: Option<Stream>,
}

impl Client {
    pub(super) fn new(away: bool) -> Self {
        Self {
            names: Vec::new(),
            last_id: String::new(),
            away,
            stream: None,
        }
    }

    /// Its stream ends; it remembers the last event.
    pub(super) fn leave(&mut self) -> Option<Stream> {
        let stream = self.stream.take()?;
        self.last_id = stream.decoder.last_event_id().to_owned();
        Some(stream)
    }
}

impl World {
    pub(super) fn connect(&mut self) -> Result<(), String> {
        let number = self.dice.below(self.clients.len());
        let stays_away = self.clients[number].away && self.dice.percent(90);
        if self.clients[number].stream.is_some() || stays_away {
            return Ok(());
        }
        if self.clients[number].names.is_empty() || self.dice.percent(5) {
            self.clients[number].names = reduce(&self.names());
            self.clients[number].last_id = String::new();
        }
        let asked = self.some_question(number);
        let request = self.request(number, &asked);
        let now = self.instant();
        let peer = "127.0.0.1:1".parse().expect("an address");
        let conn = self
            .engine
            .accept(peer, now)
            .ok_or("a connection was refused below the limit")?;
        let sip = *self.dice.pick(&[usize::MAX, usize::MAX, 1, 40, 3000]);
        self.net.add(conn, number, sip);
        let interest = self.engine.receive(conn, request.as_bytes(), now);
        if interest != ReadInterest::More || !self.engine.is_stream(conn) {
            return Err(format!("{request:?} did not start a stream"));
        }
        let client = &self.clients[number];
        let is_required = |event: &usize| {
            client
                .names
                .iter()
                .any(|name| self.must_retain(name, *event))
        };
        let stream = Stream {
            conn,
            rest: Vec::new(),
            claim: None,
            decoder: Decoder::new().resuming(&client.last_id),
            joined: self.events.len(),
            required: (0..self.events.len()).filter(is_required).collect(),
            due: self.due(&client.names, &asked),
            asked,
            gap: None,
            got: Vec::new(),
        };
        self.clients[number].stream = Some(stream);
        Ok(())
    }

    fn some_question(&mut self, number: usize) -> Asked {
        let last_id = &self.clients[number].last_id;
        match self.dice.below(20) {
            0 => Asked::All,
            1 => Asked::Last(self.dice.between(0, 9)),
            2 => Asked::After((*self.dice.pick(&ODD_IDS)).into()),
            3 => Asked::Live,
            _ if last_id.is_empty() => Asked::Live,
            _ => Asked::After(last_id.clone()),
        }
    }

    fn request(&mut self, number: usize, asked: &Asked) -> String {
        let names = self.clients[number].names.iter();
        let pairs: Vec<String> = names.map(|name| format!("ns={name}")).collect();
        let (query, header) = match asked {
            Asked::Live => (String::new(), String::new()),
            Asked::All => ("&replay=all".into(), String::new()),
            Asked::Last(count) => (format!("&replay={count}"), String::new()),
            Asked::After(id) if self.dice.percent(50) => (
                format!("&replay=all&lastEventId={}", id.replace('+', "%2B")),
                String::new(),
            ),
            Asked::After(id) => (
                "&lastEventId=other".into(),
                format!("Last-Event-ID: {id}\r\n"),
            ),
        };
        let target = format!("/subscribe?{}{query}", pairs.join("&"));
        format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n")
    }
}
