//! Shards of a run made into the run: the folder that one machine would have left, with the same `result_hash`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::hash::result_hash;
use super::identity::differing_keys;
use super::shard::Share;
use super::training::copy_folder;
use crate::dataset::Sample;
use crate::diagnostic::{Blame, Hint};
use crate::retrieval::Chunk;
use crate::store::journal::read_whole;
use crate::store::manifest::{Manifest, ModelRecord, PhaseRecord, ServedRecord, ShardRecord};
use crate::store::row::{JournalRow, Phase};
use crate::store::{RunFolder, StoreError, read_jsonl, write_jsonl};

/// Why shards were not merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// A folder cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// They are not the shards of one run; every reason.
    #[error("the folders are not the shards of one run:{}", .0.iter().map(|reason| format!("\n  {reason}")).collect::<String>())]
    NotOneRun(Vec<String>),
}

impl MergeError {
    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            Self::NotOneRun(_) | Self::Store(StoreError::NotARun { .. } | StoreError::NotEmpty { .. } | StoreError::Malformed { .. }) => {
                Blame::Request
            }
            Self::Store(_) => Blame::Runtime,
        }
    }
}

impl Hint for MergeError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::NotOneRun(_) => {
                Some("finish an incomplete shard with `--resume`; run one that differs anew, as the others were run".into())
            }
        }
    }
}

/// A shard as read.
struct Part {
    folder: RunFolder,
    manifest: Manifest,
    share: Share,
}

impl Part {
    fn read(path: &Path, problems: &mut Vec<String>) -> Result<Option<Self>, StoreError> {
        let folder = RunFolder::open(path)?;
        let manifest = folder.read_manifest()?;
        if manifest.shard.is_none() {
            problems.push(format!("`{}` is a whole run, not a shard", path.display()));
            return Ok(None);
        }
        let share = Share::read(&folder)?;
        Ok(Some(Self { folder, manifest, share }))
    }

    fn name(&self) -> String {
        format!("`{}` (shard {})", self.folder.root().display(), self.share.shard)
    }
}

/// Merges the shards into a new run folder and gives its manifest. Tables and report are not made here.
///
/// # Errors
/// [`MergeError::NotOneRun`] with everything that does not fit.
pub fn merge(shards: &[PathBuf], output: &Path) -> Result<Manifest, MergeError> {
    RunFolder::check_vacant(output)?;
    let mut problems = Vec::new();
    let mut parts = Vec::new();
    for path in shards {
        parts.extend(Part::read(path, &mut problems)?);
    }
    parts.sort_by_key(|part| part.share.shard.index);
    problems.extend(differences(&parts));
    if !problems.is_empty() {
        return Err(MergeError::NotOneRun(problems));
    }
    let rows = rows(&parts, &mut problems)?;
    if !problems.is_empty() {
        return Err(MergeError::NotOneRun(problems));
    }
    write(&parts, &rows, output)
}

/// Everything by which the parts are not one run.
fn differences(parts: &[Part]) -> Vec<String> {
    let Some(first) = parts.first() else { return Vec::new() };
    let mut found = Vec::new();
    for part in &parts[1..] {
        let (name, reference) = (part.name(), first.name());
        let mut differs = |what: &str, was: &str, is: &str| {
            if was != is {
                found.push(format!("{name} has {what} {is}, {reference} has {was}"));
            }
        };
        let (left, right) = (&first.manifest, &part.manifest);
        for (key, was, is) in differing_keys(&left.spec, &right.spec) {
            differs(&format!("`{key}`"), &was, &is);
        }
        differs("version", &left.crate_version, &right.crate_version);
        differs("device", &left.machine.device, &right.machine.device);
        for hash in left.hashes.keys().chain(right.hashes.keys()).collect::<BTreeSet<_>>() {
            let of = |manifest: &Manifest| manifest.hashes.get(hash).cloned().unwrap_or_else(|| "none".to_owned());
            differs(&format!("{hash} hash"), &of(left), &of(right));
        }
        // Said last and only alone: an id differs because something named above does.
        if left.run_id != right.run_id && found.iter().all(|problem| !problem.starts_with(&name)) {
            found.push(format!("{name} is of run {}, {reference} of run {}", right.run_id, left.run_id));
        }
    }
    found.extend(split(parts));
    let open = parts.iter().filter(|part| part.manifest.result_hash.is_none());
    found.extend(open.map(|part| format!("{} is not complete", part.name())));
    found
}

/// What is wrong with the parts as parts: other splits, missing and doubled ones.
fn split(parts: &[Part]) -> Vec<String> {
    let mut by_index = BTreeMap::<usize, Vec<&Part>>::new();
    let of = parts.iter().map(|part| part.share.shard.of).max().unwrap_or(0);
    let mut found = Vec::new();
    for part in parts {
        if part.share.shard.of == of {
            by_index.entry(part.share.shard.index).or_default().push(part);
        } else {
            found.push(format!("{} is of another split: others are of {of} shards", part.name()));
        }
    }
    for (index, same) in &by_index {
        if same.len() > 1 {
            let folders: Vec<String> = same.iter().map(|part| format!("`{}`", part.folder.root().display())).collect();
            found.push(format!("shard {index}/{of} is given {} times: {}", same.len(), folders.join(", ")));
        }
    }
    let missing: Vec<String> = (1..=of).filter(|index| !by_index.contains_key(index)).map(|index| format!("{index}/{of}")).collect();
    if !missing.is_empty() {
        found.push(format!("shard {} is missing", missing.join(", ")));
    }
    if found.is_empty() {
        let mut positions: Vec<usize> = parts.iter().flat_map(|part| part.share.positions.iter().copied()).collect();
        positions.sort_unstable();
        if !positions.iter().copied().eq(0..parts[0].share.whole) {
            found.push("the shards do not hold every question once: a `shard.json` was changed".to_owned());
        }
    }
    found
}

/// The rows of all parts, by pass, variant, seed, question and repeat.
fn rows(parts: &[Part], problems: &mut Vec<String>) -> Result<Vec<JournalRow>, StoreError> {
    let mut rows: Vec<JournalRow> = Vec::new();
    for part in parts {
        let own: Vec<JournalRow> = read_whole(&part.folder.journal())?;
        if part.manifest.result_hash.as_deref() != Some(result_hash(&own).as_str()) {
            problems.push(format!("the journal of {} does not give its result hash: a row was changed or lost", part.name()));
        }
        rows.extend(own);
    }
    let variants = &parts[0].manifest.spec.variants;
    let place = |name: &str| variants.iter().position(|variant| variant.name() == name);
    rows.sort_by(|left, right| {
        let key = |row: &JournalRow| (row.phase, place(&row.variant), row.seed, row.repeat);
        key(left).cmp(&key(right)).then_with(|| left.sample_id.cmp(&right.sample_id))
    });
    let same = |left: &JournalRow, right: &JournalRow| {
        (left.phase, &left.variant, left.seed, &left.sample_id, left.repeat)
            == (right.phase, &right.variant, right.seed, &right.sample_id, right.repeat)
    };
    let twice = rows.windows(2).filter(|pair| same(&pair[0], &pair[1])).count();
    if twice > 0 {
        problems.push(format!("{twice} answers are there twice"));
    }
    let seeds = |variant: &crate::spec::VariantKind| if variant.is_tuned() { parts[0].manifest.spec.seeds.len() } else { 1 };
    let expected = parts[0].share.whole * variants.iter().map(seeds).sum::<usize>();
    let answered = rows.iter().filter(|row| row.phase == Phase::Accuracy).count();
    if answered != expected {
        problems.push(format!("the shards have {answered} answers of the accuracy pass, the run has {expected}"));
    }
    Ok(rows)
}

/// Writes the run folder, its manifest last: a folder without one is not a run.
fn write(parts: &[Part], rows: &[JournalRow], output: &Path) -> Result<Manifest, MergeError> {
    let first = &parts[0];
    let folder = RunFolder::create(output)?;
    write_jsonl(&folder.samples(), &samples(parts)?)?;
    write_passages(parts, &folder)?;
    write_jsonl(&folder.journal(), rows)?;
    // What was measured on a sample of the questions is the first shard's.
    for of in [RunFolder::training, RunFolder::audit, RunFolder::server] {
        let (from, to) = (of(&first.folder), of(&folder));
        if from.is_file() {
            std::fs::copy(&from, &to).map_err(StoreError::io("copy", &from))?;
        }
    }
    for record in &first.manifest.training {
        std::fs::create_dir_all(folder.adapters()).map_err(StoreError::io("create", &folder.adapters()))?;
        copy_folder(&first.folder.adapter(&record.adapter), &folder.adapter(&record.adapter))?;
    }
    let manifest = Manifest {
        phases: phases(parts),
        model: ModelRecord { served: served(parts), ..first.manifest.model.clone() },
        embedder_tokens: parts.iter().map(|part| part.manifest.embedder_tokens).sum(),
        shard: None,
        shards: parts.iter().map(record).collect(),
        caveats: caveats(parts),
        result_hash: Some(result_hash(rows)),
        ..first.manifest.clone()
    };
    folder.write_manifest(&manifest)?;
    Ok(manifest)
}

/// The questions of all parts, where they stand in the whole run.
fn samples(parts: &[Part]) -> Result<Vec<Sample>, StoreError> {
    let mut placed = Vec::with_capacity(parts[0].share.whole);
    for part in parts {
        let own: Vec<Sample> = read_jsonl(&part.folder.samples())?;
        if own.len() != part.share.positions.len() {
            return Err(StoreError::Malformed {
                path: part.folder.samples().display().to_string(),
                line: own.len(),
                problem: format!("the shard has {} questions", part.share.positions.len()),
            });
        }
        placed.extend(part.share.positions.iter().copied().zip(own));
    }
    placed.sort_by_key(|(position, _)| *position);
    Ok(placed.into_iter().map(|(_, sample)| sample).collect())
}

/// Every passage that some part's row can name, once, by id.
fn write_passages(parts: &[Part], folder: &RunFolder) -> Result<(), StoreError> {
    let mut passages = BTreeMap::<String, Chunk>::new();
    for part in parts {
        let own: Vec<Chunk> = read_jsonl(&part.folder.passages())?;
        passages.extend(own.into_iter().map(|chunk| (chunk.id.clone(), chunk)));
    }
    if passages.is_empty() {
        return Ok(());
    }
    write_jsonl(&folder.passages(), &passages.into_values().collect::<Vec<_>>())
}

/// Machine time summed over the parts, in the order of the first, which has every phase.
fn phases(parts: &[Part]) -> Vec<PhaseRecord> {
    let mut phases = parts[0].manifest.phases.clone();
    for other in parts[1..].iter().flat_map(|part| &part.manifest.phases) {
        let Some(sum) = phases.iter_mut().find(|phase| phase.name == other.name) else { continue };
        sum.seconds += other.seconds;
        sum.cpu_seconds += other.cpu_seconds;
        sum.peak_memory_bytes = sum.peak_memory_bytes.max(other.peak_memory_bytes);
        sum.overhead_seconds = match (sum.overhead_seconds, other.overhead_seconds) {
            (Some(left), Some(right)) => Some(left + right),
            (left, right) => left.or(right),
        };
    }
    phases
}

/// What all parts together asked of a server.
fn served(parts: &[Part]) -> Option<ServedRecord> {
    let records = parts.iter().map(|part| part.manifest.model.served.clone());
    let mut sum = records.reduce(|left, right| {
        let (left, right) = (left?, right?);
        Some(ServedRecord {
            fingerprints: [left.fingerprints, right.fingerprints].concat(),
            requests: left.requests + right.requests,
            retries: left.retries + right.retries,
            prompt_tokens: left.prompt_tokens + right.prompt_tokens,
            completion_tokens: left.completion_tokens + right.completion_tokens,
            uncounted: left.uncounted + right.uncounted,
            money: left.money + right.money,
            host: left.host,
            interface: left.interface,
        })
    })??;
    sum.fingerprints.sort();
    sum.fingerprints.dedup();
    Some(sum)
}

fn record(part: &Part) -> ShardRecord {
    ShardRecord {
        index: part.share.shard.index,
        questions: part.share.positions.len(),
        started_at: part.manifest.started_at.clone(),
        seconds: part.manifest.phases.iter().map(|phase| phase.seconds).sum(),
        machine: part.manifest.machine.clone(),
        result_hash: part.manifest.result_hash.clone().unwrap_or_default(),
    }
}

/// Those of the first part, which are said of the whole run, and what only the parts together show.
fn caveats(parts: &[Part]) -> Vec<String> {
    let mut caveats = parts[0].manifest.caveats.clone();
    let machines: BTreeSet<(&str, &[String])> =
        parts.iter().map(|part| (part.manifest.machine.cpu.as_str(), part.manifest.machine.features.as_slice())).collect();
    if machines.len() > 1 {
        let names: Vec<&str> = machines.iter().map(|(cpu, _)| *cpu).collect::<BTreeSet<_>>().into_iter().collect();
        caveats.push(format!(
            "answered on processors of {} kinds ({}): floats may differ between them; times are those of the first shard",
            machines.len(),
            names.join(", ")
        ));
    }
    if parts.len() > 1 && parts[0].manifest.machine.device != "cpu" {
        let (count, device) = (parts.len(), &parts[0].manifest.machine.device);
        caveats.push(format!(
            "answered in {count} shards on {device}, where floats depend on the batch: an undivided run may differ in answers with a close second"
        ));
    }
    caveats
}
