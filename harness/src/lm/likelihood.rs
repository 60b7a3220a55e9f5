//! How likely a model thinks given continuations of a prompt: what multiple choice is answered by.
//!
//! On this machine's processor the continuations go through the engine as forced answers: the prompt is computed once for all of them, and
//! the sums depend on nothing but prompt, continuation, weights and their form. On other devices candle reads each whole.

use std::sync::Mutex;

use candle_core::{DType, Tensor};

use super::decoder::Positions;
use super::engine::{Next, Request, Schedule};
use super::local::LocalModel;
use super::lora::LoraWeights;
use super::{LanguageModel as _, ModelError};

impl LocalModel {
    /// Sum of the log-probabilities of each continuation's tokens after `prompt`.
    ///
    /// # Errors
    /// [`ModelError::EmptyPrompt`] for a prompt or continuation without tokens, [`ModelError::PromptTooLong`] where one does not fit,
    /// [`ModelError::NotFinite`], or a failed tensor operation.
    pub fn log_likelihoods(
        &self,
        prompt: &[u32],
        continuations: &[Vec<u32>],
        adapter: Option<&LoraWeights>,
    ) -> Result<Vec<f64>, ModelError> {
        if prompt.is_empty() || continuations.iter().any(Vec::is_empty) {
            return Err(ModelError::EmptyPrompt);
        }
        let longest = continuations.iter().map(Vec::len).max().unwrap_or(0);
        let (prompt_tokens, context_length) = (prompt.len(), self.context_length());
        if prompt_tokens + longest > context_length {
            return Err(ModelError::PromptTooLong { prompt_tokens, max_new_tokens: longest, context_length });
        }
        if self.ignores_batches() {
            return self.through_engine(prompt, continuations, adapter);
        }
        continuations.iter().map(|continuation| self.through_candle(prompt, continuation, adapter)).collect()
    }

    fn through_engine(&self, prompt: &[u32], continuations: &[Vec<u32>], adapter: Option<&LoraWeights>) -> Result<Vec<f64>, ModelError> {
        let engine = self.engine()?;
        let packed = adapter.map(|adapter| self.pack_adapter(adapter)).transpose()?;
        let requests: Vec<Request> = continuations.iter().map(|tokens| Request { tokens: prompt, limit: tokens.len() }).collect();
        let sums: Vec<Mutex<f64>> = continuations.iter().map(|_| Mutex::new(0.0)).collect();
        let choose = |index: usize, so_far: &[u32], logits: &[f32]| -> Result<Next, ModelError> {
            let token = continuations[index][so_far.len()];
            *sums[index].lock().unwrap_or_else(std::sync::PoisonError::into_inner) += log_probability(logits, token)?;
            Ok(Next::Token(token))
        };
        Schedule { engine: &engine, adapter: packed.as_deref(), rows: continuations.len().max(1) }.run(&requests, &choose)?;
        Ok(sums.into_iter().map(|sum| sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)).collect())
    }

    fn through_candle(&self, prompt: &[u32], continuation: &[u32], adapter: Option<&LoraWeights>) -> Result<f64, ModelError> {
        // The last token is predicted and never read.
        let read = [prompt, &continuation[..continuation.len() - 1]].concat();
        let decoder = self.decoder()?;
        let tokens = Tensor::new(read.as_slice(), self.device())?.unsqueeze(0)?;
        let hidden = decoder.forward(&tokens, Positions::FromZero, adapter, None)?;
        let hidden = hidden.narrow(1, prompt.len() - 1, continuation.len())?.contiguous()?;
        let logits = decoder.logits(&hidden)?.squeeze(0)?.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        logits.iter().zip(continuation).map(|(logits, &token)| log_probability(logits, token)).sum()
    }
}

/// `logits[token] - ln sum exp logits`, in f64.
fn log_probability(logits: &[f32], token: u32) -> Result<f64, ModelError> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !most.is_finite() {
        return Err(ModelError::NotFinite);
    }
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - most).exp()).sum();
    let own = *logits.get(token as usize).ok_or_else(|| ModelError::Tokenizer(format!("token {token} is outside the vocabulary")))?;
    Ok(f64::from(own - most) - sum.ln())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn model() -> LocalModel {
        LocalModel::load_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/lm/qwen2"), 0).unwrap()
    }

    #[test]
    fn the_engine_and_candle_agree_and_company_changes_no_bit() {
        let model = model();
        let prompt: Vec<u32> = (3..20).collect();
        let continuations = [vec![5], vec![9, 4, 11], vec![9, 4], vec![30, 2, 7, 8, 1]];
        let found = model.log_likelihoods(&prompt, &continuations, None).unwrap();
        for (continuation, &found) in continuations.iter().zip(&found) {
            let slow = model.through_candle(&prompt, continuation, None).unwrap();
            assert!((found - slow).abs() < 1e-4 && found < 0.0, "{continuation:?}: {found} and {slow}");
            let alone = model.log_likelihoods(&prompt, std::slice::from_ref(continuation), None).unwrap();
            assert_eq!(alone[0].to_bits(), found.to_bits());
        }
        assert!(found[1] < found[2], "a longer continuation is less likely than its beginning");
    }

    #[test]
    fn all_first_tokens_together_are_certain() {
        let model = model();
        let vocabulary = model.config.vocab_size as u32;
        let each: Vec<Vec<u32>> = (0..vocabulary).map(|token| vec![token]).collect();
        let sum: f64 = model.log_likelihoods(&[4, 7, 2], &each, None).unwrap().iter().map(|found| found.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let model = model();
        assert!(matches!(model.log_likelihoods(&[1], &[vec![]], None), Err(ModelError::EmptyPrompt)));
        let long = vec![1; model.context_length()];
        assert!(matches!(model.log_likelihoods(&[1], &[long], None), Err(ModelError::PromptTooLong { .. })));
    }
}
