//! Reciprocal rank fusion (Cormack, Clarke and Buettcher 2009): lists whose scores mean different things are joined by their ranks alone.

use std::collections::BTreeMap;

use super::Hit;
use super::exact::best;

/// The `keep` best of all lists' passages: each scores the sum over the lists of `1 / (rank_constant + rank)`, ranks from 1. Ties by passage.
pub fn fuse(lists: &[&[Hit]], rank_constant: f64, keep: usize) -> Vec<Hit> {
    let mut scores = BTreeMap::<usize, f64>::new();
    for list in lists {
        for (index, hit) in list.iter().enumerate() {
            *scores.entry(hit.chunk).or_default() += 1.0 / (rank_constant + (index + 1) as f64);
        }
    }
    best(scores.into_iter().map(|(chunk, score)| Hit { chunk, score: score as f32 }).collect(), keep)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(chunks: &[usize]) -> Vec<Hit> {
        chunks.iter().map(|&chunk| Hit { chunk, score: 0.0 }).collect()
    }

    #[test]
    fn a_hand_worked_fusion() {
        let (dense, lexical) = (list(&[7, 3, 5]), list(&[3, 9]));
        let fused = fuse(&[&dense, &lexical], 60.0, 10);
        let expected = [(3, 1.0 / 62.0 + 1.0 / 61.0), (7, 1.0 / 61.0), (9, 1.0 / 62.0), (5, 1.0 / 63.0)];
        assert_eq!(fused.len(), expected.len());
        for (hit, (chunk, score)) in fused.iter().zip(expected) {
            assert_eq!((hit.chunk, hit.score), (chunk, score as f32));
        }
    }

    #[test]
    fn ties_go_to_the_lower_passage_and_a_list_alone_keeps_its_order() {
        assert_eq!(fuse(&[&list(&[4]), &list(&[2])], 60.0, 2).iter().map(|hit| hit.chunk).collect::<Vec<_>>(), [2, 4]);
        assert_eq!(fuse(&[&list(&[4, 1, 9]), &[]], 0.0, 2).iter().map(|hit| hit.chunk).collect::<Vec<_>>(), [4, 1]);
        assert!(fuse(&[], 60.0, 5).is_empty());
    }
}
