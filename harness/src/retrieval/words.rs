//! A text as the words that lexical search counts: runs of letters and digits in lower case, stemmed. The only place that names the stemmers.

use rust_stemmers::{Algorithm, Stemmer};

use crate::spec::StemmerName;

/// Splits and stems.
pub struct Words {
    stemmer: Option<Stemmer>,
}

impl Words {
    /// With the stemmer of a language, or none.
    pub fn new(name: StemmerName) -> Self {
        Self { stemmer: algorithm(name).map(Stemmer::create) }
    }

    /// The words of a text, in order. Each character of scripts that put no spaces between words (Han, kana) is a word of its own.
    pub fn of(&self, text: &str) -> Vec<String> {
        let lower = text.to_lowercase();
        let mut words = Vec::new();
        for run in lower.split(|c: char| !is_in_word(c)) {
            let mut start = 0;
            for (at, c) in run.char_indices().filter(|(_, c)| is_unspaced(*c)) {
                self.push(&run[start..at], &mut words);
                start = at + c.len_utf8();
                words.push(c.to_string());
            }
            self.push(&run[start..], &mut words);
        }
        words
    }

    fn push(&self, word: &str, words: &mut Vec<String>) {
        if !word.is_empty() {
            words.push(self.stemmer.as_ref().map_or_else(|| word.to_owned(), |stemmer| stemmer.stem(word).into_owned()));
        }
    }
}

/// Letters, digits, and the marks that combine with the letter before (the Indic full stops lie among them).
fn is_in_word(c: char) -> bool {
    let is_mark =
        matches!(c, '\u{300}'..='\u{36f}' | '\u{64b}'..='\u{65f}' | '\u{900}'..='\u{963}' | '\u{966}'..='\u{dff}' | '\u{e31}'..='\u{e4e}');
    c.is_alphanumeric() || is_mark
}

fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

fn algorithm(name: StemmerName) -> Option<Algorithm> {
    Some(match name {
        StemmerName::None => return None,
        StemmerName::Arabic => Algorithm::Arabic,
        StemmerName::Danish => Algorithm::Danish,
        StemmerName::Dutch => Algorithm::Dutch,
        StemmerName::English => Algorithm::English,
        StemmerName::Finnish => Algorithm::Finnish,
        StemmerName::French => Algorithm::French,
        StemmerName::German => Algorithm::German,
        StemmerName::Greek => Algorithm::Greek,
        StemmerName::Hungarian => Algorithm::Hungarian,
        StemmerName::Italian => Algorithm::Italian,
        StemmerName::Norwegian => Algorithm::Norwegian,
        StemmerName::Portuguese => Algorithm::Portuguese,
        StemmerName::Romanian => Algorithm::Romanian,
        StemmerName::Russian => Algorithm::Russian,
        StemmerName::Spanish => Algorithm::Spanish,
        StemmerName::Swedish => Algorithm::Swedish,
        StemmerName::Tamil => Algorithm::Tamil,
        StemmerName::Turkish => Algorithm::Turkish,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(stemmer: StemmerName, text: &str, expected: &[&str]) {
        assert_eq!(Words::new(stemmer).of(text), expected);
    }

    #[test]
    fn words_are_runs_of_letters_and_digits_in_lower_case() {
        check(StemmerName::None, "The B-52's engines, 1955–62.", &["the", "b", "52", "s", "engines", "1955", "62"]);
        check(StemmerName::None, "", &[]);
        check(StemmerName::None, "... — !", &[]);
        check(StemmerName::None, "cafe\u{301} ÉTÉ", &["cafe\u{301}", "été"]);
        check(StemmerName::None, "東京tower へ", &["東", "京", "tower", "へ"]);
        check(StemmerName::None, "नमस्ते।दुनिया", &["नमस्ते", "दुनिया"]);
    }

    #[test]
    fn stems_are_those_of_snowball() {
        check(StemmerName::English, "Running runners easily generalizations", &["run", "runner", "easili", "general"]);
        check(StemmerName::German, "Aufeinanderfolgenden Häuser", &["aufeinanderfolg", "haus"]);
    }
}
