//! What a GGUF header says: names, sizes, types.

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, Value};

use super::super::ModelError;
use super::super::config::{DecoderConfig, RopeScaling, SlidingWindow, YarnScaling};
use super::super::config_file;
use super::super::tokenizer::SpecialTokens;

/// Divisors of the rotary frequencies, in place of a rule.
pub(super) const ROPE_DIVISORS: &str = "rope_freqs.weight";

/// Architectures as llama.cpp names them, and as transformers does.
const ARCHITECTURES: [(&str, &str); 3] = [("llama", "LlamaForCausalLM"), ("qwen2", "Qwen2ForCausalLM"), ("qwen3", "Qwen3ForCausalLM")];

/// A header with the name of its file for errors.
pub(super) struct Header<'a> {
    pub content: &'a Content,
    pub path: &'a str,
}

impl Header<'_> {
    pub(super) fn problem(&self, problem: String) -> ModelError {
        ModelError::Config { path: self.path.into(), problem }
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.content.metadata.get(key)
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        match self.get(key)? {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    pub(super) fn list(&self, key: &str) -> Option<&[Value]> {
        match self.get(key)? {
            Value::Array(values) => Some(values),
            _ => None,
        }
    }

    pub(super) fn whole(&self, key: &str) -> Option<usize> {
        whole(self.get(key)?)
    }

    fn real(&self, key: &str) -> Option<f64> {
        match self.get(key)? {
            Value::F32(value) => Some(f64::from(*value)),
            Value::F64(value) => Some(*value),
            other => whole(other).map(|value| value as f64),
        }
    }

    fn architecture(&self) -> Result<(&str, &'static str), ModelError> {
        let own = self.text("general.architecture").ok_or_else(|| self.problem("has no `general.architecture`".into()))?;
        match ARCHITECTURES.iter().find(|(name, _)| *name == own) {
            Some((_, architecture)) => Ok((own, architecture)),
            None => Err(ModelError::UnsupportedArchitecture { path: self.path.into(), architecture: own.into() }),
        }
    }

    /// llama.cpp reorders the rows of queries and keys in this architecture only.
    pub(super) fn is_interleaved(&self) -> bool {
        self.text("general.architecture") == Some("llama")
    }

    /// The decoder's shape, rotary divisors aside.
    pub(super) fn config(&self) -> Result<DecoderConfig, ModelError> {
        let (own, architecture) = self.architecture()?;
        let key = |name: &str| format!("{own}.{name}");
        let size = |name: &str| self.whole(&key(name)).ok_or_else(|| self.problem(format!("has no number `{}`", key(name))));
        if self.whole(&key("expert_count")).is_some_and(|count| count > 0) {
            return Err(self.problem("is a mixture of experts, which is not computed".into()));
        }
        let (hidden, heads) = (size("embedding_length")?, size("attention.head_count")?);
        let head_dim = match self.whole(&key("attention.key_length")) {
            Some(width) => width,
            None if heads > 0 && hidden % heads == 0 => hidden / heads,
            None => return Err(self.problem(format!("{heads} heads do not divide the width {hidden}"))),
        };
        if let Some(turned) = self.whole(&key("rope.dimension_count")).filter(|&turned| turned != head_dim) {
            return Err(self.problem(format!("turns {turned} of {head_dim} dimensions of a head; only all are supported")));
        }
        let has = |name: &str| self.content.tensor_infos.contains_key(name);
        let rope_scaling = self.scaling(own)?;
        let stretched = if let Some(RopeScaling::Yarn(yarn)) = &rope_scaling { yarn.positions() } else { 0 };
        let (positions, layers) = (size("context_length")?.max(stretched), size("block_count")?);
        let width = self.whole(&key("attention.sliding_window")).filter(|width| (1..positions).contains(width));
        let sliding_window = width.map(|width| SlidingWindow { width, layers: (0..layers.min(config_file::MAX_SIZE)).collect() });
        // A Llama with a window is a Mistral: that is what it becomes when it is written as a folder.
        let architecture = if own == "llama" && sliding_window.is_some() { "MistralForCausalLM" } else { architecture };
        let vocabulary = self.content.tensor_infos.get("token_embd.weight").and_then(|info| info.shape.dims().first().copied());
        Ok(DecoderConfig {
            architecture: architecture.into(),
            vocab_size: vocabulary.ok_or_else(|| self.problem("has no tensor `token_embd.weight`".into()))?,
            hidden_size: hidden,
            intermediate_size: size("feed_forward_length")?,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: self.whole(&key("attention.head_count_kv")).unwrap_or(heads),
            head_dim,
            rms_norm_eps: self.real(&key("attention.layer_norm_rms_epsilon")).unwrap_or(1e-5),
            rope_theta: self.real(&key("rope.freq_base")).unwrap_or(10_000.0),
            rope_scaling,
            unrotated_layers: Vec::new(),
            rotary_dim: None,
            sliding_window,
            max_position_embeddings: positions,
            tie_word_embeddings: !has("output.weight"),
            qkv_bias: has("blk.0.attn_q.bias"),
            output_bias: has("blk.0.attn_output.bias"),
            mlp_bias: has("blk.0.ffn_gate.bias"),
            qk_norm: has("blk.0.attn_q_norm.weight"),
            gemma: None,
        })
    }

    fn scaling(&self, own: &str) -> Result<Option<RopeScaling>, ModelError> {
        let key = |name: &str| format!("{own}.rope.scaling.{name}");
        match self.text(&key("type")) {
            None | Some("none") => Ok(None),
            Some("linear") => {
                let factor = self.real(&key("factor")).ok_or_else(|| self.problem(format!("has no number `{}`", key("factor"))))?;
                Ok(Some(RopeScaling::Linear { factor }))
            }
            Some("yarn") => {
                let need = |name: &str| self.problem(format!("has no number `{}`", key(name)));
                let factor = self.real(&key("factor")).ok_or_else(|| need("factor"))?;
                let original = self.whole(&key("original_context_length")).ok_or_else(|| need("original_context_length"))?;
                let mut scaling = YarnScaling::new(factor, original);
                scaling.attention_factor *= self.real(&key("attn_factor")).unwrap_or(1.0);
                Ok(Some(RopeScaling::Yarn(scaling)))
            }
            Some(other) => {
                Err(self.problem(format!("rope scaling `{other}` is not computed, only `linear`, `yarn` and rotary divisors are")))
            }
        }
    }

    pub(super) fn special(&self) -> SpecialTokens {
        let id = |name: &str| self.whole(&format!("tokenizer.ggml.{name}_token_id")).and_then(|id| u32::try_from(id).ok());
        let mut eos: Vec<u32> = ["eos", "eot", "eom"].into_iter().filter_map(id).collect();
        eos.dedup();
        SpecialTokens { bos: id("bos"), eos, pad: id("padding") }
    }
}

fn whole(value: &Value) -> Option<usize> {
    match value {
        Value::I32(value) => usize::try_from(*value).ok(),
        Value::I64(value) => usize::try_from(*value).ok(),
        Value::U64(value) => usize::try_from(*value).ok(),
        Value::Bool(_) => None,
        other => other.to_u64().ok().and_then(|value| usize::try_from(value).ok()),
    }
}

/// Divisors that are all one divide nothing.
pub(super) fn divisors(divisors: Vec<f32>) -> Option<RopeScaling> {
    divisors.iter().any(|&divisor| divisor != 1.0).then_some(RopeScaling::Each { divisors })
}

/// The name in a GGUF file of the weight that the decoder calls `name`.
pub(super) fn stored_name(name: &str) -> String {
    match name {
        "model.embed_tokens.weight" => return "token_embd.weight".into(),
        "model.norm.weight" => return "output_norm.weight".into(),
        "lm_head.weight" => return "output.weight".into(),
        _ => (),
    }
    let mut parts = name.split('.').skip(2);
    let layer = parts.next().unwrap_or_default();
    let (mut own, mut kind) = ("", "weight");
    for part in parts {
        match part {
            "weight" | "bias" => kind = part,
            part => own = part,
        }
    }
    let stored = match own {
        "q_proj" => "attn_q",
        "k_proj" => "attn_k",
        "v_proj" => "attn_v",
        "o_proj" => "attn_output",
        "q_norm" => "attn_q_norm",
        "k_norm" => "attn_k_norm",
        "gate_proj" => "ffn_gate",
        "up_proj" => "ffn_up",
        "down_proj" => "ffn_down",
        "input_layernorm" => "attn_norm",
        _ => "ffn_norm",
    };
    format!("blk.{layer}.{stored}.{kind}")
}

/// Name of a type, as file names have it.
pub(super) fn dtype_name(dtype: GgmlDType) -> &'static str {
    match dtype {
        GgmlDType::F32 => "f32",
        GgmlDType::F16 => "f16",
        GgmlDType::BF16 => "bf16",
        GgmlDType::Q4_0 => "q4_0",
        GgmlDType::Q4_1 => "q4_1",
        GgmlDType::Q5_0 => "q5_0",
        GgmlDType::Q5_1 => "q5_1",
        GgmlDType::Q8_0 => "q8_0",
        GgmlDType::Q8_1 => "q8_1",
        GgmlDType::Q2K => "q2_k",
        GgmlDType::Q3K => "q3_k",
        GgmlDType::Q4K => "q4_k",
        GgmlDType::Q5K => "q5_k",
        GgmlDType::Q6K => "q6_k",
        GgmlDType::Q8K => "q8_k",
    }
}
