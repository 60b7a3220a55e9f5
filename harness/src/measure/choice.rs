//! A multiple-choice question answered by the likelihood of its choices.

use std::collections::BTreeMap;
use std::time::Duration;

use super::bench::Bench;
use super::query::Query;
use crate::lm::{FinishReason, Generation, ModelError};
use crate::score;
use crate::spec::VariantKind;

/// The choice taken, as an answer, and its scores.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chosen {
    /// The choice's text; its new tokens are those of all choices, because all were read.
    pub generation: Generation,
    /// `acc` and `acc_norm`.
    pub scores: BTreeMap<String, f64>,
}

impl Bench<'_> {
    /// Answers the sample at `index` by the likelihood of its choices after the query's prompt. A choice is put as a label is in training, but
    /// for what ends it.
    pub(super) fn choose(&self, variant: VariantKind, seed: u64, index: usize, query: &Query) -> Result<Chosen, ModelError> {
        let (sample, prompt) = (&self.plan.dataset.test[index], &query.prompt.tokens);
        let tokens = |choice: &String| self.plan.tokenizer().encode(&format!("{}{choice}", self.plan.spec.prompt.answer_prefix));
        let continuations = sample.choices.iter().map(tokens).collect::<Result<Vec<_>, _>>()?;
        let (model, adapter) = self.weights(variant, seed);
        let log_likelihoods = model.log_likelihoods(prompt, &continuations, adapter)?;
        let choice = score::score_choices(&sample.choices, &log_likelihoods, &sample.references).ok_or(ModelError::EmptyPrompt)?;
        let generation = Generation {
            text: sample.choices[choice.index].clone(),
            prompt_tokens: prompt.len(),
            output_tokens: continuations.iter().map(Vec::len).sum(),
            finish_reason: FinishReason::Stop,
            prefill: Duration::ZERO,
            decode: Duration::ZERO,
        };
        Ok(Chosen { generation, scores: choice.scores })
    }
}
