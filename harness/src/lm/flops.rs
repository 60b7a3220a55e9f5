//! Floating-point operations, analytically: two per multiply-add, matrix products only (norms, softmax and activations are below 1 %).
//!
//! With `N` the weights of the blocks' linear layers, `L` layers, `H` query heads of width `D`, `V` vocabulary, `C` hidden width, a forward
//! pass over `n` tokens after `p` cached ones costs
//!
//! ```text
//! 2 N n  +  4 L H D (n p + n (n + 1) / 2)  +  2 V C
//! ```
//!
//! linear layers, scores and mixing over the keys that each position sees (fewer behind a sliding window), and the head at one position.

use super::config::DecoderConfig;

/// One forward pass over `new` tokens that follow `past` cached ones, logits for one position.
pub fn forward_flops(config: &DecoderConfig, past: usize, new: usize) -> f64 {
    2.0 * linear_weights(config) * new as f64 + attention_flops(config, past, new) + head_flops(config)
}

fn linear_weights(config: &DecoderConfig) -> f64 {
    let block: usize = config.linear_shapes().iter().map(|(_, out, input)| out * input).sum();
    (config.num_hidden_layers * block) as f64
}

fn attention_flops(config: &DecoderConfig, past: usize, new: usize) -> f64 {
    4.0 * (config.num_attention_heads * config.head_dim) as f64 * config.attended_pairs(past, new)
}

fn head_flops(config: &DecoderConfig) -> f64 {
    2.0 * (config.vocab_size * config.hidden_size) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> DecoderConfig {
        let text = r#"{"architectures": ["LlamaForCausalLM"], "vocab_size": 10, "hidden_size": 4, "intermediate_size": 8,
            "num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64}"#;
        super::super::config_file::parse(text.as_bytes(), "m").unwrap().decoder
    }

    #[test]
    fn a_forward_pass_counts_every_product_once() {
        // Per block: q 4x4, k and v 2x4, o 4x4, gate, up and down 8x4: 144 weights. Five tokens after two see 3+4+5+6+7 = 25 keys.
        let expected = 2.0 * 3.0 * 144.0 * 5.0 + 4.0 * 3.0 * 4.0 * 25.0 + 2.0 * 40.0;
        assert_eq!(forward_flops(&config(), 2, 5), expected);
    }

    #[test]
    fn a_window_bounds_the_keys_that_a_position_sees() {
        use crate::lm::config::SlidingWindow;
        let config = DecoderConfig { sliding_window: Some(SlidingWindow { width: 4, layers: vec![0, 2] }), ..config() };
        // Five tokens after two: positions see 3, 4, 4, 4, 4 keys in two blocks and 25 in all in the third; after nine they see 4 each.
        assert_eq!(config.attended_pairs(2, 5), 2.0 * 19.0 + 25.0);
        assert_eq!(config.attended_pairs(9, 5), 2.0 * 20.0 + 60.0);
        let split = forward_flops(&config, 0, 3) + forward_flops(&config, 3, 4);
        assert_eq!(split, forward_flops(&config, 0, 7) + 80.0);
    }

    #[test]
    fn a_split_pass_costs_what_a_whole_one_does_and_one_more_head() {
        let split = forward_flops(&config(), 0, 3) + forward_flops(&config(), 3, 4);
        assert_eq!(split, forward_flops(&config(), 0, 7) + 80.0);
    }
}
