//! The variants a run can compare.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A thing under comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VariantKind {
    /// Base weights, no passages.
    Baseline,
    /// Base weights, retrieved passages.
    Rag,
    /// Fine-tuned weights, no passages.
    Finetuned,
    /// Fine-tuned weights, retrieved passages.
    Hybrid,
    /// Weights fine-tuned on prompts with retrieved passages, retrieved passages.
    HybridRaft,
    /// Base weights, the gold passages: what perfect retrieval would give.
    Oracle,
    /// Base weights, passages drawn at random: what any passage does.
    Random,
    /// Answers of another system, read from a file of predictions.
    Predicted(PredictedName),
}

/// The name under which another system's answers are shown: up to 40 letters, digits, `_`, `-` and `.`, and not a variant of this project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PredictedName(&'static str);

/// Names in use. They are kept to the end, so that a variant stays a plain value; there are as many as specs name.
static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

impl PredictedName {
    const LONGEST: usize = 40;

    /// The name itself.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl FromStr for PredictedName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_plain = |c: char| c.is_alphanumeric() || "_-.".contains(c);
        if text.is_empty() || text.chars().count() > Self::LONGEST || !text.chars().all(is_plain) {
            return Err(format!("`{text}` is no name: expected 1 to {} letters, digits, `_`, `-` or `.`", Self::LONGEST));
        }
        if VariantKind::ALL.iter().any(|variant| variant.name() == text) {
            return Err(format!("`{text}` is a variant that ragft answers itself: give the other system's answers another name"));
        }
        let mut names = NAMES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(&known) = names.get(text) {
            return Ok(Self(known));
        }
        let name: &'static str = Box::leak(text.to_owned().into_boxed_str());
        names.insert(name);
        Ok(Self(name))
    }
}

impl fmt::Display for PredictedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Serialize for PredictedName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

impl<'de> Deserialize<'de> for PredictedName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for PredictedName {
    fn schema_name() -> Cow<'static, str> {
        "PredictedName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "The name under which another system's answers are shown." })
    }
}

/// Where a variant's passages come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContextSource {
    /// No passages in the prompt.
    None,
    /// From the index.
    Retrieved,
    /// Chunks of the relevant documents.
    Gold,
    /// Chunks of documents that are not relevant.
    Random,
}

impl VariantKind {
    /// Those that ragft answers itself, in the order of tables and figures.
    pub const ALL: [Self; 7] = [Self::Baseline, Self::Rag, Self::Finetuned, Self::Hybrid, Self::HybridRaft, Self::Oracle, Self::Random];

    /// Name in specs, tables and figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Rag => "rag",
            Self::Finetuned => "finetuned",
            Self::Hybrid => "hybrid",
            Self::HybridRaft => "hybrid_raft",
            Self::Oracle => "oracle",
            Self::Random => "random",
            Self::Predicted(name) => name.as_str(),
        }
    }

    /// Its answers were given, not made here: nothing is known of their passages, and their times were taken elsewhere.
    pub fn is_predicted(self) -> bool {
        matches!(self, Self::Predicted(_))
    }

    /// Where the passages of its prompts come from.
    pub fn context(self) -> ContextSource {
        match self {
            Self::Baseline | Self::Finetuned | Self::Predicted(_) => ContextSource::None,
            Self::Rag | Self::Hybrid | Self::HybridRaft => ContextSource::Retrieved,
            Self::Oracle => ContextSource::Gold,
            Self::Random => ContextSource::Random,
        }
    }

    /// Whether it answers with fine-tuned weights.
    pub fn is_tuned(self) -> bool {
        matches!(self, Self::Finetuned | Self::Hybrid | Self::HybridRaft)
    }
}

impl FromStr for VariantKind {
    type Err = String;

    /// What is like one of ragft's own variants is a misspelling of it, and anything else the name of another system.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(own) = Self::ALL.into_iter().find(|variant| variant.name() == text) {
            return Ok(own);
        }
        // A version number makes it a name.
        let is_word = text.chars().all(|c| c.is_alphabetic() || c == '_');
        let is_near = |name: &&str| strsim::damerau_levenshtein(name, text) <= if name.len() <= 4 { 1 } else { 2 };
        match Self::ALL.map(Self::name).into_iter().find(is_near).filter(|_| is_word) {
            Some(near) => Err(format!("unknown variant `{text}`, did you mean `{near}`?")),
            None => text.parse().map(Self::Predicted),
        }
    }
}

impl Serialize for VariantKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for VariantKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for VariantKind {
    fn schema_name() -> Cow<'static, str> {
        "VariantKind".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": Self::ALL.map(Self::name), "description": "A thing under comparison." })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_variants_keep_their_names_and_others_are_taken_as_given() {
        let of = |text: &str| text.parse::<VariantKind>();
        assert_eq!(of("hybrid_raft"), Ok(VariantKind::HybridRaft));
        assert!(of("rag2").unwrap().is_predicted());
        let other = of("vllm-0.9").unwrap();
        assert!(other.is_predicted() && other > VariantKind::Random);
        assert_eq!((other.name(), of("vllm-0.9").unwrap()), ("vllm-0.9", other));
        assert_eq!(of("baselin").unwrap_err(), "unknown variant `baselin`, did you mean `baseline`?");
        assert!(of("two words").unwrap_err().contains("is no name"));
        assert!("rag".parse::<PredictedName>().unwrap_err().contains("ragft answers itself"));
        let json = serde_json::to_string(&[other, VariantKind::Rag]).unwrap();
        assert_eq!(json, r#"["vllm-0.9","rag"]"#);
        assert_eq!(serde_json::from_str::<Vec<VariantKind>>(&json).unwrap(), [other, VariantKind::Rag]);
    }
}
