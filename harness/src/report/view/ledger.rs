//! What it costs: the ledger in short, break-evens, and every quantity of set-up, query and update.

use super::headline::pair;
use super::sections::section;
use super::{Entry, Grid, Place, Section};
use crate::cost::{
    Currency, Ledger, RESIDENT_BYTES, TOTAL_CPU_SECONDS, TOTAL_FLOPS, TOTAL_JOULES, TOTAL_MINUTES, TOTAL_MONEY, TOTAL_SECONDS,
};
use crate::report::format;
use crate::spec::VariantKind;
use crate::table::{CostPhase, Tables};

/// The ledger in short, totals, and break-evens.
pub(super) fn cost(tables: &Tables, ledger: &Ledger) -> Option<Section> {
    let spec = &tables.manifest().spec.cost;
    let money = |value: Option<f64>| value.map_or_else(Entry::missing, |value| Entry::new(format::money(value)));
    let number = |value: Option<f64>| value.map_or_else(Entry::missing, |value| Entry::new(format::quantity(value)));
    let time = |value: Option<f64>| value.map_or_else(Entry::missing, |value| Entry::new(format::duration(value)));
    let or_none = |entry: Entry, variant: VariantKind| {
        if ledger.value(variant, CostPhase::Update, TOTAL_MONEY).is_none() { Entry::new("none possible") } else { entry }
    };
    let (size, together) = format::priced_together(ledger.query_money());
    let row = |variant: VariantKind| {
        let value = |phase, quantity: &str| ledger.value(variant, phase, quantity);
        let per_correct = ledger.per_correct(tables, variant, spec.horizon_queries).filter(|cost| cost.point.is_finite()).map_or_else(
            Entry::missing,
            |cost| {
                let [point, low, high] = [cost.point, cost.ci_low, cost.ci_high].map(|cost| format::money(cost * size));
                Entry::with(point, format!("({low} to {high})"))
            },
        );
        vec![
            Entry::new(variant.name()),
            money(value(CostPhase::Setup, TOTAL_MONEY)),
            time(value(CostPhase::Setup, TOTAL_SECONDS)),
            number(value(CostPhase::Setup, TOTAL_FLOPS)),
            number(value(CostPhase::Query, "prompt_tokens")),
            number(value(CostPhase::Query, TOTAL_FLOPS)),
            money(value(CostPhase::Query, TOTAL_MONEY).map(|value| value * size)),
            per_correct,
            or_none(time(value(CostPhase::Update, TOTAL_SECONDS)), variant),
        ]
    };
    let currency = &spec.currency;
    let header = vec![
        "variant".to_owned(),
        format!("set-up, {currency}"),
        "set-up, time".to_owned(),
        "set-up, FLOPs".to_owned(),
        "prompt tokens per query".to_owned(),
        "FLOPs per query".to_owned(),
        format!("{together} queries, {currency}"),
        format!("{together} right answers, {currency}"),
        "one document changed".to_owned(),
    ];
    let horizon = format::large(spec.horizon_queries as f64);
    let grid = Grid {
        caption: format!("Right answers: set-up spread over {horizon} questions"),
        header,
        rows: tables.variants().into_iter().map(row).collect(),
        place: Place::Both,
    };
    let people = if spec.people.human_hour > 0.0 {
        format!("{} per hour of people's work, with the minutes that the spec declares", spec.people.human_hour)
    } else {
        "people's work is not charged".to_owned()
    };
    let prices = format!(
        "Prices of {}: {} {currency} per machine hour, {} per label, {} per GiB and month; {people}. A changed document costs retrieval its \
         share of the index build and fine-tuning a whole new training, labels for the new fact not counted.",
        spec.prices_as_of, spec.machine_hour, spec.label, spec.storage_gib_month
    );
    let grids =
        vec![grid, break_even_grid(tables, ledger), setup_grid(tables, ledger), query_grid(tables, ledger), update_grid(tables, ledger)];
    Some(section("cost", "Cost and break-even", true, vec![prices, resources()], grids))
}

fn break_even_grid(tables: &Tables, ledger: &Ledger) -> Grid {
    let horizon = tables.manifest().spec.cost.horizon_queries as f64;
    let of = |left, right, currency| Some(pair(left, right, &ledger.crossing(tables, left, right, currency)?, horizon));
    let variants: Vec<VariantKind> =
        [VariantKind::Baseline, VariantKind::Rag, VariantKind::Finetuned, VariantKind::Hybrid, VariantKind::HybridRaft]
            .into_iter()
            .filter(|variant| tables.variants().contains(variant))
            .collect();
    let mut rows = Vec::new();
    for (index, right) in variants.iter().enumerate() {
        for left in &variants[index + 1..] {
            let money = if ledger.is_priced() { of(*left, *right, Currency::Money) } else { None };
            let flops = of(*left, *right, Currency::Flops);
            let entry = |text: Option<String>| text.map_or_else(Entry::missing, Entry::new);
            rows.push(vec![Entry::new(format!("{} against {}", left.name(), right.name())), entry(money), entry(flops)]);
        }
    }
    let caption = "Break-even of every pair, with the interval that the paired times leave; set-up was paid once and has none";
    let header = ["pair", "in money", "in operations"].map(str::to_owned).to_vec();
    Grid { caption: caption.to_owned(), header, rows, place: Place::Page }
}

/// How the quantities below are known.
fn resources() -> String {
    "Tokens, operations, labels and bytes are counted; times and CPU times are measured; energy is that of the whole processor package, where \
     the system shows its counters; minutes of people are declared in the spec. Memory while answering is that of weights, index and adapter; \
     peak memory is that of the whole process by the end of the phase."
        .to_owned()
}

fn energy(joules: f64) -> String {
    if joules >= 1.0 { format!("{} J", format::quantity(joules)) } else { format!("{} mJ", format::significant(joules * 1e3, 3)) }
}

fn minutes(value: f64) -> String {
    if value == 0.0 { "0".to_owned() } else { format!("{} min", format::significant(value, 3)) }
}

/// A column: its heading, the quantity, and how it is written.
type Quantity = (&'static str, &'static str, fn(f64) -> String);

/// A line per variant. A part that the variant does not have, in a phase whose sum is known, is a dash and not something unmeasured.
fn quantities(tables: &Tables, ledger: &Ledger, phase: CostPhase, caption: &str, columns: &[Quantity]) -> Grid {
    let cell = |variant: VariantKind, quantity: &str, write: fn(f64) -> String| {
        let is_complete = ledger.value(variant, phase, TOTAL_FLOPS).is_some();
        let is_part = !quantity.starts_with("total") && quantity != RESIDENT_BYTES;
        let has_part = |part: &str| match part.split('_').next() {
            Some("index") => ledger.value(variant, phase, "index_flops").is_some(),
            Some("training") => ledger.value(variant, phase, "training_flops").is_some(),
            _ => false,
        };
        match ledger.value(variant, phase, quantity) {
            Some(value) => Entry::new(write(value)),
            None if is_complete && is_part && !has_part(quantity) => Entry::new("–"),
            None => Entry::missing(),
        }
    };
    let row = |variant: VariantKind| {
        let cells = columns.iter().map(|(_, quantity, write)| cell(variant, quantity, *write));
        std::iter::once(Entry::new(variant.name())).chain(cells).collect()
    };
    let header = std::iter::once("variant").chain(columns.iter().map(|(name, ..)| *name)).map(str::to_owned).collect();
    Grid { caption: caption.to_owned(), header, rows: tables.variants().into_iter().map(row).collect(), place: Place::Folded }
}

fn setup_grid(tables: &Tables, ledger: &Ledger) -> Grid {
    let columns: [Quantity; 11] = [
        ("tokens embedded", "index_tokens", format::quantity),
        ("tokens trained on", "training_tokens", format::quantity),
        ("labels", "training_labels", format::count),
        ("FLOPs", TOTAL_FLOPS, format::quantity),
        ("time", TOTAL_SECONDS, format::duration),
        ("CPU time", TOTAL_CPU_SECONDS, format::duration),
        ("energy", TOTAL_JOULES, energy),
        ("index on disk", "index_bytes", format::bytes),
        ("peak memory, index", "index_peak_memory_bytes", format::bytes),
        ("peak memory, training", "training_peak_memory_bytes", format::bytes),
        ("people", TOTAL_MINUTES, minutes),
    ];
    quantities(tables, ledger, CostPhase::Setup, "Everything that set-up takes", &columns)
}

fn query_grid(tables: &Tables, ledger: &Ledger) -> Grid {
    let columns: [Quantity; 8] = [
        ("prompt tokens", "prompt_tokens", |value| format::significant(value, 3)),
        ("of them passages", "context_tokens", |value| format::significant(value, 3)),
        ("new tokens", "completion_tokens", |value| format::significant(value, 3)),
        ("FLOPs", TOTAL_FLOPS, format::quantity),
        ("time", TOTAL_SECONDS, format::duration),
        ("CPU time", TOTAL_CPU_SECONDS, format::duration),
        ("energy", TOTAL_JOULES, energy),
        ("memory", RESIDENT_BYTES, format::bytes),
    ];
    quantities(tables, ledger, CostPhase::Query, "Everything that a query takes, on average", &columns)
}

fn update_grid(tables: &Tables, ledger: &Ledger) -> Grid {
    let columns: [Quantity; 6] = [
        ("tokens embedded", "index_tokens", format::quantity),
        ("tokens trained on", "training_tokens", format::quantity),
        ("FLOPs", TOTAL_FLOPS, format::quantity),
        ("time", TOTAL_SECONDS, format::duration),
        ("people", TOTAL_MINUTES, minutes),
        ("money", TOTAL_MONEY, format::money),
    ];
    let mut grid = quantities(tables, ledger, CostPhase::Update, "Everything that one changed document takes", &columns);
    for row in &mut grid.rows {
        if row[1..].iter().all(|entry| entry.text == format::NOT_MEASURED) {
            row[1..].iter_mut().for_each(|entry| *entry = Entry::new("–"));
            row[1] = Entry::new("none possible");
        }
    }
    grid
}
