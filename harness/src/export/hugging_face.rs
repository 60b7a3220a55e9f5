//! The `model-index` of a model card: scores that the Hugging Face hub shows beside a model.

use std::fmt::Write as _;
use std::path::Path;

use super::source::{Names, Source};
use super::{ExportError, Exported};
use crate::spec::VariantKind;
use crate::table::ALL;

/// Writes the front matter of a `README.md`, an entry per variant.
pub(super) fn write(source: &Source, names: &Names, output: &Path) -> Result<Exported, ExportError> {
    let mut text = String::from("---\nmodel-index:\n");
    for variant in source.tables.variants() {
        entry(source, names, variant, &mut text);
    }
    text.push_str("---\n");
    let mut exported = Exported::default();
    exported.write(output.join("model-index.md"), &text)?;
    exported.notes.push("put it at the head of the model's README.md, with the entry of the variant that the model is".to_owned());
    Ok(exported)
}

fn entry(source: &Source, names: &Names, variant: VariantKind, text: &mut String) {
    let dataset = &source.manifest().dataset;
    // A JSON string is a YAML string.
    let quoted = |text: &str| serde_json::to_string(text).expect("text is plain data");
    let _ = write!(
        text,
        "- name: {}\n  results:\n  - task:\n      type: question-answering\n      name: Question Answering\n    dataset:\n      name: {}\n      \
         type: {}\n      split: test\n    metrics:\n",
        quoted(&names.system(source.manifest(), variant)),
        quoted(&dataset.name),
        quoted(&dataset.name.to_lowercase().replace(' ', "-")),
    );
    for (metric, _) in source.scores(variant) {
        if let Some(row) = source.tables.quality_of(variant, ALL, &metric.id) {
            let (label, value) = (quoted(&metric.label()), row.estimate.point);
            let _ = writeln!(text, "    - type: {}\n      name: {label}\n      value: {value}", quoted(&metric.id));
        }
    }
}
