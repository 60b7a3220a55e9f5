//! The innermost loop of every matrix product: a tile of up to twelve rows by one panel of columns.
//!
//! Each element of the result is one chain `c = fma(a[k], b[k], c)` over rising `k`, whatever the size of the tile, the instruction set or
//! the number of threads. So a row of a product has the same bits alone as among others, and a batch gives what its members give.
#![expect(unsafe_code, reason = "register tiles over raw pointers; the callers in this module's siblings check every bound first")]
#![expect(clippy::cast_ptr_alignment, reason = "panels start at multiples of 64 bytes, and vectors are loaded at any alignment")]

use std::sync::OnceLock;

use super::lanes::{Lanes, Portable};

/// Columns of a panel.
pub(super) const PANEL: usize = 32;

/// Rows of the largest tile: with 32 columns, 24 of the 32 registers of AVX-512 hold sums.
pub(super) const ROWS: usize = 12;

/// Inputs that share one scale in the 8-bit form.
pub(super) const BLOCK: usize = 32;

/// Bytes of a panel's block in the 8-bit form: a half float per column, then [`BLOCK`] rows of bytes.
pub(super) const BLOCK_BYTES: usize = 2 * PANEL + BLOCK * PANEL;

/// One tile: `c[rows, cols] = [c +] a[rows, depth] b[depth, cols]`.
pub(super) struct Tile {
    /// `a(i, k)` is at `a + i a_row + k a_step`.
    pub a: *const f32,
    pub a_row: usize,
    pub a_step: usize,
    /// A panel's values from the first `k` on; for the 8-bit form `k` starts a block.
    pub b: *const u8,
    /// First column of the panel that is computed.
    pub column: usize,
    /// `c(i, j)` is at `c + i c_row + j`.
    pub c: *mut f32,
    pub c_row: usize,
    pub depth: usize,
    /// At most [`PANEL`] less `column`.
    pub cols: usize,
    /// Start from what is in `c` instead of from zero.
    pub add: bool,
}

/// How the values of a panel lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `[K, 32]` f32.
    F32,
    /// `[K, 32]` bfloat16.
    Bf16,
    /// `[K / 32]` blocks of 32 half-float scales and `[32, 32]` bytes.
    Q8,
}

impl Form {
    /// Bytes from the start of a panel to the values of input `k`, which must start a block.
    pub(super) fn offset(self, k: usize) -> usize {
        match self {
            Self::F32 => 4 * PANEL * k,
            Self::Bf16 => 2 * PANEL * k,
            Self::Q8 => k / BLOCK * BLOCK_BYTES,
        }
    }
}

type Compute = unsafe fn(&Tile);
type Widen = unsafe fn(*const u8, usize, *mut f32);

/// The kernels of one instruction set.
pub(super) struct Kernels {
    /// By form, then by rows less one.
    tiles: [[Compute; ROWS]; 3],
    /// By form.
    widen: [Widen; 3],
}

impl Kernels {
    /// Computes a tile of `rows` rows.
    ///
    /// # Safety
    /// All pointers of the tile must be good for what its sizes and strides reach, `c` for writing and by nobody else.
    #[inline]
    pub(super) unsafe fn run(&self, form: Form, rows: usize, tile: &Tile) {
        debug_assert!((1..=ROWS).contains(&rows) && (1..=PANEL).contains(&tile.cols));
        unsafe { self.tiles[form as usize][rows - 1](tile) }
    }

    /// Computes as many tiles side by side as `tile.cols` asks for; their panels lie `panel_bytes` apart.
    ///
    /// # Safety
    /// As [`Kernels::run`], for every panel.
    #[inline]
    pub(super) unsafe fn run_panels(&self, form: Form, rows: usize, panel_bytes: usize, tile: Tile) {
        for (index, first) in (0..tile.cols).step_by(PANEL).enumerate() {
            let (b, c) = (tile.b.wrapping_add(index * panel_bytes), tile.c.wrapping_add(first));
            unsafe { self.run(form, rows, &Tile { b, c, cols: PANEL.min(tile.cols - first), ..tile }) };
        }
    }

    /// Writes the first `depth` inputs of the panel at `b` as f32, `[depth, 32]`: the values that tiles of this form multiply with.
    ///
    /// # Safety
    /// `b` as in [`Tile`], with `depth` inputs; `to` must be good for `32 depth` elements, and used by nobody else.
    #[inline]
    pub(super) unsafe fn widen(&self, form: Form, b: *const u8, depth: usize, to: *mut f32) {
        unsafe { self.widen[form as usize](b, depth, to) }
    }
}

/// The kernels of the best instruction set that this processor has.
pub(super) fn kernels() -> &'static Kernels {
    static BEST: OnceLock<&Kernels> = OnceLock::new();
    BEST.get_or_init(|| available()[0].1)
}

/// Name and kernels of every instruction set that this processor has, best first.
pub(super) fn available() -> Vec<(&'static str, &'static Kernels)> {
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        if avx2 && is_x86_feature_detected!("avx512f") {
            found.push(("avx512", &AVX512));
        }
        if avx2 {
            found.push(("avx2", &AVX2));
        }
    }
    found.push(("portable", &PORTABLE));
    found
}

/// Lists one kernel per number of rows.
macro_rules! by_rows {
    ($function:ident, $form:ty) => {
        [
            $function::<$form, 1>,
            $function::<$form, 2>,
            $function::<$form, 3>,
            $function::<$form, 4>,
            $function::<$form, 5>,
            $function::<$form, 6>,
            $function::<$form, 7>,
            $function::<$form, 8>,
            $function::<$form, 9>,
            $function::<$form, 10>,
            $function::<$form, 11>,
            $function::<$form, 12>,
        ]
    };
}

#[cfg(target_arch = "x86_64")]
static AVX512: Kernels = Kernels {
    tiles: [by_rows!(avx512, F32), by_rows!(avx512, Bf16), by_rows!(avx512, Q8)],
    widen: [avx512_widen::<F32>, avx512_widen::<Bf16>, avx512_widen::<Q8>],
};
#[cfg(target_arch = "x86_64")]
static AVX2: Kernels = Kernels {
    tiles: [by_rows!(avx2, F32), by_rows!(avx2, Bf16), by_rows!(avx2, Q8)],
    widen: [avx2_widen::<F32>, avx2_widen::<Bf16>, avx2_widen::<Q8>],
};
static PORTABLE: Kernels = Kernels {
    tiles: [by_rows!(portable, F32), by_rows!(portable, Bf16), by_rows!(portable, Q8)],
    widen: [widen::<Portable, F32>, widen::<Portable, Bf16>, widen::<Portable, Q8>],
};

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512<B: Panel, const R: usize>(tile: &Tile) {
    // The rank of an adapter is often sixteen: one register wide.
    unsafe {
        if tile.cols <= PANEL / 2 {
            compute::<super::lanes::Avx512, B, R, 1>(tile);
        } else {
            compute::<super::lanes::Avx512, B, R, 2>(tile);
        }
    }
}

/// Two registers hold a row of sixteen columns; six rows of them are twelve of the sixteen registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn avx2<B: Panel, const R: usize>(tile: &Tile) {
    unsafe { in_parts::<super::lanes::Avx2, B, R>(tile) }
}

unsafe fn portable<B: Panel, const R: usize>(tile: &Tile) {
    unsafe { in_parts::<Portable, B, R>(tile) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512_widen<B: Panel>(b: *const u8, depth: usize, to: *mut f32) {
    unsafe { widen::<super::lanes::Avx512, B>(b, depth, to) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn avx2_widen<B: Panel>(b: *const u8, depth: usize, to: *mut f32) {
    unsafe { widen::<super::lanes::Avx2, B>(b, depth, to) }
}

#[inline(always)]
unsafe fn widen<L: Lanes, B: Panel>(b: *const u8, depth: usize, to: *mut f32) {
    for column in (0..PANEL).step_by(2 * L::WIDTH) {
        unsafe {
            B::each::<L, 2>(
                b,
                column,
                depth,
                #[inline(always)]
                |k, values| {
                    for (v, value) in values.into_iter().enumerate() {
                        L::store(to.wrapping_add(k * PANEL + column + v * L::WIDTH), value);
                    }
                },
            );
        }
    }
}

/// A tile for narrow registers: by half panels, and by at most six rows at a time.
#[inline(always)]
unsafe fn in_parts<L: Lanes, B: Panel, const R: usize>(tile: &Tile) {
    let half = PANEL / 2;
    for first in (0..tile.cols).step_by(half) {
        let cols = half.min(tile.cols - first);
        let part = |row: usize| Tile {
            a: tile.a.wrapping_add(row * tile.a_row),
            c: tile.c.wrapping_add(row * tile.c_row + first),
            column: first,
            cols,
            ..*tile
        };
        unsafe {
            if R > 6 {
                compute::<L, B, 6, 2>(&part(0));
                remaining::<L, B, R>(&part(6));
            } else {
                compute::<L, B, R, 2>(&part(0));
            }
        }
    }
}

/// The rows of a tile of `R` after the sixth.
#[inline(always)]
unsafe fn remaining<L: Lanes, B: Panel, const R: usize>(tile: &Tile) {
    unsafe {
        match R {
            7 => compute::<L, B, 1, 2>(tile),
            8 => compute::<L, B, 2, 2>(tile),
            9 => compute::<L, B, 3, 2>(tile),
            10 => compute::<L, B, 4, 2>(tile),
            11 => compute::<L, B, 5, 2>(tile),
            _ => compute::<L, B, 6, 2>(tile),
        }
    }
}

/// `R` rows by `N` registers of columns, all sums in registers.
#[inline(always)]
unsafe fn compute<L: Lanes, B: Panel, const R: usize, const N: usize>(tile: &Tile) {
    let mut sums = unsafe { [[L::zero(); N]; R] };
    if tile.add {
        for (i, sums) in sums.iter_mut().enumerate() {
            *sums = unsafe { load_row::<L, N>(tile.c.wrapping_add(i * tile.c_row), tile.cols) };
        }
    }
    let rows: [*const f32; R] = std::array::from_fn(|i| tile.a.wrapping_add(i * tile.a_row));
    let step = tile.a_step;
    unsafe {
        // A closure has no instruction set of its own: left out of line, every operation in it would become a call.
        B::each::<L, N>(
            tile.b,
            tile.column,
            tile.depth,
            #[inline(always)]
            |k, b| {
                for i in 0..R {
                    let a = L::splat(*rows[i].wrapping_add(k * step));
                    for v in 0..N {
                        sums[i][v] = L::fma(a, b[v], sums[i][v]);
                    }
                }
            },
        );
    }
    for (i, sums) in sums.iter().enumerate() {
        unsafe { store_row::<L, N>(tile.c.wrapping_add(i * tile.c_row), tile.cols, sums) };
    }
}

/// The first `cols` floats of a row, then zeros.
#[inline(always)]
unsafe fn load_row<L: Lanes, const N: usize>(from: *const f32, cols: usize) -> [L::V; N] {
    if cols == N * L::WIDTH {
        return std::array::from_fn(|v| unsafe { L::load(from.wrapping_add(v * L::WIDTH)) });
    }
    let mut row = [0f32; PANEL];
    unsafe { std::ptr::copy_nonoverlapping(from, row.as_mut_ptr(), cols) };
    std::array::from_fn(|v| unsafe { L::load(row.as_ptr().wrapping_add(v * L::WIDTH)) })
}

/// Stores the first `cols` floats.
#[inline(always)]
unsafe fn store_row<L: Lanes, const N: usize>(to: *mut f32, cols: usize, values: &[L::V; N]) {
    if cols == N * L::WIDTH {
        for (v, value) in values.iter().enumerate() {
            unsafe { L::store(to.wrapping_add(v * L::WIDTH), *value) };
        }
        return;
    }
    let mut row = [0f32; PANEL];
    for (v, value) in values.iter().enumerate() {
        unsafe { L::store(row.as_mut_ptr().wrapping_add(v * L::WIDTH), *value) };
    }
    unsafe { std::ptr::copy_nonoverlapping(row.as_ptr(), to, cols) };
}

/// Reads the values of a panel.
///
/// # Safety
/// As [`Lanes`]; `b` must point to where an input's values (for the 8-bit form, a block) begin in a panel of this form, with `depth` inputs
/// from there on, and `column + N * WIDTH` must not exceed [`PANEL`].
trait Panel {
    /// Calls `step(k, values)` for every `k` below `depth` in order; `values[v]` are the columns from `column + v * WIDTH` on.
    unsafe fn each<L: Lanes, const N: usize>(b: *const u8, column: usize, depth: usize, step: impl FnMut(usize, [L::V; N]));
}

struct F32;

impl Panel for F32 {
    #[inline(always)]
    unsafe fn each<L: Lanes, const N: usize>(b: *const u8, column: usize, depth: usize, mut step: impl FnMut(usize, [L::V; N])) {
        let b = b.cast::<f32>().wrapping_add(column);
        for k in 0..depth {
            let row = b.wrapping_add(k * PANEL);
            step(k, std::array::from_fn(|v| unsafe { L::load(row.wrapping_add(v * L::WIDTH)) }));
        }
    }
}

struct Bf16;

impl Panel for Bf16 {
    #[inline(always)]
    unsafe fn each<L: Lanes, const N: usize>(b: *const u8, column: usize, depth: usize, mut step: impl FnMut(usize, [L::V; N])) {
        let b = b.cast::<u16>().wrapping_add(column);
        for k in 0..depth {
            let row = b.wrapping_add(k * PANEL);
            step(k, std::array::from_fn(|v| unsafe { L::load_bf16(row.wrapping_add(v * L::WIDTH)) }));
        }
    }
}

struct Q8;

impl Panel for Q8 {
    #[inline(always)]
    unsafe fn each<L: Lanes, const N: usize>(b: *const u8, column: usize, depth: usize, mut step: impl FnMut(usize, [L::V; N])) {
        for first in (0..depth).step_by(BLOCK) {
            let block = b.wrapping_add(first / BLOCK * BLOCK_BYTES);
            let scales = block.cast::<u16>().wrapping_add(column);
            let scales: [L::V; N] = std::array::from_fn(|v| unsafe { L::load_f16(scales.wrapping_add(v * L::WIDTH)) });
            let values = block.wrapping_add(2 * PANEL + column).cast::<i8>();
            for k in first..depth.min(first + BLOCK) {
                let row = values.wrapping_add((k - first) * PANEL);
                // A byte times a half float has at most 19 significant bits: the product is exact.
                step(k, std::array::from_fn(|v| unsafe { L::mul(L::load_i8(row.wrapping_add(v * L::WIDTH)), scales[v]) }));
            }
        }
    }
}
