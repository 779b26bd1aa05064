//! Bearer tokens in requests ([RFC 6750, section 2.1]).
//!
//! [RFC 6750, section 2.1]: https://www.rfc-editor.org/rfc/rfc6750#section-2.1

use crate::http::request::RequestHead;

/// Whether a request has this token, as `Authorization: Bearer TOKEN`.
pub(crate) fn shows_token(head: &RequestHead, token: &str) -> bool {
    let authorization = head.header("authorization").unwrap_or_default();
    let (scheme, given) = authorization.split_once(' ').unwrap_or_default();
    let same = same_secret(given.trim_start(), token);
    scheme.eq_ignore_ascii_case("bearer") && same
}

/// Compares two secrets in a time that does not depend on where they differ.
pub(crate) fn same_secret(given: &str, secret: &str) -> bool {
    use subtle::ConstantTimeEq;
    given.as_bytes().ct_eq(secret.as_bytes()).into()
}
