//! Training: steps of the harness's own trainer. The trainer keeps running between two commands (it waits inside its report of a step), so
//! weights and moments go on as they do in the other contenders.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};
use candle_core::Device;
use ragft::finetune::objective::NextToken;
use ragft::finetune::optimizer::{Optimizer, ParameterGroup, Parameters, UpdateRule};
use ragft::finetune::schedule::{Decay, LearningRate};
use ragft::finetune::trainer::{Trainer, TrainerConfig};
use ragft::finetune::{BatchSource, TrainingError, TrainingSequence, full, lora, peft};
use ragft::lm::config::{DecoderConfig, Module};
use ragft::lm::lora::LoraWeights;
use serde_json::json;

use crate::Settings;
use crate::generate::load;
use crate::protocol::{AdapterWork, Channel, Command, Method, TrainWork};
use crate::tokens::Tokens;

/// Rows of the token file, in order. A row of L positions takes L + 1 tokens, the last being a target only.
struct Rows {
    tokens: Tokens,
    batch: usize,
    length: usize,
}

impl BatchSource for Rows {
    fn batches(&self, step: u64) -> Vec<Vec<TrainingSequence>> {
        let width = self.length + 1;
        let rows = self.tokens.rows(step as usize * self.batch * width, self.batch, width);
        vec![rows.into_iter().map(|tokens| TrainingSequence { tokens, loss_weights: vec![1.0; width] }).collect()]
    }

    fn steps(&self) -> u64 {
        u64::MAX
    }
}

/// What the steps of one command gave.
#[derive(Default)]
struct Steps {
    seconds: Vec<f64>,
    losses: Vec<f64>,
}

/// Writes the initial adapter for the contenders that read PEFT's form.
pub fn write_adapter(settings: &Settings, work: &AdapterWork, channel: &mut Channel) -> Result<()> {
    let model = load(settings)?;
    let config = lora_config(work.rank, work.alpha);
    let (adapter, _) = fresh(&model.config, &config, work.seed)?;
    std::fs::create_dir_all(&work.folder).with_context(|| format!("cannot make `{}`", work.folder.display()))?;
    peft::write(&work.folder, &adapter, &config, &model.config, &settings.model.display().to_string())?;
    channel.answer(json!({ "folder": work.folder }))
}

/// Trains as many steps as each command asks for, until the input ends.
pub fn serve(settings: &Settings, work: TrainWork, channel: &mut Channel) -> Result<()> {
    ensure!(settings.dtype == "f32", "weights are trained in f32, not in {}", settings.dtype);
    let model = load(settings)?;
    match work.method {
        Method::Lora => {
            let (adapter, parameters) = initial_adapter(&work, &model.config)?;
            let base = model.decoder()?;
            let objective = NextToken::new(&base, Some(&adapter));
            train(&work, &objective, &parameters, channel)
        }
        Method::Full => {
            let (decoder, parameters) = full::trainable(&*model.decoder()?)?;
            drop(model);
            let objective = NextToken::new(&decoder, None);
            train(&work, &objective, &parameters, channel)
        }
    }
}

fn train(work: &TrainWork, objective: &NextToken, parameters: &Parameters, channel: &mut Channel) -> Result<()> {
    let rows = Rows { tokens: Tokens::load(&work.tokens)?, batch: work.batch, length: work.length };
    let interrupt = AtomicBool::new(false);
    let config = TrainerConfig {
        variant: "finetuned".into(),
        seed: work.seed,
        schedule: LearningRate { warmup_steps: 0, total_steps: u64::MAX, decay: Decay::Constant },
        max_grad_norm: work.max_grad_norm,
        eval_steps: 0,
        patience: 0,
        checkpoint_steps: 0,
        checkpoint: None,
        fingerprint: String::new(),
    };
    let group = ParameterGroup { rule: UpdateRule::ADAMW, learning_rate: work.learning_rate, weight_decay: work.weight_decay };
    let trainer = Trainer { parameters, objective, batches: &rows, validation: &[], interrupt: &interrupt, config };
    let (mut wanted, mut done, mut failed) = (work.steps, Steps::default(), None);
    let result = trainer.run(Optimizer::new(parameters, |_, _| group), &mut |row| {
        done.seconds.push(row.step_ns as f64 / 1e9);
        done.losses.push(row.train_loss);
        if done.losses.len() < wanted {
            return;
        }
        match hand_over(&std::mem::take(&mut done), rows.batch * rows.length, channel) {
            Ok(Some(steps)) => wanted = steps,
            Ok(None) => interrupt.store(true, Ordering::Relaxed),
            Err(error) => {
                failed = Some(error);
                interrupt.store(true, Ordering::Relaxed);
            }
        }
    });
    match (failed, result) {
        (Some(error), _) => Err(error),
        (None, Err(TrainingError::Interrupted { .. }) | Ok(_)) => Ok(()),
        (None, Err(error)) => Err(error.into()),
    }
}

/// Answers a command and waits for the next; gives its number of steps.
fn hand_over(done: &Steps, step_tokens: usize, channel: &mut Channel) -> Result<Option<usize>> {
    let tokens = step_tokens * done.losses.len();
    channel.answer(json!({ "step_seconds": done.seconds, "losses": done.losses, "tokens": tokens }))?;
    let next = channel.next_as(|command| if let Command::Train(work) = command { Some(work) } else { None })?;
    Ok(next.map(|work| work.steps.max(1)))
}

/// The adapter that the seed gives, after a look into the folder that the others read theirs from: they must be one.
fn initial_adapter(work: &TrainWork, decoder: &DecoderConfig) -> Result<(LoraWeights, Parameters)> {
    let folder = work.adapter.as_ref().context("LoRA needs the folder of the initial adapter")?;
    let (written, config) = peft::read(folder, decoder, &Device::Cpu)?;
    let (adapter, parameters) = fresh(decoder, &config, work.seed)?;
    for (key, pair) in &adapter.pairs {
        let other = written.pairs.get(key).map(|pair| pair.a.to_vec2::<f32>()).transpose()?;
        ensure!(other == Some(pair.a.to_vec2()?), "the adapter in `{}` is not that of seed {}", folder.display(), work.seed);
    }
    Ok((adapter, parameters))
}

fn fresh(decoder: &DecoderConfig, config: &lora::LoraConfig, seed: u64) -> Result<(LoraWeights, Parameters)> {
    Ok(lora::fresh(decoder, config, seed, &Device::Cpu)?)
}

fn lora_config(rank: usize, alpha: f64) -> lora::LoraConfig {
    lora::LoraConfig { rank, alpha, dropout: 0.0, rank_stabilised: false, target_modules: Module::ALL.to_vec() }
}
