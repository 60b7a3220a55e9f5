//! Reading a run folder. The journal is gone through line by line and stays on disk: in memory is where each row begins, in the order of
//! tables, so that what a row says can be read again whenever it is asked for. The small files beside it are read whole.
//!
//! Checks form and references only (schema version, run id, known variant and sample); it computes nothing but sums over rows.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::de::DeserializeOwned;

use super::TableError;
use super::lines::{LineReader, Lines};
use super::samples::Samples;
use super::survey::{Survey, Timed, Usage};
use crate::finetune::TrainingRow;
use crate::retrieval::Chunk;
use crate::spec::VariantKind;
use crate::store::RunFolder;
use crate::store::manifest::Manifest;
use crate::store::row::{AuditRow, HitRow, JournalRow, Phase, QueryResources, SCHEMA_VERSION, ServerRow, StageNs};

/// What a timed query took.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[expect(missing_docs, reason = "see `JournalRow`")]
pub struct Times {
    pub stage_ns: StageNs,
    pub ttft_ns: u64,
    pub e2e_ns: u64,
    pub resources: QueryResources,
}

/// A [`JournalRow`] whose variant and sample are known; read from disk, and not kept.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "see `JournalRow`")]
pub struct Observation {
    pub variant: VariantKind,
    pub seed: u64,
    /// Index into [`RunData::samples`].
    pub sample: usize,
    pub repeat: u32,
    pub phase: Phase,
    pub answer: String,
    pub finish_reason: String,
    pub prompt_tokens: u32,
    pub context_tokens: u32,
    pub completion_tokens: u32,
    pub cached_tokens: u32,
    pub hits: Vec<HitRow>,
    pub context_cut: bool,
    pub scores: BTreeMap<String, f64>,
    /// Zeros in the accuracy pass.
    pub times: Times,
    pub flops: Option<f64>,
    pub error: Option<String>,
}

impl Observation {
    fn of(row: JournalRow, variant: VariantKind, sample: usize) -> Self {
        Self {
            variant,
            seed: row.seed,
            sample,
            repeat: row.repeat,
            phase: row.phase,
            answer: row.answer,
            finish_reason: row.finish_reason,
            prompt_tokens: row.prompt_tokens,
            context_tokens: row.context_tokens,
            completion_tokens: row.completion_tokens,
            cached_tokens: row.cached_tokens,
            hits: row.hits,
            context_cut: row.context_cut,
            scores: row.scores,
            times: Times { stage_ns: row.stage_ns, ttft_ns: row.ttft_ns, e2e_ns: row.e2e_ns, resources: row.resources },
            flops: row.flops,
            error: row.error,
        }
    }

    /// The score of a metric, if the row has it.
    pub fn score(&self, metric: &str) -> Option<f64> {
        self.scores.get(metric).copied()
    }
}

/// A pass over the questions by a variant, trained with a seed.
type Group = (Phase, VariantKind, u64);

/// What is in memory of a row.
#[derive(Debug, Clone, Copy)]
struct RowAt {
    sample: u32,
    repeat: u32,
    /// Where its line begins.
    place: u64,
}

/// The journal: where the rows of every pass begin, by sample and repeat.
#[derive(Debug, Clone)]
pub struct JournalIndex {
    lines: Lines,
    groups: BTreeMap<Group, Vec<RowAt>>,
}

impl JournalIndex {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.groups.values().map(Vec::len).sum()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.groups.values().all(Vec::is_empty)
    }

    /// Bytes that the rows take in memory.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.len() * size_of::<RowAt>()
    }

    fn groups_of(&self, variant: VariantKind, phase: Phase) -> impl Iterator<Item = (Group, &[RowAt])> {
        self.groups.range((phase, variant, 0)..=(phase, variant, u64::MAX)).map(|(group, rows)| (*group, rows.as_slice()))
    }

    /// Sorts rows within their passes; of rows that say the same observation twice (a journal appended to by two processes) the last written
    /// stays. Gives the number of those that went.
    fn sort(&mut self) -> usize {
        let written = self.len();
        for rows in self.groups.values_mut() {
            rows.sort_unstable_by_key(|row| (row.sample, row.repeat, Reverse(row.place)));
            rows.dedup_by_key(|row| (row.sample, row.repeat));
        }
        written - self.len()
    }
}

/// Everything a table is made from.
#[derive(Debug, Clone)]
pub struct RunData {
    /// `manifest.json`.
    pub manifest: Manifest,
    /// `samples.jsonl`.
    pub samples: Samples,
    /// Where the rows of the journal are.
    pub journal: JournalIndex,
    /// `training.jsonl`, as written; empty if nothing was trained.
    pub training: Vec<TrainingRow>,
    /// `audit.jsonl`; empty if nothing was audited.
    pub audit: Vec<AuditRow>,
    /// `server.jsonl`; empty if that scenario was left out.
    pub server: Vec<ServerRow>,
    /// Ids of the metrics that rows are scored by.
    pub metric_ids: BTreeSet<String>,
    /// What was odd about the files, in words.
    pub notes: Vec<String>,
    pub(super) survey: Survey,
}

impl RunData {
    /// Reads a run folder.
    pub fn read(run: &Path) -> Result<Self, TableError> {
        let folder = RunFolder::open_with_answers(run)?;
        let manifest = folder.read_manifest()?;
        let mut notes = Vec::new();
        let samples = Samples::read(&folder.samples(), &mut notes)?;
        let training = read_optional(&folder.training(), &mut notes)?;
        let audit = read_optional(&folder.audit(), &mut notes)?;
        let server = read_optional(&folder.server(), &mut notes)?;
        let journal = JournalIndex { lines: Lines::open(&folder.journal())?, groups: BTreeMap::new() };
        let (metric_ids, survey) = (BTreeSet::new(), Survey::default());
        let mut data = Self { manifest, samples, journal, training, audit, server, metric_ids, notes, survey };
        data.index_journal()?;
        data.survey = Survey::of(&data)?;
        Ok(data)
    }

    fn index_journal(&mut self) -> Result<(), TableError> {
        let (mut groups, mut metrics, mut notes) = (BTreeMap::<Group, Vec<RowAt>>::new(), BTreeSet::new(), Vec::new());
        let by_id = self.samples.finder();
        self.journal.lines.for_each(&mut notes, |line, place, row: JournalRow| {
            let problem = |problem| TableError::Row { path: self.journal.lines.path().to_owned(), line, problem };
            let variant = self.check(&row).map_err(problem)?;
            let unknown = || problem(format!("names an unknown sample `{}`", row.sample_id));
            let sample = by_id.find(&row.sample_id).ok_or_else(unknown)? as u32;
            groups.entry((row.phase, variant, row.seed)).or_default().push(RowAt { sample, repeat: row.repeat, place });
            for metric in row.scores.into_keys() {
                metrics.insert(metric);
            }
            Ok(())
        })?;
        (self.journal.groups, self.metric_ids) = (groups, metrics);
        self.notes.append(&mut notes);
        let twice = self.journal.sort();
        if twice > 0 {
            self.notes.push(format!("{twice} journal rows were written twice; the last of each counts"));
        }
        Ok(())
    }

    fn check(&self, row: &JournalRow) -> Result<VariantKind, String> {
        if row.schema_version != SCHEMA_VERSION {
            return Err(format!("has schema version {}, this version reads {SCHEMA_VERSION}", row.schema_version));
        }
        if row.run_id != self.manifest.run_id {
            return Err(format!("belongs to run `{}`, the manifest is of `{}`", row.run_id, self.manifest.run_id));
        }
        self.variant_named(&row.variant).ok_or_else(|| format!("names an unknown variant `{}`", row.variant))
    }

    /// The variant of that name in this run.
    fn variant_named(&self, name: &str) -> Option<VariantKind> {
        let given = || self.manifest.spec.predictions.keys().copied().find(|given| given.as_str() == name);
        variant_named(name).or_else(|| given().map(VariantKind::Predicted))
    }

    /// Variants that have rows, in the order of tables.
    pub fn variants(&self) -> Vec<VariantKind> {
        let seen: BTreeSet<VariantKind> = self.journal.groups.keys().map(|(_, variant, _)| *variant).collect();
        seen.into_iter().collect()
    }

    /// All rows, ordered by phase, variant, seed, sample and repeat; read from disk one after the other.
    pub fn rows(&self) -> impl Iterator<Item = Result<Observation, TableError>> {
        self.read_rows(self.journal.groups.iter().map(|(group, rows)| (*group, rows.as_slice())))
    }

    /// Rows of one variant and phase, in the same way.
    pub fn rows_of(&self, variant: VariantKind, phase: Phase) -> impl Iterator<Item = Result<Observation, TableError>> {
        self.read_rows(self.journal.groups_of(variant, phase))
    }

    fn read_rows<'a>(
        &'a self,
        groups: impl Iterator<Item = (Group, &'a [RowAt])> + 'a,
    ) -> impl Iterator<Item = Result<Observation, TableError>> + 'a {
        let mut reader = self.journal.lines.reader();
        let places = groups.flat_map(|(group, rows)| rows.iter().map(move |row| (group, *row)));
        places.map(move |(group, row)| self.observation(&mut reader, group, row))
    }

    /// Calls `each` with the questions that a variant answered in the accuracy pass, in their order, and the rows of each: by seed and repeat.
    pub fn for_each_question<E: From<TableError>>(
        &self,
        variant: VariantKind,
        mut each: impl FnMut(usize, &[Observation]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut passes: Vec<(Group, &[RowAt], LineReader)> =
            self.journal.groups_of(variant, Phase::Accuracy).map(|(group, rows)| (group, rows, self.journal.lines.reader())).collect();
        let mut rows = Vec::new();
        while let Some(sample) = passes.iter().filter_map(|(_, left, _)| Some(left.first()?.sample)).min() {
            rows.clear();
            for (group, left, reader) in &mut passes {
                let own = left.partition_point(|row| row.sample == sample);
                for row in &left[..own] {
                    rows.push(self.observation(reader, *group, *row)?);
                }
                *left = &left[own..];
            }
            each(sample as usize, &rows)?;
        }
        Ok(())
    }

    /// The first row of a variant on a question in the accuracy pass: of its first seed.
    pub fn first_row(&self, variant: VariantKind, sample: usize) -> Result<Option<Observation>, TableError> {
        for (group, rows) in self.journal.groups_of(variant, Phase::Accuracy) {
            let first = rows.partition_point(|row| (row.sample as usize) < sample);
            if let Some(row) = rows.get(first).filter(|row| row.sample as usize == sample) {
                return self.observation(&mut self.journal.lines.reader(), group, *row).map(Some);
            }
        }
        Ok(None)
    }

    fn observation(&self, reader: &mut LineReader, (phase, variant, seed): Group, at: RowAt) -> Result<Observation, TableError> {
        let row: JournalRow = reader.read(at.place)?;
        let sample = at.sample as usize;
        let is_it = (row.phase, row.variant.as_str(), row.seed, row.repeat) == (phase, variant.name(), seed, at.repeat)
            && row.sample_id == self.samples.id(sample);
        if is_it {
            Ok(Observation::of(row, variant, sample))
        } else {
            Err(TableError::Changed { path: self.journal.lines.path().to_owned() })
        }
    }

    /// Training seeds of a variant that the accuracy pass has rows of, in order.
    pub fn seeds(&self, variant: VariantKind) -> Vec<u64> {
        self.journal.groups_of(variant, Phase::Accuracy).map(|((_, _, seed), _)| seed).collect()
    }

    /// Number of rows of every question in a variant's accuracy pass.
    pub(super) fn rows_per_question(&self, variant: VariantKind) -> Vec<u32> {
        let mut counts = vec![0; self.samples.len()];
        for (_, rows) in self.journal.groups_of(variant, Phase::Accuracy) {
            rows.iter().for_each(|row| counts[row.sample as usize] += 1);
        }
        counts
    }

    /// Number of questions that a variant has a row for in the accuracy pass.
    pub fn answered(&self, variant: VariantKind) -> usize {
        self.rows_per_question(variant).into_iter().filter(|count| *count > 0).count()
    }

    /// What a variant's queries of the accuracy pass used, summed over those that did not fail.
    pub fn usage(&self, variant: VariantKind) -> Usage {
        self.survey.usage(variant)
    }

    /// The errors of a variant in the accuracy pass, with their numbers.
    pub fn errors(&self, variant: VariantKind) -> impl Iterator<Item = (&str, usize)> {
        self.survey.errors(variant)
    }

    /// The timed queries of a variant that did not fail, by seed, question and repeat.
    pub fn timed(&self, variant: VariantKind) -> &[Timed] {
        self.survey.timed(variant)
    }

    /// Mean number of words of the shortest reference, over questions that have one; zero if none has.
    pub fn mean_reference_words(&self) -> f64 {
        self.samples.mean_reference_words()
    }
}

/// The passages of a run with these ids; empty where the run has none.
pub fn read_passages(run: &Path, ids: &BTreeSet<&str>) -> Result<BTreeMap<String, Chunk>, TableError> {
    let path = RunFolder::at(run).passages();
    let mut found = BTreeMap::new();
    if path.exists() && !ids.is_empty() {
        Lines::open(&path)?.for_each(&mut Vec::new(), |_, _, chunk: Chunk| {
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
    let mut items = Vec::new();
    if path.exists() {
        Lines::open(path)?.for_each(notes, |_, _, item| {
            items.push(item);
            Ok(())
        })?;
    }
    Ok(items)
}
