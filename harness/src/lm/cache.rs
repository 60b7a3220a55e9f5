//! Keys and values of past positions, in room that is set aside once.
//!
//! Shapes: B batch, T new positions, S past and new positions, K key/value heads, D head width.

use candle_core::{Result, Tensor};

/// The cache of one batch. A step writes only its own positions; nothing is copied as the sequence grows.
#[derive(Debug, Clone)]
pub struct KvCache {
    capacity: usize,
    layers: Vec<LayerCache>,
}

#[derive(Debug, Clone)]
struct LayerCache {
    /// `[B, K, capacity, D]`.
    key: Tensor,
    /// `[B, K, capacity, D]`.
    value: Tensor,
    len: usize,
}

impl KvCache {
    /// An empty cache for up to `capacity` positions.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { capacity, layers: Vec::new() }
    }

    /// Positions held.
    pub fn len(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.len)
    }

    /// Whether no position is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps the given rows of the batch, in the given order.
    pub fn keep_rows(&mut self, rows: &Tensor) -> Result<()> {
        for layer in &mut self.layers {
            layer.key = layer.key.index_select(rows, 0)?;
            layer.value = layer.value.index_select(rows, 0)?;
        }
        Ok(())
    }

    /// Adds the new keys and values `[B, K, T, D]` of a layer and gives all of them, `[B, K, S, D]`, as views into the cache.
    pub(super) fn extend(&mut self, layer: usize, key: &Tensor, value: &Tensor) -> Result<(Tensor, Tensor)> {
        if layer == self.layers.len() {
            let (b, heads, _, d) = key.dims4()?;
            let room = || Tensor::zeros((b, heads, self.capacity, d), key.dtype(), key.device());
            self.layers.push(LayerCache { key: room()?, value: room()?, len: 0 });
        }
        let cache = &mut self.layers[layer];
        cache.key.slice_set(&key.contiguous()?, 2, cache.len)?;
        cache.value.slice_set(&value.contiguous()?, 2, cache.len)?;
        cache.len += key.dim(2)?;
        Ok((cache.key.narrow(2, 0, cache.len)?, cache.value.narrow(2, 0, cache.len)?))
    }
}
