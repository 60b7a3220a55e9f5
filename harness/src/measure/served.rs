//! What a run says of the servers that it used.

use super::plan::RunPlan;
use crate::lm::remote::ServedModel;
use crate::retrieval::Retriever;
use crate::spec::{EmbeddingEndpointSpec, EndpointSpec};
use crate::store::manifest::{ServedEmbedderRecord, ServedRecord};

/// The record of a served model; `before` is that of earlier stretches, whose tokens the budget began with.
pub(super) fn record(model: &ServedModel, spec: &EndpointSpec, before: Option<&ServedRecord>) -> ServedRecord {
    let (traffic, seen, spent) = (model.client().traffic(), model.seen(), model.budget().spent());
    let mut fingerprints = before.map_or_else(Vec::new, |before| before.fingerprints.clone());
    fingerprints.extend(seen.fingerprints);
    fingerprints.sort();
    fingerprints.dedup();
    ServedRecord {
        host: model.client().host().to_owned(),
        interface: spec.kind.name().to_owned(),
        fingerprints,
        requests: traffic.requests + before.map_or(0, |before| before.requests),
        retries: traffic.retries + before.map_or(0, |before| before.retries),
        prompt_tokens: spent.prompt_tokens,
        completion_tokens: spent.completion_tokens,
        uncounted: seen.uncounted + before.map_or(0, |before| before.uncounted),
        money: model.budget().money(),
    }
}

/// The record of a served embedder, which had counted `before` tokens when the questions were put to it.
pub(super) fn embedder_record(
    spec: &EmbeddingEndpointSpec,
    retriever: &Retriever,
    before: Option<u64>,
    questions: usize,
) -> Option<ServedEmbedderRecord> {
    let tokens = retriever.embedder().tokens_charged()?.saturating_sub(before?);
    let host = spec.url.split("://").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default().to_owned();
    Some(ServedEmbedderRecord { host, model: spec.model.clone(), question_tokens: tokens as f64 / questions.max(1) as f64 })
}

/// Tokens that a served embedder read so far, in all stretches of the run.
pub(super) fn embedder_tokens(plan: &RunPlan) -> Option<u64> {
    let is_served = plan.spec.retrieves() && plan.spec.retrieval.endpoint.is_set();
    is_served.then(|| plan.embedder_budget.spent().tokens())
}

/// What a reader of the report must know of answers that a server gave.
pub(super) fn notes(plan: &RunPlan) -> Vec<String> {
    let mut notes = Vec::new();
    let spec = &plan.spec;
    if let Some(model) = plan.model.served() {
        notes.push(
            "a server answered: its weights are not known here, operations, energy and memory of its answers were not measured, and it may answer \
             the same question otherwise another time"
                .to_owned(),
        );
        if model.tokenizer().is_none() {
            notes.push(format!(
                "without the server's tokenizer (`model.tokenizer`) passages are cut and fitted, and their tokens estimated, at {} characters per token",
                spec.model.endpoint.chars_per_token
            ));
        }
        for kind in spec.adapters() {
            let users: Vec<&str> = spec.variants.iter().filter(|&&v| spec.adapter_of(v) == Some(kind)).map(|v| v.name()).collect();
            notes.push(format!("{}: tuned elsewhere and served; what its training cost is not known here", users.join(" and ")));
        }
    }
    if spec.retrieves() && spec.retrieval.endpoint.is_set() {
        notes.push("a server embedded passages and questions: its operations were not counted".to_owned());
    }
    notes
}
