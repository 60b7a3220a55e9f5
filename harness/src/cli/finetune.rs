//! `ragft finetune`

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::args::{FinetuneArgs, FinetuneVerb, Global, SpecArgs};
use super::failure::Failure;
use super::progress::Progress;
use super::run::listen_to_interrupts;
use super::{print, spec};
use crate::diagnostic::Blame;
use crate::finetune;
use crate::lm::ComputeDevice;
use crate::measure::export;
use crate::measure::plan::RunPlan;
use crate::measure::source::ModelSource;
use crate::spec::RunSpec;
use crate::store::RunFolder;

/// Exports training sets, or merges an adapter.
pub fn run(args: &FinetuneArgs, global: &Global) -> Result<(), Failure> {
    match &args.verb {
        FinetuneVerb::Export { source, base, output } => export_sets(source, base.as_deref(), output, global),
        FinetuneVerb::Merge { model, adapter, output, dtype } => merge(model, adapter, output, dtype, global),
    }
}

fn export_sets(source: &SpecArgs, base: Option<&Path>, output: &Path, global: &Global) -> Result<(), Failure> {
    listen_to_interrupts()?;
    RunFolder::check_vacant(output)?;
    let (mut spec, base) = planned(source, base)?;
    // A set is wanted of what is given as well.
    spec.finetune.adapter = PathBuf::new();
    spec.hybrid.adapter = PathBuf::new();
    if spec.adapters().is_empty() {
        let hint = "add `finetuned`, `hybrid` or `hybrid_raft` to `variants`";
        return Err(Failure::message(Blame::Request, "no variant of the spec is tuned", Some(hint)));
    }
    let plan = RunPlan::prepare(spec, &base)?;
    let mut progress = Progress::new(global.quiet);
    let sets = export::export(&plan, output, &mut |event| progress.on(event));
    progress.finish();
    let sets = sets?;
    if global.json {
        print(&format!("{:#}\n", serde_json::to_value(&sets).expect("plain data")));
        return Ok(());
    }
    let mut text = String::new();
    for set in sets {
        let _ = writeln!(text, "{}: {} rows to train on, {} held out", set.folder.display(), set.train, set.validation);
        if set.left_out > 0 {
            let _ = writeln!(text, "  {} questions leave no room for an answer", set.left_out);
        }
    }
    print(&text);
    Ok(())
}

/// The spec of a file, or that of a recorded run.
fn planned(source: &SpecArgs, base: Option<&Path>) -> Result<(RunSpec, PathBuf), Failure> {
    let run = source.spec.as_ref().filter(|path| path.is_dir());
    let (spec, own) = match run {
        Some(path) => (RunFolder::open(path)?.read_manifest()?.spec, PathBuf::new()),
        None => spec::load(source)?,
    };
    Ok((spec, base.map_or(own, Path::to_owned)))
}

fn merge(model: &Path, adapter: &Path, output: &Path, dtype: &str, global: &Global) -> Result<(), Failure> {
    RunFolder::check_vacant(output)?;
    let source = ModelSource::open(model, Path::new(""), Path::new("")).map_err(|error| Failure::request(&error))?;
    let context_length = source.config().map_or(0, |config| config.max_position_embeddings);
    let loaded = source.load(context_length, &ComputeDevice::cpu()).map_err(|error| Failure::runtime(&error))?;
    let Some(loaded) = loaded.local() else { unreachable!("a path is no server") };
    let merged = finetune::merge_folder(loaded, adapter, output, dtype).map_err(|error| Failure::request(&error))?;
    if global.json {
        print(&format!("{:#}\n", serde_json::to_value(&merged).expect("plain data")));
        return Ok(());
    }
    print(&format!(
        "{} layers merged into {}; over {} tokens no logit differs by more than {:.1e} from the adapter beside its base\n",
        merged.layers,
        output.display(),
        merged.probe_tokens,
        merged.largest_difference
    ));
    Ok(())
}
