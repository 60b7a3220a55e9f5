//! From a run folder to tables, and to the whole report: a journal of 4,400 rows (1,000 questions by four variants, and a latency pass), or
//! the run that `RAGFT_BENCH_RUN` names. Both read the folder anew and write into it.

use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use ragft::report::write_report;
use ragft::table::{self, write_tables};
use ragft_benches::recorded::Recorded;

fn all(criterion: &mut Criterion) {
    let run = Recorded::new().expect("a run folder");
    let rows = run.rows().expect("a journal");
    let mut group = criterion.benchmark_group(format!("report/{rows} rows"));
    group.sample_size(10).sampling_mode(SamplingMode::Flat).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(5));
    group.throughput(Throughput::Elements(rows));
    group.bench_function("journal to typed rows", |bencher| bencher.iter(|| table::read(run.path()).expect("a sound run")));
    group.bench_function("journal to tables", |bencher| bencher.iter(|| write_tables(run.path()).expect("a sound run")));
    group.bench_function("journal to report", |bencher| bencher.iter(|| write_report(run.path()).expect("a sound run")));
    group.finish();
}

criterion_group!(benches, all);
criterion_main!(benches);
