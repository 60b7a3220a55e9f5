//! From the entities to documents and splits.

use std::collections::BTreeMap;

use super::passage::{Style, VARIETY, sentences, text};
use super::question::{Asker, Phrasing};
use super::{Entity, Role, World, WorldConfig, draw};
use crate::dataset::{Dataset, DatasetInfo, Document, Sample};
use crate::rng::Rng;

/// Facts that a document states.
const STATED: usize = 3;

/// An entity with its document.
pub(super) struct Described {
    pub entity: Entity,
    pub document: Document,
    pub style: Style,
    /// Relations that the document states.
    pub stated: Vec<usize>,
}

/// Builds the world. The same configuration gives the same world.
pub fn generate(config: &WorldConfig) -> World {
    let entities = draw::entities(config);
    let described = describe(config, &entities);
    let mut documents: Vec<Document> = described.iter().map(|entry| entry.document.clone()).collect();
    documents.sort_by(|left, right| left.id.cmp(&right.id));
    let mut dataset = Dataset { info: info(config), documents, ..Dataset::default() };
    let asker = Asker::new(&described);
    for (index, entry) in described.iter().enumerate() {
        let mut rng = Rng::new(config.seed, &format!("questions/{}", entry.document.id));
        match entry.entity.role {
            Role::KnownTest => dataset.test.extend(known_questions(&asker, index, &mut rng)),
            Role::Updated => dataset.test.extend(updated_questions(&asker, index, &mut rng)),
            Role::FreshTest => dataset.test.extend(fresh_questions(&asker, index, &mut rng)),
            Role::KnownTrain | Role::FreshTrain => dataset.train.extend(labels(&asker, index, &mut rng)),
            Role::FreshValidation => dataset.validation.extend(labels(&asker, index, &mut rng)),
            Role::Distractor => {}
        }
    }
    for (label, split) in [("train", &mut dataset.train), ("validation", &mut dataset.validation), ("test", &mut dataset.test)] {
        Rng::new(config.seed, &format!("order/{label}")).shuffle(split);
    }
    World { config: config.clone(), entities, dataset }
}

/// Documents under shuffled ids, so that an id says nothing about its role.
fn describe(config: &WorldConfig, entities: &[Entity]) -> Vec<Described> {
    let ids = Rng::new(config.seed, "ids").sample_indices(entities.len(), entities.len());
    let digits = (entities.len().max(2) - 1).ilog10() as usize + 1;
    entities.iter().zip(ids).map(|(entity, id)| describe_one(config, entity, format!("d{id:0digits$}"))).collect()
}

fn describe_one(config: &WorldConfig, entity: &Entity, id: String) -> Described {
    let mut rng = Rng::new(config.seed, &format!("document/{}", entity.name));
    let mut stated: Vec<usize> = entity.updates.iter().map(|(relation, _)| *relation).collect();
    let others =
        rng.sample_indices(entity.values.len(), entity.values.len()).into_iter().filter(|i| !stated.contains(i)).collect::<Vec<_>>();
    stated.extend(others.into_iter().take(STATED - stated.len()));
    rng.shuffle(&mut stated);
    let style = Style::draw(VARIETY, &mut rng);
    let text = text(&sentences(&entity.updated(), &stated, style, &mut rng));
    let document = Document { id, title: entity.name.to_string(), text, date: Some(date(entity.role, &mut rng)) };
    Described { entity: entity.clone(), document, style, stated }
}

/// Pre-training ends with 2025: what has changed or come since is dated later.
fn date(role: Role, rng: &mut Rng) -> String {
    let known = matches!(role, Role::KnownTest | Role::KnownTrain);
    let year = if known { 2020 + rng.below(6) } else { 2026 };
    format!("{year}-{:02}-{:02}", 1 + rng.below(if known { 12 } else { 9 }), 1 + rng.below(28))
}

/// Two facts, worded by turns as in training and not; by turns the house's code and its record of the third; what the document does not
/// state; and whatever the entity's alias, links and numbers allow.
fn fresh_questions(asker: &Asker, index: usize, rng: &mut Rng) -> Vec<Sample> {
    let phrasing = Phrasing::draw(rng);
    let mut questions = vec![asker.lookup(index, 0, phrasing, rng), asker.lookup(index, 1, phrasing.other(), rng)];
    let even = index.is_multiple_of(2);
    questions.push(if even { asker.house_record(index, 2, phrasing, rng) } else { asker.house_code(index, phrasing, rng) });
    if even {
        questions.push(asker.unstated(index, phrasing.other(), rng));
    }
    questions.extend(asker.by_alias(index, 2, phrasing.other(), rng));
    questions.extend(asker.multi_hop(index, phrasing, rng));
    questions.extend(if even { asker.compare(index, phrasing, rng) } else { asker.inverse(index, phrasing.other(), rng) });
    questions
}

/// Every fact, those that no document states too, and by turns the house's code and record.
fn known_questions(asker: &Asker, index: usize, rng: &mut Rng) -> Vec<Sample> {
    let mut phrasing = Phrasing::draw(rng);
    let mut questions: Vec<Sample> = (0..STATED)
        .map(|position| {
            phrasing = phrasing.other();
            asker.lookup(index, position, phrasing, rng)
        })
        .collect();
    questions.extend(asker.undocumented(index, rng));
    let even = index.is_multiple_of(2);
    questions.push(if even { asker.house_record(index, 2, phrasing, rng) } else { asker.house_code(index, phrasing, rng) });
    questions
}

fn updated_questions(asker: &Asker, index: usize, rng: &mut Rng) -> Vec<Sample> {
    let mut phrasing = Phrasing::draw(rng);
    let changed = asker.changed(index);
    let mut ask = |position| {
        phrasing = phrasing.other();
        asker.lookup(index, position, phrasing, rng)
    };
    changed.into_iter().map(&mut ask).collect()
}

/// What a user's labels would hold: facts, the house's way of writing them, and what cannot be said.
fn labels(asker: &Asker, index: usize, rng: &mut Rng) -> Vec<Sample> {
    let seen = Phrasing::Seen;
    let mut labels = vec![
        asker.lookup(index, 0, seen, rng),
        asker.house_record(index, 1, seen, rng),
        asker.house_record(index, 2, seen, rng),
        asker.house_code(index, seen, rng),
    ];
    if index.is_multiple_of(2) {
        labels.push(asker.unstated(index, seen, rng));
    }
    labels
}

fn info(config: &WorldConfig) -> DatasetInfo {
    let slices = [
        (
            "knowledge",
            "known: in pre-training; updated: the value has changed since; fresh: never in pre-training; unstated: fresh, and in no document",
        ),
        (
            "task",
            "lookup: a fact; alias: by another name; inverse: from the value to the name; multi_hop: over two documents; compare: of two \
             documents; house_code: a rule that labels teach; house_record: the rule and a fact",
        ),
        ("cell", "knowledge and task together; undocumented: no document states it"),
        ("phrasing", "seen: worded as in training; held_out: not"),
        ("exposures", "lookups of known facts that a document states: how often pre-training shows the fact"),
        ("exposures_undocumented", "lookups of known facts that no document states: how often pre-training shows the fact"),
        ("wordings", "lookups of known facts: how pre-training shows them: one text, several, or asked as well"),
        ("documented", "whether a document states the answer"),
        ("style", "of the document"),
        ("relation", "what is asked for"),
        ("type", "type of the entity"),
        ("value", "form of the answer: closed list, pair, invented name, number, or code"),
    ];
    DatasetInfo {
        name: "factworld".into(),
        version: "2".into(),
        licence: "MIT OR Apache-2.0".into(),
        source: format!("generated, seed {}", config.seed),
        slices: slices.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>(),
        ..DatasetInfo::default()
    }
}
