//! Counts that describe a dataset.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Dataset, Sample, Split};
use crate::stats::quantile;

/// A dataset in numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Documents in the corpus.
    pub documents: usize,
    /// Their texts' lengths in characters; nothing if there are none.
    pub document_chars: Option<Lengths>,
    /// One entry per split, empty splits included.
    pub splits: Vec<SplitSummary>,
}

/// A split in numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SplitSummary {
    /// Which.
    pub split: Split,
    /// Questions.
    pub questions: usize,
    /// Questions that have an answer.
    pub answerable: usize,
    /// Questions with relevance labels.
    pub with_relevant: usize,
    /// Clusters: what the intervals have to stand on.
    pub clusters: usize,
    /// Questions by slice name and value.
    pub slices: BTreeMap<String, BTreeMap<String, usize>>,
    /// Lengths of the references in characters; nothing if there are none.
    pub reference_chars: Option<Lengths>,
}

/// Quantiles of lengths in characters, interpolated as NumPy does by default.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[expect(missing_docs, reason = "names say it")]
pub struct Lengths {
    pub min: f64,
    pub q25: f64,
    pub median: f64,
    pub q75: f64,
    pub q95: f64,
    pub max: f64,
}

/// Counts documents, questions, slices and lengths.
pub fn summary(dataset: &Dataset) -> Summary {
    Summary {
        documents: dataset.documents.len(),
        document_chars: lengths(dataset.documents.iter().map(|document| document.text.as_str())),
        splits: dataset.splits().map(|(split, samples)| summarise(split, samples)).to_vec(),
    }
}

fn summarise(split: Split, samples: &[Sample]) -> SplitSummary {
    let mut slices: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for (name, value) in samples.iter().flat_map(|sample| &sample.slices) {
        *slices.entry(name.clone()).or_default().entry(value.clone()).or_default() += 1;
    }
    SplitSummary {
        split,
        questions: samples.len(),
        answerable: samples.iter().filter(|sample| sample.answerable).count(),
        with_relevant: samples.iter().filter(|sample| !sample.relevant.is_empty()).count(),
        clusters: samples.iter().map(Sample::cluster_id).collect::<BTreeSet<_>>().len(),
        slices,
        reference_chars: lengths(samples.iter().flat_map(|sample| &sample.references).map(String::as_str)),
    }
}

fn lengths<'a>(texts: impl Iterator<Item = &'a str>) -> Option<Lengths> {
    let mut chars: Vec<f64> = texts.map(|text| text.chars().count() as f64).collect();
    chars.sort_by(f64::total_cmp);
    let at = |p| quantile(&chars, p);
    Some(Lengths { min: at(0.0)?, q25: at(0.25)?, median: at(0.5)?, q75: at(0.75)?, q95: at(0.95)?, max: at(1.0)? })
}
