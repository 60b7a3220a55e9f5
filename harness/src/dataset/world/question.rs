//! Questions about described entities as samples.

use std::collections::BTreeMap;

use super::ask::{compare_question, inverse_question, multi_hop_question};
use super::build::Described;
use super::code::{HOUSE_CODE_WORDING, HOUSE_RECORD_WORDING, house_code, house_record};
use super::{Relation, ValueClass, fill};
use crate::dataset::Sample;
use crate::rng::Rng;

/// Whether a question is worded as in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phrasing {
    /// A wording that training uses.
    Seen,
    /// A wording kept for tests.
    HeldOut,
}

impl Phrasing {
    pub fn draw(rng: &mut Rng) -> Self {
        if rng.chance(0.5) { Self::Seen } else { Self::HeldOut }
    }

    pub fn other(self) -> Self {
        if self == Self::Seen { Self::HeldOut } else { Self::Seen }
    }

    fn held_out(self) -> bool {
        self == Self::HeldOut
    }

    /// Of three wordings, one of the first two or the last.
    fn of(self, wordings: &[&'static str; 3], rng: &mut Rng) -> &'static str {
        if self.held_out() { wordings[2] } else { wordings[rng.below(2)] }
    }
}

/// Asks about entities by their place among all; facts are given by their place among those that the document states.
pub(super) struct Asker<'a> {
    entries: &'a [Described],
    by_name: BTreeMap<String, usize>,
    /// How many entities have a value of a relation.
    holders: BTreeMap<(&'static str, String), usize>,
}

/// What is asked and what is right; the rest of a sample follows from the entity.
struct Asked {
    task: &'static str,
    relation: &'static str,
    class: &'static str,
    question: String,
    answer: Option<String>,
    relevant: Vec<usize>,
}

impl<'a> Asker<'a> {
    pub fn new(entries: &'a [Described]) -> Self {
        let by_name = entries.iter().enumerate().map(|(index, entry)| (entry.entity.name.to_string(), index)).collect();
        let mut holders = BTreeMap::new();
        for entity in entries.iter().map(|entry| entry.entity.updated()) {
            for (relation, value) in entity.kind().relations.iter().zip(entity.values) {
                *holders.entry((relation.key, value)).or_insert(0) += 1;
            }
        }
        Self { entries, by_name, holders }
    }

    /// A fact that the document states.
    pub fn lookup(&self, index: usize, position: usize, phrasing: Phrasing, rng: &mut Rng) -> Sample {
        let name = self.entries[index].entity.name.to_string();
        self.fact("lookup", index, self.entries[index].stated[position], &name, phrasing, rng)
    }

    /// The same by the entity's other name, if it has one.
    pub fn by_alias(&self, index: usize, position: usize, phrasing: Phrasing, rng: &mut Rng) -> Option<Sample> {
        let alias = self.entries[index].entity.alias.as_ref()?.to_string();
        Some(self.fact("alias", index, self.entries[index].stated[position], &alias, phrasing, rng))
    }

    fn fact(&self, task: &'static str, index: usize, relation: usize, name: &str, phrasing: Phrasing, rng: &mut Rng) -> Sample {
        let form = self.form(index, relation);
        let question = form.question(name, phrasing.held_out(), rng);
        let answer = Some(self.value(index, relation));
        self.sample(index, phrasing, Asked::of(task, form, question, answer, vec![index]))
    }

    /// The facts of a known entity that no document states; pre-training alone could tell them.
    pub fn undocumented(&self, index: usize, rng: &mut Rng) -> Vec<Sample> {
        let name = self.entries[index].entity.name.to_string();
        let ask = |relation| {
            let form = self.form(index, relation);
            let phrasing = Phrasing::draw(rng);
            let question = form.question(&name, phrasing.held_out(), rng);
            let answer = Some(self.value(index, relation));
            self.sample(index, phrasing, Asked::of("lookup", form, question, answer, Vec::new()))
        };
        self.left_out(index).into_iter().map(ask).collect()
    }

    /// A fact of a fresh entity that no document states.
    pub fn unstated(&self, index: usize, phrasing: Phrasing, rng: &mut Rng) -> Sample {
        let relation = *rng.choose(&self.left_out(index));
        let form = self.form(index, relation);
        let question = form.question(&self.entries[index].entity.name.to_string(), phrasing.held_out(), rng);
        self.sample(index, phrasing, Asked::of("lookup", form, question, None, vec![index]))
    }

    /// The house's code of the name.
    pub fn house_code(&self, index: usize, phrasing: Phrasing, rng: &mut Rng) -> Sample {
        let name = &self.entries[index].entity.name;
        let question = fill(phrasing.of(&HOUSE_CODE_WORDING, rng), &name.to_string(), "");
        let answer = Some(house_code(name));
        let asked = Asked { task: "house_code", relation: "house_code", class: "code", question, answer, relevant: vec![index] };
        self.sample(index, phrasing, asked)
    }

    /// A fact, written as the house does.
    pub fn house_record(&self, index: usize, position: usize, phrasing: Phrasing, rng: &mut Rng) -> Sample {
        let (name, relation) = (&self.entries[index].entity.name, self.entries[index].stated[position]);
        let form = self.form(index, relation);
        let question = fill(phrasing.of(&HOUSE_RECORD_WORDING, rng), &name.to_string(), "").replace("{r}", form.noun);
        let answer = Some(house_record(name, &self.value(index, relation)));
        self.sample(index, phrasing, Asked::of("house_record", form, question, answer, vec![index]))
    }

    /// A fact of the entity that a stated fact names, if it names one.
    pub fn multi_hop(&self, index: usize, phrasing: Phrasing, rng: &mut Rng) -> Option<Sample> {
        // A random value may be an entity's name by chance; only a link leads to one that is there for the same.
        let hop = |&relation: &usize| {
            let target = *self.by_name.get(&self.value(index, relation))?;
            let (from, to) = (&self.entries[index].entity, &self.entries[target].entity);
            let linked = to.role == from.role && self.form(index, relation).values.link() == Some(to.kind().key);
            linked.then_some((relation, target))
        };
        let (link, target) = self.entries[index].stated.iter().find_map(hop)?;
        let relation = *rng.choose(&self.entries[target].stated);
        let form = self.form(target, relation);
        let name = self.entries[index].entity.name.to_string();
        let question = multi_hop_question(&name, self.form(index, link), form, phrasing.held_out(), rng);
        let answer = Some(self.value(target, relation));
        Some(self.sample(index, phrasing, Asked::of("multi_hop", form, question, answer, vec![index, target])))
    }

    /// The name from a stated value that no other entity has.
    pub fn inverse(&self, index: usize, phrasing: Phrasing, rng: &mut Rng) -> Option<Sample> {
        let unique = |&&relation: &&usize| {
            let form = self.form(index, relation);
            matches!(form.values, ValueClass::Name(_)) && self.holders[&(form.key, self.value(index, relation))] == 1
        };
        let relation = *self.entries[index].stated.iter().find(unique)?;
        let (entity, form) = (&self.entries[index].entity, self.form(index, relation));
        let question = inverse_question(entity.kind(), form, &self.value(index, relation), phrasing.held_out(), rng);
        let asked = Asked { class: "name", ..Asked::of("inverse", form, question, Some(entity.name.to_string()), vec![index]) };
        Some(self.sample(index, phrasing, asked))
    }

    /// Which of this and the next tested entity with the same ordered relation has the lower or higher value.
    pub fn compare(&self, index: usize, phrasing: Phrasing, rng: &mut Rng) -> Option<Sample> {
        let entry = &self.entries[index];
        let relation = *entry.stated.iter().find(|&&relation| self.form(index, relation).values.ordered())?;
        let comparable = |other: &usize| {
            let candidate = &self.entries[*other];
            candidate.entity.role == entry.entity.role
                && candidate.entity.type_index == entry.entity.type_index
                && candidate.stated.contains(&relation)
                && self.value(*other, relation) != self.value(index, relation)
        };
        let other = (index + 1..self.entries.len()).find(comparable)?;
        let named = |place: usize| (self.entries[place].entity.name.to_string(), self.value(place, relation));
        let (mut pair, form) = ([named(index), named(other)], self.form(index, relation));
        rng.shuffle(&mut pair);
        let [one, two] = [(pair[0].0.as_str(), pair[0].1.as_str()), (pair[1].0.as_str(), pair[1].1.as_str())];
        let (question, answer) = compare_question(one, two, form, phrasing.held_out(), rng);
        let asked = Asked { class: "name", ..Asked::of("compare", form, question, Some(answer), vec![index, other]) };
        Some(self.sample(index, phrasing, asked))
    }

    /// Places of the stated facts that have changed.
    pub fn changed(&self, index: usize) -> Vec<usize> {
        let entry = &self.entries[index];
        (0..entry.stated.len()).filter(|&place| entry.entity.updates.iter().any(|(relation, _)| *relation == entry.stated[place])).collect()
    }

    fn left_out(&self, index: usize) -> Vec<usize> {
        let entry = &self.entries[index];
        (0..entry.entity.values.len()).filter(|relation| !entry.stated.contains(relation)).collect()
    }

    fn form(&self, index: usize, relation: usize) -> &'static Relation {
        &self.entries[index].entity.kind().relations[relation]
    }

    /// As the document has it.
    fn value(&self, index: usize, relation: usize) -> String {
        let entity = &self.entries[index].entity;
        let newer = entity.updates.iter().find(|(changed, _)| *changed == relation);
        newer.map_or_else(|| entity.values[relation].clone(), |(_, value)| value.clone())
    }

    fn sample(&self, index: usize, phrasing: Phrasing, asked: Asked) -> Sample {
        let entry = &self.entries[index];
        let knowledge = if asked.answer.is_none() { "unstated" } else { entry.entity.role.knowledge() };
        let documented = asked.answer.is_some() && !asked.relevant.is_empty();
        let silent = if knowledge == "known" && !documented { " undocumented" } else { "" };
        let cell = format!("{knowledge} {}{silent}", asked.task);
        let mut slices = vec![
            ("knowledge", knowledge),
            ("cell", &cell),
            ("task", asked.task),
            ("phrasing", if phrasing.held_out() { "held_out" } else { "seen" }),
            ("documented", if documented { "yes" } else { "no" }),
            ("style", entry.style.key()),
            ("relation", asked.relation),
            ("type", entry.entity.kind().key),
            ("value", asked.class),
        ];
        // Strata of one kind of question: with others among them, a trend over exposures would not be one of exposures.
        let times = entry.entity.exposure.map(|exposure| exposure.times.to_string()).unwrap_or_default();
        if let Some(exposure) = entry.entity.exposure.filter(|_| knowledge == "known" && asked.task == "lookup") {
            slices.push((if documented { "exposures" } else { "exposures_undocumented" }, &times));
            slices.push(("wordings", exposure.wordings.key()));
        }
        let ids: Vec<String> = asked.relevant.iter().map(|&place| self.entries[place].document.id.clone()).collect();
        Sample {
            id: format!("{}-{}-{}", entry.document.id, asked.task, asked.relation),
            question: asked.question,
            answerable: asked.answer.is_some(),
            references: asked.answer.into_iter().collect(),
            relevant: ids,
            choices: Vec::new(),
            slices: slices.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>(),
            cluster: Some(entry.document.id.clone()),
        }
    }
}

impl Asked {
    fn of(task: &'static str, form: &'static Relation, question: String, answer: Option<String>, relevant: Vec<usize>) -> Self {
        Self { task, relation: form.key, class: form.values.label(), question, answer, relevant }
    }
}
