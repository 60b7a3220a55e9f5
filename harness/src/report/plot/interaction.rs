//! The two factors together: what retrieval adds to the base weights and to the tuned ones.

use super::axis::{self, Frame, Key, Scale, percent_tick, plain_tick};
use super::scene::{Anchor, Scene};
use super::style::{GRID, INK, LABEL_SIZE, color, mark};
use super::{Figure, line};
use crate::report::format;
use crate::report::verdict::verdict_word;
use crate::spec::VariantKind::{Baseline, Finetuned, Hybrid, Rag};
use crate::table::{ALL, QualityRow, Tables, metric::SHARE};

const WIDTH: f64 = 680.0;

/// Two lines from without to with retrieval; parallel ones where the factors add up. Nothing unless all four variants were measured.
pub(super) fn square(tables: &Tables) -> Option<Figure> {
    let metric = tables.primary()?;
    let of = |variant| tables.quality_of(variant, ALL, &metric.id);
    let lines: [[&QualityRow; 2]; 2] = [[of(Baseline)?, of(Rag)?], [of(Finetuned)?, of(Hybrid)?]];
    let contrast = tables.contrast_of("hybrid-rag", "finetuned-baseline", ALL, &metric.id)?;
    let is_share = metric.unit == SHARE;
    let title = format!("Do the two factors add up? {}", format::sentence(&metric.label()));
    let mut scene = Scene::new(WIDTH, 380.0);
    let subtitle = format!(
        "parallel lines would say that they do. Interaction {} points ({} to {}): {}",
        format::signed(contrast.difference.point, metric),
        format::signed(contrast.difference.ci_low, metric),
        format::signed(contrast.difference.ci_high, metric),
        verdict_word(contrast)
    );
    let below = axis::title(&mut scene, &title, &subtitle);
    let keys: Vec<(Key, String)> =
        [Baseline, Rag, Finetuned, Hybrid].map(|variant| (Key::Variant(variant), variant.name().to_owned())).to_vec();
    let top = axis::legend(&mut scene, &keys, below) + 6.0;
    let frame = Frame { left: 76.0, top, right: WIDTH - 190.0, bottom: scene.height - 40.0 };
    let highest = lines.iter().flatten().map(|row| row.estimate.ci_high).fold(f64::MIN_POSITIVE, f64::max);
    let y = Scale::linear((0.0, if is_share { 1.0 } else { highest }), (frame.bottom, frame.top));
    frame.y_axis(&mut scene, &y, &metric.label(), if is_share { percent_tick } else { plain_tick });
    let stretch = frame.right - frame.left;
    let columns = [frame.left + 0.2 * stretch, frame.left + 0.8 * stretch];
    for (x, name) in columns.into_iter().zip(["no retrieval", "retrieval"]) {
        scene.line(vec![(x, frame.top), (x, frame.bottom)], GRID, 1.0);
        scene.text((x, frame.bottom + 16.0), name, LABEL_SIZE, INK, Anchor::Middle);
    }
    let [mut base, mut tuned] = [0, 1].map(|index: usize| y.at(lines[index][1].estimate.point));
    // Names apart where the lines end close together.
    let missing = (LABEL_SIZE + 3.0 - (base - tuned).abs()).max(0.0) / 2.0;
    (base, tuned) = if base < tuned { (base - missing, tuned + missing) } else { (base + missing, tuned - missing) };
    for (line, (name, shift, height)) in lines.iter().zip([("base weights", -4.0, base), ("fine-tuned weights", 4.0, tuned)]) {
        let points = [0, 1].map(|side| (columns[side] + shift, y.at(line[side].estimate.point)));
        scene.line(points.to_vec(), color(line[0].variant), 2.0);
        for (row, point) in line.iter().zip(points) {
            scene.whisker_y(point.0, y.at(row.estimate.ci_low), y.at(row.estimate.ci_high), color(row.variant));
            mark(&mut scene, row.variant, point, 6.0);
        }
        scene.text((frame.right + 12.0, height), name, LABEL_SIZE, INK, Anchor::Start);
    }
    let header = line!["weights", "retrieval", "variant", "point", "ci_low", "ci_high"];
    let row = |(weights, rows): (&str, &[&QualityRow; 2])| {
        let sides = ["no", "yes"].into_iter().zip(*rows);
        sides
            .map(|(side, row)| line![weights, side, row.variant.name(), row.estimate.point, row.estimate.ci_low, row.estimate.ci_high])
            .collect::<Vec<_>>()
    };
    let data = ["base", "tuned"].into_iter().zip(&lines).flat_map(row);
    let caption = "Score with and without retrieval, for base and fine-tuned weights, with their intervals.".to_owned();
    Some(Figure { name: "interaction", title, caption, scene, data: std::iter::once(header).chain(data).collect() })
}
