//! What is asked about passages, and what is right.

use super::ReadingForm;
use crate::dataset::world::{self, Entity, Sentence, ValueClass, compare_question, inverse_question, multi_hop_question};
use crate::rng::Rng;

/// What a question about passages asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// A fact.
    Fact,
    /// A fact whose value is an invented name.
    InventedName,
    /// A fact, by the entity's other name.
    Alias,
    /// What no passage states.
    Unstated,
    /// The name from the value.
    Inverse,
    /// A fact of the entity that another passage names.
    MultiHop,
    /// The lower or higher of two.
    Compare,
}

/// One passage of a row.
pub(super) struct Passage {
    pub entity: Entity,
    pub sentences: Vec<Sentence>,
}

impl Passage {
    pub fn stated(&self) -> impl Iterator<Item = usize> {
        self.sentences.iter().filter_map(|sentence| sentence.relation)
    }
}

pub(super) fn row_asking(form: &ReadingForm, rng: &mut Rng) -> Asking {
    let over_two = if form.passages.1 > 1 { [form.multi_hop, form.compare] } else { [0.0; 2] };
    let mut place = rng.uniform();
    for (share, asking) in [(form.inverse, Asking::Inverse), (over_two[0], Asking::MultiHop), (over_two[1], Asking::Compare)] {
        if place < share {
            return asking;
        }
        place -= share;
    }
    Asking::Fact
}

pub(super) fn fact_asking(form: &ReadingForm, rng: &mut Rng) -> Asking {
    if rng.chance(form.unstated) {
        Asking::Unstated
    } else if form.aliases > 0.0 && rng.chance(1.0 / 3.0) {
        Asking::Alias
    } else {
        Asking::Fact
    }
}

pub(super) fn pick<T: Copy>(candidates: &[T], rng: &mut Rng) -> Option<T> {
    (!candidates.is_empty()).then(|| *rng.choose(candidates))
}

/// A question and its answer, if the passages allow such a question.
pub(super) fn ask(asking: Asking, passages: &[Passage], held_out: bool, rng: &mut Rng) -> Option<(String, String)> {
    let stated = || passages.iter().flat_map(|passage| passage.stated().map(move |relation| (&passage.entity, relation)));
    let form = |entity: &Entity, relation: usize| &entity.kind().relations[relation];
    let by_name = |(entity, relation): (&Entity, usize), rng: &mut Rng| {
        (form(entity, relation).question(&entity.name.to_string(), held_out, rng), entity.values[relation].clone())
    };
    let invented = |(entity, relation): &(&Entity, usize)| matches!(form(entity, *relation).values, ValueClass::Name(_));
    match asking {
        Asking::Fact => pick(&stated().collect::<Vec<_>>(), rng).map(|fact| by_name(fact, rng)),
        Asking::InventedName => pick(&stated().filter(invented).collect::<Vec<_>>(), rng).map(|fact| by_name(fact, rng)),
        Asking::Alias => {
            let (entity, relation) = pick(&stated().filter(|(entity, _)| entity.alias.is_some()).collect::<Vec<_>>(), rng)?;
            let alias = entity.alias.as_ref()?.to_string();
            Some((form(entity, relation).question(&alias, held_out, rng), entity.values[relation].clone()))
        }
        Asking::Unstated => {
            let silent = |passage: &'_ Passage| {
                let said: Vec<usize> = passage.stated().collect();
                (0..passage.entity.values.len()).filter(|relation| !said.contains(relation)).collect::<Vec<_>>()
            };
            let candidates = passages.iter().flat_map(|passage| silent(passage).into_iter().map(|relation| (&passage.entity, relation)));
            let (entity, relation) = pick(&candidates.collect::<Vec<_>>(), rng)?;
            Some((form(entity, relation).question(&entity.name.to_string(), held_out, rng), world::NOT_STATED.to_owned()))
        }
        Asking::Inverse => {
            let (entity, relation) = pick(&stated().filter(invented).collect::<Vec<_>>(), rng)?;
            let question = inverse_question(entity.kind(), form(entity, relation), &entity.values[relation], held_out, rng);
            Some((question, entity.name.to_string()))
        }
        Asking::MultiHop => {
            let hops = stated().flat_map(|(entity, link)| {
                let targets = passages.iter().filter(move |passage| passage.entity.name.to_string() == entity.values[link]);
                targets.flat_map(move |target| target.stated().map(move |relation| (entity, link, &target.entity, relation)))
            });
            let hops: Vec<_> = hops.collect();
            let (entity, link, target, relation) = pick(&hops, rng)?;
            let name = entity.name.to_string();
            let question = multi_hop_question(&name, form(entity, link), form(target, relation), held_out, rng);
            Some((question, target.values[relation].clone()))
        }
        Asking::Compare => {
            let ordered = |(entity, relation): &(&Entity, usize)| form(entity, *relation).values.ordered();
            let (one, relation) = pick(&stated().filter(ordered).collect::<Vec<_>>(), rng)?;
            let other = |(entity, at): &(&Entity, usize)| {
                *at == relation && entity.type_index == one.type_index && entity.values[relation] != one.values[relation]
            };
            let (two, _) = pick(&stated().filter(other).collect::<Vec<_>>(), rng)?;
            let (first, second) = (one.name.to_string(), two.name.to_string());
            let named = [(first.as_str(), one.values[relation].as_str()), (second.as_str(), two.values[relation].as_str())];
            Some(compare_question(named[0], named[1], form(one, relation), held_out, rng))
        }
    }
}
