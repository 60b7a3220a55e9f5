//! Adapters on disk as PEFT writes them: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::lm::config::{DecoderConfig, Module};
use crate::lm::lora::{LoraPair, LoraWeights};

use super::error::TrainingError;
use super::lora::{LoraConfig, tensor_name};
use super::tensors;

/// Settings of an adapter, in PEFT's form.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// Matrices of an adapter.
pub const WEIGHTS_FILE: &str = "adapter_model.safetensors";

/// The keys that PEFT needs to load a LoRA adapter, and those that say that nothing else is in it.
#[derive(Serialize)]
struct AdapterConfig<'a> {
    base_model_name_or_path: &'a str,
    bias: &'static str,
    fan_in_fan_out: bool,
    inference_mode: bool,
    init_lora_weights: bool,
    lora_alpha: f64,
    lora_dropout: f64,
    modules_to_save: Option<Vec<String>>,
    peft_type: &'static str,
    r: usize,
    target_modules: Vec<&'static str>,
    task_type: &'static str,
    use_dora: bool,
    use_rslora: bool,
}

/// The keys that are read; what is not computed here is refused by [`unsupported`].
#[derive(Deserialize)]
struct ReadConfig {
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    lora_dropout: f64,
    #[serde(default)]
    use_rslora: bool,
}

/// Writes the two files into `folder`, which must exist.
pub fn write(folder: &Path, adapter: &LoraWeights, config: &LoraConfig, base_model: &str) -> Result<(), TrainingError> {
    let on_disk = AdapterConfig {
        base_model_name_or_path: base_model,
        bias: "none",
        fan_in_fan_out: false,
        inference_mode: true,
        init_lora_weights: true,
        lora_alpha: config.alpha,
        lora_dropout: config.dropout,
        modules_to_save: None,
        peft_type: "LORA",
        r: config.rank,
        target_modules: config.target_modules.iter().map(|module| module.name()).collect(),
        task_type: "CAUSAL_LM",
        use_dora: false,
        use_rslora: config.rank_stabilised,
    };
    let path = folder.join(CONFIG_FILE);
    let text = serde_json::to_string_pretty(&on_disk).expect("plain data") + "\n";
    fs::write(&path, text).map_err(TrainingError::file(&path))?;
    let mut named = BTreeMap::new();
    for (&(layer, module), pair) in &adapter.pairs {
        named.insert(tensor_name(layer, module, 'A'), pair.a.clone());
        named.insert(tensor_name(layer, module, 'B'), pair.b.clone());
    }
    tensors::save(&folder.join(WEIGHTS_FILE), &named)
}

/// Reads an adapter for a decoder of the given shape.
///
/// # Errors
/// [`TrainingError::UnsupportedAdapter`] names a feature that is not computed here; [`TrainingError::Adapter`] says which file, key or
/// shape is wrong.
pub fn read(folder: &Path, decoder: &DecoderConfig, device: &Device) -> Result<(LoraWeights, LoraConfig), TrainingError> {
    let path = folder.display().to_string();
    let wrong = |problem: String| TrainingError::Adapter { path: path.clone(), problem };
    let text = fs::read(folder.join(CONFIG_FILE)).map_err(|error| wrong(format!("cannot read `{CONFIG_FILE}`: {error}")))?;
    let json: Value = serde_json::from_slice(&text).map_err(|error| wrong(format!("`{CONFIG_FILE}` is not JSON: {error}")))?;
    if let Some(feature) = unsupported(&json) {
        return Err(TrainingError::UnsupportedAdapter { path, feature });
    }
    let settings: ReadConfig = serde_json::from_value(json).map_err(|error| wrong(format!("`{CONFIG_FILE}`: {error}")))?;
    let named = tensors::load(&folder.join(WEIGHTS_FILE), device).map_err(wrong)?;
    let pairs = collect_pairs(named, decoder, settings.r).map_err(wrong)?;
    let modules: BTreeSet<Module> = pairs.keys().map(|&(_, module)| module).collect();
    let config = LoraConfig {
        rank: settings.r,
        alpha: settings.lora_alpha,
        dropout: settings.lora_dropout,
        rank_stabilised: settings.use_rslora,
        target_modules: modules.into_iter().collect(),
    };
    Ok((LoraWeights::new(pairs, config.scale()), config))
}

/// Keys of PEFT's LoRA configuration that change the forward pass when they are set.
const SWITCHES: [&str; 16] = [
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "fan_in_fan_out",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "velora_config",
];

/// The first key whose value asks for something that is not computed here.
fn unsupported(config: &Value) -> Option<String> {
    let is_lora = config["peft_type"].as_str().is_none_or(|kind| kind == "LORA");
    if !is_lora {
        return Some(format!("peft_type = {}", config["peft_type"]));
    }
    let bias = config["bias"].as_str().unwrap_or("none");
    if bias != "none" {
        return Some(format!("bias = \"{bias}\""));
    }
    SWITCHES.into_iter().find(|key| is_set(&config[*key])).map(str::to_owned)
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
        _ => true,
    }
}

/// Sorts the matrices by layer and module; every one must be asked for and have the decoder's shape.
fn collect_pairs(
    mut named: BTreeMap<String, Tensor>,
    decoder: &DecoderConfig,
    rank: usize,
) -> Result<BTreeMap<(usize, Module), LoraPair>, String> {
    let mut pairs = BTreeMap::new();
    for layer in 0..decoder.num_hidden_layers {
        for (module, out, input) in decoder.linear_shapes() {
            let names = (tensor_name(layer, module, 'A'), tensor_name(layer, module, 'B'));
            let pair = match (named.remove(&names.0), named.remove(&names.1)) {
                (None, None) => continue,
                (Some(a), Some(b)) => LoraPair { a, b },
                (Some(_), None) => return Err(format!("`{}` is missing", names.1)),
                (None, Some(_)) => return Err(format!("`{}` is missing", names.0)),
            };
            expect_shape(&names.0, &pair.a, [rank, input])?;
            expect_shape(&names.1, &pair.b, [out, rank])?;
            let to_f32 = |tensor: &Tensor| tensor.to_dtype(candle_core::DType::F32).map_err(|error| error.to_string());
            pairs.insert((layer, module), LoraPair { a: to_f32(&pair.a)?, b: to_f32(&pair.b)? });
        }
    }
    match named.keys().next() {
        Some(name) => Err(format!("`{name}` does not belong to a linear layer of the model")),
        None if pairs.is_empty() => Err(format!("`{WEIGHTS_FILE}` holds no matrix")),
        None => Ok(pairs),
    }
}

fn expect_shape(name: &str, tensor: &Tensor, expected: [usize; 2]) -> Result<(), String> {
    if tensor.dims() == expected { Ok(()) } else { Err(format!("`{name}` has shape {:?}, the model expects {expected:?}", tensor.dims())) }
}

#[cfg(test)]
mod tests {
    use super::super::{lora, testing};
    use super::*;

    fn written() -> (tempfile::TempDir, LoraWeights, LoraConfig) {
        let folder = tempfile::tempdir().unwrap();
        let config = LoraConfig { rank: 4, alpha: 8.0, dropout: 0.1, rank_stabilised: true, target_modules: vec![Module::Q, Module::Down] };
        let (adapter, _) = lora::fresh(&testing::config(), &config, 1, &Device::Cpu).unwrap();
        write(folder.path(), &adapter, &config, "some/model").unwrap();
        (folder, adapter, config)
    }

    fn change(folder: &Path, key: &str, value: Value) -> TrainingError {
        let path = folder.join(CONFIG_FILE);
        let original = fs::read(&path).unwrap();
        let mut json: Value = serde_json::from_slice(&original).unwrap();
        json[key] = value;
        fs::write(&path, json.to_string()).unwrap();
        let error = read(folder, &testing::config(), &Device::Cpu).unwrap_err();
        fs::write(&path, original).unwrap();
        error
    }

    #[test]
    fn what_is_written_is_read_back_exactly() {
        let (folder, adapter, config) = written();
        let (read, read_config) = read(folder.path(), &testing::config(), &Device::Cpu).unwrap();
        assert_eq!(read_config, config);
        assert_eq!(read.scale, 8.0 / 4f64.sqrt());
        assert_eq!(read.pairs.len(), 4);
        for (key, pair) in &adapter.pairs {
            assert_eq!(read.pairs[key].a.to_vec2::<f32>().unwrap(), pair.a.to_vec2::<f32>().unwrap());
            assert_eq!(read.pairs[key].b.to_vec2::<f32>().unwrap(), pair.b.to_vec2::<f32>().unwrap());
        }
    }

    #[test]
    fn features_that_are_not_computed_are_refused_by_name() {
        let (folder, _, _) = written();
        for (key, value, name) in [
            ("use_dora", Value::from(true), "use_dora"),
            ("modules_to_save", Value::from(vec!["lm_head"]), "modules_to_save"),
            ("rank_pattern", serde_json::json!({"q_proj": 8}), "rank_pattern"),
            ("bias", Value::from("all"), "bias = \"all\""),
            ("peft_type", Value::from("IA3"), "peft_type = \"IA3\""),
        ] {
            let error = change(folder.path(), key, value);
            assert!(matches!(&error, TrainingError::UnsupportedAdapter { feature, .. } if feature == name), "{error}");
        }
    }

    #[test]
    fn an_adapter_of_another_model_is_refused() {
        let (folder, _, _) = written();
        assert!(change(folder.path(), "r", Value::from(2)).to_string().contains("has shape [4, 16], the model expects [2, 16]"));
        let shallow = DecoderConfig { num_hidden_layers: 1, ..testing::config() };
        let error = read(folder.path(), &shallow, &Device::Cpu).unwrap_err();
        assert!(error.to_string().contains("layers.1"), "{error}");
    }
}
