//! The sign-flip test: if neither side is better, a cluster's summed difference is as likely with either sign.
//!
//! Whole clusters are flipped, so questions of one document may depend on each other as they like (Good, Permutation, Parametric and
//! Bootstrap Tests of Hypotheses, section 3.2). Exact where that can be computed, by seeded draws otherwise. With one question per cluster
//! and scores of 0 and 1 it is McNemar's exact test.

use super::draws::{Draws, Lanes};
use crate::rng::Rng;

/// Clusters that can be enumerated: 2^20 signs.
const ENUMERATED: usize = 20;
/// Additions that the exact distribution of whole-numbered sums may cost.
const CONVOLVED: usize = 50_000_000;

/// How a p-value of the sign-flip test came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignFlip {
    /// Over all sign patterns.
    Exact,
    /// Over random sign patterns: (b + 1) / (m + 1).
    Drawn,
}

/// Two-sided p of the hypothesis that signs of the clusters' sums mean nothing, and how it was found. `draws` sign patterns are drawn where
/// neither enumeration nor convolution can do; the seed names them.
pub fn sign_flip(sums: &[f64], seed: u64, draws: usize) -> (f64, SignFlip) {
    match sign_flip_exact(sums) {
        Some(p) => (p, SignFlip::Exact),
        None => (sign_flip_drawn(&[sums], seed, draws)[0], SignFlip::Drawn),
    }
}

/// The exact p, if it can be had: by enumeration for few clusters, by the distribution of the sum where all sums are whole numbers.
pub fn sign_flip_exact(sums: &[f64]) -> Option<f64> {
    let sizes: Vec<f64> = sums.iter().filter(|sum| **sum != 0.0).map(|sum| sum.abs()).collect();
    let seen = sums.iter().sum::<f64>().abs();
    let total: f64 = sizes.iter().sum();
    if sizes.is_empty() {
        return Some(1.0);
    }
    // Sums of one seen value in another order differ in their last digits.
    let seen = seen - 1e-9 * total;
    if sizes.iter().all(|size| size.fract() == 0.0) && total * (sizes.len() as f64) < CONVOLVED as f64 {
        return Some(convolved(&sizes, total as usize, seen));
    }
    (sizes.len() <= ENUMERATED).then(|| enumerated(&sizes, seen))
}

/// Sign patterns in Gray's order, one flip at a time; the first sign stands still, for a pattern and its mirror image count alike.
fn enumerated(sizes: &[f64], seen: f64) -> f64 {
    let patterns = 1u64 << (sizes.len() - 1);
    let mut signs = vec![1.0; sizes.len()];
    let mut sum: f64 = sizes.iter().sum();
    let mut extreme = u64::from(sum.abs() >= seen);
    for pattern in 1..patterns {
        let flipped = 1 + pattern.trailing_zeros() as usize;
        signs[flipped] = -signs[flipped];
        sum += 2.0 * signs[flipped] * sizes[flipped];
        extreme += u64::from(sum.abs() >= seen);
    }
    extreme as f64 / patterns as f64
}

/// Distribution of the sum of the clusters with a plus: `chance[k]` that it is `k`. The signed sum is `2 k - total`.
fn convolved(sizes: &[f64], total: usize, seen: f64) -> f64 {
    let mut chance = vec![0.0; total + 1];
    chance[0] = 1.0;
    let mut reach = 0;
    for size in sizes.iter().map(|size| *size as usize) {
        reach += size;
        for sum in (size..=reach).rev() {
            chance[sum] = 0.5 * (chance[sum] + chance[sum - size]);
        }
        chance[..size.min(reach + 1)].iter_mut().for_each(|chance| *chance *= 0.5);
    }
    let is_extreme = |sum: usize| (2.0 * sum as f64 - total as f64).abs() >= seen;
    let p: f64 = chance.iter().enumerate().filter(|(sum, _)| is_extreme(*sum)).map(|(_, chance)| chance).sum();
    p.min(1.0)
}

/// p of several lists of sums over the same clusters, by the same sign patterns.
pub fn sign_flip_drawn(lists: &[&[f64]], seed: u64, draws: usize) -> Vec<f64> {
    let clusters = lists.first().map_or(0, |sums| sums.len());
    let flips = Draws::new(clusters, draws, seed, flip);
    let totals: Vec<f64> = lists.iter().map(|sums| sums.iter().sum()).collect();
    let sizes = lists.iter().map(|sums| sums.iter().map(|sum| sum.abs()).sum::<f64>());
    let limits: Vec<f64> = totals.iter().zip(sizes).map(|(total, size)| total.abs() - 1e-9 * size).collect();
    let plus = flips.weighted(&Lanes::new(lists, clusters));
    let extreme = |list: usize| plus.of(list).filter(|plus| (2.0 * plus - totals[list]).abs() >= limits[list]).count();
    (0..lists.len()).map(|list| (extreme(list) + 1) as f64 / (draws + 1) as f64).collect()
}

/// Ones where the sign is a plus.
fn flip(row: &mut [u8], seed: u64, number: u64) {
    let mut rng = Rng::indexed(seed, "sign flip", number);
    for chunk in row.chunks_mut(64) {
        let bits = rng.bits();
        chunk.iter_mut().enumerate().for_each(|(place, sign)| *sign = (bits >> place & 1) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::mcnemar_exact;

    #[test]
    fn three_clusters_by_hand() {
        // |±1 ±2 ±4| >= 7 in 2 of 8 patterns, >= 5 in 4.
        assert_eq!(sign_flip_exact(&[1.0, 2.0, 4.0]), Some(0.25));
        assert_eq!(sign_flip_exact(&[-1.0, 2.0, 4.0]), Some(0.5));
        assert_eq!(sign_flip_exact(&[0.5, 1.0, 2.0]), Some(0.25));
        assert_eq!(sign_flip_exact(&[-0.5, 1.0, 2.0]), Some(0.5));
    }

    #[test]
    fn nothing_but_ties_is_no_evidence() {
        assert_eq!(sign_flip_exact(&[0.0; 50]), Some(1.0));
        assert_eq!(sign_flip_exact(&[]), Some(1.0));
        assert_eq!(sign_flip_exact(&[3.0]), Some(1.0));
    }

    #[test]
    fn one_yes_or_no_question_per_cluster_is_mcnemar() {
        for (wins, losses) in [(1, 9), (14, 12), (300, 250), (0, 1), (6, 6)] {
            let sums: Vec<f64> = [vec![1.0; wins], vec![-1.0; losses], vec![0.0; 7]].concat();
            let (p, exact) = (sign_flip_exact(&sums).unwrap(), mcnemar_exact(wins, losses));
            assert!((p - exact).abs() < 1e-10, "{wins} against {losses}: {p} and {exact}");
        }
    }

    #[test]
    fn enumeration_and_convolution_and_draws_agree() {
        let sums: Vec<f64> = (1..=14).map(|number| f64::from(number % 5) - 1.6).collect();
        let scaled: Vec<f64> = sums.iter().map(|sum| sum * 5.0).map(f64::round).collect();
        let by_all = sign_flip_exact(&sums).unwrap();
        assert!((by_all - sign_flip_exact(&scaled).unwrap()).abs() < 1e-12);
        let drawn = sign_flip_drawn(&[&sums, &scaled], 3, 20_000);
        assert!(drawn.iter().all(|p| (p - by_all).abs() < 0.015), "{drawn:?} against {by_all}");
    }
}
