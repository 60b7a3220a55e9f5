//! The test questions of a run: in memory what tables are cut, paired and checked by, on disk the texts.

use std::collections::BTreeMap;
use std::path::Path;

use super::TableError;
use super::lines::{LineReader, Lines};
use crate::dataset::Sample;

/// Texts one after the other in one piece of memory, by number.
#[derive(Debug, Clone, Default)]
struct Texts {
    text: String,
    ends: Vec<usize>,
}

impl Texts {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len());
    }

    fn get(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[index]]
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.text.len() + self.ends.len() * size_of::<usize>()
    }
}

/// `samples.jsonl`: the test questions, by number in file order.
#[derive(Debug, Clone)]
pub struct Samples {
    lines: Lines,
    /// Where each question's line begins.
    places: Vec<u64>,
    ids: Texts,
    clusters: Texts,
    /// Each question's set of slices, of those that occur.
    slices: Vec<u32>,
    slice_sets: Vec<BTreeMap<String, String>>,
    /// Whether a question has an answer, and whether it has relevance labels.
    labels: Vec<(bool, bool)>,
    /// Words of the shortest reference, summed over questions that have one, and the number of those.
    reference_words: (usize, usize),
}

impl Samples {
    pub(super) fn read(path: &Path, notes: &mut Vec<String>) -> Result<Self, TableError> {
        let lines = Lines::open(path)?;
        let mut samples = Self {
            lines: lines.clone(),
            places: Vec::new(),
            ids: Texts::default(),
            clusters: Texts::default(),
            slices: Vec::new(),
            slice_sets: Vec::new(),
            labels: Vec::new(),
            reference_words: (0, 0),
        };
        let mut sets = BTreeMap::new();
        lines.for_each(notes, |_, place, sample: Sample| {
            samples.push(place, &sample, &mut sets);
            Ok(())
        })?;
        Ok(samples)
    }

    fn push(&mut self, place: u64, sample: &Sample, sets: &mut BTreeMap<BTreeMap<String, String>, u32>) {
        self.places.push(place);
        self.ids.push(&sample.id);
        self.clusters.push(sample.cluster_id());
        let set = sets.get(&sample.slices).copied().unwrap_or_else(|| {
            let number = self.slice_sets.len() as u32;
            self.slice_sets.push(sample.slices.clone());
            sets.insert(sample.slices.clone(), number);
            number
        });
        self.slices.push(set);
        self.labels.push((sample.answerable, !sample.relevant.is_empty()));
        if let Some(words) = sample.references.iter().map(|text| text.split_whitespace().count()).min() {
            self.reference_words.0 += words;
            self.reference_words.1 += 1;
        }
    }

    /// Number of questions.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// A question's id.
    pub fn id(&self, index: usize) -> &str {
        self.ids.get(index)
    }

    /// The unit of clustered statistics that a question belongs to.
    pub fn cluster_id(&self, index: usize) -> &str {
        self.clusters.get(index)
    }

    /// A question's tags.
    pub fn slices(&self, index: usize) -> &BTreeMap<String, String> {
        &self.slice_sets[self.slices[index] as usize]
    }

    /// The sets of tags that occur, each once.
    pub fn slice_sets(&self) -> &[BTreeMap<String, String>] {
        &self.slice_sets
    }

    /// A question has relevance labels.
    pub fn is_labelled(&self, index: usize) -> bool {
        self.labels[index].1
    }

    /// A question has an answer and relevance labels.
    pub(super) fn is_on_ladder(&self, index: usize) -> bool {
        self.labels[index] == (true, true)
    }

    /// Mean number of words of the shortest reference, over questions that have one; zero if none has.
    pub fn mean_reference_words(&self) -> f64 {
        let (words, count) = self.reference_words;
        if count == 0 { 0.0 } else { words as f64 / count as f64 }
    }

    /// All questions with their texts.
    pub fn all(&self) -> Result<Vec<Sample>, TableError> {
        let mut reader = self.reader();
        (0..self.len()).map(|index| reader.get(index)).collect()
    }

    /// Reads questions with their texts, one by one.
    pub fn reader(&self) -> SampleReader<'_> {
        SampleReader { samples: self, reader: self.lines.reader() }
    }

    /// Numbers by id.
    pub(super) fn finder(&self) -> Finder<'_> {
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        order.sort_unstable_by_key(|index| (self.id(*index as usize), *index));
        Finder { samples: self, order }
    }

    /// Bytes that the questions take in memory.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let fixed = size_of::<u64>() + size_of::<u32>() + size_of::<(bool, bool)>();
        self.len() * fixed + self.ids.bytes() + self.clusters.bytes()
    }
}

/// Reads questions from disk; fastest in their order.
#[derive(Debug)]
pub struct SampleReader<'a> {
    samples: &'a Samples,
    reader: LineReader,
}

impl SampleReader<'_> {
    /// A question with its texts.
    pub fn get(&mut self, index: usize) -> Result<Sample, TableError> {
        let sample: Sample = self.reader.read(self.samples.places[index])?;
        if sample.id == self.samples.id(index) {
            Ok(sample)
        } else {
            Err(TableError::Changed { path: self.samples.lines.path().to_owned() })
        }
    }
}

/// Finds questions by id; of several with one id the last.
pub(super) struct Finder<'a> {
    samples: &'a Samples,
    order: Vec<u32>,
}

impl Finder<'_> {
    pub(super) fn find(&self, id: &str) -> Option<usize> {
        let after = self.order.partition_point(|index| self.samples.id(*index as usize) <= id);
        let last = self.order[after.checked_sub(1)?] as usize;
        (self.samples.id(last) == id).then_some(last)
    }
}
