//! Options from a YAML or TOML file.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::path::Path;

use fanfare::config::Form;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{GivenBy, Options, ServeOption, entries};

/// Reads a YAML or TOML file. The options are checked each by itself; [`Options::check`] checks
/// them together.
///
/// # Errors
/// One line that names the file, the line in it, the option, and what is expected.
pub(in crate::cli) fn read_file(path: &Path) -> Result<Options, String> {
    let name = path.display();
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("cannot read {name}: {error}"))?;
    let document = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => toml::from_str(&text).map_err(|error| {
            let line = error
                .span()
                .map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            (line, error.message().to_owned())
        }),
        // An empty YAML document is null.
        Some("yaml" | "yml") => serde_saphyr::from_str::<Option<Document>>(&text)
            .map(Option::unwrap_or_default)
            .map_err(|error| {
                let line = error.location().map_or(1, |location| location.line());
                let line = usize::try_from(line).unwrap_or(1);
                (line, error.without_snippet().to_string())
            }),
        _ => {
            return Err(format!(
                "{name}: a configuration file ends in .yaml, .yml or .toml"
            ));
        }
    };
    let Document(mut options) =
        document.map_err(|(line, message)| format!("{name}:{}", at_line(line, &text, &message)))?;
    options.file = Some(path.into());
    Ok(options)
}

/// A parser's message with the line and, unless the message names it, the key: `3: max-lag: …`.
fn at_line(line: usize, text: &str, message: &str) -> String {
    let message = first_part(message);
    // An indented line and an item of a list belong to the option before them.
    let is_first = |line: &&str| !line.starts_with([' ', '\t', '-']);
    let source = text.lines().take(line).filter(is_first).last();
    let source = source.unwrap_or_default();
    let key = source.split_once([':', '=']).map(|(key, _)| key.trim());
    let entry = key.and_then(|key| entries().find(|entry| entry.name == dashed(key)));
    match entry {
        Some(ServeOption { name, .. }) if !message.starts_with(name) => {
            format!("{line}: {name}: {message}")
        }
        _ => format!("{line}: {message}"),
    }
}

/// A parser's message without the position, which is reported already.
fn first_part(message: &str) -> &str {
    let line = message.lines().next().unwrap_or_default();
    line.rfind(" at line ").map_or(line, |at| &line[..at])
}

fn dashed(key: &str) -> String {
    key.replace('_', "-")
}

/// The options of a file. They are set while the file is parsed, so that the parser adds the
/// position to an error.
struct Document(Options);

impl Default for Document {
    fn default() -> Self {
        Self(Options::defaults())
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self::default())
    }
}

impl<'de> Visitor<'de> for Document {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("options and their values")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(entry) = map.next_key_seed(Key(&mut seen))? {
            let options = &mut self.0;
            map.next_value_seed(Value { entry, options })?;
        }
        Ok(self)
    }
}

/// Reads the name of an option. It must not be among those seen.
struct Key<'a>(&'a mut BTreeSet<&'static str>);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = ServeOption;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ServeOption, D::Error> {
        let key = String::deserialize(deserializer)?;
        let entry = entries().find(|entry| entry.name == dashed(&key));
        let key = key.escape_debug();
        let entry = entry.ok_or_else(|| D::Error::custom(format!("unknown option `{key}`")))?;
        if !self.0.insert(entry.name) {
            return Err(D::Error::custom(format!("duplicate option `{key}`")));
        }
        Ok(entry)
    }
}

/// Reads the value of an option and sets the option. A value of null leaves the option as it is.
struct Value<'a> {
    entry: ServeOption,
    options: &'a mut Options,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.entry.form {
            Form::List('\n') => "a map of names and values",
            Form::List(_) => "a text or a list of texts",
            Form::Switch => "true or false",
            _ => "a text or a number",
        })
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    /// Texts are read as they are written: a token may look like a number.
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.entry.form {
            Form::List(_) => deserializer.deserialize_any(self),
            Form::Switch => deserializer.deserialize_bool(self),
            _ => deserializer.deserialize_str(self),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let Self { entry, options } = self;
        options.sources.insert(entry.name, GivenBy::File);
        let result = entry.set(options, OsStr::new(text));
        result.map_err(E::custom)
    }

    fn visit_bool<E: Error>(self, on: bool) -> Result<(), E> {
        self.visit_str(if on { "true" } else { "false" })
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.visit_str(&number.to_string())
    }

    /// A list, each item of which is a text.
    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        let Form::List(separator) = self.entry.form else {
            return Err(A::Error::invalid_type(serde::de::Unexpected::Seq, &self));
        };
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element::<String>()? {
            items.push(item);
        }
        self.visit_items(&items, separator)
    }

    /// Headers, by name.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if self.entry.form != Form::List('\n') {
            return Err(A::Error::invalid_type(serde::de::Unexpected::Map, &self));
        }
        let mut headers = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, String>()? {
            if name.contains(':') {
                let name = name.escape_debug();
                let message = format!("headers: `{name}` is not the name of a header");
                return Err(A::Error::custom(message));
            }
            headers.push(format!("{name}: {value}"));
        }
        self.visit_items(&headers, '\n')
    }
}

impl Value<'_> {
    /// Sets a list, which the library takes as one text.
    fn visit_items<E: Error>(self, items: &[String], separator: char) -> Result<(), E> {
        for item in items {
            if item.contains(separator) {
                let (name, item) = (self.entry.name, item.escape_debug());
                return Err(E::custom(format!("{name}: invalid value `{item}`")));
            }
        }
        self.visit_str(&items.join(&separator.to_string()))
    }
}
