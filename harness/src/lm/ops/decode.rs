//! Attention of a single query position: generation's inner loop. Keys and values are read once, in place, for all query heads that share
//! them.

use crate::kernel::elementwise::softmax as normalize;
use crate::kernel::simd::{dot, vectorized};

/// One sequence's queries `[heads, D]` and where its keys and values lie.
pub(super) struct Step<'a> {
    /// Query heads, one after the other.
    pub queries: Vec<&'a [f32]>,
    /// Key rows by key head.
    pub keys: Vec<Rows<'a>>,
    /// Value rows by key head.
    pub values: Vec<Rows<'a>>,
    /// Number of keys.
    pub count: usize,
}

/// Rows of `width` elements, `stride` apart.
pub(super) struct Rows<'a> {
    /// From the first row's first element on.
    pub data: &'a [f32],
    /// Elements of a row.
    pub width: usize,
    /// Distance of two rows' starts.
    pub stride: usize,
}

impl Rows<'_> {
    #[inline(always)]
    fn get(&self, index: usize) -> &[f32] {
        &self.data[index * self.stride..][..self.width]
    }
}

/// `softmax(q k^T / sqrt(D) + mask) v` into `out` `[heads, D]`.
pub(super) fn attend(step: &Step, mask: Option<&[f32]>, out: &mut [f32]) {
    let group = step.queries.len() / step.keys.len();
    let width = out.len() / step.queries.len();
    let mut scores = vec![0.0; group * step.count];
    let outs = out.chunks_exact_mut(group * width);
    for (((keys, values), queries), out) in step.keys.iter().zip(&step.values).zip(step.queries.chunks_exact(group)).zip(outs) {
        vectorized(
            #[inline(always)]
            || {
                score(keys, queries, step.count, &mut scores);
                for (scores, out) in scores.chunks_exact_mut(step.count).zip(out.chunks_exact_mut(width)) {
                    if let Some(mask) = mask {
                        scores.iter_mut().zip(mask).for_each(|(score, mask)| *score += mask);
                    }
                    normalize(scores);
                    mix(scores, values, out);
                }
            },
        );
    }
}

#[inline(always)]
fn score(keys: &Rows, queries: &[&[f32]], count: usize, scores: &mut [f32]) {
    let scale = 1.0 / (keys.width as f32).sqrt();
    for index in 0..count {
        let key = keys.get(index);
        for (member, query) in queries.iter().enumerate() {
            scores[member * count + index] = dot(query, key) * scale;
        }
    }
}

/// `out = sum p v`; masked positions (left padding) are skipped.
#[inline(always)]
fn mix(probabilities: &[f32], values: &Rows, out: &mut [f32]) {
    out.fill(0.0);
    for (index, p) in probabilities.iter().enumerate() {
        if *p != 0.0 {
            for (out, v) in out.iter_mut().zip(values.get(index)) {
                *out += p * v;
            }
        }
    }
}
