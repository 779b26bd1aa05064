//! The naive model: events in a list, and for each stream the events that are due to it.
//!
//! It shares no code with the engine except the decoder, whose output is compared with the expected
//! events.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use fanfare::{Decoded, Decoder, Event};

use crate::support::dice::Dice;

/// Names that overlap, and names that only share a prefix.
pub(crate) const NAMESPACES: [&str; 14] = [
    "/", "/a", "/a/b", "/a/b/c", "/ab", "/ab/c", "/b", "/b/a", "/b/a/b", "/c", "/c/c/c/c", "/a/c",
    "/d", "/d/d",
];

/// An event and its expected form in a stream.
pub(crate) struct Planned {
    pub(crate) event: Event,
    pub(crate) namespaces: Vec<String>,
    pub(crate) broadcast: bool,
    pub(crate) event_type: String,
    pub(crate) data: String,
    /// Its bytes in an event stream.
    pub(crate) wire: Vec<u8>,
    /// The events and comments that a client decodes from them.
    items: Vec<Item>,
}

#[derive(Debug, PartialEq, Eq)]
enum Item {
    Event { event_type: String, data: String },
    Comment(String),
}

/// Whether `above` is `below` or one of its ancestors.
pub(crate) fn covers(above: &str, below: &str) -> bool {
    let rest = below.strip_prefix(above.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Removes the names that another one covers.
pub(crate) fn reduce(names: &[String]) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for name in names {
        if !kept.iter().any(|other| covers(other, name)) {
            kept.retain(|other| !covers(name, other));
            kept.push(name.clone());
        }
    }
    kept
}

impl Planned {
    /// An event with data, which a request can publish too. No other event has its type.
    pub(crate) fn data(dice: &mut Dice, number: usize, max_event: usize) -> Self {
        let event_type = format!("t{number}");
        let namespaces = some_namespaces(dice);
        let data = some_data(dice, max_event);
        let mut event = Event::new(namespaces[0].clone(), data.clone()).event(event_type.clone());
        for also in &namespaces[1..] {
            event = event.also(also.clone());
        }
        let lines = lines_of(&data);
        let mut wire = format!("event:{event_type}\n");
        for line in &lines {
            wire.push_str(if line.starts_with(' ') {
                "data: "
            } else {
                "data:"
            });
            wire.push_str(line);
            wire.push('\n');
        }
        wire.push('\n');
        let item = Item::Event {
            event_type: event_type.clone(),
            data: lines.join("\n"),
        };
        Self {
            event,
            namespaces,
            broadcast: dice.percent(5),
            event_type,
            data,
            wire: wire.into(),
            items: vec![item],
        }
    }

    /// An event of any form.
    pub(crate) fn any(dice: &mut Dice, number: usize, max_event: usize) -> Self {
        let plain = Self::data(dice, number, max_event);
        let first = plain.namespaces[0].clone();
        match dice.below(20) {
            0 => {
                let text = format!("c{number}");
                Self {
                    // With a type, so that its first byte differs from that of a keepalive comment.
                    event: also(
                        Event::comment(first, text.clone()).event("c"),
                        &plain.namespaces,
                    ),
                    wire: format!("event:c\n:{text}\n\n").into(),
                    items: vec![Item::Comment(text)],
                    ..plain
                }
            }
            1 if max_event >= 64 => {
                let wire = format!("event:t{number}\ndata:x\n\nevent:u{number}\r\ndata:y\r\n\r\n");
                let item = |event_type: String, data: &str| Item::Event {
                    event_type,
                    data: data.into(),
                };
                Self {
                    event: also(Event::encoded(first, wire.clone()), &plain.namespaces),
                    wire: wire.into(),
                    items: vec![
                        item(format!("t{number}"), "x"),
                        item(format!("u{number}"), "y"),
                    ],
                    ..plain
                }
            }
            2 => {
                let mut wire = format!("id:i{number}\n").into_bytes();
                let at = plain.event_type.len() + "event:\n".len();
                wire.extend_from_slice(&plain.wire[..at]);
                wire.extend_from_slice(b"retry:77\n");
                wire.extend_from_slice(&plain.wire[at..]);
                let event = plain.event.clone().id(format!("i{number}"));
                Self {
                    event: event.retry(Duration::from_millis(77)),
                    wire,
                    ..plain
                }
            }
            _ => plain,
        }
    }

    pub(crate) fn reaches(&self, streams: &[String]) -> bool {
        self.broadcast || streams.iter().any(|name| self.is_in(name))
    }

    /// Whether it is appended to the log of this namespace, if there is one.
    pub(crate) fn is_in(&self, name: &str) -> bool {
        self.broadcast || self.namespaces.iter().any(|at| covers(name, at))
    }
}

fn also(event: Event, namespaces: &[String]) -> Event {
    namespaces[1..]
        .iter()
        .fold(event, |event, name| event.also(name.clone()))
}

fn some_namespaces(dice: &mut Dice) -> Vec<String> {
    let count = if dice.percent(15) {
        dice.between(2, 4)
    } else {
        1
    };
    (0..count)
        .map(|_| (*dice.pick(&NAMESPACES)).to_owned())
        .collect()
}

fn some_data(dice: &mut Dice, max_event: usize) -> String {
    if dice.percent(5) {
        // The largest possible frame: a few of them exceed any `max_lag`.
        return "\n".repeat(max_event);
    }
    let most = match dice.below(10) {
        0 => 0,
        1 => max_event,
        2..5 => max_event.min(1000),
        _ => max_event.min(60),
    };
    let bytes = if dice.percent(50) {
        most
    } else {
        dice.between(0, most)
    };
    let letters: &[&str] = match dice.below(6) {
        0 => &["\n"],
        1 => &["a", " ", "\n", "\r\n", "\r", "ü", "\"", ":"],
        _ => &["x", "y", "z"],
    };
    let mut data = String::new();
    loop {
        let letter = dice.pick(letters);
        if data.len() + letter.len() > bytes {
            return data;
        }
        data.push_str(letter);
    }
}

fn lines_of(data: &str) -> Vec<String> {
    let data = data.replace("\r\n", "\n").replace('\r', "\n");
    data.split('\n').map(str::to_owned).collect()
}

/// The model of one stream: the events that are due to it.
pub(crate) struct Follower {
    pub(crate) namespaces: Vec<String>,
    /// How many events had been published when it began.
    pub(crate) joined: usize,
    /// The events that it has not received in full, each with its index among all events.
    pending: VecDeque<(usize, Rc<Planned>)>,
    /// How many bytes of the first of them it has received.
    partial: usize,
    /// Bytes of its events that it has not received.
    pub(crate) owed: u64,
    /// The same, with an event in several of its logs counted once for each log.
    pub(crate) owed_by_log: u64,
    pub(crate) events: u64,
    prefix: Prefix,
    keepalive: Vec<u8>,
    /// The reconnection time in milliseconds of the closing notice, once received.
    pub(crate) closing_notice: Option<u64>,
    decoder: Decoder,
    decoded: VecDeque<Item>,
    expected: VecDeque<Item>,
    /// The last call ended in the middle of an event.
    in_middle: bool,
}

#[derive(PartialEq)]
enum Prefix {
    None,
    Expected { retry_ms: u64 },
}

/// The result of parsing a stream's bytes.
#[derive(Default)]
pub(crate) struct Seen {
    /// A keepalive comment, and whether other bytes came before it in the same turn.
    pub(crate) keepalive: Option<bool>,
}

impl Follower {
    pub(crate) fn new(
        namespaces: Vec<String>,
        joined: usize,
        prefix: Option<u64>,
        keepalive: Vec<u8>,
    ) -> Self {
        Self {
            namespaces,
            joined,
            pending: VecDeque::new(),
            partial: 0,
            owed: 0,
            owed_by_log: 0,
            events: 0,
            prefix: prefix.map_or(Prefix::None, |retry_ms| Prefix::Expected { retry_ms }),
            keepalive,
            closing_notice: None,
            decoder: Decoder::new(),
            decoded: VecDeque::new(),
            expected: VecDeque::new(),
            in_middle: false,
        }
    }

    /// An event was published after the stream began.
    pub(crate) fn expect(&mut self, slot: usize, planned: &Rc<Planned>) {
        if planned.reaches(&self.namespaces) {
            self.owed += planned.wire.len() as u64;
            self.owed_by_log += planned.wire.len() as u64 * self.logs_of(planned);
            self.pending.push_back((slot, planned.clone()));
        }
    }

    /// Whether events before this one are still due to it.
    pub(crate) fn lacks_before(&self, slot: usize) -> bool {
        self.pending.front().is_some_and(|(at, _)| *at < slot)
    }

    /// Bytes that the log of one of its namespaces must retain for it.
    pub(crate) fn needed_in(&self, name: &str) -> u64 {
        let pending = self.pending.iter().map(|(_, planned)| planned);
        let needed = pending.filter(|planned| planned.is_in(name));
        needed.map(|planned| planned.wire.len() as u64).sum()
    }

    fn logs_of(&self, planned: &Planned) -> u64 {
        let logs = self.namespaces.iter().filter(|name| planned.is_in(name));
        logs.count() as u64
    }

    /// Takes received bytes as far as they can be parsed; returns how many.
    pub(crate) fn take(&mut self, bytes: &[u8], seen: &mut Seen) -> Result<usize, String> {
        let mut at = self.take_prefix(bytes)?;
        loop {
            let rest = &bytes[at..];
            let step = if rest.is_empty() {
                0
            } else if self.closing_notice.is_some() {
                return Err(format!("{} follows a closing notice", show(rest)));
            } else if self.partial == 0 && rest.starts_with(&self.keepalive) {
                if !(at == 0 && self.in_middle) {
                    seen.keepalive = Some(at > 0);
                }
                self.keepalive.len()
            } else if self.partial == 0 && rest.starts_with(b"retry:") {
                self.take_closing_notice(rest)?
            } else if self.partial == 0 && self.may_become_special(rest) {
                0
            } else {
                self.take_event(rest)?
            };
            if step == 0 {
                break;
            }
            self.decode(&rest[..step])?;
            at += step;
        }
        self.in_middle = self.partial > 0 || at < bytes.len();
        Ok(at)
    }

    fn may_become_special(&self, rest: &[u8]) -> bool {
        let special = self.keepalive.starts_with(rest) || b"retry:".starts_with(rest);
        let next = self.pending.front();
        special && next.is_none_or(|(_, next)| !next.wire.starts_with(rest))
    }

    fn take_prefix(&mut self, bytes: &[u8]) -> Result<usize, String> {
        let Prefix::Expected { retry_ms } = self.prefix else {
            return Ok(0);
        };
        let text = String::from_utf8_lossy(bytes).into_owned();
        let comment = String::from_utf8_lossy(&self.keepalive).into_owned();
        let Some(end) = text.find("\n\n") else {
            return Ok(0);
        };
        let given = &text[..end + 2];
        let after_retry = if retry_ms == 0 {
            given
        } else {
            let (retry, rest) = given.split_once('\n').unwrap_or((given, ""));
            let retry: u64 = retry
                .strip_prefix("retry:")
                .and_then(|ms| ms.parse().ok())
                .ok_or_else(|| format!("{given:?} is not the beginning of a stream"))?;
            if retry * 2 < retry_ms || retry * 2 > retry_ms * 3 + 1 {
                return Err(format!("a reconnection time of {retry} ms"));
            }
            rest
        };
        if after_retry != comment {
            return Err(format!("{given:?} is not the beginning of a stream"));
        }
        self.prefix = Prefix::None;
        self.decoder
            .push(&bytes[..end + 2], &mut |_| {})
            .map_err(|error| error.to_string())?;
        Ok(end + 2)
    }

    fn take_closing_notice(&mut self, rest: &[u8]) -> Result<usize, String> {
        let text = String::from_utf8_lossy(rest);
        let Some(end) = text.find("\n\n") else {
            return Ok(0);
        };
        let retry: u64 = text["retry:".len()..end]
            .parse()
            .map_err(|_| format!("{text:?} is not a closing notice"))?;
        if retry == 0 {
            return Err("a closing notice with a reconnection time of 0".into());
        }
        self.closing_notice = Some(retry);
        Ok(end + 2)
    }

    fn take_event(&mut self, rest: &[u8]) -> Result<usize, String> {
        let Some((_, next)) = self.pending.front().cloned() else {
            return Err(format!("{} was received, and no event is due", show(rest)));
        };
        let expected = &next.wire[self.partial..];
        let step = expected.len().min(rest.len());
        if expected[..step] != rest[..step] {
            return Err(format!(
                "{} was received, {} bytes into {}",
                show(rest),
                self.partial,
                show(&next.wire)
            ));
        }
        self.partial += step;
        self.owed -= step as u64;
        self.owed_by_log -= step as u64 * self.logs_of(&next);
        if self.partial == next.wire.len() {
            self.partial = 0;
            self.events += 1;
            self.pending.pop_front();
            for item in &next.items {
                self.expected.push_back(match item {
                    Item::Comment(text) => Item::Comment(text.clone()),
                    Item::Event { event_type, data } => Item::Event {
                        event_type: event_type.clone(),
                        data: data.clone(),
                    },
                });
            }
        }
        Ok(step)
    }

    /// Compares the decoder's output with the expected events, one by one.
    fn decode(&mut self, bytes: &[u8]) -> Result<(), String> {
        let decoded = &mut self.decoded;
        let keepalive = &self.keepalive;
        self.decoder
            .push(bytes, &mut |found| match found {
                Decoded::Event(event) => decoded.push_back(Item::Event {
                    event_type: event.event_type,
                    data: event.data,
                }),
                Decoded::Comment(text) if format!(":{text}\n\n").as_bytes() != keepalive => {
                    decoded.push_back(Item::Comment(text));
                }
                _ => {}
            })
            .map_err(|error| error.to_string())?;
        while let (Some(expected), Some(got)) = (self.expected.front(), self.decoded.front()) {
            if expected != got {
                return Err(format!("decoded as {got:?} and not as {expected:?}"));
            }
            self.expected.pop_front();
            self.decoded.pop_front();
        }
        if self.expected.is_empty() {
            Ok(())
        } else {
            Err(format!("{:?} was not decoded", self.expected))
        }
    }
}

/// The beginning of some bytes, for a message.
pub(crate) fn show(bytes: &[u8]) -> String {
    let part = &bytes[..bytes.len().min(80)];
    format!(
        "{:?} ({} bytes)",
        String::from_utf8_lossy(part),
        bytes.len()
    )
}
