//! Products of matrices that lie anywhere in slices, with strides, scale and accumulation.
#![expect(unsafe_code, reason = "tiles write through pointers to disjoint parts of one slice; bounds are asserted on entry")]

use std::cell::RefCell;

use rayon::prelude::*;

use super::tile::{Form, PANEL, ROWS, Tile, kernels};
use super::transpose;

/// Inputs of a block: twelve rows of them fit the first-level cache beside the panel's.
const DEPTH: usize = 384;

/// Panels that are packed at a time: with [`DEPTH`] inputs 480 KiB, half of a second-level cache.
const PANELS: usize = 10;

/// Products smaller than this (multiply-adds) stay on one thread: handing over would cost more.
const PARALLEL: usize = 1 << 18;

/// A matrix over a slice: element `(i, j)` is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows that follow each other.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// Rows that start `row_stride` elements apart.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }

    fn fits(&self) -> bool {
        self.rows == 0 || self.cols == 0 || (self.rows - 1) * self.row_stride + (self.cols - 1) * self.col_stride < self.data.len()
    }

    /// The part from `(row, col)` on, `rows` by `cols`.
    fn part(self, row: usize, col: usize, rows: usize, cols: usize) -> Self {
        let start = row * self.row_stride + col * self.col_stride;
        Self { data: self.data.get(start..).unwrap_or(&[]), rows, cols, ..self }
    }
}

/// Where a product goes, and how it is computed.
pub struct Target<'a> {
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
    pub fn parallel(data: &'a mut [f32], cols: usize) -> Self {
        Self { data, row_stride: cols, accumulate: false, parallel: true }
    }

    /// Replaces rows that start `row_stride` apart, on the calling thread.
    pub fn serial(data: &'a mut [f32], row_stride: usize) -> Self {
        Self { data, row_stride, accumulate: false, parallel: false }
    }

    /// The same, but adding.
    pub fn adding(self) -> Self {
        Self { accumulate: true, ..self }
    }
}

/// The result's elements, for the threads that share it.
#[derive(Clone, Copy)]
struct Output {
    data: *mut f32,
    row_stride: usize,
}

// SAFETY: `gemm` gives each task rows and columns that no other task has.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

/// `target = [target +] scale * lhs * rhs`. Each element is one chain of fused multiply-adds over rising inner index, from zero or from what
/// the target holds; `lhs` is scaled first.
///
/// # Panics
/// When the shapes do not fit each other or their slices.
pub fn gemm(target: Target, scale: f32, lhs: Matrix, rhs: Matrix) {
    let (m, k, n) = (lhs.rows, lhs.cols, rhs.cols);
    if m == 0 || n == 0 {
        return;
    }
    assert_eq!(k, rhs.rows, "inner dimensions of a product");
    assert!(lhs.fits() && rhs.fits(), "a factor reaches past its slice");
    assert!(target.row_stride >= n && (m - 1) * target.row_stride + n <= target.data.len(), "a product reaches past its slice");
    if k == 0 {
        if !target.accumulate {
            target.data.chunks_mut(target.row_stride).take(m).for_each(|row| row[..n].fill(0.0));
        }
        return;
    }
    let output = Output { data: target.data.as_mut_ptr(), row_stride: target.row_stride };
    let threads = rayon::current_num_threads();
    if !target.parallel || threads == 1 || m * n * k < PARALLEL {
        // SAFETY: this thread alone writes, inside the slice by the assertion above.
        return unsafe { block(output, target.accumulate, scale, lhs, rhs) };
    }
    // Twice as many tasks as threads, so that a thread that was held up leaves work to the others.
    let panels = n.div_ceil(PANEL);
    if panels >= 2 * threads {
        let width = panels.div_ceil(2 * threads) * PANEL;
        (0..n.div_ceil(width)).into_par_iter().for_each(|task| {
            let (first, count) = (task * width, width.min(n - task * width));
            let part = Output { data: output_at(output, 0, first), ..output };
            // SAFETY: tasks have disjoint columns.
            unsafe { block(part, target.accumulate, scale, lhs, rhs.part(0, first, k, count)) };
        });
    } else {
        let height = m.div_ceil(2 * threads).next_multiple_of(ROWS);
        (0..m.div_ceil(height)).into_par_iter().for_each(|task| {
            let (first, count) = (task * height, height.min(m - task * height));
            let part = Output { data: output_at(output, first, 0), ..output };
            // SAFETY: tasks have disjoint rows.
            unsafe { block(part, target.accumulate, scale, lhs.part(first, 0, count, k), rhs) };
        });
    }
}

fn output_at(output: Output, row: usize, col: usize) -> *mut f32 {
    output.data.wrapping_add(row * output.row_stride + col)
}

thread_local! {
    /// Packed panels of the right factor, and staged rows of the left one.
    static SCRATCH: RefCell<(Vec<f32>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// A product on one thread.
///
/// # Safety
/// `output` must be good for `lhs.rows` rows of `rhs.cols`, and nobody else may use them meanwhile.
unsafe fn block(output: Output, accumulate: bool, scale: f32, lhs: Matrix, rhs: Matrix) {
    let (m, k, n) = (lhs.rows, lhs.cols, rhs.cols);
    SCRATCH.with_borrow_mut(|(panels, rows)| {
        for first_col in (0..n).step_by(PANELS * PANEL) {
            let cols = (PANELS * PANEL).min(n - first_col);
            for first_k in (0..k).step_by(DEPTH) {
                let depth = DEPTH.min(k - first_k);
                pack(rhs.part(first_k, first_col, depth, cols), panels);
                let add = accumulate || first_k > 0;
                for first_row in (0..m).step_by(ROWS) {
                    let count = ROWS.min(m - first_row);
                    let left = lhs.part(first_row, first_k, count, depth);
                    let (a, a_row, a_step) = stage(left, scale, rows);
                    let c = output_at(output, first_row, first_col);
                    let tile =
                        Tile { a, a_row, a_step, b: panels.as_ptr().cast(), column: 0, c, c_row: output.row_stride, depth, cols, add };
                    // SAFETY: `a` reaches `count` rows of `depth` elements of the staged or borrowed factor, the panels hold `depth` inputs
                    // of `cols` columns, and the caller vouches for `c`.
                    unsafe { kernels().run_panels(Form::F32, count, 4 * PANEL * depth, tile) };
                }
            }
        }
    });
}

/// Copies a factor into panels `[panel][k][32]`, the last one filled up with zeros.
fn pack(rhs: Matrix, panels: &mut Vec<f32>) {
    let (depth, cols) = (rhs.rows, rhs.cols);
    panels.resize(cols.div_ceil(PANEL) * depth * PANEL, 0.0);
    for (index, panel) in panels.chunks_exact_mut(depth * PANEL).enumerate() {
        let first = index * PANEL;
        let count = PANEL.min(cols - first);
        if rhs.col_stride == 1 {
            for (k, line) in panel.chunks_exact_mut(PANEL).enumerate() {
                line[..count].copy_from_slice(&rhs.data[k * rhs.row_stride + first..][..count]);
                line[count..].fill(0.0);
            }
        } else {
            pack_transposed(rhs, first, count, panel);
        }
    }
}

/// One panel of a factor whose columns lie side by side in memory.
fn pack_transposed(rhs: Matrix, first: usize, count: usize, panel: &mut [f32]) {
    let column = |j: usize| &rhs.data[(first + j) * rhs.col_stride..];
    let mut done = 0;
    while rhs.row_stride == 1 && done + 8 <= count {
        transpose::turn(std::array::from_fn(|j| &column(done + j)[..rhs.rows]), done, panel);
        done += 8;
    }
    for (k, line) in panel.chunks_exact_mut(PANEL).enumerate() {
        for (j, to) in line.iter_mut().enumerate().skip(done) {
            *to = if j < count { column(j)[k * rhs.row_stride] } else { 0.0 };
        }
    }
}

/// Rows of the left factor as the tile wants them, `(start, row stride, step)`: where they are, or copied when they are scattered or scaled.
fn stage(lhs: Matrix, scale: f32, rows: &mut Vec<f32>) -> (*const f32, usize, usize) {
    // Rows a multiple of a page apart would fight for the same few cache sets.
    let crowded = lhs.rows > 4 && lhs.row_stride.is_multiple_of(1024);
    if lhs.col_stride == 1 && scale == 1.0 && !crowded {
        return (lhs.data.as_ptr(), lhs.row_stride, 1);
    }
    rows.clear();
    if lhs.col_stride == 1 {
        for i in 0..lhs.rows {
            rows.extend(lhs.data[i * lhs.row_stride..][..lhs.cols].iter().map(|x| x * scale));
        }
        return (rows.as_ptr(), lhs.cols, 1);
    }
    let column = |k: usize| &lhs.data[k * lhs.col_stride..];
    if lhs.row_stride == 1 && lhs.rows == ROWS {
        // A length that the compiler knows is copied in registers.
        for k in 0..lhs.cols {
            let values: [f32; ROWS] = column(k).first_chunk::<ROWS>().expect("twelve rows").map(|x| x * scale);
            rows.extend_from_slice(&values);
        }
    } else {
        for k in 0..lhs.cols {
            rows.extend((0..lhs.rows).map(|i| column(k)[i * lhs.row_stride] * scale));
        }
    }
    (rows.as_ptr(), 1, lhs.rows)
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
        let data = ramp(600_000);
        for (m, k, n) in [(1, 5, 7), (3, 1, 2), (17, 33, 9), (64, 32, 50), (25, 800, 70), (100, 64, 640)] {
            for (lhs, rhs) in [
                (Matrix::strided(&data, m, k, k + 3), Matrix::new(&data[5..], n, k).t()),
                (Matrix::new(&data, k, m).t(), Matrix::strided(&data[5..], k, n, n + 1)),
                (Matrix::strided(&data, m, k, 1024.max(k)), Matrix::new(&data[5..], k, n)),
            ] {
                let mut plain = vec![0.0; m * n];
                gemm(Target::parallel(&mut plain, n), 1.0, lhs, rhs);
                assert_eq!(plain, naive(&lhs, &rhs));
                gemm(Target::serial(&mut plain, n).adding(), 2.0, lhs, rhs);
                assert_eq!(plain, naive(&lhs, &rhs).iter().map(|x| 3.0 * x).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn an_empty_inner_dimension_gives_zeros() {
        let mut out = [1.0; 6];
        gemm(Target::serial(&mut out, 3), 1.0, Matrix::new(&[], 2, 0), Matrix::new(&[], 0, 2));
        assert_eq!(out, [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    #[should_panic(expected = "a factor reaches past its slice")]
    fn a_factor_longer_than_its_slice_is_refused() {
        gemm(Target::serial(&mut [0.0; 4], 2), 1.0, Matrix::new(&[1.0; 3], 2, 2), Matrix::new(&[1.0; 4], 2, 2));
    }
}
