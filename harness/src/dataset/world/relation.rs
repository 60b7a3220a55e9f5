//! What can be said about an entity: the form of a relation and of its values.

use super::names::NameSource;
use crate::rng::Rng;

/// Where a relation's values come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueClass {
    /// One of a closed list.
    Closed(&'static [&'static str]),
    /// An invented name.
    Name,
    /// A year from 1500 to 1999.
    Year,
    /// A whole number of so many digits.
    Number(u32),
}

impl ValueClass {
    /// A value, as it is written in texts and answers.
    pub fn draw(self, names: &NameSource, rng: &mut Rng) -> String {
        match self {
            Self::Closed(values) => (*rng.choose(values)).to_owned(),
            Self::Name => names.draw(rng).to_string(),
            Self::Year => (1500 + rng.below(500)).to_string(),
            Self::Number(digits) => {
                let low = 10usize.pow(digits - 1);
                (low + rng.below(9 * low)).to_string()
            }
        }
    }

    /// Name of the class in slices: `closed`, `name` or `number`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Closed(_) => "closed",
            Self::Name => "name",
            Self::Year | Self::Number(_) => "number",
        }
    }
}

/// One relation with all its wordings; `{n}` stands for the entity's name, `{v}` for the value.
#[derive(Debug, Clone, Copy)]
pub struct Relation {
    /// Name in slices.
    pub key: &'static str,
    /// How a question names it: "the `noun` of X".
    pub noun: &'static str,
    /// Its values.
    pub values: ValueClass,
    /// Sentences with the entity's name.
    pub sentences: &'static [&'static str],
    /// Sentences that follow another one about the same entity.
    pub pronoun: &'static [&'static str],
    /// Questions that training sees.
    pub questions: &'static [&'static str],
    /// Questions that only tests see; each of their words is in a training text.
    pub held_out: &'static [&'static str],
}

/// A type of entity.
#[derive(Debug, Clone, Copy)]
pub struct EntityType {
    /// Name in slices.
    pub key: &'static str,
    /// What is known about such entities.
    pub relations: &'static [Relation],
}

/// Puts a name and a value into a wording.
pub fn fill(wording: &str, name: &str, value: &str) -> String {
    wording.replace("{n}", name).replace("{v}", value)
}
