//! A post: what it says, and how it is shown to those who follow one of its emoji.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

/// One post of the feed.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) text: String,
    /// The post as JSON, on one line.
    pub(crate) json: String,
}

impl Post {
    /// A post by somebody, in the form in which Emojitracker sent them.
    pub(crate) fn new(id: u64, text: String, screen_name: &str, name: &str) -> Self {
        let json = json!({
            "id": id.to_string(),
            "text": text,
            "screen_name": screen_name,
            "name": name,
            "links": [],
            "profile_image_url": "",
            "created_at": iso_8601(now()),
        });
        let json = json.to_string();
        Self { text, json }
    }

    /// A line of a feed: a JSON object with a `text`, which is passed on as it is, or else a text by nobody.
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

#[expect(clippy::disallowed_methods, reason = "posts are dated by this clock")]
fn now() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// A time since 1970 as `2026-11-21T13:28:09+00:00`.
pub(crate) fn iso_8601(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (mut days, time) = (seconds / 86_400, seconds % 86_400);
    let every = |year: u64, years| year.is_multiple_of(years);
    let is_leap = |year| every(year, 4) && !every(year, 100) || every(year, 400);
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
