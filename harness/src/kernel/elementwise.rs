//! What stands between the matrix products, row by row: norms, rotation, softmax, activations. All are `#[inline(always)]`, to be called
//! inside [`super::simd::vectorized`].

use super::simd::{dot, exp, exp_in_place, max, sum};

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

/// Turns the pairs `(y[i], y[i + r/2])` of a head's first `r` components, where the tables have `r/2` angles; `direction` is 1 or -1.
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

/// `x = layer_norm(x + y + bias)` (Ba, Kiros and Hinton 2016) of rows as wide as `norm.weight`: what follows a residual branch `y`.
#[inline(always)]
pub fn add_layer_norm(x: &mut [f32], y: &[f32], bias: &[f32], norm: LayerNorm) {
    for (x, y) in x.chunks_exact_mut(bias.len()).zip(y.chunks_exact(bias.len())) {
        for ((x, y), bias) in x.iter_mut().zip(y).zip(bias) {
            *x += y + bias;
        }
        layer_norm_in_place(x, norm);
    }
}

/// What a layer norm multiplies and adds, and what it adds to the variance.
#[derive(Debug, Clone, Copy)]
pub struct LayerNorm<'a> {
    /// Factor of each component.
    pub weight: &'a [f32],
    /// What each component is moved by afterwards.
    pub bias: &'a [f32],
    /// Added to the variance.
    pub eps: f32,
}

/// Layer norm of one row in place: the variance is that of the distances from the mean, not a difference of sums.
#[inline(always)]
pub fn layer_norm_in_place(x: &mut [f32], norm: LayerNorm) {
    let count = x.len() as f32;
    let mean = sum(x) / count;
    x.iter_mut().for_each(|x| *x -= mean);
    let inverse = 1.0 / (dot(x, x) / count + norm.eps).sqrt();
    for ((x, weight), bias) in x.iter_mut().zip(norm.weight).zip(norm.bias) {
        *x = *x * inverse * weight + bias;
    }
}

/// `x Phi(x)`, the exact GELU (Hendrycks and Gimpel 2016), to within `8e-8 max(1, |x|)`; the formula with `erf` itself, evaluated in
/// 32-bit floats, is within `1.05e-7`.
///
/// Computed as `max(x, 0) - |x| Phi(-|x|)`, where nothing cancels, with `Phi(-a) = e^(-a^2 / 2) r(a)`: `r` falls slowly and is
/// approximated by a quotient of polynomials, minimax on 0 to 6 with relative error 5e-8, all of whose terms are positive.
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    // Beyond 15, where the exponential is zero, powers could overflow.
    let a = if x.abs() > 15.0 { 15.0 } else { x.abs() };
    let mut p = 0.013_638_666;
    p = p * a + 0.104_483_35;
    p = p * a + 0.334_559_98;
    p = p * a + 0.499_999_97;
    let mut q = 0.034_207_918;
    q = q * a + 0.261_344;
    q = q * a + 0.879_499_9;
    q = q * a + 1.467_000_8;
    q = q * a + 1.0;
    let positive = if x > 0.0 { x } else { 0.0 };
    positive - a * (exp(-0.5 * a * a) * (p / q))
}

/// `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`, the approximation of GELU that some models were trained with.
#[inline(always)]
pub fn gelu_tanh(x: f32) -> f32 {
    /// `2 sqrt(2 / pi)`: with `tanh y = 2 sigmoid(2 y) - 1`, the whole is `x sigmoid(2 y)`.
    const SLOPE: f32 = 1.595_769;
    x * sigmoid(SLOPE * (x + 0.044_715 * x * x * x))
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

/// `y = gelu(gate) up`, GELU by its tanh form.
#[inline(always)]
pub fn geglu(gate: &[f32], up: &[f32], y: &mut [f32]) {
    for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
        *y = gelu_tanh(*gate) * up;
    }
}

/// `x = bound tanh(x / bound)`, with `tanh y = 2 sigmoid(2 y) - 1`.
#[inline(always)]
pub fn softcap(x: &mut [f32], bound: f32) {
    let slope = 2.0 / bound;
    x.iter_mut().for_each(|x| *x = bound * (2.0 * sigmoid(slope * *x) - 1.0));
}

/// [`swiglu`] that also leaves `sigmoid(gate)`, for [`swiglu_backward_with`].
#[inline(always)]
pub fn swiglu_keeping(gate: &[f32], up: &[f32], y: &mut [f32], sigmoids: &mut [f32]) {
    for (((y, s), gate), up) in y.iter_mut().zip(sigmoids).zip(gate).zip(up) {
        *s = sigmoid(*gate);
        *y = gate * *s * up;
    }
}

/// [`swiglu_backward`] given `sigmoid(gate)`.
#[inline(always)]
pub fn swiglu_backward_with(sigmoids: &[f32], gate: &[f32], up: &[f32], grad: &[f32], d_gate: &mut [f32], d_up: &mut [f32]) {
    for ((((d_gate, d_up), s), (gate, up)), g) in d_gate.iter_mut().zip(d_up).zip(sigmoids).zip(gate.iter().zip(up)).zip(grad) {
        *d_up = g * gate * s;
        *d_gate = g * up * s * (1.0 + gate * (1.0 - s));
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

#[cfg(test)]
mod tests {
    use statrs::function::erf::erfc;

    use super::super::simd::vectorized;
    use super::*;

    /// `f` at a million points of -14 to 14, against the truth in 64-bit floats: the largest error relative to `max(1, |x|)`.
    fn worst(f: impl Fn(f32) -> f32, truth: impl Fn(f64) -> f64) -> f64 {
        let points = (0..=1_000_000u32).map(|step| -14.0 + step as f32 * 2.8e-5);
        points.map(|x| (f64::from(f(x)) - truth(f64::from(x))).abs() / f64::from(x.abs()).max(1.0)).fold(0.0, f64::max)
    }

    #[test]
    fn gelu_is_closer_to_the_truth_than_the_formula_in_floats() {
        let truth = |x: f64| 0.5 * x * erfc(-x / std::f64::consts::SQRT_2);
        let error = worst(gelu, truth);
        assert!(error < 8.1e-8, "error {error}");
        // The negative tail keeps its digits too: no difference of nearly equal numbers.
        for step in 1..600u32 {
            let x = step as f32 * -0.01;
            let relative = (f64::from(gelu(x)) / truth(f64::from(x)) - 1.0).abs();
            assert!(relative < 2e-6, "relative error {relative} at {x}");
        }
    }

    #[test]
    fn the_tanh_form_is_that_formula() {
        let truth = |x: f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh());
        let error = worst(gelu_tanh, truth);
        assert!(error < 3e-7, "error {error}");
    }

    #[test]
    fn activations_have_their_limits() {
        for f in [gelu, gelu_tanh] {
            assert_eq!((f(0.0), f(40.0), f(-40.0)), (0.0, 40.0, 0.0));
            assert_eq!((f(f32::MAX), f(f32::INFINITY)), (f32::MAX, f32::INFINITY));
            assert!(f(f32::NAN).is_nan());
        }
    }

    #[test]
    fn a_layer_norm_after_a_sum_has_the_mean_and_variance_that_were_asked_for() {
        for width in [1usize, 15, 32, 50] {
            let x: Vec<f32> = (0..2 * width).map(|i| ((i * 7) % 11) as f32 * 0.3 + 100.0).collect();
            let y: Vec<f32> = x.iter().map(|x| x * 0.5 - 3.0).collect();
            let bias: Vec<f32> = (0..width).map(|i| (i % 3) as f32).collect();
            let (weight, shift) = (vec![2.0; width], vec![0.25; width]);
            let norm = LayerNorm { weight: &weight, bias: &shift, eps: 1e-6 };
            let mut z = x.clone();
            vectorized(
                #[inline(always)]
                || add_layer_norm(&mut z, &y, &bias, norm),
            );
            for row in 0..2 {
                let at = |i: usize| f64::from(x[row * width + i]) + f64::from(y[row * width + i]) + f64::from(bias[i]);
                let mean = (0..width).map(at).sum::<f64>() / width as f64;
                let variance = (0..width).map(|i| (at(i) - mean).powi(2)).sum::<f64>() / width as f64;
                for i in 0..width {
                    let expected = (at(i) - mean) / (variance + 1e-6).sqrt() * 2.0 + 0.25;
                    assert!((f64::from(z[row * width + i]) - expected).abs() < 2e-4, "width {width}, {row} {i}");
                }
            }
        }
    }
}
