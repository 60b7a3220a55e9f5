//! What stands between the matrix products, row by row: norms, rotation, softmax, activations. All are `#[inline(always)]`, to be called
//! inside [`super::simd::vectorized`].

use super::simd::{dot, exp, exp_in_place, max};

/// `1 / sqrt(mean(x^2) + eps)`.
#[inline(always)]
pub fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt()
}

/// RMS norm (Zhang and Sennrich 2019) of rows as wide as `weight`.
#[inline(always)]
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    for (x, y) in x.chunks_exact(weight.len()).zip(y.chunks_exact_mut(weight.len())) {
        let inv = inverse_rms(x, eps);
        for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
            *y = x * inv * w;
        }
    }
}

/// [`rms_norm`] of one row in place.
#[inline(always)]
pub fn rms_norm_in_place(x: &mut [f32], weight: &[f32], eps: f32) {
    let inv = inverse_rms(x, eps);
    for (x, w) in x.iter_mut().zip(weight) {
        *x = *x * inv * w;
    }
}

/// Turns the pairs `(y[i], y[i + d/2])` of a head of width `d`; `direction` is 1 or -1.
#[inline(always)]
pub fn turn(y: &mut [f32], cos: &[f32], sin: &[f32], direction: f32) {
    let (left, right) = y.split_at_mut(cos.len());
    for ((left, right), (cos, sin)) in left.iter_mut().zip(right).zip(cos.iter().zip(sin)) {
        let (l, r, sin) = (*left, *right, direction * sin);
        *left = l * cos - r * sin;
        *right = r * cos + l * sin;
    }
}

/// Softmax of one row in place. A row of minus infinities alone becomes zeros: it attends to nothing.
#[inline(always)]
pub fn softmax(row: &mut [f32]) {
    let top = max(row);
    if top == f32::NEG_INFINITY {
        row.iter_mut().for_each(|x| *x = if x.is_nan() { f32::NAN } else { 0.0 });
        return;
    }
    let inverse = 1.0 / exp_in_place(row, top);
    row.iter_mut().for_each(|x| *x *= inverse);
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `y = silu(gate) up`.
#[inline(always)]
pub fn swiglu(gate: &[f32], up: &[f32], y: &mut [f32]) {
    for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
        *y = gate * sigmoid(*gate) * up;
    }
}

/// Gradients of [`swiglu`]: with `s = sigmoid(gate)`, `d_up = g gate s` and `d_gate = g up s (1 + gate (1 - s))`.
#[inline(always)]
pub fn swiglu_backward(gate: &[f32], up: &[f32], grad: &[f32], d_gate: &mut [f32], d_up: &mut [f32]) {
    for (((d_gate, d_up), (gate, up)), g) in d_gate.iter_mut().zip(d_up).zip(gate.iter().zip(up)).zip(grad) {
        let s = sigmoid(*gate);
        *d_up = g * gate * s;
        *d_gate = g * up * s * (1.0 + gate * (1.0 - s));
    }
}

/// Gradients of [`rms_norm`], row by row: `dx = inv w g - x inv^3 / d sum(x w g)` is written, `dw = inv x g` is added.
#[inline(always)]
pub fn rms_norm_backward(x: &[f32], weight: &[f32], grad: &[f32], eps: f32, dx: &mut [f32], dw: &mut [f32]) {
    let width = weight.len();
    for ((x, grad), dx) in x.chunks_exact(width).zip(grad.chunks_exact(width)).zip(dx.chunks_exact_mut(width)) {
        let inv = inverse_rms(x, eps);
        for (((dx, dw), (g, x)), w) in dx.iter_mut().zip(&mut *dw).zip(grad.iter().zip(x)).zip(weight) {
            *dw += g * x * inv;
            *dx = g * w;
        }
        let pull = inv * inv * inv / width as f32 * dot(x, dx);
        for (dx, x) in dx.iter_mut().zip(x) {
            *dx = inv * *dx - pull * x;
        }
    }
}

/// Turns a row of logits into the gradient of its weighted cross-entropy, `w (softmax(z) - onehot(target))`, and gives the loss,
/// `w (log sum exp(z) - z[target])`.
#[inline(always)]
pub fn cross_entropy(logits: &mut [f32], target: usize, weight: f32) -> f64 {
    let picked = f64::from(logits[target]);
    let top = max(logits);
    let sum = exp_in_place(logits, top);
    let factor = weight / sum;
    logits.iter_mut().for_each(|p| *p *= factor);
    logits[target] -= weight;
    f64::from(weight) * (f64::from(top) + f64::from(sum).ln() - picked)
}

/// `ds = p (dp - delta) scale` in place of `dp`: the gradient of a softmax's scaled input, `delta` being `sum(p dp)`.
#[inline(always)]
pub fn softmax_backward(dp: &mut [f32], p: &[f32], delta: f32, scale: f32) {
    for (dp, p) in dp.iter_mut().zip(p) {
        *dp = p * (*dp - delta) * scale;
    }
}
