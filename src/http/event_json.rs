//! The JSON form of an event: the body of `POST /publish`, and each line of an NDJSON body.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::event::Event;

/// Bytes that the JSON form may have in addition to the data: names, namespaces, type and ID.
const OTHER_FIELDS_BYTES: usize = 64 << 10;

/// The limit of bytes in the JSON form of an event with `max_event` bytes of data. Each byte of
/// data may be escaped as six.
pub(crate) fn max_json_bytes(max_event: usize) -> usize {
    max_event
        .saturating_mul("\\u0000".len())
        .saturating_add(OTHER_FIELDS_BYTES)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a JSON object")]
struct EventJson<'a> {
    namespace: Option<String>,
    namespaces: Option<Vec<String>>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    event: Option<String>,
    id: Option<String>,
    retry: Option<u64>,
}

/// Makes `null` a value: unlike a missing field, it is data.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(json: D) -> Result<Option<&'a RawValue>, D::Error> {
    Deserialize::deserialize(json).map(Some)
}

/// Reads the JSON form of an event.
///
/// # Errors
/// The problem and its position, in one sentence.
pub(crate) fn parse_event(json: &[u8]) -> Result<Event, String> {
    let form: EventJson<'_> = serde_json::from_slice(json)
        .map_err(|error| format!("invalid JSON form of an event: {}", describe(&error)))?;
    let mut namespaces = match (form.namespace, form.namespaces) {
        (Some(namespace), None) => vec![namespace],
        (None, Some(namespaces)) if !namespaces.is_empty() => namespaces,
        (Some(_), Some(_)) => {
            return Err("the event must have either `namespace` or `namespaces`, not both".into());
        }
        _ => {
            return Err(
                "the event must have a `namespace`, or at least one of `namespaces`".into(),
            );
        }
    }
    .into_iter();
    let data = form.data.map_or(Ok(Cow::Borrowed("")), data_text)?;
    let mut event = Event::new(namespaces.next().unwrap_or_default(), data);
    for namespace in namespaces {
        event = event.also(namespace);
    }
    event.event_type = form.event;
    event.id = form.id;
    event.retry = form.retry.map(Duration::from_millis);
    Ok(event)
}

/// The problem and its position. The position within one line is a column: an NDJSON error names
/// its line separately.
fn describe(error: &serde_json::Error) -> String {
    error.to_string().replace("at line 1 column", "at column")
}

/// The data of an event: the text of a JSON string, and any other JSON value in compact form.
fn data_text(raw: &RawValue) -> Result<Cow<'_, str>, String> {
    if raw.get().starts_with('"') {
        return serde_json::from_str::<String>(raw.get())
            .map(Cow::Owned)
            .map_err(|error| format!("invalid `data`: {}", describe(&error)));
    }
    Ok(Cow::Owned(compact(raw.get())))
}

/// Removes the white space between the tokens of valid JSON. Numbers keep their spelling, which
/// parsing would lose.
fn compact(json: &str) -> String {
    let mut compact = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for character in json.chars() {
        if in_string || !matches!(character, ' ' | '\t' | '\r' | '\n') {
            compact.push(character);
        }
        in_string = match character {
            '"' if !escaped => !in_string,
            _ => in_string,
        };
        escaped = in_string && character == '\\' && !escaped;
    }
    compact
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_form_is_parsed_or_refused_with_the_reason() {
        let event = |json: &str| parse_event(json.as_bytes());
        for (json, expected) in [
            (
                r#"{"namespace":"/a","data":"x\ny"}"#,
                Event::new("/a", "x\ny"),
            ),
            (
                r#"{"namespaces":["/a","/b"],"data":"x"}"#,
                Event::new("/a", "x").also("/b"),
            ),
            (r#"{"namespace":"/a"}"#, Event::new("/a", "")),
            (
                r#"{"namespace":"/a","data":null}"#,
                Event::new("/a", "null"),
            ),
            (
                r#"{"namespace":"/a","data":{ "b" : [1.50, "c \" d\\" , true] } }"#,
                Event::new("/a", r#"{"b":[1.50,"c \" d\\",true]}"#),
            ),
            (
                r#"{"namespace":"/a","data":7,"event":"e","id":"i","retry":50}"#,
                Event::new("/a", "7")
                    .event("e")
                    .id("i")
                    .retry(Duration::from_millis(50)),
            ),
        ] {
            assert_eq!(event(json), Ok(expected), "{json}");
        }
        for (json, why) in [
            ("", "invalid JSON form"),
            ("[]", "expected a JSON object"),
            ("7", "expected a JSON object"),
            (r#"{"namespace":"/a",}"#, "trailing comma at column 19"),
            (r#"{"data":"x"}"#, "must have a `namespace`"),
            (r#"{"namespaces":[],"data":"x"}"#, "must have a `namespace`"),
            (r#"{"namespace":"/a","namespaces":["/b"]}"#, "not both"),
            (r#"{"namespace":"/a","dta":"x"}"#, "dta"),
            (r#"{"namespace":"/a","retry":-1}"#, "invalid JSON form"),
            (r#"{"namespace":"/a","data":"\ud800"}"#, "invalid `data`"),
            (r#"{"namespace":"/a"} x"#, "trailing"),
        ] {
            let error = event(json).unwrap_err();
            assert!(error.contains(why), "{json}: {error}");
        }
    }
}
