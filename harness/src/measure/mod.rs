//! Measuring: a spec becomes a plan, a plan becomes journal rows.
//!
//! [`plan`] finds everything wrong that can be found without weights; [`runner`] carries a plan out, phase by phase, each resumable. Accuracy
//! is measured in batches, latency one question at a time, and their rows never mix. Nothing here prints: listeners are told by
//! [`events::RunEvent`]. Nothing after this module loads a model.

pub mod accuracy;
pub mod audit;
pub mod bench;
pub mod calibration;
pub mod choice;
pub mod contention;
pub mod counters;
pub mod energy;
pub mod events;
pub mod export;
pub mod hash;
pub mod identity;
pub mod latency;
pub mod merge;
pub mod noise;
pub mod offline;
pub mod plan;
pub mod predicted;
pub mod query;
pub mod runner;
pub mod scale;
pub mod served;
pub mod server;
pub mod shard;
pub mod source;
pub mod training;
pub mod verify;
