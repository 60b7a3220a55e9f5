//! The HNSW index and exact search over random unit vectors: building, and one query after another on one thread, as a question comes in.

use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use ragft::retrieval::exact;
use ragft::retrieval::hnsw::HnswIndex;
use ragft_benches::vectors::{HNSW, TOP_K, corpus, queries};

const CHUNKS: usize = 2000;
const QUERIES: usize = 100;

fn index(criterion: &mut Criterion, dimension: usize) {
    let (vectors, queries) = (corpus(CHUNKS, dimension), queries(QUERIES, dimension));
    let mut group = criterion.benchmark_group(format!("index/{CHUNKS} x {dimension}"));
    group.sample_size(10).sampling_mode(SamplingMode::Flat).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4));
    group.throughput(Throughput::Elements(CHUNKS as u64));
    group.bench_function("hnsw build", |bencher| bencher.iter(|| HnswIndex::build(&vectors, &HNSW).expect("links within bounds")));
    let index = HnswIndex::build(&vectors, &HNSW).expect("links within bounds");
    group.throughput(Throughput::Elements(QUERIES as u64));
    group.bench_function("hnsw search", |bencher| {
        bencher.iter(|| queries.iter().map(|query| index.search(&vectors, query, TOP_K).hits.len()).sum::<usize>());
    });
    group.bench_function("exact search", |bencher| {
        bencher.iter(|| queries.iter().map(|query| exact::search(&vectors, query, TOP_K).len()).sum::<usize>());
    });
    group.bench_function("exact search, batch", |bencher| bencher.iter(|| exact::search_batch(&vectors, &queries, TOP_K)));
    group.finish();
}

fn all(criterion: &mut Criterion) {
    [128, 384].into_iter().for_each(|dimension| index(criterion, dimension));
}

criterion_group!(benches, all);
criterion_main!(benches);
