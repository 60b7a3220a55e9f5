//! The training sets of a plan as files that other trainers read, with a script that trains on them: what this machine cannot train, a cluster
//! can, and the adapter comes back by its path (`finetune.adapter`, `hybrid.adapter`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::events::Listener;
use super::plan::{PlanError, RunPlan, adapter_name};
use super::runner::{RunError, build_index};
use super::source::ModelSource;
use super::training::{self, Label};
use crate::finetune::examples::{self, Example};
use crate::finetune::peft_settings;
use crate::lm::config::DecoderConfig;
use crate::lm::hub;
use crate::spec::{Schedule, TrainContext};
use crate::store::write_jsonl;

/// Trains on an exported set.
const SCRIPT: &str = include_str!("../../export/train.py");
/// The same with TRL.
const TRL_SCRIPT: &str = include_str!("../../export/train_trl.py");
const GUIDE: &str = include_str!("../../export/README.md");

/// One exported training set.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ExportedSet {
    /// Its folder.
    pub folder: PathBuf,
    /// Rows to train on.
    pub train: usize,
    /// Rows to evaluate on.
    pub validation: usize,
    /// Questions without room for an answer.
    pub left_out: usize,
}

/// Writes one folder per adapter of the plan below `output`.
///
/// # Errors
/// What searching and rendering refuse, and files that cannot be written.
pub fn export(plan: &RunPlan, output: &Path, listener: &mut Listener) -> Result<Vec<ExportedSet>, RunError> {
    let Some(shape) = plan.model.config() else {
        return Err(PlanError::Mismatch {
            problem: "a set for training needs the model's tokenizer and shape, which a server does not tell".into(),
            mend: "name the model by `model.path`, and leave `model.endpoint.url` empty".into(),
        }
        .into());
    };
    let kinds = plan.spec.adapters();
    let index = kinds.contains(&TrainContext::Retrieved).then(|| build_index(plan, listener)).transpose()?;
    let retriever = index.as_ref().map(|(retriever, ..)| retriever);
    let mut sets = Vec::new();
    for kind in kinds {
        let seed = plan.spec.seeds[0];
        let name = adapter_name(kind, seed);
        let folder = output.join(name.rsplit_once("-seed").map_or(name.as_str(), |(variant, _)| variant));
        std::fs::create_dir_all(&folder).map_err(|source| file_error(&folder, source))?;
        let train = training::prompts(plan, retriever, kind, &plan.dataset.train)?;
        let validation = training::prompts(plan, retriever, kind, &plan.dataset.validation)?;
        let (train, validation) = split(plan, train, validation, seed)?;
        let left_out = train.iter().chain(&validation).filter(|label| label.text.is_none()).count();
        let rows = [write_set(plan, &folder, "train", &train)?, write_set(plan, &folder, "validation", &validation)?];
        write(&folder.join("train.py"), SCRIPT)?;
        write(&folder.join("train_trl.py"), TRL_SCRIPT)?;
        write(&folder.join("README.md"), &GUIDE.replace("{key}", if kind == TrainContext::None { "finetune" } else { "hybrid" }))?;
        let base = base_model(plan, &folder)?;
        write(&folder.join("settings.json"), &format!("{:#}\n", settings(plan, shape, seed, &base)))?;
        sets.push(ExportedSet { folder, train: rows[0], validation: rows[1], left_out });
    }
    Ok(sets)
}

/// Held out as the trainer here would hold out.
fn split<'a>(
    plan: &RunPlan,
    train: Vec<Label<'a>>,
    validation: Vec<Label<'a>>,
    seed: u64,
) -> Result<(Vec<Label<'a>>, Vec<Label<'a>>), RunError> {
    if !validation.is_empty() {
        return Ok((train, validation));
    }
    let rows: Vec<Example> = train.iter().map(|label| training::example(plan, label)).collect::<Result<_, _>>()?;
    let (_, held) = examples::hold_out(&rows, plan.spec.finetune.validation_fraction, seed);
    let held: BTreeSet<String> = held.into_iter().map(|example| example.cluster).collect();
    Ok(train.into_iter().partition(|label| !held.contains(label.sample.cluster_id())))
}

/// The three forms of a set: conversations, prompt and completion, and the very tokens that the trainer here would see.
fn write_set(plan: &RunPlan, folder: &Path, name: &str, labels: &[Label]) -> Result<usize, RunError> {
    let (mut messages, mut completions, mut tokens) = (Vec::new(), Vec::new(), Vec::new());
    let max_length = plan.spec.finetune.max_length.min(plan.context_length);
    for label in labels {
        let Some(text) = &label.text else { continue };
        messages.push(json!({"messages": turns(plan, text, label.reference)}));
        let (prompt, completion) = match &plan.chat {
            Some(chat) => chat.texts(text, label.reference)?,
            None => (text.clone(), training::answer_text(plan, label.reference)),
        };
        completions.push(json!({"prompt": prompt, "completion": completion}));
        let example = training::example(plan, label)?;
        for row in examples::fit(&[example], max_length).rows {
            let labels: Vec<i64> =
                row.tokens.iter().zip(&row.loss_weights).map(|(&token, weight)| if *weight > 0.0 { token.into() } else { -100 }).collect();
            tokens.push(json!({"input_ids": row.tokens, "labels": labels}));
        }
    }
    write_jsonl(&folder.join(format!("{name}.messages.jsonl")), &messages)?;
    write_jsonl(&folder.join(format!("{name}.prompt_completion.jsonl")), &completions)?;
    write_jsonl(&folder.join(format!("{name}.tokens.jsonl")), &tokens)?;
    Ok(tokens.len())
}

fn turns(plan: &RunPlan, text: &str, reference: &str) -> Value {
    match &plan.chat {
        Some(chat) => json!(chat.messages(text, Some(reference))),
        None => json!([{"role": "user", "content": text}, {"role": "assistant", "content": reference}]),
    }
}

/// What the script loads: a name on the hub, a folder, or the built-in model written beside the set.
fn base_model(plan: &RunPlan, folder: &Path) -> Result<(String, Option<String>), RunError> {
    let path = plan.spec.model.path.display().to_string();
    if let ModelSource::Builtin(_) = plan.model {
        let base = folder.join("base");
        plan.model.save(&base)?;
        return Ok(("base".to_owned(), None));
    }
    if let Some(name) = path.strip_prefix(hub::PREFIX) {
        let repository = name.split('@').next().unwrap_or_default().to_owned();
        return Ok((repository, plan.model.revision().map(str::to_owned)));
    }
    let absolute = std::path::absolute(plan.base_dir.join(&path)).map_or(path, |path| path.display().to_string());
    Ok((absolute, None))
}

/// Everything that the script needs to train as the trainer here would.
fn settings(plan: &RunPlan, shape: &DecoderConfig, seed: u64, (base, revision): &(String, Option<String>)) -> Value {
    let spec = &plan.spec.finetune;
    json!({
        "base_model": base,
        "revision": revision,
        "lora": peft_settings(spec, shape),
        "seed": seed,
        "epochs": spec.epochs,
        "max_steps": spec.max_steps,
        "learning_rate": spec.learning_rate,
        "schedule": match spec.schedule {
            Schedule::Linear => "linear",
            Schedule::Cosine => "cosine",
            Schedule::Constant => "constant_with_warmup",
        },
        "warmup_ratio": spec.warmup_ratio,
        "weight_decay": spec.weight_decay,
        "max_grad_norm": spec.max_grad_norm,
        "micro_batch": spec.micro_batch,
        "grad_accum_steps": spec.grad_accum_steps,
        "max_length": spec.max_length.min(plan.context_length),
        "gradient_checkpointing": spec.gradient_checkpointing,
    })
}

fn write(path: &Path, text: &str) -> Result<(), RunError> {
    std::fs::write(path, text).map_err(|source| file_error(path, source))
}

fn file_error(path: &Path, source: std::io::Error) -> RunError {
    crate::store::StoreError::Io { action: "write", path: path.display().to_string(), source }.into()
}
