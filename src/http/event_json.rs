//! The JSON form of an event: what the body of `POST /publish` and each line of an NDJSON body say.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::event::Event;

/// Bytes that a JSON form may have beside the data of the largest event: names, namespaces, type and id.
const BESIDE_DATA: usize = 64 << 10;

/// The bytes that the JSON form of the largest event may take: each byte of its data may be escaped as six.
pub(crate) fn max_json_bytes(max_event: usize) -> usize {
    max_event
        .saturating_mul("\\u0000".len())
        .saturating_add(BESIDE_DATA)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventJson<'a> {
    namespace: Option<String>,
    namespaces: Option<Vec<String>>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    event: Option<String>,
    id: Option<String>,
    retry: Option<u64>,
}

/// `null` is data too, and not the absence of it.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(json: D) -> Result<Option<&'a RawValue>, D::Error> {
    Deserialize::deserialize(json).map(Some)
}

/// Reads the JSON form of an event.
///
/// # Errors
/// What is wrong with it and where, in one sentence.
pub(crate) fn parse_event(json: &[u8]) -> Result<Event, String> {
    let form: EventJson<'_> = serde_json::from_slice(json)
        .map_err(|error| format!("not the JSON form of an event: {}", told(&error)))?;
    let mut namespaces = match (form.namespace, form.namespaces) {
        (Some(namespace), None) => vec![namespace],
        (None, Some(namespaces)) if !namespaces.is_empty() => namespaces,
        (Some(_), Some(_)) => return Err("has both `namespace` and `namespaces`".into()),
        _ => return Err("has no `namespace`".into()),
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

/// What is wrong and where. In one line that is a column: a line of NDJSON has a number of its own.
fn told(error: &serde_json::Error) -> String {
    error.to_string().replace("at line 1 column", "at column")
}

/// A string is the data itself; any other value is sent as compact JSON.
fn data_text(raw: &RawValue) -> Result<Cow<'_, str>, String> {
    let describe =
        |error: serde_json::Error| format!("has `data` that cannot be read: {}", told(&error));
    if raw.get().starts_with('"') {
        return serde_json::from_str::<String>(raw.get())
            .map(Cow::Owned)
            .map_err(describe);
    }
    Ok(Cow::Owned(compact(raw.get())))
}

/// Valid JSON without the white space between its tokens; numbers stay as they were written, which parsing would not keep.
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
    fn a_form_is_an_event_or_says_why_not() {
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
            ("", "not the JSON form"),
            ("[]", "not the JSON form"),
            (r#"{"namespace":"/a",}"#, "trailing comma at column 19"),
            (r#"{"data":"x"}"#, "no `namespace`"),
            (r#"{"namespaces":[],"data":"x"}"#, "no `namespace`"),
            (r#"{"namespace":"/a","namespaces":["/b"]}"#, "both"),
            (r#"{"namespace":"/a","dta":"x"}"#, "dta"),
            (r#"{"namespace":"/a","retry":-1}"#, "not the JSON form"),
            (r#"{"namespace":"/a","data":"\ud800"}"#, "cannot be read"),
            (r#"{"namespace":"/a"} x"#, "trailing"),
        ] {
            let error = event(json).unwrap_err();
            assert!(error.contains(why), "{json}: {error}");
        }
    }
}
