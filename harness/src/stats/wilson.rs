//! Wilson's interval for a share.

use statrs::distribution::{ContinuousCDF as _, Normal};

use super::Estimate;

/// `successes` out of `n` with Wilson's score interval (without continuity correction) at the level `confidence`.
///
/// It stays within `[0, 1]` and has a width even at 0 of n and n of n, where a bootstrap has none. Nothing if `n` is 0. Trials are taken as
/// independent: for clustered ones use [`super::Resampler::share`].
pub fn wilson(successes: usize, n: usize, confidence: f64) -> Option<Estimate> {
    if n == 0 {
        return None;
    }
    let z = Normal::standard().inverse_cdf(0.5 + confidence / 2.0);
    let (count, share) = (n as f64, successes as f64 / n as f64);
    let scale = 1.0 + z * z / count;
    let centre = (share + z * z / (2.0 * count)) / scale;
    let half = z / scale * (share * (1.0 - share) / count + z * z / (4.0 * count * count)).sqrt();
    // At the ends rounding could leave the point just outside.
    let ci_low = if successes == 0 { 0.0 } else { centre - half };
    let ci_high = if successes == n { 1.0 } else { centre + half };
    Some(Estimate { point: share, ci_low, ci_high, n })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_of_a_textbook_case() {
        // n = 10, x = 0: the upper end is z^2 / (n + z^2) = 3.8415 / 13.8415.
        let estimate = wilson(0, 10, 0.95).unwrap();
        assert_eq!((estimate.point, estimate.ci_low), (0.0, 0.0));
        assert!((estimate.ci_high - 3.841_458_820_694_124 / 13.841_458_820_694_124).abs() < 1e-9);
        assert_eq!(wilson(0, 0, 0.95), None);
    }
}
