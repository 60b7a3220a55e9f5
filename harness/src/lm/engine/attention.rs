//! Attention of some query rows of one sequence over what its cache holds.

use std::cell::RefCell;

use crate::kernel::elementwise::{softcap, softmax};
use crate::kernel::simd::vectorized;
use crate::kernel::{PANEL_COLUMNS, Rows, multiply_panels};

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
    /// Positions that a query sees at most, its own included.
    pub window: usize,
    /// Bound of the scores.
    pub softcap: Option<f32>,
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

    /// `softmax(q k^T) v` for rows that each see the positions before `seen(row)`, as far back as the window reaches.
    ///
    /// Panels that no row sees are left out. Their shares would be zeros at the start of a sum, so a row's bits do not depend on what is left
    /// out for the rows beside it.
    fn attend(&self, kv_head: usize, rows: Rows, seen: impl Fn(usize) -> usize, out: &mut [f32], out_stride: usize) {
        let hidden_before = |row: usize| seen(row).saturating_sub(self.window);
        let whole = |position: usize| position / PANEL_COLUMNS * PANEL_COLUMNS;
        let before = self.cache.prefix_len();
        let (first, own_first) = match hidden_before(0).checked_sub(before) {
            None => (whole(hidden_before(0)), 0),
            Some(hidden) => (before, whole(hidden)),
        };
        // Positions of the prefix, and the first position whose score is computed.
        let (shared, base) = (before - first, first + own_first);
        let width = seen(rows.count - 1) - base;
        let own = width - shared;
        SCORES.with_borrow_mut(|scores| {
            scores.resize(rows.count * width, 0.0);
            let prefix = self.cache.prefix().filter(|_| shared > 0);
            if let Some(prefix) = prefix {
                multiply_panels(rows, prefix.key_panels(self.layer, kv_head, first, shared), scores, width, false);
            }
            let keys = self.cache.key_panels(self.layer, kv_head, own_first, own);
            multiply_panels(rows, keys, &mut scores[shared..], width, false);
            vectorized(
                #[inline(always)]
                || {
                    for (row, scores) in scores.chunks_exact_mut(width).enumerate() {
                        let (past, rest) = scores.split_at_mut(hidden_before(row).saturating_sub(base));
                        let (visible, future) = rest.split_at_mut(seen(row) - base - past.len());
                        past.fill(0.0);
                        if let Some(bound) = self.softcap {
                            softcap(visible, bound);
                        }
                        softmax(visible);
                        future.fill(0.0);
                    }
                },
            );
            if let Some(prefix) = prefix {
                let shares = Rows { data: scores, count: rows.count, stride: width };
                multiply_panels(shares, prefix.value_panels(self.layer, kv_head, first, shared), out, out_stride, false);
            }
            let shares = Rows { data: &scores[shared..], count: rows.count, stride: width };
            let values = self.cache.value_panels(self.layer, kv_head, own_first, own);
            multiply_panels(shares, values, out, out_stride, shared > 0);
        });
    }
}
