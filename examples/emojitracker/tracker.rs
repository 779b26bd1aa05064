//! The tracker: from posts to the three streams, and the server that carries them.

use std::collections::HashSet;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fanfare::{Event, Namespace, Publisher, Rollup, RollupError, SendError, Server, ServerThread};

use crate::emoji::Emojis;
use crate::page::Site;
use crate::post::Post;
use crate::rankings::Rankings;

/// Time between two roll-ups: at most 60 a second.
const INTERVAL: Duration = Duration::from_millis(17);

/// A server with its streams and its page, and what feeds it.
pub(crate) struct Tracker {
    emojis: Arc<Emojis>,
    publisher: Publisher,
    eps: Rollup<u64>,
    server: ServerThread,
}

impl Tracker {
    /// Starts the server. Without `history` events have no ids.
    pub(crate) fn start(
        address: &str,
        history: bool,
        source: &'static str,
    ) -> Result<Self, Box<dyn Error>> {
        let emojis = Arc::new(Emojis::new());
        let rankings = Arc::new(Rankings::new(history, source));
        let site = Site::new(emojis.to_json(), Arc::clone(&rankings));
        let server = Server::builder()
            .headers([("Cache-Control", "no-cache")])
            .route(move |head| site.route(head))
            .build()?
            .spawn(address)?;
        // It listens before anything is published, so it counts everything.
        let counted = server.handle().subscribe(&[Namespace::parse("/eps")?])?;
        std::thread::spawn(move || rankings.count(counted));

        let publisher = server.publisher().clone();
        let ids = history.then(Ids::new);
        let eps = Rollup::counts(
            publisher.clone(),
            INTERVAL,
            emojis.entries.len(),
            roll_up(ids),
        )?;
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

    /// Sends out all there is to say of a post: each use of an emoji to those who want all or the counts, and the post itself to those
    /// who follow one of its emoji.
    pub(crate) fn track(&self, post: &Post) -> Result<(), Box<dyn Error>> {
        let mut told = HashSet::new();
        for emoji in self.emojis.find(&post.text) {
            let id = &emoji.id;
            self.publisher.send(Event::new("/raw", id.as_str()))?;
            self.eps.add(id, 1)?;
            if !told.insert(id) {
                continue;
            }
            let details = Event::new(format!("/details/{id}"), post.json.as_str())
                .event(format!("stream.tweet_updates.{id}"));
            match self.publisher.send(details) {
                // A post too large for an event is counted all the same.
                Ok(()) | Err(SendError::Refused(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Sends out what was counted last.
    pub(crate) fn flush(&self) -> Result<(), RollupError> {
        self.eps.flush()
    }

    /// Waits for the server, which ends when it is told to.
    pub(crate) fn join(self) -> Result<(), Box<dyn Error>> {
        Ok(self.server.join()?)
    }
}

/// Ids of roll-ups: this run's name and a number, so that none is another's.
struct Ids {
    run: u64,
    number: u64,
}

impl Ids {
    #[expect(clippy::disallowed_methods, reason = "a run is named by when it began")]
    fn new() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            run: since.map_or(0, |since| since.as_millis() as u64),
            number: 0,
        }
    }

    fn next(&mut self) -> String {
        self.number += 1;
        format!("eps-{:x}-{}", self.run, self.number)
    }
}

/// Makes events of roll-ups, with ids if there are any.
fn roll_up(mut ids: Option<Ids>) -> impl FnMut(String) -> Event + Send + 'static {
    move |json| {
        let event = Event::new("/eps", json);
        match &mut ids {
            Some(ids) => event.id(ids.next()),
            None => event,
        }
    }
}
