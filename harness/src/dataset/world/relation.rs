//! What can be said about an entity: the form of a relation and of its values.

use super::names::NameSource;
use crate::rng::Rng;

/// Where a relation's values come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueClass {
    /// One of a closed list.
    Closed(&'static [&'static str]),
    /// Two of a closed list, in its order: `chess and golf`.
    Pair(&'static [&'static str]),
    /// An invented name, of an entity of the type with this key where the world links the two.
    Name(&'static str),
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
            Self::Pair(values) => {
                let mut pair = rng.sample_indices(values.len(), 2);
                pair.sort_unstable();
                format!("{} and {}", values[pair[0]], values[pair[1]])
            }
            Self::Name(_) => names.draw(rng).to_string(),
            Self::Year => (1500 + rng.below(500)).to_string(),
            Self::Number(digits) => {
                let low = 10usize.pow(digits - 1);
                (low + rng.below(9 * low)).to_string()
            }
        }
    }

    /// Name of the class in slices: `closed`, `pair`, `name` or `number`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Closed(_) => "closed",
            Self::Pair(_) => "pair",
            Self::Name(_) => "name",
            Self::Year | Self::Number(_) => "number",
        }
    }

    /// Whether two values can be told lower and higher.
    pub fn ordered(self) -> bool {
        matches!(self, Self::Year | Self::Number(_))
    }

    /// The type that a value may name an entity of.
    pub fn link(self) -> Option<&'static str> {
        match self {
            Self::Name(key) => Some(key),
            _ => None,
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

/// Sentences and questions that fit every relation; `{r}` stands for its noun.
pub(super) const ANY_SENTENCE: [&str; 2] = ["Under {r}, the record of {n} gives {v}.", "For {n}, the entry under {r} is {v}."];
const ANY_QUESTION: &str = "What does the record of {n} give under {r}?";
const ANY_HELD_OUT: &str = "What is the entry for {n} under {r}?";

impl Relation {
    /// All sentences with the entity's name, of this relation and of any.
    pub fn all_sentences(&self) -> Vec<String> {
        let own = self.sentences.iter().map(|text| (*text).to_owned());
        own.chain(ANY_SENTENCE.iter().map(|text| text.replace("{r}", self.noun))).collect()
    }

    /// All questions that training sees, or all that only tests see.
    pub fn all_questions(&self, held_out: bool) -> Vec<String> {
        let (own, any) = if held_out { (self.held_out, ANY_HELD_OUT) } else { (self.questions, ANY_QUESTION) };
        own.iter().copied().chain([any]).map(|text| text.replace("{r}", self.noun)).collect()
    }

    /// One of [`Self::all_questions`] about `name`.
    pub fn question(&self, name: &str, held_out: bool, rng: &mut Rng) -> String {
        fill(rng.choose::<String>(&self.all_questions(held_out)), name, "")
    }
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
