//! Question by question: what every variant answered, with its scores and the passages it was given.
//!
//! A page holds so many questions and no more, whatever the run's size: those on which the variants differ come first, the most frequent
//! patterns of right and wrong before the others and within a pattern the first of the set, so that nobody chose them; then the rest in their
//! order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use crate::dataset::Sample;
use crate::report::format::{self, shortened};
use crate::retrieval::Chunk;
use crate::spec::VariantKind;
use crate::store::row::HitRow;
use crate::table::input::read_passages;
use crate::table::{Kind, Metric, Observation, TableError, Tables};

/// Questions shown.
const COUNT: usize = 200;
/// Characters shown of a text, and of a passage.
const LENGTH: usize = 400;
const PASSAGE_LENGTH: usize = 220;

/// The drill-down.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(in crate::report) struct Questions {
    /// How many are shown, which, and where the others are.
    pub note: String,
    /// The metric that is right or wrong.
    pub metric: String,
    /// Columns of scores.
    pub metrics: Vec<String>,
    /// In the order of tables.
    pub variants: Vec<&'static str>,
    pub list: Vec<Question>,
}

/// One question with all answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(in crate::report) struct Question {
    pub id: String,
    pub question: String,
    pub references: String,
    pub slices: String,
    /// The variants do not agree.
    pub differs: bool,
    /// Variants that are right.
    pub right: usize,
    pub answers: Vec<Answer>,
    pub passages: Vec<Given>,
}

/// What one variant answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(in crate::report) struct Answer {
    pub variant: &'static str,
    pub text: String,
    /// `right`, `wrong`, `failed`, `partly`, or nothing where it was not scored.
    pub verdict: &'static str,
    /// The leading score, for sorting.
    pub score: String,
    /// One per metric of [`Questions::metrics`].
    pub scores: Vec<String>,
    pub tokens: String,
}

/// The passages that some variants were given alike.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(in crate::report) struct Given {
    pub variants: String,
    pub passages: Vec<Shown>,
}

/// A passage as it was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(in crate::report) struct Shown {
    pub document: String,
    pub score: String,
    pub notes: String,
    pub is_relevant: bool,
    pub text: String,
}

/// Passages by the ids of their chunks.
pub(in crate::report) type Passages = BTreeMap<String, Chunk>;

/// The questions of the page, and the passages that their answers name.
pub(in crate::report) fn gather(run: &Path, tables: &Tables) -> Result<Questions, TableError> {
    let chosen = choose(tables);
    let shown = read(tables, &chosen)?;
    let named = shown.iter().flat_map(|shown| &shown.rows).flat_map(|row| &row.hits).map(|hit| hit.chunk_id.as_str());
    let passages = read_passages(run, &named.collect())?;
    Ok(build(tables, &shown, &passages))
}

/// A question of the page as the run folder has it.
struct Recorded {
    index: usize,
    sample: Sample,
    /// The first row of every variant.
    rows: Vec<Observation>,
}

fn build(tables: &Tables, shown: &[Recorded], passages: &Passages) -> Questions {
    let metrics: Vec<&Metric> = tables.scores.metrics_of(Kind::Answer).collect();
    let list = shown.iter().map(|shown| question(tables, shown, &metrics, passages)).collect();
    let total = tables.data.samples.len();
    let note = if shown.len() < total {
        format!(
            "{} of {} questions: those on which the variants differ first, the most frequent patterns of right and wrong before the others. \
             Every answer is in tables/predictions.parquet and every passage in tables/hits.parquet; `ragft show RUN --sample ID` prints one \
             question with its prompts.",
            format::count(shown.len() as f64),
            format::count(total as f64)
        )
    } else {
        format!(
            "All {} questions, those on which the variants differ first. The same is in tables/predictions.parquet; `ragft show RUN --sample \
             ID` prints one question with its prompts.",
            format::count(total as f64)
        )
    };
    Questions {
        note,
        metric: tables.primary().map_or_else(String::new, Metric::label),
        metrics: metrics.iter().map(|metric| metric.label()).collect(),
        variants: tables.variants().into_iter().map(VariantKind::name).collect(),
        list,
    }
}

/// Which questions are shown, in order.
fn choose(tables: &Tables) -> Vec<usize> {
    let mut patterns = BTreeMap::<Vec<Option<i64>>, Vec<usize>>::new();
    let mut agreed = Vec::new();
    for sample in 0..tables.data.samples.len() {
        let pattern = pattern(tables, sample);
        if differs(&pattern) { patterns.entry(pattern).or_default().push(sample) } else { agreed.push(sample) }
    }
    let mut groups: Vec<Vec<usize>> = patterns.into_values().collect();
    groups.sort_by_key(|samples| (std::cmp::Reverse(samples.len()), samples[0]));
    let rounds = groups.iter().map(Vec::len).max().unwrap_or(0);
    let differing = (0..rounds).flat_map(|round| groups.iter().filter_map(move |samples| samples.get(round).copied()));
    differing.chain(agreed).take(COUNT).collect()
}

/// Every variant's leading score in per cent, where it has one.
fn pattern(tables: &Tables, sample: usize) -> Vec<Option<i64>> {
    let Some(metric) = tables.primary() else { return Vec::new() };
    let score = |variant| tables.scores.column(variant, &metric.id)?.get(sample).map(|scored| (scored.value * 100.0).round() as i64);
    tables.variants().into_iter().map(score).collect()
}

fn differs(pattern: &[Option<i64>]) -> bool {
    pattern.iter().flatten().any(|score| pattern.iter().flatten().any(|other| other != score))
}

/// The chosen questions with their texts and rows.
fn read(tables: &Tables, chosen: &[usize]) -> Result<Vec<Recorded>, TableError> {
    let mut samples = tables.data.samples.reader();
    let read = |&index: &usize| -> Result<Recorded, TableError> {
        let rows = tables.variants().into_iter().filter_map(|variant| tables.data.first_row(variant, index).transpose());
        Ok(Recorded { index, sample: samples.get(index)?, rows: rows.collect::<Result<_, _>>()? })
    };
    chosen.iter().map(read).collect()
}

fn question(tables: &Tables, shown: &Recorded, metrics: &[&Metric], passages: &Passages) -> Question {
    let Recorded { index, sample, rows } = shown;
    let slices: Vec<String> = sample.slices.iter().map(|(tag, value)| format!("{tag}={value}")).collect();
    let references = if sample.references.is_empty() { "(no answer)".to_owned() } else { sample.references.join(" / ") };
    let answers: Vec<Answer> = rows.iter().map(|row| answer(tables, row, metrics)).collect();
    Question {
        id: shortened(&sample.id, LENGTH),
        question: shortened(&sample.question, LENGTH),
        references: shortened(&references, LENGTH),
        slices: shortened(&slices.join(", "), LENGTH),
        differs: differs(&pattern(tables, *index)),
        right: answers.iter().filter(|answer| answer.verdict == "right").count(),
        answers,
        passages: given(sample, rows, passages),
    }
}

fn answer(tables: &Tables, row: &Observation, metrics: &[&Metric]) -> Answer {
    let score = |metric: &Metric| row.score(&metric.id);
    let leading = tables.primary().and_then(score);
    let verdict = match (&row.error, leading) {
        (Some(_), _) => "failed",
        (None, Some(score)) if score >= 1.0 => "right",
        (None, Some(score)) if score <= 0.0 => "wrong",
        (None, Some(_)) => "partly",
        (None, None) => "",
    };
    let shown = |metric: &&Metric| score(metric).map_or_else(|| "–".to_owned(), |value| format::score(value, metric));
    Answer {
        variant: row.variant.name(),
        text: shortened(row.error.as_deref().unwrap_or(&row.answer), LENGTH),
        verdict,
        score: leading.map_or_else(String::new, |score| score.to_string()),
        scores: metrics.iter().map(shown).collect(),
        tokens: format!("{} + {}", row.prompt_tokens, row.completion_tokens),
    }
}

/// The passages of the variants that have any; variants with the same ones stand together.
fn given(sample: &Sample, rows: &[Observation], passages: &Passages) -> Vec<Given> {
    let relevant: BTreeSet<&str> = sample.relevant.iter().map(String::as_str).collect();
    let mut groups: Vec<(Vec<&'static str>, &[HitRow])> = Vec::new();
    for row in rows.iter().filter(|row| !row.hits.is_empty()) {
        match groups.iter_mut().find(|(_, hits)| **hits == row.hits[..]) {
            Some((variants, _)) => variants.push(row.variant.name()),
            None => groups.push((vec![row.variant.name()], row.hits.as_slice())),
        }
    }
    let shown = |hit: &HitRow| {
        let (document, chunk) = (hit.document_id.as_str(), hit.chunk_id.as_str());
        let is_relevant = relevant.contains(document);
        let notes = [
            is_relevant.then_some("relevant"),
            (!hit.in_prompt).then_some("not in the prompt"),
            (hit.in_exact == Some(false)).then_some("not among the exact ones"),
        ];
        Shown {
            document: shortened(document, LENGTH),
            score: if hit.score == 0.0 { "given".to_owned() } else { format!("{:.3}", hit.score) },
            notes: notes.into_iter().flatten().collect::<Vec<_>>().join(", "),
            is_relevant,
            text: passages.get(chunk).map_or_else(String::new, |chunk| shortened(&chunk.text, PASSAGE_LENGTH)),
        }
    };
    groups.into_iter().map(|(variants, hits)| Given { variants: variants.join(", "), passages: hits.iter().map(shown).collect() }).collect()
}
