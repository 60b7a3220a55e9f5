//! Exact match, token F1 and containment, as SQuAD's `evaluate-v2.0.py` computes them.

use std::collections::BTreeMap;

/// An answer in normal form: lower case, no ASCII punctuation, no articles, single blanks.
///
/// Follows `normalize_answer` of `evaluate-v2.0.py`: only the 32 ASCII punctuation characters go, and they go before the articles, so
/// `the-end` becomes `theend`.
pub fn normalise(text: &str) -> String {
    let bare: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    without_articles(&bare).split(is_blank).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Replaces `a`, `an` and `the` by a blank where they stand between word boundaries: a run of letters and digits that is no longer.
fn without_articles(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let in_word = first.is_alphanumeric();
        let end = rest.find(|c: char| c.is_alphanumeric() != in_word).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        out.push_str(if matches!(run, "a" | "an" | "the") { " " } else { run });
        rest = after;
    }
    out
}

/// Python's `str.split()` also divides at the four ASCII separators, which Unicode does not count as white space.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Texts in normal form: one answer against its references.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalised {
    answer: String,
    references: Vec<String>,
}

impl Normalised {
    /// Normalises both sides. References that normalise to nothing are left out; with none left the right answer is the empty one, as
    /// for an unanswerable question.
    pub fn new(answer: &str, references: &[String]) -> Self {
        let mut references: Vec<String> = references.iter().map(|text| normalise(text)).filter(|text| !text.is_empty()).collect();
        if references.is_empty() {
            references.push(String::new());
        }
        Self { answer: normalise(answer), references }
    }

    /// 1 if the answer equals a reference, else 0.
    pub fn exact_match(&self) -> f64 {
        f64::from(self.references.contains(&self.answer))
    }

    /// The best token F1 over the references.
    pub fn token_f1(&self) -> f64 {
        let answer = words(&self.answer);
        self.references.iter().map(|reference| token_f1(&answer, &words(reference))).fold(0.0, f64::max)
    }

    /// 1 if some reference stands in the answer as whole words, else 0. An empty reference is contained in an empty answer only.
    pub fn contains(&self) -> f64 {
        let answer = words(&self.answer);
        let holds = |reference: &String| {
            let reference = words(reference);
            if reference.is_empty() { answer.is_empty() } else { answer.windows(reference.len()).any(|window| window == reference) }
        };
        f64::from(self.references.iter().any(holds))
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split(' ').filter(|word| !word.is_empty()).collect()
}

/// Harmonic mean of precision and recall over the multiset of tokens; two empty sides agree fully, one empty side not at all.
fn token_f1(answer: &[&str], reference: &[&str]) -> f64 {
    if answer.is_empty() || reference.is_empty() {
        return f64::from(answer == reference);
    }
    let shared = shared(&count(answer), &count(reference));
    if shared == 0 {
        return 0.0;
    }
    let precision = shared as f64 / answer.len() as f64;
    let recall = shared as f64 / reference.len() as f64;
    2.0 * precision * recall / (precision + recall)
}

fn count<'a>(words: &[&'a str]) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    for word in words {
        *counts.entry(*word).or_default() += 1;
    }
    counts
}

/// Size of the intersection of two multisets.
pub(super) fn shared<K: Ord>(left: &BTreeMap<K, usize>, right: &BTreeMap<K, usize>) -> usize {
    left.iter().map(|(key, count)| right.get(key).map_or(0, |other| *count.min(other))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(answer: &str, references: &[&str], expected: [f64; 3]) {
        let references: Vec<String> = references.iter().map(|text| (*text).to_owned()).collect();
        let pair = Normalised::new(answer, &references);
        assert_eq!([pair.exact_match(), pair.token_f1(), pair.contains()], expected, "{answer} against {references:?}");
    }

    #[test]
    fn normal_form_drops_case_punctuation_articles_and_blanks() {
        assert_eq!(normalise("  The U.S.A., an ally!\u{1f}x "), "usa ally x");
        assert_eq!(normalise("a-b the-end théa"), "ab theend théa");
        assert_eq!(normalise("«a»"), "« »");
        assert_eq!(normalise("The"), "");
    }

    #[test]
    fn scores_of_hand_worked_pairs() {
        check("The cat", &["cat!"], [1.0, 1.0, 1.0]);
        // One of two answer words, one of one reference words: 2 * 0.5 * 1 / 1.5.
        check("black cat", &["dog", "cat"], [0.0, 2.0 / 3.0, 1.0]);
        check("concatenate", &["cat"], [0.0, 0.0, 0.0]);
        // Two of three, two of two repeats.
        check("no no yes", &["no no"], [0.0, 2.0 * (2.0 / 3.0) / (2.0 / 3.0 + 1.0), 1.0]);
        check("big cat", &["cat big"], [0.0, 1.0, 0.0]);
    }

    #[test]
    fn without_references_only_the_empty_answer_is_right() {
        check("", &[], [1.0, 1.0, 1.0]);
        check("The.", &[], [1.0, 1.0, 1.0]);
        check("cat", &[], [0.0, 0.0, 0.0]);
        check("", &["cat"], [0.0, 0.0, 0.0]);
        check("", &["the", "cat"], [0.0, 0.0, 0.0]);
    }
}
