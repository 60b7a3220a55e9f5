//! `ragft about` and `ragft man`: the program as it is installed.

use std::path::Path;
use std::process::{Command, Stdio};

use clap::CommandFactory as _;

use super::args::{Cli, Global};
use super::failure::Failure;
use super::print;
use crate::clock::Stopwatch;
use crate::diagnostic::Blame;

/// Starts of the program that are timed; the first ones bring it into memory.
const STARTS: usize = 21;

/// Says what this program is, how large, and how fast it starts.
pub fn run(global: &Global) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::message(Blame::Runtime, &format!("cannot look at the program itself: {error}"), None);
    let program = std::env::current_exe().map_err(failed)?;
    let bytes = std::fs::metadata(&program).map_err(failed)?.len();
    let milliseconds = start_up(&program).map_err(failed)?;
    let (version, os, arch) = (env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH);
    if global.json {
        let value = serde_json::json!({
            "version": version,
            "target": format!("{arch}-{os}"),
            "program": program.display().to_string(),
            "bytes": bytes,
            "start_up_ms": milliseconds,
            "starts": STARTS,
        });
        print(&format!("{value:#}\n"));
    } else {
        let mib = bytes as f64 / f64::from(1 << 20);
        print(&format!(
            "ragft {version} for {arch}-{os}\n{} is {mib:.1} MiB, model, embedder and quickstart included\nstarts in {milliseconds:.1} ms (median of {STARTS} times `ragft --version`)\n",
            program.display()
        ));
    }
    Ok(())
}

/// Median time of `--version`, in milliseconds.
fn start_up(program: &Path) -> std::io::Result<f64> {
    let mut times = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let watch = Stopwatch::start();
        Command::new(program).arg("--version").stdout(Stdio::null()).status()?;
        times.push(1e3 * watch.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(crate::stats::quantile(&times, 0.5).unwrap_or(0.0))
}

/// Writes a man page per verb.
pub fn man(output: &Path, global: &Global) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::message(Blame::Runtime, &format!("cannot write to `{}`: {error}", output.display()), None);
    std::fs::create_dir_all(output).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), output).map_err(failed)?;
    if !global.quiet {
        print(&format!("man pages in {}: `man {}`\n", output.display(), output.join("ragft.1").display()));
    }
    Ok(())
}
