//! Signing in to the status page. The token is kept in a cookie that scripts cannot read and other
//! sites cannot send.

use crate::http::access::same_secret;
use crate::http::request::RequestHead;

const COOKIE: &str = "fanfare-admin";
/// Thirty days, in seconds.
const MAX_AGE_SECS: u32 = 30 * 86_400;

/// The cookie that signs in; `secure` limits it to HTTPS. It omits the path, so browsers send it to
/// the URLs next to `login`, also below the path prefix of a proxy.
pub(crate) fn sign_in(token: &str, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!(
        "{COOKIE}={}; Max-Age={MAX_AGE_SECS}; HttpOnly; SameSite=Strict{secure}",
        hex(token)
    )
}

/// The cookie that signs out: it expires at once.
pub(crate) fn sign_out() -> String {
    format!("{COOKIE}=; Max-Age=0; HttpOnly; SameSite=Strict")
}

/// Whether a request has the cookie of this token.
pub(crate) fn is_signed_in(head: &RequestHead, token: &str) -> bool {
    let cookies = head
        .values("cookie")
        .filter_map(|value| std::str::from_utf8(value).ok());
    cookies
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .any(|(name, value)| name == COOKIE && same_secret(value, &hex(token)))
}

/// The token in hex, since it may contain characters that are invalid in a cookie.
fn hex(token: &str) -> String {
    token.bytes().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::request;

    #[test]
    fn the_cookie_of_the_token_signs_in() {
        for (headers, expected) in [
            ("", false),
            ("Cookie: fanfare-admin=613b2262\r\n", true),
            ("Cookie: x=y; fanfare-admin=613b2262; z\r\n", true),
            ("Cookie: x=y\r\nCookie: fanfare-admin=613b2262\r\n", true),
            ("Cookie: fanfare-admin=613b2263\r\n", false),
            ("Cookie: fanfare-admin=\r\n", false),
            ("Cookie: fanfare-admin\r\n", false),
            ("Cookie: other=613b2262\r\n", false),
        ] {
            assert_eq!(
                is_signed_in(&request(headers), "a;\"b"),
                expected,
                "{headers}"
            );
        }
    }

    #[test]
    fn a_cookie_is_for_one_site_and_out_of_reach_of_scripts() {
        for (cookie, expected) in [
            (
                sign_in("aü", false),
                "fanfare-admin=61c3bc; Max-Age=2592000; HttpOnly; SameSite=Strict",
            ),
            (
                sign_in("a", true),
                "fanfare-admin=61; Max-Age=2592000; HttpOnly; SameSite=Strict; Secure",
            ),
            (
                sign_out(),
                "fanfare-admin=; Max-Age=0; HttpOnly; SameSite=Strict",
            ),
        ] {
            assert_eq!(cookie, expected);
        }
    }
}
