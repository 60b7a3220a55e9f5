//! The latency pass: one question at a time, warmed up, variants interleaved in a seeded order, each replaying the number of tokens that
//! its accuracy pass gave, so that a variant is not faster for being curt today. A server cannot be made to: it is asked the same once more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use super::bench::{Ask, Bench};
use super::counters;
use super::energy::EnergyMeter;
use super::events::{Listener, RunEvent};
use super::plan::LATENCY_SAMPLES;
use super::query::{Query, picks_of};
use super::runner::RunError;
use crate::clock::Stopwatch;
use crate::rng::Rng;
use crate::spec::{ContextSource, VariantKind};
use crate::store::journal::Journal;
use crate::store::manifest::WarmupRecord;
use crate::store::row::{JournalRow, Phase, QueryResources, StageNs};

/// One timed query to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Who answers.
    pub variant: VariantKind,
    /// Index among the test samples.
    pub sample: usize,
    /// Repeat, from 0.
    pub repeat: u32,
}

/// The order of all timed queries: for each repeat and sample, every variant once, in an order drawn from the seed.
pub fn schedule(variants: &[VariantKind], samples: usize, count: usize, repeats: u32, seed: u64) -> Vec<Turn> {
    let mut chosen = Rng::new(seed, LATENCY_SAMPLES).sample_indices(samples, count.min(samples));
    chosen.sort_unstable();
    let mut turns = Vec::new();
    for repeat in 0..repeats {
        for &sample in &chosen {
            let mut order = variants.to_vec();
            Rng::indexed(seed, &format!("latency-order/{sample}"), u64::from(repeat)).shuffle(&mut order);
            turns.extend(order.into_iter().map(|variant| Turn { variant, sample, repeat }));
        }
    }
    turns
}

/// Tokens that each variant's accuracy pass generated, by variant and sample id. Rows with an error are absent: there is nothing to replay.
pub fn replay_counts(rows: &[JournalRow], seed: u64) -> BTreeMap<(String, String), usize> {
    let accurate = rows.iter().filter(|row| row.phase == Phase::Accuracy && row.seed == seed && row.error.is_none());
    accurate.map(|row| ((row.variant.clone(), row.sample_id.clone()), row.completion_tokens.max(1) as usize)).collect()
}

/// What a pass gave.
#[derive(Debug, Default)]
pub struct Timed {
    /// A row per turn.
    pub rows: Vec<JournalRow>,
    /// The untimed queries before them; empty if nothing was left to time.
    pub warmup: Vec<WarmupRecord>,
}

/// Times every turn that `done` lacks.
pub fn run(
    bench: &Bench,
    counts: &BTreeMap<(String, String), usize>,
    done: &BTreeSet<(String, String, u32)>,
    journal: &mut Journal<JournalRow>,
    listener: &mut Listener,
) -> Result<Timed, RunError> {
    let plan = bench.plan;
    let measure = &plan.spec.measure;
    // The order is that of the whole run; a shard that times anything has all of its questions.
    let whole = schedule(&plan.spec.variants, plan.whole_test(), measure.latency_samples, measure.latency_repeats, plan.spec.seeds[0]);
    let turns: Vec<Turn> = whole.into_iter().filter_map(|turn| Some(Turn { sample: plan.here(turn.sample)?, ..turn })).collect();
    listener(RunEvent::Phase { name: "latency", detail: "single stream", total: turns.len() as u64, unit: "queries" });
    let key = |turn: &Turn| (turn.variant.name().to_owned(), plan.dataset.test[turn.sample].id.clone(), turn.repeat);
    let open: Vec<Turn> = turns.iter().copied().filter(|turn| !done.contains(&key(turn))).collect();
    listener(RunEvent::Advance((turns.len() - open.len()) as u64));
    if open.is_empty() {
        return Ok(Timed::default());
    }
    let meter = EnergyMeter::of_machine();
    let warmup = warm_up(bench, counts)?;
    let mut rows = Vec::new();
    for turn in open {
        if bench.interrupt.load(Ordering::Relaxed) {
            return Err(RunError::Interrupted);
        }
        let row = time(bench, turn, counts, &meter)?;
        journal.append(std::slice::from_ref(&row))?;
        rows.push(row);
        listener(RunEvent::Advance(1));
    }
    Ok(Timed { rows, warmup })
}

/// Queries per variant that are not counted: pages are touched, threads are up, clocks have settled. Their times are kept apart.
fn warm_up(bench: &Bench, counts: &BTreeMap<(String, String), usize>) -> Result<Vec<WarmupRecord>, RunError> {
    let spec = &bench.plan.spec;
    let samples = bench.plan.dataset.test.len();
    let record = |variant: &VariantKind| WarmupRecord { variant: variant.name().to_owned(), e2e_ns: Vec::new() };
    let mut records: Vec<WarmupRecord> = spec.variants.iter().map(record).collect();
    let silent = EnergyMeter::default();
    for index in 0..spec.measure.warmup {
        for (&variant, record) in spec.variants.iter().zip(&mut records) {
            let row = time(bench, Turn { variant, sample: index % samples, repeat: 0 }, counts, &silent)?;
            if row.error.is_none() {
                record.e2e_ns.push(row.e2e_ns);
            }
        }
    }
    records.retain(|record| !record.e2e_ns.is_empty());
    Ok(records)
}

/// Nanoseconds from the question to the first token of an answer of `count` tokens, or why there is none.
pub(super) fn first_token_ns(bench: &Bench, turn: Turn, count: usize) -> Result<Result<u64, String>, RunError> {
    match timed_answer(bench, turn, count) {
        Ok((_, _, stages, _)) => Ok(Ok(stages.embed + stages.search + stages.prompt + stages.prefill)),
        Err(error) => error.of_one().map(Err),
    }
}

fn time(bench: &Bench, turn: Turn, counts: &BTreeMap<(String, String), usize>, meter: &EnergyMeter) -> Result<JournalRow, RunError> {
    let sample = &bench.plan.dataset.test[turn.sample];
    let seed = bench.plan.spec.seeds[0];
    let context = bench.row_context(turn.variant, seed, Phase::Latency, turn.repeat);
    let Some(&count) = counts.get(&(turn.variant.name().to_owned(), sample.id.clone())) else {
        return Ok(context.failed(sample, "no answer in the accuracy pass to replay".into()));
    };
    let (energy, cpu) = (meter.read(), counters::cpu_ns());
    let answer = timed_answer(bench, turn, count);
    let cpu_ns = counters::cpu_ns().zip(cpu).map(|(now, before)| now.saturating_sub(before));
    let mut resources = QueryResources { cpu_ns, energy_uj: energy.and_then(|before| meter.microjoules_since(&before)) };
    if bench.model.local().is_none() {
        // What this machine took while it waited says nothing of the answer.
        resources = QueryResources::default();
    }
    Ok(match answer {
        Ok((query, generation, stage_ns, e2e_ns)) => {
            let flops = bench.query_flops(turn.variant, seed, turn.sample, &generation);
            let mut row = context.answered(sample, &query, &generation, flops);
            // A replayed answer is as long as the first one and is not scored again.
            row.scores.clear();
            JournalRow { stage_ns, ttft_ns: stage_ns.ttft(), e2e_ns, resources, ..row }
        }
        Err(error) => context.failed(sample, error.of_one()?),
    })
}

type Answer = (Query, crate::lm::Generation, StageNs, u64);

/// From the question to the last token, stage by stage.
fn timed_answer(bench: &Bench, turn: Turn, count: usize) -> Result<Answer, RunError> {
    let sample = &bench.plan.dataset.test[turn.sample];
    let whole = Stopwatch::start();
    let mut stage_ns = StageNs::default();
    let picks = match (turn.variant.context(), bench.retriever) {
        (ContextSource::Retrieved, Some(retriever)) => {
            let found = retriever.search(&sample.question, bench.plan.spec.retrieval.top_k, false).map_err(RunError::retrieval)?;
            stage_ns.embed = found.embed_ns;
            stage_ns.search = found.search_ns;
            stage_ns.lexical = found.lexical_ns;
            stage_ns.rerank = found.rerank_ns;
            picks_of(&found)
        }
        _ => bench.picks(turn.variant, turn.sample),
    };
    let watch = Stopwatch::start();
    let query = bench.query_with(&sample.question, picks)?;
    stage_ns.prompt = watch.elapsed_ns();
    let weights = bench.weights(turn.variant, bench.plan.spec.seeds[0]);
    let ask = Ask { prompt: &query.prompt, stream: &sample.id };
    let generation = weights.timed(ask, count, &bench.generation_config())?;
    let e2e_ns = whole.elapsed_ns();
    stage_ns.prefill = generation.prefill.as_nanos() as u64;
    stage_ns.decode = generation.decode.as_nanos() as u64;
    Ok((query, generation, stage_ns, e2e_ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variant_meets_every_chosen_sample_once_per_repeat_and_in_mixed_order() {
        let variants = [VariantKind::Baseline, VariantKind::Rag, VariantKind::Finetuned];
        let turns = schedule(&variants, 50, 10, 2, 1);
        assert_eq!(turns.len(), 60);
        for group in turns.chunks(3) {
            let mut met: Vec<VariantKind> = group.iter().map(|turn| turn.variant).collect();
            met.sort_unstable();
            assert_eq!(met, variants);
            assert!(group.iter().all(|turn| turn.sample == group[0].sample && turn.repeat == group[0].repeat));
        }
        let firsts: BTreeSet<&str> = turns.chunks(3).map(|group| group[0].variant.name()).collect();
        assert_eq!(firsts.len(), 3, "each variant goes first now and then");
        assert_eq!(turns, schedule(&variants, 50, 10, 2, 1));
    }
}
