//! The language model: one decoder for the Llama family, its weights, tokenizer, KV cache and generation.
//!
//! A variant sees [`LanguageModel`] (prompt tokens in, [`Generation`] out) or a [`remote::ServedModel`] (text in), and nothing of tensors. The
//! trainer sees [`decoder::Decoder`], whose forward pass is differentiable. Base weights are loaded once; a [`lora::LoraWeights`] is passed
//! beside them, never written into them.

pub mod builtin;
pub mod cache;
pub mod chat;
pub mod config;
pub mod config_file;
pub mod decoder;
pub mod device;
pub mod engine;
pub mod flops;
pub mod folder;
pub mod generate;
pub mod gguf;
pub mod hub;
pub mod inspect;
pub mod layout;
pub mod likelihood;
pub mod local;
pub mod lora;
pub mod ops;
pub mod remote;
pub mod sample;
pub mod tokenizer;
pub mod weights;

pub use device::{ComputeDevice, DeviceError};
pub use folder::{CheckedFolder, check_folder, check_model, save_folder};
pub use inspect::{ModelSummary, inspect_folder};
pub use local::LocalModel;
pub use tokenizer::{SpecialTokens, Tokenizer};

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// An end-of-sequence token or a stop string.
    Stop,
    /// The limit of new tokens, or the context window, was reached.
    Length,
}

/// How to decode. Greedy when `temperature` is zero.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationConfig {
    /// At most this many new tokens.
    pub max_new_tokens: usize,
    /// Zero is greedy.
    pub temperature: f64,
    /// Nucleus mass; one keeps every token.
    pub top_p: f64,
    /// The answer ends before the first of these strings.
    pub stop: Vec<String>,
    /// Seed of the sampling streams; each prompt's stream is also named by its own `stream` label.
    pub seed: u64,
    /// Prompts that are computed at a time. On this machine's processor the answers do not depend on it.
    pub batch_size: usize,
    /// Generate exactly this many tokens per prompt, ignoring stop rules: the latency pass replays the accuracy pass's counts.
    pub forced_tokens: Option<usize>,
}

/// One prompt, tokenized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Token ids, beginning-of-sequence included if the tokenizer adds it.
    pub tokens: Vec<u32>,
    /// Names the sampling stream (usually the sample id): sampled answers do not depend on batch mates.
    pub stream: String,
}

/// What the model said.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// Decoded text, stop string and special tokens removed, not trimmed otherwise.
    pub text: String,
    /// Prompt length in tokens.
    pub prompt_tokens: usize,
    /// New tokens computed, the one that ended the answer included.
    pub output_tokens: usize,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Time of the prefill, up to and including the first token; in a batch, while others were computed too.
    pub prefill: Duration,
    /// Time of all later tokens; in a batch, while others were computed too.
    pub decode: Duration,
}

/// A model that answers prompts.
pub trait LanguageModel: Send + Sync {
    /// Longest sequence (prompt and answer) in tokens.
    fn context_length(&self) -> usize;

    /// One generation per prompt, in order.
    ///
    /// # Errors
    /// [`ModelError::PromptTooLong`] when a prompt leaves no room for `max_new_tokens`, or a failed tensor operation.
    fn generate(
        &self,
        prompts: &[Prompt],
        adapter: Option<&lora::LoraWeights>,
        config: &GenerationConfig,
    ) -> Result<Vec<Generation>, ModelError>;
}

/// What can go wrong with a model.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The folder lacks a file or one of them is unusable.
    #[error("model folder `{path}`: {problem}")]
    Folder {
        /// The folder.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// An architecture that the decoder does not compute.
    #[error("model folder `{path}` has architecture `{architecture}`, which is not supported")]
    UnsupportedArchitecture {
        /// The folder.
        path: String,
        /// As named in `config.json`.
        architecture: String,
    },
    /// The weights do not fit the configuration.
    #[error("weights of `{path}`: {problem}")]
    Weights {
        /// The folder or file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// `config.json` asks for something impossible or not computed.
    #[error("`config.json` of `{path}`: {problem}")]
    Config {
        /// The folder.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// A file could not be read or written.
    #[error("cannot access `{path}`")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A name on the hub that cannot become a folder.
    #[error("`{name}`: {problem}")]
    Hub {
        /// As written.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// The chat template, or what it makes of a conversation.
    #[error("the chat template {problem}")]
    Chat {
        /// What is wrong.
        problem: String,
    },
    /// A prompt without a token.
    #[error("a prompt has no tokens")]
    EmptyPrompt,
    /// The weights give no number.
    #[error("no logit is a finite number")]
    NotFinite,
    /// No room for the answer.
    #[error("a prompt of {prompt_tokens} tokens and {max_new_tokens} new ones exceed the context of {context_length}")]
    PromptTooLong {
        /// Prompt length.
        prompt_tokens: usize,
        /// Asked for.
        max_new_tokens: usize,
        /// Window.
        context_length: usize,
    },
    /// The tokenizer refused a text.
    #[error("tokenizer failed: {0}")]
    Tokenizer(String),
    /// A server gave no answer.
    #[error(transparent)]
    Remote(#[from] remote::RemoteError),
    /// The system refused memory.
    #[error("no memory for the weights")]
    Memory(#[source] std::io::Error),
    /// A tensor operation failed.
    #[error("tensor operation failed")]
    Tensor(#[from] candle_core::Error),
}

impl ModelError {
    /// The server's error after which no other prompt would fare better: the run stops, and can go on later.
    pub fn stops(&self) -> Option<&remote::RemoteError> {
        match self {
            Self::Remote(error) if error.is_final() => Some(error),
            _ => None,
        }
    }
}

impl crate::diagnostic::Hint for ModelError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Folder { .. } => Some(
                "a model folder holds `config.json`, `tokenizer.json` and `model.safetensors` (or its shards and `model.safetensors.index.json`); a GGUF file is named itself"
                    .into(),
            ),
            Self::UnsupportedArchitecture { .. } => Some(format!(
                "computed here: {}; take a model of one of these, or a GGUF file of architecture llama, qwen2 or qwen3",
                config_file::supported()
            )),
            Self::PromptTooLong { .. } => Some("lower `retrieval.top_k`, `retrieval.chunk.max_tokens` or `generation.max_new_tokens`".into()),
            Self::Weights { .. } => Some("copy or convert the folder again; weights and `config.json` must come from one model".into()),
            Self::Config { .. } => Some("use a plain f32, f16 or bf16 checkpoint of the architecture, or a GGUF file, without another kind of rope scaling".into()),
            Self::Hub { .. } => Some(
                "the name is `hub:owner/name`, with `@` and a branch, tag or commit if it is not `main`; `HF_HOME`, `HF_HUB_CACHE`, `HF_HUB_OFFLINE`, \
                 `HF_TOKEN` and `HF_ENDPOINT` are honoured"
                    .into(),
            ),
            Self::Chat { .. } => Some("set `prompt.chat` to `none` or to a template file, or change `prompt.system`".into()),
            Self::EmptyPrompt => Some("the template rendered an empty prompt and the tokenizer adds no beginning token".into()),
            Self::NotFinite => Some("the weights hold NaN or infinity; a fine-tuning may have diverged: lower `finetune.learning_rate`".into()),
            Self::Remote(error) => error.hint(),
            Self::Tensor(error) => device::memory_hint(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod device_tests;
#[cfg(test)]
mod shape_tests;
#[cfg(test)]
mod tests;
