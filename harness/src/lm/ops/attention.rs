//! Grouped-query attention, one block of query rows at a time: the scores of a whole sequence never stand in memory together, and no key
//! or value is copied. `p = softmax(q k^T / sqrt(D))`, `o = p v`; with `g` the gradient of `o`: `dv = p^T g`, `dp = g v^T`,
//! `ds = p (dp - rowdot(g, o)) / sqrt(D)`, `dq = ds k`, `dk = ds^T q` (as in FlashAttention, Dao et al. 2022, but with whole rows of keys).
//! The backward pass computes `p` anew, so nothing but `o` is kept between the passes.

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::storage::{read, supported, tensor_like};
use crate::kernel::elementwise::{softmax as normalize, softmax_backward};
use crate::kernel::simd::{dot, vectorized};
use crate::kernel::{Matrix, Target, gemm};

/// Query rows in a block.
const BLOCK: usize = 64;

/// See [`super::attention_causal`].
pub(super) fn attention_causal(q: &Tensor, k: &Tensor, v: &Tensor, window: Option<usize>) -> Result<Tensor> {
    if !applies(q, k, v)? || q.dim(2)? > k.dim(2)? {
        return super::reference::attention_causal(q, k, v, window);
    }
    q.apply_op3(k, v, Attention { window: window.unwrap_or(usize::MAX) })
}

/// Whether the shapes belong together and the elements of every head lie side by side.
fn applies(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<bool> {
    let (b, heads, _, d) = q.dims4()?;
    let (k_b, kv_heads, _, k_d) = k.dims4()?;
    if k.dims() != v.dims() || k_b != b || k_d != d || kv_heads == 0 || heads % kv_heads != 0 {
        bail!("attention of queries {:?}, keys {:?} and values {:?}", q.dims(), k.dims(), v.dims())
    }
    Ok(supported(&[q, k, v]) && [q, k, v].iter().all(|tensor| tensor.stride()[3] == 1 && tensor.elem_count() > 0))
}

/// The vectors of every head, read in place from a tensor `[B, heads, rows, D]` whose last stride is one.
#[derive(Clone, Copy)]
struct Heads<'a> {
    data: &'a [f32],
    rows: usize,
    width: usize,
    strides: [usize; 3],
}

impl<'a> Heads<'a> {
    fn new(data: &'a [f32], dims: &[usize], strides: &[usize]) -> Self {
        Self { data, rows: dims[2], width: dims[3], strides: [strides[0], strides[1], strides[2]] }
    }

    fn of(storage: &'a CpuStorage, layout: &Layout) -> Result<Self> {
        Ok(Self::new(&storage.as_slice::<f32>()?[layout.start_offset()..], layout.dims(), layout.stride()))
    }

    /// Rows `first..first + count` of a head.
    fn rows(&self, batch: usize, head: usize, first: usize, count: usize) -> Matrix<'a> {
        let start = batch * self.strides[0] + head * self.strides[1] + first * self.strides[2];
        Matrix::strided(&self.data[start..], count, self.width, self.strides[2])
    }
}

/// Queries, keys and values of one call.
#[derive(Clone, Copy)]
struct Inputs<'a> {
    q: Heads<'a>,
    k: Heads<'a>,
    v: Heads<'a>,
    heads: usize,
    kv_heads: usize,
    /// Keys that a query sees at most.
    window: usize,
}

impl Inputs<'_> {
    fn scale(&self) -> f32 {
        1.0 / (self.q.width as f32).sqrt()
    }

    /// Query heads that share a key head.
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Keys that the causal query row sees.
    fn seen(&self, row: usize) -> Range<usize> {
        let end = self.k.rows - self.q.rows + row + 1;
        end.saturating_sub(self.window)..end
    }

    /// Causal probabilities of `count` query rows over the keys that any of them sees, `[count, keys]`; gives those keys.
    fn causal_probabilities(&self, batch: usize, head: usize, first: usize, count: usize, p: &mut Vec<f32>) -> Range<usize> {
        let keys = self.seen(first).start..self.seen(first + count - 1).end;
        p.resize(count * keys.len(), 0.0);
        let k = self.k.rows(batch, head / self.group(), keys.start, keys.len());
        gemm(Target::serial(p, keys.len()), self.scale(), self.q.rows(batch, head, first, count), k.t());
        vectorized(
            #[inline(always)]
            || {
                for (offset, row) in p.chunks_exact_mut(keys.len()).enumerate() {
                    let seen = self.seen(first + offset);
                    let (past, rest) = row.split_at_mut(seen.start - keys.start);
                    let (seen, future) = rest.split_at_mut(seen.len());
                    past.fill(0.0);
                    normalize(seen);
                    future.fill(0.0);
                }
            },
        );
        keys
    }
}

struct Attention {
    /// Keys that a query sees at most.
    window: usize,
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        ql: &Layout,
        k: &CpuStorage,
        kl: &Layout,
        v: &CpuStorage,
        vl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ([b, heads, t, d], kv_heads) = ([ql.dims()[0], ql.dims()[1], ql.dims()[2], ql.dims()[3]], kl.dims()[1]);
        let inputs = Inputs { q: Heads::of(q, ql)?, k: Heads::of(k, kl)?, v: Heads::of(v, vl)?, heads, kv_heads, window: self.window };
        let mut out = vec![0.0; b * t * heads * d];
        out.par_chunks_mut(t * heads * d).enumerate().for_each(|(batch, out)| {
            out.par_chunks_mut(BLOCK * heads * d).enumerate().for_each(|(index, out)| block(&inputs, batch, index * BLOCK, out));
        });
        Ok((CpuStorage::F32(out), Shape::from((b, t, heads * d))))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (q_reader, k_reader, v_reader, out, grad) = (read(q), read(k), read(v), read(out), read(&grad));
        let heads = |data, tensor: &Tensor| Heads::new(data, tensor.dims(), tensor.stride());
        let (q_heads, k_heads, v_heads) =
            (heads(q_reader.floats_onward()?, q), heads(k_reader.floats_onward()?, k), heads(v_reader.floats_onward()?, v));
        let inputs = Inputs { q: q_heads, k: k_heads, v: v_heads, heads: q.dim(1)?, kv_heads: k.dim(1)?, window: self.window };
        let (dq, dk, dv) = gradients(&inputs, q.dim(0)?, out.floats()?, grad.floats()?);
        let wanted = |data, like: &Tensor| like.track_op().then(|| tensor_like(data, like)).transpose();
        Ok((wanted(dq, q)?, wanted(dk, k)?, wanted(dv, v)?))
    }
}

/// Rows `first..` of the result, `[rows, H * D]`.
fn block(inputs: &Inputs, batch: usize, first: usize, out: &mut [f32]) {
    let (d, row) = (inputs.q.width, inputs.heads * inputs.q.width);
    let count = out.len() / row;
    let mut p = Vec::new();
    for head in 0..inputs.heads {
        let keys = inputs.causal_probabilities(batch, head, first, count, &mut p);
        let v = inputs.v.rows(batch, head / inputs.group(), keys.start, keys.len());
        gemm(Target::serial(&mut out[head * d..], row), 1.0, Matrix::new(&p, count, keys.len()), v);
    }
}

/// `dq`, `dk` and `dv` of causal attention; a key head's share is computed by one thread, in order.
fn gradients(inputs: &Inputs, batches: usize, out: &[f32], grad: &[f32]) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let (d, t, s) = (inputs.q.width, inputs.q.rows, inputs.k.rows);
    let (q_size, k_size) = (inputs.group() * t * d, s * d);
    let units = batches * inputs.kv_heads;
    let (mut dq, mut dk, mut dv) = (vec![0.0; units * q_size], vec![0.0; units * k_size], vec![0.0; units * k_size]);
    let unit_gradients = dq.par_chunks_mut(q_size).zip(dk.par_chunks_mut(k_size)).zip(dv.par_chunks_mut(k_size)).enumerate();
    unit_gradients.for_each(|(unit, ((dq, dk), dv))| {
        let mut scratch = (Vec::new(), Vec::new());
        for (member, dq) in dq.chunks_exact_mut(t * d).enumerate() {
            let head = unit % inputs.kv_heads * inputs.group() + member;
            let batch = unit / inputs.kv_heads;
            for first in (0..t).step_by(BLOCK) {
                let rows = HeadRows { batch, head, first, count: BLOCK.min(t - first) };
                rows.backward(inputs, out, grad, &mut scratch, (&mut dq[first * d..], dk, dv));
            }
        }
    });
    (dq, dk, dv)
}

/// A block of query rows of one head.
struct HeadRows {
    batch: usize,
    head: usize,
    first: usize,
    count: usize,
}

impl HeadRows {
    /// Writes this block's `dq`; adds its part to `dk` and `dv`.
    fn backward(
        &self,
        inputs: &Inputs,
        out: &[f32],
        grad: &[f32],
        (p, ds): &mut (Vec<f32>, Vec<f32>),
        (dq, dk, dv): (&mut [f32], &mut [f32], &mut [f32]),
    ) {
        let &Self { batch, head, first, count } = self;
        let (d, stride, kv_head) = (inputs.q.width, inputs.heads * inputs.q.width, head / inputs.group());
        let start = (batch * inputs.q.rows + first) * stride + head * d;
        let (out, grad) = (&out[start..], &grad[start..]);
        let g = Matrix::strided(grad, count, d, stride);
        let keys = inputs.causal_probabilities(batch, head, first, count, p);
        let (from, keys) = (keys.start, keys.len());
        let probabilities = Matrix::new(p, count, keys);
        gemm(Target::serial(&mut dv[from * d..], d).adding(), 1.0, probabilities.t(), g);
        ds.resize(count * keys, 0.0);
        gemm(Target::serial(ds, keys), 1.0, g, inputs.v.rows(batch, kv_head, from, keys).t());
        vectorized(
            #[inline(always)]
            || {
                for (row, (ds, p)) in ds.chunks_exact_mut(keys).zip(p.chunks_exact(keys)).enumerate() {
                    softmax_backward(ds, p, dot(&grad[row * stride..][..d], &out[row * stride..][..d]), inputs.scale());
                }
            },
        );
        let ds = Matrix::new(ds, count, keys);
        gemm(Target::serial(dq, d), 1.0, ds, inputs.k.rows(batch, kv_head, from, keys));
        gemm(Target::serial(&mut dk[from * d..], d).adding(), 1.0, ds.t(), inputs.q.rows(batch, head, first, count));
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Case;
    use super::super::reference;
    use super::*;

    #[test]
    fn causal_attention_agrees_with_the_reference() {
        for (b, heads, kv_heads, t, d) in [(1, 1, 1, 1, 2), (2, 4, 2, 5, 6), (2, 3, 1, 67, 9), (1, 2, 2, 130, 32)] {
            let kv = &[b, kv_heads, t, d][..];
            for window in [None, Some(1), Some(7), Some(64), Some(1000)] {
                Case::new(&[&[b, heads, t, d], kv, kv])
                    .check(|t| attention_causal(&t[0], &t[1], &t[2], window), |t| reference::attention_causal(&t[0], &t[1], &t[2], window));
            }
        }
    }

    #[test]
    fn heads_are_read_in_place() {
        let (b, heads, t, d) = (2, 4, 9, 6);
        let swapped = |x: &Tensor| x.transpose(1, 2);
        Case::new(&[&[b, t, heads, d], &[b, t, 2, d], &[b, t, 2, d]]).check(
            |t| attention_causal(&swapped(&t[0])?, &swapped(&t[1])?, &swapped(&t[2])?, None),
            |t| reference::attention_causal(&swapped(&t[0])?, &swapped(&t[1])?, &swapped(&t[2])?, None),
        );
    }

    #[test]
    fn shapes_that_do_not_belong_together_are_an_error() {
        let case = Case::new(&[]);
        let (q, kv) = (case.constant(&[1, 3, 2, 4]), case.constant(&[1, 2, 2, 4]));
        assert!(attention_causal(&q, &kv, &kv, None).is_err());
    }
}
