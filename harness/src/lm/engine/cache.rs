//! Keys and values of one sequence, in panels that the attention multiplies as they stand.
//!
//! Per layer and key head: keys as `[positions / 32][D][32]`, so that 32 scores are computed at a time; values as `[D / 32][capacity][32]`,
//! so that the mixture runs over rising positions.

use std::sync::Arc;

use crate::kernel::{PANEL_COLUMNS, Panels};

use super::super::config::DecoderConfig;

/// The cache of one sequence. A prefix that several sequences begin with can be computed once and shared.
#[derive(Debug, Clone)]
pub struct SequenceCache {
    capacity: usize,
    kv_heads: usize,
    width: usize,
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
    len: usize,
    prefix: Option<Arc<SequenceCache>>,
}

impl SequenceCache {
    /// An empty cache for up to `capacity` positions, those of a prefix not counted.
    pub fn new(config: &DecoderConfig, capacity: usize) -> Self {
        let capacity = capacity.next_multiple_of(PANEL_COLUMNS);
        let (kv_heads, width) = (config.num_key_value_heads, config.head_dim);
        let keys = vec![vec![0.0; kv_heads * capacity * width]; config.num_hidden_layers];
        let values = vec![vec![0.0; kv_heads * capacity * width.next_multiple_of(PANEL_COLUMNS)]; config.num_hidden_layers];
        Self { capacity, kv_heads, width, keys, values, len: 0, prefix: None }
    }

    /// Forgets everything, and begins after `prefix`.
    pub fn restart(&mut self, prefix: Option<Arc<SequenceCache>>) {
        self.len = 0;
        self.prefix = prefix;
    }

    /// Positions held, the prefix included.
    pub fn len(&self) -> usize {
        self.prefix_len() + self.len
    }

    /// Whether no position is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Positions of the shared prefix.
    pub fn prefix_len(&self) -> usize {
        self.prefix.as_ref().map_or(0, |prefix| prefix.len)
    }

    /// The shared prefix.
    pub(super) fn prefix(&self) -> Option<&SequenceCache> {
        self.prefix.as_deref()
    }

    /// Counts positions that every layer has stored.
    pub(super) fn advance(&mut self, count: usize) {
        self.len += count;
        assert!(self.len <= self.capacity, "more positions than a sequence has room for");
    }

    /// Stores one position of a layer: `key` and `value` are `[K * D]`; `ahead` counts from the first position that is not held yet.
    pub(super) fn store(&mut self, layer: usize, ahead: usize, key: &[f32], value: &[f32]) {
        let position = self.len + ahead;
        assert!(position < self.capacity, "more positions than a sequence has room for");
        let (capacity, width, columns) = (self.capacity, self.width, PANEL_COLUMNS);
        let value_room = capacity * width.next_multiple_of(columns);
        for head in 0..self.kv_heads {
            let panel = &mut self.keys[layer][head * capacity * width + position / columns * columns * width..][..columns * width];
            for (line, key) in panel.chunks_exact_mut(columns).zip(&key[head * width..]) {
                line[position % columns] = *key;
            }
            let panels = &mut self.values[layer][head * value_room..][..value_room];
            for (panel, value) in panels.chunks_exact_mut(capacity * columns).zip(value[head * width..][..width].chunks(columns)) {
                panel[position * columns..][..value.len()].copy_from_slice(value);
            }
        }
    }

    /// Keys of `count` own positions from `first` on (where a panel begins) as a factor `[D, count]`.
    pub(super) fn key_panels(&self, layer: usize, head: usize, first: usize, count: usize) -> Panels<'_> {
        let room = self.capacity * self.width;
        let data = &self.keys[layer][head * room..][first * self.width..room];
        Panels { data, stride: PANEL_COLUMNS * self.width, depth: self.width, cols: count }
    }

    /// Values of `count` own positions from `first` on as a factor `[count, D]`.
    pub(super) fn value_panels(&self, layer: usize, head: usize, first: usize, count: usize) -> Panels<'_> {
        let room = self.capacity * self.width.next_multiple_of(PANEL_COLUMNS);
        let data = &self.values[layer][head * room..][first * PANEL_COLUMNS..room];
        Panels { data, stride: self.capacity * PANEL_COLUMNS, depth: count, cols: self.width }
    }
}
