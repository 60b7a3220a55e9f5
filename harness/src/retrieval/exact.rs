//! Exact search: every vector is compared, so it is what the index is judged by.

use std::cmp::Ordering;

use rayon::prelude::*;

use super::Hit;
use super::vector::{Vectors, dot};

/// Better first: by falling score, then by rising chunk, so that ties have one order.
pub fn by_score_then_chunk(left: &Hit, right: &Hit) -> Ordering {
    right.score.total_cmp(&left.score).then(left.chunk.cmp(&right.chunk))
}

/// The `k` rows with the largest inner product with `query` (all of them, if there are fewer), best first.
pub fn search(vectors: &Vectors, query: &[f32], k: usize) -> Vec<Hit> {
    let mut hits: Vec<Hit> = vectors.rows().enumerate().map(|(chunk, row)| Hit { chunk, score: dot(query, row) }).collect();
    if k > 0 && k < hits.len() {
        hits.select_nth_unstable_by(k - 1, by_score_then_chunk);
    }
    hits.truncate(k);
    hits.sort_unstable_by(by_score_then_chunk);
    hits
}

/// [`search`] for every query, in order; queries run in parallel, each on one thread, so threads do not change a bit.
pub fn search_batch(vectors: &Vectors, queries: &[Vec<f32>], k: usize) -> Vec<Vec<Hit>> {
    queries.par_iter().map(|query| search(vectors, query, k)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::vector::testing::random_units;
    use super::*;

    #[test]
    fn search_equals_a_full_sort() {
        let vectors = Vectors::from_rows(24, &random_units(200, 24, 1));
        for query in random_units(5, 24, 2) {
            let mut all: Vec<Hit> = (0..200).map(|chunk| Hit { chunk, score: dot(&query, vectors.row(chunk)) }).collect();
            all.sort_by(by_score_then_chunk);
            assert_eq!(search(&vectors, &query, 7), all[..7]);
        }
    }

    #[test]
    fn ties_go_to_the_lower_chunk_and_k_may_exceed_the_rows() {
        let vectors = Vectors::from_rows(2, &[vec![0.0, 1.0], vec![1.0, 0.0], vec![1.0, 0.0], vec![1.0, 0.0]]);
        let chunks = |k| search(&vectors, &[1.0, 0.0], k).iter().map(|hit| hit.chunk).collect::<Vec<_>>();
        assert_eq!(chunks(2), [1, 2]);
        assert_eq!(chunks(9), [1, 2, 3, 0]);
        assert!(chunks(0).is_empty());
    }
}
