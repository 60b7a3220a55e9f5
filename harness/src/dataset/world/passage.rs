//! Texts about an entity, in five styles.

use super::Entity;
use super::relation::{ANY_SENTENCE, fill};
use crate::rng::Rng;

/// Share of documents, and of texts on known entities, that are no biographies.
pub const VARIETY: f64 = 0.6;

/// How a document is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Style {
    /// Sentences in the relation's own wordings; later ones may say "it" for the name.
    Biography,
    /// Sentences of one form for every relation.
    Record,
    /// The name once, then short entries.
    Notice,
    /// Cells alone: the name stands in the title only.
    Table,
    /// Questions and replies.
    Dialogue,
}

impl Style {
    /// A biography, or with chance `variety` one of the others.
    pub fn draw(variety: f64, rng: &mut Rng) -> Self {
        if rng.chance(variety) { *rng.choose(&[Self::Record, Self::Notice, Self::Table, Self::Dialogue]) } else { Self::Biography }
    }

    /// Name in slices.
    pub fn key(self) -> &'static str {
        match self {
            Self::Biography => "biography",
            Self::Record => "record",
            Self::Notice => "notice",
            Self::Table => "table",
            Self::Dialogue => "dialogue",
        }
    }
}

/// One sentence, and the relation whose value it gives; none if it gives the alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// Index into the type's relations.
    pub relation: Option<usize>,
    /// Full text.
    pub text: String,
}

/// The words that texts of any relation are made of beside the relation's own, for the vocabulary.
pub(super) const FRAMES: [&str; 9] = [
    "{n} is also called {v}.",
    "People also call {n} by the name {v}.",
    "Notice on {n} : {r} {v}.",
    "Also {r} {v}.",
    "Also called {v}.",
    "{r} | {v} |",
    "also called | {v} |",
    "What is {n} also called? Reply : {v}.",
    "By which name do people also call {n}? Reply : {v}.",
];

/// A text on `relations` of an entity, in that order and in random wordings, with its alias at the end if it has one.
pub fn sentences(entity: &Entity, relations: &[usize], style: Style, rng: &mut Rng) -> Vec<Sentence> {
    let name = entity.name.to_string();
    let mut text: Vec<Sentence> = relations
        .iter()
        .enumerate()
        .map(|(position, &relation)| Sentence { relation: Some(relation), text: sentence(entity, &name, position, relation, style, rng) })
        .collect();
    if let Some(alias) = &entity.alias {
        let frame = match style {
            Style::Biography | Style::Record => *rng.choose(&FRAMES[..2]),
            Style::Notice => FRAMES[4],
            Style::Table => FRAMES[6],
            Style::Dialogue => *rng.choose(&FRAMES[7..]),
        };
        text.push(Sentence { relation: None, text: fill(frame, &name, &alias.to_string()) });
    }
    text
}

fn sentence(entity: &Entity, name: &str, position: usize, relation: usize, style: Style, rng: &mut Rng) -> String {
    let (form, value) = (&entity.kind().relations[relation], entity.values[relation].as_str());
    match style {
        Style::Biography if position > 0 && rng.chance(0.5) => fill(rng.choose::<&str>(form.pronoun), name, value),
        Style::Biography => fill(rng.choose::<&str>(form.sentences), name, value),
        Style::Record => fill(rng.choose::<&str>(&ANY_SENTENCE), name, value).replace("{r}", form.noun),
        Style::Notice => fill(FRAMES[if position == 0 { 2 } else { 3 }], name, value).replace("{r}", form.noun),
        Style::Table => fill(FRAMES[5], name, value).replace("{r}", form.noun),
        Style::Dialogue => format!("{} Reply : {value}.", form.question(name, false, rng)),
    }
}

/// The one text that an entity with a single wording always has: the first sentence of each relation, in their order.
pub fn only_text(entity: &Entity) -> Vec<Sentence> {
    let name = entity.name.to_string();
    let relations = entity.kind().relations.iter().enumerate();
    relations.map(|(index, form)| Sentence { relation: Some(index), text: fill(form.sentences[0], &name, &entity.values[index]) }).collect()
}

/// The sentences as one text.
pub fn text(sentences: &[Sentence]) -> String {
    sentences.iter().map(|sentence| sentence.text.as_str()).collect::<Vec<_>>().join(" ")
}
