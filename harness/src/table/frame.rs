//! Typed rows as Polars frames, and frames as files. The only place that names a Polars type.

use std::io::{BufWriter, Write as _};
use std::path::Path;

use polars::prelude::{Column, CsvWriter, DataFrame, NamedFrom as _, ParquetWriter, SerWriter as _, Series};

use super::column as name;
use super::input::{Observation, RunData};
use super::{ClaimRow, ContrastRow, CostRow, DecisionRow, LadderRow, LatencyRow, QualityRow, ServerStats, TableError};
use crate::store::row::{HitRow, Phase};
use crate::store::{StoreError, write_atomic, write_atomic_by};

/// Which forms of a table are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// For machines only.
    Parquet,
    /// For eyes too: the small ones.
    ParquetAndCsv,
}

/// Writes `frame` into `folder` under `stem`.
pub(super) fn write(folder: &Path, stem: &str, form: Form, mut frame: DataFrame) -> Result<(), TableError> {
    let path = folder.join(stem);
    let failed = |source| TableError::Frame { table: stem.to_owned(), source: Box::new(source) };
    let mut bytes = Vec::new();
    ParquetWriter::new(&mut bytes).set_parallel(false).finish(&mut frame).map_err(failed)?;
    write_atomic(&path.with_extension("parquet"), &bytes)?;
    if form == Form::ParquetAndCsv {
        let mut text = Vec::new();
        CsvWriter::new(&mut text).finish(&mut frame).map_err(failed)?;
        write_atomic(&path.with_extension("csv"), &text)?;
    }
    Ok(())
}

/// Rows of the journal per row group: what is in memory at a time.
const ROWS: usize = 1 << 14;

/// Writes a table that may be large, as Parquet only: one row group after the other, so that no more than one is in memory.
pub(super) fn write_rows(folder: &Path, stem: &str, data: &RunData, frame: Frames) -> Result<(), TableError> {
    let path = folder.join(stem).with_extension("parquet");
    let failed = |source| TableError::Frame { table: stem.to_owned(), source: Box::new(source) };
    write_atomic_by(&path, |file| {
        let mut buffer = BufWriter::new(file);
        let mut writer = ParquetWriter::new(&mut buffer).set_parallel(false).batched(frame(data, &[]).schema()).map_err(failed)?;
        let mut rows = Vec::with_capacity(ROWS.min(data.journal.len()));
        let mut left = data.rows();
        loop {
            rows.clear();
            for row in left.by_ref().take(ROWS) {
                rows.push(row?);
            }
            if rows.is_empty() {
                break;
            }
            writer.write_batch(&frame(data, &rows)).map_err(failed)?;
        }
        writer.finish().map_err(failed)?;
        drop(writer);
        buffer.flush().map_err(|error| TableError::Store(StoreError::io("write", &path)(error)))
    })
}

/// Some rows of the journal as a frame.
type Frames = fn(&RunData, &[Observation]) -> DataFrame;

/// One column per line of a frame, from one expression per row.
macro_rules! frame {
    ($rows:expr, $row:pat => { $($column:expr => $value:expr),* $(,)? }) => {{
        let rows = $rows;
        #[allow(unused_variables, reason = "a column may be constant")]
        let columns: Vec<Column> = vec![$({
            let values: Vec<_> = rows.iter().map(|$row| $value).collect();
            Series::new($column.into(), values).into()
        }),*];
        DataFrame::new(rows.len(), columns).expect("the columns of one table are of one length")
    }};
}

pub(super) fn quality(rows: &[QualityRow]) -> DataFrame {
    frame!(rows, row => {
        name::VARIANT => row.variant.name(),
        name::SLICE => row.slice.as_str(),
        name::METRIC => row.metric.id.as_str(),
        name::UNIT => row.metric.unit,
        name::DIRECTION => row.metric.direction.name(),
        name::POINT => row.estimate.point,
        name::CI_LOW => row.estimate.ci_low,
        name::CI_HIGH => row.estimate.ci_high,
        name::N => row.estimate.n as u64,
        name::N_FAILED => row.n_failed as u64,
    })
}

pub(super) fn contrasts(rows: &[ContrastRow]) -> DataFrame {
    frame!(rows, row => {
        name::LEFT => row.left.as_str(),
        name::RIGHT => row.right.as_str(),
        name::SLICE => row.slice.as_str(),
        name::METRIC => row.metric.id.as_str(),
        name::DIFFERENCE => row.difference.point,
        name::CI_LOW => row.difference.ci_low,
        name::CI_HIGH => row.difference.ci_high,
        name::P => row.comparison.p,
        name::P_ADJUSTED => row.p_adjusted,
        name::N => row.difference.n as u64,
        name::DETECTABLE => row.judgement.detectable,
        name::VERDICT => row.verdict().name(),
        name::SCALE => row.scale.name(),
        name::P_METHOD => row.comparison.test.name(),
        name::ADJUSTMENT => row.adjustment.name(),
        name::P_EQUIVALENCE => row.p_equivalence,
        name::CI_METHOD => row.comparison.interval.name(),
        name::STANDARD_ERROR => row.comparison.error,
        name::CLUSTERS => row.comparison.clusters as u64,
        name::DESIGN_EFFECT => row.comparison.design_effect,
        name::N_HIGHER => row.comparison.wins as u64,
        name::N_LOWER => row.comparison.losses as u64,
        name::N_FAILED => row.n_failed as u64,
        name::TRAININGS => row.trainings as u64,
        name::TRAINING_DEVIATION => row.comparison.training.map(|training| training.seed.sqrt()),
        name::N_NEEDED => row.judgement.needed.map(|needed| needed.questions),
        name::CLUSTERS_NEEDED => row.judgement.needed.map(|needed| needed.clusters),
    })
}

pub(super) fn ladder(rows: &[LadderRow]) -> DataFrame {
    frame!(rows, row => {
        name::VARIANT => row.variant.name(),
        name::PART => row.step.part(),
        name::NAME => row.step.name(),
        name::COUNT => row.count,
        name::N => row.n as u64,
    })
}

pub(super) fn claims(rows: &[ClaimRow]) -> DataFrame {
    frame!(rows, row => {
        name::CLAIM => row.claim.as_str(),
        name::TITLE => row.title.as_str(),
        name::VERDICT => row.verdict,
        name::POST_HOC => row.post_hoc,
        name::TEST => row.test.as_str(),
        name::PREDICTED => row.predicted.as_str(),
        name::POINT => row.figure.map(|figure| figure.point),
        name::CI_LOW => row.figure.map(|figure| figure.ci_low),
        name::CI_HIGH => row.figure.map(|figure| figure.ci_high),
        name::UNIT => row.unit,
        name::TEST_VERDICT => row.test_verdict,
        name::NOTE => row.note.as_str(),
    })
}

pub(super) fn latency(rows: &[LatencyRow]) -> DataFrame {
    frame!(rows, row => {
        name::VARIANT => row.variant.name(),
        name::STAGE => row.stage.name(),
        name::UNIT => "ms",
        name::N => row.n as u64,
        name::N_QUESTIONS => row.n_questions as u64,
        name::MEAN => row.mean.point,
        name::MEAN_CI_LOW => row.mean.ci_low,
        name::MEAN_CI_HIGH => row.mean.ci_high,
        name::P50 => row.p50.point,
        name::P50_CI_LOW => row.p50.ci_low,
        name::P50_CI_HIGH => row.p50.ci_high,
        name::P90 => row.p90.map(|tail| tail.point),
        name::P95 => row.p95.map(|tail| tail.point),
        name::P99 => row.p99.map(|tail| tail.point),
        name::P90_CI_LOW => row.p90.map(|tail| tail.ci_low),
        name::P90_CI_HIGH => row.p90.map(|tail| tail.ci_high),
        name::P95_CI_LOW => row.p95.map(|tail| tail.ci_low),
        name::P95_CI_HIGH => row.p95.map(|tail| tail.ci_high),
        name::P99_CI_LOW => row.p99.map(|tail| tail.ci_low),
        name::P99_CI_HIGH => row.p99.map(|tail| tail.ci_high),
    })
}

pub(super) fn server(rows: &[ServerStats]) -> DataFrame {
    frame!(rows, row => {
        name::VARIANT => row.variant.name(),
        name::UNIT => "ms",
        name::N => row.n as u64,
        name::N_FAILED => row.n_failed as u64,
        name::RATE => row.rate,
        name::LOAD => row.load,
        name::IS_SATURATED => row.is_saturated(),
        name::WAIT => row.wait,
        name::P50 => row.p50.point,
        name::P50_CI_LOW => row.p50.ci_low,
        name::P50_CI_HIGH => row.p50.ci_high,
        name::P90 => row.tails[0].map(|tail| tail.point),
        name::P90_CI_LOW => row.tails[0].map(|tail| tail.ci_low),
        name::P90_CI_HIGH => row.tails[0].map(|tail| tail.ci_high),
        name::P95 => row.tails[1].map(|tail| tail.point),
        name::P95_CI_LOW => row.tails[1].map(|tail| tail.ci_low),
        name::P95_CI_HIGH => row.tails[1].map(|tail| tail.ci_high),
        name::P99 => row.tails[2].map(|tail| tail.point),
        name::P99_CI_LOW => row.tails[2].map(|tail| tail.ci_low),
        name::P99_CI_HIGH => row.tails[2].map(|tail| tail.ci_high),
        name::FIRST_TOKEN_P99 => row.first_token_p99,
    })
}

pub(super) fn decision(rows: &[DecisionRow]) -> DataFrame {
    frame!(rows, row => {
        name::VARIANT => row.variant.name(),
        name::METRIC => row.metric.as_str(),
        name::POINT => row.score,
        name::STANDING => row.standing,
        name::DIFFERENCE => row.difference.map(|difference| difference.point),
        name::CI_LOW => row.difference.map(|difference| difference.ci_low),
        name::CI_HIGH => row.difference.map(|difference| difference.ci_high),
        name::P_WITHIN => row.p_within,
        name::P_BELOW => row.p_below,
        name::TOTAL => row.total,
        name::UNIT => row.unit.as_str(),
        name::IS_PICK => row.is_pick,
    })
}

pub(super) fn cost(rows: &[CostRow]) -> DataFrame {
    frame!(rows, row => {
        name::VARIANT => row.variant.name(),
        name::PHASE => row.phase.name(),
        name::QUANTITY => row.quantity.as_str(),
        name::UNIT => row.unit.as_str(),
        name::VALUE => row.value,
        name::SOURCE => row.source.name(),
    })
}

pub(super) fn training(data: &RunData) -> DataFrame {
    frame!(&data.training, row => {
        name::VARIANT => row.variant.as_str(),
        name::SEED => row.seed,
        name::STEP => row.step,
        name::EPOCH => row.epoch,
        name::TRAIN_LOSS => row.train_loss,
        name::EVAL_LOSS => row.eval_loss,
        name::LEARNING_RATE => row.learning_rate,
        name::GRAD_NORM => row.grad_norm,
        name::TOKENS => row.tokens,
        name::FLOPS => row.flops,
        name::STEP_NS => row.step_ns,
    })
}

/// Every journal row, its scores as one column per metric (null where the metric was not measured).
pub(super) fn predictions(data: &RunData, rows: &[Observation]) -> DataFrame {
    let mut table = frame!(rows, row => {
        name::PHASE => phase(row),
        name::VARIANT => row.variant.name(),
        name::SEED => row.seed,
        name::SAMPLE_ID => data.samples.id(row.sample),
        name::REPEAT => row.repeat,
        name::ANSWER => row.answer.as_str(),
        name::FINISH_REASON => row.finish_reason.as_str(),
        name::PROMPT_TOKENS => row.prompt_tokens,
        name::CONTEXT_TOKENS => row.context_tokens,
        name::COMPLETION_TOKENS => row.completion_tokens,
        name::CACHED_TOKENS => row.cached_tokens,
        name::CONTEXT_CUT => row.context_cut,
        name::EMBED_NS => row.times.stage_ns.embed,
        name::SEARCH_NS => row.times.stage_ns.search,
        name::LEXICAL_NS => row.times.stage_ns.lexical,
        name::RERANK_NS => row.times.stage_ns.rerank,
        name::PROMPT_NS => row.times.stage_ns.prompt,
        name::PREFILL_NS => row.times.stage_ns.prefill,
        name::DECODE_NS => row.times.stage_ns.decode,
        name::TTFT_NS => row.times.ttft_ns,
        name::E2E_NS => row.times.e2e_ns,
        name::FLOPS => row.flops,
        name::ERROR => row.error.as_deref(),
        name::CPU_NS => row.times.resources.cpu_ns,
        name::ENERGY_UJ => row.times.resources.energy_uj,
    });
    for id in &data.metric_ids {
        let values: Vec<Option<f64>> = rows.iter().map(|row| row.score(id)).collect();
        table.with_column(Series::new(id.as_str().into(), values).into()).expect("one value per row");
    }
    table
}

/// One line per passage of every journal row.
pub(super) fn hits(data: &RunData, rows: &[Observation]) -> DataFrame {
    let pairs: Vec<(&Observation, &HitRow)> = rows.iter().flat_map(|row| row.hits.iter().map(move |hit| (row, hit))).collect();
    frame!(&pairs, (row, hit) => {
        name::PHASE => phase(row),
        name::VARIANT => row.variant.name(),
        name::SEED => row.seed,
        name::SAMPLE_ID => data.samples.id(row.sample),
        name::REPEAT => row.repeat,
        name::RANK => hit.rank,
        name::DOCUMENT_ID => hit.document_id.as_str(),
        name::CHUNK_ID => hit.chunk_id.as_str(),
        name::SCORE => hit.score,
        name::IN_PROMPT => hit.in_prompt,
        name::IN_EXACT => hit.in_exact,
    })
}

fn phase(row: &Observation) -> &'static str {
    match row.phase {
        Phase::Accuracy => "accuracy",
        Phase::Latency => "latency",
    }
}
