//! Checks the architecture: imports point down, no files of `src` import each other in a circle,
//! and sockets, threads, files and the clock appear in drivers and edges only.
//!
//! The test reads the paths in `use` declarations and in code, line by line. It leaves out comments
//! and the module `tests` at the end of a file. A path counts for the file that defines the item:
//! re-exports are followed. A module and its children may name each other, since the children are
//! its private parts.

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

/// The layer of a module, or none for one that this table does not know.
fn layer(module: &str) -> Option<Layer> {
    Some(match module {
        // The configuration has these values.
        "http/header" | "store/fsync" => Layer::Words,
        "queue/buffer" | "rollup/pending" | "store" | "store/last_events" => Layer::Parts,
        _ => match module.split('/').next().unwrap_or(module) {
            "cidr" | "config" | "event" | "json" | "loopback" | "namespace" | "status" => {
                Layer::Words
            }
            "admin" | "event_stream" | "http" | "log" | "trie" => Layer::Parts,
            "engine" => Layer::Engine,
            "publisher" | "queue" | "rollup" | "server" | "store" => Layer::Drivers,
            "" | "cli" | "client" | "main" => Layer::Edges,
            _ => return None,
        },
    })
}

/// Paths that only drivers and edges may name. Lower layers take addresses, which are values, from
/// `core::net`, so that `std::net` with its sockets can be refused as a whole.
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
    ".elapsed()",
];

/// A path in a file, and the number of its line.
#[derive(Debug)]
struct Reference {
    segments: Vec<String>,
    line: usize,
}

/// A file of `src`.
#[derive(Debug, Default)]
struct File {
    /// The names that `use` declarations bring, each with its path.
    imports: Vec<(String, Reference)>,
    /// Paths of several segments outside `use` declarations.
    paths: Vec<Reference>,
}

impl File {
    fn parse(text: &str) -> Self {
        let mut file = Self::default();
        let code = text.split("\nmod tests").next().unwrap_or_default();
        let code = code
            .lines()
            .map(|line| line.split("//").next().unwrap_or_default());
        let mut lines = code.zip(1..);
        while let Some((code, line)) = lines.next() {
            let Some(start) = use_declaration(code) else {
                file.paths.extend(paths(code, line));
                continue;
            };
            let mut tree = start.to_string();
            while !tree.contains(';') {
                tree.extend(lines.next().map(|(code, _)| code.trim()));
            }
            for path in expand(tree.split(';').next().unwrap_or_default()) {
                file.imports.push(import(&path, line));
            }
        }
        file
    }
}

/// The tree of the `use` declaration that begins in this line, if one does.
fn use_declaration(code: &str) -> Option<&str> {
    let (visibility, tree) = code.split_once("use ")?;
    let visibility = visibility.trim();
    (visibility.is_empty() || visibility.starts_with("pub") && !visibility.contains(' '))
        .then_some(tree)
}

/// The paths of a tree of a `use` declaration: `a::{b, c::{d, e}}` is `a::b`, `a::c::d`, `a::c::e`.
fn expand(tree: &str) -> Vec<String> {
    let Some((prefix, list)) = tree.split_once('{') else {
        return vec![tree.to_string()];
    };
    let list = list.rsplit_once('}').map_or(list, |(list, _)| list);
    let mut depth = 0;
    let parts = list.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    let parts = parts.map(str::trim).filter(|part| !part.is_empty());
    parts
        .flat_map(|part| expand(&format!("{prefix}{part}")))
        .collect()
}

/// The name and the path that an expanded `use` declaration brings.
fn import(path: &str, line: usize) -> (String, Reference) {
    let (path, alias) = path.split_once(" as ").unwrap_or((path, ""));
    let segments = path
        .split("::")
        .filter(|segment| !["self", "*"].contains(segment));
    let segments: Vec<String> = segments.map(str::to_string).collect();
    let name = match alias {
        "" => segments.last().cloned().unwrap_or_default(),
        alias => alias.to_string(),
    };
    (name, Reference { segments, line })
}

/// The paths of several segments in a line of code.
fn paths(code: &str, line: usize) -> impl Iterator<Item = Reference> {
    let is_path = |c: char| c == '_' || c == ':' || c.is_alphanumeric();
    let paths = code
        .split(move |c| !is_path(c))
        .map(|path| path.trim_matches(':'));
    let paths = paths.filter(|path| path.contains("::"));
    let mut found: Vec<_> = paths
        .map(|path| path.split("::").map(str::to_string).collect())
        .collect();
    if code.contains(".elapsed()") {
        found.push(vec![".elapsed()".to_string()]);
    }
    found
        .into_iter()
        .map(move |segments| Reference { segments, line })
}

/// All files by their modules: the path under `src` without `.rs` or `/mod.rs`, and an empty one
/// for `lib.rs`. The program is in the same tree as the library.
#[derive(Debug, Default)]
struct Tree(BTreeMap<String, File>);

impl Tree {
    fn read(src: &Path) -> Self {
        let mut tree = Self::default();
        let mut folders = vec![src.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let text = fs::read_to_string(&path).unwrap();
                    tree.add(path.strip_prefix(src).unwrap().to_str().unwrap(), &text);
                }
            }
        }
        tree
    }

    fn add(&mut self, path: &str, text: &str) {
        let module = path.trim_end_matches(".rs").trim_end_matches("/mod");
        let module = if module == "lib" { "" } else { module };
        self.0.insert(module.to_string(), File::parse(text));
    }

    /// The module that a path in a module leads to, through imports and re-exports; or the path, if
    /// it leads out of the package. Follows at most this number of imports, because `use self::f`
    /// leads to itself.
    fn resolve(&self, module: &str, path: &[String], imports: usize) -> Result<String, String> {
        let mut here = module.to_string();
        for (index, segment) in path.iter().enumerate() {
            let child = format!("{here}/{segment}")
                .trim_start_matches('/')
                .to_string();
            let file = self.0.get(&here);
            let mut known = file.into_iter().flat_map(|file| &file.imports);
            match segment.as_str() {
                "crate" | "fanfare" if index == 0 => here.clear(),
                "super" => here.truncate(here.rfind('/').unwrap_or(0)),
                _ if self.0.contains_key(&child) => here = child,
                _ => match known.find(|(name, _)| name == segment) {
                    Some((_, import)) if imports > 0 && import.segments[0] != *segment => {
                        let target = self.resolve(&here, &import.segments, imports - 1);
                        let rest = &path[index + 1..];
                        here = target.map_err(|outside| [&[outside], rest].concat().join("::"))?;
                    }
                    _ if index == 0 => return Err(path.join("::")),
                    // An item that the module defines.
                    _ => return Ok(here),
                },
            }
        }
        Ok(here)
    }

    /// Where each path of each file leads: the module, the line, and the result of `resolve`.
    fn references(&self) -> impl Iterator<Item = (&str, usize, Result<String, String>)> {
        self.0.iter().flat_map(move |(module, file)| {
            let imports = file.imports.iter().map(|(_, path)| path);
            let references = imports.chain(&file.paths);
            references.map(move |reference| {
                let target = self.resolve(module, &reference.segments, 10);
                (module.as_str(), reference.line, target)
            })
        })
    }

    /// The importing module and the imported one, with a line that does it.
    fn imports(&self) -> BTreeMap<(String, String), usize> {
        let references = self.references();
        let imports =
            references.filter_map(|(from, line, target)| Some((from, line, target.ok()?)));
        imports
            .filter(|(from, _, to)| from != to)
            .map(|(from, line, to)| ((from.to_string(), to), line))
            .collect()
    }

    /// Paths that lead out of the package, each with its module and line.
    fn names_outside(&self) -> impl Iterator<Item = (&str, usize, String)> {
        let references = self.references();
        references.filter_map(|(from, line, target)| Some((from, line, target.err()?)))
    }
}

/// Whether the first module is around the second one.
fn is_parent(parent: &str, child: &str) -> bool {
    let rest = child.strip_prefix(parent);
    parent.is_empty() || rest.is_some_and(|rest| rest.starts_with('/'))
}

/// The imports of which each is part of a circle.
fn circular(imports: &BTreeSet<(String, String)>) -> Vec<&(String, String)> {
    let leads_back = |(target, start): (&String, &String)| {
        let (mut reached, mut next) = (BTreeSet::from([start]), vec![start]);
        while let Some(module) = next.pop() {
            let targets = imports.iter().filter(|(from, _)| from == module);
            next.extend(targets.map(|(_, to)| to).filter(|to| reached.insert(to)));
        }
        reached.contains(target)
    };
    imports
        .iter()
        .filter(|(from, to)| leads_back((from, to)))
        .collect()
}

#[test]
fn imports_point_down_in_no_circle_and_lower_layers_do_no_io() {
    let tree = Tree::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(tree.0.len() > 20, "src has more files");
    let mut wrong = Vec::new();
    for module in tree.0.keys().filter(|module| layer(module).is_none()) {
        wrong.push(format!("src/{module} has no layer: add it to fn layer"));
    }
    let imports = tree.imports();
    let is_apart = |(from, to): &&(String, String)| !is_parent(from, to) && !is_parent(to, from);
    let points_up = |(from, to): &&(String, String)| layer(from) < layer(to);

    let apart: BTreeSet<_> = imports.keys().filter(is_apart).cloned().collect();
    let up = imports.keys().filter(points_up);
    let up = up.map(|import| (import, "upwards"));
    let circles = circular(&apart)
        .into_iter()
        .map(|import| (import, "in a circle"));
    for (import @ (from, to), how) in up.chain(circles) {
        let line = imports[import];
        wrong.push(format!("src/{from}, line {line}, imports src/{to} {how}"));
    }
    for (module, line, name) in tree.names_outside() {
        let is_below = |path: &&str| {
            let rest = name.strip_prefix(path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        if layer(module) < Some(Layer::Drivers) && DRIVERS_ONLY.iter().any(is_below) {
            wrong.push(format!(
                "src/{module}, line {line}, names {name}: for drivers and edges only"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A tree of these files, by their paths.
fn tree(files: &[(&str, &str)]) -> Tree {
    let mut tree = Tree::default();
    files.iter().for_each(|(path, text)| tree.add(path, text));
    tree
}

/// The modules that a module of the tree imports.
fn imported_by(tree: &Tree, module: &str) -> Vec<String> {
    let imports = tree.imports().into_keys();
    imports
        .filter(|(from, _)| from == module)
        .map(|(_, to)| to)
        .collect()
}

#[test]
fn an_import_leads_to_the_file_that_defines_the_item() {
    let cases: [(&str, &[&str]); 11] = [
        ("use crate::b::B;", &["b"]),
        ("use crate::{b::{self, B as C}, c};", &["b", "c"]),
        ("use crate::{\n    b::B, // of b\n    c,\n};", &["b", "c"]),
        ("fn f() { crate::c::d::g::<u8>() }", &["c/d"]),
        ("use crate::c;\nfn f() -> c::d::D {}", &["c", "c/d"]),
        // Through re-exports.
        ("pub(crate) use crate::c::D;", &["c/d"]),
        ("use crate::Renamed;", &["c/d"]),
        ("use super::{A, y::Y};\npub(super) fn f() {}", &["a", "a/y"]),
        ("use crate::b::*;\nuse std::fmt;\nuse self::f;", &["b"]),
        ("// crate::b::B\nfn f() {} /// [`crate::c`]", &[]),
        ("#[cfg(test)]\nmod tests {\n    use crate::b::B;", &[]),
    ];
    for (text, expected) in cases {
        let tree = tree(&[
            ("lib.rs", "mod a;\nmod b;\nmod c;\npub use c::D as Renamed;"),
            ("a/mod.rs", "mod x;\nmod y;\nstruct A;"),
            ("a/x.rs", text),
            ("a/y.rs", ""),
            ("b.rs", ""),
            ("c/mod.rs", "pub mod d;\npub use d::D;"),
            ("c/d.rs", ""),
        ]);
        assert_eq!(imported_by(&tree, "a/x"), expected, "{text}");
    }
}

#[test]
fn the_program_imports_the_library_by_its_name() {
    let tree = tree(&[
        ("lib.rs", "mod a;\npub use a::A;"),
        ("a.rs", ""),
        ("main.rs", "mod cli;"),
        (
            "cli/mod.rs",
            "mod b;\nuse fanfare::A;\nuse crate::cli::b::B;",
        ),
        ("cli/b.rs", ""),
    ]);
    assert_eq!(imported_by(&tree, "cli"), ["a", "cli/b"]);
}

#[test]
fn a_parent_is_a_module_around() {
    for (parent, child, expected) in [
        ("", "a", true),
        ("a", "a/b", true),
        ("a", "a/b/c", true),
        ("a/b", "a", false),
        ("a/b", "a/c", false),
        ("a", "ab", false),
    ] {
        assert_eq!(is_parent(parent, child), expected, "{parent} {child}");
    }
}

#[test]
fn circular_imports_are_found() {
    let cases: [(&[&str], &[&str]); 3] = [
        (&["ab", "bc", "ac"], &[]),
        (&["ab", "bc", "ca", "cd"], &["ab", "bc", "ca"]),
        (&["ab", "ba", "bc", "cd", "dc"], &["ab", "ba", "cd", "dc"]),
    ];
    for (imports, expected) in cases {
        let pair = |import: &&str| (import[..1].to_string(), import[1..].to_string());
        let imports: BTreeSet<_> = imports.iter().map(pair).collect();
        let expected: Vec<_> = expected.iter().map(pair).collect();
        assert!(circular(&imports).into_iter().eq(&expected), "{expected:?}");
    }
}

#[test]
fn names_outside_the_package_are_found_in_full() {
    let text = "use std::{fs::File, time::{self, Instant}};\nuse slab::Slab;\n\
                fn f() { Instant::now(); time::SystemTime::now(); File::open(a); \
                std::thread::spawn(b); c.elapsed() }";
    let tree = tree(&[("lib.rs", text)]);
    let found: BTreeSet<_> = tree.names_outside().map(|(_, _, name)| name).collect();
    for name in [
        ".elapsed()",
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
