//! The sections of the report, in order.

use super::claims::section_of;
use super::headline::{in_questions, interval, pair};
use super::{Entry, FigureRef, Grid, Place, Section, losses, search};
use crate::claim::ClaimCard;
use crate::cost::{Currency, Ledger, TOTAL_FLOPS, TOTAL_MONEY, TOTAL_SECONDS};
use crate::report::format;
use crate::report::plot::Figure;
use crate::report::slices::{self, SliceName};
use crate::report::verdict::{difference_name, verdict_word};
use crate::spec::VariantKind;
use crate::stats::Verdict;
use crate::table::{ALL, ContrastRow, CostPhase, Kind, Metric, QualityRow, Scale, Stage, Tables};

/// All sections that the run has data for.
pub(super) fn all(tables: &Tables, ledger: &Ledger, claims: &[ClaimCard], figures: &[Figure]) -> Vec<Section> {
    let sections = [
        square(tables),
        effects(tables),
        section_of(claims),
        quality(tables),
        losses::losses(tables),
        losses::explanation(tables),
        retrieval(tables),
        latency(tables),
        cost(tables, ledger),
        training(tables),
        noise(tables),
    ];
    let mut sections: Vec<Section> = sections.into_iter().flatten().collect();
    for section in &mut sections {
        let names = figure_names(section.id);
        let of = figures.iter().filter(|figure| names.contains(&figure.name));
        section.figures =
            of.map(|figure| FigureRef { name: figure.name, title: figure.title.clone(), caption: figure.caption.clone() }).collect();
    }
    sections
}

fn figure_names(section: &str) -> &'static [&'static str] {
    match section {
        "square" => &["accuracy"],
        "effects" => &["contrasts"],
        "quality" => &["slices"],
        "losses" => &["causes"],
        "latency" => &["latency", "stages", "tradeoff"],
        "cost" => &["cost"],
        "training" => &["training"],
        _ => &[],
    }
}

pub(super) fn section(id: &'static str, title: &'static str, is_short: bool, paragraphs: Vec<String>, tables: Vec<Grid>) -> Section {
    Section { id, title, paragraphs, tables, figures: Vec::new(), is_short }
}

pub(super) fn cell(row: Option<&QualityRow>) -> Entry {
    row.map_or_else(Entry::missing, |row| {
        let failed = if row.n_failed > 0 { format!("{} failed", row.n_failed) } else { String::new() };
        Entry::with(format::score(row.estimate.point, &row.metric), format::interval(&row.estimate, &row.metric)).noted(failed)
    })
}

pub(super) fn heading(metric: &Metric) -> String {
    let arrow = if metric.direction.name() == "higher" { "" } else { " (less is better)" };
    if metric.unit == "share" { format!("{} %{arrow}", metric.label()) } else { format!("{}{arrow}", metric.label()) }
}

/// The 2x2 experiment in one table, the other variants below it.
fn square(tables: &Tables) -> Option<Section> {
    let metric = tables.primary()?;
    let of = |variant| cell(tables.quality_of(variant, ALL, &metric.id));
    let n = tables.quality.first()?.estimate.n;
    let row = |name: &str, left, right| vec![Entry::new(name), of(left), of(right)];
    let grid = Grid {
        caption: format!("{}, all {} test questions", heading(metric), format::count(n as f64)),
        header: vec![String::new(), "no retrieval".to_owned(), "retrieval".to_owned()],
        rows: vec![
            row("base weights", VariantKind::Baseline, VariantKind::Rag),
            row("fine-tuned weights", VariantKind::Finetuned, VariantKind::Hybrid),
        ],
        place: Place::Both,
    };
    let others = [
        (VariantKind::HybridRaft, "fine-tuned on prompts with passages, with retrieval"),
        (VariantKind::Oracle, "base weights with the right passages: what perfect retrieval would give"),
        (VariantKind::Random, "base weights with passages drawn at random: what any passage does"),
    ];
    let given =
        tables.variants().into_iter().filter(|variant| variant.is_predicted()).map(|variant| (variant, "another system, by its answers"));
    let rows: Vec<Vec<Entry>> = others
        .into_iter()
        .filter(|(variant, _)| tables.variants().contains(variant))
        .chain(given)
        .map(|(variant, what)| vec![Entry::new(variant.name()), of(variant), Entry::new(what)])
        .collect();
    let is_here =
        |variant: &VariantKind| [VariantKind::Baseline, VariantKind::Rag, VariantKind::Finetuned, VariantKind::Hybrid].contains(variant);
    let has_square = tables.variants().iter().any(is_here);
    let mut grids: Vec<Grid> = has_square.then_some(grid).into_iter().collect();
    if !rows.is_empty() {
        let header = vec!["variant".to_owned(), heading(metric), "what it is".to_owned()];
        let caption = if has_square { "Beside the two factors" } else { "Scores" };
        grids.push(Grid { caption: caption.to_owned(), header, rows, place: Place::Both });
    }
    let text = if has_square {
        "Two factors, each on or off: retrieval across, fine-tuning down."
    } else {
        "Nothing of the experiment was run here."
    };
    let text = text.to_owned();
    Some(section("square", "The experiment", true, vec![text], grids))
}

/// Paired differences: a line per slice that is not of a wide name, a column per difference.
fn effects(tables: &Tables) -> Option<Section> {
    let metric = tables.primary()?;
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for row in &tables.contrasts {
        if !pairs.contains(&(&row.left, &row.right)) {
            pairs.push((&row.left, &row.right));
        }
    }
    if pairs.is_empty() {
        return None;
    }
    let names = slices::narrow(tables);
    let slices = std::iter::once(ALL).chain(names.iter().flat_map(|name| &name.slices).map(String::as_str));
    let row = |slice| {
        let cells = pairs.iter().map(|(left, right)| difference_entry(tables, left, right, slice, metric));
        std::iter::once(Entry::new(slice)).chain(cells).collect()
    };
    let grid = Grid {
        caption: format!("Paired differences of {}, in points", metric.label()),
        header: std::iter::once("slice".to_owned()).chain(pairs.iter().map(|(left, right)| difference_name(left, right))).collect(),
        rows: slices.map(row).collect(),
        place: Place::Both,
    };
    let text = "Each question is compared with itself under the other variant. The interaction is what fine-tuning adds on top of retrieval, \
                less what it adds alone: below zero (interference) the two do partly the same work, above (synergy) they help each other. The \
                second table has the same by slice; verdicts there are adjusted for the number of slices and differences.";
    let paragraphs = std::iter::once(text.to_owned()).chain(meanings(tables, &names)).collect();
    Some(section("effects", "Differences", true, paragraphs, vec![verdicts(tables, metric), grid]))
}

/// The declared differences over all questions: a line each, with what a verdict would take.
fn verdicts(tables: &Tables, metric: &Metric) -> Grid {
    let row = |row: &ContrastRow| {
        let detectable = row.judgement.detectable.map_or_else(|| Entry::new("–"), |effect| Entry::new(format::score(effect, metric)));
        let needed = row.judgement.needed.map_or_else(|| Entry::new("–"), |needed| Entry::new(in_questions(&needed, row)));
        let effect = row.comparison.design_effect.map_or_else(|| Entry::new("–"), |effect| Entry::new(format::significant(effect, 2)));
        vec![
            Entry::new(difference_name(&row.left, &row.right)),
            Entry::new(verdict_word(row)),
            Entry::with(format::signed(row.difference.point, metric), interval(row)),
            Entry::new(format::p_value(row.p_adjusted).trim_start_matches("p ").trim_start_matches("= ")),
            detectable,
            needed,
            Entry::new(format::count(row.comparison.clusters as f64)),
            effect,
        ]
    };
    let is_declared = |row: &&ContrastRow| row.slice == ALL && row.metric.id == metric.id && row.scale == Scale::Additive;
    let spec = &tables.manifest().spec.contrasts;
    let header = ["difference", "verdict", "points", "p, adjusted", "detectable", "to decide", "clusters", "design effect"];
    Grid {
        caption: format!(
            "Verdicts on {}, the left side against the right: level {}, power {}, margin {} points; “detectable” is at the strictest step",
            metric.label(),
            spec.alpha,
            spec.power,
            spec.margin
        ),
        header: header.map(str::to_owned).to_vec(),
        rows: tables.contrasts.iter().filter(is_declared).map(row).collect(),
        place: Place::Both,
    }
}

fn difference_entry(tables: &Tables, left: &str, right: &str, slice: &str, metric: &Metric) -> Entry {
    tables.contrast_of(left, right, slice, &metric.id).map_or_else(Entry::missing, |row| {
        let note = match row.verdict() {
            Verdict::Better | Verdict::Worse => "",
            Verdict::Equivalent | Verdict::Inconclusive => verdict_word(row),
        };
        Entry::with(format::signed(row.difference.point, metric), interval(row)).noted(note)
    })
}

/// What the values of these slice names mean, in one paragraph; nothing if the dataset does not say.
fn meanings(tables: &Tables, names: &[SliceName]) -> Option<String> {
    let meanings = &tables.manifest().dataset.slices;
    let of = |name: &SliceName| Some(format!("{} — {}", format::sentence(&name.name), meanings.get(&name.name)?.trim_end_matches('.')));
    let parts: Vec<String> = names.iter().filter_map(of).collect();
    (!parts.is_empty()).then(|| format!("{}.", parts.join(". ")))
}

/// Every answer metric over all questions, and the leading one per slice.
fn quality(tables: &Tables) -> Option<Section> {
    let primary = tables.primary()?;
    let variants = tables.variants();
    let metrics: Vec<&Metric> = tables.scores.metrics_of(Kind::Answer).collect();
    let row = |variant: &VariantKind| {
        let cells = metrics.iter().map(|metric| cell(tables.quality_of(*variant, ALL, &metric.id)));
        std::iter::once(Entry::new(variant.name())).chain(cells).collect()
    };
    let mut grids = vec![Grid {
        caption: "All test questions".to_owned(),
        header: std::iter::once("variant".to_owned()).chain(metrics.iter().map(|metric| heading(metric))).collect(),
        rows: variants.iter().map(row).collect(),
        place: Place::Page,
    }];
    let (wide, narrow): (Vec<SliceName>, Vec<SliceName>) = slices::names(tables).into_iter().partition(SliceName::is_wide);
    if !narrow.is_empty() {
        let slices = narrow.iter().flat_map(|name| &name.slices);
        grids.push(slice_grid(tables, primary, format!("{} by slice", heading(primary)), slices, Place::Page));
    }
    for name in &wide {
        let caption = format!("{} by {} ({} values)", heading(primary), name.name, name.slices.len());
        grids.push(slice_grid(tables, primary, caption, name.slices.iter(), Place::Folded));
    }
    Some(section("quality", "Quality per slice", false, meanings(tables, &wide).into_iter().collect(), grids))
}

fn slice_grid<'a>(tables: &Tables, metric: &Metric, caption: String, slices: impl Iterator<Item = &'a String>, place: Place) -> Grid {
    let variants = tables.variants();
    let row = |slice: &String| {
        let cells: Vec<Entry> = variants.iter().map(|variant| cell(tables.quality_of(*variant, slice, &metric.id))).collect();
        let n = variants.iter().filter_map(|variant| tables.quality_of(*variant, slice, &metric.id)).map(|row| row.estimate.n).max();
        let count = Entry::new(n.map_or(String::new(), |n| format::count(n as f64)));
        [Entry::new(slice), count].into_iter().chain(cells).collect()
    };
    let names = variants.iter().map(|variant| variant.name().to_owned());
    let header = ["slice".to_owned(), "n".to_owned()].into_iter().chain(names).collect();
    Grid { caption, header, rows: slices.map(row).collect(), place }
}

/// What retrieval found, and what the index lost against exact search.
fn retrieval(tables: &Tables) -> Option<Section> {
    let is_about_passages = |metric: &&Metric| {
        metric.kind == Kind::Retrieval || metric.id.starts_with("ann_recall") || ["grounded", "context_cut"].contains(&metric.id.as_str())
    };
    let metrics: Vec<&Metric> = tables.scores.metrics.iter().filter(is_about_passages).collect();
    let with_passages: Vec<VariantKind> = tables
        .variants()
        .into_iter()
        .filter(|variant| metrics.iter().any(|metric| tables.quality_of(*variant, ALL, &metric.id).is_some()))
        .collect();
    if with_passages.is_empty() {
        return None;
    }
    let row = |variant: &VariantKind| {
        let cells = metrics.iter().map(|metric| cell(tables.quality_of(*variant, ALL, &metric.id)));
        std::iter::once(Entry::new(variant.name())).chain(cells).collect()
    };
    let grid = Grid {
        caption: "Passages of all test questions".to_owned(),
        header: std::iter::once("variant".to_owned()).chain(metrics.iter().map(|metric| heading(metric))).collect(),
        rows: with_passages.iter().map(row).collect(),
        place: Place::Page,
    };
    Some(section("retrieval", "Retrieval", false, search::paragraphs(tables.manifest()), vec![grid]))
}

/// Times end to end, to the first token, and per stage.
fn latency(tables: &Tables) -> Option<Section> {
    let row = |variant: VariantKind| {
        let e2e = tables.latency_of(variant, Stage::E2e)?;
        let tail = |value: Option<f64>| value.map_or_else(|| Entry::new("too few"), |value| Entry::new(format::significant(value, 3)));
        let median = |stage| {
            tables.latency_of(variant, stage).map_or_else(Entry::missing, |row| {
                let ms = |value| format::significant(value, 3);
                Entry::with(ms(row.p50.point), format!("({} to {})", ms(row.p50.ci_low), ms(row.p50.ci_high)))
            })
        };
        let n = Entry::new(e2e.n_questions.to_string());
        let name = Entry::new(variant.name());
        Some(vec![name, n, median(Stage::E2e), tail(e2e.p90), tail(e2e.p95), tail(e2e.p99), median(Stage::Ttft)])
    };
    let rows: Vec<Vec<Entry>> = tables.variants().into_iter().filter_map(row).collect();
    if rows.is_empty() {
        let text = "Not measured: the run has no latency pass.".to_owned();
        return Some(section("latency", "Time per query", true, vec![text], vec![]));
    }
    let header = ["variant", "n", "p50 ms", "p90", "p95", "p99", "first token, p50 ms"].map(str::to_owned).to_vec();
    let grid = Grid { caption: "Question to last token, one query at a time".to_owned(), header, rows, place: Place::Both };
    let text =
        "A percentile is given only where there are enough questions to see beyond it: 29 for p90, 59 for p95, 299 for p99.".to_owned();
    Some(section("latency", "Time per query", true, vec![text], vec![grid, stage_grid(tables)]))
}

fn stage_grid(tables: &Tables) -> Grid {
    let timed = tables.variants().into_iter().filter(|variant| tables.latency_of(*variant, Stage::E2e).is_some());
    let row = |variant: VariantKind| {
        let cell = |stage| {
            tables.latency_of(variant, stage).map_or_else(|| Entry::new("–"), |row| Entry::new(format::significant(row.mean.point, 3)))
        };
        std::iter::once(Entry::new(variant.name())).chain(tables.stages().into_iter().map(cell)).collect()
    };
    let header = std::iter::once("variant").chain(tables.stages().into_iter().map(Stage::name)).map(str::to_owned).collect();
    let caption = "Mean per stage, ms; – where the variant has no such stage".to_owned();
    Grid { caption, header, rows: timed.map(row).collect(), place: Place::Page }
}

/// The ledger in short, totals, and break-evens.
fn cost(tables: &Tables, ledger: &Ledger) -> Option<Section> {
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
    let prices = format!(
        "Prices of {}: {} {currency} per machine hour, {} per label, {} per GiB and month. A changed document costs retrieval its share of the \
         index build and fine-tuning a whole new training, labels for the new fact not counted.",
        spec.prices_as_of, spec.machine_hour, spec.label, spec.storage_gib_month
    );
    Some(section("cost", "Cost and break-even", true, vec![prices], vec![grid, break_even_grid(tables, ledger)]))
}

fn break_even_grid(tables: &Tables, ledger: &Ledger) -> Grid {
    let horizon = tables.manifest().spec.cost.horizon_queries as f64;
    let of = |left, right, currency| Some(pair(left, right, ledger.against(tables, left, right, currency)?, horizon));
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
    let caption = "Break-even of every pair; in money, two variants count as equally fast where the intervals of their mean times overlap";
    let header = ["pair", "in money", "in operations"].map(str::to_owned).to_vec();
    Grid { caption: caption.to_owned(), header, rows, place: Place::Page }
}

/// What was trained.
fn training(tables: &Tables) -> Option<Section> {
    let records = &tables.manifest().training;
    if records.is_empty() {
        return None;
    }
    let rows = records.iter().map(|record| {
        let loss = record.best_eval_loss.map_or_else(Entry::missing, |loss| Entry::new(format::significant(loss, 3)));
        vec![
            Entry::new(&record.adapter),
            Entry::new(record.variants.join(", ")),
            Entry::new(&record.method),
            Entry::new(format::count(record.labels as f64)),
            Entry::new(format::quantity(record.trainable_parameters as f64)),
            Entry::new(format::count(record.steps as f64)),
            Entry::new(format::quantity(record.tokens as f64)),
            Entry::new(format::duration(record.seconds)),
            loss,
        ]
    });
    let header = ["adapter", "used by", "method", "labels", "weights trained", "steps", "tokens", "time", "best validation loss"];
    let grid = Grid {
        caption: "One line per training".to_owned(),
        header: header.map(str::to_owned).to_vec(),
        rows: rows.collect(),
        place: Place::Page,
    };
    let left_out: usize = records.iter().map(|record| record.dropped).sum();
    let cut: usize = records.iter().map(|record| record.cut).sum();
    let text = format!("{left_out} rows were left out because their prompt did not fit; {cut} answers were cut.");
    Some(section("training", "Training", false, vec![text], vec![grid]))
}

/// How many answers another way of computing changes.
fn noise(tables: &Tables) -> Option<Section> {
    let records = &tables.manifest().noise;
    let mut changes: Vec<&str> = Vec::new();
    for record in records {
        if !changes.contains(&record.change.as_str()) {
            changes.push(&record.change);
        }
    }
    if changes.is_empty() {
        return None;
    }
    let row = |variant: VariantKind| {
        let cell = |change: &&str| {
            let found = records.iter().find(|record| record.variant == variant.name() && record.change == *change);
            found.map_or_else(Entry::missing, |record| {
                let right = format!("{:+} right", record.exact_match_change);
                Entry::with(format!("{} of {}", record.changed, record.answers), if record.changed > 0 { right } else { String::new() })
            })
        };
        std::iter::once(Entry::new(variant.name())).chain(changes.iter().map(cell)).collect()
    };
    let grid = Grid {
        caption: "Answers whose text changed, and what that did to exact match".to_owned(),
        header: std::iter::once("variant").chain(changes.iter().copied()).map(str::to_owned).collect(),
        rows: tables.variants().into_iter().map(row).collect(),
        place: Place::Page,
    };
    let text =
        "Some questions, answered again with nothing changed but how the answers are computed. A difference between two runs that is \
                no larger than this says nothing about the variants."
            .to_owned();
    Some(section("noise", "Noise floor", true, vec![text], vec![grid]))
}

/// The manifest in lines.
pub(super) fn facts(tables: &Tables) -> Vec<(String, String)> {
    let manifest = tables.manifest();
    let (machine, dataset, model, spec) = (&manifest.machine, &manifest.dataset, &manifest.model, &manifest.spec);
    let mut facts = vec![
        ("run", format!("{} ({})", spec.name, manifest.run_id)),
        ("started", manifest.started_at.clone()),
        ("result hash", manifest.result_hash.clone().unwrap_or_else(|| "none: the run is not complete".to_owned())),
        (
            "ragft",
            format!(
                "{}{}",
                manifest.crate_version,
                manifest.git_commit.as_ref().map_or(String::new(), |commit| format!(", commit {commit}"))
            ),
        ),
        ("dataset", format!("{} {}, {}, {}", dataset.name, dataset.version, dataset.licence, dataset.source)),
        (
            "model",
            if model.is_none() {
                "none: all answers were given".to_owned()
            } else {
                format!(
                    "{}, {}, {} parameters, window of {} tokens",
                    model.path,
                    model.architecture,
                    format::count(model.parameters as f64),
                    model.context_length
                )
            },
        ),
        (
            "machine",
            format!(
                "{}, {} cores, {} threads, {}, {}",
                machine.cpu,
                machine.cores,
                machine.threads,
                format::bytes(machine.memory_bytes as f64),
                machine.os
            ),
        ),
        ("device", manifest.machine.device.clone()),
        ("seeds", spec.seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")),
        ("retrieval", search::settings(&spec.retrieval)),
        ("decoding", format!("temperature {}, at most {} new tokens", spec.generation.temperature, spec.generation.max_new_tokens)),
    ];
    for phase in &manifest.phases {
        let memory = phase.peak_memory_bytes.map_or(String::new(), |bytes| format!(", peak memory {}", format::bytes(bytes as f64)));
        facts.push((
            "phase",
            format!("{}: {}, {} of CPU{memory}", phase.name, format::duration(phase.seconds), format::duration(phase.cpu_seconds)),
        ));
    }
    let hashes = manifest.hashes.iter().map(|(name, hash)| (format!("hash of {name}"), hash.clone()));
    facts.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(hashes).collect()
}
