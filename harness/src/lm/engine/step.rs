//! One pass through the decoder over rows of several sequences.

use super::Engine;
use super::adapter::{LowRank, PackedAdapter};
use super::attention::{QUERY_BLOCK, Queries};
use super::cache::SequenceCache;
use super::weights::{Block, Group, Projection};
use crate::kernel::Team;
use crate::kernel::elementwise::{geglu, rms_norm, rms_norm_in_place, softcap, swiglu, turn};
use crate::kernel::simd::vectorized;

/// Consecutive new tokens of one sequence.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// Index into the caches; no two segments of a step share one.
    pub cache: usize,
    /// The tokens, at least one.
    pub tokens: &'a [u32],
    /// Whether the logits after the last token are wanted.
    pub logits: bool,
}

/// Buffers of a step, kept from one to the next.
#[derive(Debug, Default)]
pub struct Workspace {
    /// `[M, C]`: the residual stream.
    x: Vec<f32>,
    /// `[M, C]`.
    normed: Vec<f32>,
    /// `[M, (H + 2 K) D]`.
    qkv: Vec<f32>,
    /// `[M, H D]`.
    mixed: Vec<f32>,
    /// `[M, 2 I]`.
    gate_up: Vec<f32>,
    /// `[M, I]`.
    inner: Vec<f32>,
    /// `[M, C]`: what joins the residual stream behind a norm of its own.
    branch: Vec<f32>,
    update: UpdateBuffers,
    /// `[wanted, V]`.
    logits: Vec<f32>,
}

/// Buffers of an adapter's update.
#[derive(Debug, Default)]
struct UpdateBuffers {
    /// `[M, r]`.
    low_rank: Vec<f32>,
    /// `[M, out]`: outputs that are multiplied before they join what is there.
    apart: Vec<f32>,
}

impl Workspace {
    /// The logits of the last step, `[V]` for each segment that wanted them, in order.
    pub fn logits(&self, vocabulary: usize) -> std::slice::ChunksExact<'_, f32> {
        self.logits.chunks_exact(vocabulary)
    }
}

/// Sets a buffer's length. What it holds is stale until it is written.
fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    buffer.resize(len, 0.0);
    buffer
}

/// The sizes that a step needs all the time.
#[derive(Clone, Copy)]
struct Sizes {
    hidden: usize,
    heads: usize,
    kv_heads: usize,
    width: usize,
}

impl Sizes {
    fn query(self) -> usize {
        self.heads * self.width
    }

    fn qkv(self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.width
    }
}

impl Engine {
    /// Computes the segments, stores their keys and values, and leaves the wanted logits in the workspace.
    ///
    /// # Panics
    /// When a token or position is out of range, or two segments share a cache.
    pub fn step(
        &self,
        team: &Team,
        adapter: Option<&PackedAdapter>,
        segments: &[Segment],
        caches: &mut [SequenceCache],
        work: &mut Workspace,
    ) {
        let config = &self.config;
        let sizes = Sizes {
            hidden: config.hidden_size,
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            width: config.head_dim,
        };
        self.embed(segments, sized(&mut work.x, rows_of(segments) * sizes.hidden));
        let last = self.weights.blocks.len() - 1;
        for (index, block) in self.weights.blocks.iter().enumerate() {
            let low_rank = |group: Group| adapter.and_then(|adapter| adapter.blocks[index][group as usize].as_ref());
            self.attention(team, index, block, &low_rank, segments, caches, work, sizes, index == last);
            if work.x.is_empty() {
                break;
            }
            self.feed_forward(team, block, &low_rank, work);
        }
        for segment in segments {
            caches[segment.cache].advance(segment.tokens.len());
        }
        // The last block has left the wanted rows alone.
        let rows = work.x.len() / sizes.hidden;
        self.norm(team, &work.x, &self.weights.final_norm, sized(&mut work.normed, rows * sizes.hidden));
        let logits = sized(&mut work.logits, rows * config.vocab_size);
        self.weights.head.multiply(&work.normed, logits, false, team, self.parallel_from());
        if let Some(bound) = config.logit_softcap() {
            team.rows(logits, config.vocab_size, ELEMENTS, |_, logits| {
                vectorized(
                    #[inline(always)]
                    || softcap(logits, bound as f32),
                );
            });
        }
    }

    fn embed(&self, segments: &[Segment], x: &mut [f32]) {
        let tokens = segments.iter().flat_map(|segment| segment.tokens);
        for (token, row) in tokens.zip(x.chunks_exact_mut(self.config.hidden_size)) {
            self.weights.embed(*token, row);
            if let Some(scale) = self.config.embedding_scale() {
                row.iter_mut().for_each(|x| *x *= scale as f32);
            }
        }
    }

    fn norm(&self, team: &Team, x: &[f32], weight: &[f32], y: &mut [f32]) {
        let (width, eps) = (weight.len(), self.config.rms_norm_eps as f32);
        team.rows(y, width, ELEMENTS, |first, y| {
            let x = &x[first * width..][..y.len()];
            vectorized(
                #[inline(always)]
                || rms_norm(x, weight, eps, y),
            );
        });
    }

    /// `y = [y +] x W^T + b` with the adapter's update: `x W^T` becomes `gain (x W^T + scale x A^T B^T)`.
    #[expect(clippy::too_many_arguments, reason = "the operands of one formula")]
    fn project(
        &self,
        team: &Team,
        projection: &Projection,
        update: Option<&LowRank>,
        x: &[f32],
        y: &mut [f32],
        add: bool,
        buffers: &mut UpdateBuffers,
    ) {
        let parallel = self.parallel_from();
        if let Some((update, gain)) = update.and_then(|update| Some((update, update.gain.as_deref()?))) {
            let apart = sized(&mut buffers.apart, y.len());
            projection.weight.multiply(x, apart, false, team, parallel);
            let t = sized(&mut buffers.low_rank, x.len() / update.a.inputs() * update.a.outputs());
            update.a.multiply(x, t, false, team, parallel);
            update.b.multiply(t, apart, true, team, parallel);
            for (y, product) in y.chunks_exact_mut(gain.len()).zip(apart.chunks_exact(gain.len())) {
                for (index, ((y, product), gain)) in y.iter_mut().zip(product).zip(gain).enumerate() {
                    let bias = projection.bias.as_ref().map_or(0.0, |bias| bias[index]);
                    *y = if add { *y } else { 0.0 } + product * gain + bias;
                }
            }
            return;
        }
        if let Some(bias) = &projection.bias {
            for row in y.chunks_exact_mut(bias.len()) {
                row.iter_mut().zip(bias).for_each(|(y, bias)| *y = if add { *y + bias } else { *bias });
            }
        }
        projection.weight.multiply(x, y, add || projection.bias.is_some(), team, parallel);
        if let Some(update) = update {
            let t = sized(&mut buffers.low_rank, x.len() / update.a.inputs() * update.a.outputs());
            update.a.multiply(x, t, false, team, parallel);
            update.b.multiply(t, y, true, team, parallel);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the state of one pass; a struct of it would be taken apart again at once")]
    fn attention<'w>(
        &self,
        team: &Team,
        layer: usize,
        block: &Block,
        low_rank: &dyn Fn(Group) -> Option<&'w LowRank>,
        segments: &[Segment],
        caches: &mut [SequenceCache],
        work: &mut Workspace,
        sizes: Sizes,
        last: bool,
    ) {
        let rows = work.x.len() / sizes.hidden;
        self.norm(team, &work.x, &block.norms.input, sized(&mut work.normed, rows * sizes.hidden));
        let qkv = sized(&mut work.qkv, rows * sizes.qkv());
        self.project(team, &block.projections[0], low_rank(Group::Attention), &work.normed, qkv, false, &mut work.update);
        self.place_heads(team, layer, block, segments, caches, qkv, sizes);
        let (mut row, mut kept) = (0, 0);
        for segment in segments {
            let (key_start, value_start) = (sizes.query(), sizes.query() + sizes.kv_heads * sizes.width);
            for (ahead, line) in qkv[row * sizes.qkv()..].chunks_exact(sizes.qkv()).take(segment.tokens.len()).enumerate() {
                caches[segment.cache].store(layer, ahead, &line[key_start..value_start], &line[value_start..]);
            }
            row += segment.tokens.len();
            // Behind the last block only the rows are read whose logits are wanted: the others end here.
            if last && segment.logits {
                let from = (row - 1) * sizes.hidden;
                work.x.copy_within(from..from + sizes.hidden, kept * sizes.hidden);
                kept += 1;
            }
        }
        if last {
            work.x.truncate(kept * sizes.hidden);
        }
        let mixed = sized(&mut work.mixed, work.x.len() / sizes.hidden * sizes.query());
        let reach = Reach {
            window: self.config.window(layer).unwrap_or(usize::MAX),
            softcap: self.config.attention_softcap().map(|bound| bound as f32),
        };
        mix(team, layer, reach, segments, caches, qkv, mixed, sizes, last);
        let (Workspace { mixed, x, branch, update: buffers, .. }, update) = (work, low_rank(Group::Output));
        self.join(team, &block.projections[1], update, mixed, block.norms.behind_attention.as_deref(), x, branch, buffers);
    }

    /// `x += y W^T + b`, through a norm where the block has one.
    #[expect(clippy::too_many_arguments, reason = "the operands of one formula")]
    fn join(
        &self,
        team: &Team,
        projection: &Projection,
        update: Option<&LowRank>,
        y: &[f32],
        norm: Option<&[f32]>,
        x: &mut [f32],
        branch: &mut Vec<f32>,
        buffers: &mut UpdateBuffers,
    ) {
        let Some(norm) = norm else { return self.project(team, projection, update, y, x, true, buffers) };
        let branch = sized(branch, x.len());
        self.project(team, projection, update, y, branch, false, buffers);
        let (width, eps) = (norm.len(), self.config.rms_norm_eps as f32);
        team.rows(branch, width, ELEMENTS, |_, rows| {
            vectorized(
                #[inline(always)]
                || rows.chunks_exact_mut(width).for_each(|row| rms_norm_in_place(row, norm, eps)),
            );
        });
        x.iter_mut().zip(branch).for_each(|(x, y)| *x += *y);
    }

    /// Norms and turns the heads of all rows, and scales the queries by `1 / sqrt(D)`.
    #[expect(clippy::too_many_arguments, reason = "the operands of one formula")]
    fn place_heads(
        &self,
        team: &Team,
        layer: usize,
        block: &Block,
        segments: &[Segment],
        caches: &[SequenceCache],
        qkv: &mut [f32],
        sizes: Sizes,
    ) {
        let positions: Vec<usize> =
            segments.iter().flat_map(|segment| (0..segment.tokens.len()).map(|ahead| caches[segment.cache].len() + ahead)).collect();
        let (half, eps) = (self.config.rotary_width() / 2, self.config.rms_norm_eps as f32);
        let factor = self.config.query_factor();
        let scale = factor.map_or(1.0, |factor| factor as f32) / (sizes.width as f32).sqrt();
        let rotates = self.config.rotates(layer);
        let (cos, sin) = self.local_tables.as_ref().filter(|_| self.config.turns_locally(layer)).unwrap_or(&self.tables);
        let turned = sizes.heads + sizes.kv_heads;
        team.rows(qkv, sizes.qkv(), ELEMENTS, |first, lines| {
            vectorized(
                #[inline(always)]
                || {
                    for (line, &position) in lines.chunks_exact_mut(sizes.qkv()).zip(&positions[first..]) {
                        let table = position * half..(position + 1) * half;
                        let (cos, sin) = (&cos[table.clone()], &sin[table]);
                        for (index, head) in line.chunks_exact_mut(sizes.width).take(turned).enumerate() {
                            let query = index < sizes.heads;
                            if let Some((q_norm, k_norm)) = &block.qk_norm {
                                rms_norm_in_place(head, if query { q_norm } else { k_norm }, eps);
                            }
                            if rotates {
                                turn(&mut head[..2 * half], cos, sin, 1.0);
                            }
                            if query {
                                head.iter_mut().for_each(|x| *x *= scale);
                            }
                        }
                    }
                },
            );
        });
    }

    fn feed_forward<'w>(&self, team: &Team, block: &Block, low_rank: &dyn Fn(Group) -> Option<&'w LowRank>, work: &mut Workspace) {
        let (hidden, inner) = (self.config.hidden_size, self.config.intermediate_size);
        let rows = work.x.len() / hidden;
        self.norm(team, &work.x, &block.norms.before_feed_forward, sized(&mut work.normed, rows * hidden));
        let gate_up = sized(&mut work.gate_up, rows * 2 * inner);
        self.project(team, &block.projections[2], low_rank(Group::FeedForward), &work.normed, gate_up, false, &mut work.update);
        let (gate_up, gelu) = (&*gate_up, self.config.gemma.is_some());
        team.rows(sized(&mut work.inner, rows * inner), inner, ELEMENTS, |first, lines| {
            vectorized(
                #[inline(always)]
                || {
                    for (line, gate_up) in lines.chunks_exact_mut(inner).zip(gate_up[first * 2 * inner..].chunks_exact(2 * inner)) {
                        let (gate, up) = gate_up.split_at(inner);
                        if gelu { geglu(gate, up, line) } else { swiglu(gate, up, line) }
                    }
                },
            );
        });
        let (Workspace { inner, x, branch, update: buffers, .. }, update) = (work, low_rank(Group::Down));
        self.join(team, &block.projections[3], update, inner, block.norms.behind_feed_forward.as_deref(), x, branch, buffers);
    }
}

fn rows_of(segments: &[Segment]) -> usize {
    segments.iter().map(|segment| segment.tokens.len()).sum()
}

/// What bounds the attention of a block.
#[derive(Clone, Copy)]
struct Reach {
    /// Positions that a query sees at most.
    window: usize,
    /// Bound of the scores.
    softcap: Option<f32>,
}

/// A piece of attention that one thread computes.
struct Unit<'a> {
    queries: Queries<'a>,
    /// One key head's group of a single row, or all heads of several rows.
    kv_head: Option<usize>,
    out: &'a mut [f32],
}

/// Attention of every segment's rows (behind the last block: of the wanted ones) into `mixed`.
#[expect(clippy::too_many_arguments, reason = "the operands of one formula")]
fn mix(
    team: &Team,
    layer: usize,
    reach: Reach,
    segments: &[Segment],
    caches: &[SequenceCache],
    qkv: &[f32],
    mixed: &mut [f32],
    sizes: Sizes,
    last: bool,
) {
    let mut units = Vec::new();
    let (mut rest, mut row, mut work) = (mixed, 0, 0);
    for segment in segments {
        let cache = &caches[segment.cache];
        let count = segment.tokens.len();
        let (first, end) = match (last, segment.logits) {
            (false, _) => (0, count),
            (true, true) => (count - 1, count),
            (true, false) => (count, count),
        };
        let queries = |at: usize, count: usize| Queries {
            cache,
            layer,
            data: &qkv[(row + at) * sizes.qkv()..],
            stride: sizes.qkv(),
            count,
            position: cache.len() + at,
            width: sizes.width,
            group: sizes.heads / sizes.kv_heads,
            window: reach.window,
            softcap: reach.softcap,
        };
        work += (end - first) * (cache.len() + count).min(reach.window) * sizes.query();
        if end - first == 1 {
            for kv_head in 0..sizes.kv_heads {
                let mut queries = queries(first, 1);
                let group = queries.group * sizes.width;
                queries.data = &queries.data[kv_head * group..];
                let (out, others) = rest.split_at_mut(group);
                rest = others;
                units.push(Unit { queries, kv_head: Some(kv_head), out });
            }
        } else {
            for at in (first..end).step_by(QUERY_BLOCK) {
                let count = QUERY_BLOCK.min(end - at);
                let (out, others) = rest.split_at_mut(count * sizes.query());
                rest = others;
                units.push(Unit { queries: queries(at, count), kv_head: None, out });
            }
        }
        row += count;
    }
    let compute = |unit: Unit| match unit.kv_head {
        Some(kv_head) => unit.queries.attend_group(kv_head, unit.out),
        None => unit.queries.attend_rows(sizes.kv_heads, unit.out),
    };
    if work < PARALLEL_ATTENTION {
        units.into_iter().for_each(compute);
    } else {
        team.each(units, compute);
    }
}

/// From how many multiply-adds of scores on the threads share the attention.
const PARALLEL_ATTENTION: usize = 1 << 15;

/// Elements of a part of an elementwise pass, at least.
const ELEMENTS: usize = 4096;
