//! The results in sentences, and what weakens them. Nothing is called better unless its verdict says so.

use std::collections::BTreeSet;

use crate::cost::{BreakEven, Crossing, Currency, Ledger};
use crate::report::{format, slices};
use crate::spec::VariantKind;
use crate::stats::{Needed, Verdict};
use crate::table::{ALL, Adjustment, ContrastRow, Direction, Metric, Stage, Tables};

/// Clusters below which a bootstrap interval is too narrow.
const FEW_CLUSTERS: usize = 20;
const FEW_QUESTIONS: usize = 100;
/// Slice names that the words go into.
const NAMES_IN_WORDS: usize = 3;

/// The results, most important first.
pub(super) fn sentences(tables: &Tables, ledger: &Ledger) -> Vec<String> {
    let Some(metric) = tables.primary() else {
        return vec!["No answer metric was measured, so there is nothing to compare.".to_owned()];
    };
    let pairs = [("rag", "baseline"), ("finetuned", "baseline"), ("hybrid", "rag"), ("hybrid", "finetuned"), ("rag", "finetuned")];
    let effects =
        pairs.into_iter().filter_map(|(left, right)| tables.contrast_of(left, right, ALL, &metric.id)).map(|row| difference(tables, row));
    let by_slice = [("rag", "what retrieval adds"), ("finetuned", "what fine-tuning adds")]
        .into_iter()
        .filter_map(|(variant, what)| by_slice(tables, metric, variant, what));
    let given: Vec<&str> = tables.variants().into_iter().filter(|variant| variant.is_predicted()).map(VariantKind::name).collect();
    let is_shown = |row: &&ContrastRow| row.slice == ALL && row.metric.id == metric.id && given.contains(&row.left.as_str());
    let others: Vec<String> = tables.contrasts.iter().filter(is_shown).map(|row| difference(tables, row)).collect();
    let effects = effects.chain(interaction(tables, metric)).chain(others);
    ranking(tables, metric).into_iter().chain(effects).chain(by_slice).chain(time(tables)).chain(break_even(tables, ledger)).collect()
}

/// Every variant's score, the best first; which differences are more than luck, the next sentences say.
fn ranking(tables: &Tables, metric: &Metric) -> Option<String> {
    let mut rows: Vec<_> = tables.variants().into_iter().filter_map(|variant| tables.quality_of(variant, ALL, &metric.id)).collect();
    rows.sort_by(|left, right| match metric.direction {
        Direction::Higher => right.estimate.point.total_cmp(&left.estimate.point),
        Direction::Lower => left.estimate.point.total_cmp(&right.estimate.point),
    });
    let unit = if metric.unit == "share" { " in per cent" } else { "" };
    let n = format::count(rows.first()?.estimate.n as f64);
    let parts: Vec<String> = rows.iter().map(|row| format!("{} {}", row.variant.name(), format::estimate(&row.estimate, metric))).collect();
    Some(format!("{}{unit} over {n} questions, best first: {}.", format::sentence(&metric.label()), parts.join(", ")))
}

/// One difference in words.
fn difference(tables: &Tables, row: &ContrastRow) -> String {
    let (left, right, metric, estimate) = (&row.left, &row.right, &row.metric, &row.difference);
    let points = |value: f64| format::score(value.abs(), metric);
    let (size, range, label) = (format::signed(estimate.point, metric), interval(row), metric.label());
    let margin = || format::significant(tables.manifest().spec.contrasts.margin, 2);
    match row.verdict() {
        Verdict::Better | Verdict::Worse => {
            let (winner, loser) = if row.verdict() == Verdict::Better { (left, right) } else { (right, left) };
            let (low, high) =
                if estimate.point < 0.0 { (-estimate.ci_high, -estimate.ci_low) } else { (estimate.ci_low, estimate.ci_high) };
            let (low, high) = (format::score(low, metric), format::score(high, metric));
            format!("{winner} beats {loser} by {} points of {label} ({low} to {high}; {}).", points(estimate.point), p_value(row))
        }
        Verdict::Equivalent => {
            format!("{left} and {right} are equivalent within {} points of {label}: {size} {range}.", margin())
        }
        Verdict::Inconclusive => {
            format!("Inconclusive between {left} and {right}: {size} points of {label} {range}.{}", outlook(row))
        }
    }
}

/// `p = 0.003 after Holm`.
pub(super) fn p_value(row: &ContrastRow) -> String {
    let by = match row.adjustment {
        Adjustment::Holm => "Holm",
        Adjustment::BenjaminiHochberg => "Benjamini-Hochberg",
    };
    format!("{} after {by}", format::p_value(row.p_adjusted))
}

/// What an inconclusive difference could have been, and what it would take.
fn outlook(row: &ContrastRow) -> String {
    let metric = &row.metric;
    let detectable =
        row.judgement.detectable.map(|effect| format!(" Only {} points or more would have shown.", format::score(effect, metric)));
    let needed = row.judgement.needed.map(|needed| {
        let effect = format::score(needed.effect, metric);
        format!(" To tell {effect} points would take about {}.", in_questions(&needed, row))
    });
    detectable.into_iter().chain(needed).collect()
}

/// `1,700 questions of 420 documents`, with trainings where they are short.
pub(super) fn in_questions(needed: &Needed, row: &ContrastRow) -> String {
    let is_clustered = row.comparison.clusters < row.difference.n;
    let clusters = if is_clustered { format!(" in {} clusters", format::count(needed.clusters)) } else { String::new() };
    let trainings = if needed.seeds > row.trainings.max(1) { format!(" and {} training seeds", needed.seeds) } else { String::new() };
    format!("{} questions{clusters}{trainings}", format::large(needed.questions))
}

/// Whether the two factors add up.
fn interaction(tables: &Tables, metric: &Metric) -> Option<String> {
    let row = tables.contrast_of("hybrid-rag", "finetuned-baseline", ALL, &metric.id)?;
    let (size, range) = (format::signed(row.difference.point, metric), interval(row));
    let odds = tables.interaction_in_log_odds(ALL, &metric.id);
    let in_odds = odds.map_or(String::new(), |row| {
        let of = |value: f64| format!("{value:+.2}");
        let estimate = &row.difference;
        format!("; in log-odds {} ({} to {})", of(estimate.point), of(estimate.ci_low), of(estimate.ci_high))
    });
    let is_positive = (row.difference.point > 0.0) == (metric.direction == Direction::Higher);
    let words = match row.verdict() {
        Verdict::Better | Verdict::Worse if is_positive => {
            "Fine-tuning adds more on top of retrieval than alone: the two help each other".to_owned()
        }
        Verdict::Better | Verdict::Worse => {
            let is_ceiling = odds.is_some_and(|row| row.verdict() != Verdict::Worse);
            let why = if is_ceiling {
                "in log-odds that is not so, little room being left above retrieval"
            } else {
                "they partly do the same work"
            };
            format!("Fine-tuning adds less on top of retrieval than alone: {why}")
        }
        Verdict::Equivalent => "Fine-tuning adds on top of retrieval what it adds alone".to_owned(),
        Verdict::Inconclusive => "Whether fine-tuning adds as much on top of retrieval as alone is inconclusive".to_owned(),
    };
    let outlook = if row.verdict() == Verdict::Inconclusive { outlook(row) } else { String::new() };
    Some(format!("{words} (interaction {size} points {range}{in_odds}).{outlook}"))
}

pub(super) fn interval(row: &ContrastRow) -> String {
    let of = |value| format::signed(value, &row.metric);
    format!("({} to {})", of(row.difference.ci_low), of(row.difference.ci_high))
}

/// Where an effect is shown and where not, over the first slice names that are not wide.
fn by_slice(tables: &Tables, metric: &Metric, variant: &str, what: &str) -> Option<String> {
    let slices = slices::shown(tables).into_iter().take(NAMES_IN_WORDS).flat_map(|name| name.slices);
    let rows: Vec<&ContrastRow> = slices.filter_map(|slice| tables.contrast_of(variant, "baseline", &slice, &metric.id)).collect();
    let (hidden, shown): (Vec<&ContrastRow>, Vec<&ContrastRow>) = rows.into_iter().partition(|row| row.verdict() == Verdict::Inconclusive);
    let part = |row: &&ContrastRow| {
        let note = if row.verdict() == Verdict::Equivalent { ", equivalent" } else { "" };
        format!("{} {} {}{note}", row.slice, format::signed(row.difference.point, metric), interval(row))
    };
    let shown = (!shown.is_empty()).then(|| shown.iter().map(part).collect::<Vec<_>>().join("; "));
    let hidden = (!hidden.is_empty())
        .then(|| format!("inconclusive in {}", hidden.iter().map(|row| row.slice.as_str()).collect::<Vec<_>>().join(", ")));
    let parts: Vec<String> = shown.into_iter().chain(hidden).collect();
    (!parts.is_empty()).then(|| format!("By slice, {what} over the baseline, in points: {}.", parts.join("; ")))
}

fn time(tables: &Tables) -> Option<String> {
    let of = |variant: VariantKind| tables.latency_of(variant, Stage::E2e).map(|row| row.p50.point);
    let base = of(VariantKind::Baseline)?;
    let others = tables.variants().into_iter().filter(|variant| *variant != VariantKind::Baseline);
    let parts: Vec<String> = others
        .filter_map(|variant| {
            let time = of(variant)?;
            Some(format!("{} {} ({} times)", variant.name(), format::duration(time / 1e3), format::significant(time / base, 2)))
        })
        .collect();
    (!parts.is_empty()).then(|| format!("Median time per query: baseline {}; {}.", format::duration(base / 1e3), parts.join(", ")))
}

fn break_even(tables: &Tables, ledger: &Ledger) -> Option<String> {
    let (rag, tuned) = (ledger.line(VariantKind::Rag, Currency::Money)?, ledger.line(VariantKind::Finetuned, Currency::Money)?);
    if !ledger.is_priced() {
        return None;
    }
    let crossing = ledger.crossing(tables, VariantKind::Finetuned, VariantKind::Rag, Currency::Money)?;
    let spec = &tables.manifest().spec.cost;
    let (currency, horizon) = (&spec.currency, spec.horizon_queries as f64);
    let (rag, tuned) = (format::money(rag.setup), format::money(tuned.setup));
    let words = pair(VariantKind::Finetuned, VariantKind::Rag, &crossing, horizon);
    Some(format!("Setting up costs {rag} {currency} for rag and {tuned} {currency} for finetuned; {words}."))
}

/// A break-even in words, with its interval; one past the number of questions that the spec looks ahead to is called so.
pub(super) fn pair(left: VariantKind, right: VariantKind, crossing: &Crossing, horizon: f64) -> String {
    let never = |queries: f64| if queries.is_finite() { format::large(queries) } else { "never".to_owned() };
    let words = outcome(left, right, crossing.outcome, horizon);
    match crossing.interval {
        Some((low, high)) if crossing.is_shown => format!("{words} ({} to {})", never(low), never(high)),
        Some((low, _)) => {
            format!(
                "{words} by what was measured: no difference per question was shown, and set-up may be paid off from {} questions on or never",
                never(low)
            )
        }
        None => words,
    }
}

fn outcome(left: VariantKind, right: VariantKind, outcome: BreakEven, horizon: f64) -> String {
    let (left, right) = (left.name(), right.name());
    let questions = |queries: f64| {
        let far = if queries > 10.0 * horizon { "far past" } else { "past" };
        let note = if queries > horizon { format!(", {far} the {} of the cost figure", format::large(horizon)) } else { String::new() };
        format!("{} questions{note}", format::large(queries))
    };
    match outcome {
        BreakEven::AlwaysCheaper => format!("{left} is always cheaper than {right}"),
        BreakEven::NeverCheaper => format!("{left} is never cheaper than {right}"),
        BreakEven::CheaperBeyond(queries) if queries > horizon => {
            format!("{left} is cheaper than {right} only beyond {}", questions(queries))
        }
        BreakEven::CheaperBeyond(queries) => format!("{left} is cheaper than {right} beyond {}", questions(queries)),
        BreakEven::CheaperUpTo(queries) => format!("{left} is cheaper than {right} up to {}", questions(queries)),
        BreakEven::Equal => format!("{left} and {right} cost the same"),
    }
}

/// What variants have in common.
fn same_but(tables: &Tables) -> String {
    let (given, own): (Vec<VariantKind>, Vec<VariantKind>) = tables.variants().into_iter().partition(|variant| variant.is_predicted());
    let same = "is the same model with the same prompt template, decoding and questions; only retrieval and fine-tuning differ.";
    if given.is_empty() {
        return format!("Every variant {same}");
    }
    let names: Vec<&str> = given.into_iter().map(VariantKind::name).collect();
    let others = format!("{} answered the same questions elsewhere and may differ in everything else.", names.join(", "));
    if own.is_empty() { others } else { format!("Every variant answered here {same} {others}") }
}

/// How to read the report.
pub(super) fn reading(tables: &Tables) -> Vec<String> {
    let spec = &tables.manifest().spec;
    let level = spec.measure.confidence * 100.0;
    vec![
        same_but(tables),
        format!(
            "Figures in brackets are {level:.0}% intervals from {} resamples of whole clusters of questions.",
            format::count(spec.measure.bootstrap_resamples as f64)
        ),
        format!(
            "“Better” and “worse” are significant at {:.0}% after Holm's adjustment for the declared differences (Benjamini and Hochberg's for \
             slices); “equivalent” is shown to lie within {} points; “inconclusive” is none of these and does not mean equal.",
            spec.contrasts.alpha * 100.0,
            format::significant(spec.contrasts.margin, 2)
        ),
        "A question that failed counts as wrong and stays in n; what was not measured is called so and is never a zero.".to_owned(),
        "Times are of one query at a time on the machine named below; money follows from them by the prices in the spec.".to_owned(),
    ]
}

/// What a reader must know before the results: what the run and its files say against themselves.
pub(super) fn notes(tables: &Tables) -> Vec<String> {
    let manifest = tables.manifest();
    let mut caveats = manifest.caveats.clone();
    caveats.extend(tables.data.notes.iter().cloned());
    let mentions = |caveats: &[String], word: &str| caveats.iter().any(|caveat| caveat.contains(word));
    let is_tuned = tables.variants().iter().any(|variant| variant.is_tuned());
    if is_tuned && manifest.spec.seeds.len() == 1 && !mentions(&caveats, "seed") {
        caveats.push("one training seed: the intervals of tuned variants do not hold the luck of training".to_owned());
    }
    if manifest.spec.dataset.limit > 0 && !mentions(&caveats, "limit") {
        caveats.push(format!("limited run: only {} test questions were drawn", manifest.spec.dataset.limit));
    }
    if super::latency::is_noisy(tables) {
        caveats.extend(super::latency::quiet(tables));
    }
    caveats
}

/// What weakens the results, counted from the answers.
pub(super) fn caveats(tables: &Tables) -> Vec<String> {
    let mut caveats = Vec::new();
    let samples = &tables.data.samples;
    let clusters: BTreeSet<&str> = (0..samples.len()).map(|index| samples.cluster_id(index)).collect();
    if samples.len() < FEW_QUESTIONS {
        caveats.push(format!("few test questions ({}): only large differences can be told from luck", samples.len()));
    }
    if clusters.len() < FEW_CLUSTERS {
        caveats.push(format!(
            "few clusters ({}): the intervals of single scores are too narrow; differences go by Student's t",
            clusters.len()
        ));
    }
    for variant in tables.variants() {
        let share = |metric: &str| tables.quality_of(variant, ALL, metric).map_or(0.0, |row| row.estimate.point);
        let failed = tables.primary().and_then(|metric| tables.quality_of(variant, ALL, &metric.id)).map_or(0, |row| row.n_failed);
        let mut note = |is: bool, text: String| {
            if is {
                caveats.push(format!("{}: {text}", variant.name()));
            }
        };
        note(failed > 0, format!("questions that failed and count as wrong: {failed} ({})", reasons(tables, variant)));
        note(
            share("context_cut") > 0.0,
            format!("passages were left out in {:.1}% of prompts because they did not fit", share("context_cut") * 100.0),
        );
        note(share("answer_cut") > 0.05, format!("{:.1}% of answers ended at the token limit", share("answer_cut") * 100.0));
    }
    if let Some(index) = tables.manifest().index.as_ref().filter(|index| index.unreachable > 0) {
        caveats.push(format!(
            "{} of {} passages cannot be reached by any search of the index",
            index.unreachable,
            format::count(index.chunks as f64)
        ));
    }
    caveats
}

/// The commonest errors of a variant, with their numbers.
fn reasons(tables: &Tables, variant: VariantKind) -> String {
    const SHOWN: usize = 3;
    let mut counts: Vec<(&str, usize)> = tables.data.errors(variant).collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let shown = counts.iter().take(SHOWN).map(|(error, count)| format!("{count} × {}", format::shortened(error, 120)));
    shown.collect::<Vec<_>>().join("; ")
}

/// What this benchmark cannot tell, whatever the run.
pub(super) fn limits() -> Vec<String> {
    [
        "It judges one model, one corpus and one prompt template. Another model may rank the variants otherwise.",
        "Answers are compared with references by their words. A right answer in other words may count as wrong, and fluency is not judged.",
        "Times are those of one machine without other load; a server that batches many users has others.",
        "Prices are the ones in the spec, and so are the minutes of people's work; nothing is charged for what the spec sets to zero.",
        "A set that is public may have been in the model's pre-training; then the baseline knows more than it should.",
    ]
    .map(str::to_owned)
    .to_vec()
}
