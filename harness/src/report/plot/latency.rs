//! Figures of time: the distribution per variant, and its parts.

use super::axis::{self, Frame, Key, Scale, percent_tick, plain_tick};
use super::scene::{Anchor, Scene};
use super::style::{INK, LABEL_SIZE, color, mark, stage_color};
use super::{Figure, line};
use crate::report::format;
use crate::spec::VariantKind;
use crate::table::{Stage, Tables, milliseconds};

const WIDTH: f64 = 680.0;

/// Variants but those whose times were taken elsewhere.
pub(super) fn timed_here(tables: &Tables) -> impl Iterator<Item = VariantKind> {
    tables.variants().into_iter().filter(|variant| !variant.is_predicted())
}

/// Sorted times of every variant that was timed.
fn sorted_times(tables: &Tables) -> Vec<(VariantKind, Vec<f64>)> {
    let times = timed_here(tables).map(|variant| {
        let mut times: Vec<f64> = milliseconds(&tables.data, variant, Stage::E2e).0.into_values().collect();
        times.sort_by(f64::total_cmp);
        (variant, times)
    });
    times.filter(|(_, times)| !times.is_empty()).collect()
}

/// Share of queries answered within a time.
pub(super) fn ecdf(tables: &Tables) -> Option<Figure> {
    let curves = sorted_times(tables);
    let n = curves.iter().map(|(_, times)| times.len()).max()?;
    let title = "Time per query".to_owned();
    let mut scene = Scene::new(WIDTH, 400.0);
    let machine = &tables.manifest().machine;
    let subtitle =
        format!("{}, {} threads; {n} questions per variant, one at a time; mark: median", machine.computes_on(), machine.threads);
    let below = axis::title(&mut scene, &title, &subtitle);
    let keys: Vec<(Key, String)> = curves.iter().map(|(variant, _)| (Key::Variant(*variant), variant.name().to_owned())).collect();
    let top = axis::legend(&mut scene, &keys, below) + 4.0;
    let frame = Frame { left: 76.0, top, right: WIDTH - 30.0, bottom: scene.height - 54.0 };
    let slowest = curves.iter().filter_map(|(_, times)| times.last()).copied().fold(0.0, f64::max);
    let x = Scale::linear((0.0, slowest * 1.04), (frame.left, frame.right));
    let y = Scale::linear((0.0, 1.0), (frame.bottom, frame.top));
    frame.y_axis(&mut scene, &y, "share of queries answered", percent_tick);
    frame.x_axis(&mut scene, &x, "time from question to last token (ms)", plain_tick);
    for (variant, times) in &curves {
        scene.line(steps(times, &x, &y), color(*variant), 2.0);
    }
    for (variant, times) in &curves {
        let middle = crate::stats::quantile(times, 0.5)?;
        mark(&mut scene, *variant, (x.at(middle), y.at(0.5)), 5.0);
    }
    let header = line!["variant", "e2e_ms", "share_answered"];
    let points = curves.iter().flat_map(|(variant, times)| {
        times.iter().enumerate().map(move |(index, time)| line![variant.name(), time, (index + 1) as f64 / times.len() as f64])
    });
    let caption = "Empirical distribution of the time per query. A curve further left answers sooner; a long flat end is a slow tail.";
    let data = std::iter::once(header).chain(points).collect();
    Some(Figure { name: "latency", title, caption: caption.to_owned(), scene, data })
}

fn steps(times: &[f64], x: &Scale, y: &Scale) -> Vec<(f64, f64)> {
    let mut points = Vec::with_capacity(times.len() * 2);
    for (index, time) in times.iter().enumerate() {
        let share = |count: usize| y.at(count as f64 / times.len() as f64);
        points.push((x.at(*time), share(index)));
        points.push((x.at(*time), share(index + 1)));
    }
    points
}

/// Mean time of the stages, stacked.
pub(super) fn stages(tables: &Tables) -> Option<Figure> {
    let mean = |variant, stage| tables.latency_of(variant, stage).map_or(0.0, |row| row.mean.point);
    let variants: Vec<VariantKind> = timed_here(tables).filter(|variant| tables.latency_of(*variant, Stage::E2e).is_some()).collect();
    let parts = tables.stages();
    let total = |variant: &VariantKind| parts.iter().map(|stage| mean(*variant, *stage)).sum::<f64>();
    let slowest = variants.iter().map(total).fold(0.0, f64::max);
    if variants.is_empty() || slowest <= 0.0 {
        return None;
    }
    let title = "Where the time goes".to_owned();
    let mut scene = Scene::new(WIDTH, 158.0 + 38.0 * variants.len() as f64);
    let below = axis::title(&mut scene, &title, "mean time per stage of a query; the figure at the end is their sum");
    let keys: Vec<(Key, String)> = parts.iter().map(|stage| (Key::Patch(stage_color(*stage)), stage.name().to_owned())).collect();
    let top = axis::legend(&mut scene, &keys, below) + 4.0;
    let left = axis::label_space(variants.iter().map(|variant| variant.name()));
    let frame = Frame { left, top, right: WIDTH - 90.0, bottom: scene.height - 54.0 };
    let x = Scale::linear((0.0, slowest), (frame.left, frame.right));
    frame.x_axis(&mut scene, &x, "mean time per query (ms)", plain_tick);
    let height = (frame.bottom - frame.top) / variants.len() as f64;
    let mut labels = Vec::new();
    for (index, variant) in variants.iter().enumerate() {
        let y = frame.top + (index as f64 + 0.5) * height;
        let mut end = 0.0;
        for &stage in &parts {
            let start = end;
            end += mean(*variant, stage);
            scene.rect((x.at(start), y - height * 0.3), (x.at(end), y + height * 0.3), stage_color(stage));
        }
        scene.text((x.at(end) + 8.0, y), &format!("{} ms", format::significant(end, 3)), LABEL_SIZE, INK, Anchor::Start);
        labels.push((y, variant.name().to_owned()));
    }
    frame.row_labels(&mut scene, &labels);
    let header = line!["variant", "stage", "mean_ms"];
    let cell = |variant: &VariantKind, stage: &Stage| line![variant.name(), stage.name(), mean(*variant, *stage)];
    let cells = variants.iter().flat_map(|variant| parts.iter().map(move |stage| cell(variant, stage)));
    let more = if parts.len() > 5 { "searching by words (lexical), reading the candidates again (rerank), " } else { "" };
    let caption = format!(
        "Mean time per stage: embedding the question, searching the index, {more}building the prompt, reading it (prefill), writing the \
         answer (decode). A stage too thin to see costs next to nothing."
    );
    let data = std::iter::once(header).chain(cells).collect();
    Some(Figure { name: "stages", title, caption, scene, data })
}
