//! Paragraphs that come inside question rows, made documents: each text once, whichever questions carry it.

use std::collections::BTreeMap;

use super::Document;
use super::error::Place;

/// The paragraphs seen so far.
#[derive(Default)]
pub(super) struct Paragraphs {
    /// Ids by group (an article, a page) and text.
    known: BTreeMap<String, BTreeMap<String, String>>,
    /// How often a known paragraph came again.
    pub(super) repeated: usize,
}

impl Paragraphs {
    /// The id of the paragraph's document, which is made if it is new: the group and a number within it.
    pub(super) fn document(
        &mut self,
        group: &str,
        title: &str,
        text: &str,
        place: &Place,
        documents: &mut Vec<(Document, Place)>,
    ) -> String {
        let known = self.known.entry(group.to_owned()).or_default();
        if let Some(id) = known.get(text) {
            self.repeated += 1;
            return id.clone();
        }
        let id = format!("{group}/{}", known.len());
        known.insert(text.to_owned(), id.clone());
        let document = Document { id: id.clone(), title: title.to_owned(), text: text.to_owned(), date: None };
        documents.push((document, place.clone()));
        id
    }
}
