//! `ragft model`

use std::path::Path;

use super::args::{Global, ModelArgs, ModelVerb};
use super::failure::Failure;
use super::progress::Progress;
use super::run::{INTERRUPT, listen_to_interrupts};
use super::{print, spec};
use crate::diagnostic::Blame;
use crate::finetune::TrainingError;
use crate::finetune::pretrain::{self, PretrainError, PretrainEvent};
use crate::finetune::pretrain_spec::PretrainSpec;
use crate::lm::ModelError;
use crate::measure::events::RunEvent;
use crate::measure::source::ModelSource;
use crate::report::plot;
use crate::retrieval;

/// Inspects, pre-trains or distils a model.
pub fn run(args: &ModelArgs, global: &Global) -> Result<(), Failure> {
    match &args.verb {
        ModelVerb::Inspect { path } => {
            let summary = inspect(path).map_err(|error| Failure::request(&error))?;
            print(&format!("{summary:#}\n"));
            Ok(())
        }
        ModelVerb::Pretrain { spec, output } => pretrain(spec, output, global),
        ModelVerb::Distill { path, output } => {
            listen_to_interrupts()?;
            let distilled =
                retrieval::distill(path, output, &retrieval::DistillConfig::default()).map_err(|error| Failure::runtime(&error))?;
            print(&format!(
                "{} tokens of {} components, {:.1} % of the variance kept\n",
                distilled.vocabulary,
                distilled.dimension,
                100.0 * distilled.kept_variance
            ));
            Ok(())
        }
    }
}

/// What can be said of a model without loading it.
fn inspect(path: &Path) -> Result<serde_json::Value, ModelError> {
    let source = ModelSource::open(path, Path::new(""), Path::new(""))?;
    let (Some(config), Some(tokenizer)) = (source.config(), source.tokenizer()) else { unreachable!("a path is no server") };
    Ok(serde_json::json!({
        "path": path,
        "revision": source.revision(),
        "chat_template": tokenizer.chat(None).is_some(),
        "parameters": config.parameter_count(),
        "config": config,
        "tokens": tokenizer.id_count(),
        "weights_hash": source.weights_hash()?,
        "tokenizer_hash": tokenizer.hash(),
    }))
}

fn pretrain(path: &Path, output: &Path, global: &Global) -> Result<(), Failure> {
    listen_to_interrupts()?;
    let spec: PretrainSpec = toml::from_str(&spec::read(path)?).map_err(|error| {
        Failure::message(Blame::Request, &format!("spec `{}` cannot be used\n{}", path.display(), error.to_string().trim_end()), None)
    })?;
    let mut progress = Progress::new(global.quiet);
    progress.on(RunEvent::Phase { name: "pretrain", detail: &path.display().to_string(), total: 0, unit: "steps" });
    let result = pretrain::pretrain(&spec, output, &mut |event| tell(&mut progress, &event), &INTERRUPT);
    progress.finish();
    match result {
        Ok(_) => draw(output),
        Err(PretrainError::Training(TrainingError::Interrupted { .. })) => {
            Err(Failure::interrupted(&format!("ragft model pretrain {} -o {}", path.display(), output.display())))
        }
        Err(error) => Err(Failure::runtime(&error)),
    }
}

/// The curves of a finished pre-training, into `plots/`.
fn draw(output: &Path) -> Result<(), Failure> {
    let (evaluations, steps) = pretrain::read_history(output).map_err(|error| Failure::runtime(&error))?;
    let folder = output.join("plots");
    std::fs::create_dir_all(&folder).map_err(|error| Failure::runtime(&PretrainError::File { path: folder.clone(), source: error }))?;
    plot::write(&folder, &plot::pretraining(&evaluations, &steps)).map_err(|error| Failure::runtime(&error))
}

fn tell(progress: &mut Progress, event: &PretrainEvent) {
    match event {
        PretrainEvent::Step(row) => {
            progress.on(RunEvent::Step(row));
            progress.on(RunEvent::Advance(1));
        }
        PretrainEvent::Evaluation(evaluation) => {
            let figures: Vec<String> =
                evaluation.exact_match.iter().map(|(name, share)| format!("{name} {:.0} %", 100.0 * share)).collect();
            progress.on(RunEvent::Note(&format!("step {}: {}", evaluation.step, figures.join(", "))));
        }
    }
}
