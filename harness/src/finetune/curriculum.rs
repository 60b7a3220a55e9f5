//! What pre-training reads: rows of passages with questions (names drawn anew for each row), and rows on the facts of known entities.
//!
//! A row is rendered in the default prompt template's form: `Passage 1 : title : text` lines, `Question : ...`, `Answer : ...`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::TrainingSequence;
use crate::dataset::world::{self, Entity, Name, NameSource, Phrasing, Pool, Role, Sentence, Style, TYPES, ValueClass, Wording, World};
use crate::lm::{ModelError, Tokenizer};
use crate::rng::Rng;

/// Answer to a question whose answer the passages do not hold: the default template's abstention.
pub const UNKNOWN: &str = "unknown";

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
    /// Most questions of a row.
    pub questions: usize,
    /// Part of the passages that are biographies; the rest are of the other styles.
    #[serde(default = "all")]
    pub biographies: f64,
    /// Part of the passages that give another name.
    #[serde(default)]
    pub alias: f64,
    /// Part of the questions that ask for what the passages do not state.
    #[serde(default)]
    pub unstated: f64,
    /// Part of the questions that go from a name to its entity.
    #[serde(default)]
    pub inverse: f64,
    /// Chance that one passage names another's entity, and that a question goes over both.
    #[serde(default)]
    pub linked: f64,
    /// Chance that two passages with a year are compared.
    #[serde(default)]
    pub compare: f64,
}

fn all() -> f64 {
    1.0
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

/// What a probe with passages asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeKind {
    /// A value.
    Lookup,
    /// A value that is an invented name.
    InventedName,
    /// A value, by the entity's other name.
    Alias,
    /// A value that no passage states.
    Unstated,
    /// The entity of a name.
    Inverse,
    /// A value over two passages.
    MultiHop,
    /// The earlier of two.
    Compare,
}

/// That every fact of an entity is shown once.
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

/// One passage of a row.
struct Passage {
    entity: Entity,
    /// What its text states.
    relations: Vec<usize>,
    style: Style,
}

/// A question with its answer.
struct Asked {
    text: String,
    answer: String,
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
        let (passages, link) = self.passages(form, rng);
        let mut row = Row::new(self.tokenizer);
        self.push_passages(&mut row, &passages, rng)?;
        for asked in questions(&passages, link, form, rng) {
            self.push_question(&mut row, &asked)?;
        }
        Ok(row.sequence)
    }

    /// Every showing of the whole pre-training, in random order: each known entity as often as its exposure says.
    pub fn showings(&self, seed: u64) -> Vec<Showing> {
        let mut showings = Vec::new();
        for (entity, known) in self.known.iter().enumerate() {
            let is_asked = known.exposure.wording == Wording::Asked;
            showings.extend((0..known.exposure.count).map(|time| Showing { entity, asked: is_asked && time % 2 == 1 }));
        }
        Rng::new(seed, "showings").shuffle(&mut showings);
        showings
    }

    /// Rows that show the facts: a text for each entity that is not asked about, and the questions about the others, mixed, at most
    /// `questions` a row.
    pub fn facts(&self, showings: &[Showing], questions: usize, rng: &mut Rng) -> Result<Vec<TrainingSequence>, ModelError> {
        let mut rows = Vec::new();
        for showing in showings.iter().filter(|showing| !showing.asked) {
            let mut row = Row::new(self.tokenizer);
            self.push_biography(&mut row, &self.known[showing.entity], rng)?;
            rows.push(row.sequence);
        }
        let mut asked: Vec<(usize, usize)> = Vec::new();
        for showing in showings.iter().filter(|showing| showing.asked) {
            asked.extend((0..self.known[showing.entity].values.len()).map(|relation| (showing.entity, relation)));
        }
        rng.shuffle(&mut asked);
        for chunk in asked.chunks(questions) {
            let mut row = Row::new(self.tokenizer);
            for &(entity, relation) in chunk {
                self.push_question(&mut row, &recall(&self.known[entity], relation, Phrasing::Seen, rng))?;
            }
            rows.push(row.sequence);
        }
        Ok(rows)
    }

    /// A reading row with one question. The form must make such questions possible.
    pub fn reading_probe(&self, form: &ReadingForm, kind: ProbeKind, phrasing: Phrasing, rng: &mut Rng) -> Result<Probe, ModelError> {
        loop {
            let (passages, link) = self.passages(form, rng);
            let mut texts = rng.clone();
            if let Some(asked) = probe_question(&passages, link, kind, phrasing, rng) {
                let mut row = Row::new(self.tokenizer);
                self.push_passages(&mut row, &passages, &mut texts)?;
                return self.probe(row, &asked);
            }
        }
    }

    /// A question without passages on `entity`.
    pub fn recall_probe(&self, entity: &Entity, relation: usize, phrasing: Phrasing, rng: &mut Rng) -> Result<Probe, ModelError> {
        self.probe(Row::new(self.tokenizer), &recall(entity, relation, phrasing, rng))
    }

    fn probe(&self, mut row: Row, asked: &Asked) -> Result<Probe, ModelError> {
        row.push(&format!("Question : {}\nAnswer :", asked.text), 0.0)?;
        Ok(Probe { prompt: row.sequence.tokens, answer: self.tokenizer.encode(&format!(" {}\n", asked.answer))? })
    }

    /// An entity that pre-training knows nothing of.
    pub fn stranger(&self, type_index: usize, rng: &mut Rng) -> Entity {
        Entity::draw(self.names.draw(rng), type_index, Role::Distractor, &self.names, rng)
    }

    /// Known entities, in the world's order.
    pub fn known(&self) -> &[Entity] {
        &self.known
    }

    /// The passages of a row, and which of them is linked to which by what relation.
    fn passages(&self, form: &ReadingForm, rng: &mut Rng) -> (Vec<Passage>, Option<Link>) {
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
            let mut entity = Entity::draw(name, type_index, Role::Distractor, &self.names, rng);
            if rng.chance(form.alias) {
                let alias = self.new_name(&names, false, rng);
                names.push(alias.clone());
                entity.alias = Some(alias);
            }
            let count = between(form.sentences, rng);
            let mut relations = rng.sample_indices(entity.values.len(), count);
            if shared_relation && !relations.contains(&relation) {
                let place = rng.below(relations.len());
                relations[place] = relation;
            }
            passages.push(Passage { entity, relations, style: Style::draw(form.biographies, rng) });
        }
        // The one that the others' names are near to stands anywhere.
        rng.shuffle(&mut passages);
        let link = if rng.chance(form.linked) && count > 1 { Some(self.link(&mut passages, rng)) } else { None };
        (passages, link)
    }

    /// Makes two random passages such that the first names the second's entity.
    fn link(&self, passages: &mut [Passage], rng: &mut Rng) -> Link {
        let pair = rng.sample_indices(passages.len(), 2);
        let (from, to) = (pair[0], pair[1]);
        let linkable: Vec<(usize, usize)> = (0..TYPES.len())
            .flat_map(|kind| (0..TYPES[kind].relations.len()).map(move |relation| (kind, relation)))
            .filter(|&(kind, relation)| TYPES[kind].relations[relation].target.is_some())
            .collect();
        let (kind, relation) = *rng.choose(&linkable);
        let target = TYPES.iter().position(|other| Some(other.key) == TYPES[kind].relations[relation].target).expect("targets are types");
        for (index, type_index) in [(from, kind), (to, target)] {
            let passage = &mut passages[index];
            let name = passage.entity.name.clone();
            let alias = passage.entity.alias.clone();
            passage.entity = Entity { alias, ..Entity::draw(name, type_index, Role::Distractor, &self.names, rng) };
        }
        passages[from].entity.values[relation] = passages[to].entity.name.to_string();
        if !passages[from].relations.contains(&relation) {
            let place = rng.below(passages[from].relations.len());
            passages[from].relations[place] = relation;
        }
        Link { from, relation, to }
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

    fn push_passages(&self, row: &mut Row, passages: &[Passage], rng: &mut Rng) -> Result<(), ModelError> {
        for (index, passage) in passages.iter().enumerate() {
            let name = passage.entity.name.to_string();
            row.push(&format!("Passage {} : {name} :", index + 1), 0.0)?;
            for sentence in world::sentences(&passage.entity, &passage.relations, passage.style, rng) {
                row.push_marked(&sentence.text, &name, 0.0, self.weights.repeated_name)?;
            }
            row.push("\n", 0.0)?;
        }
        Ok(())
    }

    fn push_biography(&self, row: &mut Row, entity: &Entity, rng: &mut Rng) -> Result<(), ModelError> {
        let sentences = biography(entity, rng);
        row.push(&format!("Passage 1 : {} :", entity.name), 0.0)?;
        for sentence in &sentences {
            let value = sentence.relation.map_or("", |relation| entity.values[relation].as_str());
            row.push_marked(&sentence.text, value, self.weights.biography, 1.0)?;
        }
        row.push("\n", 0.0)
    }

    fn push_question(&self, row: &mut Row, asked: &Asked) -> Result<(), ModelError> {
        row.push(&format!("Question : {}", asked.text), self.weights.question)?;
        row.push("\nAnswer :", 0.0)?;
        row.push(&format!(" {}\n", asked.answer), 1.0)
    }
}

/// A text with all facts of a known entity.
fn biography(entity: &Entity, rng: &mut Rng) -> Vec<Sentence> {
    if entity.exposure.wording == Wording::One {
        return world::fixed_sentences(entity);
    }
    let relations = rng.sample_indices(entity.values.len(), entity.values.len());
    world::sentences(entity, &relations, Style::draw(0.4, rng), rng)
}

fn recall(entity: &Entity, relation: usize, phrasing: Phrasing, rng: &mut Rng) -> Asked {
    let text = world::lookup(&entity.kind().relations[relation], &entity.name.to_string(), phrasing, rng);
    Asked { text, answer: entity.values[relation].clone() }
}

fn between((low, high): (usize, usize), rng: &mut Rng) -> usize {
    low + rng.below(high - low + 1)
}

/// The passage whose `relation` names the entity of another.
#[derive(Debug, Clone, Copy)]
struct Link {
    from: usize,
    relation: usize,
    to: usize,
}

impl Passage {
    fn lookup(&self, relation: usize, by_alias: bool, phrasing: Phrasing, rng: &mut Rng) -> Asked {
        let subject = self.entity.alias.as_ref().filter(|_| by_alias).unwrap_or(&self.entity.name).to_string();
        let text = world::lookup(&self.entity.kind().relations[relation], &subject, phrasing, rng);
        Asked { text, answer: self.entity.values[relation].clone() }
    }

    /// Asks for a relation that the passage does not state.
    fn unstated(&self, phrasing: Phrasing, rng: &mut Rng) -> Option<Asked> {
        let absent: Vec<usize> = (0..self.entity.values.len()).filter(|relation| !self.relations.contains(relation)).collect();
        let relation = *absent.get(rng.below(absent.len().max(1)))?;
        Some(Asked { answer: UNKNOWN.to_owned(), ..self.lookup(relation, false, phrasing, rng) })
    }

    fn names(&self) -> impl Iterator<Item = usize> {
        self.relations.iter().copied().filter(|&relation| self.entity.kind().relations[relation].values == ValueClass::Name)
    }

    fn inverse(&self, phrasing: Phrasing, rng: &mut Rng) -> Option<Asked> {
        let names: Vec<usize> = self.names().collect();
        let relation = *names.get(rng.below(names.len().max(1)))?;
        let kind = self.entity.kind();
        let text = world::inverse(kind, &kind.relations[relation], &self.entity.values[relation], phrasing, rng);
        Some(Asked { text, answer: self.entity.name.to_string() })
    }

    /// The year that it states.
    fn year(&self) -> Option<(usize, &str)> {
        let relation = self.entity.kind().dated().filter(|relation| self.relations.contains(relation))?;
        Some((relation, &self.entity.values[relation]))
    }
}

fn multi_hop(passages: &[Passage], link: Link, phrasing: Phrasing, rng: &mut Rng) -> Asked {
    let (from, to) = (&passages[link.from].entity, &passages[link.to]);
    let relation = *rng.choose(&to.relations);
    let (through, asked) = (&from.kind().relations[link.relation], &to.entity.kind().relations[relation]);
    let text = world::multi_hop(through, &from.name.to_string(), asked, phrasing, rng);
    Asked { text, answer: to.entity.values[relation].clone() }
}

/// Compares two random passages of one type that state different years; nothing if there are none.
fn compare(passages: &[Passage], phrasing: Phrasing, rng: &mut Rng) -> Option<Asked> {
    for index in rng.sample_indices(passages.len(), passages.len()) {
        let left = &passages[index];
        let Some((relation, year)) = left.year() else { continue };
        let is_rival = |right: &&Passage| {
            right.entity.type_index == left.entity.type_index && right.year().is_some_and(|(_, other)| other != year)
        };
        let rivals: Vec<&Passage> = passages.iter().filter(is_rival).collect();
        if rivals.is_empty() {
            continue;
        }
        let right = *rng.choose(&rivals);
        // Years have four digits, so their order is that of the texts.
        let earlier = if right.year().is_some_and(|(_, other)| other < year) { right } else { left };
        let form = &left.entity.kind().relations[relation];
        let text = world::compare(form, &left.entity.name.to_string(), &right.entity.name.to_string(), phrasing, rng);
        return Some(Asked { text, answer: earlier.entity.name.to_string() });
    }
    None
}

/// The questions of a row: over two passages where the row is made for it, then on single ones.
fn questions(passages: &[Passage], link: Option<Link>, form: &ReadingForm, rng: &mut Rng) -> Vec<Asked> {
    let seen = Phrasing::Seen;
    let mut asked: Vec<Asked> = link.map(|link| multi_hop(passages, link, seen, rng)).into_iter().collect();
    if rng.chance(form.compare) {
        asked.extend(compare(passages, seen, rng));
    }
    let stated = |(index, passage): (usize, &Passage)| passage.relations.iter().map(move |&relation| (index, relation)).collect::<Vec<_>>();
    let mut facts: Vec<(usize, usize)> = passages.iter().enumerate().flat_map(stated).collect();
    rng.shuffle(&mut facts);
    for (index, relation) in facts {
        let passage = &passages[index];
        let kind = rng.uniform();
        let other = if kind < form.unstated {
            passage.unstated(seen, rng)
        } else if kind < form.unstated + form.inverse {
            passage.inverse(seen, rng)
        } else {
            None
        };
        let by_alias = rng.chance(0.5);
        asked.push(other.unwrap_or_else(|| passage.lookup(relation, by_alias, seen, rng)));
    }
    asked.truncate(form.questions);
    rng.shuffle(&mut asked);
    asked
}

/// The question of a probe; nothing where the passages do not allow one of its kind.
fn probe_question(passages: &[Passage], link: Option<Link>, kind: ProbeKind, phrasing: Phrasing, rng: &mut Rng) -> Option<Asked> {
    let passage = &passages[rng.below(passages.len())];
    let relation = *rng.choose(&passage.relations);
    match kind {
        ProbeKind::Lookup => Some(passage.lookup(relation, false, phrasing, rng)),
        ProbeKind::InventedName => passage.names().next().map(|relation| passage.lookup(relation, false, phrasing, rng)),
        ProbeKind::Alias => passage.entity.alias.as_ref().map(|_| passage.lookup(relation, true, phrasing, rng)),
        ProbeKind::Unstated => passage.unstated(phrasing, rng),
        ProbeKind::Inverse => passage.inverse(phrasing, rng),
        ProbeKind::MultiHop => link.map(|link| multi_hop(passages, link, phrasing, rng)),
        ProbeKind::Compare => compare(passages, phrasing, rng),
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

    /// A blank and `text`, with another weight on each `mark` in it; an empty mark is none.
    fn push_marked(&mut self, text: &str, mark: &str, weight: f32, mark_weight: f32) -> Result<(), ModelError> {
        let (text, mark) = (format!(" {text}"), format!(" {mark}"));
        if mark == " " {
            return self.push(&text, weight);
        }
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
        ReadingForm {
            passages: (2, 4),
            sentences: (1, 3),
            same_type: 0.5,
            same_relation: 0.5,
            near_names: 0.5,
            questions: 3,
            biographies: 0.5,
            alias: 0.3,
            unstated: 0.2,
            inverse: 0.2,
            linked: 0.5,
            compare: 0.5,
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
        let (world, tokenizer) = (generate(&WorldConfig::default()), build_tokenizer().unwrap());
        let curriculum = Curriculum::training(&world, &tokenizer, WEIGHTS);
        let showings = curriculum.showings(1);
        for index in 0..50 {
            let rng = &mut Rng::indexed(1, "rows", index);
            let mut rows = curriculum.facts(&showings[index as usize * 9..][..9], 4, rng).unwrap();
            rows.push(curriculum.reading(&form(), rng).unwrap());
            for row in rows {
                assert_eq!(tokenizer.encode_prompt(&tokenizer.decode(&row.tokens).unwrap()).unwrap(), row.tokens);
                assert_eq!(row.loss_weights.len(), row.tokens.len());
            }
        }
    }

    #[test]
    fn loss_weights_sit_on_answers_questions_and_repeated_names() {
        let (world, tokenizer) = (generate(&WorldConfig::default()), build_tokenizer().unwrap());
        let curriculum = Curriculum::training(&world, &tokenizer, WEIGHTS);
        let form = ReadingForm { alias: 0.0, biographies: 1.0, ..form() };
        let row = curriculum.reading(&form, &mut Rng::new(3, "row")).unwrap();
        let text = tokenizer.decode(&row.tokens).unwrap();
        let titles: Vec<&str> =
            text.lines().filter(|line| line.starts_with("Passage")).map(|line| line.split(" : ").nth(1).unwrap()).collect();
        let answers: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("Answer :")).collect();
        let pieces = pieces(&row, &tokenizer);
        let of = |wanted: f32| pieces.iter().filter(move |(weight, _)| *weight == wanted).map(|(_, text)| text.as_str());
        assert_eq!(of(1.0).map(|text| text.trim_end_matches('\n')).collect::<Vec<_>>(), answers);
        assert!(of(0.25).count() == 3 && of(0.25).all(|text| text.starts_with("Question :") && text.ends_with('?')));
        assert!(of(0.5).all(|text| titles.contains(&text.trim())), "{pieces:?}");
    }

    #[test]
    fn probes_ask_what_their_kind_says() {
        let (world, tokenizer) = (generate(&WorldConfig::default()), build_tokenizer().unwrap());
        let curriculum = Curriculum::evaluation(&world, &tokenizer, WEIGHTS);
        for index in 0..40 {
            let form = ReadingForm { passages: (4, 4), same_relation: 0.8, alias: 0.5, linked: 1.0, ..form() };
            let probe = |kind| {
                let probe = curriculum.reading_probe(&form, kind, Phrasing::Seen, &mut Rng::indexed(1, "probe", index)).unwrap();
                (tokenizer.decode(&probe.prompt).unwrap(), tokenizer.decode(&probe.answer).unwrap().trim().to_owned())
            };
            let question = |prompt: &str| prompt.lines().find(|line| line.starts_with("Question")).unwrap().to_owned();
            let titles = |prompt: &str| -> Vec<String> {
                prompt.lines().filter(|line| line.starts_with("Passage")).map(|line| line.split(" : ").nth(1).unwrap().to_owned()).collect()
            };
            let (prompt, answer) = probe(ProbeKind::Unstated);
            assert!(answer == UNKNOWN && titles(&prompt).iter().any(|title| question(&prompt).contains(title)));
            let (prompt, answer) = probe(ProbeKind::Inverse);
            assert!(titles(&prompt).contains(&answer) && !question(&prompt).contains(&answer));
            let (prompt, answer) = probe(ProbeKind::Alias);
            assert!(titles(&prompt).iter().all(|title| !question(&prompt).contains(title)) && prompt.contains(&answer));
            let (prompt, answer) = probe(ProbeKind::MultiHop);
            assert!(question(&prompt).contains(" of ") && prompt.contains(&answer));
            let (prompt, answer) = probe(ProbeKind::Compare);
            assert!(question(&prompt).contains("earlier") && question(&prompt).contains(&answer));
        }
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
