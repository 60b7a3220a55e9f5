//! A run given to other tools, and read by the tools themselves where they are installed.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::sandbox::Sandbox;

/// A run that searches and is not trained: all that an export needs.
fn a_run() -> Sandbox {
    let sandbox = Sandbox::new();
    let settings = ["variants=[\"baseline\",\"rag\"]", "measure.latency_samples=3", "measure.noise_samples=0", "measure.audit_samples=0"];
    let set: Vec<&str> = settings.iter().flat_map(|setting| ["--set", *setting]).collect();
    sandbox.run(0, &[&["run", "-o", "run", "--quiet", "--limit", "60"], set.as_slice()].concat());
    sandbox
}

fn export(sandbox: &Sandbox, tool: &str) -> Vec<String> {
    let printed = sandbox.run(0, &["export", "run", "--to", tool, "-o", tool, "--organization", "us", "--json"]).out;
    let told: Value = serde_json::from_str(&printed).unwrap();
    told["files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap().to_owned()).collect()
}

/// Runs a script of a Python that the environment names; nothing where it names none.
fn python(variable: &str, sandbox: &Sandbox, script: &str, args: &[&str]) -> Option<String> {
    let Ok(python) = std::env::var(variable) else {
        eprintln!("skipped: {variable} is not set");
        return None;
    };
    let output = Command::new(python).current_dir(sandbox.path("")).args(["-c", script]).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

/// Scores of trec_eval, by the same code under Python.
const TREC: &str = "
import json, pytrec_eval
read = lambda path: [line.split() for line in open(path)]
qrel, run = {}, {}
for q, _, d, r in read('trec/qrels.txt'): qrel.setdefault(q, {})[d] = int(r)
for q, _, d, _, s, _ in read('trec/run.rag.txt'): run.setdefault(q, {})[d] = float(s)
found = pytrec_eval.RelevanceEvaluator(qrel, {'recall.4', 'recip_rank', 'ndcg_cut.4'}).evaluate(run)
mean = lambda name: sum(row[name] for row in found.values()) / len(qrel)
print(json.dumps({'recall_at_4': mean('recall_4'), 'mrr': mean('recip_rank'), 'ndcg_at_4': mean('ndcg_cut_4')}))
";

/// Every file against the published schemas; and the lm-evaluation-harness files through that project's own reader of them.
const SCHEMAS: &str = "
import json, sys, pathlib, jsonschema, importlib.util
home = pathlib.Path(importlib.util.find_spec('every_eval_ever').origin).parent
schema = lambda name: jsonschema.Draft7Validator(json.loads((home / 'schemas' / name).read_text()))
aggregate, instance = schema('eval.schema.json'), schema('instance_level_eval.schema.json')
count = 0
for path in pathlib.Path('every-eval-ever').rglob('*'):
    if path.suffix == '.json': aggregate.validate(json.loads(path.read_text())); count += 1
    if path.suffix == '.jsonl':
        for line in path.read_text().splitlines(): instance.validate(json.loads(line)); count += 1
print(count)
";

#[test]
fn the_tools_read_what_was_written_and_find_our_scores() {
    let sandbox = a_run();
    for (tool, files) in [("trec", 2), ("lm-eval", 4), ("every-eval-ever", 4), ("bencher", 1), ("hugging-face", 1)] {
        let written = export(&sandbox, tool);
        assert_eq!(written.len(), files, "{tool}: {written:?}");
        assert!(written.iter().all(|file| sandbox.path(file).is_file()), "{written:?}");
    }
    if let Some(printed) = python("RAGFT_OUT_PYTHON", &sandbox, TREC, &[]) {
        let theirs: Value = serde_json::from_str(&printed).unwrap();
        let ours = sandbox.run(0, &["run", "-o", "again", "--quiet", "--json", "--limit", "60", "--set", "variants=[\"rag\"]"]).out;
        let ours: Value = serde_json::from_str(&ours).unwrap();
        for metric in ["recall_at_4", "mrr", "ndcg_at_4"] {
            let is = |row: &&Value| row["metric"] == metric && row["slice"] == "all";
            let our = ours["quality"].as_array().unwrap().iter().find(is).unwrap()["point"].as_f64().unwrap();
            let their = theirs[metric].as_f64().unwrap();
            assert!((our - their).abs() < 1e-9, "{metric}: ours {our}, trec_eval's {their}");
        }
    }
    if let Some(printed) = python("RAGFT_OUT_PYTHON", &sandbox, SCHEMAS, &[]) {
        assert!(printed.trim().parse::<usize>().unwrap() > 2 * 60, "{printed}");
    }
}

#[test]
fn what_cannot_be_exported_is_said() {
    let sandbox = Sandbox::new();
    let refused = sandbox.run(2, &["export", "nothing", "--to", "trec"]).err;
    assert!(refused.contains("is not a run folder"), "{refused}");
    let sandbox = a_run();
    let refused = sandbox.run(2, &["export", "run", "--to", "mlflow"]).err;
    assert!(refused.contains("is not the address of an MLflow server"), "{refused}");
    let refused = sandbox.run(4, &["export", "run", "--to", "mlflow", "--uri", "http://127.0.0.1:9"]).err;
    assert!(refused.contains("the MLflow server at `http://127.0.0.1:9` did not find the experiment"), "{refused}");
}

/// A process that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // The server runs workers of its own, in its process group.
        let _ = Command::new("kill").arg("--").arg(format!("-{}", self.0.id())).status();
        let _ = self.0.wait();
    }
}

const READ_BACK: &str = "
import json, sys, mlflow
client = mlflow.MlflowClient(sys.argv[1])
experiment = client.get_experiment_by_name('tests of ragft')
runs = client.search_runs([experiment.experiment_id])
parent = next(run for run in runs if 'mlflow.parentRunId' not in run.data.tags)
children = {run.info.run_name: run for run in runs if 'mlflow.parentRunId' in run.data.tags}
print(json.dumps({
    'runs': len(runs),
    'status': sorted({run.info.status for run in runs}),
    'top_k': parent.data.params['retrieval.top_k'],
    'artifacts': sorted(file.path for file in client.list_artifacts(parent.info.run_id)),
    'difference': parent.data.metrics['rag-baseline/exact_match'],
    'rag': children['rag'].data.metrics,
    'parent': children['rag'].data.tags['mlflow.parentRunId'] == parent.info.run_id,
}))
";

/// `RAGFT_MLFLOW_PYTHON` names a Python with `mlflow`.
#[test]
#[cfg(unix)]
fn an_mlflow_server_has_the_run_once() {
    use std::os::unix::process::CommandExt as _;

    let Ok(mlflow) = std::env::var("RAGFT_MLFLOW_PYTHON") else { return eprintln!("skipped: RAGFT_MLFLOW_PYTHON is not set") };
    let sandbox = a_run();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut start = Command::new(mlflow);
    start.current_dir(sandbox.path("")).process_group(0).stdout(Stdio::null()).stderr(Stdio::null());
    start.args(["-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1", "--port", &port.to_string()]);
    start.args(["--backend-store-uri", "sqlite:///mlflow.db", "--artifacts-destination", "artifacts"]);
    let _server = Server(start.spawn().unwrap());
    let uri = format!("http://127.0.0.1:{port}");
    let send = || {
        let args = ["export", "run", "--to", "mlflow", "--uri", &uri, "--experiment", "tests of ragft", "--json"];
        let output = sandbox.command(&args).output().unwrap();
        (output.status.code() == Some(0)).then(|| serde_json::from_slice::<Value>(&output.stdout).unwrap())
    };
    let up = || {
        std::thread::sleep(Duration::from_secs(1));
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    };
    assert!((0..180).any(|_| up()), "the server does not start");
    let sent = (0..5).find_map(|_| send()).expect("the run is sent");
    assert_eq!((&sent["was_there"], sent["notes"].as_array().unwrap().len()), (&Value::Bool(false), 0), "{sent}");
    let again = send().unwrap();
    assert_eq!((&again["was_there"], &again["run"]), (&Value::Bool(true), &sent["run"]));

    let printed = python("RAGFT_MLFLOW_PYTHON", &sandbox, READ_BACK, &[&uri]).unwrap();
    let there: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    assert_eq!((there["runs"].as_u64().unwrap(), &there["parent"], &there["top_k"]), (3, &Value::Bool(true), &Value::from("4")), "{there}");
    assert_eq!(there["status"], serde_json::json!(["FINISHED"]));
    let artifacts = there["artifacts"].as_array().unwrap();
    assert!(artifacts.contains(&"report.html".into()) && artifacts.contains(&"tables".into()), "{there}");
    let quality = fs::read_to_string(sandbox.path("run/tables/quality.csv")).unwrap();
    let exact = point(&quality, "rag", "exact_match");
    assert!((there["rag"]["exact_match"].as_f64().unwrap() - exact).abs() < 1e-12, "{there}");
    let baseline = point(&quality, "baseline", "exact_match");
    assert!((there["difference"].as_f64().unwrap() - (exact - baseline)).abs() < 1e-9, "{there}");
    assert!(there["rag"]["e2e_p50_ms"].as_f64().unwrap() > 0.0 && Path::new(&sandbox.path("artifacts")).is_dir());
}

/// The point of a cell of `quality.csv`, over all questions.
fn point(csv: &str, variant: &str, metric: &str) -> f64 {
    let header: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    let column = |name: &str| header.iter().position(|column| *column == name).unwrap();
    let rows = csv.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
    let is = |row: &Vec<&str>| row[column("variant")] == variant && row[column("metric")] == metric && row[column("slice")] == "all";
    rows.into_iter().find(is).unwrap()[column("point")].parse().unwrap()
}
