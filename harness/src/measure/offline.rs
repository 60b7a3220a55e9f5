//! The offline scenario: all questions are at hand, and a variant answers them in batches as fast as it can. Unlike in the accuracy pass
//! nothing is shared between variants, and retrieval and prompts are part of the time.

use std::sync::atomic::Ordering;

use rayon::prelude::*;

use super::bench::{Ask, Bench};
use super::events::{Listener, RunEvent};
use super::query::{Pick, picks_of};
use super::runner::RunError;
use crate::clock::Stopwatch;
use crate::rng::Rng;
use crate::spec::{ContextSource, VariantKind};
use crate::store::manifest::OfflineRecord;
use crate::variant::prompt::FittedPrompt;

/// One record per variant and repeat, variants in turn, after a pass of each over a few questions that is not counted. A variant that fails
/// has no record, and the reason is told.
pub fn run(bench: &Bench, listener: &mut Listener) -> Result<Vec<OfflineRecord>, RunError> {
    let (spec, samples) = (&bench.plan.spec, bench.plan.dataset.test.len());
    let offline = &spec.measure.offline;
    let mut chosen = Rng::new(spec.seeds[0], "offline-samples").sample_indices(samples, offline.questions.min(samples));
    chosen.sort_unstable();
    let total = spec.variants.len() as u64 * u64::from(offline.repeats);
    listener(RunEvent::Phase { name: "offline", detail: "batches", total, unit: "passes" });
    let mut records = Vec::new();
    let warm = &chosen[..chosen.len().min(spec.generation.batch_size)];
    for repeat in 0..=offline.repeats {
        for &variant in &spec.variants {
            if bench.interrupt.load(Ordering::Relaxed) {
                return Err(RunError::Interrupted);
            }
            match pass(bench, variant, if repeat == 0 { warm } else { &chosen }) {
                Ok(record) if repeat > 0 => records.push(record),
                Ok(_) => {}
                Err(error) => listener(RunEvent::Note(&format!("offline, {}: {}", variant.name(), error.of_one()?))),
            }
            if repeat > 0 {
                listener(RunEvent::Advance(1));
            }
        }
    }
    Ok(records)
}

fn pass(bench: &Bench, variant: VariantKind, chosen: &[usize]) -> Result<OfflineRecord, RunError> {
    let watch = Stopwatch::start();
    let samples = &bench.plan.dataset.test;
    let prompt = |&sample: &usize| -> Result<FittedPrompt, RunError> {
        Ok(bench.query_with(&samples[sample].question, picks(bench, variant, sample)?)?.prompt)
    };
    let prompts: Vec<FittedPrompt> = chosen.par_iter().map(prompt).collect::<Result<_, _>>()?;
    let asks: Vec<Ask> = prompts.iter().zip(chosen).map(|(prompt, &sample)| Ask { prompt, stream: &samples[sample].id }).collect();
    let generations = bench.generate(variant, bench.plan.spec.seeds[0], &asks, &bench.generation_config())?;
    let seconds = watch.elapsed().as_secs_f64();
    Ok(OfflineRecord {
        variant: variant.name().to_owned(),
        questions: chosen.len(),
        prompt_tokens: generations.iter().map(|generation| generation.prompt_tokens as u64).sum(),
        output_tokens: generations.iter().map(|generation| generation.output_tokens as u64).sum(),
        seconds,
    })
}

/// Passages are searched anew; given ones are as they were.
fn picks(bench: &Bench, variant: VariantKind, sample: usize) -> Result<Vec<Pick>, RunError> {
    match (variant.context(), bench.retriever) {
        (ContextSource::Retrieved, Some(retriever)) => {
            let question = &bench.plan.dataset.test[sample].question;
            let found = retriever.search(question, bench.plan.spec.retrieval.top_k, false).map_err(RunError::retrieval)?;
            Ok(picks_of(&found))
        }
        _ => Ok(bench.picks(variant, sample)),
    }
}
