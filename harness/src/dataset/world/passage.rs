//! Texts about an entity, in the styles in which such texts come.

use super::Entity;
use super::relation::fill;
use crate::rng::Rng;

/// How a document is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Sentences in many wordings; later ones say "it" or "they" for the name.
    Biography,
    /// Short announcements.
    Notice,
    /// Names of fields and their values.
    Table,
    /// Questions of a guest and answers of a clerk.
    Dialogue,
}

/// How a style writes a fact; `{r}` stands for the relation's noun.
struct Form {
    first: &'static str,
    later: &'static str,
}

impl Style {
    /// Every style, in a fixed order.
    pub const ALL: [Self; 4] = [Self::Biography, Self::Notice, Self::Table, Self::Dialogue];

    /// Name in slices.
    pub fn key(self) -> &'static str {
        match self {
            Self::Biography => "biography",
            Self::Notice => "notice",
            Self::Table => "table",
            Self::Dialogue => "dialogue",
        }
    }

    /// A biography with this chance, else one of the others.
    pub fn draw(biography: f64, rng: &mut Rng) -> Self {
        if rng.chance(biography) { Self::Biography } else { *rng.choose(&Self::ALL[1..]) }
    }

    /// A style's own wordings; a biography has those of the relation.
    fn form(self) -> Option<Form> {
        match self {
            Self::Biography => None,
            Self::Notice => Some(Form { first: "Notice: the {r} of {n} is {v}.", later: "The {r} is {v}." }),
            Self::Table => Some(Form { first: "Record of {n} : {r} : {v} ;", later: "{r} : {v} ;" }),
            Self::Dialogue => {
                Some(Form { first: "Guest: what is the {r} of {n}? Clerk: {v}.", later: "Guest: and the {r}? Clerk: {v}." })
            }
        }
    }

    fn alias(self) -> &'static [&'static str] {
        match self {
            Self::Biography => &["{n} is also called {v}.", "Another name of {n} is {v}."],
            Self::Notice => &["Notice: {n} is also called {v}."],
            Self::Table => &["Record of {n} : other name : {v} ;"],
            Self::Dialogue => &["Guest: what is the other name of {n}? Clerk: {v}."],
        }
    }

    /// Every wording that is not a relation's, for the vocabulary.
    pub(super) fn wordings() -> impl Iterator<Item = &'static str> {
        let forms = Self::ALL.into_iter().filter_map(Self::form).flat_map(|form| [form.first, form.later]);
        forms.chain(Self::ALL.into_iter().flat_map(|style| style.alias().iter().copied()))
    }
}

/// One sentence, and the relation whose value it gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// Index into the type's relations; nothing where another name of the entity is given.
    pub relation: Option<usize>,
    /// Full text.
    pub text: String,
}

/// Sentences on `relations` of an entity, in that order, in random wordings of a style. An entity with another name is introduced by it.
pub fn sentences(entity: &Entity, relations: &[usize], style: Style, rng: &mut Rng) -> Vec<Sentence> {
    let name = entity.name.to_string();
    let alias = entity.alias.as_ref().map(|alias| {
        let text = fill(rng.choose::<&str>(style.alias()), &name, &alias.to_string());
        Sentence { relation: None, text }
    });
    let introduced = alias.is_some();
    let mut sentences: Vec<Sentence> = alias.into_iter().collect();
    for (position, &relation) in relations.iter().enumerate() {
        let is_later = introduced || position > 0;
        let wordings = &entity.kind().relations[relation];
        let wording = match style.form() {
            Some(form) => (if is_later { form.later } else { form.first }).replace("{r}", wordings.noun),
            None if is_later && rng.chance(0.5) => (*rng.choose(wordings.pronoun)).to_owned(),
            None => (*rng.choose(wordings.sentences)).to_owned(),
        };
        sentences.push(Sentence { relation: Some(relation), text: fill(&wording, &name, &entity.values[relation]) });
    }
    sentences
}

/// The one wording in which a fact is always stated when an entity is known in a single wording: drawn from the entity's name, so that all
/// wordings occur.
pub fn fixed_sentences(entity: &Entity) -> Vec<Sentence> {
    let mut rng = Rng::new(0, &format!("wording/{}", entity.name));
    let name = entity.name.to_string();
    let relations = entity.kind().relations.iter().enumerate();
    let text = |relation: usize, wordings: &[&str], rng: &mut Rng| Sentence {
        relation: Some(relation),
        text: fill(rng.choose::<&str>(wordings), &name, &entity.values[relation]),
    };
    relations.map(|(relation, form)| text(relation, form.sentences, &mut rng)).collect()
}

/// The sentences as one text.
pub fn text(sentences: &[Sentence]) -> String {
    sentences.iter().map(|sentence| sentence.text.as_str()).collect::<Vec<_>>().join(" ")
}
