//! The noise floor: how many answers change when nothing but the way of computing them does.
//!
//! Some questions of every variant are answered again one at a time, and with weights of the other types. A difference between runs that is
//! no larger than what this finds says nothing about the variants.

use std::sync::atomic::Ordering;

use super::bench::{Answered, Ask, Bench, Weights};
use super::events::{Listener, RunEvent};
use super::plan::NOISE_SAMPLES;
use super::runner::RunError;
use crate::lm::GenerationConfig;
use crate::score;
use crate::spec::{Dtype, VariantKind};
use crate::store::manifest::NoiseRecord;
use crate::store::row::JournalRow;

/// What is done otherwise than in the accuracy pass.
#[derive(Clone, Copy)]
enum Change {
    OneAtATime,
    AskedAgain,
    Weights(Dtype),
}

impl Change {
    fn name(self) -> String {
        match self {
            Self::OneAtATime => "batch size 1".into(),
            Self::AskedAgain => "the same question asked again".into(),
            Self::Weights(dtype) => format!("{} weights", dtype.name()),
        }
    }
}

/// Answers again what the spec asks for, under the first seed.
///
/// # Errors
/// Of the model; [`RunError::Interrupted`] when the flag was set.
pub fn run(bench: &Bench, rows: &[JournalRow], listener: &mut Listener) -> Result<Vec<NoiseRecord>, RunError> {
    let plan = bench.plan;
    let Some(model) = bench.model.local() else { return measure(bench, rows, &[Change::AskedAgain], listener) };
    let mut changes = vec![Change::OneAtATime];
    if model.ignores_batches() {
        let others = [Dtype::F32, Dtype::Bf16, Dtype::Q8_0].into_iter().filter(|&dtype| dtype != plan.spec.model.dtype);
        changes.extend(others.map(Change::Weights));
    }
    measure(bench, rows, &changes, listener)
}

fn measure(bench: &Bench, rows: &[JournalRow], changes: &[Change], listener: &mut Listener) -> Result<Vec<NoiseRecord>, RunError> {
    let plan = bench.plan;
    let chosen = plan.drawn(NOISE_SAMPLES, plan.spec.measure.noise_samples);
    let total = chosen.len() * plan.spec.variants.len() * changes.len();
    listener(RunEvent::Phase { name: "noise", detail: "other batch size, other weight types", total: total as u64, unit: "answers" });
    let mut records = Vec::new();
    for &change in changes {
        for &variant in &plan.spec.variants {
            if bench.interrupt.load(Ordering::Relaxed) {
                return Err(RunError::Interrupted);
            }
            let known = bench.answered(rows, variant, &chosen)?;
            if !known.is_empty() {
                records.push(compare(bench, variant, change, &known)?);
            }
            listener(RunEvent::Advance(known.len() as u64));
        }
    }
    Ok(records)
}

fn compare(bench: &Bench, variant: VariantKind, change: Change, known: &[Answered]) -> Result<NoiseRecord, RunError> {
    let plan = bench.plan;
    let samples = &plan.dataset.test;
    let asks: Vec<Ask> = known.iter().map(|known| Ask { prompt: &known.query.prompt, stream: &samples[known.sample].id }).collect();
    let config = bench.generation_config();
    let weights = bench.weights(variant, plan.spec.seeds[0]);
    let answers = if let (Change::Weights(dtype), Weights::Local(model, adapter)) = (change, weights) {
        let model = model.clone().with_form(dtype.weight_form());
        Weights::Local(&model, adapter).generate(&asks, &config)?
    } else {
        let config = GenerationConfig { batch_size: 1, ..config };
        let each = asks.iter().map(|ask| weights.generate(std::slice::from_ref(ask), &config));
        each.collect::<Result<Vec<_>, _>>()?.concat()
    };
    let right = |sample: usize, answer: &str| {
        let scores = score::score_answer(answer, &plan.dataset.test[sample], &plan.spec.prompt.abstention);
        scores.get("exact_match").copied().unwrap_or(0.0)
    };
    let mut record =
        NoiseRecord { variant: variant.name().into(), change: change.name(), answers: known.len(), changed: 0, exact_match_change: 0.0 };
    for (known, answer) in known.iter().zip(&answers) {
        let answer = answer.text.trim();
        record.changed += usize::from(answer != known.row.answer);
        record.exact_match_change += right(known.sample, answer) - right(known.sample, &known.row.answer);
    }
    Ok(record)
}
