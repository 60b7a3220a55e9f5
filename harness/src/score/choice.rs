//! Multiple choice by log-likelihood, as lm-evaluation-harness scores it.

use std::collections::BTreeMap;

/// Which choice a model takes, and whether it is a right one.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Index of the most likely choice.
    pub index: usize,
    /// `acc`: that choice is right. `acc_norm`: the one most likely per character is.
    pub scores: BTreeMap<String, f64>,
}

/// Scores choices by the sums of their log-probabilities; of equal ones the first is taken. Nothing without choices.
pub fn score_choices(choices: &[String], log_likelihoods: &[f64], references: &[String]) -> Option<Choice> {
    let first_largest = |value: &dyn Fn(usize) -> f64| {
        let largest = |best: Option<usize>, index: usize| match best {
            Some(best) if value(best) >= value(index) => Some(best),
            _ => Some(index),
        };
        (0..choices.len()).fold(None, largest)
    };
    let index = first_largest(&|index| log_likelihoods[index])?;
    let per_character = first_largest(&|index| log_likelihoods[index] / choices[index].chars().count().max(1) as f64)?;
    let is_right = |index: usize| f64::from(u8::from(references.contains(&choices[index])));
    let scores = [("acc", is_right(index)), ("acc_norm", is_right(per_character))];
    Some(Choice { index, scores: scores.map(|(name, score)| (name.to_owned(), score)).into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(choices: &[&str], log_likelihoods: &[f64], right: &str) -> (usize, f64, f64) {
        let choices: Vec<String> = choices.iter().map(|text| (*text).to_owned()).collect();
        let choice = score_choices(&choices, log_likelihoods, &[right.to_owned()]).unwrap();
        (choice.index, choice.scores["acc"], choice.scores["acc_norm"])
    }

    #[test]
    fn length_counts_in_one_score_and_not_in_the_other() {
        assert_eq!(scored(&["no", "certainly not"], &[-2.0, -6.0], "no"), (0, 1.0, 0.0));
        assert_eq!(scored(&["no", "certainly not"], &[-2.0, -6.0], "certainly not"), (0, 0.0, 1.0));
        assert_eq!(scored(&["a", "b"], &[-1.0, -1.0], "a"), (0, 1.0, 1.0), "of equal ones the first");
        assert_eq!(scored(&["é", "ab"], &[-1.5, -2.0], "ab"), (0, 0.0, 1.0), "characters, not bytes");
        assert_eq!(score_choices(&[], &[], &[]), None);
    }
}
