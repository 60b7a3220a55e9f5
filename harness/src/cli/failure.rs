//! An error on its way to the user: text, hint, exit code.

use std::fmt;

use crate::diagnostic::{Blame, Hint, render};
use crate::measure::plan::PlanError;
use crate::measure::runner::RunError;
use crate::spec::SpecError;
use crate::store::StoreError;

/// The request was wrong.
const REQUEST: u8 = 2;
/// A run-time failure.
const RUNTIME: u8 = 4;
/// Stopped by the user.
const INTERRUPTED: u8 = 130;

/// What is printed before leaving, and the exit code.
#[derive(Debug)]
pub struct Failure {
    /// Whole text, a line break at its end.
    text: String,
    /// Exit code.
    pub code: u8,
}

impl Failure {
    /// The request was wrong.
    pub fn request(error: &impl Hint) -> Self {
        Self::new(error, Blame::Request)
    }

    /// Something failed while running.
    pub fn runtime(error: &impl Hint) -> Self {
        Self::new(error, Blame::Runtime)
    }

    /// An error without a type of its own.
    pub fn message(code_of: Blame, message: &str, hint: Option<&str>) -> Self {
        let hint = hint.map(|hint| format!("\n\nhint: {hint}")).unwrap_or_default();
        Self { text: format!("error: {message}{hint}\n"), code: code(code_of) }
    }

    /// The user stopped it; `resume` is the command that goes on.
    pub fn interrupted(resume: &str) -> Self {
        Self { text: format!("interrupted: everything so far is kept; go on with\n  {resume}\n"), code: INTERRUPTED }
    }

    /// The user stopped it before there was anything to keep.
    fn stopped() -> Self {
        Self { text: "interrupted\n".to_owned(), code: INTERRUPTED }
    }

    /// An error that knows whose fault it is.
    pub fn of(error: &impl Hint, blame: Blame) -> Self {
        Self::new(error, blame)
    }

    fn new(error: &impl Hint, blame: Blame) -> Self {
        Self { text: render(error, error.hint().as_deref()), code: code(blame) }
    }
}

fn code(blame: Blame) -> u8 {
    match blame {
        Blame::Request => REQUEST,
        Blame::Runtime => RUNTIME,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<SpecError> for Failure {
    fn from(error: SpecError) -> Self {
        Self::request(&error)
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        if error.is_interrupted() {
            return Self::stopped();
        }
        Self::new(&error, error.blame())
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        if error.is_interrupted() {
            return Self::stopped();
        }
        Self::new(&error, error.blame())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotEmpty { .. } | StoreError::NotARun { .. } | StoreError::Incomplete { .. } | StoreError::Malformed { .. } => {
                Self::request(&error)
            }
            StoreError::Locked { .. } | StoreError::Io { .. } => Self::runtime(&error),
        }
    }
}
