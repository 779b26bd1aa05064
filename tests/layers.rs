//! Checks the architecture: imports point down, no files of `src` import each other in a circle,
//! and sockets, threads, files and the clock appear in drivers and edges only.
//!
//! The test reads the paths in `use` declarations and in code, and leaves out comments, strings and
//! unit tests. A path counts for the file that defines the item, so re-exports are followed. A
//! module and its children may name each other: the children are its private parts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// What a file may know, from the bottom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    /// Plain values, their syntax and limits.
    Words,
    /// Self-contained parts, each testable alone.
    Parts,
    /// The owner of all mutable state.
    Engine,
    /// Sockets, threads, files and the clock.
    Drivers,
    /// The public face: the program, the client, the list of exports.
    Edges,
}

/// The layer of a file by its path under `src`, or none for a file that this table does not know.
fn layer(path: &str) -> Option<Layer> {
    let module = path.trim_end_matches(".rs").trim_end_matches("/mod");
    Some(match module {
        // The syntax of headers, which the configuration checks, too.
        "http/header" => Layer::Words,
        "store/fsync" => Layer::Words,
        "queue/buffer" | "rollup/pending" | "store" | "store/last_events" => Layer::Parts,
        _ => match module.split('/').next().unwrap_or(module) {
            "cidr" | "config" | "event" | "json" | "loopback" | "namespace" | "status" => {
                Layer::Words
            }
            "admin" | "event_log" | "event_stream" | "http" | "log" | "trie" => Layer::Parts,
            "engine" => Layer::Engine,
            "publisher" | "queue" | "rollup" | "server" | "store" => Layer::Drivers,
            "cli" | "client" | "lib" | "main" => Layer::Edges,
            _ => return None,
        },
    })
}

/// Paths that only drivers and edges may name. The types of `core::net` are allowed everywhere:
/// they are addresses, which are values. Files of the lower layers take them from `core`, so that
/// `std::net`, where the sockets are, can be refused as a whole.
const DRIVERS_ONLY: [&str; 13] = [
    "crossbeam_channel",
    "mio",
    "rustix",
    "socket2",
    "std::env",
    "std::fs",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    ".elapsed",
];

/// Imports that point up or close a circle and are still there. The list must shrink: an entry that
/// is no longer needed fails the test.
const ALLOWED: &[(&str, &str)] = &[("engine/connection.rs", "engine/upload.rs")];

/// A word, `::`, or one character that is neither, with the number of its line.
#[derive(Debug, Clone, Copy)]
struct Token<'a> {
    text: &'a str,
    line: usize,
}

/// Splits Rust into tokens. Comments, strings, characters and lifetimes are left out.
fn tokens(source: &str) -> Vec<Token<'_>> {
    let bytes = source.as_bytes();
    let is_word = |at: usize| {
        bytes
            .get(at)
            .is_some_and(|&byte| byte == b'_' || byte.is_ascii_alphanumeric() || !byte.is_ascii())
    };
    let mut found = Vec::new();
    let (mut at, mut line, mut counted) = (0, 1, 0);
    while at < bytes.len() {
        line += source[counted..at].matches('\n').count();
        counted = at;
        let rest = &source[at..];
        let (length, is_token) = if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), false)
        } else if rest.starts_with("/*") {
            (block_comment(rest), false)
        } else if let Some(length) = string(rest).or_else(|| quoted(rest)) {
            (length, false)
        } else if is_word(at) {
            ((at..).take_while(|&at| is_word(at)).count(), true)
        } else if rest.starts_with("::") {
            (2, true)
        } else {
            (1, !rest.starts_with(char::is_whitespace))
        };
        if is_token {
            found.push(Token {
                text: &rest[..length],
                line,
            });
        }
        at += length;
    }
    found
}

/// The length of the block comment at the start; they nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of the string literal at the start, if there is one: `"a"`, `b"a"`, `c"a"`, `r#"a"#`,
/// `br"a"`.
fn string(rest: &str) -> Option<usize> {
    let prefix = rest.find(|c| !matches!(c, 'b' | 'c' | 'r'))?;
    let raw = rest[..prefix].contains('r');
    let hashes = rest[prefix..].find(|c| c != '#')?;
    if (hashes > 0 && !raw) || prefix > 2 || !rest[prefix + hashes..].starts_with('"') {
        return None;
    }
    let start = prefix + hashes + 1;
    if raw {
        let end = format!("\"{}", "#".repeat(hashes));
        return Some(start + rest[start..].find(&end)? + end.len());
    }
    let mut escaped = false;
    let length = rest[start..].find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    Some(start + length? + 1)
}

/// The length of the character literal or lifetime at the start, if there is one.
fn quoted(rest: &str) -> Option<usize> {
    let text = rest.strip_prefix('\'')?;
    let first = text.chars().next()?;
    if first == '\\' {
        // The character after the backslash may itself be a quote.
        return Some(3 + text[2..].find('\'')? + 1);
    }
    if text[first.len_utf8()..].starts_with('\'') {
        return Some(1 + first.len_utf8() + 1);
    }
    let name = text.find(|c: char| c != '_' && !c.is_alphanumeric());
    Some(1 + name.unwrap_or(text.len()))
}

/// The tokens without attributes and without the items under `#[cfg(test)]`.
fn without_tests<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if text(at) != "#" {
            kept.push(tokens[at]);
            at += 1;
            continue;
        }
        let bracket = if text(at + 1) == "!" { at + 2 } else { at + 1 };
        at = after_bracket(tokens, bracket);
        let attribute: String = tokens[bracket..at].iter().map(|token| token.text).collect();
        if attribute == "[cfg(test)]" || attribute.starts_with("[cfg(all(test,") {
            at = after_item(tokens, at);
        }
    }
    kept
}

/// The index after the bracket that closes the one at `open`.
fn after_bracket(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// The index after the item that begins at `start`, attributes included.
fn after_item(tokens: &[Token<'_>], start: usize) -> usize {
    let mut at = start;
    while at < tokens.len() {
        match tokens[at].text {
            "#" => at = after_bracket(tokens, at + 1),
            "(" | "[" => at = after_bracket(tokens, at),
            // The braces of `use a::{b, c};` do not end it.
            "{" if tokens[at - 1].text == "::" => at = after_bracket(tokens, at),
            "{" => return after_bracket(tokens, at),
            ";" => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// A path in a file, and its line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reference {
    segments: Vec<String>,
    line: usize,
}

/// One file: the modules that it declares, the names that its `use` declarations bring, and its
/// paths.
#[derive(Debug, Default)]
struct File {
    children: BTreeSet<String>,
    /// Each name that a `use` declaration brings, and its path.
    imports: Vec<(String, Reference)>,
    /// What `use …::*` is over.
    globs: Vec<Reference>,
    /// Paths outside of `use` declarations, single words included; the name of a method follows its
    /// dot.
    paths: Vec<Reference>,
}

impl File {
    fn parse(source: &str) -> Self {
        let tokens = without_tests(&tokens(source));
        let mut file = Self::default();
        // The depths of braces at which modules inside this file began: `super` leads out of them
        // first.
        let (mut depth, mut inline) = (0, Vec::new());
        let mut at = 0;
        while at < tokens.len() {
            let text = |at: usize| tokens.get(at).map_or("", |token: &Token<'_>| token.text);
            match tokens[at].text {
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    inline.pop_if(|began| *began == depth);
                }
                "mod" if text(at + 2) == ";" => {
                    file.children.insert(text(at + 1).to_string());
                    at += 2;
                }
                "mod" if text(at + 2) == "{" => {
                    inline.push(depth);
                    depth += 1;
                    at += 2;
                }
                "pub" if text(at + 1) == "(" => at = after_bracket(&tokens, at + 1) - 1,
                "use" => at = file.parse_use(&tokens, at + 1, &[], inline.len()),
                first if is_word(first) => {
                    let line = tokens[at].line;
                    let is_method = at > 0 && text(at - 1) == ".";
                    let dot = if is_method { "." } else { "" };
                    let mut segments = vec![format!("{dot}{first}")];
                    while text(at + 1) == "::" && is_word(text(at + 2)) {
                        segments.push(text(at + 2).to_string());
                        at += 2;
                    }
                    file.paths.push(Reference {
                        segments: out_of_inline(segments, inline.len()),
                        line,
                    });
                }
                _ => {}
            }
            at += 1;
        }
        file
    }

    /// Reads one tree of a `use` declaration after its `prefix`; returns the index of the token
    /// after it.
    fn parse_use(
        &mut self,
        tokens: &[Token<'_>],
        start: usize,
        prefix: &[String],
        inline: usize,
    ) -> usize {
        let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
        let line = tokens[start].line;
        let mut segments = prefix.to_vec();
        let mut at = start;
        loop {
            match text(at) {
                "::" => at += 1,
                "{" => {
                    at += 1;
                    while text(at) != "}" {
                        at = self.parse_use(tokens, at, &segments, inline);
                        at += usize::from(text(at) == ",");
                    }
                    return at + 1;
                }
                "*" => {
                    let segments = out_of_inline(segments, inline);
                    self.globs.push(Reference { segments, line });
                    return at + 1;
                }
                "self" if !segments.is_empty() => at += 1,
                word if is_word(word) && word != "as" => {
                    segments.push(word.to_string());
                    at += 1;
                }
                _ => break,
            }
        }
        let mut name = segments.last().cloned().unwrap_or_default();
        if text(at) == "as" {
            name = text(at + 1).to_string();
            at += 2;
        }
        let segments = out_of_inline(segments, inline);
        self.imports.push((name, Reference { segments, line }));
        at
    }

    /// The path of an imported name.
    fn import(&self, name: &str) -> Option<&Reference> {
        let mut imports = self.imports.iter();
        imports
            .find(|(known, _)| known == name)
            .map(|(_, path)| path)
    }

    /// The paths of all `use` declarations.
    fn all_imports(&self) -> impl Iterator<Item = &Reference> {
        self.imports.iter().map(|(_, path)| path).chain(&self.globs)
    }
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c == '_' || c.is_alphanumeric())
}

/// The path as seen from the file, of one that stands in modules inside the file.
fn out_of_inline(mut segments: Vec<String>, depth: usize) -> Vec<String> {
    let up = segments.iter().take(depth);
    let up = up.take_while(|segment| *segment == "super").count();
    segments.drain(..up);
    if segments.is_empty() {
        segments.push("self".to_string());
    }
    segments
}

/// The path of a module: the name of its crate, then of each module around it.
type Module = Vec<String>;

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    /// To a module or an item of it.
    Here(Module),
    /// Out of the package, or to a name that no declaration of the file explains.
    Elsewhere(Vec<String>),
}

/// All files of a package by their modules.
#[derive(Debug, Default)]
struct Tree {
    files: BTreeMap<Module, (String, File)>,
}

impl Tree {
    /// Follows the declarations of modules from `lib.rs` and `main.rs`; `read` returns the text of
    /// a file.
    fn read(read: impl Fn(&str) -> Option<String>) -> Self {
        let mut tree = Self::default();
        for (krate, path) in [("fanfare", "lib.rs"), ("program", "main.rs")] {
            if let Some(text) = read(path) {
                tree.add(vec![krate.to_string()], path, &text, &read);
            }
        }
        tree
    }

    fn add(
        &mut self,
        module: Module,
        path: &str,
        text: &str,
        read: &impl Fn(&str) -> Option<String>,
    ) {
        let file = File::parse(text);
        for child in &file.children {
            let inside: Module = module[1..].iter().chain([child]).cloned().collect();
            let inside = inside.join("/");
            let mut candidates = [format!("{inside}.rs"), format!("{inside}/mod.rs")].into_iter();
            let found = candidates.find_map(|path| read(&path).map(|text| (path, text)));
            let (path, text) = found.unwrap_or_else(|| panic!("{path}: no file for mod {child}"));
            let module = module.iter().chain([child]).cloned().collect();
            self.add(module, &path, &text, read);
        }
        self.files.insert(module, (path.to_string(), file));
    }

    /// Where a path in this module leads; imports and re-exports are followed.
    fn resolve(&self, module: &Module, segments: &[String]) -> Target {
        self.follow(module, segments, 10)
    }

    /// Like `resolve`, through at most this number of imports: `use self::f` leads to itself.
    fn follow(&self, module: &Module, segments: &[String], imports: usize) -> Target {
        let mut here = module.clone();
        let mut rest = segments;
        let mut is_first = true;
        while let Some((segment, after)) = rest.split_first() {
            let (_, file) = &self.files[&here];
            let child: Module = here.iter().chain([segment]).cloned().collect();
            match segment.as_str() {
                "crate" if is_first => here.truncate(1),
                "fanfare" if is_first => here = vec!["fanfare".to_string()],
                "super" => drop(here.pop()),
                "self" => {}
                _ if self.files.contains_key(&child) => here = child,
                _ => match file.import(segment) {
                    Some(import) if import.segments[0] != *segment && imports > 0 => {
                        match self.follow(&here, &import.segments, imports - 1) {
                            Target::Here(module) => here = module,
                            Target::Elsewhere(mut path) => {
                                path.extend(after.iter().cloned());
                                return Target::Elsewhere(path);
                            }
                        }
                    }
                    _ if is_first => return Target::Elsewhere(segments.to_vec()),
                    // An item that the module defines.
                    _ => return Target::Here(here),
                },
            }
            is_first = false;
            rest = after;
        }
        Target::Here(here)
    }

    /// The importing file and the imported one, with the first line that does it.
    fn imports(&self) -> BTreeMap<(&str, &str), usize> {
        let mut found = BTreeMap::new();
        for (module, (path, file)) in &self.files {
            let paths = file.paths.iter().filter(|path| path.segments.len() > 1);
            for reference in file.all_imports().chain(paths) {
                if let Target::Here(target) = self.resolve(module, &reference.segments)
                    && target != *module
                {
                    let (imported, _) = &self.files[&target];
                    let line = found
                        .entry((path.as_str(), imported.as_str()))
                        .or_insert(reference.line);
                    *line = reference.line.min(*line);
                }
            }
        }
        found
    }

    /// What each file names out of the package, with the line.
    fn names_outside(&self) -> impl Iterator<Item = (&str, usize, String)> {
        self.files.iter().flat_map(move |(module, (path, file))| {
            let references = file.all_imports().chain(&file.paths);
            references.filter_map(move |reference| {
                match self.resolve(module, &reference.segments) {
                    Target::Elsewhere(outside) => {
                        Some((path.as_str(), reference.line, outside.join("::")))
                    }
                    Target::Here(_) => None,
                }
            })
        })
    }
}

/// Whether the first file's module is around the second's.
fn is_parent(parent: &str, child: &str) -> bool {
    let folder = match parent {
        "lib.rs" | "main.rs" => "",
        _ => parent.strip_suffix("mod.rs").unwrap_or(parent),
    };
    child.starts_with(folder) && child != parent
}

/// The groups of files that import each other in a circle.
fn circles<'a>(imports: &BTreeSet<(&'a str, &'a str)>) -> Vec<BTreeSet<&'a str>> {
    let reached = |from: &'a str| {
        let mut reached = BTreeSet::new();
        let mut next = vec![from];
        while let Some(file) = next.pop() {
            let targets = imports
                .range((file, "")..)
                .take_while(|(from, _)| *from == file);
            next.extend(targets.map(|(_, to)| *to).filter(|to| reached.insert(*to)));
        }
        reached
    };
    let files: BTreeSet<_> = imports.iter().map(|(from, _)| *from).collect();
    let reached: BTreeMap<_, _> = files.iter().map(|file| (*file, reached(file))).collect();
    let mut found: Vec<BTreeSet<_>> = Vec::new();
    for file in files {
        let back = |other: &&&str| {
            reached
                .get(*other)
                .is_some_and(|others| others.contains(file))
        };
        let circle: BTreeSet<_> = reached[file].iter().filter(back).copied().collect();
        if !circle.is_empty() && !found.contains(&circle) {
            found.push(circle);
        }
    }
    found
}

#[test]
fn imports_point_down_in_no_circle_and_lower_layers_do_no_io() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let tree = Tree::read(|path| fs::read_to_string(root.join(path)).ok());
    assert!(tree.files.len() > 20, "src has more files");
    let mut wrong = Vec::new();
    let layers: BTreeMap<&str, Layer> = tree
        .files
        .values()
        .filter_map(|(path, _)| {
            let layer = layer(path);
            if layer.is_none() {
                wrong.push(format!("src/{path} has no layer: add it to fn layer"));
            }
            Some((path.as_str(), layer?))
        })
        .collect();

    let imports = tree.imports();
    let points_up = |(from, to): &(&str, &str)| layers.get(from) < layers.get(to);
    for (import, line) in &imports {
        if points_up(import) && !ALLOWED.contains(import) {
            let (from, to) = import;
            wrong.push(format!(
                "src/{from}:{line} imports src/{to}, which is in a higher layer"
            ));
        }
    }

    let apart = |(from, to): &&(&str, &str)| !is_parent(from, to) && !is_parent(to, from);
    let all: BTreeSet<_> = imports.keys().filter(apart).copied().collect();
    let refused = all.iter().filter(|import| !ALLOWED.contains(import));
    for circle in circles(&refused.copied().collect()) {
        wrong.push(format!("a circle of {circle:?}:"));
        let inside = all
            .iter()
            .filter(|(from, to)| circle.contains(from) && circle.contains(to));
        wrong.extend(inside.map(|(from, to)| {
            format!("    src/{from}:{} imports src/{to}", imports[&(*from, *to)])
        }));
    }
    let circles = circles(&all);
    for import @ (from, to) in ALLOWED {
        let in_circle = circles
            .iter()
            .any(|circle| circle.contains(from) && circle.contains(to));
        if !imports.contains_key(import) || !(in_circle || points_up(import)) {
            wrong.push(format!(
                "{import:?} is no longer needed: remove it from ALLOWED"
            ));
        }
    }

    for (path, line, name) in tree.names_outside() {
        let is_refused = DRIVERS_ONLY.iter().any(|refused| {
            name.strip_prefix(refused)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        });
        if is_refused && layers.get(path) < Some(&Layer::Drivers) {
            wrong.push(format!(
                "src/{path}:{line} names {name}: for drivers and edges only"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A tree of these files, by their paths.
fn tree(files: &[(&str, &str)]) -> Tree {
    Tree::read(|path| {
        let mut files = files.iter();
        files
            .find(|(name, _)| *name == path)
            .map(|(_, text)| (*text).to_string())
    })
}

/// The files that a file of the tree imports.
fn imported_by<'a>(tree: &'a Tree, path: &str) -> Vec<&'a str> {
    let imports = tree.imports().into_keys();
    imports
        .filter(|(from, _)| *from == path)
        .map(|(_, to)| to)
        .collect()
}

#[test]
fn comments_strings_and_lifetimes_are_not_tokens() {
    let cases = [
        ("a::b // c\nd", "a :: b d"),
        ("a /* b /* c */ d */ e", "a e"),
        (r#"f("a \" b", b"c", c)"#, "f ( , , c )"),
        (r##"f(r"\", r#"a " b"#, br"c")"##, "f ( , , )"),
        ("r#type", "r # type"),
        (r"f('a', '\'', '\\', '\u{e9}', b'b')", "f ( , , , , b )"),
        ("&'a str; &'static u8", "& str ; & u8"),
        ("'outer: loop", ": loop"),
    ];
    for (source, expected) in cases {
        let found: Vec<_> = tokens(source).iter().map(|token| token.text).collect();
        assert_eq!(found.join(" "), expected, "{source}");
    }
    let lines: Vec<_> = tokens("a\n/*\n*/ b\n\"\n\" c")
        .iter()
        .map(|token| token.line)
        .collect();
    assert_eq!(lines, [1, 3, 5]);
}

#[test]
fn items_for_tests_are_left_out() {
    let cases = [
        ("#[cfg(test)]\nmod tests;\na", "a"),
        ("#[cfg(test)] mod tests { use super::*; fn f() {} } a", "a"),
        ("#[cfg(test)] use a::{b, c}; d", "d"),
        (
            "#[cfg(all(test, feature = \"x\"))] #[derive(A)] struct B { c: d } e",
            "e",
        ),
        ("#[cfg(test)] fn f(a: [u8; 2]) { g(); } h", "h"),
        ("#![allow(a)] #[cfg(not(test))] b", "b"),
    ];
    for (source, expected) in cases {
        let kept = without_tests(&tokens(source));
        let found: Vec<_> = kept.iter().map(|token| token.text).collect();
        assert_eq!(found.join(" "), expected, "{source}");
    }
}

#[test]
fn an_import_leads_to_the_file_that_defines_the_item() {
    let cases: [(&str, &[&str]); 9] = [
        ("use crate::b::B;", &["b.rs"]),
        ("use crate::{b::{self, B as C}, c};", &["b.rs", "c/mod.rs"]),
        ("fn f() { crate::c::d::g::<u8>() }", &["c/d.rs"]),
        (
            "use crate::c; fn f() -> c::d::D {}",
            &["c/d.rs", "c/mod.rs"],
        ),
        // Through re-exports.
        ("use crate::c::D;", &["c/d.rs"]),
        ("use crate::Renamed;", &["c/d.rs"]),
        (
            "use super::{A, y::Y}; pub(in super::super) fn f() {}",
            &["a/mod.rs", "a/y.rs"],
        ),
        (
            "mod inside { use super::super::y::Y; use super::f; }",
            &["a/y.rs"],
        ),
        ("use crate::b::*; use std::fmt; use self::f;", &["b.rs"]),
    ];
    for (text, expected) in cases {
        let tree = tree(&[
            ("lib.rs", "mod a; mod b; mod c; pub use c::D as Renamed;"),
            ("a/mod.rs", "mod x; mod y; struct A;"),
            ("a/x.rs", text),
            ("a/y.rs", ""),
            ("b.rs", ""),
            ("c/mod.rs", "pub mod d; pub use d::D;"),
            ("c/d.rs", ""),
        ]);
        assert_eq!(imported_by(&tree, "a/x.rs"), expected, "{text}");
    }
}

#[test]
fn the_program_imports_the_library_by_its_name() {
    let tree = tree(&[
        ("lib.rs", "mod a; pub use a::A;"),
        ("a.rs", ""),
        ("main.rs", "mod cli;"),
        ("cli/mod.rs", "mod b; use fanfare::A; use crate::cli::b::B;"),
        ("cli/b.rs", ""),
    ]);
    assert_eq!(imported_by(&tree, "cli/mod.rs"), ["a.rs", "cli/b.rs"]);
}

#[test]
fn a_parent_is_the_file_of_a_module_around() {
    for (parent, child, expected) in [
        ("lib.rs", "a.rs", true),
        ("a/mod.rs", "a/b.rs", true),
        ("a/mod.rs", "a/b/c.rs", true),
        ("a/b.rs", "a/mod.rs", false),
        ("a/b.rs", "a/c.rs", false),
        ("a/mod.rs", "ab.rs", false),
    ] {
        assert_eq!(is_parent(parent, child), expected, "{parent} {child}");
    }
}

#[test]
fn circles_of_files_are_found() {
    let found = |imports: &[(&'static str, &'static str)]| {
        let circles = circles(&imports.iter().copied().collect());
        circles
            .into_iter()
            .map(|circle| circle.into_iter().collect::<String>())
            .collect::<Vec<_>>()
    };
    assert_eq!(found(&[("a", "b"), ("b", "c"), ("a", "c")]), [""; 0]);
    assert_eq!(
        found(&[("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")]),
        ["abc"]
    );
    assert_eq!(
        found(&[("a", "b"), ("b", "a"), ("b", "c"), ("c", "d"), ("d", "c")]),
        ["ab", "cd"]
    );
}

#[test]
fn names_outside_the_package_are_found_in_full() {
    let tree = tree(&[("lib.rs", "use std::{fs::File, time::{self, Instant}}; use slab::Slab;
        fn f() { Instant::now(); time::SystemTime::now(); File::open(a); std::thread::spawn(b); c.elapsed() }")]);
    let found: BTreeSet<_> = tree.names_outside().map(|(_, _, name)| name).collect();
    for name in [
        ".elapsed",
        "slab::Slab",
        "std::fs::File",
        "std::fs::File::open",
        "std::thread::spawn",
        "std::time::Instant::now",
        "std::time::SystemTime::now",
    ] {
        assert!(found.contains(name), "{name} in {found:?}");
    }
}
