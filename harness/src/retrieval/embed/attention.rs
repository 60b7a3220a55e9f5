//! Attention within one text: every token sees every other.

use super::encoder::sized;
use crate::kernel::simd::{exp_in_place, max, vectorized};
use crate::kernel::{PANEL_COLUMNS, Panels, Rows, Team, multiply_panels};

/// Query rows whose scores are held at a time.
const QUERY_BLOCK: usize = 48;

/// From how many multiply-adds of scores on the threads share a text's heads.
const PARALLEL: usize = 1 << 18;

/// How the hidden units are split.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    pub count: usize,
    pub width: usize,
}

impl Heads {
    fn hidden(self) -> usize {
        self.count * self.width
    }
}

/// Buffers of a text's attention.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    /// Those of one head after the other when one thread computes, else one for each head.
    heads: Vec<HeadBuffers>,
}

/// Buffers of one head.
#[derive(Debug, Default)]
struct HeadBuffers {
    /// `[L, D]`, scaled by `1 / sqrt(D)`.
    queries: Vec<f32>,
    /// `[L / 32][D][32]`: 32 scores are computed at a time.
    keys: Vec<f32>,
    /// `[D / 32][L][32]`: the mixture runs over positions.
    values: Vec<f32>,
    /// `[QUERY_BLOCK, L]`.
    scores: Vec<f32>,
    /// `[L, D]`.
    mixed: Vec<f32>,
}

/// `mixed = softmax(q k^T / sqrt(D)) v` for each head of one text. `qkv` is `[L, 3 H D]` without its bias.
pub(super) fn attend(heads: Heads, qkv: &[f32], bias: &[f32], mixed: &mut [f32], work: &mut Workspace, team: &Team) {
    let length = mixed.len() / heads.hidden();
    if team.threads() > 1 && length * length * heads.hidden() >= PARALLEL {
        work.heads.resize_with(work.heads.len().max(heads.count), HeadBuffers::default);
        let buffers = &mut work.heads[..heads.count];
        team.each(buffers.iter_mut().enumerate().collect(), |(head, buffers)| buffers.attend(heads, head, qkv, bias));
        for (head, buffers) in buffers.iter().enumerate() {
            buffers.copy_to(heads, head, mixed);
        }
    } else {
        work.heads.resize_with(work.heads.len().max(1), HeadBuffers::default);
        for head in 0..heads.count {
            work.heads[0].attend(heads, head, qkv, bias);
            work.heads[0].copy_to(heads, head, mixed);
        }
    }
}

impl HeadBuffers {
    /// One head into `self.mixed`.
    fn attend(&mut self, heads: Heads, head: usize, qkv: &[f32], bias: &[f32]) {
        let (width, length) = (heads.width, qkv.len() / (3 * heads.hidden()));
        self.place(heads, head, qkv, bias);
        let keys = Panels { data: &self.keys, stride: PANEL_COLUMNS * width, depth: width, cols: length };
        let values = Panels { data: &self.values, stride: PANEL_COLUMNS * length, depth: length, cols: width };
        let mixed = sized(&mut self.mixed, length * width);
        for (queries, mixed) in self.queries.chunks(QUERY_BLOCK * width).zip(mixed.chunks_mut(QUERY_BLOCK * width)) {
            let count = queries.len() / width;
            let scores = sized(&mut self.scores, count * length);
            multiply_panels(Rows { data: queries, count, stride: width }, keys, scores, length, false);
            let mut inverses = [0f32; QUERY_BLOCK];
            vectorized(
                #[inline(always)]
                || {
                    for (row, inverse) in scores.chunks_exact_mut(length).zip(&mut inverses) {
                        *inverse = 1.0 / exp_in_place(row, max(row));
                    }
                },
            );
            multiply_panels(Rows { data: scores, count, stride: length }, values, mixed, width, false);
            // A head is narrower than most texts are long: the mixture is scaled, not the weights.
            for (row, inverse) in mixed.chunks_exact_mut(width).zip(inverses) {
                row.iter_mut().for_each(|x| *x *= inverse);
            }
        }
    }

    /// Queries, keys and values of a head with their bias, laid out for the products.
    fn place(&mut self, heads: Heads, head: usize, qkv: &[f32], bias: &[f32]) {
        let (width, hidden) = (heads.width, heads.hidden());
        let length = qkv.len() / (3 * hidden);
        let scale = 1.0 / (width as f32).sqrt();
        let part = |of: usize| of * hidden + head * width..of * hidden + (head + 1) * width;
        let queries = sized(&mut self.queries, length * width);
        let keys = sized(&mut self.keys, length.next_multiple_of(PANEL_COLUMNS) * width);
        let values = sized(&mut self.values, width.next_multiple_of(PANEL_COLUMNS) * length);
        for (position, line) in qkv.chunks_exact(3 * hidden).enumerate() {
            let with_bias = |of: usize| line[part(of)].iter().zip(&bias[part(of)]).map(|(x, bias)| x + bias);
            for (to, query) in queries[position * width..][..width].iter_mut().zip(with_bias(0)) {
                *to = query * scale;
            }
            let panel = &mut keys[position / PANEL_COLUMNS * PANEL_COLUMNS * width..][..PANEL_COLUMNS * width];
            for (to, key) in panel.chunks_exact_mut(PANEL_COLUMNS).zip(with_bias(1)) {
                to[position % PANEL_COLUMNS] = key;
            }
            for (component, value) in with_bias(2).enumerate() {
                values[(component / PANEL_COLUMNS * length + position) * PANEL_COLUMNS + component % PANEL_COLUMNS] = value;
            }
        }
    }

    /// Copies the result to this head's columns of `[L, H D]`.
    fn copy_to(&self, heads: Heads, head: usize, mixed: &mut [f32]) {
        for (from, to) in self.mixed.chunks_exact(heads.width).zip(mixed.chunks_exact_mut(heads.hidden())) {
            to[head * heads.width..][..heads.width].copy_from_slice(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// The formula, in 64-bit floats.
    fn slow(heads: Heads, qkv: &[f32], bias: &[f32]) -> Vec<f64> {
        let (hidden, length) = (heads.hidden(), qkv.len() / (3 * heads.hidden()));
        let at = |position: usize, part: usize, unit: usize| {
            f64::from(qkv[position * 3 * hidden + part * hidden + unit]) + f64::from(bias[part * hidden + unit])
        };
        let mut mixed = vec![0.0; length * hidden];
        for head in 0..heads.count {
            let units = head * heads.width..(head + 1) * heads.width;
            for query in 0..length {
                let score = |key: usize| {
                    let product: f64 = units.clone().map(|unit| at(query, 0, unit) * at(key, 1, unit)).sum();
                    (product / (heads.width as f64).sqrt()).exp()
                };
                let weights: Vec<f64> = (0..length).map(score).collect();
                let total: f64 = weights.iter().sum();
                for unit in units.clone() {
                    mixed[query * hidden + unit] = (0..length).map(|key| weights[key] / total * at(key, 2, unit)).sum();
                }
            }
        }
        mixed
    }

    #[test]
    fn attention_equals_the_formula_on_one_thread_and_on_several() {
        let mut rng = Rng::new(3, "attention");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let mut work = Workspace::default();
        for (count, width) in [(4, 8), (2, 40), (3, 32)] {
            let heads = Heads { count, width };
            for length in [1, 31, 33, 100] {
                let mut random = |n: usize| (0..n).map(|_| rng.normal() as f32).collect::<Vec<_>>();
                let (qkv, bias) = (random(length * 3 * heads.hidden()), random(3 * heads.hidden()));
                let mut alone = vec![f32::NAN; length * heads.hidden()];
                attend(heads, &qkv, &bias, &mut alone, &mut work, &Team::solo());
                for (fast, slow) in alone.iter().zip(slow(heads, &qkv, &bias)) {
                    assert!((f64::from(*fast) - slow).abs() < 1e-5, "{fast} is not {slow}, {heads:?}, length {length}");
                }
                let mut shared = vec![f32::NAN; alone.len()];
                pool.install(|| crate::kernel::with_team(3, |team| attend(heads, &qkv, &bias, &mut shared, &mut work, team)));
                assert_eq!(alone, shared, "{heads:?}, length {length}");
            }
        }
    }
}
