//! Bearer tokens in requests (RFC 6750, section 2.1).

use crate::http::request::RequestHead;

/// Whether a request has the token, as `Authorization: Bearer …`.
pub(crate) fn shows_token(head: &RequestHead, token: &str) -> bool {
    let authorization = head.header("authorization").unwrap_or_default();
    let (scheme, shown) = authorization.split_once(' ').unwrap_or_default();
    let same = same_secret(shown.trim_start(), token);
    scheme.eq_ignore_ascii_case("bearer") && same
}

/// Compares two secrets in a time that does not depend on where they differ.
pub(crate) fn same_secret(shown: &str, secret: &str) -> bool {
    use subtle::ConstantTimeEq;
    shown.as_bytes().ct_eq(secret.as_bytes()).into()
}
