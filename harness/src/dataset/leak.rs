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

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use serde::Serialize;

use super::overlap::words;
use super::{Dataset, Document, Sample};
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
    /// Long test answers whose runs of words stand in training answers.
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
            LeakKind::TestAnswerCoveredByTrain => "long test answers have most of their wording from training answers",
            LeakKind::TestQuestionLikeTrain => "test questions nearly equal a training question",
            LeakKind::DocumentLikeDocument => "documents nearly equal an earlier one",
        };
        let examples: Vec<String> = self.examples.iter().map(|(text, place)| format!("`{text}` and `{place}`")).collect();
        write!(f, "{} of {} {what} (for example {})", self.count, self.total, examples.join(", "))
    }
}

/// A text by its id.
struct Text<'a> {
    id: &'a str,
    words: Vec<u64>,
    /// Hash of the first `i` words at `i`: that of any run comes from two of them.
    prefix: Vec<u64>,
}

/// Odd, so that multiplication loses nothing.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;

impl<'a> Text<'a> {
    fn new(id: &'a str, text: &str) -> Self {
        let words: Vec<u64> = words(text).map(|word| word_hash(&word)).collect();
        let mut prefix = vec![0u64];
        prefix.extend(words.iter().scan(0u64, |hash, &word| {
            *hash = hash.wrapping_mul(BASE).wrapping_add(word);
            Some(*hash)
        }));
        Self { id, words, prefix }
    }

    /// Hashes of all runs of `length` words.
    fn runs(&self, length: usize) -> impl Iterator<Item = u64> + '_ {
        let power = (0..length).fold(1u64, |power, _| power.wrapping_mul(BASE));
        let count = (self.words.len() + 1).saturating_sub(length);
        (0..count).map(move |start| self.run(start, length, power))
    }

    fn run(&self, start: usize, length: usize, power: u64) -> u64 {
        mixed(self.prefix[start + length].wrapping_sub(self.prefix[start].wrapping_mul(power)))
    }

    fn run_set(&self, length: usize) -> BTreeSet<u64> {
        self.runs(length).collect()
    }
}

fn word_hash(word: &str) -> u64 {
    let bytes = word.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    mixed(bytes)
}

/// Every bit of the result depends on every bit of the input.
fn mixed(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// Every kind of leak that there is.
pub(super) fn find(dataset: &Dataset, spec: &LeakSpec) -> Vec<Leak> {
    let question = |sample: &'_ Sample| sample.question.clone();
    let texts = |samples: &mut dyn Iterator<Item = &Sample>| -> Vec<(String, String)> {
        samples.map(|sample| (sample.id.clone(), question(sample))).collect()
    };
    let test = texts(&mut dataset.test.iter());
    let train = texts(&mut dataset.train.iter().chain(&dataset.validation));
    let (test, train) = (as_texts(&test), as_texts(&train));
    let documents: Vec<Text> = dataset.documents.iter().map(of_document).collect();
    let answers = |samples: &'_ mut dyn Iterator<Item = &Sample>| -> Vec<(String, String)> {
        samples.flat_map(|sample| sample.references.iter().map(|text| (sample.id.clone(), text.clone()))).collect()
    };
    let test_answers = answers(&mut dataset.test.iter());
    let train_answers = answers(&mut dataset.train.iter().chain(&dataset.validation));
    let covered = |left: &[Text], right: &[Text]| covered(left, right, spec);
    [
        leak(LeakKind::TestQuestionInCorpus, test.len(), copied(&test, &documents)),
        leak(LeakKind::TrainQuestionInCorpus, train.len(), copied(&train, &documents)),
        leak(LeakKind::TestQuestionCoveredByCorpus, test.len(), covered(&test, &documents)),
        leak(LeakKind::TestQuestionCoveredByTrain, test.len(), covered(&test, &train)),
        leak(LeakKind::TestAnswerCoveredByTrain, test_answers.len(), covered(&as_texts(&test_answers), &as_texts(&train_answers))),
        leak(LeakKind::TestQuestionLikeTrain, test.len(), similar(&train, &test, QUESTION_RUN, spec.similarity)),
        leak(LeakKind::DocumentLikeDocument, documents.len(), similar_among(&documents, DOCUMENT_RUN, spec.similarity)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn as_texts(items: &[(String, String)]) -> Vec<Text<'_>> {
    items.iter().map(|(id, text)| Text::new(id, text)).collect()
}

fn of_document(document: &Document) -> Text<'_> {
    Text::new(&document.id, &document.text)
}

type Pair = (String, String);

fn leak(kind: LeakKind, total: usize, mut found: Vec<Pair>) -> Option<Leak> {
    let count = found.len();
    found.truncate(EXAMPLES);
    (count > 0).then_some(Leak { kind, count, total, examples: found })
}

/// Questions that stand in a document from their first word to their last.
fn copied(questions: &[Text], documents: &[Text]) -> Vec<Pair> {
    let mut by_start: HashMap<u64, Vec<usize>> = HashMap::new();
    for (index, question) in questions.iter().enumerate() {
        if let Some(start) = question.runs(COPIED).next() {
            by_start.entry(start).or_default().push(index);
        }
    }
    let mut found: BTreeMap<usize, usize> = BTreeMap::new();
    for (place, document) in documents.iter().enumerate() {
        for (at, start) in document.runs(COPIED).enumerate() {
            for &index in by_start.get(&start).into_iter().flatten() {
                let wanted = &questions[index].words;
                if document.words.get(at..at + wanted.len()) == Some(wanted) {
                    found.entry(index).or_insert(place);
                }
            }
        }
    }
    found.into_iter().map(|(index, place)| (questions[index].id.to_owned(), documents[place].id.to_owned())).collect()
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
fn covered(left: &[Text], right: &[Text], spec: &LeakSpec) -> Vec<Pair> {
    let mut places: HashMap<u64, Run> = left.iter().flat_map(|text| text.runs(spec.ngram)).map(|run| (run, Run::default())).collect();
    for (index, text) in right.iter().enumerate() {
        for run in text.runs(spec.ngram) {
            if let Some(known) = places.get_mut(&run) {
                known.seen_in(index);
            }
        }
    }
    let mut found = Vec::new();
    for text in left {
        let runs: Vec<Run> = text.runs(spec.ngram).map(|run| places[&run]).collect();
        let there: Vec<usize> = runs.iter().filter(|run| (1..=PHRASE).contains(&run.texts)).map(|run| run.first).collect();
        if let Some(&first) = there.first()
            && there.len() as f64 >= spec.share * runs.len() as f64
        {
            found.push((text.id.to_owned(), right[first].id.to_owned()));
        }
    }
    found
}

/// Rows of a band: as many as still find a pair at the threshold almost always, because more rows propose fewer pairs in vain.
fn band_rows(similarity: f64) -> usize {
    let missed = |rows: usize| (1.0 - similarity.powi(rows as i32)).powf((HASHES / rows) as f64);
    (1..=16).rev().find(|&rows| missed(rows) <= MISSED).unwrap_or(1)
}

fn signature(runs: &BTreeSet<u64>) -> Vec<u32> {
    let mut minima = vec![u32::MAX; HASHES];
    for &run in runs {
        for (index, minimum) in minima.iter_mut().enumerate() {
            let (factor, offset) = (mixed(2 * index as u64 + 1) | 1, mixed(2 * index as u64 + 2));
            *minimum = (*minimum).min((run.wrapping_mul(factor).wrapping_add(offset) >> 32) as u32);
        }
    }
    minima
}

/// Texts seen so far, by band.
struct Buckets {
    rows: usize,
    bands: HashMap<(usize, u64), Vec<usize>>,
}

impl Buckets {
    fn keys(&self, signature: &[u32]) -> Vec<(usize, u64)> {
        let key = |rows: &[u32]| rows.iter().fold(0u64, |hash, &row| mixed(hash ^ u64::from(row)));
        signature.chunks_exact(self.rows).map(key).enumerate().collect()
    }

    fn candidates(&self, keys: &[(usize, u64)]) -> BTreeSet<usize> {
        keys.iter().filter_map(|key| self.bands.get(key)).flatten().copied().collect()
    }

    fn add(&mut self, index: usize, keys: Vec<(usize, u64)>) {
        for key in keys {
            let bucket = self.bands.entry(key).or_default();
            if bucket.len() < BUCKET {
                bucket.push(index);
            }
        }
    }
}

/// Texts of `later` that nearly equal one of `earlier`, equal wordings left out.
fn similar(earlier: &[Text], later: &[Text], run: usize, similarity: f64) -> Vec<Pair> {
    let mut buckets = Buckets { rows: band_rows(similarity), bands: HashMap::new() };
    let known: Vec<BTreeSet<u64>> = earlier.iter().map(|text| text.run_set(run)).collect();
    for (index, runs) in known.iter().enumerate().filter(|(_, runs)| !runs.is_empty()) {
        let keys = buckets.keys(&signature(runs));
        buckets.add(index, keys);
    }
    let mut found = Vec::new();
    for text in later {
        let runs = text.run_set(run);
        if runs.is_empty() {
            continue;
        }
        let near = |&index: &usize| earlier[index].words != text.words && jaccard(&known[index], &runs) >= similarity;
        if let Some(index) = buckets.candidates(&buckets.keys(&signature(&runs))).into_iter().find(near) {
            found.push((text.id.to_owned(), earlier[index].id.to_owned()));
        }
    }
    found
}

/// Texts that nearly equal an earlier one of the same side.
fn similar_among(texts: &[Text], run: usize, similarity: f64) -> Vec<Pair> {
    let mut buckets = Buckets { rows: band_rows(similarity), bands: HashMap::new() };
    let known: Vec<BTreeSet<u64>> = texts.iter().map(|text| text.run_set(run)).collect();
    let mut found = Vec::new();
    for (index, runs) in known.iter().enumerate().filter(|(_, runs)| !runs.is_empty()) {
        let keys = buckets.keys(&signature(runs));
        if let Some(earlier) = buckets.candidates(&keys).into_iter().find(|&earlier| jaccard(&known[earlier], runs) >= similarity) {
            found.push((texts[index].id.to_owned(), texts[earlier].id.to_owned()));
        }
        buckets.add(index, keys);
    }
    found
}

fn jaccard(left: &BTreeSet<u64>, right: &BTreeSet<u64>) -> f64 {
    let both = left.intersection(right).count();
    both as f64 / (left.len() + right.len() - both).max(1) as f64
}

#[cfg(test)]
mod tests {
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
        let rows = band_rows(0.8);
        let buckets = Buckets { rows, bands: HashMap::new() };
        // Sets of 100 runs that share so many that their similarity is what is asked for.
        let share = |similarity: f64, trial: u64| {
            let common = (200.0 * similarity / (1.0 + similarity)).round() as u64;
            let run = |side: u64, index: u64| mixed(trial << 32 | side << 16 | index);
            let set = |side: u64| (0..100).map(|index| run(if index < common { 0 } else { side }, index)).collect::<BTreeSet<u64>>();
            let (left, right) = (buckets.keys(&signature(&set(1))), buckets.keys(&signature(&set(2))));
            left.iter().zip(&right).any(|(left, right)| left == right)
        };
        let proposed = |similarity: f64| (0..400).filter(|&trial| share(similarity, trial)).count();
        assert!(proposed(0.8) >= 399, "{} of 400 at the threshold", proposed(0.8));
        assert!(proposed(0.3) <= 40, "{} of 400 far below it", proposed(0.3));
    }
}
