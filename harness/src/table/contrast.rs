//! Paired differences between variants, with tests, verdicts, and what a verdict would take.
//!
//! The differences are declared: they do not depend on what was found. Those of the leading metric over all questions are one family, whose
//! p-values are adjusted by Holm's procedure. Everything else is exploratory: slices, and other metrics, each by Benjamini and Hochberg's
//! procedure within its metric.

use std::collections::BTreeMap;

use super::input::RunData;
use super::metric::{Direction, Kind, Metric, SHARE};
use super::quality::{ALL, Slice};
use super::score::{BySeed, Column, Scored, Scores};
use crate::spec::{ContextSource, VariantKind};
use crate::stats::{Comparison, Components, Estimate, Judgement, Rule, Values, Verdict, benjamini_hochberg, holm};

/// Scale of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scale {
    /// Of the scores themselves.
    Additive,
    /// Of log-odds, for the interaction: what is left near 0 and 1 counts there.
    LogOdds,
}

impl Scale {
    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Additive => "additive",
            Self::LogOdds => "log_odds",
        }
    }
}

/// How p-values were adjusted for the number of differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adjustment {
    /// Holm: a declared family.
    Holm,
    /// Benjamini and Hochberg: exploratory.
    BenjaminiHochberg,
}

impl Adjustment {
    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Holm => "holm",
            Self::BenjaminiHochberg => "bh",
        }
    }

    /// The p-values, adjusted.
    fn of(self, p: &[f64]) -> Vec<f64> {
        match self {
            Self::Holm => holm(p),
            Self::BenjaminiHochberg => benjamini_hochberg(p),
        }
    }
}

/// One line of the contrasts: a mean paired difference.
#[derive(Debug, Clone, PartialEq)]
pub struct ContrastRow {
    /// What is subtracted from: a variant, or `hybrid-rag` in the interaction.
    pub left: String,
    /// What is subtracted.
    pub right: String,
    /// As in [`super::QualityRow::slice`].
    pub slice: String,
    /// The metric.
    pub metric: Metric,
    /// What the difference is in.
    pub scale: Scale,
    /// Mean over samples that both sides answered, left minus right.
    pub difference: Estimate,
    /// Samples among them of which a row failed.
    pub n_failed: usize,
    /// The difference with its error and p, not adjusted.
    pub comparison: Comparison,
    /// p adjusted for the differences it is read with.
    pub p_adjusted: f64,
    /// By which procedure.
    pub adjustment: Adjustment,
    /// Adjusted p of a difference beyond the margin; nothing if no margin applies.
    pub p_equivalence: Option<f64>,
    /// The verdict on the left side.
    pub judgement: Judgement,
    /// Trainings behind the tuned side; none if neither side is tuned.
    pub trainings: usize,
}

impl ContrastRow {
    /// Whether the left side is better.
    pub fn verdict(&self) -> Verdict {
        self.judgement.verdict
    }
}

/// The differences that a run declares before it starts: effects of either factor with and without the other, and retrieval against
/// fine-tuning. Answers of another system are held against every variant that is no control, and against those of the systems before it.
const PAIRS: [(VariantKind, VariantKind); 5] = [
    (VariantKind::Rag, VariantKind::Baseline),
    (VariantKind::Finetuned, VariantKind::Baseline),
    (VariantKind::Hybrid, VariantKind::Rag),
    (VariantKind::Hybrid, VariantKind::Finetuned),
    (VariantKind::Rag, VariantKind::Finetuned),
];

/// The interaction's variants with their signs: what fine-tuning adds on top of retrieval, less what it adds alone.
const SQUARE: [(VariantKind, f64); 4] =
    [(VariantKind::Hybrid, 1.0), (VariantKind::Rag, -1.0), (VariantKind::Finetuned, -1.0), (VariantKind::Baseline, 1.0)];

/// A declared difference: names of the two sides, and each variant's sign.
struct Declared {
    left: String,
    right: String,
    terms: Vec<(VariantKind, f64)>,
}

fn declared(variants: &[VariantKind]) -> Vec<Declared> {
    let has = |variant: &VariantKind| variants.contains(variant);
    let mut list: Vec<Declared> = PAIRS
        .into_iter()
        .filter(|(left, right)| has(left) && has(right))
        .map(|(left, right)| Declared {
            left: left.name().to_owned(),
            right: right.name().to_owned(),
            terms: vec![(left, 1.0), (right, -1.0)],
        })
        .collect();
    for (place, &left) in variants.iter().enumerate().filter(|(_, variant)| variant.is_predicted()) {
        let is_control = |variant: VariantKind| matches!(variant.context(), ContextSource::Gold | ContextSource::Random);
        let others = variants[..place].iter().copied().filter(|&variant| !is_control(variant));
        list.extend(others.map(|right| Declared {
            left: left.name().to_owned(),
            right: right.name().to_owned(),
            terms: vec![(left, 1.0), (right, -1.0)],
        }));
    }
    if SQUARE.iter().all(|(variant, _)| has(variant)) {
        list.push(Declared { left: "hybrid-rag".to_owned(), right: "finetuned-baseline".to_owned(), terms: SQUARE.to_vec() });
    }
    list
}

/// Number of differences that a run of these variants declares.
pub fn declared_differences(variants: &[VariantKind]) -> usize {
    declared(variants).len()
}

/// A difference within a slice before it is read with the others.
pub(super) struct Found {
    place: usize,
    left: String,
    right: String,
    slice: String,
    metric: Metric,
    scale: Scale,
    n_failed: usize,
    trainings: usize,
    comparison: Comparison,
}

/// The declared differences of one slice.
pub(super) fn of_slice(data: &RunData, scores: &Scores, slice: &Slice) -> Vec<Found> {
    let declared = declared(&data.variants());
    let metrics = || scores.metrics.iter().filter(|metric| metric.kind != Kind::Diagnostic);
    let wanted: Vec<(usize, &Metric)> = (0..declared.len()).flat_map(|place| metrics().map(move |metric| (place, metric))).collect();
    let mut found = Vec::new();
    for some in wanted.chunks(slice.columns_at_a_time()) {
        found.extend(compare_some(data, scores, slice, &declared, some));
    }
    found
}

/// The same for some of the differences and metrics.
fn compare_some(data: &RunData, scores: &Scores, slice: &Slice, declared: &[Declared], wanted: &[(usize, &Metric)]) -> Vec<Found> {
    let cells: Vec<(usize, &Metric, Combined)> = wanted
        .iter()
        .filter_map(|(place, metric)| Some((*place, *metric, Combined::of(scores, metric, &declared[*place].terms)?)))
        .collect();
    let comparisons = slice.resampler.compare_each(cells.iter().map(|(_, _, combined)| combined.values(slice)), Values::Scores);
    let mut found = Vec::new();
    for ((place, metric, combined), comparison) in cells.iter().zip(comparisons) {
        let (Some(comparison), declared) = (comparison, &declared[*place]) else { continue };
        let row = |scale, comparison| Found {
            place: *place,
            left: declared.left.clone(),
            right: declared.right.clone(),
            slice: slice.name.clone(),
            metric: (*metric).clone(),
            scale,
            n_failed: combined.failed(slice),
            trainings: trainings(data, &declared.terms),
            comparison,
        };
        found.push(row(Scale::Additive, with_training(data, scores, metric, &declared.terms, slice, comparison)));
        if declared.terms.len() == SQUARE.len() && metric.kind == Kind::Answer && metric.unit == SHARE {
            found.extend(log_odds(scores, metric, slice).map(|comparison| row(Scale::LogOdds, comparison)));
        }
    }
    found
}

/// The mean paired difference of any two variants over a slice, left minus right, as a declared one is estimated; nothing where no sample
/// has both scores.
pub(super) fn of_pair(
    data: &RunData,
    scores: &Scores,
    slice: &Slice,
    left: VariantKind,
    right: VariantKind,
    metric: &Metric,
) -> Option<Comparison> {
    let terms = [(left, 1.0), (right, -1.0)];
    let values = Combined::of(scores, metric, &terms)?.values(slice);
    let comparison = slice.resampler.compare(&[values], Values::Scores).pop()??;
    Some(with_training(data, scores, metric, &terms, slice, comparison))
}

/// With the spread between trainings, where there are several.
fn with_training(
    data: &RunData,
    scores: &Scores,
    metric: &Metric,
    terms: &[(VariantKind, f64)],
    slice: &Slice,
    comparison: Comparison,
) -> Comparison {
    let training = Components::of(&by_seed(scores, metric, terms, slice));
    training.map_or(comparison, |training| comparison.with_training(training, data.manifest.spec.measure.confidence))
}

/// The interaction in log-odds.
fn log_odds(scores: &Scores, metric: &Metric, slice: &Slice) -> Option<Comparison> {
    let column = |(variant, _): (VariantKind, f64)| scores.column(variant, &metric.id).map(|column| slice.values(column));
    let [Some(hybrid), Some(rag), Some(finetuned), Some(baseline)] = SQUARE.map(column) else { return None };
    slice.resampler.compare_log_odds(&[hybrid, rag, finetuned, baseline])
}

/// The signed sum of the variants' scores, on samples that all of them have.
struct Combined<'a>(Vec<(&'a Column, f64)>);

impl<'a> Combined<'a> {
    fn of(scores: &'a Scores, metric: &Metric, terms: &[(VariantKind, f64)]) -> Option<Self> {
        let columns: Option<Vec<(&Column, f64)>> =
            terms.iter().map(|(variant, sign)| Some((scores.column(*variant, &metric.id)?, *sign))).collect();
        columns.filter(|columns| !columns.is_empty()).map(Self)
    }

    fn get(&self, index: usize) -> Option<Scored> {
        self.0.iter().try_fold(Scored { value: 0.0, failed: false }, |sum, (column, sign)| {
            let scored = column.get(index)?;
            Some(Scored { value: sum.value + sign * scored.value, failed: sum.failed || scored.failed })
        })
    }

    fn values(&self, slice: &Slice) -> Vec<Option<f64>> {
        slice.members.iter().map(|&index| self.get(index).map(|scored| scored.value)).collect()
    }

    fn failed(&self, slice: &Slice) -> usize {
        slice.members.iter().filter(|&&index| self.get(index).is_some_and(|scored| scored.failed)).count()
    }
}

/// The slice's differences by training seed, over seeds that every variant with several has; a variant with one stands in each of them.
/// Empty if no variant has several.
fn by_seed(scores: &Scores, metric: &Metric, terms: &[(VariantKind, f64)], slice: &Slice) -> Vec<Vec<Option<f64>>> {
    let seeded: Vec<&BySeed> = terms.iter().filter_map(|(variant, _)| scores.by_seed(*variant, &metric.id)).collect();
    let Some(first) = seeded.first() else { return Vec::new() };
    let shared = first.keys().filter(|seed| seeded.iter().all(|seeds| seeds.contains_key(seed)));
    let value = |variant: VariantKind, seed: u64, index: usize| match scores.by_seed(variant, &metric.id) {
        Some(seeds) => seeds[&seed].get(index).map(|scored| scored.value),
        None => scores.column(variant, &metric.id)?.get(index).map(|scored| scored.value),
    };
    let difference =
        |seed: u64, index: usize| terms.iter().try_fold(0.0, |sum, (variant, sign)| Some(sum + sign * value(*variant, seed, index)?));
    shared.map(|seed| slice.members.iter().map(|&index| difference(*seed, index)).collect()).collect()
}

/// Trainings behind a difference: the fewest of its tuned variants.
fn trainings(data: &RunData, terms: &[(VariantKind, f64)]) -> usize {
    terms.iter().filter(|(variant, _)| variant.is_tuned()).map(|(variant, _)| data.seeds(*variant).len()).min().unwrap_or(0)
}

/// Reads the differences of all slices together: adjusted p-values and verdicts, in the order of their declaration.
pub(super) fn judge(data: &RunData, primary: Option<&Metric>, mut found: Vec<Found>) -> Vec<ContrastRow> {
    // Stable: slices and metrics stay in order.
    found.sort_by_key(|found| found.place);
    let spec = &data.manifest.spec.contrasts;
    let mut families = BTreeMap::<(&str, bool, Scale), Vec<usize>>::new();
    for (index, found) in found.iter().enumerate() {
        families.entry((&found.metric.id, found.slice == ALL, found.scale)).or_default().push(index);
    }
    let mut judged: Vec<Option<ContrastRow>> = found.iter().map(|_| None).collect();
    for ((metric, is_all, scale), members) in families {
        let is_declared = is_all && scale == Scale::Additive && primary.is_some_and(|primary| primary.id == metric);
        let adjustment = if is_declared { Adjustment::Holm } else { Adjustment::BenjaminiHochberg };
        let is_share = scale == Scale::Additive && found[members[0]].metric.unit == SHARE;
        let rule = Rule {
            alpha: spec.alpha,
            power: spec.power,
            margin: (is_share && spec.margin > 0.0).then_some(spec.margin / 100.0),
            comparisons: if is_declared { members.len() } else { 1 },
        };
        let p = adjustment.of(&members.iter().map(|index| found[*index].comparison.p).collect::<Vec<f64>>());
        let equivalence = rule.margin.map(|margin| {
            let p = members.iter().map(|index| found[*index].comparison.p_equivalence(margin));
            adjustment.of(&p.collect::<Vec<f64>>())
        });
        for (place, index) in members.into_iter().enumerate() {
            let (found, p_equivalence) = (&found[index], equivalence.as_ref().map(|p| p[place]));
            let is_higher_better = found.metric.direction == Direction::Higher;
            judged[index] = Some(ContrastRow {
                left: found.left.clone(),
                right: found.right.clone(),
                slice: found.slice.clone(),
                metric: found.metric.clone(),
                scale,
                difference: found.comparison.difference,
                n_failed: found.n_failed,
                comparison: found.comparison,
                p_adjusted: p[place],
                adjustment,
                p_equivalence,
                judgement: found.comparison.judge(&rule, is_higher_better, p[place], p_equivalence),
                trainings: found.trainings,
            });
        }
    }
    judged.into_iter().flatten().collect()
}
