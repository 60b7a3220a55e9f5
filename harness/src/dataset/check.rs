//! From what a reader found to a checked set: ids, references, relevant documents, nothing empty.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{Place, Problems};
use super::{DatasetInfo, Document, Sample, Split};

/// What a reader gives, not yet checked.
#[derive(Debug, Default)]
pub(super) struct Raw {
    pub(super) info: DatasetInfo,
    pub(super) documents: Vec<(Document, Place)>,
    pub(super) samples: Vec<RawSample>,
    pub(super) notes: Vec<String>,
}

/// A question as read.
#[derive(Debug)]
pub(super) struct RawSample {
    pub(super) sample: Sample,
    pub(super) place: Place,
    /// None when one file must serve for train and test.
    pub(super) split: Option<Split>,
    /// What must not be divided between train and test, if it is more than the cluster.
    pub(super) group: Option<String>,
}

/// Finds whatever makes `raw` no dataset.
pub(super) fn check(raw: &Raw, label: &str, problems: &mut Problems) {
    // Where rows were refused, they are what is missing.
    let is_read = problems.is_empty();
    if raw.documents.is_empty() && !raw.info.closed_book {
        problems.add(&Place::file(label), "has an empty corpus", "add at least one document");
    }
    if is_read && !raw.samples.iter().any(|raw| matches!(raw.split, None | Some(Split::Test))) {
        problems.add(&Place::file(label), "has no test questions", "add a test split");
    }
    unique(raw.documents.iter().map(|(document, place)| (document.id.as_str(), place)), "document", problems);
    unique(raw.samples.iter().map(|raw| (raw.sample.id.as_str(), &raw.place)), "question", problems);
    let known: BTreeSet<&str> = raw.documents.iter().map(|(document, _)| document.id.as_str()).collect();
    for RawSample { sample, place, .. } in &raw.samples {
        references(sample, raw.info.retrieval_only, place, problems);
        if let Some(reference) = sample.references.iter().find(|text| !sample.choices.is_empty() && !sample.choices.contains(text)) {
            problems.add(
                place,
                format!("has the reference `{reference}`, which is none of its choices"),
                "take the right choice as it stands",
            );
        }
        for id in sample.relevant.iter().filter(|id| !known.contains(id.as_str())) {
            problems.add(
                place,
                format!("names the relevant document `{id}`, which the corpus does not have"),
                "mend the id or add the document",
            );
        }
    }
}

fn unique<'a>(ids: impl Iterator<Item = (&'a str, &'a Place)>, what: &str, problems: &mut Problems) {
    let mut seen: BTreeMap<&str, &Place> = BTreeMap::new();
    for (id, place) in ids {
        if let Some(first) = seen.get(id) {
            problems.add(
                place,
                format!("repeats the {what} id `{id}` of {first}"),
                format!("give every {what} its own id, over all splits"),
            );
        } else {
            seen.insert(id, place);
        }
    }
}

fn references(sample: &Sample, retrieval_only: bool, place: &Place, problems: &mut Problems) {
    if sample.answerable && sample.references.is_empty() && !retrieval_only {
        problems.add(
            place,
            format!("question `{}` has no references", sample.id),
            "add an accepted answer, or `\"answerable\": false` if there is none",
        );
    }
    if !sample.answerable && !sample.references.is_empty() {
        problems.add(place, format!("question `{}` is not answerable but has references", sample.id), "drop one or the other");
    }
}
