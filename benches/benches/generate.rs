//! Prefill and decode, in tokens a second: the built-in model and a random one of 135M weights, with weights in f32, bf16 and q8_0; and
//! decoding with an adapter beside the weights against the adapter merged into them.

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use ragft::finetune::lora::merge;
use ragft::kernel::WeightForm;
use ragft::lm::ComputeDevice;
use ragft::lm::builtin::load_builtin;
use ragft::lm::lora::LoraWeights;
use ragft::lm::{Generation, LanguageModel as _, LocalModel};
use ragft_benches::model::{FORMS, forced, prompts, random_adapters, random_model, shape_135m};

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
    let prompts = prompts(1, length, model.config.vocab_size);
    group.throughput(Throughput::Elements(length as u64));
    group.bench_function(BenchmarkId::new("prefill", length), |bencher| {
        bencher.iter(|| model.generate(&prompts, None, &forced(1)).expect("a model that answers"));
    });
}

/// `steps` tokens for each of `batch` sequences after their first ones; prefill is not timed.
fn decode(group: &mut BenchmarkGroup<WallTime>, model: &LocalModel, batch: usize, steps: usize) {
    decode_with(group, "decode", model, None, batch, steps);
}

fn decode_with(
    group: &mut BenchmarkGroup<WallTime>,
    name: &str,
    model: &LocalModel,
    adapter: Option<&LoraWeights>,
    batch: usize,
    steps: usize,
) {
    let prompts = prompts(batch, SHORT, model.config.vocab_size);
    group.throughput(Throughput::Elements((batch * steps) as u64));
    group.bench_function(BenchmarkId::new(name, batch), |bencher| {
        bencher.iter_custom(|rounds| {
            let round = |_| longest(&model.generate(&prompts, adapter, &forced(1 + steps)).expect("a model that answers"), |a| a.decode);
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

/// Decoding with one adapter (rank 16 on all seven projections): beside the weights, with DoRA's gains, and merged into them.
fn adapters(criterion: &mut Criterion) {
    let builtin = load_builtin(0, &ComputeDevice::cpu()).expect("the model that ships");
    let large = random_model(&shape_135m(), WeightForm::F32).expect("memory for 135M weights");
    for (name, model, steps) in [("builtin", builtin, 32), ("135m", large, 8)] {
        let (lora, dora) = random_adapters(&model.decoder().expect("weights in memory"), 16).expect("tensors of the decoder's shapes");
        let merged =
            model.with_decoder(merge(&model.decoder().expect("weights in memory"), &lora).expect("an adapter of the decoder's shapes"));
        for model in [&model, &merged] {
            model.engine().expect("memory for packed weights");
        }
        let mut group = criterion.benchmark_group(format!("generate/adapter/{name}"));
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(4));
        for batch in [1, 8] {
            decode_with(&mut group, "base", &model, None, batch, steps);
            decode_with(&mut group, "unmerged", &model, Some(&lora), batch, steps);
            decode_with(&mut group, "unmerged-dora", &model, Some(&dora), batch, steps);
            decode_with(&mut group, "merged", &merged, None, batch, steps);
        }
        group.finish();
    }
}

criterion_group!(benches, builtin, large, adapters);
criterion_main!(benches);
