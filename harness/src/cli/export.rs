//! `ragft export`

use super::args::{ExportArgs, ExportForm, Global};
use super::failure::Failure;
use super::print;
use crate::diagnostic::Blame;
use crate::export::mlflow::{self, Server};
use crate::export::{ExportError, Form, Names, Source, export};

/// Writes a run in another tool's form, or sends it to a tracking server.
pub fn run(args: &ExportArgs, global: &Global) -> Result<(), Failure> {
    let source = Source::read(&args.run).map_err(failure)?;
    let names = Names { model: args.model_id.clone(), organization: args.organization.clone() };
    let form = match args.to {
        ExportForm::Mlflow => return send(&source, &names, args, global),
        ExportForm::LmEval => Form::LmEval,
        ExportForm::Trec => Form::Trec,
        ExportForm::EveryEvalEver => Form::EveryEvalEver,
        ExportForm::Bencher => Form::Bencher,
        ExportForm::HuggingFace => Form::HuggingFace,
    };
    let output = args.output.clone().unwrap_or_else(|| args.run.join("exports").join(args.to.name()));
    let written = export(&source, form, &names, &output).map_err(failure)?;
    let files: Vec<String> = written.files.iter().map(|path| path.display().to_string()).collect();
    if global.json {
        print(&format!("{:#}\n", serde_json::json!({ "files": files, "notes": written.notes })));
    } else {
        let notes: String = written.notes.iter().map(|note| format!("note: {note}\n")).collect();
        print(&format!("{}\n{notes}", files.join("\n")));
    }
    Ok(())
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
    let blame = if matches!(error, ExportError::Server { .. }) { Blame::Runtime } else { Blame::Request };
    Failure::of(&error, blame)
}
