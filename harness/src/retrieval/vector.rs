//! Vectors side by side in memory, and the one inner product that every similarity here is computed with.

use crate::kernel::simd;

/// Inner product of two vectors of one length; the same bits on every processor.
pub fn dot(left: &[f32], right: &[f32]) -> f32 {
    debug_assert_eq!(left.len(), right.len());
    simd::vectorized(
        #[inline(always)]
        || simd::dot(left, right),
    )
}

/// Scales a vector to unit length; the zero vector stays zero.
pub fn normalise(vector: &mut [f32]) {
    let length = dot(vector, vector).sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value /= length);
    }
}

/// Vectors of one dimension, row after row.
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    dimension: usize,
    values: Vec<f32>,
}

impl Vectors {
    /// Copies rows of one length, which must be `dimension`.
    pub fn from_rows(dimension: usize, rows: &[Vec<f32>]) -> Self {
        assert!(dimension > 0 && rows.iter().all(|row| row.len() == dimension), "rows of one positive dimension");
        Self { dimension, values: rows.concat() }
    }

    /// Length of a row.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.dimension
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// One row.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.dimension..][..self.dimension]
    }

    /// All rows in order.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.dimension)
    }

    /// Bytes of the values.
    pub fn bytes(&self) -> u64 {
        (self.values.len() * size_of::<f32>()) as u64
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::normalise;
    use crate::rng::Rng;

    /// Random directions, uniform on the sphere.
    pub fn random_units(n: usize, dimension: usize, seed: u64) -> Vec<Vec<f32>> {
        let mut rng = Rng::new(seed, "unit vectors");
        let row = |rng: &mut Rng| {
            let mut row: Vec<f32> = (0..dimension).map(|_| rng.normal() as f32).collect();
            normalise(&mut row);
            row
        };
        (0..n).map(|_| row(&mut rng)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_equals_the_plain_sum_at_lengths_off_the_lane_width() {
        for n in [0, 1, 15, 16, 17, 50] {
            let a: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let b: Vec<f32> = (0..n).map(|i| 1.0 + (i % 3) as f32).collect();
            let plain: f32 = a.iter().zip(&b).map(|(x, y)| x * y).sum();
            assert_eq!(dot(&a, &b), plain, "length {n}");
        }
    }

    #[test]
    fn normalise_gives_unit_length_and_leaves_zero_alone() {
        let mut vector = [3.0, 4.0];
        normalise(&mut vector);
        assert_eq!(vector, [0.6, 0.8]);
        let mut zero = [0.0, 0.0];
        normalise(&mut zero);
        assert_eq!(zero, [0.0, 0.0]);
    }
}
