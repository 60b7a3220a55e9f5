//! From the configuration to entities, documents and splits.

use std::collections::{BTreeMap, BTreeSet};

use super::code::{house_code, house_record};
use super::names::{NameSource, Pool};
use super::passage::{Style, sentences, text};
use super::question::{self, Draft, Phrasing, Task};
use super::{EXPOSURES, Entity, Exposure, Role, TYPES, ValueClass, Wording, World, WorldConfig};
use crate::dataset::{Dataset, DatasetInfo, Document, Sample};
use crate::rng::Rng;

/// Facts that a document states.
const STATED: usize = 3;
/// Facts of an updated entity that have changed.
const CHANGED: usize = 2;
/// Part of the fresh entities that their documents give another name as well.
const WITH_ALIAS: f64 = 0.15;
/// Part of the fresh entities with a relation to another entity of the same split.
const LINKED: f64 = 0.6;
/// Part of the documents that are biographies; the rest are of the other styles.
const BIOGRAPHIES: f64 = 0.4;

/// An entity with its document.
struct Described {
    entity: Entity,
    document: Document,
    style: Style,
    /// Relations that the document states, then those that it does not.
    relations: Vec<usize>,
    /// The relation whose value names another entity with a document.
    link: Option<(usize, usize)>,
}

/// Builds the world. The same configuration gives the same world.
pub fn generate(config: &WorldConfig) -> World {
    let mut entities = draw_entities(config);
    let links = link(config, &mut entities);
    let described = describe(config, &entities, &links);
    let mut documents: Vec<Document> = described.iter().map(|entry| entry.document.clone()).collect();
    documents.sort_by(|left, right| left.id.cmp(&right.id));
    let mut dataset = Dataset { info: info(config), documents, ..Dataset::default() };
    let corpus = Corpus::new(&described);
    for (index, entry) in described.iter().enumerate() {
        let asking = Asking { corpus: &corpus, entry, index };
        let mut rng = Rng::new(config.seed, &format!("questions/{}", entry.document.id));
        let (split, drafts) = match entry.entity.role {
            Role::KnownTest => (&mut dataset.test, asking.known(&mut rng)),
            Role::Updated => (&mut dataset.test, asking.updated(&mut rng)),
            Role::FreshTest => (&mut dataset.test, asking.fresh(&mut rng)),
            Role::KnownTrain | Role::FreshTrain => (&mut dataset.train, asking.labels(&mut rng)),
            Role::FreshValidation => (&mut dataset.validation, asking.labels(&mut rng)),
            Role::Distractor => continue,
        };
        split.extend(drafts.into_iter().map(Draft::sample));
    }
    for (label, split) in [("train", &mut dataset.train), ("validation", &mut dataset.validation), ("test", &mut dataset.test)] {
        Rng::new(config.seed, &format!("order/{label}")).shuffle::<Sample>(split);
    }
    World { config: config.clone(), entities, dataset }
}

fn draw_entities(config: &WorldConfig) -> Vec<Entity> {
    let mut rng = Rng::new(config.seed, "entities");
    let mut names = NameSource::new(Pool::All, BTreeSet::new());
    let mut entities: Vec<Entity> = Vec::new();
    for (role, count, exposure) in roles(config) {
        for index in 0..count {
            let name = names.draw(&mut rng);
            names.take(&name);
            let mut entity = Entity { exposure, ..Entity::draw(name, index % TYPES.len(), role, &names, &mut rng) };
            if role == Role::Updated {
                entity.updates = draw_updates(&entity, &names, &mut rng);
            }
            if !role.pretrained() && rng.chance(WITH_ALIAS) {
                let alias = names.draw(&mut rng);
                names.take(&alias);
                entity.alias = Some(alias);
            }
            entities.push(entity);
        }
    }
    let asked: Vec<usize> = (0..entities.len()).filter(|&i| entities[i].role.tested()).collect();
    for index in 0..if asked.is_empty() { 0 } else { config.near_names } {
        let model = &entities[asked[index % asked.len()]];
        let name = names.draw_near(&model.name, &mut rng);
        names.take(&name);
        entities.push(Entity::draw(name, model.type_index, Role::Distractor, &names, &mut rng));
    }
    let mut long = names.with_middles();
    for index in 0..config.crowd {
        let name = long.draw(&mut rng);
        long.take(&name);
        entities.push(Entity::draw(name, index % TYPES.len(), Role::Distractor, &long, &mut rng));
    }
    entities
}

/// Roles with the number of their entities and what pre-training shows of them, in the world's order.
fn roles(config: &WorldConfig) -> Vec<(Role, usize, Exposure)> {
    let asked = Exposure { count: 50, wording: Wording::Asked };
    let cells = EXPOSURES.into_iter().zip(config.known_test);
    let known = cells.flat_map(|(count, entities)| Wording::ALL.map(|wording| (Role::KnownTest, entities, Exposure { count, wording })));
    let others = [
        (Role::KnownTrain, config.known_train, asked),
        (Role::Updated, config.updated, asked),
        (Role::FreshTest, config.fresh_test, Exposure::NONE),
        (Role::FreshTrain, config.fresh_train, Exposure::NONE),
        (Role::FreshValidation, config.fresh_validation, Exposure::NONE),
    ];
    known.chain(others).collect()
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

/// Lets relations of fresh entities name other fresh entities of the same split. Gives, by entity, the relation and the entity it names.
fn link(config: &WorldConfig, entities: &mut [Entity]) -> BTreeMap<usize, (usize, usize)> {
    let mut rng = Rng::new(config.seed, "links");
    let mut links = BTreeMap::new();
    for role in [Role::FreshTest, Role::FreshTrain, Role::FreshValidation] {
        let members: Vec<usize> = (0..entities.len()).filter(|&index| entities[index].role == role).collect();
        for &index in &members {
            let relations = entities[index].kind().relations;
            let linkable: Vec<usize> = (0..relations.len()).filter(|&relation| relations[relation].target.is_some()).collect();
            if !rng.chance(LINKED) {
                continue;
            }
            let relation = *rng.choose(&linkable);
            let is_target = |&&other: &&usize| other != index && Some(entities[other].kind().key) == relations[relation].target;
            let targets: Vec<usize> = members.iter().filter(is_target).copied().collect();
            if !targets.is_empty() {
                let target = *rng.choose(&targets);
                entities[index].values[relation] = entities[target].name.to_string();
                links.insert(index, (relation, target));
            }
        }
    }
    links
}

/// Documents under shuffled ids, so that an id says nothing about its role.
fn describe(config: &WorldConfig, entities: &[Entity], links: &BTreeMap<usize, (usize, usize)>) -> Vec<Described> {
    let ids = Rng::new(config.seed, "ids").sample_indices(entities.len(), entities.len());
    let width = entities.len().to_string().len().max(4);
    let numbered = entities.iter().zip(ids).enumerate();
    numbered.map(|(index, (entity, id))| describe_one(config, entity, format!("d{id:0width$}"), links.get(&index).copied())).collect()
}

fn describe_one(config: &WorldConfig, entity: &Entity, id: String, link: Option<(usize, usize)>) -> Described {
    let mut rng = Rng::new(config.seed, &format!("document/{}", entity.name));
    let mut relations: Vec<usize> = entity.updates.iter().map(|(relation, _)| *relation).chain(link.map(|(relation, _)| relation)).collect();
    let others = rng.sample_indices(entity.values.len(), entity.values.len());
    relations.extend(others.into_iter().filter(|relation| !relations.contains(relation)).collect::<Vec<_>>());
    rng.shuffle(&mut relations[..STATED]);
    let style = Style::draw(BIOGRAPHIES, &mut rng);
    let text = text(&sentences(&entity.updated(), &relations[..STATED], style, &mut rng));
    let document = Document { id, title: entity.name.to_string(), text, date: Some(date(entity.role, &mut rng)) };
    Described { entity: entity.clone(), document, style, relations, link }
}

/// What pre-training knows was written before 2024, the rest later.
fn date(role: Role, rng: &mut Rng) -> String {
    let year = if matches!(role, Role::KnownTest | Role::KnownTrain) { 2016 + rng.below(8) } else { 2024 + rng.below(2) };
    format!("{year}-{:02}-{:02}", 1 + rng.below(12), 1 + rng.below(28))
}

/// What is known of the whole corpus while questions are asked.
struct Corpus<'a> {
    described: &'a [Described],
    /// How many documents state a name as the value of a relation of a type.
    stated: BTreeMap<(usize, usize, String), usize>,
    /// For an entity with a year in its document, the next one of its role and type, which it is compared with.
    pairs: BTreeMap<usize, usize>,
}

impl<'a> Corpus<'a> {
    fn new(described: &'a [Described]) -> Self {
        let mut stated = BTreeMap::new();
        let mut last: BTreeMap<(Role, usize), usize> = BTreeMap::new();
        let mut pairs = BTreeMap::new();
        for (index, entry) in described.iter().enumerate() {
            let current = entry.entity.updated();
            for &relation in entry.stated() {
                if entry.entity.kind().relations[relation].values == ValueClass::Name {
                    *stated.entry((entry.entity.type_index, relation, current.values[relation].clone())).or_insert(0) += 1;
                }
            }
            if entry.entity.kind().dated().is_some_and(|relation| entry.stated().contains(&relation)) {
                let key = (entry.entity.role, entry.entity.type_index);
                if let Some(before) = last.insert(key, index) {
                    pairs.insert(before, index);
                }
            }
        }
        Self { described, stated, pairs }
    }
}

impl Described {
    fn stated(&self) -> &[usize] {
        &self.relations[..STATED]
    }

    fn absent(&self) -> &[usize] {
        &self.relations[STATED..]
    }
}

/// The questions about one entity.
struct Asking<'a> {
    corpus: &'a Corpus<'a>,
    entry: &'a Described,
    index: usize,
}

impl Asking<'_> {
    /// What pre-training shows and the document states; what only pre-training shows; and the house's way of writing.
    fn known(&self, rng: &mut Rng) -> Vec<Draft> {
        let phrasing = Phrasing::draw(rng);
        let absent = self.entry.absent()[0];
        let mut drafts = vec![
            self.lookup(self.entry.stated()[0], "known", false, phrasing, rng),
            self.lookup(self.entry.stated()[1], "known", false, phrasing.other(), rng),
            Draft { relevant: Vec::new(), ..self.lookup(absent, "undocumented", false, phrasing, rng) },
            self.house(self.index.is_multiple_of(2), self.entry.stated()[2], phrasing, rng),
        ];
        let exposure = self.entry.entity.exposure;
        for draft in &mut drafts[..3] {
            draft.slices.push(("exposures", exposure.count.to_string()));
            draft.slices.push(("wording", exposure.wording.key().to_owned()));
            draft.slices.push(("shown", format!("{}/{}", exposure.count, exposure.wording.key())));
        }
        drafts
    }

    fn updated(&self, rng: &mut Rng) -> Vec<Draft> {
        let mut phrasing = Phrasing::draw(rng);
        let changed = self.entry.entity.updates.iter().map(|(relation, _)| *relation);
        let mut ask = |relation| {
            phrasing = phrasing.other();
            self.lookup(relation, "updated", false, phrasing, rng)
        };
        changed.map(&mut ask).collect()
    }

    fn fresh(&self, rng: &mut Rng) -> Vec<Draft> {
        let phrasing = Phrasing::draw(rng);
        let mut drafts = vec![
            self.lookup(self.entry.stated()[0], "fresh", self.entry.entity.alias.is_some(), phrasing, rng),
            self.lookup(self.entry.stated()[1], "fresh", false, phrasing.other(), rng),
            self.unstated(phrasing, rng),
            self.house(self.index.is_multiple_of(2), self.entry.stated()[2], phrasing.other(), rng),
        ];
        drafts.extend(self.inverse(phrasing, rng));
        drafts.extend(self.multi_hop(phrasing.other(), rng));
        drafts.extend(self.compare(phrasing, rng));
        drafts
    }

    /// What a user's labels would hold: facts, the house's way of writing them, and some of everything else that is asked.
    fn labels(&self, rng: &mut Rng) -> Vec<Draft> {
        let (stated, phrasing) = (self.entry.stated(), Phrasing::Seen);
        let knowledge = self.entry.entity.role.knowledge();
        let mut drafts = vec![
            self.lookup(stated[0], knowledge, self.entry.entity.alias.is_some(), phrasing, rng),
            self.house(true, stated[1], phrasing, rng),
            self.house(true, stated[2], phrasing, rng),
            self.house(false, stated[2], phrasing, rng),
        ];
        match self.index % 4 {
            0 if !self.entry.entity.role.pretrained() => drafts.push(self.unstated(phrasing, rng)),
            1 => drafts.extend(self.inverse(phrasing, rng)),
            2 => drafts.extend(self.multi_hop(phrasing, rng)),
            _ => drafts.extend(self.compare(phrasing, rng)),
        }
        drafts
    }

    fn lookup(&self, relation: usize, knowledge: &'static str, by_alias: bool, phrasing: Phrasing, rng: &mut Rng) -> Draft {
        let entity = self.entry.entity.updated();
        let form = &entity.kind().relations[relation];
        let subject = entity.alias.as_ref().filter(|_| by_alias).unwrap_or(&entity.name).to_string();
        let text = question::lookup(form, &subject, phrasing, rng);
        let mut draft = self.draft(Task::Lookup, knowledge, phrasing, text, Some(entity.values[relation].clone()));
        draft.about = form.key.to_owned();
        draft.slices.push(("name", if by_alias { "alias" } else { "title" }.to_owned()));
        draft.slices.push(("relation", form.key.to_owned()));
        draft.slices.push(("value", form.values.label().to_owned()));
        draft
    }

    /// Asks for what no document states, of an entity that pre-training does not know.
    fn unstated(&self, phrasing: Phrasing, rng: &mut Rng) -> Draft {
        let draft = self.lookup(self.entry.absent()[0], "unstated", false, phrasing, rng);
        let slices = draft.slices.into_iter().filter(|(key, _)| *key != "value").collect();
        Draft { answer: None, relevant: Vec::new(), slices, ..draft }
    }

    fn house(&self, record: bool, relation: usize, phrasing: Phrasing, rng: &mut Rng) -> Draft {
        let entity = self.entry.entity.updated();
        let (form, subject) = (&entity.kind().relations[relation], entity.name.to_string());
        let (task, text, answer, about) = if record {
            let answer = house_record(&entity.name, &entity.values[relation]);
            (Task::HouseRecord, question::house_record(form, &subject, phrasing, rng), answer, form.key)
        } else {
            (Task::HouseCode, question::house_code(&subject, phrasing, rng), house_code(&entity.name), "name")
        };
        let mut draft = self.draft(task, self.entry.entity.role.knowledge(), phrasing, text, Some(answer));
        draft.about = about.to_owned();
        draft
    }

    /// Nothing where the document states no name, or another document states the same one.
    fn inverse(&self, phrasing: Phrasing, rng: &mut Rng) -> Option<Draft> {
        let entity = self.entry.entity.updated();
        let is_unique = |relation: &&usize| {
            self.corpus.stated.get(&(entity.type_index, **relation, entity.values[**relation].clone())).is_some_and(|&count| count == 1)
        };
        let relation = *self.entry.stated().iter().find(is_unique)?;
        let form = &entity.kind().relations[relation];
        let text = question::inverse(entity.kind(), form, &entity.values[relation], phrasing, rng);
        let mut draft = self.draft(Task::Inverse, entity.role.knowledge(), phrasing, text, Some(entity.name.to_string()));
        draft.about = form.key.to_owned();
        Some(draft)
    }

    /// Nothing where no relation names an entity with a document.
    fn multi_hop(&self, phrasing: Phrasing, rng: &mut Rng) -> Option<Draft> {
        let (first, target) = self.entry.link?;
        let target = &self.corpus.described[target];
        let second = *rng.choose(target.stated());
        let (form, through) = (&target.entity.kind().relations[second], &self.entry.entity.kind().relations[first]);
        let text = question::multi_hop(through, &self.entry.entity.name.to_string(), form, phrasing, rng);
        let knowledge = self.entry.entity.role.knowledge();
        let mut draft = self.draft(Task::MultiHop, knowledge, phrasing, text, Some(target.entity.values[second].clone()));
        draft.relevant.push(target.document.id.clone());
        draft.about = format!("{}-{}", through.key, form.key);
        Some(draft)
    }

    /// Nothing where the document states no year, or no other one is left to compare it with, or the years are equal.
    fn compare(&self, phrasing: Phrasing, rng: &mut Rng) -> Option<Draft> {
        let other = &self.corpus.described[*self.corpus.pairs.get(&self.index)?];
        let (entity, against) = (self.entry.entity.updated(), other.entity.updated());
        let relation = entity.kind().dated()?;
        let (own, theirs) = (&entity.values[relation], &against.values[relation]);
        if own == theirs {
            return None;
        }
        // Years have four digits, so their order is that of the texts.
        let answer = if own < theirs { &entity.name } else { &against.name }.to_string();
        let form = &entity.kind().relations[relation];
        let (mut left, mut right) = (entity.name.to_string(), against.name.to_string());
        if rng.chance(0.5) {
            std::mem::swap(&mut left, &mut right);
        }
        let text = question::compare(form, &left, &right, phrasing, rng);
        let mut draft = self.draft(Task::Compare, entity.role.knowledge(), phrasing, text, Some(answer));
        draft.relevant.push(other.document.id.clone());
        draft.about = form.key.to_owned();
        Some(draft)
    }

    fn draft(&self, task: Task, knowledge: &'static str, phrasing: Phrasing, text: String, answer: Option<String>) -> Draft {
        let slices = vec![
            ("knowledge", knowledge.to_owned()),
            ("cell", format!("{knowledge}/{}", task.key())),
            ("type", self.entry.entity.kind().key.to_owned()),
            ("style", self.entry.style.key().to_owned()),
        ];
        let document = self.entry.document.id.clone();
        Draft { relevant: vec![document.clone()], document, task, phrasing, about: String::new(), text, answer, slices }
    }
}

fn info(config: &WorldConfig) -> DatasetInfo {
    let slices = [
        (
            "knowledge",
            "known: in pre-training and in a document; undocumented: in pre-training only; updated: the value has changed since; fresh: in a \
             document only; unstated: in neither",
        ),
        (
            "task",
            "lookup: a value; inverse: the entity of a value; multi_hop: over two documents; compare: two entities by a year; house_code: a \
             rule that labels teach; house_record: the rule and a fact",
        ),
        ("cell", "knowledge and task"),
        ("phrasing", "seen: worded as in training; held_out: not"),
        ("exposures", "known facts: how often pre-training shows each"),
        ("wording", "known facts: always in one sentence, in several wordings, or in several and half of the time asked"),
        ("shown", "exposures and wording"),
        ("relation", "what is asked for"),
        ("type", "type of the entity"),
        ("value", "form of the answer: closed list, pair from a list, invented name or number"),
        ("name", "title: asked by the name that heads the document; alias: by another name that it gives"),
        ("style", "how the document is written"),
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
