//! From the configuration to entities, documents and splits.

use std::collections::{BTreeMap, BTreeSet};

use super::names::{NameSource, Pool};
use super::passage::{sentences, text};
use super::question::{Phrasing, Task, sample};
use super::{Entity, Role, TYPES, World, WorldConfig};
use crate::dataset::{Dataset, DatasetInfo, Document, Sample};
use crate::rng::Rng;

/// Facts that a document states.
const STATED: usize = 3;
/// Facts of an updated entity that have changed.
const CHANGED: usize = 2;

/// An entity with its document.
struct Described {
    entity: Entity,
    document: Document,
    /// Relations that the document states.
    stated: Vec<usize>,
}

/// Builds the world. The same configuration gives the same world.
pub fn generate(config: &WorldConfig) -> World {
    let entities = draw_entities(config);
    let described = describe(config, &entities);
    let mut documents: Vec<Document> = described.iter().map(|entry| entry.document.clone()).collect();
    documents.sort_by(|left, right| left.id.cmp(&right.id));
    let mut dataset = Dataset { info: info(config), documents, ..Dataset::default() };
    for entry in &described {
        let mut rng = Rng::new(config.seed, &format!("questions/{}", entry.document.id));
        match entry.entity.role {
            Role::KnownTest => dataset.test.extend(known_questions(entry, &mut rng)),
            Role::Updated => dataset.test.extend(updated_questions(entry, &mut rng)),
            Role::FreshTest => dataset.test.extend(fresh_questions(entry, &mut rng)),
            Role::KnownTrain | Role::FreshTrain => dataset.train.extend(labels(entry, &mut rng)),
            Role::FreshValidation => dataset.validation.extend(labels(entry, &mut rng)),
            Role::Distractor => {}
        }
    }
    for (label, split) in [("train", &mut dataset.train), ("validation", &mut dataset.validation), ("test", &mut dataset.test)] {
        Rng::new(config.seed, &format!("order/{label}")).shuffle(split);
    }
    World { config: config.clone(), entities, dataset }
}

fn draw_entities(config: &WorldConfig) -> Vec<Entity> {
    let mut rng = Rng::new(config.seed, "entities");
    let mut names = NameSource::new(Pool::All, BTreeSet::new());
    let mut entities: Vec<Entity> = Vec::new();
    let counts = [
        (Role::KnownTest, config.known_test),
        (Role::KnownTrain, config.known_train),
        (Role::Updated, config.updated),
        (Role::FreshTest, config.fresh_test),
        (Role::FreshTrain, config.fresh_train),
        (Role::FreshValidation, config.fresh_validation),
    ];
    for (role, count) in counts {
        for index in 0..count {
            let name = names.draw(&mut rng);
            names.take(&name);
            let mut entity = Entity::draw(name, index % TYPES.len(), role, &names, &mut rng);
            if role == Role::Updated {
                entity.updates = draw_updates(&entity, &names, &mut rng);
            }
            entities.push(entity);
        }
    }
    let asked: Vec<usize> =
        (0..entities.len()).filter(|&i| matches!(entities[i].role, Role::KnownTest | Role::Updated | Role::FreshTest)).collect();
    for index in 0..if asked.is_empty() { 0 } else { config.distractors } {
        let model = &entities[asked[index % asked.len()]];
        let name = names.draw_near(&model.name, &mut rng);
        names.take(&name);
        let entity = Entity::draw(name, model.type_index, Role::Distractor, &names, &mut rng);
        entities.push(entity);
    }
    entities
}

fn draw_updates(entity: &Entity, names: &NameSource, rng: &mut Rng) -> Vec<(usize, String)> {
    let relations = entity.kind().relations;
    let changed = rng.sample_indices(relations.len(), CHANGED);
    let mut draw = |relation: usize| loop {
        let value = relations[relation].values.draw(names, rng);
        if value != entity.values[relation] {
            return (relation, value);
        }
    };
    changed.into_iter().map(&mut draw).collect()
}

/// Documents under shuffled ids, so that an id says nothing about its role.
fn describe(config: &WorldConfig, entities: &[Entity]) -> Vec<Described> {
    let ids = Rng::new(config.seed, "ids").sample_indices(entities.len(), entities.len());
    entities.iter().zip(ids).map(|(entity, id)| describe_one(config, entity, format!("d{id:04}"))).collect()
}

fn describe_one(config: &WorldConfig, entity: &Entity, id: String) -> Described {
    let mut rng = Rng::new(config.seed, &format!("document/{}", entity.name));
    let mut stated: Vec<usize> = entity.updates.iter().map(|(relation, _)| *relation).collect();
    let others =
        rng.sample_indices(entity.values.len(), entity.values.len()).into_iter().filter(|i| !stated.contains(i)).collect::<Vec<_>>();
    stated.extend(others.into_iter().take(STATED - stated.len()));
    rng.shuffle(&mut stated);
    let text = text(&sentences(&entity.updated(), &stated, &mut rng));
    let document = Document { id, title: entity.name.to_string(), text, date: None };
    Described { entity: entity.clone(), document, stated }
}

impl Described {
    fn ask(&self, position: usize, task: Task, phrasing: Phrasing, rng: &mut Rng) -> Sample {
        sample(&self.entity, &self.document.id, self.stated[position], task, phrasing, rng)
    }
}

/// Two facts and the record of the third, worded by turns as in training and not.
fn fresh_questions(entry: &Described, rng: &mut Rng) -> Vec<Sample> {
    let phrasing = random_phrasing(rng);
    vec![
        entry.ask(0, Task::Lookup, phrasing, rng),
        entry.ask(1, Task::Lookup, phrasing.other(), rng),
        entry.ask(2, Task::HouseRecord, phrasing, rng),
        entry.ask(2, Task::HouseCode, phrasing.other(), rng),
    ]
}

fn known_questions(entry: &Described, rng: &mut Rng) -> Vec<Sample> {
    fresh_questions(entry, rng)
}

fn updated_questions(entry: &Described, rng: &mut Rng) -> Vec<Sample> {
    let mut phrasing = random_phrasing(rng);
    let changed = entry.entity.updates.iter().map(|(relation, _)| *relation);
    changed
        .map(|relation| {
            phrasing = phrasing.other();
            sample(&entry.entity, &entry.document.id, relation, Task::Lookup, phrasing, rng)
        })
        .collect()
}

/// What a user's labels would hold: facts, and the house's way of writing them.
fn labels(entry: &Described, rng: &mut Rng) -> Vec<Sample> {
    [(0, Task::Lookup), (1, Task::HouseRecord), (2, Task::HouseRecord), (2, Task::HouseCode)]
        .into_iter()
        .map(|(position, task)| entry.ask(position, task, Phrasing::Seen, rng))
        .collect()
}

fn random_phrasing(rng: &mut Rng) -> Phrasing {
    if rng.chance(0.5) { Phrasing::Seen } else { Phrasing::HeldOut }
}

impl Phrasing {
    fn other(self) -> Self {
        if self == Self::Seen { Self::HeldOut } else { Self::Seen }
    }
}

fn info(config: &WorldConfig) -> DatasetInfo {
    let slices = [
        ("knowledge", "known: in pre-training; updated: the value has changed since; fresh: never in pre-training"),
        ("task", "lookup: a fact; house_code: a rule that labels teach; house_record: the rule and a fact"),
        ("phrasing", "seen: worded as in training; held_out: not"),
        ("relation", "what is asked for"),
        ("type", "type of the entity"),
        ("value", "form of the answer: closed list, invented name, number, or code"),
    ];
    DatasetInfo {
        name: "factworld".into(),
        version: "1".into(),
        licence: "MIT OR Apache-2.0".into(),
        source: format!("generated, seed {}", config.seed),
        slices: slices.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>(),
        ..DatasetInfo::default()
    }
}
