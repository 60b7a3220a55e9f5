//! Chat templates: a prompt as the user's turn of a conversation, as transformers' `apply_chat_template` renders it.
//!
//! Templates are Jinja with Python's string methods. What transformers gives them is given here: `messages`, `add_generation_prompt`, `tools`
//! and `documents` (none), the special tokens by name, `raise_exception` and `strftime_now`, which tells a fixed date, so that a run repeats.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::civil::Date;
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value, context};
use serde::Serialize;

use super::ModelError;
use super::tokenizer::Tokenizer;

/// A template as a model brings it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatSource {
    /// Its text.
    pub template: String,
    /// Special tokens by the names that templates know, for example `eos_token`.
    pub tokens: BTreeMap<String, String>,
}

/// One turn of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Message<'a> {
    /// `system`, `user` or `assistant`.
    pub role: &'a str,
    /// What is said.
    pub content: &'a str,
}

/// A compiled template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    tokens: BTreeMap<String, String>,
}

/// A prompt and the answer that belongs to it, as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatExample {
    /// Exactly the tokens that are put to the model when it answers.
    pub prompt: Vec<u32>,
    /// The assistant's turn up to the token that ends it.
    pub answer: Vec<u32>,
}

/// A template with the system message of a run.
#[derive(Debug)]
pub struct Chat {
    template: ChatTemplate,
    system: String,
}

impl ChatTemplate {
    /// Compiles a template; `today` is what it is told when it asks for the date.
    ///
    /// # Errors
    /// [`ModelError::Chat`] when it is not valid.
    pub fn new(source: &ChatSource, today: Date) -> Result<Self, ModelError> {
        let mut environment = Environment::new();
        // As transformers sets up Jinja.
        environment
            .set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().expect("the delimiters are Jinja's own"));
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", move |format: String| {
            let told = jiff::fmt::strtime::format(format, today.at(0, 0, 0, 0));
            told.map_err(|error| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {error}")))
        });
        environment.add_filter("tojson", |value: Value| python_json(&value));
        environment.add_template_owned("chat", without_generation_tags(&source.template)).map_err(|error| failed(&error))?;
        Ok(Self { environment, tokens: source.tokens.clone() })
    }

    /// The text of a conversation; `add_generation_prompt` begins the assistant's next turn.
    ///
    /// # Errors
    /// [`ModelError::Chat`] with what the template raises.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, ModelError> {
        let template = self.environment.get_template("chat").expect("added in new");
        let turn = |turn: &Message| context! { role => turn.role, content => turn.content };
        let messages: Vec<Value> = messages.iter().map(turn).collect();
        let own = context! { messages => Value::from(messages.as_slice()), add_generation_prompt, tools => (), documents => () };
        let named = Value::from_pairs(self.tokens.iter().map(|(name, token)| (name.as_str(), token.as_str())));
        template.render(context! { ..own, ..named }).map_err(|error| failed(&error))
    }
}

impl Chat {
    /// A template with a system message; an empty one is left out.
    pub fn new(template: ChatTemplate, system: &str) -> Self {
        Self { template, system: system.to_owned() }
    }

    /// The conversation of a prompt, and of its answer.
    pub fn messages<'a>(&'a self, user: &'a str, answer: Option<&'a str>) -> Vec<Message<'a>> {
        let turns =
            [(!self.system.is_empty()).then_some(("system", self.system.as_str())), Some(("user", user)), answer.map(|a| ("assistant", a))];
        turns.into_iter().flatten().map(|(role, content)| Message { role, content }).collect()
    }

    /// The text that is put to the model.
    pub fn prompt_text(&self, user: &str) -> Result<String, ModelError> {
        self.template.render(&self.messages(user, None), true)
    }

    /// Prompt and answer as text: the conversation, cut where the answer begins.
    ///
    /// # Errors
    /// [`ModelError::Chat`] when the conversation does not begin with the prompt.
    pub fn texts(&self, user: &str, answer: &str) -> Result<(String, String), ModelError> {
        let prompt = self.prompt_text(user)?;
        let whole = self.template.render(&self.messages(user, Some(answer)), false)?;
        match whole.strip_prefix(&prompt) {
            Some(answer) => Ok((prompt, answer.to_owned())),
            None => Err(ModelError::Chat { problem: "gives another prompt in training than when answering".into() }),
        }
    }

    /// The tokens that are put to the model. The template writes the special tokens, so the tokenizer adds none.
    pub fn prompt(&self, tokenizer: &Tokenizer, user: &str) -> Result<Vec<u32>, ModelError> {
        tokenizer.encode(&self.prompt_text(user)?)
    }

    /// A training example: the whole conversation, cut where the answer begins.
    ///
    /// # Errors
    /// [`ModelError::Chat`] when the conversation does not begin with the very tokens that are put to the model when it answers.
    pub fn example(&self, tokenizer: &Tokenizer, user: &str, answer: &str) -> Result<ChatExample, ModelError> {
        let prompt = self.prompt(tokenizer, user)?;
        let whole = tokenizer.encode(&self.template.render(&self.messages(user, Some(answer)), false)?)?;
        let same = prompt.iter().zip(&whole).take_while(|(asked, trained)| asked == trained).count();
        if same < prompt.len() {
            let spelt = |tokens: &[u32]| tokens.get(same).and_then(|&id| tokenizer.token(id)).unwrap_or_else(|| "nothing".into());
            return Err(ModelError::Chat {
                problem: format!(
                    "gives another prompt in training than when answering: token {} is `{}` when answering and `{}` in training",
                    same + 1,
                    spelt(&prompt),
                    spelt(&whole)
                ),
            });
        }
        let mut answer = whole[prompt.len()..].to_vec();
        // Nothing behind the end token is ever generated, so nothing behind it is taught.
        if let Some(end) = answer.iter().position(|token| tokenizer.special().eos.contains(token)) {
            answer.truncate(end + 1);
        }
        Ok(ChatExample { prompt, answer })
    }
}

/// What the template says, without the positions that the crate adds for templates of its own.
fn failed(error: &Error) -> ModelError {
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let line = error.line().map(|line| format!(" (line {line})")).unwrap_or_default();
    ModelError::Chat { problem: format!("fails: {detail}{line}") }
}

/// `{% generation %}` marks the assistant's tokens for transformers' trainer; it prints nothing, so it becomes a condition that holds.
fn without_generation_tags(template: &str) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let tag = &rest[start + 2..start + length];
        text.push_str(&rest[..start + 2]);
        match tag.trim_matches(|c: char| c.is_whitespace() || "-+".contains(c)) {
            "generation" => text.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => text.push_str(&tag.replace("endgeneration", "endif")),
            _ => text.push_str(tag),
        }
        text.push_str("%}");
        rest = &rest[start + length + 2..];
    }
    text + rest
}

/// JSON as Python's `json.dumps(.., ensure_ascii=False)` writes it: a space behind commas and colons.
fn python_json(value: &Value) -> Result<Value, Error> {
    let json = serde_json::to_value(value).map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    let mut text = String::new();
    write_json(&json, &mut text);
    Ok(Value::from_safe_string(text))
}

fn write_json(value: &serde_json::Value, text: &mut String) {
    match value {
        serde_json::Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index > 0 { ", " } else { "" });
                write_json(item, text);
            }
            text.push(']');
        }
        serde_json::Value::Object(entries) => {
            text.push('{');
            for (index, (key, item)) in entries.iter().enumerate() {
                text.push_str(if index > 0 { ", " } else { "" });
                let _ = write!(text, "{}: ", serde_json::Value::from(key.as_str()));
                write_json(item, text);
            }
            text.push('}');
        }
        plain => {
            let _ = write!(text, "{plain}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde::Deserialize;

    use super::*;

    /// As `make_chat.py` wrote them.
    #[derive(Deserialize)]
    struct Reference {
        template: String,
        tokens: BTreeMap<String, String>,
        eos: Vec<u32>,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        messages: Vec<Turn>,
        add_generation_prompt: bool,
        text: Option<String>,
        ids: Option<Vec<u32>>,
    }

    #[derive(Deserialize)]
    struct Turn {
        role: String,
        content: String,
    }

    fn folder() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chat")
    }

    fn references() -> BTreeMap<String, Reference> {
        serde_json::from_slice(&std::fs::read(folder().join("reference.json")).unwrap()).unwrap()
    }

    fn template(reference: &Reference) -> ChatTemplate {
        let source = ChatSource { template: reference.template.clone(), tokens: reference.tokens.clone() };
        ChatTemplate::new(&source, "2024-07-26".parse().unwrap()).unwrap()
    }

    fn tokenizer(reference: &Reference) -> Tokenizer {
        let json = std::fs::read(folder().join("tokenizer.json")).unwrap();
        Tokenizer::from_bytes(&json, super::super::SpecialTokens { bos: None, eos: reference.eos.clone(), pad: None }).unwrap()
    }

    #[test]
    fn every_style_gives_the_tokens_of_transformers() {
        let references = references();
        assert!(references.len() >= 9, "{:?}", references.keys());
        for (name, reference) in &references {
            let (template, tokenizer) = (template(reference), tokenizer(reference));
            let mut rendered = 0;
            for case in &reference.cases {
                let messages: Vec<Message> =
                    case.messages.iter().map(|turn| Message { role: &turn.role, content: &turn.content }).collect();
                let found = template.render(&messages, case.add_generation_prompt);
                match &case.text {
                    None => assert!(found.is_err(), "{name} refuses this conversation in transformers"),
                    Some(text) => {
                        assert_eq!(&found.unwrap(), text, "{name}");
                        assert_eq!(Some(tokenizer.encode(text).unwrap()), case.ids, "{name}");
                        rendered += 1;
                    }
                }
            }
            assert!(rendered >= 4, "{name}");
        }
    }

    #[test]
    fn a_training_example_is_the_prompt_and_the_turn_up_to_its_end() {
        for (name, reference) in &references() {
            let tokenizer = tokenizer(reference);
            let chat = Chat::new(template(reference), "");
            let example = chat.example(&tokenizer, "Where was Torvas born?", "in Dordasford").unwrap();
            assert_eq!(example.prompt, chat.prompt(&tokenizer, "Where was Torvas born?").unwrap(), "{name}");
            assert!(reference.eos.contains(example.answer.last().unwrap()), "{name}: {:?}", example.answer);
            assert!(tokenizer.decode(&example.answer).unwrap().contains("in Dordasford"), "{name}");
        }
    }

    #[test]
    fn a_template_with_another_prompt_in_training_is_refused_with_the_token() {
        let reference = &references()["chatml"];
        let source = ChatSource {
            template: "{% for m in messages %}{{ m.content }}{% if not add_generation_prompt %}!{% endif %}{% endfor %}{% if add_generation_prompt %}?{% endif %}".into(),
            tokens: BTreeMap::new(),
        };
        let chat = Chat::new(ChatTemplate::new(&source, "2024-07-26".parse().unwrap()).unwrap(), "");
        let error = chat.example(&tokenizer(reference), "a", "b").unwrap_err().to_string();
        assert!(error.contains("`?` when answering and `!` in training"), "{error}");
    }

    #[test]
    fn what_a_template_raises_is_what_the_user_reads() {
        let source = ChatSource { template: "{{ raise_exception('System role not supported') }}".into(), tokens: BTreeMap::new() };
        let template = ChatTemplate::new(&source, "2024-07-26".parse().unwrap()).unwrap();
        assert_eq!(template.render(&[], true).unwrap_err().to_string(), "the chat template fails: System role not supported (line 1)");
        let broken = ChatSource { template: "{% if %}".into(), tokens: BTreeMap::new() };
        assert!(ChatTemplate::new(&broken, "2024-07-26".parse().unwrap()).is_err());
    }
}
