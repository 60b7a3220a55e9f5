//! What stands on two sides at once: test questions in the corpus or among training questions, in the same words or nearly so.
//!
//! Equal wordings of train and test are [`super::OverlapKind::Question`] and may be refused; what is found here is only told, because texts
//! of one field look alike for honest reasons. Three rules, all over lower-cased words without punctuation, so that nothing depends on
//! typography, and all deterministic:
//!
//! * *copied*: a question of at least four words stands word for word in a document;
//! * *covered*: at least `share` of a text's runs of `ngram` words stand on the other side (PaLM's rule with its 8 words and 70 %); runs that
//!   more than ten texts have are the field's phrases and do not count (as in GPT-3's audit). Texts too short for a run are left to the
//!   other rules;
//! * *similar*: the Jaccard similarity of two texts' runs of a few words is at least `similarity`. MinHash with 128 hashes proposes pairs, in
//!   bands of so many rows that a pair at the threshold is missed less than once in a thousand times; every pair is then computed exactly,
//!   so none is told falsely.
//!
//! Texts are read a block at a time and kept as their 128 hashes only, so the audit's memory grows with the number of texts, not with their
//! length.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use rayon::prelude::*;
use serde::Serialize;

use super::{Dataset, Sample};
use crate::spec::LeakSpec;

/// Examples named per kind.
const EXAMPLES: usize = 3;
/// A run that more texts than this have is a phrase of the field.
const PHRASE: usize = 10;
/// Shortest question that can be said to be copied, in words.
const COPIED: usize = 4;
/// MinHash's hashes.
const HASHES: usize = 128;
/// A pair at the threshold may be missed this often.
const MISSED: f64 = 1e-3;
/// Texts of one bucket that are compared with a new one: those that come first. Without a bound, templates make it quadratic.
const BUCKET: usize = 64;
/// Words of a run in questions and in documents, for the similarity.
const QUESTION_RUN: usize = 3;
const DOCUMENT_RUN: usize = 5;

/// What was found where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeakKind {
    /// Test questions that stand word for word in a document.
    TestQuestionInCorpus,
    /// Training questions that stand word for word in a document.
    TrainQuestionInCorpus,
    /// Test questions whose runs of words stand in the corpus.
    TestQuestionCoveredByCorpus,
    /// Test questions whose runs of words stand in training questions.
    TestQuestionCoveredByTrain,
    /// Test questions with a long answer whose runs of words stand in training answers.
    TestAnswerCoveredByTrain,
    /// Test questions that nearly equal a training question.
    TestQuestionLikeTrain,
    /// Documents that nearly equal an earlier one.
    DocumentLikeDocument,
}

/// How much of one side stands on the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leak {
    /// What and where.
    pub kind: LeakKind,
    /// Texts concerned.
    pub count: usize,
    /// Texts examined.
    pub total: usize,
    /// Ids of some of them, each with where it stands.
    pub examples: Vec<(String, String)>,
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            LeakKind::TestQuestionInCorpus => "test questions stand word for word in a document",
            LeakKind::TrainQuestionInCorpus => "training questions stand word for word in a document",
            LeakKind::TestQuestionCoveredByCorpus => "test questions have most of their wording from documents",
            LeakKind::TestQuestionCoveredByTrain => "test questions have most of their wording from training questions",
            LeakKind::TestAnswerCoveredByTrain => "test questions have a long answer with most of its wording from training answers",
            LeakKind::TestQuestionLikeTrain => "test questions nearly equal a training question",
            LeakKind::DocumentLikeDocument => "documents nearly equal an earlier one",
        };
        let examples: Vec<String> = self.examples.iter().map(|(text, place)| format!("`{text}` and `{place}`")).collect();
        write!(f, "{} of {} {what} (for example {})", self.count, self.total, examples.join(", "))
    }
}

/// Texts that are split into words at a time, on all threads.
const BLOCK: usize = 1024;

/// A text by its id.
#[derive(Clone, Copy)]
struct Source<'a> {
    id: &'a str,
    text: &'a str,
}

/// A text as the running hash of its words: the hash of the first `i` at `i`. That of any run comes from two of them.
#[derive(PartialEq, Eq)]
struct Words(Vec<u64>);

/// Odd, so that multiplication loses nothing.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;
/// FNV-1a's start and factor.
const FNV: (u64, u64) = (0xcbf2_9ce4_8422_2325, 0x0100_0000_01b3);

fn power(length: usize) -> u64 {
    (0..length).fold(1u64, |power, _| power.wrapping_mul(BASE))
}

impl Words {
    /// Words as in [`super::overlap`]: letters and digits, in lower case.
    fn of(text: &str) -> Self {
        let mut running = vec![0u64];
        let mut word = FNV.0;
        let mut add = |word: u64| running.push(running[running.len() - 1].wrapping_mul(BASE).wrapping_add(mixed(word)));
        let letter = |word: u64, letter: char| (word ^ u64::from(letter)).wrapping_mul(FNV.1);
        for character in text.chars() {
            if character.is_alphanumeric() {
                word = character.to_lowercase().fold(word, letter);
            } else if word != FNV.0 {
                add(std::mem::replace(&mut word, FNV.0));
            }
        }
        if word != FNV.0 {
            add(word);
        }
        Self(running)
    }

    fn len(&self) -> usize {
        self.0.len() - 1
    }

    /// Hashes of all runs of `length` words.
    fn runs(&self, length: usize) -> impl Iterator<Item = u64> + '_ {
        let power = power(length);
        (0..(self.len() + 1).saturating_sub(length)).map(move |start| self.run(start, length, power))
    }

    fn run(&self, start: usize, length: usize, power: u64) -> u64 {
        mixed(self.0[start + length].wrapping_sub(self.0[start].wrapping_mul(power)))
    }

    /// The distinct runs, sorted.
    fn run_set(&self, length: usize) -> Vec<u64> {
        let mut runs: Vec<u64> = self.runs(length).collect();
        runs.sort_unstable();
        runs.dedup();
        runs
    }
}

/// Every bit of the result depends on every bit of the input.
fn mixed(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// Leaves a key as it is: the keys here are mixed hashes.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.0 = mixed(self.0 ^ u64::from(byte)));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

type ByHash<T> = HashMap<u64, T, BuildHasherDefault<AsItIs>>;

/// Calls `each` with the words of every text, in order.
fn for_each_words(sources: &[Source], mut each: impl FnMut(usize, &Words)) {
    for (number, block) in sources.chunks(BLOCK).enumerate() {
        let texts: Vec<Words> = block.par_iter().map(|source| Words::of(source.text)).collect();
        texts.iter().enumerate().for_each(|(index, words)| each(number * BLOCK + index, words));
    }
}

/// Every kind of leak that there is.
pub(super) fn find(dataset: &Dataset, spec: &LeakSpec) -> Vec<Leak> {
    let train = || dataset.train.iter().chain(&dataset.validation);
    let test: Vec<Source> = dataset.test.iter().map(question).collect();
    let labelled: Vec<Source> = train().map(question).collect();
    let documents: Vec<Source> = dataset.documents.iter().map(|document| Source { id: &document.id, text: &document.text }).collect();
    let test_answers: Vec<Source> = dataset.test.iter().flat_map(answers).collect();
    let train_answers: Vec<Source> = train().flat_map(answers).collect();
    let covered = |left: &[Source], right: &[Source]| covered(left, right, spec);
    [
        leak(LeakKind::TestQuestionInCorpus, test.len(), copied(&test, &documents)),
        leak(LeakKind::TrainQuestionInCorpus, labelled.len(), copied(&labelled, &documents)),
        leak(LeakKind::TestQuestionCoveredByCorpus, test.len(), covered(&test, &documents)),
        leak(LeakKind::TestQuestionCoveredByTrain, test.len(), covered(&test, &labelled)),
        leak(LeakKind::TestAnswerCoveredByTrain, test.len(), covered(&test_answers, &train_answers)),
        leak(LeakKind::TestQuestionLikeTrain, test.len(), similar(&labelled, &test, QUESTION_RUN, spec.similarity)),
        leak(LeakKind::DocumentLikeDocument, documents.len(), similar_among(&documents, DOCUMENT_RUN, spec.similarity)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn question(sample: &Sample) -> Source<'_> {
    Source { id: &sample.id, text: &sample.question }
}

fn answers(sample: &Sample) -> impl Iterator<Item = Source<'_>> {
    sample.references.iter().map(|text| Source { id: &sample.id, text })
}

type Pair = (String, String);

fn leak(kind: LeakKind, total: usize, mut found: Vec<Pair>) -> Option<Leak> {
    // A question with several such answers counts once.
    found.dedup_by(|next, kept| next.0 == kept.0);
    let count = found.len();
    found.truncate(EXAMPLES);
    (count > 0).then_some(Leak { kind, count, total, examples: found })
}

fn pair(left: Source, right: Source) -> Pair {
    (left.id.to_owned(), right.id.to_owned())
}

/// Questions that stand in a document from their first word to their last.
fn copied(questions: &[Source], documents: &[Source]) -> Vec<Pair> {
    // Where a question's first words stand in a document, the lengths of the questions that begin so are tried, and no others.
    let mut lengths: ByHash<BTreeSet<usize>> = ByHash::default();
    let mut wholes: ByHash<Vec<usize>> = ByHash::default();
    for_each_words(questions, |index, words| {
        if let Some(start) = words.runs(COPIED).next() {
            lengths.entry(start).or_default().insert(words.len());
            wholes.entry(words.run(0, words.len(), power(words.len()))).or_default().push(index);
        }
    });
    if lengths.is_empty() {
        return Vec::new();
    }
    let mut found: BTreeMap<usize, usize> = BTreeMap::new();
    for_each_words(documents, |place, words| {
        for (at, start) in words.runs(COPIED).enumerate() {
            for &length in lengths.get(&start).into_iter().flatten().take_while(|&&length| at + length <= words.len()) {
                let whole = words.run(at, length, power(length));
                for &index in wholes.get(&whole).into_iter().flatten() {
                    found.entry(index).or_insert(place);
                }
            }
        }
    });
    found.into_iter().map(|(index, place)| pair(questions[index], documents[place])).collect()
}

/// How many texts have a run of words.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    texts: usize,
    first: usize,
    last: usize,
}

impl Run {
    /// Texts come in order; one that repeats the run counts once.
    fn seen_in(&mut self, text: usize) {
        if self.texts == 0 {
            self.first = text;
        } else if self.last == text {
            return;
        }
        self.texts += 1;
        self.last = text;
    }
}

/// Texts whose runs of words stand in other texts.
fn covered(left: &[Source], right: &[Source], spec: &LeakSpec) -> Vec<Pair> {
    let mut places: ByHash<Run> = ByHash::default();
    for_each_words(left, |_, words| places.extend(words.runs(spec.ngram).map(|run| (run, Run::default()))));
    if places.is_empty() {
        return Vec::new();
    }
    for_each_words(right, |index, words| {
        for run in words.runs(spec.ngram) {
            if let Some(known) = places.get_mut(&run) {
                known.seen_in(index);
            }
        }
    });
    let mut found = Vec::new();
    for_each_words(left, |index, words| {
        let runs: Vec<Run> = words.runs(spec.ngram).map(|run| places[&run]).collect();
        let there: Vec<usize> = runs.iter().filter(|run| (1..=PHRASE).contains(&run.texts)).map(|run| run.first).collect();
        if let Some(&first) = there.first()
            && there.len() as f64 >= spec.share * runs.len() as f64
        {
            found.push(pair(left[index], right[first]));
        }
    });
    found
}

/// Rows of a band: as many as still find a pair at the threshold almost always, because more rows propose fewer pairs in vain.
fn band_rows(similarity: f64) -> usize {
    let missed = |rows: usize| (1.0 - similarity.powi(rows as i32)).powf((HASHES / rows) as f64);
    (1..=16).rev().find(|&rows| missed(rows) <= MISSED).unwrap_or(1)
}

/// The least of each hash function over the runs; empty for a text without one.
type Signature = Vec<u32>;

fn signature(runs: &[u64]) -> Signature {
    if runs.is_empty() {
        return Vec::new();
    }
    let functions: Vec<(u64, u64)> = (0..HASHES as u64).map(|index| (mixed(2 * index + 1) | 1, mixed(2 * index + 2))).collect();
    let mut minima = vec![u32::MAX; HASHES];
    for &run in runs {
        for (minimum, (factor, offset)) in minima.iter_mut().zip(&functions) {
            *minimum = (*minimum).min((run.wrapping_mul(*factor).wrapping_add(*offset) >> 32) as u32);
        }
    }
    minima
}

fn signatures(sources: &[Source], run: usize) -> Vec<Signature> {
    sources.par_iter().map(|source| signature(&Words::of(source.text).run_set(run))).collect()
}

/// Texts seen so far, by band.
struct Buckets {
    rows: usize,
    /// Fewer equal hashes than this, and a pair is not worth the exact computation: five standard deviations below the threshold.
    worthwhile: usize,
    bands: ByHash<Vec<usize>>,
}

impl Buckets {
    fn new(similarity: f64) -> Self {
        let deviation = (similarity * (1.0 - similarity) * HASHES as f64).sqrt();
        let worthwhile = (similarity * HASHES as f64 - 5.0 * deviation).max(1.0) as usize;
        Self { rows: band_rows(similarity), worthwhile, bands: ByHash::default() }
    }

    fn keys(&self, signature: &[u32]) -> Vec<u64> {
        let key = |(band, rows): (usize, &[u32])| rows.iter().fold(mixed(band as u64 + 1), |hash, &row| mixed(hash ^ u64::from(row)));
        signature.chunks_exact(self.rows).enumerate().map(key).collect()
    }

    /// Texts that share a band and enough hashes, in order.
    fn candidates<'a>(&self, keys: &[u64], signature: &'a [u32], known: &'a [Signature]) -> impl Iterator<Item = usize> + use<'a> {
        let near: BTreeSet<usize> = keys.iter().filter_map(|key| self.bands.get(key)).flatten().copied().collect();
        let worthwhile = self.worthwhile;
        let equal = move |index: usize| known[index].iter().zip(signature).filter(|(left, right)| left == right).count();
        near.into_iter().filter(move |&index| equal(index) >= worthwhile)
    }

    fn add(&mut self, index: usize, keys: Vec<u64>) {
        for key in keys {
            let bucket = self.bands.entry(key).or_default();
            if bucket.len() < BUCKET {
                bucket.push(index);
            }
        }
    }
}

/// Texts of `later` that nearly equal one of `earlier`, equal wordings left out.
fn similar(earlier: &[Source], later: &[Source], run: usize, similarity: f64) -> Vec<Pair> {
    let mut buckets = Buckets::new(similarity);
    let known = signatures(earlier, run);
    for (index, signature) in known.iter().enumerate() {
        let keys = buckets.keys(signature);
        buckets.add(index, keys);
    }
    let like = |source: &Source| {
        let words = Words::of(source.text);
        let runs = words.run_set(run);
        let signature = signature(&runs);
        let near = |index: &usize| {
            let other = Words::of(earlier[*index].text);
            other != words && jaccard(&other.run_set(run), &runs) >= similarity
        };
        buckets.candidates(&buckets.keys(&signature), &signature, &known).find(near).map(|index| pair(*source, earlier[index]))
    };
    later.par_iter().filter_map(like).collect()
}

/// Texts that nearly equal an earlier one of the same side.
fn similar_among(texts: &[Source], run: usize, similarity: f64) -> Vec<Pair> {
    let mut buckets = Buckets::new(similarity);
    let known = signatures(texts, run);
    let mut found = Vec::new();
    for (index, signature) in known.iter().enumerate() {
        let keys = buckets.keys(signature);
        let mut candidates = buckets.candidates(&keys, signature, &known).peekable();
        if candidates.peek().is_some() {
            let runs = Words::of(texts[index].text).run_set(run);
            let near = |&earlier: &usize| jaccard(&Words::of(texts[earlier].text).run_set(run), &runs) >= similarity;
            found.extend(candidates.find(near).map(|earlier| pair(texts[index], texts[earlier])));
        }
        buckets.add(index, keys);
    }
    found
}

/// Of two sorted sets.
fn jaccard(left: &[u64], right: &[u64]) -> f64 {
    let both = left.iter().filter(|run| right.binary_search(run).is_ok()).count();
    both as f64 / (left.len() + right.len() - both).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::super::Document;
    use super::*;

    fn spec() -> LeakSpec {
        LeakSpec::default()
    }

    fn sample(id: &str, question: &str) -> Sample {
        Sample { id: id.into(), question: question.into(), references: vec!["a".into()], ..Sample::default() }
    }

    fn document(id: &str, text: &str) -> Document {
        Document { id: id.into(), title: String::new(), text: text.into(), date: None }
    }

    fn kinds(dataset: &Dataset) -> Vec<(LeakKind, usize)> {
        find(dataset, &spec()).iter().map(|leak| (leak.kind, leak.count)).collect()
    }

    #[test]
    fn a_question_copied_into_the_corpus_is_found_whatever_its_typography() {
        let dataset = Dataset {
            documents: vec![document("d1", "FAQ. -- WHERE was Ada Lovelace  born?! In London."), document("d2", "Where was Ada from?")],
            test: vec![sample("t1", "Where was Ada Lovelace born?"), sample("t2", "Where was Charles Babbage born?")],
            ..Dataset::default()
        };
        let leaks = find(&dataset, &spec());
        assert_eq!((leaks[0].kind, leaks[0].count, leaks[0].total), (LeakKind::TestQuestionInCorpus, 1, 2));
        assert_eq!(leaks[0].to_string(), "1 of 2 test questions stand word for word in a document (for example `t1` and `d1`)");
        assert_eq!(leaks.len(), 1);
    }

    #[test]
    fn most_of_a_wording_counts_and_a_phrase_of_the_field_does_not() {
        let long = "which of the two rivers that meet below the old mill carries more water in a dry summer";
        let train: Vec<Sample> = (0..12).map(|id| sample(&format!("n{id}"), &format!("{long} of year {id}"))).collect();
        let mut dataset =
            Dataset { test: vec![sample("t", &format!("please say {long}"))], train: train[..2].to_vec(), ..Dataset::default() };
        let found = kinds(&dataset);
        assert!(found.contains(&(LeakKind::TestQuestionCoveredByTrain, 1)), "{found:?}");
        dataset.train = train;
        let found = kinds(&dataset);
        assert!(!found.iter().any(|(kind, _)| *kind == LeakKind::TestQuestionCoveredByTrain), "twelve texts share it: {found:?}");
    }

    #[test]
    fn near_duplicates_are_found_and_equal_ones_left_to_the_overlap() {
        let base = "at what time does the last ferry from the northern harbour leave on a sunday evening in october";
        let dataset = Dataset {
            train: vec![sample("n", base)],
            test: vec![sample("t1", &format!("{base} please")), sample("t2", base), sample("t3", "When does it leave?")],
            ..Dataset::default()
        };
        let leaks = find(&dataset, &spec());
        let like = leaks.iter().find(|leak| leak.kind == LeakKind::TestQuestionLikeTrain).unwrap();
        assert_eq!((like.count, like.examples[0].0.as_str()), (1, "t1"));
    }

    #[test]
    fn doubled_documents_are_told_of_once() {
        let text = "The lighthouse was built of granite in 1811 and stands on a reef that the sea covers twice a day at high water.";
        let dataset = Dataset {
            documents: vec![
                document("a", text),
                document("b", "Another text altogether about bread."),
                document("c", &text.to_uppercase()),
            ],
            test: vec![sample("t", "?")],
            ..Dataset::default()
        };
        let leaks = find(&dataset, &spec());
        assert_eq!((leaks[0].kind, leaks[0].count), (LeakKind::DocumentLikeDocument, 1));
        assert_eq!(leaks[0].examples, [("c".to_owned(), "a".to_owned())]);
    }

    #[test]
    fn empty_and_short_texts_leak_nothing() {
        let dataset = Dataset {
            documents: vec![document("a", "..."), document("b", "!!!")],
            train: vec![sample("n", "?"), sample("m", "")],
            test: vec![sample("t", ""), sample("u", "?!")],
            ..Dataset::default()
        };
        assert!(find(&dataset, &spec()).is_empty());
    }

    /// The bands are tuned as stated: pairs at the threshold are found, pairs far below it seldom proposed.
    #[test]
    fn bands_find_pairs_at_the_threshold_and_propose_few_below_it() {
        assert_eq!((band_rows(0.8), band_rows(0.5), band_rows(0.95)), (5, 2, 12));
        let buckets = Buckets::new(0.8);
        // Sets of 100 runs that share so many that their similarity is what is asked for.
        let share = |similarity: f64, trial: u64| {
            let common = (200.0 * similarity / (1.0 + similarity)).round() as u64;
            let run = |side: u64, index: u64| mixed(trial << 32 | side << 16 | index);
            let set = |side: u64| (0..100).map(|index| run(if index < common { 0 } else { side }, index)).collect::<Vec<u64>>();
            let (left, right) = (buckets.keys(&signature(&set(1))), buckets.keys(&signature(&set(2))));
            left.iter().zip(&right).any(|(left, right)| left == right)
        };
        let proposed = |similarity: f64| (0..400).filter(|&trial| share(similarity, trial)).count();
        assert!(proposed(0.8) >= 399, "{} of 400 at the threshold", proposed(0.8));
        assert!(proposed(0.3) <= 40, "{} of 400 far below it", proposed(0.3));
    }
}
