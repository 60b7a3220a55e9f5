//! Quantiles and intervals for them.

use statrs::distribution::{Binomial, DiscreteCDF as _};

use super::Estimate;

/// The `p`-quantile of sorted values by linear interpolation between order statistics (Hyndman and Fan's type 7, NumPy's default).
/// Nothing if there are no values. `p` is in `[0, 1]`.
pub fn quantile(sorted: &[f64], p: f64) -> Option<f64> {
    let (below, above, part) = place(sorted.len(), p)?;
    Some(between(sorted[below], sorted[above], part))
}

/// The same of values in any order, which are left in another: they are parted, not sorted.
pub fn quantile_of(values: &mut [f64], p: f64) -> Option<f64> {
    let (below, above, part) = place(values.len(), p)?;
    let (_, lower, rest) = values.select_nth_unstable_by(below, f64::total_cmp);
    let upper = if above > below { rest.iter().copied().min_by(f64::total_cmp) } else { None };
    Some(between(*lower, upper.unwrap_or(*lower), part))
}

/// The order statistics around a quantile, and how far it is from the lower one.
fn place(count: usize, p: f64) -> Option<(usize, usize, f64)> {
    let last = count.checked_sub(1)?;
    let at = p * last as f64;
    let below = (at.floor() as usize).min(last);
    Some((below, (below + 1).min(last), at - below as f64))
}

fn between(lower: f64, upper: f64, part: f64) -> f64 {
    // Infinite values stay what they are: between equals there is nothing to interpolate.
    if part == 0.0 || lower == upper { lower } else { lower + part * (upper - lower) }
}

/// The `p`-quantile with a distribution-free interval of at least the level `confidence`.
///
/// The number of observations below the true quantile is binomial (n, p), so two order statistics enclose it with a probability known
/// without any assumption on the distribution (David and Nagaraja, Order Statistics, section 7.1). With too few values for the level
/// an end is the smallest or the largest value and the true level is lower: with 32 values that is so for the upper end of the
/// 0.95-quantile. Values must be sorted and independent. SciPy's `quantile_test` gives the same ends.
pub fn quantile_interval(sorted: &[f64], p: f64, confidence: f64) -> Option<Estimate> {
    let point = quantile(sorted, p)?;
    let n = sorted.len();
    let tail = (1.0 - confidence) / 2.0;
    let below = Binomial::new(p, n as u64).expect("p is a probability");
    // Ranks from 1: P(B < low) <= tail and P(B >= high) <= tail, with B the count of values below the quantile.
    let low = (1..=n).rev().find(|&rank| below.cdf(rank as u64 - 1) <= tail).unwrap_or(1);
    let high = (1..=n).find(|&rank| 1.0 - below.cdf(rank as u64 - 1) <= tail).unwrap_or(n);
    Some(Estimate { point, ci_low: sorted[low - 1], ci_high: sorted[high - 1], n })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parted_values_have_the_quantiles_of_sorted_ones() {
        let mut rng = crate::rng::Rng::new(3, "quantiles");
        for count in [1, 2, 3, 10, 999] {
            let mut values: Vec<f64> = (0..count).map(|_| (rng.uniform() * 40.0).floor() / 8.0 - 1.0).collect();
            values[0] = f64::INFINITY;
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            for p in [0.0, 0.025, 0.3, 0.5, 0.975, 1.0] {
                assert_eq!(quantile_of(&mut values, p), quantile(&sorted, p), "{count} values at {p}");
            }
        }
        assert_eq!(quantile_of(&mut [], 0.5), None);
    }

    #[test]
    fn quantiles_interpolate_as_numpy_does() {
        let values = [1.0, 2.0, 4.0, 8.0];
        assert_eq!(quantile(&values, 0.0), Some(1.0));
        assert_eq!(quantile(&values, 0.5), Some(3.0));
        assert_eq!(quantile(&values, 0.75), Some(5.0));
        assert_eq!(quantile(&values, 1.0), Some(8.0));
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[5.0], 0.3), Some(5.0));
    }

    #[test]
    fn the_median_interval_of_ten_values_is_second_to_ninth() {
        // Binomial(10, 1/2): P(B <= 1) = 11/1024 = 0.0107, P(B <= 2) = 0.0547; so the ranks are 2 and 9.
        let values: Vec<f64> = (1..=10).map(f64::from).collect();
        let estimate = quantile_interval(&values, 0.5, 0.95).unwrap();
        assert_eq!((estimate.point, estimate.ci_low, estimate.ci_high), (5.5, 2.0, 9.0));
    }

    #[test]
    fn with_few_values_the_interval_is_the_whole_range() {
        let estimate = quantile_interval(&[1.0, 2.0, 3.0], 0.5, 0.95).unwrap();
        assert_eq!((estimate.ci_low, estimate.ci_high), (1.0, 3.0));
        assert_eq!(quantile_interval(&[], 0.5, 0.95), None);
    }
}
