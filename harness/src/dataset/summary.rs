//! Counts that describe a dataset.

use std::collections::BTreeMap;

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
    /// Questions with choices.
    pub with_choices: usize,
    /// Clusters: what the intervals have to stand on.
    pub clusters: usize,
    /// Questions per cluster; nothing if there are none.
    pub cluster_sizes: Option<Lengths>,
    /// What the split can show; nothing if it is empty.
    pub reach: Option<Reach>,
    /// Questions by slice name and value.
    pub slices: BTreeMap<String, BTreeMap<String, usize>>,
    /// Lengths of the questions in characters; nothing if there are none.
    pub question_chars: Option<Lengths>,
    /// Lengths of the references in characters; nothing if there are none.
    pub reference_chars: Option<Lengths>,
}

/// How many questions of a split's clustering show a difference of [`EFFECT`] between two variants, by McNemar's test at 5 % with 80 % power.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reach {
    /// Times as many questions as independent ones, at a correlation of [`CORRELATION`] within a cluster.
    pub design_effect: f64,
    /// Questions needed, by the share of questions that exactly one of the two variants gets right.
    pub needed: Vec<Needed>,
}

/// Questions needed at one discordance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Needed {
    /// Share of questions that exactly one of two variants gets right.
    pub discordance: f64,
    /// Questions with which the difference is found.
    pub questions: f64,
}

/// The difference asked about: 5 points.
pub const EFFECT: f64 = 0.05;
/// Correlation of differences within a cluster, where nothing is known of it yet.
pub const CORRELATION: f64 = 0.3;
/// Discordances shown: alike, middling and unlike variants.
const DISCORDANCES: [f64; 3] = [0.1, 0.2, 0.3];
/// Normal quantiles of 97.5 % and 80 %.
const QUANTILES: (f64, f64) = (1.959_963_984_540_054, 0.841_621_233_572_914_3);

impl Reach {
    fn of(sizes: &[f64]) -> Option<Self> {
        let total: f64 = sizes.iter().sum();
        if total <= 0.0 {
            return None;
        }
        // Clusters differ in size: what counts is the size that a question meets, not the mean over clusters.
        let met = sizes.iter().map(|size| size * size).sum::<f64>() / total;
        let design_effect = 1.0 + (met - 1.0) * CORRELATION;
        let needed = |discordance: f64| {
            let reach = QUANTILES.0 * discordance.sqrt() + QUANTILES.1 * (discordance - EFFECT * EFFECT).sqrt();
            Needed { discordance, questions: ((reach / EFFECT).powi(2) * design_effect).ceil() }
        };
        Some(Self { design_effect, needed: DISCORDANCES.map(needed).to_vec() })
    }
}

/// Quantiles of lengths (or sizes), interpolated as NumPy does by default.
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
    let mut clusters: BTreeMap<&str, f64> = BTreeMap::new();
    for sample in samples {
        *clusters.entry(sample.cluster_id()).or_default() += 1.0;
    }
    let sizes: Vec<f64> = clusters.into_values().collect();
    SplitSummary {
        split,
        questions: samples.len(),
        answerable: samples.iter().filter(|sample| sample.answerable).count(),
        with_relevant: samples.iter().filter(|sample| !sample.relevant.is_empty()).count(),
        with_choices: samples.iter().filter(|sample| !sample.choices.is_empty()).count(),
        clusters: sizes.len(),
        reach: Reach::of(&sizes),
        cluster_sizes: quantiles(sizes),
        slices,
        question_chars: lengths(samples.iter().map(|sample| sample.question.as_str())),
        reference_chars: lengths(samples.iter().flat_map(|sample| &sample.references).map(String::as_str)),
    }
}

fn lengths<'a>(texts: impl Iterator<Item = &'a str>) -> Option<Lengths> {
    quantiles(texts.map(|text| text.chars().count() as f64).collect())
}

fn quantiles(mut values: Vec<f64>) -> Option<Lengths> {
    values.sort_by(f64::total_cmp);
    let at = |p| quantile(&values, p);
    Some(Lengths { min: at(0.0)?, q25: at(0.25)?, median: at(0.5)?, q75: at(0.75)?, q95: at(0.95)?, max: at(1.0)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The planner's table: 5 points at 20 % discordance need about 620 independent questions, and 1.9 times as many in fours.
    #[test]
    fn questions_needed_follow_discordance_and_clusters() {
        let single = Reach::of(&[1.0; 50]).unwrap();
        assert_eq!(single.design_effect, 1.0);
        assert!((620.0..=630.0).contains(&single.needed[1].questions), "{:?}", single.needed);
        let fours = Reach::of(&[4.0; 50]).unwrap();
        assert!((fours.design_effect - 1.9).abs() < 1e-12);
        let uneven = Reach::of(&[1.0, 1.0, 1.0, 13.0]).unwrap();
        assert!(uneven.design_effect > fours.design_effect, "a large cluster costs more than its share");
        assert_eq!(Reach::of(&[]), None);
    }
}
