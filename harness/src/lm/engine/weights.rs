//! A decoder's weights as the engine reads them: layers that share their input are one matrix, and every matrix is packed.

use crate::kernel::{Packed, WeightForm};

use super::super::ModelError;
use super::super::config::{BlockNorms, DecoderConfig, Module};

/// Projections of a block that share their input: query, key and value; the attention's output; gate and up; down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Query, key, value.
    Attention,
    /// Output of the attention.
    Output,
    /// Gate, up.
    FeedForward,
    /// Down.
    Down,
}

impl Group {
    /// All four, in forward order.
    pub const ALL: [Self; 4] = [Self::Attention, Self::Output, Self::FeedForward, Self::Down];

    /// The linear layers in it, in the order of its outputs.
    pub fn modules(self) -> &'static [Module] {
        match self {
            Self::Attention => &[Module::Q, Module::K, Module::V],
            Self::Output => &[Module::O],
            Self::FeedForward => &[Module::Gate, Module::Up],
            Self::Down => &[Module::Down],
        }
    }
}

/// Where the weights come from: row-major f32 by Hugging Face name.
pub trait WeightSource {
    /// A weight, whole.
    ///
    /// # Errors
    /// Where reading it fails.
    fn weight(&self, name: &str) -> Result<Vec<f32>, ModelError>;
}

/// A group's matrix and bias.
#[derive(Debug)]
pub(super) struct Projection {
    pub weight: Packed,
    pub bias: Option<Vec<f32>>,
}

/// A block.
#[derive(Debug)]
pub(super) struct Block {
    /// In the order of [`Group::ALL`].
    pub projections: [Projection; 4],
    pub norms: BlockNorms<Vec<f32>>,
    pub qk_norm: Option<(Vec<f32>, Vec<f32>)>,
}

/// The whole decoder.
#[derive(Debug)]
pub(super) struct Weights {
    pub blocks: Vec<Block>,
    /// Rows of the embedding, unrounded; without it they are read from the head.
    pub embedding: Option<Packed>,
    pub final_norm: Vec<f32>,
    pub head: Packed,
}

impl Weights {
    /// Packs the linear layers, and the head, in the given form, or in a smaller one that loses nothing against it; norms stay f32.
    ///
    /// # Errors
    /// When the system has no memory for the panels.
    pub(super) fn pack(config: &DecoderConfig, source: &dyn WeightSource, form: WeightForm) -> Result<Self, ModelError> {
        let blocks = (0..config.num_hidden_layers).map(|index| block(config, source, form, index)).collect::<Result<_, ModelError>>()?;
        let rows = |name: &str, form| pack(&[source.weight(name)?], config.hidden_size, form);
        let tied = config.tie_word_embeddings;
        Ok(Self {
            blocks,
            embedding: (!tied).then(|| rows("model.embed_tokens.weight", WeightForm::F32)).transpose()?,
            final_norm: source.weight("model.norm.weight")?,
            head: rows(if tied { "model.embed_tokens.weight" } else { "lm_head.weight" }, form)?,
        })
    }

    /// The embedding of a token.
    pub(super) fn embed(&self, token: u32, to: &mut [f32]) {
        self.embedding.as_ref().unwrap_or(&self.head).row(token as usize, to);
    }

    /// Bytes of all weights.
    pub(super) fn bytes(&self) -> usize {
        let projections = self.blocks.iter().flat_map(|block| &block.projections).map(|projection| projection.weight.bytes());
        projections.sum::<usize>() + self.head.bytes() + self.embedding.as_ref().map_or(0, Packed::bytes)
    }
}

fn block(config: &DecoderConfig, source: &dyn WeightSource, form: WeightForm, index: usize) -> Result<Block, ModelError> {
    let prefix = format!("model.layers.{index}");
    let norm = |name: &str| source.weight(&format!("{prefix}.{name}.weight"));
    let mut projections = Vec::with_capacity(4);
    for group in Group::ALL {
        projections.push(projection(config, source, form, &prefix, group)?);
    }
    Ok(Block {
        projections: projections.try_into().expect("four groups"),
        norms: config.norm_names().try_map(norm)?,
        qk_norm: if config.qk_norm { Some((norm("self_attn.q_norm")?, norm("self_attn.k_norm")?)) } else { None },
    })
}

fn projection(
    config: &DecoderConfig,
    source: &dyn WeightSource,
    form: WeightForm,
    prefix: &str,
    group: Group,
) -> Result<Projection, ModelError> {
    let (_, _, inputs) = config.linear_shapes()[group.modules()[0] as usize];
    let path = |module: &Module| format!("{prefix}.{}", module.path());
    let weight = |module: &Module| source.weight(&format!("{}.weight", path(module)));
    let parts: Vec<Vec<f32>> = group.modules().iter().map(weight).collect::<Result<_, _>>()?;
    // Query, key and value have a bias together or not at all, and so have gate and up.
    let mut bias = None;
    if config.has_bias(group.modules()[0]) {
        let parts = group.modules().iter().map(|module| source.weight(&format!("{}.bias", path(module))));
        bias = Some(parts.collect::<Result<Vec<_>, _>>()?.concat());
    }
    Ok(Projection { weight: pack(&parts, inputs, form)?, bias })
}

fn pack(parts: &[Vec<f32>], inputs: usize, form: WeightForm) -> Result<Packed, ModelError> {
    let parts: Vec<&[f32]> = parts.iter().map(Vec::as_slice).collect();
    Packed::new(&parts, inputs, form.smallest(&parts, inputs)).map_err(ModelError::Memory)
}
