//! The shape of the code, held to: data flows down, imports point down, and the lower floors do no I/O.
#![allow(
    clippy::unwrap_used,
    reason = "what fails in a test's helper fails the test"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// Which floor a file is on, by its path under `src`.
fn floor(path: &str) -> u8 {
    match path.split('/').next().unwrap_or(path) {
        "event.rs" | "namespace.rs" | "cidr.rs" | "config" => 0,
        "event_stream" | "http" | "trie.rs" | "event_log.rs" | "frame_run.rs" | "tally.rs"
        | "status.rs" | "access.rs" | "admin" | "history.rs" | "forgotten.rs" => 1,
        "engine" => 2,
        "disk" | "server" | "publisher.rs" | "rollup.rs" | "subscription.rs" => 3,
        "lib.rs" | "main.rs" | "cli" | "client" => 4,
        other => panic!("src/{other} is on no floor: name one here"),
    }
}

/// What a file of a lower floor may not name.
const DRIVERS_ONLY: [&str; 7] = [
    "mio::",
    "std::net",
    "std::thread",
    "crossbeam_channel",
    "Instant::now(",
    "SystemTime::now(",
    "socket2",
];

/// Upward imports that are right, and why.
const ALLOWED: [(&str, &str); 1] = [
    // A configuration knows how large the frame of its largest event is, so that limits agree.
    ("config/mod.rs", "event_stream"),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The lines before the tests that stand in the same file.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()));
    lines
        .take_while(|(_, line)| *line != "#[cfg(test)]")
        .filter(|(_, line)| !line.starts_with("//"))
}

#[test]
fn imports_point_down_and_the_lower_floors_do_no_io() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    assert!(found.len() > 20, "the sources are where this looks");
    let mut wrong = Vec::new();
    for path in found {
        let name = path
            .strip_prefix(&root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_string();
        let text = fs::read_to_string(&path).unwrap();
        for (line, code) in code(&text) {
            let here = || format!("src/{name}:{line}: {code}");
            if floor(&name) < 3 && DRIVERS_ONLY.iter().any(|word| code.contains(word)) {
                wrong.push(here());
            }
            for part in code.split("crate::").skip(1) {
                let module = part
                    .split(|c: char| !c.is_alphanumeric() && c != '_')
                    .next()
                    .unwrap();
                let target = if root.join(format!("{module}.rs")).exists() {
                    format!("{module}.rs")
                } else {
                    module.to_string()
                };
                let lives = root.join(&target).exists();
                if lives
                    && floor(&target) > floor(&name)
                    && !ALLOWED.contains(&(name.as_str(), module))
                {
                    wrong.push(here());
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "imports that point up, or I/O where none belongs:\n{}",
        wrong.join("\n")
    );
}
