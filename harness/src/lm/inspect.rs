//! What a model folder holds, for people and scripts.

use std::path::Path;

use serde::Serialize;

use super::ModelError;
use super::folder::{CheckedFolder, check_folder};
use super::layout::tensor_shapes;

/// Summary of a model folder.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelSummary {
    /// The folder as given.
    pub path: String,
    /// As in `config.json`.
    pub architecture: String,
    /// Weights, a tied head counted once.
    pub parameters: usize,
    /// Number of tensors in use.
    pub tensors: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward block.
    pub intermediate_size: usize,
    /// Query heads.
    pub attention_heads: usize,
    /// Key and value heads.
    pub key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Longest sequence in tokens.
    pub context_length: usize,
    /// Width of sliding-window attention and the number of blocks that have it, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sliding_window: Option<(usize, usize)>,
    /// Rows of the embedding.
    pub vocabulary: usize,
    /// The head is the embedding.
    pub tied: bool,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Type of the weights on disk: `f32`, `f16` or `bf16`; they are computed in f32.
    pub dtype_on_disk: &'static str,
    /// Bytes of the weight files.
    pub bytes_on_disk: u64,
    /// Bytes of the weights in memory as f32, which training takes; answers take less where the file's type allows it.
    pub bytes_in_memory: u64,
    /// The token that begins a prompt, if the tokenizer adds one.
    pub begins_with: Option<String>,
    /// The tokens that end an answer, as the vocabulary spells them.
    pub ends_with: Vec<String>,
    /// BLAKE3 of the weight files.
    pub weights_hash: String,
    /// BLAKE3 of `tokenizer.json`.
    pub tokenizer_hash: String,
}

/// Checks a folder and sums it up. Reads the weights once, for their hash.
///
/// # Errors
/// Everything that [`check_folder`] finds.
pub fn inspect_folder(path: &Path) -> Result<ModelSummary, ModelError> {
    let CheckedFolder { path, config, tokenizer, weights, .. } = check_folder(path)?;
    let spelt = |id: u32| tokenizer.token(id).unwrap_or_else(|| format!("#{id}"));
    Ok(ModelSummary {
        path: path.display().to_string(),
        parameters: config.parameter_count(),
        tensors: tensor_shapes(&config).len(),
        layers: config.num_hidden_layers,
        hidden_size: config.hidden_size,
        intermediate_size: config.intermediate_size,
        attention_heads: config.num_attention_heads,
        key_value_heads: config.num_key_value_heads,
        head_dim: config.head_dim,
        context_length: config.max_position_embeddings,
        sliding_window: config.sliding_window.as_ref().map(|sliding| (sliding.width, sliding.layers.len())),
        vocabulary: config.vocab_size,
        tied: config.tie_word_embeddings,
        rope_theta: config.rope_theta,
        dtype_on_disk: weights.dtype_name(),
        bytes_on_disk: weights.bytes_on_disk(),
        bytes_in_memory: 4 * config.parameter_count() as u64,
        begins_with: tokenizer.encode_prompt("")?.first().map(|&id| spelt(id)),
        ends_with: tokenizer.special().eos.iter().map(|&id| spelt(id)).collect(),
        weights_hash: weights.hash()?,
        tokenizer_hash: tokenizer.hash(),
        architecture: config.architecture,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_states_what_the_folder_holds() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/lm/mistral");
        let summary = inspect_folder(&path).unwrap();
        assert_eq!((summary.architecture.as_str(), summary.dtype_on_disk, summary.tied), ("MistralForCausalLM", "bf16", false));
        assert_eq!((summary.key_value_heads, summary.context_length, summary.vocabulary), (1, 256, 369));
        assert_eq!((summary.begins_with.as_deref(), summary.ends_with.as_slice()), (Some("<s>"), &["</s>".to_string()][..]));
        let bytes = std::fs::read(path.join("model.safetensors")).unwrap();
        assert_eq!((summary.bytes_on_disk, &summary.weights_hash), (bytes.len() as u64, &blake3::hash(&bytes).to_hex().to_string()));
        assert_eq!(summary.bytes_in_memory, 4 * summary.parameters as u64);
    }
}
