//! Copying columns that lie side by side in memory into the lines of a panel: packing's other half, eight by eight in registers where the
//! processor can.
#![cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "vector shuffles; bounds are asserted on entry"))]

use super::tile::PANEL;

/// Columns, and inputs, that are turned at a time.
const SIDE: usize = 8;

/// Writes `panel[k * 32 + first + j] = columns[j][k]` for all `k`. Every column must be as long as the panel has lines.
///
/// # Panics
/// When a column is shorter, or there is no room for eight columns from `first` on.
pub(super) fn turn(columns: [&[f32]; SIDE], first: usize, panel: &mut [f32]) {
    let depth = panel.len() / PANEL;
    assert!(first + SIDE <= PANEL && columns.iter().all(|column| column.len() >= depth), "eight whole columns");
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx") {
        // SAFETY: the processor has AVX, and the assertion above keeps every access inside its slice.
        return unsafe { x86::turn(columns, first, panel, depth) };
    }
    turn_from(0, columns, first, panel);
}

/// The lines from `k` on, element by element.
fn turn_from(start: usize, columns: [&[f32]; SIDE], first: usize, panel: &mut [f32]) {
    for (k, line) in panel.chunks_exact_mut(PANEL).enumerate().skip(start) {
        for (to, column) in line[first..].iter_mut().zip(columns) {
            *to = column[k];
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    #[cfg_attr(not(test), expect(clippy::wildcard_imports, reason = "a list of intrinsics tells nobody anything"))]
    use std::arch::x86_64::*;

    use super::{PANEL, SIDE};

    /// # Safety
    /// Columns must have `depth` elements and the panel `depth` lines, with room for eight columns from `first` on.
    #[target_feature(enable = "avx")]
    pub(super) unsafe fn turn(columns: [&[f32]; SIDE], first: usize, panel: &mut [f32], depth: usize) {
        let whole = depth - depth % SIDE;
        for k in (0..whole).step_by(SIDE) {
            let rows: [__m256; SIDE] = std::array::from_fn(|j| unsafe { _mm256_loadu_ps(columns[j].as_ptr().add(k)) });
            for (i, line) in transpose(rows).into_iter().enumerate() {
                unsafe { _mm256_storeu_ps(panel.as_mut_ptr().add((k + i) * PANEL + first), line) };
            }
        }
        super::turn_from(whole, columns, first, panel);
    }

    /// Pairs of rows are interleaved, then pairs of pairs, then halves are exchanged.
    #[target_feature(enable = "avx")]
    fn transpose(rows: [__m256; SIDE]) -> [__m256; SIDE] {
        let [a, b, c, d, e, f, g, h] = rows;
        let pairs = [
            (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b)),
            (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d)),
            (_mm256_unpacklo_ps(e, f), _mm256_unpackhi_ps(e, f)),
            (_mm256_unpacklo_ps(g, h), _mm256_unpackhi_ps(g, h)),
        ];
        let fours = |left: (__m256, __m256), right: (__m256, __m256)| {
            [
                _mm256_shuffle_ps::<0x44>(left.0, right.0),
                _mm256_shuffle_ps::<0xee>(left.0, right.0),
                _mm256_shuffle_ps::<0x44>(left.1, right.1),
                _mm256_shuffle_ps::<0xee>(left.1, right.1),
            ]
        };
        let (upper, lower) = (fours(pairs[0], pairs[1]), fours(pairs[2], pairs[3]));
        let low = |i: usize| _mm256_permute2f128_ps::<0x20>(upper[i], lower[i]);
        let high = |i: usize| _mm256_permute2f128_ps::<0x31>(upper[i], lower[i]);
        [low(0), low(1), low(2), low(3), high(0), high(1), high(2), high(3)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_become_lines() {
        for depth in [1, 7, 8, 16, 21] {
            let columns: Vec<Vec<f32>> = (0..SIDE).map(|j| (0..depth).map(|k| (100 * j + k) as f32).collect()).collect();
            let mut panel = vec![-1.0; depth * PANEL];
            turn(std::array::from_fn(|j| columns[j].as_slice()), 8, &mut panel);
            for k in 0..depth {
                for column in 0..PANEL {
                    let expected = if (8..16).contains(&column) { (100 * (column - 8) + k) as f32 } else { -1.0 };
                    assert_eq!(panel[k * PANEL + column], expected, "depth {depth}, line {k}, column {column}");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "eight whole columns")]
    fn a_short_column_is_refused() {
        turn([&[1.0]; SIDE], 0, &mut [0.0; 2 * PANEL]);
    }
}
