//! Parts of the status page, its JSON and the metrics: values, text and bytes.
//!
//! Holds no state of the server and knows no connections. The engine supplies the values, and of a
//! request only the head is read.

pub(crate) mod assets;
pub(crate) mod endpoint;
pub(crate) mod exposition;
pub(crate) mod histogram;
pub(crate) mod json;
pub(crate) mod metrics;
pub(crate) mod paging;
pub(crate) mod session;

/// The head of a request with these header lines.
#[cfg(test)]
fn request(headers: &str) -> crate::http::request::RequestHead {
    let mut reader = crate::http::request::RequestReader::default();
    reader.push(format!("GET /admin/ HTTP/1.1\r\nHost: h\r\n{headers}\r\n").as_bytes());
    match reader.head() {
        Ok(crate::http::Progress::Complete(head)) => head,
        other => panic!("{other:?}"),
    }
}
