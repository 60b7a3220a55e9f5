//! What one line of `journal.jsonl` says.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Version of [`JournalRow`]'s form; a reader refuses another.
pub const SCHEMA_VERSION: u32 = 1;

/// Which pass a row belongs to. The two never mix in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Batched, every test sample.
    Accuracy,
    /// One query at a time, warmed up, variants interleaved.
    Latency,
}

/// A passage as it was retrieved, best first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HitRow {
    /// Document the passage was cut from.
    pub document_id: String,
    /// The passage.
    pub chunk_id: String,
    /// From 1.
    pub rank: u32,
    /// By what ranked it: cosine similarity, BM25, the fused sum of reciprocal ranks, or the reranker's score; zero for passages that were given,
    /// not searched (`oracle`, `random`).
    pub score: f32,
    /// It fitted into the prompt.
    pub in_prompt: bool,
    /// Exact search has it among its first `top_k`; absent where not vectors alone decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_exact: Option<bool>,
}

/// Nanoseconds by stage; zero where the variant has no such stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StageNs {
    /// Embedding the question.
    pub embed: u64,
    /// Searching the index.
    pub search: u64,
    /// Searching by words, and fusing both lists.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lexical: u64,
    /// Reading the candidates again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rerank: u64,
    /// Building and tokenizing the prompt.
    pub prompt: u64,
    /// Prompt to first token.
    pub prefill: u64,
    /// Later tokens.
    pub decode: u64,
}

impl StageNs {
    /// From the question to the first token.
    pub fn ttft(&self) -> u64 {
        self.embed + self.search + self.lexical + self.rerank + self.prompt + self.prefill
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(nanoseconds: &u64) -> bool {
    *nanoseconds == 0
}

/// What a timed query used beside time, where the system tells; each figure may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct QueryResources {
    /// CPU time of all threads, in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ns: Option<u64>,
    /// Energy of the whole processor package while the query was answered, in microjoules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy_uj: Option<u64>,
}

impl QueryResources {
    /// Nothing was told.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What the explanation audit found about one answer; a line of `audit.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditRow {
    /// Name of the variant.
    pub variant: String,
    /// Training seed.
    pub seed: u64,
    /// The question.
    pub sample_id: String,
    /// Ranks (from 1) of the passages without which the answer is another one.
    pub influential: Vec<u32>,
    /// The answer is another one with the adapter switched off; nothing for base weights.
    pub adapter_changes_answer: Option<bool>,
    /// Training questions nearest to the question, where the adapter changes the answer.
    pub nearest_training: Vec<String>,
    /// 1 if the answer stands in evidence whose absence changes it, else 0; nothing for an answer that abstains, or where no evidence could
    /// be looked for.
    pub explained: Option<f64>,
    /// Of the influential passages, the part that is relevant.
    pub citation_precision: Option<f64>,
    /// Of the relevant passages in the prompt, the part that is influential.
    pub citation_recall: Option<f64>,
}

/// A query of the server scenario; a line of `server.jsonl`. Times are nanoseconds after the first possible arrival.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerRow {
    /// Name of the variant.
    pub variant: String,
    /// Its place in the stream, from 0.
    pub query: u32,
    /// The question.
    pub sample_id: String,
    /// When it came.
    pub intended_ns: u64,
    /// When it was taken up.
    pub started_ns: u64,
    /// When its first token was there; zero when `error` is set.
    pub first_token_ns: u64,
    /// When its last token was there.
    pub done_ns: u64,
    /// Why there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One observation: a variant answered a sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JournalRow {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The plan's id.
    pub run_id: String,
    /// Name of the variant.
    pub variant: String,
    /// Training seed; the first seed of the plan for variants without training.
    pub seed: u64,
    /// The question.
    pub sample_id: String,
    /// From 0; more than one only in the latency phase.
    pub repeat: u32,
    /// Accuracy or latency pass.
    pub phase: Phase,
    /// Trimmed answer; empty when `error` is set.
    pub answer: String,
    /// `stop` or `length`; empty when `error` is set.
    pub finish_reason: String,
    /// Tokens of the whole prompt.
    pub prompt_tokens: u32,
    /// Tokens of the passages within it.
    pub context_tokens: u32,
    /// New tokens.
    pub completion_tokens: u32,
    /// Prompt tokens that were not computed anew.
    pub cached_tokens: u32,
    /// Passages, best first.
    pub hits: Vec<HitRow>,
    /// Passages were dropped because they did not fit.
    pub context_cut: bool,
    /// By metric name, for example `exact_match`; answer and retrieval metrics of this sample.
    pub scores: BTreeMap<String, f64>,
    /// Latency phase only; zero in the accuracy phase.
    pub stage_ns: StageNs,
    /// Question to first token; latency phase only.
    pub ttft_ns: u64,
    /// Question to last token; latency phase only.
    pub e2e_ns: u64,
    /// Analytic floating-point operations of the query, embedding and search included; nothing where a server did a part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flops: Option<f64>,
    /// Why there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Latency phase only.
    #[serde(default, skip_serializing_if = "QueryResources::is_empty")]
    pub resources: QueryResources,
}

impl JournalRow {
    /// A row in which nothing was answered yet.
    pub fn blank(run_id: &str, variant: &str, seed: u64, sample_id: &str, phase: Phase) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            run_id: run_id.to_owned(),
            variant: variant.to_owned(),
            seed,
            sample_id: sample_id.to_owned(),
            repeat: 0,
            phase,
            answer: String::new(),
            finish_reason: String::new(),
            prompt_tokens: 0,
            context_tokens: 0,
            completion_tokens: 0,
            cached_tokens: 0,
            hits: Vec::new(),
            context_cut: false,
            scores: BTreeMap::new(),
            stage_ns: StageNs::default(),
            ttft_ns: 0,
            e2e_ns: 0,
            flops: Some(0.0),
            error: None,
            resources: QueryResources::default(),
        }
    }

    /// The row without what may differ when nothing has changed: times, and the run it belongs to.
    pub fn timeless(&self) -> Self {
        Self {
            run_id: String::new(),
            stage_ns: StageNs::default(),
            ttft_ns: 0,
            e2e_ns: 0,
            resources: QueryResources::default(),
            ..self.clone()
        }
    }

    /// A short answer without passages, scores and times, to be changed where a test looks.
    #[cfg(test)]
    pub(crate) fn example(phase: Phase, variant: &str, seed: u64, sample: &str) -> Self {
        Self {
            answer: "blue".to_owned(),
            finish_reason: "stop".to_owned(),
            prompt_tokens: 20,
            completion_tokens: 3,
            flops: Some(1e9),
            ..Self::blank("test", variant, seed, sample, phase)
        }
    }
}
