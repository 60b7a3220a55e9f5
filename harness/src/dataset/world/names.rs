//! Invented names: two capitalised words of two syllables each, one from each list.

use std::collections::BTreeSet;

use crate::rng::Rng;

const FIRST_ONSETS: [&str; 12] = ["B", "Br", "C", "D", "F", "G", "H", "K", "L", "M", "N", "Pr"];
const FIRST_RIMES: [&str; 8] = ["alto", "erin", "imar", "oska", "undi", "aven", "elgo", "ixa"];
const SECOND_ONSETS: [&str; 12] = ["V", "T", "St", "R", "P", "W", "Z", "Tr", "Qu", "Sh", "J", "Sk"];
const SECOND_RIMES: [&str; 8] = ["arn", "elm", "ikor", "ond", "ulf", "ayne", "ester", "ippo"];

/// The words that begin a name, in a fixed order.
pub fn first_words() -> Vec<String> {
    words(&FIRST_ONSETS, &FIRST_RIMES)
}

/// The words that end a name, in a fixed order.
pub fn second_words() -> Vec<String> {
    words(&SECOND_ONSETS, &SECOND_RIMES)
}

fn words(onsets: &[&str], rimes: &[&str]) -> Vec<String> {
    onsets.iter().flat_map(|onset| rimes.iter().map(move |rime| format!("{onset}{rime}"))).collect()
}

/// An invented name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// First word.
    pub first: String,
    /// Second word; two words in a world of long names.
    pub second: String,
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.first, self.second)
    }
}

/// Which part of all names a source draws from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// Any name.
    All,
    /// Any name, with two words at its end: 884,736 names for a world that is too large for pairs.
    Long,
    /// Nine names in ten: pre-training.
    Training,
    /// The tenth that pre-training never uses: its evaluation.
    Evaluation,
}

impl Pool {
    fn holds(self, first: usize, second: usize) -> bool {
        let tenth = (7 * first + 3 * second).is_multiple_of(10);
        match self {
            Self::All | Self::Long => true,
            Self::Training => !tenth,
            Self::Evaluation => tenth,
        }
    }
}

/// Draws names that are not taken.
#[derive(Debug, Clone)]
pub struct NameSource {
    first: Vec<String>,
    second: Vec<String>,
    taken: BTreeSet<Name>,
    pool: Pool,
}

impl NameSource {
    /// All names of the pool are free but `taken`.
    pub fn new(pool: Pool, taken: BTreeSet<Name>) -> Self {
        let mut second = second_words();
        if pool == Pool::Long {
            second = second.iter().flat_map(|one| second.iter().map(move |two| format!("{one} {two}"))).collect();
        }
        Self { first: first_words(), second, taken, pool }
    }

    /// The same source with the first `words` of either list alone.
    pub fn narrowed(&self, words: usize) -> Self {
        let mut narrow = self.clone();
        narrow.first.truncate(words);
        narrow.second.truncate(words);
        narrow
    }

    /// A free name. The caller sees to it that far fewer than the pool's names (9,216 pairs of words) are taken.
    pub fn draw(&self, rng: &mut Rng) -> Name {
        loop {
            if let Some(name) = self.name(rng.below(self.first.len()), rng.below(self.second.len())) {
                return name;
            }
        }
    }

    /// A free name that shares one word with `other`: its first, or its whole second part.
    pub fn draw_near(&self, other: &Name, rng: &mut Rng) -> Name {
        loop {
            let (mut first, mut second) = (rng.below(self.first.len()), rng.below(self.second.len()));
            if rng.chance(0.5) {
                first = position(&self.first, &other.first);
            } else {
                second = position(&self.second, &other.second);
            }
            if let Some(name) = self.name(first, second).filter(|name| name != other) {
                return name;
            }
        }
    }

    /// A free name, which is then taken.
    pub fn take_new(&mut self, rng: &mut Rng) -> Name {
        let name = self.draw(rng);
        self.take(&name);
        name
    }

    /// Takes a name out of the free ones.
    pub fn take(&mut self, name: &Name) {
        self.taken.insert(name.clone());
    }

    /// The name of two words, if it is free.
    fn name(&self, first: usize, second: usize) -> Option<Name> {
        let name = Name { first: self.first[first].clone(), second: self.second[second].clone() };
        (self.pool.holds(first, second) && !self.taken.contains(&name)).then_some(name)
    }
}

fn position(words: &[String], word: &str) -> usize {
    words.iter().position(|candidate| candidate == word).expect("names are made of listed words")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_is_in_both_lists_or_twice() {
        let all: BTreeSet<String> = first_words().into_iter().chain(second_words()).collect();
        assert_eq!(all.len(), 192);
    }

    #[test]
    fn drawn_names_are_free_and_near_names_share_one_word() {
        for pool in [Pool::All, Pool::Long] {
            let mut source = NameSource::new(pool, BTreeSet::new());
            let mut rng = Rng::new(1, "names");
            for _ in 0..500 {
                let name = source.take_new(&mut rng);
                let near = source.draw_near(&name, &mut rng);
                assert!((near.first == name.first) ^ (near.second == name.second), "{name} {near}");
                assert!(!source.taken.contains(&near));
            }
        }
    }
}
