//! The last norm, the vocabulary head and the loss: forward and backward in one, some rows at a time, so that the logits of all positions
//! never stand in memory together.

use crate::kernel::elementwise::{cross_entropy, rms_norm};
use crate::kernel::simd::vectorized;
use crate::kernel::{Matrix, Target, gemm};

use super::block::{norm_backward, sized};
use super::slots::Slot;

/// Logits that may stand in memory at a time: 32 MiB. The head's weights are read once for all rows of a chunk, so chunks should not be small.
const LOGITS: usize = 1 << 23;

/// The last norm and the head.
pub(super) struct Head<'a> {
    pub norm: &'a [f32],
    pub eps: f32,
    /// `[V, C]`.
    pub weight: &'a [f32],
    pub norm_slot: Slot,
    pub slot: Slot,
    pub parallel: bool,
}

/// A row whose prediction counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Label {
    /// Row of what the last block gave.
    pub row: usize,
    pub target: u32,
    /// Already divided by the normaliser.
    pub weight: f32,
}

/// Buffers of the head.
#[derive(Debug, Default)]
pub(super) struct HeadScratch {
    picked: Vec<f32>,
    normed: Vec<f32>,
    d_normed: Vec<f32>,
    d_picked: Vec<f32>,
    logits: Vec<f32>,
}

impl Head<'_> {
    /// The loss of the labels given the residual stream `x` behind the last block. With `d_x`, its gradient is written there, zero for rows
    /// without a label, and those of the weights are added.
    pub(super) fn loss(
        &self,
        x: &[f32],
        labels: &[Label],
        scratch: &mut HeadScratch,
        d_x: Option<&mut Vec<f32>>,
        gradients: &mut [Vec<f32>],
    ) -> f64 {
        let hidden = self.norm.len();
        let HeadScratch { picked, normed, d_normed, d_picked, logits } = scratch;
        picked.clear();
        labels.iter().for_each(|label| picked.extend_from_slice(&x[label.row * hidden..][..hidden]));
        let normed = sized(normed, picked.len());
        vectorized(
            #[inline(always)]
            || rms_norm(picked, self.norm, self.eps, normed),
        );
        let d_normed = sized(d_normed, picked.len());
        let vocabulary = self.weight.len() / hidden;
        let rows = (LOGITS / vocabulary).clamp(16, 512);
        let mut loss = 0.0;
        for (chunk, labels) in labels.chunks(rows).enumerate() {
            let range = chunk * rows * hidden..(chunk * rows + labels.len()) * hidden;
            let states = Matrix::new(&normed[range.clone()], labels.len(), hidden);
            let weight = Matrix::new(self.weight, vocabulary, hidden);
            let logits = sized(logits, labels.len() * vocabulary);
            gemm(self.target(logits, vocabulary, false), 1.0, states, weight.t());
            for (line, label) in logits.chunks_exact_mut(vocabulary).zip(labels) {
                loss += vectorized(
                    #[inline(always)]
                    || cross_entropy(line, label.target as usize, label.weight),
                );
            }
            if d_x.is_none() {
                continue;
            }
            let d_logits = Matrix::new(logits, labels.len(), vocabulary);
            gemm(self.target(&mut d_normed[range], hidden, false), 1.0, d_logits, weight);
            if let Some(slot) = self.slot {
                gemm(self.target(&mut gradients[slot], hidden, true), 1.0, d_logits.t(), states);
            }
        }
        if let Some(d_x) = d_x {
            norm_backward(picked, self.norm, d_normed, self.eps, self.norm_slot, d_picked, gradients);
            d_x.clear();
            d_x.resize(x.len(), 0.0);
            for (label, gradient) in labels.iter().zip(d_picked.chunks_exact(hidden)) {
                // A row can have one label only, but a sum would also be right.
                d_x[label.row * hidden..][..hidden].iter_mut().zip(gradient).for_each(|(sum, d)| *sum += d);
            }
        }
        loss
    }

    fn target<'t>(&self, data: &'t mut [f32], row_stride: usize, accumulate: bool) -> Target<'t> {
        Target { data, row_stride, accumulate, parallel: self.parallel }
    }
}
