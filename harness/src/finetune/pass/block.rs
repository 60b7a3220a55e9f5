//! One block, forward and backward.

use crate::kernel::elementwise::{rms_norm, rms_norm_backward, swiglu, swiglu_backward_with, swiglu_keeping, turn};
use crate::kernel::simd::{for_row_chunks, vectorized};
use crate::lm::config::Module;

use super::attention::{Scores, Sequence};
use super::linear::{Columns, Linear};
use super::slots::BlockSlots;

/// A block's weights.
pub(super) struct Block<'a> {
    /// In the order of [`Module::ALL`].
    pub linears: [Linear<'a>; 7],
    pub input_norm: &'a [f32],
    pub post_attention_norm: &'a [f32],
    pub qk_norm: Option<(&'a [f32], &'a [f32])>,
    /// Whether queries and keys are turned by their positions.
    pub rotates: bool,
    /// Positions that a query sees at most.
    pub window: usize,
    pub slots: BlockSlots,
    pub sizes: Sizes,
}

/// Sizes of a block.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub hidden: usize,
    pub inner: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub width: usize,
    /// Components of a head that are turned.
    pub rotary: usize,
    pub eps: f32,
    pub parallel: bool,
}

impl Sizes {
    fn qkv(self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.width
    }

    fn mixed(self) -> usize {
        self.heads * self.width
    }
}

/// What the backward pass of a block needs of the forward pass.
#[derive(Debug, Default)]
pub(super) struct Saved {
    /// `[M, C]`: what came in.
    pub x: Vec<f32>,
    /// `[M, (H + 2 K) D]`: queries, keys and values before norm and rotation; empty without a norm.
    raw: Vec<f32>,
    /// The same as the attention saw them.
    qkv: Vec<f32>,
    /// `[M, H D]`.
    mixed: Vec<f32>,
    /// `[M, C]`: between attention and feed-forward.
    middle: Vec<f32>,
    /// `[M, 2 I]`.
    gate_up: Vec<f32>,
    /// `[M, r]` of every linear layer with an adapter.
    low: [Vec<f32>; 7],
}

/// Buffers that a block needs while it is computed.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    normed: Vec<f32>,
    inner: Vec<f32>,
    /// `[M, I]`: sigmoids of the gates, between the activation and its gradient.
    sigmoids: Vec<f32>,
    d_inner: Vec<f32>,
    d_gate_up: Vec<f32>,
    d_normed: Vec<f32>,
    d_mixed: Vec<f32>,
    d_qkv: Vec<f32>,
    added: Vec<f32>,
    down: Vec<f32>,
    scores: Scores,
    /// `[M, C]`: the gradient of the residual stream on its way back.
    pub d_x: Vec<f32>,
    /// Rows of the head.
    pub head: super::head::HeadScratch,
}

/// What all blocks of a shard share.
pub(super) struct Rows<'a> {
    pub sequences: Vec<Sequence>,
    /// The same for the last block, which asks from the first position on whose prediction counts.
    pub last: Vec<Sequence>,
    /// Position of every row in its sequence.
    pub positions: Vec<usize>,
    /// Cosines and sines, `[positions, D/2]`.
    pub tables: (&'a [f32], &'a [f32]),
}

/// Sets a buffer's length. What it holds is stale until it is written.
pub(super) fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    buffer.resize(len, 0.0);
    buffer
}

impl Block<'_> {
    /// From `saved.x` to the next block's `x` in `out`, of the rows that `sequences` ask for; the rest of `saved` is filled.
    pub(super) fn forward(&self, rows: &Rows, sequences: &[Sequence], saved: &mut Saved, scratch: &mut Scratch, out: &mut Vec<f32>) {
        let count = rows.positions.len();
        let asked = asked(sequences);
        let (sizes, x) = (self.sizes, &saved.x);
        let normed = sized(&mut scratch.normed, count * sizes.hidden);
        self.norm(x, self.input_norm, normed);
        let qkv = sized(&mut saved.qkv, count * sizes.qkv());
        for (module, column) in self.attention_columns() {
            let at = Columns { start: column, stride: sizes.qkv() };
            self.linear(module).forward(normed, qkv, at, false, &mut saved.low[module as usize]);
        }
        if self.qk_norm.is_some() {
            saved.raw.clone_from(&saved.qkv);
        }
        self.place_heads(rows, &mut saved.qkv);
        let mixed = sized(&mut saved.mixed, asked * sizes.mixed());
        for sequence in sequences {
            sequence.forward(&saved.qkv, self.window, mixed, &mut scratch.scores);
        }
        saved.middle.clear();
        for sequence in sequences {
            let first = sequence.first + sequence.start;
            saved.middle.extend_from_slice(&x[first * sizes.hidden..(first + sequence.asked()) * sizes.hidden]);
        }
        let dense = Columns { start: 0, stride: sizes.hidden };
        self.linear(Module::O).forward(mixed, &mut saved.middle, dense, true, &mut saved.low[Module::O as usize]);
        let normed = sized(&mut scratch.normed, asked * sizes.hidden);
        self.norm(&saved.middle, self.post_attention_norm, normed);
        let gate_up = sized(&mut saved.gate_up, asked * 2 * sizes.inner);
        for (module, column) in [(Module::Gate, 0), (Module::Up, sizes.inner)] {
            let at = Columns { start: column, stride: 2 * sizes.inner };
            self.linear(module).forward(normed, gate_up, at, false, &mut saved.low[module as usize]);
        }
        self.activate(&saved.gate_up, sized(&mut scratch.inner, asked * sizes.inner));
        out.clone_from(&saved.middle);
        self.linear(Module::Down).forward(&scratch.inner, out, dense, true, &mut saved.low[Module::Down as usize]);
    }

    /// Turns `scratch.d_x`, the gradient of what came out, into that of what came in (unless nobody asks for it), and adds the gradients of
    /// the weights.
    pub(super) fn backward(
        &self,
        rows: &Rows,
        sequences: &[Sequence],
        saved: &Saved,
        scratch: &mut Scratch,
        gradients: &mut [Vec<f32>],
        wanted: bool,
    ) {
        let count = rows.positions.len();
        let asked = asked(sequences);
        let sizes = self.sizes;
        let dense = Columns { start: 0, stride: sizes.hidden };
        let sigmoids = sized(&mut scratch.sigmoids, asked * sizes.inner);
        self.activate_keeping(&saved.gate_up, sized(&mut scratch.inner, asked * sizes.inner), sigmoids);
        let d_inner = sized(&mut scratch.d_inner, asked * sizes.inner);
        let low = &saved.low[Module::Down as usize];
        let to = Some((&mut *d_inner, false));
        self.linear(Module::Down).backward(&scratch.inner, &scratch.d_x, dense, low, to, &mut scratch.down, gradients);
        let d_gate_up = sized(&mut scratch.d_gate_up, asked * 2 * sizes.inner);
        self.activate_backward(&saved.gate_up, sigmoids, d_inner, d_gate_up);

        let normed = sized(&mut scratch.normed, asked * sizes.hidden);
        self.norm(&saved.middle, self.post_attention_norm, normed);
        let d_normed = sized(&mut scratch.d_normed, asked * sizes.hidden);
        for (module, column) in [(Module::Gate, 0), (Module::Up, sizes.inner)] {
            let at = Columns { start: column, stride: 2 * sizes.inner };
            let (low, to) = (&saved.low[module as usize], Some((&mut *d_normed, column > 0)));
            self.linear(module).backward(normed, d_gate_up, at, low, to, &mut scratch.down, gradients);
        }
        let slot = self.slots.post_attention_norm;
        self.norm_backward(&saved.middle, self.post_attention_norm, d_normed, slot, &mut scratch.added, &mut scratch.d_x, gradients);

        let d_mixed = sized(&mut scratch.d_mixed, asked * sizes.mixed());
        let (low, to) = (&saved.low[Module::O as usize], Some((&mut *d_mixed, false)));
        self.linear(Module::O).backward(&saved.mixed, &scratch.d_x, dense, low, to, &mut scratch.down, gradients);
        scratch.d_qkv.clear();
        let d_qkv = sized(&mut scratch.d_qkv, count * sizes.qkv());
        for sequence in sequences {
            sequence.backward(&saved.qkv, self.window, &saved.mixed, d_mixed, d_qkv, &mut scratch.scores);
        }
        self.place_heads_backward(rows, &saved.raw, d_qkv, gradients);

        let normed = sized(&mut scratch.normed, count * sizes.hidden);
        self.norm(&saved.x, self.input_norm, normed);
        let d_normed = sized(&mut scratch.d_normed, count * sizes.hidden);
        for (module, column) in self.attention_columns() {
            let at = Columns { start: column, stride: sizes.qkv() };
            let (low, to) = (&saved.low[module as usize], wanted.then_some((&mut *d_normed, column > 0)));
            self.linear(module).backward(normed, d_qkv, at, low, to, &mut scratch.down, gradients);
        }
        if wanted {
            spread(sequences, sizes.hidden, count, &mut scratch.d_x, &mut scratch.added);
            let slot = self.slots.input_norm;
            self.norm_backward(&saved.x, self.input_norm, d_normed, slot, &mut scratch.added, &mut scratch.d_x, gradients);
        }
    }

    fn linear(&self, module: Module) -> &Linear<'_> {
        &self.linears[module as usize]
    }

    /// Where query, key and value stand in a row of all three.
    fn attention_columns(&self) -> [(Module, usize); 3] {
        let key = self.sizes.heads * self.sizes.width;
        [(Module::Q, 0), (Module::K, key), (Module::V, key + self.sizes.kv_heads * self.sizes.width)]
    }

    /// Runs `kernel(first row, rows)` over the rows of `out`: on this thread, or on all of them when shards are fewer than threads.
    fn rows(&self, out: &mut [f32], width: usize, kernel: impl Fn(usize, &mut [f32]) + Sync) {
        if self.sizes.parallel { for_row_chunks(out, width, kernel) } else { kernel(0, out) }
    }

    fn norm(&self, x: &[f32], weight: &[f32], y: &mut [f32]) {
        let width = weight.len();
        self.rows(y, width, |first, y| {
            let x = &x[first * width..][..y.len()];
            vectorized(
                #[inline(always)]
                || rms_norm(x, weight, self.sizes.eps, y),
            );
        });
    }

    /// Adds the gradient of the norm's input to `d_x`.
    #[expect(clippy::too_many_arguments, reason = "the operands of one formula")]
    fn norm_backward(
        &self,
        x: &[f32],
        weight: &[f32],
        grad: &[f32],
        slot: Option<usize>,
        added: &mut Vec<f32>,
        d_x: &mut [f32],
        gradients: &mut [Vec<f32>],
    ) {
        norm_backward(x, weight, grad, self.sizes.eps, slot, added, gradients);
        d_x.iter_mut().zip(&*added).for_each(|(sum, d)| *sum += d);
    }

    fn activate(&self, gate_up: &[f32], inner: &mut [f32]) {
        let width = self.sizes.inner;
        self.rows(inner, width, |first, lines| {
            vectorized(
                #[inline(always)]
                || {
                    for (line, gate_up) in lines.chunks_exact_mut(width).zip(gate_up[first * 2 * width..].chunks_exact(2 * width)) {
                        swiglu(&gate_up[..width], &gate_up[width..], line);
                    }
                },
            );
        });
    }

    /// The activation once more, for the backward pass.
    fn activate_keeping(&self, gate_up: &[f32], inner: &mut [f32], sigmoids: &mut [f32]) {
        let width = self.sizes.inner;
        vectorized(
            #[inline(always)]
            || {
                let lines = inner.chunks_exact_mut(width).zip(sigmoids.chunks_exact_mut(width));
                for ((line, sigmoids), gate_up) in lines.zip(gate_up.chunks_exact(2 * width)) {
                    swiglu_keeping(&gate_up[..width], &gate_up[width..], line, sigmoids);
                }
            },
        );
    }

    fn activate_backward(&self, gate_up: &[f32], sigmoids: &[f32], grad: &[f32], d_gate_up: &mut [f32]) {
        let width = self.sizes.inner;
        self.rows(d_gate_up, 2 * width, |first, lines| {
            let rows = gate_up[first * 2 * width..].chunks_exact(2 * width).zip(grad[first * width..].chunks_exact(width));
            let rows = rows.zip(sigmoids[first * width..].chunks_exact(width));
            vectorized(
                #[inline(always)]
                || {
                    for (line, ((gate_up, grad), sigmoids)) in lines.chunks_exact_mut(2 * width).zip(rows.clone()) {
                        let (d_gate, d_up) = line.split_at_mut(width);
                        swiglu_backward_with(sigmoids, &gate_up[..width], &gate_up[width..], grad, d_gate, d_up);
                    }
                },
            );
        });
    }

    /// Norms and turns the heads of queries and keys.
    fn place_heads(&self, rows: &Rows, qkv: &mut [f32]) {
        let sizes = self.sizes;
        self.rows(qkv, sizes.qkv(), |first, lines| {
            let mut normed = vec![0.0; sizes.width];
            vectorized(
                #[inline(always)]
                || {
                    for (line, &position) in lines.chunks_exact_mut(sizes.qkv()).zip(&rows.positions[first..]) {
                        let (cos, sin) = rows.angles(position, sizes.rotary);
                        for (index, head) in line.chunks_exact_mut(sizes.width).take(sizes.heads + sizes.kv_heads).enumerate() {
                            if let Some(weight) = self.head_norm(index) {
                                rms_norm(head, weight, sizes.eps, &mut normed);
                                head.copy_from_slice(&normed);
                            }
                            if self.rotates {
                                turn(&mut head[..sizes.rotary], cos, sin, 1.0);
                            }
                        }
                    }
                },
            );
        });
    }

    /// The norm of a head, counted over queries and keys.
    fn head_norm(&self, index: usize) -> Option<&[f32]> {
        self.qk_norm.map(|(query, key)| if index < self.sizes.heads { query } else { key })
    }

    /// Gradients of the heads as the attention saw them become those of the projections' results.
    fn place_heads_backward(&self, rows: &Rows, raw: &[f32], d_qkv: &mut [f32], gradients: &mut [Vec<f32>]) {
        let sizes = self.sizes;
        let mut d_weights = [vec![0.0; sizes.width], vec![0.0; sizes.width]];
        let mut turned = vec![0.0; sizes.width];
        vectorized(
            #[inline(always)]
            || {
                for (row, (line, &position)) in d_qkv.chunks_exact_mut(sizes.qkv()).zip(&rows.positions).enumerate() {
                    let (cos, sin) = rows.angles(position, sizes.rotary);
                    for (index, head) in line.chunks_exact_mut(sizes.width).take(sizes.heads + sizes.kv_heads).enumerate() {
                        if self.rotates {
                            turn(&mut head[..sizes.rotary], cos, sin, -1.0);
                        }
                        if let Some(weight) = self.head_norm(index) {
                            turned.copy_from_slice(head);
                            let x = &raw[row * sizes.qkv() + index * sizes.width..][..sizes.width];
                            rms_norm_backward(x, weight, &turned, sizes.eps, head, &mut d_weights[usize::from(index >= sizes.heads)]);
                        }
                    }
                }
            },
        );
        for (slot, sums) in [self.slots.query_norm, self.slots.key_norm].into_iter().zip(&d_weights) {
            if let Some(slot) = slot {
                gradients[slot].iter_mut().zip(sums).for_each(|(sum, d)| *sum += d);
            }
        }
    }
}

/// Rows that sequences ask for.
fn asked(sequences: &[Sequence]) -> usize {
    sequences.iter().map(Sequence::asked).sum()
}

/// Gradients of the rows that were asked for become those of all `count` rows, zero for the others.
fn spread(sequences: &[Sequence], width: usize, count: usize, d_x: &mut Vec<f32>, buffer: &mut Vec<f32>) {
    if d_x.len() == count * width {
        return;
    }
    buffer.clear();
    buffer.resize(count * width, 0.0);
    for sequence in sequences {
        let (to, from) = (sequence.first + sequence.start, sequence.out);
        let rows = &d_x[from * width..(from + sequence.asked()) * width];
        buffer[to * width..][..rows.len()].copy_from_slice(rows);
    }
    std::mem::swap(d_x, buffer);
}

impl Rows<'_> {
    fn angles(&self, position: usize, rotary: usize) -> (&[f32], &[f32]) {
        let half = rotary / 2;
        let range = position * half..(position + 1) * half;
        (&self.tables.0[range.clone()], &self.tables.1[range])
    }
}

/// Gradient of an RMS norm's input into `d_x`, and of its weight added to its slot.
pub(super) fn norm_backward(
    x: &[f32],
    weight: &[f32],
    grad: &[f32],
    eps: f32,
    slot: Option<usize>,
    d_x: &mut Vec<f32>,
    gradients: &mut [Vec<f32>],
) {
    let d_x = sized(d_x, x.len());
    let mut d_weight = vec![0.0; weight.len()];
    vectorized(
        #[inline(always)]
        || rms_norm_backward(x, weight, grad, eps, d_x, &mut d_weight),
    );
    if let Some(slot) = slot {
        gradients[slot].iter_mut().zip(&d_weight).for_each(|(sum, d)| *sum += d);
    }
}
