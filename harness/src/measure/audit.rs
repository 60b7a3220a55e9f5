//! The explanation audit: for some questions of every variant, can the evidence behind the answer be shown?
//!
//! On one scale for passages and for training: evidence is what changes the answer when it is taken away, and an answer counts as explained
//! when it stands in such evidence. For passages, each is left out in turn. For tuned weights, the adapter is switched off, and the evidence
//! are the training questions nearest to the question, as many as there are passages per question. That is strict towards a rule that
//! examples teach without holding the answer; the report says so.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::bench::{Answered, Ask, Bench};
use super::events::{Listener, RunEvent};
use super::plan::{AUDIT_SAMPLES, reference_of};
use super::runner::RunError;
use crate::score;
use crate::spec::VariantKind;
use crate::store::row::{AuditRow, JournalRow};
use crate::variant::prompt::FittedPrompt;

/// Audits every variant, under the first seed.
///
/// # Errors
/// Of the model; [`RunError::Interrupted`] when the flag was set.
pub fn run(bench: &Bench, rows: &[JournalRow], listener: &mut Listener) -> Result<Vec<AuditRow>, RunError> {
    let spec = &bench.plan.spec;
    let chosen = bench.plan.drawn(AUDIT_SAMPLES, spec.measure.audit_samples);
    let total = chosen.len() * spec.variants.len();
    listener(RunEvent::Phase { name: "audit", detail: "answers without their evidence", total: total as u64, unit: "answers" });
    let nearest = Nearest::new(bench, &chosen)?;
    let mut audited = Vec::new();
    for &variant in &spec.variants {
        if bench.interrupt.load(Ordering::Relaxed) {
            return Err(RunError::Interrupted);
        }
        let cases = bench.answered(rows, variant, &chosen)?;
        listener(RunEvent::Advance(cases.len() as u64));
        audited.extend(audit(bench, variant, &cases, &nearest)?);
    }
    Ok(audited)
}

fn audit(bench: &Bench, variant: VariantKind, cases: &[Answered], nearest: &Nearest) -> Result<Vec<AuditRow>, RunError> {
    let seed = bench.plan.spec.seeds[0];
    let (owners, prompts) = without_one(bench, cases)?;
    let samples = &bench.plan.dataset.test;
    let owned = owners.iter().zip(&prompts);
    let asks: Vec<Ask> = owned.map(|((case, _), prompt)| Ask { prompt, stream: &samples[cases[*case].sample].id }).collect();
    let answers = answers(bench, variant, &asks)?;
    let mut influential: Vec<Vec<usize>> = vec![Vec::new(); cases.len()];
    for ((case, passage), answer) in owners.into_iter().zip(answers) {
        if answer != cases[case].row.answer {
            influential[case].push(passage);
        }
    }
    let flipped = if variant.is_tuned() { switched_off(bench, cases)? } else { vec![None; cases.len()] };
    let row = |(index, case): (usize, &Answered)| {
        let (passages, flip) = (&influential[index], flipped[index]);
        let mut texts: Vec<&str> = passages.iter().flat_map(|&pick| bench.passage(&case.query.picks[pick])).collect();
        let near = if flip == Some(true) { nearest.of(case.sample) } else { &[] };
        texts.extend(near.iter().flat_map(|&train| nearest.text(train)));
        // Nothing for an answer that abstains: there is nothing to find in the evidence.
        let explained = score::grounded(&case.row.answer, texts, &bench.plan.spec.prompt.abstention);
        let (precision, recall) = citations(bench, case, passages);
        AuditRow {
            variant: variant.name().to_owned(),
            seed,
            sample_id: case.row.sample_id.clone(),
            influential: passages.iter().map(|&pick| pick as u32 + 1).collect(),
            adapter_changes_answer: flip,
            nearest_training: near.iter().map(|&train| nearest.id(train).to_owned()).collect(),
            // Without an index nothing says which training questions are near.
            explained: explained.filter(|_| !variant.is_tuned() || nearest.is_known()),
            citation_precision: precision,
            citation_recall: recall,
        }
    };
    Ok(cases.iter().enumerate().map(row).collect())
}

/// A case, and the passage that is left out of its prompt.
type Owner = (usize, usize);

/// The prompts of every case with one passage left out, and which case and passage each belongs to.
fn without_one(bench: &Bench, cases: &[Answered]) -> Result<(Vec<Owner>, Vec<FittedPrompt>), RunError> {
    let (mut owners, mut prompts) = (Vec::new(), Vec::new());
    for (index, case) in cases.iter().enumerate() {
        let sample = &bench.plan.dataset.test[case.sample];
        for left_out in 0..case.query.prompt.passages_used {
            let shown = case.query.picks.iter().take(case.query.prompt.passages_used).enumerate();
            let rest = shown.filter(|(pick, _)| *pick != left_out).map(|(_, pick)| pick.clone()).collect();
            let query = bench.query_with(&sample.question, rest)?;
            owners.push((index, left_out));
            prompts.push(query.prompt);
        }
    }
    Ok((owners, prompts))
}

/// Whether the answers are others without the adapter.
fn switched_off(bench: &Bench, cases: &[Answered]) -> Result<Vec<Option<bool>>, RunError> {
    let samples = &bench.plan.dataset.test;
    let asks: Vec<Ask> = cases.iter().map(|case| Ask { prompt: &case.query.prompt, stream: &samples[case.sample].id }).collect();
    let answers = answers(bench, VariantKind::Baseline, &asks)?;
    Ok(answers.iter().zip(cases).map(|(answer, case)| Some(*answer != case.row.answer)).collect())
}

fn answers(bench: &Bench, variant: VariantKind, asks: &[Ask]) -> Result<Vec<String>, RunError> {
    if asks.is_empty() {
        return Ok(Vec::new());
    }
    let generations = bench.generate(variant, bench.plan.spec.seeds[0], asks, &bench.generation_config())?;
    Ok(generations.into_iter().map(|generation| generation.text.trim().to_owned()).collect())
}

/// Of the passages that change the answer, the part that is relevant; of the relevant ones in the prompt, the part that changes it.
/// Nothing where there is nothing to divide by.
fn citations(bench: &Bench, case: &Answered, influential: &[usize]) -> (Option<f64>, Option<f64>) {
    let relevant = &bench.plan.dataset.test[case.sample].relevant;
    if relevant.is_empty() {
        return (None, None);
    }
    let is_relevant = |pick: usize| relevant.iter().any(|id| id == bench.document(&case.query.picks[pick]));
    let shown = (0..case.query.prompt.passages_used).filter(|&pick| is_relevant(pick)).count();
    let cited = influential.iter().filter(|&&pick| is_relevant(pick)).count();
    let part = |count: usize, of: usize| (of > 0).then(|| count as f64 / of as f64);
    (part(cited, influential.len()), part(cited, shown))
}

/// The training questions nearest to the audited ones, by the run's embedder.
struct Nearest<'a> {
    bench: &'a Bench<'a>,
    of: BTreeMap<usize, Vec<usize>>,
}

impl<'a> Nearest<'a> {
    fn new(bench: &'a Bench<'a>, chosen: &[usize]) -> Result<Self, RunError> {
        let plan = bench.plan;
        let mut of = BTreeMap::new();
        let has_labels = plan.spec.finetune.examples.has_labels() && !plan.dataset.train.is_empty();
        if let Some(retriever) = bench.retriever.filter(|_| has_labels && plan.spec.variants.iter().any(|variant| variant.is_tuned())) {
            let embed = |texts: Vec<&str>| -> Result<Vec<Vec<f32>>, RunError> {
                let embeddings = retriever.embedder().queries(&texts).map_err(RunError::retrieval)?;
                Ok(embeddings.into_iter().map(|embedding| embedding.vector).collect())
            };
            let train = embed(plan.dataset.train.iter().map(|sample| sample.question.as_str()).collect())?;
            let asked = embed(chosen.iter().map(|&index| plan.dataset.test[index].question.as_str()).collect())?;
            for (&index, question) in chosen.iter().zip(&asked) {
                of.insert(index, nearest(question, &train, plan.spec.retrieval.top_k));
            }
        }
        Ok(Self { bench, of })
    }

    fn is_known(&self) -> bool {
        !self.of.is_empty()
    }

    fn of(&self, sample: usize) -> &[usize] {
        self.of.get(&sample).map_or(&[], Vec::as_slice)
    }

    fn id(&self, train: usize) -> &str {
        &self.bench.plan.dataset.train[train].id
    }

    /// Question and answer of a label.
    fn text(&self, train: usize) -> [&str; 2] {
        let sample = &self.bench.plan.dataset.train[train];
        [&sample.question, reference_of(sample, &self.bench.plan.spec).unwrap_or("")]
    }
}

/// Indices of the `k` vectors with the largest product, best first; of equal ones the earlier.
fn nearest(query: &[f32], vectors: &[Vec<f32>], k: usize) -> Vec<usize> {
    let product = |vector: &Vec<f32>| -> f32 { vector.iter().zip(query).map(|(a, b)| a * b).sum() };
    let mut scored: Vec<(usize, f32)> = vectors.iter().map(product).enumerate().collect();
    scored.sort_by(|left, right| right.1.total_cmp(&left.1).then(left.0.cmp(&right.0)));
    scored.into_iter().take(k).map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_are_those_with_the_largest_product_and_ties_go_by_order() {
        let vectors = vec![vec![0.0, 1.0], vec![1.0, 0.0], vec![1.0, 0.0], vec![0.6, 0.8]];
        assert_eq!(nearest(&[1.0, 0.0], &vectors, 3), [1, 2, 3]);
        assert!(nearest(&[1.0, 0.0], &[], 3).is_empty());
    }
}
