//! Pages of long lists: the query of a request, and finding its rows without sorting the whole
//! list.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::admin::json::PageJson;
use crate::http::Reject;
use crate::http::request::decimal;
use crate::http::route::{decode_form, query_pairs};

/// Maximum number of rows in one response.
const MAX_LIMIT: usize = 1_000;

/// The query of a list: which rows to return, and their order. `S` names a column.
#[derive(Debug)]
pub(crate) struct ListQuery<S> {
    pub(crate) limit: usize,
    pub(crate) offset: usize,
    pub(crate) sort: S,
    pub(crate) descending: bool,
    /// Text to search for, in lower case; empty for all rows.
    pub(crate) filter: String,
}

impl<S: Copy> ListQuery<S> {
    /// Parses the query of a URL. `columns` are the columns to sort by, with their names; the first
    /// is the default. Unknown parameters are ignored.
    ///
    /// # Errors
    /// 400 for an invalid number or column.
    pub(crate) fn parse(query: &str, columns: &[(&str, S)]) -> Result<Self, Reject> {
        let mut parsed = Self {
            limit: 100,
            offset: 0,
            sort: columns[0].1,
            descending: false,
            filter: String::new(),
        };
        for pair in query_pairs(query) {
            let (key, value) = pair?;
            match key.as_str() {
                "limit" => parsed.limit = limit(value)?,
                "offset" => parsed.offset = offset(value)?,
                "sort" => (parsed.sort, parsed.descending) = sort(&decode_form(value)?, columns)?,
                "filter" => parsed.filter = decode_form(value)?.to_lowercase(),
                _ => {}
            }
        }
        Ok(parsed)
    }

    /// Whether one of these texts contains the filter, in upper or lower case.
    pub(crate) fn matches<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> bool {
        let has = |text: &str| text.to_lowercase().contains(&self.filter);
        self.filter.is_empty() || texts.into_iter().any(has)
    }

    /// The description of a page of this query, given the rows of the list and of those that match.
    pub(crate) fn page_json(&self, total: usize, matched: usize) -> PageJson {
        PageJson {
            total,
            matched,
            limit: self.limit,
            offset: self.offset,
        }
    }

    /// An empty page for this query.
    pub(crate) fn page<T>(&self) -> Page<T> {
        Page {
            first: BinaryHeap::new(),
            capacity: self.offset.saturating_add(self.limit),
            offset: self.offset,
            descending: self.descending,
            matched: 0,
        }
    }
}

fn limit(value: &str) -> Result<usize, Reject> {
    integer(value)
        .filter(|&limit| limit <= MAX_LIMIT)
        .ok_or_else(|| Reject::bad(format!("limit must be an integer from 0 to {MAX_LIMIT}")))
}

fn offset(value: &str) -> Result<usize, Reject> {
    integer(value).ok_or_else(|| Reject::bad("offset must be an integer of at least 0"))
}

fn integer(value: &str) -> Option<usize> {
    decimal(value.as_bytes()).and_then(|number| usize::try_from(number).ok())
}

/// The column of this name, and whether `-` in front asks for descending order.
fn sort<S: Copy>(value: &str, columns: &[(&str, S)]) -> Result<(S, bool), Reject> {
    let name = value.strip_prefix('-').unwrap_or(value);
    let found = columns.iter().find(|(column, _)| *column == name);
    let (_, column) = found.ok_or_else(|| {
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        Reject::bad(format!("sort must be one of {}", names.join(", ")))
    })?;
    Ok((*column, name.len() < value.len()))
}

/// The value a row is sorted by. All rows of a list have the same variant.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SortKey {
    Number(u64),
    Text(Box<str>),
}

/// A page under construction: the first rows of those offered so far, up to the end of the page.
///
/// A heap keeps the last of these rows on top. A row costs one comparison, or a few if it belongs
/// to the first rows so far, and only the page itself is sorted. This allows a list of any length
/// to be walked in small steps.
#[derive(Debug)]
pub(crate) struct Page<T> {
    first: BinaryHeap<RankedRow<T>>,
    capacity: usize,
    offset: usize,
    descending: bool,
    pub(crate) matched: usize,
}

/// A row, compared in the order of the query. Rows with equal sort keys are ordered by number.
#[derive(Debug)]
struct RankedRow<T> {
    sort_key: SortKey,
    number: u64,
    descending: bool,
    row: T,
}

impl<T> Ord for RankedRow<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        let order = self.sort_key.cmp(&other.sort_key);
        let order = if self.descending {
            order.reverse()
        } else {
            order
        };
        order.then(self.number.cmp(&other.number))
    }
}

impl<T> PartialOrd for RankedRow<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for RankedRow<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for RankedRow<T> {}

impl<T> Page<T> {
    /// Offers a row. No two rows may have the same number.
    pub(crate) fn offer(&mut self, sort_key: SortKey, number: u64, row: T) {
        self.matched += 1;
        let row = RankedRow {
            sort_key,
            number,
            descending: self.descending,
            row,
        };
        if self.first.len() < self.capacity {
            self.first.push(row);
        } else if let Some(mut last) = self.first.peek_mut()
            && row < *last
        {
            *last = row;
        }
    }

    /// The rows of the page with their numbers, last row first.
    pub(crate) fn into_rows(mut self) -> Vec<(u64, T)> {
        let count = self.first.len().saturating_sub(self.offset);
        let rows = std::iter::from_fn(|| self.first.pop()).take(count);
        rows.map(|row| (row.number, row.row)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares pages of a list with many equal sort keys with parts of the sorted list.
    #[test]
    fn a_page_is_a_part_of_the_sorted_list() {
        for descending in [false, true] {
            for (limit, offset) in [
                (0, 0),
                (1, 0),
                (7, 0),
                (7, 5),
                (7, 96),
                (7, 100),
                (7, usize::MAX),
                (1000, 0),
            ] {
                let query = ListQuery {
                    limit,
                    offset,
                    sort: (),
                    descending,
                    filter: String::new(),
                };
                let mut page = query.page();
                let mut all = Vec::new();
                for number in 0..100u64 {
                    let sort_key = number * 37 % 11;
                    page.offer(SortKey::Number(sort_key), number, number);
                    all.push((if descending { 10 - sort_key } else { sort_key }, number));
                }
                all.sort_unstable();
                let expected: Vec<u64> = all
                    .iter()
                    .skip(offset)
                    .take(limit)
                    .map(|row| row.1)
                    .collect();
                assert_eq!(page.matched, 100);
                let rows: Vec<u64> = page
                    .into_rows()
                    .into_iter()
                    .rev()
                    .map(|row| row.1)
                    .collect();
                assert_eq!(
                    rows, expected,
                    "{limit} from {offset}, descending: {descending}"
                );
            }
        }
    }

    #[test]
    fn a_filter_matches_part_of_a_text_in_any_case() {
        for (filter, texts, expected) in [
            ("", [].as_slice(), true),
            ("a", &[], false),
            ("agent", &["1", "An Agent"], true),
            ("ü", &["Ü"], true),
            ("agents", &["agent", "s"], false),
        ] {
            let query = ListQuery::parse(&format!("filter={filter}"), &[("id", ())]).unwrap();
            let found = query.matches(texts.iter().copied());
            assert_eq!(found, expected, "{filter} in {texts:?}");
        }
    }

    #[test]
    fn a_query_is_parsed_or_refused() {
        let sorts = [("id", 1), ("lag", 2)];
        let parse = |query| ListQuery::parse(query, &sorts);
        let query = parse("limit=5&offset=7&sort=-lag&filter=A+%C3%9C&other=%zz").unwrap();
        assert_eq!((query.limit, query.offset, query.sort), (5, 7, 2));
        assert_eq!((query.descending, query.filter.as_str()), (true, "a ü"));
        let query = parse("").unwrap();
        assert_eq!((query.limit, query.offset, query.sort), (100, 0, 1));
        assert!(query.matches([]) && !query.descending);
        let limit = "limit must be an integer from 0 to 1000";
        let offset = "offset must be an integer of at least 0";
        let sort = "sort must be one of id, lag";
        for (query, message) in [
            ("limit=1001", limit),
            ("limit=-1", limit),
            ("limit=", limit),
            ("offset=x", offset),
            ("offset=99999999999999999999", offset),
            ("sort=", sort),
            ("sort=--lag", sort),
            ("sort=Id", sort),
        ] {
            let error = parse(query).map(|_| ()).unwrap_err();
            assert_eq!((error.status, &*error.message), (400, message), "{query}");
        }
        assert_eq!(parse("filter=%ff").map(|_| ()).unwrap_err().status, 400);
    }
}
