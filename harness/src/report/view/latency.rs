//! Times: one query at a time, in a line, and in batches; what came before them; and whether the machine was quiet.

use super::sections::section;
use super::{Entry, Grid, Place, Section};
use crate::report::format;
use crate::report::plot::Figure;
use crate::spec::VariantKind;
use crate::stats::Estimate;
use crate::store::manifest::{CalibrationRecord, ContentionRecord, OfflineRecord};
use crate::table::{ServerStats, Stage, Tables};

/// Shares of the machine's time, and factors between rounds of the calibration loop, above which times are called noisy.
const OTHERS: f64 = 0.1;
const STOLEN: f64 = 0.02;
const UNSTEADY: f64 = 1.15;

/// Quality against time.
pub(super) fn tradeoff(figures: &[Figure]) -> Option<Section> {
    figures.iter().any(|figure| figure.name == "tradeoff").then(|| {
        let text = "A variant that another one beats in both is not worth its time.".to_owned();
        section("tradeoff", "Quality against time", false, vec![text], vec![])
    })
}

/// Milliseconds with an interval.
fn timed(estimate: &Estimate) -> Entry {
    let ms = |value| format::significant(value, 3);
    Entry::with(ms(estimate.point), format!("({} to {})", ms(estimate.ci_low), ms(estimate.ci_high)))
}

/// A percentile of the tail; some are refused.
fn tail(estimate: Option<&Estimate>) -> Entry {
    estimate.map_or_else(|| Entry::new("too few"), timed)
}

/// Times end to end, to the first token, and per stage.
pub(super) fn latency(tables: &Tables) -> Option<Section> {
    let row = |variant: VariantKind| {
        let e2e = tables.latency_of(variant, Stage::E2e)?;
        let first = tables.latency_of(variant, Stage::Ttft).map_or_else(Entry::missing, |row| timed(&row.p50));
        let n = Entry::new(e2e.n_questions.to_string());
        let name = Entry::new(variant.name());
        let tails = [&e2e.p90, &e2e.p95, &e2e.p99].map(|percentile| tail(percentile.as_ref()));
        Some([name, n, timed(&e2e.p50)].into_iter().chain(tails).chain([first]).collect())
    };
    let rows: Vec<Vec<Entry>> = tables.variants().into_iter().filter_map(row).collect();
    if rows.is_empty() {
        let text = "Not measured: the run has no latency pass.".to_owned();
        return Some(section("latency", "Time per query", true, vec![text], vec![]));
    }
    let header = ["variant", "n", "p50 ms", "p90", "p95", "p99", "first token, p50 ms"].map(str::to_owned).to_vec();
    let grid = Grid { caption: "Question to last token, one query at a time".to_owned(), header, rows, place: Place::Both };
    let text =
        "Intervals are those of order statistics. A percentile is given only where there are enough questions to see beyond it: 29 for \
                p90, 59 for p95, 299 for p99."
            .to_owned();
    let paragraphs = std::iter::once(text).chain(quiet(tables)).collect();
    let grids = std::iter::once(grid).chain([stage_grid(tables)]).chain(warmup(tables)).collect();
    Some(section("latency", "Time per query", true, paragraphs, grids))
}

fn stage_grid(tables: &Tables) -> Grid {
    let timed = tables.variants().into_iter().filter(|variant| tables.latency_of(*variant, Stage::E2e).is_some());
    let row = |variant: VariantKind| {
        let cell = |stage| {
            tables.latency_of(variant, stage).map_or_else(|| Entry::new("–"), |row| Entry::new(format::significant(row.mean.point, 3)))
        };
        std::iter::once(Entry::new(variant.name())).chain(tables.stages().into_iter().map(cell)).collect()
    };
    let header = std::iter::once("variant").chain(tables.stages().into_iter().map(Stage::name)).map(str::to_owned).collect();
    let caption = "Mean per stage, ms; – where the variant has no such stage".to_owned();
    Grid { caption, header, rows: timed.map(row).collect(), place: Place::Page }
}

/// What came before the timed queries: the first query of each variant, and the rest of the warm-up.
fn warmup(tables: &Tables) -> Option<Grid> {
    let manifest = tables.manifest();
    let row = |variant: VariantKind| {
        let record = manifest.warmup.iter().find(|record| record.variant == variant.name())?;
        let ms = |ns: u64| format::significant(ns as f64 / 1e6, 3);
        let (first, rest) = record.e2e_ns.split_first()?;
        let rest: Vec<String> = rest.iter().map(|ns| ms(*ns)).collect();
        let steady =
            tables.latency_of(variant, Stage::E2e).map_or_else(Entry::missing, |row| Entry::new(format::significant(row.p50.point, 3)));
        Some(vec![Entry::new(variant.name()), Entry::new(ms(*first)), Entry::new(rest.join(", ")), steady])
    };
    let rows: Vec<Vec<Entry>> = tables.variants().into_iter().filter_map(row).collect();
    let load = manifest
        .phases
        .iter()
        .find(|phase| phase.name == "load")
        .map_or_else(String::new, |phase| format!("; loading the model took {}", format::duration(phase.seconds)));
    (!rows.is_empty()).then(|| Grid {
        caption: format!("Cold start and warm-up, ms, not part of the times above{load}"),
        header: ["variant", "first query", "then", "p50 when warm"].map(str::to_owned).to_vec(),
        rows,
        place: Place::Page,
    })
}

/// How quiet the machine was during the latency pass, in a sentence; nothing if that was not measured.
pub(super) fn quiet(tables: &Tables) -> Option<String> {
    let manifest = tables.manifest();
    let mut parts = Vec::new();
    if let Some(ContentionRecord { other_share, steal_share, .. }) = manifest.contention {
        parts.push(format!(
            "other processes took {:.1}% of all processors' time and other machines {:.1}%",
            100.0 * other_share,
            100.0 * steal_share
        ));
    }
    if let Some(calibration) = &manifest.calibration {
        parts.push(format!(
            "a fixed loop was up to {}% slower after than before or the other way round, and {}% slower in its slow rounds than in its median one",
            percent(calibration.unsteadiness()),
            percent(spread(calibration))
        ));
    }
    let verdict = if is_noisy(tables) { "The machine was not quiet: take these times with care." } else { "The machine was quiet." };
    (!parts.is_empty()).then(|| format!("{verdict} Around the latency pass {}.", parts.join("; ")))
}

fn percent(factor: f64) -> String {
    format!("{:.0}", 100.0 * (factor - 1.0))
}

fn spread(calibration: &CalibrationRecord) -> f64 {
    calibration.alone.spread().max(calibration.together.spread())
}

/// Something else was at work while times were taken.
pub(super) fn is_noisy(tables: &Tables) -> bool {
    let manifest = tables.manifest();
    let crowded = manifest.contention.is_some_and(|record| record.other_share > OTHERS || record.steal_share > STOLEN);
    let unsteady = manifest.calibration.as_ref().is_some_and(|record| record.unsteadiness() > UNSTEADY || spread(record) > UNSTEADY);
    crowded || unsteady
}

/// The server and the offline scenario; nothing if both were left out.
pub(super) fn scenarios(tables: &Tables) -> Option<Section> {
    let grids: Vec<Grid> = [server(tables), offline(tables)].into_iter().flatten().collect();
    let text = "Server: queries come as a Poisson stream, are answered one at a time in their order, and their time runs from when they came. \
                Neighbours in a line are not independent, so the intervals are too narrow where the load is high. Offline: all questions are \
                at hand and answered in batches; retrieval and prompts are part of the time."
        .to_owned();
    (!grids.is_empty()).then(|| section("scenarios", "Server and offline", true, vec![text], grids))
}

fn server(tables: &Tables) -> Option<Grid> {
    let row = |stats: &ServerStats| {
        let failed = if stats.n_failed > 0 { format!("{} failed", stats.n_failed) } else { String::new() };
        let load = if stats.is_saturated() { "does not keep up" } else { "" };
        let first = stats.first_token_p99.map_or_else(|| Entry::new("too few"), |value| Entry::new(format::significant(value, 3)));
        let head = [
            Entry::new(stats.variant.name()),
            Entry::new(stats.n.to_string()).noted(failed),
            Entry::new(format!("{:.0}%", 100.0 * stats.load)).noted(load),
            Entry::new(format::significant(stats.wait, 3)),
            timed(&stats.p50),
        ];
        head.into_iter().chain(stats.tails.iter().map(|percentile| tail(percentile.as_ref()))).chain([first]).collect()
    };
    let rate = tables.server.first()?.rate;
    let header = ["variant", "n", "load", "mean wait ms", "p50 ms", "p90", "p95", "p99", "first token, p99 ms"];
    Some(Grid {
        caption: format!("Server: {} queries per second", format::significant(rate, 3)),
        header: header.map(str::to_owned).to_vec(),
        rows: tables.server.iter().map(row).collect(),
        place: Place::Both,
    })
}

/// The median pass of every variant, with the fastest and the slowest.
fn offline(tables: &Tables) -> Option<Grid> {
    let records = &tables.manifest().offline;
    let row = |variant: VariantKind| {
        let mut own: Vec<&OfflineRecord> = records.iter().filter(|record| record.variant == variant.name()).collect();
        own.sort_by(|left, right| left.seconds.total_cmp(&right.seconds));
        let per_second = |amount: fn(&OfflineRecord) -> f64| {
            let of = |record: &OfflineRecord| format::significant(amount(record) / record.seconds, 3);
            let (fast, slow) = (own.first()?, own.last()?);
            Some(Entry::with(of(own[own.len() / 2]), format!("({} to {})", of(slow), of(fast))))
        };
        Some(vec![
            Entry::new(variant.name()),
            Entry::new(own.first()?.questions.to_string()),
            Entry::new(own.len().to_string()),
            per_second(|record| record.questions as f64)?,
            per_second(|record| (record.prompt_tokens + record.output_tokens) as f64)?,
            per_second(|record| record.output_tokens as f64)?,
        ])
    };
    let rows: Vec<Vec<Entry>> = tables.variants().into_iter().filter_map(row).collect();
    let header = ["variant", "questions", "passes", "questions per second", "tokens per second", "new tokens per second"];
    (!rows.is_empty()).then(|| Grid {
        caption: "Offline: median pass (slowest to fastest)".to_owned(),
        header: header.map(str::to_owned).to_vec(),
        rows,
        place: Place::Both,
    })
}
