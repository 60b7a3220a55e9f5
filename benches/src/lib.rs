//! Inputs of the benches: models, rows, texts, vectors and recorded runs, all made from fixed seeds, so that two runs measure the same work.
//!
//! The criterion benches and the instruction counts are in `benches/benches/`, the plots of how cost grows in `benches/src/bin/scaling/`, the
//! runs beside other systems in `benches/peers/`. Nothing here measures.

pub mod embedder;
pub mod model;
pub mod recorded;
pub mod text;
pub mod training;
pub mod vectors;

/// Seed of everything that is drawn.
pub const SEED: u64 = 20;
