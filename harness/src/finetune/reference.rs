//! Against torch, transformers and PEFT; `tests/fixtures/make_finetune.py` wrote the references.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use candle_core::Device;
use serde::Deserialize;

use crate::lm::config::{DecoderConfig, Module};
use crate::lm::decoder::Decoder;
use crate::lm::{GenerationConfig, LanguageModel as _, LocalModel, Prompt};

use super::batch::MicroBatch;
use super::lora::{self, LoraConfig};
use super::objective::{NextToken, Objective as _};
use super::optimizer::{Optimizer, ParameterGroup, UpdateRule};
use super::schedule::{Decay, LearningRate};
use super::testing::{self, FixedBatches};
use super::trainer::{Trainer, TrainerConfig};
use super::{TrainingSequence, full, peft, tensors};

#[derive(Deserialize)]
struct Row {
    tokens: Vec<u32>,
    loss_weights: Vec<f32>,
}

#[derive(Deserialize)]
struct FullTraining {
    learning_rate: f64,
    weight_decay: f64,
    max_grad_norm: f64,
    steps: Vec<Vec<Row>>,
    losses: Vec<f64>,
    grad_norms: Vec<f64>,
}

#[derive(Deserialize)]
struct AdapterLogits {
    tokens: Vec<Vec<u32>>,
    base: Vec<f32>,
    tuned: Vec<f32>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn read<T: serde::de::DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&std::fs::read(fixtures().join("finetune").join(name)).unwrap()).unwrap()
}

/// As in `finetune/base/config.json`.
fn config() -> DecoderConfig {
    DecoderConfig {
        architecture: "LlamaForCausalLM".into(),
        vocab_size: 40,
        hidden_size: 24,
        intermediate_size: 40,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 6,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        unrotated_layers: Vec::new(),
        rotary_dim: None,
        sliding_window: None,
        max_position_embeddings: 64,
        tie_word_embeddings: true,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
        qk_norm: false,
        gemma: None,
    }
}

fn base() -> Decoder {
    let mut weights = tensors::load(&fixtures().join("finetune/base/model.safetensors"), &Device::Cpu).unwrap();
    let weight = |name: &str, _: &[usize]| weights.remove(name).ok_or_else(|| candle_core::Error::Msg(name.to_owned()));
    Decoder::new(&config(), &Device::Cpu, weight).unwrap()
}

fn steps(training: &FullTraining) -> FixedBatches {
    let row = |row: &Row| TrainingSequence { tokens: row.tokens.clone(), loss_weights: row.loss_weights.clone() };
    // Two micro-batches a step, which must not change the loss.
    FixedBatches(training.steps.iter().map(|rows| rows.chunks(3).map(|rows| rows.iter().map(row).collect()).collect()).collect())
}

fn trainer_config(training: &FullTraining) -> TrainerConfig {
    TrainerConfig {
        variant: "finetuned".into(),
        seed: 1,
        schedule: LearningRate { warmup_steps: 0, total_steps: 10, decay: Decay::Constant },
        max_grad_norm: training.max_grad_norm,
        eval_steps: 0,
        patience: 0,
        checkpoint_steps: 0,
        checkpoint: None,
        fingerprint: String::new(),
    }
}

#[test]
fn ten_steps_of_full_training_have_the_losses_of_torch() {
    let training: FullTraining = read("full.json");
    let (decoder, parameters) = full::trainable(&base()).unwrap();
    let group = ParameterGroup { rule: UpdateRule::ADAMW, learning_rate: training.learning_rate, weight_decay: training.weight_decay };
    let objective = NextToken::new(&decoder, None);
    let (batches, interrupt) = (steps(&training), AtomicBool::new(false));
    let trainer = Trainer {
        parameters: &parameters,
        objective: &objective,
        batches: &batches,
        validation: &[],
        interrupt: &interrupt,
        config: trainer_config(&training),
    };
    let progress = trainer.run(Optimizer::new(&parameters, |_, _| group), &mut |_| ()).unwrap();
    let worst = |got: fn(&super::TrainingRow) -> f64, expected: &[f64]| {
        assert_eq!(progress.rows.len(), expected.len());
        progress.rows.iter().zip(expected).map(|(row, expected)| (got(row) - expected).abs()).fold(0.0, f64::max)
    };
    let (loss, norm) = (worst(|row| row.train_loss, &training.losses), worst(|row| row.grad_norm, &training.grad_norms));
    eprintln!("full training against torch over 10 steps: loss {loss:.1e}, gradient norm {norm:.1e}");
    assert!(loss < 1e-4 && norm < 1e-3, "loss {loss}, gradient norm {norm}");
}

#[test]
fn an_adapter_trained_by_peft_gives_its_logits_here() {
    let expected: AdapterLogits = read("adapter.json");
    let base = base();
    let (adapter, config) = peft::read(&fixtures().join("finetune/adapter"), &base.config, &Device::Cpu).unwrap();
    assert_eq!((config.rank, config.scale(), config.dropout), (4, 3.0, 0.05));
    let plain = testing::distance(&testing::logits(&base, None, &expected.tokens), &expected.base);
    let tuned = testing::distance(&testing::logits(&base, Some(&adapter), &expected.tokens), &expected.tuned);
    eprintln!("logits against transformers {plain:.1e}, with the adapter against PEFT {tuned:.1e}");
    assert!(plain < 1e-4 && tuned < 1e-4, "base {plain}, adapter {tuned}");
}

/// Adapters as PEFT has them: plain, rsLoRA, with patterns, DoRA, and on a base with fused layers (`make_adapters.py`).
#[test]
fn adapters_of_every_supported_kind_give_the_logits_of_peft() {
    #[derive(Deserialize)]
    struct Kind {
        base: String,
        tokens: Vec<Vec<u32>>,
        tuned: Vec<f32>,
    }
    let text = std::fs::read(fixtures().join("adapters/reference.json")).unwrap();
    let kinds: std::collections::BTreeMap<String, Kind> = serde_json::from_slice(&text).unwrap();
    assert_eq!(kinds.keys().collect::<Vec<_>>(), ["dora", "dora-phi3", "patterns", "phi3", "plain", "rslora"]);
    for (name, kind) in &kinds {
        let model = crate::lm::LocalModel::load_folder(&fixtures().join("lm").join(&kind.base), 0).unwrap();
        let folder = fixtures().join("adapters").join(name);
        let given = super::load_given(&folder, &model.config, &model.tokenizer, &Device::Cpu).unwrap();
        let last = |adapter| -> Vec<f32> {
            let all = testing::logits(&model.decoder().unwrap(), adapter, &kind.tokens);
            let row = all.len() / kind.tokens.len();
            all.chunks_exact(row).flat_map(|row| row[row.len() - model.config.vocab_size..].to_vec()).collect()
        };
        let tuned = testing::distance(&last(Some(&given.weights)), &kind.tuned);
        let moved = testing::distance(&last(None), &kind.tuned);
        let merged = model.with_decoder(lora::merge(&model.decoder().unwrap(), &given.weights).unwrap());
        let beside = testing::logits(&model.decoder().unwrap(), Some(&given.weights), &kind.tokens);
        assert!(testing::distance(&testing::logits(&merged.decoder().unwrap(), None, &kind.tokens), &beside) < 1e-4, "{name}: merged");
        let prompts = kind.tokens.iter().map(|tokens| Prompt { tokens: tokens.clone(), stream: String::new() }).collect::<Vec<_>>();
        let greedy = GenerationConfig {
            max_new_tokens: 6,
            temperature: 0.0,
            top_p: 1.0,
            stop: Vec::new(),
            seed: 1,
            batch_size: 2,
            forced_tokens: Some(6),
        };
        let answers = |model: &LocalModel, adapter| -> Vec<String> {
            model.generate(&prompts, adapter, &greedy).unwrap().into_iter().map(|generation| generation.text).collect()
        };
        assert_eq!(answers(&model, Some(&given.weights)), answers(&merged, None), "{name}: the engine, beside and merged");
        eprintln!("{name}: logits against PEFT {tuned:.1e}, moved by {moved:.2}");
        assert!(tuned < 1e-4 && moved > 0.1, "{name}: {tuned}");
    }
}

/// Windows, stretched positions and Gemma (`make_shapes.py`): loss and gradients of every weight, through whichever backward pass is used.
#[test]
fn gradients_of_every_shape_equal_those_of_torch() {
    #[derive(Deserialize)]
    struct Shape {
        tokens: Vec<u32>,
        loss: f64,
        gradients: std::collections::BTreeMap<String, f64>,
    }
    let text = std::fs::read(fixtures().join("shapes/reference.json")).unwrap();
    let shapes: std::collections::BTreeMap<String, Shape> = serde_json::from_slice(&text).unwrap();
    for (name, shape) in shapes {
        let read = |file: &str| std::fs::read(fixtures().join("shapes").join(&name).join(file)).unwrap();
        let config = crate::lm::config_file::parse(&read("config.json"), &name).unwrap().decoder;
        let base = crate::lm::weights::load_bytes(&read("model.safetensors"), &config, &Device::Cpu, &name).unwrap();
        let (decoder, parameters) = full::trainable(&base).unwrap();
        let row = TrainingSequence { loss_weights: vec![1.0; shape.tokens.len()], tokens: shape.tokens };
        let batch = MicroBatch::new(&[row], &Device::Cpu).unwrap();
        let (loss, gradients) = NextToken::new(&decoder, None).gradients(&parameters, &batch, batch.weight_sum, None).unwrap();
        assert!((loss - shape.loss).abs() < 1e-5, "{name}: loss {loss}, torch {}", shape.loss);
        let mut compared = 0;
        for (weight, expected) in shape.gradients {
            // Phi-3's fused matrices are split here.
            let Some(gradient) = gradients.get(&weight) else { continue };
            let found: f64 = gradient.iter().enumerate().map(|(i, g)| f64::from(*g) * (i as f64).cos()).sum();
            let size = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            assert!((found - expected).abs() < 1e-4 * size.max(0.01), "{name}: `{weight}` {found}, torch {expected}");
            compared += 1;
        }
        assert!(compared >= 11, "{name}: {compared} weights");
    }
}

/// Logits of a base with an adapter, as transformers and PEFT compute them.
fn logits_in_peft(python: &OsStr, base: &Path, adapter: &Path, tokens: &[Vec<u32>]) -> Vec<f32> {
    let output = std::process::Command::new(python)
        .arg(fixtures().join("check_adapter.py"))
        .args([base, adapter])
        .arg(serde_json::to_string(tokens).unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(printed.lines().last().unwrap()).unwrap()
}

/// Opt-in: `RAGFT_PYTHON` names a Python with torch, transformers and peft.
#[test]
fn adapters_written_for_each_form_of_a_base_load_in_peft() {
    let Some(python) = std::env::var_os("RAGFT_PYTHON") else {
        eprintln!("skipped: RAGFT_PYTHON does not name a Python with peft");
        return;
    };
    for (base, rank_stabilised) in [("llama-gqa-tied", true), ("phi3", false), ("phi3", true), ("smollm3", false)] {
        let base_folder = fixtures().join("lm").join(base);
        let decoder = crate::lm::LocalModel::load_folder(&base_folder, 0).unwrap().decoder().unwrap();
        let config = LoraConfig { rank: 4, alpha: 6.0, dropout: 0.0, rank_stabilised, target_modules: Module::ALL.to_vec() };
        let (adapter, parameters) = lora::fresh(&decoder.config, &config, 1, &Device::Cpu).unwrap();
        for (name, var) in parameters.iter().filter(|(name, _)| name.contains("lora_B")) {
            let mut rng = crate::rng::Rng::new(6, name);
            let values: Vec<f32> = (0..var.elem_count()).map(|_| 0.1 * rng.normal() as f32).collect();
            var.set(&candle_core::Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap()).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        peft::write(folder.path(), &adapter, &config, &decoder.config, base).unwrap();
        let tokens = vec![vec![0, 5, 9, 80, 3], vec![0, 7, 7, 12, 100]];
        let theirs = logits_in_peft(&python, &base_folder, folder.path(), &tokens);
        let worst = testing::distance(&testing::logits(&decoder, Some(&adapter), &tokens), &theirs);
        eprintln!("{base}, rsLoRA {rank_stabilised}: logits in PEFT differ by {worst:.1e}");
        assert!(worst < 1e-4, "{base}: {worst}");
    }
}

/// Opt-in: `RAGFT_PYTHON` names a Python with torch, transformers and peft.
#[test]
fn an_adapter_trained_here_gives_its_logits_in_peft() {
    let Some(python) = std::env::var_os("RAGFT_PYTHON") else {
        eprintln!("skipped: RAGFT_PYTHON does not name a Python with peft");
        return;
    };
    let training: FullTraining = read("full.json");
    let base = base();
    let config = LoraConfig { rank: 3, alpha: 9.0, dropout: 0.1, rank_stabilised: false, target_modules: Module::ALL.to_vec() };
    let (adapter, parameters) = lora::fresh(&base.config, &config, 1, &Device::Cpu).unwrap();
    let objective = NextToken { dropout: config.dropout, seed: 1, ..NextToken::new(&base, Some(&adapter)) };
    let (batches, interrupt) = (steps(&training), AtomicBool::new(false));
    let trainer = Trainer {
        parameters: &parameters,
        objective: &objective,
        batches: &batches,
        validation: &[],
        interrupt: &interrupt,
        config: trainer_config(&training),
    };
    let group = ParameterGroup { rule: UpdateRule::ADAMW, learning_rate: 0.02, weight_decay: 0.0 };
    trainer.run(Optimizer::new(&parameters, |_, _| group), &mut |_| ()).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let base_folder = fixtures().join("finetune/base");
    peft::write(folder.path(), &adapter, &config, &base.config, &base_folder.display().to_string()).unwrap();
    let tokens = read::<AdapterLogits>("adapter.json").tokens;
    let expected = logits_in_peft(&python, &base_folder, folder.path(), &tokens);
    let got = testing::logits(&base, Some(&adapter), &tokens);
    let moved = testing::distance(&got, &testing::logits(&base, None, &tokens));
    let difference = testing::distance(&got, &expected);
    eprintln!("adapter trained here, in PEFT: {difference:.1e} (the adapter moves logits by {moved:.2})");
    assert!(moved > 0.1 && difference < 1e-4, "difference {difference}, moved {moved}");
}
