//! Our side of the runs against other systems (`benches/peers`): one process, one kind of work, one JSON command a line on standard input
//! and one JSON answer a line on standard output. What is loaded stays loaded, and nothing but the work itself is timed.

mod embed;
mod generate;
mod index;
mod protocol;
mod tokens;
mod train;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

use protocol::{Channel, Command};

/// What does not change between commands.
#[derive(Debug, Parser)]
pub struct Settings {
    /// Hugging Face folder of the model, or sentence-transformers folder of the embedder.
    #[arg(long)]
    model: PathBuf,
    /// Threads of the kernels.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Type of the weights: f32, bf16 or q8_0.
    #[arg(long, default_value = "f32")]
    dtype: String,
}

fn main() -> ExitCode {
    let mut channel = Channel::new(std::io::stdin().lock(), std::io::stdout().lock());
    match serve(&Settings::parse(), &mut channel) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The one who asked reads it and shows the row as not measured.
            channel.fail(&error);
            ExitCode::from(4)
        }
    }
}

/// The first command says which kind of work this process does.
fn serve(settings: &Settings, channel: &mut Channel) -> Result<()> {
    ensure!(settings.threads > 0, "`--threads` is 0, expected at least 1");
    rayon::ThreadPoolBuilder::new().num_threads(settings.threads).build_global().context("cannot start threads")?;
    match channel.next()? {
        None => Ok(()),
        Some(Command::Adapter(work)) => train::write_adapter(settings, &work, channel),
        Some(Command::Train(work)) => train::serve(settings, work, channel),
        Some(Command::Generate(work)) => generate::serve(settings, work, channel),
        Some(Command::Logits(work)) => generate::serve_logits(settings, &work, channel),
        Some(Command::Embed(work)) => embed::serve(settings, work, channel),
        Some(Command::Index(work)) => index::serve(settings, work, channel),
    }
}
