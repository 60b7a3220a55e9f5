//! Who would do, and what each would cost.

use super::sections::section;
use super::{Entry, Grid, Place, Section};
use crate::cost::{Contender, Currency, Decision, Standing};
use crate::report::format;
use crate::table::Tables;

/// A line per contender, and the map beside it.
pub(super) fn section_of(tables: &Tables, decision: &Decision) -> Section {
    let metric = &decision.metric;
    let (spec, margin) = (&tables.manifest().spec.cost, format::score(decision.margin, metric));
    let unit = match decision.currency {
        Currency::Money => spec.currency.clone(),
        Currency::Flops => "operations".to_owned(),
    };
    let total = |contender: &Contender| match (contender.total, decision.currency) {
        (Some(total), Currency::Money) => Entry::new(format::money(total)),
        (Some(total), Currency::Flops) => Entry::new(format::quantity(total)),
        (None, _) => Entry::new("not known"),
    };
    let row = |contender: &Contender| {
        let difference = contender.difference.map_or_else(
            || Entry::new("–"),
            |difference| {
                let of = |value| format::signed(value, metric);
                Entry::with(of(difference.point), format!("({} to {})", of(difference.ci_low), of(difference.ci_high)))
            },
        );
        let p = contender.p.map_or_else(
            || Entry::new("–"),
            |(within, below)| {
                let p = format::p_value(if contender.standing == Standing::Below { below } else { within });
                Entry::new(p.trim_start_matches("p ").trim_start_matches("= "))
            },
        );
        let needed = contender.needed.map_or_else(|| Entry::new("–"), |needed| Entry::new(format::large(needed)));
        let pick = if contender.variant == decision.pick { "taken" } else { "" };
        vec![
            Entry::new(contender.variant.name()),
            Entry::new(words(contender.standing)),
            difference,
            p,
            needed,
            total(contender),
            Entry::new(pick),
        ]
    };
    let header = vec![
        "variant".to_owned(),
        "would it do?".to_owned(),
        "points from the best".to_owned(),
        "p, adjusted".to_owned(),
        "questions that would tell".to_owned(),
        format!("{} months, {unit}", format::significant(spec.usage.months, 2)),
        String::new(),
    ];
    let updates = if spec.usage.updates_per_month == 1.0 { "update" } else { "updates" };
    let grid = Grid {
        caption: format!(
            "Against the best {}: within {margin} points or not; cost with {} queries and {} {updates} a month",
            metric.label(),
            format::large(spec.usage.queries_per_month),
            format::quantity(spec.usage.updates_per_month)
        ),
        header,
        rows: decision.contenders.iter().map(row).collect(),
        place: Place::Both,
    };
    let text = format!(
        "A variant would do if it is shown to be no more than {margin} points below the one with the best score, and would not if it is shown \
         to be further below; p is that of the other answer, multiplied by the number of pairs of variants. The cheapest of those that would do \
         is taken. The usage is that of the spec's cost.usage."
    );
    section("decision", "Who to take at which usage", true, vec![text], vec![grid])
}

fn words(standing: Standing) -> &'static str {
    match standing {
        Standing::Best => "best score",
        Standing::Within => "yes",
        Standing::Open => "inconclusive",
        Standing::Below => "no",
    }
}
