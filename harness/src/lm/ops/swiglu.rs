//! `y = silu(gate) up`. With `s = sigmoid(gate)`: `d_up = g gate s`, `d_gate = g up s (1 + gate (1 - s))`.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::storage::{floats, read, supported, tensor_like};
use crate::kernel::elementwise::{swiglu as forward, swiglu_backward as backward};
use crate::kernel::simd::{for_row_chunks, rows_per_chunk, vectorized};

/// See [`super::swiglu`].
pub(super) fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if !supported(&[gate, up]) || gate.dims() != up.dims() {
        return super::reference::swiglu(gate, up);
    }
    gate.contiguous()?.apply_op2(&up.contiguous()?, SwiGlu)
}

struct SwiGlu;

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(&self, gate: &CpuStorage, layout: &Layout, up: &CpuStorage, up_layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (floats(gate, layout)?, floats(up, up_layout)?);
        let mut y = vec![0.0; gate.len()];
        for_row_chunks(&mut y, 1, |first, y| {
            let (gate, up) = (&gate[first..][..y.len()], &up[first..][..y.len()]);
            vectorized(
                #[inline(always)]
                || forward(gate, up, y),
            );
        });
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, gate: &Tensor, up: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (gate_reader, up_reader, grad) = (read(gate), read(up), read(&grad));
        let (d_gate, d_up) = gradients(gate_reader.floats()?, up_reader.floats()?, grad.floats()?);
        let d_gate = gate.track_op().then(|| tensor_like(d_gate, gate)).transpose()?;
        Ok((d_gate, up.track_op().then(|| tensor_like(d_up, up)).transpose()?))
    }
}

fn gradients(gate: &[f32], up: &[f32], grad: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let chunk = rows_per_chunk(1);
    let (mut d_gate, mut d_up) = (vec![0.0; gate.len()], vec![0.0; gate.len()]);
    d_gate.par_chunks_mut(chunk).zip(d_up.par_chunks_mut(chunk)).enumerate().for_each(|(index, (d_gate, d_up))| {
        let range = index * chunk..index * chunk + d_gate.len();
        let (gate, up, grad) = (&gate[range.clone()], &up[range.clone()], &grad[range]);
        vectorized(
            #[inline(always)]
            || backward(gate, up, grad, d_gate, d_up),
        );
    });
    (d_gate, d_up)
}

#[cfg(test)]
mod tests {
    use super::super::check::Case;
    use super::super::reference;
    use super::*;

    #[test]
    fn it_agrees_with_the_reference() {
        for shape in [&[1][..], &[3, 5, 7], &[60, 300]] {
            Case::new(&[shape, shape]).check(|t| swiglu(&t[0], &t[1]), |t| reference::swiglu(&t[0], &t[1]));
        }
    }

    #[test]
    fn far_tails_stay_finite() {
        let gate = Tensor::new(&[-300f32, -100.0, 100.0, 300.0], &candle_core::Device::Cpu).unwrap();
        let y = swiglu(&gate, &gate.ones_like().unwrap()).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(y, [0.0, 0.0, 100.0, 300.0]);
    }
}
