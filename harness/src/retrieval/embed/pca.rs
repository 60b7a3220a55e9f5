//! Principal components, for reducing a table of vectors. Everything in 64-bit floats and in a fixed order.

/// Sweeps after which the rotations have always converged for symmetric matrices of a few hundred rows.
const MAX_SWEEPS: usize = 30;

/// Mean and leading principal axes of some vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct Principal {
    mean: Vec<f64>,
    /// Unit axes by falling variance.
    axes: Vec<Vec<f64>>,
    /// Part of the variance that the axes keep, 0 to 1.
    pub kept_variance: f64,
}

impl Principal {
    /// The `dimension` leading axes of `rows` (one length, at least one row; `dimension` at most that length). An axis points where its
    /// largest component is positive.
    pub fn fit(rows: &[Vec<f32>], dimension: usize) -> Self {
        let width = rows[0].len();
        let mut mean = vec![0.0; width];
        for row in rows {
            mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += f64::from(*value));
        }
        mean.iter_mut().for_each(|mean| *mean /= rows.len() as f64);
        let (values, axes) = eigen(covariance(rows, &mean), width);
        let kept_variance = values[..dimension].iter().sum::<f64>() / values.iter().sum::<f64>();
        let axes = axes.into_iter().take(dimension).map(pointing_up).collect();
        Self { mean, axes, kept_variance }
    }

    /// Coordinates of a vector on the axes.
    pub fn project(&self, row: &[f32]) -> Vec<f32> {
        let on = |axis: &Vec<f64>| {
            axis.iter().zip(row).zip(&self.mean).map(|((axis, value), mean)| axis * (f64::from(*value) - mean)).sum::<f64>()
        };
        self.axes.iter().map(|axis| on(axis) as f32).collect()
    }
}

fn pointing_up(mut axis: Vec<f64>) -> Vec<f64> {
    let largest = axis.iter().copied().fold(0.0f64, |best, value| if value.abs() > best.abs() { value } else { best });
    if largest < 0.0 {
        axis.iter_mut().for_each(|value| *value = -*value);
    }
    axis
}

/// Sum of outer products around the mean, row after row; not divided by the count, which changes no axis.
fn covariance(rows: &[Vec<f32>], mean: &[f64]) -> Vec<f64> {
    let width = mean.len();
    let mut sum = vec![0.0; width * width];
    for row in rows {
        let centred: Vec<f64> = row.iter().zip(mean).map(|(value, mean)| f64::from(*value) - mean).collect();
        for (i, &left) in centred.iter().enumerate() {
            sum[i * width..][..width].iter_mut().zip(&centred).for_each(|(sum, right)| *sum += left * right);
        }
    }
    sum
}

/// Eigenvalues, falling, and unit eigenvectors of a symmetric matrix, by cyclic Jacobi rotations (Golub and Van Loan, section 8.5).
fn eigen(mut matrix: Vec<f64>, n: usize) -> (Vec<f64>, Vec<Vec<f64>>) {
    let mut vectors = vec![0.0; n * n];
    (0..n).for_each(|i| vectors[i * n + i] = 1.0);
    let total: f64 = matrix.iter().map(|value| value * value).sum();
    for _ in 0..MAX_SWEEPS {
        if off_diagonal(&matrix, n) <= total * 1e-24 {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut matrix, &mut vectors, n, p, q);
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&left, &right| matrix[right * n + right].total_cmp(&matrix[left * n + left]));
    let values = order.iter().map(|&i| matrix[i * n + i]).collect();
    let axes = order.iter().map(|&i| vectors[i * n..][..n].to_vec()).collect();
    (values, axes)
}

fn off_diagonal(matrix: &[f64], n: usize) -> f64 {
    let square = |(i, value): (usize, &f64)| if i / n == i % n { 0.0 } else { value * value };
    matrix.iter().enumerate().map(square).sum()
}

/// Makes the element at `p`, `q` zero by a rotation in their plane; `vectors` holds eigenvectors as rows.
fn rotate(matrix: &mut [f64], vectors: &mut [f64], n: usize, p: usize, q: usize) {
    let off = matrix[p * n + q];
    if off == 0.0 {
        return;
    }
    let slope = (matrix[q * n + q] - matrix[p * n + p]) / (2.0 * off);
    let tangent = if slope >= 0.0 { 1.0 } else { -1.0 } / (slope.abs() + (1.0 + slope * slope).sqrt());
    let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
    let sine = tangent * cosine;
    for k in 0..n {
        let (left, right) = (matrix[k * n + p], matrix[k * n + q]);
        matrix[k * n + p] = cosine * left - sine * right;
        matrix[k * n + q] = sine * left + cosine * right;
    }
    rotate_rows(matrix, n, p, q, cosine, sine);
    rotate_rows(vectors, n, p, q, cosine, sine);
}

fn rotate_rows(matrix: &mut [f64], n: usize, p: usize, q: usize, cosine: f64, sine: f64) {
    let (head, tail) = matrix.split_at_mut(q * n);
    let (upper, lower) = (&mut head[p * n..][..n], &mut tail[..n]);
    for (left, right) in upper.iter_mut().zip(lower) {
        (*left, *right) = (cosine * *left - sine * *right, sine * *left + cosine * *right);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn eigenvectors_rebuild_a_symmetric_matrix() {
        let n = 20;
        let mut rng = Rng::new(1, "symmetric");
        let mut matrix = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..=i {
                let value = rng.normal();
                matrix[i * n + j] = value;
                matrix[j * n + i] = value;
            }
        }
        let (values, axes) = eigen(matrix.clone(), n);
        assert!(values.windows(2).all(|pair| pair[0] >= pair[1]));
        for i in 0..n {
            for j in 0..n {
                let rebuilt: f64 = (0..n).map(|k| values[k] * axes[k][i] * axes[k][j]).sum();
                assert!((rebuilt - matrix[i * n + j]).abs() < 1e-10);
                let inner: f64 = axes[i].iter().zip(&axes[j]).map(|(a, b)| a * b).sum();
                assert!((inner - f64::from(u8::from(i == j))).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn the_first_axis_follows_the_spread_and_the_mean_is_taken_off() {
        let rows: Vec<Vec<f32>> = (0..11).map(|i| vec![5.0 + 3.0 * i as f32, 1.0 + 4.0 * i as f32, 7.0]).collect();
        let principal = Principal::fit(&rows, 1);
        assert!((principal.kept_variance - 1.0).abs() < 1e-12);
        assert!((principal.project(&rows[5])[0]).abs() < 1e-5);
        assert!((principal.project(&rows[6])[0] - 5.0).abs() < 1e-5);
    }
}
