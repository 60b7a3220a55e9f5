//! Which slices are few enough to be read: a slice name with many values stands in the quality table, not in words, contrasts or figures.

use std::collections::{BTreeMap, BTreeSet};

use crate::table::Tables;

/// Values of a slice name beyond which it is wide.
const WIDE: usize = 6;

/// A slice name of the dataset with its slices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SliceName {
    /// Such as `task`.
    pub name: String,
    /// Such as `task=lookup`, as in the tables.
    pub slices: Vec<String>,
}

impl SliceName {
    /// It has too many values to list in words.
    pub(super) fn is_wide(&self) -> bool {
        self.slices.len() > WIDE
    }
}

/// The slice names of the test questions, in order of their letters.
pub(super) fn names(tables: &Tables) -> Vec<SliceName> {
    let mut values = BTreeMap::<&str, BTreeSet<String>>::new();
    for (name, value) in tables.data.samples.iter().flat_map(|sample| &sample.slices) {
        values.entry(name).or_default().insert(format!("{name}={value}"));
    }
    values.into_iter().map(|(name, slices)| SliceName { name: name.to_owned(), slices: slices.into_iter().collect() }).collect()
}

/// The slice names that are not wide.
pub(super) fn narrow(tables: &Tables) -> Vec<SliceName> {
    names(tables).into_iter().filter(|name| !name.is_wide()).collect()
}
