//! Weighted cross-entropy over logits: `loss = sum(w (lse - z[target])) / n`, `dz = (softmax(z) - onehot(target)) w / n`.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::storage::{floats, read, supported, tensor_like};
use crate::kernel::simd::{exp_in_place, max, rows_per_chunk, vectorized};

/// See [`super::cross_entropy`].
pub(super) fn cross_entropy(logits: &Tensor, targets: &Tensor, weights: &Tensor, normaliser: f64) -> Result<Tensor> {
    if !supported(&[logits, weights]) || targets.dtype() != DType::U32 || weights.track_op() {
        return super::reference::cross_entropy(logits, targets, weights, normaliser);
    }
    let (rows, vocabulary) = logits.dims2()?;
    logits.contiguous()?.apply_op1(CrossEntropy { labels: Labels::new(targets, weights, normaliser, rows, vocabulary)? })
}

/// What each row should have said, and how much it counts.
pub(super) struct Labels {
    targets: Vec<u32>,
    /// Already divided by the normaliser.
    weights: Vec<f32>,
}

impl Labels {
    /// Checks lengths and targets.
    pub(super) fn new(targets: &Tensor, weights: &Tensor, normaliser: f64, rows: usize, vocabulary: usize) -> Result<Self> {
        let targets: Vec<u32> = targets.to_vec1()?;
        let weights: Vec<f32> = weights.to_vec1::<f32>()?.into_iter().map(|w| (f64::from(w) / normaliser) as f32).collect();
        if targets.len() != rows || weights.len() != rows {
            bail!("{rows} rows of logits, {} targets and {} weights", targets.len(), weights.len())
        }
        if let Some(target) = targets.iter().find(|&&target| target as usize >= vocabulary) {
            bail!("target {target} is outside a vocabulary of {vocabulary}")
        }
        Ok(Self { targets, weights })
    }

    /// Sum of the losses of the rows from `first` on, in row order. `logits` are scratch: they are overwritten.
    pub(super) fn loss(&self, first: usize, logits: &mut [f32], vocabulary: usize) -> f64 {
        let mut losses = vec![0f64; logits.len() / vocabulary];
        let chunk = rows_per_chunk(vocabulary);
        logits.par_chunks_mut(chunk * vocabulary).zip(losses.par_chunks_mut(chunk)).enumerate().for_each(|(index, (rows, losses))| {
            for (offset, (row, loss)) in rows.chunks_exact_mut(vocabulary).zip(losses).enumerate() {
                *loss = self.row_loss(first + index * chunk + offset, row);
            }
        });
        losses.iter().sum()
    }

    /// Turns logits of the rows from `first` on into their gradients times `scale`.
    pub(super) fn gradient(&self, first: usize, logits: &mut [f32], vocabulary: usize, scale: f32) {
        let chunk = rows_per_chunk(vocabulary);
        logits.par_chunks_mut(chunk * vocabulary).enumerate().for_each(|(index, rows)| {
            for (offset, row) in rows.chunks_exact_mut(vocabulary).enumerate() {
                self.row_gradient(first + index * chunk + offset, row, scale);
            }
        });
    }

    fn row_loss(&self, row: usize, logits: &mut [f32]) -> f64 {
        let weight = f64::from(self.weights[row]);
        if weight == 0.0 {
            return 0.0;
        }
        let picked = f64::from(logits[self.targets[row] as usize]);
        let (top, sum) = vectorized(
            #[inline(always)]
            || exponentials(logits),
        );
        weight * (f64::from(top) + f64::from(sum).ln() - picked)
    }

    fn row_gradient(&self, row: usize, logits: &mut [f32], scale: f32) {
        let weight = self.weights[row] * scale;
        if weight == 0.0 {
            return logits.fill(0.0);
        }
        vectorized(
            #[inline(always)]
            || {
                let (_, sum) = exponentials(logits);
                let factor = weight / sum;
                logits.iter_mut().for_each(|p| *p *= factor);
            },
        );
        logits[self.targets[row] as usize] -= weight;
    }
}

/// Replaces logits by `exp(z - max)` and gives the maximum and the sum.
#[inline(always)]
fn exponentials(logits: &mut [f32]) -> (f32, f32) {
    let top = max(logits);
    (top, exp_in_place(logits, top))
}

struct CrossEntropy {
    labels: Labels,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, vocabulary) = layout.shape().dims2()?;
        let loss = self.labels.loss(0, &mut floats(logits, layout)?.to_vec(), vocabulary);
        Ok((CpuStorage::F32(vec![loss as f32]), Shape::from(())))
    }

    fn bwd(&self, logits: &Tensor, _loss: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (_, vocabulary) = logits.dims2()?;
        let mut dz = read(logits).floats()?.to_vec();
        self.labels.gradient(0, &mut dz, vocabulary, grad.to_scalar()?);
        Ok(Some(tensor_like(dz, logits)?))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::check::Case;
    use super::super::reference;
    use super::*;

    #[test]
    fn it_agrees_with_the_reference() {
        for (rows, vocabulary) in [(1, 2), (5, 17), (300, 130)] {
            let targets: Vec<u32> = (0..rows as u32).map(|i| (i * 7) % vocabulary as u32).collect();
            let weights: Vec<f32> = (0..rows).map(|i| (i % 3) as f32).collect();
            let (targets, weights) = (Tensor::new(targets, &Device::Cpu).unwrap(), Tensor::new(weights, &Device::Cpu).unwrap());
            Case::new(&[&[rows, vocabulary]])
                .check(|t| cross_entropy(&t[0], &targets, &weights, 3.0), |t| reference::cross_entropy(&t[0], &targets, &weights, 3.0));
        }
    }

    #[test]
    fn two_equal_logits_cost_ln_2() {
        let run = |target: u32| {
            let logits = Tensor::zeros((1, 2), DType::F32, &Device::Cpu).unwrap();
            let targets = Tensor::new(&[target], &Device::Cpu).unwrap();
            cross_entropy(&logits, &targets, &Tensor::new(&[1f32], &Device::Cpu).unwrap(), 1.0)
        };
        assert_eq!(run(1).unwrap().to_scalar::<f32>().unwrap(), std::f32::consts::LN_2);
        assert!(run(2).is_err(), "a target outside the vocabulary");
    }
}
