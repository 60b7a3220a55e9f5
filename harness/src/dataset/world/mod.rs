//! The fact world: invented entities, documents about them, and questions whose every answer and exposure is known.
//!
//! Everything follows from [`WorldConfig`]. An entity is *known* (pre-training shows its facts), *updated* (pre-training shows them, the
//! document states newer ones) or *fresh* (its name never occurs in pre-training). Documents cover all of them. Training labels and test
//! questions are about different entities. Nothing here depends on a model.

mod build;
mod code;
mod config;
mod names;
mod passage;
mod question;
mod relation;
#[cfg(test)]
mod tests;
mod types;

pub use build::generate;
pub use code::{house_code, house_record};
pub use config::{EXPOSURES, Size, WorldConfig};
pub use names::{Name, NameSource, Pool, first_words, second_words};
pub use passage::{Sentence, Style, fixed_sentences, sentences, text};
pub use question::{Phrasing, Task, compare, inverse, lookup, multi_hop};
pub use relation::{EntityType, Relation, ValueClass, fill};
pub use types::TYPES;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Dataset;
use crate::rng::Rng;

/// What an entity is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// In pre-training; test questions.
    KnownTest,
    /// In pre-training; training labels.
    KnownTrain,
    /// In pre-training with values that have changed since; test questions.
    Updated,
    /// Not in pre-training; test questions.
    FreshTest,
    /// Not in pre-training; training labels.
    FreshTrain,
    /// Not in pre-training; validation labels.
    FreshValidation,
    /// Not in pre-training; no questions.
    Distractor,
}

impl Role {
    /// Whether pre-training shows the entity.
    pub fn pretrained(self) -> bool {
        matches!(self, Self::KnownTest | Self::KnownTrain | Self::Updated)
    }

    /// Whether the test split asks about the entity.
    pub fn tested(self) -> bool {
        matches!(self, Self::KnownTest | Self::Updated | Self::FreshTest)
    }

    /// The slice `knowledge` of what its document states.
    pub fn knowledge(self) -> &'static str {
        match self {
            Self::KnownTest | Self::KnownTrain => "known",
            Self::Updated => "updated",
            _ => "fresh",
        }
    }
}

/// In which wordings pre-training shows an entity's facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wording {
    /// Always in the same sentence, in the same order, and never asked.
    One,
    /// In all wordings and styles and in any order, never asked.
    Several,
    /// The same, and half of the time asked as questions.
    Asked,
}

impl Wording {
    /// Every one, in a fixed order.
    pub const ALL: [Self; 3] = [Self::One, Self::Several, Self::Asked];

    /// Name in slices.
    pub fn key(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Several => "several",
            Self::Asked => "asked",
        }
    }
}

/// How pre-training shows an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exposure {
    /// How often each of its facts is shown; 0 for what pre-training does not know.
    pub count: u32,
    /// In which wordings.
    pub wording: Wording,
}

impl Exposure {
    /// Never shown.
    pub const NONE: Self = Self { count: 0, wording: Wording::Asked };
}

/// An entity with a value for each relation of its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entity {
    /// Unique.
    pub name: Name,
    /// Another name that its document gives.
    pub alias: Option<Name>,
    /// Index into [`TYPES`].
    pub type_index: usize,
    /// What it is there for.
    pub role: Role,
    /// What pre-training shows of it.
    pub exposure: Exposure,
    /// Values as pre-training shows them, in the order of the type's relations.
    pub values: Vec<String>,
    /// Newer values, `(relation, value)`; only for [`Role::Updated`].
    pub updates: Vec<(usize, String)>,
}

impl Entity {
    /// Its type.
    pub fn kind(&self) -> &'static EntityType {
        &TYPES[self.type_index]
    }

    /// A random entity of a type, never shown in pre-training.
    pub fn draw(name: Name, type_index: usize, role: Role, names: &NameSource, rng: &mut Rng) -> Self {
        let values = TYPES[type_index].relations.iter().map(|relation| relation.values.draw(names, rng)).collect();
        Self { name, alias: None, type_index, role, exposure: Exposure::NONE, values, updates: Vec::new() }
    }

    /// The entity as its document describes it: with the newer values.
    pub fn updated(&self) -> Self {
        let mut entity = self.clone();
        for (relation, value) in &self.updates {
            entity.values[*relation].clone_from(value);
        }
        entity
    }
}

/// The entities, and the dataset made of them.
#[derive(Debug, Clone)]
pub struct World {
    /// What it was made from.
    pub config: WorldConfig,
    /// In the order of roles.
    pub entities: Vec<Entity>,
    /// Documents, labels and test questions.
    pub dataset: Dataset,
}

impl World {
    /// Entities whose facts pre-training shows.
    pub fn pretrained(&self) -> impl Iterator<Item = &Entity> {
        self.entities.iter().filter(|entity| entity.role.pretrained())
    }

    /// Every name of an entity: pre-training may use them for these entities only.
    pub fn reserved_names(&self) -> BTreeSet<Name> {
        self.entities.iter().flat_map(|entity| std::iter::once(&entity.name).chain(&entity.alias)).cloned().collect()
    }
}

/// Every word that texts, questions and answers are made of, each once, in a fixed order: what a tokenizer should know whole.
pub fn vocabulary() -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut add = |text: &str| {
        for word in text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()) {
            if seen.insert(word.to_owned()) {
                words.push(word.to_owned());
            }
        }
    };
    ["Passage", "Question", "Answer", "unknown"].into_iter().for_each(&mut add);
    for relation in TYPES.iter().flat_map(|kind| kind.relations) {
        for wording in relation.sentences.iter().chain(relation.pronoun).chain(relation.questions).chain(relation.held_out) {
            add(&fill(wording, "", ""));
        }
        add(relation.noun);
        relation.values.words().iter().copied().for_each(&mut add);
    }
    let placeholders = ["{r}", "{n}", "{v}", "{t}", "{a}", "{b}"];
    for wording in Style::wordings().chain(question::wordings()).chain(["and"]) {
        add(&placeholders.iter().fold(wording.to_owned(), |text, placeholder| text.replace(placeholder, "")));
    }
    TYPES.iter().for_each(|kind| add(kind.key));
    first_words().iter().chain(&second_words()).for_each(|word| add(word));
    words
}
