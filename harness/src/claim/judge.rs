//! What the tables of a run say about claims.

use super::{Claim, ClaimCard, CostTest, DifferenceTest, Expectation, Test, Verdict};
use crate::cost::{Ledger, TOTAL_FLOPS, TOTAL_MONEY, TOTAL_SECONDS};
use crate::spec::VariantKind;
use crate::stats::Estimate;
use crate::table::{ALL, CostPhase, Metric, Tables};

/// What one test in one slice says.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// What was compared: `rag - baseline, exact match, knowledge=fresh`.
    pub what: String,
    /// What was predicted: `above 0`.
    pub predicted: String,
    /// The figure, in points of 100 for a difference and as a ratio for a cost; nothing if it could not be tested.
    pub figure: Option<Estimate>,
    /// What the figure is in: `points` or `ratio`.
    pub unit: &'static str,
    /// The test's own verdict.
    pub verdict: Verdict,
    /// Why it could not be tested, or what to know of it.
    pub note: String,
}

/// Holds every claim against a run.
pub fn judge(claims: &[Claim], tables: &Tables, ledger: &Ledger) -> Vec<ClaimCard> {
    let card = |claim: &Claim| {
        let evidence: Vec<Evidence> = claim
            .test
            .iter()
            .flat_map(|test| match test {
                Test::Difference(test) => differences(test, tables),
                Test::Cost(test) => vec![cost(test, tables, ledger)],
            })
            .collect();
        let verdicts: Vec<Verdict> = evidence.iter().map(|evidence| evidence.verdict).collect();
        ClaimCard { id: claim.id.clone(), title: claim.title.clone(), verdict: Verdict::of_all(&verdicts), post_hoc: false, evidence }
    };
    claims.iter().map(card).collect()
}

/// The first of these variants that the run has.
fn first(tables: &Tables, names: &[VariantKind]) -> Result<VariantKind, String> {
    let variants = tables.variants();
    names.iter().copied().find(|name| variants.contains(name)).ok_or_else(|| {
        let names: Vec<&str> = names.iter().map(|name| name.name()).collect();
        format!("the run has no variant {}", names.join(" or "))
    })
}

fn not_testable(what: String, predicted: String, note: String) -> Evidence {
    Evidence { what, predicted, figure: None, unit: "points", verdict: Verdict::NotTestable, note }
}

fn differences(test: &DifferenceTest, tables: &Tables) -> Vec<Evidence> {
    let predicted = match (test.more_than, test.less_than) {
        (Some(bound), _) => format!("above {bound}"),
        (_, Some(bound)) => format!("below {bound}"),
        _ => String::new(),
    };
    let names = |variants: &[VariantKind]| variants.iter().map(|variant| variant.name()).collect::<Vec<_>>().join(" or ");
    let whole = format!("{} - {}", names(&test.left), names(&test.right));
    let sides = first(tables, &test.left).and_then(|left| Ok((left, first(tables, &test.right)?)));
    let (left, right) = match sides {
        Ok(sides) => sides,
        Err(note) => return vec![not_testable(whole, predicted, note)],
    };
    let metric = match &test.metric {
        Some(id) => tables.scores.metrics.iter().find(|metric| metric.id == *id),
        None => tables.primary(),
    };
    let Some(metric) = metric else {
        let name = test.metric.as_deref().unwrap_or("an answer metric");
        return vec![not_testable(whole, predicted, format!("`{name}` was not measured"))];
    };
    let slices = match slices(test, tables, metric) {
        Ok(slices) => slices,
        Err(note) => return vec![not_testable(format!("{} - {}, {}", left.name(), right.name(), metric.label()), predicted, note)],
    };
    slices.iter().map(|slice| difference(test, tables, (left, right), metric, slice, predicted.clone())).collect()
}

/// The slices that a test is on.
fn slices(test: &DifferenceTest, tables: &Tables, metric: &Metric) -> Result<Vec<String>, String> {
    let own = tables.slices();
    if let Some(rule) = test.slices_where {
        if !tables.variants().contains(&rule.variant) {
            return Err(format!("needs the variant `{}`, to find tasks at which the model is weak", rule.variant.name()));
        }
        let is_weak = |slice: &&String| {
            tables.quality_of(rule.variant, slice, &metric.id).is_some_and(|row| 100.0 * row.estimate.ci_high < rule.below)
        };
        let weak: Vec<String> = own.iter().filter(|slice| slice.starts_with("task=")).filter(is_weak).cloned().collect();
        let rule = format!("no slice `task=..` where `{}` is below {} points for sure", rule.variant.name(), rule.below);
        return if weak.is_empty() { Err(rule) } else { Ok(weak) };
    }
    if test.slices.is_empty() {
        return Ok(vec![ALL.to_owned()]);
    }
    let named: Vec<String> = test.slices.iter().filter(|slice| own.contains(slice)).cloned().collect();
    if named.is_empty() { Err(format!("the dataset has no slice {}", test.slices.join(" or "))) } else { Ok(named) }
}

fn difference(
    test: &DifferenceTest,
    tables: &Tables,
    (left, right): (VariantKind, VariantKind),
    metric: &Metric,
    slice: &str,
    predicted: String,
) -> Evidence {
    let what = format!("{} - {}, {}, {slice}", left.name(), right.name(), metric.label());
    let Some(estimate) = tables.difference(left, right, slice, metric) else {
        return not_testable(what, predicted, "no question has both scores".to_owned());
    };
    let estimate =
        Estimate { point: 100.0 * estimate.point, ci_low: 100.0 * estimate.ci_low, ci_high: 100.0 * estimate.ci_high, n: estimate.n };
    let verdict = match (test.more_than, test.less_than) {
        (Some(bound), _) => above(&estimate, bound),
        (_, Some(bound)) => below(&estimate, bound),
        _ => Verdict::NotTestable,
    };
    Evidence { what, predicted, figure: Some(estimate), unit: "points", verdict, note: String::new() }
}

/// A difference of exactly the bound with an interval of no width says nothing against "not above".
fn above(estimate: &Estimate, bound: f64) -> Verdict {
    if estimate.ci_low > bound {
        Verdict::Supported
    } else if estimate.ci_high < bound || (estimate.ci_high <= bound && estimate.ci_low == estimate.ci_high) {
        Verdict::Refuted
    } else {
        Verdict::Inconclusive
    }
}

fn below(estimate: &Estimate, bound: f64) -> Verdict {
    above(&Estimate { point: -estimate.point, ci_low: -estimate.ci_high, ci_high: -estimate.ci_low, n: estimate.n }, -bound)
}

fn cost(test: &CostTest, tables: &Tables, ledger: &Ledger) -> Evidence {
    let predicted = match test.expect {
        Expectation::Less => "less than 1",
        Expectation::More => "more than 1",
    };
    let sides = first(tables, &test.left).and_then(|left| Ok((left, first(tables, &test.right)?)));
    let (left, right) = match sides {
        Ok(sides) => sides,
        Err(note) => return not_testable(format!("{}, {}", test.quantity, test.phase), predicted.to_owned(), note),
    };
    let what = format!("{} / {}, {} per {}", left.name(), right.name(), test.quantity, test.phase);
    let phase = match test.phase.as_str() {
        "setup" => CostPhase::Setup,
        "query" => CostPhase::Query,
        _ => CostPhase::Update,
    };
    let (Some(own), Some(theirs)) = (amount_of(ledger, left, phase, &test.quantity), amount_of(ledger, right, phase, &test.quantity))
    else {
        return not_testable(what, predicted.to_owned(), format!("`{}` was not measured", test.quantity));
    };
    let ratio = ratio(tables, (left, right), phase, &test.quantity, (own, theirs));
    let verdict = match test.expect {
        Expectation::More => above(&ratio, 1.0),
        Expectation::Less => below(&ratio, 1.0),
    };
    let note = format!("{} against {}", amount(own), amount(theirs));
    Evidence { what, predicted: predicted.to_owned(), figure: Some(ratio), unit: "ratio", verdict, note }
}

/// What a variant pays. A part that a complete phase has no line for is zero: no labels without training, no index without retrieval.
fn amount_of(ledger: &Ledger, variant: VariantKind, phase: CostPhase, quantity: &str) -> Option<f64> {
    let is_part = phase != CostPhase::Query && ![TOTAL_FLOPS, TOTAL_MONEY, TOTAL_SECONDS].contains(&quantity);
    let is_complete = || ledger.value(variant, phase, TOTAL_FLOPS).is_some();
    ledger.value(variant, phase, quantity).or_else(|| (is_part && is_complete()).then_some(0.0))
}

/// The ratio of two costs; measured times carry the interval that follows from those of the two means, counts none.
fn ratio(
    tables: &Tables,
    (left, right): (VariantKind, VariantKind),
    phase: CostPhase,
    quantity: &str,
    (own, theirs): (f64, f64),
) -> Estimate {
    let divide = |a: f64, b: f64| if a == b { 1.0 } else { a / b };
    let times = tables.seconds_per_query(left).zip(tables.seconds_per_query(right));
    if let Some((left, right)) = times.filter(|_| phase == CostPhase::Query && quantity == TOTAL_SECONDS) {
        return Estimate {
            point: divide(own, theirs),
            ci_low: divide(left.ci_low, right.ci_high),
            ci_high: divide(left.ci_high, right.ci_low),
            n: left.n.min(right.n),
        };
    }
    let point = divide(own, theirs);
    Estimate { point, ci_low: point, ci_high: point, n: 1 }
}

fn amount(value: f64) -> String {
    let is_far = value != 0.0 && (value.abs() < 0.01 || value.abs() >= 1e6);
    if is_far { format!("{value:.3e}") } else { format!("{value:.4}").trim_end_matches('0').trim_end_matches('.').to_owned() }
}
