//! A multiple-choice question answered by the likelihood of its choices.

use std::collections::BTreeMap;
use std::time::Duration;

use super::bench::{Ask, Bench};
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
        let sample = &self.plan.dataset.test[index];
        let texts: Vec<String> = sample.choices.iter().map(|choice| format!("{}{choice}", self.plan.spec.prompt.answer_prefix)).collect();
        let ask = Ask { prompt: &query.prompt, stream: &sample.id };
        let found = self.weights(variant, seed).log_likelihoods(ask, &texts, |text| self.plan.tokenizer().encode(text))?;
        let choice = score::score_choices(&sample.choices, &found.values, &sample.references).ok_or(ModelError::EmptyPrompt)?;
        let generation = Generation {
            text: sample.choices[choice.index].clone(),
            prompt_tokens: found.prompt_tokens,
            output_tokens: found.tokens,
            finish_reason: FinishReason::Stop,
            prefill: Duration::ZERO,
            decode: Duration::ZERO,
        };
        Ok(Chosen { generation, scores: choice.scores })
    }
}
