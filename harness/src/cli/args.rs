//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::spec::{Override, PredictedName};

/// RAG, fine-tuning, or both, and at what cost? One experiment over one dataset, with evidence.
#[derive(Debug, Parser)]
#[command(name = "ragft", version, arg_required_else_help = true)]
pub struct Cli {
    /// Options of every verb.
    #[command(flatten)]
    pub global: Global,
    /// The verb.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every verb.
#[derive(Debug, Args)]
pub struct Global {
    /// Threads for everything; results do not depend on it [default: all cores]
    #[arg(long, global = true, env = "RAGFT_THREADS", value_name = "N")]
    pub threads: Option<usize>,
    /// Machine-readable output on stdout
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress on stderr
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run an experiment: without SPEC, the built-in quickstart
    Run(RunArgs),
    /// Make one run of its shards, with the result hash of the undivided run
    Merge(MergeArgs),
    /// Check a spec and say what would run, how many tokens, and about how long it takes
    Plan(PlanArgs),
    /// Make the tables, figures and reports of a run folder again
    Report(ReportArgs),
    /// Put runs side by side
    Compare(CompareArgs),
    /// Hold a candidate run against a reference run: exit 1 if something got worse
    Gate(GateArgs),
    /// Keep runs over time: trends, changes of level, flaky questions, the reference
    History(HistoryArgs),
    /// Answer some questions of a run again and compare byte by byte
    Verify(VerifyArgs),
    /// Give a run to another tool: lm-evaluation-harness, trec_eval, Every Eval Ever, MLflow, Bencher, the Hugging Face hub
    Export(ExportArgs),
    /// Show one question of a run: passages, prompts, every variant's answer and scores
    Show(ShowArgs),
    /// Check, convert or generate datasets
    Dataset(DatasetArgs),
    /// Inspect, pre-train or distil models
    Model(ModelArgs),
    /// Export training sets for other machines, or merge an adapter into its base
    Finetune(FinetuneArgs),
    /// Write a commented spec and a small dataset to replace by your own
    Init(InitArgs),
    /// Print shell completions
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write man pages
    Man {
        /// Folder for them
        #[arg(long, short, value_name = "DIR")]
        output: PathBuf,
    },
    /// Version, size and start-up time of this program
    About,
}

/// A spec and changes to it.
#[derive(Debug, Args)]
pub struct SpecArgs {
    /// Spec file; without it, the built-in quickstart
    pub spec: Option<PathBuf>,
    /// Change one setting, for example `--set finetune.rank=8`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<Override>,
    /// Test only N questions, drawn by the seed (the report is marked)
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Compare the answers of another system, a file with `{"id": .., "answer": ..}` per line; may be given for several
    #[arg(long, value_name = "NAME=FILE")]
    pub predictions: Vec<GivenFile>,
}

/// `--predictions NAME=FILE`
#[derive(Debug, Clone)]
pub struct GivenFile {
    /// The variant's name.
    pub name: PredictedName,
    /// Where its answers are.
    pub path: PathBuf,
}

impl std::str::FromStr for GivenFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, path)) if !path.trim().is_empty() => Ok(Self { name: name.trim().parse()?, path: path.trim().into() }),
            _ => Err("expected a name and a file, such as `vllm=answers.jsonl`".to_owned()),
        }
    }
}

/// `ragft run`
#[derive(Debug, Args)]
pub struct RunArgs {
    /// What to run.
    #[command(flatten)]
    pub spec: SpecArgs,
    /// Run folder: new or empty [default: runs/NAME]
    #[arg(long, short, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Go on with the interrupted run in the folder
    #[arg(long)]
    pub resume: bool,
    /// Answer only part I of N of the questions, to be merged; `auto/N` takes I from Slurm or Kubernetes, `auto` both from Slurm
    #[arg(long, value_name = "I/N")]
    pub shard: Option<String>,
    /// Take the finished adapters of this run folder in place of training
    #[arg(long, value_name = "DIR")]
    pub adapters_from: Option<PathBuf>,
    /// Stop when the adapters are trained: for `--adapters-from`, or to go on with `--resume`
    #[arg(long, conflicts_with = "adapters_from")]
    pub train_only: bool,
}

/// `ragft merge`
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// Folders of all shards of one run
    #[arg(required = true, num_args = 1..)]
    pub shards: Vec<PathBuf>,
    /// Run folder: new or empty
    #[arg(long, short, value_name = "DIR")]
    pub output: PathBuf,
}

/// `ragft plan`
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// What would run.
    #[command(flatten)]
    pub spec: SpecArgs,
    /// Say what it takes to show a difference of so many points (`3`, `3pp`)
    #[arg(long, value_name = "POINTS", value_parser = effect)]
    pub effect: Option<f64>,
    /// Say what a corpus of so many documents takes (`1e8`), part by part, and where a part goes that outgrows this machine
    #[arg(long, value_name = "N", value_parser = amount)]
    pub documents: Option<f64>,
    /// The same for so many test questions (`1e6`)
    #[arg(long, value_name = "N", value_parser = amount)]
    pub questions: Option<f64>,
    /// Assumed: points that the weaker variant scores
    #[arg(long, value_name = "POINTS", value_parser = points, default_value = "60")]
    pub base_rate: f64,
    /// Assumed: points of the questions that exactly one of two variants gets right
    #[arg(long, value_name = "POINTS", value_parser = points, default_value = "20")]
    pub discordance: f64,
    /// Assumed: correlation of differences within a cluster of questions
    #[arg(long, value_name = "RHO", value_parser = correlation, default_value = "0.1")]
    pub correlation: f64,
    /// Assumed: standard deviation between trainings, in points
    #[arg(long, value_name = "POINTS", value_parser = points, default_value = "1")]
    pub seed_deviation: f64,
}

/// Points of a score, as a number with or without `pp` or `%`.
fn points(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches("pp").trim_end_matches('%').trim();
    match number.parse::<f64>() {
        Ok(value) if (0.0..=100.0).contains(&value) => Ok(value / 100.0),
        _ => Err("expected points from 0 to 100, such as `3pp`".to_owned()),
    }
}

fn effect(text: &str) -> Result<f64, String> {
    points(text).and_then(|value| if value > 0.0 { Ok(value) } else { Err("expected more than 0 points".to_owned()) })
}

fn amount(text: &str) -> Result<f64, String> {
    match text.replace('_', "").parse::<f64>() {
        Ok(value) if (1.0..=1e15).contains(&value) => Ok(value.round()),
        _ => Err("expected a number from 1 on, such as `1e6`".to_owned()),
    }
}

fn correlation(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("expected 0 to 1".to_owned()),
    }
}

/// `ragft report`
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Run folder
    pub run: PathBuf,
    /// Claims to judge in place of the built-in ones; kept in the folder as `claims.toml`
    #[arg(long, value_name = "FILE")]
    pub claims: Option<PathBuf>,
}

/// `ragft compare`
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Run folders
    #[arg(required = true, num_args = 1..)]
    pub runs: Vec<PathBuf>,
}

/// `ragft gate`
#[derive(Debug, Args)]
pub struct GateArgs {
    /// Run folder under test
    #[arg(required_unless_present_any = ["aa", "print_policy"], requires = "against")]
    pub candidate: Option<PathBuf>,
    /// Run folder to hold it against, or a history with a blessed run
    #[arg(long, value_name = "REFERENCE")]
    pub against: Option<PathBuf>,
    /// What is tested and what may get worse [default: the one that `--print-policy` shows]
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Write JUnit XML
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Write SARIF 2.1.0
    #[arg(long, value_name = "FILE")]
    pub sarif: Option<PathBuf>,
    /// Append Markdown, for example to `$GITHUB_STEP_SUMMARY`
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
    /// Write the candidate's figures in Bencher Metric Format
    #[arg(long, value_name = "FILE")]
    pub bmf: Option<PathBuf>,
    /// Print GitHub's `::error` and `::warning` lines
    #[arg(long)]
    pub annotations: bool,
    /// Instead: how often the policy raises a false alarm, over simulated pairs from this run (exit 1 if more often than `alpha`)
    #[arg(long, value_name = "REFERENCE", conflicts_with_all = ["candidate", "against"])]
    pub aa: Option<PathBuf>,
    /// Simulated pairs
    #[arg(long, value_name = "N", default_value_t = 400, requires = "aa")]
    pub pairs: usize,
    /// Share of clusters whose answers luck changes in a simulated pair
    #[arg(long, value_name = "SHARE", default_value_t = 0.3, requires = "aa")]
    pub changed: f64,
    /// Loss in points that is planted to measure the power; 0 measures none
    #[arg(long, value_name = "POINTS", default_value_t = 5.0, requires = "aa")]
    pub effect: f64,
    /// Seed of the simulation
    #[arg(long, value_name = "SEED", default_value_t = 1, requires = "aa")]
    pub seed: u64,
    /// Print every setting of a policy with its default
    #[arg(long)]
    pub print_policy: bool,
}

/// `ragft history`
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: HistoryVerb,
}

/// Verbs of `ragft history`.
#[derive(Debug, Subcommand)]
pub enum HistoryVerb {
    /// Add a finished run
    Add {
        /// History folder: new or with runs in it
        dir: PathBuf,
        /// Run folder
        run: PathBuf,
    },
    /// Show one figure over all runs: changes of level, flaky questions, and a plot in the folder
    Trend {
        /// History folder
        dir: PathBuf,
        /// For example `recall_at_4`, `prompt_tokens`, `e2e_p50_calibrated` [default: the metric that leads the report]
        #[arg(long, value_name = "METRIC")]
        metric: Option<String>,
        /// For example `knowledge=fresh` [default: all questions]
        #[arg(long, value_name = "SLICE")]
        slice: Option<String>,
    },
    /// Make a run of the history the reference of `ragft gate --against DIR`
    Bless {
        /// History folder
        dir: PathBuf,
        /// Run folder
        run: PathBuf,
    },
}

/// `ragft verify`
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Run folder
    pub run: PathBuf,
    /// Questions per variant and training seed
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub questions: usize,
    /// Names the sample of questions
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub seed: u64,
    /// Folder that the relative paths of the run's spec start from [default: here]
    #[arg(long, value_name = "DIR")]
    pub base: Option<PathBuf>,
}

/// `ragft export`
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Run folder
    pub run: PathBuf,
    /// The other tool
    #[arg(long, value_enum, value_name = "TOOL")]
    pub to: ExportForm,
    /// Folder for the files [default: RUN/exports/TOOL]; `s3://BUCKET/PREFIX` for `s3`, whose credentials, region and endpoint are read from the
    /// `AWS_` variables
    #[arg(long, short, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Name of the model to others [default: made from its path]
    #[arg(long, value_name = "OWNER/NAME")]
    pub model_id: Option<String>,
    /// Who ran the evaluation, for Every Eval Ever
    #[arg(long, value_name = "NAME")]
    pub organization: Option<String>,
    /// Address of the MLflow server; a token is read from `MLFLOW_TRACKING_TOKEN`
    #[arg(long, env = "MLFLOW_TRACKING_URI", value_name = "URL")]
    pub uri: Option<String>,
    /// Experiment of the MLflow server
    #[arg(long, env = "MLFLOW_EXPERIMENT_NAME", value_name = "NAME", default_value = "ragft")]
    pub experiment: String,
}

/// Tools that a run can be given to.
/// Size of a generated world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum WorldSize {
    /// For tests.
    Tiny,
    /// The built-in set.
    Standard,
    /// For scale.
    Large,
}

impl From<WorldSize> for crate::dataset::world::Size {
    fn from(size: WorldSize) -> Self {
        match size {
            WorldSize::Tiny => Self::Tiny,
            WorldSize::Standard => Self::Standard,
            WorldSize::Large => Self::Large,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ExportForm {
    /// `results_*.json` and `samples_*.jsonl` of lm-evaluation-harness
    LmEval,
    /// Runs and qrels of trec_eval
    Trec,
    /// Every Eval Ever's aggregate and instance files
    EveryEvalEver,
    /// A tracking server of MLflow
    Mlflow,
    /// Bencher Metric Format
    Bencher,
    /// The `model-index` of a model card
    HuggingFace,
    /// Tables as Parquet and the manifest, in a bucket of AWS, MinIO, R2 and the like
    S3,
}

impl ExportForm {
    /// As typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::LmEval => "lm-eval",
            Self::Trec => "trec",
            Self::EveryEvalEver => "every-eval-ever",
            Self::Mlflow => "mlflow",
            Self::Bencher => "bencher",
            Self::HuggingFace => "hugging-face",
            Self::S3 => "s3",
        }
    }
}

/// `ragft show`
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Run folder
    pub run: PathBuf,
    /// Id of the question; without it, the ids are listed
    #[arg(long, value_name = "ID")]
    pub sample: Option<String>,
    /// Print the whole prompt of every variant
    #[arg(long)]
    pub prompts: bool,
}

/// `ragft dataset`
#[derive(Debug, Args)]
pub struct DatasetArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: DatasetVerb,
}

/// Verbs of `ragft dataset`.
#[derive(Debug, Subcommand)]
pub enum DatasetVerb {
    /// List everything that is wrong with a dataset, what its splits and corpus share, and its figures
    Check(DatasetSource),
    /// Counts, lengths, slices and clusters of a dataset, and how many questions show a 5-point difference
    Stats(DatasetSource),
    /// Write a dataset in the native form
    Convert {
        /// What to read.
        #[command(flatten)]
        source: DatasetSource,
        /// New folder
        #[arg(long, short, value_name = "DIR")]
        output: PathBuf,
    },
    /// Generate the fact world
    World {
        /// Seed of everything in it
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// tiny: 70 documents; standard: the built-in set; large: 100,000 documents
        #[arg(long, default_value = "standard")]
        size: WorldSize,
        /// New folder
        #[arg(long, short, value_name = "DIR")]
        output: PathBuf,
    },
}

/// A dataset as a folder or file, or as the `[dataset]` section of a spec.
#[derive(Debug, Args)]
pub struct DatasetSource {
    /// Folder or file; `builtin` is the quickstart's
    pub path: PathBuf,
    /// Change one setting, for example `--set dataset.columns.references=answer`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<Override>,
    /// Take the `[dataset]` section from this spec
    #[arg(long, value_name = "FILE")]
    pub spec: Option<PathBuf>,
}

/// `ragft model`
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: ModelVerb,
}

/// Verbs of `ragft model`.
#[derive(Debug, Subcommand)]
pub enum ModelVerb {
    /// Architecture, size, context and hashes of a model folder
    Inspect {
        /// Hugging Face folder, GGUF file, `hub:owner/name`, or `builtin`
        path: PathBuf,
    },
    /// Pre-train the reference model from a spec
    Pretrain {
        /// Spec file, for example `specs/pretrain.toml`
        spec: PathBuf,
        /// Folder of the model; checkpoints stand beside it, and a second call goes on
        #[arg(long, short, value_name = "DIR")]
        output: PathBuf,
    },
    /// Distil static token vectors from a sentence-transformers folder
    Distill {
        /// Sentence-transformers folder
        path: PathBuf,
        /// New folder
        #[arg(long, short, value_name = "DIR")]
        output: PathBuf,
    },
}

/// `ragft finetune`
#[derive(Debug, Args)]
pub struct FinetuneArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: FinetuneVerb,
}

/// Verbs of `ragft finetune`.
#[derive(Debug, Subcommand)]
pub enum FinetuneVerb {
    /// Write the training sets of a spec or run as JSONL, with a script that trains on them; the adapter comes back by its path
    Export {
        /// Spec file or run folder.
        #[command(flatten)]
        source: SpecArgs,
        /// Folder that the relative paths of a run's spec start from [default: here; a spec's start at its own folder]
        #[arg(long, value_name = "DIR")]
        base: Option<PathBuf>,
        /// New folder
        #[arg(long, short, value_name = "DIR")]
        output: PathBuf,
    },
    /// Write a model with an adapter merged into its weights
    Merge {
        /// Hugging Face folder, GGUF file, `hub:owner/name`, or `builtin`
        model: PathBuf,
        /// PEFT folder
        adapter: PathBuf,
        /// New folder
        #[arg(long, short, value_name = "DIR")]
        output: PathBuf,
        /// f32, f16 or bf16
        #[arg(long, default_value = "f32")]
        dtype: String,
    },
}

/// `ragft init`
#[derive(Debug, Args)]
pub struct InitArgs {
    /// New folder
    #[arg(required_unless_present_any = ["print", "schema"])]
    pub dir: Option<PathBuf>,
    /// Print every setting with its default, and write nothing
    #[arg(long)]
    pub print: bool,
    /// Print the JSON schema of a spec, and write nothing
    #[arg(long)]
    pub schema: bool,
}
