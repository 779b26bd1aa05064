//! Signing in: the token of a page's user, in a cookie that no script can read and no other site can send.

use crate::http::access::same_secret;
use crate::http::request::RequestHead;

const COOKIE: &str = "fanfare-admin";
/// Seconds: thirty days.
const MAX_AGE: u32 = 30 * 86_400;

/// The cookie that signs in. It has no path, so browsers send it to what is beside `login`, whatever prefix a proxy has put before that.
pub(crate) fn sign_in(token: &str, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!(
        "{COOKIE}={}; Max-Age={MAX_AGE}; HttpOnly; SameSite=Strict{secure}",
        in_hex(token)
    )
}

/// The cookie that signs out.
pub(crate) fn sign_out() -> String {
    format!("{COOKIE}=; Max-Age=0; HttpOnly; SameSite=Strict")
}

/// Whether a request has the cookie of a token.
pub(crate) fn is_signed_in(head: &RequestHead, token: &str) -> bool {
    let cookies = head
        .values("cookie")
        .filter_map(|value| std::str::from_utf8(value).ok());
    cookies
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .any(|(name, value)| name == COOKIE && same_secret(value, &in_hex(token)))
}

/// A token may have characters that a cookie may not.
fn in_hex(token: &str) -> String {
    token.bytes().map(|byte| format!("{byte:02x}")).collect()
}
