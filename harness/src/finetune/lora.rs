//! Fresh low-rank adapters, and adapters merged into their base (Hu et al. 2021, arXiv 2106.09685).

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor, Var};

use crate::lm::config::{DecoderConfig, Module};
use crate::lm::decoder::{Decoder, Positions};
use crate::lm::lora::{LoraPair, LoraWeights};
use crate::rng::Rng;
use crate::spec::FinetuneSpec;

use super::optimizer::Parameters;

/// Shape and scale of an adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraConfig {
    /// Width of the bottleneck.
    pub rank: usize,
    /// Numerator of the scale.
    pub alpha: f64,
    /// Dropout on the adapter's input, in training only.
    pub dropout: f64,
    /// Scale `alpha / sqrt(r)` (rsLoRA, Kalajdzievski 2023, arXiv 2312.03732) in place of `alpha / r`.
    pub rank_stabilised: bool,
    /// The linear layers it is attached to, in every block.
    pub target_modules: Vec<Module>,
}

impl From<&FinetuneSpec> for LoraConfig {
    fn from(spec: &FinetuneSpec) -> Self {
        let target_modules = spec.target_modules.iter().map(|&target| target.into()).collect();
        Self { rank: spec.rank, alpha: spec.alpha, dropout: spec.dropout, rank_stabilised: spec.rslora, target_modules }
    }
}

impl LoraConfig {
    /// What `B A x` is multiplied by.
    pub fn scale(&self) -> f64 {
        scale(self.alpha, self.rank, self.rank_stabilised)
    }
}

/// `alpha / r`, or `alpha / sqrt(r)` for rsLoRA.
pub(super) fn scale(alpha: f64, rank: usize, rank_stabilised: bool) -> f64 {
    let rank = rank as f64;
    alpha / if rank_stabilised { rank.sqrt() } else { rank }
}

/// A new adapter with its trainable weights by PEFT's names. `a` is uniform on `±1 / sqrt(in)` (PEFT's Kaiming initialisation with
/// `a = sqrt(5)`), each matrix from its own stream of `seed`; `b` is zero, so that the model is unchanged.
pub fn fresh(decoder: &DecoderConfig, config: &LoraConfig, seed: u64, device: &Device) -> Result<(LoraWeights, Parameters)> {
    let mut parameters = Parameters::new();
    let mut pairs = BTreeMap::new();
    for layer in 0..decoder.num_hidden_layers {
        for (module, out, input) in decoder.linear_shapes() {
            if !config.target_modules.contains(&module) {
                continue;
            }
            let a = Var::from_vec(uniform(seed, layer, module, config.rank * input, input), (config.rank, input), device)?;
            let b = Var::zeros((out, config.rank), candle_core::DType::F32, device)?;
            pairs.insert((layer, module), LoraPair { a: a.as_tensor().clone(), b: b.as_tensor().clone() });
            parameters.insert(tensor_name(layer, module, 'A'), a);
            parameters.insert(tensor_name(layer, module, 'B'), b);
        }
    }
    Ok((LoraWeights::new(pairs, config.scale()), parameters))
}

fn uniform(seed: u64, layer: usize, module: Module, count: usize, fan_in: usize) -> Vec<f32> {
    let mut rng = Rng::new(seed, &format!("lora-init/{layer}/{}", module.name()));
    let bound = 1.0 / (fan_in as f64).sqrt();
    (0..count).map(|_| (bound * (2.0 * rng.uniform() - 1.0)) as f32).collect()
}

/// PEFT's name of a matrix (`A` or `B`), as in `adapter_model.safetensors`.
pub(super) fn tensor_name(layer: usize, module: Module, matrix: char) -> String {
    format!("base_model.model.model.layers.{layer}.{}.lora_{matrix}.weight", module.path())
}

/// The adapter with plain tensors for weights, as answering uses it: no gradients, no dropout.
pub fn frozen(adapter: &LoraWeights) -> Result<LoraWeights> {
    let copy = |tensor: &Tensor| Ok::<_, candle_core::Error>(tensor.copy()?.detach());
    let mut pairs = BTreeMap::new();
    for (&key, pair) in &adapter.pairs {
        pairs.insert(key, LoraPair { a: copy(&pair.a)?, b: copy(&pair.b)? });
    }
    Ok(LoraWeights::new(pairs, adapter.scale).with_magnitudes(adapter.magnitudes.clone()))
}

/// A decoder with `W + scale B A` (with DoRA its rows times their gains) for weights where the adapter has a pair; the base stays as it is.
pub fn merge(base: &Decoder, adapter: &LoraWeights) -> Result<Decoder> {
    let (mut merged, gains) = (base.clone(), adapter.gains(base)?);
    for (&(layer, module), pair) in &adapter.pairs {
        let weight = &mut merged.layers[layer].linears[module as usize].weight;
        let mut moved = (&*weight + (pair.b.matmul(&pair.a)? * adapter.scale)?)?;
        if let Some(gain) = gains.get(&(layer, module)) {
            moved = moved.broadcast_mul(&gain.unsqueeze(1)?)?;
        }
        *weight = moved.detach();
    }
    Ok(merged)
}

/// Largest absolute difference between the logits of `merge(base, adapter)` and of the adapter beside its base, over all positions of
/// `tokens` (`[B, T]` u32). Merging rounds once more; this says how much it moves.
pub fn merge_difference(base: &Decoder, adapter: &LoraWeights, tokens: &Tensor) -> Result<f64> {
    let merged = merge(base, adapter)?;
    let merged = merged.logits(&merged.forward(tokens, Positions::FromZero, None, None)?)?;
    let beside = base.logits(&base.forward(tokens, Positions::FromZero, Some(adapter), None)?)?;
    Ok(f64::from((merged - beside)?.abs()?.max_all()?.to_scalar::<f32>()?))
}

#[cfg(test)]
mod tests {
    use super::super::BatchSource;
    use super::super::batch::MicroBatch;
    use super::super::objective::{NextToken, Objective};
    use super::super::testing::{self, FixedBatches};
    use super::*;

    fn all_modules(rank: usize) -> LoraConfig {
        LoraConfig { rank, alpha: 2.0 * rank as f64, dropout: 0.0, rank_stabilised: false, target_modules: Module::ALL.to_vec() }
    }

    /// An adapter as after some training: `b` is not zero.
    fn trained() -> (LoraWeights, Parameters) {
        let (adapter, parameters) = fresh(&testing::config(), &all_modules(3), 5, &Device::Cpu).unwrap();
        for (name, var) in parameters.iter().filter(|(name, _)| name.contains("lora_B")) {
            let mut rng = Rng::new(6, name);
            let values: Vec<f32> = (0..var.elem_count()).map(|_| 0.1 * rng.normal() as f32).collect();
            var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap()).unwrap();
        }
        (adapter, parameters)
    }

    fn tokens() -> Vec<Vec<u32>> {
        vec![vec![3, 1, 4, 1, 5, 9, 2], vec![2, 7, 1, 8, 2, 8, 1]]
    }

    #[test]
    fn a_fresh_adapter_changes_no_bit() {
        let base = testing::decoder(testing::config(), 3);
        let (adapter, parameters) = fresh(&base.config, &all_modules(3), 5, &Device::Cpu).unwrap();
        assert_eq!(parameters.len(), 2 * 7 * 2);
        let bits = |adapter| testing::logits(&base, adapter, &tokens()).into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(None), bits(Some(&adapter)));
    }

    #[test]
    fn down_projections_are_uniform_within_their_bound() {
        let values = uniform(1, 0, Module::Q, 4000, 16);
        let largest = values.iter().copied().map(f32::abs).fold(0.0, f32::max);
        assert!((0.24..=0.25).contains(&largest), "{largest}");
        let variance = values.iter().map(|v| v * v).sum::<f32>() / 4000.0;
        assert!((variance - 0.25f32.powi(2) / 3.0).abs() < 1e-3, "{variance}");
    }

    #[test]
    fn gradients_match_central_differences() {
        let base = testing::decoder(testing::config(), 3);
        let (adapter, parameters) = trained();
        let objective = NextToken::new(&base, Some(&adapter));
        let batch = MicroBatch::new(&FixedBatches::random(1, 1, 3).batches(0)[0], &Device::Cpu).unwrap();
        let loss = || objective.loss(&batch, batch.weight_sum, None).unwrap();
        let grads = loss().backward().unwrap();
        let scalar = |tensor: Tensor| f64::from(tensor.to_scalar::<f32>().unwrap());
        let mut worst: f64 = 0.0;
        for (name, var) in &parameters {
            let gradient: Vec<f32> = grads.get(var).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            assert!(gradient.iter().any(|g| *g != 0.0), "`{name}` got zeros");
            let start: Vec<f32> = var.flatten_all().unwrap().to_vec1().unwrap();
            let mut rng = Rng::new(8, name);
            for _ in 0..4 {
                let index = rng.below(start.len());
                let at = |offset: f32| {
                    let mut moved = start.clone();
                    moved[index] += offset;
                    var.set(&Tensor::from_vec(moved, var.shape(), &Device::Cpu).unwrap()).unwrap();
                    scalar(loss())
                };
                let step = 1e-2;
                let numeric = (at(step) - at(-step)) / (2.0 * f64::from(step));
                at(0.0);
                let error = (numeric - f64::from(gradient[index])).abs();
                assert!(error < 2e-4 + 0.01 * numeric.abs(), "`{name}`[{index}]: {} against {numeric}", gradient[index]);
                worst = worst.max(error);
            }
        }
        eprintln!("largest difference of LoRA gradients from central differences: {worst:.1e}");
    }

    #[test]
    fn merged_equals_unmerged_within_rounding() {
        let base = testing::decoder(testing::config(), 3);
        let before = testing::bits(&base);
        let (adapter, _) = trained();
        let moved = testing::distance(&testing::logits(&base, None, &tokens()), &testing::logits(&base, Some(&adapter), &tokens()));
        assert!(moved > 0.1, "the adapter does next to nothing: {moved}");
        let difference = merge_difference(&base, &adapter, &Tensor::new(tokens(), &Device::Cpu).unwrap()).unwrap();
        eprintln!("merged against unmerged: {difference:.1e} (the adapter moves logits by {moved:.2})");
        assert!(difference < 2e-5, "{difference}");
        assert_eq!(testing::bits(&base), before);
    }

    #[test]
    fn dropout_acts_in_training_only_and_repeats_for_a_micro_step() {
        let base = testing::decoder(testing::config(), 3);
        let (adapter, _) = trained();
        let objective = NextToken { dropout: 0.3, seed: 4, ..NextToken::new(&base, Some(&adapter)) };
        let batch = MicroBatch::new(&FixedBatches::random(1, 1, 3).batches(0)[0], &Device::Cpu).unwrap();
        let loss = |micro_step| objective.loss(&batch, 1.0, micro_step).unwrap().to_scalar::<f32>().unwrap();
        assert_eq!(loss(Some(1)), loss(Some(1)));
        assert_ne!(loss(Some(1)), loss(Some(2)));
        assert_ne!(loss(Some(1)), loss(None));
        let plain = NextToken::new(&base, Some(&adapter));
        assert_eq!(plain.loss(&batch, 1.0, Some(1)).unwrap().to_scalar::<f32>().unwrap(), loss(None));
    }
}
