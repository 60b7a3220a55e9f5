//! The questions that the figures answer, one each.

use ragft::report::format;

use crate::plan::Group;

/// A figure: one metric of one group, for series of one scale.
#[derive(Debug)]
pub struct Question {
    /// File stem.
    pub name: &'static str,
    pub title: &'static str,
    /// How it was measured.
    pub note: &'static str,
    pub group: Group,
    /// What the names of its series begin with.
    pub of: &'static str,
    pub metric: &'static str,
    /// Axis titles.
    pub x: &'static str,
    pub y: &'static str,
}

pub const BYTES: &str = "peak_memory_bytes";
pub const RECALL: &str = "recall_at_10";

const SPEED: &str = "tokens per second";
const MEMORY: &str = "peak resident memory";
const WITH_WEIGHTS: &str = "weights included, as a run holds them to answer";

const PREFILL: Question = Question {
    name: "prefill-135m",
    title: "How fast does a model of 135M weights read a prompt?",
    note: "one prompt to its first token",
    group: Group::Prefill,
    of: "135M",
    metric: "tokens_per_second",
    x: "prompt length (tokens)",
    y: SPEED,
};

const DECODE: Question = Question {
    name: "decode-135m",
    title: "How much does a batch gain with 135M weights?",
    note: "tokens of all sequences together, after prompts of 8 tokens",
    group: Group::Decode,
    x: "sequences decoded side by side",
    ..PREFILL
};

const TRAINING: Question = Question {
    name: "training-135m",
    title: "How fast are training steps with 135M weights?",
    note: "a step has 512 tokens, in fewer rows the longer they are",
    group: Group::Training,
    x: "row length (tokens)",
    ..PREFILL
};

const INDEX: Question = Question {
    name: "index-build",
    title: "How long does it take to build the index?",
    note: "HNSW over random unit vectors, inserted one after another on one thread",
    group: Group::Index,
    of: "",
    metric: "build_seconds",
    x: "passages in the index",
    y: "seconds",
};

/// In the order of `scaling.md`.
pub const QUESTIONS: [Question; 14] = [
    PREFILL,
    Question { name: "prefill-builtin", title: "How fast does the built-in model read a prompt?", of: "built-in", ..PREFILL },
    DECODE,
    Question { name: "decode-builtin", title: "How much does a batch gain with the built-in model?", of: "built-in", ..DECODE },
    TRAINING,
    Question {
        name: "training-tiny",
        title: "How fast are training steps with 6 layers x 256?",
        note: "a step has 2,048 tokens, in fewer rows the longer they are",
        of: "tiny",
        ..TRAINING
    },
    INDEX,
    Question {
        name: "index-search",
        title: "How long does a search take?",
        note: "one query at a time on one thread, 10 passages of random unit vectors",
        metric: "search_microseconds",
        y: "microseconds per query",
        ..INDEX
    },
    Question {
        name: "index-recall",
        title: "How much does the index find?",
        note: "recall@10 against exact search; random unit vectors have no near neighbours and are the hardest case",
        metric: RECALL,
        y: "recall@10",
        ..INDEX
    },
    Question {
        name: "memory-prefill",
        title: "How much memory does a prompt take with 135M weights?",
        note: WITH_WEIGHTS,
        metric: BYTES,
        y: MEMORY,
        ..PREFILL
    },
    Question {
        name: "memory-decode",
        title: "How much memory does a batch take with 135M weights?",
        note: WITH_WEIGHTS,
        metric: BYTES,
        y: MEMORY,
        ..DECODE
    },
    Question {
        name: "memory-builtin",
        title: "How much memory does a batch take with the built-in model?",
        note: WITH_WEIGHTS,
        of: "built-in",
        metric: BYTES,
        y: MEMORY,
        ..DECODE
    },
    Question {
        name: "memory-training",
        title: "How much memory does a training step take?",
        note: "weights, gradients and moments included; a step has 2,048 tokens (135M: 512) at every length",
        of: "",
        metric: BYTES,
        y: MEMORY,
        ..TRAINING
    },
    Question {
        name: "memory-index",
        title: "How much memory does the index take?",
        note: "vectors included; HNSW keeps its own copy of them beside its links",
        metric: BYTES,
        y: MEMORY,
        ..INDEX
    },
];

/// A value as tables and axes show it.
pub fn show(metric: &str, value: f64) -> String {
    match metric {
        BYTES => format::bytes(value),
        RECALL => format!("{value:.3}"),
        _ => format::significant(value, 3),
    }
}
