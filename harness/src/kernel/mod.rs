//! Numeric loops on slices: matrix products, packed weights, vectorised elementary functions. Nothing here knows of tensors or models.
//!
//! Every result is a fixed sequence of roundings per element. Neither the number of threads, nor the instruction set, nor what else is
//! computed in the same call changes a bit of it.

pub mod elementwise;
mod gemm;
mod lanes;
mod packed;
mod panels;
pub mod simd;
mod team;
mod tile;
mod transpose;

pub use gemm::{Matrix, Target, gemm};
pub use packed::{PARALLEL_FROM_CACHE, PARALLEL_FROM_MEMORY, Packed, WeightForm};
pub use panels::{PANEL_COLUMNS, Panels, Rows, multiply_panels};
pub use team::{Team, with_team};
