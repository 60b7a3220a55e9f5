//! The loaded parts of a run, put to work on one question or on many.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use rayon::prelude::*;

use super::plan::RunPlan;
use super::query::{Pick, Query, RowContext, picks_of};
use super::source::Model;
use super::training::{self, Adapters};
use crate::finetune::TunedWeights;
use crate::lm::local::LocalModel;
use crate::lm::lora::LoraWeights;
use crate::lm::remote::{Question, ServedModel};
use crate::lm::{Generation, GenerationConfig, LanguageModel as _, ModelError, Prompt};
use crate::retrieval::{Retrieved, Retriever};
use crate::spec::{ContextSource, VariantKind};
use crate::store::row::{JournalRow, Phase};
use crate::variant::Passages;
use crate::variant::prompt::{FittedPrompt, PromptError};

/// The loaded parts that answer questions.
pub struct Bench<'a> {
    pub(super) plan: &'a RunPlan,
    pub(super) model: &'a Model,
    pub(super) adapters: &'a Adapters,
    pub(super) tuned: &'a BTreeMap<(bool, u64), LocalModel>,
    pub(super) retriever: Option<&'a Retriever>,
    pub(super) retrieved: &'a [Retrieved],
    pub(super) passages: Passages<'a>,
    pub(super) interrupt: &'a AtomicBool,
}

/// A prompt that is put to a model, and the name of its sampling stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'p> {
    pub prompt: &'p FittedPrompt,
    pub stream: &'p str,
}

impl<'p> Ask<'p> {
    fn question(self) -> Question<'p> {
        Question { text: &self.prompt.text, length: self.prompt.length, stream: self.stream }
    }
}

/// What a variant answers with.
#[derive(Clone, Copy)]
pub(super) enum Weights<'a> {
    /// A model of this machine, and the adapter beside it.
    Local(&'a LocalModel, Option<&'a LoraWeights>),
    /// A server's model of this name.
    Served(&'a ServedModel, &'a str),
}

impl Weights<'_> {
    /// Batches must be those of the plan for a run to repeat: they are made here, and floats depend on them.
    pub fn minds_batches(self) -> bool {
        matches!(self, Self::Local(model, _) if !model.ignores_batches())
    }

    /// One generation per prompt.
    ///
    /// # Errors
    /// The first failure; of a server, the one that says most.
    pub fn generate(self, asks: &[Ask], config: &GenerationConfig) -> Result<Vec<Generation>, ModelError> {
        match self {
            Self::Local(model, adapter) => model.generate(&prompts(asks), adapter, config),
            Self::Served(model, name) => {
                let questions: Vec<Question> = asks.iter().map(|ask| ask.question()).collect();
                Ok(crate::lm::remote::all(model.answer(name, &questions, config))?)
            }
        }
    }

    /// One generation or error per prompt. Where a batch fails on this machine, its members are tried one by one.
    pub fn each(self, asks: &[Ask], config: &GenerationConfig) -> Vec<Result<Generation, ModelError>> {
        match self {
            Self::Served(model, name) => {
                let questions: Vec<Question> = asks.iter().map(|ask| ask.question()).collect();
                model.answer(name, &questions, config).into_iter().map(|result| result.map_err(ModelError::from)).collect()
            }
            Self::Local(..) => match self.generate(asks, config) {
                Ok(generations) => generations.into_iter().map(Ok).collect(),
                Err(_) => asks.iter().map(|ask| Ok(self.generate(std::slice::from_ref(ask), config)?.remove(0))).collect(),
            },
        }
    }

    /// One generation with its times. A model of this machine is made to write `count` tokens; a server cannot be, and is asked as it was in
    /// the accuracy pass.
    pub fn timed(self, ask: Ask, count: usize, config: &GenerationConfig) -> Result<Generation, ModelError> {
        match self {
            Self::Local(..) => Ok(self.generate(&[ask], &GenerationConfig { forced_tokens: Some(count), ..config.clone() })?.remove(0)),
            Self::Served(model, name) => Ok(model.timed(name, ask.question(), config)?),
        }
    }

    /// Sum of log-probabilities of each text after the prompt, how many tokens all texts have, and the prompt.
    pub fn log_likelihoods(
        self,
        ask: Ask,
        texts: &[String],
        tokens: impl Fn(&str) -> Result<Vec<u32>, ModelError>,
    ) -> Result<Likelihoods, ModelError> {
        match self {
            Self::Local(model, adapter) => {
                let continuations = texts.iter().map(|text| tokens(text)).collect::<Result<Vec<_>, _>>()?;
                let values = model.log_likelihoods(&ask.prompt.tokens, &continuations, adapter)?;
                let tokens = continuations.iter().map(Vec::len).sum();
                Ok(Likelihoods { values, tokens, prompt_tokens: ask.prompt.tokens.len() })
            }
            Self::Served(model, name) => {
                let found = model.log_likelihoods(name, ask.question(), texts)?;
                Ok(Likelihoods {
                    values: found.iter().map(|found| found.log_likelihood).collect(),
                    tokens: found.iter().map(|found| found.tokens).sum(),
                    prompt_tokens: found.first().map_or(0, |found| found.prompt_tokens),
                })
            }
        }
    }
}

fn prompts(asks: &[Ask]) -> Vec<Prompt> {
    asks.iter().map(|ask| Prompt { tokens: ask.prompt.tokens.clone(), stream: ask.stream.to_owned() }).collect()
}

/// How likely texts are after a prompt.
pub(super) struct Likelihoods {
    /// Per text.
    pub values: Vec<f64>,
    /// Of all texts.
    pub tokens: usize,
    /// Of the prompt.
    pub prompt_tokens: usize,
}

/// An index, and what it finds for every test question.
pub(super) type Searched = (Retriever, Vec<Retrieved>);

/// An answer of the accuracy pass, and the query that it answers.
pub(super) struct Answered<'r> {
    /// Index of the test question.
    pub sample: usize,
    pub query: Query,
    pub row: &'r JournalRow,
}

impl<'a> Bench<'a> {
    pub(super) fn new(
        plan: &'a RunPlan,
        model: &'a Model,
        adapters: &'a Adapters,
        tuned: &'a BTreeMap<(bool, u64), LocalModel>,
        searched: Option<&'a Searched>,
        interrupt: &'a AtomicBool,
    ) -> Self {
        let retriever = searched.map(|(retriever, _)| retriever);
        let chunks = retriever.map_or(&[][..], Retriever::chunks);
        let passages = Passages::new(chunks.iter().map(|chunk| chunk.document_id.as_str()));
        let retrieved = searched.map_or(&[][..], |(_, retrieved)| retrieved.as_slice());
        Self { plan, model, adapters, tuned, retriever, retrieved, passages, interrupt }
    }

    /// Those of the `chosen` questions that the accuracy pass has answered in free text for a variant, under the first seed, in the order
    /// chosen.
    pub(super) fn answered<'r>(
        &self,
        rows: &'r [JournalRow],
        variant: VariantKind,
        chosen: &[usize],
    ) -> Result<Vec<Answered<'r>>, PromptError> {
        let (seed, samples) = (self.plan.spec.seeds[0], &self.plan.dataset.test);
        let mine = rows.iter().filter(|row| row.phase == Phase::Accuracy && row.variant == variant.name() && row.seed == seed);
        let by_id: BTreeMap<&str, &JournalRow> = mine.filter(|row| row.error.is_none()).map(|row| (row.sample_id.as_str(), row)).collect();
        let mut answered = Vec::with_capacity(chosen.len());
        for &sample in chosen {
            // What is chosen and not generated has no noise of decoding, and no answer that a passage could change freely.
            if !samples[sample].choices.is_empty() {
                continue;
            }
            if let Some(&row) = by_id.get(samples[sample].id.as_str()) {
                answered.push(Answered { sample, query: self.query(variant, sample)?, row });
            }
        }
        Ok(answered)
    }

    pub(super) fn row_context(&self, variant: VariantKind, seed: u64, phase: Phase, repeat: u32) -> RowContext<'a> {
        RowContext {
            run_id: &self.plan.run_id,
            variant,
            seed,
            phase,
            repeat,
            chunks: self.retriever.map_or(&[], Retriever::chunks),
            top_k: self.plan.spec.retrieval.top_k,
            abstention: &self.plan.spec.prompt.abstention,
        }
    }

    pub(super) fn generation_config(&self) -> GenerationConfig {
        let generation = &self.plan.spec.generation;
        GenerationConfig {
            max_new_tokens: generation.max_new_tokens,
            temperature: generation.temperature,
            top_p: generation.top_p,
            stop: generation.stop.clone(),
            seed: self.plan.spec.seeds[0],
            batch_size: generation.batch_size,
            forced_tokens: None,
        }
    }

    /// The passages of a variant for the sample at `index`.
    pub(super) fn picks(&self, variant: VariantKind, index: usize) -> Vec<Pick> {
        let sample = &self.plan.dataset.test[index];
        match (variant.context(), self.retriever) {
            (ContextSource::None, _) | (_, None) => Vec::new(),
            (ContextSource::Retrieved, _) => picks_of(&self.retrieved[index]),
            (source, Some(_)) => {
                let spec = &self.plan.spec;
                let given = match source {
                    ContextSource::Gold => self.passages.gold(&sample.relevant, spec.retrieval.top_k),
                    _ => self.passages.random(&sample.relevant, spec.retrieval.top_k, spec.seeds[0], &sample.id),
                };
                given.into_iter().map(|chunk| Pick { chunk, score: 0.0, in_exact: None }).collect()
            }
        }
    }

    /// The queries of all samples, in their order.
    pub(super) fn queries(&self, variant: VariantKind) -> Vec<Result<Query, String>> {
        let query = |index| self.query(variant, index).map_err(|error: PromptError| error.to_string());
        (0..self.plan.dataset.test.len()).into_par_iter().map(query).collect()
    }

    pub(super) fn query(&self, variant: VariantKind, index: usize) -> Result<Query, PromptError> {
        let mut query = self.query_with(&self.plan.dataset.test[index].question, self.picks(variant, index))?;
        if variant.context() == ContextSource::Retrieved {
            query.exact = self.retrieved[index].exact.iter().map(|hit| hit.chunk).collect();
            query.dense_recall = self.retrieved[index].dense_recall;
        }
        Ok(query)
    }

    /// Title and text of a passage.
    pub(super) fn passage(&self, pick: &Pick) -> [&str; 2] {
        let chunk = &self.retriever.expect("there are no passages without an index").chunks()[pick.chunk];
        [&chunk.title, &chunk.text]
    }

    /// Id of a passage's document.
    pub(super) fn document(&self, pick: &Pick) -> &str {
        &self.retriever.expect("there are no passages without an index").chunks()[pick.chunk].document_id
    }

    pub(super) fn query_with(&self, question: &str, picks: Vec<Pick>) -> Result<Query, PromptError> {
        let chunks = self.retriever.map_or(&[][..], Retriever::chunks);
        Query::build(&self.plan.template, question, picks, chunks, self.plan.room(), |text| self.plan.encode_prompt(text))
    }

    /// One generation per prompt, with the weights of the variant.
    pub(super) fn generate(
        &self,
        variant: VariantKind,
        seed: u64,
        asks: &[Ask],
        config: &GenerationConfig,
    ) -> Result<Vec<Generation>, ModelError> {
        self.weights(variant, seed).generate(asks, config)
    }

    /// What a variant answers with.
    pub(super) fn weights(&self, variant: VariantKind, seed: u64) -> Weights<'a> {
        let model = match self.model {
            Model::Local(model) => model,
            Model::Served(model) => {
                let spec = &self.plan.spec;
                let tuned = spec.adapter_of(variant).and_then(|kind| spec.served_adapter(kind));
                return Weights::Served(model, tuned.unwrap_or(&spec.model.endpoint.model));
            }
        };
        let Some(key) = self.weights_key(variant, seed) else { return Weights::Local(model, None) };
        match &self.adapters[&key] {
            TunedWeights::Lora(adapter) => Weights::Local(model, Some(adapter)),
            TunedWeights::Full(_) => Weights::Local(&self.tuned[&key], None),
        }
    }

    /// Names the weights of a variant: nothing for the base.
    pub(super) fn weights_key(&self, variant: VariantKind, seed: u64) -> Option<(bool, u64)> {
        Some(training::key(self.plan.spec.adapter_of(variant)?, seed))
    }

    /// Operations of one query: embedding and search, prefill, decoding, and the adapter's share. They do not depend on the pass, so the
    /// search is that of the batch. Nothing where a server did a part of it.
    pub(super) fn query_flops(&self, variant: VariantKind, seed: u64, index: usize, generation: &Generation) -> Option<f64> {
        let model = self.model.local()?;
        let prompt = generation.prompt_tokens;
        let mut flops = model.forward_flops(0, prompt);
        for step in 1..generation.output_tokens {
            flops += model.forward_flops(prompt + step - 1, 1);
        }
        if variant.context() == ContextSource::Retrieved {
            flops += self.retrieved[index].flops?;
        }
        if let Some(TunedWeights::Lora(adapter)) = self.plan.spec.adapter_of(variant).map(|kind| &self.adapters[&training::key(kind, seed)])
        {
            let processed = (prompt + generation.output_tokens.saturating_sub(1)) as f64;
            let weights: usize = adapter.pairs.values().map(|pair| pair.a.elem_count() + pair.b.elem_count()).sum();
            flops += 2.0 * weights as f64 * processed;
        }
        Some(flops)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::finetune::lora::{LoraConfig, fresh};
    use crate::finetune::peft;
    use crate::lm::ComputeDevice;
    use crate::lm::config::Module;
    use crate::measure::runner::full_models;
    use crate::spec::{TrainContext, read};

    /// Writes an adapter for the built-in model, whose up projections are not zero.
    fn write_adapter(folder: &Path, model: &LocalModel, seed: u64) {
        std::fs::create_dir_all(folder).unwrap();
        let config = LoraConfig { rank: 4, alpha: 8.0, dropout: 0.0, rank_stabilised: false, target_modules: Module::ALL.to_vec() };
        let (mut adapter, _) = fresh(&model.config, &config, seed, model.device()).unwrap();
        for pair in adapter.pairs.values_mut() {
            let mut rng = crate::rng::Rng::new(seed, "up projections");
            let values: Vec<f32> = (0..pair.b.elem_count()).map(|_| 3.0 * rng.normal() as f32).collect();
            pair.b = candle_core::Tensor::from_vec(values, pair.b.shape(), pair.b.device()).unwrap();
        }
        peft::write(folder, &adapter, &config, &model.config, "builtin").unwrap();
    }

    #[test]
    fn two_adapters_stand_beside_one_base_in_memory() {
        let model = crate::lm::builtin::load_builtin(0, &ComputeDevice::cpu()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (name, seed) in [("closed", 1), ("open", 2)] {
            write_adapter(&folder.path().join(name), &model, seed);
        }
        let settings = ["variants=[\"baseline\",\"finetuned\",\"hybrid_raft\"]", "finetune.adapter=closed", "hybrid.adapter=open"];
        let spec = read("", &settings.map(|setting| setting.parse().unwrap())).unwrap();
        let plan = RunPlan::prepare(spec, folder.path()).unwrap();
        let seed = plan.spec.seeds[0];
        let given = |kind| (training::key(kind, seed), TunedWeights::Lora(plan.given_adapter(kind).unwrap().unwrap().weights));
        let adapters: Adapters = [TrainContext::None, TrainContext::Retrieved].map(given).into();
        let (tuned, interrupt) = (full_models(&model, &adapters), AtomicBool::new(false));
        assert!(tuned.is_empty(), "no copy of the base is made for an adapter");
        let loaded = Model::Local(Box::new(model));
        let model = loaded.local().unwrap();
        let bench = Bench::new(&plan, &loaded, &adapters, &tuned, None, &interrupt);
        let engine = model.engine().unwrap();
        let tokens = plan.encode_prompt("Question : where?\nAnswer :").unwrap().tokens;
        let prompt = [Prompt { tokens, stream: String::new() }];
        let config = GenerationConfig { forced_tokens: Some(12), ..bench.generation_config() };
        let answers = [VariantKind::Baseline, VariantKind::Finetuned, VariantKind::HybridRaft].map(|variant| {
            let Weights::Local(base, adapter) = bench.weights(variant, seed) else { panic!("the model is on this machine") };
            assert!(std::ptr::eq(base, model) && Arc::ptr_eq(&base.engine().unwrap(), &engine), "{variant:?}");
            assert_eq!(adapter.is_some(), variant != VariantKind::Baseline);
            // An adapter holds its low-rank pairs and nothing of the base's size.
            let held: usize = adapter.iter().flat_map(|adapter| adapter.pairs.values()).map(|p| p.a.elem_count() + p.b.elem_count()).sum();
            let expected: usize = model.config.linear_shapes().iter().map(|(_, out, input)| 4 * (out + input)).sum();
            assert_eq!(held, if adapter.is_some() { expected * model.config.num_hidden_layers } else { 0 });
            base.generate(&prompt, adapter, &config).unwrap().remove(0).text
        });
        assert!(answers[0] != answers[1] && answers[1] != answers[2], "each answers with its own weights: {answers:?}");
        assert!(Arc::ptr_eq(&model.engine().unwrap(), &engine), "answering with adapters packs no other base");
    }
}
