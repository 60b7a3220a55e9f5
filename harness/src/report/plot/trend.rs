//! One figure over the runs of a history.

use super::axis::{self, Frame, Key, Scale, percent_tick, plain_tick};
use super::scene::Scene;
use super::style::{SOFT, color, mark};
use super::{Figure, line};
use crate::spec::VariantKind;
use crate::stats::ChangePoint;

const WIDTH: f64 = 760.0;

/// A figure of one run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrendPoint {
    /// The run's number.
    pub number: usize,
    /// The figure.
    pub point: f64,
    /// Lower end of its interval.
    pub ci_low: f64,
    /// Upper end.
    pub ci_high: f64,
}

/// The figures of a variant.
#[derive(Debug, Clone, PartialEq)]
pub struct TrendLine {
    /// The variant.
    pub variant: VariantKind,
    /// In the order of runs.
    pub points: Vec<TrendPoint>,
    /// Where the level changes; `at` is an index into the points.
    pub changes: Vec<ChangePoint>,
}

/// Lines over runs, with a dashed line where a level changes.
pub fn figure(title: &str, unit: &str, lines: &[TrendLine]) -> Figure {
    let mut scene = Scene::new(WIDTH, 420.0);
    let below = axis::title(&mut scene, title, "whiskers: interval within the run; dashed: the level changes here (E-divisive, 5% level)");
    let keys: Vec<(Key, String)> = lines.iter().map(|line| (Key::Variant(line.variant), line.variant.name().to_owned())).collect();
    let top = axis::legend(&mut scene, &keys, below) + 4.0;
    let frame = Frame { left: 76.0, top, right: WIDTH - 30.0, bottom: scene.height - 54.0 };
    let points = || lines.iter().flat_map(|line| &line.points);
    let (first, last) = points().fold((usize::MAX, 0), |(first, last), point| (first.min(point.number), last.max(point.number)));
    let highest = points().map(|point| point.ci_high).filter(|value| value.is_finite()).fold(f64::MIN_POSITIVE, f64::max);
    let is_share = unit == "share";
    let x = Scale::linear((first as f64 - 0.5, last as f64 + 0.5), (frame.left, frame.right));
    let y = Scale::linear((0.0, if is_share { 1.0 } else { highest * 1.05 }), (frame.bottom, frame.top));
    frame.y_axis(&mut scene, &y, unit, if is_share { percent_tick } else { plain_tick });
    let step = (last + 1 - first).div_ceil(12).max(1);
    let ticks: Vec<f64> = (first..=last).step_by(step).map(|number| number as f64).collect();
    frame.x_axis_at(&mut scene, &x, &ticks, "run", |tick| format!("{tick:.0}"));
    for line in lines {
        for change in &line.changes {
            let at = x.at(f64::midpoint(line.points[change.at - 1].number as f64, line.points[change.at].number as f64));
            scene.dashed((at, frame.top), (at, frame.bottom), SOFT, 1.2);
        }
        let path: Vec<(f64, f64)> = line.points.iter().map(|point| (x.at(point.number as f64), y.at(point.point))).collect();
        if path.len() > 1 {
            scene.line(path.clone(), color(line.variant), 1.6);
        }
        for (point, at) in line.points.iter().zip(path) {
            if point.ci_high > point.ci_low && point.ci_high.is_finite() {
                scene.whisker_y(at.0, y.at(point.ci_low), y.at(point.ci_high), color(line.variant));
            }
            mark(&mut scene, line.variant, at, 4.5);
        }
    }
    let header = line!["run", "variant", "point", "ci_low", "ci_high", "level_changes_here"];
    let rows = lines.iter().flat_map(|line| {
        line.points.iter().enumerate().map(|(index, point)| {
            let is_change = line.changes.iter().any(|change| change.at == index);
            line![point.number, line.variant.name(), point.point, point.ci_low, point.ci_high, is_change]
        })
    });
    let caption = "One point per run and variant, in the order in which runs were added.".to_owned();
    Figure { name: "trend", title: title.to_owned(), caption, scene, data: std::iter::once(header).chain(rows).collect() }
}
