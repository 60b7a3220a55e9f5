//! `y = x W^T + b`. With a frozen weight the backward pass is one product, `dx = g W`; candle's `matmul` would compute `dW` as well and
//! throw it away.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};

use super::storage::{floats, read, supported, tensor_like};
use crate::kernel::{Matrix, Target, gemm};

/// See [`super::linear`].
pub(super) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    if !supported(&[x, weight]) || !weight.is_contiguous() || bias.is_some_and(|bias| !supported(&[bias])) {
        return super::reference::linear(x, weight, bias);
    }
    weight.dims2()?;
    let x = x.contiguous()?;
    if weight.track_op() || bias.is_some_and(Tensor::track_op) {
        let y = x.apply_op2(weight, Trainable)?;
        return bias.map_or(Ok(y.clone()), |bias| y.broadcast_add(bias));
    }
    let bias = bias.map(Tensor::contiguous).transpose()?;
    x.apply_op1(Frozen { weight: weight.clone(), bias })
}

/// A layer whose weights get no gradient; they stay outside the graph.
struct Frozen {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl CustomOp1 for Frozen {
    fn name(&self) -> &'static str {
        "frozen-linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let weight = read(&self.weight);
        let bias = self.bias.as_ref().map(read);
        let bias = bias.as_ref().map(|bias| bias.floats()).transpose()?;
        let (y, shape) = forward(floats(x, layout)?, layout.dims(), weight.floats()?, self.weight.dims2()?, bias)?;
        Ok((CpuStorage::F32(y), shape))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(input_gradient(x, &self.weight, &grad.contiguous()?)?))
    }
}

/// A layer whose weight may get a gradient too.
struct Trainable;

impl CustomOp2 for Trainable {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, x_layout: &Layout, weight: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (y, shape) = forward(floats(x, x_layout)?, x_layout.dims(), floats(weight, layout)?, layout.shape().dims2()?, None)?;
        Ok((CpuStorage::F32(y), shape))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let dx = x.track_op().then(|| input_gradient(x, weight, &grad)).transpose()?;
        let dw = weight.track_op().then(|| weight_gradient(x, weight, &grad)).transpose()?;
        Ok((dx, dw))
    }
}

/// `y` and its shape.
pub(super) fn forward(
    x: &[f32],
    dims: &[usize],
    weight: &[f32],
    (out, input): (usize, usize),
    bias: Option<&[f32]>,
) -> Result<(Vec<f32>, Shape)> {
    let Some((&last, leading)) = dims.split_last() else { candle_core::bail!("a linear layer needs at least one dimension") };
    if last != input {
        candle_core::bail!("a linear layer of {input} inputs was given {last}")
    }
    let rows = x.len() / input.max(1);
    let mut y = bias.map_or_else(|| vec![0.0; rows * out], |bias| bias.repeat(rows));
    let target = Target { accumulate: bias.is_some(), ..Target::parallel(&mut y, out) };
    gemm(target, 1.0, Matrix::new(x, rows, input), Matrix::new(weight, out, input).t());
    Ok((y, Shape::from([leading, &[out]].concat())))
}

/// `dx = g W`.
fn input_gradient(x: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let (out, input) = weight.dims2()?;
    let (weight, grad) = (read(weight), read(grad));
    let grad = grad.floats()?;
    let rows = grad.len() / out.max(1);
    let mut dx = vec![0.0; rows * input];
    gemm(Target::parallel(&mut dx, input), 1.0, Matrix::new(grad, rows, out), Matrix::new(weight.floats()?, out, input));
    tensor_like(dx, x)
}

/// `dW = g^T x`.
fn weight_gradient(x: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let (out, input) = weight.dims2()?;
    let (x, grad) = (read(x), read(grad));
    let grad = grad.floats()?;
    let rows = grad.len() / out.max(1);
    let mut dw = vec![0.0; out * input];
    gemm(Target::parallel(&mut dw, input), 1.0, Matrix::new(grad, rows, out).t(), Matrix::new(x.floats()?, rows, input));
    tensor_like(dw, weight)
}

#[cfg(test)]
mod tests {
    use super::super::check::Case;
    use super::super::reference;
    use super::*;

    #[test]
    fn trainable_weights_agree_with_the_reference() {
        for (rows, input, out) in [(1, 3, 5), (7, 17, 9), (70, 40, 33)] {
            Case::new(&[&[2, rows, input], &[out, input]]).check(|t| linear(&t[0], &t[1], None), |t| reference::linear(&t[0], &t[1], None));
            Case::new(&[&[rows, input], &[out, input], &[out]])
                .check(|t| linear(&t[0], &t[1], Some(&t[2])), |t| reference::linear(&t[0], &t[1], Some(&t[2])));
        }
    }

    #[test]
    fn frozen_weights_agree_with_the_reference() {
        for (rows, input, out) in [(1, 3, 5), (7, 17, 9), (70, 40, 33)] {
            let case = Case::new(&[&[2, rows, input]]);
            let (weight, bias) = (case.constant(&[out, input]), case.constant(&[out]));
            case.check(|t| linear(&t[0], &weight, None), |t| reference::linear(&t[0], &weight, None));
            case.check(|t| linear(&t[0], &weight, Some(&bias)), |t| reference::linear(&t[0], &weight, Some(&bias)));
            case.check(
                |t| linear(&t[0].transpose(0, 1)?, &weight, None),
                |t| reference::linear(&t[0].transpose(0, 1)?.contiguous()?, &weight, None),
            );
        }
    }

    #[test]
    fn a_wrong_width_is_an_error() {
        let case = Case::new(&[]);
        assert!(linear(&case.constant(&[2, 3]), &case.constant(&[4, 5]), None).is_err());
    }
}
