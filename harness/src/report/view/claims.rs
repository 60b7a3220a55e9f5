//! The claims and what the run says about them.

use super::sections::section;
use super::{Entry, Grid, Place, Section};
use crate::claim::{ClaimCard, Evidence, Verdict};
use crate::report::format;

/// A line per claim, and below it a line per test; nothing if there are no claims.
pub(super) fn section_of(cards: &[ClaimCard]) -> Option<Section> {
    if cards.is_empty() {
        return None;
    }
    let row = |card: &ClaimCard| {
        let reasons: Vec<String> = card.evidence.iter().map(in_short).collect();
        vec![Entry::new(format!("({}) {}", card.id, card.title)), Entry::new(words(card.verdict)), Entry::new(reasons.join("; "))]
    };
    let cards_grid = Grid {
        caption: "What this run says about each claim".to_owned(),
        header: ["claim", "verdict", "because"].map(str::to_owned).to_vec(),
        rows: cards.iter().map(row).collect(),
        place: Place::Both,
    };
    let tests = cards.iter().flat_map(|card| card.evidence.iter().map(move |evidence| test_row(card, evidence)));
    let tests_grid = Grid {
        caption: "Every test".to_owned(),
        header: ["claim", "test", "predicted", "found", "verdict", "note"].map(str::to_owned).to_vec(),
        rows: tests.collect(),
        place: Place::Folded,
    };
    let origin = if cards.iter().any(|card| card.post_hoc) {
        "These claims were given to the report when the run was over: post hoc, so that agreement is a reason to test them on other questions."
    } else {
        "These claims come with the program: their tests were written before this run."
    };
    let text = "Supported: every test that this data allows agrees with the whole of its \
                interval. Refuted: one contradicts it. Inconclusive: an interval holds the bound. Each test stands at its own level; they are \
                not adjusted for one another. It is about this model, this data and these settings."
        .to_owned();
    Some(section("claims", "Claims", true, vec![origin.to_owned(), text], vec![cards_grid, tests_grid]))
}

fn words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Supported => "supported",
        Verdict::Refuted => "refuted",
        Verdict::Inconclusive => "inconclusive",
        Verdict::NotTestable => "not testable here",
    }
}

/// `rag - baseline, exact match, knowledge=fresh: +85.2 (+81.0 to +88.9)`.
fn in_short(evidence: &Evidence) -> String {
    let figure = figure(evidence);
    let tail = if evidence.figure.is_none() { evidence.note.clone() } else { figure };
    format!("{}: {tail}", evidence.what)
}

fn figure(evidence: &Evidence) -> String {
    let Some(figure) = evidence.figure else { return format::NOT_MEASURED.to_owned() };
    if evidence.unit == "points" {
        return format!("{:+.1} ({:+.1} to {:+.1})", figure.point, figure.ci_low, figure.ci_high);
    }
    let number = |value: f64| if value.is_finite() { format::significant(value, 3) } else { "without bound".to_owned() };
    if figure.ci_low == figure.ci_high {
        return if figure.point.is_finite() { format!("{} times", number(figure.point)) } else { evidence.note.clone() };
    }
    format!("{} times ({} to {})", number(figure.point), number(figure.ci_low), number(figure.ci_high))
}

fn test_row(card: &ClaimCard, evidence: &Evidence) -> Vec<Entry> {
    vec![
        Entry::new(&card.id),
        Entry::new(&evidence.what),
        Entry::new(&evidence.predicted),
        Entry::new(figure(evidence)),
        Entry::new(words(evidence.verdict)),
        Entry::new(&evidence.note),
    ]
}
