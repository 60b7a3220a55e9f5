//! What pre-training reads: rows of passages with questions (names drawn anew for each row), and rows on the facts of known entities.
//!
//! A row is rendered in the default prompt template's form: `Passage 1 : title : text` lines, `Question : ...`, `Answer : ...`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::TrainingSequence;
use crate::dataset::world::{self, Entity, Name, NameSource, Pool, Role, Sentence, TYPES, World, fill};
use crate::lm::{ModelError, Tokenizer};
use crate::rng::Rng;

/// The form of reading rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadingForm {
    /// Least and most passages of a row.
    pub passages: (usize, usize),
    /// Least and most sentences of a passage.
    pub sentences: (usize, usize),
    /// Chance that all passages are about entities of one type.
    pub same_type: f64,
    /// Chance that there is a relation that all passages state (it implies one type).
    pub same_relation: f64,
    /// Chance that all names share a word with the first one.
    pub near_names: f64,
    /// Most questions of a row.
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

/// That a row shows a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Showing {
    /// Index into [`Curriculum::known`].
    pub entity: usize,
    /// Index into the type's relations.
    pub relation: usize,
    /// Asked without a passage, not stated in a biography.
    pub asked: bool,
}

/// Makes rows.
pub struct Curriculum<'a> {
    tokenizer: &'a Tokenizer,
    names: NameSource,
    known: Vec<Entity>,
    weights: LossWeights,
}

/// One passage of a row.
struct Passage {
    entity: Entity,
    sentences: Vec<Sentence>,
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

    /// Passages, then questions on what they state.
    pub fn reading(&self, form: &ReadingForm, rng: &mut Rng) -> Result<TrainingSequence, ModelError> {
        let passages = self.passages(form, rng);
        let mut row = Row::new(self.tokenizer);
        self.push_passages(&mut row, &passages)?;
        for (entity, relation) in questions(&passages, form.questions, rng) {
            self.push_question(&mut row, entity, relation, rng)?;
        }
        Ok(row.sequence)
    }

    /// Facts of known entities: a biography, or questions without passages on several entities; and which facts these are.
    pub fn facts(&self, questions: usize, rng: &mut Rng) -> Result<(TrainingSequence, Vec<Showing>), ModelError> {
        let mut row = Row::new(self.tokenizer);
        let mut shown = Vec::new();
        if rng.chance(0.5) {
            let index = rng.below(self.known.len());
            let entity = &self.known[index];
            let relations = rng.sample_indices(entity.values.len(), entity.values.len());
            self.push_biography(&mut row, entity, &world::sentences(entity, &relations, rng))?;
            shown.extend(relations.into_iter().map(|relation| Showing { entity: index, relation, asked: false }));
        } else {
            for _ in 0..questions {
                let index = rng.below(self.known.len());
                let entity = &self.known[index];
                let relation = rng.below(entity.values.len());
                self.push_question(&mut row, entity, relation, rng)?;
                shown.push(Showing { entity: index, relation, asked: true });
            }
        }
        Ok((row.sequence, shown))
    }

    /// A reading row with one question; `held_out` words it as training never does.
    pub fn reading_probe(&self, form: &ReadingForm, held_out: bool, rng: &mut Rng) -> Result<Probe, ModelError> {
        let passages = self.passages(form, rng);
        let mut row = Row::new(self.tokenizer);
        self.push_passages(&mut row, &passages)?;
        let (entity, relation) = questions(&passages, 1, rng)[0];
        self.probe(row, entity, relation, held_out, rng)
    }

    /// A question without passages on `entity`.
    pub fn recall_probe(&self, entity: &Entity, relation: usize, held_out: bool, rng: &mut Rng) -> Result<Probe, ModelError> {
        self.probe(Row::new(self.tokenizer), entity, relation, held_out, rng)
    }

    fn probe(&self, mut row: Row, entity: &Entity, relation: usize, held_out: bool, rng: &mut Rng) -> Result<Probe, ModelError> {
        let form = &entity.kind().relations[relation];
        let wording = rng.choose::<&str>(if held_out { form.held_out } else { form.questions });
        row.push(&format!("Question : {}\nAnswer :", fill(wording, &entity.name.to_string(), "")), 0.0)?;
        Ok(Probe { prompt: row.sequence.tokens, answer: self.tokenizer.encode(&format!(" {}\n", entity.values[relation]))? })
    }

    /// An entity that pre-training knows nothing of.
    pub fn stranger(&self, type_index: usize, rng: &mut Rng) -> Entity {
        Entity::draw(self.names.draw(rng), type_index, Role::Distractor, &self.names, rng)
    }

    /// Known entities, in the world's order.
    pub fn known(&self) -> &[Entity] {
        &self.known
    }

    fn passages(&self, form: &ReadingForm, rng: &mut Rng) -> Vec<Passage> {
        let count = between(form.passages, rng);
        let shared_relation = rng.chance(form.same_relation);
        let one_type = shared_relation || rng.chance(form.same_type);
        let (kind, near) = (rng.below(TYPES.len()), rng.chance(form.near_names));
        let relation = rng.below(TYPES[kind].relations.len());
        let mut names: Vec<Name> = Vec::with_capacity(count);
        let mut passages = Vec::with_capacity(count);
        for _ in 0..count {
            let name = self.new_name(&names, near, rng);
            names.push(name.clone());
            let type_index = if one_type { kind } else { rng.below(TYPES.len()) };
            let entity = Entity::draw(name, type_index, Role::Distractor, &self.names, rng);
            let count = between(form.sentences, rng);
            let mut relations = rng.sample_indices(entity.values.len(), count);
            if shared_relation && !relations.contains(&relation) {
                let place = rng.below(relations.len());
                relations[place] = relation;
            }
            let sentences = world::sentences(&entity, &relations, rng);
            passages.push(Passage { entity, sentences });
        }
        // The one that the others' names are near to stands anywhere.
        rng.shuffle(&mut passages);
        passages
    }

    fn new_name(&self, taken: &[Name], near: bool, rng: &mut Rng) -> Name {
        loop {
            let name = match taken.first() {
                Some(first) if near => self.names.draw_near(first, rng),
                _ => self.names.draw(rng),
            };
            if !taken.contains(&name) {
                return name;
            }
        }
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
        for sentence in sentences {
            row.push_marked(&sentence.text, &entity.values[sentence.relation], self.weights.biography, 1.0)?;
        }
        row.push("\n", 0.0)
    }

    fn push_question(&self, row: &mut Row, entity: &Entity, relation: usize, rng: &mut Rng) -> Result<(), ModelError> {
        let question = fill(rng.choose::<&str>(entity.kind().relations[relation].questions), &entity.name.to_string(), "");
        row.push(&format!("Question : {question}"), self.weights.question)?;
        row.push("\nAnswer :", 0.0)?;
        row.push(&format!(" {}\n", entity.values[relation]), 1.0)
    }
}

fn between((low, high): (usize, usize), rng: &mut Rng) -> usize {
    low + rng.below(high - low + 1)
}

/// At most `limit` of the stated facts, in random order.
fn questions<'a>(passages: &'a [Passage], limit: usize, rng: &mut Rng) -> Vec<(&'a Entity, usize)> {
    let stated = |passage: &'a Passage| passage.sentences.iter().map(move |sentence| (&passage.entity, sentence.relation));
    let mut asked: Vec<(&Entity, usize)> = passages.iter().flat_map(stated).collect();
    rng.shuffle(&mut asked);
    asked.truncate(limit);
    asked
}

/// A row being written. Pieces are tokenized apart, which gives the same tokens as the whole text: every piece begins at a blank, a line's
/// beginning or a line's end, where the tokenizer always cuts.
struct Row<'a> {
    tokenizer: &'a Tokenizer,
    sequence: TrainingSequence,
}

impl<'a> Row<'a> {
    fn new(tokenizer: &'a Tokenizer) -> Self {
        let tokens: Vec<u32> = tokenizer.special().bos.into_iter().collect();
        Self { tokenizer, sequence: TrainingSequence { loss_weights: vec![0.0; tokens.len()], tokens } }
    }

    fn push(&mut self, text: &str, weight: f32) -> Result<(), ModelError> {
        let tokens = self.tokenizer.encode(text)?;
        self.sequence.loss_weights.extend(std::iter::repeat_n(weight, tokens.len()));
        self.sequence.tokens.extend(tokens);
        Ok(())
    }

    /// A blank and `text`, with another weight on each `mark` in it.
    fn push_marked(&mut self, text: &str, mark: &str, weight: f32, mark_weight: f32) -> Result<(), ModelError> {
        let (text, mark) = (format!(" {text}"), format!(" {mark}"));
        let mut rest = text.as_str();
        while let Some(at) = rest.find(&mark) {
            self.push(&rest[..at], weight)?;
            self.push(&mark, mark_weight)?;
            rest = &rest[at + mark.len()..];
        }
        self.push(rest, weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::world::{WorldConfig, generate};
    use crate::finetune::pretrain_tokenizer::build_tokenizer;

    const WEIGHTS: LossWeights = LossWeights { question: 0.25, repeated_name: 0.5, biography: 0.125 };

    fn form() -> ReadingForm {
        ReadingForm { passages: (2, 4), sentences: (1, 3), same_type: 0.5, same_relation: 0.5, near_names: 0.5, questions: 3 }
    }

    /// Runs of tokens with one loss weight, as text.
    fn pieces(row: &TrainingSequence, tokenizer: &Tokenizer) -> Vec<(f32, String)> {
        let mut pieces: Vec<(f32, Vec<u32>)> = Vec::new();
        for (&token, &weight) in row.tokens.iter().zip(&row.loss_weights) {
            match pieces.last_mut() {
                Some((last, tokens)) if *last == weight => tokens.push(token),
                _ => pieces.push((weight, vec![token])),
            }
        }
        pieces.into_iter().map(|(weight, tokens)| (weight, tokenizer.decode(&tokens).unwrap())).collect()
    }

    #[test]
    fn a_row_has_the_tokens_of_its_text() {
        let (world, tokenizer) = (generate(&WorldConfig::default()), build_tokenizer().unwrap());
        let curriculum = Curriculum::training(&world, &tokenizer, WEIGHTS);
        for index in 0..50 {
            let rng = &mut Rng::indexed(1, "rows", index);
            for row in [curriculum.reading(&form(), rng).unwrap(), curriculum.facts(4, rng).unwrap().0] {
                assert_eq!(tokenizer.encode_prompt(&tokenizer.decode(&row.tokens).unwrap()).unwrap(), row.tokens);
                assert_eq!(row.loss_weights.len(), row.tokens.len());
            }
        }
    }

    #[test]
    fn loss_weights_sit_on_answers_questions_and_repeated_names() {
        let (world, tokenizer) = (generate(&WorldConfig::default()), build_tokenizer().unwrap());
        let curriculum = Curriculum::training(&world, &tokenizer, WEIGHTS);
        let row = curriculum.reading(&form(), &mut Rng::new(3, "row")).unwrap();
        let text = tokenizer.decode(&row.tokens).unwrap();
        let titles: Vec<&str> =
            text.lines().filter(|line| line.starts_with("Passage")).map(|line| line.split(" : ").nth(1).unwrap()).collect();
        let answers: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("Answer :")).collect();
        let pieces = pieces(&row, &tokenizer);
        let of = |wanted: f32| pieces.iter().filter(move |(weight, _)| *weight == wanted).map(|(_, text)| text.as_str());
        assert_eq!(of(1.0).map(|text| text.trim_end_matches('\n')).collect::<Vec<_>>(), answers);
        assert!(of(0.25).count() == 3 && of(0.25).all(|text| text.starts_with("Question :") && text.ends_with('?')));
        assert!(of(0.5).count() > 0 && of(0.5).all(|text| titles.contains(&text.trim())), "{pieces:?}");
    }

    #[test]
    fn pre_training_never_uses_the_names_of_fresh_entities_or_of_its_evaluation() {
        let (world, tokenizer) = (generate(&WorldConfig::default()), build_tokenizer().unwrap());
        let (training, evaluation) =
            (Curriculum::training(&world, &tokenizer, WEIGHTS), Curriculum::evaluation(&world, &tokenizer, WEIGHTS));
        let mut names = (BTreeSet::new(), BTreeSet::new());
        let mut rng = Rng::new(1, "names");
        for _ in 0..2000 {
            names.0.insert(training.stranger(0, &mut rng).name);
            names.1.insert(evaluation.stranger(0, &mut rng).name);
        }
        assert!(names.0.is_disjoint(&names.1) && names.0.is_disjoint(&world.reserved_names()));
    }
}
