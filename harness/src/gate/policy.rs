//! What the gate tests, what it lets pass, and what both runs must share: a TOML file laid over a commented default.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::diagnostic::{Hint, nearest};
use crate::spec::{SpecError, SpecProblem, VariantKind, read_over};
use crate::table::Stage;

/// Every setting with its default; parsed, so that it cannot drift.
pub const DEFAULT_POLICY: &str = include_str!("../../default-policy.toml");
/// Name that stands for the metric that leads the report.
pub const PRIMARY: &str = "primary";
/// Share of answers with the right content in the wrong form.
pub const FORMAT_FAILURE: &str = "format_failure";
/// Share of questions without an answer.
pub const FAILED: &str = "failed";
/// Key of the least margin within a slice.
const SLICE: &str = "slice";
/// Key of the margin of metrics without a key of their own.
const OTHER: &str = "other";

/// A policy as checked. `default-policy.toml` explains every key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default-policy.toml documents every key")]
pub struct Policy {
    pub alpha: f64,
    pub adjust: Adjustment,
    pub on_inconclusive: OnInconclusive,
    pub min_n: usize,
    pub resamples: usize,
    pub require: Vec<Requirement>,
    pub variants: Vec<VariantKind>,
    pub metrics: Vec<String>,
    pub slices: Vec<String>,
    pub slice_metrics: Vec<String>,
    pub counters: Vec<Counter>,
    pub margin: BTreeMap<String, f64>,
    pub growth: BTreeMap<Counter, f64>,
    pub latency: LatencyPolicy,
}

/// `[latency]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "default-policy.toml documents every key")]
pub struct LatencyPolicy {
    pub stages: Vec<String>,
    pub ratio: f64,
    pub min_ms: f64,
    pub stall_ms: f64,
    pub stall_share: f64,
}

/// How the tests share their level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Adjustment {
    /// False discovery rate; when nothing is worse, that is the chance of any alarm.
    BenjaminiHochberg,
    /// Chance of any false alarm, whatever the dependence.
    Holm,
}

/// What an undecided gate does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnInconclusive {
    /// Exit 0.
    Pass,
    /// Exit 3.
    Fail,
}

macro_rules! names {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $item:ident => $text:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$doc])* $item),* }

        impl $name {
            /// As in policies and tables.
            pub fn name(self) -> &'static str {
                match self { $(Self::$item => $text),* }
            }
        }
    };
}

names!(
    /// Something that both runs must share.
    Requirement {
        /// The same questions and documents, by hash.
        Dataset => "dataset",
        /// The same metrics of every variant.
        Metrics => "metrics",
        /// Every variant of the reference is in the candidate.
        Variants => "variants",
        /// The same training seeds.
        Seeds => "seeds",
        /// The same number of questions was asked for.
        Limit => "limit",
        /// The same prompt template.
        Prompt => "prompt",
        /// The same token limit, temperature, top-p and stop texts.
        Decoding => "decoding",
        /// The same weights and weight type.
        Model => "model",
        /// The same tokenizer.
        Tokenizer => "tokenizer",
        /// The same embedder.
        Embedder => "embedder",
        /// The same `[retrieval]`.
        Retrieval => "retrieval",
        /// The same `[finetune]` and `[hybrid]`.
        Finetune => "finetune",
        /// The same device.
        Device => "device",
    }
);

names!(
    /// What is counted exactly, per query.
    Counter {
        /// Tokens of the whole prompt.
        PromptTokens => "prompt_tokens",
        /// Tokens of the passages within it.
        ContextTokens => "context_tokens",
        /// New tokens.
        CompletionTokens => "completion_tokens",
        /// Analytic operations.
        Flops => "flops",
    }
);

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file is not there or not readable.
    #[error("cannot read policy `{path}`")]
    Unreadable {
        /// As given.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not TOML.
    #[error("policy is not valid TOML\n{0}")]
    Syntax(String),
    /// Keys or values that mean nothing.
    #[error("the policy cannot be used:{}", .0.iter().map(|problem| format!("\n  {problem}")).collect::<String>())]
    Problems(Vec<SpecProblem>),
}

impl Hint for PolicyError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Unreadable { .. } => Some("`ragft gate --print-policy` writes a commented one to start from".into()),
            Self::Syntax(_) => None,
            Self::Problems(_) => Some("`ragft gate --print-policy` shows every key with its default".into()),
        }
    }
}

impl Policy {
    /// The defaults.
    pub fn default_policy() -> Self {
        Self::parse("").expect("the default policy is sound")
    }

    /// The policy in a file.
    pub fn read(path: &Path) -> Result<Self, PolicyError> {
        let text = std::fs::read_to_string(path).map_err(|source| PolicyError::Unreadable { path: path.display().to_string(), source })?;
        Self::parse(&text)
    }

    /// Lays a text over the defaults and checks every value.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let policy: Self = read_over(DEFAULT_POLICY, text, &[]).map_err(|error| match error {
            SpecError::Problems(problems) => PolicyError::Problems(problems),
            other => PolicyError::Syntax(other.to_string()),
        })?;
        let problems = policy.problems();
        if problems.is_empty() { Ok(policy) } else { Err(PolicyError::Problems(problems)) }
    }

    fn problems(&self) -> Vec<SpecProblem> {
        let mut problems = Vec::new();
        let mut must = |is_sound: bool, key: &str, message: String| {
            if !is_sound {
                problems.push(SpecProblem { key: key.to_owned(), line: None, message });
            }
        };
        must((1e-6..=0.5).contains(&self.alpha), "alpha", format!("is {}, expected 0.000001 to 0.5", self.alpha));
        must(self.min_n >= 2, "min_n", format!("is {}, expected at least 2", self.min_n));
        must(self.resamples >= 1000, "resamples", format!("is {}, expected at least 1000", self.resamples));
        must(self.latency.ratio >= 1.0, "latency.ratio", format!("is {}, expected at least 1", self.latency.ratio));
        for (key, value) in [
            ("latency.min_ms", self.latency.min_ms),
            ("latency.stall_ms", self.latency.stall_ms),
            ("latency.stall_share", self.latency.stall_share),
        ] {
            must(value >= 0.0, key, format!("is {value}, expected 0 or more"));
        }
        for (name, value) in &self.margin {
            must((0.0..=100.0).contains(value), &format!("margin.{name}"), format!("is {value}, expected 0 to 100 points"));
        }
        for (counter, value) in &self.growth {
            must(*value >= 0.0, &format!("growth.{}", counter.name()), format!("is {value}, expected 0 or more percent"));
        }
        for stage in &self.latency.stages {
            let names = Stage::ALL.map(Stage::name);
            let near = nearest(stage, names).map_or_else(|| names.join(", "), str::to_owned);
            must(names.contains(&stage.as_str()), "latency.stages", format!("names `{stage}`, which is not a stage: {near}"));
        }
        problems
    }

    /// Stages whose time is tested.
    pub fn stages(&self) -> impl Iterator<Item = Stage> {
        Stage::ALL.into_iter().filter(|stage| self.latency.stages.iter().any(|name| name == stage.name()))
    }

    /// Loss of a metric that does not matter, as a share.
    pub fn margin_of(&self, metric: &str, is_slice: bool) -> f64 {
        let stem = stem(metric);
        let own = self.margin.get(metric).or_else(|| self.margin.get(stem)).or_else(|| self.margin.get(OTHER)).copied().unwrap_or(0.0);
        let least = if is_slice { self.margin.get(SLICE).copied().unwrap_or(0.0) } else { 0.0 };
        own.max(least) / 100.0
    }

    /// Growth of a counter that does not matter, as a share.
    pub fn growth_of(&self, counter: Counter) -> f64 {
        self.growth.get(&counter).copied().unwrap_or(0.0) / 100.0
    }

    /// Whether the policy has heard of a metric: then it may be absent from a run without being a slip of the pen.
    pub fn knows(&self, metric: &str) -> bool {
        metric == PRIMARY || ![SLICE, OTHER].contains(&metric) && self.margin.contains_key(stem(metric))
    }

    /// Names that [`Self::knows`].
    pub fn known(&self) -> impl Iterator<Item = &str> {
        self.margin.keys().map(String::as_str).filter(|name| ![SLICE, OTHER].contains(name)).chain([PRIMARY])
    }
}

/// `recall` of `recall_at_4`.
pub fn stem(metric: &str) -> &str {
    metric.split_once("_at_").map_or(metric, |(stem, _)| stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        match Policy::parse(text) {
            Err(PolicyError::Problems(problems)) => problems.iter().map(ToString::to_string).collect(),
            other => panic!("expected problems, got {other:?}"),
        }
    }

    #[test]
    fn a_file_names_only_what_it_changes() {
        let policy = Policy::parse("on_inconclusive = \"fail\"\n[margin]\nexact_match = 1\n").unwrap();
        assert_eq!(policy.on_inconclusive, OnInconclusive::Fail);
        assert_eq!((policy.margin_of("exact_match", false), policy.margin_of("exact_match", true)), (0.01, 0.05));
        assert_eq!((policy.margin_of("recall_at_4", false), policy.margin_of("my_own", false)), (0.02, 0.02));
        assert_eq!(policy.alpha, Policy::default_policy().alpha);
        assert_eq!(Policy::parse(DEFAULT_POLICY).unwrap(), Policy::default_policy());
    }

    #[test]
    fn unknown_keys_and_senseless_values_are_named_with_the_mend() {
        assert_eq!(problems("on_inconclusve = \"pass\"\n"), ["line 1: `on_inconclusve` is not a setting; did you mean `on_inconclusive`?"]);
        assert_eq!(problems("[margin]\nexact_mach = 1.0\n"), ["line 2: `margin.exact_mach` is not a setting; did you mean `exact_match`?"]);
        assert_eq!(problems("alpha = 0.9\n"), ["`alpha` is 0.9, expected 0.000001 to 0.5"]);
        assert_eq!(problems("[latency]\nstages = [\"serch\"]\n"), ["`latency.stages` names `serch`, which is not a stage: search"]);
        assert!(problems("require = [\"dataset\", \"promt\"]\n")[0].contains("unknown variant `promt`"));
    }
}
