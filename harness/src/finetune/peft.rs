//! Adapters on disk as PEFT writes them: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::lm::config::{DecoderConfig, Module};
use crate::lm::layout::stored;
use crate::lm::lora::{LoraPair, LoraWeights};
use crate::spec::FinetuneSpec;

use super::error::TrainingError;
use super::lora::{LoraConfig, scale};
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
    rank_pattern: BTreeMap<String, usize>,
    alpha_pattern: BTreeMap<String, f64>,
    target_modules: Vec<String>,
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
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    rank_pattern: BTreeMap<String, usize>,
    #[serde(default)]
    alpha_pattern: BTreeMap<String, f64>,
}

/// What `adapter_config.json` calls the base model.
pub fn base_name(folder: &Path) -> Option<String> {
    let json: Value = serde_json::from_slice(&fs::read(folder.join(CONFIG_FILE)).ok()?).ok()?;
    json["base_model_name_or_path"].as_str().map(str::to_owned)
}

/// The settings of a training as arguments of PEFT's `LoraConfig`.
pub fn peft_settings(spec: &FinetuneSpec, decoder: &DecoderConfig) -> Value {
    let config = LoraConfig::from(spec);
    let path = |&module: &Module| stored_path(decoder, 0, module).0;
    let modules: BTreeSet<String> = config.target_modules.iter().map(path).map(|path| last_part(&path)).collect();
    json!({
        "task_type": "CAUSAL_LM",
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.rank_stabilised,
        "target_modules": modules,
    })
}

fn last_part(path: &str) -> String {
    path.rsplit('.').next().unwrap_or_default().to_owned()
}

/// Writes the two files into `folder`, which must exist. Where the base keeps several layers in one matrix (Phi-3), so does the adapter.
///
/// # Errors
/// [`TrainingError::UnsupportedAdapter`] for an adapter with DoRA's magnitudes: none is trained here, so none is written.
pub fn write(
    folder: &Path,
    adapter: &LoraWeights,
    config: &LoraConfig,
    decoder: &DecoderConfig,
    base_model: &str,
) -> Result<(), TrainingError> {
    if !adapter.magnitudes.is_empty() {
        return Err(TrainingError::UnsupportedAdapter {
            path: folder.display().to_string(),
            feature: "use_dora in a trained adapter".into(),
        });
    }
    let layers = stored_layers(adapter, decoder)?;
    let mut target_modules: BTreeSet<String> = BTreeSet::new();
    let (mut rank_pattern, mut alpha_pattern) = (BTreeMap::new(), BTreeMap::new());
    for layer in &layers {
        let rank = layer.pair.a.dim(0)?;
        target_modules.insert(layer.module.clone());
        if rank != config.rank {
            let times = rank as f64 / config.rank as f64;
            rank_pattern.insert(layer.module.clone(), rank);
            alpha_pattern.insert(layer.module.clone(), config.alpha * if config.rank_stabilised { times.sqrt() } else { times });
        }
    }
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
        rank_pattern,
        alpha_pattern,
        target_modules: target_modules.into_iter().collect(),
        task_type: "CAUSAL_LM",
        use_dora: false,
        use_rslora: config.rank_stabilised,
    };
    let path = folder.join(CONFIG_FILE);
    let text = serde_json::to_string_pretty(&on_disk).expect("plain data") + "\n";
    fs::write(&path, text).map_err(TrainingError::file(&path))?;
    let mut named = BTreeMap::new();
    for layer in layers {
        named.insert(matrix_name(&layer.path, 'A'), layer.pair.a);
        named.insert(matrix_name(&layer.path, 'B'), layer.pair.b);
    }
    tensors::save(&folder.join(WEIGHTS_FILE), &named)
}

/// A linear layer of the base as its files have it, with its update.
struct StoredLayer {
    /// For example `model.layers.0.self_attn.q_proj`.
    path: String,
    /// Its last part.
    module: String,
    pair: LoraPair,
}

/// Name of a matrix (`A` or `B`) of the layer at `path`.
fn matrix_name(path: &str, matrix: char) -> String {
    format!("base_model.model.{path}.lora_{matrix}.weight")
}

/// Name of DoRA's magnitudes of the layer at `path`.
fn magnitude_name(path: &str) -> String {
    format!("base_model.model.{path}.lora_magnitude_vector")
}

/// Path of the layer, as the base's files have it, that holds a linear layer, and its rows there.
fn stored_path(decoder: &DecoderConfig, layer: usize, module: Module) -> (String, Option<(usize, usize)>) {
    let place = stored(decoder, &format!("model.layers.{layer}.{}.weight", module.path()));
    (place.name.trim_end_matches(".weight").to_owned(), place.rows)
}

/// The update by the layers that the base's files have: parts of one matrix become one pair, `A` stacked and `B` along the diagonal.
fn stored_layers(adapter: &LoraWeights, decoder: &DecoderConfig) -> candle_core::Result<Vec<StoredLayer>> {
    let mut parts: BTreeMap<String, Vec<(usize, Module)>> = BTreeMap::new();
    for &(layer, module) in adapter.pairs.keys() {
        parts.entry(stored_path(decoder, layer, module).0).or_default().push((layer, module));
    }
    let pair = |keys: &[(usize, Module)]| -> candle_core::Result<LoraPair> {
        let pairs: Vec<&LoraPair> = keys.iter().map(|key| &adapter.pairs[key]).collect();
        let rows = |&(layer, module): &(usize, Module)| stored_path(decoder, layer, module).1;
        if keys.iter().all(|key| rows(key).is_none()) {
            return Ok(pairs[0].clone());
        }
        let a = Tensor::cat(&pairs.iter().map(|pair| &pair.a).collect::<Vec<_>>(), 0)?;
        let outputs: usize =
            decoder.linear_shapes().iter().filter(|shape| same_matrix(decoder, keys[0], shape.0)).map(|shape| shape.1).sum();
        let mut columns = Vec::new();
        for (key, pair) in keys.iter().zip(&pairs) {
            let (first, count) = rows(key).expect("parts have rows");
            columns.push(pair.b.pad_with_zeros(0, first, outputs - first - count)?);
        }
        Ok(LoraPair { a, b: Tensor::cat(&columns, 1)? })
    };
    let layer = |(path, keys): (String, Vec<(usize, Module)>)| Ok(StoredLayer { module: last_part(&path), pair: pair(&keys)?, path });
    parts.into_iter().map(layer).collect()
}

/// Whether a layer's module stands in the same matrix as another.
fn same_matrix(decoder: &DecoderConfig, (layer, module): (usize, Module), other: Module) -> bool {
    stored_path(decoder, layer, module).0 == stored_path(decoder, layer, other).0
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
    let (pairs, magnitudes) = collect_pairs(named, decoder, &settings).map_err(wrong)?;
    let modules: BTreeSet<Module> = pairs.keys().map(|&(_, module)| module).collect();
    let config = LoraConfig {
        rank: settings.r,
        alpha: settings.lora_alpha,
        dropout: settings.lora_dropout,
        rank_stabilised: settings.use_rslora,
        target_modules: modules.into_iter().collect(),
    };
    Ok((LoraWeights::new(pairs, config.scale()).with_magnitudes(magnitudes), config))
}

/// Keys of PEFT's LoRA configuration that change the forward pass when they are set.
const SWITCHES: [&str; 13] = [
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "fan_in_fan_out",
    "modules_to_save",
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
    let pattern = ["rank_pattern", "alpha_pattern"]
        .into_iter()
        .find(|key| config[*key].as_object().is_some_and(|keys| !keys.keys().all(|key| is_plain(key))));
    if let Some(key) = pattern {
        return Some(format!("{key} with a regular expression"));
    }
    SWITCHES.into_iter().find(|key| is_set(&config[*key])).map(str::to_owned)
}

/// Whether a key of a pattern is the end of a layer's path, and not a regular expression.
fn is_plain(key: &str) -> bool {
    key.trim_start_matches('^').chars().all(|c| c.is_alphanumeric() || "_.".contains(c))
}

/// What a pattern says of the layer at `path`; PEFT matches a key against the end of the path, and with `^` against the whole.
fn of_pattern<T: Copy + PartialEq>(pattern: &BTreeMap<String, T>, path: &str) -> Result<Option<T>, String> {
    let matches = |key: &str| match key.strip_prefix('^') {
        Some(whole) => path == whole,
        None => path == key || path.ends_with(&format!(".{key}")),
    };
    let mut found = pattern.iter().filter(|(key, _)| matches(key)).map(|(_, value)| *value);
    let first = found.next();
    if found.any(|other| Some(other) != first) {
        return Err(format!("`{path}` matches several keys of `rank_pattern` or `alpha_pattern`"));
    }
    Ok(first)
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
        _ => true,
    }
}

type ByLayer<T> = BTreeMap<(usize, Module), T>;

/// Sorts the matrices, and DoRA's magnitudes, by layer and module; every one must be asked for and have the decoder's shape.
fn collect_pairs(
    mut named: BTreeMap<String, Tensor>,
    decoder: &DecoderConfig,
    settings: &ReadConfig,
) -> Result<(ByLayer<LoraPair>, ByLayer<Tensor>), String> {
    let (mut pairs, mut magnitudes) = (BTreeMap::new(), BTreeMap::new());
    for layer in 0..decoder.num_hidden_layers {
        for (module, out, input) in decoder.linear_shapes() {
            let (path, rows) = stored_path(decoder, layer, module);
            let names = (matrix_name(&path, 'A'), matrix_name(&path, 'B'));
            let last = decoder.linear_shapes().into_iter().rfind(|shape| same_matrix(decoder, (layer, module), shape.0));
            let mut take =
                |name: &str| if last.is_some_and(|shape| shape.0 == module) { named.remove(name) } else { named.get(name).cloned() };
            let pair = match (take(&names.0), take(&names.1)) {
                (None, None) => continue,
                (Some(a), Some(b)) => LoraPair { a, b },
                (Some(_), None) => return Err(format!("`{}` is missing", names.1)),
                (None, Some(_)) => return Err(format!("`{}` is missing", names.0)),
            };
            let rank = of_pattern(&settings.rank_pattern, &path)?.unwrap_or(settings.r);
            let alpha = of_pattern(&settings.alpha_pattern, &path)?.unwrap_or(settings.lora_alpha);
            let whole: usize =
                decoder.linear_shapes().iter().filter(|shape| same_matrix(decoder, (layer, module), shape.0)).map(|shape| shape.1).sum();
            expect_shape(&names.0, &pair.a, [rank, input])?;
            let outputs = if rows.is_some() { whole } else { out };
            expect_shape(&names.1, &pair.b, [outputs, rank])?;
            if settings.use_dora {
                let name = magnitude_name(&path);
                let magnitude = take(&name).ok_or_else(|| format!("`{name}` is missing, and `use_dora` is set"))?;
                expect_shape(&name, &magnitude, [outputs])?;
                let own = rows.map_or(Ok(magnitude.clone()), |(first, count)| magnitude.narrow(0, first, count));
                let own = own.and_then(|own| own.to_dtype(candle_core::DType::F32)?.force_contiguous());
                magnitudes.insert((layer, module), own.map_err(|error| error.to_string())?);
            }
            // One scale is kept for all: where a pattern sets another, the difference goes into `B`.
            let own = scale(alpha, rank, settings.use_rslora) / scale(settings.lora_alpha, settings.r, settings.use_rslora);
            pairs.insert((layer, module), part(&pair, rows, own).map_err(|error| error.to_string())?);
        }
    }
    match named.keys().next() {
        Some(name) => Err(format!("`{name}` does not belong to a linear layer of the model")),
        None if pairs.is_empty() => Err(format!("`{WEIGHTS_FILE}` holds no matrix")),
        None => Ok((pairs, magnitudes)),
    }
}

/// The rows of `B` that belong to a layer, times `factor`, in f32.
fn part(pair: &LoraPair, rows: Option<(usize, usize)>, factor: f64) -> candle_core::Result<LoraPair> {
    let to_f32 = |tensor: &Tensor| tensor.to_dtype(candle_core::DType::F32);
    let mut b = to_f32(&pair.b)?;
    if let Some((first, count)) = rows {
        b = b.narrow(0, first, count)?.force_contiguous()?;
    }
    Ok(LoraPair { a: to_f32(&pair.a)?, b: if factor == 1.0 { b } else { (b * factor)? } })
}

fn expect_shape<const N: usize>(name: &str, tensor: &Tensor, expected: [usize; N]) -> Result<(), String> {
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
        write(folder.path(), &adapter, &config, &testing::config(), "some/model").unwrap();
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
            ("use_qalora", Value::from(true), "use_qalora"),
            ("modules_to_save", Value::from(vec!["lm_head"]), "modules_to_save"),
            ("rank_pattern", serde_json::json!({".*q_proj": 8}), "rank_pattern with a regular expression"),
            ("peft_type", Value::from("LOHA"), "peft_type = \"LOHA\""),
            ("bias", Value::from("all"), "bias = \"all\""),
            ("peft_type", Value::from("IA3"), "peft_type = \"IA3\""),
        ] {
            let error = change(folder.path(), key, value);
            assert!(matches!(&error, TrainingError::UnsupportedAdapter { feature, .. } if feature == name), "{error}");
        }
    }

    #[test]
    fn magnitudes_are_asked_for_and_none_are_written() {
        let (folder, adapter, config) = written();
        let error = change(folder.path(), "use_dora", true.into()).to_string();
        assert!(error.contains("lora_magnitude_vector` is missing"), "{error}");
        let magnitudes = [((0, Module::Q), Tensor::ones(24, candle_core::DType::F32, &Device::Cpu).unwrap())];
        let refused = write(folder.path(), &adapter.with_magnitudes(magnitudes.into()), &config, &testing::config(), "base").unwrap_err();
        assert!(refused.to_string().contains("use_dora"), "{refused}");
    }

    #[test]
    fn patterns_set_rank_and_scale_of_the_layers_they_name() {
        let pattern = BTreeMap::from([("q_proj".to_owned(), 8), ("^model.layers.1.mlp.up_proj".to_owned(), 2)]);
        let rank = |path: &str| of_pattern(&pattern, path).unwrap();
        assert_eq!((rank("model.layers.0.self_attn.q_proj"), rank("model.layers.0.self_attn.k_proj")), (Some(8), None));
        assert_eq!((rank("model.layers.1.mlp.up_proj"), rank("model.layers.0.mlp.up_proj")), (Some(2), None));
        let twice = BTreeMap::from([("q_proj".to_owned(), 8), ("self_attn.q_proj".to_owned(), 4)]);
        assert!(of_pattern(&twice, "model.layers.0.self_attn.q_proj").is_err());

        let (folder, adapter, _) = written();
        let path = folder.path().join(CONFIG_FILE);
        let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        json["alpha_pattern"] = serde_json::json!({"layers.1.mlp.down_proj": 16.0});
        fs::write(&path, json.to_string()).unwrap();
        let (read, _) = read(folder.path(), &testing::config(), &Device::Cpu).unwrap();
        let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let twice = |key| flat(&adapter.pairs[key].b).into_iter().map(|x| 2.0 * x).collect::<Vec<f32>>();
        assert_eq!(flat(&read.pairs[&(1, Module::Down)].b), twice(&(1, Module::Down)));
        assert_eq!(flat(&read.pairs[&(0, Module::Down)].b), flat(&adapter.pairs[&(0, Module::Down)].b));
    }

    #[test]
    fn where_the_base_fuses_layers_the_adapter_does_and_means_the_same() {
        let fused = DecoderConfig { architecture: "Phi3ForCausalLM".into(), ..testing::config() };
        let config = LoraConfig { rank: 4, alpha: 8.0, dropout: 0.0, rank_stabilised: false, target_modules: Module::ALL.to_vec() };
        let (mut adapter, _) = lora::fresh(&fused, &config, 1, &Device::Cpu).unwrap();
        for pair in adapter.pairs.values_mut() {
            pair.b = pair.b.ones_like().unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &adapter, &config, &fused, "phi").unwrap();
        let json: Value = serde_json::from_slice(&fs::read(folder.path().join(CONFIG_FILE)).unwrap()).unwrap();
        assert_eq!(json["target_modules"], serde_json::json!(["down_proj", "gate_up_proj", "o_proj", "qkv_proj"]));
        assert_eq!((&json["rank_pattern"]["qkv_proj"], &json["alpha_pattern"]["gate_up_proj"]), (&Value::from(12), &Value::from(16.0)));
        let (read, _) = read(folder.path(), &fused, &Device::Cpu).unwrap();
        assert_eq!(read.pairs.len(), adapter.pairs.len());
        let flat = |pair: &LoraPair| pair.b.matmul(&pair.a).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (key, pair) in &adapter.pairs {
            assert_eq!(flat(&read.pairs[key]), flat(pair), "{key:?}");
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
