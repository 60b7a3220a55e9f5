//! The server scenario: queries come as a Poisson stream, whether or not the one before is answered. One is answered at a time, in the order
//! they came, and its time runs from when it came: what a closed loop hides, because it asks its next question only when it has the answer,
//! counts here. Every variant meets the same stream.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::bench::Bench;
use super::events::{Listener, RunEvent};
use super::latency::{self, Turn};
use super::runner::RunError;
use crate::clock::Stopwatch;
use crate::rng::Rng;
use crate::spec::VariantKind;
use crate::store::row::ServerRow;

/// A query that is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Nanoseconds after the start.
    pub at: u64,
    /// Index among the test samples.
    pub sample: usize,
}

/// Exponential gaps of mean `1 / rate` seconds, and samples at random, both from the seed.
pub fn arrivals(rate: f64, queries: usize, samples: usize, seed: u64) -> Vec<Arrival> {
    let (mut gaps, mut choices) = (Rng::new(seed, "server-arrivals"), Rng::new(seed, "server-samples"));
    let mut at = 0.0;
    let arrival = |_| {
        at += -(1.0 - gaps.uniform()).ln() / rate;
        Arrival { at: (at * 1e9) as u64, sample: choices.below(samples) }
    };
    (0..queries).map(arrival).collect()
}

/// A clock that can be waited for.
pub trait Timeline {
    /// Nanoseconds since its start.
    fn now(&self) -> u64;
    /// Returns at that time, or at once if it has passed.
    fn wait_until(&mut self, at: u64);
}

/// When a query was taken up and when it was done, in nanoseconds after the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// It was taken up.
    pub started: u64,
    /// Its last token was there.
    pub done: u64,
}

/// Answers the queries in their order, each as soon as it has come and the one before is done. Stops where `answer` fails.
pub fn serve<T, E>(
    timeline: &mut impl Timeline,
    arrivals: &[Arrival],
    mut answer: impl FnMut(&Arrival) -> Result<T, E>,
) -> Result<Vec<(Served, T)>, E> {
    let mut served = Vec::with_capacity(arrivals.len());
    for arrival in arrivals {
        timeline.wait_until(arrival.at);
        let started = timeline.now();
        let answered = answer(arrival)?;
        served.push((Served { started, done: timeline.now() }, answered));
    }
    Ok(served)
}

/// The wall clock. Sleeping ends late by some tens of microseconds, so the last stretch is spun.
struct WallClock(Stopwatch);

const SPIN_NS: u64 = 300_000;

impl Timeline for WallClock {
    fn now(&self) -> u64 {
        self.0.elapsed_ns()
    }

    fn wait_until(&mut self, at: u64) {
        let rest = at.saturating_sub(self.now());
        if rest > SPIN_NS {
            std::thread::sleep(std::time::Duration::from_nanos(rest - SPIN_NS));
        }
        while self.now() < at {
            std::hint::spin_loop();
        }
    }
}

/// Serves every variant in turn, after untimed queries.
pub fn run(bench: &Bench, counts: &BTreeMap<(String, String), usize>, listener: &mut Listener) -> Result<Vec<ServerRow>, RunError> {
    let spec = &bench.plan.spec;
    let server = &spec.measure.server;
    let stream = arrivals(server.rate, server.queries, bench.plan.dataset.test.len(), spec.seeds[0]);
    let total = (stream.len() * spec.variants.len()) as u64;
    listener(RunEvent::Phase { name: "server", detail: &format!("{} queries per second", server.rate), total, unit: "queries" });
    let mut rows = Vec::new();
    for &variant in &spec.variants {
        for warm in stream.iter().take(spec.measure.warmup) {
            let _ = answer(bench, variant, warm, counts)?;
        }
        let mut clock = WallClock(Stopwatch::start());
        let served = serve(&mut clock, &stream, |arrival| {
            if bench.interrupt.load(Ordering::Relaxed) {
                return Err(RunError::Interrupted);
            }
            listener(RunEvent::Advance(1));
            answer(bench, variant, arrival, counts)
        })?;
        rows.extend(stream.iter().zip(served).enumerate().map(|(number, (arrival, (served, answered)))| ServerRow {
            variant: variant.name().to_owned(),
            query: number as u32,
            sample_id: bench.plan.dataset.test[arrival.sample].id.clone(),
            intended_ns: arrival.at,
            started_ns: served.started,
            first_token_ns: answered.as_ref().map_or(0, |ttft| served.started + ttft),
            done_ns: served.done,
            error: answered.err(),
        }));
    }
    Ok(rows)
}

/// Nanoseconds to the first token, or why there is none.
fn answer(
    bench: &Bench,
    variant: VariantKind,
    arrival: &Arrival,
    counts: &BTreeMap<(String, String), usize>,
) -> Result<Result<u64, String>, RunError> {
    let id = &bench.plan.dataset.test[arrival.sample].id;
    let Some(count) = counts.get(&(variant.name().to_owned(), id.clone())) else {
        return Ok(Err("no answer in the accuracy pass to replay".to_owned()));
    };
    latency::first_token_ns(bench, Turn { variant, sample: arrival.sample, repeat: 0 }, *count)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A clock that stands still but for waiting and answering.
    struct Fake<'a>(&'a Cell<u64>);

    impl Timeline for Fake<'_> {
        fn now(&self) -> u64 {
            self.0.get()
        }

        fn wait_until(&mut self, at: u64) {
            self.0.set(self.0.get().max(at));
        }
    }

    /// Milliseconds from the intended start to the last token, where answering takes `work` milliseconds.
    fn waits(stream: &[Arrival], work: impl Fn(usize) -> u64) -> Vec<f64> {
        let (time, number) = (Cell::new(0), Cell::new(0));
        let served = serve(&mut Fake(&time), stream, |_| {
            time.set(time.get() + work(number.get()) * 1_000_000);
            number.set(number.get() + 1);
            Ok::<(), ()>(())
        });
        stream.iter().zip(served.unwrap()).map(|(arrival, (served, ()))| (served.done - arrival.at) as f64 / 1e6).collect()
    }

    fn p99(mut times: Vec<f64>) -> f64 {
        times.sort_by(f64::total_cmp);
        crate::stats::quantile(&times, 0.99).unwrap()
    }

    #[test]
    fn gaps_have_the_rate_and_come_from_the_seed() {
        let stream = arrivals(50.0, 4000, 7, 3);
        let seconds = stream.last().unwrap().at as f64 / 1e9;
        assert!((seconds / 80.0 - 1.0).abs() < 0.05, "{seconds}");
        assert_eq!(stream, arrivals(50.0, 4000, 7, 3));
        assert_ne!(stream, arrivals(50.0, 4000, 7, 4));
        assert!(stream.iter().all(|arrival| arrival.sample < 7) && stream.is_sorted_by_key(|arrival| arrival.at));
        // Memoryless: as many gaps are longer than their mean as e to the minus one.
        let gaps: Vec<f64> = stream.windows(2).map(|pair| (pair[1].at - pair[0].at) as f64 / 1e9).collect();
        let long = gaps.iter().filter(|gap| **gap > 1.0 / 50.0).count() as f64 / gaps.len() as f64;
        assert!((long - (-1.0f64).exp()).abs() < 0.03, "{long}");
    }

    #[test]
    fn who_comes_while_another_is_answered_waits_from_when_he_came() {
        let stream = [0, 1, 2, 50].map(|at| Arrival { at: at * 1_000_000, sample: 0 });
        assert_eq!(waits(&stream, |_| 10), [10.0, 19.0, 28.0, 10.0]);
    }

    #[test]
    fn a_stall_moves_the_tail_that_a_closed_loop_hides() {
        let stream = arrivals(100.0, 1000, 1, 1);
        let stalled = |number: usize| if number == 500 { 200 } else { 2 };
        let (calm, open) = (p99(waits(&stream, |_| 2)), p99(waits(&stream, stalled)));
        // A closed loop has one slow answer of a thousand: beyond its 99th percentile.
        let closed = p99((0..1000).map(|number| stalled(number) as f64).collect());
        assert!(calm < 10.0 && open > 50.0 && closed < 10.0, "{calm} {open} {closed}");
    }
}
