//! One client: its requests, their responses, and whether its connection ended for the true reason.

use fanfare::DisconnectReason as Reason;
use fanfare::internals::ConnId;

use crate::model::{Follower, Seen, show};
use crate::net::Socket;
use crate::requests::{Ask, Want, response_head};
use crate::world::Rules;

/// Bytes after a stream's request that are ignored.
const IGNORED_MOST: usize = 4 << 10;
/// Bytes after a refused request that are read so that the response arrives.
const DISCARDED_MOST: usize = 1 << 20;

/// The type of an event, and the number of subscribers that it went to.
pub(crate) type Claim = (String, u64);

pub(crate) struct Client {
    pub(crate) conn: ConnId,
    /// Its number in the engine.
    pub(crate) id: u64,
    /// It is a connection with requests, not a subscription in the same process.
    pub(crate) remote: bool,
    /// It shows the order of events, so it is neither slow nor disconnected.
    pub(crate) witness: bool,
    /// Accepted beyond the limit.
    pub(crate) surplus: bool,
    asks: Vec<Ask>,
    /// All bytes of its requests, and where each one begins.
    script: Vec<u8>,
    starts: Vec<usize>,
    /// How many bytes it sent, and how many of them the engine took.
    pub(crate) sent: usize,
    pub(crate) delivered: usize,
    /// It sends no more, and the engine knows.
    pub(crate) closes: bool,
    pub(crate) hung_up: bool,
    pub(crate) paused: bool,
    /// Events of its requests that were published.
    pub(crate) published: usize,
    /// Bytes that were received and not yet parsed.
    rest: Vec<u8>,
    /// The claims of responses about events that may still be unknown.
    pub(crate) claims: Vec<Claim>,
    answered: usize,
    /// The last response has `Connection: close`.
    last_answer: bool,
    timed_out: bool,
    head_seen: bool,
    pub(crate) follower: Option<Follower>,
    /// It must end for this reason and no other.
    pub(crate) must_end: Option<Reason>,
    /// Events were evicted for the limit of all memory while it lagged.
    pub(crate) excused: bool,
    pub(crate) ended: Option<Ended>,
    pub(crate) judged: bool,
    /// When it last received a whole response, or connected; when it last sent something.
    waiting_since: u64,
    last_sent_at: u64,
    /// The longest silence between two of its sends since the last response.
    silence: u64,
}

/// How and when a connection ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) reason: Reason,
    pub(crate) at: u64,
    /// How many events had been published.
    pub(crate) order: usize,
    /// The events and bytes that the engine counted for it.
    pub(crate) events: u64,
    pub(crate) bytes: u64,
}

impl Client {
    pub(crate) fn new(conn: ConnId, id: u64, asks: Vec<Ask>, now: u64) -> Self {
        let (mut script, mut starts) = (Vec::new(), Vec::new());
        for ask in &asks {
            starts.push(script.len());
            script.extend_from_slice(&ask.bytes);
        }
        Self {
            conn,
            id,
            remote: true,
            witness: false,
            surplus: false,
            asks,
            script,
            starts,
            sent: 0,
            delivered: 0,
            closes: false,
            hung_up: false,
            paused: false,
            published: 0,
            rest: Vec::new(),
            claims: Vec::new(),
            answered: 0,
            last_answer: false,
            timed_out: false,
            head_seen: false,
            follower: None,
            must_end: None,
            excused: false,
            ended: None,
            judged: false,
            waiting_since: now,
            last_sent_at: now,
            silence: 0,
        }
    }

    pub(crate) fn subscription(conn: ConnId, id: u64, follower: Follower, now: u64) -> Self {
        Self {
            remote: false,
            head_seen: true,
            follower: Some(follower),
            ..Self::new(conn, id, Vec::new(), now)
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.ended.is_none()
    }

    pub(crate) fn is_uploader(&self) -> bool {
        self.asks.iter().any(Ask::is_upload)
    }

    /// Whether it can be late with a body, even with one that is then refused.
    fn sends_bodies(&self) -> bool {
        let has_body = |ask: &Ask| ask.bytes.len() > ask.head_bytes;
        self.is_uploader() || self.asks.iter().any(has_body)
    }

    pub(crate) fn unsent(&self) -> usize {
        self.script.len() - self.sent
    }

    /// The bytes that the engine may read now.
    pub(crate) fn readable(&self) -> &[u8] {
        &self.script[self.delivered..self.sent]
    }

    /// The namespaces of the one stream it asks for.
    pub(crate) fn asked_namespaces(&self) -> Vec<String> {
        let stream = self.asks.iter().find_map(|ask| match &ask.want {
            Want::Stream(names) => Some(names.clone()),
            _ => None,
        });
        stream.expect("only a client that asks for a stream gets one")
    }

    /// The next event that its requests publish.
    pub(crate) fn next_event(&self) -> Option<std::rc::Rc<crate::model::Planned>> {
        let mut events = self.asks.iter().flat_map(|ask| &ask.publishes);
        events.nth(self.published).cloned()
    }

    /// Parses the bytes that the socket took since the last call.
    pub(crate) fn look(
        &mut self,
        socket: &mut Socket,
        rules: &Rules,
        now: u64,
    ) -> Result<Seen, String> {
        let mut seen = Seen::default();
        if socket.taken.is_empty() {
            return Ok(seen);
        }
        self.rest.append(&mut socket.taken);
        // Bytes that waited until events were known may have come in earlier turns.
        let now = if self.follower.is_some() {
            now
        } else {
            socket.took_at
        };
        while !self.head_seen {
            let Some(head) = response_head(&self.rest) else {
                return Ok(seen);
            };
            if !self.take_answer(head?, rules, now)? {
                return Ok(seen);
            }
        }
        let Some(follower) = &mut self.follower else {
            return Err(format!("{} after the last response", show(&self.rest)));
        };
        let taken = follower.take(&self.rest, &mut seen)?;
        self.rest.drain(..taken);
        let is_closing = follower.closing_notice.is_some();
        check(
            !(is_closing && follower.lacks_before(rules.drained_from)),
            || "a closing notice before its events".into(),
        )?;
        Ok(seen)
    }

    /// Takes one response; returns whether it is complete.
    fn take_answer(
        &mut self,
        head: crate::requests::ResponseHead,
        rules: &Rules,
        now: u64,
    ) -> Result<bool, String> {
        if self.last_answer {
            return Err(format!("{} after the last response", show(&self.rest)));
        }
        let ask = self.asks.get(self.answered);
        if head.status == 100 {
            if !ask.is_some_and(|ask| ask.continues) {
                return Err("100 without Expect".into());
            }
            self.rest.drain(..head.bytes);
            return Ok(true);
        }
        if head.status == 408 {
            return self.take_late(&head, rules, now);
        }
        let ask = ask.ok_or_else(|| format!("{head:?} without a request"))?;
        if self.follower.is_some() && matches!(ask.want, Want::Stream(_)) {
            if head.status != 200 || !head.is_stream || head.length.is_some() || !head.closes {
                return Err(format!("{head:?} for a stream"));
            }
            self.rest.drain(..head.bytes);
            self.head_seen = true;
            return Ok(true);
        }
        let length = if ask.head_only || head.status == 204 || head.length.is_none() {
            0
        } else {
            head.length.unwrap_or_default()
        };
        let body_end = head.bytes + length;
        let is_refused_stream = head.is_stream && !ask.head_only && self.rest.ends_with(b"\n\n");
        let body_end = if is_refused_stream {
            self.rest.len()
        } else {
            body_end
        };
        if self.rest.len() < body_end || (head.is_stream && !ask.head_only && !is_refused_stream) {
            return Ok(false);
        }
        let body = String::from_utf8_lossy(&self.rest[head.bytes..body_end]).into_owned();
        let turned_away = (self.surplus || rules.draining) && is_turning_away(&head, &body);
        if !turned_away {
            let claim = check_answer(ask, &head, &body, rules)
                .map_err(|problem| format!("{problem}: {head:?} {body:?} to {:?}", ask.want))?;
            self.claims.extend(claim);
        }
        self.rest.drain(..body_end);
        self.answered += 1;
        self.waiting_since = now;
        self.silence = 0;
        self.last_answer = head.closes;
        Ok(!self.rest.is_empty())
    }

    fn take_late(
        &mut self,
        head: &crate::requests::ResponseHead,
        rules: &Rules,
        now: u64,
    ) -> Result<bool, String> {
        let end = head.bytes + head.length.unwrap_or_default();
        if self.rest.len() < end {
            return Ok(false);
        }
        let late = now >= self.waiting_since + rules.head_timeout
            || (self.sends_bodies() && self.was_silent(now) >= rules.write_timeout);
        if !late {
            return Err(format!("408 in time: waited since {}", self.waiting_since));
        }
        self.rest.drain(..end);
        self.timed_out = true;
        self.last_answer = true;
        Ok(!self.rest.is_empty())
    }

    /// Whether the rest of a request's head, or the next request, is due.
    pub(crate) fn owes_head(&self) -> bool {
        if self.last_answer || self.follower.is_some() || !self.remote {
            return false;
        }
        let ask = self
            .asks
            .get(self.answered)
            .zip(self.starts.get(self.answered));
        ask.is_none_or(|(ask, start)| {
            ask.want != Want::Rejection && self.delivered < start + ask.head_bytes
        })
    }

    /// Checks that nothing has happened that should have ended the connection.
    pub(crate) fn check_alive(
        &self,
        socket: &Socket,
        rules: &Rules,
        now: u64,
    ) -> Result<(), String> {
        if let Some(at) = socket.short_at
            && now >= at + rules.write_timeout
        {
            return Err(format!("took nothing since {at} and is still there"));
        }
        if self.owes_head() && !socket.blocked && now >= self.waiting_since + rules.head_timeout {
            return Err(format!("has sent no request since {}", self.waiting_since));
        }
        if let Some(reason) = self.must_end {
            return Err(format!("is still there, though {reason}"));
        }
        Ok(())
    }

    /// Whether the connection ended for the true reason.
    pub(crate) fn judge(&self, ended: Ended, socket: &Socket, rules: &Rules) -> Result<(), String> {
        if let Some(reason) = self.must_end.or(socket.failed) {
            return check(ended.reason == reason, || format!("it was {reason}"));
        }
        let now = ended.at;
        let true_reason = match ended.reason {
            Reason::Client => self.last_answer || self.hung_up || self.delivered > DISCARDED_MOST,
            Reason::Lagged => {
                let lags = self
                    .follower
                    .as_ref()
                    .is_some_and(|follower| follower.owed > rules.max_lag);
                self.excused || (lags && !socket.always_open)
            }
            Reason::Stalled => socket
                .short_at
                .is_some_and(|at| now >= at + rules.write_timeout),
            Reason::Timeout => self.was_late(rules, now) && (!self.is_idle() || self.sent_noise()),
            Reason::Idle => self.was_late(rules, now) && self.is_idle() && !self.timed_out,
            Reason::Kicked => false,
            Reason::Shutdown => rules.draining,
            Reason::Overload => self.surplus || rules.draining,
            Reason::Protocol => self.broke_protocol(),
            _ => false,
        };
        check(true_reason, || {
            let follower = self.follower.as_ref();
            format!(
                "that is not true: owed {:?} (by log {:?}), always open {}, short at {:?}, \
                 delivered {} of {}, answered {} of {}",
                follower.map(|follower| follower.owed),
                follower.map(|follower| follower.owed_by_log),
                socket.always_open,
                socket.short_at,
                self.delivered,
                self.script.len(),
                self.answered,
                self.asks.len(),
            )
        })?;
        self.check_end(ended, socket, rules)
    }

    /// Checks the counters at the end of a stream, and its closing notice.
    fn check_end(&self, ended: Ended, socket: &Socket, rules: &Rules) -> Result<(), String> {
        let Some(follower) = &self.follower else {
            return Ok(());
        };
        if let Some(retry) = follower.closing_notice {
            check(ended.reason == Reason::Shutdown, || {
                "after a closing notice".into()
            })?;
            check(retry <= rules.grace.max(1), || {
                format!("a reconnection time of {retry} in the closing notice")
            })?;
        }
        // Events that were dropped before they were written are not counted exactly.
        if follower.owed <= rules.max_lag && !self.excused {
            let counted = (ended.events, ended.bytes);
            let is = (follower.events, socket.taken_bytes);
            check(counted == is, || {
                format!("the engine counts (events, bytes) {counted:?}, it received {is:?}")
            })?;
        }
        Ok(())
    }

    /// The engine took this number of its bytes.
    pub(crate) fn deliver(&mut self, bytes: usize, now: u64) {
        self.delivered += bytes;
        self.silence = self.was_silent(now);
        self.last_sent_at = now;
    }

    /// The longest time since the last response that it sent nothing. It can send more while the
    /// response to its delay is on the way.
    fn was_silent(&self, now: u64) -> u64 {
        self.silence.max(now.saturating_sub(self.last_sent_at))
    }

    fn was_late(&self, rules: &Rules, now: u64) -> bool {
        self.timed_out
            || (self.follower.is_none() && now >= self.waiting_since + rules.head_timeout)
            || (self.sends_bodies() && self.was_silent(now) >= rules.write_timeout)
    }

    /// Whether its requests so far were answered and it sent nothing of the next one.
    fn is_idle(&self) -> bool {
        let next = self.starts.get(self.answered).copied();
        self.answered > 0 && self.delivered <= next.unwrap_or(self.script.len())
    }

    /// Whether it may have sent bytes after the request that was answered last.
    fn sent_noise(&self) -> bool {
        let last = self.answered.checked_sub(1).map(|last| &self.asks[last]);
        last.is_some_and(|ask| matches!(ask.want, Want::Stream(_)))
    }

    pub(crate) fn broke_protocol(&self) -> bool {
        self.asks.iter().zip(&self.starts).any(|(ask, start)| {
            let of_it = self.delivered.saturating_sub(*start);
            match ask.want {
                Want::Rejection => of_it > 0,
                Want::Stream(_) => of_it > ask.head_bytes + IGNORED_MOST,
                _ => false,
            }
        })
    }
}

fn check(good: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if good { Ok(()) } else { Err(problem()) }
}

/// The response of a server that is full or about to stop.
fn is_turning_away(head: &crate::requests::ResponseHead, body: &str) -> bool {
    match head.status {
        503 => head.length.is_some(),
        200 => {
            let retry = body
                .strip_prefix("retry:")
                .and_then(|rest| rest.strip_suffix("\n\n"))
                .and_then(|ms| ms.parse::<u64>().ok());
            head.is_stream && retry.is_none_or(|ms| (5_000..=30_000).contains(&ms))
        }
        _ => false,
    }
}

fn check_answer(
    ask: &Ask,
    head: &crate::requests::ResponseHead,
    body: &str,
    rules: &Rules,
) -> Result<Option<Claim>, String> {
    let json = || serde_json::from_str::<serde_json::Value>(body).map_err(|e| e.to_string());
    match &ask.want {
        Want::Status(status) => {
            check(head.status == *status, || "another status".into())?;
            check(
                *status < 400 || ask.head_only || json()?["error"].is_string(),
                || "without an error in JSON".into(),
            )
        }
        Want::Stream(_) => check(head.status == 503 && rules.few_namespaces, || {
            "not a stream".into()
        }),
        Want::StreamHead => check(head.status == 200 && head.is_stream && head.closes, || {
            "not the head of a stream".into()
        }),
        Want::Event => {
            check(head.status == 200, || "not published".into())?;
            let count = json()?["subscribers"].as_u64().ok_or("no count")?;
            return Ok(Some((ask.publishes[0].event_type.clone(), count)));
        }
        Want::Lines(published, bad_line) => {
            let json = json()?;
            let status = if bad_line.is_some() { 400 } else { 200 };
            check(head.status == status, || "another status".into())?;
            check(
                json["published"].as_u64() == Some(*published as u64),
                || "another count".into(),
            )?;
            check(
                json["line"].as_u64() == bad_line.map(|line| line as u64),
                || "another line".into(),
            )
        }
        Want::Rejection => check((400..=505).contains(&head.status) && head.closes, || {
            "not rejected".into()
        }),
    }
    .map(|()| None)
}
