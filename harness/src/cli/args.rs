//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::spec::Override;

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
    /// Check a spec and say what would run, how many tokens, and about how long it takes
    Plan(PlanArgs),
    /// Make the tables, figures and reports of a run folder again
    Report(FolderArgs),
    /// Put runs side by side
    Compare(CompareArgs),
    /// Show one question of a run: passages, prompts, every variant's answer and scores
    Show(ShowArgs),
    /// Check, convert or generate datasets
    Dataset(DatasetArgs),
    /// Inspect, pre-train or distil models
    Model(ModelArgs),
    /// Write a commented spec and a small dataset to replace by your own
    Init(InitArgs),
    /// Print shell completions
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
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
}

/// `ragft plan`
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// What would run.
    #[command(flatten)]
    pub spec: SpecArgs,
}

/// A run folder.
#[derive(Debug, Args)]
pub struct FolderArgs {
    /// Run folder
    pub run: PathBuf,
}

/// `ragft compare`
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Run folders
    #[arg(required = true, num_args = 1..)]
    pub runs: Vec<PathBuf>,
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
        /// Hugging Face folder, or `builtin`
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
