//! Answers of other systems as variants of a run: read from files, held against the questions, scored like any other answer.
//!
//! Only what the file says is known of such a variant. Times are those that it gives, taken elsewhere; operations, prompts and costs are not
//! measured.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::plan::{PlanError, RunPlan};
use super::query::RowContext;
use crate::dataset::{Dataset, Prediction, Sample, read_predictions};
use crate::diagnostic::nearest;
use crate::score;
use crate::spec::{RunSpec, VariantKind};
use crate::store::row::{HitRow, JournalRow, Phase};

/// What the journal says of why such an answer ended.
const GIVEN: &str = "given";
/// Ids named in an error.
const NAMED: usize = 5;

/// The answers of one other system.
#[derive(Debug, Clone, PartialEq)]
pub struct GivenAnswers {
    /// The variant under which they are shown.
    pub variant: VariantKind,
    /// One per test question, in their order.
    pub answers: Vec<Prediction>,
    /// BLAKE3 of these.
    pub hash: String,
    /// Answers to questions that are not tested.
    pub left_out: usize,
}

impl GivenAnswers {
    /// Key of the hash in the manifest.
    pub fn key(&self) -> String {
        format!("predictions/{}", self.variant.name())
    }

    /// What a reader of the report must know.
    pub fn notes(&self) -> Vec<String> {
        let name = self.variant.name();
        let mut notes = vec![format!("the answers of `{name}` were given in a file: how they were made is not known here")];
        if self.answers.iter().any(|answer| answer.latency_ms.is_some()) {
            notes.push(format!("times of `{name}` were given with its answers and not taken on this machine"));
        }
        if self.left_out > 0 {
            notes.push(format!("{} answers of `{name}` are to questions that this run does not test and are left out", self.left_out));
        }
        notes
    }
}

/// Reads the answers that a spec names and holds them against the questions.
///
/// # Errors
/// A file that is not as it should be; questions without an answer; answers to questions that the dataset does not have.
pub fn load(spec: &RunSpec, base_dir: &Path, dataset: &Dataset) -> Result<Vec<GivenAnswers>, PlanError> {
    spec.predictions.iter().map(|(name, path)| of_file(VariantKind::Predicted(*name), &base_dir.join(path), spec, dataset)).collect()
}

fn of_file(variant: VariantKind, path: &Path, spec: &RunSpec, dataset: &Dataset) -> Result<GivenAnswers, PlanError> {
    let predictions =
        read_predictions(path).map_err(|source| PlanError::Predictions { name: variant.name().to_owned(), source: Box::new(source) })?;
    let mut by_id: BTreeMap<String, Prediction> = predictions.into_iter().map(|prediction| (prediction.id.clone(), prediction)).collect();
    let missing: Vec<&str> = dataset.test.iter().map(|sample| sample.id.as_str()).filter(|id| !by_id.contains_key(*id)).collect();
    let mismatch = |problem, mend| Err(PlanError::Mismatch { problem, mend });
    // A limited run does not know the questions that it left out.
    let is_limited = spec.dataset.limit > 0 || spec.dataset.train_limit > 0;
    let known: BTreeSet<&str> = dataset.splits().into_iter().flat_map(|(_, samples)| samples).map(|sample| sample.id.as_str()).collect();
    let unknown: Vec<&str> = by_id.keys().map(String::as_str).filter(|id| !is_limited && !known.contains(id)).collect();
    let total = dataset.test.len();
    if let Some(first) = unknown.first() {
        let open = missing.clone();
        // Ids often differ in case alone, which is far in so few letters.
        let same = open.iter().copied().find(|id| id.eq_ignore_ascii_case(first));
        let meant = same.or_else(|| nearest(first, open)).map_or(String::new(), |near| format!("; `{first}` may be meant for `{near}`"));
        return mismatch(
            format!(
                "predictions `{}` answer {} questions that the dataset does not have: {}{meant}",
                variant.name(),
                unknown.len(),
                listed(&unknown)
            ),
            "use the dataset's own ids (`ragft dataset convert` writes them out), or drop these lines".into(),
        );
    }
    if !missing.is_empty() {
        return mismatch(
            format!("predictions `{}` lack {} of {total} test questions: {}", variant.name(), missing.len(), listed(&missing)),
            "add a line for each: `\"answer\": \"\"` where the system said nothing, or `\"error\": \"..\"` where it failed".into(),
        );
    }
    let answers: Vec<Prediction> = dataset.test.iter().map(|sample| by_id.remove(&sample.id).expect("none is missing")).collect();
    check_documents(variant, &answers, dataset)?;
    let hash = blake3::hash(&serde_json::to_vec(&answers).expect("plain data")).to_hex().to_string();
    Ok(GivenAnswers { variant, answers, hash, left_out: by_id.len() })
}

/// Documents are scored by their ids, so an id that names nothing would silently count as not relevant.
fn check_documents(variant: VariantKind, answers: &[Prediction], dataset: &Dataset) -> Result<(), PlanError> {
    let known: BTreeSet<&str> = dataset.documents.iter().map(|document| document.id.as_str()).collect();
    let retrieved = answers.iter().flat_map(|answer| answer.retrieved.iter().flatten());
    let unknown: BTreeSet<&str> = retrieved.map(String::as_str).filter(|id| !known.contains(id)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let unknown: Vec<&str> = unknown.into_iter().collect();
    Err(PlanError::Mismatch {
        problem: format!(
            "predictions `{}` name {} retrieved documents that the corpus does not have: {}",
            variant.name(),
            unknown.len(),
            listed(&unknown)
        ),
        mend: "give ids of the dataset's documents (of the document where a passage was retrieved), or leave `retrieved` out".into(),
    })
}

fn listed(ids: &[&str]) -> String {
    let more = if ids.len() > NAMED { format!(" and {} more", ids.len() - NAMED) } else { String::new() };
    let shown: Vec<String> = ids.iter().take(NAMED).map(|id| format!("`{id}`")).collect();
    format!("{}{more}", shown.join(", "))
}

/// The journal rows of all given answers that `rows` lacks: one per question, and one of the latency pass where a time was given.
pub fn rows(plan: &RunPlan, rows: &[JournalRow]) -> Vec<JournalRow> {
    let done: BTreeSet<(&str, &str, Phase)> = rows.iter().map(|row| (row.variant.as_str(), row.sample_id.as_str(), row.phase)).collect();
    let mut made = Vec::new();
    for given in &plan.predictions {
        let tells_documents = given.answers.iter().any(|answer| answer.retrieved.is_some());
        for (sample, answer) in plan.dataset.test.iter().zip(&given.answers) {
            made.push(accuracy_row(plan, given.variant, sample, answer, tells_documents));
            made.extend(latency_row(plan, given.variant, sample, answer));
        }
    }
    made.retain(|row| !done.contains(&(row.variant.as_str(), row.sample_id.as_str(), row.phase)));
    made
}

fn context(plan: &RunPlan, variant: VariantKind, phase: Phase) -> RowContext<'_> {
    RowContext {
        run_id: &plan.run_id,
        variant,
        seed: plan.spec.seeds[0],
        phase,
        repeat: 0,
        chunks: &[],
        top_k: plan.spec.retrieval.top_k,
        abstention: &plan.spec.prompt.abstention,
    }
}

fn accuracy_row(plan: &RunPlan, variant: VariantKind, sample: &Sample, given: &Prediction, tells_documents: bool) -> JournalRow {
    let context = context(plan, variant, Phase::Accuracy);
    if let Some(error) = &given.error {
        return context.failed(sample, error.clone());
    }
    let answer = given.answer.trim().to_owned();
    let mut scores = score::score_answer(&answer, sample, context.abstention);
    let retrieved = given.retrieved.as_deref().unwrap_or_default();
    if tells_documents && !sample.relevant.is_empty() {
        let ranking: Vec<&str> = retrieved.iter().map(String::as_str).collect();
        scores.extend(score::score_ranking(&ranking, &sample.relevant, &[context.top_k]));
    }
    let hit = |(index, id): (usize, &String)| HitRow {
        document_id: id.clone(),
        chunk_id: id.clone(),
        rank: index as u32 + 1,
        score: 0.0,
        in_prompt: true,
        in_exact: None,
    };
    JournalRow {
        answer,
        finish_reason: GIVEN.to_owned(),
        prompt_tokens: given.prompt_tokens.unwrap_or(0),
        completion_tokens: given.completion_tokens.unwrap_or(0),
        hits: retrieved.iter().enumerate().map(hit).collect(),
        scores,
        ..context.blank(sample)
    }
}

fn latency_row(plan: &RunPlan, variant: VariantKind, sample: &Sample, given: &Prediction) -> Option<JournalRow> {
    let nanoseconds = |ms: f64| (ms * 1e6) as u64;
    let e2e_ns = given.latency_ms.filter(|_| given.error.is_none()).map(nanoseconds)?;
    Some(JournalRow {
        answer: given.answer.trim().to_owned(),
        finish_reason: GIVEN.to_owned(),
        prompt_tokens: given.prompt_tokens.unwrap_or(0),
        completion_tokens: given.completion_tokens.unwrap_or(0),
        ttft_ns: given.ttft_ms.map_or(0, nanoseconds),
        e2e_ns,
        ..context(plan, variant, Phase::Latency).blank(sample)
    })
}
