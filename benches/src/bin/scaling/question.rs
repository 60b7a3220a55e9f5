//! The questions that the figures answer, one each.

use ragft::report::format;

use crate::plan::Group;

/// A figure: one metric of one group.
#[derive(Debug)]
pub struct Question {
    /// File stem.
    pub name: &'static str,
    pub title: &'static str,
    /// How it was measured.
    pub note: &'static str,
    pub group: Group,
    pub metric: &'static str,
    /// Axis titles.
    pub x: &'static str,
    pub y: &'static str,
}

const LENGTH: &str = "prompt length (tokens)";
const ROW_LENGTH: &str = "row length (tokens)";
const BATCH: &str = "sequences decoded side by side";
const CHUNKS: &str = "passages in the index";
const SPEED: &str = "tokens per second";
const MEMORY: &str = "peak resident memory";
const BYTES: &str = "peak_memory_bytes";

/// In the order of `scaling.md`.
pub const QUESTIONS: [Question; 10] = [
    Question {
        name: "prefill",
        title: "How fast is a prompt read?",
        note: "one prompt to its first token",
        group: Group::Prefill,
        metric: "tokens_per_second",
        x: LENGTH,
        y: SPEED,
    },
    Question {
        name: "decode",
        title: "How much does a batch gain?",
        note: "tokens of all sequences together, after prompts of 8 tokens",
        group: Group::Decode,
        metric: "tokens_per_second",
        x: BATCH,
        y: SPEED,
    },
    Question {
        name: "training",
        title: "How fast are training steps?",
        note: "a step has 2,048 tokens (135M: 512), in fewer rows the longer they are",
        group: Group::Training,
        metric: "tokens_per_second",
        x: ROW_LENGTH,
        y: SPEED,
    },
    Question {
        name: "index-build",
        title: "How long does it take to build the index?",
        note: "HNSW over random unit vectors, inserted one after another on one thread",
        group: Group::Index,
        metric: "build_seconds",
        x: CHUNKS,
        y: "seconds",
    },
    Question {
        name: "index-search",
        title: "How long does a search take?",
        note: "one query at a time on one thread, 10 passages of random unit vectors",
        group: Group::Index,
        metric: "search_microseconds",
        x: CHUNKS,
        y: "microseconds per query",
    },
    Question {
        name: "index-recall",
        title: "How much does the index find?",
        note: "recall@10 against exact search; random unit vectors have no near neighbours and are the hardest case",
        group: Group::Index,
        metric: "recall_at_10",
        x: CHUNKS,
        y: "recall@10",
    },
    Question {
        name: "memory-prefill",
        title: "How much memory does a prompt take?",
        note: "weights included: those to train on (f32) stay loaded beside the packed ones",
        group: Group::Prefill,
        metric: BYTES,
        x: LENGTH,
        y: MEMORY,
    },
    Question {
        name: "memory-decode",
        title: "How much memory does a batch take?",
        note: "weights included: those to train on (f32) stay loaded beside the packed ones",
        group: Group::Decode,
        metric: BYTES,
        x: BATCH,
        y: MEMORY,
    },
    Question {
        name: "memory-training",
        title: "How much memory does a training step take?",
        note: "weights, gradients and moments included; tokens per step are the same at every length",
        group: Group::Training,
        metric: BYTES,
        x: ROW_LENGTH,
        y: MEMORY,
    },
    Question {
        name: "memory-index",
        title: "How much memory does the index take?",
        note: "vectors included; HNSW keeps its own copy of them beside its links",
        group: Group::Index,
        metric: BYTES,
        x: CHUNKS,
        y: MEMORY,
    },
];

/// A value as tables and axes show it.
pub fn show(metric: &str, value: f64) -> String {
    match metric {
        BYTES => format::bytes(value),
        "recall_at_10" => format!("{value:.3}"),
        _ => format::significant(value, 3),
    }
}
