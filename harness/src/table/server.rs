//! The server scenario per variant: how long queries took from when they came, and whether the variant kept up.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::input::{RunData, variant_named};
use super::latency::TAILS;
use crate::spec::VariantKind;
use crate::stats::{Estimate, quantile_interval};
use crate::store::row::ServerRow;

/// Digits that the histogram keeps of a time.
const DIGITS: u8 = 3;
/// Offered work above which a variant is taken not to keep up: a little more, and its line grows without end.
const SATURATED: f64 = 0.95;

/// One line of the server table; times in milliseconds from when a query came.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerStats {
    /// The variant.
    pub variant: VariantKind,
    /// Queries answered.
    pub n: usize,
    /// Queries that failed; their times are left out.
    pub n_failed: usize,
    /// Queries per second that came.
    pub rate: f64,
    /// Work offered per second of time: the rate times the mean time of an answer.
    pub load: f64,
    /// Mean time in line.
    pub wait: f64,
    /// Median to the last token.
    pub p50: Estimate,
    /// Percentiles 90, 95 and 99 to the last token; nothing where there are too few queries.
    pub tails: [Option<Estimate>; 3],
    /// Percentile 99 to the first token, with as many queries.
    pub first_token_p99: Option<f64>,
}

impl ServerStats {
    /// The variant does not keep up with the rate: its times grow with the length of the scenario and mean nothing by themselves.
    pub fn is_saturated(&self) -> bool {
        self.load >= SATURATED
    }
}

/// The server table; empty if the scenario was left out. Percentiles are read from a histogram of three digits; their intervals are those of
/// order statistics, as if queries were independent: where a line forms, neighbours are not, and the intervals are too narrow.
pub(super) fn server(data: &RunData) -> Vec<ServerStats> {
    let mut by_variant = BTreeMap::<VariantKind, Vec<&ServerRow>>::new();
    for row in &data.server {
        if let Some(variant) = variant_named(&row.variant) {
            by_variant.entry(variant).or_default().push(row);
        }
    }
    by_variant.into_iter().filter_map(|(variant, rows)| stats(data, variant, &rows)).collect()
}

fn stats(data: &RunData, variant: VariantKind, rows: &[&ServerRow]) -> Option<ServerStats> {
    let answered: Vec<&ServerRow> = rows.iter().copied().filter(|row| row.error.is_none()).collect();
    let mean = |of: fn(&ServerRow) -> u64| answered.iter().map(|row| of(row) as f64).sum::<f64>() / answered.len() as f64;
    let times = Times::of(answered.iter().map(|row| row.done_ns.saturating_sub(row.intended_ns)))?;
    let first = Times::of(answered.iter().map(|row| row.first_token_ns.saturating_sub(row.intended_ns)))?;
    let confidence = data.manifest.spec.measure.confidence;
    let rate = data.manifest.spec.measure.server.rate;
    Some(ServerStats {
        variant,
        n: answered.len(),
        n_failed: rows.len() - answered.len(),
        rate,
        load: rate * mean(|row| row.done_ns.saturating_sub(row.started_ns)) / 1e9,
        wait: mean(|row| row.started_ns.saturating_sub(row.intended_ns)) / 1e6,
        p50: times.percentile(0.5, confidence)?,
        tails: TAILS.map(|(p, at_least)| if answered.len() >= at_least { times.percentile(p, confidence) } else { None }),
        first_token_p99: (answered.len() >= TAILS[2].1).then(|| first.histogram.value_at_quantile(TAILS[2].0) as f64 / 1e6),
    })
}

/// Times as a histogram, and sorted for the intervals.
struct Times {
    histogram: Histogram<u64>,
    milliseconds: Vec<f64>,
}

impl Times {
    fn of(nanoseconds: impl Iterator<Item = u64>) -> Option<Self> {
        let mut histogram = Histogram::new(DIGITS).expect("three digits are allowed");
        let mut milliseconds = Vec::new();
        for time in nanoseconds {
            histogram.record(time).expect("the histogram grows");
            milliseconds.push(time as f64 / 1e6);
        }
        milliseconds.sort_by(f64::total_cmp);
        (!milliseconds.is_empty()).then_some(Self { histogram, milliseconds })
    }

    fn percentile(&self, p: f64, confidence: f64) -> Option<Estimate> {
        let interval = quantile_interval(&self.milliseconds, p, confidence)?;
        let point = self.histogram.value_at_quantile(p) as f64 / 1e6;
        // The histogram rounds up within its digits.
        Some(Estimate { point: point.clamp(interval.ci_low, interval.ci_high), ..interval })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::testing::Fixture;

    /// Queries that come every ten milliseconds and take `work` milliseconds each, one at a time.
    fn rows(count: u64, work: impl Fn(u64) -> u64) -> Vec<ServerRow> {
        let mut free = 0;
        let row = |query: u64| {
            let intended_ns = query * 10_000_000;
            let started_ns = intended_ns.max(free);
            let done_ns = started_ns + work(query) * 1_000_000;
            free = done_ns;
            ServerRow {
                variant: "rag".to_owned(),
                query: query as u32,
                sample_id: "a".to_owned(),
                intended_ns,
                started_ns,
                first_token_ns: started_ns + 1_000_000,
                done_ns,
                error: None,
            }
        };
        (0..count).map(row).collect()
    }

    fn of(rows: Vec<ServerRow>) -> ServerStats {
        let mut run = Fixture::empty();
        run.manifest.spec.measure.server.rate = 100.0;
        run.sample("a", &[]);
        run.answer(VariantKind::Rag, 1, "a", 1.0);
        let mut tables = run.tables();
        tables.data.server = rows;
        server(&tables.data).remove(0)
    }

    #[test]
    fn a_stall_of_fifty_milliseconds_moves_the_ninety_ninth_percentile() {
        let calm = of(rows(400, |_| 4));
        let stalled = of(rows(400, |query| if query == 200 { 54 } else { 4 }));
        assert_eq!((calm.n, calm.n_failed, calm.is_saturated()), (400, 0, false));
        assert!((calm.tails[2].unwrap().point - 4.0).abs() < 0.01 && (calm.load - 0.4).abs() < 1e-9, "{calm:?}");
        // It delays the eight that come meanwhile.
        assert!(stalled.tails[2].unwrap().point > 25.0, "{stalled:?}");
        assert!((stalled.p50.point - 4.0).abs() < 0.01 && stalled.wait > 0.0);
    }

    #[test]
    fn a_percentile_is_refused_where_there_are_too_few_queries_for_it() {
        let found = of(rows(100, |_| 4));
        assert!(found.tails[0].is_some() && found.tails[1].is_some() && found.tails[2].is_none() && found.first_token_p99.is_none());
    }

    #[test]
    fn who_does_not_keep_up_is_called_saturated() {
        assert!(of(rows(50, |_| 11)).is_saturated());
    }

    #[test]
    fn failures_are_counted_and_their_times_left_out() {
        let mut all = rows(40, |_| 4);
        all[3].error = Some("no".to_owned());
        let found = of(all);
        assert_eq!((found.n, found.n_failed), (39, 1));
    }
}
