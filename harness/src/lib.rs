//! RAG, fine-tuning, or both, and at what cost?
//!
//! One dataset goes through variants of one model (`baseline`, `rag`, `finetuned`, `hybrid` and controls); every answer becomes a journal
//! row; tables, figures and reports are functions of the run folder alone. The modules below stand in the order in which data flows, and a
//! module imports from the ones above it only (`tests/it/tidy.rs` holds that).

pub mod clock;
pub mod diagnostic;
pub mod fence;
pub mod kernel;
pub mod rng;
pub mod stats;

pub mod spec;
pub mod store;

pub mod dataset;
pub mod score;

pub mod lm;

pub mod finetune;
pub mod retrieval;

pub mod variant;

pub mod measure;

pub mod table;

pub mod cost;

pub mod claim;

pub mod report;

pub mod gate;

pub mod export;

pub mod cli;
