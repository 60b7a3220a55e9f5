//! Attention of some query rows of one sequence over what its cache holds.

use std::cell::RefCell;

use crate::kernel::elementwise::softmax;
use crate::kernel::simd::vectorized;
use crate::kernel::{Rows, multiply_panels};

use super::cache::SequenceCache;

/// Query rows that are computed together.
pub(super) const QUERY_BLOCK: usize = 48;

/// What a unit of attention reads.
#[derive(Clone, Copy)]
pub(super) struct Queries<'a> {
    /// The cache, with the keys and values of these queries stored and not yet counted.
    pub cache: &'a SequenceCache,
    pub layer: usize,
    /// From the first query row's first head on; scaled by `1 / sqrt(D)`.
    pub data: &'a [f32],
    /// Distance of two query rows.
    pub stride: usize,
    /// Number of query rows.
    pub count: usize,
    /// Position of the first one, prefix included.
    pub position: usize,
    /// Width of a head.
    pub width: usize,
    /// Query heads per key head.
    pub group: usize,
}

thread_local! {
    static SCORES: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

impl Queries<'_> {
    /// One query row, the query heads of one key head: `out` is `[group * D]`, `data` starts at the first of those heads.
    pub(super) fn attend_group(&self, kv_head: usize, out: &mut [f32]) {
        // The heads of a group are rows of one product: keys are read once for all of them.
        let heads = Rows { data: self.data, count: self.group, stride: self.width };
        self.attend(kv_head, heads, |_| self.position + 1, out, self.width);
    }

    /// All heads of the query rows: `out` is `[count, H * D]`.
    pub(super) fn attend_rows(&self, kv_heads: usize, out: &mut [f32]) {
        let row = kv_heads * self.group * self.width;
        for head in 0..kv_heads * self.group {
            let rows = Rows { data: &self.data[head * self.width..], count: self.count, stride: self.stride };
            self.attend(head / self.group, rows, |row| self.position + row + 1, &mut out[head * self.width..], row);
        }
    }

    /// `softmax(q k^T) v` for rows that each see the first `seen(row)` positions.
    fn attend(&self, kv_head: usize, rows: Rows, seen: impl Fn(usize) -> usize, out: &mut [f32], out_stride: usize) {
        let total = seen(rows.count - 1);
        let before = self.cache.prefix_len();
        let own = total - before;
        SCORES.with_borrow_mut(|scores| {
            scores.resize(rows.count * total, 0.0);
            if let Some(prefix) = self.cache.prefix() {
                multiply_panels(rows, prefix.key_panels(self.layer, kv_head, before), scores, total, false);
            }
            multiply_panels(rows, self.cache.key_panels(self.layer, kv_head, own), &mut scores[before..], total, false);
            vectorized(
                #[inline(always)]
                || {
                    for (row, scores) in scores.chunks_exact_mut(total).enumerate() {
                        let (visible, hidden) = scores.split_at_mut(seen(row));
                        softmax(visible);
                        hidden.fill(0.0);
                    }
                },
            );
            if let Some(prefix) = self.cache.prefix() {
                let shares = Rows { data: scores, count: rows.count, stride: total };
                multiply_panels(shares, prefix.value_panels(self.layer, kv_head, before), out, out_stride, false);
            }
            let shares = Rows { data: &scores[before..], count: rows.count, stride: total };
            multiply_panels(shares, self.cache.value_panels(self.layer, kv_head, own), out, out_stride, before > 0);
        });
    }
}
