//! The learning rate as a pure function of the step: a factor on the peak rate of every parameter group.

use crate::spec;

/// What follows the warm-up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Decay {
    /// Straight to zero at the last step.
    Linear,
    /// Half a cosine to zero at the last step (Loshchilov and Hutter 2017, arXiv 1608.03983).
    Cosine,
    /// No decay.
    Constant,
    /// Constant, then straight to zero over the last fraction of the steps (warm-up, stable, decay).
    StableThenLinear {
        /// Part of all steps that decays, in `0..=1`.
        fraction: f64,
    },
}

impl From<spec::Schedule> for Decay {
    fn from(schedule: spec::Schedule) -> Self {
        match schedule {
            spec::Schedule::Linear => Self::Linear,
            spec::Schedule::Cosine => Self::Cosine,
            spec::Schedule::Constant => Self::Constant,
        }
    }
}

/// Warm-up and decay over a known number of steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningRate {
    /// Steps with a rising rate.
    pub warmup_steps: u64,
    /// All steps, the warm-up included.
    pub total_steps: u64,
    /// What follows the warm-up.
    pub decay: Decay,
}

impl LearningRate {
    /// Warm-up over `warmup_ratio` of the steps, rounded up (as in transformers).
    pub fn new(total_steps: u64, warmup_ratio: f64, decay: Decay) -> Self {
        Self { warmup_steps: (warmup_ratio * total_steps as f64).ceil() as u64, total_steps, decay }
    }

    /// Factor in `[0, 1]` for optimizer step `step`, counted from 0, so that the first step of a warm-up over `w` steps has `1 / w` and
    /// not zero: a step at rate zero would be work for nothing.
    pub fn factor(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return (step + 1) as f64 / self.warmup_steps as f64;
        }
        let length = self.total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let progress = ((step - self.warmup_steps) as f64 / length).min(1.0);
        match self.decay {
            Decay::Linear => 1.0 - progress,
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            Decay::Constant => 1.0,
            Decay::StableThenLinear { fraction } => {
                let tail = (fraction * self.total_steps as f64).max(1.0);
                let left = self.total_steps.saturating_sub(step) as f64;
                (left / tail).min(1.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factors(warmup_steps: u64, total_steps: u64, decay: Decay) -> Vec<f64> {
        (0..total_steps).map(|step| LearningRate { warmup_steps, total_steps, decay }.factor(step)).collect()
    }

    #[test]
    fn warmup_rises_linearly_and_never_starts_at_zero() {
        assert_eq!(factors(4, 8, Decay::Constant), [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn linear_decay_ends_one_step_above_zero() {
        assert_eq!(factors(1, 5, Decay::Linear), [1.0, 1.0, 0.75, 0.5, 0.25]);
    }

    #[test]
    fn cosine_is_half_way_in_the_middle() {
        let factors = factors(0, 4, Decay::Cosine);
        assert!((factors[2] - 0.5).abs() < 1e-12, "{factors:?}");
        assert_eq!(factors[0], 1.0);
    }

    #[test]
    fn stable_phase_holds_the_peak_until_the_tail() {
        assert_eq!(factors(2, 10, Decay::StableThenLinear { fraction: 0.4 }), [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25]);
    }

    #[test]
    fn no_step_past_the_end_or_without_steps_leaves_the_unit_range() {
        for decay in [Decay::Linear, Decay::Cosine, Decay::Constant, Decay::StableThenLinear { fraction: 0.2 }] {
            for (ratio, total, step) in [(0.5, 3, 9), (0.0, 0, 0), (1.0, 2, 5)] {
                let factor = LearningRate::new(total, ratio, decay).factor(step);
                assert!((0.0..=1.0).contains(&factor), "{decay:?} {factor}");
            }
        }
    }
}
