//! What a model learnt during its pre-training: reading, memory, and the loss.

use super::axis::{self, Frame, Key, Scale, percent_tick, plain_tick};
use super::scene::{Anchor, Color, Scene};
use super::style::{INK, LABEL_SIZE, Mark, SOFT};
use super::{Figure, line};
use crate::finetune::TrainingRow;
use crate::finetune::pretrain_evaluation::Evaluation;

const WIDTH: f64 = 820.0;
/// Room for the names of the curves at their ends.
const NAMES: f64 = 210.0;
/// Least distance between two names.
const LINE: f64 = 16.0;
/// Okabe and Ito's colours, and marks so that colour is not needed.
const STYLES: [(Color, Mark); 12] = [
    (Color(0, 114, 178), Mark::Circle),
    (Color(213, 94, 0), Mark::Square),
    (Color(0, 158, 115), Mark::Triangle),
    (Color(204, 121, 167), Mark::Diamond),
    (Color(77, 77, 77), Mark::Wedge),
    (Color(230, 159, 0), Mark::Pentagon),
    (Color(86, 180, 233), Mark::Star),
    (Color(0, 114, 178), Mark::Square),
    (Color(213, 94, 0), Mark::Circle),
    (Color(0, 158, 115), Mark::Diamond),
    (Color(204, 121, 167), Mark::Wedge),
    (Color(77, 77, 77), Mark::Star),
];

/// One curve: its name in figures and its key in the evaluations.
type Curve = (String, String);

const READING: [(&str, &str); 8] = [
    ("1 passage", "read_1"),
    ("2 passages", "read_2"),
    ("4 passages", "read_4"),
    ("4, near names", "read_4_near"),
    ("4, held-out wording", "read_4_held_out"),
    ("4, invented names", "names_4"),
    ("4, by another name", "alias_4"),
    ("4, not stated", "unstated_4"),
];

const REASONING: [(&str, &str); 4] = [
    ("1 of 4 passages", "read_4"),
    ("from value to name", "inverse_4"),
    ("over two passages", "multi_hop_4"),
    ("which is higher", "compare_4"),
];

/// The figures of a pre-training: `reading`, `reasoning`, `memory` and `loss`; each only if there is something to draw.
pub fn pretraining(evaluations: &[Evaluation], steps: &[TrainingRow]) -> Vec<Figure> {
    let owned = |curves: &[(&str, &str)]| -> Vec<Curve> { curves.iter().map(|(name, key)| ((*name).into(), (*key).into())).collect() };
    let reading = curves(
        "pretrain-reading",
        "What it reads",
        "questions about passages with names that pre-training never uses",
        "Part of the questions answered exactly, by kind of question, during pre-training.",
        &owned(&READING),
        evaluations,
    );
    let reasoning = curves(
        "pretrain-reasoning",
        "What it concludes",
        "questions about four passages that ask for more than a stated fact",
        "Part of the questions answered exactly, by kind of question, during pre-training.",
        &owned(&REASONING),
        evaluations,
    );
    let memory = curves(
        "pretrain-memory",
        "What it remembers",
        "questions without passages, by how often and how pre-training shows the fact",
        "Part of the questions answered exactly without any passage.",
        &memory(evaluations),
        evaluations,
    );
    [reading, reasoning, memory, loss(steps)].into_iter().flatten().collect()
}

/// A curve for every stratum that is shown more than once, and one for what is never shown.
fn memory(evaluations: &[Evaluation]) -> Vec<Curve> {
    let keys = evaluations.last().into_iter().flat_map(|row| row.exact_match.keys());
    let strata = keys.filter_map(|key| {
        let (times, wordings) = key.strip_prefix("recall_")?.split_once('_')?;
        Some((times.parse::<u64>().ok()?, wordings, key))
    });
    let mut strata: Vec<(u64, &str, &String)> = strata.filter(|(times, ..)| *times > 1).collect();
    strata.sort_by(|left, right| right.0.cmp(&left.0).then(left.1.cmp(right.1)));
    let name = |wordings: &str| match wordings {
        "asked" => "asked".to_owned(),
        "one" => "one wording".to_owned(),
        other => format!("{other} wordings"),
    };
    let shown = strata.into_iter().map(|(times, wordings, key)| (format!("{times} x, {}", name(wordings)), key.clone()));
    shown.chain([("never shown".to_owned(), "fresh".to_owned())]).collect()
}

fn curves(name: &'static str, title: &str, subtitle: &str, caption: &str, curves: &[Curve], evaluations: &[Evaluation]) -> Option<Figure> {
    let last = evaluations.last()?;
    let shown: Vec<(usize, &Curve)> = curves.iter().enumerate().filter(|(_, (_, key))| last.exact_match.contains_key(key)).collect();
    if shown.is_empty() {
        return None;
    }
    let mut scene = Scene::new(WIDTH, 460.0);
    let subtitle = format!("{subtitle}; {} questions a point, {} at the end", evaluations[0].questions, last.questions);
    let top = axis::title(&mut scene, title, &subtitle) + 12.0;
    let frame = Frame { left: 76.0, top, right: WIDTH - NAMES, bottom: scene.height - 54.0 };
    let x = Scale::linear((0.0, last.step as f64), (frame.left, frame.right));
    let y = Scale::linear((0.0, 1.0), (frame.bottom, frame.top));
    frame.y_axis(&mut scene, &y, "exact match", percent_tick);
    frame.x_axis(&mut scene, &x, "optimizer step", plain_tick);
    let mut ends = Vec::new();
    for (index, (label, key)) in shown {
        let (color, mark) = STYLES[index % STYLES.len()];
        let at = |row: &Evaluation| Some((x.at(row.step as f64), y.at(*row.exact_match.get(key)?)));
        let points: Vec<(f64, f64)> = evaluations.iter().filter_map(at).collect();
        scene.line(points.clone(), color, 1.8);
        for &point in &points {
            mark.draw(&mut scene, color, point, 3.6);
        }
        if let Some(&(_, height)) = points.last() {
            ends.push((height, format!("{label} {:.0}%", 100.0 * last.exact_match[key]), color, mark));
        }
    }
    names(&mut scene, ends, frame);
    let header = line!["step", "questions", "kind", "exact_match"];
    let data = evaluations.iter().flat_map(|row| {
        let cells = curves.iter().filter_map(|(_, key)| Some((key, row.exact_match.get(key)?)));
        cells.map(|(key, share)| line![row.step, row.questions, key, share]).collect::<Vec<_>>()
    });
    let data = std::iter::once(header).chain(data).collect();
    Some(Figure { name, title: title.to_owned(), caption: caption.to_owned(), scene, data })
}

/// The curves' names at their ends, in order of height and moved apart where they would overlap.
fn names(scene: &mut Scene, mut ends: Vec<(f64, String, Color, Mark)>, frame: Frame) {
    ends.sort_by(|left, right| left.0.total_cmp(&right.0));
    let mut heights: Vec<f64> = ends.iter().map(|end| end.0).collect();
    for index in 1..heights.len() {
        heights[index] = heights[index].max(heights[index - 1] + LINE);
    }
    // What was pushed out below goes back up.
    let mut floor = frame.bottom;
    for height in heights.iter_mut().rev() {
        *height = height.min(floor);
        floor = *height - LINE;
    }
    for ((from, name, color, mark), height) in ends.into_iter().zip(heights) {
        scene.line(vec![(frame.right + 4.0, from), (frame.right + 16.0, height)], SOFT, 0.8);
        mark.draw(scene, color, (frame.right + 24.0, height), 4.0);
        scene.text((frame.right + 34.0, height), &name, LABEL_SIZE, INK, Anchor::Start);
    }
}

/// The loss of every step, and its mean over a hundred of them.
fn loss(steps: &[TrainingRow]) -> Option<Figure> {
    const WINDOW: usize = 100;
    let losses: Vec<(u64, f64)> = steps.iter().filter(|row| row.train_loss.is_finite()).map(|row| (row.step, row.train_loss)).collect();
    let last = losses.last()?.0;
    let highest = losses.iter().map(|(_, loss)| *loss).fold(0.0, f64::max);
    let title = "Loss of pre-training".to_owned();
    let mut scene = Scene::new(WIDTH, 400.0);
    let below = axis::title(&mut scene, &title, "a jump is a new stage of the curriculum, with other questions");
    let keys =
        [(Key::Patch(Color(176, 196, 222)), "a step's rows".to_owned()), (Key::Patch(STYLES[0].0), format!("mean of {WINDOW} steps"))];
    let top = axis::legend(&mut scene, &keys, below) + 4.0;
    let frame = Frame { left: 76.0, top, right: WIDTH - 30.0, bottom: scene.height - 54.0 };
    let x = Scale::linear((0.0, last as f64), (frame.left, frame.right));
    let y = Scale::linear((0.0, highest * 1.04), (frame.bottom, frame.top));
    frame.y_axis(&mut scene, &y, "cross-entropy (nats per weighted token)", plain_tick);
    frame.x_axis(&mut scene, &x, "optimizer step", plain_tick);
    let at = |&(step, loss): &(u64, f64)| (x.at(step as f64), y.at(loss));
    scene.line(losses.iter().map(at).collect(), Color(176, 196, 222), 0.7);
    let mean = |window: &[(u64, f64)]| (window[window.len() / 2].0, window.iter().map(|(_, loss)| loss).sum::<f64>() / window.len() as f64);
    scene.line(losses.chunks(WINDOW).map(mean).map(|point| at(&point)).collect(), STYLES[0].0, 2.0);
    let header = line!["step", "train_loss"];
    let data = std::iter::once(header).chain(losses.iter().map(|(step, loss)| line![step, loss])).collect();
    let caption = "Weighted cross-entropy over answers, with a little weight on questions and repeated names.".to_owned();
    Some(Figure { name: "pretrain-loss", title, caption, scene, data })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn evaluation(step: u64, share: f64) -> Evaluation {
        let exact_match = ["read_1", "read_4", "recall_10_asked", "recall_1_one", "fresh"].map(|key| (key.to_owned(), share));
        Evaluation { step, questions: 10, exact_match: BTreeMap::from(exact_match) }
    }

    #[test]
    fn curves_are_drawn_for_what_was_evaluated_and_their_names_stay_apart() {
        let figures = pretraining(&[evaluation(10, 0.2), evaluation(20, 0.9)], &[]);
        assert_eq!(
            figures.iter().map(|figure| figure.name).collect::<Vec<_>>(),
            ["pretrain-reading", "pretrain-reasoning", "pretrain-memory"]
        );
        assert_eq!(figures[0].data.len(), 1 + 4);
        let heights: Vec<f64> = figures[0]
            .scene
            .shapes
            .iter()
            .filter_map(|shape| match shape {
                super::super::scene::Shape::Text { at, text, .. } if text.ends_with("90%") => Some(at.1),
                _ => None,
            })
            .collect();
        assert!(heights.len() == 2 && (heights[0] - heights[1]).abs() >= LINE, "{heights:?}");
        let named = |name: &str| {
            figures[2]
                .scene
                .shapes
                .iter()
                .any(|shape| matches!(shape, super::super::scene::Shape::Text { text, .. } if text.starts_with(name)))
        };
        assert!(named("10 x, asked 90%") && named("never shown 90%") && !named("1 x"));
        assert!(pretraining(&[], &[]).is_empty());
    }
}
