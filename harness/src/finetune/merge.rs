//! An adapter written into its base, as a model folder of its own.

use std::path::Path;

use candle_core::{DType, Tensor};

use crate::lm::{LocalModel, save_folder};

use super::error::TrainingError;
use super::folder::load_given;
use super::lora;

/// What merging changed.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Merged {
    /// Layers with an update.
    pub layers: usize,
    /// Largest difference of a logit between the merged weights in f32 and the adapter beside its base, over the probe.
    pub largest_difference: f64,
    /// Tokens of the probe.
    pub probe_tokens: usize,
}

/// What the merged weights are compared on.
const PROBE: &str = "Question : Where does the river that passes the old town of the north begin, and who built its harbour?\nAnswer :";

/// Writes `model` with the adapter in `folder` merged into it to `output`, in the type that `dtype` names (f32, f16 or bf16).
///
/// # Errors
/// What [`load_given`] refuses, a type that is not known, and files that cannot be written.
pub fn merge_folder(model: &LocalModel, folder: &Path, output: &Path, dtype: &str) -> Result<Merged, TrainingError> {
    let dtype = match dtype {
        "f32" => DType::F32,
        "f16" => DType::F16,
        "bf16" => DType::BF16,
        other => return Err(TrainingError::Setting { key: "dtype", value: other.to_owned(), expected: "f32, f16 or bf16" }),
    };
    let wrong = |error: crate::lm::ModelError| TrainingError::Adapter { path: output.display().to_string(), problem: error.to_string() };
    let adapter = load_given(folder, &model.config, &model.tokenizer, model.device())?.weights;
    let base = model.decoder().map_err(wrong)?;
    let tokens = model.tokenizer.encode_prompt(PROBE).map_err(wrong)?;
    let probe_tokens = tokens.len().min(model.config.max_position_embeddings);
    let probe = Tensor::new(&tokens[..probe_tokens], model.device())?.unsqueeze(0)?;
    let largest_difference = lora::merge_difference(&base, &adapter, &probe)?;
    let merged = lora::merge(&base, &adapter)?;
    save_folder(output, &merged, &model.tokenizer, dtype).map_err(wrong)?;
    Ok(Merged { layers: adapter.pairs.len(), largest_difference, probe_tokens })
}

#[cfg(test)]
mod tests {
    use super::super::{peft, testing};
    use super::*;

    fn fixtures() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
    }

    #[test]
    fn a_merged_folder_answers_as_the_adapter_beside_its_base() {
        let model = LocalModel::load_folder(&fixtures().join("lm/llama-gqa-tied"), 0).unwrap();
        let folder = fixtures().join("adapters/rslora");
        let output = tempfile::tempdir().unwrap();
        let merged = merge_folder(&model, &folder, output.path(), "f32").unwrap();
        assert!(merged.layers > 0 && merged.largest_difference < 1e-4, "{merged:?}");
        let (adapter, _) = peft::read(&folder, &model.config, model.device()).unwrap();
        let again = LocalModel::load_folder(output.path(), 0).unwrap();
        let tokens = [vec![5, 9, 80, 3]];
        let beside = testing::logits(&model.decoder().unwrap(), Some(&adapter), &tokens);
        let plain = testing::logits(&model.decoder().unwrap(), None, &tokens);
        assert!(testing::distance(&testing::logits(&again.decoder().unwrap(), None, &tokens), &beside) < 1e-4);
        assert!(testing::distance(&plain, &beside) > 0.1);
        assert!(merge_folder(&model, &folder, output.path(), "q4").unwrap_err().to_string().contains("f32, f16 or bf16"));
    }
}
