//! The training curve.

use std::collections::BTreeMap;

use super::axis::{self, Frame, Key, Scale, plain_tick};
use super::scene::{Color, Scene};
use super::style::{self, color};
use super::{Figure, line};
use crate::finetune::TrainingRow;
use crate::table::Tables;
use crate::table::input::variant_named;

const WIDTH: f64 = 680.0;

/// Training loss per step and validation loss where it was measured, one pair of curves per adapter; nothing if nothing was trained.
pub(super) fn curve(tables: &Tables) -> Option<Figure> {
    let rows = &tables.data.training;
    let mut runs = BTreeMap::<(String, u64), Vec<&TrainingRow>>::new();
    for row in rows {
        runs.entry((row.variant.clone(), row.seed)).or_default().push(row);
    }
    let highest =
        rows.iter().flat_map(|row| [Some(row.train_loss), row.eval_loss]).flatten().filter(|loss| loss.is_finite()).fold(0.0, f64::max);
    let last = rows.iter().map(|row| row.step).max()?;
    let title = "Training".to_owned();
    let mut scene = Scene::new(WIDTH, 400.0);
    let subtitle = "thin: loss of each step's rows; thick with marks: loss over the validation rows";
    let below = axis::title(&mut scene, &title, subtitle);
    let keys: Vec<(Key, String)> = runs.keys().map(|(variant, seed)| (key(variant), format!("{variant}, seed {seed}"))).collect();
    let top = axis::legend(&mut scene, &keys, below) + 4.0;
    let frame = Frame { left: 76.0, top, right: WIDTH - 30.0, bottom: scene.height - 54.0 };
    let x = Scale::linear((0.0, last as f64), (frame.left, frame.right));
    let y = Scale::linear((0.0, highest * 1.04), (frame.bottom, frame.top));
    frame.y_axis(&mut scene, &y, "cross-entropy (nats per token)", plain_tick);
    frame.x_axis(&mut scene, &x, "optimizer step", plain_tick);
    for ((variant, _), rows) in &runs {
        let losses = rows.iter().filter(|row| row.train_loss.is_finite());
        scene.line(losses.map(|row| (x.at(row.step as f64), y.at(row.train_loss))).collect(), lighter(run_color(variant)), 1.2);
    }
    for ((variant, _), rows) in &runs {
        evaluations(&mut scene, variant, rows, &x, &y);
    }
    let header = line!["variant", "seed", "step", "epoch", "train_loss", "eval_loss", "learning_rate"];
    let data = rows.iter().map(|row| {
        let eval = row.eval_loss.map_or(String::new(), |loss| loss.to_string());
        line![row.variant, row.seed, row.step, row.epoch, row.train_loss, eval, row.learning_rate]
    });
    let caption =
        "Loss over the tokens of the answer. A validation loss that rises while the training loss falls is over-fitting.".to_owned();
    Some(Figure { name: "training", title, caption, scene, data: std::iter::once(header).chain(data).collect() })
}

fn evaluations(scene: &mut Scene, variant: &str, rows: &[&TrainingRow], x: &Scale, y: &Scale) {
    let points: Vec<(f64, f64)> =
        rows.iter().filter_map(|row| Some((x.at(row.step as f64), y.at(row.eval_loss.filter(|loss| loss.is_finite())?)))).collect();
    if points.len() > 1 {
        scene.line(points.clone(), run_color(variant), 2.2);
    }
    let every = points.len().div_ceil(24).max(1);
    for point in points.iter().step_by(every) {
        match variant_named(variant) {
            Some(variant) => style::mark(scene, variant, *point, 4.0),
            None => scene.rect((point.0 - 3.0, point.1 - 3.0), (point.0 + 3.0, point.1 + 3.0), style::INK),
        }
    }
}

fn key(variant: &str) -> Key {
    variant_named(variant).map_or(Key::Patch(style::INK), Key::Variant)
}

fn run_color(variant: &str) -> Color {
    variant_named(variant).map_or(style::INK, color)
}

fn lighter(Color(red, green, blue): Color) -> Color {
    let half = |channel: u8| channel / 2 + 127;
    Color(half(red), half(green), half(blue))
}
