//! Serves the page, its files and the rankings, through the `route` hook.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use fanfare::{RequestHead, Response, Routing};

use crate::rankings::Rankings;

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The page's files: path, media type, content.
const FILES: [(&str, &str, &str); 7] = [
    (
        "/",
        "text/html; charset=utf-8",
        include_str!("page/index.html"),
    ),
    ("/app.js", SCRIPT, include_str!("page/app.js")),
    ("/counts.js", SCRIPT, include_str!("page/counts.js")),
    ("/grid.js", SCRIPT, include_str!("page/grid.js")),
    ("/details.js", SCRIPT, include_str!("page/details.js")),
    (
        "/style.css",
        "text/css; charset=utf-8",
        include_str!("page/style.css"),
    ),
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];

/// The responses to requests that are not for streams.
#[derive(Debug)]
pub(crate) struct Site {
    files: Vec<(&'static str, Response)>,
    rankings: Arc<Rankings>,
}

impl Site {
    pub(crate) fn new(emoji_json: String, rankings: Arc<Rankings>) -> Self {
        let files = FILES.map(|(path, content_type, text)| (path, file(content_type, text)));
        let mut files = Vec::from(files);
        files.push(("/emoji.json", file("application/json", emoji_json)));
        Self { files, rankings }
    }

    pub(crate) fn route(&self, head: &RequestHead) -> Routing {
        let path = head.path();
        // Only the feed publishes.
        if path.starts_with("/publish") {
            return Routing::Refuse(404, "unknown path".into());
        }
        if !matches!(head.method(), "GET" | "HEAD") {
            return Routing::Default;
        }
        if path == "/rankings" {
            return Routing::Respond(self.rankings.response());
        }
        let file = self.files.iter().find(|(name, _)| *name == path);
        file.map_or(Routing::Default, |(_, file)| Routing::Respond(file.clone()))
    }
}

/// A file that browsers revalidate each time and download when it has changed.
fn file(content_type: &'static str, bytes: impl Into<Bytes>) -> Response {
    let bytes = bytes.into();
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    Response::new(content_type, bytes)
        .header("Cache-Control", "no-cache")
        .header("ETag", format!("\"{:016x}\"", hasher.finish()))
        .header("Content-Security-Policy", "default-src 'self'")
        .header("X-Content-Type-Options", "nosniff")
}
