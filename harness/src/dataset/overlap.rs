//! Whether training questions give test answers away.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::{Dataset, Sample};

/// Examples named per kind.
const EXAMPLES: usize = 3;

/// What train and test share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OverlapKind {
    /// The wording of a question, up to case, punctuation and blanks.
    Question,
    /// A cluster: the unit of the statistics, by default the first relevant document.
    Cluster,
    /// A relevant document, though the clusters differ. Reported, never refused: the set has said that its units are other ones.
    Document,
}

/// How much of test is shared with train or validation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Overlap {
    /// What is shared.
    pub kind: OverlapKind,
    /// Test questions concerned.
    pub count: usize,
    /// Test questions in all.
    pub total: usize,
    /// Ids of some of them.
    pub examples: Vec<String>,
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = match self.kind {
            OverlapKind::Question => "their wording",
            OverlapKind::Cluster => "a cluster",
            OverlapKind::Document => "a relevant document",
        };
        let examples = self.examples.join("`, `");
        write!(f, "{} of {} test questions share {shared} with a training question (for example `{examples}`)", self.count, self.total)
    }
}

/// Every kind of overlap that there is. Ids cannot overlap: they are unique over all splits.
pub(super) fn find(dataset: &Dataset) -> Vec<Overlap> {
    let train: Vec<&Sample> = dataset.train.iter().chain(&dataset.validation).collect();
    let questions: BTreeSet<String> = train.iter().map(|sample| wording(&sample.question)).collect();
    let clusters: BTreeSet<&str> = train.iter().map(|sample| sample.cluster_id()).collect();
    let documents: BTreeSet<&str> = train.iter().flat_map(|sample| &sample.relevant).map(String::as_str).collect();
    let shares_cluster = |sample: &Sample| clusters.contains(sample.cluster_id());
    let shares_document = |sample: &Sample| sample.relevant.iter().any(|id| documents.contains(id.as_str()));
    [
        kind(dataset, OverlapKind::Question, |sample| questions.contains(&wording(&sample.question))),
        kind(dataset, OverlapKind::Cluster, shares_cluster),
        kind(dataset, OverlapKind::Document, |sample| !shares_cluster(sample) && shares_document(sample)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn kind(dataset: &Dataset, kind: OverlapKind, shares: impl Fn(&Sample) -> bool) -> Option<Overlap> {
    let ids: Vec<&String> = dataset.test.iter().filter(|sample| shares(sample)).map(|sample| &sample.id).collect();
    let examples = ids.iter().take(EXAMPLES).map(|id| (*id).clone()).collect();
    (!ids.is_empty()).then_some(Overlap { kind, count: ids.len(), total: dataset.test.len(), examples })
}

/// Lower case, letters and digits only, single blanks.
fn wording(question: &str) -> String {
    words(question).collect::<Vec<_>>().join(" ")
}

/// Words in lower case, without punctuation.
fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wording_ignores_case_punctuation_and_blanks() {
        assert_eq!(wording("What is  (are) Acromegaly ?"), wording("what is are acromegaly"));
        assert_ne!(wording("Who was first?"), wording("Who was last?"));
    }
}
