//! From labelled prompts to training rows: length limits, the validation hold-out, and the order of batches.

use std::collections::BTreeSet;

use crate::rng::Rng;

use super::{BatchSource, TrainingSequence};

/// One label, or a piece of a document, tokenized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The prompt exactly as it is put to the model.
    pub prompt: Vec<u32>,
    /// What it should say, with the token that ends the answer.
    pub answer: Vec<u32>,
    /// Examples of one cluster are never split between training and validation.
    pub cluster: String,
    /// Somebody wrote it as question and answer; false for plain text.
    pub is_label: bool,
}

/// Rows that fit, and how many did not.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FittedRows {
    /// Loss on the answer only.
    pub rows: Vec<TrainingSequence>,
    /// Left out: the prompt leaves no room for an answer, or there is no answer.
    pub dropped: usize,
    /// Answers that lost their end.
    pub cut: usize,
}

/// Turns examples into rows of at most `max_length` tokens.
pub fn fit(examples: &[Example], max_length: usize) -> FittedRows {
    let mut fitted = FittedRows::default();
    for example in examples {
        let room = max_length.saturating_sub(example.prompt.len()).min(example.answer.len());
        // Without a prompt the first answer token is predicted from nothing.
        if room == 0 || (example.prompt.is_empty() && room < 2) {
            fitted.dropped += 1;
            continue;
        }
        fitted.cut += usize::from(room < example.answer.len());
        let tokens = [&example.prompt, &example.answer[..room]].concat();
        let loss_weights = (0..tokens.len()).map(|i| f32::from(i >= example.prompt.len())).collect();
        fitted.rows.push(TrainingSequence { tokens, loss_weights });
    }
    fitted
}

/// Splits off whole clusters, in seeded random order, until `fraction` of the examples (rounded) is reached; at least one cluster stays
/// to train on. Gives `(train, validation)`, each in the given order.
pub fn hold_out(examples: &[Example], fraction: f64, seed: u64) -> (Vec<Example>, Vec<Example>) {
    let wanted = (fraction * examples.len() as f64).round() as usize;
    let mut clusters: Vec<&str> = examples.iter().map(|example| example.cluster.as_str()).collect::<BTreeSet<_>>().into_iter().collect();
    Rng::new(seed, "validation").shuffle(&mut clusters);
    clusters.pop();
    let mut held = BTreeSet::new();
    let mut count = 0;
    for cluster in clusters {
        if count >= wanted {
            break;
        }
        count += examples.iter().filter(|example| example.cluster == cluster).count();
        held.insert(cluster);
    }
    examples.iter().cloned().partition(|example| !held.contains(example.cluster.as_str()))
}

/// Rows in passes: each epoch is shuffled anew, rows of like length share a micro-batch, and the last, incomplete ones are kept.
#[derive(Debug, Clone)]
pub struct EpochSource {
    rows: Vec<TrainingSequence>,
    micro_batch: usize,
    grad_accum_steps: usize,
    steps: u64,
    seed: u64,
}

/// Rows are sorted by length within windows of this many optimizer steps: enough to save padding, few enough to stay random.
const SORTED_STEPS: usize = 8;

impl EpochSource {
    /// `epochs` passes (a fraction is rounded up to whole steps), but no more than `max_steps` if that is not 0. Sizes must be positive.
    pub fn new(rows: Vec<TrainingSequence>, micro_batch: usize, grad_accum_steps: usize, epochs: f64, max_steps: u64, seed: u64) -> Self {
        let mut source = Self { rows, micro_batch, grad_accum_steps, steps: 0, seed };
        let planned = (epochs * source.steps_per_epoch() as f64).ceil() as u64;
        source.steps = if max_steps > 0 { planned.min(max_steps) } else { planned };
        source
    }

    /// Optimizer steps of one pass.
    pub fn steps_per_epoch(&self) -> u64 {
        self.rows.len().div_ceil(self.micro_batch).div_ceil(self.grad_accum_steps) as u64
    }

    /// Row indices of an epoch by micro-batch.
    fn order(&self, epoch: u64) -> Vec<Vec<usize>> {
        let mut rng = Rng::indexed(self.seed, "epoch", epoch);
        let mut indices: Vec<usize> = (0..self.rows.len()).collect();
        rng.shuffle(&mut indices);
        let window = self.micro_batch * self.grad_accum_steps * SORTED_STEPS;
        let mut batches: Vec<Vec<usize>> = indices
            .chunks_mut(window)
            .flat_map(|window| {
                window.sort_by_key(|&index| self.rows[index].tokens.len());
                window.chunks(self.micro_batch).map(<[_]>::to_vec).collect::<Vec<_>>()
            })
            .collect();
        rng.shuffle(&mut batches);
        batches
    }
}

impl BatchSource for EpochSource {
    fn batches(&self, step: u64) -> Vec<Vec<TrainingSequence>> {
        let per_epoch = self.steps_per_epoch().max(1);
        let order = self.order(step / per_epoch);
        let start = (step % per_epoch) as usize * self.grad_accum_steps;
        let rows = |batch: &Vec<usize>| batch.iter().map(|&index| self.rows[index].clone()).collect();
        order.iter().skip(start).take(self.grad_accum_steps).map(rows).collect()
    }

    fn steps(&self) -> u64 {
        self.steps
    }

    fn epoch(&self, step: u64) -> f64 {
        step as f64 / self.steps_per_epoch().max(1) as f64
    }
}

/// Validation rows as micro-batches, sorted by length.
pub fn evaluation_batches(mut rows: Vec<TrainingSequence>, micro_batch: usize) -> Vec<Vec<TrainingSequence>> {
    rows.sort_by_key(|row| row.tokens.len());
    rows.chunks(micro_batch).map(<[_]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(prompt: usize, answer: usize, cluster: &str) -> Example {
        Example { prompt: vec![1; prompt], answer: vec![2; answer], cluster: cluster.into(), is_label: true }
    }

    /// Row `i` holds the token `i`, `length(i)` times.
    fn rows(count: u32, length: impl Fn(u32) -> usize) -> Vec<TrainingSequence> {
        (0..count).map(|i| TrainingSequence { tokens: vec![i; length(i)], loss_weights: vec![1.0; length(i)] }).collect()
    }

    fn seen(batches: &[Vec<TrainingSequence>]) -> Vec<u32> {
        batches.iter().flatten().map(|row| row.tokens[0]).collect()
    }

    #[test]
    fn loss_is_on_the_answer_only_and_what_does_not_fit_is_counted() {
        let fitted = fit(&[example(2, 2, "a"), example(3, 3, "b"), example(5, 1, "c"), example(2, 0, "d")], 5);
        assert_eq!((fitted.dropped, fitted.cut), (2, 1));
        assert_eq!(fitted.rows[0].tokens, [1, 1, 2, 2]);
        assert_eq!(fitted.rows[0].loss_weights, [0.0, 0.0, 1.0, 1.0]);
        assert_eq!(fitted.rows[1].tokens, [1, 1, 1, 2, 2]);
    }

    #[test]
    fn no_cluster_is_on_both_sides_of_the_hold_out() {
        let examples: Vec<Example> = (0..40).map(|i| example(i + 1, 1, &format!("c{}", i % 10))).collect();
        let (train, validation) = hold_out(&examples, 0.2, 3);
        assert_eq!((train.len(), validation.len()), (32, 8));
        let clusters = |side: &[Example]| side.iter().map(|e| e.cluster.clone()).collect::<BTreeSet<_>>();
        assert!(clusters(&train).is_disjoint(&clusters(&validation)));
        assert_ne!(hold_out(&examples, 0.2, 4).1, validation);
        assert_eq!(hold_out(&examples, 1.0, 3).0.len(), 4);
        assert_eq!(hold_out(&examples[..1], 0.5, 3).0.len(), 1);
    }

    #[test]
    fn every_epoch_shows_each_row_once_in_another_order() {
        let source = EpochSource::new(rows(23, |i| 2 + (i as usize * 7) % 11), 4, 2, 2.0, 0, 9);
        assert_eq!((source.steps_per_epoch(), source.steps()), (3, 6));
        let epoch = |epoch: u64| (0..3).flat_map(|step| seen(&source.batches(epoch * 3 + step))).collect::<Vec<_>>();
        let sorted = |mut tokens: Vec<u32>| {
            tokens.sort_unstable();
            tokens
        };
        assert_eq!(sorted(epoch(0)), (0..23).collect::<Vec<_>>());
        assert_eq!(sorted(epoch(1)), (0..23).collect::<Vec<_>>());
        assert_ne!(epoch(0), epoch(1));
        assert_eq!(seen(&source.batches(2)), seen(&source.batches(2)));
    }

    #[test]
    fn fractional_epochs_and_step_limits_count_steps() {
        let steps = |epochs, max_steps| EpochSource::new(rows(10, |_| 3), 2, 1, epochs, max_steps, 1).steps();
        assert_eq!((steps(1.5, 0), steps(0.01, 0), steps(3.0, 4)), (8, 1, 4));
    }

    #[test]
    fn micro_batches_hold_rows_of_like_length() {
        let source = EpochSource::new(rows(64, |i| 2 + (i as usize * 37) % 64), 8, 1, 1.0, 0, 2);
        let padding = |batch: &Vec<TrainingSequence>| {
            let longest = batch.iter().map(|row| row.tokens.len()).max().unwrap();
            batch.iter().map(|row| longest - row.tokens.len()).sum::<usize>()
        };
        let total: usize = (0..8).flat_map(|step| source.batches(step)).map(|batch| padding(&batch)).sum();
        assert!(total <= 8 * 8 * 8 / 2, "{total} tokens of padding");
    }
}
