//! What intervals, tests and planner promise, kept over simulated questions: coverage, false alarms, power.

use rayon::prelude::*;

use super::*;
use crate::rng::Rng;

/// Differences of yes/no scores: `discordance` of the questions are discordant and the mean is `effect`. A question takes its cluster's
/// common outcome with chance `share`, so two of a cluster correlate by `share` squared.
fn differences(rng: &mut Rng, sizes: &[usize], effect: f64, discordance: f64, share: f64) -> (Vec<String>, Vec<Option<f64>>) {
    let outcome = |rng: &mut Rng| {
        let at = rng.uniform();
        let wins = f64::midpoint(discordance, effect);
        if at < wins { 1.0 } else { -f64::from(u8::from(at < discordance)) }
    };
    let (mut names, mut values) = (Vec::new(), Vec::new());
    for (cluster, size) in sizes.iter().enumerate() {
        let common = outcome(rng);
        for _ in 0..*size {
            names.push(format!("c{cluster:04}"));
            values.push(Some(if rng.chance(share) { common } else { outcome(rng) }));
        }
    }
    (names, values)
}

fn compare(names: &[String], values: Vec<Option<f64>>, resamples: usize) -> Comparison {
    let resampler = Resampler::new(names.iter().map(String::as_str), 7, resamples, 0.95);
    resampler.compare(&[values], Values::Scores)[0].expect("every question was measured")
}

/// Share of the simulations in which `is` holds.
fn share(label: &str, simulations: usize, mut is: impl FnMut(&mut Rng) -> bool) -> f64 {
    let mut rng = Rng::new(11, label);
    (0..simulations).filter(|_| is(&mut rng)).count() as f64 / simulations as f64
}

#[test]
fn bca_intervals_cover_clustered_differences() {
    let sizes: Vec<usize> = (0..60).map(|cluster| 1 + cluster % 4).collect();
    let covered = share("coverage", 1000, |rng| {
        let (names, values) = differences(rng, &sizes, 0.1, 0.3, 0.6);
        let found = compare(&names, values, 1000);
        assert_eq!(found.interval, IntervalMethod::Bca);
        (found.difference.ci_low..=found.difference.ci_high).contains(&0.1)
    });
    assert!((0.93..=0.965).contains(&covered), "{covered}");
}

#[test]
fn intervals_of_few_unequal_clusters_cover_too() {
    let sizes = [1, 1, 2, 2, 3, 3, 4, 4, 6, 9];
    let covered = share("few clusters", 1000, |rng| {
        let (names, values) = differences(rng, &sizes, 0.0, 0.6, 0.6);
        let found = compare(&names, values, 100);
        found.difference.ci_low <= 0.0 && 0.0 <= found.difference.ci_high
    });
    assert!((0.93..=0.99).contains(&covered), "{covered}");
}

#[test]
fn false_alarms_keep_to_their_level() {
    let alone = share("alone", 2000, |rng| {
        let (names, values) = differences(rng, &[1; 120], 0.0, 0.25, 0.0);
        compare(&names, values, 1).p <= 0.05
    });
    assert!((0.03..=0.062).contains(&alone), "McNemar: {alone}");
    let sizes: Vec<usize> = (0..40).map(|cluster| 1 + cluster % 5).collect();
    let clustered = share("clustered", 2000, |rng| {
        let (names, values) = differences(rng, &sizes, 0.0, 0.25, 0.7);
        compare(&names, values, 1).p <= 0.05
    });
    assert!((0.03..=0.062).contains(&clustered), "sign flips: {clustered}");
    let naive = share("naive", 1000, |rng| {
        let (_, values) = differences(rng, &sizes, 0.0, 0.25, 0.7);
        let count = |wanted| values.iter().filter(|value| **value == Some(wanted)).count();
        mcnemar_mid(count(1.0), count(-1.0)) <= 0.05
    });
    assert!(naive > 0.1, "McNemar over clustered questions is what must not be done: {naive}");
}

#[test]
fn few_trainings_do_not_raise_false_alarms() {
    let alarms = share("trainings", 1000, |rng| {
        let by_seed: Vec<Vec<Option<f64>>> = (0..4)
            .map(|_| {
                let luck = 0.1 * rng.normal();
                (0..60).map(|_| Some(luck + 0.5 * rng.normal())).collect()
            })
            .collect();
        let means: Vec<Option<f64>> =
            (0..60).map(|question| Some(by_seed.iter().map(|row| row[question].unwrap()).sum::<f64>() / 4.0)).collect();
        let names: Vec<String> = (0..60).map(|question| format!("c{question:03}")).collect();
        let found = compare(&names, means, 1);
        found.with_training(Components::of(&by_seed).unwrap(), 0.95).p <= 0.05
    });
    assert!(alarms <= 0.075, "{alarms}");
}

/// What a planner assumes of independent questions.
fn assumed(discordance: f64) -> Assumptions {
    Assumptions { base_rate: 0.6, discordance, correlation: 0.0, cluster_size: 1.0, seed_deviation: 0.0, alpha: 0.05, power: 0.8 }
}

/// Share of the simulations in which McNemar's mid-p is significant, from counts alone.
fn mcnemar_found(label: &str, n: usize, effect: f64, discordance: f64) -> f64 {
    share(label, 6000, |rng| {
        let (mut wins, mut losses) = (0, 0);
        for _ in 0..n {
            let at = rng.uniform();
            if at < f64::midpoint(discordance, effect) {
                wins += 1;
            } else if at < discordance {
                losses += 1;
            }
        }
        mcnemar_mid(wins, losses) <= 0.05
    })
}

#[test]
fn power_is_what_the_planner_says() {
    let sizes =
        [(30, 0.2, 0.25), (60, 0.2, 0.3), (100, 0.1, 0.2), (200, 0.08, 0.2), (300, 0.03, 0.05), (500, 0.05, 0.2), (1000, 0.06, 0.5)];
    for (n, effect, discordance) in sizes {
        let (found, planned) = (mcnemar_found("power", n, effect, discordance), assumed(discordance).chance(n as f64, effect));
        assert!((found - planned).abs() <= 0.02, "{n} questions, {effect} of {discordance}: {found} against {planned}");
    }
    let n = assumed(0.2).requirement(0.08).unwrap().questions as usize;
    let found = mcnemar_found("needed", n, 0.08, 0.2);
    assert!((found - 0.8).abs() <= 0.02, "{found} with {n}");
}

/// Sums of clusters of these sizes, with outcomes as [`differences`] draws them.
fn cluster_sums(rng: &mut Rng, sizes: &[usize], effect: f64, discordance: f64, share: f64) -> Vec<f64> {
    let outcome = |rng: &mut Rng| {
        let at = rng.uniform();
        if at < f64::midpoint(discordance, effect) { 1.0 } else { -f64::from(u8::from(at < discordance)) }
    };
    let of = |size: &usize| {
        let common = outcome(rng);
        (0..*size).map(|_| if rng.chance(share) { common } else { outcome(rng) }).sum::<f64>()
    };
    sizes.iter().map(of).collect()
}

/// The test that is really made, over few and many clusters, with and without what their questions share, of equal and unequal sizes.
#[test]
fn power_under_clustering_is_what_the_planner_says() {
    const SIMULATIONS: u64 = 8000;
    let mut worst = (0.0f64, String::new());
    for (clusters, sizes) in [(16, vec![4]), (20, vec![8]), (40, vec![4]), (60, vec![1, 2, 3, 4]), (80, vec![4]), (150, vec![2])] {
        let sizes: Vec<usize> = (0..clusters).map(|cluster| sizes[cluster % sizes.len()]).collect();
        let n: usize = sizes.iter().sum();
        let square: usize = sizes.iter().map(|size| size * size).sum();
        for (discordance, correlation) in [(0.15, 0.0), (0.15, 0.3), (0.3, 0.1), (0.3, 0.5)] {
            let assumed = Assumptions { correlation, cluster_size: square as f64 / n as f64, ..assumed(discordance) };
            for reach in [2.0, 2.8, 3.6] {
                let effect = reach * (discordance * assumed.design_effect() / n as f64).sqrt();
                if effect > 0.9 * discordance {
                    continue;
                }
                let is_found = |number: &u64| {
                    let mut rng = Rng::indexed(11, "clustered power", *number);
                    let sums = cluster_sums(&mut rng, &sizes, effect, discordance, f64::sqrt(correlation));
                    sign_flip_exact(&sums).expect("sums are whole numbers") <= 0.05
                };
                let found = (0..SIMULATIONS).into_par_iter().filter(is_found).count() as f64 / SIMULATIONS as f64;
                let planned = assumed.chance(n as f64, effect);
                eprintln!("{clusters} clusters, {n} questions, {discordance} {correlation} {effect:.3}: {found:.3} {planned:.3}");
                if (found - planned).abs() > worst.0 {
                    worst =
                        ((found - planned).abs(), format!("{clusters} clusters, {n} questions, {discordance}, {correlation}, {effect}"));
                }
            }
        }
    }
    assert!(worst.0 <= 0.02, "{worst:?}");
}
