//! Pure statistics: estimates with intervals, quantiles, paired differences.
//!
//! What has no observations has no estimate (`None`, shown as "not measured"), never a zero.

mod bootstrap;
mod quantile;
#[cfg(test)]
mod reference;
mod wilson;

use serde::{Deserialize, Serialize};

pub use bootstrap::Resampler;
pub use quantile::{quantile, quantile_interval};
pub use wilson::wilson;

/// A mean (or another statistic) with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The statistic.
    pub point: f64,
    /// Lower end of the interval.
    pub ci_low: f64,
    /// Upper end of the interval.
    pub ci_high: f64,
    /// Number of observations behind it.
    pub n: usize,
}
