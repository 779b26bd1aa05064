//! The count of each emoji up to one roll-up. A page starts with it and then follows the stream.
//!
//! A subscriber in this process counts the events of the stream itself. So the counts include
//! exactly the events up to the one whose ID they carry. A client that resumes after that event
//! misses nothing and counts nothing twice.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fanfare::{Response, StreamEvent, Subscription};
use serde_json::json;

#[derive(Debug)]
pub(crate) struct Rankings {
    /// Whether events have IDs, so that clients can resume after them.
    history: bool,
    /// The source of the posts, which the page shows.
    source: &'static str,
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    counts: HashMap<String, u64>,
    last_event_id: String,
    /// The response for these counts, once it was requested.
    response: Option<Response>,
}

impl Rankings {
    pub(crate) fn new(history: bool, source: &'static str) -> Self {
        Self {
            history,
            source,
            counted: Mutex::default(),
        }
    }

    /// Counts until the stream ends.
    pub(crate) fn count(&self, eps: Subscription) {
        for event in eps {
            self.add(event);
        }
    }

    fn add(&self, event: StreamEvent) {
        // Only roll-ups are published to this namespace.
        let Ok(counts) = serde_json::from_str::<HashMap<String, u64>>(&event.data) else {
            return;
        };
        let mut counted = self.lock();
        for (id, count) in counts {
            *counted.counts.entry(id).or_default() += count;
        }
        counted.last_event_id = event.last_event_id;
        counted.response = None;
    }

    /// The counts as JSON, most used first. Encoded once for all requests between two roll-ups.
    pub(crate) fn response(&self) -> Response {
        let mut counted = self.lock();
        if let Some(response) = &counted.response {
            return response.clone();
        }
        let response = Response::new("application/json", self.to_json(&counted))
            .header("Cache-Control", "no-store");
        counted.response = Some(response.clone());
        response
    }

    fn to_json(&self, counted: &Counted) -> String {
        let mut ranked: Vec<(&String, u64)> = counted
            .counts
            .iter()
            .map(|(id, &count)| (id, count))
            .collect();
        ranked.sort_unstable_by(|(a, more), (b, less)| less.cmp(more).then(a.cmp(b)));
        let rankings: Vec<_> = ranked
            .into_iter()
            .map(|(id, score)| json!({ "id": id, "score": score }))
            .collect();
        let last_event_id = Some(&counted.last_event_id).filter(|id| !id.is_empty());
        json!({
            "source": self.source,
            "history": self.history,
            "lastEventId": last_event_id,
            "rankings": rankings,
        })
        .to_string()
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
