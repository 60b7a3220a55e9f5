//! The run folder: its layout, the journal, the manifest, atomic replacement of files.
//!
//! ```text
//! manifest.json  journal.jsonl  training.jsonl  adapters/<variant>-seed<k>/  tables/  plots/  report.html  report.md
//! ```

pub mod manifest;
pub mod row;
