//! Who to take: the cheapest of the variants that are shown to be no more than the margin below the best score.
//!
//! The margin is that of `[contrasts]`. A variant is `within` it where a one-sided test says so, `below` it where the opposite test does, and
//! `open` where neither does. The best is the one with the highest score seen; because any variant could have turned out to be it, p-values are
//! multiplied by the number of pairs of variants.

use std::path::Path;

use super::{Currency, Ledger};
use crate::spec::{ContextSource, UsageSpec, VariantKind};
use crate::stats::{Comparison, Estimate, power};
use crate::table::{self, ALL, DecisionRow, Direction, Metric, TableError, Tables};

/// Steps of the map from a thousandth to a thousandfold of the declared queries, and from a hundredth to a hundredfold of the updates.
const QUERY_STEPS: i32 = 12;
const UPDATE_STEPS: i32 = 8;

/// How a variant stands to the one with the best score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It has the best score.
    Best,
    /// It is shown to be no more than the margin below.
    Within,
    /// These questions do not tell.
    Open,
    /// It is shown to be further below.
    Below,
}

impl Standing {
    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Best => "best",
            Self::Within => "within",
            Self::Open => "open",
            Self::Below => "below",
        }
    }
}

/// A variant that one could deploy.
#[derive(Debug, Clone, PartialEq)]
pub struct Contender {
    /// The variant.
    pub variant: VariantKind,
    /// Its score.
    pub score: Estimate,
    /// How it stands.
    pub standing: Standing,
    /// Its score less the best one; nothing for the best itself.
    pub difference: Option<Estimate>,
    /// Adjusted p-values of being below the margin and of being within it; nothing for the best itself.
    pub p: Option<(f64, f64)>,
    /// Questions with which it would be told on which side of the margin it is, were the difference as it was seen; for open ones.
    pub needed: Option<f64>,
    /// Cost over the declared usage; nothing if it is not known.
    pub total: Option<f64>,
}

impl Contender {
    /// It is shown to be good enough.
    pub fn is_good_enough(&self) -> bool {
        matches!(self.standing, Standing::Best | Standing::Within)
    }
}

/// Who stands where, what it costs, and who is the cheapest of the good enough.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The leading metric.
    pub metric: Metric,
    /// What does not matter, in the metric's unit.
    pub margin: f64,
    /// Money, or operations where nothing is priced.
    pub currency: Currency,
    /// In the order of tables.
    pub contenders: Vec<Contender>,
    /// The cheapest of the good enough at the declared usage; the best where costs are not known.
    pub pick: VariantKind,
    /// Who costs least at which usage.
    pub map: DecisionMap,
}

/// The cheapest good enough variant over queries and updates per month.
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionMap {
    /// Queries per month, rising.
    pub queries: Vec<f64>,
    /// Updates per month, rising from none.
    pub updates: Vec<f64>,
    /// A cell per pair of them that a variant has a cost for.
    pub cells: Vec<MapCell>,
}

/// One usage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MapCell {
    /// Queries per month.
    pub queries: f64,
    /// Updates per month.
    pub updates: f64,
    /// Who costs least.
    pub cheapest: VariantKind,
    /// How much, over the declared months.
    pub total: f64,
    /// Who is next, and what it costs.
    pub next: Option<(VariantKind, f64)>,
    /// The measured times do not tell the two apart.
    pub is_open: bool,
}

/// Makes the decision of a run and writes `tables/decision`; nothing where no metric leads or nothing can be deployed.
pub fn write_decision(run: &Path, tables: &Tables, ledger: &Ledger) -> Result<Option<Decision>, TableError> {
    let decision = Decision::of(tables, ledger);
    let rows = decision.as_ref().map_or_else(Vec::new, |decision| decision.rows(tables));
    table::write_decision(run, &rows)?;
    Ok(decision)
}

impl Decision {
    /// The decision of a run.
    pub fn of(tables: &Tables, ledger: &Ledger) -> Option<Self> {
        let metric = tables.primary()?.clone();
        let is_share = metric.unit == table::metric::SHARE;
        let margin = if is_share { tables.manifest().spec.contrasts.margin / 100.0 } else { 0.0 };
        let currency = if ledger.is_priced() { Currency::Money } else { Currency::Flops };
        let usage = &tables.manifest().spec.cost.usage;
        let deployable: Vec<(VariantKind, Estimate)> = tables
            .variants()
            .into_iter()
            .filter(|variant| is_deployable(*variant))
            .filter_map(|variant| Some((variant, tables.quality_of(variant, ALL, &metric.id)?.estimate)))
            .collect();
        let sign = if metric.direction == Direction::Higher { 1.0 } else { -1.0 };
        let (best, _) = *deployable.iter().rev().max_by(|left, right| (sign * left.1.point).total_cmp(&(sign * right.1.point)))?;
        let pairs = (deployable.len() * (deployable.len() - 1) / 2).max(1) as f64;
        let contenders: Vec<Contender> = deployable
            .into_iter()
            .map(|(variant, score)| {
                let total = ledger.total(variant, currency, usage);
                let own = Contender { variant, score, standing: Standing::Best, difference: None, p: None, needed: None, total };
                if variant == best { own } else { stand(tables, own, best, &metric, (margin, pairs)) }
            })
            .collect();
        let good: Vec<VariantKind> =
            contenders.iter().filter(|contender| contender.is_good_enough()).map(|contender| contender.variant).collect();
        let map = DecisionMap::of(tables, ledger, &good, currency);
        let priced = contenders.iter().filter(|contender| contender.is_good_enough() && contender.total.is_some());
        let cheapest = priced.min_by(|left, right| left.total.unwrap_or(f64::INFINITY).total_cmp(&right.total.unwrap_or(f64::INFINITY)));
        let pick = cheapest.map_or(best, |contender| contender.variant);
        Some(Self { metric, margin, currency, contenders, pick, map })
    }

    /// One contender.
    pub fn of_variant(&self, variant: VariantKind) -> Option<&Contender> {
        self.contenders.iter().find(|contender| contender.variant == variant)
    }

    /// The one with the best score.
    pub fn best(&self) -> &Contender {
        self.contenders.iter().find(|contender| contender.standing == Standing::Best).expect("one of them is the best")
    }

    /// Contenders that may be good enough and cost less than the pick, or nobody knows how much: why a recommendation may be premature.
    pub fn rivals(&self) -> Vec<&Contender> {
        let pick = self.of_variant(self.pick).and_then(|pick| pick.total);
        let may_cost_less = |contender: &&Contender| match (contender.total, pick) {
            (Some(own), Some(pick)) => own < pick,
            // One that cannot be brought up to date is no rival where that is asked for.
            (None, Some(_)) => false,
            (_, None) => true,
        };
        self.contenders.iter().filter(|contender| contender.standing == Standing::Open).filter(may_cost_less).collect()
    }

    fn rows(&self, tables: &Tables) -> Vec<DecisionRow> {
        let unit = match self.currency {
            Currency::Money => tables.manifest().spec.cost.currency.clone(),
            Currency::Flops => "flops".to_owned(),
        };
        let row = |contender: &Contender| DecisionRow {
            variant: contender.variant,
            metric: self.metric.id.clone(),
            score: contender.score.point,
            standing: contender.standing.name(),
            difference: contender.difference,
            p_within: contender.p.map(|(within, _)| within),
            p_below: contender.p.map(|(_, below)| below),
            total: contender.total,
            unit: unit.clone(),
            is_pick: contender.variant == self.pick,
        };
        self.contenders.iter().map(row).collect()
    }
}

/// Controls have passages that nobody has when a question comes.
fn is_deployable(variant: VariantKind) -> bool {
    !matches!(variant.context(), ContextSource::Gold | ContextSource::Random)
}

fn stand(tables: &Tables, own: Contender, best: VariantKind, metric: &Metric, (margin, pairs): (f64, f64)) -> Contender {
    let Some(found) = tables.comparison(own.variant, best, ALL, metric) else {
        return Contender { standing: Standing::Open, ..own };
    };
    let spec = &tables.manifest().spec.contrasts;
    let (above, below) = match metric.direction {
        Direction::Higher => (found.p_not_above(-margin), found.p_not_below(-margin)),
        Direction::Lower => (found.p_not_below(margin), found.p_not_above(margin)),
    };
    let (above, below) = ((above * pairs).min(1.0), (below * pairs).min(1.0));
    let standing = if above <= spec.alpha {
        Standing::Within
    } else if below <= spec.alpha {
        Standing::Below
    } else {
        Standing::Open
    };
    let needed = if standing == Standing::Open { needed(&found, margin, spec.alpha / pairs, spec.power) } else { None };
    Contender { standing, difference: Some(found.difference), p: Some((above, below)), needed, ..own }
}

/// Questions with which a one-sided test at `alpha` tells the difference seen from the margin.
fn needed(found: &Comparison, margin: f64, alpha: f64, chance: f64) -> Option<f64> {
    let distance = margin - found.difference.point.abs();
    let error = found.error.filter(|error| *error > 0.0)?;
    let n = found.difference.n as f64;
    (distance != 0.0).then(|| power::needed(distance.abs(), error * error * n, (2.0 * alpha).min(1.0), chance).ceil())
}

impl DecisionMap {
    fn of(tables: &Tables, ledger: &Ledger, good: &[VariantKind], currency: Currency) -> Self {
        let declared = &tables.manifest().spec.cost.usage;
        let at = |middle: f64, step: i32, per_decade: f64| middle * 10f64.powf(f64::from(step) / per_decade);
        let queries: Vec<f64> = (0..=QUERY_STEPS).map(|step| at(declared.queries_per_month, step - QUERY_STEPS / 2, 2.0)).collect();
        let middle = if declared.updates_per_month > 0.0 { declared.updates_per_month } else { 1.0 };
        let updates: Vec<f64> =
            std::iter::once(0.0).chain((0..=UPDATE_STEPS).map(|step| at(middle, step - UPDATE_STEPS / 2, 2.0))).collect();
        let mut cells = Vec::new();
        for &updates in &updates {
            for &queries in &queries {
                let usage = UsageSpec { months: declared.months, queries_per_month: queries, updates_per_month: updates };
                cells.extend(cell(tables, ledger, good, currency, &usage));
            }
        }
        Self { queries, updates, cells }
    }

    /// One cell, by values of the map.
    pub fn at(&self, queries: f64, updates: f64) -> Option<&MapCell> {
        self.cells.iter().find(|cell| cell.queries == queries && cell.updates == updates)
    }
}

fn cell(tables: &Tables, ledger: &Ledger, good: &[VariantKind], currency: Currency, usage: &UsageSpec) -> Option<MapCell> {
    let mut totals: Vec<(VariantKind, f64)> =
        good.iter().filter_map(|variant| Some((*variant, ledger.total(*variant, currency, usage)?))).collect();
    totals.sort_by(|left, right| left.1.total_cmp(&right.1));
    let (cheapest, total) = *totals.first()?;
    let next = totals.get(1).copied();
    let is_open = next.is_some_and(|(other, other_total)| {
        let queries = usage.months * usage.queries_per_month;
        let (Some(own), Some(theirs)) = (ledger.line(cheapest, currency), ledger.line(other, currency)) else { return false };
        let point = theirs.query - own.query;
        let interval = if currency == Currency::Money { ledger.query_difference(tables, other, cheapest) } else { None };
        // What the next one costs more, with the slowest and the fastest it may be.
        interval.is_some_and(|(low, _)| other_total - total + queries * (low - point) <= 0.0)
    });
    Some(MapCell { queries: usage.queries_per_month, updates: usage.updates_per_month, cheapest, total, next, is_open })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::VariantKind::{Baseline, Finetuned, Hybrid, Oracle, Rag};
    use crate::table::testing::Fixture;

    /// `n` questions; a variant is right on those below its number, and takes its seconds for each of the first forty.
    fn run(n: usize, variants: &[(VariantKind, usize, f64)]) -> Fixture {
        let mut run = Fixture::empty();
        (run.manifest.spec.cost.machine_hour, run.manifest.spec.cost.storage_gib_month) = (3.6, 0.0);
        for index in 0..n {
            let id = format!("q{index:05}");
            run.sample(&id, &[]);
            for (variant, right, seconds) in variants {
                run.answer(*variant, 1, &id, f64::from(u8::from(index < *right)));
                if index < 40 {
                    run.timing(*variant, &id, 0.1, 1e3 * seconds * (1.0 + 0.01 * (index % 3) as f64));
                }
            }
        }
        run
    }

    fn decide(run: &Fixture) -> (Tables, Decision) {
        let tables = run.tables();
        let decision = Decision::of(&tables, &Ledger::of(&tables)).unwrap();
        (tables, decision)
    }

    #[test]
    fn the_cheapest_of_those_within_the_margin_is_taken() {
        // Labels cost 80, a query 0.001 per second.
        let (_, decision) = decide(&run(2000, &[(Baseline, 400, 1.0), (Rag, 1480, 2.0), (Finetuned, 1500, 1.0)]));
        let standing = |variant| decision.of_variant(variant).unwrap().standing;
        assert_eq!([Baseline, Rag, Finetuned].map(standing), [Standing::Below, Standing::Within, Standing::Best]);
        // 1.2 million queries in a year pay labels off; the update a month that is declared is a training of 40 seconds.
        assert_eq!(decision.pick, Finetuned);
        let mut few = run(2000, &[(Baseline, 400, 1.0), (Rag, 1480, 2.0), (Finetuned, 1500, 1.0)]);
        few.manifest.spec.cost.usage.queries_per_month = 100.0;
        assert_eq!(decide(&few).1.pick, Rag);
    }

    #[test]
    fn what_questions_do_not_tell_is_open_and_says_how_many_would() {
        let (_, decision) = decide(&run(60, &[(Rag, 44, 1.0), (Finetuned, 46, 2.0)]));
        let rag = decision.of_variant(Rag).unwrap();
        assert_eq!((rag.standing, decision.pick), (Standing::Open, Finetuned));
        assert_eq!(decision.rivals().iter().map(|rival| rival.variant).collect::<Vec<_>>(), [Rag]);
        assert!(rag.needed.unwrap() > 60.0, "{rag:?}");
    }

    #[test]
    fn the_map_changes_hands_at_the_break_even() {
        let (tables, decision) = decide(&run(2000, &[(Rag, 1500, 2.0), (Finetuned, 1500, 1.0)]));
        let map = &decision.map;
        assert_eq!((map.queries.len(), map.updates.len(), map.cells.len()), (13, 10, 130));
        let usage = |queries, updates| UsageSpec { months: 12.0, queries_per_month: queries, updates_per_month: updates };
        let ledger = Ledger::of(&tables);
        for cell in &map.cells {
            let total = |variant| ledger.total(variant, Currency::Money, &usage(cell.queries, cell.updates)).unwrap();
            let cheaper = if total(Rag) <= total(Finetuned) { Rag } else { Finetuned };
            assert_eq!(cell.cheapest, cheaper, "{cell:?}");
        }
        let first = map.at(map.queries[0], 0.0).unwrap();
        let last = map.at(*map.queries.last().unwrap(), 0.0).unwrap();
        assert_eq!((first.cheapest, last.cheapest, first.is_open, last.is_open), (Rag, Finetuned, false, false));
    }

    #[test]
    fn times_that_do_not_differ_leave_the_map_open() {
        let mut run = run(400, &[(Rag, 300, 1.0), (Hybrid, 300, 1.0)]);
        run.manifest.training.clear();
        run.manifest.spec.variants = vec![Rag, Hybrid];
        run.manifest.training.push(crate::table::testing::manifest().training[0].clone());
        (run.manifest.training[0].labels, run.manifest.training[0].seconds) = (0, 0.0);
        let (_, decision) = decide(&run);
        assert!(
            decision.map.cells.iter().filter(|cell| cell.updates == 0.0).all(|cell| cell.is_open || cell.total == cell.next.unwrap().1)
        );
    }

    #[test]
    fn controls_are_no_contenders_and_the_baseline_cannot_be_brought_up_to_date() {
        let (_, decision) = decide(&run(300, &[(Baseline, 290, 1.0), (Oracle, 300, 1.0)]));
        assert_eq!(decision.contenders.len(), 1);
        assert_eq!((decision.pick, decision.best().total), (Baseline, None));
        assert!(decision.map.cells.iter().all(|cell| cell.updates == 0.0) && !decision.map.cells.is_empty());
    }
}
