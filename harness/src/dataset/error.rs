//! What can be wrong with a dataset, and how it is said: everything at once, each with its mend.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::overlap::Overlap;
use crate::diagnostic::{Hint, plural};

/// Problems printed in an error; the rest are counted.
const PRINTED: usize = 20;

/// Where something was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Name of the file, as in the dataset's folder or in the spec.
    pub file: Arc<str>,
    /// The spot within it.
    pub at: At,
}

/// A spot within a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// The file as a whole.
    File,
    /// A line, from 1.
    Line(usize),
    /// A line and a column, both from 1.
    Column(usize, usize),
    /// A row of a file without lines, from 1.
    Row(usize),
    /// An element of one JSON document, as `data[0].paragraphs[2]`.
    Element(String),
}

impl At {
    fn line(&self) -> usize {
        match *self {
            Self::Line(line) | Self::Column(line, _) | Self::Row(line) => line,
            Self::File | Self::Element(_) => 0,
        }
    }
}

impl Place {
    /// The file as a whole.
    pub fn file(name: &str) -> Self {
        Self { file: name.into(), at: At::File }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.file)?;
        match &self.at {
            At::File => Ok(()),
            At::Line(line) => write!(f, " line {line}"),
            At::Column(line, column) => write!(f, " line {line} column {column}"),
            At::Row(row) => write!(f, " row {row}"),
            At::Element(path) => write!(f, " {path}"),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What, as a fragment: `has no `question``.
    pub what: String,
    /// What to do about it, as an imperative.
    pub mend: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}; {}", self.place, self.what, self.mend)
    }
}

/// The problems found so far.
#[derive(Debug, Default)]
pub(super) struct Problems(pub(super) Vec<Problem>);

impl Problems {
    pub(super) fn add(&mut self, place: &Place, what: impl Into<String>, mend: impl Into<String>) {
        self.0.push(Problem { place: place.clone(), what: what.into(), mend: mend.into() });
    }

    /// Nothing was found so far.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, by file and line.
    pub(super) fn sorted(mut self) -> Vec<Problem> {
        self.0.sort_by_key(|problem| (problem.place.file.clone(), problem.place.at.line()));
        self.0
    }
}

/// Why there is no [`super::Dataset`].
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The path names nothing.
    #[error("no file or folder `{path}`")]
    NotFound {
        /// As resolved.
        path: PathBuf,
    },
    /// The system would not let it be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No reader recognises it.
    #[error("cannot tell the format of `{path}`")]
    UnknownFormat {
        /// The file or folder.
        path: String,
    },
    /// The format needs another kind of path.
    #[error("`{path}` cannot be read as `{format}`, which is {expected}")]
    WrongShape {
        /// The file or folder.
        path: String,
        /// The format that was asked for.
        format: &'static str,
        /// What that format looks like.
        expected: &'static str,
    },
    /// The files are wrong.
    #[error("dataset `{dataset}` has {}{}", plural(problems.len(), "problem"), listed(problems))]
    Invalid {
        /// Its name.
        dataset: String,
        /// All of them, by file and line.
        problems: Vec<Problem>,
    },
    /// Training questions give test answers away.
    #[error("train and test of dataset `{dataset}` overlap{}", overlaps.iter().map(|overlap| format!("\n  {overlap}")).collect::<String>())]
    Overlap {
        /// Its name.
        dataset: String,
        /// By kind.
        overlaps: Vec<Overlap>,
    },
    /// A share that is none.
    #[error("`dataset.test_fraction` is {value}, expected more than 0 and at most 1")]
    TestFraction {
        /// As in the spec.
        value: f64,
    },
    /// The target of a conversion holds something already.
    #[error("`{path}` exists already")]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// A conversion could not be written.
    #[error("cannot write `{path}`")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Hint for DatasetError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { .. } => {
                Some("`dataset.path` is taken from the folder of the spec; `builtin` is the dataset that ships with ragft".into())
            }
            Self::UnknownFormat { .. } => {
                Some("set `dataset.format`, for example to `native`, `squad`, `beir` or `table`; `ragft init --print` lists all".into())
            }
            Self::Invalid { dataset, .. } => Some(format!("run `ragft dataset check {dataset}` to list every problem")),
            Self::Overlap { .. } => Some(
                "drop the training questions named, or set `dataset.overlap = \"report\"` to run all the same with a note in every report"
                    .into(),
            ),
            Self::Exists { .. } => Some("name a folder that does not exist yet".into()),
            Self::Read { .. } | Self::WrongShape { .. } | Self::TestFraction { .. } | Self::Write { .. } => None,
        }
    }
}

fn listed(problems: &[Problem]) -> String {
    let mut text: String = problems.iter().take(PRINTED).map(|problem| format!("\n  {problem}")).collect();
    if problems.len() > PRINTED {
        text.push_str(&format!("\n  and {} more", problems.len() - PRINTED));
    }
    text
}
