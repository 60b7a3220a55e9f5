//! The fact world: invented entities, documents about them, and questions whose every answer and exposure is known.
//!
//! Everything follows from [`WorldConfig`]. An entity is *known* (pre-training shows its facts, so and so often, in one wording, in several,
//! or asked as well), *updated* (pre-training shows them, the document states newer ones) or *fresh* (its name never occurs in pre-training).
//! Documents cover all of them, in several styles, and leave facts out. Training labels and test questions are about different entities.
//! Nothing here depends on a model.

mod ask;
mod build;
mod code;
mod draw;
mod names;
mod passage;
mod question;
mod relation;
#[cfg(test)]
mod tests;
mod types;

pub use ask::{compare_question, inverse_question, multi_hop_question};
pub use build::generate;
pub use code::{HOUSE_CODE_WORDING, HOUSE_RECORD_WORDING, house_code, house_record};
pub use names::{Name, NameSource, Pool, first_words, second_words};
pub use passage::{Sentence, Style, VARIETY, only_text, sentences, text};
pub use relation::{EntityType, Relation, ValueClass, fill};
pub use types::TYPES;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Dataset;
use crate::rng::Rng;

/// What is answered where no text states it.
pub const NOT_STATED: &str = "unknown";

/// Seed and numbers of entities.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorldConfig {
    /// Everything is drawn from it.
    pub seed: u64,
    /// How often pre-training shows the facts of known entities: the strata of memory.
    pub exposures: Vec<u64>,
    /// Known entities per stratum and [`Wordings`], asked about in the test split.
    pub known_test: usize,
    /// Known entities that are asked about in the training labels.
    pub known_train: usize,
    /// Entities whose facts are in pre-training, and two of them have changed since.
    pub updated: usize,
    /// How often pre-training shows the facts of `known_train` and `updated` entities.
    pub taught: u64,
    /// Entities that only the documents know, asked about in the test split.
    pub fresh_test: usize,
    /// The same, asked about in the training labels.
    pub fresh_train: usize,
    /// The same, asked about in the validation labels.
    pub fresh_validation: usize,
    /// Entities that nobody asks about, with names near to those of test entities.
    pub distractors: usize,
    /// Whether names have three words: for more than some thousand entities.
    pub long_names: bool,
}

/// Worlds of three sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// About 70 documents: seconds.
    Tiny,
    /// What ships: about 1,300 documents and 2,300 test questions.
    Standard,
    /// About 100,000 documents: for scale.
    Large,
}

impl WorldConfig {
    /// The world of a size.
    pub fn of(size: Size, seed: u64) -> Self {
        let standard = Self {
            seed,
            exposures: vec![1000, 100, 10, 1],
            known_test: 8,
            known_train: 24,
            updated: 80,
            taught: 100,
            fresh_test: 300,
            fresh_train: 120,
            fresh_validation: 20,
            distractors: 640,
            long_names: false,
        };
        match size {
            Size::Tiny => Self {
                exposures: vec![10, 1],
                known_test: 1,
                known_train: 2,
                updated: 4,
                taught: 4,
                fresh_test: 16,
                fresh_train: 8,
                fresh_validation: 2,
                distractors: 32,
                ..standard
            },
            Size::Standard => standard,
            Size::Large => Self { fresh_test: 5000, fresh_train: 5000, distractors: 90_000, long_names: true, ..standard },
        }
    }

    fn names(&self) -> NameSource {
        NameSource::new(if self.long_names { Pool::Long } else { Pool::All }, BTreeSet::new())
    }
}

impl Default for WorldConfig {
    fn default() -> Self {
        Self::of(Size::Standard, 1)
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
    /// The slice `knowledge`.
    pub fn knowledge(self) -> &'static str {
        match self {
            Self::KnownTest | Self::KnownTrain => "known",
            Self::Updated => "updated",
            _ => "fresh",
        }
    }

    /// Whether test questions are about it.
    pub fn tested(self) -> bool {
        matches!(self, Self::KnownTest | Self::Updated | Self::FreshTest)
    }
}

/// In how many ways pre-training shows the facts of an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wordings {
    /// Texts in all wordings and styles, by turns with questions.
    Asked,
    /// Texts in all wordings and styles; never asked.
    Several,
    /// One text, word for word; never asked.
    One,
}

impl Wordings {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Asked, Self::Several, Self::One];

    /// Name in slices and figures.
    pub fn key(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Several => "several",
            Self::One => "one",
        }
    }
}

/// What pre-training shows of an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exposure {
    /// How often it shows every fact.
    pub times: u64,
    /// How.
    pub wordings: Wordings,
}

/// An entity with a value for each relation of its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entity {
    /// Unique.
    pub name: Name,
    /// Another name, unique as well, that its document gives beside the first.
    pub alias: Option<Name>,
    /// Index into [`TYPES`].
    pub type_index: usize,
    /// What it is there for.
    pub role: Role,
    /// What pre-training shows of it; nothing of fresh entities.
    pub exposure: Option<Exposure>,
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

    /// An entity of a type with random values, without alias or exposure.
    pub fn draw(name: Name, type_index: usize, role: Role, names: &NameSource, rng: &mut Rng) -> Self {
        let values = TYPES[type_index].relations.iter().map(|relation| relation.values.draw(names, rng)).collect();
        Self { name, alias: None, type_index, role, exposure: None, values, updates: Vec::new() }
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
        self.entities.iter().filter(|entity| entity.exposure.is_some())
    }

    /// Every name and alias of an entity: pre-training may use them for these entities only.
    pub fn reserved_names(&self) -> BTreeSet<Name> {
        self.entities.iter().flat_map(|entity| [Some(&entity.name), entity.alias.as_ref()]).flatten().cloned().collect()
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
    let bare = |text: &str| ["{n}", "{v}", "{r}", "{t}", "{d}"].iter().fold(text.to_owned(), |text, mark| text.replace(mark, ""));
    ["Passage", "Question", "Answer", NOT_STATED].into_iter().for_each(&mut add);
    for kind in &TYPES {
        add(kind.key);
        for relation in kind.relations {
            let pronoun = relation.pronoun.iter().map(|text| (*text).to_owned());
            let wordings = relation.all_sentences().into_iter().chain(pronoun);
            wordings.chain(relation.all_questions(false)).chain(relation.all_questions(true)).for_each(|text| add(&bare(&text)));
            add(relation.noun);
            if let ValueClass::Closed(values) | ValueClass::Pair(values) = relation.values {
                values.iter().copied().for_each(&mut add);
            }
        }
    }
    let frames = ask::INVERSE_WORDING.iter().chain(&ask::COMPARE_WORDING).chain(&ask::DIRECTIONS).chain(&passage::FRAMES);
    frames.chain(&HOUSE_CODE_WORDING).chain(&HOUSE_RECORD_WORDING).for_each(|text| add(&bare(text)));
    first_words().iter().chain(&second_words()).for_each(|word| add(word));
    words
}
