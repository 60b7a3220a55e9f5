//! What a model in training can do: reading with names it never saw, and recall of what it was shown.

use std::collections::BTreeMap;

use candle_core::{D, Device, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::curriculum::{Curriculum, Probe, ProbeKind, ReadingForm};
use super::full;
use super::pretrain::PretrainError;
use crate::dataset::world::{Entity, Phrasing, Role, TYPES};
use crate::lm::ModelError;
use crate::lm::decoder::{Decoder, Positions};
use crate::rng::Rng;

/// Rows of one forward pass.
const BATCH: usize = 16;

/// Part of the questions answered exactly, by kind of question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Optimizer steps done.
    pub step: u64,
    /// Questions behind each figure.
    pub questions: usize,
    /// `read_1`, `read_4_near`, `recall_100_asked`, ...: see [`Evaluator::new`].
    pub exact_match: BTreeMap<String, f64>,
}

/// Fixed questions, the same at every evaluation.
#[derive(Debug)]
pub struct Evaluator {
    probes: BTreeMap<String, Vec<Probe>>,
    questions: usize,
}

impl Evaluator {
    /// Draws the questions. With passages of two to three facts, most of one type: `read_1`, `read_2`, `read_4` by number of passages;
    /// `read_4_near` with near names, `read_4_held_out` in held-out wordings, `names_1` and `names_4` for invented names alone, `alias_4`
    /// by another name, `unstated_4` where abstaining is right, `inverse_4`, `multi_hop_4`, `compare_4`. Without passages:
    /// `recall_100_asked` and so on by exposures and wording, the same with `_held_out`, and `fresh` (never shown).
    pub fn new(curriculum: &Curriculum, questions: usize, seed: u64) -> Result<Self, ModelError> {
        let mut probes = BTreeMap::new();
        for (name, form, kind, phrasing) in readings() {
            let probe = |index| curriculum.reading_probe(&form, kind, phrasing, &mut Rng::indexed(seed, name, index as u64));
            probes.insert(name.to_owned(), (0..questions).map(probe).collect::<Result<_, _>>()?);
        }
        for (key, entities) in strata(curriculum) {
            for (name, phrasing) in [(format!("recall_{key}"), Phrasing::Seen), (format!("recall_{key}_held_out"), Phrasing::HeldOut)] {
                let probe = |index: usize| {
                    let rng = &mut Rng::indexed(seed, &name, index as u64);
                    let entity = *rng.choose(&entities);
                    curriculum.recall_probe(entity, rng.below(entity.values.len()), phrasing, rng)
                };
                let drawn: Vec<Probe> = (0..questions).map(probe).collect::<Result<_, _>>()?;
                probes.insert(name, drawn);
            }
        }
        let fresh = |index: usize| {
            let rng = &mut Rng::indexed(seed, "fresh", index as u64);
            let entity = curriculum.stranger(index % TYPES.len(), rng);
            curriculum.recall_probe(&entity, rng.below(entity.values.len()), Phrasing::Seen, rng)
        };
        probes.insert("fresh".to_owned(), (0..questions).map(fresh).collect::<Result<_, _>>()?);
        Ok(Self { probes, questions })
    }

    /// Scores a decoder as it stands after `step` steps.
    pub fn score(&self, decoder: &Decoder, step: u64) -> Result<Evaluation, PretrainError> {
        let decoder = full::frozen(decoder)?;
        let mut exact_match = BTreeMap::new();
        for (name, probes) in &self.probes {
            let right: usize = probes.par_chunks(BATCH).map(|batch| count_right(&decoder, batch)).sum::<candle_core::Result<usize>>()?;
            exact_match.insert(name.clone(), right as f64 / probes.len() as f64);
        }
        Ok(Evaluation { step, questions: self.questions, exact_match })
    }
}

/// The kinds of questions with passages.
fn readings() -> Vec<(&'static str, ReadingForm, ProbeKind, Phrasing)> {
    let form = |count| ReadingForm {
        passages: (count, count),
        sentences: (2, 3),
        same_type: 0.7,
        same_relation: 0.3,
        near_names: 0.0,
        questions: 1,
        biographies: 0.4,
        alias: 0.0,
        unstated: 0.0,
        inverse: 0.0,
        linked: 0.0,
        compare: 0.0,
    };
    let (four, seen) = (form(4), Phrasing::Seen);
    vec![
        ("read_1", form(1), ProbeKind::Lookup, seen),
        ("read_2", form(2), ProbeKind::Lookup, seen),
        ("read_4", four.clone(), ProbeKind::Lookup, seen),
        ("read_4_near", ReadingForm { near_names: 1.0, ..four.clone() }, ProbeKind::Lookup, seen),
        ("read_4_held_out", four.clone(), ProbeKind::Lookup, Phrasing::HeldOut),
        ("names_1", form(1), ProbeKind::InventedName, seen),
        ("names_4", four.clone(), ProbeKind::InventedName, seen),
        ("alias_4", ReadingForm { alias: 0.5, ..four.clone() }, ProbeKind::Alias, seen),
        ("unstated_4", four.clone(), ProbeKind::Unstated, seen),
        ("inverse_4", four.clone(), ProbeKind::Inverse, seen),
        ("multi_hop_4", ReadingForm { linked: 1.0, ..four.clone() }, ProbeKind::MultiHop, seen),
        ("compare_4", ReadingForm { same_relation: 1.0, ..four }, ProbeKind::Compare, seen),
    ]
}

/// Known entities of the test split by exposures and wording.
fn strata<'a>(curriculum: &'a Curriculum) -> BTreeMap<String, Vec<&'a Entity>> {
    let mut strata: BTreeMap<String, Vec<&Entity>> = BTreeMap::new();
    for entity in curriculum.known().iter().filter(|entity| entity.role == Role::KnownTest) {
        strata.entry(format!("{}_{}", entity.exposure.count, entity.exposure.wording.key())).or_default().push(entity);
    }
    strata
}

/// Probes whose answer greedy decoding would give: every answer token is the likeliest after those before it.
fn count_right(decoder: &Decoder, probes: &[Probe]) -> candle_core::Result<usize> {
    let rows: Vec<Vec<u32>> = probes.iter().map(|probe| [probe.prompt.as_slice(), &probe.answer].concat()).collect();
    let width = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut tokens = vec![0u32; rows.len() * width];
    let mut places = Vec::new();
    for (index, (row, probe)) in rows.iter().zip(probes).enumerate() {
        tokens[index * width..][..row.len()].copy_from_slice(row);
        places.extend((probe.prompt.len()..row.len()).map(|target| (index * width + target - 1) as u32));
    }
    let tokens = Tensor::from_vec(tokens, (rows.len(), width), &Device::Cpu)?;
    let hidden = decoder.forward(&tokens, Positions::FromZero, None, None)?.flatten(0, 1)?;
    let places = Tensor::from_vec(places.clone(), places.len(), &Device::Cpu)?;
    let likeliest = decoder.logits(&hidden.index_select(&places, 0)?)?.argmax(D::Minus1)?.to_vec1::<u32>()?;
    let mut likeliest = likeliest.into_iter();
    let right = |probe: &&Probe| {
        let guesses: Vec<u32> = likeliest.by_ref().take(probe.answer.len()).collect();
        guesses == probe.answer
    };
    Ok(probes.iter().filter(right).count())
}
