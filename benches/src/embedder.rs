//! A sentence encoder of MiniLM's shape (6 layers x 384) with random weights, as a folder. Its tokenizer is the built-in embedder's.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use candle_core::{Device, Tensor};
use ragft::retrieval::{Embedder, load_embedder};
use serde_json::{Value, json};

use crate::model::uniform;

const HIDDEN: usize = 384;
const INNER: usize = 1536;
const LAYERS: usize = 6;
const POSITIONS: usize = 512;

/// Names a sentence-transformers folder to use instead of random weights.
pub const FOLDER_VARIABLE: &str = "RAGFT_BENCH_EMBEDDER";

/// The encoder from the folder that [`FOLDER_VARIABLE`] names, or with random weights.
///
/// # Errors
/// When the folder is unusable, or the random one cannot be written.
pub fn minilm() -> Result<Box<dyn Embedder>> {
    if let Some(folder) = std::env::var_os(FOLDER_VARIABLE) {
        let folder = PathBuf::from(folder);
        return load_embedder(&folder).with_context(|| format!("cannot load `{}`, named by {FOLDER_VARIABLE}", folder.display()));
    }
    let folder = tempfile::tempdir().context("cannot make a folder for random weights")?;
    write_random(folder.path())?;
    Ok(load_embedder(folder.path())?)
}

/// Writes the folder.
fn write_random(folder: &Path) -> Result<()> {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../harness/assets/embedder/tokenizer.json");
    let tokenizer = std::fs::read(&assets).with_context(|| format!("cannot read `{}`", assets.display()))?;
    let words: Value = serde_json::from_slice(&tokenizer)?;
    let vocabulary = words["model"]["vocab"].as_object().context("the built-in embedder's tokenizer has no vocabulary")?.len();
    std::fs::write(folder.join("tokenizer.json"), &tokenizer)?;
    std::fs::write(folder.join("config.json"), config(vocabulary).to_string())?;
    candle_core::safetensors::save(&weights(vocabulary)?, folder.join("model.safetensors"))?;
    Ok(())
}

fn config(vocabulary: usize) -> Value {
    json!({
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 12,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2,
        "vocab_size": vocabulary,
        "layer_norm_eps": 1e-12,
        "hidden_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
    })
}

fn weights(vocabulary: usize) -> candle_core::Result<HashMap<String, Tensor>> {
    let mut shapes: Vec<(String, Vec<usize>)> = ["word", "position", "token_type"]
        .into_iter()
        .zip([vocabulary, POSITIONS, 2])
        .map(|(kind, rows)| (format!("embeddings.{kind}_embeddings.weight"), vec![rows, HIDDEN]))
        .collect();
    norm(&mut shapes, "embeddings.LayerNorm");
    for layer in 0..LAYERS {
        let layer = format!("encoder.layer.{layer}");
        for part in ["self.query", "self.key", "self.value", "output.dense"] {
            linear(&mut shapes, &format!("{layer}.attention.{part}"), HIDDEN, HIDDEN);
        }
        norm(&mut shapes, &format!("{layer}.attention.output.LayerNorm"));
        linear(&mut shapes, &format!("{layer}.intermediate.dense"), INNER, HIDDEN);
        linear(&mut shapes, &format!("{layer}.output.dense"), HIDDEN, INNER);
        norm(&mut shapes, &format!("{layer}.output.LayerNorm"));
    }
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let count = shape.iter().product();
        let values = if name.ends_with("LayerNorm.weight") { vec![1.0; count] } else { uniform(&name, count, 0.05) };
        Ok((name, Tensor::from_vec(values, shape, &Device::Cpu)?))
    };
    shapes.into_iter().map(tensor).collect()
}

fn linear(shapes: &mut Vec<(String, Vec<usize>)>, name: &str, out: usize, input: usize) {
    shapes.push((format!("{name}.weight"), vec![out, input]));
    shapes.push((format!("{name}.bias"), vec![out]));
}

fn norm(shapes: &mut Vec<(String, Vec<usize>)>, name: &str) {
    shapes.push((format!("{name}.weight"), vec![HIDDEN]));
    shapes.push((format!("{name}.bias"), vec![HIDDEN]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_random_encoder_loads_and_gives_unit_vectors() {
        let folder = tempfile::tempdir().unwrap();
        write_random(folder.path()).unwrap();
        let vector = load_embedder(folder.path()).unwrap().embed(&["a river in winter"]).unwrap().swap_remove(0);
        assert_eq!(vector.len(), HIDDEN);
        assert!((vector.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-4);
    }
}
