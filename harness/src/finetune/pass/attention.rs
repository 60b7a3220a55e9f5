//! Causal attention of packed sequences, a block of query rows of one head at a time: the scores of a whole sequence never stand in memory
//! together. `p = softmax(q k^T / sqrt(D))`, `o = p v`; with `g` the gradient of `o`: `dv = p^T g`, `dp = g v^T`,
//! `ds = p (dp - rowdot(g, o)) / sqrt(D)`, `dq = ds k`, `dk = ds^T q` (Dao et al. 2022, but with whole rows of keys). `p` is computed anew
//! in the backward pass.

use std::ops::Range;

use crate::kernel::elementwise::{softmax, softmax_backward};
use crate::kernel::simd::{dot, vectorized};
use crate::kernel::{Matrix, Target, gemm};

/// Query rows in a block.
const BLOCK: usize = 64;

/// One sequence of a shard: where its rows lie, and the sizes.
#[derive(Clone, Copy)]
pub(super) struct Sequence {
    /// Its first row among queries, keys and values.
    pub first: usize,
    pub len: usize,
    /// Queries before this one are not asked: nothing behind the block reads their rows.
    pub start: usize,
    /// Row of the first asked query among the results.
    pub out: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub width: usize,
}

/// Buffers of a block.
#[derive(Debug, Default)]
pub(super) struct Scores {
    p: Vec<f32>,
    ds: Vec<f32>,
}

impl Sequence {
    /// Width of a row of queries, keys and values.
    fn row(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.width
    }

    fn scale(&self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }

    /// Column of the key and of the value that a query head looks at.
    fn key_value(&self, head: usize) -> (usize, usize) {
        let key = (self.heads + head / (self.heads / self.kv_heads)) * self.width;
        (key, key + self.kv_heads * self.width)
    }

    /// `count` rows from `first` on of the columns from `column` on.
    fn part<'a>(&self, qkv: &'a [f32], first: usize, count: usize, column: usize) -> Matrix<'a> {
        Matrix::strided(&qkv[(self.first + first) * self.row() + column..], count, self.width, self.row())
    }

    /// Probabilities of `count` query rows from `first` on over the keys that any of them sees, `[count, keys]`; gives those keys.
    fn probabilities(&self, qkv: &[f32], head: usize, first: usize, count: usize, window: usize, p: &mut Vec<f32>) -> Range<usize> {
        let seen = |row: usize| (row + 1).saturating_sub(window)..row + 1;
        let keys = seen(first).start..first + count;
        p.resize(count * keys.len(), 0.0);
        let k = self.part(qkv, keys.start, keys.len(), self.key_value(head).0);
        gemm(Target::serial(p, keys.len()), self.scale(), self.part(qkv, first, count, head * self.width), k.t());
        vectorized(
            #[inline(always)]
            || {
                for (offset, row) in p.chunks_exact_mut(keys.len()).enumerate() {
                    let seen = seen(first + offset);
                    let (past, rest) = row.split_at_mut(seen.start - keys.start);
                    let (seen, future) = rest.split_at_mut(seen.len());
                    past.fill(0.0);
                    softmax(seen);
                    future.fill(0.0);
                }
            },
        );
        keys
    }

    /// Number of queries that are asked.
    pub(super) fn asked(&self) -> usize {
        self.len - self.start
    }

    /// `o` of all heads into `out`, whose rows are `[H * D]`; a query sees `window` keys at most.
    pub(super) fn forward(&self, qkv: &[f32], window: usize, out: &mut [f32], scores: &mut Scores) {
        let out_row = self.heads * self.width;
        for head in 0..self.heads {
            for first in (self.start..self.len).step_by(BLOCK) {
                let count = BLOCK.min(self.len - first);
                let keys = self.probabilities(qkv, head, first, count, window, &mut scores.p);
                let v = self.part(qkv, keys.start, keys.len(), self.key_value(head).1);
                let to = &mut out[(self.out + first - self.start) * out_row + head * self.width..];
                gemm(Target::serial(to, out_row), 1.0, Matrix::new(&scores.p, count, keys.len()), v);
            }
        }
    }

    /// Writes the gradients of queries, and adds those of keys and values, in `d_qkv`, which must hold zeros there.
    pub(super) fn backward(&self, qkv: &[f32], window: usize, out: &[f32], grad: &[f32], d_qkv: &mut [f32], scores: &mut Scores) {
        for head in 0..self.heads {
            for first in (self.start..self.len).step_by(BLOCK) {
                self.backward_block(qkv, window, out, grad, d_qkv, scores, head, first);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the operands of one formula")]
    fn backward_block(
        &self,
        qkv: &[f32],
        window: usize,
        out: &[f32],
        grad: &[f32],
        d_qkv: &mut [f32],
        scores: &mut Scores,
        head: usize,
        first: usize,
    ) {
        let (width, row, out_row) = (self.width, self.row(), self.heads * self.width);
        let count = BLOCK.min(self.len - first);
        let (key, value) = self.key_value(head);
        let keys = self.probabilities(qkv, head, first, count, window, &mut scores.p);
        let (from, keys) = (keys.start, keys.len());
        let start = (self.out + first - self.start) * out_row + head * width;
        let (out, grad) = (&out[start..], &grad[start..]);
        let g = Matrix::strided(grad, count, width, out_row);
        let p = Matrix::new(&scores.p, count, keys);
        let at = |row_index: usize, column: usize| (self.first + row_index) * row + column;
        gemm(Target::serial(&mut d_qkv[at(from, value)..], row).adding(), 1.0, p.t(), g);
        scores.ds.resize(count * keys, 0.0);
        gemm(Target::serial(&mut scores.ds, keys), 1.0, g, self.part(qkv, from, keys, value).t());
        let scale = self.scale();
        let lines = scores.ds.chunks_exact_mut(keys).zip(scores.p.chunks_exact(keys)).enumerate();
        vectorized(
            #[inline(always)]
            || {
                for (offset, (ds, p)) in lines {
                    softmax_backward(ds, p, dot(&grad[offset * out_row..][..width], &out[offset * out_row..][..width]), scale);
                }
            },
        );
        let ds = Matrix::new(&scores.ds, count, keys);
        gemm(Target::serial(&mut d_qkv[at(first, head * width)..], row), 1.0, ds, self.part(qkv, from, keys, key));
        gemm(Target::serial(&mut d_qkv[at(from, key)..], row).adding(), 1.0, ds.t(), self.part(qkv, first, count, head * width));
    }
}
