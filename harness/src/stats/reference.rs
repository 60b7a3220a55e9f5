//! Equality with NumPy, SciPy and statsmodels, on fixtures made by `tests/fixtures/make_stats.py` and `make_comparisons.py`.

use serde_json::Value;

use super::distribution::{student_cdf, student_quantile};
use super::*;

fn fixture() -> Value {
    serde_json::from_str(include_str!("../../tests/fixtures/stats/reference.json")).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[track_caller]
fn near(left: f64, right: &Value, row: &Value) {
    assert!((left - number(right)).abs() < 1e-10, "{left} against {row}");
}

#[test]
fn wilson_equals_scipy() {
    for row in fixture()["wilson"].as_array().unwrap() {
        let (successes, n) = (row["successes"].as_u64().unwrap() as usize, row["n"].as_u64().unwrap() as usize);
        let estimate = wilson(successes, n, number(&row["confidence"])).unwrap();
        near(estimate.ci_low, &row["low"], row);
        near(estimate.ci_high, &row["high"], row);
    }
}

#[test]
fn quantiles_equal_numpy_and_their_intervals_scipy() {
    for row in fixture()["quantile"].as_array().unwrap() {
        let mut values: Vec<f64> = row["values"].as_array().unwrap().iter().map(number).collect();
        values.sort_by(f64::total_cmp);
        let p = number(&row["p"]);
        near(quantile(&values, p).unwrap(), &row["quantile"], row);
        let estimate = quantile_interval(&values, p, number(&row["confidence"])).unwrap();
        // SciPy gives no end where the values are too few for the level; here it is the extreme value.
        let or = |end: &Value, extreme: f64| end.as_f64().unwrap_or(extreme);
        assert_eq!(estimate.ci_low, or(&row["low"], values[0]), "{row}");
        assert_eq!(estimate.ci_high, or(&row["high"], values[values.len() - 1]), "{row}");
    }
}

fn comparisons() -> Value {
    serde_json::from_str(include_str!("../../tests/fixtures/stats/comparisons.json")).unwrap()
}

fn list(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

/// Checks a figure of every row of a table to 1e-9, relative to figures above one.
fn check(table: &str, of: impl Fn(&Value) -> Vec<(f64, f64)>) {
    let fixture = comparisons();
    let rows = fixture[table].as_array().unwrap();
    assert!(!rows.is_empty());
    for row in rows {
        for (number, (found, expected)) in of(row).into_iter().enumerate() {
            let near = (found - expected).abs() <= 1e-9 * expected.abs().max(1.0);
            assert!(near, "{table}, figure {number}: {found} against {expected} in {row}");
        }
    }
}

#[test]
fn quantiles_and_tails_of_student_and_normal_equal_scipy() {
    check("distribution", |row| {
        let (p, freedom) = (number(&row["p"]), row["freedom"].as_f64().unwrap_or(f64::INFINITY));
        let cdf = student_cdf(-3.2 * p, freedom);
        vec![(student_quantile(p, freedom), number(&row["quantile"])), (cdf, number(&row["cdf"]))]
    });
}

#[test]
fn mcnemar_equals_statsmodels() {
    check("mcnemar", |row| {
        let (left, right) = (number(&row["left"]) as usize, number(&row["right"]) as usize);
        vec![(mcnemar_exact(left, right), number(&row["exact"])), (mcnemar_mid(left, right), number(&row["mid"]))]
    });
}

#[test]
fn adjusted_p_values_equal_statsmodels() {
    check("adjust", |row| {
        let p = list(&row["p"]);
        let pairs = |found: Vec<f64>, name: &str| found.into_iter().zip(list(&row[name])).collect::<Vec<_>>();
        [pairs(holm(&p), "holm"), pairs(benjamini_hochberg(&p), "bh")].concat()
    });
}

#[test]
fn equivalence_of_independent_questions_equals_statsmodels() {
    check("tost", |row| {
        let values = list(&row["differences"]);
        let mean = ClusteredMean::of(values.iter().copied().zip(0..), values.len()).unwrap();
        vec![(tost(mean.mean, mean.error, mean.freedom, number(&row["margin"])), number(&row["p"]))]
    });
}

#[test]
fn cluster_robust_errors_equal_statsmodels_and_their_matrices() {
    check("cluster", |row| {
        let clusters: Vec<usize> = list(&row["clusters"]).into_iter().map(|cluster| cluster as usize).collect();
        let values = list(&row["values"]);
        let mean = ClusteredMean::of(values.iter().copied().zip(clusters.iter().copied()), clusters.len()).unwrap();
        let found = [mean.mean, mean.error_cr1, mean.error, mean.freedom];
        found.into_iter().zip(["mean", "cr1", "cr2", "freedom"].map(|name| number(&row[name]))).collect()
    });
}

#[test]
fn sign_flips_equal_scipy() {
    check("sign_flip", |row| vec![(sign_flip_exact(&list(&row["sums"])).unwrap(), number(&row["p"]))]);
    for row in comparisons()["sign_flip"].as_array().unwrap() {
        let drawn = sign_flip_drawn(&[&list(&row["sums"])], 1, 20_000)[0];
        assert!((drawn - number(&row["p"])).abs() < 0.012, "{drawn} in {row}");
    }
}

/// On SciPy's own resamples to the last digits; on ours within what resampling leaves open.
#[test]
fn bca_equals_scipy() {
    check("bca", |row| {
        if row["statistics"].is_null() {
            return Vec::new();
        }
        let (sums, sizes) = (list(&row["sums"]), list(&row["sizes"]));
        let (above, below) = (sums.iter().sum::<f64>(), sizes.iter().sum::<f64>());
        let jackknife: Vec<f64> = sums.iter().zip(&sizes).map(|(sum, size)| (above - sum) / (below - size)).collect();
        let ((low, high), method) = interval(&mut list(&row["statistics"]), above / below, &jackknife, number(&row["confidence"]));
        assert_eq!(method, IntervalMethod::Bca);
        vec![(low, number(&row["low"])), (high, number(&row["high"]))]
    });
    for row in comparisons()["bca"].as_array().unwrap().iter().filter(|row| row["statistics"].is_null()) {
        let (sums, sizes) = (list(&row["sums"]), list(&row["sizes"]));
        let names: Vec<String> = (0..sums.len()).map(|cluster| format!("c{cluster}")).collect();
        // The sum of a cluster and nothing else in it: the mean over questions is the ratio of sums.
        let clusters: Vec<&str> = sizes.iter().zip(&names).flat_map(|(size, name)| vec![name.as_str(); *size as usize]).collect();
        let values: Vec<Option<f64>> = sums.iter().zip(&sizes).flat_map(|(sum, size)| vec![Some(sum / size); *size as usize]).collect();
        let (estimate, _) = Resampler::new(clusters, 1, 9999, number(&row["confidence"])).bca(&[values])[0].unwrap();
        let width = number(&row["high"]) - number(&row["low"]);
        for (end, name) in [(estimate.ci_low, "low"), (estimate.ci_high, "high")] {
            assert!((end - number(&row[name])).abs() < 0.03 * width, "{name} {end} in {row}");
        }
    }
}

#[test]
fn variance_components_equal_statsmodels() {
    check("components", |row| {
        let scores: Vec<Vec<Option<f64>>> =
            row["scores"].as_array().unwrap().iter().map(|scores| list(scores).into_iter().map(Some).collect()).collect();
        let found = Components::of(&scores).unwrap();
        let found = [found.seed, found.question, found.rest];
        found.into_iter().zip(["seed", "question", "rest"].map(|name| number(&row[name]))).collect()
    });
}
