//! Who costs least of those that are good enough, over queries and updates per month.

use super::axis::{self, Frame, Key, plain_tick};
use super::scene::{Color, Scene};
use super::style::{INK, PAPER, color, mark};
use super::{Figure, line};
use crate::cost::{Currency, Decision, MapCell};
use crate::report::format;
use crate::spec::VariantKind;
use crate::table::Tables;

const WIDTH: f64 = 680.0;
const ROW: f64 = 26.0;

/// The map; nothing where no cost is known.
pub(super) fn map(tables: &Tables, decision: &Decision) -> Option<Figure> {
    let map = &decision.map;
    let mut shown: Vec<VariantKind> = map.cells.iter().map(|cell| cell.cheapest).collect();
    shown.sort_unstable();
    shown.dedup();
    if shown.is_empty() {
        return None;
    }
    let spec = &tables.manifest().spec.cost;
    let title = "Who costs least of those that are good enough".to_owned();
    let mut scene = Scene::new(WIDTH, 0.0);
    let margin = format::score(decision.margin, &decision.metric);
    let prices = match decision.currency {
        Currency::Money => format!("prices of {}", spec.prices_as_of),
        Currency::Flops => "operations, labels and storage not counted".to_owned(),
    };
    let subtitle = format!(
        "within {margin} points of the best {}, set-up over {} months, {prices}; box: the declared usage",
        decision.metric.label(),
        format::significant(spec.usage.months, 2)
    );
    let below = axis::title(&mut scene, &title, &subtitle);
    let mut keys: Vec<(Key, String)> = shown.iter().map(|variant| (Key::Variant(*variant), variant.name().to_owned())).collect();
    if map.cells.iter().any(|cell| cell.is_open) {
        keys.push((Key::Patch(Color(225, 225, 225)), "two marks: the measured times do not tell them apart".to_owned()));
    }
    let top = axis::legend(&mut scene, &keys, below) + 6.0;
    let frame = Frame { left: 86.0, top, right: WIDTH - 30.0, bottom: top + ROW * map.updates.len() as f64 };
    scene.height = frame.bottom + 56.0;
    let width = (frame.right - frame.left) / map.queries.len() as f64;
    let place = |column: usize, row: usize| {
        let (left, bottom) = (frame.left + width * column as f64, frame.bottom - ROW * row as f64);
        ((left, bottom - ROW), (left + width, bottom))
    };
    for (row, updates) in map.updates.iter().enumerate() {
        for (column, queries) in map.queries.iter().enumerate() {
            if let Some(cell) = map.at(*queries, *updates) {
                draw(&mut scene, cell, place(column, row));
            }
        }
        let ((_, above), (_, under)) = place(0, row);
        if row == 0 || row % 2 == 1 {
            let label = if *updates == 0.0 { "none".to_owned() } else { plain_tick(*updates) };
            frame.row_labels(&mut scene, &[(f64::midpoint(above, under), label)]);
        }
    }
    for (column, queries) in map.queries.iter().enumerate().step_by(2) {
        let ((left, _), (right, _)) = place(column, 0);
        scene.text(
            (f64::midpoint(left, right), frame.bottom + 14.0),
            &plain_tick(*queries),
            super::style::LABEL_SIZE,
            INK,
            super::scene::Anchor::Middle,
        );
    }
    let middle = f64::midpoint(frame.left, frame.right);
    scene.text((middle, frame.bottom + 36.0), "queries per month", super::style::LABEL_SIZE, INK, super::scene::Anchor::Middle);
    scene.turned_text((16.0, f64::midpoint(frame.top, frame.bottom)), "updates per month", super::style::LABEL_SIZE, INK);
    declared(&mut scene, decision, spec.usage.updates_per_month, place);
    let caption = format!(
        "The cheapest of the variants that are shown to be no more than {margin} points below the best, at every usage. One update is one \
         document that is added or changed and brought in by itself; the baseline cannot be brought up to date."
    );
    Some(Figure { name: "decision", title, caption, scene, data: data(tables, decision) })
}

/// Paler than a variant's colour, so that its mark stands out.
fn pale(Color(red, green, blue): Color, part: f64) -> Color {
    let mix = |part_of: u8| (255.0 - part * (255.0 - f64::from(part_of))) as u8;
    Color(mix(red), mix(green), mix(blue))
}

fn draw(scene: &mut Scene, cell: &MapCell, ((left, top), (right, bottom)): ((f64, f64), (f64, f64))) {
    let middle = (f64::midpoint(left, right), f64::midpoint(top, bottom));
    let fill = if cell.is_open { Color(225, 225, 225) } else { pale(color(cell.cheapest), 0.42) };
    scene.rect((left + 0.5, top + 0.5), (right - 0.5, bottom - 0.5), fill);
    match cell.next.filter(|_| cell.is_open) {
        Some((next, _)) => {
            mark(scene, cell.cheapest, (middle.0 - 9.0, middle.1), 4.5);
            mark(scene, next, (middle.0 + 9.0, middle.1), 4.5);
        }
        None => mark(scene, cell.cheapest, middle, 5.0),
    }
}

/// A box around the cell of the declared usage.
fn declared(scene: &mut Scene, decision: &Decision, updates: f64, place: impl Fn(usize, usize) -> ((f64, f64), (f64, f64))) {
    let map = &decision.map;
    let column = map.queries.len() / 2;
    let Some(row) = map.updates.iter().position(|own| (own - updates).abs() <= 1e-9 * updates) else { return };
    let ((left, top), (right, bottom)) = place(column, row);
    let corners = vec![(left, top), (right, top), (right, bottom), (left, bottom), (left, top)];
    scene.line(corners.clone(), PAPER, 4.0);
    scene.line(corners, INK, 2.0);
}

fn data(tables: &Tables, decision: &Decision) -> Vec<Vec<String>> {
    let spec = &tables.manifest().spec.cost;
    let unit = match decision.currency {
        Currency::Money => spec.currency.as_str(),
        Currency::Flops => "flops",
    };
    let header = line!["queries_per_month", "updates_per_month", "months", "cheapest", "total", "next", "next_total", "unit", "is_open"];
    let row = |cell: &MapCell| {
        let (next, next_total) =
            cell.next.map_or((String::new(), String::new()), |(next, total)| (next.name().to_owned(), total.to_string()));
        let months = spec.usage.months;
        line![cell.queries, cell.updates, months, cell.cheapest.name(), cell.total, next, next_total, unit, cell.is_open]
    };
    std::iter::once(header).chain(decision.map.cells.iter().map(row)).collect()
}
