//! The URLs of a load, one per namespace.

use std::net::{SocketAddr, ToSocketAddrs};

use super::super::Failure;
use super::super::target::parse_url;

/// The placeholder for the number of the namespace in a URL.
pub(super) const NAMESPACE_PLACEHOLDER: &str = "{}";

/// The resolved address of a URL, and its path with a placeholder for the number of the namespace.
#[derive(Debug)]
pub(super) struct UrlTemplate {
    pub(super) address: SocketAddr,
    /// The value of the `Host` header.
    pub(super) host: String,
    path: String,
}

impl UrlTemplate {
    /// Parses a URL and resolves its host.
    pub(super) fn resolve(text: &str) -> Result<Self, Failure> {
        let url = parse_url(text)?;
        if url.is_https() {
            return Err(Failure::Usage(format!(
                "`{text}` must start with http://: the load generator does not support TLS"
            )));
        }
        let (host, port) = (url.host(), url.port());
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let mut addresses = (name, port)
            .to_socket_addrs()
            .map_err(|error| Failure::Failed(format!("cannot resolve {host}: {error}")))?;
        let address = addresses
            .next()
            .ok_or_else(|| Failure::Failed(format!("cannot resolve {host}: no address found")))?;
        Ok(Self {
            address,
            host: format!("{host}:{port}"),
            path: url.path_and_query(),
        })
    }

    /// The path for a namespace.
    pub(super) fn path(&self, namespace: usize) -> String {
        self.path
            .replace(NAMESPACE_PLACEHOLDER, &namespace.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_the_namespace_replaces_the_placeholder() {
        for (url, host, path) in [
            ("http://127.0.0.1", "127.0.0.1:80", "/"),
            ("http://127.0.0.1:1/a/{}", "127.0.0.1:1", "/a/7"),
            ("http://[::1]:1?a={}", "[::1]:1", "/?a=7"),
        ] {
            let template = UrlTemplate::resolve(url).unwrap();
            assert_eq!((&*template.host, &*template.path(7)), (host, path));
        }
        assert!(matches!(
            UrlTemplate::resolve("https://127.0.0.1"),
            Err(Failure::Usage(_))
        ));
    }
}
