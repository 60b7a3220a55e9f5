//! The vocabulary head and its loss together, some rows at a time, for vocabularies whose logits would not fit. The backward pass computes
//! the logits anew: `dz = (softmax(z) - onehot(target)) w / n`, `dh = dz W`, `dW = dz^T h`.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, DType, Layout, Result, Shape, Tensor};

use super::cross_entropy::Labels;
use super::storage::{floats, read, supported, tensor_like};
use crate::kernel::{Matrix, Target, gemm};

/// Logits that may stand in memory at a time: 32 MiB.
const LOGITS: usize = 1 << 23;

/// See [`super::head_cross_entropy`].
pub(super) fn head_cross_entropy(hidden: &Tensor, head: &Tensor, targets: &Tensor, weights: &Tensor, normaliser: f64) -> Result<Tensor> {
    let fits = supported(&[hidden, head, weights]) && head.is_contiguous() && targets.dtype() == DType::U32 && !weights.track_op();
    let ((rows, _), (vocabulary, _)) = (hidden.dims2()?, head.dims2()?);
    if !fits || rows * vocabulary <= LOGITS {
        // All the logits at once save the second product.
        return super::cross_entropy(&super::linear(hidden, head, None)?, targets, weights, normaliser);
    }
    let labels = Labels::new(targets, weights, normaliser, rows, vocabulary)?;
    in_chunks(hidden, head, labels, (LOGITS / vocabulary).max(16))
}

fn in_chunks(hidden: &Tensor, head: &Tensor, labels: Labels, rows: usize) -> Result<Tensor> {
    if hidden.dim(1)? != head.dim(1)? {
        candle_core::bail!("a head {:?} on hidden states {:?}", head.dims(), hidden.dims())
    }
    let hidden = hidden.contiguous()?;
    let chunks = Chunks { labels, rows };
    if head.track_op() { hidden.apply_op2(head, Trainable { chunks }) } else { hidden.apply_op1(Frozen { chunks, head: head.clone() }) }
}

struct Chunks {
    labels: Labels,
    /// Rows in a chunk.
    rows: usize,
}

impl Chunks {
    fn loss(&self, hidden: &[f32], head: &[f32], width: usize) -> (CpuStorage, Shape) {
        let mut logits = Vec::new();
        let losses = hidden.chunks(self.rows * width).enumerate().map(|(index, hidden)| {
            let vocabulary = logits_of(hidden, head, width, &mut logits);
            self.labels.loss(index * self.rows, &mut logits, vocabulary)
        });
        (CpuStorage::F32(vec![losses.sum::<f64>() as f32]), Shape::from(()))
    }

    /// `dh` and, if wanted, `dW`.
    fn gradients(&self, hidden: &Tensor, head: &Tensor, scale: f32) -> Result<(Tensor, Option<Tensor>)> {
        let width = hidden.dim(1)?;
        let (hidden_reader, head_reader) = (read(hidden), read(head));
        let (states, weight) = (hidden_reader.floats()?, head_reader.floats()?);
        let mut dh = vec![0.0; states.len()];
        let mut dw = head.track_op().then(|| vec![0.0; weight.len()]);
        let mut logits = Vec::new();
        let chunks = states.chunks(self.rows * width).zip(dh.chunks_mut(self.rows * width));
        for (index, (states, dh)) in chunks.enumerate() {
            let vocabulary = logits_of(states, weight, width, &mut logits);
            self.labels.gradient(index * self.rows, &mut logits, vocabulary, scale);
            let count = states.len() / width;
            let dz = Matrix::new(&logits, count, vocabulary);
            gemm(Target::parallel(dh, width), 1.0, dz, Matrix::new(weight, vocabulary, width));
            if let Some(dw) = &mut dw {
                gemm(Target::parallel(dw, width).adding(), 1.0, dz.t(), Matrix::new(states, count, width));
            }
        }
        Ok((tensor_like(dh, hidden)?, dw.map(|dw| tensor_like(dw, head)).transpose()?))
    }
}

/// Fills `logits` with `h W^T`; gives the size of the vocabulary.
fn logits_of(hidden: &[f32], head: &[f32], width: usize, logits: &mut Vec<f32>) -> usize {
    let (rows, vocabulary) = (hidden.len() / width, head.len() / width);
    logits.resize(rows * vocabulary, 0.0);
    gemm(Target::parallel(logits, vocabulary), 1.0, Matrix::new(hidden, rows, width), Matrix::new(head, vocabulary, width).t());
    vocabulary
}

/// A head that gets no gradient; it stays outside the graph.
struct Frozen {
    chunks: Chunks,
    head: Tensor,
}

impl CustomOp1 for Frozen {
    fn name(&self) -> &'static str {
        "frozen-head-cross-entropy"
    }

    fn cpu_fwd(&self, hidden: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let head = read(&self.head);
        Ok(self.chunks.loss(floats(hidden, layout)?, head.floats()?, layout.dims()[1]))
    }

    fn bwd(&self, hidden: &Tensor, _loss: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.chunks.gradients(hidden, &self.head, grad.to_scalar()?)?.0))
    }
}

/// A head that may get a gradient.
struct Trainable {
    chunks: Chunks,
}

impl CustomOp2 for Trainable {
    fn name(&self) -> &'static str {
        "head-cross-entropy"
    }

    fn cpu_fwd(&self, hidden: &CpuStorage, layout: &Layout, head: &CpuStorage, head_layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(self.chunks.loss(floats(hidden, layout)?, floats(head, head_layout)?, layout.dims()[1]))
    }

    fn bwd(&self, hidden: &Tensor, head: &Tensor, _loss: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dh, dw) = self.chunks.gradients(hidden, head, grad.to_scalar()?)?;
        Ok((hidden.track_op().then_some(dh), dw))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::check::Case;
    use super::super::reference;
    use super::*;

    const NORMALISER: f64 = 3.0;

    fn labels(rows: usize, vocabulary: usize) -> (Tensor, Tensor) {
        let targets: Vec<u32> = (0..rows as u32).map(|i| (i * 7) % vocabulary as u32).collect();
        let weights: Vec<f32> = (0..rows).map(|i| (i % 3) as f32).collect();
        (Tensor::new(targets, &Device::Cpu).unwrap(), Tensor::new(weights, &Device::Cpu).unwrap())
    }

    fn chunked(hidden: &Tensor, head: &Tensor, (targets, weights): &(Tensor, Tensor)) -> Result<Tensor> {
        in_chunks(hidden, head, Labels::new(targets, weights, NORMALISER, hidden.dim(0)?, head.dim(0)?)?, 16)
    }

    fn whole(hidden: &Tensor, head: &Tensor, (targets, weights): &(Tensor, Tensor)) -> Result<Tensor> {
        reference::cross_entropy(&reference::linear(hidden, head, None)?, targets, weights, NORMALISER)
    }

    #[test]
    fn chunks_agree_with_the_reference() {
        for (rows, vocabulary, width) in [(1, 3, 2), (16, 33, 8), (53, 130, 9)] {
            let labels = labels(rows, vocabulary);
            let case = Case::new(&[&[rows, width]]);
            let head = case.constant(&[vocabulary, width]);
            case.check(|t| chunked(&t[0], &head, &labels), |t| whole(&t[0], &head, &labels));
            Case::new(&[&[rows, width], &[vocabulary, width]]).check(|t| chunked(&t[0], &t[1], &labels), |t| whole(&t[0], &t[1], &labels));
        }
    }

    #[test]
    fn a_tied_embedding_gets_both_gradients() {
        let labels = labels(20, 30);
        let tokens = Tensor::arange(0u32, 20, &Device::Cpu).unwrap();
        Case::new(&[&[30, 5]]).check(
            |t| chunked(&t[0].index_select(&tokens, 0)?, &t[0], &labels),
            |t| whole(&t[0].index_select(&tokens, 0)?, &t[0], &labels),
        );
    }

    #[test]
    fn a_large_vocabulary_is_taken_in_chunks_and_a_small_one_whole_with_one_result() {
        let (rows, vocabulary) = (140, 65_536);
        let labels = labels(rows, vocabulary);
        let case = Case::new(&[]);
        let (hidden, head) = (case.constant(&[rows, 4]), case.constant(&[vocabulary, 4]));
        let loss = head_cross_entropy(&hidden, &head, &labels.0, &labels.1, NORMALISER).unwrap().to_scalar::<f32>().unwrap();
        let expected = whole(&hidden, &head, &labels).unwrap().to_scalar::<f32>().unwrap();
        assert!((loss - expected).abs() < 1e-4 * expected, "{loss}, expected {expected}");
    }
}
