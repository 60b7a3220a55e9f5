//! BM25 (Robertson and Zaragoza 2009) with the weights of Lucene: a word in a passage weighs `idf * tf / (tf + k1 (1 - b + b length / mean))`
//! with `idf = ln(1 + (n - df + 0.5) / (df + 0.5))`. Weights are computed when the index is built, so that a search is a sum over the lists of
//! the question's words.

use std::cell::RefCell;
use std::collections::HashMap;

use rayon::prelude::*;

use super::Hit;
use super::exact::best;
use super::words::Words;
use crate::spec::Bm25Spec;

/// Texts that are split into words at a time.
const BLOCK: usize = 4096;

/// A word's weight in a passage.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Posting {
    passage: u32,
    weight: f32,
}

/// What one search gave, and the weights it summed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Matches {
    /// Best first; none that shares no word with the question.
    pub hits: Vec<Hit>,
    /// Weights added, a step of work: one operation each.
    pub postings: u64,
}

/// An index from words to passages.
pub struct Bm25Index {
    words: Words,
    /// Number of each word, in the order in which the corpus brings them.
    numbers: HashMap<String, u32>,
    /// Where the list of each word begins in `postings`, and the end of the last.
    starts: Vec<usize>,
    /// By word, then by rising passage.
    postings: Vec<Posting>,
    passages: usize,
}

thread_local! {
    /// Sums of a search by passage, all zero between searches, so that a search does not pay for passages that it does not meet.
    static SUMS: RefCell<Vec<f64>> = const { RefCell::new(Vec::new()) };
}

impl Bm25Index {
    /// Counts the words of every passage.
    pub fn build(passages: &[&str], spec: &Bm25Spec) -> Self {
        let words = Words::new(spec.stemmer);
        let mut numbers = HashMap::new();
        // Passage and count, by word.
        let mut lists: Vec<Vec<(u32, u32)>> = Vec::new();
        let mut lengths = Vec::with_capacity(passages.len());
        for block in passages.chunks(BLOCK) {
            let split: Vec<Vec<String>> = block.par_iter().map(|text| words.of(text)).collect();
            for of_passage in split {
                let passage = lengths.len() as u32;
                lengths.push(of_passage.len() as f64);
                for word in of_passage {
                    let next = lists.len() as u32;
                    let number = *numbers.entry(word).or_insert(next);
                    if number == next {
                        lists.push(Vec::new());
                    }
                    match lists[number as usize].last_mut() {
                        Some((last, count)) if *last == passage => *count += 1,
                        _ => lists[number as usize].push((passage, 1)),
                    }
                }
            }
        }
        let (starts, postings) = weigh(&lists, &lengths, spec);
        Self { words, numbers, starts, postings, passages: passages.len() }
    }

    /// The `k` passages with the largest sums of weights over the question's words, each word as often as it is asked; ties by passage.
    pub fn search(&self, question: &str, k: usize) -> Matches {
        SUMS.with_borrow_mut(|sums| {
            sums.resize(sums.len().max(self.passages), 0.0);
            let (mut met, mut postings) = (Vec::new(), 0);
            for word in self.words.of(question) {
                let Some(&number) = self.numbers.get(&word) else { continue };
                let list = &self.postings[self.starts[number as usize]..self.starts[number as usize + 1]];
                postings += list.len() as u64;
                for posting in list {
                    let sum = &mut sums[posting.passage as usize];
                    if *sum == 0.0 {
                        met.push(posting.passage);
                    }
                    *sum += f64::from(posting.weight);
                }
            }
            let hit = |passage: u32| Hit { chunk: passage as usize, score: std::mem::take(&mut sums[passage as usize]) as f32 };
            Matches { hits: best(met.into_iter().map(hit).collect(), k), postings }
        })
    }

    /// Distinct words.
    pub fn terms(&self) -> usize {
        self.numbers.len()
    }

    /// Words by passage: entries of all lists.
    pub fn postings(&self) -> u64 {
        self.postings.len() as u64
    }

    /// Estimate of the bytes in memory.
    pub fn bytes(&self) -> u64 {
        let words: usize = self.numbers.keys().map(|word| word.len() + size_of::<(String, u32)>()).sum();
        (words + self.starts.len() * size_of::<usize>() + self.postings.len() * size_of::<Posting>()) as u64
    }

    /// BLAKE3 of words and lists.
    pub fn hash(&self) -> String {
        let mut names = vec![""; self.numbers.len()];
        #[expect(clippy::iter_over_hash_type, reason = "each word goes to its own place")]
        for (word, number) in &self.numbers {
            names[*number as usize] = word;
        }
        let mut hasher = blake3::Hasher::new();
        for (name, range) in names.into_iter().zip(self.starts.windows(2)) {
            hasher.update(name.as_bytes()).update(&[0]);
            for posting in &self.postings[range[0]..range[1]] {
                hasher.update(&posting.passage.to_le_bytes()).update(&posting.weight.to_le_bytes());
            }
        }
        hasher.finalize().to_string()
    }
}

/// The lists one after the other, counts as weights, and where each begins.
fn weigh(lists: &[Vec<(u32, u32)>], lengths: &[f64], spec: &Bm25Spec) -> (Vec<usize>, Vec<Posting>) {
    let n = lengths.len() as f64;
    let mean = (lengths.iter().sum::<f64>() / n).max(1.0);
    let mut starts = vec![0];
    let mut postings = Vec::with_capacity(lists.iter().map(Vec::len).sum());
    for list in lists {
        let in_passages = list.len() as f64;
        let idf = (1.0 + (n - in_passages + 0.5) / (in_passages + 0.5)).ln();
        postings.extend(list.iter().map(|&(passage, count)| {
            let count = f64::from(count);
            let norm = spec.k1 * (1.0 - spec.b + spec.b * lengths[passage as usize] / mean);
            Posting { passage, weight: (idf * count / (count + norm)) as f32 }
        }));
        starts.push(postings.len());
    }
    (starts, postings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::StemmerName;

    fn spec(stemmer: StemmerName) -> Bm25Spec {
        Bm25Spec { k1: 1.2, b: 0.75, stemmer }
    }

    /// `bm25.json` holds the scores of the Python package bm25s (method `lucene`) of every text for every question.
    #[test]
    fn scores_equal_those_of_bm25s() {
        let fixture = include_str!("../../tests/fixtures/retrieval/bm25.json");
        let fixture: serde_json::Value = serde_json::from_str(fixture).unwrap();
        let strings = |value: &serde_json::Value| -> Vec<String> { serde_json::from_value(value.clone()).unwrap() };
        let passages = strings(&fixture["passages"]);
        let passages: Vec<&str> = passages.iter().map(String::as_str).collect();
        for case in fixture["cases"].as_array().unwrap() {
            let number = |name: &str| case[name].as_f64().unwrap();
            let stemmer = serde_json::from_value(case["stemmer"].clone()).unwrap();
            let index = Bm25Index::build(&passages, &Bm25Spec { k1: number("k1"), b: number("b"), stemmer });
            for (question, expected) in strings(&fixture["questions"]).iter().zip(case["scores"].as_array().unwrap()) {
                let expected: Vec<f32> = serde_json::from_value(expected.clone()).unwrap();
                let found = index.search(question, passages.len());
                let mut scores = vec![0.0; passages.len()];
                found.hits.iter().for_each(|hit| scores[hit.chunk] = hit.score);
                for (ours, theirs) in scores.iter().zip(&expected) {
                    assert!((ours - theirs).abs() <= 1e-5 * theirs.max(1.0), "{question}: {scores:?} is not {expected:?}");
                }
                assert_eq!(found.hits.len(), expected.iter().filter(|score| **score > 0.0).count(), "{question}");
            }
        }
    }

    #[test]
    fn best_come_first_and_ties_by_passage() {
        let index = Bm25Index::build(&["red fox", "blue fox", "red fox", "grey wolf"], &spec(StemmerName::None));
        let chunks = |question: &str, k| index.search(question, k).hits.iter().map(|hit| hit.chunk).collect::<Vec<_>>();
        assert_eq!(chunks("red foxes", 9), [0, 2]);
        assert_eq!(chunks("Red fox?", 9), [0, 2, 1]);
        assert_eq!(chunks("Red fox?", 1), [0]);
        assert!(chunks("nothing of it", 9).is_empty() && chunks("", 9).is_empty());
        assert_eq!(index.search("red fox fox", 9).postings, 2 + 3 + 3);
    }

    #[test]
    fn an_empty_corpus_and_empty_passages_are_no_division_by_zero() {
        assert!(Bm25Index::build(&[], &spec(StemmerName::None)).search("fox", 3).hits.is_empty());
        let index = Bm25Index::build(&["", "fox", "..."], &spec(StemmerName::None));
        assert_eq!(index.search("fox", 3).hits.len(), 1);
        assert_eq!((index.terms(), index.postings()), (1, 1));
    }

    #[test]
    fn two_builds_have_one_hash_and_other_weights_another() {
        let texts = ["red fox", "blue fox jumps", "the wolf"];
        let hash = |spec: &Bm25Spec| Bm25Index::build(&texts, spec).hash();
        assert_eq!(hash(&spec(StemmerName::None)), hash(&spec(StemmerName::None)));
        assert_ne!(hash(&spec(StemmerName::None)), hash(&spec(StemmerName::English)));
        assert_ne!(hash(&spec(StemmerName::None)), hash(&Bm25Spec { b: 0.5, ..spec(StemmerName::None) }));
    }
}
