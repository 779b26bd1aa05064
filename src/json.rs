//! JSON strings, for the parts that are built without a JSON library, and the JSON of structures.

/// Appends `text` as a JSON string, with its quotes (RFC 8259, section 7).
///
/// `<`, U+2028 and U+2029 are escaped as well, so that the result is safe within a page's script.
pub(crate) fn json_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '\u{2028}' | '\u{2029}' => push_escape(c, out),
            c if c.is_control() => push_escape(c, out),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Appends `\uXXXX`. `c` must be in the Basic Multilingual Plane.
fn push_escape(c: char, out: &mut String) {
    out.push_str("\\u");
    for shift in [12, 8, 4, 0] {
        let digit = u32::from(c) >> shift & 0xf;
        out.extend(char::from_digit(digit, 16));
    }
}

/// The JSON of a structure. Its maps must have text as keys.
#[cfg(feature = "publish")]
pub(crate) fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("maps have text as keys, and nothing else fails")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_strings_are_escaped() {
        for (given, expected) in [
            ("", r#""""#),
            ("a ü 😀 /", r#""a ü 😀 /""#),
            ("\"\\", r#""\"\\""#),
            (
                "\n\r\t\0\u{1f}\u{7f}\u{85}",
                r#""\n\r\t\u0000\u001f\u007f\u0085""#,
            ),
            (
                "</script>\u{2028}\u{2029}",
                r#""\u003c/script>\u2028\u2029""#,
            ),
        ] {
            let mut out = String::new();
            json_string(given, &mut out);
            assert_eq!(out, expected);
        }
    }
}
