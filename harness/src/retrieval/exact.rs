//! Exact search: every vector is compared, so it is what the index is judged by.

use std::cmp::Ordering;

use rayon::prelude::*;

use super::Hit;
use super::vector::Vectors;
use crate::kernel::simd::{dot, vectorized};

/// Queries that a thread compares at a time.
const QUERIES: usize = 16;

/// Values of the rows that all those queries are compared with before the next rows come: they stay in the second-level cache.
const BLOCK_VALUES: usize = 32 * 1024;

/// Better first: by falling score, then by rising chunk, so that ties have one order.
pub fn by_score_then_chunk(left: &Hit, right: &Hit) -> Ordering {
    right.score.total_cmp(&left.score).then(left.chunk.cmp(&right.chunk))
}

/// The `k` rows with the largest inner product with `query` (all of them, if there are fewer), best first.
pub fn search(vectors: &Vectors, query: &[f32], k: usize) -> Vec<Hit> {
    let mut scores = vec![0.0; vectors.len()];
    compare(vectors, &[query], &mut scores);
    best_rows(&scores, k)
}

/// [`search`] for every query, in order, with the same bits.
pub fn search_batch(vectors: &Vectors, queries: &[Vec<f32>], k: usize) -> Vec<Vec<Hit>> {
    let rows = vectors.len();
    let search_block = |queries: &[Vec<f32>]| -> Vec<Vec<Hit>> {
        let mut scores = vec![0.0; queries.len() * rows];
        compare(vectors, queries, &mut scores);
        (0..queries.len()).map(|query| best_rows(&scores[query * rows..][..rows], k)).collect()
    };
    queries.par_chunks(QUERIES).flat_map_iter(search_block).collect()
}

/// `scores[query][row]`: the inner product, on the calling thread.
fn compare<Q: AsRef<[f32]>>(vectors: &Vectors, queries: &[Q], scores: &mut [f32]) {
    let (width, rows) = (vectors.dimension(), vectors.len());
    let block = (BLOCK_VALUES / width).max(1);
    vectorized(
        #[inline(always)]
        || {
            for first in (0..rows).step_by(block) {
                let end = rows.min(first + block);
                for (index, query) in queries.iter().enumerate() {
                    for (row, score) in (first..end).zip(&mut scores[index * rows + first..index * rows + end]) {
                        *score = dot(query.as_ref(), vectors.row(row));
                    }
                }
            }
        },
    );
}

fn best_rows(scores: &[f32], k: usize) -> Vec<Hit> {
    best(scores.iter().enumerate().map(|(chunk, &score)| Hit { chunk, score }).collect(), k)
}

/// The `k` best of these hits, in order.
pub fn best(mut hits: Vec<Hit>, k: usize) -> Vec<Hit> {
    if k > 0 && k < hits.len() {
        hits.select_nth_unstable_by(k - 1, by_score_then_chunk);
    }
    hits.truncate(k);
    hits.sort_unstable_by(by_score_then_chunk);
    hits
}

#[cfg(test)]
mod tests {
    use super::super::vector::dot;
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
    fn a_batch_gives_the_bits_of_its_members() {
        // More rows than a block holds, more queries than a thread takes.
        let vectors = Vectors::from_rows(24, &random_units(BLOCK_VALUES / 24 + 50, 24, 1));
        let queries = random_units(QUERIES + 5, 24, 2);
        let alone: Vec<Vec<Hit>> = queries.iter().map(|query| search(&vectors, query, 9)).collect();
        assert_eq!(search_batch(&vectors, &queries, 9), alone);
        assert!(search_batch(&Vectors::from_rows(24, &[]), &queries, 9).iter().all(Vec::is_empty));
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
