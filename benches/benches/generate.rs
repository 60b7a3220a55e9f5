//! Prefill and decode, in tokens a second: the built-in model and a random one of 135M weights, with weights in f32, bf16 and q8_0.

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use ragft::lm::ComputeDevice;
use ragft::lm::builtin::load_builtin;
use ragft::lm::{Generation, LanguageModel as _, LocalModel};
use ragft_benches::model::{FORMS, forced, prompts, random_model, shape_135m};

/// Sequences that are decoded side by side.
const BATCHES: [usize; 3] = [1, 8, 32];

/// Prompt tokens before decoding: few enough that a batch's prompts go through in one step, so that all of it is decoded side by side from
/// its first to its last token.
const SHORT: usize = 8;

/// Longest time among the answers of one call.
fn longest(answers: &[Generation], of: impl Fn(&Generation) -> Duration) -> Duration {
    answers.iter().map(of).max().unwrap_or_default()
}

/// One prompt to its first token.
fn prefill(group: &mut BenchmarkGroup<WallTime>, model: &LocalModel, length: usize) {
    let prompts = prompts(1, length, model.decoder.config.vocab_size);
    group.throughput(Throughput::Elements(length as u64));
    group.bench_function(BenchmarkId::new("prefill", length), |bencher| {
        bencher.iter(|| model.generate(&prompts, None, &forced(1)).expect("a model that answers"));
    });
}

/// `steps` tokens for each of `batch` sequences after their first ones; prefill is not timed.
fn decode(group: &mut BenchmarkGroup<WallTime>, model: &LocalModel, batch: usize, steps: usize) {
    let prompts = prompts(batch, SHORT, model.decoder.config.vocab_size);
    group.throughput(Throughput::Elements((batch * steps) as u64));
    group.bench_function(BenchmarkId::new("decode", batch), |bencher| {
        bencher.iter_custom(|rounds| {
            let round = |_| longest(&model.generate(&prompts, None, &forced(1 + steps)).expect("a model that answers"), |a| a.decode);
            (0..rounds).map(round).sum()
        });
    });
}

fn builtin(criterion: &mut Criterion) {
    for (name, form) in FORMS {
        let model = load_builtin(0, &ComputeDevice::cpu()).expect("the model that ships").with_form(form);
        model.engine().expect("memory for packed weights");
        let mut group = criterion.benchmark_group(format!("generate/builtin/{name}"));
        group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
        prefill(&mut group, &model, 512);
        BATCHES.iter().for_each(|&batch| decode(&mut group, &model, batch, 32));
        group.finish();
    }
}

fn large(criterion: &mut Criterion) {
    for (name, form) in FORMS {
        let model = random_model(&shape_135m(), form).expect("memory for 135M weights");
        model.engine().expect("memory for packed weights");
        let mut group = criterion.benchmark_group(format!("generate/135m/{name}"));
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(4));
        prefill(&mut group, &model, 256);
        BATCHES.iter().for_each(|&batch| decode(&mut group, &model, batch, 8));
        group.finish();
    }
}

criterion_group!(benches, builtin, large);
criterion_main!(benches);
