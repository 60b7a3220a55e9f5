//! What the report says, before any markup: order, rounding, captions and words are decided here, once.

mod claims;
mod decision;
mod headline;
mod latency;
mod ledger;
mod losses;
mod questions;
mod recommendation;
mod search;
mod sections;

use serde::Serialize;
use serde::ser::SerializeStruct;

use super::format;
use super::plot::Figure;
use crate::claim::ClaimCard;
use crate::cost::{Decision, Ledger};
use crate::spec::DeviceName;
use crate::store::manifest::Manifest;
use crate::table::Tables;

pub(super) use questions::{Questions, gather};
pub(super) use recommendation::Recommendation;

/// A whole report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct View {
    pub title: String,
    pub subtitle: String,
    /// What to do, in one paragraph.
    pub recommendation: Recommendation,
    /// The results in sentences, most important first.
    pub headline: Vec<String>,
    /// What the run says against itself; stands beside the headline.
    pub notes: Vec<String>,
    /// How to read the rest, in five lines.
    pub reading: Vec<String>,
    pub sections: Vec<Section>,
    pub questions: Questions,
    pub caveats: Vec<String>,
    pub limits: Vec<String>,
    pub facts: Vec<(String, String)>,
}

/// A part of the report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Section {
    pub id: &'static str,
    pub title: &'static str,
    pub paragraphs: Vec<String>,
    pub tables: Vec<Grid>,
    /// File stems.
    pub figures: Vec<FigureRef>,
    /// Files with the rows behind the numbers.
    pub rows: &'static [&'static str],
    /// It belongs into the short form too.
    pub is_short: bool,
}

/// A figure by name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct FigureRef {
    pub name: &'static str,
    pub title: String,
    pub caption: String,
}

/// A table of texts; the first column names the row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Grid {
    pub caption: String,
    pub header: Vec<String>,
    pub rows: Vec<Vec<Entry>>,
    pub place: Place,
}

/// What a column holds, and so how it is set: figures to the right, words to the left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Content {
    Figures,
    /// A word or a name in every row.
    Words,
    /// Longer texts, which need room and are broken into lines.
    Sentences,
}

/// Letters of an entry beyond which its column holds [`Content::Sentences`].
const LONG: usize = 24;

impl Grid {
    /// What the column at `index` holds.
    pub(super) fn content(&self, index: usize) -> Content {
        let texts = || self.rows.iter().filter_map(|row| row.get(index)).map(|entry| entry.text.as_str());
        let is_figure = |text: &str| text.contains(|letter: char| letter.is_ascii_digit());
        let is_word = |text: &str| text != format::NOT_MEASURED && text.contains(char::is_alphabetic);
        match () {
            () if texts().any(|text| text.chars().count() > LONG) => Content::Sentences,
            () if index == 0 || (texts().any(is_word) && !texts().any(is_figure)) => Content::Words,
            () => Content::Figures,
        }
    }
}

/// With what each column holds beside its name.
impl Serialize for Grid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Column<'a> {
            name: &'a str,
            content: Content,
        }
        let columns: Vec<Column> =
            self.header.iter().enumerate().map(|(index, name)| Column { name, content: self.content(index) }).collect();
        let mut fields = serializer.serialize_struct("Grid", 4)?;
        fields.serialize_field("caption", &self.caption)?;
        fields.serialize_field("columns", &columns)?;
        fields.serialize_field("rows", &self.rows)?;
        fields.serialize_field("place", &self.place)?;
        fields.end()
    }
}

/// Where a table stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Place {
    /// In the page and in the short form.
    Both,
    /// In the page only.
    Page,
    /// In the page, closed until a reader opens it.
    Folded,
}

/// A cell: its figure, and in smaller letters its interval and what else to know of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Entry {
    pub text: String,
    pub interval: String,
    pub note: String,
}

impl Entry {
    fn new(text: impl Into<String>) -> Self {
        Self::with(text, "")
    }

    fn with(text: impl Into<String>, interval: impl Into<String>) -> Self {
        Self { text: text.into(), interval: interval.into(), note: String::new() }
    }

    fn noted(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    /// What stands where nothing was measured.
    fn missing() -> Self {
        Self::new(format::NOT_MEASURED)
    }
}

/// Where the model computed, unless that was the CPU because the spec says so.
fn device(manifest: &Manifest) -> String {
    let device = &manifest.machine.device;
    let is_plain = device == "cpu" && manifest.spec.model.device == DeviceName::Cpu;
    if is_plain || manifest.model.served.is_some() { String::new() } else { format!(" on {device}") }
}

/// What a report is made from.
#[derive(Clone, Copy)]
pub(super) struct Sources<'a> {
    pub tables: &'a Tables,
    pub ledger: &'a Ledger,
    pub decision: Option<&'a Decision>,
    pub claims: &'a [ClaimCard],
    pub figures: &'a [Figure],
}

/// Decides what the report says.
pub(super) fn build(sources: &Sources, questions: Questions) -> View {
    let (tables, ledger) = (sources.tables, sources.ledger);
    let manifest = tables.manifest();
    let dataset = &manifest.dataset;
    View {
        title: format!("RAG, fine-tuning, or both: {}", dataset.name),
        subtitle: format!(
            "{} test questions, {} documents, {} training labels; {}{}; run “{}”",
            format::count(tables.data.samples.len() as f64),
            format::count(dataset.documents as f64),
            format::count(dataset.train as f64),
            if manifest.model.is_none() {
                "no model, only given answers".to_owned()
            } else if let Some(served) = &manifest.model.served {
                format!("{} behind {}", manifest.model.path, served.host)
            } else {
                format!("a model of {} parameters", format::quantity(manifest.model.parameters as f64))
            },
            device(manifest),
            manifest.spec.name,
        ),
        recommendation: recommendation::of(tables, ledger, sources.decision),
        headline: headline::sentences(tables, ledger),
        notes: headline::notes(tables),
        reading: headline::reading(tables),
        sections: sections::all(sources),
        questions,
        caveats: headline::caveats(tables),
        limits: headline::limits(),
        facts: sections::facts(tables),
    }
}
