//! Where a series of runs changes its level.

use crate::rng::Rng;

/// A point from which on a series is another one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChangePoint {
    /// Index of the first value after the change.
    pub at: usize,
    /// Chance of a split as good in a series without order.
    pub p: f64,
    /// Mean of the part before it, up to the change before.
    pub before: f64,
    /// Mean of the part after it, up to the next change.
    pub after: f64,
}

/// Fewest values between changes: an outlier is not a level.
const LEAST: usize = 3;

/// Changes in a series by E-divisive: hierarchical bisection by energy distance with a permutation test at each step (Matteson and James, A
/// nonparametric approach for multiple change point analysis of multivariate data, JASA 109:334, 2014; for series of benchmark runs Daly et
/// al., The use of change point detection to identify software performance regressions, ICPE 2020). No distribution is assumed. With fewer
/// than eight values nothing can be significant at 0.05, and nothing is found. In rising order.
pub fn change_points(values: &[f64], alpha: f64, permutations: usize, seed: u64) -> Vec<ChangePoint> {
    let mut cuts: Vec<(usize, f64)> = Vec::new();
    while let Some((at, quality)) = segments(values.len(), &cuts)
        .into_iter()
        .filter_map(|(from, to)| best_split(&values[from..to], from))
        .max_by(|left, right| left.1.total_cmp(&right.1))
    {
        let p = permutation_p(values, &cuts, quality, permutations, seed);
        if p > alpha {
            break;
        }
        cuts.push((at, p));
        cuts.sort_unstable_by_key(|cut| cut.0);
    }
    let mean = |(from, to): (usize, usize)| values[from..to].iter().sum::<f64>() / (to - from) as f64;
    let parts = segments(values.len(), &cuts);
    cuts.iter().zip(parts.windows(2)).map(|(&(at, p), pair)| ChangePoint { at, p, before: mean(pair[0]), after: mean(pair[1]) }).collect()
}

fn segments(length: usize, cuts: &[(usize, f64)]) -> Vec<(usize, usize)> {
    let starts = std::iter::once(0).chain(cuts.iter().map(|cut| cut.0));
    starts.zip(cuts.iter().map(|cut| cut.0).chain([length])).collect()
}

/// Share of shuffles within segments whose best split is at least as good.
fn permutation_p(values: &[f64], cuts: &[(usize, f64)], seen: f64, permutations: usize, seed: u64) -> f64 {
    let mut rng = Rng::indexed(seed, "change points", cuts.len() as u64);
    let as_good = (0..permutations).filter(|_| {
        let best = segments(values.len(), cuts).into_iter().filter_map(|(from, to)| {
            let mut shuffled = values[from..to].to_vec();
            rng.shuffle(&mut shuffled);
            best_split(&shuffled, 0).map(|split| split.1)
        });
        best.fold(0.0, f64::max) >= seen - 1e-12 * seen.abs()
    });
    (as_good.count() + 1) as f64 / (permutations + 1) as f64
}

/// The split of a segment with the largest energy statistic, as index in the whole series; nothing where no split is better than none.
fn best_split(segment: &[f64], offset: usize) -> Option<(usize, f64)> {
    let n = segment.len();
    let distance = |left: usize, right: usize| (segment[left] - segment[right]).abs();
    let (mut left, mut cross) = (0.0, 0.0);
    let mut right: f64 = (0..n).flat_map(|i| (0..i).map(move |k| (i, k))).map(|(i, k)| distance(i, k)).sum();
    let mut best: Option<(usize, f64)> = None;
    for moved in 0..n {
        let to_left: f64 = (0..moved).map(|other| distance(moved, other)).sum();
        let to_right: f64 = (moved + 1..n).map(|other| distance(moved, other)).sum();
        left += to_left;
        right -= to_right;
        cross += to_right - to_left;
        let (before, after) = (moved + 1, n - moved - 1);
        if before < LEAST || after < LEAST {
            continue;
        }
        let (b, a) = (before as f64, after as f64);
        let energy = 2.0 * cross / (a * b) - 2.0 * left / (b * (b - 1.0)) - 2.0 * right / (a * (a - 1.0));
        let quality = a * b / (a + b) * energy;
        if quality > 1e-12 && best.is_none_or(|(_, most)| quality > most) {
            best = Some((offset + before, quality));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(values: &[f64]) -> Vec<usize> {
        change_points(values, 0.05, 199, 1).into_iter().map(|change| change.at).collect()
    }

    #[test]
    fn a_step_is_found_where_it_is() {
        let mut rng = Rng::new(3, "steps");
        let values: Vec<f64> = (0..30).map(|index| if index < 12 { 0.6 } else { 0.5 } + 0.01 * rng.normal()).collect();
        let found = change_points(&values, 0.05, 199, 1);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].at, 12);
        assert!((found[0].before - 0.6).abs() < 0.01 && (found[0].after - 0.5).abs() < 0.01, "{found:?}");
    }

    #[test]
    fn two_steps_are_found_and_an_outlier_is_none() {
        let mut rng = Rng::new(4, "steps");
        let level = |index: usize| if (15..30).contains(&index) { 3.0 } else { 1.0 };
        let mut values: Vec<f64> = (0..45).map(|index| level(index) + 0.1 * rng.normal()).collect();
        assert_eq!(find(&values), [15, 30]);
        values[7] = 2.0;
        assert_eq!(find(&values), [15, 30]);
    }

    #[test]
    fn what_stands_still_has_no_change_and_a_bare_step_needs_eight_runs() {
        assert_eq!(find(&[0.5; 20]), Vec::<usize>::new());
        assert_eq!(find(&[0.5, 0.5, 0.5, 0.4, 0.4, 0.4]), Vec::<usize>::new());
        assert_eq!(find(&[0.5, 0.5, 0.5, 0.5, 0.4, 0.4, 0.4, 0.4]), [4]);
        assert_eq!(find(&[]), Vec::<usize>::new());
    }

    #[test]
    fn noise_alone_is_seldom_called_a_change() {
        let mut rng = Rng::new(5, "noise");
        let alarms = (0..200).filter(|seed| {
            let values: Vec<f64> = (0..20).map(|_| rng.normal()).collect();
            !change_points(&values, 0.05, 99, *seed).is_empty()
        });
        let alarms = alarms.count();
        assert!(alarms <= 20, "{alarms} of 200");
    }
}
