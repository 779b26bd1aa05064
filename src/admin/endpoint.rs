//! The endpoints of the status page and the metrics: their paths, the methods that they take, and
//! the JSON bodies of their requests.

use serde::Deserialize;

use crate::http::Reject;
use crate::namespace::{Namespace, NamespaceLimits};

/// What a request to the status page or the metrics asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// `/admin`, which redirects to `/admin/`.
    Redirect,
    /// A file of the page: every other path below `/admin/`.
    Asset,
    Session,
    Status,
    Connection,
    Namespaces,
    /// The status as an event stream.
    Events,
    Metrics,
    Action(AdminAction),
}

/// A change that an administrator makes with a `POST` request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdminAction {
    Disconnect,
    Login {
        /// The client speaks HTTPS, to a proxy.
        secure: bool,
    },
    Logout,
}

impl Endpoint {
    /// The endpoint at a path; `None` if the path is neither `/metrics` nor `/admin` nor below it.
    pub(crate) fn at(path: &str) -> Option<Self> {
        let name = match path {
            "/admin" => return Some(Self::Redirect),
            "/metrics" => return Some(Self::Metrics),
            path => path.strip_prefix("/admin/")?,
        };
        Some(match name {
            "session.json" => Self::Session,
            "status.json" => Self::Status,
            "connection.json" => Self::Connection,
            "namespaces.json" => Self::Namespaces,
            "events" => Self::Events,
            "disconnect" => Self::Action(AdminAction::Disconnect),
            "login" => Self::Action(AdminAction::Login { secure: false }),
            "logout" => Self::Action(AdminAction::Logout),
            _ => Self::Asset,
        })
    }

    /// The methods of this endpoint, as in the header `Allow`.
    pub(crate) fn allow(self) -> &'static str {
        match self {
            Self::Action(_) => "POST, OPTIONS",
            _ => "GET, HEAD, OPTIONS",
        }
    }

    /// Whether a method is one of [`Self::allow`].
    pub(crate) fn takes(self, method: &str) -> bool {
        self.allow().split(", ").any(|allowed| allowed == method)
    }
}

/// The body of `POST /admin/disconnect`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DisconnectRequest {
    /// The connection with this ID.
    Connection(u64),
    /// All event streams of this namespace and of those below it.
    Namespace(Namespace),
}

impl DisconnectRequest {
    /// Parses `{"id":N}` or `{"namespace":"/a"}`.
    ///
    /// # Errors
    /// 400 for any other body and for an invalid namespace.
    pub(crate) fn parse(body: &[u8], limits: &NamespaceLimits) -> Result<Self, Reject> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Body {
            id: Option<u64>,
            namespace: Option<String>,
        }
        let body = serde_json::from_slice(body).ok();
        match body.map(|Body { id, namespace }| (id, namespace)) {
            Some((Some(id), None)) => Ok(Self::Connection(id)),
            Some((None, Some(path))) => Namespace::parse_within(&path, limits)
                .map(Self::Namespace)
                .map_err(|error| Reject::bad(error.to_string())),
            _ => Err(Reject::bad(
                r#"the body must be {"id":N} or {"namespace":"/a"}"#,
            )),
        }
    }
}

/// The body of `POST /admin/login`. It has no `Debug`, since that would print the token.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoginRequest {
    pub(crate) token: String,
}

impl LoginRequest {
    /// Parses `{"token":"…"}`.
    ///
    /// # Errors
    /// 400 for any other body.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Reject> {
        serde_json::from_slice(body).map_err(|_| Reject::bad(r#"the body must be {"token":"…"}"#))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_an_endpoint() {
        for (path, expected) in [
            ("/admin", Some(Endpoint::Redirect)),
            ("/admin/", Some(Endpoint::Asset)),
            ("/admin/app.js", Some(Endpoint::Asset)),
            ("/admin/status.json", Some(Endpoint::Status)),
            ("/admin/status.json/", Some(Endpoint::Asset)),
            ("/admin/logout", Some(Endpoint::Action(AdminAction::Logout))),
            ("/metrics", Some(Endpoint::Metrics)),
            ("/metrics/", None),
            ("/administrator", None),
            ("/", None),
        ] {
            assert_eq!(Endpoint::at(path), expected, "{path}");
        }
    }

    #[test]
    fn an_endpoint_takes_some_methods() {
        for (path, methods) in [
            ("/admin/status.json", ["GET", "HEAD", "OPTIONS"].as_slice()),
            ("/admin/disconnect", &["POST", "OPTIONS"]),
        ] {
            let endpoint = Endpoint::at(path).unwrap();
            for method in ["GET", "HEAD", "OPTIONS", "POST", "PUT", "", "GE"] {
                let takes = endpoint.takes(method);
                assert_eq!(takes, methods.contains(&method), "{method} {path}");
            }
        }
    }

    #[test]
    fn a_disconnect_request_has_an_id_or_a_namespace() {
        let parse = |body: &str| DisconnectRequest::parse(body.as_bytes(), &Default::default());
        assert_eq!(parse(r#"{"id":3}"#), Ok(DisconnectRequest::Connection(3)));
        assert_eq!(
            parse(r#"{"namespace":"a//b"}"#),
            Ok(DisconnectRequest::Namespace("/a/b".parse().unwrap()))
        );
        for body in [
            "",
            "{}",
            "[]",
            r#"{"id":"3"}"#,
            r#"{"id":-1}"#,
            r#"{"id":1,"namespace":"/"}"#,
            r#"{"id":1,"x":2}"#,
        ] {
            let expected = r#"the body must be {"id":N} or {"namespace":"/a"}"#;
            assert_eq!(parse(body), Err(Reject::bad(expected)), "{body}");
        }
        assert_eq!(parse(r#"{"namespace":"/.."}"#).unwrap_err().status, 400);
    }

    #[test]
    fn a_login_request_has_a_token_and_nothing_else() {
        for (body, expected) in [
            (r#"{"token":"a"}"#, Some("a")),
            (r#"{"token":1}"#, None),
            (r#"{"token":"a","x":1}"#, None),
            ("", None),
        ] {
            let parsed = LoginRequest::parse(body.as_bytes()).ok();
            assert_eq!(
                parsed.map(|request| request.token).as_deref(),
                expected,
                "{body}"
            );
        }
    }
}
