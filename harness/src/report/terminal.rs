//! What a run prints when it is done, and runs side by side.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table};

use super::format::{self, NOT_MEASURED};
use crate::cost::{Currency, Ledger};
use crate::spec::VariantKind;
use crate::table::{ALL, Kind, Metric, Stage, Tables};

/// The closing table of a run: leading metric, recall, time and cost per variant. With `color`, the heading is bold; nothing else is told
/// by style.
pub fn terminal_table(tables: &Tables, color: bool) -> String {
    let ledger = Ledger::of(tables);
    let primary = tables.primary();
    let recall = recall_metric(tables);
    let currency = &tables.manifest().spec.cost.currency;
    let (size, together) = format::priced_together(ledger.query_money());
    let header = [
        "variant".to_owned(),
        primary.map_or("score".to_owned(), |metric| format!("{} %", metric.label())),
        recall.map_or("Recall".to_owned(), |metric| format!("{} %", metric.label())),
        "p50 per query".to_owned(),
        format!("set-up, {currency}"),
        format!("{together} queries, {currency}"),
    ];
    let rows = tables.variants().into_iter().map(|variant| {
        let line = ledger.line(variant, Currency::Money);
        vec![
            variant.name().to_owned(),
            score(tables, variant, primary),
            score(tables, variant, recall),
            tables.latency_of(variant, Stage::E2e).map_or(NOT_MEASURED.to_owned(), |row| format::duration(row.p50.point / 1e3)),
            line.map_or(NOT_MEASURED.to_owned(), |line| format::money(line.setup)),
            line.map_or(NOT_MEASURED.to_owned(), |line| format::money(line.query * size)),
        ]
    });
    table(&header, rows, color)
}

/// The first recall that some variant was measured by.
fn recall_metric(tables: &Tables) -> Option<&Metric> {
    tables.scores.metrics_of(Kind::Retrieval).find(|metric| metric.id.starts_with("recall"))
}

fn score(tables: &Tables, variant: VariantKind, metric: Option<&Metric>) -> String {
    let Some(metric) = metric else { return NOT_MEASURED.to_owned() };
    tables.quality_of(variant, ALL, &metric.id).map_or("–".to_owned(), |row| {
        let failed = if row.n_failed > 0 { format!(", {} failed", row.n_failed) } else { String::new() };
        format!("{}{failed}", format::estimate(&row.estimate, metric))
    })
}

fn table(header: &[String], rows: impl Iterator<Item = Vec<String>>, color: bool) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    if color {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_header(header.iter().map(|text| if color { Cell::new(text).add_attribute(Attribute::Bold) } else { Cell::new(text) }));
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{table}\n")
}

/// Runs side by side: one line per variant, one column per run, over the leading metric of the first run, time and cost. Says what makes
/// runs hard to compare.
pub fn compare(runs: &[Tables]) -> String {
    let Some(first) = runs.first() else { return String::new() };
    let mut variants: Vec<VariantKind> = runs.iter().flat_map(Tables::variants).collect();
    variants.sort_unstable();
    variants.dedup();
    let ledgers: Vec<Ledger> = runs.iter().map(Ledger::of).collect();
    let names = column_names(runs);
    let currency = &first.manifest().spec.cost.currency;
    let mut text = String::new();
    let mut part = |title: &str, cell: &dyn Fn(usize, VariantKind) -> String| {
        let header: Vec<String> = std::iter::once(title.to_owned()).chain(names.iter().cloned()).collect();
        let row = |variant: &VariantKind| {
            std::iter::once(variant.name().to_owned()).chain((0..runs.len()).map(|run| cell(run, *variant))).collect::<Vec<_>>()
        };
        text.push_str(&table(&header, variants.iter().map(row), false));
    };
    if let Some(metric) = first.primary() {
        part(&format!("{} %", metric.label()), &|run, variant| score(&runs[run], variant, Some(metric)));
    }
    part("p50 per query", &|run, variant| {
        runs[run].latency_of(variant, Stage::E2e).map_or("–".to_owned(), |row| format::duration(row.p50.point / 1e3))
    });
    part(&format!("set-up, {currency}"), &|run, variant| {
        ledgers[run].line(variant, Currency::Money).map_or("–".to_owned(), |line| format::money(line.setup))
    });
    let (size, together) = format::priced_together(ledgers.iter().flat_map(Ledger::query_money));
    part(&format!("{together} queries, {currency}"), &|run, variant| {
        ledgers[run].line(variant, Currency::Money).map_or("–".to_owned(), |line| format::money(line.query * size))
    });
    for difference in differences(runs) {
        text.push_str(&format!("note: {difference}\n"));
    }
    text
}

/// The run's name, with its id where two runs share one.
fn column_names(runs: &[Tables]) -> Vec<String> {
    let name = |run: &Tables| run.manifest().spec.name.clone();
    let id = |run: &Tables| format::shortened(&run.manifest().run_id, 9);
    let is_shared = |run: &Tables| runs.iter().filter(|other| name(other) == name(run)).count() > 1;
    runs.iter().map(|run| if is_shared(run) { format!("{} {}", name(run), id(run)) } else { name(run) }).collect()
}

/// What a reader must know before comparing.
fn differences(runs: &[Tables]) -> Vec<String> {
    let differs = |of: &dyn Fn(&Tables) -> String| runs.windows(2).any(|pair| of(&pair[0]) != of(&pair[1]));
    let hash = |name: &'static str| move |run: &Tables| run.manifest().hashes.get(name).cloned().unwrap_or_default();
    let mut notes = Vec::new();
    if differs(&hash("dataset")) {
        notes.push("the runs asked different questions: their scores are not comparable".to_owned());
    }
    if differs(&hash("model")) {
        notes.push("the runs use different weights".to_owned());
    }
    if differs(&|run| format!("{:?}", run.manifest().machine)) {
        notes.push("the runs come from different machines or thread counts: their times are not comparable".to_owned());
    }
    notes
}
