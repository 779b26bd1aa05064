//! The list of namespaces: those in use and those above them, or the children of one, sorted, one
//! page of them.

use std::collections::{BTreeMap, btree_map};

use crate::admin::json::{NamespaceJson, NamespacesJson};
use crate::admin::paging::{ListQuery, Page, SortKey};
use crate::http::Reject;
use crate::http::response::Response;
use crate::http::route::{decode_form, query_pairs};
use crate::json::to_json;
use crate::namespace::{Namespace, NamespaceLimits};

use super::super::super::Engine;
use super::super::super::topics::Topic;
use super::{MAX_STEPS, Work};

/// A walk over all topics, from a key on.
#[derive(Debug)]
pub(super) struct NamespaceScan {
    query: ListQuery<NamespaceColumn>,
    /// Only the children of this namespace are listed, and it has a row of its own.
    under: Option<(Namespace, Row)>,
    rows: BTreeMap<Box<str>, Row>,
    next: usize,
}

/// A walk over the namespaces that were found.
#[derive(Debug)]
pub(super) struct NamespaceChoice {
    scan: NamespaceScan,
    page: Page<(Box<str>, Row)>,
    rest: btree_map::IntoIter<Box<str>, Row>,
    total: usize,
}

/// A column that the list can be sorted by.
#[derive(Debug, Clone, Copy)]
enum NamespaceColumn {
    Namespace,
    Subscribers,
    SubscribersBelow,
    Events,
    RetainedBytes,
    LastEvent,
}

const COLUMNS: [(&str, NamespaceColumn); 6] = [
    ("namespace", NamespaceColumn::Namespace),
    ("subscribers", NamespaceColumn::Subscribers),
    ("subscribers_below", NamespaceColumn::SubscribersBelow),
    ("events", NamespaceColumn::Events),
    ("retained_bytes", NamespaceColumn::RetainedBytes),
    ("last_event_at", NamespaceColumn::LastEvent),
];

/// A namespace of the list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Row {
    subscribers: usize,
    /// Subscribers of this namespace and of those below it.
    subscribers_below: usize,
    events: u64,
    retained_events: usize,
    retained_bytes: u64,
    /// In milliseconds of the engine's time; negative before its start.
    last_event_ms: Option<i64>,
}

impl Row {
    /// The row of the namespace of a topic, without those below it.
    fn of(topic: &Topic, subscribers: usize) -> Self {
        Self {
            subscribers,
            subscribers_below: 0,
            events: topic.log.appended(),
            retained_events: topic.log.len(),
            retained_bytes: topic.log.retained(),
            last_event_ms: topic.meter.last_event_ms,
        }
    }

    /// Adds a topic at the same namespace, whose row is `own`, or below it, and the subscribers
    /// that count with it here.
    fn add(&mut self, own: Option<Self>, subscribers: usize) {
        let subscribers_below = self.subscribers_below + subscribers;
        if let Some(own) = own {
            *self = own;
        }
        self.subscribers_below = subscribers_below;
    }

    fn sort_key(&self, path: &str, sort: NamespaceColumn) -> SortKey {
        SortKey::Number(match sort {
            NamespaceColumn::Namespace => return SortKey::Text(path.into()),
            NamespaceColumn::Subscribers => self.subscribers as u64,
            NamespaceColumn::SubscribersBelow => self.subscribers_below as u64,
            NamespaceColumn::Events => self.events,
            NamespaceColumn::RetainedBytes => self.retained_bytes,
            // In the order of the times. Namespaces without an event come first.
            NamespaceColumn::LastEvent => self
                .last_event_ms
                .map_or(0, |at_ms| at_ms.cast_unsigned() ^ (1 << 63)),
        })
    }
}

impl NamespaceScan {
    pub(super) fn new(query: &str, limits: &NamespaceLimits) -> Result<Self, Reject> {
        Ok(Self {
            under: under(query, limits)?.map(|namespace| (namespace, Row::default())),
            query: ListQuery::parse(query, &COLUMNS)?,
            rows: BTreeMap::new(),
            next: 0,
        })
    }

    /// Adds a namespace in use to the rows of itself and of those above it. `subscribers` gives the
    /// subscribers that count with it at a depth. Returns the number of steps.
    fn add(
        &mut self,
        namespace: &Namespace,
        own: Row,
        subscribers: impl Fn(usize) -> usize,
    ) -> usize {
        let Some((under, under_row)) = &mut self.under else {
            let path = namespace.as_str();
            let mut steps = 0;
            for (depth, prefix) in prefixes(path).enumerate() {
                let own = (prefix == path).then_some(own);
                row(&mut self.rows, prefix).add(own, subscribers(depth));
                steps += 1;
            }
            return steps;
        };
        if under.contains(namespace) {
            let depth = under.segments().count();
            under_row.add((under == namespace).then_some(own), subscribers(depth));
            if under != namespace {
                let child = namespace.by_ref().ancestor(depth + 1);
                let own = (child == *namespace).then_some(own);
                row(&mut self.rows, child.as_str()).add(own, subscribers(depth + 1));
            }
        }
        1
    }
}

fn row<'a>(rows: &'a mut BTreeMap<Box<str>, Row>, path: &str) -> &'a mut Row {
    // `entry` would copy the path even where the row exists.
    if !rows.contains_key(path) {
        rows.insert(path.into(), Row::default());
    }
    rows.get_mut(path)
        .expect("the row existed or was inserted just now")
}

/// A path and those above it, from the root down.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    let below = path[1..].match_indices('/').map(|(at, _)| &path[..=at]);
    let whole = (path != "/").then_some(path);
    std::iter::once("/").chain(below).chain(whole)
}

/// The parameter `under` of a query.
fn under(query: &str, limits: &NamespaceLimits) -> Result<Option<Namespace>, Reject> {
    for pair in query_pairs(query) {
        let (name, value) = pair?;
        if name == "under" {
            let namespace = Namespace::parse_within(&decode_form(value)?, limits);
            return namespace
                .map(Some)
                .map_err(|error| Reject::bad(error.to_string()));
        }
    }
    Ok(None)
}

impl Engine {
    pub(super) fn scan_namespaces(&self, mut scan: NamespaceScan) -> Work {
        let mut next = scan.next;
        let all = self.for_topics_from(&mut next, |topic, subscribers| {
            let depth = topic.namespace.segments().count();
            let own = Row::of(topic, subscribers.at_depth(depth));
            scan.add(&topic.namespace, own, |depth| subscribers.at_depth(depth))
        });
        scan.next = next;
        if !all {
            return Work::ScanNamespaces(scan);
        }
        let rows = std::mem::take(&mut scan.rows);
        Work::ChooseNamespaces(NamespaceChoice {
            page: scan.query.page(),
            total: rows.len(),
            rest: rows.into_iter(),
            scan,
        })
    }

    pub(super) fn choose_namespaces(&self, mut work: NamespaceChoice) -> Work {
        let query = &work.scan.query;
        for _ in 0..MAX_STEPS {
            let Some((path, row)) = work.rest.next() else {
                return Work::Done(self.namespaces_response(work));
            };
            if query.matches([&*path]) {
                // The position in the list, which is sorted by path, breaks ties.
                let number = (work.total - work.rest.len()) as u64;
                let sort_key = row.sort_key(&path, query.sort);
                work.page.offer(sort_key, number, (path, row));
            }
        }
        Work::ChooseNamespaces(work)
    }

    fn namespaces_response(&self, work: NamespaceChoice) -> Response {
        let scan = &work.scan;
        let page = scan.query.page_json(work.total, work.page.matched);
        let at = scan.under.as_ref();
        let rows = work.page.into_rows();
        let namespaces = rows
            .iter()
            .rev()
            .map(|(_, (path, row))| self.namespace_json(path, row));
        let answer = NamespacesJson {
            page,
            at: at.map(|(under, row)| self.namespace_json(under.as_str(), row)),
            namespaces: namespaces.collect(),
        };
        Response::json(200, to_json(&answer))
    }

    fn namespace_json<'a>(&self, path: &'a str, row: &Row) -> NamespaceJson<'a> {
        let namespace = Namespace::parse_within(path, &self.config.namespace_limits());
        NamespaceJson {
            namespace: path,
            subscribers: row.subscribers,
            subscribers_below: row.subscribers_below,
            events: row.events,
            retained_events: row.retained_events,
            retained_bytes: row.retained_bytes,
            last_event_at: row.last_event_ms.map(|at_ms| self.unix_ms(at_ms)),
            children: namespace.map_or(0, |namespace| self.topics.children(&namespace)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(query: &str) -> Vec<(String, usize, usize, u64)> {
        let mut scan = NamespaceScan::new(query, &NamespaceLimits::default()).unwrap();
        for (path, subscribers, events) in [("/a/b/c", 3, 7), ("/a", 1, 5), ("/b", 2, 1)] {
            let own = Row {
                subscribers,
                events,
                ..Row::default()
            };
            scan.add(&path.parse().unwrap(), own, |_| subscribers);
        }
        let under = scan
            .under
            .map(|(namespace, row)| (namespace.as_str().into(), row));
        let rows = under.into_iter().chain(scan.rows);
        rows.map(|(path, row): (Box<str>, Row)| {
            (
                path.into(),
                row.subscribers,
                row.subscribers_below,
                row.events,
            )
        })
        .collect()
    }

    #[test]
    fn a_row_counts_the_subscribers_below_it() {
        for (query, expected) in [
            (
                "",
                [
                    ("/", 0, 6, 0),
                    ("/a", 1, 4, 5),
                    ("/a/b", 0, 3, 0),
                    ("/a/b/c", 3, 3, 7),
                    ("/b", 2, 2, 1),
                ]
                .as_slice(),
            ),
            (
                "under=/",
                &[("/", 0, 6, 0), ("/a", 1, 4, 5), ("/b", 2, 2, 1)],
            ),
            ("under=/a", &[("/a", 1, 4, 5), ("/a/b", 0, 3, 0)]),
            ("under=/b", &[("/b", 2, 2, 1)]),
            ("under=/c", &[("/c", 0, 0, 0)]),
        ] {
            let rows = scan(query);
            let rows: Vec<_> = rows
                .iter()
                .map(|(path, own, below, events)| (path.as_str(), *own, *below, *events))
                .collect();
            assert_eq!(rows, expected, "{query}");
        }
    }

    #[test]
    fn a_path_has_prefixes_from_the_root_down() {
        for (path, expected) in [
            ("/", ["/"].as_slice()),
            ("/a", &["/", "/a"]),
            ("/a/bc/d", &["/", "/a", "/a/bc", "/a/bc/d"]),
        ] {
            assert_eq!(prefixes(path).collect::<Vec<_>>(), expected);
        }
    }
}
