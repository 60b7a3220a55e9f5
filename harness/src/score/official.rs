//! Equality with the official scorers: excerpts always, whole files where `RAGFT_TEST_DATA` names the folder they lie in.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use super::*;

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn near(left: f64, right: f64, what: &str) {
    assert!((left - right).abs() < 1e-12, "{what}: {left} is not {right}");
}

fn check_normalisation(rows: &[Value]) {
    for row in rows {
        let raw = row["raw"].as_str().unwrap();
        assert_eq!(normalise(raw), row["squad_v2_0"].as_str().unwrap(), "{raw}");
        assert_eq!(normalise(raw), row["squad_v1_1"].as_str().unwrap(), "{raw}");
    }
}

fn check_pairs(rows: &[Value]) {
    for row in rows {
        let pair = Normalised::new(row["prediction"].as_str().unwrap(), &strings(&row["golds"]));
        near(pair.exact_match(), row["squad_v2"]["em"].as_f64().unwrap(), &row.to_string());
        near(pair.token_f1(), row["squad_v2"]["f1"].as_f64().unwrap(), &row.to_string());
    }
}

fn check_rouge(rows: &[Value]) {
    for row in rows {
        let (answer, reference) = (row["prediction"].as_str().unwrap(), row["reference"].as_str().unwrap());
        for (name, score) in
            [("rouge1", rouge_n(answer, reference, 1)), ("rouge2", rouge_n(answer, reference, 2)), ("rougeL", rouge_l(answer, reference))]
        {
            let expected = &row["scores"][name];
            near(score.precision, expected["p"].as_f64().unwrap(), name);
            near(score.recall, expected["r"].as_f64().unwrap(), name);
            near(score.f, expected["f"].as_f64().unwrap(), name);
        }
    }
}

/// `expected` holds trec_eval's names for the measures of one query.
fn check_ranking(mut results: Vec<(String, f32)>, relevant: &[String], expected: &Value, query: &str) {
    trec_order(&mut results);
    let ranked: Vec<&str> = results.iter().map(|(id, _)| id.as_str()).collect();
    let scores = score_ranking(&ranked, relevant, &[1, 3, 5, 10, 20]);
    for (ours, theirs) in [("mrr", "recip_rank"), ("map", "map")] {
        near(scores[ours], expected[theirs].as_f64().unwrap(), &format!("{query} {theirs}"));
    }
    for k in [1, 3, 5, 10, 20] {
        for (ours, theirs) in [("recall", "recall"), ("precision", "P"), ("hit", "success"), ("ndcg", "ndcg_cut")] {
            let Some(expected) = expected[format!("{theirs}_{k}")].as_f64() else { continue };
            near(scores[&format!("{ours}_at_{k}")], expected, &format!("{query} {theirs}_{k}"));
        }
    }
}

#[test]
fn excerpts_equal_the_official_figures() {
    check_normalisation(&lines(include_str!("../../tests/fixtures/score/normalisation.jsonl")));
    check_pairs(&lines(include_str!("../../tests/fixtures/score/pairs.jsonl")));
    check_rouge(&lines(include_str!("../../tests/fixtures/score/rouge.jsonl")));
}

#[test]
fn excerpts_of_squad_2_equal_the_official_figures() {
    for row in lines(include_str!("../../tests/fixtures/score/squad2.jsonl")) {
        let pair = Normalised::new(row["prediction"].as_str().unwrap(), &strings(&row["references"]));
        near(pair.exact_match(), row["exact"].as_f64().unwrap(), &row.to_string());
        near(pair.token_f1(), row["f1"].as_f64().unwrap(), &row.to_string());
    }
}

#[test]
fn excerpts_equal_trec_eval() {
    for row in lines(include_str!("../../tests/fixtures/score/trec.jsonl")) {
        let results = row["results"].as_array().unwrap();
        let results = results.iter().map(|pair| (pair[0].as_str().unwrap().to_owned(), pair[1].as_f64().unwrap() as f32)).collect();
        check_ranking(results, &strings(&row["relevant"]), &row["expected"], row["query"].as_str().unwrap());
    }
}

fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("RAGFT_TEST_DATA").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("RAGFT_TEST_DATA is not set: only excerpts are compared");
    }
    folder
}

fn read(folder: &std::path::Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn whole_files_equal_the_official_figures() {
    let Some(folder) = folder() else { return };
    let vectors = folder.join("scorer-vectors");
    check_normalisation(&lines(&read(&vectors, "normalisation/normalise.jsonl")));
    check_pairs(&lines(&read(&vectors, "pairs/pairs.jsonl")));
    check_rouge(&lines(&read(&vectors, "rouge/pairs.jsonl")));
}

/// Gold answers of a SQuAD file by question id.
fn gold(text: &str) -> BTreeMap<String, Vec<String>> {
    let root: Value = serde_json::from_str(text).unwrap();
    let mut gold = BTreeMap::new();
    for article in root["data"].as_array().unwrap() {
        for qa in article["paragraphs"].as_array().unwrap().iter().flat_map(|paragraph| paragraph["qas"].as_array().unwrap()) {
            let answers = qa["answers"].as_array().unwrap().iter().map(|answer| answer["text"].as_str().unwrap().to_owned()).collect();
            gold.insert(qa["id"].as_str().unwrap().to_owned(), answers);
        }
    }
    gold
}

#[test]
fn squad_predictions_score_as_the_official_scripts_say_question_by_question() {
    let Some(folder) = folder() else { return };
    for (gold_file, set, name, exact) in [
        ("xquad/xquad.en.json", "squad-v1.1", "bert-ensemble", "exact_match"),
        ("xquad/xquad.en.json", "squad-v1.1", "logistic-regression", "exact_match"),
        ("squad2-dev-a/squad2-dev-a.json", "squad-v2.0", "overlap-baseline", "exact"),
    ] {
        let gold = gold(&read(&folder, gold_file));
        let predictions: BTreeMap<String, String> =
            serde_json::from_str(&read(&folder, &format!("scorer-vectors/{set}/predictions.{name}.json"))).unwrap();
        let rows = lines(&read(&folder, &format!("scorer-vectors/{set}/per_question.{name}.jsonl")));
        assert_eq!(rows.len(), gold.len());
        let mut sum = [0.0; 2];
        for row in &rows {
            let id = row["id"].as_str().unwrap();
            let Some(prediction) = predictions.get(id) else {
                assert!(row[exact].is_null());
                continue;
            };
            let pair = Normalised::new(prediction, &gold[id]);
            near(pair.exact_match(), row[exact].as_f64().unwrap(), id);
            near(pair.token_f1(), row["f1"].as_f64().unwrap(), id);
            sum[0] += pair.exact_match();
            sum[1] += pair.token_f1();
        }
        let expected: Value = serde_json::from_str(&read(&folder, &format!("scorer-vectors/{set}/expected.json"))).unwrap();
        let expected = &expected["scores"][name];
        let expected = if expected["plain"].is_object() { &expected["plain"] } else { expected };
        for (sum, key) in sum.into_iter().zip([exact, "f1"]) {
            assert!((100.0 * sum / rows.len() as f64 - expected[key].as_f64().unwrap()).abs() < 1e-9, "{name} {key}");
        }
    }
}

/// Columns of a file whose fields are divided by blanks.
fn columns(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect())
}

fn qrels(text: &str) -> BTreeMap<&str, Vec<String>> {
    let mut relevant: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for row in columns(text).filter(|row| row[3].parse::<i32>().unwrap() > 0) {
        relevant.entry(row[0]).or_default().push(row[2].to_owned());
    }
    relevant
}

fn run(text: &str) -> BTreeMap<&str, Vec<(String, f32)>> {
    let mut results: BTreeMap<&str, Vec<(String, f32)>> = BTreeMap::new();
    for row in columns(text) {
        results.entry(row[0]).or_default().push((row[2].to_owned(), row[4].parse().unwrap()));
    }
    results
}

#[test]
fn whole_runs_equal_trec_eval_query_by_query() {
    let Some(folder) = folder() else { return };
    let trec = folder.join("scorer-vectors/trec");
    for set in ["xquad-bm25", "xquad-bm25-ties", "limit-small-bm25"] {
        let (qrels_text, run_text) = (read(&trec, &format!("{set}/qrels.txt")), read(&trec, &format!("{set}/run.txt")));
        let (relevant, results) = (qrels(&qrels_text), run(&run_text));
        let expected: BTreeMap<String, Value> = serde_json::from_str(&read(&trec, &format!("{set}/expected.full_precision.json"))).unwrap();
        assert!(expected.len() > 100);
        for (query, expected) in &expected {
            check_ranking(results[query.as_str()].clone(), &relevant[query.as_str()], expected, query);
        }
    }
}

#[test]
fn the_sample_run_of_trec_eval_scores_as_printed() {
    let Some(folder) = folder() else { return };
    let trec = folder.join("scorer-vectors/trec/trec_eval-sample");
    let (qrels_text, run_text) = (read(&trec, "qrels.test"), read(&trec, "results.test"));
    let (relevant, mut results) = (qrels(&qrels_text), run(&run_text));
    let printed = read(&trec, "expected.all_trec.-q.txt");
    let mut compared = 0;
    for row in columns(&printed).filter(|row| row[1] != "all") {
        let Some(results) = results.get_mut(row[1]) else { continue };
        trec_order(results);
        let ranked: Vec<&str> = results.iter().map(|(id, _)| id.as_str()).collect();
        let scores = score_ranking(&ranked, &relevant[row[1]], &[5, 10, 20, 100, 500]);
        let ours = match row[0].rsplit_once('_') {
            _ if row[0] == "map" => "map".to_owned(),
            _ if row[0] == "recip_rank" => "mrr".to_owned(),
            Some(("P", k)) => format!("precision_at_{k}"),
            Some(("recall", k)) => format!("recall_at_{k}"),
            Some(("success", k)) => format!("hit_at_{k}"),
            Some(("ndcg_cut", k)) => format!("ndcg_at_{k}"),
            _ => continue,
        };
        let Some(score) = scores.get(&ours) else { continue };
        assert_eq!(format!("{score:.4}"), row[2], "{} {}", row[1], row[0]);
        compared += 1;
    }
    assert!(compared > 50, "{compared} figures compared");
}
