//! The cases that the web-platform-tests have for readers of event streams, as byte streams and the
//! events in them. Each is decoded with the bytes cut in every way.
//!
//! A case is named after the published test (`eventsource/format-*.any.js`); the bytes are this
//! project's own.

use fanfare::{Decoded, Decoder};

/// A case: its name, the bytes, and what they contain: an event as `type|data|id`, a reconnection
/// time as `retry:ms`, without comments.
type Case = (&'static str, &'static [u8], &'static [&'static str]);

const CASES: &[Case] = &[
    (
        "bom: a mark at the very beginning is not part of the stream, and any later one is",
        b"\xEF\xBB\xBFdata:first\n\n\xEF\xBB\xBFdata:no field\n\ndata:third\n\n",
        &["message|first|", "message|third|"],
    ),
    (
        "bom-2: of two marks only the first is removed",
        b"\xEF\xBB\xBF\xEF\xBB\xBFdata:no field\n\ndata:second\n\n",
        &["message|second|"],
    ),
    (
        "bom: half a mark is not a mark",
        b"\xEF\xBBdata:no field\n\ndata:x\n\n",
        &["message|x|"],
    ),
    (
        "comments: of any length and with any line end, they are ignored",
        b"data:one\r:\0\n:\r\ndata:two\n:a long one, with a colon: and \xFF\rdata:three\n:data:no\r:\ndata:four\n\n",
        &["message|one\ntwo\nthree\nfour|"],
    ),
    (
        "data-before-final-empty-line: an event at the end of the stream needs its empty line",
        b"retry:1000\ndata:whole\n\nid:half\ndata:half",
        &["retry:1000", "message|whole|"],
    ),
    (
        "data-before-final-empty-line: one line end is not enough",
        b"data:half\n",
        &[],
    ),
    (
        "field-data: without a value or without a colon it is an empty line",
        b"data:\n\ndata\ndata\n\ndata:x\n\n",
        &["message||", "message|\n|", "message|x|"],
    ),
    (
        "field-event: it applies to one event",
        b"event:ping\ndata:a\n\ndata:b\n\n",
        &["ping|a|", "message|b|"],
    ),
    (
        "field-event-empty: an empty one is the default",
        b"event: \ndata:a\n\nevent\ndata:b\n\n",
        &["message|a|", "message|b|"],
    ),
    (
        "field-event: without data nothing is dispatched, and the next event has the default type",
        b"event:lost\n\ndata:a\n\n",
        &["message|a|"],
    ),
    (
        "field-id: it can be any text",
        "id: …\nretry:200\ndata:a\n\n".as_bytes(),
        &["retry:200", "message|a|…"],
    ),
    (
        "field-id-2: it applies to the events after it until another comes",
        b"id:7\ndata:a\n\ndata:b\n\nid:8\ndata:c\n\ndata:d\n\n",
        &["message|a|7", "message|b|7", "message|c|8", "message|d|8"],
    ),
    (
        "field-id-3: an empty one resets it, with or without a colon",
        b"id:7\ndata:a\n\nid:\ndata:b\n\nid:8\ndata:c\n\nid\ndata:d\n\n",
        &["message|a|7", "message|b|", "message|c|8", "message|d|"],
    ),
    (
        "field-id-null: one with a NUL is ignored",
        b"id:7\ndata:a\n\nid:8\0\ndata:b\n\nid:\0\ndata:c\n\n",
        &["message|a|7", "message|b|7", "message|c|7"],
    ),
    (
        "field-parsing: a field has its exact name, and loses one space before its value",
        b"data:\0\ndata:  a\rDATA:b\ndata\0:c\ndata:d\r\0data:e\nda-ta:f\rdata_g\ndata:h\rdata:\r\n data:i\ndata:j\n\n",
        &["message|\0\n a\nd\nh\n\nj|"],
    ),
    (
        "field-retry: digits are milliseconds, with or without leading zeros",
        b"retry:03000\nretry:5\ndata:x\n\n",
        &["retry:3000", "retry:5", "message|x|"],
    ),
    (
        "field-retry-bogus: anything but digits is ignored",
        b"retry:3000\nretry:1000x\nretry:-1\nretry:1.5\nretry:1 0\ndata:x\n\n",
        &["retry:3000", "message|x|"],
    ),
    (
        "field-retry-empty: an empty value is ignored",
        b"retry\nretry:\nretry: \ndata:x\n\n",
        &["message|x|"],
    ),
    (
        "field-unknown: other fields are ignored, also a known one after a space",
        b"data:a\n data\ndata\nbar:xxx\nmerely some text\n:a comment\ndata:b\n\n",
        &["message|a\n\nb|"],
    ),
    (
        "leading-space: a tab is kept",
        b"data:\ta\rdata: \ndata:b\n\n",
        &["message|\ta\n\nb|"],
    ),
    (
        "newlines: all three line ends, mixed",
        b"data:a\r\ndata\ndata:b\r\n\r\ndata:c\r\rdata:d\n\ndata:e\n\r\ndata:f\r\n\n",
        &["message|a\n\nb|", "message|c|", "message|d|", "message|e|", "message|f|"],
    ),
    (
        "null-character: it is a character",
        b"data:\0\n\n\n\n",
        &["message|\0|"],
    ),
    (
        "utf-8: a stream is always UTF-8, and invalid sequences are replaced",
        b"data:ok\xE2\x80\xA6\n\ndata:\xE2\x80\n\ndata:\xFFx\n\n",
        &["message|ok…|", "message|\u{FFFD}|", "message|\u{FFFD}x|"],
    ),
];

fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let mut decoder = Decoder::new();
    let mut found = Vec::new();
    for piece in pieces {
        let decoded = decoder.push(piece, &mut |decoded| match decoded {
            Decoded::Event(e) => {
                found.push(format!("{}|{}|{}", e.event_type, e.data, e.last_event_id))
            }
            Decoded::Retry(time) => found.push(format!("retry:{}", time.as_millis())),
            _ => {}
        });
        assert_eq!(decoded, Ok(()));
    }
    found
}

#[test]
fn every_case_decodes_as_published_at_every_cut() {
    for (name, stream, expected) in CASES {
        assert_eq!(decode([*stream].into_iter()), *expected, "{name}");
        for size in 1..stream.len() {
            assert_eq!(
                decode(stream.chunks(size)),
                *expected,
                "{name}, in pieces of {size}"
            );
        }
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
                assert_eq!(
                    decode(pieces.into_iter()),
                    *expected,
                    "{name}, cut at {first} and {second}"
                );
            }
        }
    }
}

#[test]
fn short_streams_decode_the_same_at_every_cut() {
    for (name, stream, expected) in CASES.iter().filter(|(_, stream, _)| stream.len() <= 14) {
        for cuts in 0_u32..1 << (stream.len() - 1) {
            let mut pieces = vec![0];
            pieces.extend((1..stream.len()).filter(|at| cuts & 1 << (at - 1) != 0));
            pieces.push(stream.len());
            let pieces = pieces.windows(2).map(|ends| &stream[ends[0]..ends[1]]);
            assert_eq!(decode(pieces), *expected, "{name}, cuts {cuts:b}");
        }
    }
}
