//! `ragft plan`: what would run, how long about, and what difference it could show. One batch is generated to know the speed.

use std::fmt::Write as _;

use serde::Serialize;

use super::args::{Global, PlanArgs};
use super::failure::Failure;
use super::run::listen_to_interrupts;
use super::{print, spec};
use crate::clock::Stopwatch;
use crate::lm::local::LocalModel;
use crate::lm::{GenerationConfig, LanguageModel as _, Prompt};
use crate::measure::plan::RunPlan;
use crate::measure::runner::RunError;
use crate::spec::ContextSource;
use crate::variant::prompt::Passage;

/// Share of questions that two variants answer differently (one right, one wrong), assumed for the detectable difference.
const DISCORDANT: f64 = 0.2;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Outlook {
    run_id: String,
    device: String,
    documents: usize,
    train: usize,
    validation: usize,
    test: usize,
    variants: Vec<VariantOutlook>,
    trainings: usize,
    /// Seconds, from one timed batch per variant; training from a timed forward pass, backward taken as twice that.
    accuracy_seconds: f64,
    latency_seconds: f64,
    training_seconds: f64,
    /// Points of a 0/1 score: two-sided 5 %, power 80 %, a fifth of the questions discordant, questions independent.
    detectable_points: f64,
}

#[derive(Debug, Serialize)]
struct VariantOutlook {
    variant: &'static str,
    seeds: usize,
    questions: usize,
    prompt_tokens: usize,
    batch_seconds: f64,
    single_seconds: f64,
    flops_per_query: f64,
}

/// Checks the spec as `run` would, tries one batch per variant, and prints the outlook.
pub fn run(args: &PlanArgs, global: &Global) -> Result<(), Failure> {
    listen_to_interrupts()?;
    let (spec, base) = spec::load(&args.spec)?;
    let plan = RunPlan::prepare(spec, &base)?;
    let outlook = outlook(&plan)?;
    print(&if global.json { format!("{:#}\n", serde_json::to_value(&outlook).expect("plain data")) } else { text(&outlook) });
    Ok(())
}

fn outlook(plan: &RunPlan) -> Result<Outlook, RunError> {
    let model = plan.load_model()?;
    let mut variants = Vec::new();
    for &variant in &plan.spec.variants {
        let passages = if variant.context() == ContextSource::None { 0 } else { plan.spec.retrieval.top_k };
        variants.push(try_variant(plan, &model, variant.name(), passages, plan.seeds(variant).len())?);
    }
    let batches = plan.dataset.test.len().div_ceil(plan.spec.generation.batch_size) as f64;
    let measure = &plan.spec.measure;
    let timed = (measure.latency_samples.min(plan.dataset.test.len()) as f64) * f64::from(measure.latency_repeats);
    let trainings = plan.spec.adapters().len() * plan.spec.seeds.len();
    Ok(Outlook {
        run_id: plan.run_id.clone(),
        device: plan.device.label().to_owned(),
        documents: plan.dataset.documents.len(),
        train: plan.dataset.train.len(),
        validation: plan.dataset.validation.len(),
        test: plan.dataset.test.len(),
        accuracy_seconds: variants.iter().map(|variant| variant.batch_seconds * batches * variant.seeds as f64).sum(),
        latency_seconds: variants.iter().map(|variant| variant.single_seconds * timed).sum(),
        training_seconds: training_seconds(plan, &variants) * trainings as f64,
        detectable_points: 100.0 * (1.959_964 + 0.841_621) * (DISCORDANT / plan.dataset.test.len() as f64).sqrt(),
        variants,
        trainings,
    })
}

/// One batch and one single query of the middle question, with passages taken from the head of the corpus.
fn try_variant(
    plan: &RunPlan,
    model: &LocalModel,
    variant: &'static str,
    passages: usize,
    seeds: usize,
) -> Result<VariantOutlook, RunError> {
    let mut order: Vec<usize> = (0..plan.dataset.test.len()).collect();
    order.sort_by_key(|&index| (plan.dataset.test[index].question.len(), index));
    let generation = &plan.spec.generation;
    let batch = generation.batch_size.min(order.len());
    let encode = |text: &str| plan.tokenizer().encode_prompt(text);
    let limit = plan.spec.retrieval.chunk.max_tokens;
    let texts: Vec<(&str, String)> =
        plan.dataset.documents.iter().take(passages).map(|document| (document.title.as_str(), head(&document.text, limit))).collect();
    let given: Vec<Passage> = texts.iter().map(|(title, text)| Passage { title, text }).collect();
    // A batch of questions about the middle length, the middle one first. Their passages stand in another order in each prompt, so that the
    // prompts begin differently, as real ones do.
    let middle = (order.len() - batch) / 2;
    let mut prompts = Vec::with_capacity(batch);
    for (turn, &index) in order[middle..middle + batch].iter().enumerate() {
        let mut given = given.clone();
        let places = given.len().max(1);
        given.rotate_left(turn % places);
        let sample = &plan.dataset.test[index];
        let tokens = plan.template.fit(&sample.question, &given, plan.room(), encode)?.tokens;
        prompts.push(Prompt { tokens, stream: sample.id.clone() });
    }
    prompts.swap(0, batch / 2);
    let config = GenerationConfig {
        max_new_tokens: generation.max_new_tokens,
        temperature: generation.temperature,
        top_p: generation.top_p,
        stop: generation.stop.clone(),
        seed: plan.spec.seeds[0],
        batch_size: generation.batch_size,
        forced_tokens: None,
    };
    let time = |count: usize| -> Result<f64, RunError> {
        let watch = Stopwatch::start();
        model.generate(&prompts[..count], None, &config)?;
        Ok(watch.elapsed().as_secs_f64())
    };
    time(1)?;
    let prompt_tokens = prompts[0].tokens.len();
    Ok(VariantOutlook {
        variant,
        seeds,
        questions: plan.dataset.test.len(),
        prompt_tokens,
        batch_seconds: time(batch)?,
        single_seconds: time(1)?,
        flops_per_query: model.forward_flops(0, prompt_tokens),
    })
}

/// About as many words as make `tokens` tokens.
fn head(text: &str, tokens: usize) -> String {
    text.split_whitespace().take(tokens * 3 / 4).collect::<Vec<_>>().join(" ")
}

/// A step costs about three forward passes over its tokens.
fn training_seconds(plan: &RunPlan, variants: &[VariantOutlook]) -> f64 {
    let Some(probe) = variants.iter().max_by_key(|variant| variant.prompt_tokens) else { return 0.0 };
    let batch = plan.spec.generation.batch_size.min(plan.dataset.test.len()) as f64;
    let finetune = &plan.spec.finetune;
    let rows = plan.dataset.train.len() as f64 * finetune.epochs;
    let rows = if finetune.max_steps == 0 {
        rows
    } else {
        rows.min((finetune.max_steps as usize * finetune.micro_batch * finetune.grad_accum_steps) as f64)
    };
    3.0 * rows * probe.batch_seconds / batch
}

fn text(outlook: &Outlook) -> String {
    let mut text = format!(
        "run {} on {}\n{} documents, {} training, {} validation and {} test questions; adapters to train: {}\n",
        outlook.run_id, outlook.device, outlook.documents, outlook.train, outlook.validation, outlook.test, outlook.trainings
    );
    for variant in &outlook.variants {
        let _ = writeln!(
            text,
            "  {:<12} {} questions x {} seeds, about {} prompt tokens, {:.2} GFLOP to read one",
            variant.variant,
            variant.questions,
            variant.seeds,
            variant.prompt_tokens,
            variant.flops_per_query / 1e9
        );
    }
    let _ = writeln!(
        text,
        "about {:.0} s training, {:.0} s accuracy pass, {:.0} s latency pass",
        outlook.training_seconds, outlook.accuracy_seconds, outlook.latency_seconds
    );
    let _ = writeln!(
        text,
        "a difference of {:.1} points can be detected (two-sided 5 %, power 80 %, a fifth of the questions discordant)",
        outlook.detectable_points
    );
    text
}
