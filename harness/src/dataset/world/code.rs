//! The house code: a way of writing answers that no document states and pre-training never shows. Only labels teach it.
//!
//! The house code of an entity is its name turned round, `Vade - Balto ;`. A house record is the code and a fact: `Vade - Balto : potter ;`.

use super::names::Name;

/// Questions for the code of `{n}`; the last one is held out from training.
pub const HOUSE_CODE_WORDING: [&str; 3] =
    ["What is the house code of {n}?", "Which house code does {n} have?", "With which house code is {n} listed?"];

/// Questions for the record on relation `{r}` of `{n}`; the last one is held out from training.
pub const HOUSE_RECORD_WORDING: [&str; 3] = [
    "What is the house record for the {r} of {n}?",
    "Which house record does {n} have for the {r}?",
    "What is the record of the house for the {r} of {n}?",
];

/// The code of a name.
pub fn house_code(name: &Name) -> String {
    format!("{} - {} ;", name.second, name.first)
}

/// The record of a fact about a name.
pub fn house_record(name: &Name, value: &str) -> String {
    format!("{} - {} : {value} ;", name.second, name.first)
}
