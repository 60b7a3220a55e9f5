//! Documents into chunks that fit a number of tokens, cut where the text itself breaks: paragraphs, sentences, words, characters.

use text_splitter::{ChunkConfig, ChunkSizer, TextSplitter};

use super::{Chunk, RetrievalError};
use crate::dataset::Document;
use crate::spec::ChunkSpec;

/// The chunks of a corpus.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chunked {
    /// In document order, and in text order within a document.
    pub chunks: Vec<Chunk>,
    /// Documents without any text but white space: they give no chunk.
    pub skipped_documents: usize,
}

/// Measures text by the model's own tokens.
struct TokenSizer<'a>(&'a dyn Fn(&str) -> usize);

impl ChunkSizer for TokenSizer<'_> {
    fn size(&self, chunk: &str) -> usize {
        (self.0)(chunk)
    }
}

/// Cuts every document into chunks of at most `max_tokens` tokens as `count_tokens` counts them, each repeating up to `overlap_tokens` of
/// the one before. A single character of more tokens than that is kept whole. White space at the ends of a chunk is dropped.
///
/// # Errors
/// [`RetrievalError::Overlap`] unless the overlap is smaller than the chunk.
pub fn chunk_documents(documents: &[Document], spec: &ChunkSpec, count_tokens: &dyn Fn(&str) -> usize) -> Result<Chunked, RetrievalError> {
    let config = ChunkConfig::new(spec.max_tokens)
        .with_sizer(TokenSizer(count_tokens))
        .with_overlap(spec.overlap_tokens)
        .map_err(|_| RetrievalError::Overlap { max_tokens: spec.max_tokens, overlap_tokens: spec.overlap_tokens })?;
    let splitter = TextSplitter::new(config);
    let mut chunked = Chunked::default();
    for document in documents {
        let before = chunked.chunks.len();
        chunked.chunks.extend(splitter.chunks(&document.text).enumerate().map(|(number, text)| chunk_of(document, number, text)));
        chunked.skipped_documents += usize::from(chunked.chunks.len() == before);
    }
    Ok(chunked)
}

fn chunk_of(document: &Document, number: usize, text: &str) -> Chunk {
    Chunk {
        id: format!("{}#{number}", document.id),
        document_id: document.id.clone(),
        title: document.title.clone(),
        text: text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn document(id: &str, text: &str) -> Document {
        Document { id: id.into(), title: "T".into(), text: text.into(), date: None }
    }

    /// Three characters to a token, words apart: like a subword tokenizer, a whole is not the sum of arbitrary parts.
    fn count(text: &str) -> usize {
        text.split_whitespace().map(|word| word.chars().count().div_ceil(3)).sum()
    }

    fn spec(max_tokens: usize, overlap_tokens: usize) -> ChunkSpec {
        ChunkSpec { max_tokens, overlap_tokens }
    }

    #[test]
    fn a_short_document_is_one_chunk_and_an_empty_one_is_skipped() {
        let documents = [document("a", " One sentence. "), document("b", " \n"), document("c", "")];
        let chunked = chunk_documents(&documents, &spec(50, 0), &count).unwrap();
        assert_eq!(chunked.skipped_documents, 2);
        assert_eq!(chunked.chunks.len(), 1);
        let chunk = &chunked.chunks[0];
        assert_eq!((chunk.id.as_str(), chunk.document_id.as_str(), chunk.title.as_str()), ("a#0", "a", "T"));
        assert_eq!(chunk.text, "One sentence.");
    }

    #[test]
    fn sentences_are_not_cut_when_they_fit() {
        let chunked = chunk_documents(&[document("a", "The cat sat down. The dog ran off.")], &spec(7, 0), &count).unwrap();
        let texts: Vec<_> = chunked.chunks.iter().map(|chunk| chunk.text.as_str()).collect();
        assert_eq!(texts, ["The cat sat down.", "The dog ran off."]);
        assert_eq!(chunked.chunks[1].id, "a#1");
    }

    #[test]
    fn overlap_repeats_words_of_the_chunk_before() {
        let chunked = chunk_documents(&[document("a", "aaa bbb ccc ddd eee")], &spec(3, 1), &count).unwrap();
        let texts: Vec<_> = chunked.chunks.iter().map(|chunk| chunk.text.as_str()).collect();
        assert_eq!(texts, ["aaa bbb ccc", "ccc ddd eee"]);
    }

    #[test]
    fn an_overlap_as_large_as_the_chunk_is_refused() {
        let error = chunk_documents(&[], &spec(4, 4), &count).unwrap_err();
        assert_eq!(error.to_string(), "chunks of 4 tokens cannot overlap by 4");
    }

    proptest! {
        #[test]
        fn no_chunk_exceeds_its_tokens_and_no_word_is_lost(text in "([a-zé漢]{1,12}[ .\n]{1,2}){0,40}", max in 2usize..20, overlap in 0usize..2) {
            let chunked = chunk_documents(&[document("a", &text)], &spec(max, overlap), &count).unwrap();
            for chunk in &chunked.chunks {
                prop_assert!(count(&chunk.text) <= max, "{} tokens in {:?}", count(&chunk.text), chunk.text);
            }
            if overlap == 0 {
                let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
                let joined: String = chunked.chunks.iter().map(|chunk| letters(&chunk.text)).collect();
                prop_assert_eq!(joined, letters(&text));
            }
        }
    }
}
