//! What a model in training can do: reading with names it never saw, and recall of what it was shown.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{D, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::curriculum::{Asking, Curriculum, Probe, ReadingForm};
use super::full;
use super::pretrain::PretrainError;
use crate::dataset::world::{Entity, Exposure, TYPES, VARIETY};
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
    /// Draws the questions, so many of each kind.
    ///
    /// About passages of two to three facts, most of one type, on names that pre-training never uses: `read_1`, `read_2` and `read_4`
    /// passages, `read_4_near` with near names, `read_4_held_out` in held-out wordings; `names_1` and `names_4` about invented names alone;
    /// `alias_4`, `unstated_4`, `inverse_4`, `multi_hop_4` and `compare_4`. Without passages, all in wordings that pre-training uses:
    /// `recall_<times>_<wordings>` for every exposure of known entities, and `fresh` for what was never shown.
    pub fn new(curriculum: &Curriculum, questions: usize, seed: u64) -> Result<Self, ModelError> {
        let form = |count, near_names| ReadingForm {
            passages: (count, count),
            sentences: (2, 3),
            same_type: 0.7,
            same_relation: 0.3,
            near_names,
            name_words: 0,
            variety: VARIETY,
            aliases: 1.0 / 3.0,
            unstated: 0.0,
            inverse: 0.0,
            multi_hop: 0.0,
            compare: 0.0,
            questions: 1,
        };
        let mut probes = BTreeMap::new();
        let reading = [
            ("read_1", form(1, 0.0), Asking::Fact, false),
            ("read_2", form(2, 0.0), Asking::Fact, false),
            ("read_4", form(4, 0.0), Asking::Fact, false),
            ("read_4_near", form(4, 1.0), Asking::Fact, false),
            ("read_4_held_out", form(4, 0.0), Asking::Fact, true),
            ("names_1", form(1, 0.0), Asking::InventedName, false),
            ("names_4", form(4, 0.0), Asking::InventedName, false),
            ("alias_4", form(4, 0.0), Asking::Alias, false),
            ("unstated_4", form(4, 0.0), Asking::Unstated, false),
            ("inverse_4", form(4, 0.0), Asking::Inverse, false),
            ("multi_hop_4", form(4, 0.0), Asking::MultiHop, false),
            ("compare_4", form(4, 0.0), Asking::Compare, false),
        ];
        for (name, form, asking, held_out) in reading {
            let probe = |index| curriculum.reading_probe(&form, asking, held_out, &mut Rng::indexed(seed, name, index as u64));
            probes.insert(name.to_owned(), (0..questions).map(probe).collect::<Result<_, _>>()?);
        }
        let strata: BTreeSet<Exposure> = curriculum.known().iter().filter_map(|entity| entity.exposure).collect();
        for exposure in strata {
            let known: Vec<&Entity> = curriculum.known().iter().filter(|entity| entity.exposure == Some(exposure)).collect();
            let name = format!("recall_{}_{}", exposure.times, exposure.wordings.key());
            let probe = |index: usize| {
                let rng = &mut Rng::indexed(seed, &name, index as u64);
                let entity = *rng.choose(&known);
                curriculum.recall_probe(entity, rng.below(entity.values.len()), false, rng)
            };
            probes.insert(name.clone(), (0..questions).map(probe).collect::<Result<_, _>>()?);
        }
        let stranger = |index: usize| {
            let rng = &mut Rng::indexed(seed, "fresh", index as u64);
            let entity = curriculum.stranger(index % TYPES.len(), rng);
            curriculum.recall_probe(&entity, rng.below(entity.values.len()), false, rng)
        };
        probes.insert("fresh".to_owned(), (0..questions).map(stranger).collect::<Result<_, _>>()?);
        Ok(Self { probes, questions })
    }

    /// Scores a decoder as it stands after `step` steps.
    pub fn score(&self, decoder: &Decoder, step: u64) -> Result<Evaluation, PretrainError> {
        let decoder = full::frozen(decoder)?;
        let mut exact_match = BTreeMap::new();
        for (name, probes) in &self.probes {
            let count = |batch| count_right(&decoder, batch);
            // A GPU is full with one batch.
            let right = if decoder.embedding.device().is_cpu() {
                probes.par_chunks(BATCH).map(count).sum::<candle_core::Result<usize>>()?
            } else {
                probes.chunks(BATCH).map(count).sum::<candle_core::Result<usize>>()?
            };
            exact_match.insert(name.clone(), right as f64 / probes.len() as f64);
        }
        Ok(Evaluation { step, questions: self.questions, exact_match })
    }
}

/// Probes whose answer greedy decoding would give: every answer token is the likeliest after those before it.
fn count_right(decoder: &Decoder, probes: &[Probe]) -> candle_core::Result<usize> {
    let device = decoder.embedding.device();
    let rows: Vec<Vec<u32>> = probes.iter().map(|probe| [probe.prompt.as_slice(), &probe.answer].concat()).collect();
    let width = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut tokens = vec![0u32; rows.len() * width];
    let mut places = Vec::new();
    for (index, (row, probe)) in rows.iter().zip(probes).enumerate() {
        tokens[index * width..][..row.len()].copy_from_slice(row);
        places.extend((probe.prompt.len()..row.len()).map(|target| (index * width + target - 1) as u32));
    }
    let tokens = Tensor::from_vec(tokens, (rows.len(), width), device)?;
    let hidden = decoder.forward(&tokens, Positions::FromZero, None, None)?.flatten(0, 1)?;
    let places = Tensor::from_vec(places.clone(), places.len(), device)?;
    let likeliest = decoder.logits(&hidden.index_select(&places, 0)?)?.argmax(D::Minus1)?.to_vec1::<u32>()?;
    let mut likeliest = likeliest.into_iter();
    let right = |probe: &&Probe| {
        let guesses: Vec<u32> = likeliest.by_ref().take(probe.answer.len()).collect();
        guesses == probe.answer
    };
    Ok(probes.iter().filter(right).count())
}
