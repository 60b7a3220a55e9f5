//! Text to token ids and back, as `tokenizer.json` says, with the special tokens that the other files name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ModelError;
use super::chat::ChatSource;
use super::config_file::SpecialIds;
use crate::fence::fenced;

/// Ids with a meaning of their own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SpecialTokens {
    /// Begins a sequence.
    pub bos: Option<u32>,
    /// Any of these ends an answer.
    pub eos: Vec<u32>,
    /// Fills a batch in other programs; nothing here reads it.
    pub pad: Option<u32>,
}

impl SpecialTokens {
    /// As `eos_token_id` is written: nothing, one id, or a list.
    pub(super) fn eos_value(&self) -> Value {
        match self.eos.as_slice() {
            [] => Value::Null,
            [one] => (*one).into(),
            many => many.into(),
        }
    }

    /// Takes from `other` what is not known yet.
    fn or(self, other: Self) -> Self {
        Self { bos: self.bos.or(other.bos), eos: if self.eos.is_empty() { other.eos } else { self.eos }, pad: self.pad.or(other.pad) }
    }
}

/// A tokenizer without padding and truncation.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    json: Vec<u8>,
    special: SpecialTokens,
    /// `tokenizer_config.json` asks for a beginning token that the post-processor does not add.
    prepend: Option<u32>,
    /// The model's chat template, and the special tokens that the files name.
    chat: Option<String>,
    names: BTreeMap<String, String>,
}

/// The parts of `tokenizer_config.json` that matter here.
#[derive(Deserialize, Default)]
struct TokenizerConfig {
    add_bos_token: Option<bool>,
    bos_token: Option<TokenText>,
    eos_token: Option<TokenText>,
    pad_token: Option<TokenText>,
    chat_template: Option<ChatTemplates>,
}

/// One template, or several by name, of which `default` is meant.
#[derive(Deserialize)]
#[serde(untagged)]
enum ChatTemplates {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

impl ChatTemplates {
    fn default_one(self) -> Option<String> {
        match self {
            Self::One(template) => Some(template),
            Self::Named(all) => all.into_iter().find(|named| named.name == "default").map(|named| named.template),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TokenText {
    Plain(String),
    Added { content: String },
}

impl TokenText {
    fn text(&self) -> &str {
        match self {
            Self::Plain(content) | Self::Added { content } => content,
        }
    }
}

/// The tokenizer of a `tokenizer.json`, without its own padding and truncation; or what is wrong with it.
pub fn parse(json: &[u8]) -> Result<tokenizers::Tokenizer, String> {
    // The crate panics over a decoder that is broken off.
    let read = fenced(|| tokenizers::Tokenizer::from_bytes(json));
    let read = read.ok_or("it is broken: the tokenizers library cannot read its decoder")?;
    let mut tokenizer = read.map_err(|error| error.to_string())?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(|error| error.to_string())?;
    Ok(tokenizer)
}

impl Tokenizer {
    /// Reads the bytes of a `tokenizer.json`; padding and truncation in it are switched off.
    pub fn from_bytes(json: &[u8], special: SpecialTokens) -> Result<Self, ModelError> {
        let inner = parse(json).map_err(ModelError::Tokenizer)?;
        Ok(Self { inner, json: json.to_vec(), special, prepend: None, chat: None, names: BTreeMap::new() })
    }

    /// Reads the tokenizer of a model folder. Special tokens come from `generation_config.json`, else `config.json` (`of_config`), else
    /// `tokenizer_config.json`.
    pub fn load_folder(folder: &Path, of_config: SpecialTokens) -> Result<Self, ModelError> {
        let problem = |problem: String| ModelError::Folder { path: folder.display().to_string(), problem };
        let json = std::fs::read(folder.join("tokenizer.json")).map_err(|error| problem(format!("`tokenizer.json`: {error}")))?;
        let generation: SpecialIds = read_optional(&folder.join("generation_config.json")).map_err(problem)?;
        let config: TokenizerConfig = read_optional(&folder.join("tokenizer_config.json")).map_err(problem)?;
        let names = token_names(folder).map_err(problem)?;
        let mut tokenizer =
            Self::from_bytes(&json, SpecialTokens::default()).map_err(|error| problem(format!("`tokenizer.json`: {error}")))?;
        let named = tokenizer.named(&config);
        tokenizer.special = SpecialTokens::from(generation).or(of_config).or(named);
        tokenizer.names = names;
        tokenizer.chat = match std::fs::read_to_string(folder.join("chat_template.jinja")) {
            Ok(template) => Some(template),
            Err(_) => config.chat_template.and_then(ChatTemplates::default_one),
        };
        if config.add_bos_token == Some(true) {
            let adds_it = tokenizer.special.bos.is_some() && tokenizer.encode_prompt("")?.first().copied() == tokenizer.special.bos;
            tokenizer.prepend = tokenizer.special.bos.filter(|_| !adds_it);
        }
        Ok(tokenizer)
    }

    /// Reads a tokenizer that stands apart from its weights: a folder, or a `tokenizer.json` in one.
    pub(super) fn load_apart(path: &Path, of_weights: SpecialTokens) -> Result<Self, ModelError> {
        let folder = if path.is_dir() { path.to_owned() } else { path.parent().map(PathBuf::from).unwrap_or_default() };
        Self::load_folder(&folder, of_weights)
    }

    /// The same tokenizer with a chat template and the tokens that it names.
    pub(super) fn with_chat(mut self, chat: Option<ChatSource>) -> Self {
        (self.chat, self.names) = chat.map_or((None, BTreeMap::new()), |chat| (Some(chat.template), chat.tokens));
        self
    }

    /// The model's own chat template, if it has one, or `template` in its place.
    pub fn chat(&self, template: Option<String>) -> Option<ChatSource> {
        let mut tokens = self.names.clone();
        let special = [("bos_token", self.special.bos), ("eos_token", self.special.eos.first().copied()), ("pad_token", self.special.pad)];
        for (name, token) in special.into_iter().filter_map(|(name, id)| Some((name, self.token(id?)?))) {
            tokens.entry(name.to_owned()).or_insert(token);
        }
        template.or_else(|| self.chat.clone()).map(|template| ChatSource { template, tokens })
    }

    fn named(&self, config: &TokenizerConfig) -> SpecialTokens {
        let id = |token: &Option<TokenText>| token.as_ref().and_then(|token| self.inner.token_to_id(token.text()));
        SpecialTokens { bos: id(&config.bos_token), eos: id(&config.eos_token).into_iter().collect(), pad: id(&config.pad_token) }
    }

    /// Ids of a prompt, with the special tokens that the post-processor adds.
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let encoding = self.inner.encode_fast(text, true).map_err(|error| failed(error.as_ref()))?;
        Ok(self.prepend.into_iter().chain(encoding.get_ids().iter().copied()).collect())
    }

    /// Ids of a text, nothing added.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let encoding = self.inner.encode_fast(text, false).map_err(|error| failed(error.as_ref()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Number of tokens of a text, nothing added.
    pub fn count(&self, text: &str) -> Result<usize, ModelError> {
        self.encode(text).map(|ids| ids.len())
    }

    /// The text of token ids, special tokens left out. Bytes that are not whole characters become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> Result<String, ModelError> {
        self.inner.decode(ids, true).map_err(|error| failed(error.as_ref()))
    }

    /// The text of a token as the vocabulary spells it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Ids with a meaning of their own.
    pub fn special(&self) -> &SpecialTokens {
        &self.special
    }

    /// The largest id plus one: how many rows the embedding must have at least.
    pub fn id_count(&self) -> usize {
        self.inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1)
    }

    /// Whether both give the same ids to the same tokens.
    pub fn same_vocabulary(&self, other: &Self) -> bool {
        self.inner.get_vocab(true) == other.inner.get_vocab(true)
    }

    /// The `tokenizer.json` that it was read from.
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    /// BLAKE3 of `tokenizer.json`.
    pub fn hash(&self) -> String {
        blake3::hash(&self.json).to_hex().to_string()
    }
}

/// Everything that `special_tokens_map.json` and `tokenizer_config.json` call `.._token`.
fn token_names(folder: &Path) -> Result<BTreeMap<String, String>, String> {
    let mut names = BTreeMap::new();
    for file in ["special_tokens_map.json", "tokenizer_config.json"] {
        let entries: serde_json::Map<String, Value> = read_optional(&folder.join(file))?;
        for (name, value) in entries.into_iter().filter(|(name, _)| name.ends_with("_token")) {
            if let Ok(token) = serde_json::from_value::<TokenText>(value) {
                names.insert(name, token.text().to_owned());
            }
        }
    }
    Ok(names)
}

fn read_optional<T: Default + for<'de> Deserialize<'de>>(path: &Path) -> Result<T, String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| format!("`{name}`: {error}")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(T::default()),
        Err(error) => Err(format!("`{name}`: {error}")),
    }
}

fn failed(error: &dyn std::error::Error) -> ModelError {
    ModelError::Tokenizer(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_files_are_errors_and_never_panics() {
        let whole = include_str!("../../tests/fixtures/lm/qwen3/tokenizer.json");
        let refused = |json: &str| Tokenizer::from_bytes(json.as_bytes(), SpecialTokens::default()).unwrap_err().to_string();
        let decoder = whole.find("\"decoder\"").unwrap();
        let messages: Vec<String> = (0..60).map(|more| refused(&whole[..decoder + more])).collect();
        assert!(messages.iter().any(|message| message.contains("cannot read its decoder")), "{messages:?}");
        assert!(["", "{", &whole[..whole.len() / 2]].into_iter().all(|json| !refused(json).is_empty()));
    }
}
