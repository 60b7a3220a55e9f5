//! The accuracy pass: batched, every test question, length-sorted. A prompt that several variants put to the same weights is answered once.
//! The batches depend on the plan alone, so that an interrupted pass ends with the same floats on devices where a batch matters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rayon::prelude::*;

use super::bench::Bench;
use super::choice::Chosen;
use super::events::{Listener, RunEvent};
use super::query::{Query, RowContext};
use super::runner::RunError;
use crate::clock::Stopwatch;
use crate::lm::{Generation, ModelError, Prompt};
use crate::spec::{ContextSource, VariantKind};
use crate::store::journal::Journal;
use crate::store::row::{JournalRow, Phase};

/// Batches that are handed to the model at a time: sequences that end early make room for others, and what all prompts begin with is
/// computed once. An interrupted pass loses no more than these.
const BATCHES: usize = 8;

/// The prompts of all samples, made once for all variants that are given the same passages.
#[derive(Debug)]
pub struct Prompts {
    made: Vec<(ContextSource, Queries)>,
    /// Variants still to come.
    waiting: Vec<VariantKind>,
}

/// A query per sample, or why there is none.
type Queries = Arc<Vec<Result<Query, String>>>;

impl Prompts {
    /// None yet, for these variants in this order.
    pub fn new(variants: &[VariantKind]) -> Self {
        Self { made: Vec::new(), waiting: variants.to_vec() }
    }

    /// The prompts of a variant.
    pub fn of(&mut self, bench: &Bench, variant: VariantKind) -> Queries {
        let context = variant.context();
        if let Some((_, queries)) = self.made.iter().find(|(made, _)| *made == context) {
            return Arc::clone(queries);
        }
        let queries = Arc::new(bench.queries(variant));
        self.made.push((context, Arc::clone(&queries)));
        queries
    }

    /// Lets go of what no later variant needs.
    pub fn done_with(&mut self, variant: VariantKind) {
        self.waiting.retain(|waiting| *waiting != variant);
        self.made.retain(|(context, _)| self.waiting.iter().any(|waiting| waiting.context() == *context));
    }
}

/// Answers by weights and prompt, within one accuracy pass.
#[derive(Debug, Default)]
pub struct AnswerCache {
    answers: BTreeMap<AnswerKey, Generation>,
    model_seconds: f64,
}

/// The weights, a hash of the prompt's tokens, and, where tokens are drawn, the stream that they are drawn from.
type AnswerKey = (Option<(bool, u64)>, [u8; 32], String);

impl AnswerCache {
    /// Time that the model took to find them.
    pub fn model_seconds(&self) -> f64 {
        self.model_seconds
    }

    fn key(bench: &Bench, context: &RowContext, prompt: &Prompt) -> AnswerKey {
        let mut hasher = blake3::Hasher::new();
        prompt.tokens.iter().for_each(|token| {
            hasher.update(&token.to_le_bytes());
        });
        let greedy = bench.plan.spec.generation.temperature <= 0.0;
        let stream = if greedy { String::new() } else { prompt.stream.clone() };
        (bench.weights_key(context.variant, context.seed), *hasher.finalize().as_bytes(), stream)
    }
}

/// Answers every sample that `done` lacks, for one variant and seed.
pub fn run(
    bench: &Bench,
    (variant, seed): (VariantKind, u64),
    queries: &[Result<Query, String>],
    done: &BTreeSet<String>,
    answers: &mut AnswerCache,
    journal: &mut Journal<JournalRow>,
    listener: &mut Listener,
) -> Result<Vec<JournalRow>, RunError> {
    let samples = &bench.plan.dataset.test;
    let context = bench.row_context(variant, seed, Phase::Accuracy, 0);
    listener(RunEvent::Phase {
        name: "accuracy",
        detail: &format!("{} seed {seed}", variant.name()),
        total: samples.len() as u64,
        unit: "questions",
    });
    listener(RunEvent::Advance(done.len() as u64));
    let lengths: Vec<usize> = queries.iter().map(|query| query.as_ref().map_or(0, |query| query.prompt.tokens.len())).collect();
    let mut all = Vec::new();
    for batch in batches(&lengths, bench.plan.spec.generation.batch_size * BATCHES) {
        if batch.iter().all(|&index| done.contains(&samples[index].id)) {
            continue;
        }
        if bench.interrupt.load(Ordering::Relaxed) {
            return Err(RunError::Interrupted);
        }
        let mut rows = answer_batch(bench, &context, queries, &batch, answers);
        rows.retain(|row| !done.contains(&row.sample_id));
        journal.append(&rows)?;
        listener(RunEvent::Advance(rows.len() as u64));
        all.append(&mut rows);
    }
    Ok(all)
}

/// Answers some samples (by index) again, as a run would: where floats depend on the batch, with the mates that they had in it. Rows in the
/// order of the samples.
pub fn again(bench: &Bench, variant: VariantKind, seed: u64, chosen: &BTreeSet<usize>, answers: &mut AnswerCache) -> Vec<JournalRow> {
    let context = bench.row_context(variant, seed, Phase::Accuracy, 0);
    let samples = &bench.plan.dataset.test;
    let queries: Vec<Result<Query, String>> =
        (0..samples.len()).map(|index| bench.query(variant, index).map_err(|error| error.to_string())).collect();
    let (model, _) = bench.weights(variant, seed);
    let needed = if model.ignores_batches() {
        vec![chosen.iter().copied().collect()]
    } else {
        let lengths: Vec<usize> = queries.iter().map(|query| query.as_ref().map_or(0, |query| query.prompt.tokens.len())).collect();
        let all = batches(&lengths, bench.plan.spec.generation.batch_size * BATCHES);
        all.into_iter().filter(|batch| batch.iter().any(|index| chosen.contains(index))).collect()
    };
    let mut rows: BTreeMap<usize, JournalRow> = BTreeMap::new();
    for batch in needed {
        let answered = answer_batch(bench, &context, &queries, &batch, answers);
        rows.extend(batch.into_iter().zip(answered));
    }
    rows.retain(|index, _| chosen.contains(index));
    rows.into_values().collect()
}

/// Indices in batches of `size`, longest prompts first: mates have nearly one length, and the largest batch shows early that it fits.
fn batches(lengths: &[usize], size: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&index| (std::cmp::Reverse(lengths[index]), index));
    order.chunks(size).map(<[usize]>::to_vec).collect()
}

/// One row per member. When the batch fails, its members are tried one by one, so that one bad sample costs one row.
fn answer_batch(
    bench: &Bench,
    context: &RowContext,
    queries: &[Result<Query, String>],
    batch: &[usize],
    answers: &mut AnswerCache,
) -> Vec<JournalRow> {
    let sound = batch.iter().copied().filter(|&index| queries[index].is_ok());
    let (choosing, sound): (Vec<usize>, Vec<usize>) = sound.partition(|&index| !bench.plan.dataset.test[index].choices.is_empty());
    let watch = Stopwatch::start();
    let chosen: BTreeMap<usize, Result<Chosen, String>> = choosing
        .into_iter()
        .map(|index| {
            let query = queries[index].as_ref().expect("only sound queries are answered");
            (index, bench.choose(context.variant, context.seed, index, query).map_err(|error| chain(&error)))
        })
        .collect();
    if !chosen.is_empty() {
        answers.model_seconds += watch.elapsed().as_secs_f64();
    }
    let generations = match generate(bench, context, queries, &sound, answers) {
        Ok(generations) => generations.into_iter().map(Ok).collect(),
        Err(_) => sound
            .iter()
            .map(|&index| generate(bench, context, queries, &[index], answers).map(|mut one| one.remove(0)).map_err(|error| chain(&error)))
            .collect::<Vec<Result<Generation, String>>>(),
    };
    let found: BTreeMap<usize, Result<Generation, String>> = sound.into_iter().zip(generations).collect();
    let samples = &bench.plan.dataset.test;
    let row = |&index: &usize| match &queries[index] {
        Err(error) => context.failed(&samples[index], error.clone()),
        Ok(query) if chosen.contains_key(&index) => match &chosen[&index] {
            Err(error) => context.failed(&samples[index], error.clone()),
            Ok(chosen) => {
                let flops = bench.query_flops(context.variant, context.seed, index, &chosen.generation);
                let mut row = context.answered(&samples[index], query, &chosen.generation, flops);
                row.scores.extend(chosen.scores.clone());
                row
            }
        },
        Ok(query) => match &found[&index] {
            Err(error) => context.failed(&samples[index], error.clone()),
            Ok(generation) => {
                let flops = bench.query_flops(context.variant, context.seed, index, generation);
                context.answered(&samples[index], query, generation, flops)
            }
        },
    };
    batch.par_iter().map(row).collect()
}

fn generate(
    bench: &Bench,
    context: &RowContext,
    queries: &[Result<Query, String>],
    batch: &[usize],
    answers: &mut AnswerCache,
) -> Result<Vec<Generation>, ModelError> {
    let samples = &bench.plan.dataset.test;
    let prompt = |&index: &usize| Prompt {
        tokens: queries[index].as_ref().expect("only sound queries are generated").prompt.tokens.clone(),
        stream: samples[index].id.clone(),
    };
    let prompts: Vec<Prompt> = batch.iter().map(prompt).collect();
    let config = bench.generation_config();
    let (model, _) = bench.weights(context.variant, context.seed);
    if !model.ignores_batches() {
        let watch = Stopwatch::start();
        let generations = bench.generate(context.variant, context.seed, &prompts, &config);
        answers.model_seconds += watch.elapsed().as_secs_f64();
        return generations;
    }
    let keys: Vec<AnswerKey> = prompts.iter().map(|prompt| AnswerCache::key(bench, context, prompt)).collect();
    let mut open = BTreeMap::new();
    for (key, prompt) in keys.iter().zip(prompts).filter(|(key, _)| !answers.answers.contains_key(key)) {
        open.entry(key).or_insert(prompt);
    }
    let (names, prompts): (Vec<&AnswerKey>, Vec<Prompt>) = open.into_iter().unzip();
    let watch = Stopwatch::start();
    let new = bench.generate(context.variant, context.seed, &prompts, &config)?;
    answers.model_seconds += watch.elapsed().as_secs_f64();
    answers.answers.extend(names.into_iter().cloned().zip(new));
    Ok(keys.iter().map(|key| answers.answers[key].clone()).collect())
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_sorted_by_length_and_hold_everyone_once() {
        assert_eq!(batches(&[3, 9, 3, 7, 1], 2), [vec![1, 3], vec![0, 2], vec![4]]);
        assert!(batches(&[], 4).is_empty());
    }
}
