//! One decoder for the Llama family and Gemma: its members differ in bias, norms, head width, activation, rotation, windows and tying.
//!
//! Shapes: B batch, T new positions, S past and new positions, C hidden width, H query heads, K key/value heads, D head width, V
//! vocabulary. Weights are plain tensors: frozen when they come from a file, trainable when the provider hands out `Var`s.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor};

use super::cache::KvCache;
use super::config::{BlockNorms, DecoderConfig, Module};
use super::lora::LoraWeights;
use super::ops;

/// A linear layer's weights.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: Tensor,
    /// `[out]`.
    pub bias: Option<Tensor>,
}

/// One block.
#[derive(Debug, Clone)]
pub struct Layer {
    /// In the order of [`Module::ALL`].
    pub linears: [Linear; 7],
    /// Norms of the residual stream, `[C]`, as they are applied.
    pub norms: BlockNorms<Tensor>,
    /// Norm of each head's query and key, `[D]` (Qwen3, Gemma 3).
    pub qk_norm: Option<(Tensor, Tensor)>,
}

/// The model's weights and forward pass.
#[derive(Debug, Clone)]
pub struct Decoder {
    /// Shape.
    pub config: DecoderConfig,
    /// `[V, C]`.
    pub embedding: Tensor,
    /// The blocks.
    pub layers: Vec<Layer>,
    /// Last norm, `[C]`.
    pub final_norm: Tensor,
    /// `[V, C]`; the embedding itself when tied.
    pub head: Tensor,
    cos: Tensor,
    sin: Tensor,
    /// The same for blocks that turn by frequencies of their own.
    local: Option<RotaryTensors>,
}

/// Where the rows of a batch stand.
#[derive(Debug, Clone, Copy)]
pub enum Positions<'a> {
    /// All rows start at position 0 and are right-padded (if at all): training, where a causal mask is enough.
    FromZero,
    /// Position of every token, `[B, T]` u32, and the mask that is added to the scores, `[B, 1, T, S]`: generation with left padding.
    Explicit {
        /// `[B, T]`.
        positions: &'a Tensor,
        /// `[B, 1, T, S]`, 0 or minus infinity.
        mask: &'a Tensor,
    },
}

impl Decoder {
    /// Builds a decoder from named weights (Hugging Face names, such as `model.layers.0.self_attn.q_proj.weight`).
    ///
    /// `weight(name, shape)` must give a tensor of that shape, on `device`.
    pub fn new<E: From<candle_core::Error>>(
        config: &DecoderConfig,
        device: &Device,
        mut weight: impl FnMut(&str, &[usize]) -> std::result::Result<Tensor, E>,
    ) -> std::result::Result<Self, E> {
        let hidden = config.hidden_size;
        let embedding = weight("model.embed_tokens.weight", &[config.vocab_size, hidden])?;
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for index in 0..config.num_hidden_layers {
            let prefix = format!("model.layers.{index}");
            let mut linears = Vec::with_capacity(7);
            for (module, out, input) in config.linear_shapes() {
                let path = format!("{prefix}.{}", module.path());
                linears.push(Linear {
                    weight: weight(&format!("{path}.weight"), &[out, input])?,
                    bias: if config.has_bias(module) { Some(weight(&format!("{path}.bias"), &[out])?) } else { None },
                });
            }
            let qk_norm = if config.qk_norm {
                let query = weight(&format!("{prefix}.self_attn.q_norm.weight"), &[config.head_dim])?;
                Some((query, weight(&format!("{prefix}.self_attn.k_norm.weight"), &[config.head_dim])?))
            } else {
                None
            };
            layers.push(Layer {
                linears: linears.try_into().expect("seven linear layers"),
                norms: config.norm_names().try_map(|name| weight(&format!("{prefix}.{name}.weight"), &[hidden]))?,
                qk_norm,
            });
        }
        let final_norm = weight("model.norm.weight", &[hidden])?;
        let head = if config.tie_word_embeddings { embedding.clone() } else { weight("lm_head.weight", &[config.vocab_size, hidden])? };
        let ((cos, sin), local) = rotary_tables(config, device)?;
        Ok(Self { config: config.clone(), embedding, layers, final_norm, head, cos, sin, local })
    }

    /// The normalised last hidden states `[B, T, C]` of `tokens` `[B, T]` (u32). With a cache, `tokens` follow what it holds.
    pub fn forward(
        &self,
        tokens: &Tensor,
        positions: Positions,
        adapter: Option<&LoraWeights>,
        mut cache: Option<&mut KvCache>,
    ) -> Result<Tensor> {
        let (b, t) = tokens.dims2()?;
        let mut x = self.embedding.index_select(&tokens.flatten_all()?, 0)?.reshape((b, t, self.config.hidden_size))?;
        if let Some(scale) = self.config.embedding_scale() {
            x = (x * scale)?;
        }
        let gains = adapter.map(|adapter| adapter.gains(self)).transpose()?;
        let dtype = x.dtype();
        let (cos, sin) = Self::positional(positions, (&self.cos, &self.sin), t, dtype)?;
        let local = self.local.as_ref().map(|(cos, sin)| Self::positional(positions, (cos, sin), t, dtype)).transpose()?;
        let mask = match positions {
            Positions::FromZero => None,
            Positions::Explicit { mask, .. } => Some(mask.to_dtype(dtype)?),
        };
        for (index, layer) in self.layers.iter().enumerate() {
            let normed = ops::rms_norm(&x, &layer.norms.input, self.config.rms_norm_eps)?;
            let apply = |module: Module, input: &Tensor| layer.apply(index, module, input, adapter, gains);
            let eps = self.config.rms_norm_eps;
            let (q_norm, k_norm) = layer.qk_norm.as_ref().map(|(q, k)| ((q, eps), (k, eps))).unzip();
            let (heads, kv_heads) = (self.config.num_attention_heads, self.config.num_key_value_heads);
            let (cos, sin) = local.as_ref().filter(|_| self.config.turns_locally(index)).map_or((&cos, &sin), |(cos, sin)| (cos, sin));
            let rotation = self.config.rotates(index).then_some((cos, sin));
            let mut query = ops::split_heads(&apply(Module::Q, &normed)?, heads, q_norm, rotation)?;
            if let Some(factor) = self.config.query_factor() {
                query = (query * factor)?;
            }
            let mut key = ops::split_heads(&apply(Module::K, &normed)?, kv_heads, k_norm, rotation)?;
            let mut value = ops::split_heads(&apply(Module::V, &normed)?, kv_heads, None, None)?;
            if let Some(cache) = cache.as_deref_mut() {
                (key, value) = cache.extend(index, &key, &value)?;
            }
            let (window, softcap) = (self.config.window(index), self.config.attention_softcap());
            let s = key.dim(2)?;
            let mixed = match (&mask, window, softcap) {
                (None, _, None) => ops::attention_causal(&query, &key, &value, window)?,
                (None, _, Some(_)) => ops::attention(&query, &key, &value, &ops::causal_mask(t, s, window, &query)?, softcap)?,
                (Some(mask), None, _) => ops::attention(&query, &key, &value, mask, softcap)?,
                // Filler stands before a row, so distances between columns are distances between positions.
                (Some(mask), Some(_), _) => {
                    let near = ops::causal_mask(t, s, window, mask)?;
                    ops::attention(&query, &key, &value, &mask.broadcast_add(&near)?, softcap)?
                }
            };
            let normed = |branch: Tensor, norm: &Option<Tensor>| match norm {
                Some(norm) => ops::rms_norm(&branch, norm, eps),
                None => Ok(branch),
            };
            x = (x + normed(apply(Module::O, &mixed)?, &layer.norms.behind_attention)?)?;
            let before = ops::rms_norm(&x, &layer.norms.before_feed_forward, eps)?;
            let (gate, up) = (apply(Module::Gate, &before)?, apply(Module::Up, &before)?);
            let inner = if self.config.gemma.is_some() { ops::geglu(&gate, &up)? } else { ops::swiglu(&gate, &up)? };
            x = (x + normed(apply(Module::Down, &inner)?, &layer.norms.behind_feed_forward)?)?;
        }
        ops::rms_norm(&x, &self.final_norm, self.config.rms_norm_eps)
    }

    /// Cosines and sines of the rotary embedding, amplitude included, `[max_position_embeddings, R/2]`.
    pub fn rope_tables(&self) -> (&Tensor, &Tensor) {
        (&self.cos, &self.sin)
    }

    /// Logits `[.., V]` of hidden states `[.., C]`.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let logits = ops::linear(hidden, &self.head, None)?;
        match self.config.logit_softcap() {
            Some(cap) => ops::softcap(&logits, cap),
            None => Ok(logits),
        }
    }

    /// The rows of the rotary tables for the positions.
    fn positional(positions: Positions, (cos, sin): (&Tensor, &Tensor), t: usize, dtype: DType) -> Result<(Tensor, Tensor)> {
        let pick = |table: &Tensor| match positions {
            Positions::FromZero => table.narrow(0, 0, t)?.to_dtype(dtype),
            Positions::Explicit { positions, .. } => {
                let (b, t) = positions.dims2()?;
                table.index_select(&positions.flatten_all()?, 0)?.reshape((b, 1, t, table.dim(1)?))?.to_dtype(dtype)
            }
        };
        Ok((pick(cos)?, pick(sin)?))
    }
}

impl Layer {
    /// One linear layer with its bias and, if the adapter touches it, the low-rank update and its gain.
    fn apply(
        &self,
        index: usize,
        module: Module,
        x: &Tensor,
        adapter: Option<&LoraWeights>,
        gains: Option<&BTreeMap<(usize, Module), Tensor>>,
    ) -> Result<Tensor> {
        let linear = &self.linears[module as usize];
        if let Some((adapter, gain)) = adapter.zip(gains.and_then(|gains| gains.get(&(index, module)))) {
            let y = ops::linear(x, &linear.weight, None)?;
            let moved = match adapter.delta(index, module, x)? {
                Some(delta) => (y + delta)?,
                None => y,
            };
            let y = moved.broadcast_mul(&gain.to_dtype(moved.dtype())?)?;
            return linear.bias.as_ref().map_or(Ok(y.clone()), |bias| y.broadcast_add(bias));
        }
        if let Some((pair, scale)) = adapter.and_then(|adapter| adapter.without_dropout(index, module)) {
            return ops::lora_linear(x, &linear.weight, linear.bias.as_ref(), (&pair.a, &pair.b), scale);
        }
        let y = ops::linear(x, &linear.weight, linear.bias.as_ref())?;
        match adapter.map(|adapter| adapter.delta(index, module, x)).transpose()?.flatten() {
            Some(delta) => y + delta,
            None => Ok(y),
        }
    }
}

/// Cosines and sines, each `[max_position_embeddings, R/2]`.
pub type RotaryTensors = (Tensor, Tensor);

/// The cosines and sines of a decoder's rotary embedding, amplitude included, and those of the blocks that turn by frequencies of their own.
///
/// # Errors
/// A failed tensor operation.
pub fn rotary_tables(config: &DecoderConfig, device: &Device) -> Result<(RotaryTensors, Option<RotaryTensors>)> {
    let positions = config.max_position_embeddings;
    let local = config.local_rope_frequencies();
    let local = local.map(|frequencies| rope_tables(&frequencies, 1.0, positions, device)).transpose()?;
    Ok((rope_tables(&config.rope_frequencies(), config.rope_amplitude(), positions, device)?, local))
}

/// Cosines and sines `[positions, R/2]`, times the amplitude that some scalings ask for.
fn rope_tables(frequencies: &[f32], amplitude: f64, positions: usize, device: &Device) -> Result<RotaryTensors> {
    let angles: Vec<f32> = (0..positions).flat_map(|p| frequencies.iter().map(move |f| p as f32 * f)).collect();
    let angles = Tensor::from_vec(angles, (positions, frequencies.len()), device)?;
    let scaled = |table: Tensor| if amplitude == 1.0 { Ok(table) } else { table * amplitude };
    Ok((scaled(angles.cos()?)?, scaled(angles.sin()?)?))
}
