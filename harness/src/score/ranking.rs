//! Measures of one ranking, as trec_eval 9 computes them, with binary relevance.

use std::collections::{BTreeMap, BTreeSet};

/// Orders results as trec_eval does: by score, highest first; equal scores by document id in descending byte order.
pub fn trec_order<T: AsRef<str>>(results: &mut [(T, f32)]) {
    results.sort_by(|left, right| right.1.total_cmp(&left.1).then_with(|| right.0.as_ref().cmp(left.0.as_ref())));
}

/// Scores of a ranking of documents, best first, against the relevant ones.
///
/// A document that occurs more than once, because several of its chunks were found, counts once, at its first rank. For each cut-off `k`
/// (in documents) there are `recall_at_k`, `precision_at_k` (over `k`, even if fewer were found), `hit_at_k` (trec_eval's `success`) and
/// `ndcg_at_k` (gain 1, discount log2(rank + 1), trec_eval's `ndcg_cut`); and over the whole ranking `mrr` (the reciprocal of the first
/// relevant rank) and `map` (average precision). Without relevance labels nothing is measured: the map is empty.
pub fn score_ranking(ranked: &[&str], relevant: &[String], ks: &[usize]) -> BTreeMap<String, f64> {
    let relevant: BTreeSet<&str> = relevant.iter().map(String::as_str).collect();
    if relevant.is_empty() {
        return BTreeMap::new();
    }
    let mut seen = BTreeSet::new();
    let hits: Vec<bool> = ranked.iter().filter(|id| seen.insert(**id)).map(|id| relevant.contains(id)).collect();
    let mut scores =
        BTreeMap::from([("mrr".to_owned(), reciprocal_rank(&hits)), ("map".to_owned(), average_precision(&hits, relevant.len()))]);
    for &k in ks.iter().filter(|&&k| k > 0) {
        let top = &hits[..k.min(hits.len())];
        let found = top.iter().filter(|&&hit| hit).count() as f64;
        scores.insert(format!("recall_at_{k}"), found / relevant.len() as f64);
        scores.insert(format!("precision_at_{k}"), found / k as f64);
        scores.insert(format!("hit_at_{k}"), f64::from(found > 0.0));
        scores.insert(format!("ndcg_at_{k}"), ndcg(top, relevant.len(), k));
    }
    scores
}

fn reciprocal_rank(hits: &[bool]) -> f64 {
    hits.iter().position(|&hit| hit).map_or(0.0, |at| 1.0 / (at + 1) as f64)
}

fn average_precision(hits: &[bool], relevant: usize) -> f64 {
    let mut found = 0.0;
    let mut sum = 0.0;
    for (at, _) in hits.iter().enumerate().filter(|(_, hit)| **hit) {
        found += 1.0;
        sum += found / (at + 1) as f64;
    }
    sum / relevant as f64
}

fn ndcg(top: &[bool], relevant: usize, k: usize) -> f64 {
    let discount = |at: usize| 1.0 / ((at + 2) as f64).log2();
    // Folded, because the sum of nothing is -0.0.
    let gained = top.iter().enumerate().filter(|(_, hit)| **hit).fold(0.0, |sum, (at, _)| sum + discount(at));
    let ideal: f64 = (0..relevant.min(k)).map(discount).sum();
    gained / ideal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relevant(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn a_hand_worked_ranking() {
        let scores = score_ranking(&["x", "a", "y", "b"], &relevant(&["a", "b", "c"]), &[2, 5]);
        assert_eq!(scores["recall_at_2"], 1.0 / 3.0);
        assert_eq!(scores["precision_at_5"], 0.4);
        assert_eq!(scores["hit_at_2"], 1.0);
        assert_eq!(scores["mrr"], 0.5);
        assert_eq!(scores["map"], (1.0 / 2.0 + 2.0 / 4.0) / 3.0);
        let ideal = 1.0 + 1.0 / 3f64.log2();
        assert_eq!(scores["ndcg_at_2"], 1.0 / 3f64.log2() / ideal);
    }

    #[test]
    fn a_document_found_twice_counts_once_at_its_first_rank() {
        let once = score_ranking(&["x", "a", "b"], &relevant(&["a", "b"]), &[3]);
        assert_eq!(score_ranking(&["x", "x", "a", "x", "a", "b"], &relevant(&["a", "b"]), &[3]), once);
    }

    #[test]
    fn without_labels_nothing_is_measured_and_without_results_all_is_zero() {
        assert!(score_ranking(&["a"], &[], &[1]).is_empty());
        assert!(score_ranking(&[], &relevant(&["a"]), &[1, 10]).values().all(|&score| score == 0.0));
    }

    #[test]
    fn ties_are_ordered_by_descending_id() {
        let mut results = [("a", 1.0), ("c", 2.0), ("b", 2.0), ("B", 2.0)];
        trec_order(&mut results);
        assert_eq!(results.map(|(id, _)| id), ["c", "b", "B", "a"]);
    }
}
