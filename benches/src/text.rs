//! Texts, and answers beside references.

use ragft::dataset::Sample;
use ragft::rng::Rng;

use crate::SEED;

/// Words of every length and frequency class that a subword tokenizer treats differently.
const WORDS: [&str; 32] = [
    "the",
    "of",
    "and",
    "in",
    "to",
    "was",
    "river",
    "city",
    "born",
    "company",
    "hormone",
    "treatment",
    "guild",
    "export",
    "settled",
    "honey",
    "castle",
    "winter",
    "professor",
    "acromegaly",
    "municipality",
    "photosynthesis",
    "Varn",
    "Belmin",
    "Torvas",
    "1702",
    "24",
    "naïve",
    "café",
    "Łódź",
    "state-of-the-art",
    "(approximately)",
];

/// A text of `words` words.
fn text(words: usize, rng: &mut Rng) -> String {
    (0..words).map(|_| *rng.choose(&WORDS)).collect::<Vec<_>>().join(" ")
}

/// `count` texts of `shortest` to `longest` words.
pub fn texts(count: usize, (shortest, longest): (usize, usize)) -> Vec<String> {
    let mut rng = Rng::new(SEED, "texts");
    (0..count).map(|_| text(shortest + rng.below(longest - shortest + 1), &mut rng)).collect()
}

/// `count` answers with their samples: a third right, a third partly right, a third wrong; up to 40 words, two references each.
pub fn answers(count: usize) -> Vec<(String, Sample)> {
    let mut rng = Rng::new(SEED, "answers");
    (0..count).map(|index| answer(index, &mut rng)).collect()
}

fn answer(index: usize, rng: &mut Rng) -> (String, Sample) {
    let length = 1 + rng.below(40);
    let reference = text(length, rng);
    let other = text(1 + rng.below(8), rng);
    let answer = match index % 3 {
        0 => format!("The {reference}."),
        1 => reference.split(' ').map(|word| if rng.chance(0.4) { *rng.choose(&WORDS) } else { word }).collect::<Vec<_>>().join(" "),
        _ => text(1 + rng.below(40), rng),
    };
    let sample = Sample {
        id: format!("q{index}"),
        question: format!("Question {index}?"),
        references: vec![reference, other],
        relevant: vec![format!("doc{}", index / 2)],
        slices: [("kind".to_owned(), ["lookup", "rule"][index % 2].to_owned())].into(),
        answerable: true,
        choices: Vec::new(),
        cluster: None,
    };
    (answer, sample)
}
