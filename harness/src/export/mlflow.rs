//! A run on an MLflow tracking server, through its REST interface: a parent run with the settings, and within it a run per variant with its
//! figures, its training curve and, at the parent, the reports and tables. Beside
//! [`super::s3`] the one place of this module that names a network.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::source::{Names, Source};
use super::{ExportError, percent_encoded};
use crate::cost::Ledger;
use crate::spec::VariantKind;
use crate::stats::Estimate;
use crate::store::RunFolder;
use crate::table::ALL;

/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_mins(1);
/// What the server takes in one `log-batch`.
const METRICS_AT_ONCE: usize = 1000;
const PARAMS_AT_ONCE: usize = 100;
/// Longer values are cut: servers before 2.8 refuse more.
const PARAM_LENGTH: usize = 500;
/// Marks a run that is on the server whole.
const MARK: &str = "ragft.exported";

/// Where a run is sent.
#[derive(Debug, Clone)]
pub struct Server {
    /// Address, without a slash at its end.
    pub uri: String,
    /// Name of the experiment; it is made if it is not there.
    pub experiment: String,
    /// `Authorization: Bearer`; from the environment only, and never written anywhere.
    pub token: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Id of the parent run.
    pub run: String,
    /// It was on the server already.
    pub was_there: bool,
    /// What a reader must know, in words.
    pub notes: Vec<String>,
}

/// Sends a run, once: one that is there whole is left as it is.
pub fn send(source: &Source, names: &Names, server: &Server) -> Result<Sent, ExportError> {
    let client = Client::new(server);
    let experiment = client.experiment()?;
    let mark = source.manifest().result_hash.clone().unwrap_or_default();
    if let Some(run) = client.find(&experiment, &mark)? {
        return Ok(Sent { run, was_there: true, notes: Vec::new() });
    }
    let start = source.started_at() * 1000;
    let parent = client.create(&experiment, &source.manifest().spec.name, start, tags(source, names, None))?;
    client.log(&parent.id, params(source), contrasts(source, start))?;
    let ledger = Ledger::of(&source.tables);
    for variant in source.tables.variants() {
        let mut tags = tags(source, names, Some(variant));
        tags.push(("mlflow.parentRunId", parent.id.clone()));
        let run = client.create(&experiment, variant.name(), start, tags)?;
        client.log(&run.id, Vec::new(), figures(source, &ledger, variant, start))?;
        client.finish(&run.id, start + duration_ms(source))?;
    }
    let notes = client.upload(&parent, &source.folder)?;
    client.tag(&parent.id, MARK, &mark)?;
    client.finish(&parent.id, start + duration_ms(source))?;
    Ok(Sent { run: parent.id, was_there: false, notes })
}

fn duration_ms(source: &Source) -> i64 {
    (1000.0 * source.manifest().phases.iter().map(|phase| phase.seconds).sum::<f64>()) as i64
}

fn tags(source: &Source, names: &Names, variant: Option<VariantKind>) -> Vec<(&'static str, String)> {
    let manifest = source.manifest();
    let mut tags = vec![
        ("mlflow.source.name", "ragft".to_owned()),
        ("ragft.version", manifest.crate_version.clone()),
        ("ragft.run_id", manifest.run_id.clone()),
        ("ragft.result_hash", manifest.result_hash.clone().unwrap_or_default()),
        ("ragft.model", variant.map_or_else(|| names.model(manifest), |variant| names.system(manifest, variant))),
    ];
    tags.extend(manifest.git_commit.clone().map(|commit| ("mlflow.source.git.commit", commit)));
    tags.extend(variant.map(|variant| ("ragft.variant", variant.name().to_owned())));
    tags
}

/// Every setting, by its dotted name.
fn params(source: &Source) -> Vec<(String, String)> {
    fn walk(prefix: &str, value: &Value, out: &mut Vec<(String, String)>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    walk(&if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") }, value, out);
                }
            }
            Value::String(text) => out.push((prefix.to_owned(), text.clone())),
            other => out.push((prefix.to_owned(), other.to_string())),
        }
    }
    let mut settings = Vec::new();
    walk("", &serde_json::to_value(&source.manifest().spec).expect("a spec is plain data"), &mut settings);
    settings.into_iter().map(|(key, value)| (key, value.chars().take(PARAM_LENGTH).collect())).collect()
}

/// A value at a step.
struct Figure {
    key: String,
    value: f64,
    timestamp: i64,
    step: u64,
}

/// Of the characters that MLflow takes in a name.
fn key(parts: &[&str]) -> String {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || "_-. :/".contains(c);
    parts
        .join("/")
        .chars()
        .map(|c| {
            if is_fit(c) {
                c
            } else if c == '=' {
                ':'
            } else {
                '_'
            }
        })
        .collect()
}

fn contrasts(source: &Source, timestamp: i64) -> Vec<Figure> {
    let rows = source.tables.contrasts.iter().filter(|row| row.slice == ALL);
    let figure = |row: &crate::table::ContrastRow| {
        let value = row.difference.point;
        Figure { key: key(&[&format!("{}-{}", row.left, row.right), &row.metric.id]), value, timestamp, step: 0 }
    };
    let mut figures: Vec<Figure> = rows.map(figure).collect();
    // The interaction stands there on two scales; the first, in points, counts.
    let mut seen = std::collections::BTreeSet::new();
    figures.retain(|figure| seen.insert(figure.key.clone()));
    figures
}

/// Scores with intervals, times, costs, and the training curve of a tuned variant.
fn figures(source: &Source, ledger: &Ledger, variant: VariantKind, timestamp: i64) -> Vec<Figure> {
    let mut figures = Vec::new();
    let mut add = |parts: &[&str], value: f64, step: u64| figures.push(Figure { key: key(parts), value, timestamp, step });
    for row in source.tables.quality.iter().filter(|row| row.variant == variant) {
        for (suffix, value) in [("", row.estimate.point), ("_ci_low", row.estimate.ci_low), ("_ci_high", row.estimate.ci_high)] {
            let name = format!("{}{suffix}", row.metric.id);
            if row.slice == ALL { add(&[&name], value, 0) } else { add(&[&name, &row.slice], value, 0) }
        }
    }
    for row in source.tables.latency.iter().filter(|row| row.variant == variant) {
        let stage = row.stage.name();
        let point = |estimate: Option<Estimate>| estimate.map(|estimate| estimate.point);
        let percentiles = [("p50", Some(row.p50.point)), ("p90", point(row.p90)), ("p95", point(row.p95)), ("p99", point(row.p99))];
        add(&[&format!("{stage}_mean_ms")], row.mean.point, 0);
        for (name, value) in percentiles.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            add(&[&format!("{stage}_{name}_ms")], value, 0);
        }
    }
    for row in ledger.rows.iter().filter(|row| row.variant == variant) {
        add(&["cost", row.phase.name(), &row.quantity], row.value, 0);
    }
    let spec = &source.manifest().spec;
    let trained = source
        .manifest()
        .training
        .iter()
        .find(|record| record.seed == spec.seeds[0] && record.variants.iter().any(|name| name == variant.name()));
    let adapter = trained.and_then(|record| record.adapter.rsplit_once("-seed")).map(|(name, _)| name);
    for row in source.tables.data.training.iter().filter(|row| Some(row.variant.as_str()) == adapter && row.seed == spec.seeds[0]) {
        add(&["train_loss"], row.train_loss, row.step);
        if let Some(loss) = row.eval_loss {
            add(&["eval_loss"], loss, row.step);
        }
    }
    figures
}

/// A run on the server.
struct Created {
    id: String,
    artifacts: String,
}

struct Client<'a> {
    server: &'a Server,
    agent: ureq::Agent,
}

impl<'a> Client<'a> {
    fn new(server: &'a Server) -> Self {
        let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false).build();
        Self { server, agent: config.into() }
    }

    fn failed(&self, action: &'static str, problem: impl ToString) -> ExportError {
        ExportError::Server { uri: self.server.uri.clone(), action, problem: problem.to_string() }
    }

    /// Status and body of a call; a POST with a body, a GET without.
    fn call(&self, action: &'static str, path: &str, body: Option<&Value>) -> Result<(u16, Value), ExportError> {
        let url = format!("{}/api/2.0/mlflow/{path}", self.server.uri);
        let answer = match body {
            Some(body) => self.authorized(self.agent.post(&url)).header("Content-Type", "application/json").send(body.to_string()),
            None => self.authorized(self.agent.get(&url)).call(),
        };
        let mut answer = answer.map_err(|error| self.failed(action, error))?;
        let text = answer.body_mut().read_to_string().map_err(|error| self.failed(action, error))?;
        let shown = || text.chars().take(200).collect::<String>();
        let status = answer.status().as_u16();
        match serde_json::from_str(&text) {
            Ok(value) => Ok((status, value)),
            Err(_) => Err(self.failed(action, format!("status {status}, and an answer that is not JSON: {}", shown()))),
        }
    }

    fn authorized<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.server.token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    /// The body of a call that must succeed.
    fn ask(&self, action: &'static str, path: &str, body: &Value) -> Result<Value, ExportError> {
        match self.call(action, path, Some(body))? {
            (200, answer) => Ok(answer),
            (status, answer) => {
                Err(self.failed(action, format!("status {status}: {}", answer["message"].as_str().unwrap_or("no reason given"))))
            }
        }
    }

    /// Id of the experiment, which is made if it is not there.
    fn experiment(&self) -> Result<String, ExportError> {
        const ACTION: &str = "find the experiment";
        let name = percent_encoded(&self.server.experiment);
        match self.call(ACTION, &format!("experiments/get-by-name?experiment_name={name}"), None)? {
            (200, answer) => self.text(ACTION, &answer["experiment"]["experiment_id"]),
            (404, _) => {
                let made = self.ask("make the experiment", "experiments/create", &json!({ "name": self.server.experiment }))?;
                self.text(ACTION, &made["experiment_id"])
            }
            (status, answer) => {
                Err(self.failed(ACTION, format!("status {status}: {}", answer["message"].as_str().unwrap_or("no reason given"))))
            }
        }
    }

    fn text(&self, action: &'static str, value: &Value) -> Result<String, ExportError> {
        value.as_str().map(str::to_owned).ok_or_else(|| self.failed(action, "its answer lacks the id"))
    }

    /// The run that carries this mark.
    fn find(&self, experiment: &str, mark: &str) -> Result<Option<String>, ExportError> {
        let filter = format!("tags.`{MARK}` = '{mark}'");
        let body = json!({ "experiment_ids": [experiment], "filter": filter, "max_results": 1 });
        let answer = self.ask("search runs", "runs/search", &body)?;
        Ok(answer["runs"][0]["info"]["run_id"].as_str().map(str::to_owned))
    }

    fn create(&self, experiment: &str, name: &str, start: i64, tags: Vec<(&str, String)>) -> Result<Created, ExportError> {
        let tags: Vec<Value> = tags.into_iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
        let body = json!({ "experiment_id": experiment, "run_name": name, "start_time": start, "tags": tags });
        let answer = self.ask("make a run", "runs/create", &body)?;
        let info = &answer["run"]["info"];
        Ok(Created {
            id: self.text("make a run", &info["run_id"])?,
            artifacts: info["artifact_uri"].as_str().unwrap_or_default().to_owned(),
        })
    }

    fn log(&self, run: &str, params: Vec<(String, String)>, figures: Vec<Figure>) -> Result<(), ExportError> {
        for some in params.chunks(PARAMS_AT_ONCE) {
            let params: Vec<Value> = some.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
            self.ask("log settings", "runs/log-batch", &json!({ "run_id": run, "params": params }))?;
        }
        for some in figures.chunks(METRICS_AT_ONCE) {
            let metric =
                |figure: &Figure| json!({ "key": figure.key, "value": figure.value, "timestamp": figure.timestamp, "step": figure.step });
            let metrics: Vec<Value> = some.iter().filter(|figure| figure.value.is_finite()).map(metric).collect();
            self.ask("log figures", "runs/log-batch", &json!({ "run_id": run, "metrics": metrics }))?;
        }
        Ok(())
    }

    fn tag(&self, run: &str, key: &str, value: &str) -> Result<(), ExportError> {
        self.ask("tag the run", "runs/set-tag", &json!({ "run_id": run, "key": key, "value": value })).map(drop)
    }

    fn finish(&self, run: &str, end: i64) -> Result<(), ExportError> {
        self.ask("finish the run", "runs/update", &json!({ "run_id": run, "status": "FINISHED", "end_time": end })).map(drop)
    }

    /// Reports and small tables, where the server passes artifacts on; elsewhere a note.
    fn upload(&self, run: &Created, folder: &Path) -> Result<Vec<String>, ExportError> {
        const ACTION: &str = "take an artifact";
        let Some(place) = run.artifacts.strip_prefix("mlflow-artifacts:") else {
            let note = format!("reports were not uploaded: the server keeps artifacts at `{}` and does not pass them on", run.artifacts);
            return Ok(vec![note]);
        };
        for name in artifacts(folder) {
            let bytes = std::fs::read(folder.join(&name)).map_err(|error| self.failed(ACTION, error))?;
            let url = format!("{}/api/2.0/mlflow-artifacts/artifacts/{}/{name}", self.server.uri, place.trim_matches('/'));
            let answer = self.authorized(self.agent.put(&url)).send(&bytes[..]).map_err(|error| self.failed(ACTION, error))?;
            if !answer.status().is_success() {
                return Err(self.failed(ACTION, format!("status {} for {name}", answer.status().as_u16())));
            }
        }
        Ok(Vec::new())
    }
}

/// Files of a run folder that people look at, as far as they are there.
fn artifacts(folder: &Path) -> Vec<String> {
    let manifest = RunFolder::at(folder).manifest();
    let mut names = vec!["report.html".to_owned(), "report.md".to_owned()];
    names.extend(manifest.file_name().map(|name| name.to_string_lossy().into_owned()));
    let tables = std::fs::read_dir(folder.join("tables")).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut tables: Vec<PathBuf> = tables.filter(|path| path.extension().is_some_and(|extension| extension == "csv")).collect();
    tables.sort();
    names.extend(tables.iter().filter_map(|path| Some(format!("tables/{}", path.file_name()?.to_string_lossy()))));
    names.retain(|name| folder.join(name).is_file());
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_hold_what_the_server_takes() {
        assert_eq!(key(&["exact_match", "knowledge=fresh"]), "exact_match/knowledge:fresh");
        assert_eq!(key(&["Größe+1"]), "Gr__e_1");
        assert_eq!(percent_encoded("my runs/ä"), "my%20runs%2F%C3%A4");
    }

    #[test]
    fn an_address_where_nobody_answers_is_named() {
        let server = Server { uri: "http://127.0.0.1:9".to_owned(), experiment: "e".to_owned(), token: None };
        let error = Client::new(&server).experiment().unwrap_err().to_string();
        assert!(error.contains("`http://127.0.0.1:9` did not find the experiment"), "{error}");
    }
}
