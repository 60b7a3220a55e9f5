//! Questions: their wordings, and the samples made of them.

use std::collections::BTreeMap;

use super::code::{HOUSE_CODE_WORDING, HOUSE_RECORD_WORDING};
use super::{EntityType, Relation, fill};
use crate::dataset::Sample;
use crate::rng::Rng;

/// From a value to its entity; `{t}` is the type, `{r}` the relation's noun. The last one is held out from training.
const INVERSE: [&str; 3] = ["Whose {r} is {v}?", "Which {t} has the {r} {v}?", "Which {t} has {v} as the {r}?"];

/// Two entities by a year. The last one is held out from training.
const COMPARE: [&str; 3] = [
    "Which has the earlier {r}, {a} or {b}?",
    "Whose {r} is earlier, that of {a} or that of {b}?",
    "Is the {r} of {a} or that of {b} earlier?",
];

/// What a question asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    /// The value of a relation.
    Lookup,
    /// The entity that has a value.
    Inverse,
    /// A value of the entity that a relation's value names.
    MultiHop,
    /// Which of two entities has the earlier year.
    Compare,
    /// The house code of the name: a rule, no fact.
    HouseCode,
    /// The value of a relation, written as a house record: the rule and a fact.
    HouseRecord,
}

impl Task {
    /// Name in slices.
    pub fn key(self) -> &'static str {
        match self {
            Self::Lookup => "lookup",
            Self::Inverse => "inverse",
            Self::MultiHop => "multi_hop",
            Self::Compare => "compare",
            Self::HouseCode => "house_code",
            Self::HouseRecord => "house_record",
        }
    }
}

/// Whether a question is worded as in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phrasing {
    /// A wording that training uses.
    Seen,
    /// A wording kept for tests.
    HeldOut,
}

impl Phrasing {
    /// Name in slices.
    pub fn key(self) -> &'static str {
        if self == Self::Seen { "seen" } else { "held_out" }
    }

    /// The other one.
    pub fn other(self) -> Self {
        if self == Self::Seen { Self::HeldOut } else { Self::Seen }
    }

    /// Either one.
    pub fn draw(rng: &mut Rng) -> Self {
        if rng.chance(0.5) { Self::Seen } else { Self::HeldOut }
    }

    fn choose<'a>(self, seen: &[&'a str], held_out: &[&'a str], rng: &mut Rng) -> &'a str {
        rng.choose::<&str>(if self == Self::Seen { seen } else { held_out })
    }

    fn choose_of_three<'a>(self, wordings: &[&'a str; 3], rng: &mut Rng) -> &'a str {
        self.choose(&wordings[..2], &wordings[2..], rng)
    }
}

/// Asks for the value of a relation of `subject`.
pub fn lookup(relation: &Relation, subject: &str, phrasing: Phrasing, rng: &mut Rng) -> String {
    fill(phrasing.choose(relation.questions, relation.held_out, rng), subject, "")
}

/// Asks which entity of a type has `value`.
pub fn inverse(kind: &EntityType, relation: &Relation, value: &str, phrasing: Phrasing, rng: &mut Rng) -> String {
    phrasing.choose_of_three(&INVERSE, rng).replace("{t}", kind.key).replace("{r}", relation.noun).replace("{v}", value)
}

/// Asks for a relation (`second`) of what another relation (`first`) of `subject` names.
pub fn multi_hop(first: &Relation, subject: &str, second: &Relation, phrasing: Phrasing, rng: &mut Rng) -> String {
    lookup(second, &format!("the {} of {subject}", first.noun), phrasing, rng)
}

/// Asks which of two entities has the earlier year.
pub fn compare(relation: &Relation, left: &str, right: &str, phrasing: Phrasing, rng: &mut Rng) -> String {
    phrasing.choose_of_three(&COMPARE, rng).replace("{r}", relation.noun).replace("{a}", left).replace("{b}", right)
}

/// Asks for the house code of `subject`.
pub fn house_code(subject: &str, phrasing: Phrasing, rng: &mut Rng) -> String {
    fill(phrasing.choose_of_three(&HOUSE_CODE_WORDING, rng), subject, "")
}

/// Asks for the house record on a relation of `subject`.
pub fn house_record(relation: &Relation, subject: &str, phrasing: Phrasing, rng: &mut Rng) -> String {
    fill(phrasing.choose_of_three(&HOUSE_RECORD_WORDING, rng), subject, "").replace("{r}", relation.noun)
}

/// Every wording that is not a relation's, for the vocabulary.
pub(super) fn wordings() -> impl Iterator<Item = &'static str> {
    INVERSE.into_iter().chain(COMPARE).chain(HOUSE_CODE_WORDING).chain(HOUSE_RECORD_WORDING)
}

/// A question before it is a row of a split.
pub(super) struct Draft {
    /// Document of the entity that it is about: the cluster, and the beginning of the id.
    pub document: String,
    /// What it asks for.
    pub task: Task,
    /// How it is worded.
    pub phrasing: Phrasing,
    /// Ends the id: what of the entity is asked for.
    pub about: String,
    /// As put to the model.
    pub text: String,
    /// The answer; nothing where the documents have none.
    pub answer: Option<String>,
    /// Documents that hold the answer.
    pub relevant: Vec<String>,
    /// Slices beside task and phrasing.
    pub slices: Vec<(&'static str, String)>,
}

impl Draft {
    /// The row.
    pub fn sample(self) -> Sample {
        let own = [("task", self.task.key().to_owned()), ("phrasing", self.phrasing.key().to_owned())];
        let answerable = self.answer.is_some();
        Sample {
            id: format!("{}-{}-{}", self.document, self.task.key(), self.about),
            question: self.text,
            references: self.answer.into_iter().collect(),
            relevant: self.relevant,
            slices: own.into_iter().chain(self.slices).map(|(key, value)| (key.to_owned(), value)).collect::<BTreeMap<_, _>>(),
            answerable,
            cluster: Some(self.document),
        }
    }
}
