//! What is an emoji: Unicode's list of them, by the crate `emojis`, found in text as whole grapheme clusters.

use std::collections::HashMap;

use emojis::{Emoji, EmojiVersion};
use serde_json::json;
use unicode_segmentation::UnicodeSegmentation;

/// Asks for the coloured glyph where a character also has a plain one. Most writers leave it out, so no id has it.
const EMOJI_PRESENTATION: char = '\u{fe0f}';

/// The last version of Unicode's emoji that is on most devices.
const WIDELY_SHOWN: EmojiVersion = EmojiVersion::new(15, 0);

/// An emoji and the id under which it is counted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its code points as `1F604` or `1F1EB-1F1F7`, without those that only ask for colour.
    pub(crate) id: String,
    pub(crate) emoji: &'static str,
    name: &'static str,
    /// One that Unicode lists as a variant of another in a skin tone of its own.
    pub(crate) toned: bool,
    /// One that many devices have no glyph for yet.
    pub(crate) new: bool,
}

/// All emoji, in Unicode's order, each followed by its skin tones.
#[derive(Debug)]
pub(crate) struct Emojis {
    pub(crate) entries: Vec<Entry>,
    /// Where an emoji is among them, without what asks for colour.
    places: HashMap<String, usize>,
}

impl Emojis {
    pub(crate) fn new() -> Self {
        let with_tones = |emoji: &'static Emoji| match emoji.skin_tones() {
            Some(tones) => tones.collect(),
            None => vec![emoji],
        };
        let entries: Vec<Entry> = emojis::iter().flat_map(with_tones).map(entry).collect();
        let place = |(place, entry): (usize, &Entry)| (bare(entry.emoji), place);
        let places = entries.iter().enumerate().map(place).collect();
        Self { entries, places }
    }

    /// The emoji of a text, in order, each as often as it is used. A whole grapheme cluster counts or does not: a family is no man, and
    /// what asks for the plain glyph (U+FE0E) is no emoji.
    pub(crate) fn find<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a Entry> {
        let clusters = text.graphemes(true).filter(|cluster| cluster.len() > 1);
        clusters.filter_map(|cluster| Some(&self.entries[*self.places.get(&bare(cluster))?]))
    }

    /// All of them for the page, which makes the ids itself: `[emoji, name, 1 if it is shown only once it is used]`.
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
        new: emoji.emoji_version() > WIDELY_SHOWN,
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
