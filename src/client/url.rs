//! URLs of HTTP servers: parsing, resolving a redirect's location, and comparing origins.

use std::fmt;

use ureq::http::Uri;
use ureq::http::uri::{Authority, Scheme};

use crate::loopback::is_loopback_host;

/// An absolute `http` or `https` URL with a host and, if it names a port, a valid one. It has no
/// fragment, because a request does not send one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url(Uri);

/// Why a text is not a [`Url`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlError {
    /// The text does not have the syntax of a URL.
    Syntax,
    /// The scheme is missing, or neither `http` nor `https`.
    Scheme,
    /// The host is missing.
    Host,
    /// The port is not a number from 0 to 65535.
    Port,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "must be a URL such as http://127.0.0.1:8001",
            Self::Scheme => "must be a URL that starts with http:// or https://",
            Self::Host => "must name a host",
            Self::Port => "must have a port from 0 to 65535",
        })
    }
}

impl std::error::Error for UrlError {}

impl Url {
    /// Parses a URL and drops its fragment.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.split('#').next().unwrap_or_default();
        let uri: Uri = text.parse().map_err(|_| UrlError::Syntax)?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(UrlError::Scheme);
        }
        let authority = uri.authority().ok_or(UrlError::Host)?;
        if authority.host().is_empty() {
            return Err(UrlError::Host);
        }
        // `Uri` takes an invalid port for an absent one, and the default port would be used.
        if authority.port().is_none() && !authority.as_str().ends_with(authority.host()) {
            return Err(UrlError::Port);
        }
        Ok(Self(uri))
    }

    /// Resolves a `Location` header against this URL, the one that was requested
    /// (RFC 3986, section 5.2).
    pub fn join(&self, location: &str) -> Result<Self, UrlError> {
        let location = location.split('#').next().unwrap_or_default();
        let (path, query) = match location.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (location, None),
        };
        let has_scheme = path
            .split_once(':')
            .is_some_and(|(scheme, _)| !scheme.contains('/'));
        let scheme = self.0.scheme().map_or("http", Scheme::as_str);
        if has_scheme {
            return Self::parse(location);
        }
        if path.starts_with("//") {
            return Self::parse(&format!("{scheme}:{location}"));
        }
        let query = match (path, query) {
            ("", None) => self.0.query(),
            (_, query) => query,
        };
        let query = query.map_or_else(String::new, |query| format!("?{query}"));
        let authority = self.0.authority().map_or("", Authority::as_str);
        let path = self.join_path(path);
        Self::parse(&format!("{scheme}://{authority}{path}{query}"))
    }

    fn join_path(&self, path: &str) -> String {
        match path {
            "" => self.0.path().to_owned(),
            absolute if absolute.starts_with('/') => remove_dot_segments(absolute),
            relative => {
                let base = self.0.path();
                let folder = base.rsplit_once('/').map_or("", |(folder, _)| folder);
                remove_dot_segments(&format!("{folder}/{relative}"))
            }
        }
    }

    /// The URL as the request target of a client request.
    pub fn as_uri(&self) -> &Uri {
        &self.0
    }

    /// The host: a name, an IPv4 address, or an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        self.0.host().unwrap_or_default()
    }

    /// The port, or the default port of the scheme.
    pub fn port(&self) -> u16 {
        let default = if self.is_https() { 443 } else { 80 };
        self.0.port_u16().unwrap_or(default)
    }

    /// The path and the query, as they stand in a request line. The path is at least `/`.
    pub fn path_and_query(&self) -> String {
        let path_and_query = self.0.path_and_query();
        path_and_query.map_or_else(|| "/".into(), ToString::to_string)
    }

    /// Whether the scheme is `https`.
    pub fn is_https(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// Whether the host is this machine, so that no proxy is used.
    pub fn is_loopback(&self) -> bool {
        is_loopback_host(self.host())
    }

    /// Whether the URL contains a user name or a password.
    pub fn has_credentials(&self) -> bool {
        let authority = self.0.authority();
        authority.is_some_and(|authority| authority.as_str().contains('@'))
    }

    /// Whether scheme, host and port are equal (RFC 6454, section 5).
    pub fn has_same_origin(&self, other: &Self) -> bool {
        self.is_https() == other.is_https()
            && self.host().eq_ignore_ascii_case(other.host())
            && self.port() == other.port()
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Removes `.` and `..` segments from an absolute path (RFC 3986, section 5.2.4).
fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_with_dots = false;
    for segment in path.split('/').skip(1) {
        ends_with_dots = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    if ends_with_dots {
        kept.push("");
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_an_http_scheme_a_host_and_a_valid_port() {
        for (text, expected) in [
            ("http://a", Ok(())),
            ("https://a:1/b?c=d", Ok(())),
            ("http://[::1]:8/", Ok(())),
            ("http://me:secret@a/", Ok(())),
            ("HTTP://a/#x", Ok(())),
            ("", Err(UrlError::Syntax)),
            ("http://", Err(UrlError::Syntax)),
            ("http://a b/", Err(UrlError::Syntax)),
            ("http://a:b", Err(UrlError::Port)),
            ("a", Err(UrlError::Scheme)),
            ("/subscribe", Err(UrlError::Scheme)),
            ("a:80", Err(UrlError::Scheme)),
            ("ftp://a/", Err(UrlError::Scheme)),
            ("http://:80/", Err(UrlError::Host)),
            ("http://a:65536/", Err(UrlError::Port)),
        ] {
            assert_eq!(Url::parse(text).map(drop), expected, "{text}");
        }
    }

    #[test]
    fn the_parts_of_a_url_have_defaults() {
        for (text, port, path, loopback, credentials) in [
            ("http://a", 80, "/", false, false),
            ("https://a?b", 443, "/?b", false, false),
            ("http://localhost:1/b#c", 1, "/b", true, false),
            ("http://me:secret@[::1]:8/", 8, "/", true, true),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!(url.port(), port, "{text}");
            assert_eq!(url.path_and_query(), path, "{text}");
            assert_eq!(url.is_loopback(), loopback, "{text}");
            assert_eq!(url.has_credentials(), credentials, "{text}");
        }
    }

    #[test]
    fn locations_are_resolved_against_the_requested_url() {
        let base = Url::parse("http://a:1/b/c/d?e").unwrap();
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
        ] {
            let url = base
                .join(location)
                .map_or_else(|_| String::new(), |url| url.to_string());
            assert_eq!(url, expected, "{location}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let base = Url::parse("http://a/x").unwrap();
        for (other, same) in [
            ("http://a/y", true),
            ("http://A:80/", true),
            ("http://a:81/", false),
            ("https://a/", false),
            ("http://b/", false),
        ] {
            let other = Url::parse(other).unwrap();
            assert_eq!(base.has_same_origin(&other), same, "{other}");
        }
    }
}
