//! Exports of a run folder that looks like a real one.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::spec::VariantKind;
use crate::table::testing::{Fixture, realistic};

const VARIANTS: [VariantKind; 2] = [VariantKind::Baseline, VariantKind::Rag];

fn exported(fixture: &Fixture, form: Form) -> (TempDir, Exported, Source) {
    let temp = tempfile::tempdir().unwrap();
    fixture.write(&temp.path().join("run"));
    let source = Source::read(&temp.path().join("run")).unwrap();
    let written = export(&source, form, &Names::default(), &temp.path().join("out")).unwrap();
    (temp, written, source)
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn lm_eval_files_hold_every_question_and_the_mean_of_their_scores() {
    let (temp, written, source) = exported(&realistic(&VARIANTS, 40), Form::LmEval);
    assert_eq!(written.files.len(), 4);
    let folder = temp.path().join("out/ragft__reference-rag");
    let results = json(&folder.join("results_2026-11-24T02-00-00.json"));
    let samples = lines(&folder.join("samples_factworld_2026-11-24T02-00-00.jsonl"));
    assert_eq!(samples.len(), 40);
    let mean = samples.iter().map(|line| line["exact_match"].as_f64().unwrap()).sum::<f64>() / 40.0;
    let reported = results["results"]["factworld"]["exact_match,none"].as_f64().unwrap();
    assert!((mean - reported).abs() < 1e-12);
    assert_eq!(source.tables.quality_of(VariantKind::Rag, "all", "exact_match").unwrap().estimate.point, reported);
    let error = (mean * (1.0 - mean) / 39.0).sqrt();
    assert!((results["results"]["factworld"]["exact_match_stderr,none"].as_f64().unwrap() - error).abs() < 1e-12);
    let slice = &results["results"]["factworld_knowledge_fresh"];
    assert_eq!((slice["alias"].as_str().unwrap(), slice["sample_len"].as_u64().unwrap()), (" - knowledge=fresh", 13));
    assert_eq!(results["higher_is_better"]["factworld"]["exact_match"], true);
    for key in ["versions", "n-shot", "n-samples", "configs", "config", "task_hashes", "model_name_sanitized"] {
        assert!(!results[key].is_null(), "{key}");
    }
    let prompt = samples[0]["arguments"]["gen_args_0"]["arg_0"].as_str().unwrap();
    assert!(prompt.contains(samples[0]["doc"]["question"].as_str().unwrap()), "{prompt}");
}

#[test]
fn trec_lines_rank_each_document_once_and_keep_our_order_among_equal_scores() {
    let mut fixture = realistic(&VARIANTS, 3);
    let row = fixture.rows.iter_mut().find(|row| row.variant == "rag" && row.sample_id == "q0001").unwrap();
    row.hits[1].score = row.hits[0].score;
    row.hits[2].document_id = row.hits[0].document_id.clone();
    let (first, second) = (row.hits[0].document_id.clone(), row.hits[1].document_id.clone());
    let (temp, written, _) = exported(&fixture, Form::Trec);
    assert_eq!(written.files.len(), 2, "only one variant searches");
    let run = fs::read_to_string(temp.path().join("out/run.rag.txt")).unwrap();
    let rows: Vec<Vec<&str>> = run.lines().map(|line| line.split(' ').collect()).filter(|row: &Vec<&str>| row[0] == "q0001").collect();
    assert_eq!(rows.len(), 3);
    assert_eq!((rows[0][2], rows[1][2], rows[0][3], rows[1][3]), (first.as_str(), second.as_str(), "1", "2"));
    let score = |row: &[&str]| row[4].parse::<f32>().unwrap();
    assert!(score(&rows[0]) > score(&rows[1]) && score(&rows[1]) > score(&rows[2]));
    let labels = fs::read_to_string(temp.path().join("out/qrels.txt")).unwrap();
    assert!(labels.contains("q0001 0 doc000 1\n"), "{labels}");
}

#[test]
fn a_run_that_searched_nothing_has_no_trec_file() {
    let temp = tempfile::tempdir().unwrap();
    realistic(&[VariantKind::Baseline], 3).write(temp.path());
    let source = Source::read(temp.path()).unwrap();
    let refused = export(&source, Form::Trec, &Names::default(), temp.path()).unwrap_err().to_string();
    assert!(refused.contains("no variant searches"), "{refused}");
}

#[test]
fn every_eval_ever_has_an_aggregate_beside_its_instances() {
    let (temp, written, _) = exported(&realistic(&VARIANTS, 10), Form::EveryEvalEver);
    let aggregate = json(&written.files[2]);
    let relative = written.files[3].strip_prefix(temp.path().join("out")).unwrap().to_str().unwrap().to_owned();
    assert_eq!(aggregate["detailed_evaluation_results"]["file_path"], relative);
    assert!(relative.starts_with("data/factworld/ragft/reference-rag/"), "{relative}");
    let instances = lines(&written.files[3]);
    assert_eq!(aggregate["detailed_evaluation_results"]["total_rows"], instances.len());
    let ids: Vec<&str> =
        aggregate["evaluation_results"].as_array().unwrap().iter().map(|row| row["evaluation_result_id"].as_str().unwrap()).collect();
    let mut means = BTreeMap::<&str, (f64, f64)>::new();
    for line in &instances {
        let id = line["evaluation_result_id"].as_str().unwrap();
        assert!(ids.contains(&id), "{id}");
        let entry = means.entry(id).or_default();
        (entry.0, entry.1) = (entry.0 + line["evaluation"]["score"].as_f64().unwrap(), entry.1 + 1.0);
    }
    for row in aggregate["evaluation_results"].as_array().unwrap() {
        if let Some((sum, count)) = means.get(row["evaluation_result_id"].as_str().unwrap()) {
            assert!((row["score_details"]["score"].as_f64().unwrap() - sum / count).abs() < 1e-12, "{row}");
        }
    }
    assert!(written.notes[0].contains("--organization"));
}

#[test]
fn bencher_and_model_card_name_every_variant() {
    let (_temp, written, source) = exported(&realistic(&VARIANTS, 40), Form::Bencher);
    let figures = json(&written.files[0]);
    let exact = source.tables.quality_of(VariantKind::Rag, "all", "exact_match").unwrap().estimate.point;
    assert!((figures["rag"]["exact_match"]["value"].as_f64().unwrap() - exact).abs() < 1e-12, "{figures}");
    let (_temp, written, _) = exported(&realistic(&VARIANTS, 10), Form::HuggingFace);
    let card = fs::read_to_string(&written.files[0]).unwrap();
    assert!(card.contains("- name: \"ragft/reference-baseline\"") && card.contains("      name: \"exact match\"\n      value: "), "{card}");
}

#[test]
fn incomplete_runs_and_shards_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let mut fixture = realistic(&VARIANTS, 3);
    fixture.manifest.shard = Some(crate::store::manifest::Shard { index: 1, of: 2 });
    fixture.write(temp.path());
    assert!(matches!(Source::read(temp.path()), Err(ExportError::Incomplete)));
}

#[test]
fn a_model_has_a_name_of_its_own() {
    let mut manifest = crate::table::testing::manifest();
    let named = |path: &str, manifest: &mut crate::store::manifest::Manifest| {
        manifest.spec.model.path = path.into();
        Names::default().system(manifest, VariantKind::Rag)
    };
    assert_eq!(named("builtin", &mut manifest), "ragft/reference-rag");
    assert_eq!(named("hub:owner/name@main", &mut manifest), "owner/name-rag");
    assert_eq!(named("/models/tiny/", &mut manifest), "local/tiny-rag");
}
