//! Figures of the leading metric: per variant, per slice, against latency.

use super::axis::{self, Frame, Key, Scale, percent_tick, plain_tick};
use super::scene::Scene;
use super::style::{color, mark};
use super::{Figure, line};
use crate::report::{format, slices as slice_names};
use crate::spec::VariantKind;
use crate::stats::Estimate;
use crate::table::{ALL, Metric, QualityRow, Stage, Tables};

const WIDTH: f64 = 680.0;

/// Upper end of the score axis: 1 for shares, else the largest value.
fn top(metric: &Metric, rows: &[&QualityRow]) -> f64 {
    if metric.unit == "share" { 1.0 } else { rows.iter().map(|row| row.estimate.ci_high).fold(f64::MIN_POSITIVE, f64::max) }
}

fn tick(metric: &Metric) -> fn(f64) -> String {
    if metric.unit == "share" { percent_tick } else { plain_tick }
}

fn axis_title(metric: &Metric) -> String {
    if metric.unit == "share" { format!("{} (share of test questions)", metric.label()) } else { metric.label() }
}

fn subtitle(tables: &Tables, n: usize) -> String {
    let manifest = tables.manifest();
    let level = manifest.spec.measure.confidence * 100.0;
    format!(
        "{}, n = {} questions; whiskers: {level:.0}% interval (bootstrap over clusters)",
        manifest.dataset.name,
        format::count(n as f64)
    )
}

fn data_row(row: &QualityRow) -> Vec<String> {
    let Estimate { point, ci_low, ci_high, n } = row.estimate;
    line![row.variant.name(), row.slice, row.metric.id, point, ci_low, ci_high, n, row.n_failed]
}

fn data(rows: &[&QualityRow]) -> Vec<Vec<String>> {
    let header = line!["variant", "slice", "metric", "point", "ci_low", "ci_high", "n", "n_failed"];
    std::iter::once(header).chain(rows.iter().map(|row| data_row(row))).collect()
}

/// The leading metric of every variant.
pub(super) fn accuracy(tables: &Tables) -> Option<Figure> {
    let metric = tables.primary()?;
    let rows: Vec<&QualityRow> = tables.variants().into_iter().filter_map(|variant| tables.quality_of(variant, ALL, &metric.id)).collect();
    let title = format!("{} by variant", format::sentence(&metric.label()));
    let mut scene = Scene::new(WIDTH, 132.0 + 40.0 * rows.len() as f64);
    let top_y = axis::title(&mut scene, &title, &subtitle(tables, rows.first()?.estimate.n)) + 8.0;
    let left = axis::label_space(rows.iter().map(|row| row.variant.name()));
    let frame = Frame { left, top: top_y, right: WIDTH - 152.0, bottom: scene.height - 54.0 };
    let x = Scale::linear((0.0, top(metric, &rows)), (frame.left, frame.right));
    frame.x_axis(&mut scene, &x, &axis_title(metric), tick(metric));
    let height = (frame.bottom - frame.top) / rows.len() as f64;
    let mut labels = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let y = frame.top + (index as f64 + 0.5) * height;
        labels.push((y, row.variant.name().to_owned()));
        estimate_x(&mut scene, row.variant, &row.estimate, &x, y, 6.0);
        frame.value(&mut scene, (frame.right + 14.0, y), &format::estimate(&row.estimate, metric));
    }
    frame.row_labels(&mut scene, &labels);
    let caption = format!(
        "Mean {} per variant over the same test questions. An interval that does not reach into another one is a difference that is \
         unlikely to be luck; the paired differences below are the sharper test.",
        metric.label()
    );
    Some(Figure { name: "accuracy", title, caption, scene, data: data(&rows) })
}

fn estimate_x(scene: &mut Scene, variant: VariantKind, estimate: &Estimate, x: &Scale, y: f64, radius: f64) {
    scene.whisker_x(y, x.at(estimate.ci_low), x.at(estimate.ci_high), color(variant));
    mark(scene, variant, (x.at(estimate.point), y), radius);
}

/// The leading metric of every variant in every slice whose name is not wide; nothing if there is none.
pub(super) fn slices(tables: &Tables) -> Option<Figure> {
    let (metric, variants) = (tables.primary()?, tables.variants());
    let narrow = slice_names::shown(tables).into_iter().flat_map(|name| name.slices);
    let names: Vec<String> = std::iter::once(ALL.to_owned()).chain(narrow).collect();
    if names.len() < 2 {
        return None;
    }
    let of_slice = |slice: &String| variants.iter().filter_map(|variant| tables.quality_of(*variant, slice, &metric.id)).collect();
    let groups: Vec<(&String, Vec<&QualityRow>)> = names.iter().map(|slice| (slice, of_slice(slice))).collect();
    let rows: Vec<&QualityRow> = groups.iter().flat_map(|(_, rows)| rows.iter().copied()).collect();
    let title = format!("{} by slice", format::sentence(&metric.label()));
    let (step, gap) = (14.0, 14.0);
    let group_height = step * variants.len() as f64 + gap;
    let mut scene = Scene::new(WIDTH, 150.0 + group_height * groups.len() as f64);
    let n = rows.first()?.estimate.n;
    let below = axis::title(&mut scene, &title, &subtitle(tables, n));
    let keys: Vec<(Key, String)> = variants.iter().map(|variant| (Key::Variant(*variant), variant.name().to_owned())).collect();
    let top_y = axis::legend(&mut scene, &keys, below) + 2.0;
    scene.height = top_y + group_height * groups.len() as f64 + 56.0;
    let left = axis::label_space(names.iter().map(String::as_str));
    let frame = Frame { left, top: top_y, right: WIDTH - 30.0, bottom: scene.height - 54.0 };
    let x = Scale::linear((0.0, top(metric, &rows)), (frame.left, frame.right));
    frame.x_axis(&mut scene, &x, &axis_title(metric), tick(metric));
    for (index, (slice, rows)) in groups.iter().enumerate() {
        let start = frame.top + index as f64 * group_height;
        if index > 0 {
            scene.line(vec![(frame.left, start), (frame.right, start)], super::style::GRID, 1.0);
        }
        let label = format!("n = {}", rows.first().map_or(0, |row| row.estimate.n));
        let middle = start + group_height / 2.0;
        frame.row_labels(&mut scene, &[(middle - 8.0, (*slice).clone()), (middle + 8.0, label)]);
        for row in rows {
            let place = variants.iter().position(|variant| *variant == row.variant).expect("rows are of these variants");
            let y = start + gap / 2.0 + step * (place as f64 + 0.5);
            estimate_x(&mut scene, row.variant, &row.estimate, &x, y, 4.2);
        }
    }
    let caption = format!("Mean {} per variant and slice. The slices are tags of the dataset.{}", metric.label(), left_out(tables));
    Some(Figure { name: "slices", title, caption, scene, data: data(&rows) })
}

/// The slice names that neither this figure has room for nor the one of numbers draws, in words.
fn left_out(tables: &Tables) -> String {
    let shown = [slice_names::shown(tables), super::strata::drawn(tables)].concat();
    let others = slice_names::names(tables).into_iter().filter(|name| !shown.contains(name));
    let others: Vec<String> = others.map(|name| name.name).collect();
    if others.is_empty() { String::new() } else { format!(" Not shown: {}; they are in the tables.", others.join(", ")) }
}

/// The leading metric against the median time of a query.
pub(super) fn tradeoff(tables: &Tables) -> Option<Figure> {
    let metric = tables.primary()?;
    let of = |variant: VariantKind| Some((tables.quality_of(variant, ALL, &metric.id)?, tables.latency_of(variant, Stage::E2e)?.p50));
    let points: Vec<(&QualityRow, Estimate)> = super::latency::timed_here(tables).filter_map(of).collect();
    let n = points.first()?.1.n;
    let title = format!("{} against time per query", format::sentence(&metric.label()));
    let mut scene = Scene::new(WIDTH, 430.0);
    let subtitle =
        format!("{}; median of {n} queries, one at a time; up and to the left is better", tables.manifest().machine.computes_on());
    let below = axis::title(&mut scene, &title, &subtitle);
    let keys: Vec<(Key, String)> = points.iter().map(|(row, _)| (Key::Variant(row.variant), row.variant.name().to_owned())).collect();
    let top_y = axis::legend(&mut scene, &keys, below) + 4.0;
    let frame = Frame { left: 76.0, top: top_y, right: WIDTH - 30.0, bottom: scene.height - 54.0 };
    let rows: Vec<&QualityRow> = points.iter().map(|(row, _)| *row).collect();
    let slowest = points.iter().map(|(_, time)| time.ci_high).fold(0.0, f64::max);
    let x = Scale::linear((0.0, slowest * 1.08), (frame.left, frame.right));
    let y = Scale::linear((0.0, top(metric, &rows)), (frame.bottom, frame.top));
    frame.y_axis(&mut scene, &y, &axis_title(metric), tick(metric));
    frame.x_axis(&mut scene, &x, "median time per query, question to last token (ms)", plain_tick);
    for (row, time) in &points {
        let (at_x, at_y) = (x.at(time.point), y.at(row.estimate.point));
        scene.whisker_x(at_y, x.at(time.ci_low), x.at(time.ci_high), color(row.variant));
        scene.whisker_y(at_x, y.at(row.estimate.ci_low), y.at(row.estimate.ci_high), color(row.variant));
    }
    for (row, time) in &points {
        mark(&mut scene, row.variant, (x.at(time.point), y.at(row.estimate.point)), 6.0);
    }
    let header = line!["variant", "metric", "point", "ci_low", "ci_high", "e2e_p50_ms", "e2e_p50_ci_low_ms", "e2e_p50_ci_high_ms"];
    let data = points.iter().map(|(row, time)| {
        let score = &row.estimate;
        line![row.variant.name(), metric.id, score.point, score.ci_low, score.ci_high, time.point, time.ci_low, time.ci_high]
    });
    let caption = "Quality from the accuracy pass, time from the latency pass; both with their intervals.".to_owned();
    Some(Figure { name: "tradeoff", title, caption, scene, data: std::iter::once(header).chain(data).collect() })
}
