//! Runs over time: an append-only folder, what changed its level, which questions flip without a reason, and the run that is the reference.
//!
//! ```text
//! runs/0007-<run id>/  run.json  series.parquet  questions.parquet     one folder per added run, never changed
//! blessed.jsonl                                                        one line per blessing; the last one counts
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::diagnostic::Hint;
use crate::report::plot::trend::{TrendLine, TrendPoint};
use crate::report::plot::{self, trend};
use crate::report::{ReportError, format};
use crate::spec::VariantKind;
use crate::stats::{ChangePoint, change_points};
use crate::store::{RunFolder, StoreError, read_jsonl, write_atomic};
use crate::table::history::{self, SeriesRow};
use crate::table::{ALL, TableError, Tables};

/// Level and permutations of the test for a change.
const CHANGE_ALPHA: f64 = 0.05;
const PERMUTATIONS: usize = 199;

/// What can go wrong with a history.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// A file cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A table cannot be read or written.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The figure cannot be drawn.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The run has no results yet.
    #[error("the run in `{folder}` is not complete")]
    Incomplete {
        /// The folder.
        folder: String,
    },
    /// The same results at the same time are there already.
    #[error("the run in `{folder}` is already there as number {number}")]
    Known {
        /// The folder.
        folder: String,
        /// Its number.
        number: usize,
    },
    /// There is nothing in the folder.
    #[error("`{folder}` is not a history: it has no runs")]
    Empty {
        /// The folder.
        folder: String,
    },
    /// No run was ever blessed.
    #[error("no run of `{folder}` is blessed")]
    NoneBlessed {
        /// The folder.
        folder: String,
    },
    /// No series has that name.
    #[error("no run of `{folder}` has a series `{metric}` in `{slice}`")]
    NoSeries {
        /// The folder.
        folder: String,
        /// As asked.
        metric: String,
        /// As asked.
        slice: String,
        /// What there is.
        known: Vec<String>,
    },
}

impl Hint for HistoryError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Table(error) => error.hint(),
            Self::Report(error) => error.hint(),
            Self::Incomplete { .. } => Some("finish it with `ragft run --resume`".into()),
            Self::Known { .. } => None,
            Self::Empty { .. } => Some("`ragft history add DIR RUN` adds one".into()),
            Self::NoneBlessed { .. } => Some("`ragft history bless DIR RUN` makes a run the reference".into()),
            Self::NoSeries { known, metric, .. } => {
                let near = crate::diagnostic::nearest(metric, known.iter().map(String::as_str));
                Some(near.map_or_else(|| format!("it has {}", known.join(", ")), |near| format!("did you mean `{near}`?")))
            }
        }
    }
}

/// What is known of a run in a history, beside its tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// From 1, in the order of adding.
    pub number: usize,
    /// UTC, ISO 8601.
    pub added_at: String,
    /// Where the run folder was.
    pub folder: PathBuf,
    /// Name in the spec.
    pub name: String,
    /// Hash of the plan: runs that share it had the same inputs.
    pub run_id: String,
    /// Hash of the results.
    pub result_hash: String,
    /// When it was run.
    pub started_at: String,
    /// The project's version.
    pub crate_version: String,
    /// Commit, if known.
    pub git_commit: Option<String>,
    /// Processor or GPU.
    pub machine: String,
    /// Threads.
    pub threads: usize,
    /// Metric that leads the report.
    pub primary: Option<String>,
}

/// One line of `blessed.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Blessing {
    /// UTC, ISO 8601.
    pub at: String,
    /// The run's number in the history.
    pub number: usize,
    /// Its folder.
    pub folder: PathBuf,
    /// Its results.
    pub result_hash: String,
}

/// A history folder.
#[derive(Debug, Clone)]
pub struct History(PathBuf);

impl History {
    /// The folder, which need not exist yet.
    pub fn at(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    fn runs(&self) -> PathBuf {
        self.0.join("runs")
    }

    fn blessings(&self) -> PathBuf {
        self.0.join("blessed.jsonl")
    }

    fn shown(&self) -> String {
        self.0.display().to_string()
    }

    /// Adds a run. It is written aside and renamed, so that nobody sees half of it, and two that add at a time get two numbers.
    pub fn add(&self, run: &Path, tables: &Tables, added_at: &str) -> Result<Entry, HistoryError> {
        let manifest = tables.manifest();
        let incomplete = || HistoryError::Incomplete { folder: run.display().to_string() };
        let result_hash = manifest.result_hash.clone().ok_or_else(incomplete)?;
        let known = self.entries_or_none()?;
        if let Some(entry) = known.iter().find(|entry| entry.result_hash == result_hash && entry.started_at == manifest.started_at) {
            return Err(HistoryError::Known { folder: run.display().to_string(), number: entry.number });
        }
        let mut entry = Entry {
            number: known.last().map_or(1, |entry| entry.number + 1),
            added_at: added_at.to_owned(),
            folder: std::path::absolute(run).unwrap_or_else(|_| run.to_owned()),
            name: manifest.spec.name.clone(),
            run_id: manifest.run_id.clone(),
            result_hash,
            started_at: manifest.started_at.clone(),
            crate_version: manifest.crate_version.clone(),
            git_commit: manifest.git_commit.clone(),
            machine: manifest.machine.computes_on().to_owned(),
            threads: manifest.machine.threads,
            primary: tables.primary().map(|metric| metric.id.clone()),
        };
        fs::create_dir_all(self.runs()).map_err(StoreError::io("create", &self.runs()))?;
        let fresh = tempfile::Builder::new().prefix(".new-").tempdir_in(self.runs()).map_err(StoreError::io("create", &self.runs()))?;
        history::write(fresh.path(), tables)?;
        loop {
            let text = serde_json::to_string_pretty(&entry).expect("plain data") + "\n";
            write_atomic(&fresh.path().join("run.json"), text.as_bytes())?;
            let place = self.place(&entry);
            let is_free = !self.numbers()?.contains(&entry.number);
            if is_free && fs::rename(fresh.path(), &place).is_ok() {
                // It has its own name now: there is nothing to clean up.
                let _ = fresh.keep();
                return Ok(entry);
            }
            if is_free {
                fs::create_dir(&place).map_err(StoreError::io("create", &place))?;
                fs::remove_dir(&place).map_err(StoreError::io("replace", &place))?;
            }
            entry.number += 1;
        }
    }

    fn place(&self, entry: &Entry) -> PathBuf {
        self.runs().join(format!("{:04}-{}", entry.number, entry.run_id))
    }

    fn numbers(&self) -> Result<BTreeSet<usize>, HistoryError> {
        let names = fs::read_dir(self.runs()).map_err(StoreError::io("read", &self.runs()))?.flatten();
        Ok(names.filter_map(|entry| entry.file_name().to_str()?.split('-').next()?.parse().ok()).collect())
    }

    fn entries_or_none(&self) -> Result<Vec<Entry>, HistoryError> {
        let Ok(folders) = fs::read_dir(self.runs()) else { return Ok(Vec::new()) };
        let mut entries = Vec::new();
        for folder in folders.flatten().map(|entry| entry.path()).filter(|path| path.join("run.json").is_file()) {
            if folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
                continue;
            }
            let path = folder.join("run.json");
            let text = fs::read_to_string(&path).map_err(StoreError::io("read", &path))?;
            let malformed = |error: serde_json::Error| StoreError::Malformed {
                path: path.display().to_string(),
                line: error.line(),
                problem: error.to_string(),
            };
            entries.push(serde_json::from_str::<Entry>(&text).map_err(malformed)?);
        }
        entries.sort_by_key(|entry| entry.number);
        Ok(entries)
    }

    /// All runs, in the order of adding.
    pub fn entries(&self) -> Result<Vec<Entry>, HistoryError> {
        let entries = self.entries_or_none()?;
        if entries.is_empty() { Err(HistoryError::Empty { folder: self.shown() }) } else { Ok(entries) }
    }

    /// Marks a run of the history as the reference.
    pub fn bless(&self, run: &Path, at: &str) -> Result<Blessing, HistoryError> {
        let folder = RunFolder::open(run)?;
        let manifest = folder.read_manifest()?;
        let result_hash = manifest.result_hash.ok_or_else(|| HistoryError::Incomplete { folder: run.display().to_string() })?;
        let entries = self.entries()?;
        let is_it = |entry: &&Entry| entry.result_hash == result_hash && entry.started_at == manifest.started_at;
        let Some(entry) = entries.iter().find(is_it) else {
            return Err(StoreError::NotARun { path: self.shown(), missing: format!("an entry of {}", run.display()) }.into());
        };
        let folder = std::path::absolute(run).unwrap_or_else(|_| run.to_owned());
        let blessing = Blessing { at: at.to_owned(), number: entry.number, folder, result_hash };
        let mut line = serde_json::to_string(&blessing).expect("plain data");
        line.push('\n');
        let path = self.blessings();
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&path).map_err(StoreError::io("open", &path))?;
        file.write_all(line.as_bytes()).map_err(StoreError::io("append to", &path))?;
        Ok(blessing)
    }

    /// The run that is the reference now.
    pub fn blessed(&self) -> Result<Blessing, HistoryError> {
        let all: Vec<Blessing> = read_jsonl(&self.blessings())?;
        all.into_iter().next_back().ok_or_else(|| HistoryError::NoneBlessed { folder: self.shown() })
    }

    /// The folder looks like a history.
    pub fn is_one(folder: &Path) -> bool {
        folder.join("runs").is_dir() && !folder.join("manifest.json").exists()
    }

    fn series(&self, entry: &Entry) -> Result<Vec<SeriesRow>, HistoryError> {
        Ok(history::read_series(&self.place(entry))?)
    }

    /// The series of one metric (by default the one that leads the last run's report) in one slice, one line per variant.
    pub fn trend(&self, metric: Option<&str>, slice: Option<&str>) -> Result<Trend, HistoryError> {
        let entries = self.entries()?;
        let slice = slice.unwrap_or(ALL).to_owned();
        let primary = entries.iter().rev().find_map(|entry| entry.primary.clone());
        let metric = metric.map(str::to_owned).or(primary).unwrap_or_else(|| "exact_match".to_owned());
        let mut lines = BTreeMap::<VariantKind, TrendLine>::new();
        let (mut known, mut sample) = (BTreeSet::new(), None);
        for entry in &entries {
            for row in self.series(entry)? {
                known.insert(row.metric.clone());
                if row.metric != metric || row.slice != slice {
                    continue;
                }
                let line =
                    lines.entry(row.variant).or_insert_with(|| TrendLine { variant: row.variant, points: Vec::new(), changes: Vec::new() });
                line.points.push(TrendPoint { number: entry.number, point: row.point, ci_low: row.ci_low, ci_high: row.ci_high });
                sample = Some(row);
            }
        }
        let Some(sample) = sample else {
            return Err(HistoryError::NoSeries { folder: self.shown(), metric, slice, known: known.into_iter().collect() });
        };
        let mut lines: Vec<TrendLine> = lines.into_values().collect();
        for line in &mut lines {
            let values: Vec<f64> = line.points.iter().map(|point| point.point).collect();
            line.changes = change_points(&values, CHANGE_ALPHA, PERMUTATIONS, 1);
        }
        let blessed = self.blessed().ok().map(|blessing| blessing.number);
        Ok(Trend {
            entries,
            lines,
            slice,
            label: history::label(&sample),
            unit: sample.unit,
            is_lower_better: sample.is_lower_better,
            metric,
            blessed,
        })
    }

    /// Draws a trend into the folder, as `trend-<metric>.svg`, `.png` and `.csv`; gives the path without its ending.
    pub fn draw(&self, drawn: &Trend) -> Result<PathBuf, HistoryError> {
        let name = if drawn.slice == ALL { drawn.metric.clone() } else { format!("{}-{}", drawn.metric, drawn.slice) };
        let safe: String =
            name.chars().map(|letter| if letter.is_alphanumeric() || "-_.".contains(letter) { letter } else { '-' }).collect();
        let title = format!("{} over {} runs", format::sentence(&drawn.label), drawn.entries.len());
        let figure = trend::figure(&title, &drawn.unit, &drawn.lines);
        let path = self.0.join(format!("trend-{safe}"));
        plot::write_as(&path, &figure)?;
        Ok(path)
    }

    /// Questions that flip between runs of the same inputs, most often first.
    pub fn flaky(&self) -> Result<Vec<Flaky>, HistoryError> {
        let mut by_inputs = BTreeMap::<String, Vec<Entry>>::new();
        for entry in self.entries()? {
            by_inputs.entry(entry.run_id.clone()).or_default().push(entry);
        }
        let mut flaky = Vec::new();
        for (run_id, entries) in by_inputs.into_iter().filter(|(_, entries)| entries.len() > 1) {
            let mut seen = BTreeMap::<(VariantKind, u64, String), Vec<(String, Option<f64>)>>::new();
            for entry in &entries {
                for row in history::read_questions(&self.place(entry))? {
                    seen.entry((row.variant, row.seed, row.sample_id)).or_default().push((row.answer, row.score));
                }
            }
            for ((variant, seed, sample), answers) in seen {
                let changes = answers.windows(2).filter(|pair| pair[0].0 != pair[1].0).count();
                if changes > 0 {
                    let flips = answers.windows(2).filter(|pair| pair[0].1 != pair[1].1).count();
                    flaky.push(Flaky { run_id: run_id.clone(), variant, seed, sample, runs: answers.len(), changes, flips });
                }
            }
        }
        flaky.sort_by(|left, right| {
            (right.flips, right.changes).cmp(&(left.flips, left.changes)).then_with(|| left.sample.cmp(&right.sample))
        });
        Ok(flaky)
    }
}

/// A question whose answer changed although no input did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Flaky {
    /// The inputs.
    pub run_id: String,
    /// Whose answer.
    pub variant: VariantKind,
    /// Training seed.
    pub seed: u64,
    /// The question.
    pub sample: String,
    /// Runs of these inputs.
    pub runs: usize,
    /// Times that the answer was another one than in the run before.
    pub changes: usize,
    /// Times that its score was.
    pub flips: usize,
}

/// One metric over the runs of a history.
#[derive(Debug, Clone)]
pub struct Trend {
    /// All runs.
    pub entries: Vec<Entry>,
    /// One per variant.
    pub lines: Vec<TrendLine>,
    /// The metric.
    pub metric: String,
    /// As people write it.
    pub label: String,
    /// The slice.
    pub slice: String,
    /// Of the points.
    pub unit: String,
    /// Less is better.
    pub is_lower_better: bool,
    /// Number of the run that is the reference.
    pub blessed: Option<usize>,
}

impl Trend {
    /// A figure as it is shown in the table.
    pub fn shown(&self, value: f64) -> String {
        if self.unit == "share" { format!("{:.1} %", 100.0 * value) } else { format!("{} {}", format::significant(value, 3), self.unit) }
    }

    /// Whether a change is for the worse.
    pub fn is_worse(&self, change: &ChangePoint) -> bool {
        (change.after > change.before) == self.is_lower_better
    }
}
