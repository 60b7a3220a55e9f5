//! The accuracy pass: batched, every test question, length-sorted. A prompt that several variants put to the same weights is answered once.
//! The batches depend on the plan alone, so that an interrupted pass ends with the same floats on devices where a batch matters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rayon::prelude::*;

use super::bench::{Ask, Bench};
use super::choice::Chosen;
use super::events::{Listener, RunEvent};
use super::query::{Query, RowContext};
use super::runner::RunError;
use crate::clock::Stopwatch;
use crate::lm::remote::RemoteError;
use crate::lm::{Generation, ModelError};
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

/// The weights, a hash of the prompt's tokens (of its text, where a server makes them), and, where tokens are drawn, the stream that they are drawn from.
type AnswerKey = (Option<(bool, u64)>, [u8; 32], String);

impl AnswerCache {
    /// Time that the model took to find them.
    pub fn model_seconds(&self) -> f64 {
        self.model_seconds
    }

    fn key(bench: &Bench, context: &RowContext, ask: Ask) -> AnswerKey {
        let mut hasher = blake3::Hasher::new();
        if bench.model.local().is_none() {
            hasher.update(ask.prompt.text.as_bytes());
        }
        ask.prompt.tokens.iter().for_each(|token| {
            hasher.update(&token.to_le_bytes());
        });
        let greedy = bench.plan.spec.generation.temperature <= 0.0;
        let stream = if greedy { String::new() } else { ask.stream.to_owned() };
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
    let lengths: Vec<usize> = queries.iter().map(|query| query.as_ref().map_or(0, |query| query.prompt.length)).collect();
    let mut all = Vec::new();
    let minds_batches = bench.weights(variant, seed).minds_batches();
    for mut batch in batches(&lengths, batch_size(bench)) {
        let is_done = |index: usize| done.contains(&samples[index].id);
        if batch.iter().all(|&index| is_done(index)) {
            continue;
        }
        // Mates that are answered are asked again only where their company changes floats.
        batch.retain(|&index| minds_batches || !is_done(index));
        if bench.interrupt.load(Ordering::Relaxed) {
            return Err(RunError::Interrupted);
        }
        let Batch { rows, stopped } = answer_batch(bench, &context, queries, &batch, answers);
        let mut rows: Vec<JournalRow> = rows.into_iter().map(|(_, row)| row).filter(|row| !done.contains(&row.sample_id)).collect();
        journal.append(&rows)?;
        if let Some(error) = stopped {
            return Err(ModelError::from(error).into());
        }
        listener(RunEvent::Advance(rows.len() as u64));
        all.append(&mut rows);
    }
    Ok(all)
}

/// Answers some samples (by index) again, as a run would: where floats depend on the batch, with the mates that they had in it. Rows in the
/// order of the samples.
///
/// # Errors
/// Of a server that answers no more.
pub fn again(
    bench: &Bench,
    variant: VariantKind,
    seed: u64,
    chosen: &BTreeSet<usize>,
    answers: &mut AnswerCache,
) -> Result<Vec<JournalRow>, RunError> {
    let context = bench.row_context(variant, seed, Phase::Accuracy, 0);
    let samples = &bench.plan.dataset.test;
    let queries: Vec<Result<Query, String>> =
        (0..samples.len()).map(|index| bench.query(variant, index).map_err(|error| error.to_string())).collect();
    let needed = if bench.weights(variant, seed).minds_batches() {
        let lengths: Vec<usize> = queries.iter().map(|query| query.as_ref().map_or(0, |query| query.prompt.length)).collect();
        let all = batches(&lengths, batch_size(bench));
        all.into_iter().filter(|batch| batch.iter().any(|index| chosen.contains(index))).collect()
    } else {
        vec![chosen.iter().copied().collect()]
    };
    let mut rows: BTreeMap<usize, JournalRow> = BTreeMap::new();
    for batch in needed {
        let answered = answer_batch(bench, &context, &queries, &batch, answers);
        if let Some(error) = answered.stopped {
            return Err(ModelError::from(error).into());
        }
        rows.extend(answered.rows);
    }
    rows.retain(|index, _| chosen.contains(index));
    Ok(rows.into_values().collect())
}

/// Prompts that are handed to the model at a time. To a server few, because each of its answers may be paid for and is kept with the batch.
fn batch_size(bench: &Bench) -> usize {
    let spec = &bench.plan.spec;
    BATCHES * if spec.is_served() { spec.model.endpoint.concurrency } else { spec.generation.batch_size }
}

/// Indices in batches of `size`, longest prompts first: mates have nearly one length, and the largest batch shows early that it fits.
fn batches(lengths: &[usize], size: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&index| (std::cmp::Reverse(lengths[index]), index));
    order.chunks(size).map(<[usize]>::to_vec).collect()
}

/// What a batch gave.
struct Batch {
    /// By index of the sample; without those that were not answered because of what stopped it.
    rows: Vec<(usize, JournalRow)>,
    /// Every other question would fail as well.
    stopped: Option<RemoteError>,
}

/// Why a prompt has no answer.
#[derive(Debug, Clone)]
struct Failed {
    /// For its row.
    words: String,
    /// No other prompt would fare better.
    stops: Option<RemoteError>,
}

impl From<ModelError> for Failed {
    fn from(error: ModelError) -> Self {
        Self { words: chain(&error), stops: error.stops().cloned() }
    }
}

/// An answer, and the scores that it has by itself.
type Found = (Generation, BTreeMap<String, f64>);

/// One row per member, so that one bad sample costs one row.
fn answer_batch(
    bench: &Bench,
    context: &RowContext,
    queries: &[Result<Query, String>],
    batch: &[usize],
    answers: &mut AnswerCache,
) -> Batch {
    let sound = batch.iter().copied().filter(|&index| queries[index].is_ok());
    let (choosing, sound): (Vec<usize>, Vec<usize>) = sound.partition(|&index| !bench.plan.dataset.test[index].choices.is_empty());
    let mut found: BTreeMap<usize, Result<Found, Failed>> = BTreeMap::new();
    let watch = Stopwatch::start();
    let mut is_stopped = false;
    for &index in &choosing {
        if is_stopped {
            break;
        }
        let query = queries[index].as_ref().expect("only sound queries are answered");
        let chosen = bench.choose(context.variant, context.seed, index, query).map_err(Failed::from);
        is_stopped = chosen.as_ref().is_err_and(|failed| failed.stops.is_some());
        found.insert(index, chosen.map(|Chosen { generation, scores }| (generation, scores)));
    }
    if !choosing.is_empty() {
        answers.model_seconds += watch.elapsed().as_secs_f64();
    }
    if !is_stopped {
        let generations = generate(bench, context, queries, &sound, answers);
        found.extend(sound.into_iter().zip(generations.into_iter().map(|result| result.map(|generation| (generation, BTreeMap::new())))));
    }
    let stopped = take_final(&mut found);
    let samples = &bench.plan.dataset.test;
    let row = |&index: &usize| -> Option<(usize, JournalRow)> {
        let row = match (&queries[index], found.get(&index)) {
            (Err(error), _) => context.failed(&samples[index], error.clone()),
            (Ok(_), None) => return None,
            (Ok(_), Some(Err(failed))) => context.failed(&samples[index], failed.words.clone()),
            (Ok(query), Some(Ok((generation, scores)))) => {
                let flops = bench.query_flops(context.variant, context.seed, index, generation);
                let mut row = context.answered(&samples[index], query, generation, flops);
                row.scores.extend(scores.clone());
                row
            }
        };
        Some((index, row))
    };
    Batch { rows: batch.par_iter().filter_map(row).collect(), stopped }
}

/// Takes out what failed with all that would come, and gives the error that says most of it.
fn take_final(found: &mut BTreeMap<usize, Result<Found, Failed>>) -> Option<RemoteError> {
    let mut stopped: Option<RemoteError> = None;
    found.retain(|_, result| {
        let Some(error) = result.as_ref().err().and_then(|failed| failed.stops.clone()) else { return true };
        if stopped.as_ref().is_none_or(|known| *known == RemoteError::Skipped) {
            stopped = Some(error);
        }
        false
    });
    stopped
}

/// One answer or error per member of a batch.
fn generate(
    bench: &Bench,
    context: &RowContext,
    queries: &[Result<Query, String>],
    batch: &[usize],
    answers: &mut AnswerCache,
) -> Vec<Result<Generation, Failed>> {
    let samples = &bench.plan.dataset.test;
    let ask = |&index: &usize| Ask {
        prompt: &queries[index].as_ref().expect("only sound queries are generated").prompt,
        stream: &samples[index].id,
    };
    let asks: Vec<Ask> = batch.iter().map(ask).collect();
    let config = bench.generation_config();
    let weights = bench.weights(context.variant, context.seed);
    if weights.minds_batches() {
        let watch = Stopwatch::start();
        let generations = weights.each(&asks, &config);
        answers.model_seconds += watch.elapsed().as_secs_f64();
        return generations.into_iter().map(|result| result.map_err(Failed::from)).collect();
    }
    let keys: Vec<AnswerKey> = asks.iter().map(|&ask| AnswerCache::key(bench, context, ask)).collect();
    let mut open: BTreeMap<&AnswerKey, Ask> = BTreeMap::new();
    for (key, &ask) in keys.iter().zip(&asks).filter(|(key, _)| !answers.answers.contains_key(key)) {
        open.entry(key).or_insert(ask);
    }
    let (names, asks): (Vec<&AnswerKey>, Vec<Ask>) = open.into_iter().unzip();
    let watch = Stopwatch::start();
    let new = weights.each(&asks, &config);
    answers.model_seconds += watch.elapsed().as_secs_f64();
    let mut failed: BTreeMap<&AnswerKey, Failed> = BTreeMap::new();
    for (name, result) in names.into_iter().zip(new) {
        match result {
            Ok(generation) => {
                answers.answers.insert(name.clone(), generation);
            }
            Err(error) => {
                failed.insert(name, error.into());
            }
        }
    }
    keys.iter().map(|key| answers.answers.get(key).cloned().ok_or_else(|| failed[key].clone())).collect()
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
