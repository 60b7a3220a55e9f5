//! The offline scenario: all questions are at hand, and a variant answers them in batches as fast as it can. Unlike in the accuracy pass
//! nothing is shared between variants, and retrieval and prompts are part of the time.

use std::sync::atomic::Ordering;

use rayon::prelude::*;

use super::accuracy::chain;
use super::bench::Bench;
use super::events::{Listener, RunEvent};
use super::query::{Pick, picks_of};
use super::runner::RunError;
use crate::clock::Stopwatch;
use crate::lm::Prompt;
use crate::rng::Rng;
use crate::spec::{ContextSource, VariantKind};
use crate::store::manifest::OfflineRecord;

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
                Err(problem) => listener(RunEvent::Note(&format!("offline, {}: {problem}", variant.name()))),
            }
            if repeat > 0 {
                listener(RunEvent::Advance(1));
            }
        }
    }
    Ok(records)
}

fn pass(bench: &Bench, variant: VariantKind, chosen: &[usize]) -> Result<OfflineRecord, String> {
    let watch = Stopwatch::start();
    let prompt = |&sample: &usize| -> Result<Prompt, String> {
        let question = &bench.plan.dataset.test[sample];
        let query = bench.query_with(&question.question, picks(bench, variant, sample)?).map_err(|error| chain(&error))?;
        Ok(Prompt { tokens: query.prompt.tokens, stream: question.id.clone() })
    };
    let prompts: Vec<Prompt> = chosen.par_iter().map(prompt).collect::<Result<_, _>>()?;
    let generations =
        bench.generate(variant, bench.plan.spec.seeds[0], &prompts, &bench.generation_config()).map_err(|error| chain(&error))?;
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
fn picks(bench: &Bench, variant: VariantKind, sample: usize) -> Result<Vec<Pick>, String> {
    match (variant.context(), bench.retriever) {
        (ContextSource::Retrieved, Some(retriever)) => {
            let question = &bench.plan.dataset.test[sample].question;
            let found = retriever.search(question, bench.plan.spec.retrieval.top_k, false).map_err(|error| chain(&error))?;
            Ok(picks_of(&found))
        }
        _ => Ok(bench.picks(variant, sample)),
    }
}
