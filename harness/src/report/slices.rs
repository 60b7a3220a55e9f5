//! Which slices are few enough to be read: a slice name with many values stands in the quality table, not in words, contrasts or figures.

use std::collections::{BTreeMap, BTreeSet};

use crate::table::Tables;

/// Values of a slice name beyond which it is wide.
const WIDE: usize = 8;
/// How many numbers a slice name may have to be drawn as a line.
const ORDERED: std::ops::RangeInclusive<usize> = 3..=24;

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

    /// Its values are numbers, and enough of them to see a course.
    pub(super) fn is_ordered(&self) -> bool {
        ORDERED.contains(&self.slices.len()) && self.slices.iter().all(|slice| self.number(slice).is_some())
    }

    /// Values and their slices, in the order of their numbers.
    pub(super) fn by_number(&self) -> Vec<(&str, &str)> {
        let mut slices: Vec<&str> = self.slices.iter().map(String::as_str).collect();
        slices.sort_by(|left, right| f64::total_cmp(&self.number(left).unwrap_or(f64::NAN), &self.number(right).unwrap_or(f64::NAN)));
        slices.into_iter().map(|slice| (self.value(slice), slice)).collect()
    }

    fn value<'a>(&self, slice: &'a str) -> &'a str {
        slice.get(self.name.len() + 1..).unwrap_or_default()
    }

    fn number(&self, slice: &str) -> Option<f64> {
        self.value(slice).trim().parse().ok().filter(|number: &f64| number.is_finite())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str, values: &[&str]) -> SliceName {
        SliceName { name: name.into(), slices: values.iter().map(|value| format!("{name}={value}")).collect() }
    }

    #[test]
    fn numbers_have_an_order_and_words_have_none() {
        let hops = name("hops", &["10", "2", "1.5", "-1"]);
        assert!(hops.is_ordered());
        assert_eq!(hops.by_number(), [("-1", "hops=-1"), ("1.5", "hops=1.5"), ("2", "hops=2"), ("10", "hops=10")]);
        assert!(!name("hops", &["1", "2"]).is_ordered(), "two values are no course");
        assert!(!name("hops", &["1", "2", "many"]).is_ordered());
        assert!(!name("hops", &["1", "2", "NaN"]).is_ordered());
        let ids: Vec<String> = (0..25).map(|id| id.to_string()).collect();
        assert!(!name("id", &ids.iter().map(String::as_str).collect::<Vec<_>>()).is_ordered(), "as good as one to a question");
    }
}
