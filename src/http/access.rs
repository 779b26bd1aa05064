//! Tokens in requests: whether a request shows one.

use crate::http::request::RequestHead;

/// Whether a request shows a token as `Authorization: Bearer …`.
pub(crate) fn shows_token(head: &RequestHead, token: &str) -> bool {
    let authorization = head.header("authorization").unwrap_or_default();
    let (scheme, shown) = authorization.split_once(' ').unwrap_or_default();
    let same = same_secret(shown.trim_start(), token);
    scheme.eq_ignore_ascii_case("bearer") && same
}

/// Compares in a time that does not tell where the two differ.
pub(crate) fn same_secret(shown: &str, secret: &str) -> bool {
    use subtle::ConstantTimeEq;
    shown.as_bytes().ct_eq(secret.as_bytes()).into()
}
