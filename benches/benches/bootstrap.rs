//! 10,000 resamples of 12 differences over 10,000 questions, draws included: BCa intervals where every question is a cluster and where four
//! share one, and whole comparisons with their tests. `peers/bootstrap.py` does the first with SciPy and with NumPy.

use std::time::Duration;

use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use ragft::rng::Rng;
use ragft::stats::{Resampler, Values};

const RESAMPLES: usize = 10_000;
const QUESTIONS: usize = 10_000;
const DIFFERENCES: usize = 12;

/// A fifth of the questions discordant, or graded differences.
fn columns(is_graded: bool) -> Vec<Vec<Option<f64>>> {
    let mut rng = Rng::new(1, "differences");
    let mut value = |_| {
        let at = rng.uniform();
        if is_graded {
            Some(rng.normal())
        } else if at < 0.2 {
            Some(if at < 0.11 { 1.0 } else { -1.0 })
        } else {
            Some(0.0)
        }
    };
    (0..DIFFERENCES).map(|_| (0..QUESTIONS).map(&mut value).collect()).collect()
}

fn names(size: usize) -> Vec<String> {
    (0..QUESTIONS).map(|number| format!("c{:05}", number / size)).collect()
}

fn all(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("bootstrap");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(10));
    let new = |names: &[String]| Resampler::new(names.iter().map(String::as_str), 1, RESAMPLES, 0.95);
    let (binary, graded) = (columns(false), columns(true));
    for (label, size) in [("BCa, 10,000 clusters", 1), ("BCa, 2,500 clusters", 4)] {
        let names = names(size);
        group.bench_function(label, |bencher| bencher.iter(|| new(&names).bca(&binary)));
    }
    let names = names(4);
    group.bench_function("comparisons of yes/no scores", |bencher| bencher.iter(|| new(&names).compare(&binary, Values::Scores)));
    group.bench_function("comparisons of graded scores", |bencher| bencher.iter(|| new(&names).compare(&graded, Values::Scores)));
    group.finish();
}

criterion_group!(benches, all);
criterion_main!(benches);
