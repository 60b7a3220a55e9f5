//! What pre-training reads: rows of passages with questions (names drawn anew for each row), and rows on the facts of known entities.
//!
//! A row is rendered in the default prompt template's form: `Passage 1 : title : text` lines, `Question : ...`, `Answer : ...`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::TrainingSequence;
use crate::dataset::world::{
    self, Entity, Name, NameSource, Pool, Role, Sentence, Style, TYPES, ValueClass, Wordings, World, compare_question, inverse_question,
    multi_hop_question,
};
use crate::lm::{ModelError, Tokenizer};
use crate::rng::Rng;

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

impl Passage {
    fn stated(&self) -> impl Iterator<Item = usize> {
        self.sentences.iter().filter_map(|sentence| sentence.relation)
    }
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

fn row_asking(form: &ReadingForm, rng: &mut Rng) -> Asking {
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

fn fact_asking(form: &ReadingForm, rng: &mut Rng) -> Asking {
    if rng.chance(form.unstated) {
        Asking::Unstated
    } else if form.aliases > 0.0 && rng.chance(1.0 / 3.0) {
        Asking::Alias
    } else {
        Asking::Fact
    }
}

fn biography(entity: &Entity, rng: &mut Rng) -> Vec<Sentence> {
    if entity.exposure.is_some_and(|exposure| exposure.wordings == Wordings::One) {
        return world::only_text(entity);
    }
    let relations = rng.sample_indices(entity.values.len(), entity.values.len());
    let style = Style::draw(world::VARIETY, rng);
    world::sentences(entity, &relations, style, rng)
}

fn pick<T: Copy>(candidates: &[T], rng: &mut Rng) -> Option<T> {
    (!candidates.is_empty()).then(|| *rng.choose(candidates))
}

/// A question and its answer, if the passages allow such a question.
fn ask(asking: Asking, passages: &[Passage], held_out: bool, rng: &mut Rng) -> Option<(String, String)> {
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
    use crate::dataset::world::{Size, WorldConfig, generate};
    use crate::finetune::pretrain_tokenizer::build_tokenizer;

    const WEIGHTS: LossWeights = LossWeights { question: 0.25, repeated_name: 0.5, biography: 0.125 };

    fn world() -> World {
        generate(&WorldConfig::of(Size::Tiny, 1))
    }

    fn form() -> ReadingForm {
        ReadingForm {
            passages: (2, 4),
            sentences: (1, 3),
            same_type: 0.5,
            same_relation: 0.5,
            near_names: 0.5,
            name_words: 0,
            variety: 0.5,
            aliases: 0.5,
            unstated: 0.2,
            inverse: 0.2,
            multi_hop: 0.2,
            compare: 0.2,
            questions: 3,
        }
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
        let (world, tokenizer) = (world(), build_tokenizer().unwrap());
        let curriculum = Curriculum::training(&world, &tokenizer, WEIGHTS);
        let showings: Vec<Showing> =
            (0..curriculum.known().len()).flat_map(|entity| [false, true].map(|asked| Showing { entity, asked })).collect();
        for index in 0..50 {
            let rng = &mut Rng::indexed(1, "rows", index);
            let mut rows = curriculum.facts(&showings, 4, rng).unwrap();
            rows.push(curriculum.reading(&form(), rng).unwrap());
            for row in rows {
                assert_eq!(tokenizer.encode_prompt(&tokenizer.decode(&row.tokens).unwrap()).unwrap(), row.tokens);
                assert_eq!(row.loss_weights.len(), row.tokens.len());
            }
        }
    }

    #[test]
    fn loss_weights_sit_on_answers_questions_and_repeated_names() {
        let (world, tokenizer) = (world(), build_tokenizer().unwrap());
        let curriculum = Curriculum::training(&world, &tokenizer, WEIGHTS);
        let mut repeated = 0;
        for index in 0..20 {
            let row = curriculum.reading(&form(), &mut Rng::indexed(3, "row", index)).unwrap();
            let text = tokenizer.decode(&row.tokens).unwrap();
            let titles: Vec<&str> =
                text.lines().filter(|line| line.starts_with("Passage")).map(|line| line.split(" : ").nth(1).unwrap()).collect();
            let answers: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("Answer :")).collect();
            let pieces = pieces(&row, &tokenizer);
            let of = |wanted: f32| pieces.iter().filter(move |(weight, _)| *weight == wanted).map(|(_, text)| text.as_str());
            assert_eq!(of(1.0).map(|text| text.trim_end_matches('\n')).collect::<Vec<_>>(), answers);
            assert!((2..=3).contains(&of(0.25).count()), "{text}");
            assert!(of(0.25).all(|text| text.starts_with("Question :") && text.ends_with('?')));
            assert!(of(0.5).all(|text| titles.contains(&text.trim())), "{pieces:?}");
            repeated += of(0.5).count();
        }
        assert!(repeated > 0);
    }

    /// Every kind of question, answered by hand from the row's text.
    #[test]
    fn answers_follow_from_the_passages() {
        let (world, tokenizer) = (world(), build_tokenizer().unwrap());
        let curriculum = Curriculum::training(&world, &tokenizer, WEIGHTS);
        let all = [Asking::Fact, Asking::InventedName, Asking::Alias, Asking::Unstated, Asking::Inverse, Asking::MultiHop, Asking::Compare];
        for (asking, index) in all.into_iter().flat_map(|asking| (0..20).map(move |index| (asking, index))) {
            let rng = &mut Rng::indexed(5, "probe", index);
            let probe = curriculum.reading_probe(&form(), asking, index % 2 == 0, rng).unwrap();
            let (prompt, answer) = (tokenizer.decode(&probe.prompt).unwrap(), tokenizer.decode(&probe.answer).unwrap());
            let (passages, question) = prompt.split_once("Question :").unwrap();
            let answer = answer.trim();
            let line_of = |text: &str| passages.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("{prompt}"));
            match asking {
                Asking::Unstated => assert_eq!(answer, world::NOT_STATED),
                Asking::Compare => assert!(question.contains(answer), "{prompt}"),
                Asking::Inverse => assert!(!question.contains(answer) && passages.contains(&format!(": {answer} :")), "{prompt}"),
                Asking::MultiHop => {
                    let line = line_of(answer);
                    let target = line.split(" : ").nth(1).unwrap();
                    assert!(!question.contains(target) && passages.matches(target).count() >= 2, "{prompt} {answer}");
                }
                Asking::Fact | Asking::InventedName | Asking::Alias => {
                    let named = passages.lines().any(|line| {
                        let title = line.split(" : ").nth(1).unwrap();
                        line.contains(answer) && (question.contains(title) != (asking == Asking::Alias))
                    });
                    assert!(named, "{prompt} {answer}");
                }
            }
        }
    }

    #[test]
    fn an_entity_with_one_wording_always_has_the_same_text() {
        let (world, tokenizer) = (world(), build_tokenizer().unwrap());
        let curriculum = Curriculum::training(&world, &tokenizer, WEIGHTS);
        let texts = |wordings: Wordings| -> BTreeSet<Vec<u32>> {
            let of = |entity: &Entity| entity.exposure.is_some_and(|exposure| exposure.wordings == wordings);
            let entity = curriculum.known().iter().position(of).unwrap();
            let show = |index| curriculum.facts(&[Showing { entity, asked: false }], 1, &mut Rng::indexed(1, "show", index)).unwrap();
            (0..10).flat_map(show).map(|row| row.tokens).collect()
        };
        assert_eq!(texts(Wordings::One).len(), 1);
        assert_eq!(texts(Wordings::Several).len(), 10);
    }

    #[test]
    fn pre_training_never_uses_the_names_of_fresh_entities_or_of_its_evaluation() {
        let (world, tokenizer) = (world(), build_tokenizer().unwrap());
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
