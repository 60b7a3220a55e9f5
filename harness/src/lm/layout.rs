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
        shapes.push((format!("{prefix}.input_layernorm.weight"), vec![hidden]));
        shapes.push((format!("{prefix}.post_attention_layernorm.weight"), vec![hidden]));
    }
    shapes.push(("model.norm.weight".to_string(), vec![hidden]));
    if !config.tie_word_embeddings {
        shapes.push(("lm_head.weight".to_string(), vec![config.vocab_size, hidden]));
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
        tensors.extend([&layer.input_norm, &layer.post_attention_norm]);
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
        for name in ["llama-gqa-tied", "llama-untied-bias", "mistral", "qwen2", "qwen3"] {
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
