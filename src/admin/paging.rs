//! Pages of long lists: which rows a request wants, and finding them without sorting all there are.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::http::Reject;
use crate::http::request::decimal;
use crate::http::route::{decode_form, query_pairs};

/// Rows that one answer has at the most.
const LIMIT_MOST: usize = 1_000;

/// The rows that a request asks for, and their order.
#[derive(Debug)]
pub(crate) struct ListQuery<S> {
    pub(crate) limit: usize,
    pub(crate) offset: usize,
    pub(crate) sort: S,
    pub(crate) descending: bool,
    /// In lower case; empty for all rows.
    pub(crate) filter: String,
}

impl<S: Copy> ListQuery<S> {
    /// Reads a query. `sorts` are the columns there are, by name; the first is the order by default.
    ///
    /// # Errors
    /// 400 for what is no number, and for a column that is none.
    pub(crate) fn parse(query: &str, sorts: &[(&str, S)]) -> Result<Self, Reject> {
        let mut parsed = Self {
            limit: 100,
            offset: 0,
            sort: sorts[0].1,
            descending: false,
            filter: String::new(),
        };
        for pair in query_pairs(query) {
            let (key, value) = pair?;
            match key.as_str() {
                "limit" => {
                    parsed.limit = number(value)
                        .filter(|&limit| limit <= LIMIT_MOST)
                        .ok_or_else(|| {
                            Reject::bad(format!("limit is no number up to {LIMIT_MOST}"))
                        })?;
                }
                "offset" => {
                    parsed.offset =
                        number(value).ok_or_else(|| Reject::bad("offset is no number"))?;
                }
                "sort" => {
                    let value = decode_form(value)?;
                    let name = value.strip_prefix('-').unwrap_or(&value);
                    parsed.descending = name.len() < value.len();
                    let found = sorts.iter().find(|(sort, _)| *sort == name);
                    parsed.sort = found
                        .ok_or_else(|| Reject::bad("there is no such column to sort by"))?
                        .1;
                }
                "filter" => parsed.filter = decode_form(value)?.to_lowercase(),
                _ => {}
            }
        }
        Ok(parsed)
    }

    /// Whether one of these texts has what is looked for, in whatever case.
    pub(crate) fn matches<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> bool {
        let has = |text: &str| text.to_lowercase().contains(&self.filter);
        self.filter.is_empty() || texts.into_iter().any(has)
    }

    /// Takes the rows of the page out of as many as are offered.
    pub(crate) fn page<T>(&self) -> Page<T> {
        Page {
            first: BinaryHeap::new(),
            most: self.offset.saturating_add(self.limit),
            offset: self.offset,
            descending: self.descending,
            matched: 0,
        }
    }
}

fn number(value: &str) -> Option<usize> {
    decimal(value.as_bytes()).and_then(|number| usize::try_from(number).ok())
}

/// What rows are sorted by; in one list all of the same kind.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SortKey {
    Number(u64),
    Text(Box<str>),
}

/// The first rows of those that were offered, up to the end of the page.
///
/// A heap with the last of them on top: a row costs a comparison, or a few if it is among the first so far, and in the end only the page itself
/// is put in order. So a list of any length can be gone through in small steps.
#[derive(Debug)]
pub(crate) struct Page<T> {
    first: BinaryHeap<Row<T>>,
    most: usize,
    offset: usize,
    descending: bool,
    pub(crate) matched: usize,
}

/// A row, in the order of the query; rows that are alike come by number.
#[derive(Debug)]
struct Row<T> {
    sort_key: SortKey,
    number: u64,
    descending: bool,
    row: T,
}

impl<T> Ord for Row<T> {
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

impl<T> PartialOrd for Row<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Row<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Row<T> {}

impl<T> Page<T> {
    /// Offers a row; no two have the same number.
    pub(crate) fn offer(&mut self, sort_key: SortKey, number: u64, row: T) {
        self.matched += 1;
        let row = Row {
            sort_key,
            number,
            descending: self.descending,
            row,
        };
        if self.first.len() < self.most {
            self.first.push(row);
        } else if let Some(mut last) = self.first.peek_mut()
            && row < *last
        {
            *last = row;
        }
    }

    /// The rows of the page with their numbers, the last one first.
    pub(crate) fn into_rows(mut self) -> Vec<(u64, T)> {
        let count = self.first.len().saturating_sub(self.offset);
        let rows = std::iter::from_fn(|| self.first.pop()).take(count);
        rows.map(|row| (row.number, row.row)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every page of lists with many equal sort keys, beside sorting the whole.
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
    fn a_query_is_read_or_refused() {
        let sorts = [("id", 1), ("lag", 2)];
        let parse = |query| ListQuery::parse(query, &sorts);
        let query = parse("limit=5&offset=7&sort=-lag&filter=A+%C3%9C&other=%zz").unwrap();
        assert_eq!((query.limit, query.offset, query.sort), (5, 7, 2));
        assert_eq!((query.descending, query.filter.as_str()), (true, "a ü"));
        let query = parse("").unwrap();
        assert_eq!((query.limit, query.offset, query.sort), (100, 0, 1));
        assert!(query.matches([]) && !query.descending);
        for query in [
            "limit=1001",
            "limit=-1",
            "limit=",
            "offset=x",
            "sort=",
            "sort=--lag",
            "sort=Id",
            "filter=%ff",
        ] {
            assert_eq!(parse(query).map(|_| ()).unwrap_err().status, 400, "{query}");
        }
    }
}
