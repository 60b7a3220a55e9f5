//! From a projection's `[B, T, H * D]` to heads `[B, H, T, D]`: split, normalised per head (Qwen3) and turned by their positions in one
//! pass, instead of the five nodes that these make in the graph.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::rms_norm;
use super::rope::tables_fit;
use super::storage::{floats, read, supported, tensor_like};
use crate::kernel::elementwise::{self, turn};
use crate::kernel::simd::{for_row_chunks, rows_per_chunk, vectorized};

/// See [`super::split_heads`].
pub(super) fn split_heads(x: &Tensor, heads: usize, norm: Option<(&Tensor, f64)>, rotation: Option<(&Tensor, &Tensor)>) -> Result<Tensor> {
    let (b, t, width) = x.dims3()?;
    if heads == 0 || width % heads != 0 {
        bail!("{heads} heads in a width of {width}")
    }
    let d = width / heads;
    let norm_fits = norm.is_none_or(|(weight, _)| supported(&[weight]) && weight.dims() == [d]);
    let rotation_fits = rotation.is_none_or(|(cos, sin)| tables_fit(cos, sin, [b, t, d]));
    if !supported(&[x]) || !norm_fits || !rotation_fits {
        return super::reference::split_heads(x, heads, norm, rotation);
    }
    let rotation = rotation.map(|(cos, sin)| Ok::<_, candle_core::Error>((cos.contiguous()?, sin.contiguous()?))).transpose()?;
    let op = SplitHeads { heads, eps: norm.map_or(0.0, |(_, eps)| eps as f32), rotation };
    let x = x.contiguous()?;
    match norm {
        Some((weight, _)) => x.apply_op2(&weight.contiguous()?, op),
        None => x.apply_op1(op),
    }
}

struct SplitHeads {
    heads: usize,
    eps: f32,
    /// Cosines and sines.
    rotation: Option<(Tensor, Tensor)>,
}

/// Where row `(b, t, h)` of one order lies in the other; the sizes of a call.
#[derive(Clone, Copy)]
struct Order {
    heads: usize,
    t: usize,
    d: usize,
}

impl Order {
    /// Row of `[B, T, H]` that is row `index` of `[B, H, T]`, and its position in the sequence and in the batch.
    fn of_split(self, index: usize) -> (usize, Place) {
        let (batch, head, position) = (index / (self.heads * self.t), index / self.t % self.heads, index % self.t);
        ((batch * self.t + position) * self.heads + head, Place { batch, position })
    }

    /// Row of `[B, H, T]` that is row `index` of `[B, T, H]`, and so on.
    fn of_joined(self, index: usize) -> (usize, Place) {
        let (batch, position, head) = (index / (self.heads * self.t), index / self.heads % self.t, index % self.heads);
        ((batch * self.heads + head) * self.t + position, Place { batch, position })
    }
}

/// Which token a row belongs to.
#[derive(Clone, Copy)]
struct Place {
    batch: usize,
    position: usize,
}

/// The tables of angles, `[T, R/2]` or `[B, 1, T, R/2]`.
#[derive(Clone, Copy)]
struct Angles<'a> {
    cos: &'a [f32],
    sin: &'a [f32],
    half: usize,
    order: Order,
}

impl<'a> Angles<'a> {
    fn at(&self, place: Place) -> (&'a [f32], &'a [f32]) {
        let half = self.half;
        let one_table = self.cos.len() == self.order.t * half;
        let row = if one_table { place.position } else { place.batch * self.order.t + place.position };
        (&self.cos[row * half..(row + 1) * half], &self.sin[row * half..(row + 1) * half])
    }
}

impl SplitHeads {
    /// Calls `work` with the tables, if there are any.
    fn with_angles<R>(&self, order: Order, work: impl FnOnce(Option<Angles>) -> R) -> Result<R> {
        let Some((cos, sin)) = &self.rotation else { return Ok(work(None)) };
        let half = cos.dim(D::Minus1)?;
        let (cos, sin) = (read(cos), read(sin));
        Ok(work(Some(Angles { cos: cos.floats()?, sin: sin.floats()?, half, order })))
    }

    fn forward(&self, x: &[f32], layout: &Layout, weight: Option<&[f32]>) -> Result<(CpuStorage, Shape)> {
        let (b, t, width) = layout.shape().dims3()?;
        let order = Order { heads: self.heads, t, d: width / self.heads };
        let y = self.with_angles(order, |angles| self.split(x, order, weight, angles))?;
        Ok((CpuStorage::F32(y), Shape::from((b, self.heads, t, order.d))))
    }

    fn split(&self, x: &[f32], order: Order, weight: Option<&[f32]>, angles: Option<Angles>) -> Vec<f32> {
        let d = order.d;
        let mut y = vec![0.0; x.len()];
        for_row_chunks(&mut y, d, |first, y| {
            vectorized(
                #[inline(always)]
                || {
                    for (offset, y) in y.chunks_exact_mut(d).enumerate() {
                        let (row, place) = order.of_split(first + offset);
                        let x = &x[row * d..(row + 1) * d];
                        match weight {
                            Some(weight) => elementwise::rms_norm(x, weight, self.eps, y),
                            None => y.copy_from_slice(x),
                        }
                        if let Some((cos, sin)) = angles.map(|angles| angles.at(place)) {
                            turn(&mut y[..2 * cos.len()], cos, sin, 1.0);
                        }
                    }
                },
            );
        });
        y
    }

    /// `dx` `[B, T, H * D]` and, with a norm, `dw`.
    fn gradients(&self, x: &Tensor, weight: Option<&Tensor>, grad: &Tensor) -> Result<(Tensor, Vec<f32>)> {
        let (_, t, width) = x.dims3()?;
        let order = Order { heads: self.heads, t, d: width / self.heads };
        let grad = grad.contiguous()?;
        let (x_reader, grad, weight) = (read(x), read(&grad), weight.map(read));
        let weight = weight.as_ref().map(|weight| weight.floats()).transpose()?;
        let (x_data, grad) = (x_reader.floats()?, grad.floats()?);
        let (dx, dw) = self.with_angles(order, |angles| self.join(x_data, grad, order, weight, angles))?;
        Ok((tensor_like(dx, x)?, dw))
    }

    fn join(&self, x: &[f32], grad: &[f32], order: Order, weight: Option<&[f32]>, angles: Option<Angles>) -> (Vec<f32>, Vec<f32>) {
        let d = order.d;
        let chunk = rows_per_chunk(d);
        let mut dx = vec![0.0; x.len()];
        let mut partial = vec![0.0; x.len().div_ceil(chunk * d) * d];
        dx.par_chunks_mut(chunk * d).zip(partial.par_chunks_mut(d)).enumerate().for_each(|(index, (dx, dw))| {
            let mut turned = vec![0.0; d];
            vectorized(
                #[inline(always)]
                || {
                    for (offset, dx) in dx.chunks_exact_mut(d).enumerate() {
                        let joined = index * chunk + offset;
                        let (row, place) = order.of_joined(joined);
                        turned.copy_from_slice(&grad[row * d..(row + 1) * d]);
                        if let Some((cos, sin)) = angles.map(|angles| angles.at(place)) {
                            turn(&mut turned[..2 * cos.len()], cos, sin, -1.0);
                        }
                        match weight {
                            Some(weight) => {
                                elementwise::rms_norm_backward(&x[joined * d..(joined + 1) * d], weight, &turned, self.eps, dx, dw);
                            }
                            None => dx.copy_from_slice(&turned),
                        }
                    }
                },
            );
        });
        (dx, rms_norm::sum_rows(&partial, d))
    }
}

impl CustomOp1 for SplitHeads {
    fn name(&self) -> &'static str {
        "split-heads"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward(floats(x, layout)?, layout, None)
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.gradients(x, None, grad)?.0))
    }
}

impl CustomOp2 for SplitHeads {
    fn name(&self) -> &'static str {
        "split-heads-norm"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout, weight: &CpuStorage, weight_layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward(floats(x, layout)?, layout, Some(floats(weight, weight_layout)?))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, dw) = self.gradients(x, Some(weight), grad)?;
        let dw = weight.track_op().then(|| tensor_like(dw, weight)).transpose()?;
        Ok((x.track_op().then_some(dx), dw))
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Case;
    use super::super::reference;
    use super::*;

    #[test]
    fn every_combination_agrees_with_the_reference() {
        for (b, t, heads, d, half) in [(1, 1, 1, 2, 1), (2, 5, 3, 6, 3), (3, 70, 4, 34, 17), (2, 5, 3, 8, 3)] {
            let case = Case::new(&[&[b, t, heads * d], &[d]]);
            for table in [&[t, half][..], &[b, 1, t, half]] {
                let angle = case.constant(table);
                let (cos, sin) = (angle.cos().unwrap(), angle.sin().unwrap());
                for rotation in [None, Some((&cos, &sin))] {
                    let weight = |t: &[Tensor]| t[1].clone();
                    case.check(
                        |t| split_heads(&t[0], heads, Some((&weight(t), 1e-6)), rotation),
                        |t| reference::split_heads(&t[0], heads, Some((&weight(t), 1e-6)), rotation),
                    );
                    Case::new(&[&[b, t, heads * d]])
                        .check(|t| split_heads(&t[0], heads, None, rotation), |t| reference::split_heads(&t[0], heads, None, rotation));
                }
            }
        }
    }

    #[test]
    fn heads_that_do_not_divide_the_width_are_an_error() {
        assert!(split_heads(&Case::new(&[]).constant(&[1, 2, 7]), 2, None, None).is_err());
    }
}
