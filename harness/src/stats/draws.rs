//! Random weights of clusters, and the weighted sums that they give: the loop under bootstrap and permutation.
//!
//! One row of small whole numbers per draw. All columns go through a row together, so the draws are paid for once, and each column is summed
//! over clusters in their order, so neither threads nor the width of vector registers change a bit.

use rayon::prelude::*;

use crate::kernel::simd::vectorized;

/// Columns that are summed side by side.
const WIDTH: usize = 8;
/// Draws that are summed side by side: their sums and a row of columns fill the registers.
const ROWS: usize = 4;
/// Draws per task: they share a pass over the columns.
const TASK: usize = 4 * ROWS;
/// Clusters per block: what is summed at a time stays in the nearest cache.
const BLOCK: usize = 128;
/// Bytes of draws that are kept; more are made anew for every call, with the same result.
const KEPT: usize = 16 << 20;

/// Turns a row of zeros into the draw of a seed and a number.
type Fill = fn(&mut [u8], u64, u64);

/// Weights of clusters by draw.
#[derive(Debug, Clone)]
pub(super) struct Draws {
    clusters: usize,
    count: usize,
    seed: u64,
    fill: Fill,
    kept: Vec<u8>,
}

impl Draws {
    /// `count` draws. Every row has a stream of its own, so threads cannot change it.
    pub(super) fn new(clusters: usize, count: usize, seed: u64, fill: Fill) -> Self {
        let mut kept = Vec::new();
        if clusters > 0 && clusters.saturating_mul(count) <= KEPT {
            kept = vec![0; clusters * count];
            kept.par_chunks_mut(clusters).enumerate().for_each(|(number, row)| fill(row, seed, number as u64));
        }
        Self { clusters, count, seed, fill, kept }
    }

    /// The weighted sums of every column under every draw.
    pub(super) fn weighted(&self, lanes: &Lanes) -> Weighted {
        let mut groups = vec![vec![[0.0; WIDTH]; self.count]; lanes.groups.len()];
        let mut tasks: Vec<Vec<&mut [[f64; WIDTH]]>> = (0..self.count.div_ceil(TASK)).map(|_| Vec::new()).collect();
        for group in &mut groups {
            tasks.iter_mut().zip(group.chunks_mut(TASK)).for_each(|(task, sums)| task.push(sums));
        }
        if self.clusters > 0 && !lanes.groups.is_empty() {
            tasks.into_par_iter().enumerate().for_each(|(task, mut sums)| self.task(task * TASK, lanes, &mut sums));
        }
        Weighted { groups }
    }

    /// Sums of the draws from `first` on, by group of columns.
    fn task(&self, first: usize, lanes: &Lanes, sums: &mut [&mut [[f64; WIDTH]]]) {
        let rows = sums[0].len();
        let mut anew = Vec::new();
        let weights = if self.kept.is_empty() {
            anew.resize(rows * self.clusters, 0);
            anew.chunks_mut(self.clusters).enumerate().for_each(|(row, weights)| (self.fill)(weights, self.seed, (first + row) as u64));
            &anew
        } else {
            &self.kept[first * self.clusters..(first + rows) * self.clusters]
        };
        let mut wide = [[[0.0; ROWS]; BLOCK]; TASK / ROWS];
        for start in (0..self.clusters).step_by(BLOCK) {
            let block = start..(start + BLOCK).min(self.clusters);
            for (wide, rows) in wide.iter_mut().zip(weights.chunks(self.clusters * ROWS)) {
                // Of fewer rows the last one stands in for those that are missing; their sums are dropped.
                let row = |row: usize| &rows[row.min(rows.len() / self.clusters - 1) * self.clusters..][block.clone()];
                let rows: [&[u8]; ROWS] = std::array::from_fn(row);
                vectorized(
                    #[inline(always)]
                    || widen(wide, rows),
                );
            }
            for (sums, values) in sums.iter_mut().zip(&lanes.groups) {
                for (sums, wide) in sums.chunks_mut(ROWS).zip(&wide) {
                    let mut held = [[0.0; WIDTH]; ROWS];
                    held[..sums.len()].copy_from_slice(sums);
                    vectorized(
                        #[inline(always)]
                        || add(&mut held, wide, &values[block.clone()]),
                    );
                    sums.copy_from_slice(&held[..sums.len()]);
                }
            }
        }
    }

    /// Keeps no draws, as if there were too many.
    #[cfg(test)]
    pub(super) fn forget(&mut self) {
        self.kept = Vec::new();
    }

    /// The draws themselves, for tests.
    #[cfg(test)]
    pub(super) fn rows(&self) -> Vec<Vec<u8>> {
        let row = |number| {
            let mut row = vec![0; self.clusters];
            (self.fill)(&mut row, self.seed, number as u64);
            row
        };
        (0..self.count).map(row).collect()
    }
}

/// The weights of a few draws side by side.
#[inline(always)]
fn widen(wide: &mut [[f64; ROWS]; BLOCK], rows: [&[u8]; ROWS]) {
    for (row, weights) in rows.into_iter().enumerate() {
        for (wide, weight) in wide.iter_mut().zip(weights) {
            wide[row] = f64::from(*weight);
        }
    }
}

/// Adds the clusters' values, weighted, to the sums of a few draws.
#[inline(always)]
fn add(sums: &mut [[f64; WIDTH]; ROWS], weights: &[[f64; ROWS]], values: &[[f64; WIDTH]]) {
    let mut held = *sums;
    for (weights, values) in weights.iter().zip(values) {
        for row in 0..ROWS {
            for lane in 0..WIDTH {
                held[row][lane] += weights[row] * values[lane];
            }
        }
    }
    *sums = held;
}

/// Columns of values per cluster, eight side by side.
pub(super) struct Lanes {
    groups: Vec<Vec<[f64; WIDTH]>>,
}

impl Lanes {
    pub(super) fn new(columns: &[&[f64]], clusters: usize) -> Self {
        let group = |columns: &[&[f64]]| {
            let mut values = vec![[0.0; WIDTH]; clusters];
            for (lane, column) in columns.iter().enumerate() {
                values.iter_mut().zip(*column).for_each(|(values, value)| values[lane] = *value);
            }
            values
        };
        Self { groups: columns.chunks(WIDTH).map(group).collect() }
    }
}

/// Weighted sums: of each group of columns a row per draw.
pub(super) struct Weighted {
    groups: Vec<Vec<[f64; WIDTH]>>,
}

impl Weighted {
    /// One column's sums, by draw.
    pub(super) fn of(&self, column: usize) -> impl Iterator<Item = f64> + '_ {
        self.groups[column / WIDTH].iter().map(move |row| row[column % WIDTH])
    }
}
