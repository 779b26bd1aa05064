//! Finds emoji in text, as whole grapheme clusters. The crate `emojis` has Unicode's list of them.

use std::collections::HashMap;

use emojis::{Emoji, EmojiVersion};
use serde_json::json;
use unicode_segmentation::UnicodeSegmentation;

/// Selects the colored glyph of a character that also has a plain one. Many writers leave it out,
/// so IDs do not contain it.
const EMOJI_PRESENTATION: char = '\u{fe0f}';

/// The latest version of Unicode's emoji that most devices can display.
const WIDELY_SUPPORTED: EmojiVersion = EmojiVersion::new(15, 0);

/// An emoji and its ID.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The code points, such as `1F604` or `1F1EB-1F1F7`, without U+FE0F.
    pub(crate) id: String,
    pub(crate) emoji: &'static str,
    name: &'static str,
    /// Whether it is a variant of another emoji in a different skin tone.
    pub(crate) toned: bool,
    /// Whether many devices have no glyph for it yet.
    pub(crate) new: bool,
}

/// All emoji in Unicode's order. Each is followed by its skin tones.
#[derive(Debug)]
pub(crate) struct Emojis {
    pub(crate) entries: Vec<Entry>,
    /// The index of an emoji, written without U+FE0F, in `entries`.
    indexes: HashMap<String, usize>,
}

impl Emojis {
    pub(crate) fn new() -> Self {
        let with_tones = |emoji: &'static Emoji| match emoji.skin_tones() {
            Some(tones) => tones.collect(),
            None => vec![emoji],
        };
        let entries: Vec<Entry> = emojis::iter().flat_map(with_tones).map(entry).collect();
        let indexes = entries.iter().enumerate();
        let indexes = indexes.map(|(index, entry)| (bare(entry.emoji), index));
        Self {
            indexes: indexes.collect(),
            entries,
        }
    }

    /// The emoji of a text in order, each as often as it is used. Only a whole grapheme cluster
    /// counts: a family is not also a man, and a cluster with U+FE0E, which selects the plain
    /// glyph, is not an emoji.
    pub(crate) fn find<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a Entry> {
        let clusters = text.graphemes(true).filter(|cluster| cluster.len() > 1);
        clusters.filter_map(|cluster| Some(&self.entries[*self.indexes.get(&bare(cluster))?]))
    }

    /// All emoji as JSON for the page: `[emoji, name, late]`. `late` is 1 if it is shown
    /// only after its first use. The page derives the IDs itself.
    pub(crate) fn to_json(&self) -> String {
        let row = |entry: &Entry| {
            let late = u8::from(entry.toned || entry.new);
            json!([entry.emoji, entry.name, late])
        };
        json!(self.entries.iter().map(row).collect::<Vec<_>>()).to_string()
    }
}

fn entry(emoji: &'static Emoji) -> Entry {
    let tone = emoji.skin_tone().unwrap_or(emojis::SkinTone::Default);
    Entry {
        id: id(emoji.as_str()),
        emoji: emoji.as_str(),
        name: emoji.name(),
        toned: tone != emojis::SkinTone::Default,
        new: emoji.emoji_version() > WIDELY_SUPPORTED,
    }
}

fn bare(emoji: &str) -> String {
    emoji.chars().filter(|&c| c != EMOJI_PRESENTATION).collect()
}

fn id(emoji: &str) -> String {
    let code_points: Vec<String> = bare(emoji)
        .chars()
        .map(|c| format!("{:04X}", u32::from(c)))
        .collect();
    code_points.join("-")
}
