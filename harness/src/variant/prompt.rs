//! The prompt template and the fitting of passages to the window.

use minijinja::{Environment, context};

use crate::diagnostic::Hint;

/// A passage as the template sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passage<'a> {
    /// Title of its document; may be empty.
    pub title: &'a str,
    /// Its text.
    pub text: &'a str,
}

/// A compiled prompt template.
#[derive(Debug)]
pub struct PromptTemplate(Environment<'static>);

/// The tokens of a prompt's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Their ids; empty where a server tokenizes.
    pub tokens: Vec<u32>,
    /// How many they are.
    pub length: usize,
}

impl From<Vec<u32>> for Encoded {
    fn from(tokens: Vec<u32>) -> Self {
        Self { length: tokens.len(), tokens }
    }
}

/// A prompt that fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FittedPrompt {
    /// What the template made.
    pub text: String,
    /// Its token ids; empty where a server tokenizes.
    pub tokens: Vec<u32>,
    /// Its length in tokens; estimated where the server's tokenizer is not at hand.
    pub length: usize,
    /// How many of the passages, best first, are in it.
    pub passages_used: usize,
    /// Tokens that the passages add to the prompt.
    pub context_tokens: usize,
}

/// Why there is no prompt.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// The template is not valid, or uses what it is not given.
    #[error("`prompt.template` {problem}")]
    Template {
        /// What minijinja says.
        problem: String,
    },
    /// Even without passages it is too long.
    #[error("the prompt without passages has {tokens} tokens, and only {room} fit beside the answer")]
    TooLong {
        /// Its length.
        tokens: usize,
        /// The window less the longest answer.
        room: usize,
    },
    /// The tokenizer failed.
    #[error("cannot tokenize the prompt: {0}")]
    Tokenize(String),
}

impl Hint for PromptError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Template { .. } => Some("the template is given `question` (text) and `passages` (each with `title` and `text`)".into()),
            Self::TooLong { .. } => Some("lower `generation.max_new_tokens`, or use a model with a longer context".into()),
            Self::Tokenize(_) => None,
        }
    }
}

impl PromptTemplate {
    /// Compiles a template and tries it once.
    ///
    /// # Errors
    /// [`PromptError::Template`], also when the question does not appear in the rendered prompt.
    pub fn new(source: &str) -> Result<Self, PromptError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.add_template_owned("prompt".to_owned(), source.to_owned()).map_err(template_error)?;
        let template = Self(environment);
        let trial = template.render("\u{1}question\u{1}", &[Passage { title: "title", text: "\u{1}text\u{1}" }])?;
        for part in ["question", "text"] {
            if !trial.contains(&format!("\u{1}{part}\u{1}")) {
                return Err(PromptError::Template {
                    problem: format!("does not use the {}", if part == "text" { "passages' text" } else { part }),
                });
            }
        }
        Ok(template)
    }

    /// The prompt's text.
    pub fn render(&self, question: &str, passages: &[Passage]) -> Result<String, PromptError> {
        let template = self.0.get_template("prompt").expect("added in new");
        let passages: Vec<_> = passages.iter().map(|passage| context! { title => passage.title, text => passage.text }).collect();
        template.render(context! { question, passages }).map_err(template_error)
    }

    /// The prompt with as many whole passages, best first, as leave its length within `room` tokens.
    ///
    /// # Errors
    /// [`PromptError::TooLong`] when it does not fit even without passages.
    pub fn fit<E: std::fmt::Display>(
        &self,
        question: &str,
        passages: &[Passage],
        room: usize,
        encode: impl Fn(&str) -> Result<Encoded, E>,
    ) -> Result<FittedPrompt, PromptError> {
        let with = |used: usize| -> Result<(String, Encoded), PromptError> {
            let text = self.render(question, &passages[..used])?;
            let encoded = encode(&text).map_err(|error| PromptError::Tokenize(error.to_string()))?;
            Ok((text, encoded))
        };
        let (bare_text, bare) = with(0)?;
        if bare.length > room {
            return Err(PromptError::TooLong { tokens: bare.length, room });
        }
        for used in (1..=passages.len()).rev() {
            let (text, Encoded { tokens, length }) = with(used)?;
            if length <= room {
                let context_tokens = length.saturating_sub(bare.length);
                return Ok(FittedPrompt { text, tokens, length, passages_used: used, context_tokens });
            }
        }
        Ok(FittedPrompt { text: bare_text, tokens: bare.tokens, length: bare.length, passages_used: 0, context_tokens: 0 })
    }
}

fn template_error(error: minijinja::Error) -> PromptError {
    PromptError::Template { problem: format!("fails: {error:#}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec;

    const PASSAGES: [Passage; 2] = [Passage { title: "Ada", text: "Ada was born in Belm." }, Passage { title: "", text: "Carl lives." }];

    fn words(text: &str) -> Result<Encoded, String> {
        Ok(text.split_whitespace().map(|word| word.len() as u32).collect::<Vec<u32>>().into())
    }

    fn default_template() -> PromptTemplate {
        PromptTemplate::new(&spec::read("", &[]).unwrap().prompt.template).unwrap()
    }

    #[test]
    fn the_default_template_numbers_and_titles_the_passages() {
        assert_eq!(
            default_template().render("Where was Ada born?", &PASSAGES).unwrap(),
            "Passage 1 : Ada : Ada was born in Belm.\nPassage 2 : Carl lives.\nQuestion : Where was Ada born?\nAnswer :"
        );
        assert_eq!(default_template().render("<b>?", &[]).unwrap(), "Question : <b>?\nAnswer :");
    }

    #[test]
    fn whole_passages_are_dropped_from_the_end_until_it_fits() {
        let template = default_template();
        let fit = |room| template.fit("Where was Ada born?", &PASSAGES, room, words).unwrap();
        assert_eq!((fit(100).passages_used, fit(100).context_tokens), (2, 15));
        assert_eq!((fit(20).passages_used, fit(20).context_tokens), (1, 10));
        assert_eq!((fit(8).passages_used, fit(8).context_tokens), (0, 0));
        assert!(matches!(template.fit("Where was Ada born?", &PASSAGES, 7, words), Err(PromptError::TooLong { tokens: 8, room: 7 })));
    }

    #[test]
    fn a_template_must_use_question_and_passages() {
        assert!(
            matches!(PromptTemplate::new("Answer: {{ question }}"), Err(PromptError::Template { problem }) if problem.contains("passages' text"))
        );
        assert!(PromptTemplate::new("{{ questoin }}").is_err());
        assert!(PromptTemplate::new("{% for %}").is_err());
    }
}
