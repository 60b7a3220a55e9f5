//! Times of the latency pass per variant and stage, in milliseconds.

use std::collections::BTreeMap;

use super::input::{Observation, RunData};
use crate::spec::VariantKind;
use crate::stats::{Estimate, quantile, quantile_interval};
use crate::store::row::Phase;

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

    /// Nanoseconds of this stage in a row.
    pub fn of(self, row: &Observation) -> u64 {
        match self {
            Self::Embed => row.stage_ns.embed,
            Self::Search => row.stage_ns.search,
            Self::Lexical => row.stage_ns.lexical,
            Self::Rerank => row.stage_ns.rerank,
            Self::Prompt => row.stage_ns.prompt,
            Self::Prefill => row.stage_ns.prefill,
            Self::Decode => row.stage_ns.decode,
            Self::Ttft => row.ttft_ns,
            Self::E2e => row.e2e_ns,
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
    pub p90: Option<f64>,
    /// Percentile 95, with at least 59 questions.
    pub p95: Option<f64>,
    /// Percentile 99, with at least 299 questions.
    pub p99: Option<f64>,
}

/// A percentile `p` is refused below the number of values that brings one beyond it with probability 0.95: `ln 0.05 / ln p`.
fn percentile(sorted: &[f64], p: f64, at_least: usize) -> Option<f64> {
    if sorted.len() >= at_least { quantile(sorted, p) } else { None }
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
    Some(LatencyRow {
        variant,
        stage,
        n,
        n_questions: sorted.len(),
        mean: super::quality::resampler(data, &questions).mean(&times)?,
        p50: quantile_interval(&sorted, 0.5, data.manifest.spec.measure.confidence)?,
        p90: percentile(&sorted, 0.90, 29),
        p95: percentile(&sorted, 0.95, 59),
        p99: percentile(&sorted, 0.99, 299),
    })
}

/// Mean time of every question of the latency pass in milliseconds, by sample index, and the number of timed queries.
pub fn milliseconds(data: &RunData, variant: VariantKind, stage: Stage) -> (BTreeMap<usize, f64>, usize) {
    let mut times = BTreeMap::<usize, (f64, usize)>::new();
    for row in data.rows_of(variant, Phase::Latency).filter(|row| row.error.is_none()) {
        let entry = times.entry(row.sample).or_default();
        entry.0 += stage.of(row) as f64 / 1e6;
        entry.1 += 1;
    }
    let n = times.values().map(|(_, count)| count).sum();
    (times.into_iter().map(|(sample, (sum, count))| (sample, sum / count as f64)).collect(), n)
}
