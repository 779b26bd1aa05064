//! The request that opens a stream, and which parts of it follow a redirect.

use std::fmt;

use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};

use super::error::Error;
use super::url::Url;

/// The request that opens a stream. Each attempt to connect starts with it.
#[derive(Clone)]
pub(super) struct RequestTemplate {
    url: Url,
    /// The application's headers, which are only sent to the origin of `url`.
    headers: HeaderMap,
    /// The body of a POST; without one the request is a GET.
    body: Option<Vec<u8>>,
}

impl fmt::Debug for RequestTemplate {
    /// Writes the URL only: headers and body may contain secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.url)
    }
}

/// One request of an attempt: the first, or one that a redirect leads to.
#[derive(Clone)]
pub(super) struct Hop {
    url: Url,
    is_post: bool,
    /// Whether all requests of the attempt so far went to the same origin.
    is_same_origin: bool,
}

impl RequestTemplate {
    pub(super) fn new(url: &str) -> Result<Self, Error> {
        Ok(Self {
            url: parse_url(url).map_err(Error::Request)?,
            headers: HeaderMap::new(),
            body: None,
        })
    }

    pub(super) fn set_header(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let invalid = |part: &str| {
            let name = name.escape_debug();
            Error::Request(format!("header `{name}` has an invalid {part}"))
        };
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid("name"))?;
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| invalid("value"))?;
        self.headers.insert(key, value);
        Ok(())
    }

    pub(super) fn set_body(&mut self, body: Vec<u8>) {
        self.body = Some(body);
    }

    /// The first request of an attempt.
    pub(super) fn first_hop(&self) -> Hop {
        Hop {
            url: self.url.clone(),
            is_post: self.body.is_some(),
            is_same_origin: true,
        }
    }

    /// The request for this hop. Leaves out an ID that is not a valid header value.
    pub(super) fn request(&self, hop: &Hop, last_event_id: &str) -> Request<Vec<u8>> {
        let body = self.body.clone().filter(|_| hop.is_post);
        let mut request = Request::new(body.unwrap_or_default());
        *request.method_mut() = if hop.is_post {
            Method::POST
        } else {
            Method::GET
        };
        *request.uri_mut() = hop.url.as_uri().clone();
        let headers = request.headers_mut();
        headers.insert(
            header::ACCEPT,
            HeaderValue::from_static("text/event-stream"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if hop.is_same_origin {
            headers.extend(self.headers.clone());
        }
        if !hop.is_post {
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
    /// The hop that a redirect with this status and `Location` leads to.
    ///
    /// # Errors
    /// [`Error::Redirect`] if the location is not a URL of HTTP.
    pub(super) fn redirected(&self, status: u16, location: &str) -> Result<Self, Error> {
        let url = self.url.join(location);
        let url = url.map_err(|error| Error::Redirect(problem(location, &error)))?;
        refuse_credentials(&url).map_err(Error::Redirect)?;
        Ok(Self {
            // A POST stays one only after 307 and 308 (RFC 9110, section 15.4).
            is_post: self.is_post && matches!(status, 307 | 308),
            // Headers once left out stay out: the other origin may have chosen the location.
            is_same_origin: self.is_same_origin && url.has_same_origin(&self.url),
            url,
        })
    }

    /// Whether the request goes to this machine, so that no proxy is used.
    pub(super) fn is_loopback(&self) -> bool {
        self.url.is_loopback()
    }
}

fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| problem(text, &error))?;
    refuse_credentials(&url)?;
    Ok(url)
}

/// Credentials in a URL end up in logs; they belong in a header.
fn refuse_credentials(url: &Url) -> Result<(), String> {
    if url.has_credentials() {
        // The URL is not repeated here, because it contains a secret.
        return Err("a URL must not contain credentials: use a header".into());
    }
    Ok(())
}

fn problem(url: &str, error: &impl fmt::Display) -> String {
    format!("`{}` {error}", url.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_must_be_absolute_and_without_credentials() {
        for (url, problem) in [
            ("", "must be a URL"),
            ("/subscribe", "http://"),
            ("http://a:65536/", "port"),
            ("http://me:secret@a/", "credentials"),
        ] {
            let error = RequestTemplate::new(url).err().unwrap().to_string();
            assert!(error.contains(problem), "{url}: {error}");
            assert!(!error.contains("secret"), "{error}");
            let hop = RequestTemplate::new("http://a/").unwrap().first_hop();
            if problem != "http://" && !url.is_empty() {
                assert!(hop.redirected(302, url).is_err(), "{url}");
            }
        }
    }

    #[test]
    fn headers_must_be_valid() {
        let mut template = RequestTemplate::new("http://a/").unwrap();
        for (name, value, problem) in [
            ("a b", "c", "header `a b` has an invalid name"),
            ("a", "b\r\nc: d", "header `a` has an invalid value"),
        ] {
            let error = template.set_header(name, value).unwrap_err();
            assert_eq!(error, Error::Request(problem.into()));
        }
    }

    #[test]
    fn headers_of_the_application_stay_with_its_origin() {
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
    fn a_post_stays_one_after_307_and_308_only() {
        let mut template = RequestTemplate::new("http://a/x").unwrap();
        template.set_body(b"body".to_vec());
        template.set_header("Content-Type", "text/plain").unwrap();
        for (status, is_post) in [
            (301, false),
            (302, false),
            (303, false),
            (307, true),
            (308, true),
        ] {
            let hop = template.first_hop().redirected(status, "/y").unwrap();
            let request = template.request(&hop, "");
            assert_eq!(request.method() == Method::POST, is_post, "{status}");
            assert_eq!(request.body().is_empty(), !is_post);
            assert_eq!(request.headers().contains_key("content-type"), is_post);
            assert!(!request.headers().contains_key("last-event-id"));
        }
    }

    #[test]
    fn an_id_that_is_not_a_header_value_is_not_sent() {
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
}
