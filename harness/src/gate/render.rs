//! A report as people read it: in the terminal, in a pull request, beside a line of a log.

use std::fmt::Write as _;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};

use super::false_alarm::FalseAlarms;
use super::judge::{Check, Outcome, Unit, p_words};
use super::quantity::Kind;
use super::{Flip, GateReport};
use crate::report::format::{quantity, shortened};

/// Flips that are listed for people; machines get all.
const FLIPS_SHOWN: usize = 20;
/// GitHub keeps at most 1 MiB of a step's summary.
const SUMMARY_FLIPS: usize = 200;
const TEXT_WIDTH: usize = 60;
const HEADER: [&str; 8] = ["outcome", "check", "reference", "candidate", "worse by", "at worst", "margin", "adjusted p"];

/// What the terminal shows: the checks that matter, why, the flips, what to know, and the verdict last.
pub fn terminal(report: &GateReport) -> String {
    let shown: Vec<&Check> = report.checks.iter().filter(|check| is_shown(report, check)).collect();
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled).force_no_tty();
    table.set_header(HEADER);
    for check in &shown {
        table.add_row(cells(check).map(Cell::new));
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = format!("candidate {}\nreference {}\n{table}\n", origin(&report.candidate), origin(&report.reference));
    text.push_str(&hidden(report));
    for check in report.with(Outcome::Regressed) {
        let _ = writeln!(text, "regressed: {}: {}", check.name(), check.reason);
    }
    for check in report.with(Outcome::Inconclusive).filter(|check| !check.is_slice()) {
        let _ = writeln!(text, "inconclusive: {}: {}", check.name(), check.reason);
    }
    text.push_str(&flips(report));
    for note in &report.notes {
        let _ = writeln!(text, "note: {note}");
    }
    let _ = writeln!(text, "{}", report.headline);
    text
}

/// People see what did not pass, and over all questions what changed; of times the whole query, and the leading metric in any case.
fn is_shown(report: &GateReport, check: &Check) -> bool {
    let leads = report.flip_metric.as_ref() == Some(&check.metric) || check.metric == "e2e_ms";
    let is_news = check.is_changed() && check.kind != Kind::Latency;
    check.outcome == Outcome::Regressed || !check.is_slice() && (check.outcome != Outcome::Pass || leads || is_news)
}

/// What is not in the table.
fn hidden(report: &GateReport) -> String {
    let hidden: Vec<&Check> = report.checks.iter().filter(|check| !is_shown(report, check)).collect();
    let open = hidden.iter().filter(|check| check.outcome == Outcome::Inconclusive).count();
    match (hidden.len(), open) {
        (0, _) => String::new(),
        (all, 0) => format!("and {all} more checks that pass\n"),
        (all, open) => format!("and {} more checks that pass; {open} slices are too small to tell\n", all - open),
    }
}

fn origin(origin: &super::Origin) -> String {
    let commit = origin.git_commit.as_deref().map_or(String::new(), |commit| format!(", commit {}", shortened(commit, 10)));
    format!("{} ({}, {}{commit})", origin.folder, origin.name, origin.started_at)
}

fn cells(check: &Check) -> [String; 8] {
    let level = |value: f64| match check.unit {
        Unit::Points => format!("{:.1} %", 100.0 * value),
        Unit::Percent => quantity(value),
        Unit::Ratio => format!("{} ms", quantity(value)),
    };
    [
        check.outcome.name().to_owned(),
        check.name(),
        level(check.reference),
        level(check.candidate),
        amount(check, check.worse_by),
        match check.at_worst {
            _ if !check.is_changed() => "unchanged".to_owned(),
            Some(worst) => amount(check, worst),
            None => "counted".to_owned(),
        },
        amount(check, check.margin),
        check.p_adjusted.map_or_else(String::new, p_words),
    ]
}

fn amount(check: &Check, value: f64) -> String {
    // A difference that is zero has no sign.
    let value = if value.abs() < 5e-4 { 0.0 } else { value };
    match check.unit {
        Unit::Points => format!("{value:+.1}"),
        Unit::Percent => format!("{value:+.2} %"),
        Unit::Ratio => format!("x {value:.2}"),
    }
}

fn flips(report: &GateReport) -> String {
    let Some(metric) = &report.flip_metric else { return String::new() };
    if report.flips.is_empty() {
        return String::new();
    }
    let losses = report.flips.iter().filter(|flip| flip.is_loss).count();
    let mut text = format!("by {metric} {losses} answers were lost and {} won:\n", report.flips.len() - losses);
    for flip in report.flips.iter().take(FLIPS_SHOWN) {
        let (sign, was, is) = (if flip.is_loss { "lost" } else { "won " }, quoted(&flip.reference), quoted(&flip.candidate));
        let _ = writeln!(text, "  {sign} {:<11} {}: {was} -> {is}, expected {}", flip.variant.name(), flip.sample, quoted(&flip.expected));
    }
    if report.flips.len() > FLIPS_SHOWN {
        let _ = writeln!(text, "  and {} more: `--json` lists all", report.flips.len() - FLIPS_SHOWN);
    }
    text
}

fn quoted(text: &str) -> String {
    format!("{:?}", shortened(text, TEXT_WIDTH))
}

/// The report as Markdown, for a step's summary or a comment.
pub fn markdown(report: &GateReport) -> String {
    let mut text = format!("### ragft gate: {}\n\n", escaped(&report.headline));
    let _ = writeln!(text, "Candidate `{}` against reference `{}`.\n", report.candidate.folder, report.reference.folder);
    let _ = writeln!(text, "| {} | why |", HEADER.join(" | "));
    let _ = writeln!(text, "|---|---|{}---|", "---:|".repeat(HEADER.len() - 2));
    for check in report.checks.iter().filter(|check| is_shown(report, check)) {
        let cells = cells(check).map(|cell| escaped(&cell)).join(" | ");
        let _ = writeln!(text, "| {} {cells} | {} |", sign(check.outcome), escaped(&check.reason));
    }
    let _ = writeln!(text, "\n{}", escaped(hidden(report).trim_end()));
    if let (Some(metric), false) = (&report.flip_metric, report.flips.is_empty()) {
        let losses = report.flips.iter().filter(|flip| flip.is_loss).count();
        let _ = writeln!(
            text,
            "\n<details><summary>By {metric} {losses} answers were lost and {} won</summary>\n",
            report.flips.len() - losses
        );
        text.push_str("| | variant | question | expected | reference | candidate |\n|---|---|---|---|---|---|\n");
        report.flips.iter().take(SUMMARY_FLIPS).for_each(|flip| text.push_str(&flip_line(flip)));
        text.push_str("\n</details>\n");
    }
    if !report.notes.is_empty() {
        text.push('\n');
    }
    for note in &report.notes {
        let _ = writeln!(text, "- {}", escaped(note));
    }
    text
}

fn flip_line(flip: &Flip) -> String {
    let cell = |text: &str| escaped(&shortened(text, TEXT_WIDTH));
    format!(
        "| {} | {} | {} | {} | {} | {} |\n",
        if flip.is_loss { "lost" } else { "won" },
        flip.variant.name(),
        cell(&flip.question),
        cell(&flip.expected),
        cell(&flip.reference),
        cell(&flip.candidate)
    )
}

fn sign(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "✅",
        Outcome::Inconclusive => "❔",
        Outcome::Regressed => "❌",
    }
}

/// Answers may hold anything; in a table cell they stay text.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '|' | '`' | '*' | '_' | '[' | ']' | '\\' | '#' | '@' | '!' | '~' => {
                safe.push('\\');
                safe.push(letter);
            }
            '\n' | '\r' => safe.push(' '),
            other => safe.push(other),
        }
    }
    safe
}

/// Lines that GitHub shows as errors and warnings: one per check that did not pass, slices only if they regressed.
pub fn annotations(report: &GateReport) -> String {
    let mut text = String::new();
    for check in report.with(Outcome::Regressed) {
        text.push_str(&annotation("error", &format!("ragft gate: {} regressed", check.name()), &check.reason));
    }
    let level = if report.exit_code() == 3 { "error" } else { "warning" };
    for check in report.with(Outcome::Inconclusive).filter(|check| !check.is_slice()) {
        text.push_str(&annotation(level, &format!("ragft gate: {} is inconclusive", check.name()), &check.reason));
    }
    text
}

/// One workflow command. What a line or a property would end at is escaped as GitHub's toolkit does it.
fn annotation(level: &str, title: &str, message: &str) -> String {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    format!("::{level} title={}::{}\n", property(title), data(message))
}

/// What `--aa` shows.
pub fn false_alarms(found: &FalseAlarms) -> String {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let interval = |estimate: &crate::stats::Estimate| {
        format!("{} ({} to {})", percent(estimate.point), percent(estimate.ci_low), percent(estimate.ci_high))
    };
    let mut text = format!(
        "{} pairs of runs that differ by luck alone, made from {} (in {} of clusters)\n",
        found.pairs,
        found.run.folder,
        percent(found.changed)
    );
    let _ = writeln!(
        text,
        "false alarms: {} of {}: {}; the policy allows {}",
        found.alarms,
        found.pairs,
        interval(&found.rate),
        percent(found.alpha)
    );
    let _ = writeln!(text, "undecided: {} of {}; {} tests per pair", found.inconclusive, found.pairs, found.tests);
    for (kind, count) in &found.by_kind {
        let _ = writeln!(text, "  alarms about {kind}: {count}");
    }
    if let Some(power) = &found.power {
        let _ = writeln!(
            text,
            "power: a loss of {:.1} points of {} by {} is found in {} of pairs",
            100.0 * power.effect,
            power.metric,
            power.variant.name(),
            interval(&power.gate)
        );
        let _ = writeln!(text, "  the one test alone: {}; by the planner's formula {}", interval(&power.alone), percent(power.planned));
    }
    text
}
