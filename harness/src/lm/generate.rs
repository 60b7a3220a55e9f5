//! From prompts to answers: tokens are chosen, and stop rules applied, the same way whatever computes the logits.
//!
//! On this machine's processor that is the [`super::engine`], whose answers do not depend on the batch. On other devices it is candle: left
//! padding, one prefill, then one token per row and step; rows that have ended leave the batch once at least half of it is idle, and what a
//! row computes depends on the others through the rounding of a matrix product of another height.
//!
//! Shapes: B rows, T positions, S past and new positions, V vocabulary.

use std::time::Duration;

use candle_core::{Device, Tensor};

use super::cache::KvCache;
use super::config::DecoderConfig;
use super::decoder::{Decoder, Positions};
use super::engine::{Answered, Engine, Next, PackedAdapter, Request, Schedule};
use super::lora::LoraWeights;
use super::sample::choose;
use super::tokenizer::Tokenizer;
use super::{FinishReason, Generation, GenerationConfig, ModelError, Prompt};
use crate::clock::Stopwatch;

/// What generation needs of a model.
#[derive(Debug, Clone, Copy)]
pub struct Generator<'a> {
    /// Shape of the decoder.
    pub shape: &'a DecoderConfig,
    /// Decodes answers and knows what ends them.
    pub tokenizer: &'a Tokenizer,
    /// What computes the logits, and the tuned weights, if any.
    pub backend: Backend<'a>,
    /// How to decode.
    pub config: &'a GenerationConfig,
}

/// What computes the logits.
#[derive(Debug, Clone, Copy)]
pub enum Backend<'a> {
    /// The engine for this machine's processor, with the adapter packed for it.
    Engine(&'a Engine, Option<&'a PackedAdapter>),
    /// candle, on the decoder's device.
    Candle(&'a Decoder, Option<&'a LoraWeights>),
}

/// One prompt on its way.
struct Row<'a> {
    prompt: &'a Prompt,
    /// Filler before the prompt.
    padding: usize,
    /// Generated so far.
    tokens: Vec<u32>,
    done: bool,
}

impl Generator<'_> {
    /// One generation per prompt, in order.
    ///
    /// With `forced_tokens`, that many tokens are computed whatever they are; the text still ends where the stop rules say.
    pub fn generate(&self, prompts: &[Prompt]) -> Result<Vec<Generation>, ModelError> {
        let limit = self.config.forced_tokens.unwrap_or(self.config.max_new_tokens);
        self.check(prompts, limit)?;
        if limit == 0 {
            return prompts.iter().map(|prompt| self.finish(prompt, &[], Duration::ZERO, Duration::ZERO)).collect();
        }
        match self.backend {
            Backend::Engine(engine, adapter) => self.on_engine(engine, adapter, prompts, limit),
            Backend::Candle(decoder, adapter) => {
                let tuned = Tuned { decoder, adapter };
                let batches = prompts.chunks(self.config.batch_size.max(1)).map(|batch| self.on_candle(tuned, batch, limit));
                Ok(batches.collect::<Result<Vec<_>, _>>()?.concat())
            }
        }
    }

    fn on_engine(
        &self,
        engine: &Engine,
        adapter: Option<&PackedAdapter>,
        prompts: &[Prompt],
        limit: usize,
    ) -> Result<Vec<Generation>, ModelError> {
        let requests: Vec<Request> = prompts.iter().map(|prompt| Request { tokens: &prompt.tokens, limit }).collect();
        let choose = |index: usize, tokens: &[u32], logits: &[f32]| -> Result<Next, ModelError> {
            let token = choose(logits, self.config, &prompts[index].stream, tokens.len()).ok_or(ModelError::NotFinite)?;
            let ended = self.config.forced_tokens.is_none() && self.has_ended(&[tokens, &[token]].concat())?;
            Ok(if ended { Next::Last(token) } else { Next::Token(token) })
        };
        let answered = Schedule { engine, adapter, rows: self.config.batch_size.max(1) }.run(&requests, &choose)?;
        let finish = |(prompt, answer): (&Prompt, Answered)| self.finish(prompt, &answer.tokens, answer.prefill, answer.decode);
        prompts.iter().zip(answered).map(finish).collect()
    }

    fn on_candle(&self, tuned: Tuned, prompts: &[Prompt], limit: usize) -> Result<Vec<Generation>, ModelError> {
        let width = prompts.iter().map(|prompt| prompt.tokens.len()).max().unwrap_or(0);
        let row = |prompt| Row::new(prompt, width, limit);
        let mut rows: Vec<Row> = prompts.iter().map(row).collect();
        let mut cache = KvCache::with_capacity(width + limit - 1);
        let mut watch = Stopwatch::start();
        let logits = self.prefill(tuned, &rows, width, &mut cache)?;
        self.advance(rows.iter_mut(), &logits)?;
        let prefill = watch.lap();
        self.decode(tuned, &mut rows, &mut cache, limit)?;
        let decode = watch.elapsed();
        rows.iter().map(|row| self.finish(row.prompt, &row.tokens, prefill, decode)).collect()
    }

    fn check(&self, prompts: &[Prompt], limit: usize) -> Result<(), ModelError> {
        let context_length = self.shape.max_position_embeddings;
        if prompts.iter().any(|prompt| prompt.tokens.is_empty()) {
            return Err(ModelError::EmptyPrompt);
        }
        let vocabulary = self.shape.vocab_size;
        if let Some(&id) = prompts.iter().flat_map(|prompt| &prompt.tokens).find(|&&id| id as usize >= vocabulary) {
            return Err(ModelError::Tokenizer(format!("token {id} of a prompt is outside the vocabulary of {vocabulary}")));
        }
        match prompts.iter().map(|prompt| prompt.tokens.len()).find(|length| length + limit > context_length) {
            Some(prompt_tokens) => Err(ModelError::PromptTooLong { prompt_tokens, max_new_tokens: limit, context_length }),
            None => Ok(()),
        }
    }

    /// Logits `[B, V]` of the last position of every prompt.
    fn prefill(&self, tuned: Tuned, rows: &[Row], width: usize, cache: &mut KvCache) -> Result<Tensor, ModelError> {
        let device = tuned.device();
        let padded = |row: &Row| [vec![0; row.padding], row.prompt.tokens.clone()].concat();
        let tokens = Tensor::from_vec(rows.iter().flat_map(padded).collect::<Vec<u32>>(), (rows.len(), width), device)?;
        let position = |row: &Row, column: usize| column.saturating_sub(row.padding) as u32;
        let positions: Vec<u32> = rows.iter().flat_map(|row| (0..width).map(move |column| position(row, column))).collect();
        let positions = Tensor::from_vec(positions, (rows.len(), width), device)?;
        tuned.step(&tokens, &positions, &prefill_mask(rows, width, device)?, cache)
    }

    fn decode(&self, tuned: Tuned, rows: &mut [Row], cache: &mut KvCache, limit: usize) -> Result<(), ModelError> {
        // Indices of the rows that the cache holds.
        let mut held: Vec<usize> = (0..rows.len()).collect();
        for _ in 1..limit {
            let live = held.iter().filter(|&&row| !rows[row].done).count();
            if live == 0 {
                break;
            }
            if live * 2 <= held.len() {
                let kept: Vec<u32> = (0..held.len()).filter(|&slot| !rows[held[slot]].done).map(|slot| slot as u32).collect();
                held = kept.iter().map(|&slot| held[slot as usize]).collect();
                cache.keep_rows(&Tensor::from_vec(kept, live, tuned.device())?)?;
            }
            let logits = self.next(tuned, rows, &held, cache)?;
            let mut held_rows: Vec<Option<&mut Row>> = rows.iter_mut().map(Some).collect();
            self.advance(held.iter().map(|&row| held_rows[row].take().expect("every row is held once")), &logits)?;
        }
        Ok(())
    }

    /// Logits `[B, V]` after the last token of every held row. A row that has ended repeats its last token; nobody reads the result.
    fn next(&self, tuned: Tuned, rows: &[Row], held: &[usize], cache: &mut KvCache) -> Result<Tensor, ModelError> {
        let device = tuned.device();
        let (b, s) = (held.len(), cache.len() + 1);
        let last = |&row: &usize| *rows[row].tokens.last().expect("the prefill gave a token");
        let tokens = Tensor::from_vec(held.iter().map(last).collect::<Vec<u32>>(), (b, 1), device)?;
        let position = |&row: &usize| (s - 1 - rows[row].padding) as u32;
        let positions = Tensor::from_vec(held.iter().map(position).collect::<Vec<u32>>(), (b, 1), device)?;
        let seen = |&row: &usize| (0..s).map(move |column| if column < rows[row].padding { f32::NEG_INFINITY } else { 0.0 });
        let mask = Tensor::from_vec(held.iter().flat_map(seen).collect::<Vec<f32>>(), (b, 1, 1, s), device)?;
        tuned.step(&tokens, &positions, &mask, cache)
    }

    /// Gives every row that has not ended its next token; `logits` is `[B, V]`, a line per row.
    fn advance<'r, 'p: 'r>(&self, rows: impl Iterator<Item = &'r mut Row<'p>>, logits: &Tensor) -> Result<(), ModelError> {
        let logits = logits.to_dtype(candle_core::DType::F32)?.to_vec2::<f32>()?;
        for (row, logits) in rows.zip(logits).filter(|(row, _)| !row.done) {
            let token = choose(&logits, self.config, &row.prompt.stream, row.tokens.len()).ok_or(ModelError::NotFinite)?;
            row.tokens.push(token);
            row.done = self.config.forced_tokens.is_none() && self.has_ended(&row.tokens)?;
        }
        Ok(())
    }

    fn has_ended(&self, tokens: &[u32]) -> Result<bool, ModelError> {
        let ended = tokens.last().is_some_and(|token| self.tokenizer.special().eos.contains(token));
        Ok(ended || (!self.config.stop.is_empty() && self.read(tokens)?.1 == FinishReason::Stop))
    }

    /// The answer in the tokens, up to the first token or string that ends it. All tokens are decoded together, since a character or a word
    /// boundary can lie across two of them.
    fn read(&self, tokens: &[u32]) -> Result<(String, FinishReason), ModelError> {
        let end = tokens.iter().position(|token| self.tokenizer.special().eos.contains(token));
        let mut text = self.tokenizer.decode(&tokens[..end.unwrap_or(tokens.len())])?;
        let stop = self.config.stop.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| text.find(stop)).min();
        text.truncate(stop.unwrap_or(text.len()));
        let stopped = end.is_some() || stop.is_some();
        Ok((text, if stopped { FinishReason::Stop } else { FinishReason::Length }))
    }

    fn finish(&self, prompt: &Prompt, tokens: &[u32], prefill: Duration, decode: Duration) -> Result<Generation, ModelError> {
        let (text, finish_reason) = self.read(tokens)?;
        let (prompt_tokens, output_tokens) = (prompt.tokens.len(), tokens.len());
        Ok(Generation { text, prompt_tokens, output_tokens, finish_reason, prefill, decode })
    }
}

/// Weights, and the adapter beside them.
#[derive(Clone, Copy)]
struct Tuned<'a> {
    decoder: &'a Decoder,
    adapter: Option<&'a LoraWeights>,
}

impl<'a> Tuned<'a> {
    fn device(self) -> &'a Device {
        self.decoder.embedding.device()
    }

    /// Logits `[B, V]` after the last column of `tokens` `[B, T]`.
    fn step(self, tokens: &Tensor, positions: &Tensor, mask: &Tensor, cache: &mut KvCache) -> Result<Tensor, ModelError> {
        let hidden = self.decoder.forward(tokens, Positions::Explicit { positions, mask }, self.adapter, Some(cache))?;
        let (_, t, _) = hidden.dims3()?;
        let last = hidden.narrow(1, t - 1, 1)?.squeeze(1)?.contiguous()?;
        Ok(self.decoder.logits(&last)?)
    }
}

impl<'a> Row<'a> {
    fn new(prompt: &'a Prompt, width: usize, limit: usize) -> Self {
        Self { prompt, padding: width - prompt.tokens.len(), tokens: Vec::with_capacity(limit), done: false }
    }
}

/// `[B, 1, T, T]`: a position sees itself and the prompt before it. A filler position sees itself alone, because a row that sees nothing has
/// no softmax; nobody sees it.
fn prefill_mask(rows: &[Row], width: usize, device: &Device) -> candle_core::Result<Tensor> {
    let mut mask = vec![f32::NEG_INFINITY; rows.len() * width * width];
    for (row, plane) in rows.iter().zip(mask.chunks_exact_mut(width * width)) {
        for (query, line) in plane.chunks_exact_mut(width).enumerate() {
            line[row.padding.min(query)..=query].fill(0.0);
        }
    }
    Tensor::from_vec(mask, (rows.len(), 1, width, width), device)
}
