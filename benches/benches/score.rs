//! Scores of 3,000 answers with two references each: every metric alone, and all of them as the harness asks for them.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ragft::score::{Normalised, rouge_l, score_answer};
use ragft_benches::text::answers;

const ANSWERS: usize = 3000;

fn all(criterion: &mut Criterion) {
    let answers = answers(ANSWERS);
    let normalised: Vec<Normalised> = answers.iter().map(|(answer, sample)| Normalised::new(answer, &sample.references)).collect();
    let abstention = ["unknown".to_owned(), "not stated".to_owned()];
    let mut group = criterion.benchmark_group("score");
    group.sample_size(20);
    group.throughput(Throughput::Elements(ANSWERS as u64));
    group.bench_function("normalise", |bencher| {
        bencher.iter(|| answers.iter().map(|(answer, sample)| Normalised::new(answer, &sample.references)).collect::<Vec<_>>());
    });
    group.bench_function("exact match", |bencher| bencher.iter(|| normalised.iter().map(Normalised::exact_match).sum::<f64>()));
    group.bench_function("token F1", |bencher| bencher.iter(|| normalised.iter().map(Normalised::token_f1).sum::<f64>()));
    group.bench_function("ROUGE-L", |bencher| {
        bencher.iter(|| answers.iter().map(|(answer, sample)| rouge_l(answer, &sample.references[0]).f).sum::<f64>());
    });
    group.bench_function("all", |bencher| {
        bencher.iter(|| answers.iter().map(|(answer, sample)| score_answer(answer, sample, &abstention).len()).sum::<usize>());
    });
    group.finish();
}

criterion_group!(benches, all);
criterion_main!(benches);
