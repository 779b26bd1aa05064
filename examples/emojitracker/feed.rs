//! The sources of posts: standard input and a simulation.
//!
//! The author of each simulated post is marked as simulated. The frequencies of emoji follow real
//! posts only roughly: a few are in most posts and most are in very few, they come in clusters, and
//! now and then one is a trend.

use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::io::BufRead;
use std::time::Duration;

use crossbeam_channel::tick;

use crate::emoji::Emojis;
use crate::post::Post;

/// A source of posts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Feed {
    /// Standard input, one post per line.
    Stdin,
    /// A simulation with this many posts per second.
    Simulated(u32),
}

impl Feed {
    /// The name of the source in the page's JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stdin => "stdin",
            Self::Simulated(_) => "simulated",
        }
    }

    /// Calls `each` with each post until the source ends or `each` returns an error.
    pub(crate) fn run(
        self,
        mut each: impl FnMut(Post) -> Result<(), Box<dyn Error>>,
    ) -> Result<(), Box<dyn Error>> {
        let Self::Simulated(rate) = self else {
            return read_lines(std::io::stdin().lock(), each);
        };
        let emojis = Emojis::new();
        let mut simulation = Simulation::new(&emojis, rate, RandomState::new().hash_one(0));
        let ticks = tick(Duration::from_millis(4));
        let started = ticks.recv()?;
        let mut posted = 0;
        for now in ticks {
            let elapsed_ms = now.saturating_duration_since(started).as_millis() as u64;
            let due = elapsed_ms * u64::from(rate) / 1000;
            for _ in posted..due {
                each(simulation.post())?;
            }
            posted = due.max(posted);
        }
        Ok(())
    }
}

/// Calls `each` with each line as a post. Skips blank lines.
pub(crate) fn read_lines(
    input: impl BufRead,
    mut each: impl FnMut(Post) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    for (number, line) in input.split(b'\n').enumerate() {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if !line.trim().is_empty() {
            each(Post::from_line(&line, number as u64 + 1))?;
        }
    }
    Ok(())
}

/// The most popular emoji, roughly in order. All others follow in random order.
const POPULAR: &str = "😂❤️😭🥰😍🔥😊🙏💕✨🤣👍😘💀🎉🥺😁🤔👏🥳😅💙😎🙄😉💜🤗💖😢👀💯🌹💔😔🙌✅🤷😩☺️😏🌸🤦💪😀🎶🤍😳👇💚😋😌😆😡🌟🖤♥️👌🤩😱🎂😜🧡⭐\
    🫶🤝👋😴🌈🍕🐶☕🐱🚀⚡🎄🌞🍀🫡🥹🌍🏆⚽🎵🇧🇷🇺🇸🇫🇷🇩🇪🇯🇵🇮🇳🏳️‍🌈👨‍👩‍👧‍👦🧑‍💻3️⃣";

const PHRASES: [&str; 32] = [
    "good morning everyone",
    "still thinking about that concert",
    "who else is awake right now",
    "this made my day",
    "I can't believe it's Friday already",
    "coffee first, then everything else",
    "the dog did it again",
    "new season starts tonight",
    "rain all day and I love it",
    "three tests left",
    "happy birthday to my favourite person",
    "finally finished the book",
    "that goal though",
    "my plants are thriving",
    "train is late again",
    "we did it",
    "no thoughts, just lunch",
    "first snow of the year",
    "best pizza in town",
    "missing the sea",
    "what a sunset",
    "the build is green",
    "buenos días a todos",
    "bonne nuit tout le monde",
    "今日もいい天気",
    "ありがとうございます",
    "que jogo incrível",
    "wie schön ist das bitte",
    "오늘도 화이팅",
    "so proud of this team",
    "weekend mode on",
    "tell me something nice",
];

const NAMES: [&str; 16] = [
    "Ada", "Bao", "Chidi", "Dana", "Emre", "Freya", "Goran", "Hana", "Imani", "Jonas", "Kaia",
    "Luz", "Mateo", "Nour", "Oona", "Priya",
];

/// A source of random posts.
pub(crate) struct Simulation<'a> {
    emojis: &'a Emojis,
    /// Indexes of emoji without skin tones, most popular first.
    ranked: Vec<usize>,
    /// The sums of the weights of `ranked` up to each.
    weights: Vec<f64>,
    /// The rank of the emoji that is a trend.
    trend: usize,
    /// How many more posts the trend lasts.
    trend_posts: u32,
    rate: u32,
    posted: u64,
    dice: Dice,
}

impl<'a> Simulation<'a> {
    pub(crate) fn new(emojis: &'a Emojis, rate: u32, seed: u64) -> Self {
        let mut dice = Dice(seed);
        let index = |id: &str| emojis.entries.iter().position(|entry| entry.id == id);
        let popular = emojis.find(POPULAR).filter_map(|entry| index(&entry.id));
        let mut ranked: Vec<usize> = popular.collect();
        let mut rest: Vec<usize> = (0..emojis.entries.len())
            .filter(|index| {
                let entry = &emojis.entries[*index];
                !entry.toned && !entry.new && !ranked.contains(index)
            })
            .collect();
        for index in (1..rest.len()).rev() {
            rest.swap(index, dice.below(index + 1));
        }
        ranked.extend(rest);
        let weights = ranked.iter().enumerate().scan(0.0, |sum, (rank, _)| {
            *sum += 1.0 / (rank as f64 + 3.0).powf(1.05);
            Some(*sum)
        });
        Self {
            emojis,
            weights: weights.collect(),
            ranked,
            trend: 0,
            trend_posts: 0,
            rate,
            posted: 0,
            dice,
        }
    }

    pub(crate) fn post(&mut self) -> Post {
        self.posted += 1;
        self.trend_posts = match self.trend_posts {
            0 => {
                self.trend = self.dice.below(self.ranked.len());
                self.rate * 10
            }
            left => left - 1,
        };
        let phrase = PHRASES[self.dice.below(PHRASES.len())];
        let mut text = format!("{phrase} ");
        for _ in 0..=self.dice.below(3) {
            let emoji = self.emoji();
            // Some posts repeat an emoji.
            let times = [1, 1, 1, 1, 2, 3][self.dice.below(6)];
            text.extend(std::iter::repeat_n(emoji, times));
        }
        let name = NAMES[self.dice.below(NAMES.len())];
        let screen_name = format!("simulated_{}", self.dice.below(10_000));
        Post::new(self.posted, text, &screen_name, name)
    }

    fn emoji(&mut self) -> &'a str {
        let rank = if self.dice.below(40) == 0 {
            self.trend
        } else {
            let sum = self.weights.last().copied().unwrap_or_default();
            let target = self.dice.fraction() * sum;
            self.weights.partition_point(|&weight| weight < target)
        };
        let index = self.ranked[rank.min(self.ranked.len() - 1)];
        let entries = &self.emojis.entries;
        // The skin tones of an emoji follow it.
        let tones = entries[index + 1..].iter().take_while(|entry| entry.toned);
        let count = tones.count().min(5);
        let toned = count > 0 && self.dice.below(5) < 2;
        let tone = if toned { 1 + self.dice.below(count) } else { 0 };
        entries[index + tone].emoji
    }
}

/// Random numbers, the same for the same seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number from zero to `end - 1`.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// A number from zero to one, without one.
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
