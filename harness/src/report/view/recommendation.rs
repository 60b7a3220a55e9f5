//! What to do, in one paragraph for people who decide: which variant to take, why, and what would change that. Everything in it is in the
//! tables; where they do not tell, it says so.

use serde::Serialize;

use crate::cost::{BreakEven, Contender, Currency, Decision, Ledger, Line, Standing};
use crate::report::format;
use crate::spec::{UsageSpec, VariantKind};
use crate::table::{CostPhase, Tables};

/// The paragraph: its first sentence is the answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(in crate::report) struct Recommendation {
    pub lead: String,
    pub rest: String,
}

/// The recommendation of a run.
pub(super) fn of(tables: &Tables, ledger: &Ledger, decision: Option<&Decision>) -> Recommendation {
    let Some(decision) = decision else {
        let rest = "No answer metric was measured for a variant that could be deployed.".to_owned();
        return Recommendation { lead: "No recommendation.".to_owned(), rest };
    };
    let words = Words { tables, ledger, decision };
    if decision.contenders.len() < 2 {
        let rest = format!("Only {} was measured of the variants that could be deployed; the others are controls.", decision.pick.name());
        return Recommendation { lead: "No recommendation: there is nothing to choose from.".to_owned(), rest };
    }
    let rivals = decision.rivals();
    let (lead, mut parts) = if rivals.is_empty() {
        (format!("Take {}.", decision.pick.name()), Vec::new())
    } else {
        let names = list(&rivals.iter().map(|rival| rival.variant.name()).collect::<Vec<_>>());
        let lead = format!("Inconclusive: these questions do not tell whether {names} would do, which would cost less.");
        (lead, rivals.iter().map(|rival| words.undecided(rival)).collect())
    };
    if !rivals.is_empty() {
        parts.push(format!("Until that is known, {} is what is shown to be good enough.", decision.pick.name()));
    }
    parts.extend(words.because());
    parts.extend(words.conditions());
    Recommendation { lead, rest: parts.join(" ") }
}

/// `a`, `a and b`, `a, b and c`.
fn list(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// `1 changed document`, `12 changed documents`.
fn changed_documents(number: f64) -> String {
    format!("{} changed document{}", format::quantity(number), if number == 1.0 { "" } else { "s" })
}

struct Words<'a> {
    tables: &'a Tables,
    ledger: &'a Ledger,
    decision: &'a Decision,
}

impl Words<'_> {
    fn usage(&self) -> &UsageSpec {
        &self.tables.manifest().spec.cost.usage
    }

    fn margin(&self) -> String {
        format::score(self.decision.margin, &self.decision.metric)
    }

    fn amount(&self, value: f64) -> String {
        match self.decision.currency {
            Currency::Money => format!("{} {}", format::money(value), self.tables.manifest().spec.cost.currency),
            Currency::Flops => format!("{} operations", format::quantity(value)),
        }
    }

    fn score(&self, contender: &Contender) -> String {
        let unit = if self.decision.metric.unit == "share" { " %" } else { "" };
        let metric = &self.decision.metric;
        let (low, high) = (format::score(contender.score.ci_low, metric), format::score(contender.score.ci_high, metric));
        format!("{}{unit} ({low} to {high})", format::score(contender.score.point, metric))
    }

    fn with(&self, standing: Standing) -> Vec<&Contender> {
        self.decision.contenders.iter().filter(|contender| contender.standing == standing).collect()
    }

    /// Others that are shown to be good enough.
    fn equals(&self) -> Vec<&Contender> {
        self.decision.contenders.iter().filter(|other| other.is_good_enough() && other.variant != self.decision.pick).collect()
    }

    fn undecided(&self, rival: &Contender) -> String {
        let metric = &self.decision.metric;
        let difference = rival.difference.map_or_else(
            || "was not measured on the same questions".to_owned(),
            |difference| {
                let of = |value| format::signed(value, metric);
                format!(
                    "is {} points from {} ({} to {})",
                    of(difference.point),
                    self.decision.best().variant.name(),
                    of(difference.ci_low),
                    of(difference.ci_high)
                )
            },
        );
        let needed = rival.needed.map_or_else(String::new, |needed| format!("; about {} questions would tell", format::large(needed)));
        format!("{} {difference}, where up to {} points do not matter{needed}.", rival.variant.name(), self.margin())
    }

    /// Why this one.
    fn because(&self) -> Vec<String> {
        let (pick, best) = (self.decision.of_variant(self.decision.pick).expect("the pick contends"), self.decision.best());
        let label = self.decision.metric.label();
        let mut parts = vec![if pick.variant == best.variant {
            format!("It has the best {label}, {}.", self.score(pick))
        } else {
            let (own, top) = (self.score(pick), self.score(best));
            format!(
                "Its {label} is {own}, shown to be no more than {} points below the best, {} with {top}.",
                self.margin(),
                best.variant.name()
            )
        }];
        let names = |contenders: &[&Contender]| list(&contenders.iter().map(|other| other.variant.name()).collect::<Vec<_>>());
        let short = self.with(Standing::Below);
        if !short.is_empty() {
            let verb = if short.len() == 1 { "is" } else { "are" };
            parts.push(format!(
                "{} {verb} shown to fall short of that by more than {} points.",
                format::sentence(&names(&short)),
                self.margin()
            ));
        }
        parts.extend(self.cost_of(pick));
        let rivals = self.decision.rivals();
        let dear: Vec<&Contender> =
            self.with(Standing::Open).into_iter().filter(|open| rivals.iter().all(|rival| rival.variant != open.variant)).collect();
        let (priced, unpriced): (Vec<&Contender>, Vec<&Contender>) = dear.into_iter().partition(|open| open.total.is_some());
        if !priced.is_empty() && pick.total.is_some() {
            parts.push(format!("Whether {} would do as well these questions do not tell, but it would cost more.", names(&priced)));
        }
        if !unpriced.is_empty() && pick.total.is_some() {
            let (fixed, unknown): (Vec<&Contender>, Vec<&Contender>) =
                unpriced.into_iter().partition(|open| self.ledger.line(open.variant, self.decision.currency).is_some());
            for (contenders, what) in
                [(fixed, "cannot be brought up to date when documents change"), (unknown, "may do as well, at a cost that is not known")]
            {
                if !contenders.is_empty() {
                    parts.push(format!("{} {what}.", format::sentence(&names(&contenders))));
                }
            }
        }
        parts
    }

    /// What it costs, and the others that would do.
    fn cost_of(&self, pick: &Contender) -> Vec<String> {
        let Some(total) = pick.total else {
            return vec!["What it costs at the declared usage was not measured, so this goes by scores alone.".to_owned()];
        };
        let usage = self.usage();
        let mut parts = vec![format!(
            "Over {} months with {} queries and {} a month it costs {}.",
            format::significant(usage.months, 2),
            format::large(usage.queries_per_month),
            changed_documents(usage.updates_per_month),
            self.amount(total)
        )];
        for other in self.equals() {
            let name = other.variant.name();
            parts.push(match other.total {
                Some(theirs) if self.is_open_between(pick.variant, other.variant, theirs - total) => {
                    format!("{} would do too; the measured times do not tell which of the two costs less ({}).", name, self.amount(theirs))
                }
                Some(theirs) => format!("{name} would do too, for {}.", self.amount(theirs)),
                None if self.ledger.line(other.variant, self.decision.currency).is_some() => {
                    format!("{name} would do too, but cannot be brought up to date when documents change.")
                }
                None => format!("{name} would do too, at a cost that is not known."),
            });
        }
        parts
    }

    /// The uncertainty of the measured times is larger than what `other` costs more.
    fn is_open_between(&self, pick: VariantKind, other: VariantKind, more: f64) -> bool {
        let queries = self.usage().months * self.usage().queries_per_month;
        let line = |variant| self.ledger.line(variant, self.decision.currency);
        let (Some(own), Some(theirs)) = (line(pick), line(other)) else { return false };
        let interval =
            if self.decision.currency == Currency::Money { self.ledger.query_difference(self.tables, other, pick) } else { None };
        interval.is_some_and(|(low, _)| more + queries * (low - (theirs.query - own.query)) <= 0.0)
    }

    /// What would change it.
    fn conditions(&self) -> Vec<String> {
        let manifest = self.tables.manifest();
        let mut parts = Vec::new();
        let changes: Vec<String> = self.equals().into_iter().flat_map(|other| self.changes(other.variant)).collect();
        if !changes.is_empty() {
            parts.push(format!("That changes: {}.", changes.join("; ")));
        } else if self.equals().is_empty() && self.decision.rivals().is_empty() {
            parts.push("No number of queries or updates changes that, because no other is shown to be good enough.".to_owned());
        }
        let cost = &manifest.spec.cost;
        let people = if cost.people.human_hour > 0.0 { "" } else { "; the work of people is charged only as the price of a label" };
        if self.decision.currency == Currency::Money {
            parts.push(format!("Prices are those of {}{people}.", cost.prices_as_of));
        }
        if self.decision.contenders.iter().any(|contender| contender.variant.is_tuned()) && manifest.spec.seeds.len() == 1 {
            parts.push("Every tuned variant was trained once, and another training may come out otherwise.".to_owned());
        }
        if manifest.spec.dataset.limit > 0 {
            parts.push(format!("The run was limited to {} questions.", self.tables.data.samples.len()));
        }
        parts.push("It holds for this model, these documents and questions like these.".to_owned());
        parts
    }

    /// At which usage another one that would do is cheaper.
    fn changes(&self, other: VariantKind) -> Vec<String> {
        let usage = self.usage();
        let of = |variant| {
            let line = self.ledger.line(variant, self.decision.currency)?;
            let total = match self.decision.currency {
                Currency::Money => crate::cost::TOTAL_MONEY,
                Currency::Flops => crate::cost::TOTAL_FLOPS,
            };
            Some((line, self.ledger.value(variant, CostPhase::Update, total)))
        };
        let (Some((own, own_update)), Some((theirs, their_update))) = (of(self.decision.pick), of(other)) else { return Vec::new() };
        let saving = if self.decision.currency == Currency::Money {
            self.ledger.query_difference(self.tables, other, self.decision.pick)
        } else {
            None
        };
        let (queries, updates) = (usage.months * usage.queries_per_month, usage.months * usage.updates_per_month);
        let name = other.name();
        let kept = |line: Line, update: Option<f64>| {
            Some(Line { setup: line.setup + updates * (if updates > 0.0 { update? } else { 0.0 }), ..line })
        };
        let mut found = Vec::new();
        if let (Some(own), Some(theirs)) = (kept(own, own_update), kept(theirs, their_update)) {
            let crossing = own.crossing(theirs, saving);
            found.extend(words(crossing.outcome, name, "queries", usage.months));
        }
        if let (Some(own_update), Some(their_update)) = (own_update, their_update) {
            let of = |line: Line, update: f64| Line { setup: line.total(queries), query: update };
            found.extend(words(of(own, own_update).against(of(theirs, their_update)), name, "changed documents", usage.months));
        }
        found
    }
}

/// `below 1,200 queries a month rag is cheaper`.
fn words(outcome: BreakEven, other: &str, what: &str, months: f64) -> Option<String> {
    let (side, number) = match outcome {
        BreakEven::CheaperBeyond(number) => ("below", number),
        BreakEven::CheaperUpTo(number) => ("beyond", number),
        BreakEven::AlwaysCheaper | BreakEven::NeverCheaper | BreakEven::Equal => return None,
    };
    let number = number / months;
    let shown = if number < 100.0 { format::significant(number, 2) } else { format::large(number) };
    Some(format!("{side} {shown} {what} a month {other} is cheaper"))
}
