//! The list of connections: those that match a query, sorted, one page of them.

use serde_json::value::RawValue;

use crate::admin::json::{ConnectionJson, PageJson, StatusPageJson, raw_json};
use crate::admin::paging::{ListQuery, Page, SortKey};
use crate::http::Reject;
use crate::http::request::decimal;
use crate::http::response::Response;
use crate::http::route::query_pairs;
use crate::json::to_json;
use crate::namespace::Namespace;

use super::super::super::connection::{Connection, Stream};
use super::super::super::{ConnId, Engine};
use super::{MAX_STEPS, SLICE_BYTES, Work};

/// A walk over all connections, from a key on.
#[derive(Debug)]
pub(super) struct ConnectionScan {
    query: ListQuery<ConnectionColumn>,
    page: Page<ConnId>,
    next: usize,
    total: usize,
}

/// The connections of the page, the last one first, and the JSON of those before them.
#[derive(Debug)]
pub(super) struct ConnectionRows {
    rows: Vec<(u64, ConnId)>,
    written: Vec<Box<RawValue>>,
    page: PageJson,
}

/// A column that the list can be sorted by.
#[derive(Debug, Clone, Copy)]
enum ConnectionColumn {
    Id,
    Namespace,
    ClientIp,
    UserAgent,
    Events,
    Bytes,
    Lag,
    LastWrite,
}

const COLUMNS: [(&str, ConnectionColumn); 9] = [
    ("id", ConnectionColumn::Id),
    ("namespace", ConnectionColumn::Namespace),
    ("client_ip", ConnectionColumn::ClientIp),
    ("user_agent", ConnectionColumn::UserAgent),
    // IDs are given in the order in which connections are accepted.
    ("created_at", ConnectionColumn::Id),
    ("msgs_sent", ConnectionColumn::Events),
    ("bytes_sent", ConnectionColumn::Bytes),
    ("lag", ConnectionColumn::Lag),
    ("last_write", ConnectionColumn::LastWrite),
];

impl ConnectionScan {
    pub(super) fn new(query: &str) -> Result<Self, Reject> {
        let query = ListQuery::parse(query, &COLUMNS)?;
        Ok(Self {
            page: query.page(),
            query,
            next: 0,
            total: 0,
        })
    }
}

impl Engine {
    pub(super) fn scan_connections(&self, mut scan: ConnectionScan) -> Work {
        let mut steps = 0;
        while let Some((next, key)) = self.connections.next_from(scan.next) {
            if steps >= MAX_STEPS {
                return Work::ScanConnections(scan);
            }
            scan.next = next;
            steps += 1;
            let Some((connection, stream)) = self.listed(key) else {
                continue;
            };
            scan.total += 1;
            steps += self.namespaces_of(stream.membership).count();
            if self.matches(&scan.query, connection, stream) {
                let sort_key = self.sort_key(scan.query.sort, connection, stream);
                scan.page.offer(sort_key, connection.id, key);
            }
        }
        Work::WriteConnections(ConnectionRows {
            page: scan.query.page_json(scan.total, scan.page.matched),
            rows: scan.page.into_rows(),
            written: Vec::new(),
        })
    }

    /// A connection of the list: an event stream that has not ended.
    fn listed(&self, key: ConnId) -> Option<(&Connection, &Stream)> {
        let connection = self.connections.get(key)?;
        let stream = connection.stream()?;
        connection.ended.is_none().then_some((connection, stream))
    }

    fn matches(
        &self,
        query: &ListQuery<ConnectionColumn>,
        connection: &Connection,
        stream: &Stream,
    ) -> bool {
        if query.filter.is_empty() {
            return true;
        }
        let (id, address) = (connection.id.to_string(), self.address_of(connection));
        let own = [id.as_str(), &address, stream.client.agent()];
        let namespaces = self.namespaces_of(stream.membership);
        query.matches(own.into_iter().chain(namespaces.map(Namespace::as_str)))
    }

    fn sort_key(
        &self,
        sort: ConnectionColumn,
        connection: &Connection,
        stream: &Stream,
    ) -> SortKey {
        let state = self.groups.state(stream.membership);
        SortKey::Number(match sort {
            ConnectionColumn::Id => connection.id,
            ConnectionColumn::Namespace => {
                let first = self.namespaces_of(stream.membership).next();
                return SortKey::Text(first.map_or("", Namespace::as_str).into());
            }
            ConnectionColumn::ClientIp => return SortKey::Text(self.address_of(connection).into()),
            ConnectionColumn::UserAgent => return SortKey::Text(stream.client.agent().into()),
            ConnectionColumn::Events => state.events,
            ConnectionColumn::Bytes => connection.bytes + state.bytes,
            ConnectionColumn::Lag => self.groups.lag(stream.membership, &self.topics),
            ConnectionColumn::LastWrite => self.last_write_ms(connection, stream),
        })
    }

    fn address_of(&self, connection: &Connection) -> String {
        let peer = connection.shown_peer(self.config.mask_addresses);
        let peer = peer.map(|peer| peer.ip().to_canonical());
        peer.map_or_else(String::new, |address| address.to_string())
    }

    /// The time since a stream last took bytes.
    fn last_write_ms(&self, connection: &Connection, stream: &Stream) -> u64 {
        let state = self.groups.state(stream.membership);
        let active_ms = state.active_ms.max(connection.active_ms);
        self.clock.ms().saturating_sub(active_ms)
    }

    pub(super) fn write_connections(&self, mut work: ConnectionRows) -> Work {
        let mut bytes = 0;
        while let Some((id, key)) = work.rows.pop() {
            // The connection may have ended since, and its key may belong to another one.
            let listed = self.listed(key);
            if let Some((connection, stream)) = listed.filter(|(found, _)| found.id == id) {
                let row = raw_json(&self.connection_json(connection, stream));
                bytes += row.get().len();
                work.written.push(row);
            }
            if bytes > SLICE_BYTES {
                return Work::WriteConnections(work);
            }
        }
        let Some(status) = self.status_json() else {
            return Work::Done(Reject::not_found().into());
        };
        let answer = StatusPageJson {
            status,
            connections: work.written,
            page: work.page,
        };
        Work::Done(Response::json(200, to_json(&answer)))
    }

    fn connection_json<'a>(
        &'a self,
        connection: &Connection,
        stream: &'a Stream,
    ) -> ConnectionJson<'a> {
        let state = self.groups.state(stream.membership);
        let namespaces = self.namespaces_of(stream.membership);
        let namespaces: Vec<&str> = namespaces.map(Namespace::as_str).collect();
        ConnectionJson {
            request_path: stream.client.path(self.namespaces_of(stream.membership)),
            namespace: namespaces.first().copied().unwrap_or_default(),
            created_at: self.unix_ms(connection.since_ms as i64) / 1000,
            client_ip: self.address_of(connection),
            user_agent: stream.client.agent(),
            msgs_sent: state.events,
            id: connection.id,
            namespaces,
            bytes_sent: connection.bytes + state.bytes,
            lag: self.groups.lag(stream.membership, &self.topics),
            last_write_ms: self.last_write_ms(connection, stream),
            connected_ms: self.clock.ms() - connection.since_ms,
        }
    }

    /// The answer about one connection, whose ID is in the query.
    pub(in super::super) fn connection(&self, query: &str) -> Response {
        let pairs = query_pairs(query).filter_map(Result::ok);
        let id = pairs.filter(|(name, _)| name == "id").last();
        let Some(id) = id.and_then(|(_, id)| decimal(id.as_bytes())) else {
            return Response::error(400, "id must be a number");
        };
        let mut connections = self.connections.iter();
        let found = connections.find(|(_, connection)| connection.id == id);
        match found.and_then(|(key, _)| self.listed(key)) {
            Some((connection, stream)) => {
                Response::json(200, to_json(&self.connection_json(connection, stream)))
            }
            None => Response::error(404, &format!("no event stream has the id {id}")),
        }
    }
}
