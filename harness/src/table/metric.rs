//! A metric knows its unit, its direction and how people write its name; nobody else asks what it is called.

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

impl Direction {
    /// `higher` or `lower`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Higher => "higher",
            Self::Lower => "lower",
        }
    }
}

/// What a metric looks at; also the order of metrics in tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The answer against its references.
    Answer,
    /// The passages against the relevant documents.
    Retrieval,
    /// How the run went: index loss, cut contexts, cut answers. Measured on samples that did not fail.
    Diagnostic,
}

/// A per-sample quantity of the quality table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// As in the journal, for example `exact_match` or `recall_at_4`.
    pub id: String,
    /// What it looks at.
    pub kind: Kind,
    /// `share` (0 to 1), or `score` for a metric that this version does not know.
    pub unit: &'static str,
    /// Which way is better.
    pub direction: Direction,
}

/// Answer metrics in the order of tables.
const ANSWER_ORDER: [&str; 6] = ["exact_match", "token_f1", "contains", "rouge_l", "acc", "acc_norm"];
const RETRIEVAL_PREFIXES: [&str; 7] = ["recall", "precision", "hit", "mrr", "ndcg", "map", EXACT_RECALL];
/// Unit of metrics between 0 and 1.
pub const SHARE: &str = "share";
/// Share of the passages from the index that exact search has too; the full id ends in `_at_<top_k>`.
pub const ANN_RECALL: &str = "ann_recall";
/// Recall of exact search over the same vectors: what the index could find at best.
pub const EXACT_RECALL: &str = "exact_recall";
/// Share of answers that stand in a passage of the prompt, of those that say anything.
pub const GROUNDED: &str = "grounded";
/// Share of answers that stand in evidence whose absence changes them.
pub const EXPLAINED: &str = "explained";
/// Of the passages that change the answer, the part that is relevant.
pub const CITATION_PRECISION: &str = "citation_precision";
/// Of the relevant passages in the prompt, the part that changes the answer.
pub const CITATION_RECALL: &str = "citation_recall";
/// What is counted and not scored, in the order of tables.
const DIAGNOSTICS: [&str; 7] = [ANN_RECALL, GROUNDED, EXPLAINED, CITATION_PRECISION, CITATION_RECALL, CONTEXT_CUT, ANSWER_CUT];
/// Share of questions whose passages did not all fit into the prompt.
pub const CONTEXT_CUT: &str = "context_cut";
/// Share of answers that ended at the token limit.
pub const ANSWER_CUT: &str = "answer_cut";
/// Metrics above this mean number of words per reference make `exact_match` too strict to lead a report.
const LONG_ANSWER_WORDS: f64 = 12.0;

impl Metric {
    /// The metric of a journal or derived id.
    pub fn of(id: &str) -> Self {
        let kind = kind(id);
        let direction = if [CONTEXT_CUT, ANSWER_CUT].contains(&id) { Direction::Lower } else { Direction::Higher };
        let known = kind != Kind::Answer || ANSWER_ORDER.contains(&id);
        Self { id: id.to_owned(), kind, unit: if known { SHARE } else { "score" }, direction }
    }

    /// Key of the order in tables: answers first, known before unknown.
    pub fn order(&self) -> (Kind, usize, &str) {
        let known = |names: &[&str]| names.iter().position(|name| self.id.starts_with(name)).unwrap_or(names.len());
        let position = match self.kind {
            Kind::Answer => known(&ANSWER_ORDER),
            Kind::Retrieval => known(&RETRIEVAL_PREFIXES),
            Kind::Diagnostic => known(&DIAGNOSTICS),
        };
        (self.kind, position, &self.id)
    }

    /// As people write it: `exact match`, `Recall@4`, `nDCG@10`.
    pub fn label(&self) -> String {
        match self.id.as_str() {
            "token_f1" => return "token F1".to_owned(),
            "rouge_l" => return "ROUGE-L".to_owned(),
            "acc_norm" => return "acc_norm".to_owned(),
            CONTEXT_CUT => return "context cut".to_owned(),
            ANSWER_CUT => return "answer cut".to_owned(),
            _ => {}
        }
        let (stem, cutoff) = self.id.split_once("_at_").map_or((self.id.as_str(), None), |(stem, k)| (stem, Some(k)));
        let stem = match stem {
            "recall" => "Recall".to_owned(),
            "precision" => "Precision".to_owned(),
            "hit" => "Hit".to_owned(),
            "mrr" => "MRR".to_owned(),
            "ndcg" => "nDCG".to_owned(),
            "map" => "MAP".to_owned(),
            EXACT_RECALL => "exact Recall".to_owned(),
            ANN_RECALL => "ANN recall".to_owned(),
            other => other.replace('_', " "),
        };
        cutoff.map_or(stem.clone(), |k| format!("{stem}@{k}"))
    }
}

fn kind(id: &str) -> Kind {
    let is_part = |prefix: &&str| id.strip_prefix(*prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("_at_"));
    if id.starts_with(ANN_RECALL) || DIAGNOSTICS.contains(&id) {
        Kind::Diagnostic
    } else if RETRIEVAL_PREFIXES.iter().any(is_part) {
        Kind::Retrieval
    } else {
        Kind::Answer
    }
}

/// The metric that leads the report: `exact_match`, or `rouge_l` (else `token_f1`) where references are long on average; else the first
/// answer metric there is.
pub fn primary(metrics: &[Metric], mean_reference_words: f64) -> Option<&Metric> {
    let preferred: &[&str] =
        if mean_reference_words > LONG_ANSWER_WORDS { &["rouge_l", "token_f1", "exact_match"] } else { &["exact_match", "token_f1"] };
    let named = preferred.iter().find_map(|id| metrics.iter().find(|metric| metric.id == *id));
    named.or_else(|| metrics.iter().find(|metric| metric.kind == Kind::Answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_people_write_them() {
        let label = |id| Metric::of(id).label();
        assert_eq!(label("exact_match"), "exact match");
        assert_eq!(label("recall_at_4"), "Recall@4");
        assert_eq!(label("ndcg_at_10"), "nDCG@10");
        assert_eq!(label("ann_recall_at_4"), "ANN recall@4");
        assert_eq!(label("exact_recall_at_4"), "exact Recall@4");
    }

    #[test]
    fn kinds_tell_answers_from_retrieval_from_diagnostics() {
        assert_eq!(Metric::of("mrr").kind, Kind::Retrieval);
        assert_eq!(Metric::of("mapped").kind, Kind::Answer);
        assert_eq!((Metric::of("exact_match").kind, Metric::of("exact_recall_at_4").kind), (Kind::Answer, Kind::Retrieval));
        assert_eq!(Metric::of("grounded").kind, Kind::Diagnostic);
        assert_eq!(Metric::of("ann_recall_at_4").kind, Kind::Diagnostic);
        assert_eq!(Metric::of("context_cut").direction, Direction::Lower);
    }

    #[test]
    fn long_references_change_the_leading_metric() {
        let metrics: Vec<Metric> = ["exact_match", "token_f1", "rouge_l"].map(Metric::of).to_vec();
        assert_eq!(primary(&metrics, 3.0).unwrap().id, "exact_match");
        assert_eq!(primary(&metrics, 40.0).unwrap().id, "rouge_l");
        assert_eq!(primary(&metrics[..2], 40.0).unwrap().id, "token_f1");
        assert!(primary(&[Metric::of("mrr")], 3.0).is_none());
    }
}
