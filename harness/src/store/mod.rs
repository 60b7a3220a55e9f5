//! The run folder: its layout, the journal, the manifest, atomic replacement of files.

pub mod row;
