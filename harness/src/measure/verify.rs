//! Some questions of a recorded run answered again, with its own adapters, and held against its journal byte by byte.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use super::accuracy::{self, AnswerCache};
use super::bench::Bench;
use super::events::{Listener, RunEvent};
use super::hash::result_hash;
use super::plan::{PlanError, RunPlan, adapter_name};
use super::predicted;
use super::runner::{RunError, build_index, full_models};
use super::source::Model;
use super::training::{self, Adapters};
use crate::finetune;
use crate::rng::Rng;
use crate::store::RunFolder;
use crate::store::journal::read_whole;
use crate::store::manifest::Manifest;
use crate::store::row::{JournalRow, Phase};

/// What is verified.
pub struct VerifyRequest<'a> {
    /// The plan of the run, made anew from its manifest.
    pub plan: &'a RunPlan,
    /// The run.
    pub folder: &'a RunFolder,
    /// Questions per variant and seed.
    pub questions: usize,
    /// Names the sample of questions.
    pub seed: u64,
    /// Set from outside to stop.
    pub interrupt: &'a AtomicBool,
}

/// One field of a row that is not as recorded.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// Whose answer.
    pub variant: String,
    /// Training seed.
    pub seed: u64,
    /// The question.
    pub sample_id: String,
    /// Name in the journal, for example `answer` or `scores.exact_match`.
    pub field: String,
    /// As recorded.
    pub was: String,
    /// As computed now.
    pub is: String,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Verification {
    /// Rows that were computed again.
    pub rows: usize,
    /// Fields that are not as recorded.
    pub differences: Vec<Difference>,
    /// What does not fit together in the folder or with this machine, in words: hashes, the journal's own hash.
    pub mismatches: Vec<String>,
    /// Metrics that this version computes and the run does not have: they were not declared when it was planned.
    pub post_hoc: BTreeSet<String>,
    /// What may make floats differ without anything being wrong, in words.
    pub notes: Vec<String>,
}

impl Verification {
    /// Everything is as recorded.
    pub fn is_same(&self) -> bool {
        self.differences.is_empty() && self.mismatches.is_empty()
    }
}

/// Answers a seeded sample again. Nothing is trained and nothing is written.
///
/// # Errors
/// [`RunError::Changed`] when data, weights or device are not those of the run, and what running refuses.
pub fn verify(request: &VerifyRequest, listener: &mut Listener) -> Result<Verification, RunError> {
    let (plan, folder) = (request.plan, request.folder);
    let manifest = folder.read_manifest()?;
    let differences = plan.differences(&manifest);
    if !differences.is_empty() {
        return Err(RunError::Changed { folder: folder.root().display().to_string(), differences });
    }
    let recorded: Vec<JournalRow> = read_whole(&folder.journal())?;
    let mut found = Verification { mismatches: journal_hash(&manifest, &recorded), notes: notes(&manifest), ..Verification::default() };
    check_adapters(plan, folder)?;
    score_again(plan, &recorded, &mut found);
    if !plan.spec.uses_model() {
        return Ok(found);
    }

    listener(RunEvent::Phase { name: "load", detail: &plan.spec.model_name(), total: 0, unit: "" });
    let model = plan.load_model()?;
    let mut index = None;
    if plan.spec.retrieves() {
        let (retriever, figures, _) = build_index(plan, listener)?;
        found.mismatches.extend(hash_differs(&manifest, "index", &figures.graph_hash));
        let questions: Vec<&str> = plan.dataset.test.iter().map(|sample| sample.question.as_str()).collect();
        let retrieved = retriever.search_batch(&questions, plan.spec.retrieval.top_k).map_err(RunError::retrieval)?;
        index = Some((retriever, retrieved));
    }
    let retriever = index.as_ref().map(|(retriever, _)| retriever);
    let mut adapters = Adapters::new();
    if let (false, Model::Local(model)) = (plan.spec.adapters().is_empty(), &model) {
        let loaded = training::train_all(plan, folder, model, retriever, request.interrupt, listener)?;
        for (kind, seed, hash) in &loaded.hashes {
            found.mismatches.extend(hash_differs(&manifest, &format!("adapter/{}", adapter_name(*kind, *seed)), hash));
        }
        adapters = loaded.adapters;
    }
    let tuned = model.local().map_or_else(BTreeMap::new, |model| full_models(model, &adapters));
    let bench = Bench::new(plan, &model, &adapters, &tuned, index.as_ref(), request.interrupt);
    answer_again(request, &bench, &recorded, &mut found, listener)?;
    Ok(found)
}

/// Given answers cannot be made again; all of them are scored again.
fn score_again(plan: &RunPlan, recorded: &[JournalRow], found: &mut Verification) {
    let known: BTreeMap<(&str, &str, Phase), &JournalRow> =
        recorded.iter().map(|row| ((row.variant.as_str(), row.sample_id.as_str(), row.phase), row)).collect();
    for row in predicted::rows(plan, &[]) {
        match known.get(&(row.variant.as_str(), row.sample_id.as_str(), row.phase)) {
            Some(before) => compare(before, &row, found),
            None => found.mismatches.push(format!("the journal has no row of `{}` for `{}`", row.variant, row.sample_id)),
        }
        found.rows += 1;
    }
}

fn answer_again(
    request: &VerifyRequest,
    bench: &Bench,
    recorded: &[JournalRow],
    found: &mut Verification,
    listener: &mut Listener,
) -> Result<(), RunError> {
    let plan = request.plan;
    let known: BTreeMap<(&str, u64, &str), &JournalRow> = recorded
        .iter()
        .filter(|row| row.phase == Phase::Accuracy)
        .map(|row| ((row.variant.as_str(), row.seed, row.sample_id.as_str()), row))
        .collect();
    let n = plan.dataset.test.len();
    let mut answers = AnswerCache::default();
    for &variant in &plan.spec.variants {
        for &seed in plan.seeds(variant) {
            if request.interrupt.load(Ordering::Relaxed) {
                return Err(RunError::Interrupted);
            }
            let label = format!("verify/{}/{seed}", variant.name());
            let chosen: BTreeSet<usize> = Rng::new(request.seed, &label).sample_indices(n, request.questions.min(n)).into_iter().collect();
            let detail = format!("{} seed {seed}", variant.name());
            listener(RunEvent::Phase { name: "verify", detail: &detail, total: chosen.len() as u64, unit: "questions" });
            for row in accuracy::again(bench, variant, seed, &chosen, &mut answers)? {
                match known.get(&(variant.name(), seed, row.sample_id.as_str())) {
                    Some(before) => compare(before, &row, found),
                    None => found.mismatches.push(format!("the journal has no row of `{}` for `{}`", variant.name(), row.sample_id)),
                }
                found.rows += 1;
                listener(RunEvent::Advance(1));
            }
        }
    }
    Ok(())
}

/// Every field that must not change, as its JSON text: byte by byte.
fn compare(before: &JournalRow, after: &JournalRow, found: &mut Verification) {
    let (was, is) = (fields(before), fields(after));
    let names: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    for name in names {
        let (was, is) = (was.get(name), is.get(name));
        if was == is {
            continue;
        }
        if let (None, Some(metric)) = (was, name.strip_prefix("scores.")) {
            found.post_hoc.insert(metric.to_owned());
            continue;
        }
        let text = |value: Option<&String>| value.cloned().unwrap_or_else(|| "(not there)".to_owned());
        found.differences.push(Difference {
            variant: after.variant.clone(),
            seed: after.seed,
            sample_id: after.sample_id.clone(),
            field: name.clone(),
            was: text(was),
            is: text(is),
        });
    }
}

/// The row without times and run id, scores one by one.
fn fields(row: &JournalRow) -> BTreeMap<String, String> {
    let Value::Object(map) = serde_json::to_value(row.timeless()).expect("rows are plain data") else { unreachable!("a row is an object") };
    let mut fields = BTreeMap::new();
    for (name, value) in map {
        match value {
            Value::Object(scores) if name == "scores" => {
                fields.extend(scores.into_iter().map(|(metric, score)| (format!("scores.{metric}"), score.to_string())));
            }
            other => {
                fields.insert(name, other.to_string());
            }
        }
    }
    fields
}

fn journal_hash(manifest: &Manifest, rows: &[JournalRow]) -> Vec<String> {
    match &manifest.result_hash {
        None => vec!["the run is not complete: it has no result hash".to_owned()],
        Some(hash) if *hash != result_hash(rows) => {
            vec!["the journal does not give the manifest's result hash: a row was changed or lost".to_owned()]
        }
        Some(_) => Vec::new(),
    }
}

fn hash_differs(manifest: &Manifest, name: &str, now: &str) -> Option<String> {
    let before = manifest.hashes.get(name)?;
    (before != now).then(|| format!("{name}: its hash was {}, is {}", &before[..before.len().min(16)], &now[..now.len().min(16)]))
}

/// A run is verified as it is: an adapter that is gone is not trained anew.
fn check_adapters(plan: &RunPlan, folder: &RunFolder) -> Result<(), RunError> {
    for kind in plan.spec.trained() {
        for &seed in &plan.spec.seeds {
            let path = folder.adapter(&adapter_name(kind, seed));
            if !finetune::is_finished(&path) {
                return Err(PlanError::Mismatch {
                    problem: format!("`{}` holds no finished adapter", path.display()),
                    mend: "restore the run folder whole; `ragft run --resume` trains what is missing".into(),
                }
                .into());
            }
        }
    }
    Ok(())
}

fn notes(manifest: &Manifest) -> Vec<String> {
    let here = super::counters::machine(&manifest.machine.device);
    let mut notes = Vec::new();
    if manifest.model.served.is_some() {
        notes.push("a server answered: it may answer otherwise now without anything being wrong".to_owned());
    }
    if here.features != manifest.machine.features {
        notes.push(format!(
            "this processor has {}, the run's had {}: floats may differ in their last digits",
            here.features.join(" "),
            manifest.machine.features.join(" ")
        ));
    }
    if manifest.crate_version != env!("CARGO_PKG_VERSION") {
        notes.push(format!("the run was made by version {}, this is {}", manifest.crate_version, env!("CARGO_PKG_VERSION")));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(answer: &str, scores: &[(&str, f64)]) -> JournalRow {
        let scores = scores.iter().map(|(name, score)| ((*name).to_owned(), *score)).collect();
        JournalRow { answer: answer.into(), scores, ..JournalRow::example(Phase::Accuracy, "rag", 1, "q1") }
    }

    #[test]
    fn what_changed_is_named_and_a_new_metric_is_post_hoc() {
        let mut found = Verification::default();
        let (before, mut after) = (row("blue", &[("exact_match", 1.0)]), row("red", &[("exact_match", 0.0), ("bleu", 0.1)]));
        after.e2e_ns = 9;
        compare(&before, &after, &mut found);
        let fields: Vec<(&str, &str, &str)> =
            found.differences.iter().map(|found| (found.field.as_str(), found.was.as_str(), found.is.as_str())).collect();
        assert_eq!(fields, [("answer", "\"blue\"", "\"red\""), ("scores.exact_match", "1.0", "0.0")]);
        assert_eq!(found.post_hoc, BTreeSet::from(["bleu".to_owned()]));
        assert!(!found.is_same());
    }
}
