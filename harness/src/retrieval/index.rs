//! Documents into something that can be searched: chunks, and over them vectors, words, or both.

use super::bm25::Bm25Index;
use super::chunk::chunk_documents;
use super::embed::{CrossEncoder, RetrievalEmbedder};
use super::pgvector_store::PgStore;
use super::search::{Depths, Retriever};
use super::store::{EmbeddedPassages, Kept, Memory, OpenIndex, VectorStore};
use super::{Chunk, RetrievalError};
use crate::clock::Stopwatch;
use crate::dataset::Document;
use crate::spec::RetrievalSpec;
use crate::store::manifest::{IndexRecord, LexicalRecord, RerankerRecord, StoreRecord};

/// What building an index cost and gave.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexFigures {
    /// Passages.
    pub chunks: usize,
    /// Documents without text, which give no passage.
    pub skipped_documents: usize,
    /// Length of a vector; zero without vectors, as everything about them.
    pub dimension: usize,
    /// Tokens that the embedder read.
    pub embed_tokens: u64,
    /// Operations of embedding the corpus; nothing where a server embeds.
    pub embed_flops: Option<f64>,
    /// Operations of building the graph: distances counted, two operations per dimension each.
    pub build_flops: f64,
    /// Wall time of chunking and embedding.
    pub embed_seconds: f64,
    /// Wall time of building the graph.
    pub build_seconds: f64,
    /// Estimate of vectors (the graph keeps its own copy), graph and texts in memory; the store's own figure where it is a server.
    pub bytes: u64,
    /// Passages that no search from the entry point can reach.
    pub unreachable: usize,
    /// BLAKE3 of the graph's links, of the words, or of both.
    pub graph_hash: String,
    /// The index of words.
    pub lexical: Option<LexicalRecord>,
    /// The model that orders candidates anew.
    pub reranker: Option<RerankerRecord>,
    /// The server that keeps the vectors.
    pub store: Option<StoreRecord>,
}

impl IndexFigures {
    /// The figures as the manifest records them.
    pub fn record(&self, cpu_seconds: f64) -> IndexRecord {
        IndexRecord {
            chunks: self.chunks,
            dimension: self.dimension,
            embed_tokens: self.embed_tokens,
            embed_flops: self.embed_flops,
            build_flops: self.build_flops,
            embed_seconds: self.embed_seconds,
            build_seconds: self.build_seconds,
            cpu_seconds,
            bytes: self.bytes,
            unreachable: self.unreachable,
            lexical: self.lexical.clone(),
            reranker: self.reranker.clone(),
            store: self.store.clone(),
            embedder: None,
        }
    }
}

/// The models behind a search.
pub struct SearchModels {
    /// Of questions and passages.
    pub embedder: RetrievalEmbedder,
    /// Of pairs of both, if candidates are to be ordered anew, and the seconds that it took to load.
    pub reranker: Option<(CrossEncoder, f64)>,
}

impl Retriever {
    /// Cuts the documents, and builds what the search method needs over the chunks (title and text). `count_tokens` is the language model's
    /// count.
    ///
    /// # Errors
    /// [`RetrievalError::NoText`] and [`RetrievalError::TopK`] when the corpus cannot give `top_k` passages, and what chunking, embedding and
    /// the store refuse.
    pub fn build(
        documents: &[Document],
        spec: &RetrievalSpec,
        models: SearchModels,
        count_tokens: &dyn Fn(&str) -> usize,
    ) -> Result<(Self, IndexFigures), RetrievalError> {
        let mut stopwatch = Stopwatch::start();
        let chunked = chunk_documents(documents, &spec.chunk, count_tokens)?;
        if chunked.chunks.is_empty() {
            return Err(RetrievalError::NoText { documents: documents.len() });
        }
        check_top_k(spec.top_k, chunked.chunks.len())?;
        let passages: Vec<String> = chunked.chunks.iter().map(passage).collect();
        let texts: Vec<&str> = passages.iter().map(String::as_str).collect();
        let chunk_seconds = stopwatch.lap().as_secs_f64();
        let SearchModels { embedder, reranker } = models;
        let dense = if spec.search.method.is_dense() { Some(dense_index(&texts, spec, &embedder)?) } else { None };
        stopwatch.lap();
        let lexical = spec.search.method.is_lexical().then(|| Bm25Index::build(&texts, &spec.bm25));
        let lexical_seconds = stopwatch.lap().as_secs_f64();
        let mut figures = IndexFigures {
            chunks: chunked.chunks.len(),
            skipped_documents: chunked.skipped_documents,
            dimension: 0,
            embed_tokens: 0,
            embed_flops: Some(0.0),
            build_flops: 0.0,
            embed_seconds: chunk_seconds,
            build_seconds: 0.0,
            bytes: text_bytes(&chunked.chunks),
            unreachable: 0,
            graph_hash: String::new(),
            lexical: lexical.as_ref().map(|index| lexical_record(index, lexical_seconds)),
            reranker: reranker.as_ref().map(|(model, seconds)| RerankerRecord { bytes: model.bytes(), load_seconds: *seconds }),
            store: None,
        };
        let dense = dense.map(|open| figures.add(open, spec));
        if let Some(index) = &lexical {
            figures.graph_hash = joined_hash(&figures.graph_hash, &index.hash());
        }
        let reranker = reranker.map(|(model, _)| model);
        let passages = if reranker.is_some() { passages } else { Vec::new() };
        Ok((Self { chunks: chunked.chunks, passages, embedder, dense, lexical, reranker, spec: spec.clone() }, figures))
    }
}

impl IndexFigures {
    /// Takes over what is known of the vectors.
    fn add(&mut self, open: OpenIndex, spec: &RetrievalSpec) -> Box<dyn super::store::VectorIndex> {
        let dense = open.figures;
        self.dimension = dense.dimension;
        self.embed_tokens = dense.embed_tokens;
        self.embed_flops = dense.embed_flops;
        self.build_flops = dense.build_flops;
        self.embed_seconds += dense.embed_seconds;
        self.build_seconds = dense.build_seconds;
        self.bytes += dense.bytes;
        self.unreachable = dense.unreachable;
        self.graph_hash = dense.hash;
        let record = |Kept { server, name, reused }| StoreRecord { address: spec.store.to_string(), server, name, reused };
        self.store = open.kept.map(record);
        open.index
    }
}

/// The index over vectors, from the spec's store if it keeps one of these passages already.
fn dense_index(texts: &[&str], spec: &RetrievalSpec, embedder: &RetrievalEmbedder) -> Result<OpenIndex, RetrievalError> {
    let store: Box<dyn VectorStore> = if spec.store.is_memory() { Box::new(Memory) } else { Box::new(pg_store(spec)) };
    let name = if spec.store.is_memory() { String::new() } else { name_of(texts, spec, embedder) };
    match store.find(&name)? {
        Some(open) => Ok(open),
        None => store.build(&name, &mut EmbeddedPassages::new(embedder, texts, &spec.hnsw)),
    }
}

fn pg_store(spec: &RetrievalSpec) -> PgStore {
    PgStore::new(&spec.store, spec.hnsw.ef_search, Depths::of(spec, spec.top_k, usize::MAX).list)
}

/// Checks that the store can be reached and take vectors of this dimension; memory always can.
///
/// # Errors
/// [`RetrievalError::Store`].
pub fn check_store(spec: &RetrievalSpec, dimension: usize) -> Result<(), RetrievalError> {
    if spec.store.is_memory() || !spec.search.method.is_dense() { Ok(()) } else { pg_store(spec).check(dimension) }
}

/// The same for the same passages, embedder and graph settings, and for no others.
fn name_of(texts: &[&str], spec: &RetrievalSpec, embedder: &RetrievalEmbedder) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(embedder.hash().as_bytes());
    hasher.update(format!(" {} {}", spec.hnsw.m, spec.hnsw.ef_construction).as_bytes());
    for text in texts {
        hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    }
    format!("ragft_{}", &hasher.finalize().to_hex()[..24])
}

fn lexical_record(index: &Bm25Index, seconds: f64) -> LexicalRecord {
    LexicalRecord { terms: index.terms(), postings: index.postings(), seconds, bytes: index.bytes() }
}

fn joined_hash(dense: &str, lexical: &str) -> String {
    if dense.is_empty() { lexical.to_owned() } else { blake3::hash(format!("{dense} {lexical}").as_bytes()).to_string() }
}

/// What is searched of a chunk: the title, a line break, the text.
fn passage(chunk: &Chunk) -> String {
    if chunk.title.is_empty() { chunk.text.clone() } else { format!("{}\n{}", chunk.title, chunk.text) }
}

pub(super) fn check_top_k(top_k: usize, chunks: usize) -> Result<(), RetrievalError> {
    if top_k > chunks { Err(RetrievalError::TopK { top_k, chunks }) } else { Ok(()) }
}

fn text_bytes(chunks: &[Chunk]) -> u64 {
    let of = |chunk: &Chunk| size_of::<Chunk>() + chunk.id.len() + chunk.document_id.len() + chunk.title.len() + chunk.text.len();
    chunks.iter().map(of).sum::<usize>() as u64
}

#[cfg(test)]
mod tests {
    use super::super::{Embedder, Hit, Retrieved, ann_recall, builtin};
    use super::*;
    use crate::diagnostic::Hint as _;
    use crate::spec::{self, ChunkSpec};

    fn spec(top_k: usize) -> RetrievalSpec {
        let chunk = ChunkSpec { max_tokens: 12, overlap_tokens: 0 };
        RetrievalSpec { top_k, chunk, ..spec::read("", &[]).unwrap().retrieval }
    }

    fn models() -> SearchModels {
        let embedder: Box<dyn Embedder> = Box::new(builtin());
        SearchModels { embedder: embedder.into(), reranker: None }
    }

    fn documents() -> Vec<Document> {
        let texts = [
            ("Volcano", "A volcano is a vent in the crust of a planet. Lava and ash escape from it."),
            ("Violin", "The violin is a wooden instrument with four strings. It is played with a bow."),
            ("Glacier", "A glacier is a body of dense ice that moves under its own weight."),
            ("Nothing", " "),
        ];
        let of =
            |(title, text): &(&str, &str)| Document { id: title.to_lowercase(), title: (*title).into(), text: (*text).into(), date: None };
        texts.iter().map(of).collect()
    }

    fn words(text: &str) -> usize {
        text.split_whitespace().count()
    }

    fn build(top_k: usize) -> Result<(Retriever, IndexFigures), RetrievalError> {
        Retriever::build(&documents(), &spec(top_k), models(), &words)
    }

    #[test]
    fn questions_find_their_documents_and_the_figures_add_up() {
        let (retriever, figures) = build(2).unwrap();
        assert_eq!((figures.chunks, figures.skipped_documents, figures.unreachable), (retriever.chunks().len(), 1, 0));
        assert!(figures.chunks >= 5 && figures.embed_tokens > 50 && figures.build_flops > 0.0 && figures.bytes > 5 * 128 * 8);
        for (question, document) in [("Where does lava come from?", "volcano"), ("Which instrument is played with a bow?", "violin")] {
            let retrieved = retriever.search(question, 2, true).unwrap();
            assert_eq!(retriever.chunks()[retrieved.hits[0].chunk].document_id, document, "{question}");
            assert_eq!(retrieved.hits, retrieved.exact);
            assert!(retrieved.embed_ns > 0 && retrieved.search_ns > 0);
        }
    }

    #[test]
    fn batch_and_single_search_agree_to_the_bit_but_for_times_and_shadow() {
        let (retriever, _) = build(2).unwrap();
        let questions = ["What moves under its own weight?", "lava", ""];
        let batch = retriever.search_batch(&questions, 3).unwrap();
        for (question, from_batch) in questions.iter().zip(batch) {
            let single = retriever.search(question, 3, false).unwrap();
            assert!(single.exact.is_empty());
            assert_eq!(Retrieved { embed_ns: 0, search_ns: 0, exact: from_batch.exact.clone(), ..single }, from_batch);
        }
    }

    #[test]
    fn more_passages_than_chunks_are_refused_with_the_mend() {
        let error = build(99).err().unwrap();
        assert!(error.to_string().starts_with("retrieval.top_k is 99 but the corpus has only "), "{error}");
        assert!(error.hint().unwrap().starts_with("set `retrieval.top_k` to "));
        let (retriever, _) = build(1).unwrap();
        assert!(matches!(retriever.search("x", 99, false), Err(RetrievalError::TopK { top_k: 99, .. })));
    }

    #[test]
    fn a_corpus_without_text_is_refused() {
        let error = Retriever::build(&documents()[3..], &spec(1), models(), &words).err().unwrap();
        assert_eq!(error.to_string(), "the corpus of 1 documents holds no text to retrieve from");
    }

    #[test]
    fn two_builds_have_one_graph_hash() {
        assert_eq!(build(1).unwrap().1.graph_hash, build(1).unwrap().1.graph_hash);
    }

    #[test]
    fn ann_recall_counts_misses_but_not_ties() {
        let hits = |scores: &[(usize, f32)]| scores.iter().map(|&(chunk, score)| Hit { chunk, score }).collect::<Vec<_>>();
        let exact = hits(&[(1, 0.9), (2, 0.8), (3, 0.8)]);
        let half = Retrieved { hits: hits(&[(1, 0.9), (7, 0.5)]), exact: exact.clone(), ..Retrieved::default() };
        let tie = Retrieved { hits: hits(&[(1, 0.9), (3, 0.8)]), exact, ..Retrieved::default() };
        assert_eq!(ann_recall(&[half, tie], 2), Some(0.75));
        assert_eq!(ann_recall(&[Retrieved::default()], 2), None);
    }
}
