//! The decoder's operations, every one differentiable. candle's own fused rms-norm, rope and softmax have no backward pass and cut the
//! graph silently, so none of them is used here.
//!
//! f32 tensors in main memory take hand-written kernels, one file each, with hand-written backward passes; everything else goes through
//! [`reference`], the same formulas composed of candle's operations, which is also what the kernels are tested against. Results do not
//! depend on the number of threads.
//!
//! Shapes: B batch, T new positions, S past and new positions, C hidden width, H query heads, K key/value heads, D head width.

mod attention;
mod cross_entropy;
mod head;
mod heads;
mod linear;
mod lora;
pub mod reference;
mod rms_norm;
mod rope;
mod softmax;
mod storage;
mod swiglu;

#[cfg(test)]
mod check;

use candle_core::{Result, Tensor};

pub use storage::{supported, with_floats};

/// `x W^T + b`. `x` is `[.., in]`, `weight` `[out, in]`, `bias` `[out]`. Weights that are no variables and depend on none get no gradient.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    linear::linear(x, weight, bias)
}

/// `x / sqrt(mean(x^2) + eps) * weight` over the last dimension (Zhang and Sennrich 2019), computed in f32.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    rms_norm::rms_norm(x, weight, eps)
}

/// Rotary embedding of the first R components of `x` `[B, H, T, D]`, half-split pairs (as in transformers). `cos` and `sin` are `[T, R/2]` or
/// `[B, 1, T, R/2]`.
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    rope::rope(x, cos, sin)
}

/// A projection `[B, T, H * D]` as heads `[B, H, T, D]`, after [`rms_norm`] over each head (weight `[D]` and eps) and [`rope`] (cosines and
/// sines), where given.
pub fn split_heads(x: &Tensor, heads: usize, norm: Option<(&Tensor, f64)>, rotation: Option<(&Tensor, &Tensor)>) -> Result<Tensor> {
    heads::split_heads(x, heads, norm, rotation)
}

/// [`linear`] with a low-rank update: `x W^T + b + scale (x A^T) B^T`, `pair` being `A` `[r, in]` and `B` `[out, r]`.
pub fn lora_linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, pair: (&Tensor, &Tensor), scale: f64) -> Result<Tensor> {
    lora::lora_linear(x, weight, bias, pair, scale)
}

/// Softmax over the last dimension, in f32.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    softmax::softmax(x)
}

/// Grouped-query attention under any mask, composed of candle's operations: what other devices answer with. `q` is `[B, H, T, D]`, `k` and
/// `v` are `[B, K, S, D]`, `mask` (added to the scores) `[1 or B, 1, T, S]`; the result is `[B, T, H * D]`. Scores go through [`softcap`]
/// before the mask, if a bound is given.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, mask: &Tensor, bound: Option<f64>) -> Result<Tensor> {
    reference::attention(q, k, v, Some(mask), bound)
}

/// `bound * tanh(x / bound)`.
pub fn softcap(x: &Tensor, bound: f64) -> Result<Tensor> {
    reference::softcap(x, bound)
}

/// [`attention`] in which a query sees its own position and the earlier ones, `window` in all at most; the last query stands at the last key.
pub fn attention_causal(q: &Tensor, k: &Tensor, v: &Tensor, window: Option<usize>) -> Result<Tensor> {
    attention::attention_causal(q, k, v, window)
}

/// The mask `[1, 1, T, S]` of [`attention_causal`], to be added to scores: 0, or minus infinity.
pub fn causal_mask(t: usize, s: usize, window: Option<usize>, like: &Tensor) -> Result<Tensor> {
    reference::causal_mask(t, s, window, like)
}

/// `silu(gate) * up`.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    swiglu::swiglu(gate, up)
}

/// `gelu(gate) * up` with the tanh form of GELU, composed of candle's operations.
pub fn geglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    reference::geglu(gate, up)
}

/// Weighted mean cross-entropy. `logits` is `[N, V]`, `targets` `[N]` (u32), `weights` `[N]` (f32); the result is the scalar
/// `sum(w * -log p[target]) / normaliser`.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor, weights: &Tensor, normaliser: f64) -> Result<Tensor> {
    cross_entropy::cross_entropy(logits, targets, weights, normaliser)
}

/// [`cross_entropy`] of the logits `hidden head^T`, for `hidden` `[N, C]` and `head` `[V, C]`, without holding all of them when they are
/// many. The head gets a gradient when it is trainable (a tied embedding).
pub fn head_cross_entropy(hidden: &Tensor, head: &Tensor, targets: &Tensor, weights: &Tensor, normaliser: f64) -> Result<Tensor> {
    head::head_cross_entropy(hidden, head, targets, weights, normaliser)
}
