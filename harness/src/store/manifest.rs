//! `manifest.json`: what was asked, with what, on what machine, how long each phase took, and the hash of the results.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::spec::RunSpec;

/// The manifest of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this form.
    pub schema_version: u32,
    /// Hash of the plan: spec, dataset, weights, embedder. Two runs with one id must have one `result_hash` on one machine class.
    pub run_id: String,
    /// The spec with every default filled in.
    pub spec: RunSpec,
    /// The project's version.
    pub crate_version: String,
    /// Commit of the working directory, if it is a checkout.
    pub git_commit: Option<String>,
    /// UTC, ISO 8601, when the run was first started.
    pub started_at: String,
    /// BLAKE3 of `dataset`, `model`, `tokenizer`, `prompt`, `embedder`, `index`, `adapter/<variant>-seed<k>`.
    pub hashes: BTreeMap<String, String>,
    /// Where it ran.
    pub machine: MachineRecord,
    /// What it asked.
    pub dataset: DatasetRecord,
    /// What it asked of.
    pub model: ModelRecord,
    /// The index, if a variant retrieves.
    pub index: Option<IndexRecord>,
    /// Tokens that a served embedder read, over all stretches of the run; nothing where none embeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedder_tokens: Option<u64>,
    /// One entry per trained adapter.
    pub training: Vec<TrainingRecord>,
    /// How many answers another batch size or weight type changes; empty when it was not measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub noise: Vec<NoiseRecord>,
    /// How fast the machine was around the latency pass; nothing if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibrationRecord>,
    /// What else the machine did during the latency pass, where the system tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contention: Option<ContentionRecord>,
    /// The untimed queries before the latency pass, the first of each variant cold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warmup: Vec<WarmupRecord>,
    /// Batches with everything at hand; empty if that scenario was left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offline: Vec<OfflineRecord>,
    /// In the order they ran; a resumed run adds to the times.
    pub phases: Vec<PhaseRecord>,
    /// What a reader must know, in words: limited data, shared documents, a single seed, cut contexts.
    pub caveats: Vec<String>,
    /// The part of a run that this folder holds; nothing for a whole run. Everything else here is said of the whole run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
    /// The shards that this run was merged from; empty if it was not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shards: Vec<ShardRecord>,
    /// Over everything that must not change when nothing changed; set when the run is complete.
    pub result_hash: Option<String>,
}

/// One of the equal parts that the test questions of a run are split into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// From 1.
    pub index: usize,
    /// How many there are.
    pub of: usize,
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

/// What a merged run keeps of one of its shards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardRecord {
    /// From 1.
    pub index: usize,
    /// Test questions that it answered.
    pub questions: usize,
    /// UTC, ISO 8601.
    pub started_at: String,
    /// Of all its phases.
    pub seconds: f64,
    /// Where it ran.
    pub machine: MachineRecord,
    /// Of its own rows.
    pub result_hash: String,
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineRecord {
    /// Processor name.
    pub cpu: String,
    /// Logical cores.
    pub cores: usize,
    /// Threads that the run used.
    pub threads: usize,
    /// Instruction sets that change results or speed, for example `avx512f`.
    pub features: Vec<String>,
    /// Main memory.
    pub memory_bytes: u64,
    /// Operating system and kernel.
    pub os: String,
    /// What the model computed on: `cpu`, or a GPU such as `cuda:0 (NVIDIA H100 80GB HBM3)`. The embedder and the index are always on the CPU.
    pub device: String,
}

impl MachineRecord {
    /// Name of what the model computed on: the processor's, or the GPU's.
    pub fn computes_on(&self) -> &str {
        if self.device == "cpu" { &self.cpu } else { &self.device }
    }
}

/// The dataset's figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatasetRecord {
    /// Name in `dataset.toml`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its licence.
    pub licence: String,
    /// Where it comes from.
    pub source: String,
    /// Documents.
    pub documents: usize,
    /// Training questions in use.
    pub train: usize,
    /// Validation questions in use.
    pub validation: usize,
    /// Test questions in use.
    pub test: usize,
    /// Clusters among the test questions.
    pub clusters: usize,
    /// What each slice means.
    pub slices: BTreeMap<String, String>,
}

/// The model's figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// `builtin` or the folder as written.
    pub path: String,
    /// Commit of the hub that a `hub:` name stood for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// As in `config.json`.
    pub architecture: String,
    /// Weights, a tied head counted once.
    pub parameters: u64,
    /// Window in use.
    pub context_length: usize,
    /// Bytes of the weights in memory; zero where they are not here.
    pub weight_bytes: u64,
    /// The server behind which it is; nothing for a model of this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<ServedRecord>,
}

/// A model behind an endpoint: what is known of it, and what was asked of it in all phases together. Its key is nowhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServedRecord {
    /// Host and port.
    pub host: String,
    /// `chat` or `completions`.
    pub interface: String,
    /// What the server says of itself in its answers (`system_fingerprint`); more than one where it changed meanwhile.
    pub fingerprints: Vec<String>,
    /// Requests of this run, those that failed included.
    pub requests: u64,
    /// Those of them that were a request again.
    pub retries: u64,
    /// Tokens that the server read.
    pub prompt_tokens: u64,
    /// Tokens that it wrote.
    pub completion_tokens: u64,
    /// Answers that came without token counts, which are estimates then.
    pub uncounted: u64,
    /// At the spec's prices.
    pub money: f64,
}

/// An embedder behind an endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServedEmbedderRecord {
    /// Host and port.
    pub host: String,
    /// The name under which it is served.
    pub model: String,
    /// Mean tokens of a test question, as the server counted them.
    pub question_tokens: f64,
}

impl ModelRecord {
    /// No model: all answers were given.
    pub fn none() -> Self {
        Self {
            path: "none".to_owned(),
            revision: None,
            architecture: String::new(),
            parameters: 0,
            context_length: 0,
            weight_bytes: 0,
            served: None,
        }
    }

    /// Whether there was one.
    pub fn is_none(&self) -> bool {
        *self == Self::none()
    }
}

/// The index's figures: what retrieval costs before the first question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IndexRecord {
    /// Passages.
    pub chunks: usize,
    /// Length of a vector.
    pub dimension: usize,
    /// Tokens that the embedder read.
    pub embed_tokens: u64,
    /// Operations of embedding the corpus; nothing where a server embeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embed_flops: Option<f64>,
    /// Operations of building the graph: distances computed, two per dimension; counted where the index can count, else zero.
    pub build_flops: f64,
    /// Wall time of chunking and embedding.
    pub embed_seconds: f64,
    /// Wall time of building the graph.
    pub build_seconds: f64,
    /// CPU time of both.
    pub cpu_seconds: f64,
    /// Vectors, graph and texts in memory.
    pub bytes: u64,
    /// Passages that no search from the entry point can reach.
    pub unreachable: usize,
    /// The index of words, where words are searched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lexical: Option<LexicalRecord>,
    /// The model that orders candidates anew, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reranker: Option<RerankerRecord>,
    /// The server that keeps the vectors, if one does; `bytes` is then its own figure beside the texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreRecord>,
    /// The server that embeds, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedder: Option<ServedEmbedderRecord>,
}

/// An index from words to passages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LexicalRecord {
    /// Distinct words.
    pub terms: usize,
    /// Words by passage.
    pub postings: u64,
    /// Wall time of counting words.
    pub seconds: f64,
    /// In memory.
    pub bytes: u64,
}

/// A reranker: it costs nothing per document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RerankerRecord {
    /// Of the weight file.
    pub bytes: u64,
    /// Wall time of loading it.
    pub load_seconds: f64,
}

/// Where vectors are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoreRecord {
    /// The address, its password hidden.
    pub address: String,
    /// The server's own name and version.
    pub server: String,
    /// The table.
    pub name: String,
    /// An earlier run built it: times, tokens and operations are that run's.
    pub reused: bool,
}

/// What one adapter cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingRecord {
    /// The variants that answer with it.
    pub variants: Vec<String>,
    /// Name of its folder under `adapters/`.
    pub adapter: String,
    /// Training seed.
    pub seed: u64,
    /// `lora` or `full`.
    pub method: String,
    /// Labels used, validation included.
    pub labels: usize,
    /// Rows left out because the prompt did not fit.
    pub dropped: usize,
    /// Rows whose answer was cut.
    pub cut: usize,
    /// Weights that were trained.
    pub trainable_parameters: u64,
    /// Optimizer steps.
    pub steps: u64,
    /// Tokens seen, padding not counted.
    pub tokens: u64,
    /// Analytic operations.
    pub flops: f64,
    /// Wall time.
    pub seconds: f64,
    /// CPU time.
    pub cpu_seconds: f64,
    /// Bytes of the adapter on disk.
    pub bytes: u64,
    /// Best validation loss, if one was measured.
    pub best_eval_loss: Option<f64>,
}

/// How much another way of computing the same model changes: the floor below which a difference between runs says nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NoiseRecord {
    /// The variant.
    pub variant: String,
    /// What was done otherwise: `batch size 1`, `bf16 weights`, `q8_0 weights`, `f32 weights`.
    pub change: String,
    /// Answers compared.
    pub answers: usize,
    /// Answers whose text changed.
    pub changed: usize,
    /// Right answers (exact match) less those of the run itself.
    pub exact_match_change: f64,
}

/// Times of a fixed numeric loop right before and right after the latency pass: what makes times of two runs comparable when the machine was
/// busier, or another one. One thread alone and all threads at once slow down together on a slower machine, and apart on a busy one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrationRecord {
    /// Version of the loop; times of different loops say nothing of each other.
    pub version: u32,
    /// On one thread.
    pub alone: CalibrationRounds,
    /// On every thread of the run at once.
    pub together: CalibrationRounds,
}

/// What the machine did beside this run, as parts of all its processors' time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ContentionRecord {
    /// Time that other processes took.
    pub other_share: f64,
    /// Time that the hypervisor gave to other machines.
    pub steal_share: f64,
    /// Wall time that this is about, in seconds.
    pub seconds: f64,
}

/// Untimed queries of a variant before the latency pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WarmupRecord {
    /// The variant.
    pub variant: String,
    /// Question to last token, in nanoseconds; the first query is the cold one.
    pub e2e_ns: Vec<u64>,
}

/// One pass of a variant over questions that are all at hand from the start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OfflineRecord {
    /// The variant.
    pub variant: String,
    /// Questions answered.
    pub questions: usize,
    /// Tokens of their prompts.
    pub prompt_tokens: u64,
    /// Tokens of their answers.
    pub output_tokens: u64,
    /// From the first question to the last answer: retrieval, prompts and generation.
    pub seconds: f64,
}

/// Rounds of a calibration loop, in nanoseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrationRounds {
    /// Before the latency pass.
    pub before_ns: Vec<u64>,
    /// After it.
    pub after_ns: Vec<u64>,
}

impl CalibrationRounds {
    /// Median round, in nanoseconds.
    pub fn nanoseconds(&self) -> f64 {
        median(self.before_ns.iter().chain(&self.after_ns))
    }

    /// By which factor a slow round (of rank 0.9) exceeds the median one, from 1 on: what bursts of other work do.
    pub fn spread(&self) -> f64 {
        let mut sorted: Vec<f64> = self.before_ns.iter().chain(&self.after_ns).map(|round| *round as f64).collect();
        sorted.sort_by(f64::total_cmp);
        crate::stats::quantile(&sorted, 0.9).unwrap_or(1.0) / self.nanoseconds()
    }

    /// By which factor the medians before and after differ, from 1 on.
    pub fn unsteadiness(&self) -> f64 {
        let (before, after) = (median(self.before_ns.iter()), median(self.after_ns.iter()));
        (before / after).max(after / before)
    }
}

impl CalibrationRecord {
    /// Geometric mean of the two loops, in nanoseconds: queries keep some threads busy all the time and others now and then.
    pub fn nanoseconds(&self) -> f64 {
        (self.alone.nanoseconds() * self.together.nanoseconds()).sqrt()
    }

    /// How far times of this run can be trusted, as a factor from 1 on.
    pub fn unsteadiness(&self) -> f64 {
        self.alone.unsteadiness().max(self.together.unsteadiness())
    }
}

fn median<'a>(rounds: impl Iterator<Item = &'a u64>) -> f64 {
    let mut sorted: Vec<f64> = rounds.map(|round| *round as f64).collect();
    sorted.sort_by(f64::total_cmp);
    crate::stats::quantile(&sorted, 0.5).unwrap_or(1.0).max(1.0)
}

/// One phase of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseRecord {
    /// `load`, `index`, `train`, `accuracy`, `latency`, `tables`, `report`.
    pub name: String,
    /// Wall time.
    pub seconds: f64,
    /// CPU time of the process.
    pub cpu_seconds: f64,
    /// Peak resident memory of the process when it ended, where the system tells.
    pub peak_memory_bytes: Option<u64>,
    /// Energy of the whole processor package meanwhile, in joules, where the system tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy_joules: Option<f64>,
    /// The part of `seconds` that is neither model nor embedder: prompts, scores, rows; where it is told apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overhead_seconds: Option<f64>,
}
