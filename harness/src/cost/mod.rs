//! What each variant costs: once (set-up), per question, and per changed document; in tokens, operations, seconds and money.
//!
//! A pure function of the tables. Set-up of retrieval is the index build, of fine-tuning the labels and the training; a hybrid pays both.
//! Updating one document costs retrieval the mean share of the index build, and fine-tuning a whole new training (labels for the new fact
//! not included). What was not measured has no row, and then there is no total either.

mod break_even;
#[cfg(test)]
mod tests;

use std::path::Path;

pub use break_even::{BreakEven, Line};

use crate::spec::{ContextSource, VariantKind};
use crate::stats::Estimate;
use crate::store::manifest::{IndexRecord, TrainingRecord};
use crate::table::{ALL, CostPhase, CostRow, CostSource, TableError, Tables, write_cost};

/// Names of the sums; the parts are named in [`Ledger::of`].
pub const TOTAL_MONEY: &str = "total_money";
#[expect(missing_docs, reason = "see `TOTAL_MONEY`")]
pub const TOTAL_SECONDS: &str = "total_seconds";
#[expect(missing_docs, reason = "see `TOTAL_MONEY`")]
pub const TOTAL_FLOPS: &str = "total_flops";
const GIB: f64 = (1u64 << 30) as f64;

/// What costs are compared in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Currency {
    /// The spec's prices.
    Money,
    /// Analytic floating-point operations: the same on every machine, blind to labels and storage.
    Flops,
}

impl Currency {
    fn total(self) -> &'static str {
        match self {
            Self::Money => TOTAL_MONEY,
            Self::Flops => TOTAL_FLOPS,
        }
    }
}

/// All cost rows of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Ledger {
    /// By variant, phase and quantity.
    pub rows: Vec<CostRow>,
}

/// Makes the ledger of a run and writes `tables/cost`.
pub fn write_ledger(run: &Path, tables: &Tables) -> Result<Ledger, TableError> {
    let ledger = Ledger::of(tables);
    write_cost(run, &ledger.rows)?;
    Ok(ledger)
}

impl Ledger {
    /// The ledger of a run.
    pub fn of(tables: &Tables) -> Self {
        let entries = tables.variants().into_iter().map(|variant| {
            let mut entry = Entry { tables, variant, rows: Vec::new() };
            entry.setup();
            entry.query();
            entry.update();
            entry.rows
        });
        Self { rows: entries.flatten().collect() }
    }

    /// One value; nothing if it was not measured.
    pub fn value(&self, variant: VariantKind, phase: CostPhase, quantity: &str) -> Option<f64> {
        let is = |row: &&CostRow| row.variant == variant && row.phase == phase && row.quantity == quantity;
        self.rows.iter().find(is).map(|row| row.value)
    }

    /// Set-up and per-query cost of a variant; nothing unless both are known.
    pub fn line(&self, variant: VariantKind, currency: Currency) -> Option<Line> {
        let setup = self.value(variant, CostPhase::Setup, currency.total())?;
        let query = self.value(variant, CostPhase::Query, currency.total())?;
        Some(Line { setup, query })
    }

    /// How the costs of two variants compare; nothing unless both are known. Money per query follows from measured time: where the intervals
    /// of the two mean times overlap, no difference was shown and both are taken to cost their mean, so that noise is not sold as a
    /// break-even.
    pub fn against(&self, tables: &Tables, left: VariantKind, right: VariantKind, currency: Currency) -> Option<BreakEven> {
        let (mut left_line, mut right_line) = (self.line(left, currency)?, self.line(right, currency)?);
        let times = tables.seconds_per_query(left).zip(tables.seconds_per_query(right));
        let overlap = times.is_some_and(|(left, right)| left.ci_low <= right.ci_high && right.ci_low <= left.ci_high);
        if currency == Currency::Money && overlap {
            let mean = f64::midpoint(left_line.query, right_line.query);
            (left_line.query, right_line.query) = (mean, mean);
        }
        Some(left_line.against(right_line))
    }

    /// Money per query of every variant for which it is known.
    pub fn query_money(&self) -> impl Iterator<Item = f64> {
        let is = |row: &&CostRow| row.phase == CostPhase::Query && row.quantity == TOTAL_MONEY;
        self.rows.iter().filter(is).map(|row| row.value)
    }

    /// Whether the spec's prices charge for anything.
    pub fn is_priced(&self) -> bool {
        self.rows.iter().any(|row| row.quantity == TOTAL_MONEY && row.value > 0.0)
    }

    /// Money per exactly answered question when set-up is spread over `queries`: `(setup / queries + query) / score`. The interval is the
    /// score's alone; its upper end is infinite where the score's lower end is zero.
    pub fn per_correct(&self, tables: &Tables, variant: VariantKind, queries: u64) -> Option<Estimate> {
        let metric = tables.primary()?;
        let score = tables.quality_of(variant, ALL, &metric.id)?.estimate;
        let line = self.line(variant, Currency::Money)?;
        let each = line.setup / queries as f64 + line.query;
        Some(Estimate { point: each / score.point, ci_low: each / score.ci_high, ci_high: each / score.ci_low, n: score.n })
    }
}

/// Whether the variant needs the index.
fn retrieves(variant: VariantKind) -> bool {
    variant.context() == ContextSource::Retrieved
}

/// The rows of one variant while they are made.
struct Entry<'a> {
    tables: &'a Tables,
    variant: VariantKind,
    rows: Vec<CostRow>,
}

impl Entry<'_> {
    fn push(&mut self, phase: CostPhase, quantity: &str, unit: &str, source: CostSource, value: f64) {
        self.rows.push(CostRow { variant: self.variant, phase, quantity: quantity.to_owned(), unit: unit.to_owned(), value, source });
    }

    fn counted(&mut self, phase: CostPhase, quantity: &str, unit: &str, value: f64) {
        self.push(phase, quantity, unit, CostSource::Counted, value);
    }

    fn measured(&mut self, phase: CostPhase, quantity: &str, value: f64) {
        self.push(phase, quantity, "seconds", CostSource::Measured, value);
    }

    fn priced(&mut self, phase: CostPhase, quantity: &str, value: f64) {
        let currency = self.tables.manifest().spec.cost.currency.clone();
        self.push(phase, quantity, &currency, CostSource::Priced, value);
    }

    /// Sum of the rows so far of a phase whose quantity ends in `ending`.
    fn sum(&self, phase: CostPhase, ending: &str) -> f64 {
        let is = |row: &&CostRow| row.phase == phase && row.quantity.ends_with(ending) && !row.quantity.ends_with("cpu_seconds");
        self.rows.iter().filter(is).map(|row| row.value).sum()
    }

    fn totals(&mut self, phase: CostPhase) {
        let (flops, seconds, money) = (self.sum(phase, "_flops"), self.sum(phase, "_seconds"), self.sum(phase, "_money"));
        self.counted(phase, TOTAL_FLOPS, "flops", flops);
        self.measured(phase, TOTAL_SECONDS, seconds);
        self.priced(phase, TOTAL_MONEY, money);
    }

    fn machine_money(&self, seconds: f64) -> f64 {
        seconds / 3600.0 * self.tables.manifest().spec.cost.machine_hour
    }

    fn storage_money(&self, bytes: f64) -> f64 {
        let cost = &self.tables.manifest().spec.cost;
        bytes / GIB * cost.storage_gib_month * cost.storage_months
    }

    fn index(&self) -> Option<IndexRecord> {
        self.tables.manifest().index.clone().filter(|_| retrieves(self.variant))
    }

    /// Mean over training seeds of a training figure: a user trains once.
    fn trained(&self, of: impl Fn(&TrainingRecord) -> f64) -> Option<f64> {
        let records = self.tables.manifest().training.iter();
        let values: Vec<f64> = records.filter(|record| record.variants.iter().any(|name| name == self.variant.name())).map(of).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }

    /// All parts of the variant's set-up are on record.
    fn is_known(&self) -> bool {
        if self.variant.is_predicted() {
            return false;
        }
        let has_index = !retrieves(self.variant) || self.tables.manifest().index.is_some();
        let has_training = !self.variant.is_tuned() || self.trained(|_| 0.0).is_some();
        has_index && has_training
    }

    fn setup(&mut self) {
        if let Some(index) = self.index() {
            self.setup_index(&index);
        }
        if self.variant.is_tuned() {
            self.setup_training();
        }
        if self.is_known() {
            self.totals(CostPhase::Setup);
        }
    }

    fn setup_index(&mut self, index: &IndexRecord) {
        let phase = CostPhase::Setup;
        let seconds = index.embed_seconds + index.build_seconds;
        self.counted(phase, "index_tokens", "tokens", index.embed_tokens as f64);
        self.counted(phase, "index_flops", "flops", index.embed_flops + index.build_flops);
        self.measured(phase, "index_seconds", seconds);
        self.measured(phase, "index_cpu_seconds", index.cpu_seconds);
        self.counted(phase, "index_bytes", "bytes", index.bytes as f64);
        self.priced(phase, "index_compute_money", self.machine_money(seconds));
        self.priced(phase, "index_storage_money", self.storage_money(index.bytes as f64));
        if let Some(lexical) = &index.lexical {
            self.measured(phase, "lexical_seconds", lexical.seconds);
            self.counted(phase, "lexical_bytes", "bytes", lexical.bytes as f64);
            self.priced(phase, "lexical_compute_money", self.machine_money(lexical.seconds));
            self.priced(phase, "lexical_storage_money", self.storage_money(lexical.bytes as f64));
        }
        if let Some(reranker) = &index.reranker {
            self.measured(phase, "reranker_load_seconds", reranker.load_seconds);
            self.counted(phase, "reranker_bytes", "bytes", reranker.bytes as f64);
            self.priced(phase, "reranker_load_money", self.machine_money(reranker.load_seconds));
        }
    }

    fn setup_training(&mut self) {
        let phase = CostPhase::Setup;
        let label = self.tables.manifest().spec.cost.label;
        let Some(labels) = self.trained(|record| record.labels as f64) else { return };
        let of = |entry: &Self, of: fn(&TrainingRecord) -> f64| entry.trained(of).expect("labels were on record");
        let (tokens, flops) = (of(self, |record| record.tokens as f64), of(self, |record| record.flops));
        let (seconds, cpu_seconds) = (of(self, |record| record.seconds), of(self, |record| record.cpu_seconds));
        let bytes = of(self, |record| record.bytes as f64);
        self.counted(phase, "training_labels", "labels", labels);
        self.counted(phase, "training_tokens", "tokens", tokens);
        self.counted(phase, "training_flops", "flops", flops);
        self.measured(phase, "training_seconds", seconds);
        self.measured(phase, "training_cpu_seconds", cpu_seconds);
        self.counted(phase, "training_bytes", "bytes", bytes);
        self.priced(phase, "label_money", labels * label);
        self.priced(phase, "training_compute_money", self.machine_money(seconds));
        self.priced(phase, "training_storage_money", self.storage_money(bytes));
    }

    fn query(&mut self) {
        let phase = CostPhase::Query;
        let mean = |of: fn(&crate::table::Observation) -> f64| self.tables.mean_per_query(self.variant, of);
        let counts = [
            ("prompt_tokens", "tokens", mean(|row| f64::from(row.prompt_tokens))),
            ("context_tokens", "tokens", mean(|row| f64::from(row.context_tokens))),
            ("completion_tokens", "tokens", mean(|row| f64::from(row.completion_tokens))),
            (TOTAL_FLOPS, "flops", mean(|row| row.flops)),
        ];
        let is_given = self.variant.is_predicted();
        for (quantity, unit, value) in counts {
            // What was not given with the answers stands as zero in the journal.
            if let Some(value) = value.filter(|&value| !is_given || value > 0.0) {
                let source = if is_given { CostSource::Given } else { CostSource::Counted };
                self.push(phase, quantity, unit, source, value);
            }
        }
        if is_given {
            // Another machine's time, at a price that is not known here.
            let seconds = self.tables.seconds_per_query(self.variant);
            seconds.into_iter().for_each(|seconds| self.push(phase, TOTAL_SECONDS, "seconds", CostSource::Given, seconds.point));
            return;
        }
        if let Some(seconds) = self.tables.seconds_per_query(self.variant) {
            self.measured(phase, TOTAL_SECONDS, seconds.point);
            self.priced(phase, TOTAL_MONEY, self.machine_money(seconds.point));
        }
    }

    fn update(&mut self) {
        let phase = CostPhase::Update;
        if !self.is_known() || !(retrieves(self.variant) || self.variant.is_tuned()) {
            return;
        }
        if let Some(index) = self.index() {
            let documents = self.tables.manifest().dataset.documents.max(1) as f64;
            let words = index.lexical.as_ref().map_or(0.0, |lexical| lexical.seconds);
            let seconds = (index.embed_seconds + index.build_seconds + words) / documents;
            self.counted(phase, "index_tokens", "tokens", index.embed_tokens as f64 / documents);
            self.counted(phase, "index_flops", "flops", (index.embed_flops + index.build_flops) / documents);
            self.measured(phase, "index_seconds", seconds);
            self.priced(phase, "index_compute_money", self.machine_money(seconds));
        }
        if let Some(seconds) = self.trained(|record| record.seconds).filter(|_| self.variant.is_tuned()) {
            let (tokens, flops) = (self.trained(|record| record.tokens as f64), self.trained(|record| record.flops));
            self.counted(phase, "training_tokens", "tokens", tokens.expect("trained"));
            self.counted(phase, "training_flops", "flops", flops.expect("trained"));
            self.measured(phase, "training_seconds", seconds);
            self.priced(phase, "training_compute_money", self.machine_money(seconds));
        }
        self.totals(phase);
    }
}
