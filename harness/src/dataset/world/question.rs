//! Questions about an entity as samples.

use std::collections::BTreeMap;

use super::code::{HOUSE_CODE_WORDING, HOUSE_RECORD_WORDING, house_code, house_record};
use super::{Entity, fill};
use crate::dataset::Sample;
use crate::rng::Rng;

/// What a question asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// The value of a relation.
    Lookup,
    /// The house code of the name: a rule, no fact.
    HouseCode,
    /// The value of a relation, written as a house record: the rule and a fact.
    HouseRecord,
}

impl Task {
    fn key(self) -> &'static str {
        match self {
            Self::Lookup => "lookup",
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

/// A question about `relation` of `entity`, answered as its document (`document`) states it.
pub fn sample(entity: &Entity, document: &str, relation: usize, task: Task, phrasing: Phrasing, rng: &mut Rng) -> Sample {
    let current = entity.updated();
    let (form, value, name) = (&entity.kind().relations[relation], &current.values[relation], entity.name.to_string());
    let wording = match task {
        Task::Lookup => choose(form.questions, form.held_out, phrasing, rng),
        Task::HouseCode => choose(&HOUSE_CODE_WORDING[..2], &HOUSE_CODE_WORDING[2..], phrasing, rng),
        Task::HouseRecord => choose(&HOUSE_RECORD_WORDING[..2], &HOUSE_RECORD_WORDING[2..], phrasing, rng),
    };
    let answer = match task {
        Task::Lookup => value.clone(),
        Task::HouseCode => house_code(&entity.name),
        Task::HouseRecord => house_record(&entity.name, value),
    };
    let (relation_key, class) = if task == Task::HouseCode { ("house_code", "code") } else { (form.key, form.values.label()) };
    let slices = [
        ("knowledge", entity.role.knowledge()),
        ("task", task.key()),
        ("phrasing", if phrasing == Phrasing::Seen { "seen" } else { "held_out" }),
        ("relation", relation_key),
        ("type", entity.kind().key),
        ("value", class),
    ];
    Sample {
        id: format!("{document}-{}-{relation_key}", task.key()),
        question: fill(wording, &name, "").replace("{r}", form.noun),
        references: vec![answer],
        relevant: vec![document.to_owned()],
        choices: Vec::new(),
        slices: slices.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>(),
        answerable: true,
        cluster: Some(document.to_owned()),
    }
}

fn choose<'a>(seen: &[&'a str], held_out: &[&'a str], phrasing: Phrasing, rng: &mut Rng) -> &'a str {
    rng.choose::<&str>(if phrasing == Phrasing::Seen { seen } else { held_out })
}
