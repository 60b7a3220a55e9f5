//! What became of the questions: right, or lost and why.

use super::axis::{self, Frame, Key, Scale, percent_tick};
use super::scene::{Anchor, Color, Scene};
use super::style::LABEL_SIZE;
use super::{Figure, line};
use crate::report::format;
use crate::spec::VariantKind;
use crate::table::{Cause, Step, Tables};

const WIDTH: f64 = 820.0;

/// From good to bad; light where the reader is to blame, dark where retrieval is.
fn color(cause: Cause) -> Color {
    match cause {
        Cause::None => Color(0, 114, 178),
        Cause::WrongForm => Color(158, 202, 225),
        Cause::Misread => Color(253, 208, 162),
        Cause::NotUsed => Color(241, 163, 64),
        Cause::DidNotFit => Color(204, 121, 167),
        Cause::LostByIndex => Color(136, 34, 85),
        Cause::RankedBelow => Color(166, 54, 3),
        Cause::NotKnown => Color(189, 189, 189),
        Cause::Failed => Color(34, 34, 34),
    }
}

/// Name of a cause for people.
pub(in crate::report) fn label(cause: Cause) -> &'static str {
    match cause {
        Cause::None => "right",
        Cause::WrongForm => "right in another form",
        Cause::Misread => "another value of the passages",
        Cause::NotUsed => "not from the passages",
        Cause::DidNotFit => "passage did not fit",
        Cause::LostByIndex => "lost by the index",
        Cause::RankedBelow => "not among the passages",
        Cause::NotKnown => "not known without passages",
        Cause::Failed => "failed",
    }
}

/// One bar per variant; nothing if no question has an answer and relevance labels.
pub(super) fn causes(tables: &Tables) -> Option<Figure> {
    let n = tables.ladder.first()?.n;
    let variants: Vec<VariantKind> = tables.variants().into_iter().filter(|variant| !variant.is_predicted()).collect();
    let occurs =
        |cause: &Cause| variants.iter().any(|variant| tables.ladder_of(*variant, Step::Cause(*cause)).is_some_and(|count| count > 0.0));
    let shown: Vec<Cause> = Cause::ALL.into_iter().filter(occurs).collect();
    let title = "What became of the questions".to_owned();
    let mut scene = Scene::new(WIDTH, 400.0);
    let subtitle = format!(
        "{} questions with an answer and relevance labels, the same for every variant; the first thing that went wrong",
        format::count(n as f64)
    );
    let below = axis::title(&mut scene, &title, &subtitle);
    let keys: Vec<(Key, String)> = shown.iter().map(|cause| (Key::Patch(color(*cause)), label(*cause).to_owned())).collect();
    let top = axis::legend(&mut scene, &keys, below) + 4.0;
    scene.height = top + 38.0 * variants.len() as f64 + 56.0;
    let left = axis::label_space(variants.iter().map(|variant| variant.name()));
    let frame = Frame { left, top, right: WIDTH - 30.0, bottom: scene.height - 54.0 };
    let x = Scale::linear((0.0, 1.0), (frame.left, frame.right));
    frame.x_axis(&mut scene, &x, "share of these questions", percent_tick);
    let mut labels = Vec::new();
    for (index, variant) in variants.iter().enumerate() {
        let y = frame.top + 38.0 * (index as f64 + 0.5);
        labels.push((y, variant.name().to_owned()));
        let mut before = 0.0;
        for cause in &shown {
            let share = tables.ladder_of(*variant, Step::Cause(*cause)).unwrap_or(0.0) / n as f64;
            let (from, to) = (x.at(before), x.at(before + share));
            scene.rect((from, y - 12.0), (to, y + 12.0), color(*cause));
            if to - from > 34.0 {
                let Color(red, green, blue) = color(*cause);
                let dark = 0.3 * f64::from(red) + 0.59 * f64::from(green) + 0.11 * f64::from(blue) < 140.0;
                let ink = if dark { Color(255, 255, 255) } else { Color(34, 34, 34) };
                scene.text((f64::midpoint(from, to), y), &format!("{:.0}%", 100.0 * share), LABEL_SIZE, ink, Anchor::Middle);
            }
            before += share;
        }
    }
    frame.row_labels(&mut scene, &labels);
    let header = line!["variant", "cause", "questions", "n"];
    let data = tables.ladder.iter().filter(|row| matches!(row.step, Step::Cause(_)));
    let data = data.map(|row| line![row.variant.name(), row.step.name(), row.count.unwrap_or(0.0), row.n]);
    let caption = "Each question counts once, by the first thing that went wrong on its way: passage not among those given, lost by the index \
                   though exact search has it, not in the prompt, answer not from the passages, another value from them, right in another form."
        .to_owned();
    Some(Figure { name: "causes", title, caption, scene, data: std::iter::once(header).chain(data).collect() })
}
