//! Where posts come from: standard input, or a simulation.
//!
//! The simulation is one, and every post of it says so. Which emoji it uses follows what is known of real posts in outline only: a few
//! are in most of them, most are in very few, they come in clusters, and now and then one of them has its moment.

use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::io::BufRead;
use std::time::{Duration, Instant};

use crate::emoji::Emojis;
use crate::post::Post;

/// A source of posts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Feed {
    /// Standard input, one post a line.
    Stdin,
    /// So many made-up posts a second.
    Simulated(u32),
}

impl Feed {
    /// What the page calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stdin => "stdin",
            Self::Simulated(_) => "simulated",
        }
    }

    /// Hands out posts until there are no more, or one is not taken.
    #[expect(clippy::disallowed_methods, reason = "the simulation keeps its rate")]
    pub(crate) fn run(
        self,
        mut each: impl FnMut(Post) -> Result<(), Box<dyn Error>>,
    ) -> Result<(), Box<dyn Error>> {
        let Self::Simulated(rate) = self else {
            return read_lines(std::io::stdin().lock(), each);
        };
        let emojis = Emojis::new();
        let started = Instant::now();
        let mut simulation = Simulation::new(&emojis, rate, RandomState::new().hash_one(0));
        let mut made = 0;
        for now in crossbeam_channel::tick(Duration::from_millis(4)) {
            let elapsed = now.saturating_duration_since(started).as_millis() as u64;
            let due = elapsed * u64::from(rate) / 1000;
            for _ in made..due {
                each(simulation.post())?;
            }
            made = due.max(made);
        }
        Ok(())
    }
}

/// Hands out the lines of a feed as posts; empty ones are none.
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

/// The most used first, roughly; all others follow in an order of chance.
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

/// Posts that nobody wrote.
pub(crate) struct Simulation<'a> {
    emojis: &'a Emojis,
    /// Emoji by how often they are used, without skin tones, and the sums of their weights.
    ranked: Vec<usize>,
    weights: Vec<f64>,
    /// The emoji that has its moment, for so many posts more.
    trend: (usize, u32),
    rate: u32,
    made: u64,
    dice: Dice,
}

impl<'a> Simulation<'a> {
    pub(crate) fn new(emojis: &'a Emojis, rate: u32, seed: u64) -> Self {
        let mut dice = Dice(seed);
        let place = |id: &str| emojis.entries.iter().position(|entry| entry.id == id);
        let popular = emojis.find(POPULAR).filter_map(|entry| place(&entry.id));
        let mut ranked: Vec<usize> = popular.collect();
        let mut rest: Vec<usize> = (0..emojis.entries.len())
            .filter(|&place| {
                let entry = &emojis.entries[place];
                !entry.toned && !entry.new && !ranked.contains(&place)
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
            trend: (0, 0),
            rate,
            made: 0,
            dice,
        }
    }

    pub(crate) fn post(&mut self) -> Post {
        self.made += 1;
        self.trend.1 = match self.trend.1 {
            0 => {
                self.trend.0 = self.dice.below(self.ranked.len());
                self.rate * 10
            }
            left => left - 1,
        };
        let phrase = PHRASES[self.dice.below(PHRASES.len())];
        let mut text = format!("{phrase} ");
        for _ in 0..=self.dice.below(3) {
            let emoji = self.emoji();
            // Some say it more than once.
            let times = [1, 1, 1, 1, 2, 3][self.dice.below(6)];
            text.extend(std::iter::repeat_n(emoji, times));
        }
        let name = NAMES[self.dice.below(NAMES.len())];
        let screen_name = format!("simulated_{}", self.dice.below(10_000));
        Post::new(self.made, text, &screen_name, name)
    }

    fn emoji(&mut self) -> &'a str {
        let rank = if self.dice.below(40) == 0 {
            self.trend.0
        } else {
            let sum = self.weights.last().copied().unwrap_or_default();
            let at = self.dice.fraction() * sum;
            self.weights.partition_point(|&weight| weight < at)
        };
        let place = self.ranked[rank.min(self.ranked.len() - 1)];
        let entries = &self.emojis.entries;
        // Its skin tones follow it.
        let tones = entries[place + 1..].iter().take_while(|entry| entry.toned);
        let count = tones.count().min(5);
        let toned = count > 0 && self.dice.below(5) < 2;
        let tone = if toned { 1 + self.dice.below(count) } else { 0 };
        entries[place + tone].emoji
    }
}

/// Chance, the same for the same seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// From zero up, one or more below `end`.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
