//! Pure statistics: estimates with intervals, quantiles, paired comparisons with verdicts, and what they would take.
//!
//! What has no observations has no estimate (`None`, shown as "not measured"), never a zero. [`Resampler::compare`] is the way in for a
//! difference between two variants or two runs; its parts are here one by one.

mod adjust;
mod bootstrap;
mod change;
mod compare;
mod components;
pub mod distribution;
mod draws;
mod equivalence;
mod interaction;
mod mcnemar;
mod permutation;
pub mod power;
mod quantile;
#[cfg(test)]
mod reference;
mod robust;
#[cfg(test)]
mod simulation;
mod wilson;

use serde::{Deserialize, Serialize};

pub use adjust::{benjamini_hochberg, holm};
pub use bootstrap::{IntervalMethod, Resampler, interval};
pub use change::{ChangePoint, change_points};
pub use compare::{Comparison, FEW_CLUSTERS, Judgement, Needed, Rule, Test, Values, Verdict};
pub use components::Components;
pub use equivalence::{tost, tost_without_spread};
pub use interaction::{Cells, smoothed};
pub use mcnemar::{mcnemar_exact, mcnemar_mid};
pub use permutation::{SignFlip, sign_flip, sign_flip_drawn, sign_flip_exact};
pub use power::Assumptions;
pub use quantile::{quantile, quantile_interval, quantile_of};
pub use robust::{ClusteredMean, design_effect};
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
