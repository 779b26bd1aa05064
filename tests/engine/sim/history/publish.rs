//! Publishing, and the order in which events are delivered.

use fanfare::Event;
use fanfare::internals::{EventLimits, Frame};

use super::events::Published;
use super::{LOUD, NAMES, OWN_IDS, World};

/// The data of an event, and the ID that its publisher gave.
type Piece = (String, Option<&'static str>);

impl World {
    /// Namespaces to publish to, or to subscribe to.
    pub(super) fn names(&mut self) -> Vec<String> {
        if self.paired {
            let names: &[&str] = match self.dice.below(4) {
                0 => &["/a"],
                1 => &["/d"],
                _ => &["/a", "/d"],
            };
            return names.iter().map(|&name| name.to_owned()).collect();
        }
        let count = if self.dice.percent(30) {
            self.dice.between(2, 3)
        } else {
            1
        };
        let names = (0..count).map(|_| (*self.dice.pick(&NAMES)).to_owned());
        names.collect()
    }

    pub(super) fn publish(&mut self) {
        let count = if self.dice.percent(10) {
            30
        } else {
            self.dice.between(1, 3)
        };
        for _ in 0..count {
            self.publish_one();
        }
    }

    fn publish_one(&mut self) {
        self.published += 1;
        let mut namespaces = match self.calm && self.dice.percent(90) {
            true => vec![LOUD.to_owned()],
            false => self.names(),
        };
        let broadcast = !self.calm && self.dice.percent(5);
        let (event, pieces) = self.some_event(&namespaces);
        let limits = EventLimits {
            max_event: self.config.max_event,
            ..EventLimits::default()
        };
        let event = if broadcast { event.to_all() } else { event };
        let frame = Frame::new(&event, &limits);
        let frame = frame.expect("a valid event");
        let used = if broadcast { self.used() } else { Vec::new() };
        if broadcast {
            namespaces.clear();
        }
        let before = self.engine.status(self.instant()).evicted;
        let published = self.engine.publish(&frame, self.instant());
        for (data, own) in pieces {
            self.coming.push_back(Published {
                namespaces: namespaces.clone(),
                used: used.clone(),
                data,
                id: own.unwrap_or_default().to_owned(),
                own: own.is_some(),
                bytes: frame.bytes.len() as u64 + 3 + "id:1-\n".len() as u64,
                at: self.now,
                stored: false,
                synced: false,
                lost: false,
                pruned: false,
            });
        }
        let Some(published) = published else {
            // It waits for the store.
            return;
        };
        while !self.coming.is_empty() {
            self.deliver(false);
        }
        let count = self.events.len() as u64;
        assert_eq!(
            published.seq.get(),
            count,
            "events are counted from 1 without gaps"
        );
        self.note_eviction(before);
    }

    fn some_event(&mut self, namespaces: &[String]) -> (Event, Vec<Piece>) {
        let mut data = format!("n{}.", self.published);
        if self.dice.percent(20) {
            let most = self.config.max_event - data.len();
            data.push_str(&"x".repeat(self.dice.between(0, most)));
        }
        let own = self.dice.percent(15).then(|| *self.dice.pick(&OWN_IDS));
        let (event, pieces) = if self.dice.percent(10) && data.len() < 40 {
            // Two events in one, the second with an ID of its own in its last line.
            let second = format!("n{}.second", self.published);
            let id = own.map_or_else(String::new, |id| format!("id: {id}\r\n"));
            let text = format!("data:{data}\n\n\ndata:{second}\r\n{id}\r\n");
            let event = Event::encoded(&namespaces[0], text);
            (event, vec![(data, None), (second, own)])
        } else {
            let event = Event::new(&namespaces[0], data.clone());
            let event = own.iter().fold(event, |event, id| event.id(*id));
            (event, vec![(data, own)])
        };
        let also = namespaces[1..].iter();
        (also.fold(event, |event, name| event.also(name)), pieces)
    }

    /// Numbers the next of the coming events, which was delivered.
    pub(super) fn deliver(&mut self, stored: bool) {
        let event = self.coming.pop_front();
        let mut event = event.expect("only published events are delivered");
        if !event.own {
            event.id = format!("{}-{}", self.epoch(), self.events.len() + 1);
        }
        event.stored = stored;
        event.synced = stored && self.store.as_ref().is_some_and(|store| store.always);
        event.at = self.now;
        if event.namespaces.is_empty() {
            event.used = self.used();
        }
        self.events.push(event);
    }

    /// Notes an eviction for the bound of all memory, if more than this number of events have been
    /// evicted.
    pub(super) fn note_eviction(&mut self, before: u64) {
        if self.engine.status(self.instant()).evicted > before {
            self.evicted = self.events.len();
        }
    }
}
