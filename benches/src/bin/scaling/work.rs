//! One point: what is made ready, what is timed, and the memory that it takes.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use candle_core::DType;
use ragft::clock::Stopwatch;
use ragft::kernel::WeightForm;
use ragft::lm::ComputeDevice;
use ragft::lm::builtin::load_builtin;
use ragft::lm::config::DecoderConfig;
use ragft::lm::decoder::Decoder;
use ragft::lm::folder::save_folder;
use ragft::lm::{LanguageModel as _, LocalModel, ModelError};
use ragft::measure::counters::peak_memory_bytes;
use ragft::retrieval::hnsw::HnswIndex;
use ragft::retrieval::{Hit, exact};
use ragft_benches::model::{forced, prompts, random_decoder, shape_135m, shape_tiny};
use ragft_benches::training::{Method, Training};
use ragft_benches::vectors::{HNSW, TOP_K, corpus, queries};
use serde::{Deserialize, Serialize};

/// Short work is repeated for so long.
const LEAST: Duration = Duration::from_secs(1);

/// Prompt tokens of a sequence that is decoded. All prompts of the largest batch go through in one step of the engine, so that the whole batch
/// is decoded side by side from the first to the last token.
const SHORT: usize = 8;

/// Tokens decoded after the first one.
const NEW: usize = 16;

/// Queries of a search.
const QUERIES: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    Builtin,
    Tiny,
    M135,
}

impl Model {
    pub fn name(self) -> &'static str {
        match self {
            Self::Builtin => "built-in",
            Self::Tiny => "tiny",
            Self::M135 => "135M",
        }
    }

    /// As a user's model is loaded: random weights are read from a folder below `models`, so that what is in memory is what `ragft run` holds.
    fn load(self, form: Form, models: &Path) -> Result<LocalModel, ModelError> {
        let model = match self {
            Self::Builtin => load_builtin(0, &ComputeDevice::cpu())?,
            Self::Tiny | Self::M135 => LocalModel::load_folder(&models.join(self.name()), 0)?,
        };
        let model = model.with_form(form.weights());
        model.engine()?;
        Ok(model)
    }

    /// Writes the folder that the model is loaded from, if it is not the built-in one.
    fn write(self, models: &Path) -> Result<()> {
        let shape = match self {
            Self::Builtin => return Ok(()),
            Self::Tiny => shape_tiny(),
            Self::M135 => shape_135m(),
        };
        let builtin = load_builtin(0, &ComputeDevice::cpu())?;
        // A folder is refused when its tokenizer knows more ids than the model.
        let shape = DecoderConfig { vocab_size: shape.vocab_size.max(builtin.config.vocab_size), ..shape };
        save_folder(&models.join(self.name()), &random_decoder(&shape)?, &builtin.tokenizer, DType::F32)?;
        Ok(())
    }

    fn decoder(self) -> Result<Decoder> {
        Ok(match self {
            Self::Builtin => Decoder::clone(&*load_builtin(0, &ComputeDevice::cpu())?.decoder()?),
            Self::Tiny => random_decoder(&shape_tiny())?,
            Self::M135 => random_decoder(&shape_135m())?,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    F32,
    Bf16,
    Q8_0,
}

impl Form {
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
        }
    }

    fn weights(self) -> WeightForm {
        match self {
            Self::F32 => WeightForm::F32,
            Self::Bf16 => WeightForm::Bf16,
            Self::Q8_0 => WeightForm::Q8,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// One prompt to its first token.
    Prefill { model: Model, form: Form, length: usize },
    /// Sequences side by side, after their first tokens.
    Decode { model: Model, form: Form, batch: usize },
    /// Optimizer steps.
    Training { model: Model, full: bool, rows: usize, length: usize },
    /// Building a graph over random vectors, and searching it.
    Hnsw { chunks: usize, dimension: usize },
    /// Comparing every vector.
    Exact { chunks: usize, dimension: usize },
}

/// By metric; names as in [`crate::question`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub values: BTreeMap<String, f64>,
}

impl Work {
    /// Writes what is loaded from `models` to measure it, if it is not there.
    pub fn prepare(&self, models: &Path) -> Result<()> {
        match *self {
            Self::Prefill { model, .. } | Self::Decode { model, .. } if !models.join(model.name()).exists() => model.write(models),
            _ => Ok(()),
        }
    }

    /// Measures it in this process, which should do nothing else.
    pub fn measure(&self, models: &Path) -> Result<Measured> {
        let values = match *self {
            Self::Prefill { model, form, length } => prefill(&model.load(form, models)?, length)?,
            Self::Decode { model, form, batch } => decode(&model.load(form, models)?, batch)?,
            Self::Training { model, full, rows, length } => training(model.decoder()?, full, rows, length)?,
            Self::Hnsw { chunks, dimension } => hnsw(chunks, dimension)?,
            Self::Exact { chunks, dimension } => exact_search(chunks, dimension)?,
        };
        Ok(Measured { values: values.into_iter().map(|(metric, value)| (metric.to_owned(), value)).collect() })
    }
}

type Values = Vec<(&'static str, f64)>;

/// Forgets the peak of making things ready: from here on, `VmHWM` starts from what is resident now. Only Linux can; elsewhere the peak
/// memory is not told anyway.
fn forget_peak() -> Result<()> {
    if !cfg!(target_os = "linux") {
        return Ok(());
    }
    std::fs::write("/proc/self/clear_refs", "5").context("the system does not let a process set its peak memory back")
}

fn push_peak(values: &mut Values) {
    if let Some(bytes) = peak_memory_bytes() {
        values.push(("peak_memory_bytes", bytes as f64));
    }
}

/// Repeats `once`, which gives the time that counts, until [`LEAST`] is used up; gives the mean.
fn mean_seconds(mut once: impl FnMut() -> Result<Duration>) -> Result<f64> {
    let (mut total, mut count) = (Duration::ZERO, 0);
    while total < LEAST {
        total += once()?;
        count += 1;
    }
    Ok(total.as_secs_f64() / f64::from(count))
}

fn prefill(model: &LocalModel, length: usize) -> Result<Values> {
    let prompts = prompts(1, length, model.config.vocab_size);
    forget_peak()?;
    let once = || {
        let watch = Stopwatch::start();
        model.generate(&prompts, None, &forced(1))?;
        Ok(watch.elapsed())
    };
    once()?;
    let mut values = vec![("tokens_per_second", length as f64 / mean_seconds(once)?)];
    push_peak(&mut values);
    Ok(values)
}

fn decode(model: &LocalModel, batch: usize) -> Result<Values> {
    let prompts = prompts(batch, SHORT, model.config.vocab_size);
    forget_peak()?;
    let once = |new| {
        let answers = model.generate(&prompts, None, &forced(1 + new))?;
        Ok(answers.iter().map(|answer| answer.decode).max().unwrap_or_default())
    };
    once(2)?;
    let mut values = vec![("tokens_per_second", (batch * NEW) as f64 / mean_seconds(|| once(NEW))?)];
    push_peak(&mut values);
    Ok(values)
}

fn training(decoder: Decoder, full: bool, rows: usize, length: usize) -> Result<Values> {
    let training = Training::new(decoder, if full { Method::Full } else { Method::Lora })?;
    forget_peak()?;
    // The first step also touches fresh memory.
    let seconds = training.steps(rows, length, 3)?.split_off(1);
    let mean = seconds.iter().sum::<f64>() / seconds.len() as f64;
    let mut values = vec![("tokens_per_second", (rows * length) as f64 / mean)];
    push_peak(&mut values);
    Ok(values)
}

fn hnsw(chunks: usize, dimension: usize) -> Result<Values> {
    let (vectors, queries) = (corpus(chunks, dimension), queries(QUERIES, dimension));
    forget_peak()?;
    let watch = Stopwatch::start();
    let index = HnswIndex::build(&vectors, &HNSW)?;
    let mut values = vec![("build_seconds", watch.elapsed().as_secs_f64())];
    let search = || queries.iter().map(|query| index.search(&vectors, query, TOP_K).hits).collect::<Vec<_>>();
    let found = search();
    let seconds = mean_seconds(|| {
        let watch = Stopwatch::start();
        search();
        Ok(watch.elapsed())
    })?;
    values.push(("search_microseconds", 1e6 * seconds / QUERIES as f64));
    push_peak(&mut values);
    values.push(("recall_at_10", recall(&found, &exact::search_batch(&vectors, &queries, TOP_K))));
    Ok(values)
}

fn exact_search(chunks: usize, dimension: usize) -> Result<Values> {
    let (vectors, queries) = (corpus(chunks, dimension), queries(QUERIES, dimension));
    forget_peak()?;
    // One after another on one thread, as questions come in.
    let seconds = mean_seconds(|| {
        let watch = Stopwatch::start();
        queries.iter().for_each(|query| {
            std::hint::black_box(exact::search(&vectors, query, TOP_K));
        });
        Ok(watch.elapsed())
    })?;
    let mut values = vec![("search_microseconds", 1e6 * seconds / QUERIES as f64)];
    push_peak(&mut values);
    Ok(values)
}

/// Share of the truly nearest that were found.
fn recall(found: &[Vec<Hit>], exact: &[Vec<Hit>]) -> f64 {
    let kept = |(found, exact): (&Vec<Hit>, &Vec<Hit>)| exact.iter().filter(|hit| found.iter().any(|own| own.chunk == hit.chunk)).count();
    let (kept, all) = (found.iter().zip(exact).map(kept).sum::<usize>(), exact.iter().map(Vec::len).sum::<usize>());
    kept as f64 / all.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recall_counts_what_both_found() {
        let hits = |chunks: &[usize]| vec![chunks.iter().map(|&chunk| Hit { chunk, score: 0.0 }).collect::<Vec<_>>()];
        assert_eq!(recall(&hits(&[1, 2, 3, 9]), &hits(&[3, 1, 4, 5])), 0.5);
    }

    #[test]
    fn a_point_survives_the_way_through_the_command_line() {
        let work = Work::Training { model: Model::M135, full: false, rows: 2, length: 64 };
        assert_eq!(serde_json::from_str::<Work>(&serde_json::to_string(&work).unwrap()).unwrap(), work);
    }

    #[test]
    fn small_points_of_every_kind_give_their_metrics() {
        let points = [
            (Work::Prefill { model: Model::Tiny, form: Form::Q8_0, length: 16 }, "tokens_per_second"),
            (Work::Decode { model: Model::Tiny, form: Form::F32, batch: 2 }, "tokens_per_second"),
            (Work::Training { model: Model::Tiny, full: true, rows: 1, length: 16 }, "tokens_per_second"),
            (Work::Hnsw { chunks: 100, dimension: 16 }, "recall_at_10"),
            (Work::Exact { chunks: 100, dimension: 16 }, "search_microseconds"),
        ];
        let models = tempfile::tempdir().unwrap();
        for (work, metric) in points {
            work.prepare(models.path()).unwrap();
            let measured = work.measure(models.path()).unwrap();
            assert!(measured.values[metric] > 0.0, "{work:?}");
        }
    }
}
