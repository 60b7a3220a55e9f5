//! Equality with NumPy and SciPy, on fixtures made by `tests/fixtures/make_stats.py`.

use serde_json::Value;

use super::{quantile, quantile_interval, wilson};

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
