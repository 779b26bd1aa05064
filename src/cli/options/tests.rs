//! Holds the documents to the declared options.

use std::fs;
use std::path::Path;

use super::*;

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `docs/options.md` as far as its table, and the table of all options.
fn with_table(document: &str) -> String {
    const HEAD: &str = "| option | default | values | meaning |\n|---|---|---|---|\n";
    let (before, rest) = document.split_once(HEAD).expect("the head of the table");
    let after = rest.split_once("\n\n").map_or("", |(_, after)| after);
    let rows: String = entries().map(|entry| entry.row()).collect();
    let between = if after.is_empty() { "" } else { "\n" };
    format!("{before}{HEAD}{rows}{between}{after}")
}

impl ServeOption {
    fn row(&self) -> String {
        let code = |text: &str| format!("`{}`", text.replace('|', "\\|"));
        let default = match self.default {
            text if text == "none" || text.contains(' ') => text.into(),
            text => code(text),
        };
        let bounds = match self.setter {
            Setter::Server(option) => option.bounds(),
            Setter::Program(_) => None,
        };
        let values = match (bounds, self.form) {
            (Some(bounds), _) => bounds,
            (None, Form::Choice(words)) => words
                .iter()
                .map(|word| code(word))
                .collect::<Vec<_>>()
                .join(", "),
            (None, Form::Switch) => "`true`, `false`".into(),
            (None, _) => code(self.value_name),
        };
        format!(
            "| `{}` | {default} | {values} | {} |\n",
            self.name, self.help
        )
    }
}

/// `UPDATE_DOCS=1 cargo test --bin fanfare` rewrites the table.
#[test]
fn the_table_of_the_documents_lists_all_options() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/options.md");
    let document = read(&path);
    let expected = with_table(&document);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, expected).unwrap();
    } else {
        assert!(
            document == expected,
            "docs/options.md is out of date: run UPDATE_DOCS=1 cargo test --bin fanfare"
        );
    }
}

/// The number at the start of a text with its unit, as options are written: `15s` of `15 s by
/// default`.
fn number(text: &str) -> Option<String> {
    let mut words = text.split([' ', ')', ';', '|', '\n']);
    let digits = words.next()?.trim_end_matches([',', '.']).replace(',', "");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let unit = match words.next()?.trim_end_matches([',', '.']) {
        "min" => "m",
        unit @ ("ms" | "s" | "h" | "KiB" | "MiB" | "GiB") => unit,
        _ => "",
    };
    Some(format!("{digits}{unit}"))
}

#[test]
fn a_default_in_the_documents_is_the_one_of_the_option() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = 0;
    for page in ["README.md", "docs/limits.md", "docs/subscribing.md"] {
        let text = read(&root.join(page));
        for entry in entries() {
            let set = |text: &str| {
                let mut options = Options::defaults();
                let result = entry.set(&mut options, OsStr::new(text));
                result.map(|()| format!("{:?}", options.config))
            };
            for separator in [", ", " (", " | "] {
                let named = format!("`{}`{separator}", entry.name);
                for (at, _) in text.match_indices(&named) {
                    if let Some(number) = number(&text[at + named.len()..]) {
                        let is_default = set(&number) == set(entry.default);
                        assert!(is_default, "{page}: {number} of {}", entry.name);
                        found += 1;
                    }
                }
            }
        }
    }
    assert!(found > 5, "the documents name defaults");
}
