//! A run folder to make tables and reports from: a real run's manifest, and a journal with rows for its four variants.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use ragft::dataset::Sample;
use ragft::finetune::TrainingRow;
use ragft::rng::Rng;
use ragft::score::score_answer;
use ragft::spec::{ContextSource, VariantKind};
use ragft::store::row::{HitRow, JournalRow, Phase, StageNs};
use ragft::store::{RunFolder, write_jsonl};
use tempfile::TempDir;

use crate::{SEED, text};

/// Names a finished run to use instead of the made-up journal.
pub const FOLDER_VARIABLE: &str = "RAGFT_BENCH_RUN";

/// Test questions of the made-up journal.
pub const QUESTIONS: usize = 1000;

const VARIANTS: [VariantKind; 4] = [VariantKind::Baseline, VariantKind::Rag, VariantKind::Finetuned, VariantKind::Hybrid];
const TIMED: usize = 100;
const STEPS: u64 = 300;

/// A copy of a run, which goes when it is dropped.
pub struct Recorded(TempDir);

impl Recorded {
    /// A copy of the run that [`FOLDER_VARIABLE`] names, or `reports/quickstart`'s manifest with a made-up journal.
    ///
    /// # Errors
    /// When the run lacks a file, or the copy cannot be written.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder for the run")?;
        match std::env::var_os(FOLDER_VARIABLE) {
            Some(run) => copy(&PathBuf::from(run), folder.path())?,
            None => make_up(folder.path())?,
        }
        Ok(Self(folder))
    }

    /// The run folder.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Rows of the journal.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn rows(&self) -> Result<u64> {
        let journal = RunFolder::at(self.path()).journal();
        let text = std::fs::read_to_string(&journal).with_context(|| format!("cannot read `{}`", journal.display()))?;
        Ok(text.lines().count() as u64)
    }
}

fn copy(run: &Path, to: &Path) -> Result<()> {
    for name in ["manifest.json", "samples.jsonl", "journal.jsonl", "training.jsonl"] {
        let from = run.join(name);
        if from.exists() || name != "training.jsonl" {
            std::fs::copy(&from, to.join(name)).with_context(|| format!("cannot copy `{}`", from.display()))?;
        }
    }
    Ok(())
}

fn make_up(path: &Path) -> Result<()> {
    write_run(path, QUESTIONS, None)
}

/// Writes a made-up run of four variants over so many questions, row by row: `reports/quickstart`'s manifest, with another number of
/// resamples if one is given.
///
/// # Errors
/// When the manifest cannot be read, or the folder cannot be written.
pub fn write_run(path: &Path, questions: usize, resamples: Option<usize>) -> Result<()> {
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../reports/quickstart");
    let mut manifest = RunFolder::at(&recorded).read_manifest().with_context(|| format!("cannot read `{}`", recorded.display()))?;
    manifest.spec.measure.bootstrap_resamples = resamples.unwrap_or(manifest.spec.measure.bootstrap_resamples);
    std::fs::create_dir_all(path).with_context(|| format!("cannot create `{}`", path.display()))?;
    let folder = RunFolder::at(path);
    folder.write_manifest(&manifest)?;
    let run_id = manifest.run_id;
    let answers = text::answers(questions);
    let mut rng = Rng::new(SEED, "journal");
    let file = std::fs::File::create(folder.journal()).context("cannot create the journal")?;
    let mut journal = BufWriter::new(file);
    let mut write = |row: &JournalRow| -> Result<()> {
        serde_json::to_writer(&mut journal, row)?;
        Ok(journal.write_all(b"\n")?)
    };
    for variant in VARIANTS {
        for (answer, sample) in &answers {
            write(&answered(&run_id, variant, answer, sample, &mut rng))?;
        }
        for (answer, sample) in answers.iter().take(TIMED) {
            write(&timed(&run_id, variant, answer, sample, &mut rng))?;
        }
    }
    journal.flush()?;
    let samples: Vec<&Sample> = answers.iter().map(|(_, sample)| sample).collect();
    write_jsonl(&folder.samples(), &samples)?;
    write_jsonl(&folder.training(), &(1..=STEPS).map(step).collect::<Vec<_>>())?;
    Ok(())
}

fn answered(run_id: &str, variant: VariantKind, answer: &str, sample: &Sample, rng: &mut Rng) -> JournalRow {
    let retrieves = variant.context() != ContextSource::None;
    let mut scores = score_answer(answer, sample, &[]);
    let hits: Vec<HitRow> = if retrieves { (1..=4).map(|rank| hit(rank, sample, rng)).collect() } else { Vec::new() };
    if retrieves {
        let found = hits.iter().any(|hit| sample.relevant.contains(&hit.document_id));
        scores.extend(["recall_at_4", "mrr", "ndcg_at_10"].map(|id| (id.to_owned(), f64::from(u8::from(found)))));
    }
    JournalRow {
        answer: answer.to_owned(),
        finish_reason: "stop".to_owned(),
        prompt_tokens: 20 + 40 * hits.len() as u32,
        context_tokens: 40 * hits.len() as u32,
        completion_tokens: 1 + rng.below(30) as u32,
        hits,
        scores,
        flops: Some(1e9),
        ..JournalRow::blank(run_id, variant.name(), 1, &sample.id, Phase::Accuracy)
    }
}

fn hit(rank: u32, sample: &Sample, rng: &mut Rng) -> HitRow {
    let document_id = if rank == 1 && rng.chance(0.8) { sample.relevant[0].clone() } else { format!("doc{}", rng.below(QUESTIONS / 2)) };
    let chunk_id = format!("{document_id}#0");
    HitRow { document_id, chunk_id, rank, score: 1.0 - 0.1 * rank as f32, in_prompt: true, in_exact: Some(rng.chance(0.98)) }
}

fn timed(run_id: &str, variant: VariantKind, answer: &str, sample: &Sample, rng: &mut Rng) -> JournalRow {
    let mut row = answered(run_id, variant, answer, sample, rng);
    let mut ns = |milliseconds: f64| (milliseconds * 1e6 * (0.2 * rng.normal()).exp()) as u64;
    let (search, prefill) = if row.hits.is_empty() { (0, ns(4.0)) } else { (ns(0.2), ns(20.0)) };
    row.stage_ns = StageNs { embed: search / 2, search: search / 2, prompt: ns(0.2), prefill, decode: ns(8.0), ..StageNs::default() };
    row.phase = Phase::Latency;
    row.scores = BTreeMap::new();
    row.ttft_ns = row.stage_ns.ttft();
    row.e2e_ns = row.ttft_ns + row.stage_ns.decode;
    row
}

fn step(step: u64) -> TrainingRow {
    let train_loss = 0.4 + 2.5 * (-(step as f64) / 60.0).exp();
    TrainingRow {
        variant: "finetuned".to_owned(),
        seed: 1,
        step,
        epoch: step as f64 / 100.0,
        train_loss,
        eval_loss: step.is_multiple_of(20).then_some(train_loss + 0.1),
        learning_rate: 1e-3,
        grad_norm: 1.0,
        tokens: 2048,
        flops: 4e10,
        step_ns: 300_000_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_made_up_run_gives_a_report_of_all_four_variants() {
        let run = tempfile::tempdir().unwrap();
        make_up(run.path()).unwrap();
        let tables = ragft::report::write_report(run.path()).unwrap();
        assert_eq!(tables.variants(), VARIANTS);
        assert!(tables.data.notes.is_empty(), "{:?}", tables.data.notes);
    }
}
