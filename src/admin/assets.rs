//! The files of the status page, as they were built into the program.

use crate::http::request::RequestHead;
use crate::http::response::Response;

/// What a page may do: use what came with it, and nothing else. No other page may frame it.
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

/// The file of this name, in the form that the request takes, or that it has not changed; `None` when there is none.
pub(crate) fn answer(name: &str, head: &RequestHead) -> Option<Response> {
    let name = if name.is_empty() { "index.html" } else { name };
    let file = FILES.iter().find(|file| file.name == name)?;
    let gzip = takes_gzip(head);
    let body = if gzip { file.gzip } else { file.plain };
    let tag = format!("\"{:016x}\"", fnv(body));
    let mut response = Response::new(file.content_type, body);
    if gzip {
        response = response.header("Content-Encoding", "gzip");
    }
    let response = response
        .header("ETag", tag)
        .header("Cache-Control", "no-cache")
        .header("Vary", "Accept-Encoding")
        .header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        .header("Referrer-Policy", "no-referrer");
    Some(response)
}

fn takes_gzip(head: &RequestHead) -> bool {
    let codings = head.header("accept-encoding").unwrap_or_default();
    codings.split(',').any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=").unwrap_or("1");
        name.trim().eq_ignore_ascii_case("gzip")
            && weight.parse::<f32>().is_ok_and(|weight| weight > 0.0)
    })
}

/// The FNV-1a hash: it names a version of a file, and guards nothing.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}
