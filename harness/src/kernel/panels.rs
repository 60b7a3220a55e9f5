//! Products with panels that grow: keys and values of a sequence, which attention multiplies while they are being written.
#![expect(unsafe_code, reason = "tiles read and write through pointers; bounds are asserted on entry")]

use super::tile::{Form, PANEL, ROWS, Tile, kernels};

/// Columns of a panel: element `(k, j)` of a factor stands at `panels[j / 32 * stride + k * 32 + j % 32]`.
pub const PANEL_COLUMNS: usize = PANEL;

/// A right factor in panels.
#[derive(Clone, Copy)]
pub struct Panels<'a> {
    /// The panels' elements.
    pub data: &'a [f32],
    /// Distance of two panels' starts.
    pub stride: usize,
    /// Inputs used.
    pub depth: usize,
    /// Columns used.
    pub cols: usize,
}

/// Rows that start `stride` apart.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// From the first row's first element on.
    pub data: &'a [f32],
    /// Number of rows.
    pub count: usize,
    /// Distance of two rows' starts.
    pub stride: usize,
}

/// `y = [y +] x b` on the calling thread: `x` `[count, depth]`, `y` `[count, cols]` with rows `y_stride` apart. Each element is one chain of
/// fused multiply-adds over rising inner index.
///
/// # Panics
/// When a factor or the result does not fit its slice.
pub fn multiply_panels(x: Rows, b: Panels, y: &mut [f32], y_stride: usize, add: bool) {
    if x.count == 0 || b.cols == 0 {
        return;
    }
    assert!((x.count - 1) * x.stride + b.depth <= x.data.len(), "the left factor reaches past its slice");
    assert!((b.cols - 1) / PANEL * b.stride + b.depth * PANEL <= b.data.len(), "the panels reach past their slice");
    assert!(y_stride >= b.cols && (x.count - 1) * y_stride + b.cols <= y.len(), "the product reaches past its slice");
    for row in (0..x.count).step_by(ROWS) {
        let tile = Tile {
            a: x.data.as_ptr().wrapping_add(row * x.stride),
            a_row: x.stride,
            a_step: 1,
            b: b.data.as_ptr().cast(),
            column: 0,
            c: y.as_mut_ptr().wrapping_add(row * y_stride),
            c_row: y_stride,
            depth: b.depth,
            cols: b.cols,
            add,
        };
        // SAFETY: the assertions above hold every row, panel and result inside its slice; `y` is borrowed mutably.
        unsafe { kernels().run_panels(Form::F32, ROWS.min(x.count - row), 4 * b.stride, tile) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growing_panels_give_the_plain_product() {
        let (depth, cols, capacity) = (5usize, 70usize, 9usize);
        let value = |k: usize, j: usize| ((k * 31 + j * 7) % 13) as f32 - 6.0;
        let mut data = vec![f32::NAN; cols.div_ceil(PANEL) * capacity * PANEL];
        for k in 0..depth {
            for j in 0..cols {
                data[j / PANEL * capacity * PANEL + k * PANEL + j % PANEL] = value(k, j);
            }
        }
        let b = Panels { data: &data, stride: capacity * PANEL, depth, cols };
        let x: Vec<f32> = (0..15 * 6).map(|i| (i % 7) as f32 - 3.0).collect();
        let mut y = vec![1.0; 15 * 80];
        multiply_panels(Rows { data: &x, count: 15, stride: 6 }, b, &mut y, 80, true);
        for i in 0..15 {
            for j in 0..80 {
                let expected = if j < cols { 1.0 + (0..depth).map(|k| x[i * 6 + k] * value(k, j)).sum::<f32>() } else { 1.0 };
                assert_eq!(y[i * 80 + j], expected, "{i} {j}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "the panels reach past their slice")]
    fn panels_shorter_than_their_columns_are_refused() {
        let b = Panels { data: &[0.0; 64], stride: 32, depth: 1, cols: 65 };
        multiply_panels(Rows { data: &[1.0], count: 1, stride: 1 }, b, &mut [0.0; 65], 65, false);
    }
}
