//! What pre-training reads: rows of passages with questions (names drawn anew for each row), and rows on the facts of known entities.
//!
//! A row is rendered in the default prompt template's form: `Passage 1 : title : text` lines, `Question : ...`, `Answer : ...`.

mod asking;
mod row;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::TrainingSequence;
use crate::dataset::world::{self, Entity, Name, NameSource, Pool, Role, Sentence, Style, TYPES, Wordings, World};
use crate::lm::{ModelError, Tokenizer};
use crate::rng::Rng;

pub use asking::Asking;
use asking::{Passage, ask, fact_asking, pick, row_asking};
use row::Row;

/// The form of reading rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadingForm {
    /// Least and most passages of a row.
    pub passages: (usize, usize),
    /// Least and most facts of a passage.
    pub sentences: (usize, usize),
    /// Chance that all passages are about entities of one type.
    pub same_type: f64,
    /// Chance that there is a relation that all passages state (it implies one type).
    pub same_relation: f64,
    /// Chance that all names share a word with the first one.
    pub near_names: f64,
    /// Names are made of the first so many words of either list; 0 takes all. With few, a model finds out sooner that names tell passages apart.
    #[serde(default)]
    pub name_words: usize,
    /// Chance that a passage is written in another style than sentences of its own.
    #[serde(default)]
    pub variety: f64,
    /// Chance that a passage gives another name as well, by which one question in three asks.
    #[serde(default)]
    pub aliases: f64,
    /// Share of questions about what no passage states.
    #[serde(default)]
    pub unstated: f64,
    /// Share of rows that ask from values to names.
    #[serde(default)]
    pub inverse: f64,
    /// Share of rows, of those with two passages or more, that ask over two passages.
    #[serde(default)]
    pub multi_hop: f64,
    /// The same for rows that compare.
    #[serde(default)]
    pub compare: f64,
    /// Most questions of a row. Facts are drawn anew for each, at most twice as many as there are: if no fact were asked for twice, what has
    /// not been asked yet would be an easier rule than the name.
    pub questions: usize,
}

/// Loss weights of what is not an answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossWeights {
    /// On the tokens of questions.
    pub question: f32,
    /// On names that are repeated inside a passage.
    pub repeated_name: f32,
    /// On the words of a biography that are not values.
    pub biography: f32,
}

/// A row to score: the answer is right when every one of its tokens is the likeliest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Up to and including `Answer :`.
    pub prompt: Vec<u32>,
    /// The answer and the line's end.
    pub answer: Vec<u32>,
}

/// That pre-training shows all facts of an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Showing {
    /// Index into [`Curriculum::known`].
    pub entity: usize,
    /// Asked without a passage, not stated in a text.
    pub asked: bool,
}

/// Makes rows.
pub struct Curriculum<'a> {
    tokenizer: &'a Tokenizer,
    names: NameSource,
    known: Vec<Entity>,
    weights: LossWeights,
}

impl<'a> Curriculum<'a> {
    /// Rows for pre-training on `world`: no entity's name occurs in reading rows.
    pub fn training(world: &World, tokenizer: &'a Tokenizer, weights: LossWeights) -> Self {
        Self::new(world, tokenizer, weights, NameSource::new(Pool::Training, world.reserved_names()))
    }

    /// Rows for its evaluation: names that pre-training never uses.
    pub fn evaluation(world: &World, tokenizer: &'a Tokenizer, weights: LossWeights) -> Self {
        Self::new(world, tokenizer, weights, NameSource::new(Pool::Evaluation, BTreeSet::new()))
    }

    fn new(world: &World, tokenizer: &'a Tokenizer, weights: LossWeights, names: NameSource) -> Self {
        Self { tokenizer, names, known: world.pretrained().cloned().collect(), weights }
    }

    /// Passages, then questions on them.
    pub fn reading(&self, form: &ReadingForm, rng: &mut Rng) -> Result<TrainingSequence, ModelError> {
        let asking = row_asking(form, rng);
        let (passages, first) = self.passages(form, asking, false, rng);
        let mut row = Row::new(self.tokenizer);
        self.push_passages(&mut row, &passages)?;
        let facts: usize = passages.iter().map(|passage| passage.stated().count()).sum();
        let count = form.questions.min(2 * facts);
        self.push_question(&mut row, &first)?;
        for _ in 1..count {
            let asking = if asking == Asking::Fact || rng.chance(0.5) { fact_asking(form, rng) } else { asking };
            let asked = ask(asking, &passages, false, rng).or_else(|| ask(Asking::Fact, &passages, false, rng));
            self.push_question(&mut row, &asked.expect("every passage states a fact"))?;
        }
        Ok(row.sequence)
    }

    /// Rows that show these entities: a text for each that is stated, and questions of those that are asked, mixed, so many to a row.
    pub fn facts(&self, showings: &[Showing], questions: usize, rng: &mut Rng) -> Result<Vec<TrainingSequence>, ModelError> {
        let mut rows = Vec::new();
        let mut asked = Vec::new();
        for showing in showings {
            let entity = &self.known[showing.entity];
            if showing.asked {
                asked.extend((0..entity.values.len()).map(|relation| (entity, relation)));
            } else {
                let mut row = Row::new(self.tokenizer);
                self.push_biography(&mut row, entity, &biography(entity, rng))?;
                rows.push(row.sequence);
            }
        }
        rng.shuffle(&mut asked);
        for chunk in asked.chunks(questions) {
            let mut row = Row::new(self.tokenizer);
            for (entity, relation) in chunk {
                let question = entity.kind().relations[*relation].question(&entity.name.to_string(), false, rng);
                self.push_question(&mut row, &(question, entity.values[*relation].clone()))?;
            }
            rows.push(row.sequence);
        }
        Ok(rows)
    }

    /// A reading row with one question; `held_out` words it as training never does.
    pub fn reading_probe(&self, form: &ReadingForm, asking: Asking, held_out: bool, rng: &mut Rng) -> Result<Probe, ModelError> {
        let (passages, asked) = self.passages(form, asking, held_out, rng);
        let mut row = Row::new(self.tokenizer);
        self.push_passages(&mut row, &passages)?;
        self.probe(row, &asked)
    }

    /// A question without passages on `entity`.
    pub fn recall_probe(&self, entity: &Entity, relation: usize, held_out: bool, rng: &mut Rng) -> Result<Probe, ModelError> {
        let question = entity.kind().relations[relation].question(&entity.name.to_string(), held_out, rng);
        self.probe(Row::new(self.tokenizer), &(question, entity.values[relation].clone()))
    }

    fn probe(&self, mut row: Row, (question, answer): &(String, String)) -> Result<Probe, ModelError> {
        row.push(&format!("Question : {question}\nAnswer :"), 0.0)?;
        Ok(Probe { prompt: row.sequence.tokens, answer: self.tokenizer.encode(&format!(" {answer}\n"))? })
    }

    /// An entity that pre-training knows nothing of.
    pub fn stranger(&self, type_index: usize, rng: &mut Rng) -> Entity {
        Entity::draw(self.names.draw(rng), type_index, Role::Distractor, &self.names, rng)
    }

    /// Known entities, in the world's order.
    pub fn known(&self) -> &[Entity] {
        &self.known
    }

    /// Passages that allow `asking`, and such a question.
    fn passages(&self, form: &ReadingForm, asking: Asking, held_out: bool, rng: &mut Rng) -> (Vec<Passage>, (String, String)) {
        loop {
            let passages = self.draw_passages(form, asking, rng);
            if let Some(asked) = ask(asking, &passages, held_out, rng) {
                return (passages, asked);
            }
        }
    }

    fn draw_passages(&self, form: &ReadingForm, asking: Asking, rng: &mut Rng) -> Vec<Passage> {
        let over_two = matches!(asking, Asking::MultiHop | Asking::Compare);
        let count = between(form.passages, rng).max(if over_two { 2 } else { 1 });
        let shared_relation = asking == Asking::Compare || (asking != Asking::MultiHop && rng.chance(form.same_relation));
        let one_type = shared_relation || rng.chance(form.same_type);
        let (kind, near) = (rng.below(TYPES.len()), rng.chance(form.near_names));
        let relations = TYPES[kind].relations;
        let shareable: Vec<usize> = (0..relations.len()).filter(|&r| asking != Asking::Compare || relations[r].values.ordered()).collect();
        let shared = shared_relation.then(|| *rng.choose(&shareable));
        let source = if form.name_words > 0 { &self.names.narrowed(form.name_words) } else { &self.names };
        let mut names: Vec<Name> = Vec::with_capacity(count);
        let mut entities = Vec::with_capacity(count);
        for _ in 0..count {
            let name = new_name(source, &names, near, rng);
            names.push(name.clone());
            let type_index = if one_type { kind } else { rng.below(TYPES.len()) };
            let mut entity = Entity::draw(name, type_index, Role::Distractor, source, rng);
            entity.alias = rng.chance(if asking == Asking::Alias { 1.0 } else { form.aliases }).then(|| source.draw(rng));
            entities.push(entity);
        }
        let link = if asking == Asking::MultiHop { link(&mut entities, source, rng) } else { None };
        let mut passages: Vec<Passage> = entities
            .into_iter()
            .enumerate()
            .map(|(index, entity)| {
                let count = between(form.sentences, rng);
                let mut stated = rng.sample_indices(entity.values.len(), count);
                let must = if index == 0 { link.or(shared) } else { shared };
                if let Some(relation) = must.filter(|relation| !stated.contains(relation)) {
                    let place = rng.below(stated.len());
                    stated[place] = relation;
                }
                let style = Style::draw(form.variety, rng);
                let sentences = world::sentences(&entity, &stated, style, rng);
                Passage { entity, sentences }
            })
            .collect();
        // The one that the others' names are near to stands anywhere.
        rng.shuffle(&mut passages);
        passages
    }

    fn push_passages(&self, row: &mut Row, passages: &[Passage]) -> Result<(), ModelError> {
        for (index, passage) in passages.iter().enumerate() {
            let name = passage.entity.name.to_string();
            row.push(&format!("Passage {} : {name} :", index + 1), 0.0)?;
            for sentence in &passage.sentences {
                row.push_marked(&sentence.text, &name, 0.0, self.weights.repeated_name)?;
            }
            row.push("\n", 0.0)?;
        }
        Ok(())
    }

    fn push_biography(&self, row: &mut Row, entity: &Entity, sentences: &[Sentence]) -> Result<(), ModelError> {
        row.push(&format!("Passage 1 : {} :", entity.name), 0.0)?;
        let alias = entity.alias.as_ref().map(Name::to_string).unwrap_or_default();
        for sentence in sentences {
            let value = sentence.relation.map_or(&alias, |relation| &entity.values[relation]);
            row.push_marked(&sentence.text, value, self.weights.biography, 1.0)?;
        }
        row.push("\n", 0.0)
    }

    fn push_question(&self, row: &mut Row, (question, answer): &(String, String)) -> Result<(), ModelError> {
        row.push(&format!("Question : {question}"), self.weights.question)?;
        row.push("\nAnswer :", 0.0)?;
        row.push(&format!(" {answer}\n"), 1.0)
    }
}

/// Lets the first entity name the second, which becomes one of the type that the relation leads to; and that relation.
fn link(entities: &mut [Entity], names: &NameSource, rng: &mut Rng) -> Option<usize> {
    let leads = |relation: usize, entity: &Entity| {
        let key = entity.kind().relations[relation].values.link()?;
        TYPES.iter().position(|kind| kind.key == key).map(|target| (relation, target))
    };
    let links: Vec<(usize, usize)> = (0..entities[0].values.len()).filter_map(|relation| leads(relation, &entities[0])).collect();
    let (relation, target) = pick(&links, rng)?;
    if entities[1].type_index != target {
        let alias = entities[1].alias.take();
        entities[1] = Entity::draw(entities[1].name.clone(), target, Role::Distractor, names, rng);
        entities[1].alias = alias;
    }
    entities[0].values[relation] = entities[1].name.to_string();
    Some(relation)
}

fn new_name(names: &NameSource, taken: &[Name], near: bool, rng: &mut Rng) -> Name {
    loop {
        let name = match taken.first() {
            Some(first) if near => names.draw_near(first, rng),
            _ => names.draw(rng),
        };
        if !taken.contains(&name) {
            return name;
        }
    }
}

fn between((low, high): (usize, usize), rng: &mut Rng) -> usize {
    low + rng.below(high - low + 1)
}

fn biography(entity: &Entity, rng: &mut Rng) -> Vec<Sentence> {
    if entity.exposure.is_some_and(|exposure| exposure.wordings == Wordings::One) {
        return world::only_text(entity);
    }
    let relations = rng.sample_indices(entity.values.len(), entity.values.len());
    let style = Style::draw(world::VARIETY, rng);
    world::sentences(entity, &relations, style, rng)
}

#[cfg(test)]
mod tests;
