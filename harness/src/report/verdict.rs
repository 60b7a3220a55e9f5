//! How differences and verdicts on them are called.

use crate::stats::Verdict;
use crate::table::ContrastRow;

/// `rag − baseline`; a difference of differences is the interaction.
pub(super) fn difference_name(left: &str, right: &str) -> String {
    if is_interaction(left) { "interaction".to_owned() } else { format!("{left} − {right}") }
}

/// The verdict in a word: on two variants as in the tables, on the interaction whether the two factors help or hinder each other.
pub(super) fn verdict_word(row: &ContrastRow) -> &'static str {
    match row.verdict() {
        Verdict::Better if is_interaction(&row.left) => "synergy",
        Verdict::Worse if is_interaction(&row.left) => "interference",
        Verdict::Equivalent if is_interaction(&row.left) => "additive",
        verdict => verdict.name(),
    }
}

fn is_interaction(left: &str) -> bool {
    left.contains('-')
}
