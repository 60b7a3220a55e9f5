//! Whether two runs can be compared at all: every reason against it, by name.

use std::collections::BTreeSet;

use super::policy::{Policy, Requirement};
use super::run::Run;
use crate::spec::{RunSpec, VariantKind};
use crate::table::Kind;

/// Everything that stands against comparing the runs; empty if nothing does.
pub fn reasons(candidate: &Run, reference: &Run, policy: &Policy) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut add = |reason: Option<String>| reasons.extend(reason);
    let versions = (reference.manifest().schema_version, candidate.manifest().schema_version);
    add((versions.0 != versions.1).then(|| format!("schema: the reference has version {}, the candidate {}", versions.0, versions.1)));
    add(incomplete("reference", reference));
    add(incomplete("candidate", candidate));
    for requirement in &policy.require {
        add(reason(*requirement, candidate, reference));
    }
    add(samples(candidate, reference));
    reasons
}

fn reason(requirement: Requirement, candidate: &Run, reference: &Run) -> Option<String> {
    let (of, to) = (&candidate.manifest().spec, &reference.manifest().spec);
    let hash = |name: &str| {
        let of = |run: &Run| run.manifest().hashes.get(name).cloned();
        let differs = of(candidate) != of(reference);
        differs.then(|| format!("{name}: the hashes differ"))
    };
    match requirement {
        Requirement::Dataset => hash("dataset"),
        Requirement::Prompt => hash("prompt"),
        Requirement::Tokenizer => hash("tokenizer"),
        Requirement::Embedder => hash("embedder"),
        Requirement::Model => hash("model")
            .or_else(|| differs("model.dtype", &to.model.dtype.name(), &of.model.dtype.name()))
            .or_else(|| differs("model.endpoint", &served(to), &served(of))),
        Requirement::Seeds => differs("seeds", &to.seeds, &of.seeds),
        Requirement::Limit => differs("limit", &to.dataset.limit, &of.dataset.limit),
        Requirement::Decoding => differs("decoding", &decoding(to), &decoding(of)),
        Requirement::Retrieval => differs("retrieval", &retrieval(to), &retrieval(of)).or_else(|| hash("reranker")),
        Requirement::Finetune => differs("finetune", &(&to.finetune, &to.hybrid), &(&of.finetune, &of.hybrid)),
        Requirement::Device => differs("device", &reference.manifest().machine.device, &candidate.manifest().machine.device),
        Requirement::Variants => variants(candidate, reference),
        Requirement::Metrics => metrics(candidate, reference),
    }
}

fn differs<T: PartialEq + std::fmt::Debug>(name: &str, reference: &T, candidate: &T) -> Option<String> {
    (reference != candidate).then(|| format!("{name}: the reference has {reference:?}, the candidate {candidate:?}"))
}

/// The batch size is not in it: it is a way of computing the same answers.
fn decoding(spec: &RunSpec) -> impl PartialEq + std::fmt::Debug {
    let generation = &spec.generation;
    (generation.max_new_tokens, generation.temperature.to_bits(), generation.top_p.to_bits(), generation.stop.clone())
}

/// What is known of a model behind an endpoint: where it stands does not matter.
fn served(spec: &RunSpec) -> Option<impl PartialEq + std::fmt::Debug> {
    let endpoint = spec.model.endpoint.clone();
    endpoint.is_set().then_some((endpoint.model, endpoint.kind, endpoint.adapter, endpoint.hybrid_adapter, endpoint.extra))
}

fn retrieval(spec: &RunSpec) -> impl PartialEq + std::fmt::Debug {
    let retrieval = &spec.retrieval;
    let index = (retrieval.chunk.clone(), retrieval.hnsw.clone(), retrieval.store.is_memory());
    (retrieval.top_k, index, retrieval.search.clone(), retrieval.bm25.clone(), retrieval.embedding.clone(), retrieval.rerank.candidates)
}

fn variants(candidate: &Run, reference: &Run) -> Option<String> {
    let has = candidate.data.variants();
    let lacks: Vec<&str> = reference.data.variants().into_iter().filter(|variant| !has.contains(variant)).map(VariantKind::name).collect();
    (!lacks.is_empty()).then(|| format!("variants: the candidate lacks `{}`", lacks.join("`, `")))
}

fn metrics(candidate: &Run, reference: &Run) -> Option<String> {
    let names = |run: &Run, variant: VariantKind| -> BTreeSet<String> {
        let scored = run.scores.metrics.iter().filter(|metric| metric.kind != Kind::Diagnostic);
        scored.filter(|metric| run.scores.column(variant, &metric.id).is_some()).map(|metric| metric.id.clone()).collect()
    };
    let both = reference.data.variants().into_iter().filter(|variant| candidate.data.variants().contains(variant));
    let (mut lacks, mut adds) = (BTreeSet::new(), BTreeSet::new());
    for variant in both {
        let (of, to) = (names(candidate, variant), names(reference, variant));
        lacks.extend(to.difference(&of).cloned());
        adds.extend(of.difference(&to).cloned());
    }
    let list = |names: &BTreeSet<String>| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match (lacks.is_empty(), adds.is_empty()) {
        (true, true) => None,
        (false, true) => Some(format!("metrics: the candidate lacks {}", list(&lacks))),
        (true, false) => Some(format!("metrics: the reference lacks {}", list(&adds))),
        (false, false) => Some(format!("metrics: only the reference has {}, only the candidate {}", list(&lacks), list(&adds))),
    }
}

/// The questions themselves: a dataset may share its hash by chance of an edit, and a limit may draw others.
fn samples(candidate: &Run, reference: &Run) -> Option<String> {
    let ids = |run: &Run| run.samples.iter().map(|sample| sample.id.clone()).collect::<BTreeSet<_>>();
    let (of, to) = (ids(candidate), ids(reference));
    let apart: Vec<&String> = of.symmetric_difference(&to).collect();
    if let Some(first) = apart.first() {
        return Some(format!("samples: {} questions are in one run only (first: `{first}`)", apart.len()));
    }
    let changed = reference.samples.iter().filter(|sample| candidate.sample(&sample.id) != Some(sample));
    let changed: Vec<&str> = changed.map(|sample| sample.id.as_str()).collect();
    changed
        .first()
        .map(|first| format!("samples: {} questions have other words, references, slices or clusters (first: `{first}`)", changed.len()))
}

fn incomplete(side: &str, run: &Run) -> Option<String> {
    if run.manifest().result_hash.is_none() {
        return Some(format!("the {side} is not complete: it has no result hash; finish it with `ragft run --resume`"));
    }
    let short = run.data.variants().into_iter().find_map(|variant| {
        let answered = run.data.answered(variant);
        (answered < run.samples.len()).then(|| (variant.name(), answered))
    });
    short.map(|(variant, has)| format!("the {side} is not complete: `{variant}` has answers to {has} of {} questions", run.samples.len()))
}
