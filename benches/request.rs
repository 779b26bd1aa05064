//! The cost of reading a request head, compared with a naive reader that splits strings:
//! `cargo bench --bench request`.
//!
//! The heads are those of `curl` and of a browser, and one near the maximum size. They arrive
//! whole, or a few bytes at a time, and then the naive reader searches all bytes again for each
//! piece. Throughput is in bytes of heads.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanfare::internals::Progress;
use fanfare::internals::request::{RequestHead, RequestReader};

/// The method, the target and the headers of a head, which both readers return.
type Parts = (String, String, Vec<(String, String)>);

/// Bytes of each piece, if a head arrives in many.
const PIECE: usize = 16;

fn heads() -> [(&'static str, String); 3] {
    let browser = [
        ("Host", "example.org"),
        ("Connection", "keep-alive"),
        ("sec-ch-ua-platform", "\"Linux\""),
        (
            "User-Agent",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
        ),
        ("Accept", "text/event-stream"),
        (
            "sec-ch-ua",
            "\"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\"",
        ),
        ("Cache-Control", "no-cache"),
        ("Origin", "https://example.org"),
        ("Sec-Fetch-Site", "same-origin"),
        ("Sec-Fetch-Mode", "cors"),
        ("Sec-Fetch-Dest", "empty"),
        ("Referer", "https://example.org/pets?page=2"),
        ("Accept-Encoding", "gzip, deflate, br, zstd"),
        ("Accept-Language", "en-GB,en;q=0.9,de;q=0.8"),
    ];
    let many: Vec<(String, String)> = (0..50)
        .map(|n| (format!("X-Header-{n}"), "v".repeat(130)))
        .collect();
    let large: Vec<(&str, &str)> = browser
        .into_iter()
        .chain(many.iter().map(|(name, value)| (&name[..], &value[..])))
        .collect();
    [
        (
            "curl",
            head(&[
                ("Host", "127.0.0.1:8001"),
                ("User-Agent", "curl/8.14.1"),
                ("Accept", "*/*"),
            ]),
        ),
        ("browser", head(&browser)),
        ("large", head(&large)),
    ]
}

fn head(headers: &[(&str, &str)]) -> String {
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!("GET /subscribe/pets/dogs?coalesce=1 HTTP/1.1\r\n{lines}\r\n")
}

fn read(bytes: &[u8], piece: usize) -> Option<RequestHead> {
    let mut reader = RequestReader::default();
    for piece in bytes.chunks(piece) {
        reader.push(piece);
        if let Progress::Complete(head) = reader.head().ok()? {
            return Some(head);
        }
    }
    None
}

fn parts(head: &RequestHead) -> Parts {
    let headers = head.headers().map(|(name, value)| {
        let value = String::from_utf8_lossy(value);
        (name.to_string(), value.into_owned())
    });
    (
        head.method().into(),
        head.target().into(),
        headers.collect(),
    )
}

/// The naive reader: collects text up to an empty line and splits it into strings.
fn naive_read(bytes: &[u8], piece: usize) -> Option<Parts> {
    let mut text = String::new();
    for piece in bytes.chunks(piece) {
        text += std::str::from_utf8(piece).ok()?;
        if let Some(parts) = naive(&text) {
            return Some(parts);
        }
    }
    None
}

fn naive(text: &str) -> Option<Parts> {
    let (head, _) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n").map(String::from);
    let line = lines.next()?;
    let mut words = line.split(' ').map(String::from);
    let (method, target) = (words.next()?, words.next()?);
    let headers = lines
        .map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_string(), value.trim().to_string()))
        })
        .collect::<Option<_>>()?;
    Some((method, target, headers))
}

fn request(criterion: &mut Criterion) {
    for (name, piece) in [("request/whole", usize::MAX), ("request/pieces", PIECE)] {
        let mut group = criterion.benchmark_group(name);
        for (kind, head) in heads() {
            let head = head.into_bytes();
            let found = read(&head, piece).as_ref().map(parts);
            assert!(found.is_some() && found == naive_read(&head, piece));
            group.throughput(Throughput::Bytes(head.len() as u64));
            group.bench_with_input(BenchmarkId::new("fanfare", kind), &head, |b, head| {
                b.iter(|| read(black_box(head), piece));
            });
            group.bench_with_input(BenchmarkId::new("naive", kind), &head, |b, head| {
                b.iter(|| naive_read(black_box(head), piece));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, request);
criterion_main!(benches);
