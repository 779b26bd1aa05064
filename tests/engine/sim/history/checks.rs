//! Compares the events of a stream with those that are due to it.

use fanfare::Decoded;

use super::World;
use super::client::{Asked, Stream};
use super::due::{Claim, GapReason};
use super::events::Reach;
use crate::model::show;

impl World {
    /// Checks that a lagged subscriber exceeded the limit, or lacked an event that may be gone.
    pub(super) fn check_lagged(&self, number: usize, stream: &Stream) -> Result<(), String> {
        let names = &self.clients[number].names;
        // Logs may have retained more events than they must when it connected.
        let from = stream
            .got
            .last()
            .map_or_else(|| self.begin(stream), |last| last + 1);
        let missing: Vec<usize> = (from..self.events.len())
            .filter(|&event| self.is_part(names, event) != Reach::No)
            .collect();
        let bytes: u64 = missing.iter().map(|&event| self.events[event].bytes).sum();
        let gone = missing
            .iter()
            .any(|&event| !names.iter().any(|name| self.must_retain(name, event)));
        let least = 6 * (self.config.max_event + 1) + self.config.write_budget;
        if bytes > self.config.max_lag.max(least) as u64 || gone {
            return Ok(());
        }
        Err(format!(
            "client {number} of {names:?} was disconnected as lagged, but is missing only {bytes} bytes, \
             all of which are retained"
        ))
    }

    /// Takes bytes that a client received.
    pub(super) fn take(&mut self, number: usize, bytes: &[u8]) -> Result<(), String> {
        let stream = self.clients[number].stream.as_mut();
        let stream = stream.ok_or("bytes without a stream")?;
        stream.rest.extend_from_slice(bytes);
        if stream.claim.is_none() {
            let Some(claim) = take_head(&mut stream.rest)? else {
                return Ok(());
            };
            if !stream.due.allows(claim) {
                return Err(format!("it claims {claim:?}"));
            }
            stream.claim = Some(claim);
        }
        let bytes = std::mem::take(&mut stream.rest);
        let mut events = Vec::new();
        let decoded = stream.decoder.push(&bytes, &mut |decoded| {
            if let Decoded::Event(event) = decoded {
                events.push(event);
            }
        });
        decoded.map_err(|error| error.to_string())?;
        for event in events {
            if event.event_type == "gap" {
                self.take_gap(number, &event.data)?;
            } else {
                self.take_event(number, &event.data, &event.last_event_id)?;
            }
        }
        Ok(())
    }

    fn take_gap(&mut self, number: usize, data: &str) -> Result<(), String> {
        let stream = self.clients[number].stream.as_mut();
        let stream = stream.expect("it takes bytes");
        if stream.claim != Some(Claim::Gap) || stream.gap.is_some() || !stream.got.is_empty() {
            return Err(format!("a gap event that was not claimed: {data}"));
        }
        let json: serde_json::Value =
            serde_json::from_str(data).map_err(|error| error.to_string())?;
        let Asked::After(id) = &stream.asked else {
            return Err("a gap event without a last event ID".into());
        };
        let reason = GapReason::parse(json["reason"].as_str().unwrap_or_default())?;
        if json["lastEventId"].as_str() != Some(id) || !stream.due.allows_gap(reason) {
            return Err(format!("a gap event that is not due: {data}"));
        }
        let resumed_at = json["resumedAt"]
            .as_str()
            .ok_or("a gap event without resumedAt")?;
        stream.gap = Some((reason, resumed_at.to_owned()));
        Ok(())
    }

    fn take_event(&mut self, number: usize, data: &str, id: &str) -> Result<(), String> {
        let client = &self.clients[number];
        let stream = client.stream.as_ref().expect("it takes bytes");
        let event = self.events.iter().rposition(|event| event.data == data);
        let event =
            event.ok_or_else(|| format!("{} was never published", show(data.as_bytes())))?;
        if self.events[event].id != id {
            return Err(format!("{data:.20} was received with the ID {id}"));
        }
        if self.is_part(&client.names, event) == Reach::No {
            return Err(format!("{data:.20} is of another namespace"));
        }
        if stream.claim == Some(Claim::Gap) && stream.gap.is_none() {
            return Err("an event precedes the gap event".into());
        }
        if stream.got.is_empty()
            && event < stream.joined
            && stream.gap.as_ref().is_some_and(|(_, at)| at != id)
        {
            return Err(format!("resumed at {:?}, but {id} follows", stream.gap));
        }
        if stream.got.last().is_some_and(|&last| event <= last) {
            return Err(format!("{data:.20} is out of order"));
        }
        self.check_nothing_between(&client.names, stream, event)?;
        let stream = self.clients[number].stream.as_mut().expect("as before");
        stream.got.push(event);
        Ok(())
    }

    /// Checks that no event that is due was left out before this one.
    fn check_nothing_between(
        &self,
        names: &[String],
        stream: &Stream,
        event: usize,
    ) -> Result<(), String> {
        let begin = self.begin(stream);
        if event < begin {
            let id = &self.events[event].id;
            return Err(format!(
                "{id} was received, but precedes the requested events"
            ));
        }
        let is_complete =
            stream.claim == Some(Claim::Complete) && matches!(stream.asked, Asked::After(_));
        let from = stream.got.last().map_or(begin, |last| last + 1);
        let left_out = (from..event).find(|&between| {
            self.is_part(names, between) == Reach::Yes
                && (is_complete || self.had_to_come(names, stream, between))
        });
        match left_out {
            None => Ok(()),
            Some(left_out) => Err(format!("{} was left out", self.events[left_out].id)),
        }
    }

    pub(super) fn check_all_came(&self, number: usize, stream: &Stream) -> Result<(), String> {
        let names = &self.clients[number].names;
        let begin = self.begin(stream);
        let from = stream.got.last().map_or(begin, |last| last + 1);
        let lacking = (from..self.events.len()).find(|&event| {
            self.is_part(names, event) == Reach::Yes && self.had_to_come(names, stream, event)
        });
        match lacking {
            None => Ok(()),
            Some(event) => Err(format!(
                "client {number} of {names:?} asked {:?} and did not receive {}",
                stream.asked, self.events[event].id
            )),
        }
    }

    /// Whether an event of its namespaces is due to a stream in any case, with a gap or without.
    fn had_to_come(&self, names: &[String], stream: &Stream, event: usize) -> bool {
        event >= stream.joined
            || stream.required.contains(&event) && event >= self.surely_from(names, stream)
    }

    /// The first event that it may receive.
    fn begin(&self, stream: &Stream) -> usize {
        match &stream.asked {
            Asked::Live => stream.joined,
            Asked::All => 0,
            Asked::Last(count) => {
                let is_required = |event| stream.required.contains(&event);
                nth_before(stream.joined, *count, is_required)
            }
            Asked::After(id) => {
                // Until the head is received, it is open whether the engine still knows the ID.
                let may_be_unknown = match &stream.gap {
                    Some((reason, _)) => *reason != GapReason::Expired,
                    None => stream.claim.is_none(),
                };
                match self.with_own_id(id, stream.joined) {
                    Some(_) if may_be_unknown => 0,
                    Some(event) => event + 1,
                    None => self.seq_of(id).unwrap_or(0).min(stream.joined),
                }
            }
        }
    }

    /// The first past event that is due if it was retained.
    fn surely_from(&self, names: &[String], stream: &Stream) -> usize {
        let may_be = |event| self.is_part(names, event) != Reach::No;
        match &stream.asked {
            Asked::Last(count) => nth_before(stream.joined, *count, may_be),
            _ => 0,
        }
    }
}

/// Takes a complete response head from the received bytes; returns its claim.
fn take_head(bytes: &mut Vec<u8>) -> Result<Option<Claim>, String> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head: Vec<u8> = bytes.drain(..end + 4).collect();
    let head = String::from_utf8_lossy(&head);
    let mut lines = head.lines();
    let claim = lines.find_map(|line| line.strip_prefix("Fanfare-Replay: "));
    let claim = claim.ok_or_else(|| format!("no Fanfare-Replay in {head:?}"))?;
    Claim::parse(claim).map(Some)
}

/// The `count`th event before another one, of those that `counts` selects.
fn nth_before(before: usize, count: usize, counts: impl Fn(usize) -> bool) -> usize {
    let mut some = (0..before).rev().filter(|&event| counts(event));
    match count.checked_sub(1) {
        None => before,
        Some(nth) => some.nth(nth).unwrap_or(0),
    }
}
