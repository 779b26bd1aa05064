//! The tracker: publishes posts to three streams, and owns the server that carries them.

use std::collections::HashSet;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fanfare::{Event, Namespace, Publisher, Rollup, RollupError, SendError, Server, ServerThread};

use crate::emoji::Emojis;
use crate::page::Site;
use crate::post::Post;
use crate::rankings::Rankings;

/// Time between two roll-ups: at most 60 per second.
const INTERVAL: Duration = Duration::from_millis(17);

/// A server with its streams and its page, and the publisher that feeds it.
pub(crate) struct Tracker {
    emojis: Arc<Emojis>,
    publisher: Publisher,
    eps: Rollup<u64>,
    server: ServerThread,
}

impl Tracker {
    /// Starts the server. Without `history`, events have no IDs.
    pub(crate) fn start(
        address: &str,
        history: bool,
        source: &'static str,
    ) -> Result<Self, Box<dyn Error>> {
        let emojis = Arc::new(Emojis::new());
        let rankings = Arc::new(Rankings::new(history, source));
        let site = Site::new(emojis.to_json(), Arc::clone(&rankings));
        let mut builder = Server::builder()
            .headers([("Cache-Control", "no-cache")])
            .route(move |head| site.route(head));
        if !history {
            builder = builder.history_events(0);
        }
        let server = builder.build()?.spawn(address)?;
        // Subscribe before the first event is published, so that all are counted.
        let counted = server.handle().subscribe(&[Namespace::parse("/eps")?])?;
        std::thread::spawn(move || rankings.count(counted));

        let publisher = server.publisher().clone();
        let most = emojis.entries.len();
        let roll_up = |json| Event::new("/eps", json);
        let eps = Rollup::counts(publisher.clone(), INTERVAL, most, roll_up)?;
        Ok(Self {
            emojis,
            publisher,
            eps,
            server,
        })
    }

    pub(crate) fn address(&self) -> Result<SocketAddr, &'static str> {
        self.server
            .handle()
            .local_addr()
            .ok_or("the server is not bound")
    }

    #[cfg(test)]
    pub(crate) fn handle(&self) -> &fanfare::Handle {
        self.server.handle()
    }

    /// Publishes each use of an emoji to `/raw`, adds it to the counts of `/eps`, and publishes the
    /// post once to the details of each of its emoji.
    pub(crate) fn track(&self, post: &Post) -> Result<(), Box<dyn Error>> {
        let mut published = HashSet::new();
        for emoji in self.emojis.find(&post.text) {
            let id = &emoji.id;
            self.publisher.send(Event::new("/raw", id.as_str()))?;
            self.eps.add(id, 1)?;
            if !published.insert(id) {
                continue;
            }
            let details = Event::new(format!("/details/{id}"), post.json.as_str())
                .event(format!("stream.tweet_updates.{id}"));
            match self.publisher.send(details) {
                // A post that is too large for an event is still counted.
                Ok(()) | Err(SendError::Refused(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Publishes the roll-up of the latest counts.
    pub(crate) fn flush(&self) -> Result<(), RollupError> {
        self.eps.flush()
    }

    /// Waits until the server has ended.
    pub(crate) fn join(self) -> Result<(), Box<dyn Error>> {
        Ok(self.server.join()?)
    }
}
