//! Two one-sided tests: are the sides so alike that the difference does not matter?

use super::distribution::student_cdf;

/// p of Schuirmann's two one-sided tests that a true difference lies within `margin` of zero on either side (Journal of Pharmacokinetics and
/// Biopharmaceutics 15:657, 1987): the larger of the two. At level alpha it says yes where the 1 - 2 alpha interval lies within the margin.
pub fn tost(difference: f64, error: f64, freedom: f64, margin: f64) -> f64 {
    let beyond = |distance: f64| student_cdf(-distance / error, freedom);
    beyond(margin - difference).max(beyond(margin + difference))
}

/// The same where every cluster showed the same difference of a score between 0 and 1: the chance to see that in so many clusters, were the
/// others enough to carry the mean past the margin.
pub fn tost_without_spread(difference: f64, clusters: usize, margin: f64) -> f64 {
    let room = margin - difference.abs();
    if room <= 0.0 { 1.0 } else { (1.0 - room.min(1.0)).powi(clusters as i32) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_margin_the_chance_is_even() {
        assert!((tost(0.03, 0.01, 20.0, 0.03) - 0.5).abs() < 1e-12);
        assert!(tost(0.0, 0.01, f64::INFINITY, 0.03) < 0.0014);
        assert!(tost(0.05, 0.01, 20.0, 0.03) > 0.95);
    }

    #[test]
    fn agreement_on_few_questions_proves_little() {
        assert!(tost_without_spread(0.0, 20, 0.03) > 0.5);
        assert!(tost_without_spread(0.0, 99, 0.03) < 0.05);
        assert_eq!(tost_without_spread(0.03, 1000, 0.03), 1.0);
    }
}
