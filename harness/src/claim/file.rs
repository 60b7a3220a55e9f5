//! The file that claims are written in.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::diagnostic::Hint;
use crate::spec::VariantKind;

/// The claims of the note that the project starts from.
pub const BUILTIN: &str = include_str!("../../claims.toml");

/// Why a file of claims cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// It cannot be read.
    #[error("cannot read `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not TOML of the right form.
    #[error("claims of `{origin}` cannot be used\n{message}")]
    Form {
        /// Where they come from.
        origin: String,
        /// What the parser says, with line and column.
        message: String,
    },
    /// A claim that cannot be tested anywhere.
    #[error("claim `{id}` {problem}")]
    Claim {
        /// Its id.
        id: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Hint for ClaimError {
    fn hint(&self) -> Option<String> {
        Some("`harness/claims.toml` of the sources has the built-in claims, with comments, to copy from".to_owned())
    }
}

/// A claim as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Short name, unique in the file.
    pub id: String,
    /// The claim in one sentence.
    pub title: String,
    /// What it predicts.
    pub test: Vec<Test>,
}

/// One prediction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Test {
    /// On a paired difference.
    Difference(DifferenceTest),
    /// On what variants cost.
    Cost(CostTest),
}

/// That `left - right` lies above or below a bound.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DifferenceTest {
    /// The first of these that the run has.
    pub left: Vec<VariantKind>,
    /// The first of these that the run has.
    pub right: Vec<VariantKind>,
    /// Id of the metric; the leading one where it is left out.
    #[serde(default)]
    pub metric: Option<String>,
    /// Tested in each of these that the dataset has; without any slices, over all questions.
    #[serde(default)]
    pub slices: Vec<String>,
    /// Tested in each slice that this picks.
    #[serde(default)]
    pub slices_where: Option<SlicesWhere>,
    /// Predicts a difference above this, in points of 100.
    #[serde(default)]
    pub more_than: Option<f64>,
    /// Predicts a difference below this, in points of 100.
    #[serde(default)]
    pub less_than: Option<f64>,
}

/// Slices on which a variant is weak: the whole interval of its score lies below a bound.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlicesWhere {
    /// The variant.
    pub variant: VariantKind,
    /// The bound, in points of 100.
    pub below: f64,
}

/// That one variant costs more or less than another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostTest {
    /// The first of these that the run has.
    pub left: Vec<VariantKind>,
    /// The first of these that the run has.
    pub right: Vec<VariantKind>,
    /// `setup`, `query` or `update`.
    pub phase: String,
    /// As in the cost table.
    pub quantity: String,
    /// What is predicted of the left one.
    pub expect: Expectation,
}

/// Which way a cost is predicted to differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expectation {
    /// Less than the right one.
    Less,
    /// More than the right one.
    More,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimFile {
    claim: Vec<Claim>,
}

/// Reads the claims of a file, or the built-in ones.
///
/// # Errors
/// [`ClaimError`] where it cannot be read, has another form, or holds a claim without a prediction.
pub fn read(path: Option<&Path>) -> Result<Vec<Claim>, ClaimError> {
    let (origin, text) = match path {
        None => ("builtin".to_owned(), BUILTIN.to_owned()),
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|source| ClaimError::File { path: path.to_owned(), source })?;
            (path.display().to_string(), text)
        }
    };
    let file: ClaimFile =
        toml::from_str(&text).map_err(|error| ClaimError::Form { origin, message: error.to_string().trim_end().to_owned() })?;
    let mut ids = BTreeSet::new();
    for claim in &file.claim {
        check(claim)?;
        if !ids.insert(claim.id.as_str()) {
            return Err(ClaimError::Claim { id: claim.id.clone(), problem: "stands there twice".to_owned() });
        }
    }
    Ok(file.claim)
}

fn check(claim: &Claim) -> Result<(), ClaimError> {
    let wrong = |problem: &str| Err(ClaimError::Claim { id: claim.id.clone(), problem: problem.to_owned() });
    if claim.test.is_empty() {
        return wrong("has no test");
    }
    for test in &claim.test {
        match test {
            Test::Difference(test) => {
                if test.more_than.is_some() == test.less_than.is_some() {
                    return wrong("needs exactly one of `more_than` and `less_than` in each difference");
                }
                if !test.slices.is_empty() && test.slices_where.is_some() {
                    return wrong("has both `slices` and `slices_where` in a difference; give one");
                }
                if test.left.is_empty() || test.right.is_empty() {
                    return wrong("needs a variant on either side of each difference");
                }
            }
            Test::Cost(test) => {
                if !["setup", "query", "update"].contains(&test.phase.as_str()) {
                    return wrong(&format!("has the phase `{}`; there are `setup`, `query` and `update`", test.phase));
                }
                if test.left.is_empty() || test.right.is_empty() {
                    return wrong("needs a variant on either side of each cost");
                }
            }
        }
    }
    Ok(())
}
