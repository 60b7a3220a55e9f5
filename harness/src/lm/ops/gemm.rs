//! Matrix products on slices: candle's kernel (crate `gemm`) with strides, scale and accumulation, which candle's own `matmul` does not
//! offer. Each result element is summed in one order, whatever the number of threads.

use gemm::Parallelism;

/// A matrix over a slice: element `(i, j)` is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows that follow each other.
    pub(super) fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// Rows that start `row_stride` elements apart.
    pub(super) fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transpose.
    pub(super) fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }

    fn fits(&self) -> bool {
        self.rows == 0 || self.cols == 0 || (self.rows - 1) * self.row_stride + (self.cols - 1) * self.col_stride < self.data.len()
    }
}

/// Where a product goes, and how it is computed.
pub(super) struct Target<'a> {
    /// The result's elements.
    pub data: &'a mut [f32],
    /// Distance of its rows' starts.
    pub row_stride: usize,
    /// Add to what is there instead of replacing it.
    pub accumulate: bool,
    /// Use all threads of the pool.
    pub parallel: bool,
}

impl<'a> Target<'a> {
    /// Replaces the rows of `data`, `cols` long, using all threads.
    pub(super) fn parallel(data: &'a mut [f32], cols: usize) -> Self {
        Self { data, row_stride: cols, accumulate: false, parallel: true }
    }

    /// Replaces rows that start `row_stride` apart, on the calling thread.
    pub(super) fn serial(data: &'a mut [f32], row_stride: usize) -> Self {
        Self { data, row_stride, accumulate: false, parallel: false }
    }

    /// The same, but adding.
    pub(super) fn adding(self) -> Self {
        Self { accumulate: true, ..self }
    }
}

/// `target = [target +] scale * lhs * rhs`.
///
/// # Panics
/// When the shapes do not fit each other or their slices.
pub(super) fn gemm(target: Target, scale: f32, lhs: Matrix, rhs: Matrix) {
    let (m, k, n) = (lhs.rows, lhs.cols, rhs.cols);
    if m == 0 || n == 0 {
        return;
    }
    assert_eq!(k, rhs.rows, "inner dimensions of a product");
    assert!(lhs.fits() && rhs.fits(), "a factor reaches past its slice");
    assert!(target.row_stride >= n && (m - 1) * target.row_stride + n <= target.data.len(), "a product reaches past its slice");
    let threads = rayon::current_num_threads();
    let parallelism = if target.parallel && threads > 1 { Parallelism::Rayon(threads) } else { Parallelism::None };
    #[expect(unsafe_code, reason = "the gemm crate takes raw pointers; candle's safe matmul can neither accumulate nor write strided rows")]
    // SAFETY: the assertions above keep every element that the shapes and strides can reach inside its slice; `target` is borrowed
    // mutably, so it overlaps neither factor, and its rows do not overlap each other because its row stride is at least `n`.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            target.data.as_mut_ptr(),
            1,
            target.row_stride as isize,
            target.accumulate,
            lhs.data.as_ptr(),
            lhs.col_stride as isize,
            lhs.row_stride as isize,
            rhs.data.as_ptr(),
            rhs.col_stride as isize,
            rhs.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7) % 11) as f32 - 5.0).collect()
    }

    fn naive(lhs: &Matrix, rhs: &Matrix) -> Vec<f32> {
        let at = |m: &Matrix, i: usize, j: usize| m.data[i * m.row_stride + j * m.col_stride];
        (0..lhs.rows * rhs.cols).map(|c| (0..lhs.cols).map(|k| at(lhs, c / rhs.cols, k) * at(rhs, k, c % rhs.cols)).sum()).collect()
    }

    #[test]
    fn products_of_strided_and_transposed_matrices_are_exact_on_integers() {
        let data = ramp(4000);
        for (m, k, n) in [(1, 5, 7), (3, 1, 2), (17, 33, 9), (64, 32, 50)] {
            let lhs = Matrix::strided(&data, m, k, k + 3);
            let rhs = Matrix::new(&data[5..], n, k).t();
            let mut plain = vec![0.0; m * n];
            gemm(Target::parallel(&mut plain, n), 1.0, lhs, rhs);
            assert_eq!(plain, naive(&lhs, &rhs));
            gemm(Target::serial(&mut plain, n).adding(), 2.0, lhs, rhs);
            assert_eq!(plain, naive(&lhs, &rhs).iter().map(|x| 3.0 * x).collect::<Vec<_>>());
        }
    }

    #[test]
    #[should_panic(expected = "a factor reaches past its slice")]
    fn a_factor_longer_than_its_slice_is_refused() {
        gemm(Target::serial(&mut [0.0; 4], 2), 1.0, Matrix::new(&[1.0; 3], 2, 2), Matrix::new(&[1.0; 4], 2, 2));
    }
}
