//! Claims as executable hypotheses: what a claim predicts is written down before the run, and the run's tables decide.
//!
//! A test predicts that a paired difference lies above or below a bound, or that one variant costs more or less than another. It is
//! supported where the whole interval agrees with the prediction, refuted where the whole interval contradicts it, and inconclusive in
//! between. What the data cannot test is said to be so, with what is missing.

mod file;
mod judge;
#[cfg(test)]
mod tests;

pub use file::{BUILTIN, Claim, ClaimError, CostTest, DifferenceTest, Expectation, SlicesWhere, Test, read};
pub use judge::{Evidence, judge};

use std::path::Path;

use crate::cost::Ledger;
use crate::diagnostic::Hint;
use crate::table::{self, ClaimRow, TableError, Tables};

/// What the run says about a claim or a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The data agree with the prediction.
    Supported,
    /// The data contradict it.
    Refuted,
    /// The interval holds the bound.
    Inconclusive,
    /// The run does not have what the test needs.
    NotTestable,
}

impl Verdict {
    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::Refuted => "refuted",
            Self::Inconclusive => "inconclusive",
            Self::NotTestable => "not_testable",
        }
    }

    /// Of a claim from its tests: refuted if one is, supported if all that could be tested are.
    fn of_all(verdicts: &[Self]) -> Self {
        let tested: Vec<Self> = verdicts.iter().copied().filter(|verdict| *verdict != Self::NotTestable).collect();
        if tested.is_empty() {
            Self::NotTestable
        } else if tested.contains(&Self::Refuted) {
            Self::Refuted
        } else if tested.iter().all(|verdict| *verdict == Self::Supported) {
            Self::Supported
        } else {
            Self::Inconclusive
        }
    }
}

/// The claims of a run folder (its own `claims.toml`, else the built-in ones), held against its tables and written to `tables/claims`.
///
/// # Errors
/// [`ClaimsError`] where the folder's claims cannot be used or the table cannot be written.
pub fn write_claims(run: &Path, tables: &Tables, ledger: &Ledger) -> Result<Vec<ClaimCard>, ClaimsError> {
    let own = run.join(FILE);
    let is_own = own.is_file();
    let claims = read(is_own.then_some(own.as_path()))?;
    let mut cards = judge(&claims, tables, ledger);
    // A folder gets claims of its own when its run is over.
    cards.iter_mut().for_each(|card| card.post_hoc = is_own);
    let rows: Vec<ClaimRow> = cards.iter().flat_map(|card| card.evidence.iter().map(|evidence| row(card, evidence))).collect();
    table::write_claims(run, &rows)?;
    Ok(cards)
}

/// A run folder's own claims.
pub const FILE: &str = "claims.toml";

/// What can go wrong between claims and their table.
#[derive(Debug, thiserror::Error)]
pub enum ClaimsError {
    /// The claims cannot be used.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The table cannot be written.
    #[error(transparent)]
    Table(#[from] TableError),
}

impl Hint for ClaimsError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Claim(error) => error.hint(),
            Self::Table(error) => error.hint(),
        }
    }
}

fn row(card: &ClaimCard, evidence: &Evidence) -> ClaimRow {
    ClaimRow {
        claim: card.id.clone(),
        title: card.title.clone(),
        verdict: card.verdict.name(),
        post_hoc: card.post_hoc,
        test: evidence.what.clone(),
        predicted: evidence.predicted.clone(),
        figure: evidence.figure,
        unit: evidence.unit,
        test_verdict: evidence.verdict.name(),
        note: evidence.note.clone(),
    }
}

/// A claim with what the run says about it.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimCard {
    /// As in the file.
    pub id: String,
    /// As in the file.
    pub title: String,
    /// Over all tests.
    pub verdict: Verdict,
    /// It was given after the run, by somebody who could have seen its results.
    pub post_hoc: bool,
    /// One per test and slice.
    pub evidence: Vec<Evidence>,
}
