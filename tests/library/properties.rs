//! Properties that hold for every input, most of them checked against naive twins: encoding and
//! decoding, namespaces.

use std::time::Duration;

use fanfare::{Decoded, Decoder, Event, Namespace, StreamEvent};
use proptest::prelude::*;

/// A random text with many line ends, spaces and colons.
fn tricky(pieces: usize) -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\r".to_string()),
        Just("\n".to_string()),
        Just("\r\n".to_string()),
        Just(" ".to_string()),
        Just(":".to_string()),
        Just("data".to_string()),
        Just("id:1".to_string()),
        Just("\u{feff}".to_string()),
        Just("\0".to_string()),
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..pieces).prop_map(|pieces| pieces.concat())
}

fn one_line() -> impl Strategy<Value = String> {
    tricky(6).prop_map(|text| text.replace(['\r', '\n', '\0'], ""))
}

fn own_id() -> impl Strategy<Value = String> {
    one_line().prop_map(|text| {
        text.replace(|c: char| c.is_ascii_control(), "")
            .trim_matches(' ')
            .into()
    })
}

/// Decodes a stream that arrives in pieces of this size.
fn decode(bytes: &[u8], piece: usize) -> Vec<Decoded> {
    let mut decoder = Decoder::new();
    let mut decoded = Vec::new();
    for piece in bytes.chunks(piece) {
        let pushed = decoder.push(piece, &mut |item| decoded.push(item));
        assert_eq!(pushed, Ok(()));
    }
    decoded
}

/// The data that a conforming client gets: every line end is LF.
fn with_lf(data: &str) -> String {
    data.replace("\r\n", "\n").replace('\r', "\n")
}

proptest! {
    #[test]
    fn decoding_gives_the_event_that_was_encoded(
        data in tricky(12),
        event_type in prop::option::of(one_line()),
        id in prop::option::of(own_id()),
        retry in prop::option::of(0..100_000u64),
        piece in 1..40usize,
    ) {
        let mut event = Event::new("/", data.as_str());
        if let Some(event_type) = &event_type {
            event = event.event(event_type.as_str());
        }
        if let Some(id) = &id {
            event = event.id(id.as_str());
        }
        if let Some(retry) = retry {
            event = event.retry(Duration::from_millis(retry));
        }
        let mut wire = b":before\n\n".to_vec();
        wire.extend_from_slice(&event.encode().expect("valid input"));
        let mut expected = vec![Decoded::Comment("before".into())];
        expected.extend(retry.map(|retry| Decoded::Retry(Duration::from_millis(retry))));
        expected.push(Decoded::Event(StreamEvent {
            event_type: event_type.filter(|text| !text.is_empty()).unwrap_or_else(|| "message".into()),
            data: with_lf(&data),
            last_event_id: id.unwrap_or_default(),
        }));
        prop_assert_eq!(decode(&wire, piece), expected);
    }

    #[test]
    fn a_comment_decodes_as_comments_only(text in tricky(12), piece in 1..40usize) {
        let wire = Event::comment("/", text.as_str()).encode().expect("a valid comment");
        let lines = with_lf(&text);
        let comments: Vec<&str> = lines.split('\n').collect();
        let decoded = decode(&wire, piece);
        prop_assert_eq!(decoded.len(), comments.len());
        for (item, line) in decoded.into_iter().zip(comments) {
            // A value that begins with a space gets another one.
            let spaced = if line.starts_with(' ') { format!(" {line}") } else { line.to_string() };
            prop_assert_eq!(item, Decoded::Comment(spaced));
        }
    }

    #[test]
    fn decoding_does_not_depend_on_how_bytes_arrive(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        piece in 1..50usize,
    ) {
        prop_assert_eq!(decode(&bytes, piece), decode(&bytes, usize::MAX));
    }

    #[test]
    fn a_namespace_is_its_segments(
        segments in prop::collection::vec("[a-c]{0,2}", 0..6),
        others in prop::collection::vec("[a-c]{1,2}", 0..6),
    ) {
        let parse = |segments: &[String]| Namespace::parse(&segments.join("/")).expect("valid input");
        let kept: Vec<String> = segments.iter().filter(|segment| !segment.is_empty()).cloned().collect();
        let (namespace, other) = (parse(&segments), parse(&others));
        prop_assert!(namespace.segments().eq(kept.iter().map(String::as_str)));
        prop_assert_eq!(Namespace::parse(namespace.as_str()), Ok(namespace.clone()));
        prop_assert_eq!(namespace.contains(&other), others.starts_with(&kept));
    }

    #[test]
    fn reducing_removes_exactly_the_covered_namespaces(
        paths in prop::collection::vec("(/[ab]){0,3}", 0..8),
        probe in "(/[ab]){0,4}",
    ) {
        let parse = |path: &str| Namespace::parse(path).expect("valid input");
        let given: Vec<Namespace> = paths.iter().map(|path| parse(path)).collect();
        let reduced = Namespace::reduce(given.clone());
        let probe = parse(&probe);
        let covering = |namespaces: &[Namespace]| {
            namespaces.iter().filter(|namespace| namespace.contains(&probe)).count()
        };
        prop_assert_eq!(covering(&reduced), usize::from(covering(&given) > 0));
    }
}
