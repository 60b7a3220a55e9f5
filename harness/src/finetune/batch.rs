//! A micro-batch as tensors: right-padded tokens, and the positions that the loss looks at.

use candle_core::{Device, Result, Tensor};

use super::TrainingSequence;

/// Rows of one forward pass. The last token of a row is only ever a target, so a row of L tokens takes L - 1 positions.
#[derive(Debug)]
pub struct MicroBatch {
    /// `[B, T]` u32, padded with 0 on the right; a causal mask keeps the padding out of sight.
    pub tokens: Tensor,
    /// Rows of `[B * T, C]` whose prediction counts, `[N]` u32; nothing when no weight is set.
    pub positions: Tensor,
    /// What they should predict, `[N]` u32.
    pub targets: Tensor,
    /// Loss weights, `[N]` f32.
    pub weights: Tensor,
    /// Sum of the weights.
    pub weight_sum: f64,
    /// Positions that are computed, row by row, padding not counted.
    pub lengths: Vec<usize>,
    /// The same rows without padding.
    pub rows: Vec<BatchRow>,
}

/// One row of a micro-batch.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchRow {
    /// What is put in.
    pub tokens: Vec<u32>,
    /// What should come out, in order of positions.
    pub labels: Vec<RowLabel>,
}

/// A position whose prediction counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowLabel {
    /// Position in the row.
    pub position: usize,
    /// What it should predict.
    pub target: u32,
    /// Loss weight, not zero.
    pub weight: f32,
}

impl BatchRow {
    fn new(row: &TrainingSequence) -> Self {
        let counted = row.loss_weights.iter().enumerate().skip(1).filter(|(_, weight)| **weight != 0.0);
        let label = |(target, &weight): (usize, &f32)| RowLabel { position: target - 1, target: row.tokens[target], weight };
        Self { tokens: row.tokens[..row.tokens.len().saturating_sub(1)].to_vec(), labels: counted.map(label).collect() }
    }
}

impl MicroBatch {
    /// Packs rows; each must have two tokens or more to count.
    pub fn new(rows: &[TrainingSequence], device: &Device) -> Result<Self> {
        let rows: Vec<BatchRow> = rows.iter().map(BatchRow::new).collect();
        let lengths: Vec<usize> = rows.iter().map(|row| row.tokens.len()).collect();
        let width = lengths.iter().copied().max().unwrap_or(0).max(1);
        let mut tokens = vec![0u32; rows.len() * width];
        let (mut positions, mut targets, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (row, &length)) in rows.iter().zip(&lengths).enumerate() {
            tokens[index * width..][..length].copy_from_slice(&row.tokens);
            for label in &row.labels {
                positions.push((index * width + label.position) as u32);
                targets.push(label.target);
                weights.push(label.weight);
            }
        }
        let count = positions.len();
        Ok(Self {
            tokens: Tensor::from_vec(tokens, (rows.len(), width), device)?,
            positions: Tensor::from_vec(positions, count, device)?,
            targets: Tensor::from_vec(targets, count, device)?,
            weight_sum: weights.iter().map(|&weight| f64::from(weight)).sum(),
            weights: Tensor::from_vec(weights, count, device)?,
            lengths,
            rows,
        })
    }

    /// Number of positions that the loss looks at.
    pub fn predictions(&self) -> usize {
        self.targets.elem_count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_padded_on_the_right_and_weights_point_one_position_back() {
        let row = |tokens: &[u32], loss_weights: &[f32]| TrainingSequence { tokens: tokens.to_vec(), loss_weights: loss_weights.to_vec() };
        let rows = [row(&[1, 2, 3, 4], &[9.0, 0.0, 1.0, 0.5]), row(&[5, 6], &[0.0, 2.0])];
        let batch = MicroBatch::new(&rows, &Device::Cpu).unwrap();
        assert_eq!(batch.tokens.to_vec2::<u32>().unwrap(), [[1, 2, 3], [5, 0, 0]]);
        assert_eq!(batch.positions.to_vec1::<u32>().unwrap(), [1, 2, 3]);
        assert_eq!(batch.targets.to_vec1::<u32>().unwrap(), [3, 4, 6]);
        assert_eq!(batch.weights.to_vec1::<f32>().unwrap(), [1.0, 0.5, 2.0]);
        assert_eq!((batch.weight_sum, batch.lengths), (3.5, vec![3, 1]));
    }
}
