//! How a question becomes a prompt: one template for all variants, passages fitted to the window by whole chunks.
//!
//! This module renders and fits; it neither searches nor generates.

pub mod prompt;

use crate::rng::Rng;
use crate::spec::ContextSource;

/// Passages that a variant is given without a search, as chunk indices.
///
/// `Gold`: every chunk of the relevant documents, in corpus order, at most `top_k`. `Random`: `top_k` chunks of other documents, drawn from
/// the seed and the sample's id. `document_of[i]` is the document of chunk `i`.
pub fn given_passages(
    source: ContextSource,
    relevant: &[String],
    document_of: &[&str],
    top_k: usize,
    seed: u64,
    sample_id: &str,
) -> Vec<usize> {
    let is_relevant = |chunk: usize| relevant.iter().any(|id| id == document_of[chunk]);
    match source {
        ContextSource::None | ContextSource::Retrieved => Vec::new(),
        ContextSource::Gold => (0..document_of.len()).filter(|&chunk| is_relevant(chunk)).take(top_k).collect(),
        ContextSource::Random => {
            draw_others(document_of.len(), top_k, is_relevant, &mut Rng::new(seed, &format!("random-passages/{sample_id}")))
        }
    }
}

/// `count` distinct chunks that are not relevant (fewer if there are not so many).
fn draw_others(chunks: usize, count: usize, is_relevant: impl Fn(usize) -> bool, rng: &mut Rng) -> Vec<usize> {
    let others: Vec<usize> = (0..chunks).filter(|&chunk| !is_relevant(chunk)).collect();
    rng.sample_indices(others.len(), count).into_iter().map(|index| others[index]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gold_takes_the_relevant_and_random_never_does() {
        let documents = ["a", "a", "b", "c", "c", "d"];
        let relevant = ["a".to_owned(), "c".to_owned()];
        assert_eq!(given_passages(ContextSource::Gold, &relevant, &documents, 3, 1, "q"), [0, 1, 3]);
        let mut random = given_passages(ContextSource::Random, &relevant, &documents, 4, 1, "q");
        assert_eq!(random, given_passages(ContextSource::Random, &relevant, &documents, 4, 1, "q"));
        random.sort_unstable();
        assert_eq!(random, [2, 5]);
    }
}
