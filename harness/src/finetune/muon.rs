//! Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): momentum whose update is replaced by a nearby orthogonal matrix.

use candle_core::{Device, Result, Tensor};

/// Coefficients of the quintic iteration; they lift small singular values fast and leave all of them within about 0.7 to 1.2.
const QUINTIC: (f64, f64, f64) = (3.4445, -4.7750, 2.0315);

/// Updates the momentum in place and gives the direction to subtract, scaled by `sqrt(max(1, rows / cols))`.
///
/// `gradient` and `momentum` are row-major `[rows, cols]`. Nesterov: the gradient is mixed in once more after the momentum's update.
pub(super) fn direction(
    gradient: &[f32],
    momentum: &mut [f32],
    beta: f32,
    iterations: usize,
    rows: usize,
    cols: usize,
) -> Result<Vec<f32>> {
    let mut mixed = vec![0f32; gradient.len()];
    for ((mixed, past), &g) in mixed.iter_mut().zip(momentum.iter_mut()).zip(gradient) {
        *past += (1.0 - beta) * (g - *past);
        *mixed = g + beta * (*past - g);
    }
    let scale = (rows as f64 / cols as f64).max(1.0).sqrt();
    let update = (orthogonalise(&Tensor::from_vec(mixed, (rows, cols), &Device::Cpu)?, iterations)? * scale)?;
    update.flatten_all()?.to_vec1()
}

/// Newton-Schulz iteration towards `U V^T` of the singular value decomposition `U S V^T`.
fn orthogonalise(matrix: &Tensor, iterations: usize) -> Result<Tensor> {
    let (rows, cols) = matrix.dims2()?;
    // The Gram matrix of the shorter side is the smaller one.
    let tall = rows > cols;
    let matrix = if tall { matrix.t()?.contiguous()? } else { matrix.clone() };
    let norm = f64::from(matrix.sqr()?.sum_all()?.to_scalar::<f32>()?.sqrt()) + 1e-7;
    let mut x = (matrix / norm)?;
    let (a, b, c) = QUINTIC;
    for _ in 0..iterations {
        let gram = x.matmul(&x.t()?)?;
        let polynomial = ((&gram * b)? + (gram.matmul(&gram)? * c)?)?;
        x = ((&x * a)? + polynomial.matmul(&x)?)?;
    }
    if tall { x.t()?.contiguous() } else { Ok(x) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_is_nearly_orthogonal_whatever_the_gradient() {
        let mut rng = crate::rng::Rng::new(5, "muon");
        for (rows, cols) in [(6usize, 20usize), (20, 6)] {
            let gradient: Vec<f32> = (0..rows * cols).map(|_| (rng.normal() * 1e-3) as f32).collect();
            let update = direction(&gradient, &mut vec![0.0; rows * cols], 0.95, 5, rows, cols).unwrap();
            let scale = (rows as f32 / cols as f32).max(1.0).sqrt();
            let side = rows.min(cols);
            let mean_square = update.iter().map(|u| (u / scale).powi(2)).sum::<f32>() / side as f32;
            assert!((0.5..1.5).contains(&mean_square), "{rows}x{cols}: mean squared singular value {mean_square}");
        }
    }
}
