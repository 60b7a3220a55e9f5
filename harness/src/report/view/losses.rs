//! Where answers are lost, what fine-tuning forgets, and whether the evidence behind answers can be shown.

use super::sections::{cell, heading, section};
use super::{Entry, Grid, Place, Section};
use crate::report::{format, slices};
use crate::spec::VariantKind;
use crate::table::{ALL, Metric, Rung, Step, Tables};

/// How far questions get with each variant, and what fine-tuning keeps and loses of what the base model knew.
pub(super) fn losses(tables: &Tables) -> Option<Section> {
    let grids: Vec<Grid> = [ladder(tables), flips(tables), forgetting(tables)].into_iter().flatten().collect();
    if grids.is_empty() {
        return None;
    }
    let mut text = Vec::new();
    if let Some(first) = tables.ladder.first() {
        text.push(format!(
            "The ladder counts the {} questions that have an answer and relevance labels, the same for every variant. “Used” means that the \
             answer stands in a passage of the prompt, “right” that it holds a reference, “well-formed” that it is one.",
            format::count(first.n as f64)
        ));
    }
    Some(section("losses", "Where answers are lost", false, text, grids))
}

/// What the audit found; nothing if there was none.
pub(super) fn explanation(tables: &Tables) -> Option<Section> {
    let metrics = ["explained", "grounded", "citation_precision", "citation_recall"];
    let metrics: Vec<&Metric> = metrics.iter().filter_map(|id| tables.scores.metrics.iter().find(|metric| metric.id == *id)).collect();
    if tables.data.audit.is_empty() {
        return None;
    }
    let flips = |variant: &VariantKind| {
        let rows: Vec<bool> =
            tables.data.audit.iter().filter(|row| row.variant == variant.name()).filter_map(|row| row.adapter_changes_answer).collect();
        let changed = rows.iter().filter(|changed| **changed).count();
        if rows.is_empty() { Entry::new("–") } else { Entry::new(format!("{changed} of {}", rows.len())) }
    };
    let row = |variant: &VariantKind| {
        let cells = metrics.iter().map(|metric| cell(tables.quality_of(*variant, ALL, &metric.id)));
        std::iter::once(Entry::new(variant.name())).chain(cells).chain([flips(variant)]).collect()
    };
    let grid = Grid {
        caption: "Can the evidence behind an answer be shown?".to_owned(),
        header: std::iter::once("variant".to_owned())
            .chain(metrics.iter().map(|metric| heading(metric)))
            .chain(["adapter off: answers changed".to_owned()])
            .collect(),
        rows: tables.variants().iter().filter(|variant| !variant.is_predicted()).map(row).collect(),
        place: Place::Page,
    };
    let text = "For some questions, each passage was left out in turn, and an adapter was switched off. An answer counts as explained when it \
                stands in evidence without which it is another one: a passage, or the training questions nearest to the question with their \
                answers. Examples that teach a rule without holding the answer do not count, which is strict towards fine-tuning. Citations \
                are the passages that change the answer, held against the relevance labels. Grounded is over all questions: the answer stands \
                in some passage of the prompt."
        .to_owned();
    Some(section("explanation", "Explanation audit", false, vec![text], vec![grid]))
}

fn ladder(tables: &Tables) -> Option<Grid> {
    let n = tables.ladder.first()?.n as f64;
    let names = [
        "known without passages",
        "in the corpus",
        "exact search finds it",
        "the index finds it",
        "in the prompt",
        "used",
        "right",
        "well-formed",
    ];
    let row = |variant: &VariantKind| {
        let cell = |rung: &Rung| {
            tables.ladder_of(*variant, Step::Rung(*rung)).map_or_else(
                || Entry::new("–"),
                |count| Entry::with(format!("{:.1}", 100.0 * count / n), format!("({})", format::count(count.round()))),
            )
        };
        std::iter::once(Entry::new(variant.name())).chain(Rung::ALL.iter().map(cell)).collect()
    };
    Some(Grid {
        caption: "How far questions get, %; – where the variant has no such step".to_owned(),
        header: std::iter::once("variant").chain(names).map(str::to_owned).collect(),
        rows: tables.variants().iter().filter(|variant| !variant.is_predicted()).map(row).collect(),
        place: Place::Page,
    })
}

/// Parts of the leading metric's score that two columns share, lose and gain, over the samples that both have.
struct Flips {
    both: f64,
    lost: f64,
    gained: f64,
    n: usize,
}

impl Flips {
    fn between(tables: &Tables, before: VariantKind, after: VariantKind, metric: &Metric, slice: Option<&str>) -> Option<Self> {
        let (before, after) = (tables.scores.column(before, &metric.id)?, tables.scores.column(after, &metric.id)?);
        let mut flips = Self { both: 0.0, lost: 0.0, gained: 0.0, n: 0 };
        let samples = &tables.data.samples;
        for index in 0..samples.len() {
            let inside = slice.is_none_or(|slice| samples.slices(index).iter().any(|(tag, value)| format!("{tag}={value}") == slice));
            let (Some(before), Some(after), true) = (before.get(index), after.get(index), inside) else { continue };
            flips.both += before.value.min(after.value);
            flips.lost += (before.value - after.value).max(0.0);
            flips.gained += (after.value - before.value).max(0.0);
            flips.n += 1;
        }
        (flips.n > 0).then_some(flips)
    }
}

/// Every variant against the baseline, question by question.
fn flips(tables: &Tables) -> Option<Grid> {
    let metric = tables.primary().filter(|metric| metric.unit == "share")?;
    let row = |variant: VariantKind| {
        let flips = Flips::between(tables, VariantKind::Baseline, variant, metric, None)?;
        let cell = |value: f64| Entry::with(format::count(value.round()), format!("({:.1}%)", 100.0 * value / flips.n as f64));
        let neither = flips.n as f64 - flips.both - flips.lost - flips.gained;
        Some(vec![Entry::new(variant.name()), cell(flips.both), cell(flips.lost), cell(flips.gained), cell(neither)])
    };
    let others = tables.variants().into_iter().filter(|variant| *variant != VariantKind::Baseline);
    let rows: Vec<Vec<Entry>> = others.filter_map(row).collect();
    (!rows.is_empty()).then(|| Grid {
        caption: format!("Against the baseline, question by question ({})", metric.label()),
        header: ["variant", "right in both", "lost", "gained", "wrong in both"].map(str::to_owned).to_vec(),
        rows,
        place: Place::Page,
    })
}

/// What the tuned weights still know of what the base weights knew, without passages, by slice.
fn forgetting(tables: &Tables) -> Option<Grid> {
    let metric = tables.primary().filter(|metric| metric.unit == "share")?;
    let slices: Vec<String> = slices::narrow(tables).into_iter().flat_map(|name| name.slices).collect();
    let row = |slice: Option<&str>| {
        let flips = Flips::between(tables, VariantKind::Baseline, VariantKind::Finetuned, metric, slice)?;
        let (before, after) = (flips.both + flips.lost, flips.both + flips.gained);
        let share =
            |value: f64| Entry::with(format!("{:.1}", 100.0 * value / flips.n as f64), format!("({})", format::count(value.round())));
        let kept = if before > 0.0 { Entry::new(format!("{:.0}%", 100.0 * flips.both / before)) } else { Entry::new("–") };
        Some(vec![Entry::new(slice.unwrap_or(ALL)), Entry::new(format::count(flips.n as f64)), share(before), share(after), kept])
    };
    let rows: Vec<Vec<Entry>> = std::iter::once(None).chain(slices.iter().map(|slice| Some(slice.as_str()))).filter_map(row).collect();
    (!rows.is_empty()).then(|| Grid {
        caption: format!("Does fine-tuning forget? {} without passages, %, before and after tuning", format::sentence(&metric.label())),
        header: ["slice", "n", "before", "after", "of those right before, still right"].map(str::to_owned).to_vec(),
        rows,
        place: Place::Page,
    })
}
