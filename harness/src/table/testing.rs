//! Run folders for tests: a hand-made one row by row, and a seeded one that looks like a real run.

use std::collections::BTreeMap;
use std::path::Path;

use crate::dataset::Sample;
use crate::finetune::TrainingRow;
use crate::rng::Rng;
use crate::spec::{ContextSource, RunSpec, VariantKind};
use crate::store::manifest::{
    CalibrationRecord, CalibrationRounds, DatasetRecord, IndexRecord, MachineRecord, Manifest, ModelRecord, TrainingRecord,
};
use crate::store::row::{HitRow, JournalRow, Phase, StageNs};
use crate::store::{RunFolder, write_jsonl};

/// What a run folder is made from.
pub(crate) struct Fixture {
    pub manifest: Manifest,
    pub samples: Vec<Sample>,
    pub rows: Vec<JournalRow>,
    pub training: Vec<TrainingRow>,
}

impl Fixture {
    /// No samples, no rows, four variants.
    pub(crate) fn empty() -> Self {
        Self { manifest: manifest(), samples: Vec::new(), rows: Vec::new(), training: Vec::new() }
    }

    /// Adds a question with these slices; its cluster is itself.
    pub(crate) fn sample(&mut self, id: &str, slices: &[(&str, &str)]) {
        self.samples.push(Sample {
            id: id.to_owned(),
            question: format!("What is {id}?"),
            references: vec!["blue".to_owned()],
            relevant: vec![format!("doc-{id}")],
            slices: slices.iter().map(|(tag, value)| ((*tag).to_owned(), (*value).to_owned())).collect(),
            answerable: true,
            choices: Vec::new(),
            cluster: None,
        });
    }

    /// Adds a row of the accuracy pass with an `exact_match`.
    pub(crate) fn answer(&mut self, variant: VariantKind, seed: u64, sample: &str, score: f64) -> &mut JournalRow {
        let mut row = row(variant, seed, sample, Phase::Accuracy);
        row.scores.insert("exact_match".to_owned(), score);
        self.rows.push(row);
        self.rows.last_mut().expect("just pushed")
    }

    /// Adds a row of the accuracy pass that failed.
    pub(crate) fn failure(&mut self, variant: VariantKind, seed: u64, sample: &str) {
        let mut row = row(variant, seed, sample, Phase::Accuracy);
        (row.answer, row.finish_reason, row.error) = (String::new(), String::new(), Some("context too long".to_owned()));
        self.rows.push(row);
    }

    /// Adds a row of the latency pass, in milliseconds to the first and to the last token.
    pub(crate) fn timing(&mut self, variant: VariantKind, sample: &str, ttft_ms: f64, e2e_ms: f64) {
        let mut row = row(variant, 1, sample, Phase::Latency);
        let ns = |ms: f64| (ms * 1e6) as u64;
        row.stage_ns = StageNs { prefill: ns(ttft_ms), decode: ns(e2e_ms - ttft_ms), ..StageNs::default() };
        (row.ttft_ns, row.e2e_ns) = (ns(ttft_ms), ns(e2e_ms));
        self.rows.push(row);
    }

    /// Writes the folder.
    pub(crate) fn write(&self, path: &Path) {
        let folder = RunFolder::at(path);
        std::fs::create_dir_all(path).unwrap();
        folder.write_manifest(&self.manifest).unwrap();
        write_jsonl(&folder.samples(), &self.samples).unwrap();
        write_jsonl(&folder.journal(), &self.rows).unwrap();
        write_jsonl(&folder.training(), &self.training).unwrap();
    }

    /// Writes the folder to a temporary place and reads its tables.
    pub(crate) fn tables(&self) -> super::Tables {
        let folder = tempfile::tempdir().unwrap();
        self.write(folder.path());
        super::read(folder.path()).unwrap()
    }
}

fn row(variant: VariantKind, seed: u64, sample: &str, phase: Phase) -> JournalRow {
    JournalRow::example(phase, variant.name(), seed, sample)
}

/// A calibration with these milliseconds before and after the latency pass, on one thread and on all.
pub(crate) fn calibration(alone: (u64, u64), together: (u64, u64)) -> CalibrationRecord {
    let rounds =
        |(before, after): (u64, u64)| CalibrationRounds { before_ns: vec![before * 1_000_000; 9], after_ns: vec![after * 1_000_000; 9] };
    CalibrationRecord { version: 1, alone: rounds(alone), together: rounds(together) }
}

/// The default spec, on a machine that does not exist.
pub(crate) fn manifest() -> Manifest {
    let mut spec: RunSpec = toml::from_str(crate::spec::DEFAULT_SPEC).unwrap();
    spec.measure.bootstrap_resamples = 400;
    Manifest {
        schema_version: 1,
        run_id: "test".to_owned(),
        spec,
        crate_version: "0.1.0".to_owned(),
        git_commit: Some("0123abc".to_owned()),
        started_at: "2026-11-24T02:00:00Z".to_owned(),
        hashes: BTreeMap::from([("dataset".to_owned(), "d".repeat(64)), ("model".to_owned(), "e".repeat(64))]),
        machine: MachineRecord {
            cpu: "Test CPU 9000".to_owned(),
            cores: 2,
            threads: 2,
            features: vec!["avx2".to_owned()],
            memory_bytes: 16 << 30,
            os: "Linux 6.1".to_owned(),
            device: "cpu".to_owned(),
        },
        dataset: DatasetRecord {
            name: "factworld".to_owned(),
            version: "1".to_owned(),
            licence: "CC0-1.0".to_owned(),
            source: "generated".to_owned(),
            documents: 400,
            train: 800,
            validation: 80,
            test: 0,
            clusters: 0,
            slices: BTreeMap::from([
                ("knowledge".to_owned(), "known: seen in pre-training; fresh: never seen; updated: changed since".to_owned()),
                ("task".to_owned(), "lookup: name a fact; house_code: apply a rule".to_owned()),
            ]),
        },
        model: ModelRecord {
            revision: None,
            path: "builtin".to_owned(),
            architecture: "LlamaForCausalLM".to_owned(),
            parameters: 3_000_000,
            context_length: 512,
            weight_bytes: 12_000_000,
            served: None,
        },
        index: Some(IndexRecord {
            chunks: 400,
            dimension: 256,
            embed_tokens: 12_000,
            embed_flops: Some(6e6),
            build_flops: 2e8,
            embed_seconds: 0.2,
            build_seconds: 0.3,
            cpu_seconds: 0.5,
            bytes: 900_000,
            unreachable: 1,
            lexical: None,
            reranker: None,
            store: None,
            embedder: None,
        }),
        embedder_tokens: None,
        noise: Vec::new(),
        calibration: Some(calibration((5, 5), (5, 5))),
        contention: None,
        warmup: Vec::new(),
        offline: Vec::new(),
        training: vec![TrainingRecord {
            variants: vec!["finetuned".to_owned(), "hybrid".to_owned()],
            adapter: "finetuned-seed1".to_owned(),
            seed: 1,
            method: "lora".to_owned(),
            labels: 800,
            dropped: 0,
            cut: 2,
            trainable_parameters: 200_000,
            steps: 150,
            tokens: 60_000,
            flops: 1.1e12,
            seconds: 40.0,
            cpu_seconds: 78.0,
            bytes: 800_000,
            best_eval_loss: Some(0.41),
        }],
        phases: vec![],
        shard: None,
        shards: Vec::new(),
        caveats: vec!["one training seed: intervals do not hold the luck of training".to_owned()],
        result_hash: Some("f".repeat(64)),
    }
}

/// A seeded run that looks like a real one.
pub(crate) fn realistic(variants: &[VariantKind], n: usize) -> Fixture {
    let mut fixture = Fixture::empty();
    fixture.manifest.spec.variants = variants.to_vec();
    let mut rng = Rng::new(11, "realistic");
    for index in 0..n {
        let knowledge = ["known", "fresh", "updated"][index % 3];
        let task = if index % 5 == 0 { "house_code" } else { "lookup" };
        fixture.sample(&format!("q{index:04}"), &[("knowledge", knowledge), ("task", task)]);
        fixture.samples[index].relevant = vec![format!("doc{:03}", index / 2)];
    }
    for &variant in variants {
        for index in 0..n {
            answer_one(&mut fixture, variant, index, &mut rng);
        }
        for index in 0..n.min(32) {
            time_one(&mut fixture, variant, index, &mut rng);
        }
    }
    fixture.manifest.dataset.test = n;
    fixture.manifest.dataset.clusters = n.div_ceil(2);
    fixture.training = training(&mut rng);
    fixture
}

fn chance_right(variant: VariantKind, sample: &Sample) -> f64 {
    let (knowledge, skill) = (sample.slices["knowledge"].as_str(), sample.slices["task"] == "house_code");
    let recalls = if knowledge == "known" { 0.55 } else { 0.04 };
    let reads = match variant.context() {
        ContextSource::Retrieved => 0.72,
        ContextSource::Gold => 0.85,
        ContextSource::None | ContextSource::Random => recalls,
    };
    match (skill, variant.is_tuned()) {
        (true, true) => 0.8,
        (true, false) => 0.02,
        (false, true) => reads * 0.97,
        (false, false) => reads,
    }
}

fn answer_one(fixture: &mut Fixture, variant: VariantKind, index: usize, rng: &mut Rng) {
    let id = fixture.samples[index].id.clone();
    if rng.chance(0.004) {
        return fixture.failure(variant, 1, &id);
    }
    let right = rng.chance(chance_right(variant, &fixture.samples[index]));
    let document = fixture.samples[index].relevant[0].clone();
    let (has_context, searched) = (variant.context() != ContextSource::None, variant.context() == ContextSource::Retrieved);
    let found = !has_context || rng.chance(0.9);
    let exact: Vec<bool> = (0..4).map(|_| rng.chance(0.985)).collect();
    let row = fixture.answer(variant, 1, &id, f64::from(u8::from(right)));
    row.answer = if right { "blue".to_owned() } else { ["red", "green", "a | pipe", "<b>bold</b>"][index % 4].to_owned() };
    row.scores.insert("token_f1".to_owned(), if right { 1.0 } else { 0.1 });
    row.scores.insert("contains".to_owned(), f64::from(u8::from(right)));
    (row.prompt_tokens, row.flops) = (if has_context { 180 } else { 22 }, Some(if has_context { 1.2e9 } else { 1.6e8 }));
    row.context_tokens = if has_context { 158 } else { 0 };
    row.context_cut = has_context && index % 50 == 3;
    if has_context {
        row.scores.insert("recall_at_4".to_owned(), f64::from(u8::from(found)));
        row.scores.insert("mrr".to_owned(), if found { 0.8 } else { 0.0 });
        row.scores.insert("ndcg_at_10".to_owned(), if found { 0.85 } else { 0.0 });
        row.hits = (0..4).map(|rank| hit(&document, rank, found, searched.then(|| exact[rank as usize]))).collect();
    }
}

fn hit(document: &str, rank: u32, found: bool, in_exact: Option<bool>) -> HitRow {
    let document_id = if found && rank == 0 { document.to_owned() } else { format!("other{rank}") };
    let chunk_id = format!("{document_id}#0");
    HitRow { document_id, chunk_id, rank: rank + 1, score: 0.9 - 0.1 * rank as f32, in_prompt: true, in_exact }
}

fn time_one(fixture: &mut Fixture, variant: VariantKind, index: usize, rng: &mut Rng) {
    let id = fixture.samples[index].id.clone();
    let mut row = row(variant, 1, &id, Phase::Latency);
    let mut ns = |ms: f64| (ms * 1e6 * (0.25 * rng.normal()).exp()) as u64;
    let has_context = variant.context() != ContextSource::None;
    let searched = variant.context() == ContextSource::Retrieved;
    row.stage_ns = StageNs {
        embed: if searched { ns(0.08) } else { 0 },
        search: if searched { ns(0.15) } else { 0 },
        prompt: ns(if has_context { 0.4 } else { 0.1 }),
        prefill: ns(if has_context { 21.0 } else { 4.0 }),
        decode: ns(if has_context { 9.0 } else { 7.0 }),
        ..StageNs::default()
    };
    row.ttft_ns = row.stage_ns.ttft();
    row.e2e_ns = row.ttft_ns + row.stage_ns.decode;
    fixture.rows.push(row);
}

fn training(rng: &mut Rng) -> Vec<TrainingRow> {
    let row = |step: u64, noise: f64| TrainingRow {
        variant: "finetuned".to_owned(),
        seed: 1,
        step,
        epoch: step as f64 / 50.0,
        train_loss: 0.35 + 2.6 * (-(step as f64) / 30.0).exp() + noise,
        eval_loss: step.is_multiple_of(10).then(|| 0.42 + 2.6 * (-(step as f64) / 30.0).exp()),
        learning_rate: 2e-4,
        grad_norm: 1.0,
        tokens: 400,
        flops: 7e9,
        step_ns: 260_000_000,
    };
    (1..=150).map(|step| row(step, 0.05 * rng.normal())).collect()
}
