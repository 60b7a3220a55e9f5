//! How fast is this machine right now? A fixed numeric loop, timed around the latency pass, so that the gate can tell slower code from a
//! busier or another machine. It shares no code with what it is a measure for.

use std::hint::black_box;

use crate::clock::Stopwatch;
use crate::store::manifest::{CalibrationRecord, CalibrationRounds};

/// Version of the loop below: a change of it makes times of earlier runs incomparable.
const VERSION: u32 = 1;
/// Rounds before and rounds after.
const ROUNDS: usize = 9;
/// Numbers that each thread goes through: 1 MiB, beyond the first cache and within the second, as the weights of a layer are.
const NUMBERS: usize = 1 << 18;
/// Times that it does so per round: a few milliseconds.
const PASSES: usize = 192;
/// Independent sums, so that the loop is bound by throughput and not by the latency of one addition.
const LANES: usize = 32;

/// Rounds of the loop on one thread, and on every thread of the pool at once, in nanoseconds.
#[derive(Debug, Clone)]
pub struct Rounds {
    alone: Vec<u64>,
    together: Vec<u64>,
}

/// Times the loop, after a round that is not counted.
pub fn rounds() -> Rounds {
    let timed = |round: fn() -> u64| (0..=ROUNDS).map(|_| round()).skip(1).collect();
    Rounds { alone: timed(alone), together: timed(together) }
}

/// What the manifest keeps.
pub fn record(before: Rounds, after: Rounds) -> CalibrationRecord {
    let of = |before_ns, after_ns| CalibrationRounds { before_ns, after_ns };
    CalibrationRecord { version: VERSION, alone: of(before.alone, after.alone), together: of(before.together, after.together) }
}

fn alone() -> u64 {
    let watch = Stopwatch::start();
    work(0);
    watch.elapsed_ns()
}

/// All threads work, so the slowest one counts: a core that is taken by another process shows.
fn together() -> u64 {
    let watch = Stopwatch::start();
    rayon::broadcast(|context| work(context.index()));
    watch.elapsed_ns()
}

fn work(thread: usize) {
    let numbers: Vec<f32> = (0..NUMBERS).map(|index| (index % 251) as f32 * 0.004 + thread as f32 * 1e-6).collect();
    black_box((0..PASSES).map(|_| dot(black_box(&numbers))).sum::<f32>());
}

fn dot(numbers: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    for chunk in numbers.chunks_exact(LANES) {
        for (sum, number) in sums.iter_mut().zip(chunk) {
            *sum += number * number;
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_short_and_alike() {
        let record = record(rounds(), rounds());
        assert_eq!((record.alone.before_ns.len(), record.together.after_ns.len()), (ROUNDS, ROUNDS));
        let milliseconds = record.nanoseconds() / 1e6;
        assert!((0.05..500.0).contains(&milliseconds), "{milliseconds} ms");
        assert!(record.unsteadiness() >= 1.0);
    }

    #[test]
    fn unsteadiness_is_the_larger_factor_between_before_and_after() {
        let before = Rounds { alone: vec![40, 40, 40], together: vec![100, 110, 90] };
        let after = Rounds { alone: vec![40, 50, 30], together: vec![150, 140, 160] };
        let record = record(before, after);
        assert_eq!((record.unsteadiness(), record.together.nanoseconds()), (1.5, 125.0));
        assert!((record.nanoseconds() - (40.0f64 * 125.0).sqrt()).abs() < 1e-9);
    }
}
