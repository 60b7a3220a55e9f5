//! A linear layer's weights, laid out once for the product `x W^T`: panels of 32 outputs, in which the values of one input lie side by side.
//!
//! A decoding step reads every weight once, so it runs at the speed of memory; the panels are read in one rising stream. The forms: 32-bit
//! floats; bfloat16; and 8-bit integers with a half-float scale per 32 inputs (GGUF's `q8_0`). The lower ones are widened (in registers for
//! few rows, once for all of many) and multiplied with the unrounded `x`: the product is exactly that of the rounded weights.
#![expect(unsafe_code, reason = "tiles write through pointers to disjoint parts of one slice; bounds are asserted on entry")]

use std::cell::RefCell;

use half::{bf16, f16};
use memmap2::{Advice, MmapMut};
use rayon::prelude::*;

use super::team::Team;
use super::tile::{BLOCK, BLOCK_BYTES, Form, PANEL, ROWS, Tile, kernels};

/// Inputs of a block of larger products.
const DEPTH: usize = 384;

/// Panels of a block of larger products.
const PANELS: usize = 10;

/// From how many rows on a block of panels of a lower form is widened once, in the cache, and not by every tile in its registers: prompts, not
/// batches. At 32 rows it made bfloat16 slower by a tenth, at 512 it makes `q8_0` faster by a seventh.
const WIDEN_ROWS: usize = 96;

/// From how many multiply-adds on a team shares a product, when its weights come from memory: streaming them is slow.
pub const PARALLEL_FROM_MEMORY: usize = 1 << 15;

/// The same when its weights are likely in a cache: handing over costs as much as a small product.
pub const PARALLEL_FROM_CACHE: usize = 1 << 17;

/// How weights are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightForm {
    /// 32-bit floats.
    F32,
    /// bfloat16: 8 bits of mantissa.
    Bf16,
    /// 8-bit integers, one half-float scale per 32 inputs of an output (`q8_0`).
    Q8,
}

impl WeightForm {
    fn form(self) -> Form {
        match self {
            Self::F32 => Form::F32,
            Self::Bf16 => Form::Bf16,
            Self::Q8 => Form::Q8,
        }
    }

    /// Bytes of so many weights, about: panels may end in filler.
    pub fn bytes(self, weights: usize) -> u64 {
        match self {
            Self::F32 => 4 * weights as u64,
            Self::Bf16 => 2 * weights as u64,
            Self::Q8 => (weights.div_ceil(BLOCK) * (BLOCK + 2)) as u64,
        }
    }

    /// The smallest form that holds weights, rows of `inputs` each, without another loss than this form's: files of bfloat16 and of `q8_0` lose
    /// nothing in their own form, and give the same bits as in f32.
    pub fn smallest(self, parts: &[&[f32]], inputs: usize) -> Self {
        let all = |exact: fn(&[f32]) -> bool| parts.par_iter().all(|part| part.par_chunks_exact(inputs).all(exact));
        match self {
            Self::F32 if all(is_q8) => Self::Q8,
            Self::F32 if all(is_bf16) => Self::Bf16,
            own => own,
        }
    }

    /// Bytes of a panel of `inputs` inputs.
    fn panel_bytes(self, inputs: usize) -> usize {
        match self {
            Self::F32 => 4 * PANEL * inputs,
            Self::Bf16 => 2 * PANEL * inputs,
            Self::Q8 => inputs.div_ceil(BLOCK) * BLOCK_BYTES,
        }
    }
}

/// Packed weights `[out, in]`.
pub struct Packed {
    form: WeightForm,
    outputs: usize,
    inputs: usize,
    /// Anonymous memory; large pages are asked for, since a stream over many small ones waits for address translation.
    panels: MmapMut,
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "Packed({:?}, {} x {})", self.form, self.outputs, self.inputs)
    }
}

impl Packed {
    /// Packs weights whose output rows, each `inputs` long, stand in `parts` one after the other: layers that share their input become one.
    ///
    /// # Errors
    /// When the system has no memory for it.
    ///
    /// # Panics
    /// When a part is not a whole number of rows.
    pub fn new(parts: &[&[f32]], inputs: usize, form: WeightForm) -> std::io::Result<Self> {
        assert!(inputs > 0 && parts.iter().all(|part| part.len().is_multiple_of(inputs)), "weights are whole rows");
        let rows: Vec<&[f32]> = parts.iter().flat_map(|part| part.chunks_exact(inputs)).collect();
        let panel_bytes = form.panel_bytes(inputs);
        let mut panels = MmapMut::map_anon((rows.len().div_ceil(PANEL) * panel_bytes).max(1))?;
        // Advice only: a system without large pages goes on with small ones.
        #[cfg(target_os = "linux")]
        let _ = panels.advise(Advice::HugePage);
        panels.par_chunks_mut(panel_bytes).zip(rows.par_chunks(PANEL)).for_each(|(panel, rows)| match form {
            WeightForm::F32 => pack(panel, rows, |to: &mut [u8; 4], w| *to = w.to_le_bytes()),
            WeightForm::Bf16 => pack(panel, rows, |to: &mut [u8; 2], w| *to = bf16::from_f32(w).to_le_bytes()),
            WeightForm::Q8 => pack_q8(panel, rows),
        });
        Ok(Self { form, outputs: rows.len(), inputs, panels })
    }

    /// Rows of the weight matrix.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Columns of the weight matrix.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Writes row `index` of the weight matrix as f32.
    ///
    /// # Panics
    /// When there is no such row, or `to` is not as long.
    pub fn row(&self, index: usize, to: &mut [f32]) {
        assert!(index < self.outputs && to.len() == self.inputs, "row {index} of {}", self.outputs);
        let panel_bytes = self.form.panel_bytes(self.inputs);
        let (panel, column) = (&self.panels[index / PANEL * panel_bytes..][..panel_bytes], index % PANEL);
        let half = |at: usize| u16::from_le_bytes([panel[at], panel[at + 1]]);
        for (k, to) in to.iter_mut().enumerate() {
            let element = k * PANEL + column;
            *to = match self.form {
                WeightForm::F32 => f32::from_le_bytes(*panel[4 * element..].first_chunk().expect("four bytes")),
                WeightForm::Bf16 => bf16::from_bits(half(2 * element)).to_f32(),
                WeightForm::Q8 => {
                    let block = k / BLOCK * BLOCK_BYTES;
                    let byte = panel[block + 2 * PANEL + k % BLOCK * PANEL + column] as i8;
                    f32::from(byte) * f16::from_bits(half(block + 2 * column)).to_f32()
                }
            };
        }
    }

    /// Bytes of the panels.
    pub fn bytes(&self) -> usize {
        self.panels.len()
    }

    /// `y = [y +] x W^T` for `x` `[rows, in]` and `y` `[rows, out]`, both dense. A row of `y` has the same bits whatever the other rows are and
    /// however many threads there are. The team shares it from `parallel` multiply-adds on.
    ///
    /// # Panics
    /// When the lengths do not fit.
    pub fn multiply(&self, x: &[f32], y: &mut [f32], add: bool, team: &Team, parallel: usize) {
        assert!(x.len().is_multiple_of(self.inputs), "whole rows of inputs");
        let rows = x.len() / self.inputs;
        assert_eq!(y.len(), rows * self.outputs, "rows of outputs");
        if rows == 0 || self.outputs == 0 {
            return;
        }
        let output = Output(y.as_mut_ptr());
        let panels = self.outputs.div_ceil(PANEL);
        let threads = team.threads();
        if threads == 1 || rows * self.inputs * self.outputs < parallel {
            // SAFETY: this thread alone writes `y`.
            return unsafe { self.block(x, (0, rows), (0, panels), output, add) };
        }
        if panels >= threads {
            // Few rows: one stream of weights per thread. Many: smaller pieces, so that a held-up thread leaves work to the others.
            let pieces = if rows <= ROWS { threads } else { (4 * threads).min(panels) };
            team.run(pieces, &|piece| {
                let range = (piece * panels / pieces, (piece + 1) * panels / pieces);
                // SAFETY: pieces have disjoint panels, and so disjoint columns of `y`.
                unsafe { self.block(x, (0, rows), range, output, add) };
            });
        } else {
            let height = rows.div_ceil(2 * threads).next_multiple_of(ROWS);
            team.run(rows.div_ceil(height), &|piece| {
                let range = (piece * height, rows.min((piece + 1) * height));
                // SAFETY: pieces have disjoint rows of `y`.
                unsafe { self.block(x, range, (0, panels), output, add) };
            });
        }
    }

    /// Rows `first_row..end_row` of the product, for the outputs of panels `first..end`.
    ///
    /// # Safety
    /// Nobody else may use that part of the output meanwhile.
    unsafe fn block(&self, x: &[f32], (first_row, end_row): (usize, usize), (first, end): (usize, usize), output: Output, add: bool) {
        let rows = end_row - first_row;
        // A small batch reads each panel once, from front to back.
        let (depth, group) = if rows <= ROWS { (self.inputs, end - first) } else { (DEPTH, PANELS) };
        let is_widened = self.form != WeightForm::F32 && rows >= WIDEN_ROWS;
        SCRATCH.with_borrow_mut(|scratch| {
            for panel in (first..end).step_by(group.max(1)) {
                let col = panel * PANEL;
                let cols = ((panel + group).min(end) * PANEL).min(self.outputs) - col;
                for k in (0..self.inputs).step_by(depth) {
                    let depth = depth.min(self.inputs - k);
                    let (form, b, panel_bytes) = if is_widened {
                        self.widen(panel..(panel + group).min(end), k, depth, scratch);
                        (Form::F32, scratch.as_ptr().cast(), Form::F32.offset(depth))
                    } else {
                        (self.form.form(), self.at(panel, k), self.form.panel_bytes(self.inputs))
                    };
                    for row in (first_row..end_row).step_by(ROWS) {
                        let tile = Tile {
                            a: x.as_ptr().wrapping_add(row * self.inputs + k),
                            a_row: self.inputs,
                            a_step: 1,
                            b,
                            column: 0,
                            c: output.0.wrapping_add(row * self.outputs + col),
                            c_row: self.outputs,
                            depth,
                            cols,
                            add: add || k > 0,
                        };
                        // SAFETY: rows and inputs lie inside `x` and the panels inside their memory or the scratch, by the loops' bounds;
                        // the caller vouches for the output.
                        unsafe { kernels().run_panels(form, ROWS.min(end_row - row), panel_bytes, tile) };
                    }
                }
            }
        });
    }

    /// Where the values of input `k`, which starts a block, begin in a panel.
    fn at(&self, panel: usize, k: usize) -> *const u8 {
        self.panels[panel * self.form.panel_bytes(self.inputs) + self.form.form().offset(k)..].as_ptr()
    }

    /// Writes `depth` inputs from `k` on of some panels as f32: panels `[depth, 32]` side by side.
    fn widen(&self, panels: std::ops::Range<usize>, k: usize, depth: usize, to: &mut Vec<f32>) {
        assert!(k + depth <= self.inputs && panels.end <= self.outputs.div_ceil(PANEL), "inputs and panels that there are");
        to.resize(panels.len() * depth * PANEL, 0.0);
        for (panel, to) in panels.zip(to.chunks_exact_mut(depth * PANEL)) {
            // SAFETY: the panel has `depth` inputs from `k` on by the assertion, and the chunk has 32 elements for each.
            unsafe { kernels().widen(self.form.form(), self.at(panel, k), depth, to.as_mut_ptr()) };
        }
    }
}

thread_local! {
    /// Panels of a lower form as f32: a block of them, half a megabyte, which stays in the second cache while all rows pass.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// The result's elements, for the threads that share it.
#[derive(Clone, Copy)]
struct Output(*mut f32);

// SAFETY: `multiply` gives each piece rows or columns that no other piece has.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

/// `[K, 32]` elements of `N` bytes; columns without an output stay zero.
fn pack<const N: usize>(panel: &mut [u8], rows: &[&[f32]], put: impl Fn(&mut [u8; N], f32)) {
    let (elements, _) = panel.as_chunks_mut::<N>();
    for (column, row) in rows.iter().enumerate() {
        for (k, weight) in row.iter().enumerate() {
            put(&mut elements[k * PANEL + column], *weight);
        }
    }
}

/// Blocks of 32 scales and 32 rows of bytes.
fn pack_q8(panel: &mut [u8], rows: &[&[f32]]) {
    for (column, row) in rows.iter().enumerate() {
        for (weights, block) in row.chunks(BLOCK).zip(panel.chunks_exact_mut(BLOCK_BYTES)) {
            let (scale, bytes) = quantized(weights);
            block[2 * column..][..2].copy_from_slice(&scale.to_le_bytes());
            for (k, byte) in bytes.enumerate() {
                block[2 * PANEL + k * PANEL + column] = byte as u8;
            }
        }
    }
}

/// Scale and bytes of a block, as GGUF's `q8_0`: scale `max |w| / 127`, bytes rounded half away from zero.
fn quantized(weights: &[f32]) -> (f16, impl Iterator<Item = i8>) {
    let scale = weights.iter().fold(0f32, |top, w| top.max(w.abs())) / 127.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    (f16::from_f32(scale), weights.iter().map(move |weight| (weight * inverse).round() as i8))
}

/// Whether a row is that of its own bytes and scales, to the bit.
fn is_q8(row: &[f32]) -> bool {
    row.chunks(BLOCK).all(|weights| {
        let (scale, bytes) = quantized(weights);
        let scale = scale.to_f32();
        bytes.zip(weights).all(|(byte, weight)| (f32::from(byte) * scale).to_bits() == weight.to_bits())
    })
}

fn is_bf16(row: &[f32]) -> bool {
    row.iter().all(|weight| weight.to_bits().trailing_zeros() >= 16)
}

#[cfg(test)]
mod tests {
    use super::super::team::with_team;
    use super::super::tile;
    use super::*;

    fn values(count: usize, salt: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 37 + salt * 101) % 211) as f32 * 0.013 - 1.3).collect()
    }

    const FORMS: [WeightForm; 3] = [WeightForm::F32, WeightForm::Bf16, WeightForm::Q8];

    /// One chain of fused multiply-adds per element, as the module promises.
    fn expected(packed: &Packed, x: &[f32], start: &[f32]) -> Vec<f32> {
        let mut row = vec![0.0; packed.inputs()];
        let mut y = start.to_vec();
        for output in 0..packed.outputs() {
            packed.row(output, &mut row);
            for (i, x) in x.chunks_exact(packed.inputs()).enumerate() {
                let y = &mut y[i * packed.outputs() + output];
                *y = x.iter().zip(&row).fold(*y, |sum, (x, w)| x.mul_add(*w, sum));
            }
        }
        y
    }

    #[test]
    fn every_element_is_one_chain_of_fused_multiply_adds() {
        for (rows, inputs, outputs) in
            [(1, 5, 3), (2, 33, 32), (13, 64, 70), (40, 800, 45), (3, 1000, 33), (WIDEN_ROWS, 401, 361), (2 * WIDEN_ROWS + 7, 40, 20)]
        {
            let weight = values(inputs * outputs, 1);
            let (x, start) = (values(rows * inputs, 2), values(rows * outputs, 3));
            for form in FORMS {
                let packed = Packed::new(&[&weight], inputs, form).unwrap();
                for (add, start) in [(false, vec![0.0; rows * outputs]), (true, start.clone())] {
                    for threads in [1, 2] {
                        let mut y = start.clone();
                        with_team(threads, |team| packed.multiply(&x, &mut y, add, team, 0));
                        assert_eq!(y, expected(&packed, &x, &start), "{rows} x {inputs} x {outputs}, {form:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let (depth, cols) = (70, 45);
        for form in FORMS {
            let packed = Packed::new(&[&values(depth * cols, 1)], depth, form).unwrap();
            let x = values(ROWS * depth, 2);
            let mut first: Option<Vec<f32>> = None;
            for rows in 1..=ROWS {
                for (name, kernels) in tile::available() {
                    let mut y = vec![0.0; rows * cols];
                    let tile = Tile {
                        a: x.as_ptr(),
                        a_row: depth,
                        a_step: 1,
                        b: packed.panels.as_ptr(),
                        column: 0,
                        c: y.as_mut_ptr(),
                        c_row: cols,
                        depth,
                        cols,
                        add: false,
                    };
                    // SAFETY: the sizes are those of the slices above.
                    unsafe { kernels.run_panels(form.form(), rows, form.panel_bytes(depth), tile) };
                    let reference = first.get_or_insert_with(|| expected(&packed, &x, &vec![0.0; ROWS * cols]));
                    assert_eq!(y, reference[..rows * cols], "{name}, {rows} rows, {form:?}");
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_widens_to_the_same_bits() {
        let (depth, cols) = (70, PANEL);
        for form in FORMS {
            let packed = Packed::new(&[&values(depth * cols, 1)], depth, form).unwrap();
            let mut row = vec![0.0; depth];
            for (name, kernels) in tile::available() {
                let mut widened = vec![0f32; depth * PANEL];
                // SAFETY: the panel has `depth` inputs and `widened` 32 elements for each.
                unsafe { kernels.widen(form.form(), packed.panels.as_ptr(), depth, widened.as_mut_ptr()) };
                for column in 0..cols {
                    packed.row(column, &mut row);
                    let column: Vec<u32> = widened.iter().skip(column).step_by(PANEL).map(|w| w.to_bits()).collect();
                    assert_eq!(column, row.iter().map(|w| w.to_bits()).collect::<Vec<_>>(), "{name}, {form:?}");
                }
            }
        }
    }

    #[test]
    fn rounding_is_that_of_the_formats() {
        let weight = values(64 * 2, 4);
        let row = |form| {
            let mut row = vec![0.0; 64];
            Packed::new(&[&weight[..64], &weight[64..]], 64, form).unwrap().row(1, &mut row);
            row
        };
        assert_eq!(row(WeightForm::F32), weight[64..]);
        assert_eq!(row(WeightForm::Bf16), weight[64..].iter().map(|w| bf16::from_f32(*w).to_f32()).collect::<Vec<_>>());
        let largest = weight[64..96].iter().fold(0f32, |top, w| top.max(w.abs()));
        let worst = row(WeightForm::Q8)[..32].iter().zip(&weight[64..96]).map(|(q, w)| (q - w).abs()).fold(0.0, f32::max);
        assert!(worst > 0.0 && worst <= 0.51 * largest / 127.0, "{worst} of {largest}");
    }

    #[test]
    fn weights_that_lose_nothing_in_a_smaller_form_are_held_in_it_with_the_same_products() {
        let (inputs, outputs) = (70, 45);
        let weight = values(inputs * outputs, 1);
        let rounded = |form| {
            let packed = Packed::new(&[&weight], inputs, form).unwrap();
            let mut rows = vec![0.0; inputs * outputs];
            rows.chunks_exact_mut(inputs).enumerate().for_each(|(row, to)| packed.row(row, to));
            rows
        };
        let x = values(3 * inputs, 2);
        for form in FORMS {
            let weight = rounded(form);
            assert_eq!(WeightForm::F32.smallest(&[&weight[..inputs * 32], &weight[inputs * 32..]], inputs), form);
            let product = |form| {
                let (packed, mut y) = (Packed::new(&[&weight], inputs, form).unwrap(), vec![0.0; 3 * outputs]);
                packed.multiply(&x, &mut y, false, &Team::solo(), 0);
                y.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            assert_eq!(product(form), product(WeightForm::F32), "{form:?}");
            // A form that was asked for is what others measure the loss of.
            assert_eq!(WeightForm::Bf16.smallest(&[&weight], inputs), WeightForm::Bf16);
        }
        let mut negative_zero = rounded(WeightForm::Q8);
        negative_zero[3] = -0.0;
        assert_eq!(WeightForm::F32.smallest(&[&negative_zero], inputs), WeightForm::F32);
    }

    #[test]
    fn a_block_of_zeros_stays_zero_in_eight_bits() {
        let packed = Packed::new(&[&[0.0; 40]], 40, WeightForm::Q8).unwrap();
        let mut y = [7.0];
        packed.multiply(&[1.0; 40], &mut y, false, &Team::solo(), 0);
        assert_eq!(y, [0.0]);
    }
}
