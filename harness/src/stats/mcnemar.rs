//! McNemar's test: two yes/no scores of the same questions.
//!
//! Only discordant questions tell the sides apart; if neither is better, each falls to either side like a fair coin (Fagerland, Lydersen
//! and Laake, The McNemar test for binary matched-pairs data, BMC Medical Research Methodology 13:91, 2013). Questions are taken as
//! independent: for clustered ones use [`super::sign_flip`], of which the exact test is the case of one question per cluster.

use super::distribution::fair_coins;

/// Two-sided exact p: twice the smaller binomial tail, at most 1. Never above its level, and well below it with few discordant questions.
pub fn mcnemar_exact(left_only: usize, right_only: usize) -> f64 {
    let (tail, _) = fair_coins(left_only.min(right_only), left_only + right_only);
    (2.0 * tail).min(1.0)
}

/// Two-sided mid-p: the exact p with half the probability of what was seen taken off. Close to its level where the exact test is timid.
pub fn mcnemar_mid(left_only: usize, right_only: usize) -> f64 {
    let (tail, seen) = fair_coins(left_only.min(right_only), left_only + right_only);
    if left_only == right_only { 1.0 } else { 2.0 * tail - seen }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_textbook_case() {
        // One against nine of ten: P(B <= 1) = 11/1024.
        assert!((mcnemar_exact(1, 9) - 22.0 / 1024.0).abs() < 1e-14);
        assert!((mcnemar_mid(9, 1) - 12.0 / 1024.0).abs() < 1e-14);
    }

    #[test]
    fn without_discordant_questions_there_is_no_evidence() {
        assert_eq!((mcnemar_exact(0, 0), mcnemar_mid(0, 0)), (1.0, 1.0));
        assert_eq!((mcnemar_exact(4, 4), mcnemar_mid(4, 4)), (1.0, 1.0));
    }
}
