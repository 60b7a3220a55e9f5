//! Total cost over the number of questions.

use super::axis::{self, Frame, Key, Scale, plain_tick};
use super::scene::{Anchor, Scene};
use super::style::{INK, LABEL_SIZE, PAPER, SOFT, color, mark};
use super::{Figure, line};
use crate::cost::{BreakEven, Currency, Ledger, Line};
use crate::report::format;
use crate::spec::{ContextSource, VariantKind};
use crate::table::Tables;

const WIDTH: f64 = 680.0;
const POINTS: usize = 61;

/// Variants that one could deploy, with their costs. The controls have no set-up that means anything.
pub(crate) fn deployable(tables: &Tables, ledger: &Ledger, currency: Currency) -> Vec<(VariantKind, Line)> {
    let is_control = |variant: &VariantKind| matches!(variant.context(), ContextSource::Gold | ContextSource::Random);
    let variants = tables.variants().into_iter().filter(|variant| !is_control(variant));
    variants.filter_map(|variant| Some((variant, ledger.line(variant, currency)?))).collect()
}

/// Total cost over the number of questions on logarithmic axes, break-evens marked; in money, or in operations where nothing is priced.
pub(super) fn over_queries(tables: &Tables, ledger: &Ledger) -> Option<Figure> {
    let currency = if ledger.is_priced() { Currency::Money } else { Currency::Flops };
    let lines = deployable(tables, ledger, currency);
    let horizon = tables.manifest().spec.cost.horizon_queries.max(10) as f64;
    let crossings = crossings(tables, ledger, &lines, currency, horizon);
    let first = first_queries(&crossings, horizon);
    let at = |index: usize| first * 10f64.powf(index as f64 / (POINTS - 1) as f64 * (horizon / first).log10());
    let lowest = lines.iter().map(|(_, line)| line.total(first)).filter(|cost| *cost > 0.0).reduce(f64::min)?;
    let highest = lines.iter().map(|(_, line)| line.total(horizon)).fold(lowest, f64::max);
    let unit = match currency {
        Currency::Money => tables.manifest().spec.cost.currency.clone(),
        Currency::Flops => "floating-point operations".to_owned(),
    };
    let title = "Total cost over the number of questions".to_owned();
    let mut scene = Scene::new(WIDTH, 440.0);
    let dated = &tables.manifest().spec.cost.prices_as_of;
    let marks = if crossings.is_empty() { "no break-even on this stretch" } else { "rings and dotted lines: break-even" };
    let subtitle = match currency {
        Currency::Money => format!("set-up and queries at the spec's prices of {dated}; {marks}"),
        Currency::Flops => format!("set-up and queries, labels and storage not counted; {marks}"),
    };
    let below = axis::title(&mut scene, &title, &subtitle);
    let keys: Vec<(Key, String)> = lines.iter().map(|(variant, _)| (Key::Variant(*variant), variant.name().to_owned())).collect();
    let top = axis::legend(&mut scene, &keys, below) + 6.0;
    let frame = Frame { left: 86.0, top, right: WIDTH - 36.0, bottom: scene.height - 54.0 };
    let x = Scale::log((first, horizon), (frame.left, frame.right));
    let y = Scale::log((10f64.powf(lowest.log10().floor()), 10f64.powf(highest.log10().ceil())), (frame.bottom, frame.top));
    frame.y_axis(&mut scene, &y, &format!("total cost ({unit})"), cost_tick);
    frame.x_axis(&mut scene, &x, "number of questions", plain_tick);
    for (place, (variant, line)) in lines.iter().enumerate() {
        scene.line((0..POINTS).map(|index| (x.at(at(index)), y.at(line.total(at(index))))).collect(), color(*variant), 2.2);
        // Marks are set apart along the line so that curves on top of each other can still be told.
        let spread = POINTS / 5;
        for index in (place * spread / lines.len()..POINTS).step_by(spread) {
            mark(&mut scene, *variant, (x.at(at(index)), y.at(line.total(at(index)))), 4.2);
        }
    }
    break_evens(&mut scene, &crossings, &frame, (&x, &y));
    let header = line!["variant", "queries", "total", "unit"];
    let data = lines.iter().flat_map(|(variant, line)| {
        (0..POINTS).map(|index| line![variant.name(), at(index), line.total(at(index)), unit]).collect::<Vec<_>>()
    });
    let caption = "Cost of setting a variant up and asking it so many questions. Where two lines cross, the one that was dearer to set up \
                   has paid for itself."
        .to_owned();
    Some(Figure { name: "cost", title, caption, scene, data: std::iter::once(header).chain(data).collect() })
}

/// Where the figure begins: three decades before its end, or at the first question if a break-even comes sooner.
fn first_queries(crossings: &[(f64, f64)], horizon: f64) -> f64 {
    let first = 10f64.powf((horizon / 1e3).log10().floor()).max(1.0);
    if crossings.iter().any(|(queries, _)| *queries < first) { 1.0 } else { first }
}

/// Small sums as decimal fractions, never as powers of ten.
fn cost_tick(value: f64) -> String {
    if value < 1.0 { format::significant(value, 1) } else { plain_tick(value) }
}

/// Number of questions and total cost at every break-even within the figure.
fn crossings(tables: &Tables, ledger: &Ledger, lines: &[(VariantKind, Line)], currency: Currency, horizon: f64) -> Vec<(f64, f64)> {
    let mut points = Vec::new();
    for (index, (left, line)) in lines.iter().enumerate() {
        for (right, _) in &lines[index + 1..] {
            if let Some(BreakEven::CheaperBeyond(queries) | BreakEven::CheaperUpTo(queries)) =
                ledger.against(tables, *left, *right, currency)
            {
                points.push((queries, line.total(queries)));
            }
        }
    }
    points.retain(|(queries, _)| (1.0..=horizon).contains(queries));
    points
}

fn break_evens(scene: &mut Scene, crossings: &[(f64, f64)], frame: &Frame, (x, y): (&Scale, &Scale)) {
    for (row, (queries, total)) in crossings.iter().enumerate() {
        let at = (x.at(*queries), y.at(*total));
        scene.dashed((at.0, frame.bottom), at, SOFT, 1.0);
        ring(scene, at);
        let label = format!("{} questions", format::large(*queries));
        let height = frame.bottom - 12.0 - 18.0 * (row % 4) as f64;
        let width = super::render::text_width(&label, LABEL_SIZE);
        let is_left = at.0 + width + 10.0 > frame.right;
        let left = if is_left { at.0 - 6.0 - width } else { at.0 + 6.0 };
        scene.rect((left, height - 8.0), (left + width, height + 8.0), PAPER);
        scene.text(
            (if is_left { at.0 - 6.0 } else { left }, height),
            &label,
            LABEL_SIZE,
            INK,
            if is_left { Anchor::End } else { Anchor::Start },
        );
    }
}

fn ring(scene: &mut Scene, (x, y): (f64, f64)) {
    let point = |index: i32| {
        let angle = std::f64::consts::TAU * f64::from(index) / 32.0;
        (x + 7.0 * angle.cos(), y + 7.0 * angle.sin())
    };
    scene.line((0..=32).map(point).collect(), INK, 1.6);
}
