//! The noise floor: how many answers change when nothing but the way of computing them does.
//!
//! Some questions of every variant are answered again one at a time, and with weights of the other types. A difference between runs that is
//! no larger than what this finds says nothing about the variants.

use std::sync::atomic::Ordering;

use super::bench::{Answered, Ask, Bench, Weights};
use super::counters;
use super::events::{Listener, RunEvent};
use super::plan::NOISE_SAMPLES;
use super::runner::RunError;
use crate::lm::{GenerationConfig, LocalModel};
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

/// What changed, and what could not be tried.
#[derive(Default)]
pub struct NoiseFloor {
    /// By change and variant.
    pub records: Vec<NoiseRecord>,
    /// For the manifest.
    pub caveats: Vec<String>,
}

/// Answers again what the spec asks for, under the first seed.
///
/// # Errors
/// Of the model; [`RunError::Interrupted`] when the flag was set.
pub fn run(bench: &Bench, rows: &[JournalRow], listener: &mut Listener) -> Result<NoiseFloor, RunError> {
    let plan = bench.plan;
    let mut floor = NoiseFloor::default();
    let mut changes = Vec::new();
    match bench.model.local() {
        None => changes.push(Change::AskedAgain),
        Some(model) => {
            changes.push(Change::OneAtATime);
            let others = [Dtype::F32, Dtype::Bf16, Dtype::Q8_0].into_iter().filter(|&dtype| dtype != plan.spec.model.dtype);
            let free = counters::available_memory_bytes();
            for dtype in others.filter(|_| model.ignores_batches()) {
                // They are packed beside the weights that answer.
                let needed = dtype.weight_form().bytes(model.config.parameter_count());
                if needed > free {
                    floor.caveats.push(format!(
                        "{} weights were not tried: they take {:.1} GiB beside the model, and {:.1} GiB were free",
                        dtype.name(),
                        gibibytes(needed),
                        gibibytes(free)
                    ));
                } else {
                    changes.push(Change::Weights(dtype));
                }
            }
        }
    }
    floor.records = measure(bench, rows, &changes, listener)?;
    Ok(floor)
}

fn gibibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

fn measure(bench: &Bench, rows: &[JournalRow], changes: &[Change], listener: &mut Listener) -> Result<Vec<NoiseRecord>, RunError> {
    let plan = bench.plan;
    let chosen = plan.drawn(NOISE_SAMPLES, plan.spec.measure.noise_samples);
    let total = chosen.len() * plan.spec.variants.len() * changes.len();
    listener(RunEvent::Phase { name: "noise", detail: "other batch size, other weight types", total: total as u64, unit: "answers" });
    let mut records = Vec::new();
    for &change in changes {
        // Packed once for all variants that share the base.
        let repacked = match (change, bench.model.local()) {
            (Change::Weights(dtype), Some(model)) => Some(model.clone().with_form(dtype.weight_form())),
            _ => None,
        };
        for &variant in &plan.spec.variants {
            if bench.interrupt.load(Ordering::Relaxed) {
                return Err(RunError::Interrupted);
            }
            let known = bench.answered(rows, variant, &chosen)?;
            if !known.is_empty() {
                records.push(compare(bench, variant, change, repacked.as_ref(), &known)?);
            }
            listener(RunEvent::Advance(known.len() as u64));
        }
    }
    Ok(records)
}

fn compare(
    bench: &Bench,
    variant: VariantKind,
    change: Change,
    repacked: Option<&LocalModel>,
    known: &[Answered],
) -> Result<NoiseRecord, RunError> {
    let plan = bench.plan;
    let samples = &plan.dataset.test;
    let asks: Vec<Ask> = known.iter().map(|known| Ask { prompt: &known.query.prompt, stream: &samples[known.sample].id }).collect();
    let config = bench.generation_config();
    let weights = bench.weights(variant, plan.spec.seeds[0]);
    let answers = if let (Change::Weights(dtype), Weights::Local(model, adapter)) = (change, weights) {
        match repacked.filter(|_| bench.model.local().is_some_and(|base| std::ptr::eq(base, model))) {
            Some(repacked) => Weights::Local(repacked, adapter).generate(&asks, &config)?,
            None => Weights::Local(&model.clone().with_form(dtype.weight_form()), adapter).generate(&asks, &config)?,
        }
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
