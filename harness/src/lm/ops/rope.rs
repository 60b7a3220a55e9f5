//! Rotary embedding. The backward pass turns the gradient by minus the angle.

use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor};

use super::storage::{floats, read, supported};
use crate::kernel::elementwise::turn;
use crate::kernel::simd::{for_row_chunks, vectorized};

/// See [`super::rope`].
pub(super) fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (b, _, t, d) = x.dims4()?;
    if !supported(&[x]) || !tables_fit(cos, sin, [b, t, d]) {
        return super::reference::rope(x, cos, sin);
    }
    x.contiguous()?.apply_op1(Rope { cos: cos.contiguous()?, sin: sin.contiguous()?, direction: 1.0 })
}

/// Whether the kernels can use these tables for `b` sequences of `t` positions and heads of width `d`.
pub(super) fn tables_fit(cos: &Tensor, sin: &Tensor, [b, t, d]: [usize; 3]) -> bool {
    let half = cos.dims().last().copied().unwrap_or_default();
    let tables: [&[usize]; 3] = [&[t, half], &[1, 1, t, half], &[b, 1, t, half]];
    let known = cos.dims() == sin.dims() && tables.contains(&cos.dims());
    supported(&[cos, sin]) && known && 2 * half <= d && !cos.track_op() && !sin.track_op()
}

struct Rope {
    cos: Tensor,
    sin: Tensor,
    /// 1 forward, -1 backward.
    direction: f32,
}

impl CustomOp1 for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, heads, t, d) = layout.shape().dims4()?;
        let x = floats(x, layout)?;
        let (cos, sin) = (read(&self.cos), read(&self.sin));
        let (cos, sin) = (cos.floats()?, sin.floats()?);
        let half = self.cos.dim(D::Minus1)?;
        let one_table = cos.len() == t * half;
        let mut y = vec![0.0; x.len()];
        for_row_chunks(&mut y, d, |first, y| {
            for (offset, y) in y.chunks_exact_mut(d).enumerate() {
                let row = first + offset;
                let position = if one_table { row % t } else { row / (heads * t) * t + row % t };
                let table = position * half..(position + 1) * half;
                let (x, cos, sin) = (&x[row * d..(row + 1) * d], &cos[table.clone()], &sin[table]);
                y.copy_from_slice(x);
                vectorized(
                    #[inline(always)]
                    || turn(&mut y[..2 * half], cos, sin, self.direction),
                );
            }
        });
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, _x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let back = Self { cos: self.cos.clone(), sin: self.sin.clone(), direction: -self.direction };
        Ok(Some(grad.contiguous()?.apply_op1_no_bwd(&back)?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Case;
    use super::super::reference;
    use super::*;

    #[test]
    fn both_kinds_of_tables_agree_with_the_reference() {
        for (b, h, t, d, half) in [(1, 1, 1, 2, 1), (2, 3, 5, 6, 3), (3, 4, 70, 34, 17), (2, 3, 5, 8, 3)] {
            let case = Case::new(&[&[b, h, t, d]]);
            for table in [&[t, half][..], &[b, 1, t, half], &[1, 1, t, half]] {
                let angle = case.constant(table);
                let (cos, sin) = (angle.cos().unwrap(), angle.sin().unwrap());
                case.check(|t| rope(&t[0], &cos, &sin), |t| reference::rope(&t[0], &cos, &sin));
            }
        }
    }
}
