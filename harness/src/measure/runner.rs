//! The run: load, index, train, accuracy, latency; each phase resumable, each answer a journal row.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::accuracy::{AnswerCache, Prompts};
use super::bench::Bench;
use super::contention::Contention;
use super::energy::EnergyMeter;
use super::events::{Listener, RunEvent};
use super::hash::result_hash;
use super::plan::{PlanError, RunPlan, adapter_name};
use super::source::Model;
use super::training::{self, Adapters};
use super::{accuracy, audit, calibration, counters, latency, noise, offline, predicted, served, server};
use crate::clock::Stopwatch;
use crate::diagnostic::{Blame, Hint};
use crate::finetune::{TrainingError, TunedWeights};
use crate::lm::ModelError;
use crate::lm::local::LocalModel;
use crate::lm::remote::{RemoteError, Usage};
use crate::retrieval::{IndexFigures, RetrievalError, Retriever};
use crate::spec::{DeviceName, VariantKind};
use crate::store::journal::Journal;
use crate::store::manifest::{DatasetRecord, IndexRecord, Manifest, ModelRecord, PhaseRecord};
use crate::store::row::{JournalRow, Phase};
use crate::store::{RunFolder, StoreError, write_jsonl};
use crate::variant::prompt::PromptError;

/// Why a run did not end with results.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The request.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The folder's run was started with something else.
    #[error("the run in `{folder}` was started with other inputs:{}", .differences.iter().map(|line| format!("\n  {line}")).collect::<String>())]
    Changed {
        /// The folder.
        folder: String,
        /// What is not as it was.
        differences: Vec<String>,
    },
    /// Loading or generating.
    #[error("the model failed")]
    Model(#[from] ModelError),
    /// Embedding or searching.
    #[error("retrieval failed")]
    Retrieval(#[source] Box<RetrievalError>),
    /// The folder that adapters are taken from does not have one.
    #[error("`{path}` holds no finished adapter")]
    NoAdapter {
        /// The folder.
        path: String,
    },
    /// Training.
    #[error("fine-tuning failed")]
    Training(#[source] Box<TrainingError>),
    /// Building a prompt.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// The interrupt flag was set; everything so far is in the folder.
    #[error("interrupted")]
    Interrupted,
}

impl RunError {
    pub(super) fn retrieval(error: RetrievalError) -> Self {
        Self::Retrieval(Box::new(error))
    }

    /// What the row of a question says that failed like this; or the error itself, where every other question would fail as well.
    pub(super) fn of_one(self) -> Result<String, Self> {
        match &self {
            Self::Model(error) if error.stops().is_none() => Ok(accuracy::chain(error)),
            Self::Retrieval(error) if error.stops().is_none() => Ok(accuracy::chain(&**error)),
            Self::Prompt(error) => Ok(accuracy::chain(error)),
            _ => Err(self),
        }
    }

    /// Where the user has stopped it, whatever a server said last is no failure.
    pub(super) fn or_interrupted(self, interrupt: &AtomicBool) -> Self {
        let is_servers = match &self {
            Self::Model(error) => error.stops().is_some(),
            Self::Retrieval(error) => error.stops().is_some(),
            _ => false,
        };
        if is_servers && interrupt.load(Ordering::Relaxed) { Self::Interrupted } else { self }
    }

    /// The user stopped it.
    pub fn is_interrupted(&self) -> bool {
        match self {
            Self::Interrupted => true,
            Self::Plan(error) => error.is_interrupted(),
            Self::Model(error) => error.stops() == Some(&RemoteError::Interrupted),
            Self::Retrieval(error) => error.stops() == Some(&RemoteError::Interrupted),
            _ => false,
        }
    }

    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Plan(error) => error.blame(),
            Self::Changed { .. } | Self::NoAdapter { .. } | Self::Store(StoreError::NotEmpty { .. } | StoreError::NotARun { .. }) => {
                Blame::Request
            }
            _ => Blame::Runtime,
        }
    }
}

impl Hint for RunError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Plan(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Changed { .. } => Some("undo the change, or start a new run in another folder".into()),
            Self::Model(error) => error.hint(),
            Self::Retrieval(error) => error.hint(),
            Self::NoAdapter { .. } => Some("train there first: the same command with `--train-only` and no `--adapters-from`".into()),
            Self::Training(error) => error.hint(),
            Self::Prompt(error) => error.hint(),
            Self::Interrupted => None,
        }
    }
}

/// What a run needs beside its plan.
pub struct RunRequest<'a> {
    /// Checked.
    pub plan: &'a RunPlan,
    /// Where the run goes.
    pub output: &'a Path,
    /// Go on with the run in `output`.
    pub resume: bool,
    /// UTC, ISO 8601: written into the manifest of a new run.
    pub started_at: String,
    /// Commit of the working directory, if known.
    pub git_commit: Option<String>,
    /// Run folder whose finished adapters are taken in place of training.
    pub adapters_from: Option<&'a Path>,
    /// Stop when the adapters are trained.
    pub train_only: bool,
    /// Set from outside to stop at the next safe point.
    pub interrupt: &'a AtomicBool,
}

/// Times a phase and adds it to the manifest.
fn phase<T>(manifest: &mut Manifest, name: &str, work: impl FnOnce() -> Result<T, RunError>) -> Result<T, RunError> {
    let meter = EnergyMeter::of_machine();
    let (watch, cpu, energy) = (Stopwatch::start(), counters::cpu_seconds(), meter.read());
    let result = work();
    let energy_joules = energy.and_then(|before| meter.joules_since(&before));
    let (seconds, cpu_seconds) = (watch.elapsed().as_secs_f64(), counters::cpu_seconds() - cpu);
    let peak_memory_bytes = counters::peak_memory_bytes();
    if let Some(record) = manifest.phases.iter_mut().find(|record| record.name == name) {
        record.seconds += seconds;
        record.cpu_seconds += cpu_seconds;
        record.peak_memory_bytes = record.peak_memory_bytes.max(peak_memory_bytes);
        // A stretch that was not measured leaves no sum.
        record.energy_joules = record.energy_joules.zip(energy_joules).map(|(before, now)| before + now);
    } else {
        let name = name.to_owned();
        manifest.phases.push(PhaseRecord { name, seconds, cpu_seconds, peak_memory_bytes, energy_joules, overhead_seconds: None });
    }
    result
}

/// Carries out a plan, from the beginning or from where it was interrupted. The folder's tables and report are not made here.
///
/// # Errors
/// [`RunError::Interrupted`] when the flag was set: the same request with `resume` goes on.
pub fn run(request: &RunRequest, listener: &mut Listener) -> Result<Manifest, RunError> {
    let plan = request.plan;
    let folder = open_folder(request)?;
    let (mut journal, mut rows) = Journal::<JournalRow>::open(&folder.journal())?;
    let mut manifest = if folder.manifest().is_file() { folder.read_manifest()? } else { new_manifest(request) };
    // A server may have moved since the run began; where it is now is where the run can be verified.
    manifest.spec.model.endpoint = plan.spec.model.endpoint.clone();
    manifest.spec.retrieval.endpoint = plan.spec.retrieval.endpoint.clone();
    folder.write_manifest(&manifest)?;
    write_jsonl(&folder.samples(), &plan.dataset.test)?;

    if let Some(share) = &plan.share {
        share.write(&folder)?;
    }

    if let Some(model) = plan.model.served() {
        model.budget().begin_with(spent_before(&manifest, &rows));
    }
    plan.embedder_budget.begin_with(Usage { prompt_tokens: manifest.embedder_tokens.unwrap_or(0), completion_tokens: 0 });
    let before = manifest.model.served.clone();
    let outcome = measure(request, &folder, &mut manifest, &mut journal, &mut rows, listener);
    let outcome = outcome.map_err(|error| error.or_interrupted(request.interrupt));
    if let Some(model) = plan.model.served() {
        manifest.model.served = Some(served::record(model, &plan.spec.model.endpoint, before.as_ref()));
    }
    manifest.embedder_tokens = served::embedder_tokens(plan);
    if matches!(outcome, Ok(Reached::End)) {
        manifest.result_hash = Some(result_hash(&rows));
    }
    folder.write_manifest(&manifest)?;
    outcome.map(|_| manifest)
}

/// What the run's earlier stretches spent: what the manifest says, or the rows, if the run was killed before it was written.
fn spent_before(manifest: &Manifest, rows: &[JournalRow]) -> Usage {
    let noted = manifest.model.served.as_ref();
    let noted = noted
        .map_or_else(Usage::default, |served| Usage { prompt_tokens: served.prompt_tokens, completion_tokens: served.completion_tokens });
    let own = rows.iter().filter(|row| manifest.spec.variants.iter().any(|variant| variant.name() == row.variant));
    let told = own.fold(Usage::default(), |sum, row| Usage {
        prompt_tokens: sum.prompt_tokens + u64::from(row.prompt_tokens),
        completion_tokens: sum.completion_tokens + u64::from(row.completion_tokens),
    });
    noted.at_least(told)
}

fn open_folder(request: &RunRequest) -> Result<RunFolder, RunError> {
    if !request.resume {
        return Ok(RunFolder::create(request.output)?);
    }
    let folder = RunFolder::open(request.output)?;
    let manifest = folder.read_manifest()?;
    let mut differences = request.plan.differences(&manifest);
    if differences.is_empty() && manifest.run_id != request.plan.run_id {
        differences.push("the run was begun by a version that does not know all of this one's settings".to_owned());
    }
    if differences.is_empty() {
        return Ok(folder);
    }
    Err(RunError::Changed { folder: request.output.display().to_string(), differences })
}

/// How far a run went.
enum Reached {
    Adapters,
    End,
}

fn measure(
    request: &RunRequest,
    folder: &RunFolder,
    manifest: &mut Manifest,
    journal: &mut Journal<JournalRow>,
    rows: &mut Vec<JournalRow>,
    listener: &mut Listener,
) -> Result<Reached, RunError> {
    let plan = request.plan;
    let given = predicted::rows(plan, rows);
    journal.append(&given)?;
    rows.extend(given);
    if !plan.spec.uses_model() {
        write_jsonl::<crate::retrieval::Chunk>(&folder.passages(), &[])?;
        return Ok(Reached::End);
    }
    let taken = match request.adapters_from {
        Some(from) => training::take_adapters(plan, folder, &RunFolder::at(from))?,
        None => Vec::new(),
    };
    let model = phase(manifest, "load", || {
        listener(RunEvent::Phase { name: "load", detail: &plan.spec.model_name(), total: 0, unit: "" });
        Ok(plan.load_model()?)
    })?;
    if let Some(model) = model.local() {
        manifest.model.weight_bytes = model.weight_bytes();
    }
    stop_if(request.interrupt)?;

    let mut index = None;
    if plan.spec.retrieves() {
        let (retriever, figures, cpu_seconds) = phase(manifest, "index", || build_index(plan, listener))?;
        manifest.hashes.insert("index".to_owned(), figures.graph_hash.clone());
        let charged = retriever.embedder().tokens_charged();
        let questions: Vec<&str> = plan.dataset.test.iter().map(|sample| sample.question.as_str()).collect();
        let found =
            phase(manifest, "search", || retriever.search_batch(&questions, plan.spec.retrieval.top_k).map_err(RunError::retrieval))?;
        let embedder = served::embedder_record(&plan.spec.retrieval.endpoint, &retriever, charged, questions.len());
        manifest.index = Some(IndexRecord { embedder, ..figures.record(cpu_seconds) });
        // Most of it is spent by now, and a run that is killed spends no more in silence.
        manifest.embedder_tokens = served::embedder_tokens(plan);
        index = Some((retriever, found));
    }
    let retriever = index.as_ref().map(|(retriever, _)| retriever);
    folder.write_manifest(manifest)?;
    stop_if(request.interrupt)?;

    let mut adapters = Adapters::new();
    if let (false, Model::Local(model)) = (plan.spec.adapters().is_empty(), &model) {
        let watch = Stopwatch::start();
        let trained = phase(manifest, "train", || training::train_all(plan, folder, model, retriever, request.interrupt, listener))?;
        let stepping: f64 = trained.records.iter().map(|record| record.seconds).sum();
        // Adapters that were loaded took their time in an earlier stretch.
        add_overhead(manifest, "train", watch.elapsed().as_secs_f64() - stepping);
        adapters = trained.adapters;
        for (kind, seed, hash) in trained.hashes {
            manifest.hashes.insert(format!("adapter/{}", adapter_name(kind, seed)), hash);
        }
        manifest.training = trained.records;
        // What was taken was paid for where it was trained.
        for record in &mut manifest.training {
            if let Some(paid) = taken.iter().find(|paid| paid.adapter == record.adapter) {
                record.cpu_seconds = paid.cpu_seconds;
            }
        }
        write_jsonl(&folder.training(), &trained.rows)?;
        folder.write_manifest(manifest)?;
    }
    if request.train_only {
        return Ok(Reached::Adapters);
    }
    let tuned = model.local().map_or_else(BTreeMap::new, |model| full_models(model, &adapters));
    let bench = Bench::new(plan, &model, &adapters, &tuned, index.as_ref(), request.interrupt);
    write_passages(folder, &bench)?;

    let watch = Stopwatch::start();
    let model_seconds = phase(manifest, "accuracy", || {
        let mut answers = AnswerCache::default();
        let mut prompts = Prompts::new(&plan.spec.variants);
        for &variant in &plan.spec.variants {
            for &seed in plan.seeds(variant) {
                let done = done_samples(rows, variant, seed);
                let queries = prompts.of(&bench, variant);
                rows.extend(accuracy::run(&bench, (variant, seed), &queries, &done, &mut answers, journal, listener)?);
            }
            prompts.done_with(variant);
        }
        Ok(answers.model_seconds())
    })?;
    add_overhead(manifest, "accuracy", watch.elapsed().as_secs_f64() - model_seconds);
    folder.write_manifest(manifest)?;

    if !plan.measures_samples() {
        return Ok(Reached::End);
    }
    if plan.spec.measure.noise_samples > 0 && manifest.noise.is_empty() {
        let floor = phase(manifest, "noise", || noise::run(&bench, rows, listener))?;
        manifest.noise = floor.records;
        manifest.caveats.extend(floor.caveats);
        folder.write_manifest(manifest)?;
    }

    if plan.spec.measure.audit_samples > 0 && !folder.audit().is_file() {
        let audited = phase(manifest, "audit", || audit::run(&bench, rows, listener))?;
        write_jsonl(&folder.audit(), &audited)?;
        folder.write_manifest(manifest)?;
    }

    if plan.spec.measure.latency_samples > 0 {
        let surroundings = phase(manifest, "latency", || {
            let done = rows.iter().filter(|row| row.phase == Phase::Latency);
            let done: BTreeSet<_> = done.map(|row| (row.variant.clone(), row.sample_id.clone(), row.repeat)).collect();
            let counts = latency::replay_counts(rows, plan.spec.seeds[0]);
            // How fast and how busy this machine is says nothing of a server's times.
            let before = model.local().map(|_| (calibration::rounds(), Contention::start()));
            let timed = latency::run(&bench, &counts, &done, journal, listener)?;
            let is_timed = !timed.rows.is_empty();
            rows.extend(timed.rows);
            let around = before.map(|(before, contention)| {
                let contention = contention.record();
                (calibration::record(before, calibration::rounds()), contention)
            });
            Ok(is_timed.then_some((around, timed.warmup)))
        })?;
        // A run that had nothing left to time keeps the figures of when it was timed.
        if let Some((around, warmup)) = surroundings {
            (manifest.calibration, manifest.contention) =
                around.map_or((None, None), |(calibration, contention)| (Some(calibration), contention));
            manifest.warmup = warmup;
        }
        folder.write_manifest(manifest)?;
    }

    if plan.spec.measure.server.rate > 0.0 && !folder.server().is_file() {
        let served = phase(manifest, "server", || server::run(&bench, &latency::replay_counts(rows, plan.spec.seeds[0]), listener))?;
        write_jsonl(&folder.server(), &served)?;
        folder.write_manifest(manifest)?;
    }

    if plan.spec.measure.offline.questions > 0 && manifest.offline.is_empty() {
        manifest.offline = phase(manifest, "offline", || offline::run(&bench, listener))?;
    }
    Ok(Reached::End)
}

/// Notes what a phase took beside model and embedder; stretches of an interrupted run add up.
fn add_overhead(manifest: &mut Manifest, name: &str, seconds: f64) {
    if let Some(record) = manifest.phases.iter_mut().find(|record| record.name == name) {
        *record.overhead_seconds.get_or_insert(0.0) += seconds.max(0.0);
    }
}

fn stop_if(interrupt: &AtomicBool) -> Result<(), RunError> {
    if interrupt.load(Ordering::Relaxed) { Err(RunError::Interrupted) } else { Ok(()) }
}

fn done_samples(rows: &[JournalRow], variant: VariantKind, seed: u64) -> BTreeSet<String> {
    let mine = rows.iter().filter(|row| row.phase == Phase::Accuracy && row.variant == variant.name() && row.seed == seed);
    mine.map(|row| row.sample_id.clone()).collect()
}

pub(super) fn build_index(plan: &RunPlan, listener: &mut Listener) -> Result<(Retriever, IndexFigures, f64), RunError> {
    let documents = &plan.dataset.documents;
    listener(RunEvent::Phase { name: "index", detail: &plan.dataset.info.name, total: documents.len() as u64, unit: "documents" });
    let cpu = counters::cpu_seconds();
    let models = plan.load_search_models().map_err(RunError::retrieval)?;
    let count = |text: &str| plan.count(text);
    let (retriever, figures) = Retriever::build(documents, &plan.spec.retrieval, models, &count).map_err(RunError::retrieval)?;
    listener(RunEvent::Advance(documents.len() as u64));
    Ok((retriever, figures, counters::cpu_seconds() - cpu))
}

/// Fully tuned decoders as models of their own.
pub(super) fn full_models(base: &LocalModel, adapters: &Adapters) -> BTreeMap<(bool, u64), LocalModel> {
    let full = adapters.iter().filter_map(|(key, weights)| match weights {
        TunedWeights::Full(decoder) => Some((*key, base.with_decoder((**decoder).clone()))),
        TunedWeights::Lora(_) => None,
    });
    full.collect()
}

/// Every chunk that a row of this run can name.
fn write_passages(folder: &RunFolder, bench: &Bench) -> Result<(), RunError> {
    let Some(retriever) = bench.retriever else { return Ok(()) };
    let mut used = BTreeSet::new();
    for &variant in &bench.plan.spec.variants {
        for index in 0..bench.plan.dataset.test.len() {
            used.extend(bench.picks(variant, index).into_iter().map(|pick| pick.chunk));
        }
    }
    let chunks: Vec<_> = used.into_iter().map(|chunk| &retriever.chunks()[chunk]).collect();
    Ok(write_jsonl(&folder.passages(), &chunks)?)
}

fn new_manifest(request: &RunRequest) -> Manifest {
    let plan = request.plan;
    let (spec, dataset) = (&plan.spec, &plan.dataset);
    Manifest {
        schema_version: 1,
        run_id: plan.run_id.clone(),
        spec: spec.clone(),
        crate_version: env!("CARGO_PKG_VERSION").to_owned(),
        git_commit: request.git_commit.clone(),
        started_at: request.started_at.clone(),
        hashes: plan.hashes.clone(),
        machine: counters::machine(plan.device_label()),
        dataset: DatasetRecord {
            name: dataset.info.name.clone(),
            version: dataset.info.version.clone(),
            licence: dataset.info.licence.clone(),
            source: dataset.info.source.clone(),
            documents: dataset.documents.len(),
            train: dataset.train.len(),
            validation: dataset.validation.len(),
            test: plan.whole_test(),
            clusters: plan.whole_clusters(),
            slices: dataset.info.slices.clone(),
        },
        model: if spec.uses_model() { model_record(plan) } else { ModelRecord::none() },
        index: None,
        embedder_tokens: None,
        training: Vec::new(),
        noise: Vec::new(),
        calibration: None,
        contention: None,
        warmup: Vec::new(),
        offline: Vec::new(),
        phases: Vec::new(),
        caveats: caveats(plan),
        shard: plan.share.as_ref().map(|share| share.shard),
        shards: Vec::new(),
        result_hash: None,
    }
}

fn model_record(plan: &RunPlan) -> ModelRecord {
    let Some(config) = plan.model.config() else {
        return ModelRecord {
            path: plan.spec.model_name(),
            context_length: plan.context_length,
            served: plan.model.served().map(|model| served::record(model, &plan.spec.model.endpoint, None)),
            ..ModelRecord::none()
        };
    };
    ModelRecord {
        path: plan.spec.model.path.display().to_string(),
        revision: plan.model.revision().map(str::to_owned),
        architecture: config.architecture.clone(),
        parameters: config.parameter_count() as u64,
        context_length: plan.context_length,
        // Of f32 weights; corrected when they are loaded and packed.
        weight_bytes: 4 * config.parameter_count() as u64,
        served: None,
    }
}

/// What a reader of the report must know before the first number.
fn caveats(plan: &RunPlan) -> Vec<String> {
    let mut caveats = plan.dataset.notes.clone();
    caveats.extend(served::notes(plan));
    let (given, trained): (Vec<_>, Vec<_>) = plan.spec.adapters().into_iter().partition(|&kind| plan.spec.given(kind).is_some());
    for kind in given.into_iter().filter(|_| !plan.spec.is_served()) {
        let users: Vec<&str> = plan.spec.variants.iter().filter(|&&v| plan.spec.adapter_of(v) == Some(kind)).map(|v| v.name()).collect();
        let base = plan.given_adapter(kind).ok().flatten().and_then(|given| given.base_name);
        let base = base.map(|name| format!("; it names the base `{name}`, and shapes and vocabulary fit")).unwrap_or_default();
        caveats.push(format!("the adapter of {} was given: what its training cost is not known here{base}", users.join(" and ")));
    }
    caveats.extend(plan.predictions.iter().flat_map(predicted::GivenAnswers::notes));
    if !trained.is_empty() && !plan.spec.is_served() && plan.spec.seeds.len() == 1 {
        caveats.push("one training seed: the spread between trainings is not measured; set `seeds = [1, 2, 3]` for it".into());
    }
    if plan.spec.uses_model() && !plan.spec.is_served() && plan.spec.model.device == DeviceName::Auto {
        caveats.push(format!("`model.device = \"auto\"` took {}: times belong to that device", plan.device.label()));
    }
    if plan.spec.retrieves() && plan.spec.retrieval.search.method.is_dense() && !plan.spec.retrieval.store.is_memory() {
        caveats.push(
            "vectors are kept by a server whose index is never built the same way twice: passages, and the result hash, hold for this one index"
                .into(),
        );
    }
    if plan.whole_test() < 100 {
        caveats.push(format!("{} test questions: only large differences can be seen", plan.whole_test()));
    }
    caveats
}
