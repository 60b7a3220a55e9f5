//! Errors that say the mend: every library error may carry a hint, printed after the chain of causes.

use std::fmt::Write as _;

/// An error that may know what the user can do about it.
pub trait Hint: std::error::Error {
    /// What to do, as an imperative sentence without a full stop, or nothing.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// Whose fault a failure is; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The request was wrong: usage, spec or data (exit 2).
    Request,
    /// Something failed while running (exit 4).
    Runtime,
}

/// Renders an error, its causes and its hint as a person reads them.
pub fn render(error: &dyn std::error::Error, hint: Option<&str>) -> String {
    let mut text = format!("error: {error}");
    let mut cause = error.source();
    while let Some(inner) = cause {
        let _ = write!(text, "\n  caused by: {inner}");
        cause = inner.source();
    }
    if let Some(hint) = hint {
        let _ = write!(text, "\n\nhint: {hint}");
    }
    text.push('\n');
    text
}

/// The candidate nearest to a misspelt word, if one is near enough to be meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= 0.7)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}

/// `1 problem`, `2 problems`.
pub(crate) fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_a_misspelling_and_refuses_a_stranger() {
        let keys = ["learning_rate", "epochs", "rank"];
        assert_eq!(nearest("learning_rat", keys), Some("learning_rate"));
        assert_eq!(nearest("epoch", keys), Some("epochs"));
        assert_eq!(nearest("zzz", keys), None);
    }
}
