//! Peak memory of a report over journals of growing length: made-up runs of four variants, each reported in a process of its own. What
//! counts is the last column but one: what a further row costs, from one length to the next.
//!
//!     cargo run --release -p ragft-benches --bin report_memory -- --rows 20000,100000,1000000

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use ragft::measure::counters::peak_memory_bytes;
use ragft_benches::recorded::write_run;

/// Variants of the made-up runs.
const VARIANTS: usize = 4;
/// Bytes of a mebibyte.
const MIB: f64 = (1u64 << 20) as f64;

#[derive(Parser)]
#[command(about = "Peak memory and time of `ragft report` over made-up journals")]
struct Args {
    /// Rows of the accuracy pass, four for every question.
    #[arg(long, value_delimiter = ',', default_value = "20000,100000,1000000")]
    rows: Vec<usize>,
    /// Resamples behind every interval: they take time, not memory.
    #[arg(long, default_value = "1000")]
    resamples: usize,
    /// Reports on this folder and prints its peak memory in bytes and its seconds.
    #[arg(long, hide = true)]
    report: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(folder) = &args.report {
        return report(folder);
    }
    say("rows of the journal | its size, MiB | peak memory, MiB | bytes per row | bytes per further row | seconds")?;
    let mut before: Option<Point> = None;
    for rows in &args.rows {
        let point = measure(*rows, args.resamples)?;
        let further = before
            .filter(|before| before.rows < point.rows)
            .map_or_else(|| "-".to_owned(), |before| format!("{:.0}", (point.peak - before.peak) / (point.rows - before.rows) as f64));
        let Point { rows, size, peak, seconds } = point;
        say(&format!("{rows} | {:.0} | {:.0} | {:.0} | {further} | {seconds:.1}", size / MIB, peak / MIB, peak / rows as f64))?;
        before = Some(point);
    }
    Ok(())
}

/// What one length gave; bytes and seconds.
#[derive(Clone, Copy)]
struct Point {
    rows: usize,
    size: f64,
    peak: f64,
    seconds: f64,
}

fn say(line: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{line}")?)
}

fn report(folder: &Path) -> Result<()> {
    let watch = ragft::clock::Stopwatch::start();
    ragft::report::write_report(folder)?;
    say(&format!("{} {}", peak_memory_bytes().context("this system does not tell peak memory")?, watch.elapsed().as_secs_f64()))
}

fn measure(rows: usize, resamples: usize) -> Result<Point> {
    let folder = tempfile::tempdir().context("cannot make a folder for the run")?;
    write_run(folder.path(), rows.div_ceil(VARIANTS), Some(resamples))?;
    let size = std::fs::metadata(folder.path().join("journal.jsonl"))?.len() as f64;
    let output = Command::new(std::env::current_exe()?).arg("--report").arg(folder.path()).output()?;
    if !output.status.success() {
        bail!("the report failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (peak, seconds) = text.trim().split_once(' ').context("the report told no figures")?;
    Ok(Point { rows, size, peak: peak.parse()?, seconds: seconds.parse()? })
}
