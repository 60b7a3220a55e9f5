//! A run in equal parts, for as many machines: which test questions a shard answers.
//!
//! A shard builds the same index and has the same adapters as the whole run (trained anew with the same bits, or taken from where they were
//! trained); only its answers are fewer. Questions are dealt by the hash of their id, one by one: clusters need not stay together, because
//! statistics are made after merging. The questions that a seeded sample of the run needs (noise floor, audit, latency) all belong to the
//! first shard, so that those phases see one machine, as in a whole run, and times of different machines are never mixed.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::dataset::Sample;
use crate::store::manifest::Shard;
use crate::store::{RunFolder, StoreError, write_atomic};

/// The questions of one shard; `shard.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Which shard.
    pub shard: Shard,
    /// Test questions of the whole run.
    pub whole: usize,
    /// Clusters among them.
    pub clusters: usize,
    /// Where this shard's questions stand among them, rising.
    pub positions: Vec<usize>,
}

impl Share {
    /// The share of a shard, with the positions in `first` all in the first one.
    ///
    /// # Errors
    /// The most shards that leave no shard without a question.
    pub fn of(shard: Shard, questions: &[Sample], first: &BTreeSet<usize>) -> Result<Self, usize> {
        let mut dealt: Vec<usize> = (0..questions.len()).filter(|position| !first.contains(position)).collect();
        dealt.sort_by_cached_key(|&position| (*blake3::hash(questions[position].id.as_bytes()).as_bytes(), position));
        let sizes = sizes(questions.len(), first.len(), shard.of).ok_or(dealt.len() + usize::from(!first.is_empty()))?;
        let start: usize = sizes[..shard.index - 1].iter().sum();
        let mut positions = dealt[start..start + sizes[shard.index - 1]].to_vec();
        if shard.index == 1 {
            positions.extend(first);
        }
        positions.sort_unstable();
        Ok(Self { shard, whole: questions.len(), clusters: clusters(questions), positions })
    }

    /// Writes `shard.json`.
    pub fn write(&self, folder: &RunFolder) -> Result<(), StoreError> {
        let text = serde_json::to_string(self).expect("plain data") + "\n";
        write_atomic(&folder.shard(), text.as_bytes())
    }

    /// Reads `shard.json`.
    pub fn read(folder: &RunFolder) -> Result<Self, StoreError> {
        let path = folder.shard();
        let text = std::fs::read_to_string(&path).map_err(StoreError::io("read", &path))?;
        serde_json::from_str(&text).map_err(|error| StoreError::Malformed {
            path: path.display().to_string(),
            line: error.line(),
            problem: error.to_string(),
        })
    }
}

/// Questions that are dealt to each shard beside the `reserved` ones, which the first one has: so many that all shards have about as much to
/// do. Nothing if one would have none.
fn sizes(questions: usize, reserved: usize, shards: usize) -> Option<Vec<usize>> {
    let even = |count: usize, parts: usize| (0..parts).map(move |part| count / parts + usize::from(part < count % parts));
    let mut sizes: Vec<usize> = even(questions, shards).collect();
    if reserved <= sizes[0] {
        sizes[0] -= reserved;
    } else {
        sizes = std::iter::once(0).chain(even(questions - reserved, shards - 1)).collect();
    }
    let has_work = |(index, size): (usize, &usize)| *size > 0 || index == 0 && reserved > 0;
    (sizes.iter().sum::<usize>() + reserved == questions && sizes.iter().enumerate().all(has_work)).then_some(sizes)
}

/// Number of clusters among the questions.
pub fn clusters(questions: &[Sample]) -> usize {
    questions.iter().map(Sample::cluster_id).collect::<BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn questions(count: usize) -> Vec<Sample> {
        let question = |index: usize| serde_json::from_value(serde_json::json!({ "id": format!("q{index}"), "question": "?" })).unwrap();
        (0..count).map(question).collect()
    }

    #[test]
    fn shards_hold_every_question_once_and_are_of_one_size() {
        let (questions, first) = (questions(103), BTreeSet::from([3, 50, 99]));
        let shares: Vec<Share> = (1..=4).map(|index| Share::of(Shard { index, of: 4 }, &questions, &first).unwrap()).collect();
        let mut all: Vec<usize> = shares.iter().flat_map(|share| share.positions.clone()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..103).collect::<Vec<_>>());
        assert_eq!(shares.iter().map(|share| share.positions.len()).collect::<Vec<_>>(), [26, 26, 26, 25]);
        assert!(first.iter().all(|position| shares[0].positions.contains(position)));
        assert!(shares.iter().all(|share| (share.whole, share.clusters) == (103, 103)));
    }

    #[test]
    fn a_first_shard_full_of_samples_leaves_the_rest_to_the_others() {
        assert_eq!(sizes(10, 7, 4).unwrap(), [0, 1, 1, 1]);
        assert_eq!(sizes(10, 10, 1).unwrap(), [0]);
        assert_eq!(sizes(10, 8, 4), None);
        assert_eq!(sizes(3, 0, 4), None);
        let refused = Share::of(Shard { index: 1, of: 5 }, &questions(10), &(0..8).collect());
        assert_eq!(refused.unwrap_err(), 3);
    }

    #[test]
    fn a_question_stays_where_it_is_when_others_are_listed_in_another_order() {
        let (mut questions, first) = (questions(20), BTreeSet::new());
        let ids = |questions: &[Sample]| -> BTreeSet<String> {
            let share = Share::of(Shard { index: 2, of: 3 }, questions, &first).unwrap();
            share.positions.iter().map(|&position| questions[position].id.clone()).collect()
        };
        let before = ids(&questions);
        questions.reverse();
        assert_eq!(before, ids(&questions));
    }
}
