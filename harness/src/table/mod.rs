//! From a run folder to tables: the journal is gone through row by row, typed rows are made from it, and Polars writes them.
//!
//! A journal may have more rows than memory holds. What stays of a row is where it begins and its scores ([`Scores`]); answers, passages and
//! prompts stay on disk and are read again, in the order of tables, by whoever writes or shows them.
//!
//! [`read`] makes the rows and touches nothing; [`write_tables`] also writes `tables/`. No model, no clock, no randomness but the seeded
//! resampling behind intervals: the same folder gives the same bytes. The cost rows come from the layer above, which hands them to
//! [`write_cost`], because this module alone may name Polars.

pub mod column;
mod contrast;
mod frame;
pub mod history;
pub mod input;
mod ladder;
mod latency;
mod lines;
pub mod metric;
mod quality;
mod samples;
mod score;
mod server;
mod survey;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use crate::diagnostic::Hint;
use crate::spec::{ContextSource, VariantKind};
use crate::stats::{Comparison, Estimate};
use crate::store::StoreError;
use crate::store::manifest::Manifest;

pub use contrast::{Adjustment, ContrastRow, Scale, declared_differences};
use frame::Form;
pub use input::{Observation, RunData, Times};
pub use ladder::{Cause, LadderRow, Rung, Step};
pub use latency::{LatencyRow, Stage, milliseconds, time_difference};
pub use metric::{Direction, Kind, Metric, primary as primary_of};
pub use quality::{ALL, QualityRow, members as slices_of};
pub use samples::{SampleReader, Samples};
pub use score::{BySeed, Column, Scored, Scores};
pub use server::ServerStats;
pub use survey::{Timed, Usage};

/// Tables that every run with a report has, as Parquet.
pub const ALWAYS: [&str; 9] = ["predictions", "hits", "training", "quality", "contrasts", "ladder", "latency", "cost", "decision"];

/// Where the tables of a run stand.
pub const FOLDER: &str = "tables";

/// What can go wrong between a run folder and its tables.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The folder is not a run, or a file of it cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A line is not what it should be.
    #[error("`{}` line {line} is malformed", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// A line parses but does not belong here.
    #[error("`{}` line {line} {problem}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A file is not the one that was read a moment ago.
    #[error("`{}` was changed while it was read", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// Polars could not read a table.
    #[error("cannot read table `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Box<polars::error::PolarsError>,
    },
    /// Polars could not encode a table.
    #[error("cannot encode table `{table}`")]
    Frame {
        /// The table.
        table: String,
        /// Why not.
        source: Box<polars::error::PolarsError>,
    },
}

impl Hint for TableError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Line { .. } | Self::Row { .. } => Some("restore the run folder from a copy, or run again into a new folder".to_owned()),
            Self::Store(error) => error.hint(),
            Self::Changed { .. } => Some("try again when nothing writes to the run folder".to_owned()),
            Self::Unreadable { .. } => Some("the file is torn or of another version; restore it from a copy".to_owned()),
            Self::Frame { .. } => None,
        }
    }
}

/// When a cost arises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CostPhase {
    /// Once, before the first question.
    Setup,
    /// With every question.
    Query,
    /// With every document that is added or changed.
    Update,
}

impl CostPhase {
    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Query => "query",
            Self::Update => "update",
        }
    }
}

/// How a cost is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CostSource {
    /// With a clock, on this machine.
    Measured,
    /// Exactly: tokens, labels, bytes, analytic operations.
    Counted,
    /// By the user, in the spec.
    Declared,
    /// From the others, with the prices of the spec.
    Priced,
    /// By another system, with its answers.
    Given,
}

impl CostSource {
    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Counted => "counted",
            Self::Declared => "declared",
            Self::Priced => "priced",
            Self::Given => "given",
        }
    }
}

/// One line of the cost table.
#[derive(Debug, Clone, PartialEq)]
pub struct CostRow {
    /// The variant that pays.
    pub variant: VariantKind,
    /// When.
    pub phase: CostPhase,
    /// What is counted, for example `training_tokens`.
    pub quantity: String,
    /// `tokens`, `flops`, `seconds`, `bytes`, `joules`, `labels`, `minutes` or the currency.
    pub unit: String,
    /// How much.
    pub value: f64,
    /// How it is known.
    pub source: CostSource,
}

/// One line of the decision: how a variant stands to the one with the best score, and what it costs.
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionRow {
    /// The variant.
    pub variant: VariantKind,
    /// The leading metric.
    pub metric: String,
    /// The variant's score in it.
    pub score: f64,
    /// `best`, `within`, `below` or `open`.
    pub standing: &'static str,
    /// Its score less that of the best; nothing for the best itself.
    pub difference: Option<Estimate>,
    /// Adjusted p of a score below the margin; nothing for the best itself.
    pub p_within: Option<f64>,
    /// Adjusted p of a score within the margin; nothing for the best itself.
    pub p_below: Option<f64>,
    /// Cost over the spec's months and usage; nothing if it is not known or the variant cannot be brought up to date.
    pub total: Option<f64>,
    /// What `total` is in.
    pub unit: String,
    /// The variant is the recommended one.
    pub is_pick: bool,
}

/// One line of the claims: a test of a claim.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimRow {
    /// Id of the claim.
    pub claim: String,
    /// The claim in words.
    pub title: String,
    /// What the run says about the whole claim.
    pub verdict: &'static str,
    /// The claim was given after the run.
    pub post_hoc: bool,
    /// What this test compares.
    pub test: String,
    /// What it predicts.
    pub predicted: String,
    /// What was found, in `unit`.
    pub figure: Option<Estimate>,
    /// `points` or `ratio`.
    pub unit: &'static str,
    /// What the run says about this test.
    pub test_verdict: &'static str,
    /// Why it could not be tested, or what to know of it.
    pub note: String,
}

/// The typed rows of a run, and the data that they were made from.
#[derive(Debug, Clone)]
pub struct Tables {
    /// The run folder as read.
    pub data: RunData,
    /// Scores by variant, metric and sample.
    pub scores: Scores,
    /// Means by variant, slice and metric.
    pub quality: Vec<QualityRow>,
    /// Paired differences.
    pub contrasts: Vec<ContrastRow>,
    /// Times by variant and stage.
    pub latency: Vec<LatencyRow>,
    /// The server scenario by variant; empty if it was left out.
    pub server: Vec<ServerStats>,
    /// How far questions get, and why not further.
    pub ladder: Vec<LadderRow>,
}

impl Tables {
    /// The run's manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.data.manifest
    }

    /// Variants that have rows, in the order of tables.
    pub fn variants(&self) -> Vec<VariantKind> {
        self.data.variants()
    }

    /// The metric that leads the report, if any answer metric was measured.
    pub fn primary(&self) -> Option<&Metric> {
        metric::primary(&self.scores.metrics, self.data.mean_reference_words())
    }

    /// Names of the slices, `all` first.
    pub fn slices(&self) -> Vec<String> {
        quality::members(&self.data).into_iter().map(|(name, _)| name).collect()
    }

    /// One cell of the quality table; nothing if it was not measured.
    pub fn quality_of(&self, variant: VariantKind, slice: &str, metric: &str) -> Option<&QualityRow> {
        self.quality.iter().find(|row| row.variant == variant && row.slice == slice && row.metric.id == metric)
    }

    /// The paired difference of any two variants, left minus right, in a slice; nothing where no question has both scores. The declared
    /// differences are in `contrasts`.
    pub fn difference(&self, left: VariantKind, right: VariantKind, slice: &str, metric: &Metric) -> Option<Estimate> {
        Some(self.comparison(left, right, slice, metric)?.difference)
    }

    /// The same with its error and tests.
    pub fn comparison(&self, left: VariantKind, right: VariantKind, slice: &str, metric: &Metric) -> Option<Comparison> {
        let (name, members) = quality::members(&self.data).into_iter().find(|(name, _)| name == slice)?;
        let slice = quality::Slice::of(&self.data, name, members);
        contrast::of_pair(&self.data, &self.scores, &slice, left, right, metric)
    }

    /// One line of the ladder; nothing if the variant has no such rung, or no question counts.
    pub fn ladder_of(&self, variant: VariantKind, step: Step) -> Option<f64> {
        self.ladder.iter().find(|row| row.variant == variant && row.step == step)?.count
    }

    /// The parts of a query to show: those that only some ways of retrieving have, where a variant has them.
    pub fn stages(&self) -> Vec<Stage> {
        let is_shown =
            |stage: &Stage| !matches!(stage, Stage::Lexical | Stage::Rerank) || self.latency.iter().any(|row| row.stage == *stage);
        Stage::PARTS.into_iter().filter(is_shown).collect()
    }

    /// One line of the latency table; nothing if it was not measured.
    pub fn latency_of(&self, variant: VariantKind, stage: Stage) -> Option<&LatencyRow> {
        self.latency.iter().find(|row| row.variant == variant && row.stage == stage)
    }

    /// The estimate of a declared difference; nothing if it was not measured.
    pub fn contrast_of(&self, left: &str, right: &str, slice: &str, metric: &str) -> Option<&ContrastRow> {
        let is = |row: &&ContrastRow| row.left == left && row.right == right && row.slice == slice && row.metric.id == metric;
        self.contrasts.iter().filter(|row| row.scale == Scale::Additive).find(is)
    }

    /// The interaction of the two factors in log-odds; nothing if it was not measured.
    pub fn interaction_in_log_odds(&self, slice: &str, metric: &str) -> Option<&ContrastRow> {
        self.contrasts.iter().find(|row| row.scale == Scale::LogOdds && row.slice == slice && row.metric.id == metric)
    }

    /// Mean of what a query uses, over the rows of the accuracy pass that did not fail; nothing if there are none, or one does not have it.
    pub fn mean_per_query(&self, variant: VariantKind, of: impl Fn(&Usage) -> Option<f64>) -> Option<f64> {
        let usage = self.data.usage(variant);
        Some(of(&usage).filter(|_| usage.n > 0)? / usage.n as f64)
    }

    /// What servers charge for a query at the spec's prices, by the mean tokens that they counted; zero where none is used.
    pub fn token_money(&self, variant: VariantKind) -> f64 {
        let manifest = self.manifest();
        if variant.is_predicted() {
            return 0.0;
        }
        let mut money = 0.0;
        if manifest.model.served.is_some() {
            let tokens = |of: fn(&Usage) -> f64| self.mean_per_query(variant, |usage| Some(of(usage))).unwrap_or(0.0);
            money += manifest.spec.model.endpoint.money(tokens(|usage| usage.prompt_tokens), tokens(|usage| usage.completion_tokens));
        }
        let embedder = manifest.index.as_ref().and_then(|index| index.embedder.as_ref());
        if let Some(embedder) = embedder.filter(|_| variant.context() == ContextSource::Retrieved) {
            money += embedder.question_tokens * manifest.spec.retrieval.endpoint.price_input / 1e6;
        }
        money
    }

    /// Mean over the timed queries of what the system told of each; nothing where it did not tell of all.
    pub fn mean_per_timed_query(&self, variant: VariantKind, of: impl Fn(&Times) -> Option<f64>) -> Option<f64> {
        let values: Vec<f64> = self.data.timed(variant).iter().map(|query| of(&query.times)).collect::<Option<_>>()?;
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }

    /// How much longer a query of `left` takes than one of `right`, in seconds, over the questions that both were timed on; nothing if there
    /// are none.
    pub fn seconds_difference(&self, left: VariantKind, right: VariantKind) -> Option<Estimate> {
        let difference = time_difference(&self.data, left, right, Stage::E2e)?;
        let seconds = |milliseconds: f64| milliseconds / 1e3;
        Some(Estimate {
            point: seconds(difference.point),
            ci_low: seconds(difference.ci_low),
            ci_high: seconds(difference.ci_high),
            n: difference.n,
        })
    }

    /// Mean time of a query of the latency pass in seconds; nothing if there was no such pass.
    pub fn seconds_per_query(&self, variant: VariantKind) -> Option<Estimate> {
        let mean = self.latency_of(variant, Stage::E2e)?.mean;
        Some(Estimate { point: mean.point / 1e3, ci_low: mean.ci_low / 1e3, ci_high: mean.ci_high / 1e3, n: mean.n })
    }
}

/// Makes the typed rows of a run folder; writes nothing.
pub fn read(run: &Path) -> Result<Tables, TableError> {
    let mut data = RunData::read(run)?;
    if let Some(shard) = data.manifest.shard {
        let (has, of) = (data.samples.len(), data.manifest.dataset.test);
        data.notes.push(format!("this is shard {shard} with {has} of {of} test questions: `ragft merge` makes the run"));
    }
    note_missing_answers(&mut data);
    let scores = Scores::of(&data)?;
    let (mut quality, mut found) = (Vec::new(), Vec::new());
    // One slice at a time: its draws are gone before the next one's are made.
    for (name, members) in quality::members(&data) {
        let slice = quality::Slice::of(&data, name, members);
        quality.extend(quality::quality(&data, &scores, &slice));
        found.extend(contrast::of_slice(&data, &scores, &slice));
    }
    quality.sort_by_key(|row| row.variant);
    let contrasts = contrast::judge(&data, metric::primary(&scores.metrics, data.mean_reference_words()), found);
    let latency = latency::latency(&data);
    let ladder = ladder::ladder(&data, &scores)?;
    let server = server::server(&data);
    Ok(Tables { data, scores, quality, contrasts, latency, server, ladder })
}

/// A variant without a row for every test question was interrupted; its means are over fewer questions than the others'.
fn note_missing_answers(data: &mut RunData) {
    for variant in data.variants() {
        let (has, of) = (data.answered(variant), data.samples.len());
        if has < of {
            data.notes.push(format!("`{}` has rows for {has} of {of} test questions: the run is not complete", variant.name()));
        }
    }
}

/// Makes the typed rows of a run folder and writes `tables/` except the cost table.
pub fn write_tables(run: &Path) -> Result<Tables, TableError> {
    let tables = read(run)?;
    let folder = run.join(FOLDER);
    frame::write_rows(&folder, "predictions", &tables.data, frame::predictions)?;
    frame::write_rows(&folder, "hits", &tables.data, frame::hits)?;
    frame::write(&folder, "training", Form::Parquet, frame::training(&tables.data))?;
    frame::write(&folder, "quality", Form::ParquetAndCsv, frame::quality(&tables.quality))?;
    frame::write(&folder, "contrasts", Form::ParquetAndCsv, frame::contrasts(&tables.contrasts))?;
    frame::write(&folder, "ladder", Form::ParquetAndCsv, frame::ladder(&tables.ladder))?;
    frame::write(&folder, "latency", Form::ParquetAndCsv, frame::latency(&tables.latency))?;
    if !tables.server.is_empty() {
        frame::write(&folder, "server", Form::ParquetAndCsv, frame::server(&tables.server))?;
    }
    Ok(tables)
}

/// Writes `tables/decision`.
pub fn write_decision(run: &Path, rows: &[DecisionRow]) -> Result<(), TableError> {
    frame::write(&run.join(FOLDER), "decision", Form::ParquetAndCsv, frame::decision(rows))
}

/// Writes `tables/claims`.
pub fn write_claims(run: &Path, rows: &[ClaimRow]) -> Result<(), TableError> {
    frame::write(&run.join(FOLDER), "claims", Form::ParquetAndCsv, frame::claims(rows))
}

/// Writes `tables/cost`.
pub fn write_cost(run: &Path, rows: &[CostRow]) -> Result<(), TableError> {
    frame::write(&run.join(FOLDER), "cost", Form::ParquetAndCsv, frame::cost(rows))
}
