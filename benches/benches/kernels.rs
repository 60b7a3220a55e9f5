//! Matrix products: packed weights by 1 to 512 rows (decoding and prefill of the 135M shape), and the products of a training step at the tiny
//! shape. An element is a floating-point operation: 100 Gelem/s are 100 GFLOP/s.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ragft::kernel::{Matrix, PARALLEL_FROM_MEMORY, Packed, Target, gemm, with_team};
use ragft::rng::Rng;
use ragft_benches::SEED;
use ragft_benches::model::FORMS;

fn normal(count: usize, stream: &str) -> Vec<f32> {
    let mut rng = Rng::new(SEED, stream);
    (0..count).map(|_| rng.normal() as f32).collect()
}

fn flops(m: usize, k: usize, n: usize) -> Throughput {
    Throughput::Elements(2 * (m * k * n) as u64)
}

/// `x W^T` with weights `[out, in]` in each form.
fn packed(criterion: &mut Criterion) {
    for (inputs, outputs, rows) in [(576, 1536, &[1, 8, 32, 512][..]), (1536, 576, &[1, 8, 32, 512]), (576, 49_152, &[1, 8, 32])] {
        let weights = normal(inputs * outputs, "weights");
        for (name, form) in FORMS {
            let weights = Packed::new(&[&weights], inputs, form).expect("memory for the weights");
            let mut group = criterion.benchmark_group(format!("kernels/packed {inputs} x {outputs}/{name}"));
            group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_millis(700));
            for &rows in rows {
                let (x, mut y) = (normal(rows * inputs, "x"), vec![0.0; rows * outputs]);
                group.throughput(flops(rows, inputs, outputs));
                group.bench_function(BenchmarkId::from_parameter(rows), |bencher| {
                    with_team(rayon::current_num_threads(), |team| {
                        bencher.iter(|| weights.multiply(&x, &mut y, false, team, PARALLEL_FROM_MEMORY));
                    });
                });
            }
            group.finish();
        }
    }
}

/// A step's products over 2,048 positions: forward, gradient of the input, gradient of the weight.
fn training(criterion: &mut Criterion) {
    const ROWS: usize = 2048;
    let mut group = criterion.benchmark_group("kernels/gemm");
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    for (inputs, outputs) in [(256, 256), (256, 704), (704, 256)] {
        let (x, w) = (normal(ROWS * inputs, "x"), normal(outputs * inputs, "w"));
        let g = normal(ROWS * outputs, "g");
        let (x, w, g) = (Matrix::new(&x, ROWS, inputs), Matrix::new(&w, outputs, inputs), Matrix::new(&g, ROWS, outputs));
        for (name, left, right, rows, cols) in
            [("x W^T", x, w.t(), ROWS, outputs), ("g W", g, w, ROWS, inputs), ("g^T x", g.t(), x, outputs, inputs)]
        {
            let mut y = vec![0.0; rows * cols];
            group.throughput(flops(ROWS, inputs, outputs));
            group.bench_function(BenchmarkId::new(name, format!("{inputs} x {outputs}")), |bencher| {
                bencher.iter(|| gemm(Target::parallel(&mut y, cols), 1.0, left, right));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, packed, training);
criterion_main!(benches);
