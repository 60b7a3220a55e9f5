//! A low-rank adapter as the engine reads it: per group of projections one down and one up matrix.

use crate::kernel::{Packed, WeightForm};

use super::super::config::{DecoderConfig, Module};
use super::weights::Group;

/// One layer's update in row-major f32: `A` `[r, in]`, `B` `[out, r]` and what outputs are multiplied by (DoRA), `[out]`.
#[derive(Debug, Clone)]
pub struct DensePair {
    /// Down projection.
    pub a: Vec<f32>,
    /// Up projection.
    pub b: Vec<f32>,
    /// What every output is multiplied by, the bias aside.
    pub gain: Option<Vec<f32>>,
}

/// A packed adapter.
#[derive(Debug)]
pub struct PackedAdapter {
    /// By block, then in the order of [`Group::ALL`].
    pub(super) blocks: Vec<[Option<LowRank>; 4]>,
}

/// The update of a group: `y += (x A^T) B^T`, the scale being in `B`; then `y *= gain`, if there is one.
#[derive(Debug)]
pub(super) struct LowRank {
    pub a: Packed,
    pub b: Packed,
    pub gain: Option<Vec<f32>>,
}

impl PackedAdapter {
    /// Packs `scale B A` for every layer and module that `pair` gives.
    ///
    /// # Errors
    /// When the system has no memory for the panels.
    pub fn pack(config: &DecoderConfig, scale: f32, pair: impl Fn(usize, Module) -> Option<DensePair>) -> std::io::Result<Self> {
        let mut blocks = Vec::with_capacity(config.num_hidden_layers);
        for layer in 0..config.num_hidden_layers {
            let mut groups = Vec::with_capacity(4);
            for group in Group::ALL {
                groups.push(low_rank(config, scale, group, |module| pair(layer, module))?);
            }
            blocks.push(groups.try_into().expect("four groups"));
        }
        Ok(Self { blocks })
    }
}

/// The pairs of a group in one: `A` stacked, `B` block by block along the diagonal (the zeros between change no sum).
fn low_rank(
    config: &DecoderConfig,
    scale: f32,
    group: Group,
    pair: impl Fn(Module) -> Option<DensePair>,
) -> std::io::Result<Option<LowRank>> {
    let shapes = config.linear_shapes();
    let (_, _, inputs) = shapes[group.modules()[0] as usize];
    let pairs: Vec<(usize, Option<DensePair>)> = group.modules().iter().map(|&module| (shapes[module as usize].1, pair(module))).collect();
    let rank_of = |pair: &Option<DensePair>| pair.as_ref().map_or(0, |pair| pair.a.len() / inputs);
    let rank: usize = pairs.iter().map(|(_, pair)| rank_of(pair)).sum();
    if rank == 0 {
        return Ok(None);
    }
    let outputs: usize = pairs.iter().map(|(outputs, _)| outputs).sum();
    let mut b = vec![0.0; outputs * rank];
    let (mut row, mut column) = (0, 0);
    for (outputs, pair) in &pairs {
        let own = rank_of(pair);
        if let Some(pair) = pair {
            for (from, to) in pair.b.chunks_exact(own).zip(b[row * rank..].chunks_exact_mut(rank)) {
                to[column..column + own].iter_mut().zip(from).for_each(|(to, from)| *to = scale * from);
            }
        }
        row += outputs;
        column += own;
    }
    let a: Vec<&[f32]> = pairs.iter().filter_map(|(_, pair)| Some(pair.as_ref()?.a.as_slice())).collect();
    let gained = |(_, pair): &(usize, Option<DensePair>)| pair.as_ref().is_some_and(|pair| pair.gain.is_some());
    let gain = pairs.iter().any(gained).then(|| {
        let own = |(outputs, pair): &(usize, Option<DensePair>)| {
            pair.as_ref().and_then(|pair| pair.gain.clone()).unwrap_or_else(|| vec![1.0; *outputs])
        };
        pairs.iter().flat_map(own).collect()
    });
    Ok(Some(LowRank { a: Packed::new(&a, inputs, WeightForm::F32)?, b: Packed::new(&[&b], rank, WeightForm::F32)?, gain }))
}
