//! Which slices are few enough to be read: a slice name with many values stands in the quality table, not in words, contrasts or figures.

use std::collections::{BTreeMap, BTreeSet};

use crate::table::Tables;

/// Values of a slice name beyond which it is wide.
const WIDE: usize = 8;

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
    for (name, value) in tables.data.samples.slice_sets().iter().flatten() {
        values.entry(name).or_default().insert(format!("{name}={value}"));
    }
    values.into_iter().map(|(name, slices)| SliceName { name: name.to_owned(), slices: slices.into_iter().collect() }).collect()
}

/// The slice names that are not wide.
pub(super) fn narrow(tables: &Tables) -> Vec<SliceName> {
    names(tables).into_iter().filter(|name| !name.is_wide()).collect()
}

/// Slice names that say what the model knows and what it has to do: they have a place where there is no room for all.
const FIRST: [&str; 2] = ["knowledge", "task"];
/// Slices that a figure has room for.
const SHOWN: usize = 16;

/// The slice names that figures and sentences show: whole names that are not wide, as many as there is room for. The others are in the
/// tables.
pub(super) fn shown(tables: &Tables) -> Vec<SliceName> {
    let mut names = narrow(tables);
    names.sort_by_key(|name| FIRST.iter().position(|first| *first == name.name).unwrap_or(FIRST.len()));
    let mut room = SHOWN;
    names.retain(|name| {
        let fits = name.slices.len() <= room;
        room -= if fits { name.slices.len() } else { 0 };
        fits
    });
    names.sort_by(|left, right| left.name.cmp(&right.name));
    names
}
