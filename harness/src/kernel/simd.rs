//! Loops that LLVM turns into vector code, compiled again for AVX2 and for AVX-512 and chosen at run time.
//!
//! Sums run in sixteen lanes whatever the instruction set, and nothing is contracted to a fused multiply-add, so the bits of a result
//! depend neither on the processor nor on the number of threads.

use rayon::prelude::*;

/// Lanes of a sum.
const LANES: usize = 16;

/// Elements that a thread takes at a time: enough to outweigh the hand-over.
const CHUNK: usize = 16 * 1024;

/// Runs `kernel` with the widest instructions the processor has (AVX-512, AVX2, else the build's baseline). It must be a closure marked
/// `#[inline(always)]` that calls nothing but functions marked so.
#[inline]
pub fn vectorized<R>(kernel: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(v4) = pulp::x86::V4::try_new() {
            return pulp::Simd::vectorize(v4, kernel);
        }
        if let Some(v3) = pulp::x86::V3::try_new() {
            return pulp::Simd::vectorize(v3, kernel);
        }
    }
    kernel()
}

/// Rows of `width` elements in a chunk; depends on the shape alone.
pub fn rows_per_chunk(width: usize) -> usize {
    (CHUNK / width.max(1)).max(1)
}

/// Calls `kernel(first_row, rows)` for consecutive chunks of `out`, whose rows are `width` long, on all threads.
pub fn for_row_chunks(out: &mut [f32], width: usize, kernel: impl Fn(usize, &mut [f32]) + Sync) {
    let rows = rows_per_chunk(width);
    if out.len() <= rows * width {
        kernel(0, out);
    } else {
        out.par_chunks_mut(rows * width).enumerate().for_each(|(index, chunk)| kernel(index * rows, chunk));
    }
}

/// `sum a b`.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    fold(lanes) + tail
}

/// `sum x`.
#[inline(always)]
pub fn sum(x: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let chunks = x.chunks_exact(LANES);
    let tail: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += chunk[lane];
        }
    }
    fold(lanes) + tail
}

/// Sum of the lanes, pairwise.
#[inline(always)]
fn fold(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// The greatest element; NaN is passed over. Minus infinity when empty.
#[inline(always)]
pub fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = x.chunks_exact(LANES);
    let greater = |a: f32, b: f32| if a > b { a } else { b };
    let tail = chunks.remainder().iter().copied().fold(f32::NEG_INFINITY, greater);
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = greater(chunk[lane], lanes[lane]);
        }
    }
    lanes.into_iter().fold(tail, greater)
}

/// Replaces every element by `exp(x - shift)` and gives their sum.
#[inline(always)]
pub fn exp_in_place(x: &mut [f32], shift: f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let mut chunks = x.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for value in chunk.iter_mut() {
            *value = exp(*value - shift);
        }
        for (sum, value) in lanes.iter_mut().zip(chunk.iter()) {
            *sum += value;
        }
    }
    let mut tail = 0.0;
    for x in chunks.into_remainder() {
        *x = exp(*x - shift);
        tail += *x;
    }
    fold(lanes) + tail
}

/// `e^x` to within 1.2e-7 of the true value, relatively (the scheme of Cephes `expf`: `x = n ln 2 + r`, a polynomial in `r`, then `n`
/// into the exponent). Zero below -87.33 (where the result would be subnormal), infinite above 88.37, NaN for NaN.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// Adding and taking it away again rounds to an integer, which the low bits of the sum hold.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let clamped = if x < -87.33 { -87.33 } else { x };
    let clamped = if clamped > 88.37 { 88.37 } else { clamped };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (clamped - n * LN_2_HIGH) - n * LN_2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 5e-1;
    let mantissa = (p * r * r + r) + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
    let value = mantissa * power;
    let value = if x < -87.33 { 0.0 } else { value };
    if x > 88.37 { f32::INFINITY } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_a_rounding_of_the_truth() {
        let mut worst = 0f64;
        for step in 0..4_000_000u32 {
            let x = -87.3 + step as f32 * (175.6 / 4e6);
            let truth = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - truth).abs() / truth);
        }
        assert!(worst < 1.2e-7, "worst relative error {worst}");
    }

    #[test]
    fn exp_has_its_limits() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-200.0), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn vector_code_and_plain_code_give_the_same_bits() {
        let x: Vec<f32> = (0..1003).map(|i| ((i * 37) % 101) as f32 * 0.13 - 6.0).collect();
        let run = |x: &[f32]| {
            let mut y = x.to_vec();
            let sum = exp_in_place(&mut y, 1.5);
            (y, sum, dot(x, x), max(x))
        };
        assert_eq!(
            run(&x),
            vectorized(
                #[inline(always)]
                || run(&x)
            )
        );
    }

    #[test]
    fn sums_agree_with_plain_loops() {
        for n in [0, 1, 15, 16, 17, 100] {
            let x: Vec<f32> = (0..n).map(|i| (i % 7) as f32).collect();
            assert_eq!(dot(&x, &x), x.iter().map(|x| x * x).sum::<f32>());
            assert_eq!(sum(&x), x.iter().sum::<f32>());
            assert_eq!(max(&x), x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }
}
