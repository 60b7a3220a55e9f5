//! Times of the latency pass per variant and stage, in milliseconds.

use std::collections::BTreeMap;

use super::input::{RunData, Times};
use crate::spec::VariantKind;
use crate::stats::{Estimate, Values, quantile_interval};

/// Part of a query whose time is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Embedding the question.
    Embed,
    /// Searching the index.
    Search,
    /// Searching by words, and fusing both lists.
    Lexical,
    /// Reading the candidates again.
    Rerank,
    /// Building and tokenizing the prompt.
    Prompt,
    /// Prompt to first token.
    Prefill,
    /// Later tokens.
    Decode,
    /// Question to first token.
    Ttft,
    /// Question to last token.
    E2e,
}

impl Stage {
    /// In the order of tables.
    pub const ALL: [Self; 9] =
        [Self::Embed, Self::Search, Self::Lexical, Self::Rerank, Self::Prompt, Self::Prefill, Self::Decode, Self::Ttft, Self::E2e];
    /// The stages that add up to a query.
    pub const PARTS: [Self; 7] = [Self::Embed, Self::Search, Self::Lexical, Self::Rerank, Self::Prompt, Self::Prefill, Self::Decode];

    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embed => "embed",
            Self::Search => "search",
            Self::Lexical => "lexical",
            Self::Rerank => "rerank",
            Self::Prompt => "prompt",
            Self::Prefill => "prefill",
            Self::Decode => "decode",
            Self::Ttft => "ttft",
            Self::E2e => "e2e",
        }
    }

    /// Nanoseconds of this stage in a query.
    pub fn of(self, times: &Times) -> u64 {
        match self {
            Self::Embed => times.stage_ns.embed,
            Self::Search => times.stage_ns.search,
            Self::Lexical => times.stage_ns.lexical,
            Self::Rerank => times.stage_ns.rerank,
            Self::Prompt => times.stage_ns.prompt,
            Self::Prefill => times.stage_ns.prefill,
            Self::Decode => times.stage_ns.decode,
            Self::Ttft => times.ttft_ns,
            Self::E2e => times.e2e_ns,
        }
    }
}

/// One line of the latency table; times in milliseconds. A question that was asked more than once counts once, with its mean.
#[derive(Debug, Clone, PartialEq)]
pub struct LatencyRow {
    /// The variant.
    pub variant: VariantKind,
    /// The stage.
    pub stage: Stage,
    /// Timed queries.
    pub n: usize,
    /// Distinct questions among them.
    pub n_questions: usize,
    /// Mean over questions.
    pub mean: Estimate,
    /// Median over questions.
    pub p50: Estimate,
    /// Percentile 90, with at least 29 questions.
    pub p90: Option<Estimate>,
    /// Percentile 95, with at least 59 questions.
    pub p95: Option<Estimate>,
    /// Percentile 99, with at least 299 questions.
    pub p99: Option<Estimate>,
}

/// Percentiles of the tail, and the number of values below which each is refused: with so many, one lies beyond it with probability 0.95
/// (`ln 0.05 / ln p`).
pub(super) const TAILS: [(f64, usize); 3] = [(0.90, 29), (0.95, 59), (0.99, 299)];

/// The percentiles of the tail with order-statistic intervals; nothing where there are too few values.
fn tails(sorted: &[f64], confidence: f64) -> [Option<Estimate>; 3] {
    TAILS.map(|(p, at_least)| if sorted.len() >= at_least { quantile_interval(sorted, p, confidence) } else { None })
}

/// The latency table. A stage that a variant does not have (all its times are zero) has no row.
pub fn latency(data: &RunData) -> Vec<LatencyRow> {
    let variants = data.variants();
    let cells = variants.iter().flat_map(|variant| Stage::ALL.map(|stage| (*variant, stage)));
    cells.filter_map(|(variant, stage)| row(data, variant, stage)).collect()
}

fn row(data: &RunData, variant: VariantKind, stage: Stage) -> Option<LatencyRow> {
    let (by_question, n) = milliseconds(data, variant, stage);
    if by_question.values().all(|time| *time == 0.0) {
        return None;
    }
    let questions: Vec<usize> = by_question.keys().copied().collect();
    let times: Vec<Option<f64>> = by_question.values().copied().map(Some).collect();
    let mut sorted: Vec<f64> = by_question.into_values().collect();
    sorted.sort_by(f64::total_cmp);
    let confidence = data.manifest.spec.measure.confidence;
    let [p90, p95, p99] = tails(&sorted, confidence);
    Some(LatencyRow {
        variant,
        stage,
        n,
        n_questions: sorted.len(),
        mean: super::quality::resampler(data, &questions).mean(&times)?,
        p50: quantile_interval(&sorted, 0.5, confidence)?,
        p90,
        p95,
        p99,
    })
}

/// Mean time of every question of the latency pass in milliseconds, by sample index, and the number of timed queries.
pub fn milliseconds(data: &RunData, variant: VariantKind, stage: Stage) -> (BTreeMap<usize, f64>, usize) {
    let mut times = BTreeMap::<usize, (f64, usize)>::new();
    for query in data.timed(variant) {
        let entry = times.entry(query.sample).or_default();
        entry.0 += stage.of(&query.times) as f64 / 1e6;
        entry.1 += 1;
    }
    let n = times.values().map(|(_, count)| count).sum();
    (times.into_iter().map(|(sample, (sum, count))| (sample, sum / count as f64)).collect(), n)
}

/// Mean difference of the times of two variants over the questions that both were timed on, left minus right, in milliseconds, with the
/// interval of paired questions; nothing where there are none.
pub fn time_difference(data: &RunData, left: VariantKind, right: VariantKind, stage: Stage) -> Option<Estimate> {
    let ((left, _), (right, _)) = (milliseconds(data, left, stage), milliseconds(data, right, stage));
    let both: Vec<(usize, f64)> = left.iter().filter_map(|(question, time)| Some((*question, time - right.get(question)?))).collect();
    let questions: Vec<usize> = both.iter().map(|(question, _)| *question).collect();
    let differences = both.iter().map(|(_, difference)| Some(*difference)).collect();
    let found = super::quality::resampler(data, &questions).compare(&[differences], Values::Measures).pop()??;
    Some(found.difference)
}
