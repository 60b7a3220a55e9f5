//! A linear layer with an adapter beside it: `t = x A^T`, `y = x W^T + b + s t B^T`; with `g` the gradient of `y`: `dt = s g B`,
//! `dx = g W + dt A`, `dW = g^T x`, `dA = dt^T x`, `dB = s g^T t`. A frozen weight has no gradient, and none is computed.

use crate::kernel::{Matrix, Target, gemm};

use super::slots::LinearSlots;

/// A linear layer's weights and where their gradients go.
#[derive(Clone, Copy)]
pub(super) struct Linear<'a> {
    pub weight: &'a [f32],
    pub bias: Option<&'a [f32]>,
    /// `A` `[r, in]`, `B` `[out, r]`.
    pub pair: Option<(&'a [f32], &'a [f32])>,
    pub scale: f32,
    pub inputs: usize,
    pub outputs: usize,
    pub slots: LinearSlots,
    pub parallel: bool,
}

/// Columns of a wider buffer: row `i` starts at `start + i * stride`.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    pub start: usize,
    pub stride: usize,
}

impl Linear<'_> {
    pub(super) fn rank(&self) -> usize {
        self.pair.map_or(0, |(a, _)| a.len() / self.inputs)
    }

    fn target<'t>(&self, data: &'t mut [f32], row_stride: usize, accumulate: bool) -> Target<'t> {
        Target { data, row_stride, accumulate, parallel: self.parallel }
    }

    /// Writes `y` into its columns (or adds to what is there), and `t` into `low`.
    pub(super) fn forward(&self, x: &[f32], y: &mut [f32], at: Columns, add: bool, low: &mut Vec<f32>) {
        let rows = x.len() / self.inputs;
        let y = &mut y[at.start..];
        if let Some(bias) = self.bias {
            for row in 0..rows {
                let line = &mut y[row * at.stride..][..self.outputs];
                line.iter_mut().zip(bias).for_each(|(y, bias)| *y = if add { *y + bias } else { *bias });
            }
        }
        let left = Matrix::new(x, rows, self.inputs);
        let weight = Matrix::new(self.weight, self.outputs, self.inputs);
        gemm(self.target(y, at.stride, add || self.bias.is_some()), 1.0, left, weight.t());
        let Some((a, b)) = self.pair else { return };
        let rank = self.rank();
        low.resize(rows * rank, 0.0);
        gemm(self.target(low, rank, false), 1.0, left, Matrix::new(a, rank, self.inputs).t());
        let b = Matrix::new(b, self.outputs, rank);
        gemm(self.target(y, at.stride, true), self.scale, Matrix::new(low, rows, rank), b.t());
    }

    /// Adds the gradients of weights and adapter; writes `dx` (or adds to it), unless nobody asks for it.
    #[expect(clippy::too_many_arguments, reason = "the operands of one formula")]
    pub(super) fn backward(
        &self,
        x: &[f32],
        grad: &[f32],
        at: Columns,
        low: &[f32],
        dx: Option<(&mut [f32], bool)>,
        down: &mut Vec<f32>,
        gradients: &mut [Vec<f32>],
    ) {
        let rows = x.len() / self.inputs;
        let g = Matrix::strided(&grad[at.start..], rows, self.outputs, at.stride);
        let left = Matrix::new(x, rows, self.inputs);
        if let Some(slot) = self.slots.weight {
            gemm(self.target(&mut gradients[slot], self.inputs, true), 1.0, g.t(), left);
        }
        if let Some(slot) = self.slots.bias {
            let sums = &mut gradients[slot];
            for row in 0..rows {
                sums.iter_mut().zip(&grad[at.start + row * at.stride..]).for_each(|(sum, g)| *sum += g);
            }
        }
        let rank = self.rank();
        if let Some((_, b)) = self.pair {
            down.resize(rows * rank, 0.0);
            gemm(self.target(down, rank, false), self.scale, g, Matrix::new(b, self.outputs, rank));
            if let Some(slot) = self.slots.a {
                gemm(self.target(&mut gradients[slot], self.inputs, true), 1.0, Matrix::new(down, rows, rank).t(), left);
            }
            if let Some(slot) = self.slots.b {
                gemm(self.target(&mut gradients[slot], rank, true), self.scale, g.t(), Matrix::new(low, rows, rank));
            }
        }
        if let Some((dx, add)) = dx {
            gemm(self.target(dx, self.inputs, add), 1.0, g, Matrix::new(self.weight, self.outputs, self.inputs));
            if let Some((a, _)) = self.pair {
                gemm(self.target(dx, self.inputs, true), 1.0, Matrix::new(down, rows, rank), Matrix::new(a, rank, self.inputs));
            }
        }
    }
}
