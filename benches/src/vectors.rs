//! Random unit vectors: the hardest case for an index, since nothing lies near to anything.

use ragft::retrieval::vector::{Vectors, normalise};
use ragft::rng::Rng;
use ragft::spec::HnswSpec;
use rayon::prelude::*;

use crate::SEED;

/// The harness's defaults.
pub const HNSW: HnswSpec = HnswSpec { m: 16, ef_construction: 200, ef_search: 64 };

/// Passages that a search asks for.
pub const TOP_K: usize = 10;

/// `count` directions, uniform on the sphere; those of another `stream` are others.
pub fn unit_rows(stream: &str, count: usize, dimension: usize) -> Vec<Vec<f32>> {
    let row = |index| {
        let mut rng = Rng::indexed(SEED, stream, index as u64);
        let mut row: Vec<f32> = (0..dimension).map(|_| rng.normal() as f32).collect();
        normalise(&mut row);
        row
    };
    (0..count).into_par_iter().map(row).collect()
}

/// The vectors of a corpus.
pub fn corpus(count: usize, dimension: usize) -> Vectors {
    Vectors::from_rows(dimension, &unit_rows("corpus", count, dimension))
}

/// Queries that are not in the corpus.
pub fn queries(count: usize, dimension: usize) -> Vec<Vec<f32>> {
    unit_rows("queries", count, dimension)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_corpus_is_the_beginning_of_a_larger_one() {
        let (small, large) = (corpus(5, 16), corpus(9, 16));
        assert!(small.rows().eq(large.rows().take(5)));
        assert_ne!(queries(1, 16)[0], small.row(0));
    }
}
