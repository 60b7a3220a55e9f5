//! `ragft export`

use std::path::Path;

use super::args::{ExportArgs, ExportForm, Global};
use super::failure::Failure;
use super::print;
use crate::diagnostic::Blame;
use crate::export::mlflow::{self, Server};
use crate::export::s3::{self, Access, Place};
use crate::export::{ExportError, Exported, Form, Names, Source, export};

/// Writes a run in another tool's form, or sends it to a tracking server.
pub fn run(args: &ExportArgs, global: &Global) -> Result<(), Failure> {
    let to = args.output.as_deref().map(Path::to_string_lossy).unwrap_or_default();
    if args.to != ExportForm::S3 && to.starts_with("s3://") {
        let problem = format!("`--to {}` writes into a folder, and `{to}` is none", args.to.name());
        return Err(Failure::message(Blame::Request, &problem, Some("`--to s3` puts the tables into a bucket")));
    }
    let source = Source::read(&args.run).map_err(failure)?;
    let names = Names { model: args.model_id.clone(), organization: args.organization.clone() };
    let form = match args.to {
        ExportForm::Mlflow => return send(&source, &names, args, global),
        ExportForm::LmEval => Form::LmEval,
        ExportForm::Trec => Form::Trec,
        ExportForm::EveryEvalEver => Form::EveryEvalEver,
        ExportForm::Bencher => Form::Bencher,
        ExportForm::HuggingFace => Form::HuggingFace,
        ExportForm::S3 => {
            if to.is_empty() {
                let hint = "name it, and a folder in it: `-o s3://BUCKET/PREFIX`";
                return Err(Failure::message(Blame::Request, "`--to s3` needs a bucket", Some(hint)));
            }
            let access = Access::from_env(|name| std::env::var(name).ok()).map_err(|error| failure(error.into()))?;
            let place = Place::new(&to, &access).map_err(|error| failure(error.into()))?;
            tell(&s3::send(&source, &place, &access).map_err(failure)?, global);
            return Ok(());
        }
    };
    let output = args.output.clone().unwrap_or_else(|| args.run.join("exports").join(args.to.name()));
    tell(&export(&source, form, &names, &output).map_err(failure)?, global);
    Ok(())
}

/// Prints what was written, and where.
fn tell(written: &Exported, global: &Global) {
    let files: Vec<String> = written.files.iter().map(|path| path.display().to_string()).collect();
    if global.json {
        print(&format!("{:#}\n", serde_json::json!({ "files": files, "notes": written.notes })));
    } else {
        let notes: String = written.notes.iter().map(|note| format!("note: {note}\n")).collect();
        print(&format!("{}\n{notes}", files.join("\n")));
    }
}

fn send(source: &Source, names: &Names, args: &ExportArgs, global: &Global) -> Result<(), Failure> {
    let uri = args.uri.as_deref().unwrap_or_default().trim_end_matches('/');
    if !uri.starts_with("http://") && !uri.starts_with("https://") {
        let hint = "give the server's address: `--uri http://127.0.0.1:5000` or `MLFLOW_TRACKING_URI`";
        return Err(Failure::message(Blame::Request, &format!("`{uri}` is not the address of an MLflow server"), Some(hint)));
    }
    let token = std::env::var("MLFLOW_TRACKING_TOKEN").ok().filter(|token| !token.is_empty());
    let server = Server { uri: uri.to_owned(), experiment: args.experiment.clone(), token };
    let sent = mlflow::send(source, names, &server).map_err(failure)?;
    if global.json {
        print(&format!("{:#}\n", serde_json::json!({ "run": sent.run, "was_there": sent.was_there, "notes": sent.notes })));
        return Ok(());
    }
    let how = if sent.was_there { "was there already" } else { "is there" };
    let notes: String = sent.notes.iter().map(|note| format!("note: {note}\n")).collect();
    print(&format!("run {} {how}, in the experiment `{}` at {uri}\n{notes}", sent.run, args.experiment));
    Ok(())
}

fn failure(error: ExportError) -> Failure {
    let blame = match &error {
        ExportError::Server { .. } => Blame::Runtime,
        ExportError::S3(error) => error.blame(),
        _ => Blame::Request,
    };
    Failure::of(&error, blame)
}
