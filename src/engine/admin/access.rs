//! Access to the status page and the metrics: who may see and change what, and sessions.

use crate::admin::endpoint::{AdminAction, Endpoint, LoginRequest};
use crate::admin::json::SessionJson;
use crate::admin::session;
use crate::config::{AdminAccess, PublishAccess};
use crate::http::access::{same_secret, shows_token};
use crate::http::request::RequestHead;
use crate::http::response::Response;
use crate::http::{Reject, proxy, route};
use crate::json::to_json;

use super::super::{ConnId, Engine};

impl Engine {
    /// The endpoint that a request is for.
    ///
    /// # Errors
    /// The response, if the request is not allowed or is answered with its methods.
    pub(super) fn admit(&self, head: &RequestHead) -> Result<Endpoint, Response> {
        let endpoint = Endpoint::at(head.path()).ok_or_else(Reject::not_found)?;
        let allow = endpoint.allow();
        if head.method() == "OPTIONS" {
            return Err(Response::empty(204).header("Allow", allow));
        }
        if !endpoint.takes(head.method()) {
            return Err(Reject::method_not_allowed(allow).into());
        }
        if self.admin_access() == AdminAccess::Off {
            let message = "the status page and the metrics are disabled: admin=off";
            return Err(Reject::new(403, message).into());
        }
        match endpoint {
            // The page itself has no data.
            Endpoint::Redirect | Endpoint::Asset => {}
            // These work without a token, or check it themselves.
            Endpoint::Session
            | Endpoint::Action(AdminAction::Login { .. } | AdminAction::Logout) => {
                refuse_foreign(head)?;
            }
            _ => self.check_admin(head)?,
        }
        Ok(endpoint)
    }

    pub(super) fn admin_access(&self) -> AdminAccess {
        let admin = self.meters.admin.as_ref();
        admin.map_or(AdminAccess::Off, |admin| admin.setup.access)
    }

    fn check_admin(&self, head: &RequestHead) -> Result<(), Reject> {
        refuse_foreign(head)?;
        match self.admin_access() {
            AdminAccess::Token if self.is_signed_in(head) => Ok(()),
            AdminAccess::Token => {
                let reject = Reject::new(
                    401,
                    "the admin token is required: send `Authorization: Bearer TOKEN`, or sign in",
                );
                Err(reject.with_header("WWW-Authenticate", "Bearer realm=\"fanfare admin\""))
            }
            AdminAccess::Open if route::host_is_loopback(head) => Ok(()),
            AdminAccess::Open => Err(Reject::new(
                403,
                "without an admin token, the Host must be a loopback name",
            )),
            AdminAccess::Closed | AdminAccess::Off => Err(Reject::new(
                403,
                "access is closed: set admin-token, or bind the server to a loopback address",
            )),
        }
    }

    fn is_signed_in(&self, head: &RequestHead) -> bool {
        let token = self.config.admin_token.as_deref();
        token.is_some_and(|token| shows_token(head, token) || session::is_signed_in(head, token))
    }

    /// What the page may do for the client of this request.
    pub(super) fn session(&self, head: &RequestHead) -> Response {
        let admin = self.meters.admin.as_ref();
        let own_listener = admin.is_some_and(|admin| admin.setup.own_listener);
        let session = SessionJson {
            login: self.config.admin_token.is_some(),
            signed_in: self.check_admin(head).is_ok(),
            publish: match self.rules.access.publish {
                _ if own_listener => "elsewhere",
                PublishAccess::Open => "open",
                PublishAccess::Token => "token",
                PublishAccess::Closed => "closed",
            },
        };
        Response::json(200, to_json(&session))
    }

    /// An action that knows whether its request came over HTTPS.
    pub(super) fn with_scheme(
        &self,
        key: ConnId,
        head: &RequestHead,
        action: AdminAction,
    ) -> AdminAction {
        let AdminAction::Login { .. } = action else {
            return action;
        };
        let peer = self.connections[key].peer;
        let trusted = &self.config.trusted_proxies;
        let secure = peer.is_some_and(|peer| proxy::is_https(head, peer.ip(), trusted));
        AdminAction::Login { secure }
    }

    pub(super) fn sign_in(&self, body: &[u8], secure: bool) -> Response {
        let token = match LoginRequest::parse(body) {
            Ok(request) => request.token,
            Err(reject) => return reject.into(),
        };
        match &self.config.admin_token {
            None => Response::error(409, "sign-in is disabled: the server has no admin token"),
            Some(expected) if same_secret(&token, expected) => {
                Response::empty(204).header("Set-Cookie", session::sign_in(expected, secure))
            }
            Some(_) => Response::error(401, "invalid admin token"),
        }
    }
}

/// Refuses a request that a page of another site made: it could read data, or act, with the
/// session of the visitor.
fn refuse_foreign(head: &RequestHead) -> Result<(), Reject> {
    if route::is_foreign(head) {
        let message = "requests from pages of other origins are not allowed";
        return Err(Reject::new(403, message));
    }
    Ok(())
}
