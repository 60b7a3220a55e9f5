//! The BERT encoder (Devlin et al. 2019) over texts that stand one after the other: a group of texts is one matrix `[tokens, hidden]` in every
//! product, and no token is ever padded. Only attention knows where a text ends.
//!
//! Every element of a product is one chain of roundings whatever the other rows are (see [`crate::kernel`]), and all else is computed row by
//! row or text by text. So the states of a text have the same bits in any company, on any number of threads.

use std::cell::Cell;

use candle_transformers::models::bert::{Config, HiddenAct};

use super::super::RetrievalError;
use super::attention::{self, Heads};
use super::weights::{Weights, norm_names};
use crate::kernel::elementwise::{LayerNorm, add_layer_norm, gelu, gelu_tanh, layer_norm_in_place};
use crate::kernel::simd::vectorized;
use crate::kernel::{PARALLEL_FROM_CACHE, Packed, Team};

/// Tokens that go through a feed-forward block at a time: its wide middle, 1536 values a token in MiniLM, stays in the second-level cache.
const FEED_FORWARD_ROWS: usize = 96;

/// Elements of a part of an elementwise pass, at least.
const ELEMENTS: usize = 4096;

/// A layer norm's weights.
struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

/// A linear layer. The bias is added by whatever reads the product next.
struct Linear {
    weight: Packed,
    bias: Vec<f32>,
}

struct Layer {
    /// Queries, keys and values side by side.
    qkv: Linear,
    output: Linear,
    attention_norm: Norm,
    intermediate: Linear,
    down: Linear,
    feed_forward_norm: Norm,
}

/// Weights, packed for the kernels.
pub(super) struct Encoder {
    hidden: usize,
    inner: usize,
    heads: Heads,
    eps: f32,
    activation: HiddenAct,
    /// `[V, hidden]`.
    words: Vec<f32>,
    /// `[positions, hidden]` for the first text and for the second text of a pair, the row of its token type added to each.
    positions: Vec<Vec<f32>>,
    embedding_norm: Norm,
    layers: Vec<Layer>,
}

/// A text, or a pair of texts, as token ids.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    /// Special tokens included.
    pub ids: &'a [u32],
    /// Index from which on the ids belong to the second text of a pair.
    pub second: usize,
}

impl<'a> From<&'a Vec<u32>> for Row<'a> {
    fn from(ids: &'a Vec<u32>) -> Self {
        Self { ids, second: ids.len() }
    }
}

/// The first row of the position table that a text uses: RoBERTa counts its positions from the one after the padding's.
pub(super) fn first_position(config: &Config) -> usize {
    if is_roberta(config.model_type.as_deref()) { config.pad_token_id + 1 } else { 0 }
}

/// The model types with BERT's encoder, and RoBERTa's way of counting positions and of naming its head.
pub(super) fn is_roberta(model_type: Option<&str>) -> bool {
    matches!(model_type, Some("roberta" | "xlm-roberta" | "camembert"))
}

/// Buffers of a pass, kept by a thread from one to the next.
#[derive(Default)]
struct Workspace {
    /// `[M, hidden]`: the residual stream.
    x: Vec<f32>,
    /// `[M, 3 hidden]`.
    qkv: Vec<f32>,
    /// `[M, hidden]`.
    mixed: Vec<f32>,
    /// `[M, hidden]`: what a branch adds to the stream.
    branch: Vec<f32>,
    /// `[rows of a feed-forward block, inner]`.
    inner: Vec<f32>,
    attention: attention::Workspace,
}

thread_local! {
    /// Taken for the length of a pass and put back, not borrowed: a thread that waits for others within a pass may begin another one.
    static WORKSPACE: Cell<Workspace> = Cell::default();
}

impl Encoder {
    /// Reads and packs the weights of a `model.safetensors`.
    ///
    /// # Errors
    /// [`RetrievalError::Embedder`] naming the first tensor that is missing or has another shape or an unusable type.
    pub(super) fn load(weights: &Weights, config: &Config) -> Result<Self, RetrievalError> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let table = |name: &str, rows: usize| weights.take(&format!("embeddings.{name}.weight"), &[rows, hidden]);
        let positions = table("position_embeddings", config.max_position_embeddings)?;
        let positions = &positions[first_position(config).min(config.max_position_embeddings) * hidden..];
        let types = table("token_type_embeddings", config.type_vocab_size)?;
        let of_type = |kind: &[f32]| -> Vec<f32> {
            positions.chunks_exact(hidden).flat_map(|row| row.iter().zip(kind).map(|(position, kind)| position + kind)).collect()
        };
        Ok(Self {
            hidden,
            inner,
            heads: Heads { count: config.num_attention_heads, width: hidden / config.num_attention_heads },
            eps: config.layer_norm_eps as f32,
            activation: config.hidden_act,
            words: table("word_embeddings", config.vocab_size)?,
            positions: types.chunks_exact(hidden).take(2).map(of_type).collect(),
            embedding_norm: Norm::load(weights, "embeddings.LayerNorm", hidden)?,
            layers: (0..config.num_hidden_layers).map(|index| Layer::load(weights, index, hidden, inner)).collect::<Result<_, _>>()?,
        })
    }

    /// Components of a state.
    pub(super) fn hidden(&self) -> usize {
        self.hidden
    }

    /// Tokens that have a vector.
    pub(super) fn vocabulary(&self) -> usize {
        self.words.len() / self.hidden
    }

    /// Gives `read` the last layer's states of the texts' tokens, `[M, hidden]`, text after text. The team shares every step.
    ///
    /// # Panics
    /// When a token or a position has no embedding.
    pub(super) fn with_states<R>(&self, texts: &[Row], team: &Team, read: impl FnOnce(&[f32]) -> R) -> R {
        let mut work = WORKSPACE.take();
        self.embed(texts, &mut work.x);
        for layer in &self.layers {
            self.attention(layer, texts, &mut work, team);
            self.feed_forward(layer, &mut work, team);
        }
        let result = read(&work.x);
        WORKSPACE.set(work);
        result
    }

    fn embed(&self, texts: &[Row], x: &mut Vec<f32>) {
        x.clear();
        let last = self.positions.len() - 1;
        for text in texts {
            for (index, token) in text.ids.iter().enumerate() {
                let kind = usize::from(index >= text.second).min(last);
                let position = &self.positions[kind][index * self.hidden..][..self.hidden];
                let word = &self.words[*token as usize * self.hidden..][..self.hidden];
                x.extend(word.iter().zip(position).map(|(word, position)| word + position));
            }
        }
        let norm = self.embedding_norm.kernel(self.eps);
        vectorized(
            #[inline(always)]
            || x.chunks_exact_mut(self.hidden).for_each(|row| layer_norm_in_place(row, norm)),
        );
    }

    fn attention(&self, layer: &Layer, texts: &[Row], work: &mut Workspace, team: &Team) {
        let rows = work.x.len() / self.hidden;
        let qkv = sized(&mut work.qkv, rows * 3 * self.hidden);
        layer.qkv.weight.multiply(&work.x, qkv, false, team, PARALLEL_FROM_CACHE);
        let mixed = sized(&mut work.mixed, rows * self.hidden);
        let mut first = 0;
        for text in texts {
            let length = text.ids.len();
            let qkv = &qkv[first * 3 * self.hidden..][..length * 3 * self.hidden];
            let mixed = &mut mixed[first * self.hidden..][..length * self.hidden];
            attention::attend(self.heads, qkv, &layer.qkv.bias, mixed, &mut work.attention, team);
            first += length;
        }
        let branch = sized(&mut work.branch, rows * self.hidden);
        layer.output.weight.multiply(mixed, branch, false, team, PARALLEL_FROM_CACHE);
        self.join(&mut work.x, branch, &layer.output.bias, &layer.attention_norm, team);
    }

    fn feed_forward(&self, layer: &Layer, work: &mut Workspace, team: &Team) {
        let rows = work.x.len() / self.hidden;
        let step = if team.threads() > 1 { rows } else { FEED_FORWARD_ROWS };
        let branch = sized(&mut work.branch, rows * self.hidden);
        for (x, branch) in work.x.chunks_mut(step * self.hidden).zip(branch.chunks_mut(step * self.hidden)) {
            let inner = sized(&mut work.inner, x.len() / self.hidden * self.inner);
            layer.intermediate.weight.multiply(x, inner, false, team, PARALLEL_FROM_CACHE);
            self.activate(inner, &layer.intermediate.bias, team);
            layer.down.weight.multiply(inner, branch, false, team, PARALLEL_FROM_CACHE);
            self.join(x, branch, &layer.down.bias, &layer.feed_forward_norm, team);
        }
    }

    /// `inner = activation(inner + bias)`.
    fn activate(&self, inner: &mut [f32], bias: &[f32], team: &Team) {
        team.rows(inner, self.inner, ELEMENTS, |_, inner| match self.activation {
            HiddenAct::Gelu => map_rows(inner, bias, gelu),
            HiddenAct::GeluApproximate => map_rows(inner, bias, gelu_tanh),
            HiddenAct::Relu => map_rows(inner, bias, |x| x.max(0.0)),
        });
    }

    /// `x = norm(x + branch + bias)`.
    fn join(&self, x: &mut [f32], branch: &[f32], bias: &[f32], norm: &Norm, team: &Team) {
        let norm = norm.kernel(self.eps);
        team.rows(x, self.hidden, ELEMENTS, |first, x| {
            let branch = &branch[first * self.hidden..][..x.len()];
            vectorized(
                #[inline(always)]
                || add_layer_norm(x, branch, bias, norm),
            );
        });
    }
}

impl Norm {
    fn load(weights: &Weights, name: &str, width: usize) -> Result<Self, RetrievalError> {
        let [weight, bias] = norm_names(name, |name| weights.has(name));
        Ok(Self { weight: weights.take(&weight, &[width])?, bias: weights.take(&bias, &[width])? })
    }

    fn kernel(&self, eps: f32) -> LayerNorm<'_> {
        LayerNorm { weight: &self.weight, bias: &self.bias, eps }
    }
}

impl Linear {
    /// Layers with one input, their outputs side by side.
    fn load(weights: &Weights, names: &[String], inputs: usize, outputs: usize) -> Result<Self, RetrievalError> {
        let parts = |kind: &str, shape: &[usize]| -> Result<Vec<Vec<f32>>, RetrievalError> {
            names.iter().map(|name| weights.take(&format!("{name}.{kind}"), shape)).collect()
        };
        Ok(Self { weight: weights.pack(&parts("weight", &[outputs, inputs])?, inputs)?, bias: parts("bias", &[outputs])?.concat() })
    }
}

impl Layer {
    fn load(weights: &Weights, index: usize, hidden: usize, inner: usize) -> Result<Self, RetrievalError> {
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        let linear = |part: &str, inputs, outputs| Linear::load(weights, &[name(part)], inputs, outputs);
        let attention = ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
        Ok(Self {
            qkv: Linear::load(weights, &attention, hidden, hidden)?,
            output: linear("attention.output.dense", hidden, hidden)?,
            attention_norm: Norm::load(weights, &name("attention.output.LayerNorm"), hidden)?,
            intermediate: linear("intermediate.dense", hidden, inner)?,
            down: linear("output.dense", inner, hidden)?,
            feed_forward_norm: Norm::load(weights, &name("output.LayerNorm"), hidden)?,
        })
    }
}

/// Sets a buffer's length. What it holds is stale until it is written.
pub(super) fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    buffer.resize(len, 0.0);
    buffer
}

/// `x = f(x + bias)` for rows as wide as the bias.
#[inline]
fn map_rows(rows: &mut [f32], bias: &[f32], f: impl Fn(f32) -> f32) {
    vectorized(
        #[inline(always)]
        || {
            for row in rows.chunks_exact_mut(bias.len()) {
                for (x, bias) in row.iter_mut().zip(bias) {
                    *x = f(*x + bias);
                }
            }
        },
    );
}
