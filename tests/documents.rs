//! The documents: ARCHITECTURE.md has one line for each file of `src`, and links lead to files and
//! headings that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Files with this extension in a folder and the folders in it.
fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|ending| ending == extension) {
            found.push(path);
        }
    }
}

fn documents() -> Vec<PathBuf> {
    let names = [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "examples/emojitracker/README.md",
    ];
    let mut found: Vec<_> = names.iter().map(|name| root().join(name)).collect();
    files(&root().join("docs"), "md", &mut found);
    found
}

/// The lines of a document outside its blocks of code.
fn prose(document: &Path) -> String {
    let text = fs::read_to_string(document).unwrap();
    let mut in_block = false;
    let lines = text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        in_block ^= is_fence;
        !in_block && !is_fence
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The anchors of a document's headings, derived as GitHub does.
fn anchors(document: &Path) -> BTreeSet<String> {
    let prose = prose(document);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text
            .chars()
            .filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn architecture_has_one_line_for_each_file_of_src() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let map = text.split("## Code map").nth(1).unwrap();
    let map = map.split("```").nth(1).unwrap();
    let mut named: Vec<_> = map
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|word| word.ends_with(".rs"))
        .map(str::to_owned)
        .collect();
    let src = root().join("src");
    let mut found = Vec::new();
    files(&src, "rs", &mut found);
    let mut expected: Vec<_> = found
        .iter()
        .filter(|path| !path.ends_with("tests.rs"))
        .map(|path| {
            path.strip_prefix(&src)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    named.sort_unstable();
    expected.sort_unstable();
    let missing: Vec<_> = expected
        .iter()
        .filter(|file| !named.contains(file))
        .collect();
    let gone: Vec<_> = named
        .iter()
        .filter(|file| !expected.contains(file))
        .collect();
    assert!(missing.is_empty(), "not in the code map: {missing:?}");
    assert!(gone.is_empty(), "in the code map, but not in src: {gone:?}");
    assert_eq!(named, expected, "a file is in the code map twice");
}

#[test]
fn types_in_the_glossary_exist() {
    let mut sources = Vec::new();
    files(&root().join("src"), "rs", &mut sources);
    let code: String = sources
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let text = prose(&root().join("ARCHITECTURE.md"));
    let glossary = text
        .split("## Glossary")
        .nth(1)
        .unwrap()
        .split("\n## ")
        .next()
        .unwrap();
    let entries: Vec<_> = glossary
        .lines()
        .filter(|line| line.starts_with("- **"))
        .collect();
    assert!((10..=25).contains(&entries.len()));
    for entry in entries {
        let name = entry.split('`').nth(1).unwrap();
        let is_defined = ["struct", "enum", "trait", "type"].iter().any(|kind| {
            let start = format!("{kind} {name}");
            let mut ends = code
                .split(&start)
                .skip(1)
                .filter_map(|rest| rest.chars().next());
            ends.any(|next| !next.is_alphanumeric() && next != '_')
        });
        assert!(is_defined, "no type of this name: {entry}");
    }
}

#[test]
fn files_that_architecture_names_exist() {
    let text = prose(&root().join("ARCHITECTURE.md"));
    for word in text.split('`').skip(1).step_by(2) {
        if word.ends_with(".rs") {
            let exists = ["", "src"]
                .iter()
                .any(|folder| root().join(folder).join(word).exists());
            assert!(exists, "ARCHITECTURE.md names {word}");
        }
    }
}

#[test]
fn links_lead_to_files_and_headings() {
    for document in documents() {
        let prose = prose(&document);
        let targets = prose
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = match path {
                "" => document.clone(),
                path => document.parent().unwrap().join(path),
            };
            assert!(file.exists(), "{}: {target}", document.display());
            if !anchor.is_empty() {
                let found = anchors(&file).contains(anchor);
                assert!(found, "{}: no heading {target}", document.display());
            }
        }
    }
}

#[test]
fn rust_in_the_documents_is_compiled() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        let name = document
            .strip_prefix(root())
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        if text.lines().any(|line| line.starts_with("```rust")) {
            let included = format!("include_str!(\"../{name}\")");
            assert!(
                lib.contains(&included),
                "src/lib.rs does not include {name}"
            );
        }
    }
}
