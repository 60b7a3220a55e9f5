//! The command: parsing, printing, exit codes; one file per verb. Data goes to stdout, progress and logs to stderr.

mod about;
mod args;
mod compare;
mod dataset;
mod export;
mod failure;
mod finetune;
mod gate;
mod history;
mod init;
mod merge;
mod model;
mod plan;
mod progress;
mod report;
mod run;
mod scale;
mod shard;
mod show;
mod spec;
mod threads;
mod verify;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

pub use args::Cli;
use args::Command;
use failure::Failure;

/// Parses the arguments, does what they ask, and gives the exit code: 0 done, 1 the gate found a regression or a verification a difference,
/// 2 the request was wrong, 3 the gate is undecided and the policy stops at that, 4 a run-time failure, 130 interrupted.
///
/// To be called first in a process, from its only thread: it settles how many threads there will be.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(&cli);
    match threads::settle(cli.global.threads).and_then(|()| threads::in_pool(|| dispatch(&cli))) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            let _ = write!(std::io::stderr(), "{failure}");
            ExitCode::from(failure.code)
        }
    }
}

/// The exit code of a request that was carried out.
fn dispatch(cli: &Cli) -> Result<u8, Failure> {
    match &cli.command {
        Command::Gate(args) => return gate::run(args, &cli.global),
        Command::Verify(args) => return verify::run(args, &cli.global),
        Command::History(args) => history::run(args, &cli.global),
        Command::Run(args) => run::run(args, &cli.global),
        Command::Merge(args) => merge::run(args, &cli.global),
        Command::Plan(args) => plan::run(args, &cli.global),
        Command::Report(args) => report::run(args, &cli.global),
        Command::Compare(args) => compare::run(args, &cli.global),
        Command::Show(args) => show::run(args, &cli.global),
        Command::Dataset(args) => dataset::run(args, &cli.global),
        Command::Model(args) => model::run(args, &cli.global),
        Command::Finetune(args) => finetune::run(args, &cli.global),
        Command::Export(args) => export::run(args, &cli.global),
        Command::Man { output } => about::man(output, &cli.global),
        Command::About => about::run(&cli.global),
        Command::Init(args) => init::run(args, &cli.global),
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "ragft", &mut std::io::stdout());
            Ok(())
        }
    }
    .map(|()| 0)
}

/// Logs go to stderr; `RUST_LOG` chooses what is in them, and only warnings are by default.
fn start_log(cli: &Cli) {
    let default = if cli.global.quiet { "error" } else { "warn" };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| default.into());
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().try_init();
}

/// Writes to stdout; a closed pipe ends the output, not the program.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

/// Colour only on a terminal, and not when `NO_COLOR` is set.
fn colour() -> bool {
    use std::io::IsTerminal as _;
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
