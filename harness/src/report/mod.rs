//! From tables to what people read: figures, one HTML file, one Markdown file, a table for the terminal.
//!
//! [`write_report`] is a function of the run folder alone: no model, no clock, no network; the same folder gives the same bytes.
//! `view` decides order, rounding and words once; `markdown` and `html` only place them.

pub mod format;
mod html;
mod markdown;
pub mod plot;
mod slices;
mod terminal;
#[cfg(test)]
mod tests;
mod verdict;
mod view;

use std::path::Path;

pub use terminal::{compare, terminal_table};

use crate::claim::{ClaimsError, write_claims};
use crate::cost::{write_decision, write_ledger};
use crate::diagnostic::Hint;
use crate::store::{StoreError, write_atomic};
use crate::table::{TableError, Tables, write_tables};

/// What can go wrong between tables and report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The tables cannot be made.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The run's claims cannot be judged.
    #[error(transparent)]
    Claims(#[from] ClaimsError),
    /// A file cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A figure cannot be drawn.
    #[error("cannot draw a figure: {problem}")]
    Draw {
        /// What the backend says.
        problem: String,
    },
    /// The page cannot be filled in.
    #[error("cannot fill in the report's template")]
    Template(#[source] minijinja::Error),
}

impl ReportError {
    fn draw(error: impl std::fmt::Display) -> Self {
        Self::Draw { problem: error.to_string() }
    }

    fn write(path: &Path, error: std::io::Error) -> Self {
        Self::Store(StoreError::io("write", path)(error))
    }
}

impl Hint for ReportError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Table(error) => error.hint(),
            Self::Claims(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Draw { .. } | Self::Template(_) => None,
        }
    }
}

/// Writes `tables/`, `plots/`, `report.html` and `report.md` of a run folder, and gives the typed rows behind them.
pub fn write_report(run: &Path) -> Result<Tables, ReportError> {
    let tables = write_tables(run)?;
    let ledger = write_ledger(run, &tables)?;
    let decision = write_decision(run, &tables, &ledger)?;
    let claims = write_claims(run, &tables, &ledger)?;
    let figures = plot::figures(&tables, &ledger, decision.as_ref());
    plot::write(&run.join("plots"), &figures)?;
    let sources = view::Sources { tables: &tables, ledger: &ledger, decision: decision.as_ref(), claims: &claims, figures: &figures };
    let view = view::build(&sources, view::gather(run, &tables)?);
    write_atomic(&run.join("report.md"), markdown::render(&view).as_bytes())?;
    write_atomic(&run.join("report.html"), html::render(&view, &figures)?.as_bytes())?;
    Ok(tables)
}
