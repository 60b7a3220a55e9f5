//! Which parameter gets the gradient of which weight.

use crate::lm::config::{DecoderConfig, Module};
use crate::lm::decoder::Decoder;

use super::super::lora::tensor_name;
use super::super::optimizer::Parameters;

/// Index of a parameter, where the weight is trained.
pub(super) type Slot = Option<usize>;

/// Slots of a linear layer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LinearSlots {
    pub weight: Slot,
    pub bias: Slot,
    /// Down projection of the adapter.
    pub a: Slot,
    /// Up projection of the adapter.
    pub b: Slot,
}

/// Slots of a block.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct BlockSlots {
    /// In the order of [`Module::ALL`].
    pub linears: [LinearSlots; 7],
    pub input_norm: Slot,
    pub post_attention_norm: Slot,
    pub query_norm: Slot,
    pub key_norm: Slot,
}

/// Slots of the whole decoder.
#[derive(Debug, Clone)]
pub(super) struct Slots {
    pub embedding: Slot,
    pub blocks: Vec<BlockSlots>,
    pub final_norm: Slot,
    /// The embedding's when tied.
    pub head: Slot,
    /// Elements of every parameter.
    pub sizes: Vec<usize>,
}

impl Slots {
    pub(super) fn new(decoder: &Decoder, parameters: &Parameters) -> Self {
        let slot = |name: &str| parameters.keys().position(|own| own == name);
        let config: &DecoderConfig = &decoder.config;
        let embedding = slot("model.embed_tokens.weight");
        Self {
            embedding,
            blocks: (0..config.num_hidden_layers).map(|layer| block(layer, &slot)).collect(),
            final_norm: slot("model.norm.weight"),
            head: if config.tie_word_embeddings { embedding } else { slot("lm_head.weight") },
            sizes: parameters.values().map(|var| var.elem_count()).collect(),
        }
    }

    /// Whether base weights are among the parameters.
    pub(super) fn trains_weights(&self) -> bool {
        let block = |block: &BlockSlots| block.linears.iter().any(|linear| linear.weight.is_some());
        self.embedding.is_some() || self.head.is_some() || self.blocks.iter().any(block)
    }
}

fn block(layer: usize, slot: &dyn Fn(&str) -> Slot) -> BlockSlots {
    let prefix = format!("model.layers.{layer}");
    BlockSlots {
        linears: Module::ALL.map(|module| LinearSlots {
            weight: slot(&format!("{prefix}.{}.weight", module.path())),
            bias: slot(&format!("{prefix}.{}.bias", module.path())),
            a: slot(&tensor_name(layer, module, 'A')),
            b: slot(&tensor_name(layer, module, 'B')),
        }),
        input_norm: slot(&format!("{prefix}.input_layernorm.weight")),
        post_attention_norm: slot(&format!("{prefix}.post_attention_layernorm.weight")),
        query_norm: slot(&format!("{prefix}.self_attn.q_norm.weight")),
        key_norm: slot(&format!("{prefix}.self_attn.k_norm.weight")),
    }
}
