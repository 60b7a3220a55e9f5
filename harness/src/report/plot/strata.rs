//! The leading metric along slice names whose values are numbers: how often a fact was seen, a count of hops, a length.

use super::axis::{self, Frame, Key, Scale, percent_tick, plain_tick};
use super::scene::{Anchor, Scene};
use super::style::{GRID, INK, LABEL_SIZE, SOFT, color, mark};
use super::{Figure, line};
use crate::report::format;
use crate::report::slices::{self, SliceName};
use crate::spec::VariantKind;
use crate::stats::Estimate;
use crate::table::{Metric, QualityRow, Tables, metric::SHARE};

const WIDTH: f64 = 680.0;
/// From title to title of two panels.
const HEIGHT: f64 = 276.0;
/// Panels that are drawn; further names stay in the tables.
const PANELS: usize = 4;
/// Values that have a label on the axis.
const LABELS: usize = 12;
/// Between the marks of two variants at one value, so that their whiskers stay apart.
const SHIFT: f64 = 6.0;

/// A slice name with its values in the order of their numbers.
struct Panel<'a> {
    name: String,
    strata: Vec<Stratum<'a>>,
}

struct Stratum<'a> {
    value: String,
    rows: Vec<&'a QualityRow>,
}

/// A line per variant over the values of each such name; nothing if the dataset has none.
pub(super) fn strata(tables: &Tables) -> Option<Figure> {
    let (metric, variants) = (tables.primary()?, tables.variants());
    let rows_of = |slice: &str| variants.iter().filter_map(|variant| tables.quality_of(*variant, slice, &metric.id)).collect();
    let panel_of = |name: SliceName| {
        let strata = name.by_number().into_iter().map(|(value, slice)| Stratum { value: value.to_owned(), rows: rows_of(slice) });
        Panel { strata: strata.filter(|stratum| !stratum.rows.is_empty()).collect(), name: name.name.clone() }
    };
    let panels: Vec<Panel> = drawn(tables).into_iter().map(panel_of).filter(|panel| !panel.strata.is_empty()).collect();
    if panels.is_empty() {
        return None;
    }

    let names: Vec<&str> = panels.iter().map(|panel| panel.name.as_str()).collect();
    let title = format!("{} along {}", format::sentence(&metric.label()), names.join(" and "));
    let manifest = tables.manifest();
    let level = manifest.spec.measure.confidence * 100.0;
    let subtitle = format!("{}; whiskers: {level:.0}% interval (bootstrap over clusters); values are spaced evenly", manifest.dataset.name);
    let mut scene = Scene::new(WIDTH, 0.0);
    let below = axis::title(&mut scene, &title, &subtitle);
    let keys: Vec<(Key, String)> = variants.iter().map(|variant| (Key::Variant(*variant), variant.name().to_owned())).collect();
    let top = axis::legend(&mut scene, &keys, below) + 8.0;
    scene.height = top + HEIGHT * panels.len() as f64;
    for (index, panel) in panels.iter().enumerate() {
        let top = top + HEIGHT * index as f64;
        panel.draw(&mut scene, metric, &variants, Frame { left: 76.0, top, right: WIDTH - 24.0, bottom: top + HEIGHT - 76.0 });
    }
    let caption = format!(
        "Mean {} per variant over the questions of each value. A level line says that the number makes no difference to a variant.",
        metric.label()
    );
    Some(Figure { name: "strata", title, caption, scene, data: data(&panels) })
}

/// The slice names of the figure.
pub(super) fn drawn(tables: &Tables) -> Vec<SliceName> {
    slices::names(tables).into_iter().filter(SliceName::is_ordered).take(PANELS).collect()
}

fn data(panels: &[Panel]) -> Vec<Vec<String>> {
    let header = line!["name", "value", "variant", "metric", "point", "ci_low", "ci_high", "n", "n_failed"];
    let strata = panels.iter().flat_map(|panel| panel.strata.iter().map(|stratum| (&panel.name, stratum)));
    let rows = strata.flat_map(|(name, stratum)| stratum.rows.iter().map(move |row| (name, &stratum.value, row)));
    let line = |(name, value, row): (&String, &String, &&QualityRow)| {
        let Estimate { point, ci_low, ci_high, n } = row.estimate;
        line![name, value, row.variant.name(), row.metric.id, point, ci_low, ci_high, n, row.n_failed]
    };
    std::iter::once(header).chain(rows.map(line)).collect()
}

impl Panel<'_> {
    fn draw(&self, scene: &mut Scene, metric: &Metric, variants: &[VariantKind], frame: Frame) {
        let is_share = metric.unit == SHARE;
        let highest =
            self.strata.iter().flat_map(|stratum| &stratum.rows).map(|row| row.estimate.ci_high).fold(f64::MIN_POSITIVE, f64::max);
        let y = Scale::linear((0.0, if is_share { 1.0 } else { highest }), (frame.bottom, frame.top));
        frame.y_axis(scene, &y, &metric.label(), if is_share { percent_tick } else { plain_tick });
        let width = (frame.right - frame.left) / self.strata.len() as f64;
        let middle = |index: usize| frame.left + (index as f64 + 0.5) * width;
        for (index, stratum) in self.strata.iter().enumerate() {
            let x = middle(index);
            scene.line(vec![(x, frame.top), (x, frame.bottom)], GRID, 1.0);
            if index.is_multiple_of(self.strata.len().div_ceil(LABELS)) {
                let n = format!("n = {}", stratum.rows[0].estimate.n);
                scene.text((x, frame.bottom + 14.0), &stratum.value, LABEL_SIZE, INK, Anchor::Middle);
                scene.text((x, frame.bottom + 30.0), &n, LABEL_SIZE - 1.5, SOFT, Anchor::Middle);
            }
        }
        scene.line(vec![(frame.left, frame.bottom), (frame.right, frame.bottom)], INK, 1.0);
        scene.text((f64::midpoint(frame.left, frame.right), frame.bottom + 50.0), &self.name, LABEL_SIZE, INK, Anchor::Middle);

        let apart = SHIFT.min(width / (variants.len() + 1) as f64);
        for (place, &variant) in variants.iter().enumerate() {
            let shift = apart * (place as f64 - (variants.len() - 1) as f64 / 2.0);
            let of = |stratum: &Stratum| stratum.rows.iter().find(|row| row.variant == variant).map(|row| row.estimate);
            let strata = self.strata.iter().enumerate();
            let points: Vec<(f64, Estimate)> = strata.filter_map(|(index, stratum)| Some((middle(index) + shift, of(stratum)?))).collect();
            if points.len() > 1 {
                scene.line(points.iter().map(|(x, score)| (*x, y.at(score.point))).collect(), color(variant), 1.6);
            }
            for (x, score) in points {
                scene.whisker_y(x, y.at(score.ci_low), y.at(score.ci_high), color(variant));
                mark(scene, variant, (x, y.at(score.point)), 4.5);
            }
        }
    }
}
