//! What a history keeps of a run, as Parquet: the series that are drawn over runs, and every question's score and answer.

use std::fs::File;
use std::path::Path;

use polars::prelude::{Column, DataFrame, NamedFrom as _, ParquetReader, PolarsError, SerReader as _, Series};

use super::frame::{self, Form};
use super::{ALL, Direction, Metric, Stage, TableError, Tables, column as name};
use crate::spec::VariantKind;
use crate::store::StoreError;
use crate::store::row::Phase;

/// File stem of the series.
const SERIES: &str = "series";
/// File stem of the questions.
const QUESTIONS: &str = "questions";
/// Unit of times over the calibration loop of the same run.
pub const LOOPS: &str = "loops";

/// One figure of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesRow {
    /// Whose.
    pub variant: VariantKind,
    /// `all`, or a tag and its value.
    pub slice: String,
    /// A metric, `e2e_p50`, `prompt_tokens`, ..
    pub metric: String,
    /// `share`, `score`, `ms`, `loops` (times of the calibration loop), `tokens`, `flops`.
    pub unit: String,
    /// Less is better.
    pub is_lower_better: bool,
    /// The figure.
    pub point: f64,
    /// Lower end of its interval; the point itself for counts.
    pub ci_low: f64,
    /// Upper end.
    pub ci_high: f64,
    /// Questions behind it.
    pub n: u64,
}

/// One answer of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct QuestionRow {
    /// Whose.
    pub variant: VariantKind,
    /// Training seed.
    pub seed: u64,
    /// The question.
    pub sample_id: String,
    /// By the metric that leads the report; nothing where it does not apply.
    pub score: Option<f64>,
    /// BLAKE3 of the answer, shortened.
    pub answer: String,
}

/// The figures of a run that are worth drawing over time.
pub fn series(tables: &Tables) -> Vec<SeriesRow> {
    let mut rows: Vec<SeriesRow> = tables
        .quality
        .iter()
        .map(|row| SeriesRow {
            variant: row.variant,
            slice: row.slice.clone(),
            metric: row.metric.id.clone(),
            unit: row.metric.unit.to_owned(),
            is_lower_better: row.metric.direction == Direction::Lower,
            point: row.estimate.point,
            ci_low: row.estimate.ci_low,
            ci_high: row.estimate.ci_high,
            n: row.estimate.n as u64,
        })
        .collect();
    for variant in tables.variants() {
        rows.extend(counts(tables, variant));
        rows.extend(times(tables, variant));
    }
    rows
}

fn counts(tables: &Tables, variant: VariantKind) -> Vec<SeriesRow> {
    let n = tables.data.usage(variant).n as u64;
    let all: [(&str, &str, Option<f64>); 3] = [
        (name::PROMPT_TOKENS, "tokens", tables.mean_per_query(variant, |usage| Some(usage.prompt_tokens))),
        (name::COMPLETION_TOKENS, "tokens", tables.mean_per_query(variant, |usage| Some(usage.completion_tokens))),
        (name::FLOPS, "flops", tables.mean_per_query(variant, |usage| usage.flops)),
    ];
    let row = |(metric, unit, value): (&str, &str, Option<f64>)| {
        let point = value?;
        let (metric, unit) = (metric.to_owned(), unit.to_owned());
        Some(SeriesRow { variant, slice: ALL.to_owned(), metric, unit, is_lower_better: true, point, ci_low: point, ci_high: point, n })
    };
    all.into_iter().filter_map(row).collect()
}

/// Median times, as they are and over the calibration loop.
fn times(tables: &Tables, variant: VariantKind) -> Vec<SeriesRow> {
    let loop_ms = tables.manifest().calibration.as_ref().map(|record| record.nanoseconds() / 1e6);
    let mut rows = Vec::new();
    for stage in [Stage::Ttft, Stage::E2e] {
        let Some(row) = tables.latency_of(variant, stage) else { continue };
        let mut add = |metric: String, unit: &str, by: f64| {
            rows.push(SeriesRow {
                variant,
                slice: ALL.to_owned(),
                metric,
                unit: unit.to_owned(),
                is_lower_better: true,
                point: row.p50.point / by,
                ci_low: row.p50.ci_low / by,
                ci_high: row.p50.ci_high / by,
                n: row.n_questions as u64,
            });
        };
        add(format!("{}_p50", stage.name()), "ms", 1.0);
        if let Some(loop_ms) = loop_ms {
            add(format!("{}_p50_calibrated", stage.name()), LOOPS, loop_ms);
        }
    }
    rows
}

/// Every answer of the accuracy pass, scored by the metric that leads the report.
pub fn questions(tables: &Tables) -> Result<Vec<QuestionRow>, TableError> {
    let metric = tables.primary();
    let of = |row: super::Observation| QuestionRow {
        variant: row.variant,
        seed: row.seed,
        sample_id: tables.data.samples.id(row.sample).to_owned(),
        score: metric.and_then(|metric| row.score(&metric.id)),
        answer: blake3::hash(row.answer.as_bytes()).to_hex()[..16].to_owned(),
    };
    let is_answer = |row: &Result<super::Observation, TableError>| !row.as_ref().is_ok_and(|row| row.phase != Phase::Accuracy);
    tables.data.rows().filter(is_answer).map(|row| row.map(of)).collect()
}

/// Writes both files into a folder.
pub fn write(folder: &Path, tables: &Tables) -> Result<(), TableError> {
    frame::write(folder, SERIES, Form::Parquet, series_frame(&series(tables)))?;
    frame::write(folder, QUESTIONS, Form::Parquet, questions_frame(&questions(tables)?))
}

fn series_frame(rows: &[SeriesRow]) -> DataFrame {
    let text = |of: fn(&SeriesRow) -> &str| rows.iter().map(of).collect::<Vec<_>>();
    let float = |of: fn(&SeriesRow) -> f64| rows.iter().map(of).collect::<Vec<_>>();
    let columns: Vec<Column> = vec![
        Series::new(name::VARIANT.into(), text(|row| row.variant.name())).into(),
        Series::new(name::SLICE.into(), text(|row| &row.slice)).into(),
        Series::new(name::METRIC.into(), text(|row| &row.metric)).into(),
        Series::new(name::UNIT.into(), text(|row| &row.unit)).into(),
        Series::new(name::DIRECTION.into(), text(|row| direction(row.is_lower_better).name())).into(),
        Series::new(name::POINT.into(), float(|row| row.point)).into(),
        Series::new(name::CI_LOW.into(), float(|row| row.ci_low)).into(),
        Series::new(name::CI_HIGH.into(), float(|row| row.ci_high)).into(),
        Series::new(name::N.into(), rows.iter().map(|row| row.n).collect::<Vec<_>>()).into(),
    ];
    DataFrame::new(rows.len(), columns).expect("the columns of one table are of one length")
}

fn direction(is_lower_better: bool) -> Direction {
    if is_lower_better { Direction::Lower } else { Direction::Higher }
}

fn questions_frame(rows: &[QuestionRow]) -> DataFrame {
    let columns: Vec<Column> = vec![
        Series::new(name::VARIANT.into(), rows.iter().map(|row| row.variant.name()).collect::<Vec<_>>()).into(),
        Series::new(name::SEED.into(), rows.iter().map(|row| row.seed).collect::<Vec<_>>()).into(),
        Series::new(name::SAMPLE_ID.into(), rows.iter().map(|row| row.sample_id.as_str()).collect::<Vec<_>>()).into(),
        Series::new(name::SCORE.into(), rows.iter().map(|row| row.score).collect::<Vec<_>>()).into(),
        Series::new(name::ANSWER.into(), rows.iter().map(|row| row.answer.as_str()).collect::<Vec<_>>()).into(),
    ];
    DataFrame::new(rows.len(), columns).expect("the columns of one table are of one length")
}

/// Reads the series of a run.
pub fn read_series(folder: &Path) -> Result<Vec<SeriesRow>, TableError> {
    let path = folder.join(format!("{SERIES}.parquet"));
    let failed = |source| failed(&path, source);
    let frame = read(&path)?;
    let text = |column: &str| texts(&frame, column).map_err(failed);
    let float = |column: &str| floats(&frame, column).map_err(failed);
    let (variant, slice, metric, unit, direction) =
        (text(name::VARIANT)?, text(name::SLICE)?, text(name::METRIC)?, text(name::UNIT)?, text(name::DIRECTION)?);
    let (point, ci_low, ci_high) = (float(name::POINT)?, float(name::CI_LOW)?, float(name::CI_HIGH)?);
    let n = wholes(&frame, name::N).map_err(failed)?;
    let row = |at: usize| {
        Some(SeriesRow {
            variant: variant[at].parse().ok()?,
            slice: slice[at].clone(),
            metric: metric[at].clone(),
            unit: unit[at].clone(),
            is_lower_better: direction[at] == Direction::Lower.name(),
            point: point[at]?,
            ci_low: ci_low[at]?,
            ci_high: ci_high[at]?,
            n: n[at],
        })
    };
    Ok((0..frame.height()).filter_map(row).collect())
}

/// Reads the answers of a run.
pub fn read_questions(folder: &Path) -> Result<Vec<QuestionRow>, TableError> {
    let path = folder.join(format!("{QUESTIONS}.parquet"));
    let failed = |source| failed(&path, source);
    let frame = read(&path)?;
    let text = |column: &str| texts(&frame, column).map_err(failed);
    let (variant, sample_id, answer) = (text(name::VARIANT)?, text(name::SAMPLE_ID)?, text(name::ANSWER)?);
    let (seed, score) = (wholes(&frame, name::SEED).map_err(failed)?, floats(&frame, name::SCORE).map_err(failed)?);
    let row = |at: usize| {
        let variant = variant[at].parse().ok()?;
        Some(QuestionRow { variant, seed: seed[at], sample_id: sample_id[at].clone(), score: score[at], answer: answer[at].clone() })
    };
    Ok((0..frame.height()).filter_map(row).collect())
}

fn read(path: &Path) -> Result<DataFrame, TableError> {
    let file = File::open(path).map_err(StoreError::io("read", path))?;
    ParquetReader::new(file).set_rechunk(true).finish().map_err(|source| failed(path, source))
}

fn failed(path: &Path, source: PolarsError) -> TableError {
    TableError::Unreadable { path: path.to_owned(), source: Box::new(source) }
}

fn texts(frame: &DataFrame, column: &str) -> Result<Vec<String>, PolarsError> {
    Ok(frame.column(column)?.str()?.iter().map(|text| text.unwrap_or_default().to_owned()).collect())
}

fn floats(frame: &DataFrame, column: &str) -> Result<Vec<Option<f64>>, PolarsError> {
    Ok(frame.column(column)?.f64()?.iter().collect())
}

fn wholes(frame: &DataFrame, column: &str) -> Result<Vec<u64>, PolarsError> {
    Ok(frame.column(column)?.u64()?.iter().map(Option::unwrap_or_default).collect())
}

/// As people write the name of a series.
pub fn label(row: &SeriesRow) -> String {
    match row.unit.as_str() {
        "share" | "score" => Metric::of(&row.metric).label(),
        _ => row.metric.replace('_', " "),
    }
}
