//! Texts about an entity.

use super::Entity;
use super::relation::fill;
use crate::rng::Rng;

/// One sentence, and the relation whose value it gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// Index into the type's relations.
    pub relation: usize,
    /// Full text.
    pub text: String,
}

/// Sentences on `relations` of an entity, in that order, in random wordings; later ones may say "it" for the name.
pub fn sentences(entity: &Entity, relations: &[usize], rng: &mut Rng) -> Vec<Sentence> {
    let name = entity.name.to_string();
    relations
        .iter()
        .enumerate()
        .map(|(position, &relation)| {
            let wordings = &entity.kind().relations[relation];
            let list = if position > 0 && rng.chance(0.5) { wordings.pronoun } else { wordings.sentences };
            Sentence { relation, text: fill(rng.choose::<&str>(list), &name, &entity.values[relation]) }
        })
        .collect()
}

/// The sentences as one text.
pub fn text(sentences: &[Sentence]) -> String {
    sentences.iter().map(|sentence| sentence.text.as_str()).collect::<Vec<_>>().join(" ")
}
