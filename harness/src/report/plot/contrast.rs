//! The forest plot: every declared difference, over all questions and by slice.

use super::axis::{self, Frame, Key, Scale, plain_tick};
use super::scene::{Anchor, Color, Scene};
use super::style::{GRID, INK, LABEL_SIZE, Mark, SOFT};
use super::{Figure, line};
use crate::report::verdict::{difference_name, verdict_word};
use crate::report::{format, slices as slice_names};
use crate::stats::Verdict;
use crate::table::{ALL, ContrastRow, Metric, Tables, metric::SHARE};

const WIDTH: f64 = 680.0;
/// Height of a row, and what a group of rows has besides.
const ROW: f64 = 17.0;
const GAP: f64 = 12.0;
/// Room for the verdicts at the right.
const VERDICTS: f64 = 104.0;
/// The band of differences that do not matter.
const BAND: Color = Color(238, 238, 238);

/// Verdicts by colour and shape: Okabe and Ito's blue and vermilion, and two greys.
fn look(verdict: Verdict) -> (Mark, Color) {
    match verdict {
        Verdict::Better => (Mark::Triangle, Color(0, 114, 178)),
        Verdict::Worse => (Mark::Wedge, Color(213, 94, 0)),
        Verdict::Equivalent => (Mark::Square, INK),
        Verdict::Inconclusive => (Mark::Circle, SOFT),
    }
}

/// The declared differences of the leading metric; nothing if there are none.
pub(super) fn forest(tables: &Tables) -> Option<Figure> {
    let metric = tables.primary()?;
    let slices: Vec<String> =
        std::iter::once(ALL.to_owned()).chain(slice_names::shown(tables).into_iter().flat_map(|name| name.slices)).collect();
    let declared: Vec<&ContrastRow> = tables
        .contrasts
        .iter()
        .filter(|row| row.slice == ALL && tables.contrast_of(&row.left, &row.right, ALL, &metric.id) == Some(*row))
        .collect();
    let of = |row: &ContrastRow| -> Vec<&ContrastRow> {
        slices.iter().filter_map(|slice| tables.contrast_of(&row.left, &row.right, slice, &metric.id)).collect()
    };
    let groups: Vec<Vec<&ContrastRow>> = declared.into_iter().map(of).collect();
    let rows: Vec<&ContrastRow> = groups.iter().flatten().copied().collect();
    let n = rows.first()?.difference.n;
    let title = format!("Differences of {}", metric.label());
    let mut scene = Scene::new(WIDTH, 0.0);
    let below = axis::title(&mut scene, &title, &subtitle(tables, n));
    let keys = [Verdict::Better, Verdict::Worse, Verdict::Equivalent, Verdict::Inconclusive].map(|verdict| {
        let (mark, color) = look(verdict);
        (Key::Mark(mark, color), verdict.name().to_owned())
    });
    let top = axis::legend(&mut scene, &keys, below) + 2.0;
    let height = ROW * (rows.len() + groups.len()) as f64 + GAP * groups.len() as f64;
    scene.height = top + height + 56.0;
    let left = axis::label_space(rows.iter().map(|row| row.slice.as_str()).chain(["hybrid − finetuned"]));
    let frame = Frame { left, top, right: WIDTH - VERDICTS, bottom: top + height };
    let x = Scale::linear(reach(&rows, metric), (frame.left, frame.right));
    let margin = margin(tables, metric);
    if margin > 0.0 {
        scene.rect((x.at(-margin), frame.top), (x.at(margin), frame.bottom), BAND);
    }
    let is_share = metric.unit == SHARE;
    let tick = |value: f64| if is_share { format!("{:+.0}", value * 100.0).replace("+0", "0") } else { plain_tick(value) };
    let unit = if is_share { "points of " } else { "" };
    frame.x_axis(&mut scene, &x, &format!("left minus right, {unit}{}", metric.label()), tick);
    scene.line(vec![(x.at(0.0), frame.top), (x.at(0.0), frame.bottom)], INK, 1.2);
    let mut y = frame.top;
    for group in &groups {
        if y > frame.top {
            scene.line(vec![(16.0, y), (WIDTH - 16.0, y)], GRID, 1.0);
        }
        y += GAP / 2.0 + ROW / 2.0;
        scene.text((16.0, y), &difference_name(&group[0].left, &group[0].right), LABEL_SIZE, INK, Anchor::Start);
        y += ROW;
        for row in group {
            draw(&mut scene, &frame, &x, row, y);
            y += ROW;
        }
        y += GAP / 2.0 - ROW / 2.0;
    }
    let caption = format!(
        "Mean paired difference of {} with its interval, over all questions and by slice; verdicts are adjusted for the number of differences, \
         intervals are not. Grey band: differences that do not matter by the run's own margin.",
        metric.label()
    );
    Some(Figure { name: "contrasts", title, caption, scene, data: data(&rows) })
}

fn draw(scene: &mut Scene, frame: &Frame, x: &Scale, row: &ContrastRow, y: f64) {
    let (mark, color) = look(row.verdict());
    let estimate = &row.difference;
    let is_all = row.slice == ALL;
    frame.row_labels(scene, &[(y, if is_all { "all questions".to_owned() } else { row.slice.clone() })]);
    scene.whisker_x(y, x.at(estimate.ci_low), x.at(estimate.ci_high), color);
    mark.draw(scene, color, (x.at(estimate.point), y), if is_all { 6.0 } else { 4.0 });
    scene.text((frame.right + 12.0, y), verdict_word(row), LABEL_SIZE, if is_all { INK } else { SOFT }, Anchor::Start);
}

fn subtitle(tables: &Tables, n: usize) -> String {
    let spec = &tables.manifest().spec;
    let level = spec.measure.confidence * 100.0;
    format!("{}, n = {} questions; whiskers: {level:.0}% interval over clusters", tables.manifest().dataset.name, format::count(n as f64))
}

fn margin(tables: &Tables, metric: &Metric) -> f64 {
    if metric.unit == SHARE { tables.manifest().spec.contrasts.margin / 100.0 } else { 0.0 }
}

/// From the lowest to the highest end of an interval, zero within; an end that is not bounded, or past what a share can differ by, is cut.
fn reach(rows: &[&ContrastRow], metric: &Metric) -> (f64, f64) {
    let limit = if metric.unit == SHARE { 1.0 } else { f64::MAX };
    let ends = |of: fn(&ContrastRow) -> f64| rows.iter().map(move |row| of(row)).filter(|end| end.is_finite());
    let low = ends(|row| row.difference.ci_low).chain(ends(|row| row.difference.point)).fold(0.0, f64::min).max(-limit);
    let high = ends(|row| row.difference.ci_high).chain(ends(|row| row.difference.point)).fold(0.0, f64::max).min(limit);
    let room = 0.03 * (high - low).max(1e-9);
    (low - room, high + room)
}

fn data(rows: &[&ContrastRow]) -> Vec<Vec<String>> {
    let header = line!["left", "right", "slice", "metric", "difference", "ci_low", "ci_high", "n", "p_adjusted", "verdict"];
    let row = |row: &&ContrastRow| {
        let estimate = &row.difference;
        let (left, right, slice, metric, verdict) = (&row.left, &row.right, &row.slice, &row.metric.id, row.verdict().name());
        line![left, right, slice, metric, estimate.point, estimate.ci_low, estimate.ci_high, estimate.n, row.p_adjusted, verdict]
    };
    std::iter::once(header).chain(rows.iter().map(row)).collect()
}
