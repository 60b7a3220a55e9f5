//! Every Eval Ever 0.3: an aggregate file per variant and, beside it, a line per question, training seed and metric, at the path where the
//! shared datastore keeps them (`data/<collection>/<owner>/<model>/<uuid>.json`).

use std::path::Path;

use serde_json::{Map, Value, json};

use super::source::{Answers, Names, Source, sha256};
use super::{ExportError, Exported, hexadecimal};
use crate::dataset::Sample;
use crate::spec::VariantKind;
use crate::table::metric::{Direction, SHARE};
use crate::table::{ALL, Column, Metric, Observation, QualityRow};

/// Version of the two schemas.
const SCHEMA: &str = "0.3.0";

pub(super) fn write(source: &Source, names: &Names, output: &Path) -> Result<Exported, ExportError> {
    let mut exported = Exported::default();
    for variant in source.tables.variants() {
        let record = Record::of(source, names, variant);
        let lines = record.instances()?;
        let path = format!("{}/{}_samples.jsonl", record.folder(), record.uuid);
        let aggregate = record.aggregate(&path, &lines);
        exported.write(output.join(format!("{}/{}.json", record.folder(), record.uuid)), &format!("{aggregate:#}\n"))?;
        exported.write(output.join(path), &lines)?;
    }
    if names.organization.is_none() {
        exported.notes.push("the evaluator is written as `unknown`: name it with `--organization` before sharing the files".to_owned());
    }
    Ok(exported)
}

/// The evaluation of one variant.
struct Record<'a> {
    source: &'a Source,
    variant: VariantKind,
    organization: &'a str,
    model: String,
    base: String,
    id: String,
    uuid: String,
}

impl<'a> Record<'a> {
    fn of(source: &'a Source, names: &'a Names, variant: VariantKind) -> Self {
        let manifest = source.manifest();
        let model = names.system(manifest, variant);
        let id = format!("{}/{model}/{}", manifest.dataset.name, source.started_at());
        let result = manifest.result_hash.as_deref().unwrap_or_default();
        let organization = names.organization.as_deref().unwrap_or("unknown");
        Self { source, variant, organization, base: names.model(manifest), uuid: uuid(&format!("{result}/{id}")), model, id }
    }

    /// Where the datastore keeps it.
    fn folder(&self) -> String {
        let (owner, name) = self.model.split_once('/').unwrap_or(("unknown", &self.model));
        let portable = |text: &str| text.replace(['/', '<', '>', ':', '"', '\\', '|', '?', '*'], "_");
        format!("data/{}/{}/{}", portable(&self.source.manifest().dataset.name), portable(owner), portable(name))
    }

    fn aggregate(&self, samples: &str, lines: &str) -> Value {
        let (manifest, source) = (self.source.manifest(), self.source);
        let is_served = manifest.model.served.is_some();
        let rows = source.tables.quality.iter().filter(|row| row.variant == self.variant);
        let judged = source.scores(self.variant);
        let rows = rows.filter(|row| judged.iter().any(|(metric, _)| metric.id == row.metric.id));
        json!({
            "schema_version": SCHEMA,
            "evaluation_id": self.id,
            "evaluation_timestamp": manifest.started_at,
            "retrieved_timestamp": source.started_at().to_string(),
            "source_metadata": {
                "source_name": format!("ragft run {}", manifest.run_id),
                "source_type": "evaluation_run",
                "source_organization_name": self.organization,
                "evaluator_relationship": "other",
            },
            "eval_library": { "name": "ragft", "version": manifest.crate_version },
            "model_info": {
                "name": self.model,
                "id": self.model,
                "inference_engine": { "name": "ragft", "version": manifest.crate_version },
                "additional_details": {
                    "deployment_type": if is_served { "unknown" } else { "self_deployed" },
                    "model_availability": "unknown",
                    "base_model": self.base,
                    "variant": self.variant.name(),
                    "parameters": if is_served { "not known".to_owned() } else { manifest.model.parameters.to_string() },
                    "dtype": if is_served { "not known" } else { manifest.spec.model.dtype.name() },
                    "weights_blake3": manifest.hashes.get("model").cloned().unwrap_or_default(),
                },
            },
            "evaluation_results": rows.map(|row| self.result(row)).collect::<Vec<_>>(),
            "detailed_evaluation_results": {
                "format": "jsonl",
                "file_path": samples,
                "hash_algorithm": "sha256",
                "checksum": sha256(lines),
                "total_rows": lines.lines().count(),
            },
        })
    }

    fn result(&self, row: &QualityRow) -> Value {
        let manifest = self.source.manifest();
        let (spec, estimate) = (&manifest.spec, &row.estimate);
        let is_share = row.metric.unit == SHARE;
        let (least, most) = if is_share { (json!(0.0), json!(1.0)) } else { (json!("-Infinity"), json!("Infinity")) };
        let mut details = Map::from_iter([("n_failed".to_owned(), Value::from(row.n_failed.to_string()))]);
        if row.slice != ALL {
            details.insert("slice".to_owned(), row.slice.clone().into());
        }
        json!({
            "evaluation_result_id": self.result_id(&row.slice, &row.metric.id),
            "evaluation_name": self.name(&row.slice),
            "source_data": {
                "dataset_name": manifest.dataset.name,
                "source_type": "other",
                "additional_details": {
                    "version": manifest.dataset.version,
                    "source": manifest.dataset.source,
                    "licence": manifest.dataset.licence,
                    "blake3": manifest.hashes.get("dataset").cloned().unwrap_or_default(),
                },
            },
            "evaluation_timestamp": manifest.started_at,
            "metric_config": {
                "metric_id": row.metric.id,
                "metric_name": row.metric.label(),
                "metric_unit": if is_share { "proportion" } else { "points" },
                "lower_is_better": row.metric.direction == Direction::Lower,
                "score_type": "continuous",
                "min_score": least,
                "max_score": most,
            },
            "score_details": {
                "score": estimate.point,
                "details": details,
                "uncertainty": {
                    "confidence_interval": {
                        "lower": estimate.ci_low,
                        "upper": estimate.ci_high,
                        "confidence_level": spec.measure.confidence,
                        "method": "percentile bootstrap over clusters of questions; Wilson where all scores are 0 or all are 1",
                    },
                    "num_samples": estimate.n,
                    "num_bootstrap_samples": spec.measure.bootstrap_resamples,
                },
            },
            "generation_config": {
                "generation_args": {
                    "temperature": spec.generation.temperature,
                    "top_p": spec.generation.top_p,
                    "max_tokens": spec.generation.max_new_tokens,
                    "prompt_template": spec.prompt.template,
                },
            },
        })
    }

    fn name(&self, slice: &str) -> String {
        let dataset = &self.source.manifest().dataset.name;
        if slice == ALL { dataset.clone() } else { format!("{dataset} ({slice})") }
    }

    fn result_id(&self, slice: &str, metric: &str) -> String {
        format!("{}/{}/{slice}/{metric}", self.source.manifest().run_id, self.variant.name())
    }

    /// A line per question, training seed and metric that applies to the question.
    fn instances(&self) -> Result<String, ExportError> {
        let scored = self.source.scores(self.variant);
        let mut lines = String::new();
        self.source.for_each_answered(self.variant, |answers| {
            for row in answers.rows {
                let prompt = self.source.prompt(answers.sample, row)?;
                for (metric, column) in scored.iter().filter(|(_, column)| column.get(answers.index).is_some()) {
                    lines.push_str(&self.instance(answers, row, &prompt, metric, column).to_string());
                    lines.push('\n');
                }
            }
            Ok(())
        })?;
        Ok(lines)
    }

    fn instance(&self, answers: &Answers, row: &Observation, prompt: &str, metric: &Metric, column: &Column) -> Value {
        let sample = answers.sample;
        let own = row.score(&metric.id);
        let score = own.or_else(|| column.get(answers.index).map(|scored| scored.value)).unwrap_or(0.0);
        let mut metadata: Map<String, Value> = sample.slices.iter().map(|(tag, value)| (tag.clone(), value.clone().into())).collect();
        metadata.insert("training_seed".to_owned(), row.seed.to_string().into());
        json!({
            "schema_version": SCHEMA,
            "evaluation_id": self.id,
            "model_id": self.model,
            "evaluation_name": self.name(ALL),
            "evaluation_result_id": self.result_id(ALL, &metric.id),
            "sample_id": sample.id,
            "sample_hash": sample_hash(sample),
            "interaction_type": "single_turn",
            "input": { "raw": sample.question, "formatted": prompt, "reference": sample.references },
            "output": { "raw": [row.answer.as_str()] },
            "messages": null,
            "answer_attribution": [{
                "turn_idx": 0,
                "source": "output.raw",
                "extracted_value": row.answer.as_str(),
                "extraction_method": "whole answer",
                "is_terminal": true,
            }],
            "evaluation": { "score": score, "is_correct": score >= 1.0 },
            "token_usage": {
                "input_tokens": row.prompt_tokens,
                "output_tokens": row.completion_tokens,
                "total_tokens": row.prompt_tokens + row.completion_tokens,
            },
            "error": row.error.as_deref(),
            "metadata": metadata,
        })
    }
}

fn sample_hash(sample: &Sample) -> String {
    sha256(&format!("{}{}", sample.question, sample.references.concat()))
}

/// A UUID (version 4 in form) that a text names.
fn uuid(text: &str) -> String {
    let mut bytes = [0u8; 16];
    bytes.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hexadecimal(&bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
