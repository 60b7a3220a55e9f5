//! Instructions of the hot functions, counted by callgrind: a number that no neighbour on the machine disturbs, for regressions too small to
//! see in times. See `benches/README.md` for what it needs.
//!
//! All work runs on one thread, and hash tables are seeded alike, so that counts of two runs can be compared. Valgrind knows no AVX-512, so
//! what is counted are the AVX2 paths.
#![expect(missing_docs, reason = "the macros make public items")]
#![expect(unsafe_code, reason = "a C function is given another body")]

use std::ffi::{c_uint, c_void};
use std::hint::black_box;
use std::sync::Arc;

use gungraun::{Callgrind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};
use ragft::dataset::Sample;
use ragft::kernel::{PARALLEL_FROM_CACHE, Packed, Team, WeightForm};
use ragft::lm::ComputeDevice;
use ragft::lm::builtin::load_builtin;
use ragft::lm::engine::{Engine, Segment, SequenceCache, Workspace};
use ragft::retrieval::hnsw::HnswIndex;
use ragft::retrieval::vector::Vectors;
use ragft::retrieval::{Embedder as _, StaticEmbedder, builtin};
use ragft::score::score_answer;
use ragft_benches::SEED;
use ragft_benches::text::{answers, texts};
use ragft_benches::vectors::{HNSW, TOP_K, corpus, queries, unit_rows};

/// Takes the place of the C library's: hash tables seed themselves with it, and other seeds are other collisions, and other counts. The bytes
/// are those of a generator (SplitMix64) all the same, since a seed without randomness makes everything collide.
///
/// # Safety
/// `buffer` must point to `length` bytes that may be written.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, _flags: c_uint) -> isize {
    // SAFETY: the caller hands over that many bytes.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    let mut state = SEED;
    for chunk in bytes.chunks_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        chunk.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes()[..chunk.len()]);
    }
    length as isize
}

/// Makes the calling thread the only one of the pool: instructions of other threads would not be counted.
fn on_one_thread() {
    rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global().expect("each count is a process of its own");
}

struct Product {
    weights: Packed,
    x: Vec<f32>,
    y: Vec<f32>,
}

/// `rows` by a feed-forward matrix of the 135M shape.
fn product(rows: usize, form: WeightForm) -> Product {
    on_one_thread();
    let (inputs, outputs) = (576, 1536);
    let weights = unit_rows("weights", outputs, inputs).concat();
    let weights = Packed::new(&[&weights], inputs, form).expect("memory for the weights");
    Product { weights, x: unit_rows("x", rows, inputs).concat(), y: vec![0.0; rows * outputs] }
}

#[library_benchmark]
#[bench::one_row_f32(args = (1, WeightForm::F32), setup = product)]
#[bench::one_row_q8(args = (1, WeightForm::Q8), setup = product)]
#[bench::eight_rows_f32(args = (8, WeightForm::F32), setup = product)]
fn matrix_product(mut product: Product) -> Product {
    product.weights.multiply(black_box(&product.x), &mut product.y, false, &Team::solo(), PARALLEL_FROM_CACHE);
    product
}

struct Decoding {
    engine: Arc<Engine>,
    caches: Vec<SequenceCache>,
    work: Workspace,
}

/// The built-in model after 64 tokens of each of `batch` sequences.
fn decoding(batch: usize) -> Decoding {
    on_one_thread();
    let engine = load_builtin(0, &ComputeDevice::cpu()).and_then(|model| model.engine()).expect("the model that ships");
    let mut caches: Vec<_> = (0..batch).map(|_| SequenceCache::new(engine.config(), 65)).collect();
    let mut work = Workspace::default();
    let tokens: Vec<u32> = (100..164).collect();
    let segments: Vec<_> = (0..batch).map(|cache| Segment { cache, tokens: &tokens, logits: false }).collect();
    engine.step(&Team::solo(), None, &segments, &mut caches, &mut work);
    Decoding { engine, caches, work }
}

#[library_benchmark]
#[bench::batch_1(args = (1), setup = decoding)]
#[bench::batch_8(args = (8), setup = decoding)]
fn decode_step(mut decoding: Decoding) -> Decoding {
    let segments: Vec<_> = (0..decoding.caches.len()).map(|cache| Segment { cache, tokens: &[7], logits: true }).collect();
    decoding.engine.step(&Team::solo(), None, black_box(&segments), &mut decoding.caches, &mut decoding.work);
    drop(segments);
    decoding
}

fn embedder() -> (StaticEmbedder, String) {
    on_one_thread();
    (builtin(), texts(1, (50, 50)).swap_remove(0))
}

#[library_benchmark]
#[bench::fifty_words(setup = embedder)]
fn embed((embedder, text): (StaticEmbedder, String)) -> (StaticEmbedder, Vec<Vec<f32>>) {
    let vectors = embedder.embed(&[black_box(text.as_str())]).expect("a text that the tokenizer takes");
    (embedder, vectors)
}

struct Search {
    vectors: Vectors,
    index: HnswIndex,
    query: Vec<f32>,
}

fn search() -> Search {
    on_one_thread();
    let vectors = corpus(1000, 128);
    let index = HnswIndex::build(&vectors, &HNSW).expect("links within bounds");
    Search { vectors, index, query: queries(1, 128).swap_remove(0) }
}

#[library_benchmark]
#[bench::thousand_chunks(setup = search)]
fn hnsw_search(search: Search) -> (Search, usize) {
    let hits = search.index.search(&search.vectors, black_box(&search.query), TOP_K).hits.len();
    (search, hits)
}

fn hundred_answers() -> Vec<(String, Sample)> {
    answers(100)
}

#[library_benchmark]
#[bench::hundred_answers(setup = hundred_answers)]
fn score(answers: Vec<(String, Sample)>) -> (Vec<(String, Sample)>, usize) {
    let scores = answers.iter().map(|(answer, sample)| score_answer(black_box(answer), sample, &[]).len()).sum();
    (answers, scores)
}

library_benchmark_group!(name = hot; benchmarks = matrix_product, decode_step, embed, hnsw_search, score);

main!(config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])), library_benchmark_groups = hot);
