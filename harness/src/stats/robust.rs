//! The standard error of a mean when questions of one cluster go together.

/// A mean with cluster-robust errors. `CR1` scales by G/(G-1) and goes with t of G-1 degrees of freedom, as statsmodels does; `CR2` weighs
/// every cluster's residual by 1/sqrt(1 - its share of the questions) and goes with Bell and McCaffrey's degrees of freedom, which hold up
/// with few clusters or unequal ones (Imbens and Kolesár, Robust standard errors in small samples, Review of Economics and Statistics
/// 98:701, 2016). With clusters of one size the two are the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClusteredMean {
    /// The mean over questions.
    pub mean: f64,
    /// Questions.
    pub n: usize,
    /// Clusters with a question.
    pub clusters: usize,
    /// CR1.
    pub error_cr1: f64,
    /// CR2: what verdicts stand on.
    pub error: f64,
    /// Bell and McCaffrey's degrees of freedom of CR2.
    pub freedom: f64,
    /// Variance of the mean (CR2) over what it would be if questions were independent; nothing if all values are equal.
    pub design_effect: Option<f64>,
}

impl ClusteredMean {
    /// Of values with the number of their cluster (below `clusters`). Nothing without values from two clusters at least.
    pub fn of(values: impl Iterator<Item = (f64, usize)> + Clone, clusters: usize) -> Option<Self> {
        let (sum, n) = values.clone().fold((0.0, 0usize), |(sum, n), (value, _)| (sum + value, n + 1));
        let mean = sum / n as f64;
        let mut residuals = vec![(0.0, 0.0); clusters];
        let mut squares = 0.0;
        for (value, cluster) in values {
            let residual = value - mean;
            residuals[cluster].0 += residual;
            residuals[cluster].1 += 1.0;
            squares += residual * residual;
        }
        residuals.retain(|(_, size)| *size > 0.0);
        let count = residuals.len() as f64;
        if residuals.len() < 2 {
            return None;
        }
        let total = n as f64;
        let cr1 = count / (count - 1.0) * residuals.iter().map(|(residual, _)| residual * residual).sum::<f64>() / (total * total);
        let cr2 = residuals.iter().map(|(residual, size)| residual * residual / (1.0 - size / total)).sum::<f64>() / (total * total);
        let independent = squares / (total - 1.0) / total;
        Some(Self {
            mean,
            n,
            clusters: residuals.len(),
            error_cr1: cr1.sqrt(),
            error: cr2.sqrt(),
            freedom: freedom(residuals.iter().map(|(_, size)| *size), total),
            design_effect: (independent > 0.0).then(|| cr2 / independent),
        })
    }
}

/// Bell and McCaffrey's degrees of freedom for an intercept alone: tr(M)^2 / tr(M^2), where M_gh = c_g c_h (n_g [g = h] - n_g n_h / n) / n^2
/// and c_g^2 = 1 / (1 - n_g / n).
fn freedom(sizes: impl Iterator<Item = f64> + Clone, n: f64) -> f64 {
    let weight = |size: f64| size * size / (1.0 - size / n);
    let diagonal: f64 = sizes.clone().map(|size| size * size).sum::<f64>();
    let all: f64 = sizes.clone().map(weight).sum();
    let own: f64 = sizes.map(|size| weight(size) * weight(size)).sum();
    n * n / (diagonal + (all * all - own) / (n * n))
}

/// How many times as many questions one cluster design needs as independent ones, where every cluster has `size` questions that correlate
/// by `correlation`: 1 + (m - 1) rho (Kish). With unequal clusters `size` is the sum of squared sizes over the number of questions.
pub fn design_effect(size: f64, correlation: f64) -> f64 {
    1.0 + (size - 1.0) * correlation
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(clusters: &[&[f64]]) -> ClusteredMean {
        let values = clusters.iter().enumerate().flat_map(|(cluster, values)| values.iter().map(move |value| (*value, cluster)));
        ClusteredMean::of(values, clusters.len()).unwrap()
    }

    #[test]
    fn one_question_per_cluster_is_the_ordinary_error() {
        let mean = of(&[&[1.0], &[2.0], &[4.0], &[5.0]]);
        let expected = (10.0_f64 / 3.0 / 4.0).sqrt();
        assert!((mean.error - expected).abs() < 1e-14 && (mean.error_cr1 - expected).abs() < 1e-14);
        assert!((mean.freedom - 3.0).abs() < 1e-12);
        assert!((mean.design_effect.unwrap() - 1.0).abs() < 1e-14);
    }

    #[test]
    fn copies_within_a_cluster_add_no_certainty() {
        let (single, copied) = (of(&[&[1.0], &[0.0], &[1.0]]), of(&[&[1.0; 4], &[0.0; 4], &[1.0; 4]]));
        assert!((single.error - copied.error).abs() < 1e-14 && (single.freedom - copied.freedom).abs() < 1e-12);
        assert!(copied.design_effect.unwrap() > 4.0);
    }

    #[test]
    fn a_cluster_alone_has_no_error() {
        assert_eq!(ClusteredMean::of([(1.0, 0), (0.0, 0)].into_iter(), 1), None);
        assert_eq!(ClusteredMean::of(std::iter::empty(), 3), None);
    }

    #[test]
    fn unequal_clusters_cost_degrees_of_freedom() {
        let values: Vec<f64> = (0..40).map(f64::from).collect();
        let mean = of(&[&values, &[1.0], &[2.0], &[3.0], &[4.0]]);
        assert!(mean.freedom < 2.0, "{}", mean.freedom);
        assert_eq!(design_effect(4.0, 0.3), 1.9);
    }
}
