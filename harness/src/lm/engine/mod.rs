//! The inference engine for this machine's processor: packed weights, a cache per sequence, any mix of prompts and single tokens in one
//! step, sequences joining and leaving as they come and end.
//!
//! A row of a step has the same bits whatever else is in the step (see [`crate::kernel`]). So an answer depends neither on the batch size,
//! nor on which prompts are computed together, nor on whether a prefix is shared or a position cached, nor on the number of threads.
//!
//! Shapes: M rows of a step, C hidden width, H query heads, K key/value heads, D head width, I inner width, V vocabulary.

mod adapter;
mod attention;
mod cache;
mod schedule;
mod step;
mod weights;

use super::ModelError;
use super::config::DecoderConfig;
use crate::kernel::{PARALLEL_FROM_CACHE, PARALLEL_FROM_MEMORY, WeightForm};

#[cfg(test)]
mod tests;

pub use adapter::{DensePair, PackedAdapter};
pub use cache::SequenceCache;
pub use schedule::{Answered, Next, Request, Schedule};
pub use step::{Segment, Workspace};
pub use weights::{Group, WeightSource};

/// Weights of more bytes than this do not stay in a processor's caches from one token to the next.
const CACHED_BYTES: usize = 24 << 20;

/// A decoder, packed for inference.
#[derive(Debug)]
pub struct Engine {
    config: DecoderConfig,
    weights: weights::Weights,
    /// Cosines and sines of the rotary embedding.
    tables: RotaryTables,
    /// The same for blocks that turn by frequencies of their own.
    local_tables: Option<RotaryTables>,
    form: WeightForm,
}

/// Cosines and sines, `[positions, D/2]`.
pub type RotaryTables = (Vec<f32>, Vec<f32>);

impl Engine {
    /// Packs the weights of `source`; `local_tables` are for blocks that turn by frequencies of their own, where there are some.
    ///
    /// # Errors
    /// When the system has no memory for the panels.
    pub fn pack(
        config: &DecoderConfig,
        source: &dyn WeightSource,
        tables: RotaryTables,
        local_tables: Option<RotaryTables>,
        form: WeightForm,
    ) -> Result<Self, ModelError> {
        Ok(Self { weights: weights::Weights::pack(config, source, form)?, config: config.clone(), tables, local_tables, form })
    }

    /// The form in which the weights are held.
    pub fn form(&self) -> WeightForm {
        self.form
    }

    /// Shape of the decoder.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        self.weights.bytes()
    }

    /// Whether a small model is faster with every thread on sequences of its own than with all threads on one product.
    fn fits_a_cache(&self) -> bool {
        self.bytes() <= CACHED_BYTES
    }

    /// From how many multiply-adds on the threads share a product.
    fn parallel_from(&self) -> usize {
        if self.fits_a_cache() { PARALLEL_FROM_CACHE } else { PARALLEL_FROM_MEMORY }
    }
}
