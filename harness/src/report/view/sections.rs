//! The sections of the report, in order.

use super::claims::section_of;
use super::headline::{in_questions, interval};
use super::{Entry, FigureRef, Grid, Place, Section, Sources, decision, latency, ledger, losses, search};
use crate::report::format;
use crate::report::slices::{self, SliceName};
use crate::report::verdict::{difference_name, verdict_word};
use crate::spec::VariantKind;
use crate::stats::Verdict;
use crate::store::manifest::{ModelRecord, ServedRecord};
use crate::table::{ALL, ContrastRow, Kind, Metric, QualityRow, Scale, Tables};

/// All sections that the run has data for: verdicts first, then what they are made of, then what they cost, then how the run went.
pub(super) fn all(sources: &Sources) -> Vec<Section> {
    let Sources { tables, ledger, decision, claims, figures } = *sources;
    let sections = [
        effects(tables),
        square(tables),
        quality(tables),
        losses::losses(tables),
        latency::tradeoff(figures),
        ledger::cost(tables, ledger),
        decision.map(|decision| decision::section_of(tables, decision)),
        section_of(claims),
        losses::explanation(tables),
        retrieval(tables),
        latency::latency(tables),
        latency::scenarios(tables),
        training(tables),
        noise(tables),
    ];
    let mut sections: Vec<Section> = sections.into_iter().flatten().collect();
    for section in &mut sections {
        section.rows = row_files(section.id);
        let names = figure_names(section.id);
        let of = figures.iter().filter(|figure| names.contains(&figure.name));
        section.figures =
            of.map(|figure| FigureRef { name: figure.name, title: figure.title.clone(), caption: figure.caption.clone() }).collect();
    }
    sections
}

fn figure_names(section: &str) -> &'static [&'static str] {
    match section {
        "square" => &["interaction", "accuracy"],
        "effects" => &["contrasts"],
        "quality" => &["slices", "strata"],
        "losses" => &["causes"],
        "tradeoff" => &["tradeoff"],
        "latency" => &["latency", "stages"],
        "decision" => &["decision"],
        "cost" => &["cost"],
        "training" => &["training"],
        _ => &[],
    }
}

/// Files with the rows behind a section's numbers, the summed ones first.
fn row_files(section: &str) -> &'static [&'static str] {
    match section {
        "effects" => &["tables/contrasts.csv", "tables/predictions.parquet"],
        "square" | "quality" => &["tables/quality.csv", "tables/predictions.parquet"],
        "losses" => &["tables/ladder.csv", "tables/hits.parquet", "tables/predictions.parquet"],
        "tradeoff" => &["tables/quality.csv", "tables/latency.csv"],
        "cost" => &["tables/cost.csv"],
        "decision" => &["tables/decision.csv", "plots/decision.csv"],
        "claims" => &["tables/claims.csv"],
        "explanation" => &["audit.jsonl"],
        "retrieval" => &["tables/quality.csv", "tables/hits.parquet"],
        "latency" => &["tables/latency.csv", "tables/predictions.parquet"],
        "scenarios" => &["tables/server.csv", "server.jsonl", "manifest.json"],
        "training" => &["tables/training.parquet"],
        "noise" => &["manifest.json"],
        _ => &[],
    }
}

pub(super) fn section(id: &'static str, title: &'static str, is_short: bool, paragraphs: Vec<String>, tables: Vec<Grid>) -> Section {
    Section { id, title, paragraphs, tables, figures: Vec::new(), rows: &[], is_short }
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
    grids.extend(interaction(tables, metric));
    Some(section("square", "The experiment", true, vec![text], grids))
}

/// Whether the two factors add up, on both scales; nothing unless all four variants were measured.
fn interaction(tables: &Tables, metric: &Metric) -> Option<Grid> {
    let points = tables.contrast_of("hybrid-rag", "finetuned-baseline", ALL, &metric.id)?;
    let row = |scale: &str, row: &ContrastRow, number: &dyn Fn(f64) -> String| {
        let estimate = &row.difference;
        let range = format!("({} to {})", number(estimate.ci_low), number(estimate.ci_high));
        let p = format::p_value(row.p_adjusted);
        vec![
            Entry::new(scale),
            Entry::with(number(estimate.point), range),
            Entry::new(p.trim_start_matches("p ").trim_start_matches("= ")),
            Entry::new(verdict_word(row)),
        ]
    };
    let mut rows = vec![row("in points", points, &|value| format::signed(value, metric))];
    if let Some(odds) = tables.interaction_in_log_odds(ALL, &metric.id) {
        rows.push(row("in log-odds", odds, &|value| format!("{value:+.2}")));
    }
    Some(Grid {
        caption: "Interaction: what fine-tuning adds on top of retrieval, less what it adds alone".to_owned(),
        header: ["scale", "interaction", "p, adjusted", "verdict"].map(str::to_owned).to_vec(),
        rows,
        place: Place::Page,
    })
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
    let names = slices::shown(tables);
    let row = |slice: &str| -> Vec<Entry> {
        let cells = pairs.iter().map(|(left, right)| difference_entry(tables, left, right, slice, metric));
        std::iter::once(Entry::new(slice)).chain(cells).collect()
    };
    let grid = |caption: String, slices: Vec<&str>, place| Grid {
        caption,
        header: std::iter::once("slice".to_owned()).chain(pairs.iter().map(|(left, right)| difference_name(left, right))).collect(),
        rows: slices.into_iter().map(row).collect(),
        place,
    };
    let caption = format!("Paired differences of {}, in points", metric.label());
    let first = std::iter::once(ALL).chain(names.iter().flat_map(|name| &name.slices).map(String::as_str)).collect();
    let mut grids = vec![verdicts(tables, metric), grid(caption.clone(), first, Place::Both)];
    let others: Vec<SliceName> = slices::narrow(tables).into_iter().filter(|name| !names.contains(name)).collect();
    if !others.is_empty() {
        let listed: Vec<&str> = others.iter().map(|name| name.name.as_str()).collect();
        let caption = format!("{caption}: {}", listed.join(", "));
        grids.push(grid(caption, others.iter().flat_map(|name| &name.slices).map(String::as_str).collect(), Place::Folded));
    }
    let text = "Each question is compared with itself under the other variant. The interaction is what fine-tuning adds on top of retrieval, \
                less what it adds alone: below zero (interference) the two do partly the same work, above (synergy) they help each other. The \
                second table has the same by slice; verdicts there are adjusted for the number of slices and differences.";
    let paragraphs = std::iter::once(text.to_owned()).chain(meanings(tables, &names)).collect();
    Some(section("effects", "Differences", true, paragraphs, grids))
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
    let shown = slices::shown(tables);
    let folded: Vec<SliceName> = slices::names(tables).into_iter().filter(|name| !shown.contains(name)).collect();
    if !shown.is_empty() {
        let slices = shown.iter().flat_map(|name| &name.slices);
        grids.push(slice_grid(tables, primary, format!("{} by slice", heading(primary)), slices, Place::Page));
    }
    for name in &folded {
        let caption = format!("{} by {} ({} values)", heading(primary), name.name, name.slices.len());
        grids.push(slice_grid(tables, primary, caption, name.slices.iter(), Place::Folded));
    }
    Some(section("quality", "Quality per slice", false, meanings(tables, &folded).into_iter().collect(), grids))
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

/// What is known of a model behind an endpoint, and what was asked of it.
fn served(model: &ModelRecord, served: &ServedRecord, currency: &str) -> String {
    let fingerprints = if served.fingerprints.is_empty() { "none".to_owned() } else { served.fingerprints.join(", ") };
    let uncounted =
        if served.uncounted > 0 { format!(" ({} answers without the server's count)", served.uncounted) } else { String::new() };
    format!(
        "{} behind {} ({} interface, fingerprint {fingerprints}), window of {} tokens; {} requests, {} of them again; {} tokens read and {} written{uncounted}, {:.4} {currency} at the spec's prices",
        model.path,
        served.host,
        served.interface,
        model.context_length,
        format::count(served.requests as f64),
        format::count(served.retries as f64),
        format::count(served.prompt_tokens as f64),
        format::count(served.completion_tokens as f64),
        served.money
    )
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
            } else if let Some(served) = &model.served {
                self::served(model, served, &spec.cost.currency)
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
    if let Some(tokens) = manifest.embedder_tokens {
        let money = tokens as f64 * spec.retrieval.endpoint.price_input / 1e6;
        let tokens = format::count(tokens as f64);
        facts.push(("embedder", format!("{tokens} tokens read in all, {money:.4} {} at the spec's prices", spec.cost.currency)));
    }
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
