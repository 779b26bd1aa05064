//! The syntax of header names and values ([RFC 9110, section 5]).
//!
//! [RFC 9110, section 5]: https://www.rfc-editor.org/rfc/rfc9110#section-5

/// Checks a header that an application or the configuration adds to a response.
///
/// # Errors
/// The problem, in words that follow the name: a name that is not a token ([RFC 9110, section
/// 5.6.2]), a header that frames the message, or a value with other characters than visible ASCII,
/// space and tab.
///
/// [RFC 9110, section 5.6.2]: https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2
pub(crate) fn check_header(name: &str, value: &str) -> Result<(), &'static str> {
    const FRAMING: [&str; 4] = [
        "connection",
        "content-length",
        "transfer-encoding",
        "trailer",
    ];
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err("is not a valid header name");
    }
    if FRAMING
        .iter()
        .any(|framing| name.eq_ignore_ascii_case(framing))
    {
        return Err("is set by the server and cannot be added");
    }
    if !value
        .bytes()
        .all(|b| b.is_ascii_graphic() || b == b' ' || b == b'\t')
    {
        return Err("has an invalid value: only visible ASCII, spaces and tabs are allowed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_headers_are_refused() {
        for (name, value, valid) in [
            ("X-A", "a \t~", true),
            ("X-A", "", true),
            ("x!#$%&'*+-.^_`|~1", "a", true),
            ("", "a", false),
            ("X A", "a", false),
            ("X:", "a", false),
            ("Ü", "a", false),
            ("CONTENT-LENGTH", "1", false),
            ("Transfer-Encoding", "chunked", false),
            ("X-A", "a\r\nB: c", false),
            ("X-A", "ü", false),
            ("X-A", "\x7f", false),
        ] {
            assert_eq!(check_header(name, value).is_ok(), valid, "{name}: {value}");
        }
    }
}
