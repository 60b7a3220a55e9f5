//! Normal, Student and binomial probabilities, with quantiles polished to the last digits.

use statrs::distribution::{Binomial, Continuous, ContinuousCDF, Discrete as _, DiscreteCDF as _, Normal, StudentsT};

/// P(Z <= z) of the standard normal.
pub fn normal_cdf(z: f64) -> f64 {
    Normal::standard().cdf(z)
}

/// The z with P(Z <= z) = p; infinite at 0 and 1, and nothing is no number.
pub fn normal_quantile(p: f64) -> f64 {
    match p {
        p if p.is_nan() => p,
        p if p <= 0.0 => f64::NEG_INFINITY,
        p if p >= 1.0 => f64::INFINITY,
        p => polished(&Normal::standard(), p),
    }
}

/// P(T <= t) with `freedom` degrees of freedom, which may be a fraction or infinite.
pub fn student_cdf(t: f64, freedom: f64) -> f64 {
    match student(freedom) {
        Some(law) => law.cdf(t),
        None => normal_cdf(t),
    }
}

/// The t with P(T <= t) = p.
pub fn student_quantile(p: f64, freedom: f64) -> f64 {
    match student(freedom) {
        // From the smaller tail: the library loses digits near one.
        Some(law) if p > 0.5 => -polished(&law, 1.0 - p),
        Some(law) => polished(&law, p),
        None => normal_quantile(p),
    }
}

/// P(|T| >= |t|).
pub fn student_two_sided(t: f64, freedom: f64) -> f64 {
    (2.0 * student_cdf(-t.abs(), freedom)).min(1.0)
}

/// With so many degrees of freedom the law is the normal one to the last digit shown.
fn student(freedom: f64) -> Option<StudentsT> {
    (freedom < 1e9).then(|| StudentsT::new(0.0, 1.0, freedom).expect("degrees of freedom are positive"))
}

/// The library's quantile after two steps of Newton.
fn polished<D: ContinuousCDF<f64, f64> + Continuous<f64, f64>>(law: &D, p: f64) -> f64 {
    let mut value = law.inverse_cdf(p);
    for _ in 0..2 {
        let step = (law.cdf(value) - p) / law.pdf(value);
        if step.is_finite() {
            value -= step;
        }
    }
    value
}

/// P(B <= successes) and P(B = successes) of `trials` fair coins.
pub fn fair_coins(successes: usize, trials: usize) -> (f64, f64) {
    let coins = Binomial::new(0.5, trials as u64).expect("a half is a probability");
    (coins.cdf(successes as u64), coins.pmf(successes as u64))
}
