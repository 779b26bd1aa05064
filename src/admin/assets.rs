//! The files of the status page, embedded in the program.

use std::hash::{DefaultHasher, Hasher};

use crate::http::request::RequestHead;
use crate::http::response::Response;

/// The page loads only its own files and sends requests only to its own origin; no page may frame
/// it.
const CONTENT_SECURITY_POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

struct File {
    name: &'static str,
    content_type: &'static str,
    plain: &'static [u8],
    gzip: &'static [u8],
}

macro_rules! files {
    ($($name:literal: $content_type:literal,)*) => {
        [$(File {
            name: $name,
            content_type: $content_type,
            plain: include_bytes!(concat!("../../admin-ui/dist/", $name)),
            gzip: include_bytes!(concat!("../../admin-ui/dist/", $name, ".gz")),
        },)*]
    };
}

static FILES: [File; 4] = files! {
    "index.html": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "app.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
};

/// The response with the file of this name, compressed if the request accepts gzip; `None` if the
/// file does not exist. The empty name is `index.html`.
pub(crate) fn asset(name: &str, head: &RequestHead) -> Option<Response> {
    let name = if name.is_empty() { "index.html" } else { name };
    let file = FILES.iter().find(|file| file.name == name)?;
    let gzip = accepts_gzip(head);
    let body = if gzip { file.gzip } else { file.plain };
    let mut response = Response::new(file.content_type, body);
    if gzip {
        response = response.header("Content-Encoding", "gzip");
    }
    let response = response
        .header("ETag", etag(body))
        .header("Cache-Control", "no-cache")
        .header("Vary", "Accept-Encoding")
        .header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        .header("Referrer-Policy", "no-referrer");
    Some(response)
}

/// Whether `Accept-Encoding` names gzip with a weight above 0 (RFC 9110, section 12.5.3).
fn accepts_gzip(head: &RequestHead) -> bool {
    let codings = head.header("accept-encoding").unwrap_or_default();
    codings.split(',').any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=").unwrap_or("1");
        name.trim().eq_ignore_ascii_case("gzip")
            && weight.parse::<f32>().is_ok_and(|weight| weight > 0.0)
    })
}

/// An entity tag made from a hash of the body, the same in every process of one build.
fn etag(body: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    format!("\"{:016x}\"", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::request;

    #[test]
    fn gzip_is_accepted_if_it_is_named_with_a_weight() {
        for (headers, expected) in [
            ("", false),
            ("Accept-Encoding: gzip\r\n", true),
            ("Accept-Encoding: br, GZIP;q=0.5\r\n", true),
            ("Accept-Encoding: gzip ; q=1\r\n", true),
            ("Accept-Encoding: gzip;q=0, *\r\n", false),
            ("Accept-Encoding: gzip;q=x\r\n", false),
            ("Accept-Encoding: br, deflate\r\n", false),
        ] {
            assert_eq!(accepts_gzip(&request(headers)), expected, "{headers}");
        }
    }

    #[test]
    fn each_form_of_each_file_has_a_tag_of_its_own() {
        let bodies = FILES.iter().flat_map(|file| [file.plain, file.gzip]);
        let mut tags: Vec<String> = bodies.map(etag).collect();
        tags.sort();
        tags.dedup();
        assert_eq!(tags.len(), 2 * FILES.len());
    }

    #[test]
    fn only_embedded_files_are_found() {
        for (name, found) in [
            ("", true),
            ("index.html", true),
            ("app.js", true),
            ("app.js.gz", false),
            ("nothing", false),
            ("/app.js", false),
        ] {
            assert_eq!(asset(name, &request("")).is_some(), found, "{name}");
        }
    }
}
