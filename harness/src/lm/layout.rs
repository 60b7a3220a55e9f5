//! Names and shapes of a decoder's weights, as Hugging Face files have them.

use candle_core::Tensor;

use super::config::{DecoderConfig, Module};
use super::decoder::Decoder;

/// Every weight that a decoder of this shape asks for, `(name, shape)`, in the order in which it asks.
pub fn tensor_shapes(config: &DecoderConfig) -> Vec<(String, Vec<usize>)> {
    let hidden = config.hidden_size;
    let mut shapes = vec![("model.embed_tokens.weight".to_string(), vec![config.vocab_size, hidden])];
    for index in 0..config.num_hidden_layers {
        let prefix = format!("model.layers.{index}");
        for (module, out, input) in config.linear_shapes() {
            shapes.push((format!("{prefix}.{}.weight", module.path()), vec![out, input]));
            if config.has_bias(module) {
                shapes.push((format!("{prefix}.{}.bias", module.path()), vec![out]));
            }
        }
        if config.qk_norm {
            shapes.push((format!("{prefix}.self_attn.q_norm.weight"), vec![config.head_dim]));
            shapes.push((format!("{prefix}.self_attn.k_norm.weight"), vec![config.head_dim]));
        }
        shapes.extend(config.norm_names().into_iter().map(|name| (format!("{prefix}.{name}.weight"), vec![hidden])));
    }
    shapes.push(("model.norm.weight".to_string(), vec![hidden]));
    if !config.tie_word_embeddings {
        shapes.push(("lm_head.weight".to_string(), vec![config.vocab_size, hidden]));
    }
    shapes
}

/// Where a weight stands in the files of its architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Name in the files.
    pub name: String,
    /// First row and number of rows, if it is a part of what has that name.
    pub rows: Option<(usize, usize)>,
}

/// What is added to a stored weight to get the one that is applied: Gemma's files keep norms as their distance from one.
pub fn stored_offset(config: &DecoderConfig, name: &str) -> f64 {
    if config.gemma.is_some() && name.ends_with("norm.weight") { 1.0 } else { 0.0 }
}

/// Where to find the weight that the decoder calls `name`: Phi-3 keeps query, key and value in one matrix, and gate and up in another.
pub fn stored(config: &DecoderConfig, name: &str) -> Stored {
    let whole = || Stored { name: name.to_owned(), rows: None };
    if config.architecture != "Phi3ForCausalLM" {
        return whole();
    }
    let mut parts = name.rsplitn(3, '.').skip(1);
    let (Some(own), Some(prefix)) = (parts.next(), parts.next()) else { return whole() };
    let (query, key_value) = (config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim);
    let inner = config.intermediate_size;
    let (fused, rows) = match own {
        "q_proj" => ("qkv_proj", (0, query)),
        "k_proj" => ("qkv_proj", (query, key_value)),
        "v_proj" => ("qkv_proj", (query + key_value, key_value)),
        "gate_proj" => ("gate_up_proj", (0, inner)),
        "up_proj" => ("gate_up_proj", (inner, inner)),
        _ => return whole(),
    };
    Stored { name: format!("{prefix}.{fused}.weight"), rows: Some(rows) }
}

/// Every weight that the files of a decoder of this shape hold, `(name, shape)`.
pub fn stored_shapes(config: &DecoderConfig) -> Vec<(String, Vec<usize>)> {
    let mut shapes: Vec<(String, Vec<usize>)> = Vec::new();
    for (name, shape) in tensor_shapes(config) {
        let stored = stored(config, &name);
        match shapes.last_mut() {
            // Parts of one matrix follow each other.
            Some((last, shape)) if *last == stored.name => shape[0] += stored.rows.map_or(0, |(_, rows)| rows),
            _ => shapes.push((stored.name, shape)),
        }
    }
    shapes
}

/// A decoder's weights with their names, in the order of [`tensor_shapes`]; a tied head is left out.
pub fn named_tensors(decoder: &Decoder) -> Vec<(String, &Tensor)> {
    let mut tensors = vec![&decoder.embedding];
    for layer in &decoder.layers {
        for module in Module::ALL {
            let linear = &layer.linears[module as usize];
            tensors.push(&linear.weight);
            tensors.extend(&linear.bias);
        }
        if let Some((query, key)) = &layer.qk_norm {
            tensors.extend([query, key]);
        }
        tensors.extend(layer.norms.as_ref());
    }
    tensors.push(&decoder.final_norm);
    if !decoder.config.tie_word_embeddings {
        tensors.push(&decoder.head);
    }
    let names = tensor_shapes(&decoder.config).into_iter().map(|(name, _)| name);
    names.zip(tensors).collect()
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::lm::config_file;

    #[test]
    fn a_decoder_asks_for_exactly_the_listed_weights() {
        for name in crate::lm::tests::NAMES {
            let text = std::fs::read(format!("{}/tests/fixtures/lm/{name}/config.json", env!("CARGO_MANIFEST_DIR"))).unwrap();
            let config = config_file::parse(&text, name).unwrap().decoder;
            let mut asked = Vec::new();
            let decoder = Decoder::new(&config, &Device::Cpu, |name, shape| {
                asked.push((name.to_string(), shape.to_vec()));
                Tensor::zeros(shape, DType::F32, &Device::Cpu)
            })
            .unwrap();
            assert_eq!(asked, tensor_shapes(&config));
            let named = named_tensors(&decoder);
            assert_eq!(named.len(), asked.len());
            assert!(named.iter().zip(&asked).all(|((name, tensor), (asked, shape))| name == asked && tensor.dims() == shape), "{name}");
            let count: usize = asked.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
            assert_eq!(count, config.parameter_count());
        }
    }
}
