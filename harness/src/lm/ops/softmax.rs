//! Softmax over the last dimension: `dx = p (g - sum(p g))`.

use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor};

use super::storage::{floats, read, supported, tensor_like};
use crate::kernel::elementwise::softmax as normalize;
use crate::kernel::simd::{dot, for_row_chunks, vectorized};

/// See [`super::softmax`].
pub(super) fn softmax(x: &Tensor) -> Result<Tensor> {
    if !supported(&[x]) || x.dim(D::Minus1)? == 0 {
        return super::reference::softmax(x);
    }
    x.contiguous()?.apply_op1(Softmax)
}

struct Softmax;

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let width = layout.shape().dim(D::Minus1)?;
        let mut y = floats(x, layout)?.to_vec();
        for_row_chunks(&mut y, width, |_, y| {
            vectorized(
                #[inline(always)]
                || y.chunks_exact_mut(width).for_each(normalize),
            );
        });
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, _x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let width = y.dim(D::Minus1)?;
        let grad = grad.contiguous()?;
        let (y_reader, grad_reader) = (read(y), read(&grad));
        let (p, g) = (y_reader.floats()?, grad_reader.floats()?);
        let mut dx = vec![0.0; p.len()];
        for_row_chunks(&mut dx, width, |first, dx| {
            let range = first * width..first * width + dx.len();
            let (p, g) = (&p[range.clone()], &g[range]);
            vectorized(
                #[inline(always)]
                || backward(p, g, width, dx),
            );
        });
        Ok(Some(tensor_like(dx, y)?))
    }
}

#[inline(always)]
fn backward(p: &[f32], g: &[f32], width: usize, dx: &mut [f32]) {
    for ((p, g), dx) in p.chunks_exact(width).zip(g.chunks_exact(width)).zip(dx.chunks_exact_mut(width)) {
        let mean = dot(p, g);
        for ((dx, p), g) in dx.iter_mut().zip(p).zip(g) {
            *dx = p * (g - mean);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Case;
    use super::super::reference;
    use super::*;

    #[test]
    fn it_agrees_with_the_reference() {
        for shape in [&[1][..], &[3, 5, 7], &[600, 51]] {
            Case::new(&[shape]).check(|t| softmax(&t[0]), |t| reference::softmax(&t[0]));
        }
    }

    #[test]
    fn a_row_that_is_masked_out_is_zero_and_a_poisoned_row_is_not() {
        let run = |x: [f32; 2]| softmax(&Tensor::new(&x, &candle_core::Device::Cpu).unwrap()).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(run([f32::NEG_INFINITY; 2]), [0.0, 0.0]);
        assert!(run([f32::NAN, 1.0]).iter().all(|x| x.is_nan()));
    }
}
