//! Texts into unit vectors, tokenizing included: the static vectors that ship, and a BERT-class encoder of MiniLM's shape (random weights,
//! or those of the folder that `RAGFT_BENCH_EMBEDDER` names).

use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use ragft::retrieval::{Embedder, builtin};
use ragft_benches::embedder::minilm;
use ragft_benches::text::texts;

/// Texts a second over texts of `words` words.
fn embed(criterion: &mut Criterion, name: &str, embedder: &dyn Embedder, count: usize, words: (usize, usize)) {
    let texts = texts(count, words);
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let embedded = embedder.embed_counted(&texts).expect("texts that the tokenizer takes");
    let tokens: usize = embedded.iter().map(|embedding| embedding.tokens).sum();
    let mut group = criterion.benchmark_group(format!("embed/{name}"));
    group.sample_size(10).sampling_mode(SamplingMode::Flat).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4));
    group.throughput(Throughput::Elements(count as u64));
    group.bench_function(format!("{count} texts, {tokens} tokens"), |bencher| {
        bencher.iter(|| embedder.embed(&texts).expect("texts that the tokenizer takes"));
    });
    group.finish();
}

fn all(criterion: &mut Criterion) {
    embed(criterion, "builtin", &builtin(), 2000, (5, 200));
    let encoder = minilm().expect("an embedder");
    embed(criterion, "minilm/questions", encoder.as_ref(), 64, (5, 20));
    embed(criterion, "minilm/passages", encoder.as_ref(), 16, (5, 200));
}

criterion_group!(benches, all);
criterion_main!(benches);
