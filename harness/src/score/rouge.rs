//! ROUGE-N and ROUGE-L as Google's `rouge-score` 0.1.2 computes them without its stemmer.
//!
//! Tokens are runs of `[a-z0-9]` of the lower-cased text, so text in other scripts has no tokens and scores 0.

use std::collections::BTreeMap;

use super::text::shared;

/// Overlap of one answer with one reference.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rouge {
    /// Share of the answer's units that the reference has.
    pub precision: f64,
    /// Share of the reference's units that the answer has.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f: f64,
}

impl Rouge {
    fn new(shared: usize, in_answer: usize, in_reference: usize) -> Self {
        let precision = shared as f64 / in_answer.max(1) as f64;
        let recall = shared as f64 / in_reference.max(1) as f64;
        let f = if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 };
        Self { precision, recall, f }
    }
}

/// By n-grams of tokens, as a multiset.
pub fn rouge_n(answer: &str, reference: &str, n: usize) -> Rouge {
    let (answer, reference) = (tokens(answer), tokens(reference));
    let (left, right) = (ngrams(&answer, n), ngrams(&reference, n));
    Rouge::new(shared(&left, &right), left.values().sum(), right.values().sum())
}

/// By the longest common subsequence of tokens.
pub fn rouge_l(answer: &str, reference: &str) -> Rouge {
    let (answer, reference) = (tokens(answer), tokens(reference));
    Rouge::new(common_subsequence(&answer, &reference), answer.len(), reference.len())
}

fn tokens(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|token| !token.is_empty()).map(str::to_owned).collect()
}

fn ngrams(tokens: &[String], n: usize) -> BTreeMap<&[String], usize> {
    let mut counts = BTreeMap::new();
    for ngram in tokens.windows(n) {
        *counts.entry(ngram).or_default() += 1;
    }
    counts
}

/// Length of the longest common subsequence; one row of the table is kept, over the shorter side.
fn common_subsequence(left: &[String], right: &[String]) -> usize {
    let (long, short) = if left.len() < right.len() { (right, left) } else { (left, right) };
    let mut row = vec![0usize; short.len() + 1];
    for token in long {
        let mut diagonal = 0;
        for (column, other) in short.iter().enumerate() {
            let above = row[column + 1];
            row[column + 1] = if token == other { diagonal + 1 } else { above.max(row[column]) };
            diagonal = above;
        }
    }
    row[short.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rouge_l_counts_the_longest_common_subsequence() {
        // police the gunman is the longest: three of four on both sides (Lin 2004, example 2 has its like).
        let score = rouge_l("police the gunman killed", "police killed the gunman");
        assert_eq!((score.precision, score.recall, score.f), (0.75, 0.75, 0.75));
        assert_eq!(rouge_l("", "x"), Rouge::default());
        assert_eq!(rouge_l("雅典", "雅典"), Rouge::default());
    }

    #[test]
    fn rouge_n_counts_repeats_once_each() {
        // the x2 against the x1: one shared of two, one of two.
        assert_eq!(rouge_n("the the", "the cat", 1).f, 0.5);
        assert_eq!(rouge_n("the cat sat", "the cat ran", 2).precision, 0.5);
        assert_eq!(rouge_n("cat", "cat", 2), Rouge::default());
    }
}
