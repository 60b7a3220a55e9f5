//! The fact world: invented entities, documents about them, and questions whose every answer and exposure is known.
//!
//! Everything follows from [`WorldConfig`]. An entity is *known* (pre-training shows its facts), *updated* (pre-training shows them, the
//! document states newer ones) or *fresh* (its name never occurs in pre-training). Documents cover all of them. Training labels and test
//! questions are about different entities. Nothing here depends on a model.

mod build;
mod code;
mod names;
mod passage;
mod question;
mod relation;
#[cfg(test)]
mod tests;
mod types;

pub use build::generate;
pub use code::{HOUSE_CODE_WORDING, HOUSE_RECORD_WORDING, house_code, house_record};
pub use names::{Name, NameSource, Pool, first_words, second_words};
pub use passage::{Sentence, sentences, text};
pub use relation::{EntityType, Relation, ValueClass, fill};
pub use types::TYPES;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Dataset;
use crate::rng::Rng;

/// Seed and numbers of entities.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorldConfig {
    /// Everything is drawn from it.
    pub seed: u64,
    /// Entities whose facts are in pre-training and asked about in the test split.
    pub known_test: usize,
    /// Entities whose facts are in pre-training and asked about in the training labels.
    pub known_train: usize,
    /// Entities whose facts are in pre-training, and two of them have changed since.
    pub updated: usize,
    /// Entities that only the documents know, asked about in the test split.
    pub fresh_test: usize,
    /// The same, asked about in the training labels.
    pub fresh_train: usize,
    /// The same, asked about in the validation labels.
    pub fresh_validation: usize,
    /// Entities that nobody asks about, with names near to those of test entities.
    pub distractors: usize,
}

impl Default for WorldConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            known_test: 48,
            known_train: 24,
            updated: 32,
            fresh_test: 72,
            fresh_train: 120,
            fresh_validation: 20,
            distractors: 160,
        }
    }
}

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

    /// The slice `knowledge`.
    pub fn knowledge(self) -> &'static str {
        match self {
            Self::KnownTest | Self::KnownTrain => "known",
            Self::Updated => "updated",
            _ => "fresh",
        }
    }
}

/// An entity with a value for each relation of its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entity {
    /// Unique.
    pub name: Name,
    /// Index into [`TYPES`].
    pub type_index: usize,
    /// What it is there for.
    pub role: Role,
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

    /// A random entity of a type.
    pub fn draw(name: Name, type_index: usize, role: Role, names: &NameSource, rng: &mut Rng) -> Self {
        let values = TYPES[type_index].relations.iter().map(|relation| relation.values.draw(names, rng)).collect();
        Self { name, type_index, role, values, updates: Vec::new() }
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
        self.entities.iter().map(|entity| entity.name.clone()).collect()
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
    ["Passage", "Question", "Answer"].into_iter().for_each(&mut add);
    for relation in TYPES.iter().flat_map(|kind| kind.relations) {
        for wording in relation.sentences.iter().chain(relation.pronoun).chain(relation.questions).chain(relation.held_out) {
            add(&fill(wording, "", ""));
        }
        add(relation.noun);
        if let ValueClass::Closed(values) = relation.values {
            values.iter().copied().for_each(&mut add);
        }
    }
    HOUSE_CODE_WORDING.iter().chain(&HOUSE_RECORD_WORDING).for_each(|wording| add(&wording.replace("{r}", "").replace("{n}", "")));
    first_words().iter().chain(&second_words()).for_each(|word| add(word));
    words
}
