//! The syntax of header names and values.

/// Whether a header may be added to a response.
pub(crate) fn check_header(name: &str, value: &str) -> Result<(), &'static str> {
    const FRAMING: [&str; 4] = [
        "connection",
        "content-length",
        "transfer-encoding",
        "trailer",
    ];
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err("is no header name");
    }
    if FRAMING
        .iter()
        .any(|framing| name.eq_ignore_ascii_case(framing))
    {
        return Err("says how the connection is used and cannot be set");
    }
    if !value
        .bytes()
        .all(|b| b.is_ascii_graphic() || b == b' ' || b == b'\t')
    {
        return Err("has a value with characters other than visible ASCII");
    }
    Ok(())
}
