//! The server that a command addresses, and the URLs of its endpoints.

use fanfare::Namespace;
use fanfare::internals::Url;
use serde::Deserialize;
use ureq::http::HeaderValue;

use super::Failure;

/// The server that a command addresses.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ServerTarget {
    /// URL of the server
    #[arg(long, env = "FANFARE_URL", default_value = "http://127.0.0.1:8001")]
    pub(super) url: String,
    /// Token to send as `Authorization: Bearer TOKEN`
    #[arg(long, env = "FANFARE_TOKEN", hide_env_values = true)]
    pub(super) token: Option<String>,
}

impl ServerTarget {
    /// The URL of an event stream: the one given as a full URL, or one of these namespaces.
    pub(super) fn stream(&self, namespaces: &[String]) -> Result<String, Failure> {
        match namespaces {
            [url] if is_url(url) => Ok(url.clone()),
            [namespace] => self.endpoint("subscribe", &parse_namespace(namespace)?),
            several => {
                let mut url = self.endpoint("subscribe", &Namespace::root())?;
                for (index, namespace) in several.iter().enumerate() {
                    url.push_str(if index == 0 { "?ns=" } else { "&ns=" });
                    url.push_str(&percent_encode(parse_namespace(namespace)?.as_str()));
                }
                Ok(url)
            }
        }
    }

    /// The URL of an endpoint for a namespace, such as `publish` for `/pets`.
    pub(super) fn endpoint(
        &self,
        endpoint: &str,
        namespace: &Namespace,
    ) -> Result<String, Failure> {
        parse_url(&self.url)?;
        let base = self.url.trim_end_matches('/');
        let path = percent_encode(namespace.as_str());
        Ok(format!("{base}/{endpoint}{path}"))
    }

    /// The token, if one is set.
    ///
    /// # Errors
    /// If it is not a valid header value.
    pub(super) fn token(&self) -> Result<Option<&str>, Failure> {
        match &self.token {
            Some(token) if HeaderValue::from_str(token).is_err() => Err(Failure::Usage(
                "the token must consist of visible ASCII characters".into(),
            )),
            token => Ok(token.as_deref()),
        }
    }
}

fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

pub(super) fn parse_namespace(text: &str) -> Result<Namespace, Failure> {
    if is_url(text) {
        return Err(Failure::Usage(format!(
            "`{text}` is a URL, which must be the only argument"
        )));
    }
    Namespace::parse(text).map_err(|error| Failure::Usage(format!("`{text}`: {error}")))
}

pub(super) fn parse_url(text: &str) -> Result<Url, Failure> {
    Url::parse(text).map_err(|error| Failure::Usage(format!("`{text}` {error}")))
}

/// The explanation in the body of an error response: the `error` of a JSON object, as fanfare
/// sends it, or else the whole body.
pub(super) fn error_text(body: &str) -> String {
    #[derive(Deserialize)]
    struct ErrorBody {
        error: String,
    }
    serde_json::from_str(body).map_or_else(|_| body.trim().into(), |body: ErrorBody| body.error)
}

/// Percent-encodes a namespace or a query value. Slashes stay as they are.
pub(super) fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_of_a_stream_has_the_encoded_namespaces() {
        let target = |url: &str| ServerTarget {
            url: url.into(),
            token: None,
        };
        for (url, namespaces, expected) in [
            ("http://a:1", &["/"][..], "http://a:1/subscribe/"),
            (
                "http://a:1/",
                &["pets/dogs"],
                "http://a:1/subscribe/pets/dogs",
            ),
            (
                "http://a/b/",
                &["/c d/é?"],
                "http://a/b/subscribe/c%20d/%C3%A9%3F",
            ),
            (
                "http://a",
                &["/b", "/c&d"],
                "http://a/subscribe/?ns=/b&ns=/c%26d",
            ),
            ("http://a", &["https://b/c?d"], "https://b/c?d"),
        ] {
            let names: Vec<String> = namespaces.iter().map(ToString::to_string).collect();
            assert_eq!(target(url).stream(&names).unwrap(), expected);
        }
        for namespaces in [&["/a/../b"][..], &["/a", "http://b/"], &["a\nb"]] {
            let names: Vec<String> = namespaces.iter().map(ToString::to_string).collect();
            assert!(matches!(
                target("http://a").stream(&names),
                Err(Failure::Usage(_))
            ));
        }
    }

    #[test]
    fn invalid_urls_are_usage_errors_that_repeat_the_url() {
        for url in ["", "a", "/a", "ftp://a", "http://a:65536"] {
            let Err(Failure::Usage(message)) = parse_url(url) else {
                panic!("`{url}` is accepted");
            };
            assert!(message.starts_with(&format!("`{url}` must ")), "{message}");
        }
    }

    #[test]
    fn tokens_must_be_header_values() {
        for (token, is_valid) in [("secret", true), ("a\nb", false), ("é\u{1}", false)] {
            let target = ServerTarget {
                url: "http://a".into(),
                token: Some(token.into()),
            };
            assert_eq!(target.token().is_ok(), is_valid, "{token:?}");
        }
    }

    #[test]
    fn the_text_of_an_error_is_found_in_json_and_in_plain_text() {
        for (body, expected) in [
            (r#"{"error":"no such path"}"#, "no such path"),
            ("not you\n", "not you"),
            (r#"{"message":"x"}"#, r#"{"message":"x"}"#),
            ("", ""),
        ] {
            assert_eq!(error_text(body), expected);
        }
    }
}
