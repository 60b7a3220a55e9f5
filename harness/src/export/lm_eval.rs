//! The files of lm-evaluation-harness (0.4): per variant a folder with `results_<date>.json` and, per question, `samples_<task>_<date>.jsonl`.
//!
//! The dataset is a task, and every slice of it a further one without a file of samples of its own. A variant is a model. Standard errors are
//! that package's own (questions as if independent): ours, over clusters, stand under `ragft` with the intervals.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::source::{Answers, Names, Source, sha256, target};
use super::{ExportError, Exported};
use crate::spec::VariantKind;
use crate::table::metric::Direction;
use crate::table::{ALL, slices_of};

/// The filter of answers that are scored as they are.
const FILTER: &str = "none";

pub(super) fn write(source: &Source, names: &Names, output: &Path) -> Result<Exported, ExportError> {
    let mut exported = Exported::default();
    for variant in source.tables.variants() {
        let model = names.system(source.manifest(), variant);
        let folder = output.join(sanitized(&model));
        let date = source.manifest().started_at.trim_end_matches('Z').replace(':', "-");
        let (lines, hash) = samples(source, variant)?;
        exported.write(folder.join(format!("samples_{}_{date}.jsonl", task(source, ALL))), &lines)?;
        let results = results(source, names, variant, &model, &hash);
        exported.write(folder.join(format!("results_{date}.json")), &format!("{results:#}\n"))?;
    }
    Ok(exported)
}

/// As lm-evaluation-harness makes a folder name of a model's.
pub(super) fn sanitized(model: &str) -> String {
    let mut out = String::new();
    let mut in_run = false;
    for c in model.chars() {
        let is_bad = "\"<>:/|\\?*[]".contains(c);
        match (is_bad, in_run) {
            (true, false) => out.push_str("__"),
            (true, true) => {}
            (false, _) => out.push(c),
        }
        in_run = is_bad;
    }
    out
}

/// Name of the task of a slice.
fn task(source: &Source, slice: &str) -> String {
    let dataset = &source.manifest().dataset.name;
    let name = if slice == ALL { dataset.clone() } else { format!("{dataset}_{slice}") };
    name.chars().map(|c| if c.is_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

fn generation_kwargs(source: &Source) -> Value {
    let generation = &source.manifest().spec.generation;
    json!({
        "until": generation.stop,
        "max_gen_toks": generation.max_new_tokens,
        "do_sample": generation.temperature > 0.0,
        "temperature": generation.temperature,
        "top_p": generation.top_p,
    })
}

/// The lines of the samples file, and the hash over their hashes that names the task's content.
fn samples(source: &Source, variant: VariantKind) -> Result<(String, String), ExportError> {
    let (mut lines, mut hashes) = (String::new(), String::new());
    source.for_each_answered(variant, |answers| {
        let line = sample(source, variant, answers)?;
        for key in ["doc_hash", "prompt_hash", "target_hash"] {
            hashes.push_str(line[key].as_str().expect("just made"));
        }
        lines.push_str(&line.to_string());
        lines.push('\n');
        Ok(())
    })?;
    Ok((lines, sha256(&hashes)))
}

fn sample(source: &Source, variant: VariantKind, answers: &Answers) -> Result<Value, ExportError> {
    let doc = serde_json::to_value(answers.sample).expect("plain data");
    let prompt = source.prompt(answers.sample, &answers.rows[0])?;
    let responses: Vec<&str> = answers.rows.iter().map(|row| row.answer.as_str()).collect();
    let target = target(answers.sample);
    let scored = source.scores(variant).into_iter();
    let scored: Vec<(&str, f64)> =
        scored.filter_map(|(metric, column)| Some((metric.id.as_str(), column.get(answers.index)?.value))).collect();
    let mut line = json!({
        "doc_id": answers.index,
        "doc_hash": sha256(&format!("{doc:#}")),
        "prompt_hash": sha256(&prompt),
        "target_hash": sha256(target),
        "doc": doc,
        "target": target,
        "arguments": { "gen_args_0": { "arg_0": prompt, "arg_1": generation_kwargs(source) } },
        "resps": [responses],
        "filtered_resps": [responses[0]],
        "filter": FILTER,
        "metrics": scored.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
    });
    let fields = line.as_object_mut().expect("an object");
    fields.extend(scored.into_iter().map(|(id, value)| (id.to_owned(), value.into())));
    Ok(line)
}

fn results(source: &Source, names: &Names, variant: VariantKind, model: &str, hash: &str) -> Value {
    let manifest = source.manifest();
    let (spec, machine) = (&manifest.spec, &manifest.machine);
    let slices = slices_of(&source.tables.data);
    let tasks: Vec<String> = slices.iter().map(|(slice, _)| task(source, slice)).collect();
    let each = |of: &dyn Fn(&str, &[usize]) -> Value| -> Value {
        tasks.iter().zip(&slices).map(|(task, (slice, members))| (task.clone(), of(slice, members))).collect::<Map<_, _>>().into()
    };
    let directions: Map<String, Value> =
        source.scores(variant).into_iter().map(|(metric, _)| (metric.id.clone(), (metric.direction == Direction::Higher).into())).collect();
    let metrics: Vec<Value> =
        directions.iter().map(|(id, up)| json!({ "metric": id, "aggregation": "mean", "higher_is_better": up })).collect();
    let config = |slice: &str, _: &[usize]| {
        json!({
            "task": task(source, slice),
            "dataset_path": manifest.dataset.name,
            "test_split": "test",
            "doc_to_text": spec.prompt.template,
            "doc_to_target": "{{references[0]}}",
            "output_type": "generate_until",
            "num_fewshot": 0,
            "repeats": if variant.is_tuned() { spec.seeds.len() } else { 1 },
            "metric_list": metrics,
            "generation_kwargs": generation_kwargs(source),
            "should_decontaminate": false,
            "metadata": { "version": manifest.dataset.version, "slice": slice, "dataset_hash": manifest.hashes.get("dataset") },
        })
    };
    json!({
        "results": each(&|slice, members| scores(source, variant, slice, members)),
        "group_subtasks": {},
        "configs": each(&config),
        "versions": each(&|_, _| manifest.dataset.version.clone().into()),
        "n-shot": each(&|_, _| 0.into()),
        "higher_is_better": each(&|_, _| directions.clone().into()),
        "n-samples": each(&|_, members| json!({ "original": members.len(), "effective": members.len() })),
        "config": {
            "model": "ragft",
            "model_args": { "pretrained": names.model(manifest), "variant": variant.name() },
            "model_num_parameters": manifest.model.served.is_none().then_some(manifest.model.parameters),
            "model_dtype": spec.model.dtype.name(),
            "model_revision": manifest.hashes.get("model"),
            "model_sha": manifest.hashes.get("model"),
            "batch_size": spec.generation.batch_size.to_string(),
            "batch_sizes": [],
            "device": machine.device,
            "use_cache": null,
            "limit": (spec.dataset.limit > 0).then_some(spec.dataset.limit),
            "bootstrap_iters": spec.measure.bootstrap_resamples,
            "gen_kwargs": generation_kwargs(source),
            "random_seed": spec.seeds[0],
        },
        "git_hash": manifest.git_commit,
        "date": source.started_at() as f64,
        "pretty_env_info": format!("{}, {} of {} threads, {}", machine.cpu, machine.threads, machine.cores, machine.os),
        "transformers_version": "N/A",
        "lm_eval_version": format!("N/A (exported by ragft {})", env!("CARGO_PKG_VERSION")),
        "upper_git_hash": null,
        "eot_token_id": null,
        "max_length": manifest.model.context_length,
        "task_hashes": { task(source, ALL): hash },
        "model_source": "ragft",
        "model_name": model,
        "model_name_sanitized": sanitized(model),
        "system_instruction": null,
        "system_instruction_sha": null,
        "fewshot_as_multiturn": null,
        "chat_template": null,
        "chat_template_sha": null,
        "total_evaluation_time_seconds": source.seconds("accuracy").to_string(),
        "ragft": {
            "run_id": manifest.run_id,
            "result_hash": manifest.result_hash,
            "crate_version": manifest.crate_version,
            "intervals": each(&|slice, _| intervals(source, variant, slice)),
        },
    })
}

/// Mean and standard error of every metric over the questions of a slice.
fn scores(source: &Source, variant: VariantKind, slice: &str, members: &[usize]) -> Value {
    let alias = if slice == ALL { task(source, slice) } else { format!(" - {slice}") };
    let mut row = Map::from_iter([
        ("name".to_owned(), Value::from(task(source, slice))),
        ("alias".to_owned(), Value::from(alias)),
        ("sample_len".to_owned(), Value::from(members.len())),
    ]);
    for (metric, column) in source.scores(variant) {
        let values: Vec<f64> = members.iter().filter_map(|&index| Some(column.get(index)?.value)).collect();
        if values.is_empty() {
            continue;
        }
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let error = if values.len() > 1 { Value::from((squares / (n - 1.0)).sqrt() / n.sqrt()) } else { Value::from("N/A") };
        row.insert(format!("{},{FILTER}", metric.id), mean.into());
        row.insert(format!("{}_stderr,{FILTER}", metric.id), error);
    }
    row.into()
}

fn intervals(source: &Source, variant: VariantKind, slice: &str) -> Value {
    let interval = |metric: &str| {
        let estimate = source.tables.quality_of(variant, slice, metric)?.estimate;
        Some(json!([estimate.ci_low, estimate.ci_high]))
    };
    let of = source.scores(variant).into_iter().filter_map(|(metric, _)| Some((metric.id.clone(), interval(&metric.id)?)));
    of.collect::<Map<_, _>>().into()
}
