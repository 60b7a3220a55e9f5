//! What each variant costs: once (set-up), per question, and per changed document; in tokens, operations, seconds and money.
//!
//! A pure function of the tables. Set-up of retrieval is the index build, of fine-tuning the labels and the training; a hybrid pays both.
//! Updating one document costs retrieval the mean share of the index build, and fine-tuning a whole new training (labels for the new fact
//! not included). What was not measured has no row, and then there is no total either. [`Decision`] asks who is good enough and which of
//! them costs least.

mod break_even;
mod decision;
#[cfg(test)]
mod tests;

use std::path::Path;

pub use break_even::{BreakEven, Crossing, Line};
pub use decision::{Contender, Decision, DecisionMap, MapCell, Standing, write_decision};

use crate::spec::{ContextSource, FinetuneMethod, UsageSpec, VariantKind};
use crate::stats::Estimate;
use crate::store::manifest::{IndexRecord, TrainingRecord};
use crate::table::{ALL, CostPhase, CostRow, CostSource, TableError, Tables, write_cost};

/// Names of the sums; the parts are named in [`Ledger::of`].
pub const TOTAL_MONEY: &str = "total_money";
#[expect(missing_docs, reason = "see `TOTAL_MONEY`")]
pub const TOTAL_SECONDS: &str = "total_seconds";
#[expect(missing_docs, reason = "see `TOTAL_MONEY`")]
pub const TOTAL_FLOPS: &str = "total_flops";
#[expect(missing_docs, reason = "see `TOTAL_MONEY`")]
pub const TOTAL_CPU_SECONDS: &str = "total_cpu_seconds";
#[expect(missing_docs, reason = "see `TOTAL_MONEY`")]
pub const TOTAL_JOULES: &str = "total_joules";
#[expect(missing_docs, reason = "see `TOTAL_MONEY`")]
pub const TOTAL_MINUTES: &str = "total_people_minutes";
/// What servers charge for the tokens of a query.
pub const TOKEN_MONEY: &str = "token_money";
/// Memory that a variant's parts take while it answers: weights, index, adapter.
pub const RESIDENT_BYTES: &str = "resident_bytes";
/// Ending of the peak memory of a phase.
pub const PEAK_MEMORY: &str = "peak_memory_bytes";
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

    /// How the costs of two variants compare; nothing unless both are known. Money per query follows from measured time: where the interval
    /// of the paired difference of times holds zero, no difference was shown and both are taken to cost their mean, so that noise is not
    /// sold as a break-even.
    pub fn against(&self, tables: &Tables, left: VariantKind, right: VariantKind, currency: Currency) -> Option<BreakEven> {
        Some(self.crossing(tables, left, right, currency)?.outcome)
    }

    /// The same with what the measured times leave open. Set-up was paid once and carries no interval; counted costs carry none at all.
    pub fn crossing(&self, tables: &Tables, left: VariantKind, right: VariantKind, currency: Currency) -> Option<Crossing> {
        let (left_line, right_line) = (self.line(left, currency)?, self.line(right, currency)?);
        let saving = match currency {
            Currency::Flops => None,
            Currency::Money => self.query_difference(tables, right, left),
        };
        Some(left_line.crossing(right_line, saving))
    }

    /// How much more money a query of `left` costs than one of `right`, with its interval; nothing where they were not timed on the same
    /// questions.
    pub fn query_difference(&self, tables: &Tables, left: VariantKind, right: VariantKind) -> Option<(f64, f64)> {
        let price = tables.manifest().spec.cost.machine_hour / 3600.0;
        let seconds = tables.seconds_difference(left, right)?;
        let tokens = tables.token_money(left) - tables.token_money(right);
        Some((seconds.ci_low * price + tokens, seconds.ci_high * price + tokens))
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

    /// Money per exactly answered question when set-up is spread over `queries`: `(setup / queries + query) / score`. The interval is that
    /// of a ratio of two independent estimates, time and score, by the method of variance estimates recovery on logarithms (Zou and Donner,
    /// Statistics in Medicine 27:1693, 2008); its upper end is infinite where the score's lower end is zero.
    pub fn per_correct(&self, tables: &Tables, variant: VariantKind, queries: u64) -> Option<Estimate> {
        let metric = tables.primary()?;
        let score = tables.quality_of(variant, ALL, &metric.id)?.estimate;
        let line = self.line(variant, Currency::Money)?;
        let price = tables.manifest().spec.cost.machine_hour / 3600.0;
        let each = |query: f64| line.setup / queries as f64 + query;
        let seconds = tables.seconds_per_query(variant)?;
        let tokens = tables.token_money(variant);
        let cost = Estimate {
            point: each(line.query),
            ci_low: each(seconds.ci_low.max(0.0) * price + tokens),
            ci_high: each(seconds.ci_high * price + tokens),
            n: seconds.n,
        };
        Some(Estimate { n: score.n, ..ratio(&cost, &score) })
    }

    /// Cost over some months with so many queries and updates each; nothing if a part of it is not known, or the variant cannot be brought up
    /// to date.
    pub fn total(&self, variant: VariantKind, currency: Currency, usage: &UsageSpec) -> Option<f64> {
        let line = self.line(variant, currency)?;
        let updates = usage.updates_per_month * usage.months;
        let update = if updates > 0.0 { updates * self.value(variant, CostPhase::Update, currency.total())? } else { 0.0 };
        Some(line.total(usage.months * usage.queries_per_month) + update)
    }
}

/// The ratio of two independent estimates of positive quantities.
fn ratio(over: &Estimate, under: &Estimate) -> Estimate {
    let point = over.point / under.point;
    // Distances on the logarithmic scale; those to a bound of zero are infinite.
    let apart = |high: f64, low: f64| if high == low { 0.0 } else { (high / low).ln() };
    let down = apart(over.point, over.ci_low).hypot(apart(under.ci_high, under.point));
    let up = apart(over.ci_high, over.point).hypot(apart(under.point, under.ci_low));
    Estimate { point, ci_low: point * (-down).exp(), ci_high: if point == 0.0 { 0.0 } else { point * up.exp() }, n: over.n.min(under.n) }
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

    fn declared(&mut self, phase: CostPhase, quantity: &str, minutes: f64) {
        self.push(phase, quantity, "minutes", CostSource::Declared, minutes);
    }

    /// Minutes that the spec declares for people, and their price.
    fn people(&mut self, phase: CostPhase, part: &str, minutes: f64) {
        let price = self.tables.manifest().spec.cost.people.human_hour;
        self.declared(phase, &format!("{part}_people_minutes"), minutes);
        self.priced(phase, &format!("{part}_people_money"), minutes / 60.0 * price);
    }

    /// Energy and peak memory of a phase of the run, where the system told.
    fn phase_of_run(&mut self, phase: CostPhase, part: &str, name: &str, share: f64) {
        let Some(record) = self.tables.manifest().phases.iter().find(|record| record.name == name).cloned() else { return };
        if let Some(joules) = record.energy_joules {
            self.push(phase, &format!("{part}_joules"), "joules", CostSource::Measured, joules * share);
        }
        if let Some(bytes) = record.peak_memory_bytes {
            self.push(phase, &format!("{part}_{PEAK_MEMORY}"), "bytes", CostSource::Measured, bytes as f64);
        }
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
        let minutes = self.sum(phase, "_people_minutes");
        // What a server computed was not counted.
        if self.index().is_none_or(|index| index.embed_flops.is_some()) {
            self.counted(phase, TOTAL_FLOPS, "flops", flops);
        }
        self.measured(phase, TOTAL_SECONDS, seconds);
        self.declared(phase, TOTAL_MINUTES, minutes);
        self.priced(phase, TOTAL_MONEY, money);
    }

    /// The sums of set-up alone: what an update takes of the processor is a part of it that was not measured by itself.
    fn setup_totals(&mut self) {
        let phase = CostPhase::Setup;
        let of = |entry: &Self, ending: &str| -> Vec<f64> {
            entry.rows.iter().filter(|row| row.phase == phase && row.quantity.ends_with(ending)).map(|row| row.value).collect()
        };
        let (cpu, joules) = (of(self, "_cpu_seconds"), of(self, "_joules"));
        let parts = usize::from(self.index().is_some()) + usize::from(self.variant.is_tuned());
        self.measured(phase, TOTAL_CPU_SECONDS, cpu.iter().sum());
        if parts == joules.len() {
            self.push(phase, TOTAL_JOULES, "joules", CostSource::Measured, joules.iter().sum());
        }
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

    /// A server answers.
    fn is_served(&self) -> bool {
        self.tables.manifest().model.served.is_some()
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
            self.setup_totals();
        }
    }

    fn setup_index(&mut self, index: &IndexRecord) {
        let phase = CostPhase::Setup;
        let seconds = index.embed_seconds + index.build_seconds;
        self.counted(phase, "index_tokens", "tokens", index.embed_tokens as f64);
        if let Some(flops) = index.embed_flops {
            self.counted(phase, "index_flops", "flops", flops + index.build_flops);
        }
        self.measured(phase, "index_seconds", seconds);
        self.measured(phase, "index_cpu_seconds", index.cpu_seconds);
        self.counted(phase, "index_bytes", "bytes", index.bytes as f64);
        self.phase_of_run(phase, "index", "index", 1.0);
        self.people(phase, "index", self.tables.manifest().spec.cost.people.index_minutes);
        self.priced(phase, "index_compute_money", self.machine_money(seconds));
        self.priced(phase, "index_storage_money", self.storage_money(index.bytes as f64));
        self.embedding_money(phase, index, index.embed_tokens as f64);
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

    /// What a server charges for embedding, where one embeds.
    fn embedding_money(&mut self, phase: CostPhase, index: &IndexRecord, tokens: f64) {
        if index.embedder.is_some() {
            let price = self.tables.manifest().spec.retrieval.endpoint.price_input;
            self.priced(phase, "index_embedding_money", tokens * price / 1e6);
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
        let all: f64 = self.tables.manifest().training.iter().map(|record| record.seconds).sum();
        self.phase_of_run(phase, "training", "train", if all > 0.0 { seconds / all } else { 1.0 });
        let people = self.tables.manifest().spec.cost.people.clone();
        self.people(phase, "training", people.training_minutes);
        self.people(phase, "label", labels * people.label_minutes);
        self.priced(phase, "label_money", labels * label);
        self.priced(phase, "training_compute_money", self.machine_money(seconds));
        self.priced(phase, "training_storage_money", self.storage_money(bytes));
    }

    fn query(&mut self) {
        let phase = CostPhase::Query;
        let mean = |of: fn(&crate::table::Usage) -> Option<f64>| self.tables.mean_per_query(self.variant, of);
        let counts = [
            ("prompt_tokens", "tokens", mean(|usage| Some(usage.prompt_tokens))),
            ("context_tokens", "tokens", mean(|usage| Some(usage.context_tokens))),
            ("completion_tokens", "tokens", mean(|usage| Some(usage.completion_tokens))),
            (TOTAL_FLOPS, "flops", mean(|usage| usage.flops)),
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
            let tokens = self.tables.token_money(self.variant);
            if tokens > 0.0 {
                self.priced(phase, TOKEN_MONEY, tokens);
            }
            self.priced(phase, TOTAL_MONEY, self.machine_money(seconds.point) + tokens);
        }
        let told = |of: fn(&crate::table::Times) -> Option<u64>, unit: f64| {
            self.tables.mean_per_timed_query(self.variant, |times| of(times).map(|value| value as f64 / unit))
        };
        let (cpu, joules) = (told(|times| times.resources.cpu_ns, 1e9), told(|times| times.resources.energy_uj, 1e6));
        if let Some(seconds) = cpu {
            self.measured(phase, TOTAL_CPU_SECONDS, seconds);
        }
        if let Some(joules) = joules {
            self.push(phase, TOTAL_JOULES, "joules", CostSource::Measured, joules);
        }
        if self.is_known() && !self.is_served() {
            self.counted(phase, RESIDENT_BYTES, "bytes", self.resident());
        }
    }

    /// Bytes of weights, index and adapter. With `finetune.method = "full"` the tuned weights take the place of the others.
    fn resident(&self) -> f64 {
        let weights = self.tables.manifest().model.weight_bytes as f64;
        let index = self.index().map_or(0.0, |index| index.bytes as f64);
        let is_full = self.tables.manifest().spec.finetune.method == FinetuneMethod::Full;
        let adapter = self.trained(|record| record.bytes as f64).filter(|_| self.variant.is_tuned() && !is_full);
        weights + index + adapter.unwrap_or(0.0)
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
            if let Some(flops) = index.embed_flops {
                self.counted(phase, "index_flops", "flops", (flops + index.build_flops) / documents);
            }
            self.measured(phase, "index_seconds", seconds);
            self.priced(phase, "index_compute_money", self.machine_money(seconds));
            self.embedding_money(phase, &index, index.embed_tokens as f64 / documents);
            self.people(phase, "index", self.tables.manifest().spec.cost.people.index_update_minutes);
        }
        if let Some(seconds) = self.trained(|record| record.seconds).filter(|_| self.variant.is_tuned()) {
            let (tokens, flops) = (self.trained(|record| record.tokens as f64), self.trained(|record| record.flops));
            self.counted(phase, "training_tokens", "tokens", tokens.expect("trained"));
            self.counted(phase, "training_flops", "flops", flops.expect("trained"));
            self.measured(phase, "training_seconds", seconds);
            self.priced(phase, "training_compute_money", self.machine_money(seconds));
            self.people(phase, "training", self.tables.manifest().spec.cost.people.training_update_minutes);
        }
        self.totals(phase);
    }
}
