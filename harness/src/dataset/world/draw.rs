//! The entities of a world.

use super::names::NameSource;
use super::{Entity, Exposure, Role, TYPES, Wordings, WorldConfig};
use crate::rng::Rng;

/// Facts of an updated entity that have changed.
const CHANGED: usize = 2;
/// Share of entities with an alias.
const ALIASES: f64 = 1.0 / 3.0;
/// Share of tested fresh entities, of those with a relation to a type, that name another one of them.
const LINKED: f64 = 0.5;

/// Draws all entities, in the order of roles; the known ones first, so that they depend on nothing else.
pub(super) fn entities(config: &WorldConfig) -> Vec<Entity> {
    let mut drawing = Drawing { names: config.names(), entities: Vec::new(), rng: Rng::new(config.seed, "entities") };
    for &times in &config.exposures {
        for wordings in Wordings::ALL {
            drawing.add(Role::KnownTest, config.known_test, Some(Exposure { times, wordings }));
        }
    }
    let taught = Some(Exposure { times: config.taught, wordings: Wordings::Asked });
    drawing.add(Role::KnownTrain, config.known_train, taught);
    drawing.add(Role::Updated, config.updated, taught);
    drawing.add(Role::FreshTest, config.fresh_test, None);
    drawing.add(Role::FreshTrain, config.fresh_train, None);
    drawing.add(Role::FreshValidation, config.fresh_validation, None);
    drawing.add_distractors(config.distractors);
    link(&mut drawing.entities, &mut drawing.rng);
    drawing.entities
}

struct Drawing {
    names: NameSource,
    entities: Vec<Entity>,
    rng: Rng,
}

impl Drawing {
    fn add(&mut self, role: Role, count: usize, exposure: Option<Exposure>) {
        for index in 0..count {
            let name = self.names.take_new(&mut self.rng);
            let mut entity = Entity::draw(name, index % TYPES.len(), role, &self.names, &mut self.rng);
            entity.exposure = exposure;
            entity.alias = self.alias();
            if role == Role::Updated {
                entity.updates = updates(&entity, &self.names, &mut self.rng);
            }
            self.entities.push(entity);
        }
    }

    fn alias(&mut self) -> Option<super::Name> {
        self.rng.chance(ALIASES).then(|| self.names.take_new(&mut self.rng))
    }

    /// By turns near to every entity that is asked about.
    fn add_distractors(&mut self, count: usize) {
        let asked: Vec<usize> = (0..self.entities.len()).filter(|&index| self.entities[index].role.tested()).collect();
        for index in 0..if asked.is_empty() { 0 } else { count } {
            let model = asked[index % asked.len()];
            let (near, type_index) = (self.entities[model].name.clone(), self.entities[model].type_index);
            let name = self.names.draw_near(&near, &mut self.rng);
            self.names.take(&name);
            let mut entity = Entity::draw(name, type_index, Role::Distractor, &self.names, &mut self.rng);
            entity.alias = self.alias();
            self.entities.push(entity);
        }
    }
}

fn updates(entity: &Entity, names: &NameSource, rng: &mut Rng) -> Vec<(usize, String)> {
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

/// Lets tested fresh entities name one another: `employer` becomes a company with a document. No two name the same one.
fn link(entities: &mut [Entity], rng: &mut Rng) {
    let tested: Vec<usize> = (0..entities.len()).filter(|&index| entities[index].role == Role::FreshTest).collect();
    let mut free = tested.clone();
    rng.shuffle(&mut free);
    for index in tested {
        let relations = entities[index].kind().relations.iter().enumerate();
        let links: Vec<(usize, &str)> = relations.filter_map(|(r, form)| Some((r, form.values.link()?))).collect();
        if links.is_empty() || !rng.chance(LINKED) {
            continue;
        }
        let (relation, key) = *rng.choose(&links);
        if let Some(place) = free.iter().position(|&other| other != index && entities[other].kind().key == key) {
            let target = entities[free.remove(place)].name.to_string();
            entities[index].values[relation] = target;
        }
    }
}
