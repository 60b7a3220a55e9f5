//! A row being written: tokens with their loss weights.

use super::super::TrainingSequence;
use crate::lm::{ModelError, Tokenizer};

/// A row being written. Pieces are tokenized apart, which gives the same tokens as the whole text: every piece begins at a blank, a line's
/// beginning or a line's end, where the tokenizer always cuts.
pub(super) struct Row<'a> {
    tokenizer: &'a Tokenizer,
    pub sequence: TrainingSequence,
}

impl<'a> Row<'a> {
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        let tokens: Vec<u32> = tokenizer.special().bos.into_iter().collect();
        Self { tokenizer, sequence: TrainingSequence { loss_weights: vec![0.0; tokens.len()], tokens } }
    }

    pub fn push(&mut self, text: &str, weight: f32) -> Result<(), ModelError> {
        let tokens = self.tokenizer.encode(text)?;
        self.sequence.loss_weights.extend(std::iter::repeat_n(weight, tokens.len()));
        self.sequence.tokens.extend(tokens);
        Ok(())
    }

    /// A blank and `text`, with another weight on each `mark` in it.
    pub fn push_marked(&mut self, text: &str, mark: &str, weight: f32, mark_weight: f32) -> Result<(), ModelError> {
        let (text, mark) = (format!(" {text}"), format!(" {mark}"));
        let mut rest = text.as_str();
        while let Some(at) = rest.find(&mark) {
            self.push(&rest[..at], weight)?;
            self.push(&mark, mark_weight)?;
            rest = &rest[at + mark.len()..];
        }
        self.push(rest, weight)
    }
}
