//! The names of scores: what each is called, and which way is better.

use serde::{Deserialize, Serialize};

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// More is better.
    HigherIsBetter,
    /// Less is better.
    LowerIsBetter,
}

/// A quantity that samples are scored by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// Key in a journal row and in tables: `token_f1`, `recall_at_4`.
    pub id: String,
    /// `share` for all scores here: 0 to 1.
    pub unit: &'static str,
    /// Which way is better.
    pub direction: Direction,
    /// As people read it: `Token F1`, `Recall@4`.
    pub label: String,
}

/// Scores of an answer, in the order of tables.
pub const ANSWER_METRICS: [&str; 4] = ["exact_match", "token_f1", "contains", "rouge_l"];

/// What `id` names, if it names a score of an answer or a ranking.
pub fn metric(id: &str) -> Option<Metric> {
    let label = match id {
        "exact_match" => "Exact match".to_owned(),
        "token_f1" => "Token F1".to_owned(),
        "contains" => "Contains".to_owned(),
        "rouge_l" => "ROUGE-L".to_owned(),
        "acc" | "acc_norm" => id.to_owned(),
        "mrr" => "MRR".to_owned(),
        "map" => "MAP".to_owned(),
        _ => at_cutoff(id)?,
    };
    Some(Metric { id: id.to_owned(), unit: "share", direction: Direction::HigherIsBetter, label })
}

fn at_cutoff(id: &str) -> Option<String> {
    let (measure, k) = id.rsplit_once("_at_")?;
    let name = match measure {
        "recall" => "Recall",
        "precision" => "Precision",
        "hit" => "Hit",
        "ndcg" => "nDCG",
        _ => return None,
    };
    let k: usize = k.parse().ok().filter(|&k| k > 0)?;
    Some(format!("{name}@{k}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_score_that_is_given_has_a_name() {
        let relevant = ["a".to_owned()];
        for id in super::super::score_ranking(&["a"], &relevant, &[1, 4]).keys() {
            assert_eq!(metric(id).map(|metric| metric.id).as_ref(), Some(id));
        }
        assert!(ANSWER_METRICS.iter().all(|id| metric(id).is_some()));
        assert_eq!(metric("ndcg_at_10").unwrap().label, "nDCG@10");
        assert_eq!(metric("recall_at_0"), None);
        assert_eq!(metric("accuracy"), None);
    }
}
