//! How a question becomes a prompt: one template for all variants, passages fitted to the window by whole chunks.
//!
//! This module renders and fits; it neither searches nor generates.

pub mod prompt;

use std::collections::{BTreeMap, BTreeSet};

use crate::rng::Rng;

/// Which chunks belong to which document: what variants are given without a search.
#[derive(Debug, Default)]
pub struct Passages<'a> {
    of_document: BTreeMap<&'a str, Vec<usize>>,
    count: usize,
}

impl<'a> Passages<'a> {
    /// `documents` gives the document of each chunk, in the order of chunks.
    pub fn new(documents: impl Iterator<Item = &'a str>) -> Self {
        let mut passages = Self::default();
        for document in documents {
            passages.of_document.entry(document).or_default().push(passages.count);
            passages.count += 1;
        }
        passages
    }

    /// Every chunk of the relevant documents, in corpus order, at most `top_k`.
    pub fn gold(&self, relevant: &[String], top_k: usize) -> Vec<usize> {
        self.relevant(relevant).into_iter().take(top_k).collect()
    }

    /// `top_k` chunks of other documents (fewer if there are not so many), drawn from the seed and the sample's id.
    pub fn random(&self, relevant: &[String], top_k: usize, seed: u64, sample_id: &str) -> Vec<usize> {
        let barred = self.relevant(relevant);
        let mut rng = Rng::new(seed, &format!("random-passages/{sample_id}"));
        let free = self.count - barred.len();
        if free <= 4 * top_k {
            let others: Vec<usize> = (0..self.count).filter(|chunk| !barred.contains(chunk)).collect();
            return rng.sample_indices(others.len(), top_k).into_iter().map(|index| others[index]).collect();
        }
        let mut drawn = Vec::with_capacity(top_k);
        while drawn.len() < top_k {
            let chunk = rng.below(self.count);
            if !barred.contains(&chunk) && !drawn.contains(&chunk) {
                drawn.push(chunk);
            }
        }
        drawn
    }

    fn relevant(&self, ids: &[String]) -> BTreeSet<usize> {
        ids.iter().filter_map(|id| self.of_document.get(id.as_str())).flatten().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gold_takes_the_relevant_and_random_never_does() {
        let passages = Passages::new(["a", "a", "b", "c", "c", "d"].into_iter());
        let relevant = ["a".to_owned(), "c".to_owned()];
        assert_eq!(passages.gold(&relevant, 3), [0, 1, 3]);
        let mut random = passages.random(&relevant, 4, 1, "q");
        assert_eq!(random, passages.random(&relevant, 4, 1, "q"));
        random.sort_unstable();
        assert_eq!(random, [2, 5]);
    }

    #[test]
    fn in_a_large_corpus_random_passages_are_distinct_and_spread() {
        let names: Vec<String> = (0..500).map(|index| format!("d{}", index / 2)).collect();
        let passages = Passages::new(names.iter().map(String::as_str));
        let drawn: Vec<Vec<usize>> = (0..200).map(|q| passages.random(&["d7".to_owned()], 4, 1, &format!("q{q}"))).collect();
        assert!(
            drawn.iter().all(|chunks| chunks.iter().collect::<BTreeSet<_>>().len() == 4 && !chunks.contains(&14) && !chunks.contains(&15))
        );
        assert!(drawn.iter().flatten().collect::<BTreeSet<_>>().len() > 300);
    }
}
