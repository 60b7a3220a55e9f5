//! Reading a run folder: the journal line by line into compact observations, and the small files beside it whole.
//!
//! Checks form and references only (schema version, run id, known variant and sample); it computes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::TableError;
use crate::dataset::Sample;
use crate::finetune::TrainingRow;
use crate::retrieval::Chunk;
use crate::spec::VariantKind;
use crate::store::manifest::Manifest;
use crate::store::row::{AuditRow, HitRow, JournalRow, Phase, QueryResources, SCHEMA_VERSION, ServerRow, StageNs};
use crate::store::{RunFolder, StoreError};

/// Distinct strings by number, in the order they were first seen.
#[derive(Debug, Clone, Default)]
pub struct Names {
    names: Vec<String>,
    numbers: BTreeMap<String, u32>,
}

impl Names {
    /// The number of `name`, new if it was not seen before.
    pub fn number(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let number = self.names.len() as u32;
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        number
    }

    /// The number of `name`, if it was seen.
    pub fn find(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    /// The name behind a number.
    pub fn name(&self, number: u32) -> &str {
        &self.names[number as usize]
    }

    /// All names, by number.
    pub fn all(&self) -> &[String] {
        &self.names
    }
}

/// What a timed query took.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[expect(missing_docs, reason = "see `JournalRow`")]
pub struct Times {
    pub stage_ns: StageNs,
    pub ttft_ns: u64,
    pub e2e_ns: u64,
    pub resources: QueryResources,
}

/// Bits of a set of scores: metric and value.
type ScoreBits = Vec<(u32, u64)>;

/// Values that many rows have alike are held once: answers, sets of scores, and the passages that variants were given for one question.
#[derive(Debug, Default)]
struct Shared {
    answers: BTreeSet<Arc<str>>,
    scores: BTreeMap<ScoreBits, Arc<[(u32, f64)]>>,
    /// The last passages of every sample.
    hits: BTreeMap<usize, Arc<[CompactHit]>>,
}

impl Shared {
    /// Values beyond so many are not looked for again: where nearly all differ there is nothing to share.
    const MOST: usize = 1 << 16;

    fn answer(&mut self, answer: &str) -> Arc<str> {
        if let Some(known) = self.answers.get(answer) {
            return Arc::clone(known);
        }
        let new: Arc<str> = answer.into();
        if self.answers.len() < Self::MOST {
            self.answers.insert(Arc::clone(&new));
        }
        new
    }

    fn scores(&mut self, scores: Vec<(u32, f64)>) -> Arc<[(u32, f64)]> {
        let bits: Vec<(u32, u64)> = scores.iter().map(|(metric, value)| (*metric, value.to_bits())).collect();
        if let Some(known) = self.scores.get(&bits) {
            return Arc::clone(known);
        }
        let new: Arc<[(u32, f64)]> = scores.into();
        if self.scores.len() < Self::MOST {
            self.scores.insert(bits, Arc::clone(&new));
        }
        new
    }

    fn hits(&mut self, sample: usize, hits: Vec<CompactHit>) -> Arc<[CompactHit]> {
        if let Some(known) = self.hits.get(&sample).filter(|known| known[..] == hits[..]) {
            return Arc::clone(known);
        }
        let new: Arc<[CompactHit]> = hits.into();
        if !new.is_empty() {
            self.hits.insert(sample, Arc::clone(&new));
        }
        new
    }
}

/// A [`HitRow`] with its ids as numbers in [`RunData::ids`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "see `HitRow`")]
pub struct CompactHit {
    pub document: u32,
    pub chunk: u32,
    pub rank: u32,
    pub score: f32,
    pub in_prompt: bool,
    pub in_exact: Option<bool>,
}

/// A [`JournalRow`] with names as numbers and what it shares with other rows held once: so that a million fit in memory.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "see `JournalRow`")]
pub struct Observation {
    pub variant: VariantKind,
    pub seed: u64,
    /// Index into [`RunData::samples`].
    pub sample: usize,
    pub repeat: u32,
    pub phase: Phase,
    pub answer: Arc<str>,
    pub finish_reason: u32,
    pub prompt_tokens: u32,
    pub context_tokens: u32,
    pub completion_tokens: u32,
    pub cached_tokens: u32,
    pub hits: Arc<[CompactHit]>,
    pub context_cut: bool,
    /// Metric number in [`RunData::metric_ids`] and value.
    pub scores: Arc<[(u32, f64)]>,
    /// Nothing in the accuracy pass.
    times: Option<Box<Times>>,
    pub flops: Option<f64>,
    pub error: Option<Box<str>>,
}

impl Observation {
    /// Orders rows by what they are, not by when they were written.
    fn key(&self) -> (Phase, VariantKind, u64, usize, u32) {
        (self.phase, self.variant, self.seed, self.sample, self.repeat)
    }

    /// What the query took; zeros in the accuracy pass.
    pub fn times(&self) -> Times {
        self.times.as_deref().copied().unwrap_or_default()
    }

    /// The score of metric number `metric`, if the row has it.
    pub fn score(&self, metric: u32) -> Option<f64> {
        self.scores.iter().find(|(number, _)| *number == metric).map(|(_, value)| *value)
    }
}

/// Everything a table is made from.
#[derive(Debug, Clone)]
pub struct RunData {
    /// `manifest.json`.
    pub manifest: Manifest,
    /// `samples.jsonl`: the test questions, in file order.
    pub samples: Vec<Sample>,
    /// The journal, ordered by phase, variant, seed, sample and repeat.
    pub rows: Vec<Observation>,
    /// `training.jsonl`, as written; empty if nothing was trained.
    pub training: Vec<TrainingRow>,
    /// `audit.jsonl`; empty if nothing was audited.
    pub audit: Vec<AuditRow>,
    /// `server.jsonl`; empty if that scenario was left out.
    pub server: Vec<ServerRow>,
    /// Metric ids by number.
    pub metric_ids: Names,
    /// Document, chunk and finish-reason names by number.
    pub ids: Names,
    /// What was odd about the files, in words.
    pub notes: Vec<String>,
}

impl RunData {
    /// Reads a run folder.
    pub fn read(run: &Path) -> Result<Self, TableError> {
        let folder = RunFolder::open_with_answers(run)?;
        let manifest = folder.read_manifest()?;
        let mut notes = Vec::new();
        let samples = read_lines(&folder.samples(), &mut notes)?;
        let training = read_optional(&folder.training(), &mut notes)?;
        let audit = read_optional(&folder.audit(), &mut notes)?;
        let server = read_optional(&folder.server(), &mut notes)?;
        let (metric_ids, ids) = (Names::default(), Names::default());
        let mut data = Self { manifest, samples, rows: Vec::new(), training, audit, server, metric_ids, ids, notes };
        data.read_journal(&folder.journal())?;
        Ok(data)
    }

    fn read_journal(&mut self, path: &Path) -> Result<(), TableError> {
        let by_id: BTreeMap<String, usize> = self.samples.iter().enumerate().map(|(index, sample)| (sample.id.clone(), index)).collect();
        let mut rows = Vec::new();
        let (mut notes, mut shared) = (Vec::new(), Shared::default());
        for_each_line(path, &mut notes, |line, row: JournalRow| {
            let problem = |problem| TableError::Row { path: path.to_owned(), line, problem };
            let (variant, sample) = self.check(&row, &by_id).map_err(problem)?;
            rows.push(self.compact(&row, variant, sample, &mut shared));
            Ok(())
        })?;
        self.notes.append(&mut notes);
        self.rows = self.without_duplicates(rows);
        Ok(())
    }

    fn check(&self, row: &JournalRow, by_id: &BTreeMap<String, usize>) -> Result<(VariantKind, usize), String> {
        if row.schema_version != SCHEMA_VERSION {
            return Err(format!("has schema version {}, this version reads {SCHEMA_VERSION}", row.schema_version));
        }
        if row.run_id != self.manifest.run_id {
            return Err(format!("belongs to run `{}`, the manifest is of `{}`", row.run_id, self.manifest.run_id));
        }
        let variant = self.variant_named(&row.variant).ok_or_else(|| format!("names an unknown variant `{}`", row.variant))?;
        let sample = by_id.get(&row.sample_id).ok_or_else(|| format!("names an unknown sample `{}`", row.sample_id))?;
        Ok((variant, *sample))
    }

    /// The variant of that name in this run.
    fn variant_named(&self, name: &str) -> Option<VariantKind> {
        let given = || self.manifest.spec.predictions.keys().copied().find(|given| given.as_str() == name);
        variant_named(name).or_else(|| given().map(VariantKind::Predicted))
    }

    fn compact(&mut self, row: &JournalRow, variant: VariantKind, sample: usize, shared: &mut Shared) -> Observation {
        let scores = row.scores.iter().map(|(name, value)| (self.metric_ids.number(name), *value)).collect();
        let hits = row.hits.iter().map(|hit| self.compact_hit(hit)).collect();
        let times = Times { stage_ns: row.stage_ns, ttft_ns: row.ttft_ns, e2e_ns: row.e2e_ns, resources: row.resources };
        Observation {
            variant,
            seed: row.seed,
            sample,
            repeat: row.repeat,
            phase: row.phase,
            answer: shared.answer(&row.answer),
            finish_reason: self.ids.number(&row.finish_reason),
            prompt_tokens: row.prompt_tokens,
            context_tokens: row.context_tokens,
            completion_tokens: row.completion_tokens,
            cached_tokens: row.cached_tokens,
            hits: shared.hits(sample, hits),
            context_cut: row.context_cut,
            scores: shared.scores(scores),
            times: (times != Times::default()).then(|| Box::new(times)),
            flops: row.flops,
            error: row.error.as_deref().map(Into::into),
        }
    }

    fn compact_hit(&mut self, hit: &HitRow) -> CompactHit {
        CompactHit {
            document: self.ids.number(&hit.document_id),
            chunk: self.ids.number(&hit.chunk_id),
            rank: hit.rank,
            score: hit.score,
            in_prompt: hit.in_prompt,
            in_exact: hit.in_exact,
        }
    }

    /// Sorted, and of rows that say the same observation twice (a journal appended to by two processes) the last written.
    fn without_duplicates(&mut self, mut rows: Vec<Observation>) -> Vec<Observation> {
        let written = rows.len();
        rows.reverse();
        rows.sort_by_key(Observation::key);
        rows.dedup_by(|next, kept| next.key() == kept.key());
        if rows.len() < written {
            self.notes.push(format!("{} journal rows were written twice; the last of each counts", written - rows.len()));
        }
        rows
    }

    /// Variants that have rows, in the order of tables.
    pub fn variants(&self) -> Vec<VariantKind> {
        let seen: BTreeSet<VariantKind> = self.rows.iter().map(|row| row.variant).collect();
        seen.into_iter().collect()
    }

    /// Rows of one variant and phase.
    pub fn rows_of(&self, variant: VariantKind, phase: Phase) -> impl Iterator<Item = &Observation> {
        let start = self.rows.partition_point(|row| (row.phase, row.variant) < (phase, variant));
        let end = self.rows.partition_point(|row| (row.phase, row.variant) <= (phase, variant));
        self.rows[start..end].iter()
    }

    /// Mean number of words of the shortest reference, over questions that have one; zero if none has.
    pub fn mean_reference_words(&self) -> f64 {
        let shortest = |sample: &Sample| sample.references.iter().map(|text| text.split_whitespace().count()).min();
        let words: Vec<usize> = self.samples.iter().filter_map(shortest).collect();
        if words.is_empty() { 0.0 } else { words.iter().sum::<usize>() as f64 / words.len() as f64 }
    }
}

/// The passages of a run with these ids; empty where the run has none.
pub fn read_passages(run: &Path, ids: &BTreeSet<&str>) -> Result<BTreeMap<String, Chunk>, TableError> {
    let path = RunFolder::at(run).passages();
    let mut found = BTreeMap::new();
    if path.exists() && !ids.is_empty() {
        for_each_line(&path, &mut Vec::new(), |_, chunk: Chunk| {
            if ids.contains(chunk.id.as_str()) {
                found.insert(chunk.id.clone(), chunk);
            }
            Ok(())
        })?;
    }
    Ok(found)
}

/// The variant of ragft's own of that name.
pub fn variant_named(name: &str) -> Option<VariantKind> {
    VariantKind::ALL.into_iter().find(|variant| variant.name() == name)
}

fn read_optional<T: DeserializeOwned>(path: &Path, notes: &mut Vec<String>) -> Result<Vec<T>, TableError> {
    if path.exists() { read_lines(path, notes) } else { Ok(Vec::new()) }
}

fn read_lines<T: DeserializeOwned>(path: &Path, notes: &mut Vec<String>) -> Result<Vec<T>, TableError> {
    let mut items = Vec::new();
    for_each_line(path, notes, |_, item| {
        items.push(item);
        Ok(())
    })?;
    Ok(items)
}

/// Calls `each` with the number (from 1) and value of every line. A last line without a line end that does not parse was torn by an
/// interruption: it is left out, with a note.
fn for_each_line<T: DeserializeOwned>(
    path: &Path,
    notes: &mut Vec<String>,
    mut each: impl FnMut(usize, T) -> Result<(), TableError>,
) -> Result<(), TableError> {
    let file = File::open(path).map_err(StoreError::io("read", path))?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        if reader.read_until(b'\n', &mut bytes).map_err(StoreError::io("read", path))? == 0 {
            break;
        }
        if bytes.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match serde_json::from_slice(&bytes) {
            Ok(value) => each(line, value)?,
            Err(_) if bytes.last() != Some(&b'\n') => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                notes.push(format!("the last line of `{name}` was torn by an interruption and is left out"));
            }
            Err(source) => return Err(TableError::Line { path: path.to_owned(), line, source }),
        }
    }
    Ok(())
}
