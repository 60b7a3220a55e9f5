//! `ragft init`

use std::path::Path;

use super::args::{Global, InitArgs};
use super::failure::Failure;
use super::print;
use crate::dataset;
use crate::spec;
use crate::store::{RunFolder, write_atomic};

/// Questions of each split, and documents, of the small dataset.
const SMALL: usize = 40;

/// Writes a commented spec and a small dataset, or prints the spec or its schema.
pub fn run(args: &InitArgs, global: &Global) -> Result<(), Failure> {
    if args.print {
        print(spec::DEFAULT_SPEC);
        return Ok(());
    }
    if args.schema {
        print(&format!("{:#}\n", spec::schema()));
        return Ok(());
    }
    let dir = args.dir.as_deref().expect("required unless --print or --schema");
    RunFolder::check_vacant(dir)?;
    write_small_dataset(&dir.join("dataset"))?;
    let text = spec::DEFAULT_SPEC.replace("name = \"run\"", "name = \"mine\"").replacen("path = \"builtin\"", "path = \"dataset\"", 1);
    write_atomic(&dir.join("spec.toml"), text.as_bytes())?;
    if !global.quiet {
        let spec = dir.join("spec.toml");
        print(&format!("wrote {} and {}\nnext: ragft run {}\n", spec.display(), dir.join("dataset").display(), spec.display()));
    }
    Ok(())
}

/// The first questions of the built-in set with their documents, to be replaced by one's own in the same form.
fn write_small_dataset(dir: &Path) -> Result<(), Failure> {
    let spec = spec::read("", &[])?;
    let mut small = dataset::load(&spec.dataset, 1, Path::new("")).map_err(|error| Failure::request(&error))?;
    small.info.name = "mine".into();
    for split in [&mut small.train, &mut small.validation, &mut small.test] {
        split.truncate(SMALL);
    }
    let named: std::collections::BTreeSet<&String> =
        small.train.iter().chain(&small.validation).chain(&small.test).flat_map(|sample| &sample.relevant).collect();
    let named: std::collections::BTreeSet<String> = named.into_iter().cloned().collect();
    let mut spare = SMALL;
    small.documents.retain(|document| {
        let keep = named.contains(&document.id) || spare > 0;
        spare = spare.saturating_sub(1);
        keep
    });
    dataset::write_native(&small, dir).map_err(|error| Failure::runtime(&error))
}
