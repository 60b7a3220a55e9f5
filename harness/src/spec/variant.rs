//! The variants a run can compare.

use serde::{Deserialize, Serialize};

/// A thing under comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VariantKind {
    /// Base weights, no passages.
    Baseline,
    /// Base weights, retrieved passages.
    Rag,
    /// Fine-tuned weights, no passages.
    Finetuned,
    /// Fine-tuned weights, retrieved passages.
    Hybrid,
    /// Weights fine-tuned on prompts with retrieved passages, retrieved passages.
    HybridRaft,
    /// Base weights, the gold passages: what perfect retrieval would give.
    Oracle,
    /// Base weights, passages drawn at random: what any passage does.
    Random,
}

/// Where a variant's passages come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContextSource {
    /// No passages in the prompt.
    None,
    /// From the index.
    Retrieved,
    /// Chunks of the relevant documents.
    Gold,
    /// Chunks of documents that are not relevant.
    Random,
}

impl VariantKind {
    /// All of them, in the order of tables and figures.
    pub const ALL: [Self; 7] = [Self::Baseline, Self::Rag, Self::Finetuned, Self::Hybrid, Self::HybridRaft, Self::Oracle, Self::Random];

    /// Name in specs, tables and figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Rag => "rag",
            Self::Finetuned => "finetuned",
            Self::Hybrid => "hybrid",
            Self::HybridRaft => "hybrid_raft",
            Self::Oracle => "oracle",
            Self::Random => "random",
        }
    }

    /// Where its passages come from.
    pub fn context(self) -> ContextSource {
        match self {
            Self::Baseline | Self::Finetuned => ContextSource::None,
            Self::Rag | Self::Hybrid | Self::HybridRaft => ContextSource::Retrieved,
            Self::Oracle => ContextSource::Gold,
            Self::Random => ContextSource::Random,
        }
    }

    /// Whether it answers with fine-tuned weights.
    pub fn is_tuned(self) -> bool {
        matches!(self, Self::Finetuned | Self::Hybrid | Self::HybridRaft)
    }
}
