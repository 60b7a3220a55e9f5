//! A frozen linear layer with a low-rank update beside it, as one node: `t = x A^T`, `y = x W^T + b + s t B^T`; with `g` the gradient of
//! `y`: `dt = s g B`, `dA = dt^T x`, `dB = s g^T t`, `dx = g W + dt A`. `t` is computed anew in the backward pass: it costs `r / out` of the
//! layer, and nothing has to be kept.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::linear;
use super::storage::{floats, read, supported, tensor_like};
use crate::kernel::{Matrix, Target, gemm};

/// See [`super::lora_linear`].
pub(super) fn lora_linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, (a, b): (&Tensor, &Tensor), scale: f64) -> Result<Tensor> {
    let frozen = !weight.track_op() && weight.is_contiguous() && bias.is_none_or(|bias| !bias.track_op() && supported(&[bias]));
    if !frozen || !supported(&[x, weight, a, b]) {
        let delta = linear::linear(&linear::linear(x, a, None)?, b, None)?;
        return linear::linear(x, weight, bias)? + (delta * scale)?;
    }
    let ((out, input), rank) = (weight.dims2()?, a.dim(0)?);
    if a.dims() != [rank, input] || b.dims() != [out, rank] {
        bail!("a low-rank update of {:?} and {:?} beside a weight of {:?}", a.dims(), b.dims(), weight.dims())
    }
    let op = LoraLinear { weight: weight.clone(), bias: bias.map(Tensor::contiguous).transpose()?, scale: scale as f32 };
    x.contiguous()?.apply_op3(&a.contiguous()?, &b.contiguous()?, op)
}

struct LoraLinear {
    weight: Tensor,
    bias: Option<Tensor>,
    scale: f32,
}

/// The update's matrices, borrowed.
struct Pair<'a> {
    x: Matrix<'a>,
    a: Matrix<'a>,
    b: Matrix<'a>,
    rows: usize,
    rank: usize,
    input: usize,
    out: usize,
}

impl<'a> Pair<'a> {
    fn new(x: &'a [f32], a: &'a [f32], b: &'a [f32], rank: usize) -> Self {
        let (input, out) = (a.len() / rank, b.len() / rank);
        let rows = x.len() / input;
        Self { x: Matrix::new(x, rows, input), a: Matrix::new(a, rank, input), b: Matrix::new(b, out, rank), rows, rank, input, out }
    }

    /// `t = x A^T`.
    fn down(&self) -> Vec<f32> {
        let mut t = vec![0.0; self.rows * self.rank];
        gemm(Target::parallel(&mut t, self.rank), 1.0, self.x, self.a.t());
        t
    }
}

impl CustomOp3 for LoraLinear {
    fn name(&self) -> &'static str {
        "lora-linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        a: &CpuStorage,
        al: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let weight = read(&self.weight);
        let bias = self.bias.as_ref().map(read);
        let bias = bias.as_ref().map(|bias| bias.floats()).transpose()?;
        let x = floats(x, xl)?;
        let (mut y, shape) = linear::forward(x, xl.dims(), weight.floats()?, self.weight.dims2()?, bias)?;
        let pair = Pair::new(x, floats(a, al)?, floats(b, bl)?, al.dims()[0]);
        let t = pair.down();
        gemm(Target::parallel(&mut y, pair.out).adding(), self.scale, Matrix::new(&t, pair.rows, pair.rank), pair.b.t());
        Ok((CpuStorage::F32(y), shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        a: &Tensor,
        b: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (x_reader, a_reader, b_reader, grad_reader) = (read(x), read(a), read(b), read(&grad));
        let pair = Pair::new(x_reader.floats()?, a_reader.floats()?, b_reader.floats()?, a.dim(0)?);
        let g = Matrix::new(grad_reader.floats()?, pair.rows, pair.out);
        let mut dt = vec![0.0; pair.rows * pair.rank];
        gemm(Target::parallel(&mut dt, pair.rank), self.scale, g, pair.b);
        let dt = Matrix::new(&dt, pair.rows, pair.rank);
        let dx = x.track_op().then(|| self.input_gradient(&pair, g, dt)).transpose()?;
        let dx = dx.map(|dx| tensor_like(dx, x)).transpose()?;
        let (da, db) = self.pair_gradients(&pair, g, dt);
        Ok((dx, a.track_op().then(|| tensor_like(da, a)).transpose()?, b.track_op().then(|| tensor_like(db, b)).transpose()?))
    }
}

impl LoraLinear {
    fn input_gradient(&self, pair: &Pair, g: Matrix, dt: Matrix) -> Result<Vec<f32>> {
        let weight = read(&self.weight);
        let mut dx = vec![0.0; pair.rows * pair.input];
        gemm(Target::parallel(&mut dx, pair.input), 1.0, g, Matrix::new(weight.floats()?, pair.out, pair.input));
        gemm(Target::parallel(&mut dx, pair.input).adding(), 1.0, dt, pair.a);
        Ok(dx)
    }

    fn pair_gradients(&self, pair: &Pair, g: Matrix, dt: Matrix) -> (Vec<f32>, Vec<f32>) {
        let t = pair.down();
        let (mut da, mut db) = (vec![0.0; pair.rank * pair.input], vec![0.0; pair.out * pair.rank]);
        gemm(Target::parallel(&mut da, pair.input), 1.0, dt.t(), pair.x);
        gemm(Target::parallel(&mut db, pair.rank), self.scale, g.t(), Matrix::new(&t, pair.rows, pair.rank));
        (da, db)
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Case;
    use super::super::reference;
    use super::*;

    #[test]
    fn it_agrees_with_the_reference() {
        for (rows, input, out, rank) in [(1, 3, 5, 1), (7, 17, 9, 4), (70, 40, 33, 16)] {
            let case = Case::new(&[&[2, rows, input], &[rank, input], &[out, rank]]);
            let (weight, bias) = (case.constant(&[out, input]), case.constant(&[out]));
            for bias in [None, Some(&bias)] {
                case.check(
                    |t| lora_linear(&t[0], &weight, bias, (&t[1], &t[2]), 0.7),
                    |t| reference::lora_linear(&t[0], &weight, bias, (&t[1], &t[2]), 0.7),
                );
            }
        }
    }

    #[test]
    fn a_trainable_base_weight_keeps_its_gradient() {
        Case::new(&[&[5, 6], &[2, 6], &[4, 2], &[4, 6]]).check(
            |t| lora_linear(&t[0], &t[3], None, (&t[1], &t[2]), 2.0),
            |t| reference::lora_linear(&t[0], &t[3], None, (&t[1], &t[2]), 2.0),
        );
    }
}
