//! Tests the bytes of the streams, the search for emoji, and that the counts match the posts.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use fanfare::{Namespace, Subscription};
use serde_json::Value;

use crate::emoji::Emojis;
use crate::feed::{Simulation, read_lines};
use crate::post::{Post, iso_8601};
use crate::tracker::Tracker;

fn track(tracker: &Tracker, feed: &str) {
    read_lines(feed.as_bytes(), |post| tracker.track(&post)).expect("the tracker accepts the feed");
    tracker.flush().expect("the server runs");
}

fn get(tracker: &Tracker, line: &str) -> BufReader<TcpStream> {
    let address = tracker.address().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let request = format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    BufReader::new(stream)
}

/// Reads a response up to and including `end`.
fn read_through(stream: &mut BufReader<TcpStream>, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        assert!(
            stream.read_line(&mut text).unwrap() > 0,
            "the stream ended after {text:?}"
        );
    }
    text
}

fn rankings(tracker: &Tracker) -> Value {
    let mut reply = String::new();
    let mut stream = get(tracker, "GET /rankings");
    stream.read_to_string(&mut reply).unwrap();
    let (_, body) = reply.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

fn total(rankings: &Value) -> u64 {
    let rows = rankings["rankings"].as_array().unwrap().iter();
    rows.map(|row| row["score"].as_u64().unwrap()).sum()
}

fn subscribe(tracker: &Tracker, namespace: &str) -> Subscription {
    let namespace = Namespace::parse(namespace).unwrap();
    tracker.handle().subscribe(&[namespace]).unwrap()
}

#[test]
fn emoji_are_whole_grapheme_clusters() {
    let emojis = Emojis::new();
    for (text, expected) in [
        ("no emoji, 1 # * © in words", "00A9"),
        ("😄😄 twice", "1F604 1F604"),
        (
            "flags in a row 🇫🇷🇩🇪🇧🇷",
            "1F1EB-1F1F7 1F1E9-1F1EA 1F1E7-1F1F7",
        ),
        ("half a flag 🇫 and letters", ""),
        ("keycaps 3️⃣ #️⃣", "0033-20E3 0023-20E3"),
        ("tones 👋🏽 and 👋", "1F44B-1F3FD 1F44B"),
        ("a family 👨‍👩‍👧‍👦", "1F468-200D-1F469-200D-1F467-200D-1F466"),
        (
            "two at work 🧑🏿‍💻👩‍🚀",
            "1F9D1-1F3FF-200D-1F4BB 1F469-200D-1F680",
        ),
        ("England 🏴󠁧󠁢󠁥󠁮󠁧󠁿", "1F3F4-E0067-E0062-E0065-E006E-E0067-E007F"),
        // U+FE0F makes no difference. U+FE0E makes it a plain glyph, which is not an emoji.
        ("❤️ ❤ ❤\u{fe0e}", "2764 2764"),
        ("🏳️‍🌈 🏳‍🌈", "1F3F3-200D-1F308 1F3F3-200D-1F308"),
        ("👨‍", ""),
        ("wordsglued🔥to🔥it", "1F525 1F525"),
    ] {
        let found: Vec<&str> = emojis.find(text).map(|entry| entry.id.as_str()).collect();
        assert_eq!(found.join(" "), expected, "{text}");
    }
}

#[test]
fn every_emoji_has_its_own_id_and_is_found() {
    let emojis = Emojis::new();
    assert!(emojis.entries.len() > 3_700);
    let ids: BTreeMap<&str, &str> = emojis
        .entries
        .iter()
        .map(|entry| (entry.id.as_str(), entry.emoji))
        .collect();
    assert_eq!(ids.len(), emojis.entries.len());
    for entry in &emojis.entries {
        assert!(emojis.find(entry.emoji).eq([entry]), "{entry:?}");
    }
    let rows: Vec<(String, String, u8)> = serde_json::from_str(&emojis.to_json()).unwrap();
    assert_eq!(rows[0], ("😀".into(), "grinning face".into(), 0));
    assert_eq!(rows.len(), emojis.entries.len());
}

#[test]
fn without_history_the_streams_match_those_of_the_original() {
    let tracker = Tracker::start("127.0.0.1:0", false, "stdin").unwrap();
    let mut streams = ["raw", "eps", "details/1F604", "details/1F1EB-1F1F7"].map(|path| {
        let mut stream = get(&tracker, &format!("GET /subscribe/{path}"));
        let head = read_through(&mut stream, "\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        for header in [
            "Content-Type: text/event-stream; charset=utf-8\r\n",
            "Cache-Control: no-cache\r\n",
            "Access-Control-Allow-Origin: *\r\n",
        ] {
            assert!(head.contains(header), "{head}");
        }
        // A comment, so that `onopen` fires, and the reconnection time.
        assert!(read_through(&mut stream, "\n\n").starts_with("retry:"));
        stream
    });
    let post = r#"{ "text": "😄 é 🇫🇷😄", "by": {"name": "<b>"} }"#;
    track(&tracker, &format!("nothing\n\n{post}\n"));
    let data = format!("data:{post}\n\n");
    for (stream, expected) in streams.iter_mut().zip([
        "data:1F604\n\ndata:1F1EB-1F1F7\n\ndata:1F604\n\n",
        "data:{\"1F1EB-1F1F7\":1,\"1F604\":2}\n\n",
        &format!("event:stream.tweet_updates.1F604\n{data}"),
        &format!("event:stream.tweet_updates.1F1EB-1F1F7\n{data}"),
    ]) {
        let mut bytes = vec![0; expected.len()];
        stream.read_exact(&mut bytes).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }
    let mut head = String::new();
    get(&tracker, "HEAD /subscribe/eps")
        .read_to_string(&mut head)
        .unwrap();
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
}

#[test]
fn lines_are_text_or_json_posts() {
    let post = Post::from_line("  plain 😄 text\r\n", 7);
    assert_eq!(post.text, "plain 😄 text");
    let json: Value = serde_json::from_str(&post.json).unwrap();
    assert_eq!(
        (&json["id"], &json["text"]),
        (&"7".into(), &"plain 😄 text".into())
    );
    for line in [r#"{"text":1}"#, r#"{"name":"a"}"#, "[😄]", "\"a\"", "{"] {
        assert_eq!(Post::from_line(line, 1).text, line);
    }
    for (seconds, expected) in [
        (0, "1970-01-01T00:00:00+00:00"),
        (951_782_400, "2000-02-29T00:00:00+00:00"),
        (1_396_408_552, "2014-04-02T03:15:52+00:00"),
        (1_735_689_599, "2024-12-31T23:59:59+00:00"),
    ] {
        assert_eq!(iso_8601(Duration::from_secs(seconds)), expected);
    }
}

#[test]
fn roll_ups_and_rankings_are_sums_of_the_raw_stream() {
    const POSTS: usize = 5_000;
    let emojis = Emojis::new();
    let tracker = Tracker::start("127.0.0.1:0", true, "simulated").unwrap();
    let (raw, eps) = (subscribe(&tracker, "/raw"), subscribe(&tracker, "/eps"));
    let mut uses = 0;
    let mut simulation = Simulation::new(&emojis, 250, 1);
    let readers = (
        std::thread::spawn(move || raw.map(|event| event.data).collect::<Vec<_>>()),
        std::thread::spawn(move || {
            let mut last = String::new();
            let mut sums: BTreeMap<String, u64> = BTreeMap::new();
            for event in eps {
                let counts: BTreeMap<String, u64> = serde_json::from_str(&event.data).unwrap();
                assert!(!counts.is_empty());
                for (id, count) in counts {
                    *sums.entry(id).or_default() += count;
                }
                assert_ne!(last, event.last_event_id);
                last = event.last_event_id;
            }
            (last, sums)
        }),
    );
    for _ in 0..POSTS {
        let post = simulation.post();
        uses += emojis.find(&post.text).count();
        tracker.track(&post).unwrap();
    }
    tracker.flush().unwrap();
    // The rankings include the last roll-up once they count all uses.
    let rankings = loop {
        let rankings = rankings(&tracker);
        if total(&rankings) == uses as u64 {
            break rankings;
        }
        assert!(total(&rankings) < uses as u64);
    };
    tracker.handle().shutdown(Duration::from_secs(30));
    tracker.join().unwrap();
    let raw = readers.0.join().unwrap();
    let (last, sums) = readers.1.join().unwrap();
    assert_eq!(raw.len(), uses);
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for id in raw {
        *expected.entry(id).or_default() += 1;
    }
    assert_eq!(sums, expected);
    let rows = rankings["rankings"].as_array().unwrap();
    let ranked: Vec<(u64, &str)> = rows
        .iter()
        .map(|row| (row["score"].as_u64().unwrap(), row["id"].as_str().unwrap()))
        .collect();
    assert!(ranked.is_sorted_by(|a, b| (b.0, a.1) <= (a.0, b.1)));
    let counts = ranked.into_iter().map(|(score, id)| (id.to_owned(), score));
    assert_eq!(counts.collect::<BTreeMap<_, _>>(), expected);
    assert_eq!(rankings["lastEventId"], last.as_str());
    // A tenth of the emoji has most of the uses.
    let mut most: Vec<u64> = expected.into_values().collect();
    most.sort_unstable_by(|a, b| b.cmp(a));
    let tenth: u64 = most.iter().take(emojis.entries.len() / 10).sum();
    assert!(tenth * 2 > uses as u64);
}

#[test]
fn a_snapshot_and_the_stream_after_it_are_complete() {
    let emojis = Emojis::new();
    let tracker = Tracker::start("127.0.0.1:0", true, "simulated").unwrap();
    let mut simulation = Simulation::new(&emojis, 250, 2);
    let (uses, totals) = std::thread::scope(|scope| {
        // Each subscribes after a different number of posts, the first before all of them.
        let watchers: Vec<_> = (0..20)
            .map(|_| {
                let snapshot = rankings(&tracker);
                let after = match snapshot["lastEventId"].as_str() {
                    Some(id) => format!("lastEventId={id}"),
                    None => "replay=all".into(),
                };
                for _ in 0..50 {
                    tracker.track(&simulation.post()).unwrap();
                }
                let line = format!("GET /subscribe/eps?{after}");
                let mut stream = get(&tracker, &line);
                let head = read_through(&mut stream, "\r\n\r\n");
                assert!(
                    head.contains("Fanfare-Replay: complete\r\n"),
                    "{line}: {head}"
                );
                scope.spawn(move || {
                    let lines = stream.lines().map(Result::unwrap);
                    let counts = lines.filter_map(|line| {
                        let data = line.strip_prefix("data:")?.to_owned();
                        let counts: BTreeMap<String, u64> = serde_json::from_str(&data).unwrap();
                        Some(counts.into_values().sum::<u64>())
                    });
                    total(&snapshot) + counts.sum::<u64>()
                })
            })
            .collect();
        tracker.flush().unwrap();
        tracker.handle().shutdown(Duration::from_secs(30));
        let totals: Vec<u64> = watchers
            .into_iter()
            .map(|watcher| watcher.join().unwrap())
            .collect();
        let mut simulation = Simulation::new(&emojis, 250, 2);
        let posts = (0..1000).map(|_| simulation.post());
        let uses: usize = posts.map(|post| emojis.find(&post.text).count()).sum();
        (uses as u64, totals)
    });
    assert_eq!(totals, [uses; 20]);
}

#[test]
fn the_page_is_served_and_publishing_is_not_allowed() {
    let tracker = Tracker::start("127.0.0.1:0", true, "stdin").unwrap();
    for (line, status, text) in [
        ("GET /", "200", "text/html"),
        ("GET /app.js", "200", "text/javascript"),
        ("HEAD /style.css", "200", "text/css"),
        ("GET /emoji.json", "200", "application/json"),
        ("GET /rankings", "200", "\"lastEventId\":null"),
        ("POST /publish/raw", "404", "error"),
        ("POST /rankings", "404", "error"),
        ("GET /no-such-file", "404", "error"),
        ("GET /healthz", "200", "ok"),
    ] {
        let mut reply = String::new();
        get(&tracker, line).read_to_string(&mut reply).unwrap();
        assert!(
            reply.starts_with(&format!("HTTP/1.1 {status}")),
            "{line}: {reply}"
        );
        assert!(reply.contains(text), "{line}: {reply}");
    }
}
