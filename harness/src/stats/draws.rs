//! Random weights of clusters, and the weighted sums that they give: the loop under bootstrap and permutation.
//!
//! One row of small whole numbers per draw. All columns go through a row together, so the draws are paid for once, and each column is summed
//! over clusters in their order, so neither threads nor the width of vector registers change a bit.

use rayon::prelude::*;

/// Columns that are summed side by side.
const WIDTH: usize = 8;
/// Draws per task: they share a pass over the columns.
const TASK: usize = 16;
/// Clusters per block: what is summed at a time stays in the nearest cache.
const BLOCK: usize = 256;
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
        let width = lanes.groups.len() * WIDTH;
        let mut sums = vec![0.0; self.count * width];
        if width > 0 && self.clusters > 0 {
            sums.par_chunks_mut(width * TASK).enumerate().for_each(|(task, sums)| self.task(task * TASK, lanes, width, sums));
        }
        Weighted { sums, width }
    }

    fn task(&self, first: usize, lanes: &Lanes, width: usize, sums: &mut [f64]) {
        let rows = sums.len() / width;
        let mut anew = Vec::new();
        let weights = if self.kept.is_empty() {
            anew.resize(rows * self.clusters, 0);
            anew.chunks_mut(self.clusters).enumerate().for_each(|(row, weights)| (self.fill)(weights, self.seed, (first + row) as u64));
            &anew
        } else {
            &self.kept[first * self.clusters..(first + rows) * self.clusters]
        };
        for start in (0..self.clusters).step_by(BLOCK) {
            let block = start..(start + BLOCK).min(self.clusters);
            for (group, values) in lanes.groups.iter().enumerate() {
                for (row, weights) in weights.chunks(self.clusters).enumerate() {
                    let at = row * width + group * WIDTH;
                    let sums: &mut [f64; WIDTH] = (&mut sums[at..at + WIDTH]).try_into().expect("a group is that wide");
                    add(sums, &weights[block.clone()], &values[block.clone()]);
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

fn add(sums: &mut [f64; WIDTH], weights: &[u8], values: &[[f64; WIDTH]]) {
    let mut held = *sums;
    for (weight, values) in weights.iter().zip(values) {
        let weight = f64::from(*weight);
        for (sum, value) in held.iter_mut().zip(values) {
            *sum += weight * value;
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

/// Weighted sums: a row per draw.
pub(super) struct Weighted {
    sums: Vec<f64>,
    width: usize,
}

impl Weighted {
    /// One column's sums, by draw.
    pub(super) fn of(&self, column: usize) -> impl Iterator<Item = f64> + '_ {
        self.sums.chunks(self.width.max(1)).map(move |row| row[column])
    }
}
