//! What is kept at one namespace: its log, its subscribers, and who else reads the log.

use crate::event_log::{EventLog, Slices};
use crate::namespace::Namespace;

use super::groups::{Gone, Limits, Source, Subscribers};
use super::retention::TopicUsage;

/// One namespace in use.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) namespace: Namespace,
    pub(super) log: EventLog,
    /// Subscribers of this namespace alone; the place of each is the offset in the log of the first byte it was not given.
    pub(super) subscribers: Subscribers<u64>,
    /// The topic_sets of which this namespace is one.
    pub(super) topic_sets: Vec<u32>,
    /// What the log counts for in all that is retained.
    pub(super) usage: TopicUsage,
    /// When the last event was published, in milliseconds of the engine's time; before that, negative.
    #[cfg(feature = "admin")]
    pub(super) last_at: Option<i64>,
    /// Where what is published to it is counted, once something was.
    #[cfg(feature = "admin")]
    pub(super) series: Option<u32>,
    /// On the engine's list of topics whose logs may hold what nobody needs.
    pub(super) untrimmed: bool,
}

impl Topic {
    pub(super) fn new(namespace: Namespace, log: EventLog) -> Self {
        Self {
            namespace,
            usage: TopicUsage::of(&log),
            log,
            subscribers: Subscribers::default(),
            topic_sets: Vec::new(),
            #[cfg(feature = "admin")]
            last_at: None,
            #[cfg(feature = "admin")]
            series: None,
            untrimmed: false,
        }
    }

    /// Whether anybody listens.
    pub(super) fn has_subscribers(&self) -> bool {
        !(self.subscribers.list.is_empty() && self.topic_sets.is_empty())
    }
}

/// A log as the source of its own subscribers' events.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    log: &'a EventLog,
    from: u64,
    most: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(log: &'a EventLog) -> Self {
        Self {
            log,
            from: log.end(),
            most: 0,
        }
    }
}

impl Source for Reader<'_> {
    type Cursor = u64;

    fn end(&self) -> u64 {
        self.log.end()
    }

    fn passed(&self, place: u64) -> u64 {
        self.log.passed_at(place)
    }

    fn gather(&mut self, from: u64, limits: &Limits) -> Result<(), Gone> {
        self.from = from;
        self.most = limits.write_most;
        if from < self.log.start() {
            Err(Gone)
        } else {
            Ok(())
        }
    }

    fn add_to<'a>(&'a self, slices: &mut Slices<'a>) {
        self.log.gather(self.from, self.most, slices);
    }

    fn lag(&self) -> u64 {
        self.log.end() - self.from
    }

    fn step(&self, from: u64, bytes: usize) -> (u64, u64) {
        let place = from + bytes as u64;
        (place, self.log.passed_at(place) - self.log.passed_at(from))
    }
}
