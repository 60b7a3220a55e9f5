//! From a spec to a [`RunPlan`]: everything that can be found wrong without loading a model is found here, and nothing is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::identity::{differing_keys, run_id};
use super::predicted::{self, GivenAnswers};
use super::shard::Share;
use super::source::{Model, ModelSource};
use crate::clock::Stopwatch;
use crate::dataset::{self, Dataset, DatasetError, Sample};
use crate::diagnostic::{Blame, Hint};
use crate::finetune::{self, GivenAdapter, TrainingError};
use crate::lm::chat::{Chat, ChatTemplate};
use crate::lm::remote::{Budget, RemoteError};
use crate::lm::tokenizer::Tokenizer;
use crate::lm::{ComputeDevice, DeviceError, ModelError};
use crate::retrieval::{self, CrossEncoder, RetrievalEmbedder, RetrievalError, SearchModels};
use crate::rng::Rng;
use crate::spec::{self, ContextSource, EndpointKind, RunSpec, SpecError, SpecProblem, TrainContext, VariantKind};
use crate::store::manifest::Shard;
use crate::variant::prompt::{Encoded, PromptError, PromptTemplate};

/// A run that can be carried out.
pub struct RunPlan {
    /// Checked.
    pub spec: RunSpec,
    /// Relative paths of the spec start here.
    pub base_dir: PathBuf,
    /// Checked, split and limited.
    pub dataset: Dataset,
    /// Answers of other systems, by name; not part of `spec.variants`.
    pub predictions: Vec<GivenAnswers>,
    /// Compiled.
    pub template: PromptTemplate,
    /// The model's chat template, where prompts are turns of a conversation.
    pub chat: Option<Chat>,
    /// Training examples whose conversations were held against the prompts.
    pub chat_checked: usize,
    /// The model, checked and not loaded.
    pub model: ModelSource,
    /// What may be spent on a served embedder, and was.
    pub embedder_budget: Arc<Budget>,
    /// Where it will compute.
    pub device: ComputeDevice,
    /// Window in use.
    pub context_length: usize,
    /// BLAKE3 by what was hashed.
    pub hashes: BTreeMap<String, String>,
    /// Hash over the spec and all of `hashes`.
    pub run_id: String,
    /// The part of the questions that `dataset.test` holds; nothing for the whole run.
    pub share: Option<Share>,
}

/// Why a request cannot become a run.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The spec's text or values.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The data.
    #[error("cannot load dataset `{name}`")]
    Dataset {
        /// As written.
        name: String,
        /// Why.
        #[source]
        source: Box<DatasetError>,
    },
    /// A file of predictions.
    #[error("cannot read predictions `{name}`")]
    Predictions {
        /// Name of the variant.
        name: String,
        /// Why.
        #[source]
        source: Box<DatasetError>,
    },
    /// The model's folder.
    #[error("cannot use model `{name}`")]
    Model {
        /// As written.
        name: String,
        /// Why.
        #[source]
        source: Box<ModelError>,
    },
    /// An adapter that is given.
    #[error("cannot use the adapter that `{key}` names")]
    Adapter {
        /// Key of the spec.
        key: &'static str,
        /// Why.
        #[source]
        source: Box<TrainingError>,
    },
    /// The embedder or the index.
    #[error("cannot set up retrieval")]
    Retrieval(#[source] Box<RetrievalError>),
    /// The template.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// The parts are sound, but do not go together.
    #[error("{problem}")]
    Mismatch {
        /// What does not fit.
        problem: String,
        /// What to do.
        mend: String,
    },
}

impl Hint for PlanError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Spec(error) => error.hint(),
            Self::Device(error) => error.hint(),
            Self::Dataset { source, .. } => source.hint(),
            Self::Predictions { source, .. } => match &**source {
                DatasetError::NotFound { .. } => {
                    Some("paths under `[predictions]` are taken from the folder of the spec, those of `--predictions` from here".into())
                }
                // The problems name their mends.
                _ => None,
            },
            Self::Model { source, .. } => source.hint(),
            Self::Adapter { source, .. } => source.hint(),
            Self::Retrieval(source) => source.hint(),
            Self::Prompt(error) => error.hint(),
            Self::Mismatch { mend, .. } => Some(mend.clone()),
        }
    }
}

impl PlanError {
    /// The user stopped it while a server was asked.
    pub fn is_interrupted(&self) -> bool {
        matches!(self, Self::Retrieval(source) if source.stops() == Some(&RemoteError::Interrupted))
    }

    /// A plan fails because of the request, or because a server is not there.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Retrieval(source) if matches!(**source, RetrievalError::Remote(_)) => Blame::Runtime,
            _ => Blame::Request,
        }
    }
}

impl RunPlan {
    /// Checks everything that needs no weights: values, files, formats, whether questions fit the window and the variants have what they need.
    pub fn prepare(spec: RunSpec, base_dir: &Path) -> Result<Self, PlanError> {
        let problems = spec::check(&spec);
        if !problems.is_empty() {
            return Err(SpecError::Problems(problems).into());
        }
        let device = ComputeDevice::open(spec.model.device)?;
        let template = PromptTemplate::new(&spec.prompt.template)?;
        let model_error = |source| PlanError::Model { name: spec.model_name(), source: Box::new(source) };
        let model = ModelSource::of(&spec, base_dir).map_err(model_error)?;
        let dataset = load_dataset(&spec, base_dir)?;
        let predictions = predicted::load(&spec, base_dir, &dataset)?;
        let context_length = if spec.uses_model() { window(&spec, &model)? } else { 0 };
        let mut hashes = BTreeMap::from([("dataset".to_owned(), dataset.hash.clone())]);
        if spec.uses_model() {
            hashes.extend(model.weights_hash().map_err(model_error)?.map(|hash| ("model".to_owned(), hash)));
            hashes.extend(model.tokenizer().map(|tokenizer| ("tokenizer".to_owned(), tokenizer.hash())));
            hashes.insert("prompt".to_owned(), blake3::hash(spec.prompt.template.as_bytes()).to_hex().to_string());
        }
        let chat = match model.tokenizer().filter(|_| spec.uses_model()) {
            Some(tokenizer) => open_chat(&spec, tokenizer, base_dir, &mut hashes)?,
            None => None,
        };
        hashes.extend(predictions.iter().map(|given| (given.key(), given.hash.clone())));
        if spec.retrieves() {
            check_search_models(&spec, base_dir).map_err(retrieval_error)?;
        }
        let base_dir = base_dir.to_owned();
        let embedder_budget = Arc::new(Budget::new((&spec.retrieval.endpoint).into()));
        let mut plan = Self {
            spec,
            base_dir,
            dataset,
            predictions,
            template,
            chat,
            chat_checked: 0,
            model,
            embedder_budget,
            device,
            context_length,
            hashes,
            run_id: String::new(),
            share: None,
        };
        plan.check_needs()?;
        plan.check_adapters()?;
        plan.check_prompts()?;
        plan.chat_checked = plan.check_chat()?;
        plan.check_corpus()?;
        // The embedder's hash needs its weights, so it comes after everything that can be wrong without them.
        if plan.spec.retrieves() {
            let models = plan.load_search_models().map_err(retrieval_error)?;
            retrieval::check_store(&plan.spec.retrieval, models.embedder.dimension()).map_err(retrieval_error)?;
            plan.hashes.insert("embedder".to_owned(), models.embedder.hash().to_owned());
            plan.hashes.extend(models.reranker.map(|(reranker, _)| ("reranker".to_owned(), reranker.hash().to_owned())));
        }
        plan.run_id = run_id(&plan.spec, &plan.hashes);
        Ok(plan)
    }

    /// Leaves only the questions of one shard. Everything that names the run, its id and its hashes, stays that of the whole.
    ///
    /// # Errors
    /// [`PlanError::Mismatch`] if there are fewer questions than the shards need.
    pub fn take_share(&mut self, shard: Shard) -> Result<(), PlanError> {
        let measure = &self.spec.measure;
        let samples =
            [(NOISE_SAMPLES, measure.noise_samples), (AUDIT_SAMPLES, measure.audit_samples), (LATENCY_SAMPLES, measure.latency_samples)];
        let first: std::collections::BTreeSet<usize> = samples.iter().flat_map(|(label, count)| self.drawn(label, *count)).collect();
        let share = Share::of(shard, &self.dataset.test, &first).map_err(|most| PlanError::Mismatch {
            problem: format!("{} test questions cannot be split into {} shards", self.dataset.test.len(), shard.of),
            mend: format!(
                "take at most {most} shards: the first has all {} questions of noise floor, audit and latency (`measure.*_samples`)",
                first.len()
            ),
        })?;
        let mut position = 0;
        self.dataset.test.retain(|_| {
            position += 1;
            share.positions.binary_search(&(position - 1)).is_ok()
        });
        self.share = Some(share);
        Ok(())
    }

    /// Test questions of the whole run.
    pub fn whole_test(&self) -> usize {
        self.share.as_ref().map_or(self.dataset.test.len(), |share| share.whole)
    }

    /// Clusters among the test questions of the whole run.
    pub fn whole_clusters(&self) -> usize {
        self.share.as_ref().map_or_else(|| super::shard::clusters(&self.dataset.test), |share| share.clusters)
    }

    /// Where a question of the whole run stands in `dataset.test`, if it is there.
    pub fn here(&self, position: usize) -> Option<usize> {
        self.share.as_ref().map_or(Some(position), |share| share.positions.binary_search(&position).ok())
    }

    /// Indices of `count` questions of the whole run, drawn under a label; those that belong to another shard are left out.
    pub fn drawn(&self, label: &str, count: usize) -> Vec<usize> {
        let whole = self.whole_test();
        let chosen = Rng::new(self.spec.seeds[0], label).sample_indices(whole, count.min(whole));
        chosen.into_iter().filter_map(|position| self.here(position)).collect()
    }

    /// What is measured on a sample of the questions (noise floor, audit, latency) is measured here: in the whole run, or in its first shard.
    pub fn measures_samples(&self) -> bool {
        self.share.as_ref().is_none_or(|share| share.shard.index == 1)
    }

    /// The tokenizer of a model whose weights are here.
    pub fn tokenizer(&self) -> &Tokenizer {
        self.model.tokenizer().expect("tokens are put to models of this machine, which have a tokenizer")
    }

    /// Tokens of a text: the model's, or an estimate where it is served and its tokenizer is not at hand.
    pub fn count(&self, text: &str) -> usize {
        match self.model.served() {
            Some(model) => model.count(text),
            None => self.tokenizer().count(text).unwrap_or(usize::MAX),
        }
    }

    /// The tokens that a prompt's text is put to the model as: in training, when answering, and when timing. A server makes its own.
    pub fn encode_prompt(&self, text: &str) -> Result<Encoded, ModelError> {
        if let Some(model) = self.model.served() {
            return Ok(Encoded { tokens: Vec::new(), length: model.count_prompt(text) });
        }
        let tokens = match &self.chat {
            Some(chat) => chat.prompt(self.tokenizer(), text)?,
            None => self.tokenizer().encode_prompt(text)?,
        };
        Ok(tokens.into())
    }

    /// The adapter that is given for a kind, if it is not to be trained here.
    ///
    /// # Errors
    /// What [`finetune::load_given`] refuses.
    pub fn given_adapter(&self, kind: TrainContext) -> Result<Option<GivenAdapter>, TrainingError> {
        let (Some(folder), Some(config)) = (self.spec.given(kind), self.model.config()) else { return Ok(None) };
        finetune::load_given(&self.base_dir.join(folder), config, self.tokenizer(), self.device.candle()).map(Some)
    }

    /// Folder of the embedder, or `builtin`.
    pub fn embedder_path(&self) -> PathBuf {
        anchored(&self.spec.retrieval.embedder, &self.base_dir)
    }

    /// Loads the embedder, and the reranker if the spec names one.
    ///
    /// # Errors
    /// Of their folders.
    pub fn load_search_models(&self) -> Result<SearchModels, RetrievalError> {
        let retrieval = &self.spec.retrieval;
        let embedder = if retrieval.endpoint.is_set() {
            RetrievalEmbedder::served(&retrieval.endpoint, &retrieval.embedding, Arc::clone(&self.embedder_budget))?
        } else {
            RetrievalEmbedder::load(&self.embedder_path(), &retrieval.embedding)?
        };
        let load = |path: &Path| -> Result<(CrossEncoder, f64), RetrievalError> {
            let watch = Stopwatch::start();
            let reranker = CrossEncoder::load(&self.base_dir.join(path))?;
            Ok((reranker, watch.elapsed().as_secs_f64()))
        };
        let reranker = self.spec.retrieval.reranker().map(load).transpose()?;
        Ok(SearchModels { embedder, reranker })
    }

    /// Loads the model onto the plan's device, to answer with weights of the type that the spec names; or finds its server there.
    ///
    /// # Errors
    /// Failures while reading, or of the server.
    pub fn load_model(&self) -> Result<Model, ModelError> {
        let model = match self.model.load(self.context_length, &self.device)? {
            Model::Local(model) => model.with_form(self.spec.model.dtype.weight_form()),
            served @ Model::Served(_) => return Ok(served),
        };
        // Packed now, so that loading holds it and no answer does.
        if model.ignores_batches() {
            model.engine()?;
        }
        Ok(Model::Local(Box::new(model)))
    }

    /// What the model computes on, as the manifest says it.
    pub fn device_label(&self) -> &str {
        if self.model.served().is_some() { SERVED } else { self.device.label() }
    }

    /// Longest prompt that leaves room for an answer.
    pub fn room(&self) -> usize {
        self.context_length.saturating_sub(self.spec.generation.max_new_tokens)
    }

    /// Seeds under which a variant is run: one for variants that do not train.
    pub fn seeds(&self, variant: VariantKind) -> &[u64] {
        if variant.is_tuned() { &self.spec.seeds } else { &self.spec.seeds[..1] }
    }

    fn check_needs(&self) -> Result<(), PlanError> {
        let mismatch = |problem: String, mend: &str| Err(PlanError::Mismatch { problem, mend: mend.into() });
        let chooses = self.dataset.test.iter().any(|sample| !sample.choices.is_empty());
        if self.spec.is_served() && chooses && self.spec.model.endpoint.kind == EndpointKind::Chat {
            return mismatch(
                "the dataset has multiple-choice questions, which are scored by the likelihood of the choices, and a chat endpoint tells none".into(),
                "set `model.endpoint.kind` to `completions`, if the server gives log-probabilities of what it reads",
            );
        }
        for variant in &self.spec.variants {
            let name = variant.name();
            let examples = self.spec.finetune.examples;
            let trained = self.spec.trained().any(|kind| self.spec.adapter_of(*variant) == Some(kind));
            if trained && examples.has_labels() && self.dataset.train.is_empty() {
                return mismatch(
                    format!("variant `{name}` needs training questions and the dataset has none"),
                    "give a `train` split, set `finetune.examples` to `documents`, or take the variant out of `variants`",
                );
            }
            if trained && examples.has_documents() && self.dataset.documents.is_empty() {
                return mismatch(
                    format!("variant `{name}` is to be tuned on documents and the dataset has none"),
                    "give `documents.jsonl`, or set `finetune.examples` to `qa`",
                );
            }
            if trained && self.spec.adapter_of(*variant) == Some(TrainContext::Retrieved) && !examples.has_labels() {
                return mismatch(
                    format!("variant `{name}` is tuned on questions with retrieved passages, and `finetune.examples` is `documents`"),
                    "set `finetune.examples` to `qa` or `both`, or take the variant out of `variants`",
                );
            }
            if variant.context() != ContextSource::None && self.dataset.documents.is_empty() {
                return mismatch(
                    format!("variant `{name}` needs documents and the dataset has none"),
                    "give `documents.jsonl`, or take the variant out of `variants`",
                );
            }
            if variant.context() == ContextSource::Gold && self.dataset.test.iter().all(|sample| sample.relevant.is_empty()) {
                return mismatch(
                    format!("variant `{name}` needs relevance labels and no test question has `relevant`"),
                    "give `relevant` document ids, or take the variant out of `variants`",
                );
            }
        }
        Ok(())
    }

    fn check_prompts(&self) -> Result<(), PlanError> {
        if !self.spec.uses_model() {
            return Ok(());
        }
        let room = self.room();
        let mut too_long = Vec::new();
        for sample in &self.dataset.test {
            let text = self.template.render(&sample.question, &[])?;
            if self.encode_prompt(&text).map_err(|source| self.model_error(source))?.length > room {
                too_long.push(sample.id.as_str());
            }
        }
        if too_long.is_empty() {
            return Ok(());
        }
        Err(PlanError::Mismatch {
            problem: format!(
                "{} of {} questions do not fit: context is {} tokens and `generation.max_new_tokens` is {} (first: `{}`)",
                too_long.len(),
                self.dataset.test.len(),
                self.context_length,
                self.spec.generation.max_new_tokens,
                too_long[0]
            ),
            mend: "lower `generation.max_new_tokens`, or use a model with a longer context".into(),
        })
    }

    /// Adapters that are given, held against the model; their hashes are noted.
    fn check_adapters(&mut self) -> Result<(), PlanError> {
        for kind in self.spec.adapters() {
            let key = if kind == TrainContext::None { "finetune.adapter" } else { "hybrid.adapter" };
            let given = self.given_adapter(kind).map_err(|source| PlanError::Adapter { key, source: Box::new(source) })?;
            if let Some(given) = given {
                self.hashes.insert(format!("adapter/{}", adapter_name(kind, self.spec.seeds[0])), given.hash);
            }
        }
        Ok(())
    }

    /// Whether conversations begin, in training, with the very tokens that are put to the model when it answers. Training holds every example
    /// to it; here some are tried, so that it fails before anything is loaded.
    fn check_chat(&self) -> Result<usize, PlanError> {
        let Some(chat) = &self.chat else { return Ok(0) };
        let mut checked = 0;
        let train = &self.dataset.train;
        for sample in train.iter().step_by(train.len().div_ceil(CHAT_CHECKS).max(1)) {
            if let Some(answer) = reference_of(sample, &self.spec) {
                let text = self.template.render(&sample.question, &[])?;
                chat.example(self.tokenizer(), &text, answer).map_err(|source| self.model_error(source))?;
                checked += 1;
            }
        }
        Ok(checked)
    }

    fn model_error(&self, source: ModelError) -> PlanError {
        PlanError::Model { name: self.spec.model_name(), source: Box::new(source) }
    }

    /// `top_k` against the corpus; chunks are only counted when there might be too few.
    fn check_corpus(&self) -> Result<(), PlanError> {
        let top_k = self.spec.retrieval.top_k;
        if !self.spec.retrieves() || top_k <= self.dataset.documents.len() {
            return Ok(());
        }
        let count = |text: &str| self.count(text);
        let chunked = retrieval::chunk::chunk_documents(&self.dataset.documents, &self.spec.retrieval.chunk, &count);
        let chunks = chunked.map_err(retrieval_error)?.chunks;
        if top_k <= chunks.len() {
            return Ok(());
        }
        Err(PlanError::Mismatch {
            problem: format!("`retrieval.top_k` is {top_k} and the corpus has only {} passages", chunks.len()),
            mend: format!("set `retrieval.top_k` to at most {}", chunks.len()),
        })
    }

    /// What is not as it was when the folder's run began; empty when the run can go on.
    pub fn differences(&self, manifest: &crate::store::manifest::Manifest) -> Vec<String> {
        let mut found: Vec<String> =
            differing_keys(&manifest.spec, &self.spec).into_iter().map(|(key, was, is)| format!("`{key}` was {was}, is {is}")).collect();
        let shard = self.share.as_ref().map(|share| share.shard);
        if manifest.shard != shard {
            let name = |shard: Option<Shard>| shard.map_or_else(|| "the whole run".to_owned(), |shard| format!("shard {shard}"));
            found.push(format!("the folder holds {}, asked for is {}", name(manifest.shard), name(shard)));
        }
        // `auto` may find another one than before.
        if manifest.machine.device != self.device_label() {
            found.push(format!("the device was {}, is {}", manifest.machine.device, self.device_label()));
        }
        for (name, hash) in &self.hashes {
            if manifest.hashes.get(name).is_some_and(|before| before != hash) {
                found.push(format!("the {name} has changed (its hash differs)"));
            }
        }
        found
    }
}

/// Questions that are answered again to count what other ways of computing change.
pub const NOISE_SAMPLES: &str = "noise-samples";
/// Questions whose answers are audited.
pub const AUDIT_SAMPLES: &str = "audit-samples";
/// Questions of the latency pass.
pub const LATENCY_SAMPLES: &str = "latency-samples";

/// Name of an adapter's folder and of its rows in `training.jsonl`.
pub fn adapter_name(kind: TrainContext, seed: u64) -> String {
    match kind {
        TrainContext::None => format!("finetuned-seed{seed}"),
        TrainContext::Retrieved => format!("hybrid_raft-seed{seed}"),
    }
}

/// What stands for the device of a model behind an endpoint.
pub const SERVED: &str = "a server";

/// What a training example without an answer teaches.
pub fn reference_of<'a>(sample: &'a Sample, spec: &'a RunSpec) -> Option<&'a str> {
    if sample.answerable { sample.references.first().map(String::as_str) } else { spec.prompt.abstention.first().map(String::as_str) }
}

fn retrieval_error(error: RetrievalError) -> PlanError {
    PlanError::Retrieval(Box::new(error))
}

fn anchored(path: &Path, base_dir: &Path) -> PathBuf {
    if path == Path::new(retrieval::BUILTIN) { path.to_owned() } else { base_dir.join(path) }
}

/// What can be found wrong with embedder and reranker without their weights.
fn check_search_models(spec: &RunSpec, base_dir: &Path) -> Result<(), RetrievalError> {
    if !spec.retrieval.endpoint.is_set() {
        let embedder = anchored(&spec.retrieval.embedder, base_dir);
        retrieval::check_embedder(&embedder)?;
        retrieval::prefixes(&embedder, &spec.retrieval.embedding)?;
    }
    spec.retrieval.reranker().map_or(Ok(()), |path| retrieval::check_reranker(&base_dir.join(path)))
}

fn load_dataset(spec: &RunSpec, base_dir: &Path) -> Result<Dataset, PlanError> {
    let seed = spec.seeds[0];
    dataset::load(&spec.dataset, seed, base_dir)
        .map_err(|source| PlanError::Dataset { name: spec.dataset.path.display().to_string(), source: Box::new(source) })
}

/// Training examples whose conversations are tried before a run.
const CHAT_CHECKS: usize = 256;

/// The chat template that `prompt.chat` names, compiled; its hash is noted.
fn open_chat(
    spec: &RunSpec,
    tokenizer: &Tokenizer,
    base_dir: &Path,
    hashes: &mut BTreeMap<String, String>,
) -> Result<Option<Chat>, PlanError> {
    let problem = |message: String| SpecError::Problems(vec![SpecProblem { key: "prompt.chat".into(), line: None, message }]);
    let source = match spec.prompt.chat.as_str() {
        "none" => None,
        "auto" => tokenizer.chat(None),
        path => {
            let file = base_dir.join(path);
            let text = std::fs::read_to_string(&file);
            let text = text.map_err(|error| problem(format!("is `{path}`, neither none nor auto nor a file that can be read: {error}")))?;
            tokenizer.chat(Some(text))
        }
    };
    let Some(source) = source else { return Ok(None) };
    let today = spec.prompt.chat_date.parse().map_err(|error| problem(format!("{error}")))?;
    let template =
        ChatTemplate::new(&source, today).map_err(|source| PlanError::Model { name: spec.model_name(), source: Box::new(source) })?;
    hashes.insert("chat".to_owned(), blake3::hash(source.template.as_bytes()).to_hex().to_string());
    Ok(Some(Chat::new(template, &spec.prompt.system)))
}

fn window(spec: &RunSpec, model: &ModelSource) -> Result<usize, PlanError> {
    let asked = spec.model.max_context;
    // Of a server only what the spec says is known.
    let own = model.config().map_or(asked, |config| config.max_position_embeddings);
    let problem = |key: &str, message: String| SpecError::Problems(vec![SpecProblem { key: key.into(), line: None, message }]).into();
    if asked > own {
        return Err(problem("model.max_context", format!("is {asked}, and the model's own context is {own}")));
    }
    let window = if asked == 0 { own } else { asked };
    if spec.generation.max_new_tokens >= window {
        return Err(problem("generation.max_new_tokens", format!("is {}, and the context is {window}", spec.generation.max_new_tokens)));
    }
    Ok(window)
}
