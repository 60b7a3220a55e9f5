//! One question made ready for one variant, and the journal row that its answer becomes.

use crate::dataset::Sample;
use crate::lm::{FinishReason, Generation};
use crate::retrieval::{Chunk, Retrieved};
use crate::score;
use crate::spec::{ContextSource, VariantKind};
use crate::store::row::{HitRow, JournalRow, Phase};
use crate::variant::prompt::{Encoded, FittedPrompt, Passage, PromptError, PromptTemplate};

/// A passage chosen for a question.
#[derive(Debug, Clone, PartialEq)]
pub struct Pick {
    /// Index into the retriever's chunks.
    pub chunk: usize,
    /// Similarity; zero if it was given, not searched.
    pub score: f32,
    /// Exact search agrees; unknown for given passages and unshadowed searches.
    pub in_exact: Option<bool>,
}

/// The passages of a search result. Where vectors alone decided, one that scores no worse than the last of the exact ones counts as exact: equal scores are no miss.
pub fn picks_of(retrieved: &Retrieved) -> Vec<Pick> {
    let worst = retrieved.exact.last().filter(|_| retrieved.is_plain).map(|hit| hit.score);
    let pick = |hit: &crate::retrieval::Hit| Pick { chunk: hit.chunk, score: hit.score, in_exact: worst.map(|worst| hit.score >= worst) };
    retrieved.hits.iter().map(pick).collect()
}

/// A question with its passages and its prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Best first.
    pub picks: Vec<Pick>,
    /// What exact search would have picked, as indices into the retriever's chunks; empty for given passages and unshadowed searches.
    pub exact: Vec<usize>,
    /// Length of the list of vectors that was fused or reranked, and the share of the exact one that it had; nothing where there was none.
    pub dense_recall: Option<(usize, f64)>,
    /// The prompt that fits.
    pub prompt: FittedPrompt,
}

impl Query {
    /// Renders and fits the prompt of `question` with the picked passages.
    pub fn build<E: std::fmt::Display>(
        template: &PromptTemplate,
        question: &str,
        picks: Vec<Pick>,
        chunks: &[Chunk],
        room: usize,
        encode: impl Fn(&str) -> Result<Encoded, E>,
    ) -> Result<Self, PromptError> {
        let passages: Vec<Passage> =
            picks.iter().map(|pick| &chunks[pick.chunk]).map(|chunk| Passage { title: &chunk.title, text: &chunk.text }).collect();
        let prompt = template.fit(question, &passages, room, encode)?;
        Ok(Self { picks, exact: Vec::new(), dense_recall: None, prompt })
    }
}

/// What all rows of a variant, seed and phase have in common.
#[derive(Debug, Clone, Copy)]
pub struct RowContext<'a> {
    /// The plan's id.
    pub run_id: &'a str,
    /// The variant.
    pub variant: VariantKind,
    /// The training seed.
    pub seed: u64,
    /// The pass.
    pub phase: Phase,
    /// Repeat within the latency pass.
    pub repeat: u32,
    /// The retriever's chunks.
    pub chunks: &'a [Chunk],
    /// Passages asked for: the cut-off of the retrieval metrics.
    pub top_k: usize,
    /// Text that means "no answer".
    pub abstention: &'a [String],
}

impl RowContext<'_> {
    /// A row in which nothing was answered yet.
    pub fn blank(&self, sample: &Sample) -> JournalRow {
        JournalRow { repeat: self.repeat, ..JournalRow::blank(self.run_id, self.variant.name(), self.seed, &sample.id, self.phase) }
    }

    /// A row without an answer.
    pub fn failed(&self, sample: &Sample, error: String) -> JournalRow {
        JournalRow { error: Some(error), ..self.blank(sample) }
    }

    /// The row of an answer. Times are left at zero; `flops` is the whole query's, where it can be counted.
    pub fn answered(&self, sample: &Sample, query: &Query, generation: &Generation, flops: Option<f64>) -> JournalRow {
        let answer = generation.text.trim().to_owned();
        let mut scores = score::score_answer(&answer, sample, self.abstention);
        if self.variant.context() == ContextSource::Retrieved && !sample.relevant.is_empty() {
            let documents = |chunks: &mut dyn Iterator<Item = usize>| -> Vec<&str> {
                chunks.map(|chunk| self.chunks[chunk].document_id.as_str()).collect()
            };
            let ranking = documents(&mut query.picks.iter().map(|pick| pick.chunk));
            scores.extend(score::score_ranking(&ranking, &sample.relevant, &[self.top_k]));
            if !query.exact.is_empty() {
                let exact = score::score_ranking(&documents(&mut query.exact.iter().copied()), &sample.relevant, &[self.top_k]);
                let recall = format!("recall_at_{}", self.top_k);
                scores.insert(format!("exact_{recall}"), exact[&recall]);
            }
        }
        if let Some((length, recall)) = query.dense_recall {
            scores.insert(format!("ann_recall_at_{length}"), recall);
        }
        let shown = query.picks.iter().take(query.prompt.passages_used).map(|pick| &self.chunks[pick.chunk]);
        let texts: Vec<&str> = shown.flat_map(|chunk| [chunk.title.as_str(), chunk.text.as_str()]).collect();
        if !texts.is_empty() {
            scores.extend(score::grounded(&answer, texts, self.abstention).map(|is| ("grounded".to_owned(), is)));
        }
        JournalRow {
            answer,
            finish_reason: match generation.finish_reason {
                FinishReason::Stop => "stop".into(),
                FinishReason::Length => "length".into(),
            },
            prompt_tokens: generation.prompt_tokens as u32,
            context_tokens: query.prompt.context_tokens as u32,
            completion_tokens: generation.output_tokens as u32,
            hits: self.hit_rows(query),
            context_cut: query.prompt.passages_used < query.picks.len(),
            scores,
            flops,
            ..self.blank(sample)
        }
    }

    fn hit_rows(&self, query: &Query) -> Vec<HitRow> {
        let row = |(index, pick): (usize, &Pick)| {
            let chunk = &self.chunks[pick.chunk];
            HitRow {
                document_id: chunk.document_id.clone(),
                chunk_id: chunk.id.clone(),
                rank: index as u32 + 1,
                score: pick.score,
                in_prompt: index < query.prompt.passages_used,
                in_exact: pick.in_exact,
            }
        };
        query.picks.iter().enumerate().map(row).collect()
    }
}
