//! Some rows of a micro-batch through the whole decoder and back.

use std::collections::BTreeMap;

use crate::lm::config::{DecoderConfig, Module};
use crate::lm::lora::LoraWeights;

use super::super::batch::BatchRow;
use super::super::lora::tensor_name;
use super::Workspace;
use super::attention::Sequence;
use super::block::{Block, Rows, Saved, Sizes};
use super::head::{Head, Label};
use super::linear::Linear;
use super::slots::Slots;

/// The decoder as the pass reads it.
pub(super) struct Model<'a> {
    blocks: Vec<Block<'a>>,
    head: Head<'a>,
    embedding: &'a [f32],
    tables: (&'a [f32], &'a [f32]),
    slots: &'a Slots,
    sizes: Sizes,
}

impl<'a> Model<'a> {
    pub(super) fn new(
        config: &DecoderConfig,
        adapter: Option<&LoraWeights>,
        weights: &BTreeMap<&str, &'a [f32]>,
        tables: (&'a [f32], &'a [f32]),
        slots: &'a Slots,
        parallel: bool,
    ) -> Self {
        let sizes = Sizes {
            hidden: config.hidden_size,
            inner: config.intermediate_size,
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            width: config.head_dim,
            rotary: config.rotary_width(),
            eps: config.rms_norm_eps as f32,
            parallel,
        };
        let scale = adapter.map_or(0.0, |adapter| adapter.scale as f32);
        let block = |layer: usize| {
            let prefix = format!("model.layers.{layer}");
            let weight = |name: &str| weights[format!("{prefix}.{name}.weight").as_str()];
            let linear = |module: Module| {
                let (_, outputs, inputs) = config.linear_shapes()[module as usize];
                let pair = |matrix| weights.get(tensor_name(layer, module, matrix).as_str()).copied();
                Linear {
                    weight: weight(&module.path()),
                    bias: weights.get(format!("{prefix}.{}.bias", module.path()).as_str()).copied(),
                    pair: pair('A').zip(pair('B')),
                    scale,
                    inputs,
                    outputs,
                    slots: slots.blocks[layer].linears[module as usize],
                    parallel,
                }
            };
            Block {
                linears: Module::ALL.map(linear),
                input_norm: weight("input_layernorm"),
                post_attention_norm: weight("post_attention_layernorm"),
                qk_norm: config.qk_norm.then(|| (weight("self_attn.q_norm"), weight("self_attn.k_norm"))),
                rotates: config.rotates(layer),
                window: config.window(layer).unwrap_or(usize::MAX),
                slots: slots.blocks[layer],
                sizes,
            }
        };
        let embedding = weights["model.embed_tokens.weight"];
        let head = Head {
            norm: weights["model.norm.weight"],
            eps: sizes.eps,
            weight: if config.tie_word_embeddings { embedding } else { weights["lm_head.weight"] },
            norm_slot: slots.final_norm,
            slot: slots.head,
            parallel,
        };
        Self { blocks: (0..config.num_hidden_layers).map(block).collect(), head, embedding, tables, slots, sizes }
    }

    /// Whether the gradient has to go through this block's input: something is trained before it.
    fn wanted_before(&self, layer: usize) -> bool {
        let trained = |block: &Block| {
            let slots = block.slots;
            let linear = slots.linears.iter().any(|linear| linear.weight.or(linear.bias).or(linear.a).or(linear.b).is_some());
            linear || slots.input_norm.or(slots.post_attention_norm).or(slots.query_norm).or(slots.key_norm).is_some()
        };
        self.slots.embedding.is_some() || self.blocks[layer].slots.input_norm.is_some() || self.blocks[..layer].iter().any(trained)
    }
}

/// Rows of a micro-batch.
pub(super) struct Shard<'a, 'm> {
    model: &'a Model<'m>,
    tokens: Vec<u32>,
    labels: Vec<Label>,
    rows: Rows<'m>,
}

impl<'a, 'm> Shard<'a, 'm> {
    pub(super) fn new(model: &'a Model<'m>, rows: &[&BatchRow], normaliser: f64) -> Self {
        let (mut tokens, mut labels, mut sequences, mut last, mut positions) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut out = 0;
        let Sizes { heads, kv_heads, width, .. } = model.sizes;
        for row in rows {
            let first = tokens.len();
            let whole = Sequence { first, len: row.tokens.len(), start: 0, out: first, heads, kv_heads, width };
            let start = row.labels.first().map_or(row.tokens.len(), |label| label.position);
            sequences.push(whole);
            last.push(Sequence { start, out, ..whole });
            tokens.extend_from_slice(&row.tokens);
            positions.extend(0..row.tokens.len());
            labels.extend(row.labels.iter().map(|label| Label {
                row: out + label.position - start,
                target: label.target,
                weight: (f64::from(label.weight) / normaliser) as f32,
            }));
            out += row.tokens.len() - start;
        }
        Self { model, tokens, labels, rows: Rows { sequences, last, positions, tables: model.tables } }
    }

    /// The shard's part of the loss. Unless nothing is trained, the gradients are left in the workspace.
    pub(super) fn run(&self, workspace: &mut Workspace, recompute: bool) -> f64 {
        let model = self.model;
        let sizes = &model.slots.sizes;
        let training = !sizes.is_empty();
        workspace.gradients.resize_with(sizes.len(), Vec::new);
        for (gradient, size) in workspace.gradients.iter_mut().zip(sizes) {
            gradient.clear();
            gradient.resize(*size, 0.0);
        }
        let keep = if training { model.blocks.len() } else { 1 };
        workspace.saved.resize_with(keep.max(workspace.saved.len()), Saved::default);
        self.embed(&mut workspace.saved[0].x);
        let mut out = Vec::new();
        // With recomputation all blocks share one set of buffers beside their inputs.
        let mut shared = Saved::default();
        for (index, block) in model.blocks.iter().enumerate() {
            let slot = if training { index } else { 0 };
            if training && recompute {
                shared.x.clone_from(&workspace.saved[slot].x);
                block.forward(&self.rows, self.sequences(index), &mut shared, &mut workspace.scratch, &mut out);
            } else {
                block.forward(&self.rows, self.sequences(index), &mut workspace.saved[slot], &mut workspace.scratch, &mut out);
            }
            if index + 1 < model.blocks.len() {
                let next = if training { index + 1 } else { 0 };
                std::mem::swap(&mut workspace.saved[next].x, &mut out);
            }
        }
        let mut head = std::mem::take(&mut workspace.scratch.head);
        let mut d_x = std::mem::take(&mut workspace.scratch.d_x);
        let loss = model.head.loss(&out, &self.labels, &mut head, training.then_some(&mut d_x), &mut workspace.gradients);
        workspace.scratch.head = head;
        workspace.scratch.d_x = d_x;
        if training {
            self.backward(workspace, recompute, &mut shared, &mut out);
        }
        loss
    }

    fn backward(&self, workspace: &mut Workspace, recompute: bool, shared: &mut Saved, out: &mut Vec<f32>) {
        let Workspace { saved, scratch, gradients } = workspace;
        for (index, block) in self.model.blocks.iter().enumerate().rev() {
            let saved = if recompute {
                std::mem::swap(&mut shared.x, &mut saved[index].x);
                block.forward(&self.rows, self.sequences(index), shared, scratch, out);
                &*shared
            } else {
                &saved[index]
            };
            block.backward(&self.rows, self.sequences(index), saved, scratch, gradients, self.model.wanted_before(index));
        }
        if let Some(slot) = self.model.slots.embedding {
            let hidden = self.model.sizes.hidden;
            for (token, gradient) in self.tokens.iter().zip(scratch.d_x.chunks_exact(hidden)) {
                let row = &mut gradients[slot][*token as usize * hidden..][..hidden];
                row.iter_mut().zip(gradient).for_each(|(sum, d)| *sum += d);
            }
        }
    }

    /// What a block computes: all rows, or in the last block those from which something is predicted and what follows them.
    fn sequences(&self, layer: usize) -> &[Sequence] {
        if layer + 1 == self.model.blocks.len() { &self.rows.last } else { &self.rows.sequences }
    }

    fn embed(&self, x: &mut Vec<f32>) {
        let hidden = self.model.sizes.hidden;
        x.clear();
        for token in &self.tokens {
            x.extend_from_slice(&self.model.embedding[*token as usize * hidden..][..hidden]);
        }
    }
}
