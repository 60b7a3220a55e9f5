//! The operations as compositions of candle's differentiable ones: any dtype, any device, any layout. They are what the fast kernels are
//! tested against, and what runs where those do not apply.

use candle_core::{D, DType, Result, Tensor};

/// `x W^T + b`. `x` is `[.., in]`, `weight` `[out, in]`, `bias` `[out]`.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (out, input) = weight.dims2()?;
    let dims = x.dims();
    let rows = x.elem_count() / input;
    let mut shape = dims.to_vec();
    *shape.last_mut().expect("a tensor with a last dimension") = out;
    let y = x.reshape((rows, input))?.matmul(&weight.t()?)?.reshape(shape)?;
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

/// `x / sqrt(mean(x^2) + eps) * weight` over the last dimension (Zhang and Sennrich 2019), computed in f32.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let dtype = x.dtype();
    let x = x.to_dtype(DType::F32)?;
    let mean_square = x.sqr()?.mean_keepdim(D::Minus1)?;
    let normed = x.broadcast_div(&(mean_square + eps)?.sqrt()?)?;
    normed.to_dtype(dtype)?.broadcast_mul(weight)
}

/// Rotary embedding of the first R components of `x` `[B, H, T, D]`, half-split pairs (as in transformers). `cos` and `sin` are `[T, R/2]` or
/// `[B, 1, T, R/2]`.
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (width, half) = (x.dim(D::Minus1)?, cos.dim(D::Minus1)?);
    let (left, right) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
    let turned_left = (left.broadcast_mul(cos)? - right.broadcast_mul(sin)?)?;
    let turned_right = (right.broadcast_mul(cos)? + left.broadcast_mul(sin)?)?;
    let mut parts = vec![turned_left, turned_right];
    if width > 2 * half {
        parts.push(x.narrow(D::Minus1, 2 * half, width - 2 * half)?);
    }
    Tensor::cat(&parts, D::Minus1)
}

/// Softmax over the last dimension, in f32.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    let dtype = x.dtype();
    let x = x.to_dtype(DType::F32)?;
    let shifted = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?;
    let exp = shifted.exp()?;
    exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)?.to_dtype(dtype)
}

/// Grouped-query attention. `q` is `[B, H, T, D]`, `k` and `v` are `[B, K, S, D]`, `mask` (added to the scores) `[1 or B, 1, T, S]`; the
/// result is `[B, T, H * D]`. Keys are not repeated: the query heads of a group are stacked along the positions.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>, bound: Option<f64>) -> Result<Tensor> {
    let (b, heads, t, d) = q.dims4()?;
    let (_, kv_heads, s, _) = k.dims4()?;
    let group = heads / kv_heads;
    let q = (q.contiguous()? * (1.0 / (d as f64).sqrt()))?.reshape((b, kv_heads, group * t, d))?;
    let mut scores = q.matmul(&k.transpose(2, 3)?.contiguous()?)?;
    if let Some(bound) = bound {
        scores = softcap(&scores, bound)?;
    }
    if let Some(mask) = mask {
        scores = scores.reshape((b, kv_heads, group, t, s))?.broadcast_add(&mask.unsqueeze(1)?)?.reshape((b, kv_heads, group * t, s))?;
    }
    let mixed = softmax(&scores)?.matmul(&v.contiguous()?)?;
    mixed.reshape((b, heads, t, d))?.transpose(1, 2)?.contiguous()?.reshape((b, t, heads * d))
}

/// Attention to one's own position and earlier ones, `window` in all at most, when the last query stands at the last key.
pub fn attention_causal(q: &Tensor, k: &Tensor, v: &Tensor, window: Option<usize>) -> Result<Tensor> {
    attention(q, k, v, Some(&causal_mask(q.dim(2)?, k.dim(2)?, window, q)?), None)
}

/// Zero where a query sees a key, minus infinity elsewhere, `[1, 1, T, S]`, of the type and on the device of `like`.
pub fn causal_mask(t: usize, s: usize, window: Option<usize>, like: &Tensor) -> Result<Tensor> {
    let window = window.unwrap_or(usize::MAX);
    // A query's own key is the `t - 1 - query`-th from the end.
    let sees = |query: usize, key: usize| (query + s).checked_sub(key + t).is_some_and(|distance| distance < window);
    let mask: Vec<f32> = (0..t * s).map(|i| if sees(i / s, i % s) { 0.0 } else { f32::NEG_INFINITY }).collect();
    Tensor::from_vec(mask, (1, 1, t, s), like.device())?.to_dtype(like.dtype())
}

/// `silu(gate) * up`.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.silu()? * up
}

/// `gelu(gate) * up`, GELU by its tanh form.
pub fn geglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.gelu()? * up
}

/// `bound * tanh(x / bound)`.
pub fn softcap(x: &Tensor, bound: f64) -> Result<Tensor> {
    (x / bound)?.tanh()? * bound
}

/// Weighted mean cross-entropy. `logits` is `[N, V]`, `targets` `[N]` (u32), `weights` `[N]` (f32); the result is the scalar
/// `sum(w * -log p[target]) / normaliser`.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor, weights: &Tensor, normaliser: f64) -> Result<Tensor> {
    let logits = logits.to_dtype(DType::F32)?;
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let picked = shifted.gather(&targets.unsqueeze(1)?, 1)?;
    let losses = (log_sum - picked)?.squeeze(1)?;
    (losses * weights)?.sum_all()? * (1.0 / normaliser)
}

/// `x W^T + b + scale (x A^T) B^T`.
pub fn lora_linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, (a, b): (&Tensor, &Tensor), scale: f64) -> Result<Tensor> {
    linear(x, weight, bias)? + (linear(&linear(x, a, None)?, b, None)? * scale)?
}

/// Splits `[B, T, H * D]` into `[B, H, T, D]`, then normalises and rotates each head.
pub fn split_heads(x: &Tensor, heads: usize, norm: Option<(&Tensor, f64)>, rotation: Option<(&Tensor, &Tensor)>) -> Result<Tensor> {
    let (b, t, width) = x.dims3()?;
    let split = x.reshape((b, t, heads, width / heads))?.transpose(1, 2)?.contiguous()?;
    let normed = norm.map_or(Ok(split.clone()), |(weight, eps)| rms_norm(&split, weight, eps))?;
    rotation.map_or(Ok(normed.clone()), |(cos, sin)| rope(&normed, cos, sin))
}
