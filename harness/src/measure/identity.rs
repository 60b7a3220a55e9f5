//! What makes a run the run that it is: the settings and hashes behind `run_id`.

use std::collections::BTreeMap;

use crate::spec::{self, RunSpec};

/// Settings that say nothing of their own: paths, because what stands at them is known by its hash, and what only the questions show, which
/// are hashed too. What counts as a leak is told and changes nothing; how a server is reached, and a budget, change no answer. A name that ends
/// with a dot stands for all in its section.
const KNOWN_OTHERWISE: [&str; 28] = [
    "name",
    "predictions.",
    "dataset.path",
    "dataset.documents",
    "dataset.train",
    "dataset.no_reference",
    "dataset.leak.",
    "model.path",
    "model.tokenizer",
    "finetune.adapter",
    "hybrid.adapter",
    "retrieval.embedder",
    "retrieval.rerank.model",
    "model.endpoint.url",
    "model.endpoint.key_env",
    "model.endpoint.concurrency",
    "model.endpoint.timeout_s",
    "model.endpoint.retries",
    "model.endpoint.max_total_tokens",
    "model.endpoint.max_total_cost",
    "retrieval.endpoint.url",
    "retrieval.endpoint.key_env",
    "retrieval.endpoint.concurrency",
    "retrieval.endpoint.timeout_s",
    "retrieval.endpoint.retries",
    "retrieval.endpoint.chars_per_token",
    "retrieval.endpoint.max_total_tokens",
    "retrieval.endpoint.max_total_cost",
];

/// Settings that are younger than the first recorded runs. At their defaults they leave no trace in the run's hash, so a plan of before them
/// has the hash that it had.
const YOUNGER: [&str; 15] = [
    "prompt.chat",
    "prompt.system",
    "prompt.chat_date",
    STORE,
    "retrieval.search.",
    "retrieval.bm25.",
    "retrieval.embedding.",
    "retrieval.rerank.",
    "finetune.rslora",
    "measure.server.",
    "measure.offline.",
    "cost.people.",
    "cost.usage.",
    "model.endpoint.",
    "retrieval.endpoint.",
];

const STORE: &str = "retrieval.store";
const CHAT: &str = "prompt.chat";

fn is_named(key: &str, names: &[&str]) -> bool {
    names.iter().any(|name| if name.ends_with('.') { key.starts_with(name) } else { key == *name })
}

/// The id of a run with these settings over what has these hashes.
pub(super) fn run_id(spec: &RunSpec, hashes: &BTreeMap<String, String>) -> String {
    let text = serde_json::to_string(&(hashed(spec), hashes)).expect("plain data");
    blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
}

/// Settings that two specs do not share, with the value in each; paths are left out, for what stands at them is known by its hash.
pub fn differing_keys(left: &RunSpec, right: &RunSpec) -> Vec<(String, String, String)> {
    let (left, right) = (leaves(left), leaves(right));
    let differs = |(key, value): &(&String, &serde_json::Value)| left[*key] != **value;
    right.iter().filter(differs).map(|(key, value)| (key.clone(), left[key].to_string(), value.to_string())).collect()
}

/// What the run's hash covers of a spec.
fn hashed(spec: &RunSpec) -> BTreeMap<String, serde_json::Value> {
    let defaults = leaves(&spec::read("", &[]).expect("the defaults are a spec"));
    let mut leaves = leaves(spec);
    leaves.retain(|key, value| !is_named(key, &YOUNGER) || defaults.get(key) != Some(value));
    leaves
}

/// Leaves of the spec by dotted path, without those that are [`KNOWN_OTHERWISE`]: the same keys for every spec. Of a store of vectors and of a
/// chat template in a file counts what they are, not where.
fn leaves(spec: &RunSpec) -> BTreeMap<String, serde_json::Value> {
    fn walk(prefix: &str, value: serde_json::Value, out: &mut BTreeMap<String, serde_json::Value>) {
        match value {
            serde_json::Value::Object(map) => {
                for (key, value) in map {
                    walk(&if prefix.is_empty() { key } else { format!("{prefix}.{key}") }, value, out);
                }
            }
            leaf => {
                out.insert(prefix.to_owned(), leaf);
            }
        }
    }
    let mut leaves = BTreeMap::new();
    walk("", serde_json::to_value(spec).expect("a spec is plain data"), &mut leaves);
    leaves.retain(|key, _| !is_named(key, &KNOWN_OTHERWISE));
    if !spec.retrieval.store.is_memory() {
        leaves.insert(STORE.to_owned(), "postgres".into());
    }
    if !["none", "auto"].contains(&spec.prompt.chat.as_str()) {
        leaves.insert(CHAT.to_owned(), "file".into());
    }
    leaves
}

#[cfg(test)]
mod tests {
    use super::*;

    fn younger(text: &str) -> Vec<String> {
        hashed(&spec::read(text, &[]).unwrap()).into_keys().filter(|key| is_named(key, &YOUNGER)).collect()
    }

    #[test]
    fn younger_settings_enter_the_hash_where_they_are_not_at_their_default() {
        assert_eq!(younger(""), [""; 0]);
        assert_eq!(younger("[retrieval.search]\nmethod = \"bm25\"\ncandidates = 100\n"), ["retrieval.search.method"]);
        assert_eq!(younger("[retrieval.rerank]\nmodel = \"a\"\ncandidates = 9\n"), ["retrieval.rerank.candidates"]);
        assert_eq!(younger("[prompt]\nchat = \"auto\"\n[cost.usage]\nmonths = 6\n"), ["cost.usage.months", "prompt.chat"]);
    }

    /// The id that the recorded quickstart had before any of the younger settings.
    #[test]
    fn the_quickstart_keeps_its_id() {
        let manifest: serde_json::Value = serde_json::from_str(include_str!("../../../reports/quickstart/manifest.json")).unwrap();
        let recorded: RunSpec = serde_json::from_value(spec::with_defaults(manifest["spec"].clone())).unwrap();
        let hashes: BTreeMap<String, String> = serde_json::from_value(manifest["hashes"].clone()).unwrap();
        let planned = ["dataset", "model", "tokenizer", "prompt", "embedder"].map(|name| (name.to_owned(), hashes[name].clone()));
        assert_eq!(run_id(&recorded, &BTreeMap::from(planned)), manifest["run_id"].as_str().unwrap());
    }

    #[test]
    fn where_a_server_is_does_not_matter_and_that_there_is_one_does() {
        let id = |store: &str| run_id(&spec::read(&format!("[retrieval]\nstore = \"{store}\"\n"), &[]).unwrap(), &BTreeMap::new());
        assert_eq!(id("postgres://a:b@host/db"), id("env:ADDRESS"));
        assert_ne!(id("memory"), id("env:ADDRESS"));
    }

    #[test]
    fn differing_settings_are_named_both_ways() {
        let (one, other) = (spec::read("", &[]).unwrap(), spec::read("[finetune]\nrslora = true\n", &[]).unwrap());
        let named = |value: &str, other: &str| vec![("finetune.rslora".to_owned(), value.to_owned(), other.to_owned())];
        assert_eq!(differing_keys(&one, &other), named("false", "true"));
        assert_eq!(differing_keys(&other, &one), named("true", "false"));
    }
}
