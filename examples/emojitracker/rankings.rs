//! How often each emoji was used, up to one roll-up: what a page begins with before it goes on with the stream.
//!
//! Counted by a subscriber of the stream itself, in this process. So the counts are those of exactly the events that the server has given
//! out up to the one whose id they bear, and whoever resumes after that one misses nothing and counts nothing twice.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fanfare::{Response, StreamEvent, Subscription};
use serde_json::json;

#[derive(Debug)]
pub(crate) struct Rankings {
    /// Whether events have ids and may be resumed after.
    history: bool,
    /// Where the posts come from, as the page tells.
    source: &'static str,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    counts: HashMap<String, u64>,
    last_event_id: String,
    /// The response as it stands, made when somebody asks.
    response: Option<Response>,
}

impl Rankings {
    pub(crate) fn new(history: bool, source: &'static str) -> Self {
        Self {
            history,
            source,
            state: Mutex::default(),
        }
    }

    /// Counts until the stream ends.
    pub(crate) fn count(&self, eps: Subscription) {
        for event in eps {
            self.add(event);
        }
    }

    fn add(&self, event: StreamEvent) {
        // They are our own roll-ups: anything else would have been published by somebody else.
        let Ok(counts) = serde_json::from_str::<HashMap<String, u64>>(&event.data) else {
            return;
        };
        let mut state = self.lock();
        for (id, count) in counts {
            *state.counts.entry(id).or_default() += count;
        }
        state.last_event_id = event.last_event_id;
        state.response = None;
    }

    /// The counts as JSON, most used first, made once for all who ask between two roll-ups.
    pub(crate) fn response(&self) -> Response {
        let mut state = self.lock();
        if let Some(response) = &state.response {
            return response.clone();
        }
        let response = Response::new("application/json", self.to_json(&state))
            .header("Cache-Control", "no-store");
        state.response = Some(response.clone());
        response
    }

    fn to_json(&self, state: &State) -> String {
        let mut ranked: Vec<(&String, u64)> = state
            .counts
            .iter()
            .map(|(id, &count)| (id, count))
            .collect();
        ranked.sort_unstable_by(|(a, more), (b, less)| less.cmp(more).then(a.cmp(b)));
        let rankings: Vec<_> = ranked
            .into_iter()
            .map(|(id, score)| json!({ "id": id, "score": score }))
            .collect();
        let last_event_id = Some(&state.last_event_id).filter(|id| !id.is_empty());
        json!({
            "source": self.source,
            "history": self.history,
            "lastEventId": last_event_id,
            "rankings": rankings,
        })
        .to_string()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
