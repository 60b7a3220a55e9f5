//! A run of another size, on paper: what each part of it would take, and where a part goes when it outgrows one machine. Pure arithmetic on
//! figures that were measured small; what grows faster than its input is scaled as it grows.

use serde::Serialize;

/// A day: what a part may take on one machine before it is worth moving.
const PATIENCE_SECONDS: f64 = 86_400.0;
/// The part of the main memory that a run may fill.
const USABLE_MEMORY: f64 = 0.8;

/// What was measured at a size at hand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// Documents that the index below was built from.
    pub documents: f64,
    /// Passages of these.
    pub chunks: f64,
    /// Length of a vector.
    pub dimension: f64,
    /// Bytes of vectors, graph and texts.
    pub index_bytes: f64,
    /// Chunking and embedding.
    pub embed_seconds: f64,
    /// Building the graph.
    pub build_seconds: f64,
    /// Exact search for one question over these passages.
    pub exact_seconds: f64,
    /// The accuracy pass, per question, all variants and seeds.
    pub answer_seconds: f64,
    /// Training of all adapters.
    pub training_seconds: f64,
    /// Latency pass, whole.
    pub latency_seconds: f64,
    /// Answers per question: variants times seeds.
    pub answers: f64,
    /// One row of the journal.
    pub row_bytes: f64,
    /// Main memory.
    pub memory_bytes: f64,
}

/// A size to be planned for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Size {
    /// Documents.
    pub documents: f64,
    /// Test questions.
    pub questions: f64,
}

/// One part of the run at that size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Part {
    /// What it is.
    pub name: &'static str,
    /// How much it takes.
    pub amount: f64,
    /// `bytes` or `seconds`.
    pub unit: &'static str,
    /// More than one machine like this one gives: memory, or a day.
    pub outgrown: bool,
    /// Machines like this one that together do it in a day, or hold it.
    pub machines: f64,
    /// Where it goes then.
    pub moves_to: &'static str,
}

impl Part {
    fn new(name: &'static str, (amount, unit, limit): (f64, &'static str, f64), moves_to: &'static str) -> Self {
        Self { name, amount, unit, outgrown: amount > limit, machines: (amount / limit).ceil().max(1.0), moves_to }
    }
}

/// Every part of a run of that size.
pub fn parts(seen: &Seen, size: Size) -> Vec<Part> {
    let chunks = seen.chunks / seen.documents * size.documents;
    let growth = chunks / seen.chunks;
    // The graph takes a search per passage, which goes by the logarithm of what is there.
    let depth = chunks.max(2.0).ln() / seen.chunks.max(2.0).ln();
    let seconds = |amount: f64| (amount, "seconds", PATIENCE_SECONDS);
    let memory = |amount: f64| (amount, "bytes", USABLE_MEMORY * seen.memory_bytes);
    let rows = seen.row_bytes * seen.answers * size.questions;
    vec![
        Part::new(
            "passages, vectors and graph in memory",
            memory(seen.index_bytes * growth),
            "a vector store on disk: Postgres with pgvector, beyond one host Qdrant or Milvus (sharded, quantised)",
        ),
        Part::new(
            "chunking and embedding the corpus",
            seconds(seen.embed_seconds * growth),
            "an embedding server on GPUs: Text Embeddings Inference or vLLM (`retrieval.endpoint`)",
        ),
        Part::new(
            "building the graph",
            seconds(seen.build_seconds * growth * depth),
            "the vector store's own parallel or GPU build (pgvector, Qdrant, cuVS)",
        ),
        Part::new(
            "exact search beside every question",
            seconds(seen.exact_seconds * growth * size.questions),
            "a seeded sample of the questions, searched exactly by the store or by FAISS on a GPU: a share needs thousands, not all",
        ),
        Part::new(
            "answering every question with every variant",
            seconds(seen.answer_seconds * size.questions),
            "`--shard I/N` on so many machines (Slurm, Kubernetes), or vLLM or SGLang on GPUs (`model.endpoint`)",
        ),
        Part::new(
            "training the adapters",
            seconds(seen.training_seconds),
            "once, on one GPU or with TRL and PEFT; every shard takes it: `--adapters-from`",
        ),
        Part::new("noise floor, audit and latency", seconds(seen.latency_seconds), "nowhere: seeded samples, all in the first shard"),
        Part::new("journal on disk", (rows, "bytes", f64::INFINITY), "stays with the shards: a file each, appended"),
        Part::new(
            "merging and tables in memory",
            memory(rows),
            "Parquet parts in S3-compatible storage, read by Polars' streaming engine, DuckDB or Spark; only columns of scores are kept",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Seen {
        Seen {
            documents: 100.0,
            chunks: 200.0,
            dimension: 256.0,
            index_bytes: 400_000.0,
            embed_seconds: 2.0,
            build_seconds: 1.0,
            exact_seconds: 1e-5,
            answer_seconds: 0.1,
            training_seconds: 40.0,
            latency_seconds: 10.0,
            answers: 4.0,
            row_bytes: 1000.0,
            memory_bytes: 1e10,
        }
    }

    fn part<'a>(parts: &'a [Part], name: &str) -> &'a Part {
        parts.iter().find(|part| part.name.starts_with(name)).unwrap()
    }

    #[test]
    fn the_size_at_hand_is_what_was_measured() {
        let parts = parts(&seen(), Size { documents: 100.0, questions: 50.0 });
        assert_eq!(part(&parts, "passages").amount, 400_000.0);
        assert_eq!(part(&parts, "building").amount, 1.0);
        assert_eq!(part(&parts, "answering").amount, 5.0);
        assert_eq!(part(&parts, "journal").amount, 200_000.0);
        assert!(parts.iter().all(|part| !part.outgrown && part.machines == 1.0));
    }

    #[test]
    fn parts_grow_by_what_they_depend_on() {
        let parts = parts(&seen(), Size { documents: 1e8, questions: 1e6 });
        assert_eq!(part(&parts, "passages").amount, 4e11);
        assert_eq!(part(&parts, "passages").machines, 50.0);
        assert_eq!(part(&parts, "chunking").amount, 2e6);
        assert!((part(&parts, "building").amount - 1e6 * 2e8f64.ln() / 200f64.ln()).abs() < 1e-3);
        assert_eq!(part(&parts, "exact").amount, 1e-5 * 1e6 * 1e6);
        assert_eq!(part(&parts, "answering").machines, 2.0);
        assert_eq!(part(&parts, "training").amount, 40.0);
        assert!(!part(&parts, "journal").outgrown, "a disk is not counted");
    }
}
