//! The training phase: labels become examples, examples become adapters, one per kind and seed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::counters;
use super::events::{Listener, RunEvent};
use super::plan::{RunPlan, adapter_name, reference_of};
use super::query::{Pick, Query, picks_of};
use crate::dataset::Sample;
use crate::finetune::examples::Example;
use crate::finetune::{self, TrainingError, TrainingOutcome, TrainingRequest, TrainingRow, TunedWeights};
use crate::lm::local::LocalModel;
use crate::retrieval::Retriever;
use crate::spec::TrainContext;
use crate::store::manifest::TrainingRecord;
use crate::store::{RunFolder, StoreError};
use crate::variant::prompt::{Passage, PromptError};

use super::runner::RunError;

/// All adapters of a run, by kind and seed.
pub type Adapters = BTreeMap<(bool, u64), TunedWeights>;

/// Key of an adapter in [`Adapters`].
pub fn key(kind: TrainContext, seed: u64) -> (bool, u64) {
    (kind == TrainContext::Retrieved, seed)
}

/// What the training phase leaves.
#[derive(Default)]
pub struct Trained {
    /// The weights.
    pub adapters: Adapters,
    /// BLAKE3 of each weights file.
    pub hashes: Vec<(TrainContext, u64, String)>,
    /// What each cost.
    pub records: Vec<TrainingRecord>,
    /// Every optimizer step.
    pub rows: Vec<TrainingRow>,
}

/// Trains (or loads, if they are there already) the adapters that the plan needs.
pub fn train_all(
    plan: &RunPlan,
    folder: &RunFolder,
    model: &LocalModel,
    retriever: Option<&Retriever>,
    interrupt: &AtomicBool,
    listener: &mut Listener,
) -> Result<Trained, RunError> {
    let mut trained = Trained::default();
    // f32 weights that lie on disk are in memory from the first adapter to the last.
    let _held = plan.spec.trained().next().map(|_| model.decoder()).transpose()?;
    let base_name = plan.spec.model.path.display().to_string();
    for kind in plan.spec.adapters() {
        if let Some(given) = plan.given_adapter(kind)? {
            let seed = plan.spec.seeds[0];
            trained.hashes.push((kind, seed, given.hash));
            trained.adapters.insert(key(kind, seed), TunedWeights::Lora(given.weights));
            continue;
        }
        let base = model.decoder()?;
        let (mut train, mut validation) = (Vec::new(), Vec::new());
        if plan.spec.finetune.examples.has_labels() {
            train = labels(plan, retriever, kind, &plan.dataset.train)?;
            validation = labels(plan, retriever, kind, &plan.dataset.validation)?;
        }
        if plan.spec.finetune.examples.has_documents() {
            train.extend(texts(plan)?);
        }
        for &seed in &plan.spec.seeds {
            let name = adapter_name(kind, seed);
            let adapter_folder = folder.adapter(&name);
            let request = TrainingRequest {
                base: &base,
                spec: &plan.spec.finetune,
                train: &train,
                validation: &validation,
                seed,
                variant: name.rsplit_once("-seed").map_or(name.as_str(), |(variant, _)| variant),
                folder: &adapter_folder,
                base_name: &base_name,
                base_hash: &plan.hashes["model"],
                interrupt,
            };
            listener(RunEvent::Phase { name: "train", detail: &name, total: 0, unit: "steps" });
            let cpu = counters::cpu_seconds();
            let outcome = finetune::train_adapter(&request, &mut |row| {
                listener(RunEvent::Step(row));
                listener(RunEvent::Advance(1));
            })?;
            trained.records.push(record(plan, kind, seed, &outcome, counters::cpu_seconds() - cpu));
            trained.hashes.push((kind, seed, outcome.hash));
            trained.rows.extend(outcome.rows);
            trained.adapters.insert(key(kind, seed), outcome.weights);
        }
    }
    Ok(trained)
}

/// Copies the finished adapters that the plan needs and `folder` lacks from another run folder, and gives what they cost there. Whether they
/// are this plan's is seen when they are loaded.
///
/// # Errors
/// [`RunError::NoAdapter`] if one is not finished there.
pub fn take_adapters(plan: &RunPlan, folder: &RunFolder, from: &RunFolder) -> Result<Vec<TrainingRecord>, RunError> {
    let seeds = &plan.spec.seeds;
    for name in plan.spec.trained().flat_map(|kind| seeds.iter().map(move |&seed| adapter_name(kind, seed))) {
        let (source, target) = (from.adapter(&name), folder.adapter(&name));
        if !finetune::is_finished(&source) {
            return Err(RunError::NoAdapter { path: source.display().to_string() });
        }
        if !finetune::is_finished(&target) {
            copy_folder(&source, &target)?;
        }
    }
    Ok(if from.manifest().is_file() { from.read_manifest()?.training } else { Vec::new() })
}

/// Copies the files of a folder; one that is there is whole.
pub(super) fn copy_folder(source: &Path, target: &Path) -> Result<(), StoreError> {
    let fresh = target.with_extension("new");
    if fresh.exists() {
        fs::remove_dir_all(&fresh).map_err(StoreError::io("replace", &fresh))?;
    }
    fs::create_dir_all(&fresh).map_err(StoreError::io("create", &fresh))?;
    for entry in fs::read_dir(source).map_err(StoreError::io("read", source))? {
        let path = entry.map_err(StoreError::io("read", source))?.path();
        if let (true, Some(name)) = (path.is_file(), path.file_name()) {
            fs::copy(&path, fresh.join(name)).map_err(StoreError::io("copy", &path))?;
        }
    }
    fs::rename(&fresh, target).map_err(StoreError::io("create", target))
}

/// A labelled question with the prompt that it is put as.
pub(super) struct Label<'a> {
    /// The question.
    pub sample: &'a Sample,
    /// What is to be said.
    pub reference: &'a str,
    /// What the template renders, passages included; nothing, if even the bare question is too long.
    pub text: Option<String>,
    /// The prompt's tokens.
    tokens: Vec<u32>,
}

/// The prompt of every labelled question.
pub(super) fn prompts<'a>(
    plan: &'a RunPlan,
    retriever: Option<&Retriever>,
    kind: TrainContext,
    samples: &'a [Sample],
) -> Result<Vec<Label<'a>>, RunError> {
    let labelled: Vec<(&Sample, &str)> = samples.iter().filter_map(|sample| Some((sample, reference_of(sample, &plan.spec)?))).collect();
    let mut picks = vec![Vec::new(); labelled.len()];
    if let (TrainContext::Retrieved, Some(retriever)) = (kind, retriever) {
        let questions: Vec<&str> = labelled.iter().map(|(sample, _)| sample.question.as_str()).collect();
        let found = retriever.search_batch(&questions, plan.spec.retrieval.top_k).map_err(RunError::retrieval)?;
        picks = found.iter().map(picks_of).collect();
    }
    let chunks = retriever.map_or(&[][..], Retriever::chunks);
    let room = plan.room().min(plan.spec.finetune.max_length);
    let prompt = |((sample, reference), picks): ((&'a Sample, &'a str), Vec<Pick>)| {
        match Query::build(&plan.template, &sample.question, picks, chunks, room, |text| plan.encode_prompt(text)) {
            Ok(query) => {
                let used = query.picks.iter().take(query.prompt.passages_used).map(|pick| &chunks[pick.chunk]);
                let passages: Vec<Passage> = used.map(|chunk| Passage { title: &chunk.title, text: &chunk.text }).collect();
                let text = Some(plan.template.render(&sample.question, &passages)?);
                Ok(Label { sample, reference, text, tokens: query.prompt.tokens })
            }
            // Left to the trainer, which drops and counts it.
            Err(PromptError::TooLong { tokens, .. }) => {
                let tokens = vec![0; tokens.max(plan.spec.finetune.max_length + 1)];
                Ok(Label { sample, reference, text: None, tokens })
            }
            Err(error) => Err(error.into()),
        }
    };
    labelled.into_iter().zip(picks).map(prompt).collect()
}

/// A label as a training example: prompt and answer as tokens.
pub(super) fn example(plan: &RunPlan, label: &Label) -> Result<Example, RunError> {
    let cluster = label.sample.cluster_id().to_owned();
    if let (Some(chat), Some(text)) = (&plan.chat, &label.text) {
        let found = chat.example(plan.tokenizer(), text, label.reference)?;
        return Ok(Example { prompt: found.prompt, answer: found.answer, cluster, is_label: true });
    }
    Ok(Example { prompt: label.tokens.clone(), answer: answer_tokens(plan, label.reference)?, cluster, is_label: true })
}

/// Prompt and answer of every labelled question, as tokens.
fn labels(plan: &RunPlan, retriever: Option<&Retriever>, kind: TrainContext, samples: &[Sample]) -> Result<Vec<Example>, RunError> {
    prompts(plan, retriever, kind, samples)?.iter().map(|label| example(plan, label)).collect()
}

/// What follows a prompt that is no conversation.
pub(super) fn answer_text(plan: &RunPlan, reference: &str) -> String {
    format!("{}{}{}", plan.spec.prompt.answer_prefix, reference, plan.spec.prompt.answer_suffix)
}

fn answer_tokens(plan: &RunPlan, reference: &str) -> Result<Vec<u32>, RunError> {
    Ok(plan.tokenizer().encode(&answer_text(plan, reference))?)
}

/// The documents as plain text, each with its title, cut into pieces that fit a training row. The tokenizer's first token begins each.
fn texts(plan: &RunPlan) -> Result<Vec<Example>, RunError> {
    let prompt = plan.tokenizer().encode_prompt("")?;
    let room = plan.spec.finetune.max_length.saturating_sub(prompt.len()).max(1);
    let mut pieces = Vec::new();
    for document in &plan.dataset.documents {
        let title = if document.title.is_empty() { String::new() } else { format!("{} : ", document.title) };
        let tokens = plan.tokenizer().encode(&format!("{title}{}\n", document.text))?;
        pieces.extend(tokens.chunks(room).map(|piece| Example {
            prompt: prompt.clone(),
            answer: piece.to_vec(),
            cluster: document.id.clone(),
            is_label: false,
        }));
    }
    Ok(pieces)
}

/// CPU time is what this process spent: a training that was resumed counts its last stretch only.
fn record(plan: &RunPlan, kind: TrainContext, seed: u64, outcome: &TrainingOutcome, cpu_seconds: f64) -> TrainingRecord {
    let users = plan.spec.variants.iter().filter(|&&variant| plan.spec.adapter_of(variant) == Some(kind));
    let figures = &outcome.figures;
    TrainingRecord {
        variants: users.map(|variant| variant.name().to_owned()).collect(),
        adapter: adapter_name(kind, seed),
        seed,
        method: figures.method.clone(),
        labels: figures.labels,
        dropped: figures.dropped,
        cut: figures.cut,
        trainable_parameters: figures.trainable_parameters,
        steps: figures.steps,
        tokens: figures.tokens,
        flops: figures.flops,
        seconds: figures.seconds,
        cpu_seconds,
        bytes: figures.bytes,
        best_eval_loss: figures.best_eval_loss,
    }
}

impl From<TrainingError> for RunError {
    fn from(error: TrainingError) -> Self {
        if matches!(error, TrainingError::Interrupted { .. }) { Self::Interrupted } else { Self::Training(Box::new(error)) }
    }
}
