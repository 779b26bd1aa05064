//! What is asked for, of whom, and what of it a redirect may carry elsewhere.

use std::fmt;

use ureq::http::uri::{Authority, Scheme, Uri};
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};

use super::error::Error;

/// The request that opens a stream, the same for each attempt.
#[derive(Clone)]
pub(super) struct RequestTemplate {
    pub(super) url: Uri,
    /// What the application set, which is for the first URL's origin alone.
    pub(super) headers: HeaderMap,
    /// The body of a POST; without one it is a GET.
    pub(super) body: Option<Vec<u8>>,
}

impl fmt::Debug for RequestTemplate {
    /// Headers and body may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.url)
    }
}

/// One request of an attempt: the first, or one that a redirect led to.
#[derive(Clone)]
pub(super) struct Hop {
    pub(super) url: Uri,
    post: bool,
    /// All requests of the attempt so far went to one origin.
    same_origin: bool,
}

impl RequestTemplate {
    pub(super) fn new(url: &str) -> Result<Self, Error> {
        Ok(Self {
            url: parse_url(url)?,
            headers: HeaderMap::new(),
            body: None,
        })
    }

    pub(super) fn set_header(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let wrong = |what: &str| Error::Request(format!("{what} of a header cannot be sent"));
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("the name"))?;
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| wrong("the value"))?;
        self.headers.insert(name, value);
        Ok(())
    }

    /// The request to begin an attempt with.
    pub(super) fn first_hop(&self) -> Hop {
        Hop {
            url: self.url.clone(),
            post: self.body.is_some(),
            same_origin: true,
        }
    }

    /// The request at this hop. An ID that cannot be a header's value is not sent.
    pub(super) fn request(&self, hop: &Hop, last_event_id: &str) -> Request<Vec<u8>> {
        let body = self.body.clone().filter(|_| hop.post);
        let mut request = Request::new(body.unwrap_or_default());
        *request.method_mut() = if hop.post { Method::POST } else { Method::GET };
        *request.uri_mut() = hop.url.clone();
        let headers = request.headers_mut();
        headers.insert(
            header::ACCEPT,
            HeaderValue::from_static("text/event-stream"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if hop.same_origin {
            headers.extend(self.headers.clone());
        }
        if !hop.post {
            headers.remove(header::CONTENT_TYPE);
        }
        if let Ok(id) = HeaderValue::from_bytes(last_event_id.as_bytes())
            && !id.is_empty()
        {
            headers.insert("last-event-id", id);
        }
        request
    }
}

impl Hop {
    /// Where a redirect with this status and location leads.
    ///
    /// # Errors
    /// The location is no URL of HTTP.
    pub(super) fn redirected(&self, status: u16, location: &str) -> Result<Self, Error> {
        let url = join(&self.url, location).map_err(|error| Error::Redirect(error.to_string()))?;
        Ok(Self {
            post: self.post && matches!(status, 307 | 308),
            // What is dropped stays dropped: the other origin may have chosen where it led.
            same_origin: self.same_origin && origin(&url) == origin(&self.url),
            url,
        })
    }

    /// Whether it goes to this machine, where no proxy leads.
    pub(super) fn is_loopback(&self) -> bool {
        let host = self.url.host().unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost")
            || address
                .parse()
                .is_ok_and(|address: std::net::IpAddr| address.is_loopback())
    }
}

fn parse_url(text: &str) -> Result<Uri, Error> {
    let wrong = |problem: &str| Error::Request(format!("`{}` {problem}", text.escape_debug()));
    let text = text.split('#').next().unwrap_or_default();
    let url: Uri = text.parse().map_err(|_| wrong("is no URL"))?;
    if !matches!(url.scheme_str(), Some("http" | "https")) {
        return Err(wrong("is no URL of http or https"));
    }
    if url.host().is_none_or(str::is_empty) {
        return Err(wrong("names no host"));
    }
    if url.authority().is_some_and(|it| it.as_str().contains('@')) {
        return Err(wrong("has credentials, which belong in a header"));
    }
    // A port that is none would otherwise be passed over for that of the scheme.
    if url.port().is_none() && url.authority().map(Authority::as_str) != url.host() {
        return Err(wrong("has a port that is no number up to 65535"));
    }
    Ok(url)
}

/// Resolves what a `Location` says against the URL that said it (RFC 3986, section 5.2).
fn join(base: &Uri, location: &str) -> Result<Uri, Error> {
    let location = location.split('#').next().unwrap_or_default();
    let scheme = base.scheme().map_or("http", Scheme::as_str);
    let authority = base.authority().map_or("", Authority::as_str);
    let (path, query) = match location.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (location, None),
    };
    let has_scheme = path
        .split_once(':')
        .is_some_and(|(scheme, _)| !scheme.contains('/'));
    if has_scheme {
        return parse_url(location);
    }
    if path.starts_with("//") {
        return parse_url(&format!("{scheme}:{location}"));
    }
    let query = match (path, query) {
        ("", None) => base.query(),
        (_, query) => query,
    };
    let path = match path {
        "" => base.path().to_owned(),
        absolute if absolute.starts_with('/') => without_dots(absolute),
        relative => {
            let folder = base
                .path()
                .rsplit_once('/')
                .map_or("", |(folder, _)| folder);
            without_dots(&format!("{folder}/{relative}"))
        }
    };
    let query = query.map_or_else(String::new, |query| format!("?{query}"));
    parse_url(&format!("{scheme}://{authority}{path}{query}"))
}

/// The path without `.` and `..` segments.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let segments = path.split('/').skip(1);
    let mut is_folder = false;
    for segment in segments {
        is_folder = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    if is_folder {
        kept.push("");
    }
    format!("/{}", kept.join("/"))
}

/// Scheme, host and port: what a secret may be shown to.
fn origin(url: &Uri) -> (Option<&str>, Option<String>, Option<u16>) {
    let default_port = match url.scheme_str() {
        Some("https") => Some(443),
        _ => Some(80),
    };
    (
        url.scheme_str(),
        url.host().map(str::to_ascii_lowercase),
        url.port_u16().or(default_port),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_of_http_and_name_a_host() {
        for url in [
            "http://a",
            "https://a:1/b?c=d",
            "http://[::1]:8/",
            "HTTP://a/#x",
        ] {
            assert!(RequestTemplate::new(url).is_ok(), "{url}");
        }
        for (url, why) in [
            ("", "no URL"),
            ("/subscribe", "http or https"),
            ("a:80", "http or https"),
            ("ftp://a/", "http or https"),
            ("http://", "no URL"),
            ("http://a b/", "no URL"),
            ("http://:80/", "no host"),
            ("http://a:65536/", "port"),
            ("http://me:secret@a/", "credentials"),
        ] {
            let error = RequestTemplate::new(url).err().unwrap().to_string();
            assert!(error.contains(why), "{url}: {error}");
        }
    }

    #[test]
    fn locations_are_resolved() {
        let base = parse_url("http://a:1/b/c/d?e").unwrap();
        for (location, expected) in [
            ("http://x/y", "http://x/y"),
            ("https://a:1/b", "https://a:1/b"),
            ("//x/y?z", "http://x/y?z"),
            ("/x", "http://a:1/x"),
            ("/x/../y/./z", "http://a:1/y/z"),
            ("x", "http://a:1/b/c/x"),
            ("x:y", ""),
            ("./x:y", "http://a:1/b/c/x:y"),
            ("x/y/", "http://a:1/b/c/x/y/"),
            ("../x", "http://a:1/b/x"),
            ("../../../../x", "http://a:1/x"),
            ("..", "http://a:1/b/"),
            (".", "http://a:1/b/c/"),
            ("?x=http://y", "http://a:1/b/c/d?x=http://y"),
            ("x?y=/../z", "http://a:1/b/c/x?y=/../z"),
            ("", "http://a:1/b/c/d?e"),
            ("#f", "http://a:1/b/c/d?e"),
            ("x#f", "http://a:1/b/c/x"),
            ("ftp://x/", ""),
            ("http://me:secret@x/", ""),
        ] {
            let url = join(&base, location).map_or_else(|_| String::new(), |url| url.to_string());
            assert_eq!(url, expected, "{location}");
        }
    }

    #[test]
    fn what_the_application_sent_stays_with_its_origin() {
        let mut template = RequestTemplate::new("http://a/x").unwrap();
        template
            .set_header("Authorization", "Bearer secret")
            .unwrap();
        template.set_header("X-Key", "secret").unwrap();
        for (locations, kept) in [
            (&[][..], true),
            (&["/y"], true),
            (&["http://A:80/y"], true),
            (&["http://a:81/y"], false),
            (&["https://a/y"], false),
            (&["http://b/y"], false),
            (&["http://b/y", "http://a/x"], false),
        ] {
            let mut hop = template.first_hop();
            for location in locations {
                hop = hop.redirected(302, location).unwrap();
            }
            let request = template.request(&hop, "7");
            let has = |name| request.headers().contains_key(name);
            assert_eq!(has("authorization"), kept, "{locations:?}");
            assert_eq!(has("x-key"), kept, "{locations:?}");
            assert!(has("accept") && has("last-event-id"));
        }
    }

    #[test]
    fn a_post_stays_one_where_the_status_says_so() {
        let mut template = RequestTemplate::new("http://a/x").unwrap();
        template.body = Some(b"body".to_vec());
        template.set_header("Content-Type", "text/plain").unwrap();
        for (status, post) in [
            (301, false),
            (302, false),
            (303, false),
            (307, true),
            (308, true),
        ] {
            let hop = template.first_hop().redirected(status, "/y").unwrap();
            let request = template.request(&hop, "");
            assert_eq!(request.method() == Method::POST, post, "{status}");
            assert_eq!(request.body().is_empty(), !post);
            assert_eq!(request.headers().contains_key("content-type"), post);
            assert!(!request.headers().contains_key("last-event-id"));
        }
    }

    #[test]
    fn an_id_that_is_no_header_is_not_sent() {
        let template = RequestTemplate::new("http://a/x").unwrap();
        for (id, sent) in [("1", true), ("é…", true), ("", false), ("a\u{1}", false)] {
            let request = template.request(&template.first_hop(), id);
            let header = request.headers().get("last-event-id");
            assert_eq!(
                header.map(HeaderValue::as_bytes),
                sent.then_some(id.as_bytes())
            );
        }
    }

    #[test]
    fn loopback_is_told_by_name_and_number() {
        for (url, loopback) in [
            ("http://localhost/", true),
            ("http://127.0.0.2:80/", true),
            ("http://[::1]/", true),
            ("http://example.org/", false),
            ("http://10.0.0.1/", false),
        ] {
            let hop = RequestTemplate::new(url).unwrap().first_hop();
            assert_eq!(hop.is_loopback(), loopback, "{url}");
        }
    }
}
