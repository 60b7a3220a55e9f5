//! RMS norm. With `inv = 1 / sqrt(mean(x^2) + eps)`: `y = inv w x`, `dx = inv w g - x inv^3 / d sum(x w g)`, `dw = sum over rows inv x g`.
//! `inv` is computed anew in the backward pass: the row is in the cache anyway, and nothing has to be kept.

use candle_core::{CpuStorage, CustomOp2, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::storage::{floats, read, supported, tensor_like};
use crate::kernel::elementwise::{rms_norm as forward, rms_norm_backward as backward};
use crate::kernel::simd::{for_row_chunks, rows_per_chunk, vectorized};

/// See [`super::rms_norm`].
pub(super) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    if !supported(&[x, weight]) || weight.rank() != 1 || x.dim(D::Minus1)? != weight.dim(0)? {
        return super::reference::rms_norm(x, weight, eps);
    }
    x.contiguous()?.apply_op2(&weight.contiguous()?, RmsNorm { eps: eps as f32 })
}

struct RmsNorm {
    eps: f32,
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(&self, x: &CpuStorage, x_layout: &Layout, weight: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (floats(x, x_layout)?, floats(weight, layout)?);
        let mut y = vec![0.0; x.len()];
        for_row_chunks(&mut y, weight.len(), |first, y| {
            let x = &x[first * weight.len()..][..y.len()];
            vectorized(
                #[inline(always)]
                || forward(x, weight, self.eps, y),
            );
        });
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (x_reader, weight_reader, grad) = (read(x), read(weight), read(&grad));
        let (dx, dw) = self.gradients(x_reader.floats()?, weight_reader.floats()?, grad.floats()?);
        let dw = weight.track_op().then(|| tensor_like(dw, weight)).transpose()?;
        Ok((x.track_op().then(|| tensor_like(dx, x)).transpose()?, dw))
    }
}

impl RmsNorm {
    /// `dx` and `dw`; the latter is summed by chunks of rows, and the chunks in order.
    fn gradients(&self, x: &[f32], weight: &[f32], grad: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let width = weight.len();
        let chunk = rows_per_chunk(width) * width;
        let mut dx = vec![0.0; x.len()];
        let mut partial = vec![0.0; x.len().div_ceil(chunk) * width];
        dx.par_chunks_mut(chunk).zip(partial.par_chunks_mut(width)).enumerate().for_each(|(index, (dx, dw))| {
            let range = index * chunk..index * chunk + dx.len();
            let (x, grad) = (&x[range.clone()], &grad[range]);
            vectorized(
                #[inline(always)]
                || backward(x, weight, grad, self.eps, dx, dw),
            );
        });
        (dx, sum_rows(&partial, width))
    }
}

/// Sum of the rows, in order.
pub(super) fn sum_rows(rows: &[f32], width: usize) -> Vec<f32> {
    let mut total = vec![0.0; width];
    for row in rows.chunks_exact(width) {
        total.iter_mut().zip(row).for_each(|(total, x)| *total += x);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::super::check::Case;
    use super::super::reference;
    use super::*;

    #[test]
    fn it_agrees_with_the_reference() {
        for shape in [&[1, 3][..], &[5, 32], &[2, 3, 7, 33], &[700, 40]] {
            let width = shape[shape.len() - 1];
            Case::new(&[shape, &[width]]).check(|t| rms_norm(&t[0], &t[1], 1e-6), |t| reference::rms_norm(&t[0], &t[1], 1e-6));
        }
    }

    #[test]
    fn a_frozen_weight_gets_no_gradient() {
        let case = Case::new(&[&[4, 6, 19]]);
        let weight = case.constant(&[19]);
        case.check(|t| rms_norm(&t[0], &weight, 1e-5), |t| reference::rms_norm(&t[0], &weight, 1e-5));
    }
}
