//! AdamW and Muon over named weights. The state is plain `Vec<f32>`, updated in one pass per weight; nothing here depends on thread count.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};
use rayon::prelude::*;

use super::error::TrainingError;
use super::muon;

/// The weights that are trained, by their names in weight files.
pub type Parameters = BTreeMap<String, Var>;

/// How a weight moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum UpdateRule {
    /// Adam with bias correction and decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101).
    AdamW {
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// Added to the root of the second moment.
        eps: f64,
    },
    /// Orthogonalised momentum; for matrices between hidden layers only.
    Muon {
        /// Decay of the momentum.
        momentum: f64,
        /// Newton-Schulz iterations.
        iterations: usize,
    },
}

impl UpdateRule {
    /// AdamW with PyTorch's defaults.
    pub const ADAMW: Self = Self::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 };
    /// Muon with its author's defaults.
    pub const MUON: Self = Self::Muon { momentum: 0.95, iterations: 5 };
}

/// Settings of a group of weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ParameterGroup {
    /// How its weights move.
    pub rule: UpdateRule,
    /// Peak learning rate; the schedule's factor is multiplied on it.
    pub learning_rate: f64,
    /// Decoupled: each step shrinks the weight by `learning_rate * weight_decay` of itself.
    pub weight_decay: f64,
}

/// The moments of one weight.
#[derive(Debug, Clone)]
struct Slot {
    var: Var,
    group: ParameterGroup,
    first: Vec<f32>,
    /// Empty for Muon.
    second: Vec<f32>,
}

/// The optimizer of all trainable weights.
#[derive(Debug, Clone)]
pub struct Optimizer {
    slots: BTreeMap<String, Slot>,
    steps: u64,
}

/// Gradients by weight name, row-major like the weights.
pub type Gradients = BTreeMap<String, Vec<f32>>;

impl Optimizer {
    /// Fresh state for `parameters`; `group(name, shape)` says how each is trained.
    pub fn new(parameters: &Parameters, group: impl Fn(&str, &[usize]) -> ParameterGroup) -> Self {
        let slot = |name: &str, var: &Var| {
            let group = group(name, var.dims());
            let count = var.elem_count();
            let second = if matches!(group.rule, UpdateRule::AdamW { .. }) { vec![0.0; count] } else { Vec::new() };
            Slot { var: var.clone(), group, first: vec![0.0; count], second }
        };
        Self { slots: parameters.iter().map(|(name, var)| (name.clone(), slot(name, var))).collect(), steps: 0 }
    }

    /// Highest peak rate among the groups: the one that is logged.
    pub fn learning_rate(&self) -> f64 {
        self.slots.values().map(|slot| slot.group.learning_rate).fold(0.0, f64::max)
    }

    /// Moves every weight once. Each gradient is multiplied by `gradient_scale` (clipping), each rate by `rate_factor` (schedule).
    ///
    /// # Errors
    /// [`TrainingError::NoGradient`] when a weight's gradient is missing.
    pub fn step(&mut self, gradients: &Gradients, gradient_scale: f64, rate_factor: f64) -> Result<(), TrainingError> {
        self.steps += 1;
        let steps = self.steps;
        // Each weight's step depends on its own gradient alone.
        self.slots.par_iter_mut().try_for_each(|(name, slot)| {
            let gradient = gradients.get(name).ok_or_else(|| TrainingError::NoGradient { name: name.clone() })?;
            Ok(slot.update(gradient, gradient_scale as f32, rate_factor, steps)?)
        })
    }

    /// The moments as named tensors, and the number of steps: all that a resumed training needs.
    pub fn state(&self) -> Result<(BTreeMap<String, Tensor>, u64), TrainingError> {
        let mut tensors = BTreeMap::new();
        for (name, slot) in &self.slots {
            tensors.insert(format!("{name}/first"), Tensor::from_slice(&slot.first, slot.first.len(), &Device::Cpu)?);
            if !slot.second.is_empty() {
                tensors.insert(format!("{name}/second"), Tensor::from_slice(&slot.second, slot.second.len(), &Device::Cpu)?);
            }
        }
        Ok((tensors, self.steps))
    }

    /// Takes back what [`Self::state`] gave. The error is the name of a tensor that is missing or has another length.
    pub fn restore(&mut self, tensors: &BTreeMap<String, Tensor>, steps: u64) -> Result<(), String> {
        for (name, slot) in &mut self.slots {
            restore_moment(tensors, format!("{name}/first"), &mut slot.first)?;
            if !slot.second.is_empty() {
                restore_moment(tensors, format!("{name}/second"), &mut slot.second)?;
            }
        }
        self.steps = steps;
        Ok(())
    }
}

fn restore_moment(tensors: &BTreeMap<String, Tensor>, name: String, moment: &mut Vec<f32>) -> Result<(), String> {
    match tensors.get(&name).and_then(|tensor| tensor.to_vec1::<f32>().ok()) {
        Some(values) if values.len() == moment.len() => {
            *moment = values;
            Ok(())
        }
        _ => Err(name),
    }
}

impl Slot {
    fn update(&mut self, gradient: &[f32], gradient_scale: f32, rate_factor: f64, step: u64) -> candle_core::Result<()> {
        let rate = self.group.learning_rate * rate_factor;
        let mut weights: Vec<f32> = self.var.flatten_all()?.to_vec1()?;
        let shrink = (1.0 - rate * self.group.weight_decay) as f32;
        match self.group.rule {
            UpdateRule::AdamW { beta1, beta2, eps } => {
                let moments = Adam { beta1, beta2, eps, rate, step };
                moments.update(&mut weights, gradient, gradient_scale, shrink, (&mut self.first, &mut self.second));
            }
            UpdateRule::Muon { momentum, iterations } => {
                let (rows, cols) = self.var.dims2()?;
                let scaled: Vec<f32> = gradient.iter().map(|g| g * gradient_scale).collect();
                let direction = muon::direction(&scaled, &mut self.first, momentum as f32, iterations, rows, cols)?;
                for (weight, step) in weights.iter_mut().zip(direction) {
                    *weight = *weight * shrink - rate as f32 * step;
                }
            }
        }
        self.var.set(&Tensor::from_vec(weights, self.var.shape(), self.var.device())?)
    }
}

/// The scalars of one AdamW step.
struct Adam {
    beta1: f64,
    beta2: f64,
    eps: f64,
    rate: f64,
    step: u64,
}

impl Adam {
    /// `w <- shrink w - rate m' / (sqrt(v') + eps)` with the bias-corrected moments `m' = m / (1 - beta1^t)`, `v' = v / (1 - beta2^t)`.
    fn update(&self, weights: &mut [f32], gradient: &[f32], gradient_scale: f32, shrink: f32, (first, second): (&mut [f32], &mut [f32])) {
        let correct = |beta: f64| 1.0 - beta.powf(self.step as f64);
        let step_size = (self.rate / correct(self.beta1)) as f32;
        let root_second = (1.0 / correct(self.beta2).sqrt()) as f32;
        let (keep1, keep2, eps) = (self.beta1 as f32, self.beta2 as f32, self.eps as f32);
        let (take1, take2) = ((1.0 - self.beta1) as f32, (1.0 - self.beta2) as f32);
        for (((w, &g), m), v) in weights.iter_mut().zip(gradient).zip(first).zip(second) {
            let g = g * gradient_scale;
            *m = keep1 * *m + take1 * g;
            *v = keep2 * *v + take2 * g * g;
            *w = *w * shrink - step_size * *m / (v.sqrt() * root_second + eps);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tests/fixtures/make_optimizer.py` wrote it: torch.optim.AdamW, and Muon in float64.
    fn fixture() -> serde_json::Value {
        serde_json::from_str(include_str!("../../tests/fixtures/optimizer/steps.json")).unwrap()
    }

    fn floats(value: &serde_json::Value) -> Vec<f32> {
        value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
    }

    #[track_caller]
    fn check(case: &str, rule: UpdateRule, tolerance: f32) {
        let fixture = fixture();
        let case = &fixture[case];
        let shape = (case["rows"].as_u64().unwrap() as usize, case["cols"].as_u64().unwrap() as usize);
        let var = Var::from_vec(floats(&case["start"]), shape, &Device::Cpu).unwrap();
        let parameters = Parameters::from([("w".to_owned(), var.clone())]);
        let group = ParameterGroup {
            rule,
            learning_rate: case["learning_rate"].as_f64().unwrap(),
            weight_decay: case["weight_decay"].as_f64().unwrap(),
        };
        let mut optimizer = Optimizer::new(&parameters, |_, _| group);
        let steps = case["gradients"].as_array().unwrap();
        assert_eq!(steps.len(), 10);
        for (gradient, expected) in steps.iter().zip(case["weights"].as_array().unwrap()) {
            optimizer.step(&Gradients::from([("w".to_owned(), floats(gradient))]), 1.0, 1.0).unwrap();
            let got = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let worst = got.iter().zip(floats(expected)).map(|(g, e)| (g - e).abs()).fold(0.0, f32::max);
            assert!(worst <= tolerance, "difference {worst}");
        }
    }

    #[test]
    fn adamw_equals_torch_over_ten_steps() {
        check("adamw", UpdateRule::ADAMW, 1e-6);
    }

    #[test]
    fn muon_equals_its_formula_in_double_precision() {
        check("muon_wide", UpdateRule::MUON, 1e-5);
        check("muon_tall", UpdateRule::MUON, 1e-5);
    }

    #[test]
    fn a_missing_gradient_is_named() {
        let parameters = Parameters::from([("lost".to_owned(), Var::zeros(2, candle_core::DType::F32, &Device::Cpu).unwrap())]);
        let group = ParameterGroup { rule: UpdateRule::ADAMW, learning_rate: 0.1, weight_decay: 0.0 };
        let error = Optimizer::new(&parameters, |_, _| group).step(&Gradients::new(), 1.0, 1.0).unwrap_err();
        assert_eq!(error.to_string(), "trainable weight `lost` got no gradient");
    }
}
