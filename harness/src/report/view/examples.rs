//! Questions on which the variants differ, with what each answered.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::report::format::shortened;
use crate::store::row::Phase;
use crate::table::{Observation, Tables};

/// Examples shown.
const COUNT: usize = 8;
/// Characters shown of a text.
const LENGTH: usize = 240;

/// One question with all answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(in crate::report) struct Example {
    pub id: String,
    pub question: String,
    pub references: String,
    pub slices: String,
    pub answers: Vec<Answer>,
}

/// What one variant answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(in crate::report) struct Answer {
    pub variant: &'static str,
    pub text: String,
    /// `right`, `wrong`, `failed`, or the score in percent.
    pub verdict: String,
}

/// Examples for as many patterns of right and wrong as there is room for, the most frequent pattern first; within a pattern the first
/// questions of the set, so that nobody chose them.
pub(super) fn pick(tables: &Tables) -> Vec<Example> {
    let mut patterns = BTreeMap::<Vec<i64>, Vec<usize>>::new();
    for sample in 0..tables.data.samples.len() {
        if let Some(pattern) = pattern(tables, sample) {
            patterns.entry(pattern).or_default().push(sample);
        }
    }
    let mut groups: Vec<Vec<usize>> = patterns.into_values().collect();
    groups.sort_by_key(|samples| (std::cmp::Reverse(samples.len()), samples[0]));
    let rounds = (0..COUNT).flat_map(|round| groups.iter().filter_map(move |samples| samples.get(round)));
    rounds.take(COUNT).map(|sample| example(tables, *sample)).collect()
}

/// Every variant's score in per cent; nothing if they agree or one has no row.
fn pattern(tables: &Tables, sample: usize) -> Option<Vec<i64>> {
    let metric = tables.primary()?;
    let score = |variant| tables.scores.column(variant, &metric.id)?[sample].map(|scored| (scored.value * 100.0).round() as i64);
    let scores: Vec<i64> = tables.variants().into_iter().map(score).collect::<Option<_>>()?;
    scores.iter().any(|score| *score != scores[0]).then_some(scores)
}

fn example(tables: &Tables, index: usize) -> Example {
    let sample = &tables.data.samples[index];
    let slices: Vec<String> = sample.slices.iter().map(|(tag, value)| format!("{tag}={value}")).collect();
    let references = if sample.references.is_empty() { "(no answer)".to_owned() } else { sample.references.join(" / ") };
    let answer = |variant| tables.data.rows_of(variant, Phase::Accuracy).find(|row| row.sample == index);
    Example {
        id: sample.id.clone(),
        question: shortened(&sample.question, LENGTH),
        references: shortened(&references, LENGTH),
        slices: slices.join(", "),
        answers: tables.variants().into_iter().filter_map(answer).map(|row| describe(tables, row)).collect(),
    }
}

fn describe(tables: &Tables, row: &Observation) -> Answer {
    let metric = tables.primary().expect("examples are picked by the leading metric");
    let score = tables.data.metric_ids.find(&metric.id).and_then(|number| row.score(number));
    let (text, verdict) = match (&row.error, score) {
        (Some(error), _) => (error.to_string(), "failed".to_owned()),
        (None, Some(1.0)) => (row.answer.to_string(), "right".to_owned()),
        (None, Some(0.0)) => (row.answer.to_string(), "wrong".to_owned()),
        (None, Some(score)) => (row.answer.to_string(), crate::report::format::score(score, metric)),
        (None, None) => (row.answer.to_string(), String::new()),
    };
    Answer { variant: row.variant.name(), text: shortened(&text, LENGTH), verdict }
}
