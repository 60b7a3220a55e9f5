//! `ragft plan`: what would run, how long about, and what difference it could show. One batch is generated to know the speed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::args::{Global, PlanArgs};
use super::failure::Failure;
use super::run::listen_to_interrupts;
use super::{print, scale, spec};
use crate::clock::Stopwatch;
use crate::lm::GenerationConfig;
use crate::measure::plan::RunPlan;
use crate::measure::runner::RunError;
use crate::measure::scale::{Part, Size};
use crate::measure::source::Model;
use crate::spec::{ContextSource, VariantKind};
use crate::stats::Assumptions;
use crate::table::declared_differences;
use crate::variant::prompt::Passage;

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
    /// Training examples whose chat prompts equal those of answering, token by token; absent without a chat template.
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_examples_checked: Option<usize>,
    /// Seconds, from one timed batch per variant; training from a timed forward pass, backward taken as twice that.
    accuracy_seconds: f64,
    latency_seconds: f64,
    training_seconds: f64,
    /// What comparisons are assumed to be like: everything below stands on it.
    assumed: Assumed,
    /// Points of a 0/1 score that one comparison finds with the test questions there are; null if their discordance allows none.
    detectable_points: Option<f64>,
    /// The same at the strictest step of Holm's procedure over all declared differences.
    detectable_points_family: Option<f64>,
    /// What the effect asked for takes; absent without `--effect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    effect: Option<EffectOutlook>,
    /// The run at another size; absent without `--documents` and `--questions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    scale: Option<(Size, Vec<Part>)>,
}

/// Assumptions about a comparison, in points.
#[derive(Debug, Serialize)]
struct Assumed {
    alpha: f64,
    power: f64,
    base_rate_points: f64,
    discordance_points: f64,
    correlation_in_cluster: f64,
    /// Measured on the test questions: sum of squared cluster sizes over their number.
    questions_per_cluster: f64,
    design_effect: f64,
    seed_deviation_points: f64,
    declared_differences: usize,
}

/// What it takes to find an effect.
#[derive(Debug, Serialize)]
struct EffectOutlook {
    points: f64,
    test_questions: usize,
    /// For a comparison alone, and for the strictest of all declared ones; null where the discordance does not allow the effect.
    alone: Option<Need>,
    family: Option<Need>,
}

/// Questions, trainings, time and money.
#[derive(Debug, Serialize)]
struct Need {
    questions: f64,
    clusters: f64,
    /// Trainings of a tuned variant, and questions beside them.
    seeds: f64,
    questions_tuned: f64,
    /// Per side, if variants were asked different questions.
    questions_unpaired: f64,
    /// The whole run with that many questions and trainings, scaled from the times above.
    seconds: f64,
    /// At `cost.machine_hour` and `cost.label` of the spec.
    money: f64,
    currency: String,
}

#[derive(Debug, Serialize)]
struct VariantOutlook {
    variant: &'static str,
    seeds: usize,
    is_tuned: bool,
    questions: usize,
    prompt_tokens: usize,
    batch_seconds: f64,
    single_seconds: f64,
    /// Null where a server computes.
    flops_per_query: Option<f64>,
}

/// Checks the spec as `run` would, tries one batch per variant, and prints the outlook.
pub fn run(args: &PlanArgs, global: &Global) -> Result<(), Failure> {
    listen_to_interrupts()?;
    let (spec, base) = spec::load(&args.spec)?;
    let plan = RunPlan::prepare(spec, &base)?;
    let outlook = outlook(&plan, args)?;
    print(&if global.json { format!("{:#}\n", serde_json::to_value(&outlook).expect("plain data")) } else { text(&outlook) });
    Ok(())
}

fn outlook(plan: &RunPlan, args: &PlanArgs) -> Result<Outlook, RunError> {
    let mut variants = Vec::new();
    if plan.spec.uses_model() {
        let model = plan.load_model()?;
        for &variant in &plan.spec.variants {
            let passages = if variant.context() == ContextSource::None { 0 } else { plan.spec.retrieval.top_k };
            variants.push(try_variant(plan, &model, variant, passages, plan.seeds(variant).len())?);
        }
    }
    let batches = plan.dataset.test.len().div_ceil(plan.spec.generation.batch_size) as f64;
    let measure = &plan.spec.measure;
    let timed = (measure.latency_samples.min(plan.dataset.test.len()) as f64) * f64::from(measure.latency_repeats);
    let trained = plan.spec.trained().count();
    let trainings = trained * plan.spec.seeds.len();
    let assumptions = assumptions(plan, args);
    let declared = declared_differences(&plan.spec.compared());
    let strictest = Assumptions { alpha: assumptions.alpha / declared.max(1) as f64, ..assumptions };
    let points = |assumptions: &Assumptions| assumptions.detectable(plan.dataset.test.len()).map(|effect| 100.0 * effect);
    let mut outlook = Outlook {
        run_id: plan.run_id.clone(),
        device: plan.device_label().to_owned(),
        documents: plan.dataset.documents.len(),
        train: plan.dataset.train.len(),
        validation: plan.dataset.validation.len(),
        test: plan.dataset.test.len(),
        accuracy_seconds: variants.iter().map(|variant| variant.batch_seconds * batches * variant.seeds as f64).sum(),
        latency_seconds: variants.iter().map(|variant| variant.single_seconds * timed).sum(),
        training_seconds: training_seconds(plan, &variants) * trainings as f64,
        assumed: Assumed {
            alpha: assumptions.alpha,
            power: assumptions.power,
            base_rate_points: 100.0 * assumptions.base_rate,
            discordance_points: 100.0 * assumptions.discordance,
            correlation_in_cluster: assumptions.correlation,
            questions_per_cluster: assumptions.cluster_size,
            design_effect: assumptions.design_effect(),
            seed_deviation_points: 100.0 * assumptions.seed_deviation,
            declared_differences: declared,
        },
        detectable_points: points(&assumptions),
        detectable_points_family: points(&strictest),
        effect: None,
        scale: None,
        variants,
        trainings,
        chat_examples_checked: plan.chat.is_some().then_some(plan.chat_checked),
    };
    if args.documents.is_some() || args.questions.is_some() {
        let times =
            scale::Times { accuracy: outlook.accuracy_seconds, latency: outlook.latency_seconds, training: outlook.training_seconds };
        outlook.scale = Some(scale::of(plan, &times, args.documents, args.questions)?);
    }
    outlook.effect = args.effect.map(|effect| EffectOutlook {
        points: 100.0 * effect,
        test_questions: plan.dataset.test.len(),
        alone: need(plan, &outlook, &assumptions, effect),
        family: need(plan, &outlook, &strictest, effect),
    });
    Ok(outlook)
}

/// The assumptions of the command line, with the clusters of the test questions there are.
fn assumptions(plan: &RunPlan, args: &PlanArgs) -> Assumptions {
    let mut sizes = BTreeMap::<&str, f64>::new();
    for sample in &plan.dataset.test {
        *sizes.entry(sample.cluster_id()).or_default() += 1.0;
    }
    let spec = &plan.spec.contrasts;
    Assumptions {
        base_rate: args.base_rate,
        discordance: args.discordance,
        correlation: args.correlation,
        cluster_size: sizes.values().map(|size| size * size).sum::<f64>() / sizes.values().sum::<f64>(),
        seed_deviation: args.seed_deviation,
        alpha: spec.alpha,
        power: spec.power,
    }
}

/// What an effect takes, with time and money of a whole run of that size.
fn need(plan: &RunPlan, outlook: &Outlook, assumptions: &Assumptions, effect: f64) -> Option<Need> {
    let required = assumptions.requirement(effect)?;
    let is_tuned = outlook.trainings > 0;
    let (questions, seeds) = if is_tuned { (required.questions_tuned, required.seeds) } else { (required.questions, 1.0) };
    let more_seeds = seeds / plan.spec.seeds.len() as f64;
    let pass = |variant: &VariantOutlook| {
        let per_seed = variant.batch_seconds / plan.spec.generation.batch_size.min(outlook.test) as f64 * questions;
        if variant.seeds > 1 || variant.is_tuned { per_seed * seeds } else { per_seed }
    };
    let accuracy: f64 = outlook.variants.iter().map(pass).sum();
    let seconds = accuracy + outlook.latency_seconds + outlook.training_seconds * more_seeds;
    let labels = questions + if is_tuned { outlook.train as f64 } else { 0.0 };
    let cost = &plan.spec.cost;
    Some(Need {
        questions: required.questions,
        clusters: required.clusters,
        seeds,
        questions_tuned: required.questions_tuned,
        questions_unpaired: required.questions_unpaired,
        seconds,
        money: seconds / 3600.0 * cost.machine_hour + labels * cost.label,
        currency: cost.currency.clone(),
    })
}

/// One batch and one single query of the middle question, with passages taken from the head of the corpus.
fn try_variant(plan: &RunPlan, model: &Model, variant: VariantKind, passages: usize, seeds: usize) -> Result<VariantOutlook, RunError> {
    let mut order: Vec<usize> = (0..plan.dataset.test.len()).collect();
    order.sort_by_key(|&index| (plan.dataset.test[index].question.len(), index));
    let generation = &plan.spec.generation;
    let batch = generation.batch_size.min(order.len());
    let encode = |text: &str| plan.encode_prompt(text);
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
        prompts.push((plan.template.fit(&sample.question, &given, plan.room(), encode)?, sample.id.as_str()));
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
        model.answer(&prompts[..count], &config)?;
        Ok(watch.elapsed().as_secs_f64())
    };
    time(1)?;
    let prompt_tokens = prompts[0].0.length;
    Ok(VariantOutlook {
        variant: variant.name(),
        seeds,
        is_tuned: variant.is_tuned(),
        questions: plan.dataset.test.len(),
        prompt_tokens,
        batch_seconds: time(batch)?,
        single_seconds: time(1)?,
        flops_per_query: model.local().map(|model| model.forward_flops(0, prompt_tokens)),
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
    if let Some(checked) = outlook.chat_examples_checked {
        let _ = writeln!(text, "chat template: in {checked} training examples tried, the prompt equals that of answering, token by token");
    }
    for variant in &outlook.variants {
        let _ = writeln!(
            text,
            "  {:<12} {} questions x {} seeds, about {} prompt tokens{}",
            variant.variant,
            variant.questions,
            variant.seeds,
            variant.prompt_tokens,
            variant.flops_per_query.map_or_else(String::new, |flops| format!(", {:.2} GFLOP to read one", flops / 1e9))
        );
    }
    let _ = writeln!(
        text,
        "about {:.0} s training, {:.0} s accuracy pass, {:.0} s latency pass",
        // An empty sum is minus zero.
        outlook.training_seconds + 0.0,
        outlook.accuracy_seconds + 0.0,
        outlook.latency_seconds + 0.0
    );
    text.push_str(&power_text(outlook));
    text.push_str(&outlook.scale.as_ref().map_or_else(String::new, scale::text));
    text
}

/// What can be shown, and what the effect asked for takes.
fn power_text(outlook: &Outlook) -> String {
    let assumed = &outlook.assumed;
    let points = |points: Option<f64>| points.map_or_else(|| "no difference".to_owned(), |points| format!("{points:.1} points"));
    let mut text = format!(
        "these questions find, with chance {:.0} %: {} in one comparison at level {}, {} at the strictest step of {} declared differences\n",
        100.0 * assumed.power,
        points(outlook.detectable_points),
        assumed.alpha,
        points(outlook.detectable_points_family),
        assumed.declared_differences
    );
    if let Some(effect) = &outlook.effect {
        let _ = writeln!(text, "to show {} points:", effect.points);
        for (name, need) in [("one comparison", &effect.alone), ("all declared", &effect.family)] {
            text.push_str(&match need {
                Some(need) => need_text(name, need, outlook.trainings > 0),
                None => format!("  {name:<15} not possible: fewer than {} % of the questions are discordant\n", effect.points),
            });
        }
    }
    let _ = writeln!(
        text,
        "assumed: {:.0} % of the questions discordant, the weaker variant right on {:.0} %, correlation {} within clusters of {:.1} questions \
         (design effect {:.2}), {:.1} points between trainings",
        assumed.discordance_points,
        assumed.base_rate_points,
        assumed.correlation_in_cluster,
        assumed.questions_per_cluster,
        assumed.design_effect,
        assumed.seed_deviation_points
    );
    text
}

fn need_text(name: &str, need: &Need, has_trainings: bool) -> String {
    let tuned = if has_trainings {
        format!("; with tuned variants {:.0} questions and {:.0} training seeds", need.questions_tuned, need.seeds)
    } else {
        String::new()
    };
    format!(
        "  {name:<15} {:.0} questions in {:.0} clusters ({:.0} per variant if they were not asked the same){tuned}; about {:.0} s and {:.2} {} in \
         all, labels included\n",
        need.questions, need.clusters, need.questions_unpaired, need.seconds, need.money, need.currency
    )
}
