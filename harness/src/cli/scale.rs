//! `ragft plan --documents N --questions N`: a run of another size, computed from a small measurement of this one.

use std::fmt::Write as _;

use crate::clock::Stopwatch;
use crate::dataset::Document;
use crate::measure::counters;
use crate::measure::plan::RunPlan;
use crate::measure::query::RowContext;
use crate::measure::runner::RunError;
use crate::measure::scale::{Part, Seen, Size, parts};
use crate::report::format;
use crate::retrieval::{RetrievalError, Retriever};
use crate::spec::{ContextSource, VariantKind};
use crate::store::row::{HitRow, JournalRow, Phase};

/// Documents that are indexed to know the speed.
const DOCUMENTS: usize = 2000;
/// Questions that are searched for.
const QUESTIONS: usize = 64;

/// Seconds that the outlook found.
pub struct Times {
    /// The accuracy pass over the questions there are.
    pub accuracy: f64,
    /// The latency pass.
    pub latency: f64,
    /// All trainings.
    pub training: f64,
}

/// The parts of a run of that size; what is not given stays as it is.
pub fn of(plan: &RunPlan, times: &Times, documents: Option<f64>, questions: Option<f64>) -> Result<(Size, Vec<Part>), RunError> {
    let whole = plan.dataset.test.len() as f64;
    let size = Size { documents: documents.unwrap_or(plan.dataset.documents.len() as f64), questions: questions.unwrap_or(whole) };
    let seen = Seen {
        answer_seconds: times.accuracy / whole,
        latency_seconds: times.latency,
        training_seconds: times.training,
        answers: plan.spec.variants.iter().map(|&variant| plan.seeds(variant).len()).sum::<usize>() as f64,
        row_bytes: row_bytes(plan),
        memory_bytes: counters::machine(plan.device_label()).memory_bytes as f64,
        ..index(plan)?
    };
    let mut parts = parts(&seen, size);
    if !plan.spec.retrieves() {
        parts.retain(|part| !part.moves_to.contains("stor") || part.name.starts_with("merging"));
    }
    Ok((size, parts))
}

/// An index over the first documents, built and searched for the measure of it.
fn index(plan: &RunPlan) -> Result<Seen, RunError> {
    let mut seen = Seen {
        documents: plan.dataset.documents.len().clamp(1, DOCUMENTS) as f64,
        chunks: 1.0,
        dimension: 0.0,
        index_bytes: 0.0,
        embed_seconds: 0.0,
        build_seconds: 0.0,
        exact_seconds: 0.0,
        answer_seconds: 0.0,
        training_seconds: 0.0,
        latency_seconds: 0.0,
        answers: 0.0,
        row_bytes: 0.0,
        memory_bytes: 0.0,
    };
    if !plan.spec.retrieves() {
        return Ok(seen);
    }
    let failed = |error: RetrievalError| RunError::Retrieval(Box::new(error));
    let documents: &[Document] = &plan.dataset.documents[..plan.dataset.documents.len().min(DOCUMENTS)];
    let models = plan.load_search_models().map_err(failed)?;
    let count = |text: &str| plan.count(text);
    let (retriever, figures) = Retriever::build(documents, &plan.spec.retrieval, models, &count).map_err(failed)?;
    let questions: Vec<&str> = plan.dataset.test.iter().take(QUESTIONS).map(|sample| sample.question.as_str()).collect();
    let watch = Stopwatch::start();
    retriever.search_batch(&questions, plan.spec.retrieval.top_k).map_err(failed)?;
    seen.chunks = figures.chunks as f64;
    seen.dimension = figures.dimension as f64;
    seen.index_bytes = figures.bytes as f64;
    (seen.embed_seconds, seen.build_seconds) = (figures.embed_seconds, figures.build_seconds);
    // Index and exact search together: at size the second is nearly all of it.
    seen.exact_seconds = watch.elapsed().as_secs_f64() / questions.len().max(1) as f64;
    Ok(seen)
}

/// A row of a variant that retrieves, with ids as long as this set's.
fn row_bytes(plan: &RunPlan) -> f64 {
    let mean = |lengths: &mut dyn Iterator<Item = usize>, count: usize| "x".repeat(lengths.sum::<usize>() / count.max(1));
    let document = mean(&mut plan.dataset.documents.iter().map(|document| document.id.len()), plan.dataset.documents.len());
    let hit = |rank: usize| HitRow {
        document_id: document.clone(),
        chunk_id: format!("{document}#0"),
        rank: rank as u32,
        score: 0.123_456_79,
        in_prompt: true,
        in_exact: Some(true),
    };
    let top_k = plan.spec.retrieval.top_k;
    let scores = ["contains", "exact_match", "exact_recall_at_4", "grounded", "mrr", "ndcg_at_4", "recall_at_4", "rouge_l", "token_f1"];
    let Some(sample) = plan.dataset.test.first() else { return 0.0 };
    let context = RowContext {
        run_id: &plan.run_id,
        variant: VariantKind::Baseline,
        seed: 1,
        phase: Phase::Accuracy,
        repeat: 0,
        chunks: &[],
        top_k,
        abstention: &[],
    };
    let row = JournalRow {
        answer: "x".repeat(4 * plan.spec.generation.max_new_tokens),
        finish_reason: "length".to_owned(),
        prompt_tokens: 1000,
        hits: (1..=top_k).map(hit).collect(),
        scores: scores.iter().map(|name| ((*name).to_owned(), 0.123_456_789)).collect(),
        flops: Some(123_456_789.0),
        ..context.blank(sample)
    };
    let retrieving = plan.spec.variants.iter().filter(|variant| variant.context() != ContextSource::None).count();
    let whole = serde_json::to_string(&row).map_or(0, |text| text.len() + 1) as f64;
    let bare = serde_json::to_string(&JournalRow { hits: Vec::new(), ..row }).map_or(0, |text| text.len() + 1) as f64;
    let share = retrieving as f64 / plan.spec.variants.len().max(1) as f64;
    share * whole + (1.0 - share) * bare
}

/// For people: a line per part, and under the ones that outgrow this machine where they go.
pub fn text((size, parts): &(Size, Vec<Part>)) -> String {
    let mut text = format!(
        "at {} documents and {} questions, on machines like this one:\n",
        format::large(size.documents),
        format::large(size.questions)
    );
    for part in parts {
        let amount = if part.unit == "bytes" { format::bytes(part.amount) } else { long_duration(part.amount) };
        let _ = writeln!(text, "  {:<45} {amount:>12}{}", part.name, machines(part));
        if part.outgrown {
            let _ = writeln!(text, "      -> {}", part.moves_to);
        }
    }
    text.push_str(
        "computed from a small index and one batch per variant; a part is outgrown beyond a day, or beyond four fifths of this memory\n",
    );
    text
}

fn machines(part: &Part) -> String {
    if part.outgrown { format!("  {} machines", format::large(part.machines)) } else { String::new() }
}

fn long_duration(seconds: f64) -> String {
    match seconds {
        s if s >= 2.0 * 86_400.0 => format!("{} days", format::large(s / 86_400.0)),
        s if s >= 2.0 * 3600.0 => format!("{} h", format::significant(s / 3600.0, 3)),
        s => format::duration(s),
    }
}
