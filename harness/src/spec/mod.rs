//! [`RunSpec`] is what the user wrote; checking it, before any model loads, gives the plan.

mod check;
mod device;
mod needs;
mod read;
mod store;
pub mod variant;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::kernel::WeightForm;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use check::check;
pub use device::DeviceName;
pub use read::{Override, SpecError, SpecProblem, read, read_over, schema, with_defaults};
pub use store::StoreAddress;
pub use variant::{ContextSource, PredictedName, VariantKind};

/// Every setting with its default and one line on why; parsed, so that it cannot drift.
pub const DEFAULT_SPEC: &str = include_str!("../../default-spec.toml");

/// A run as written. `default-spec.toml` explains every key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default-spec.toml documents every key")]
pub struct RunSpec {
    pub name: String,
    pub variants: Vec<VariantKind>,
    pub seeds: Vec<u64>,
    pub predictions: BTreeMap<PredictedName, PathBuf>,
    pub dataset: DatasetSpec,
    pub model: ModelSpec,
    pub prompt: PromptSpec,
    pub retrieval: RetrievalSpec,
    pub finetune: FinetuneSpec,
    pub hybrid: HybridSpec,
    pub generation: GenerationSpec,
    pub measure: MeasureSpec,
    pub contrasts: ContrastsSpec,
    pub cost: CostSpec,
}

macro_rules! section {
    ($(#[$meta:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        #[expect(missing_docs, reason = "default-spec.toml documents every key")]
        pub struct $name { $(pub $field: $type),* }
    };
}

macro_rules! choice {
    ($(#[$meta:meta])* $name:ident { $($item:ident),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        #[expect(missing_docs, reason = "default-spec.toml documents every value")]
        pub enum $name { $($item),* }
    };
}

section!(
    /// `[dataset]`
    DatasetSpec {
        path: PathBuf,
        format: DatasetFormat,
        documents: PathBuf,
        train: PathBuf,
        test_fraction: f64,
        limit: usize,
        train_limit: usize,
        overlap: OverlapPolicy,
        no_reference: NoReference,
        leak: LeakSpec,
        columns: ColumnSpec,
    }
);
section!(
    /// `[dataset.leak]`
    LeakSpec { ngram: usize, share: f64, similarity: f64 }
);

/// As in `default-spec.toml`, for manifests of runs before it.
impl Default for LeakSpec {
    fn default() -> Self {
        let defaults: toml::Table = DEFAULT_SPEC.parse().expect("the default spec parses");
        defaults["dataset"]["leak"].clone().try_into().expect("the default spec has every key")
    }
}

section!(
    /// `[dataset.columns]`
    ColumnSpec {
        id: String,
        question: String,
        references: String,
        relevant: String,
        slices: Vec<String>,
        document_id: String,
        title: String,
        text: String,
    }
);
section!(
    /// `[model]`
    ModelSpec {
        path: PathBuf,
        tokenizer: PathBuf,
        dtype: Dtype,
        device: DeviceName,
        max_context: usize,
        endpoint: EndpointSpec,
    }
);
section!(
    /// `[model.endpoint]`
    EndpointSpec {
        url: String,
        model: String,
        kind: EndpointKind,
        adapter: String,
        hybrid_adapter: String,
        key_env: String,
        concurrency: usize,
        timeout_s: f64,
        retries: u32,
        chars_per_token: f64,
        limit_field: LimitField,
        extra: String,
        price_input: f64,
        price_output: f64,
        max_total_tokens: u64,
        max_total_cost: f64,
    }
);
section!(
    /// `[prompt]`
    PromptSpec {
        template: String,
        chat: String,
        system: String,
        chat_date: String,
        answer_prefix: String,
        answer_suffix: String,
        abstention: Vec<String>,
    }
);
section!(
    /// `[retrieval]`
    RetrievalSpec {
        embedder: PathBuf,
        top_k: usize,
        store: StoreAddress,
        chunk: ChunkSpec,
        hnsw: HnswSpec,
        search: SearchSpec,
        bm25: Bm25Spec,
        embedding: EmbeddingSpec,
        rerank: RerankSpec,
        endpoint: EmbeddingEndpointSpec,
    }
);
section!(
    /// `[retrieval.chunk]`
    ChunkSpec { max_tokens: usize, overlap_tokens: usize }
);
section!(
    /// `[retrieval.hnsw]`
    HnswSpec { m: usize, ef_construction: usize, ef_search: usize }
);
section!(
    /// `[retrieval.search]`
    SearchSpec { method: SearchMethod, candidates: usize, rrf_k: f64 }
);
section!(
    /// `[retrieval.bm25]`
    Bm25Spec { k1: f64, b: f64, stemmer: StemmerName }
);
section!(
    /// `[retrieval.embedding]`
    EmbeddingSpec { query_prefix: String, passage_prefix: String, dimensions: usize }
);
section!(
    /// `[retrieval.rerank]`
    RerankSpec { model: PathBuf, candidates: usize }
);
section!(
    /// `[retrieval.endpoint]`
    EmbeddingEndpointSpec {
        url: String,
        model: String,
        key_env: String,
        batch: usize,
        dimensions: usize,
        concurrency: usize,
        timeout_s: f64,
        retries: u32,
        chars_per_token: f64,
        price_input: f64,
        max_total_tokens: u64,
        max_total_cost: f64,
    }
);
section!(
    /// `[finetune]`
    FinetuneSpec {
        method: FinetuneMethod,
        examples: TrainingExamples,
        rank: usize,
        alpha: f64,
        dropout: f64,
        target_modules: Vec<TargetModule>,
        epochs: f64,
        max_steps: u64,
        learning_rate: f64,
        schedule: Schedule,
        warmup_ratio: f64,
        weight_decay: f64,
        max_grad_norm: f64,
        micro_batch: usize,
        grad_accum_steps: usize,
        max_length: usize,
        gradient_checkpointing: bool,
        validation_fraction: f64,
        eval_steps: u64,
        patience: u64,
        checkpoint_steps: u64,
        rslora: bool,
        adapter: PathBuf,
    }
);
section!(
    /// `[hybrid]`
    HybridSpec {
        train_context: TrainContext,
        adapter: PathBuf,
    }
);
section!(
    /// `[generation]`
    GenerationSpec { max_new_tokens: usize, temperature: f64, top_p: f64, stop: Vec<String>, batch_size: usize }
);
section!(
    /// `[measure]`
    MeasureSpec {
        latency_samples: usize,
        latency_repeats: u32,
        warmup: usize,
        noise_samples: usize,
        audit_samples: usize,
        bootstrap_resamples: usize,
        confidence: f64,
        server: ServerSpec,
        offline: OfflineSpec,
    }
);
section!(
    /// `[measure.server]`
    ServerSpec { rate: f64, queries: usize }
);
section!(
    /// `[measure.offline]`
    OfflineSpec { questions: usize, repeats: u32 }
);
section!(
    /// `[contrasts]`
    ContrastsSpec { alpha: f64, power: f64, margin: f64 }
);
section!(
    /// `[cost]`
    CostSpec {
        currency: String,
        prices_as_of: String,
        machine_hour: f64,
        label: f64,
        storage_gib_month: f64,
        storage_months: f64,
        horizon_queries: u64,
        people: PeopleSpec,
        usage: UsageSpec,
    }
);
section!(
    /// `[cost.people]`
    PeopleSpec {
        human_hour: f64,
        index_minutes: f64,
        training_minutes: f64,
        label_minutes: f64,
        index_update_minutes: f64,
        training_update_minutes: f64,
    }
);
section!(
    /// `[cost.usage]`
    UsageSpec { months: f64, queries_per_month: f64, updates_per_month: f64 }
);
choice!(
    /// `dataset.format`
    DatasetFormat { Auto, Native, Squad, Beir, Jsonl, Table, Hotpot, OpenQa, Choices, Chat, Flashrag, Autorag }
);
choice!(
    /// `dataset.overlap`
    OverlapPolicy { Refuse, Report }
);
choice!(
    /// `dataset.no_reference`
    NoReference { Refuse, Unanswerable }
);

#[expect(clippy::derivable_impls, reason = "the macro derives the same for every choice")]
impl Default for NoReference {
    fn default() -> Self {
        Self::Refuse
    }
}

choice!(
    /// `model.dtype`
    Dtype { F32, Bf16, Q8_0 }
);

impl Dtype {
    /// How the engine holds weights of this type.
    pub fn weight_form(self) -> WeightForm {
        match self {
            Self::F32 => WeightForm::F32,
            Self::Bf16 => WeightForm::Bf16,
            Self::Q8_0 => WeightForm::Q8,
        }
    }

    /// Name in specs and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
        }
    }
}
choice!(
    /// `model.endpoint.kind`
    EndpointKind { Chat, Completions }
);

impl EndpointKind {
    /// Name in specs and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
        }
    }
}
choice!(
    /// `model.endpoint.limit_field`
    LimitField { MaxTokens, MaxCompletionTokens }
);

impl LimitField {
    /// Name in requests.
    pub fn name(self) -> &'static str {
        match self {
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
        }
    }
}
choice!(
    /// `retrieval.search.method`
    SearchMethod { Dense, Bm25, Hybrid }
);
choice!(
    /// `retrieval.bm25.stemmer`: a language of the Snowball stemmers
    StemmerName {
        None,
        Arabic,
        Danish,
        Dutch,
        English,
        Finnish,
        French,
        German,
        Greek,
        Hungarian,
        Italian,
        Norwegian,
        Portuguese,
        Romanian,
        Russian,
        Spanish,
        Swedish,
        Tamil,
        Turkish,
    }
);

impl SearchMethod {
    /// Vectors are searched.
    pub fn is_dense(self) -> bool {
        self != Self::Bm25
    }

    /// Words are searched.
    pub fn is_lexical(self) -> bool {
        self != Self::Dense
    }
}

impl EndpointSpec {
    /// The model is served.
    pub fn is_set(&self) -> bool {
        !self.url.is_empty()
    }

    /// Price of so many tokens.
    pub fn money(&self, prompt_tokens: f64, completion_tokens: f64) -> f64 {
        (prompt_tokens * self.price_input + completion_tokens * self.price_output) / 1e6
    }
}

impl EmbeddingEndpointSpec {
    /// Vectors come from a server.
    pub fn is_set(&self) -> bool {
        !self.url.is_empty()
    }
}

impl RetrievalSpec {
    /// The reranker's folder, if there is to be one.
    pub fn reranker(&self) -> Option<&Path> {
        let model = self.rerank.model.as_path();
        (!model.as_os_str().is_empty()).then_some(model)
    }
}
choice!(
    /// `finetune.method`
    FinetuneMethod { Lora, Full }
);
choice!(
    /// `finetune.examples`
    TrainingExamples { Qa, Documents, Both }
);

impl TrainingExamples {
    /// Labelled questions are among them.
    pub fn has_labels(self) -> bool {
        self != Self::Documents
    }

    /// The documents themselves are among them.
    pub fn has_documents(self) -> bool {
        self != Self::Qa
    }
}
choice!(
    /// `finetune.target_modules`, by their names in weight files
    TargetModule { QProj, KProj, VProj, OProj, GateProj, UpProj, DownProj }
);
choice!(
    /// `finetune.schedule`
    Schedule { Linear, Cosine, Constant }
);
choice!(
    /// `hybrid.train_context`
    TrainContext { None, Retrieved }
);
