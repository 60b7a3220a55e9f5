//! Questions, documents and splits, and every file format they come in.
//!
//! A reader turns a file or folder into a [`Dataset`]; [`Dataset`] is only ever seen checked: ids are unique, every question has a
//! reference or says that it has no answer, every relevant id names a document. This module reads and checks; it scores nothing.
//!
//! A new format of rows is one file here with a function that turns a row into a question, and a line in `table`; one of another shape
//! has a `read` that fills a `check::Raw`, and a line in `load::read`.

mod autorag;
mod beir;
mod builtin;
mod chat;
mod check;
mod choices;
mod columnar;
mod error;
mod files;
mod flashrag;
#[cfg(test)]
mod format_tests;
mod hotpot;
mod leak;
mod load;
mod mapped;
mod native;
mod open_qa;
mod overlap;
mod paragraphs;
mod plain;
mod predictions;
mod row;
mod rows;
mod split;
mod squad;
mod summary;
mod table;
#[cfg(test)]
mod tests;
pub mod world;
mod write;

pub use builtin::builtin;
pub use error::{At, DatasetError, Place, Problem};
pub use files::Files;
pub use leak::{Leak, LeakKind};
pub use load::{Examination, check, content_hash, load, load_from};
pub use overlap::{Overlap, OverlapKind};
pub use predictions::{Prediction, read_predictions};
pub use summary::{CORRELATION, EFFECT, Lengths, Needed, Reach, SplitSummary, Summary, summary};
pub use write::write_native;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A source text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// Unique in the corpus.
    pub id: String,
    /// A heading, given to the embedder and the prompt beside the text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// The text itself.
    pub text: String,
    /// ISO 8601 date of the text, where the set has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
}

/// One question with its accepted answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Unique over all splits.
    pub id: String,
    /// As put to the model.
    pub question: String,
    /// Accepted answers. Empty when `answerable` is false, and in sets that are `retrieval_only`, whose answer metrics are not measured.
    #[serde(default)]
    pub references: Vec<String>,
    /// Ids of the documents that hold the answer; empty when the set has no relevance labels for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relevant: Vec<String>,
    /// What may be chosen from, in multiple-choice sets; the right ones are the references.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// Tags by which every table can be cut, for example `knowledge = fresh`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slices: BTreeMap<String, String>,
    /// False when the right answer is to say that there is none.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub answerable: bool,
    /// The unit of clustered statistics; defaults to the first relevant document, else the sample itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            id: String::new(),
            question: String::new(),
            references: Vec::new(),
            relevant: Vec::new(),
            choices: Vec::new(),
            slices: BTreeMap::new(),
            answerable: true,
            cluster: None,
        }
    }
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_true(value: &bool) -> bool {
    *value
}

impl Sample {
    /// The cluster this sample belongs to in the statistics.
    pub fn cluster_id(&self) -> &str {
        self.cluster.as_deref().or(self.relevant.first().map(String::as_str)).unwrap_or(&self.id)
    }
}

/// Which part of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Labels to fine-tune on.
    Train,
    /// Labels to stop the fine-tuning by.
    Validation,
    /// Questions that are measured.
    Test,
}

/// A checked dataset.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Dataset {
    /// `dataset.toml`, or what a foreign format says of itself.
    pub info: DatasetInfo,
    /// The corpus, in file order.
    pub documents: Vec<Document>,
    /// May be empty: then what needs labels is not measured.
    pub train: Vec<Sample>,
    /// May be empty: then a part of `train` is held out.
    pub validation: Vec<Sample>,
    /// Never empty.
    pub test: Vec<Sample>,
    /// BLAKE3 of documents and splits before any limit: see [`content_hash`].
    pub hash: String,
    /// What a reader of the report must know, for example documents shared by train and test.
    pub notes: Vec<String>,
}

impl Dataset {
    /// The splits in order: train, validation, test.
    pub fn splits(&self) -> [(Split, &[Sample]); 3] {
        [(Split::Train, &self.train), (Split::Validation, &self.validation), (Split::Test, &self.test)]
    }
}

/// What a dataset says of itself.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetInfo {
    /// Short name.
    #[serde(default)]
    pub name: String,
    /// Version of the data, not of the format.
    #[serde(default)]
    pub version: String,
    /// SPDX expression or the licence's name.
    #[serde(default)]
    pub licence: String,
    /// Where it comes from.
    #[serde(default)]
    pub source: String,
    /// Questions have no references: only retrieval is measured.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retrieval_only: bool,
    /// There are no documents: only variants without passages can be measured.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closed_book: bool,
    /// What each slice means, by slice name.
    #[serde(default)]
    pub slices: BTreeMap<String, String>,
}
