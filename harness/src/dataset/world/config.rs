//! The size of a world.

use serde::{Deserialize, Serialize};

/// How often pre-training shows a known fact, by stratum.
pub const EXPOSURES: [u32; 4] = [1, 10, 100, 1000];

/// Seed and numbers of entities.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorldConfig {
    /// Everything is drawn from it.
    pub seed: u64,
    /// Entities whose facts are in pre-training and asked about in the test split: so many for each number of exposures in
    /// [`EXPOSURES`] and each way of wording.
    pub known_test: [usize; 4],
    /// Entities whose facts are in pre-training (50 times, asked) and asked about in the training labels.
    pub known_train: usize,
    /// Entities whose facts are in pre-training (50 times, asked), and two of them have changed since.
    pub updated: usize,
    /// Entities that only the documents know, asked about in the test split.
    pub fresh_test: usize,
    /// The same, asked about in the training labels.
    pub fresh_train: usize,
    /// The same, asked about in the validation labels.
    pub fresh_validation: usize,
    /// Entities that nobody asks about, with names near to those of test entities.
    pub near_names: usize,
    /// Entities that nobody asks about, with names of three words.
    pub crowd: usize,
}

/// Worlds to choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Some dozens of documents, for tests.
    Tiny,
    /// The built-in dataset.
    Standard,
    /// A hundred thousand documents. The questions are as many as in the standard world, and more is in their way.
    Large,
}

impl WorldConfig {
    /// The world of a size.
    pub fn of(size: Size, seed: u64) -> Self {
        let standard = Self {
            seed,
            known_test: [20, 20, 20, 8],
            known_train: 60,
            updated: 110,
            fresh_test: 240,
            fresh_train: 180,
            fresh_validation: 30,
            near_names: 560,
            crowd: 0,
        };
        match size {
            Size::Tiny => Self {
                known_test: [1, 1, 1, 1],
                known_train: 4,
                updated: 4,
                fresh_test: 16,
                fresh_train: 16,
                fresh_validation: 4,
                near_names: 16,
                ..standard
            },
            Size::Standard => standard,
            Size::Large => Self { near_names: 3_000, crowd: 96_300, ..standard },
        }
    }
}

impl Default for WorldConfig {
    /// The standard world of seed 1: the built-in dataset.
    fn default() -> Self {
        Self::of(Size::Standard, 1)
    }
}
