//! The decoder's kernels beside the compositions of candle operations that they replace: one forward and one backward pass each, at the
//! shape of the tiny model (8 sequences of 256 tokens, width 192, 6 heads of 32, inner width 512).

use candle_core::{Device, Result, Tensor, Var};
use criterion::{Criterion, criterion_group, criterion_main};
use ragft::lm::ops::{self, reference};
use ragft::rng::Rng;

const B: usize = 8;
const T: usize = 256;
const C: usize = 192;
const HEADS: usize = 6;
const D: usize = 32;
const INNER: usize = 512;

type Op<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

fn normal(shape: &[usize], stream: &str) -> Tensor {
    let mut rng = Rng::new(1, stream);
    let data: Vec<f32> = (0..shape.iter().product()).map(|_| rng.normal() as f32).collect();
    Tensor::from_vec(data, shape, &Device::Cpu).expect("as many elements as the shape says")
}

/// Times `kernel` and `reference` on variables of the given shapes.
fn pair(criterion: &mut Criterion, name: &str, shapes: &[&[usize]], kernel: Op, reference: Op) {
    let vars = shapes.iter().enumerate().map(|(index, shape)| Var::from_tensor(&normal(shape, &format!("{name}{index}"))));
    let inputs: Vec<Tensor> = vars.map(|var| var.expect("a contiguous tensor").into_inner()).collect();
    let mut group = criterion.benchmark_group(name);
    group.sample_size(20);
    for (label, op) in [("kernel", kernel), ("reference", reference)] {
        group.bench_function(label, |bencher| {
            bencher.iter(|| op(&inputs).and_then(|y| y.sum_all()?.backward()).expect("a differentiable op"));
        });
    }
}

fn all(criterion: &mut Criterion) {
    let (frozen, angle) = (normal(&[INNER, C], "frozen"), normal(&[T, D / 2], "angle"));
    let (cos, sin) = (angle.cos().expect("floats"), angle.sin().expect("floats"));
    let (x, inner, heads): (&[usize], &[usize], &[usize]) = (&[B, T, C], &[B, T, INNER], &[B, HEADS, T, D]);
    pair(criterion, "frozen-linear", &[x], &|t| ops::linear(&t[0], &frozen, None), &|t| reference::linear(&t[0], &frozen, None));
    pair(criterion, "linear", &[x, &[INNER, C]], &|t| ops::linear(&t[0], &t[1], None), &|t| reference::linear(&t[0], &t[1], None));
    pair(criterion, "lora-linear", &[x, &[16, C], &[INNER, 16]], &|t| ops::lora_linear(&t[0], &frozen, None, (&t[1], &t[2]), 2.0), &|t| {
        reference::lora_linear(&t[0], &frozen, None, (&t[1], &t[2]), 2.0)
    });
    pair(criterion, "rms-norm", &[x, &[C]], &|t| ops::rms_norm(&t[0], &t[1], 1e-6), &|t| reference::rms_norm(&t[0], &t[1], 1e-6));
    pair(criterion, "rope", &[heads], &|t| ops::rope(&t[0], &cos, &sin), &|t| reference::rope(&t[0], &cos, &sin));
    pair(criterion, "split-heads", &[x, &[D]], &|t| ops::split_heads(&t[0], HEADS, Some((&t[1], 1e-6)), Some((&cos, &sin))), &|t| {
        reference::split_heads(&t[0], HEADS, Some((&t[1], 1e-6)), Some((&cos, &sin)))
    });
    pair(criterion, "swiglu", &[inner, inner], &|t| ops::swiglu(&t[0], &t[1]), &|t| reference::swiglu(&t[0], &t[1]));
    pair(criterion, "attention-causal", &[heads, heads, heads], &|t| ops::attention_causal(&t[0], &t[1], &t[2], None), &|t| {
        reference::attention_causal(&t[0], &t[1], &t[2], None)
    });
}

criterion_group!(benches, all);
criterion_main!(benches);
