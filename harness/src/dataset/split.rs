//! Seeded splits and samples.

use std::collections::BTreeMap;

use super::check::RawSample;
use super::{Sample, Split};
use crate::rng::Rng;

/// Gives every sample without a split one: whole groups go to test, in seeded order, until it holds `test_fraction` of the questions as
/// nearly as whole groups allow; the others are training questions. A group is everything linked by the reader's group, by cluster or by
/// a relevant document, so that no document's questions are on both sides.
pub(super) fn divide(samples: &mut [RawSample], test_fraction: f64, seed: u64) {
    let mut groups = groups(samples);
    Rng::new(seed, "dataset/split").shuffle(&mut groups);
    let total: usize = groups.iter().map(Vec::len).sum();
    let target = test_fraction * total as f64;
    let mut tested = 0;
    for group in groups {
        let fits = tested == 0 || tested as f64 + group.len() as f64 / 2.0 <= target;
        tested += if fits { group.len() } else { 0 };
        for index in group {
            samples[index].split = Some(if fits { Split::Test } else { Split::Train });
        }
    }
}

/// Indices of samples without a split, by connected group, in order of first appearance.
fn groups(samples: &[RawSample]) -> Vec<Vec<usize>> {
    let mut links = Links::default();
    let open: Vec<usize> = (0..samples.len()).filter(|&index| samples[index].split.is_none()).collect();
    let roots: Vec<usize> = open.iter().map(|&index| links.join(&keys(&samples[index]))).collect();
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (&index, &root) in open.iter().zip(&roots) {
        members.entry(links.root(root)).or_default().push(index);
    }
    let mut groups: Vec<Vec<usize>> = members.into_values().collect();
    groups.sort_by_key(|group| group[0]);
    groups
}

fn keys(raw: &RawSample) -> Vec<String> {
    let mut keys = vec![format!("cluster {}", raw.sample.cluster_id())];
    keys.extend(raw.group.iter().map(|group| format!("group {group}")));
    keys.extend(raw.sample.relevant.iter().map(|id| format!("document {id}")));
    keys
}

/// Union-find over keys.
#[derive(Default)]
struct Links {
    nodes: BTreeMap<String, usize>,
    parents: Vec<usize>,
}

impl Links {
    fn join(&mut self, keys: &[String]) -> usize {
        let first = self.node(&keys[0]);
        for key in &keys[1..] {
            let (left, right) = (self.root(first), self.node(key));
            let right = self.root(right);
            self.parents[right] = left;
        }
        first
    }

    fn node(&mut self, key: &str) -> usize {
        if let Some(&node) = self.nodes.get(key) {
            return node;
        }
        let node = self.parents.len();
        self.parents.push(node);
        self.nodes.insert(key.to_owned(), node);
        node
    }

    fn root(&mut self, mut node: usize) -> usize {
        while self.parents[node] != node {
            self.parents[node] = self.parents[self.parents[node]];
            node = self.parents[node];
        }
        node
    }
}

/// Keeps a seeded sample of `limit` questions in file order; 0 keeps all. Says what it did, if it did anything.
pub(super) fn limit(samples: &mut Vec<Sample>, limit: usize, seed: u64, what: &str) -> Option<String> {
    let total = samples.len();
    if limit == 0 || limit >= total {
        return None;
    }
    let mut kept = Rng::new(seed, &format!("dataset/limit/{what}")).sample_indices(total, limit);
    kept.sort_unstable();
    *samples = kept.iter().map(|&index| samples[index].clone()).collect();
    Some(format!("limited to a seeded sample of {limit} of {total} {what} questions"))
}

#[cfg(test)]
mod tests {
    use super::super::error::Place;
    use super::*;

    fn sample(id: usize, relevant: &[&str]) -> RawSample {
        let sample = Sample {
            id: format!("q{id}"),
            question: "?".into(),
            references: vec!["!".into()],
            relevant: relevant.iter().map(|id| (*id).to_owned()).collect(),
            slices: BTreeMap::new(),
            answerable: true,
            choices: Vec::new(),
            cluster: None,
        };
        RawSample { sample, place: Place::file("x"), split: None, group: None }
    }

    #[test]
    fn linked_questions_stay_on_one_side_even_through_a_second_document() {
        for seed in 0..20 {
            let mut samples = vec![sample(0, &["a", "b"]), sample(1, &["c"]), sample(2, &["b", "d"]), sample(3, &["d"]), sample(4, &["e"])];
            divide(&mut samples, 0.5, seed);
            assert_eq!(samples[0].split, samples[2].split);
            assert_eq!(samples[0].split, samples[3].split);
            assert!(samples.iter().any(|raw| raw.split == Some(Split::Test)));
        }
    }

    #[test]
    fn a_split_has_its_share_and_depends_on_the_seed() {
        let split = |seed| {
            let mut samples: Vec<RawSample> = (0..100).map(|id| sample(id, &[])).collect();
            divide(&mut samples, 0.3, seed);
            samples.iter().map(|raw| raw.split == Some(Split::Test)).collect::<Vec<bool>>()
        };
        assert_eq!(split(1).iter().filter(|&&test| test).count(), 30);
        assert_eq!(split(1), split(1));
        assert_ne!(split(1), split(2));
    }

    #[test]
    fn a_limit_keeps_file_order_and_says_so() {
        let mut samples: Vec<Sample> = (0..10).map(|id| sample(id, &[]).sample).collect();
        assert_eq!(limit(&mut samples, 0, 1, "test"), None);
        assert_eq!(limit(&mut samples, 4, 1, "test").as_deref(), Some("limited to a seeded sample of 4 of 10 test questions"));
        assert_eq!(samples.len(), 4);
        assert!(samples.windows(2).all(|pair| pair[0].id < pair[1].id));
    }
}
