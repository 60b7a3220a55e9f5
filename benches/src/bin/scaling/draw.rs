//! A question's figure: one line per series, its spread as a band, its name at its end.

use std::collections::BTreeMap;

use ragft::report::format;
use ragft::report::plot::axis::{self, Frame, Scale, plain_tick};
use ragft::report::plot::render::text_width;
use ragft::report::plot::scene::{Anchor, Color, Point, Scene};
use ragft::report::plot::style::{INK, LABEL_SIZE, Mark, PAPER};

use crate::question::{BYTES, Question, RECALL};
use crate::record::{Log, Part, Spread};

const WIDTH: f64 = 760.0;
/// Of the space for the data.
const HEIGHT: f64 = 320.0;

/// From this ratio of highest to lowest value on, the upright axis is logarithmic.
const LOG_FROM: f64 = 6.0;

/// Okabe and Ito's colours, as in the report's figures, and a mark each: colour is never the only carrier of meaning.
const LOOKS: [(Color, Mark); 6] = [
    (Color(0, 114, 178), Mark::Square),
    (Color(230, 159, 0), Mark::Triangle),
    (Color(0, 158, 115), Mark::Diamond),
    (Color(77, 77, 77), Mark::Circle),
    (Color(204, 121, 167), Mark::Wedge),
    (Color(213, 94, 0), Mark::Star),
];

/// One series as it is drawn.
struct Curve {
    name: String,
    color: Color,
    mark: Mark,
    points: BTreeMap<u64, Spread>,
}

/// The figure; nothing if its metric was not measured.
pub fn figure(log: &Log, question: &Question) -> Option<Scene> {
    let part = log.part(question.group)?;
    let curves = curves(log, question);
    let spreads = || curves.iter().flat_map(|curve| curve.points.values());
    let low = spreads().map(|spread| spread.low).min_by(f64::total_cmp)?;
    let high = spreads().map(|spread| spread.high).max_by(f64::total_cmp)?;
    let mut scene = Scene::new(WIDTH, 0.0);
    let below = axis::title(&mut scene, question.title, &subtitle(log, part, question));
    let names = curves.iter().map(|curve| text_width(&curve.name, LABEL_SIZE)).fold(0.0, f64::max);
    let frame = Frame { left: 88.0, top: below + 8.0, right: WIDTH - names - 26.0, bottom: below + 8.0 + HEIGHT };
    scene.height = frame.bottom + 52.0;
    let x = x_scale(&curves, &frame);
    let (y, ticks) = y_scale(question, (low, high), &frame);
    curves.iter().for_each(|curve| band(&mut scene, curve, &x, &y));
    frame.y_axis_at(&mut scene, &y, &ticks, question.y, |value| tick(question, value));
    frame.x_axis_at(&mut scene, &x, &x_values(&curves), question.x, format::quantity);
    curves.iter().for_each(|curve| line(&mut scene, curve, &x, &y));
    names_at_ends(&mut scene, &curves, &x, &y, &frame);
    Some(scene)
}

fn curves(log: &Log, question: &Question) -> Vec<Curve> {
    let names = log.series(question);
    // A series has one look in all figures of its group.
    let curve = |(index, name): (usize, String)| {
        let (color, mark) = LOOKS[index % LOOKS.len()];
        Curve { points: log.spreads(question, &name), name, color, mark }
    };
    names.into_iter().enumerate().map(curve).filter(|curve| !curve.points.is_empty()).collect()
}

fn subtitle(log: &Log, part: &Part, question: &Question) -> String {
    let rounds = part.lines.iter().map(|line| line.round + 1).max().unwrap_or(0);
    let mut text = format!(
        "{}. Lines: median of {rounds} rounds; bands: lowest to highest. {}, {} threads.",
        format::sentence(question.note),
        part.head.cpu,
        part.head.threads
    );
    for end in log.ends(question) {
        text.push_str(&format!(" {end}."));
    }
    text
}

fn x_values(curves: &[Curve]) -> Vec<f64> {
    let mut xs: Vec<u64> = curves.iter().flat_map(|curve| curve.points.keys().copied()).collect();
    xs.sort_unstable();
    xs.dedup();
    xs.into_iter().map(|x| x as f64).collect()
}

fn x_scale(curves: &[Curve], frame: &Frame) -> Scale {
    let xs = x_values(curves);
    let (first, last) = (xs[0], xs[xs.len() - 1]);
    // A little air at both ends, so that no mark stands on the frame.
    let air = (last / first).powf(0.02).max(1.01);
    Scale::log((first / air, last * air), (frame.left, frame.right))
}

/// The upright scale and its grid lines.
fn y_scale(question: &Question, (low, high): (f64, f64), frame: &Frame) -> (Scale, Vec<f64>) {
    let pixels = (frame.bottom, frame.top);
    if question.metric == RECALL {
        let scale = Scale::linear((0.0, 1.0), pixels);
        let ticks = scale.ticks(5);
        return (scale, ticks);
    }
    if high / low < LOG_FROM {
        let scale = Scale::linear((0.0, high * 1.06), pixels);
        let ticks = if is_bytes(question) { byte_ticks(high) } else { scale.ticks(5) };
        return (scale, ticks);
    }
    let (low, high) = (low / 1.2, high * 1.2);
    let base = if is_bytes(question) { powers_of_two(low, high) } else { one_two_five(low, high) };
    (Scale::log((low, high), pixels), base)
}

fn is_bytes(question: &Question) -> bool {
    question.metric == BYTES
}

/// Multiples of a power of two, four to seven of them.
fn byte_ticks(high: f64) -> Vec<f64> {
    let step = (high / 5.0).log2().round().exp2();
    (0..=(high / step) as u32).map(|index| f64::from(index) * step).collect()
}

fn powers_of_two(low: f64, high: f64) -> Vec<f64> {
    let (first, last) = (low.log2().ceil() as i32, high.log2().floor() as i32);
    let step = ((last - first) / 8 + 1) as usize;
    (first..=last).step_by(step).map(|exponent| f64::from(exponent).exp2()).collect()
}

/// 1, 2 and 5 of every decade, or the decades alone where there are many.
fn one_two_five(low: f64, high: f64) -> Vec<f64> {
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let factors: &[f64] = if (high / low).log10() > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let all = decades.flat_map(|decade| factors.iter().map(move |factor| factor * 10f64.powi(decade)));
    all.filter(|value| (low..=high).contains(value)).collect()
}

fn tick(question: &Question, value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if is_bytes(question) { format::bytes(value) } else { plain_tick(value) }
}

fn band(scene: &mut Scene, curve: &Curve, x: &Scale, y: &Scale) {
    let end = |of: fn(&Spread) -> f64| curve.points.iter().map(move |(at, spread)| (x.at(*at as f64), y.at(of(spread))));
    let mut outline: Vec<Point> = end(|spread| spread.high).collect();
    outline.extend(end(|spread| spread.low).collect::<Vec<_>>().into_iter().rev());
    if outline.len() > 2 {
        scene.area(outline, paler(curve.color));
    }
}

fn line(scene: &mut Scene, curve: &Curve, x: &Scale, y: &Scale) {
    let points: Vec<Point> = curve.points.iter().map(|(at, spread)| (x.at(*at as f64), y.at(spread.median))).collect();
    if points.len() > 1 {
        scene.line(points.clone(), curve.color, 2.2);
    }
    points.into_iter().for_each(|point| curve.mark.draw(scene, curve.color, point, 4.2));
}

/// Names right of the last points, moved apart where they would overlap.
fn names_at_ends(scene: &mut Scene, curves: &[Curve], x: &Scale, y: &Scale, frame: &Frame) {
    const APART: f64 = 17.0;
    /// Names further apart from left to right do not overlap.
    const WIDE: f64 = 160.0;
    let end = |curve: &Curve| curve.points.last_key_value().map(|(at, spread)| (x.at(*at as f64), y.at(spread.median)));
    let mut ends: Vec<(&Curve, Point)> = curves.iter().filter_map(|curve| Some((curve, end(curve)?))).collect();
    ends.sort_by(|(_, left), (_, right)| left.1.total_cmp(&right.1));
    let (top, bottom) = (frame.top + 9.0, frame.bottom - 9.0);
    let mut heights: Vec<f64> = ends.iter().map(|(_, point)| point.1.clamp(top, bottom)).collect();
    // Neighbours push each other apart evenly, until nobody is pushed any more.
    for _ in 0..200 {
        for index in 1..heights.len() {
            let missing = APART - (heights[index] - heights[index - 1]);
            if missing > 0.0 && (ends[index].1.0 - ends[index - 1].1.0).abs() < WIDE {
                heights[index - 1] = (heights[index - 1] - missing / 2.0).max(top);
                heights[index] = (heights[index] + missing / 2.0).min(bottom);
            }
        }
    }
    for ((curve, (right, _)), height) in ends.into_iter().zip(heights) {
        // A name inside the frame stands on paper, so that grid lines do not cross it.
        let left = right + 10.0;
        if left < frame.right {
            scene.rect((left - 2.0, height - 8.0), (left + text_width(&curve.name, LABEL_SIZE), height + 8.0), PAPER);
        }
        scene.text((left, height), &curve.name, LABEL_SIZE, INK, Anchor::Start);
    }
}

fn paler(Color(red, green, blue): Color) -> Color {
    let pale = |channel: u8| 255 - (255 - channel) / 4;
    Color(pale(red), pale(green), pale(blue))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grid_lines_lie_within_the_data_and_are_few() {
        assert_eq!(one_two_five(90.0, 1100.0), [100.0, 200.0, 500.0, 1000.0]);
        assert_eq!(one_two_five(0.9, 1.1e5), [1.0, 10.0, 100.0, 1e3, 1e4, 1e5]);
        assert_eq!(powers_of_two(3.0, 40.0), [4.0, 8.0, 16.0, 32.0]);
        assert_eq!(byte_ticks(1.1e9).len(), 5);
    }
}
