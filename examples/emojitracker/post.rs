//! A post: its text, and its JSON form for subscribers of the emoji in it.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

/// One post of the feed.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) text: String,
    /// The post as JSON, on one line.
    pub(crate) json: String,
}

impl Post {
    /// A post in the JSON form of the original Emojitracker.
    pub(crate) fn new(id: u64, text: String, screen_name: &str, name: &str) -> Self {
        let json = json!({
            "id": id.to_string(),
            "text": text,
            "screen_name": screen_name,
            "name": name,
            "links": [],
            "profile_image_url": "",
            "created_at": iso_8601(UNIX_EPOCH.elapsed().unwrap_or_default()),
        });
        let json = json.to_string();
        Self { text, json }
    }

    /// A post from a line of a feed: a JSON object with a `text`, which is sent on unchanged, or
    /// else a text without an author.
    pub(crate) fn from_line(line: &str, number: u64) -> Self {
        let line = line.trim();
        let object: Option<Value> = serde_json::from_str(line).ok();
        match object.as_ref().and_then(|object| object["text"].as_str()) {
            Some(text) => Self {
                text: text.to_owned(),
                json: line.to_owned(),
            },
            None => Self::new(number, line.to_owned(), "", ""),
        }
    }
}

/// A time since 1970 in the form `2026-11-21T13:28:09+00:00`.
pub(crate) fn iso_8601(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (mut days, time) = (seconds / 86_400, seconds % 86_400);
    let is_leap =
        |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    let day = days + 1;
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}+00:00")
}
