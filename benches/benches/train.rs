//! Whole optimizer steps at the tiny shape (6 layers x 256) over 8 rows of 256 positions: LoRA of rank 16 on all linear layers, and every
//! weight.

use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use ragft_benches::model::{random_decoder, shape_tiny};
use ragft_benches::training::{Method, Training};

const ROWS: usize = 8;
const LENGTH: usize = 256;

fn all(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("train/tiny");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(10));
    group.throughput(Throughput::Elements((ROWS * LENGTH) as u64));
    for (name, method) in [("lora step", Method::Lora), ("full step", Method::Full)] {
        let decoder = random_decoder(&shape_tiny()).expect("memory for the model");
        let training = Training::new(decoder, method).expect("memory for its gradients");
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|steps| {
                let seconds = training.steps(ROWS, LENGTH, steps).expect("steps that stay finite");
                Duration::from_secs_f64(seconds.iter().sum())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, all);
criterion_main!(benches);
