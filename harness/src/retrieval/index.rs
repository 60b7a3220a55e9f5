//! Documents into a searchable index, and questions into passages.

use rayon::prelude::*;

use super::chunk::chunk_documents;
use super::hnsw::{Found, HnswIndex};
use super::vector::Vectors;
use super::{Chunk, Embedder, Embedding, Hit, RetrievalError, Retrieved, exact};
use crate::clock::Stopwatch;
use crate::dataset::Document;
use crate::spec::RetrievalSpec;
use crate::store::manifest::IndexRecord;

/// What building an index cost and gave.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexFigures {
    /// Passages.
    pub chunks: usize,
    /// Documents without text, which give no passage.
    pub skipped_documents: usize,
    /// Length of a vector.
    pub dimension: usize,
    /// Tokens that the embedder read.
    pub embed_tokens: u64,
    /// Operations of embedding the corpus.
    pub embed_flops: f64,
    /// Operations of building the graph: distances counted, two operations per dimension each.
    pub build_flops: f64,
    /// Wall time of chunking and embedding.
    pub embed_seconds: f64,
    /// Wall time of building the graph.
    pub build_seconds: f64,
    /// Estimate of vectors (the graph keeps its own copy), graph and texts in memory.
    pub bytes: u64,
    /// Passages that no search from the entry point can reach.
    pub unreachable: usize,
    /// BLAKE3 of the graph's links.
    pub graph_hash: String,
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
        }
    }
}

/// A built index with its embedder.
pub struct Retriever {
    chunks: Vec<Chunk>,
    vectors: Vectors,
    index: HnswIndex,
    embedder: Box<dyn Embedder>,
}

impl Retriever {
    /// Cuts the documents, embeds the chunks (title and text) and builds the graph over them. `count_tokens` is the language model's count.
    ///
    /// # Errors
    /// [`RetrievalError::NoText`] and [`RetrievalError::TopK`] when the corpus cannot give `top_k` passages, and what chunking, embedding and
    /// the graph refuse.
    pub fn build(
        documents: &[Document],
        spec: &RetrievalSpec,
        embedder: Box<dyn Embedder>,
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
        let (rows, tokens) = finite(embedder.embed_counted(&texts)?)?;
        let vectors = Vectors::from_rows(embedder.dimension(), &rows);
        let embed_seconds = stopwatch.lap().as_secs_f64();
        let index = HnswIndex::build(&vectors, &spec.hnsw)?;
        let build_seconds = stopwatch.lap().as_secs_f64();
        let figures = IndexFigures {
            chunks: chunked.chunks.len(),
            skipped_documents: chunked.skipped_documents,
            dimension: vectors.dimension(),
            embed_tokens: tokens.iter().map(|&count| count as u64).sum(),
            embed_flops: tokens.iter().map(|&count| embedder.flops(count)).sum(),
            build_flops: distance_flops(index.build_distances(), vectors.dimension()),
            embed_seconds,
            build_seconds,
            bytes: vectors.bytes() + index.bytes(&vectors) + text_bytes(&chunked.chunks),
            unreachable: index.unreachable().len(),
            graph_hash: index.hash(),
        };
        Ok((Self { chunks: chunked.chunks, vectors, index, embedder }, figures))
    }

    /// All chunks; a [`Hit`] indexes into them.
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// The embedder in use.
    pub fn embedder(&self) -> &dyn Embedder {
        self.embedder.as_ref()
    }

    /// The `k` best passages for one question, timed by stage. With `shadow`, exact search follows, outside of the times.
    ///
    /// # Errors
    /// [`RetrievalError::TopK`] when there are fewer than `k` chunks, or the embedder's own.
    pub fn search(&self, question: &str, k: usize, shadow: bool) -> Result<Retrieved, RetrievalError> {
        check_top_k(k, self.chunks.len())?;
        let mut stopwatch = Stopwatch::start();
        let (mut queries, tokens) = finite(self.embedder.embed_counted(&[question])?)?;
        let query = queries.swap_remove(0);
        let embed = stopwatch.lap();
        let found = self.index.search(&self.vectors, &query, k);
        let search_ns = stopwatch.elapsed_ns();
        let exact = if shadow { exact::search(&self.vectors, &query, k) } else { Vec::new() };
        let embed_ns = u64::try_from(embed.as_nanos()).unwrap_or(u64::MAX);
        Ok(Retrieved { embed_ns, search_ns, ..self.retrieved(tokens[0], found, exact) })
    }

    /// The `k` best passages for every question, in order, each with its exact shadow. Not timed: its times are zero.
    ///
    /// # Errors
    /// As [`Retriever::search`].
    pub fn search_batch(&self, questions: &[&str], k: usize) -> Result<Vec<Retrieved>, RetrievalError> {
        check_top_k(k, self.chunks.len())?;
        let (queries, tokens) = finite(self.embedder.embed_counted(questions)?)?;
        let found: Vec<Found> = queries.par_iter().map(|query| self.index.search(&self.vectors, query, k)).collect();
        let exact = exact::search_batch(&self.vectors, &queries, k);
        Ok(tokens.into_iter().zip(found).zip(exact).map(|((tokens, found), exact)| self.retrieved(tokens, found, exact)).collect())
    }

    /// `tokens` are the question's.
    fn retrieved(&self, tokens: usize, found: Found, exact: Vec<Hit>) -> Retrieved {
        let flops = self.embedder.flops(tokens) + distance_flops(found.distances, self.vectors.dimension());
        Retrieved { hits: found.hits, exact, embed_ns: 0, search_ns: 0, flops }
    }
}

/// Mean over searches of the part of the exact top `k` that the index found, or nothing when no search had a shadow. A hit counts when it
/// scores no worse than the last of the exact ones, so equal scores cannot make a miss.
pub fn ann_recall(searches: &[Retrieved], k: usize) -> Option<f64> {
    let recalls: Vec<f64> = searches.iter().filter_map(|search| recall_of(search, k)).collect();
    (!recalls.is_empty()).then(|| recalls.iter().sum::<f64>() / recalls.len() as f64)
}

fn recall_of(search: &Retrieved, k: usize) -> Option<f64> {
    let wanted = &search.exact[..k.min(search.exact.len())];
    let worst = wanted.last()?.score;
    let found = search.hits.iter().take(wanted.len()).filter(|hit| hit.score >= worst).count();
    Some(found as f64 / wanted.len() as f64)
}

/// What the embedder reads of a chunk: the title, a line break, the text.
fn passage(chunk: &Chunk) -> String {
    if chunk.title.is_empty() { chunk.text.clone() } else { format!("{}\n{}", chunk.title, chunk.text) }
}

fn check_top_k(top_k: usize, chunks: usize) -> Result<(), RetrievalError> {
    if top_k > chunks { Err(RetrievalError::TopK { top_k, chunks }) } else { Ok(()) }
}

/// Vectors and token counts, apart.
fn finite(embeddings: Vec<Embedding>) -> Result<(Vec<Vec<f32>>, Vec<usize>), RetrievalError> {
    match embeddings.iter().position(|embedding| !embedding.vector.iter().all(|value| value.is_finite())) {
        Some(index) => Err(RetrievalError::NotFinite { index }),
        None => Ok(embeddings.into_iter().map(|embedding| (embedding.vector, embedding.tokens)).unzip()),
    }
}

fn distance_flops(distances: u64, dimension: usize) -> f64 {
    distances as f64 * 2.0 * dimension as f64
}

fn text_bytes(chunks: &[Chunk]) -> u64 {
    let of = |chunk: &Chunk| size_of::<Chunk>() + chunk.id.len() + chunk.document_id.len() + chunk.title.len() + chunk.text.len();
    chunks.iter().map(of).sum::<usize>() as u64
}

#[cfg(test)]
mod tests {
    use super::super::{builtin, embed};
    use super::*;
    use crate::diagnostic::Hint as _;
    use crate::spec::{ChunkSpec, HnswSpec};

    fn spec(top_k: usize) -> RetrievalSpec {
        RetrievalSpec {
            embedder: embed::BUILTIN.into(),
            top_k,
            chunk: ChunkSpec { max_tokens: 12, overlap_tokens: 0 },
            hnsw: HnswSpec { m: 16, ef_construction: 200, ef_search: 64 },
        }
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
        Retriever::build(&documents(), &spec(top_k), Box::new(builtin()), &words)
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
        let error = Retriever::build(&documents()[3..], &spec(1), Box::new(builtin()), &words).err().unwrap();
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
