//! The curriculum as a source of batches, and how often they show each fact.

use serde::{Deserialize, Serialize};

use super::curriculum::{Curriculum, Showing};
use super::pretrain::PretrainError;
use super::pretrain_spec::{PretrainSpec, Stage};
use super::{BatchSource, TrainingSequence};
use crate::dataset::world::{self, Entity, Wordings};
use crate::rng::Rng;

/// A batch for every step of a pre-training.
pub(super) struct PretrainBatches<'a> {
    spec: &'a PretrainSpec,
    curriculum: Curriculum<'a>,
    /// What is shown of known entities, in order of time.
    showings: Vec<Showing>,
}

impl<'a> PretrainBatches<'a> {
    /// Spreads what is shown over the stages with a share of facts, in random order.
    pub fn new(spec: &'a PretrainSpec, curriculum: Curriculum<'a>) -> Self {
        let mut showings = schedule(curriculum.known());
        Rng::new(spec.seed, "pretrain/showings").shuffle(&mut showings);
        Self { spec, curriculum, showings }
    }

    fn stage_steps(&self, stage: &Stage) -> u64 {
        stage.tokens.div_ceil(self.spec.tokens_per_step as u64)
    }

    fn stage(&self, step: u64) -> &Stage {
        let mut end = 0;
        let reached = self.spec.stage.iter().find(|stage| {
            end += self.stage_steps(stage);
            step < end
        });
        reached.unwrap_or(self.spec.stage.last().expect("checked: there is a stage"))
    }

    /// What a step shows: the part of all showings that its stage's weight has of the weights of all steps.
    fn showings(&self, step: u64) -> &[Showing] {
        let total = self.weight_before(self.steps());
        let place = |step| if total > 0.0 { (self.weight_before(step) / total * self.showings.len() as f64).round() as usize } else { 0 };
        &self.showings[place(step)..place(step + 1)]
    }

    /// Sum of `stage.facts` over the steps before `step`.
    fn weight_before(&self, step: u64) -> f64 {
        let (mut weight, mut begin) = (0.0, 0);
        for stage in &self.spec.stage {
            let steps = self.stage_steps(stage);
            weight += stage.facts * step.saturating_sub(begin).min(steps) as f64;
            begin += steps;
        }
        weight
    }

    fn stream(&self, step: u64) -> Rng {
        Rng::indexed(self.spec.seed, "pretrain", step)
    }
}

impl BatchSource for PretrainBatches<'_> {
    fn batches(&self, step: u64) -> Vec<Vec<TrainingSequence>> {
        let stage = self.stage(step);
        let mut rng = self.stream(step);
        let facts = self.curriculum.facts(self.showings(step), stage.fact_questions, &mut rng);
        let mut rows: Vec<TrainingSequence> = facts.expect("the tokenizer takes any text");
        let mut tokens: usize = rows.iter().map(|row| row.tokens.len()).sum();
        while tokens < self.spec.tokens_per_step {
            let row = self.curriculum.reading(&stage.reading, &mut rng).expect("the tokenizer takes any text");
            tokens += row.tokens.len();
            rows.push(row);
        }
        pack(rows, self.spec.micro_batches)
    }

    fn steps(&self) -> u64 {
        self.spec.stage.iter().map(|stage| self.stage_steps(stage)).sum()
    }
}

/// Rows sorted by length and cut into micro-batches of about the same number of tokens.
fn pack(mut rows: Vec<TrainingSequence>, count: usize) -> Vec<Vec<TrainingSequence>> {
    rows.sort_by_key(|row| row.tokens.len());
    let total: usize = rows.iter().map(|row| row.tokens.len()).sum();
    let mut batches: Vec<Vec<TrainingSequence>> = vec![Vec::new(); count];
    let mut before = 0;
    for row in rows {
        let length = row.tokens.len();
        batches[(before + length / 2) * count / total].push(row);
        before += length;
    }
    batches.retain(|batch| !batch.is_empty());
    batches
}

/// All showings of these entities: as often as their exposures say, those that are asked every second time.
fn schedule(known: &[Entity]) -> Vec<Showing> {
    let times = |entity: &Entity| entity.exposure.map_or((0, false), |exposure| (exposure.times, exposure.wordings == Wordings::Asked));
    let show =
        |(entity, (times, asked)): (usize, (u64, bool))| (0..times).map(move |time| Showing { entity, asked: asked && time % 2 == 0 });
    known.iter().map(times).enumerate().flat_map(show).collect()
}

/// How often pre-training shows every fact of an entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposure {
    /// The entity.
    pub name: String,
    /// In one text, in several, or asked as well.
    pub wordings: Wordings,
    /// Times that a text states it.
    pub stated: u64,
    /// Times that it is asked without a passage.
    pub asked: u64,
}

/// Counts what a pre-training shows, in the world's order.
///
/// # Errors
/// As [`super::pretrain::pretrain`] for a spec that cannot be trained with.
pub fn exposures(spec: &PretrainSpec) -> Result<Vec<Exposure>, PretrainError> {
    spec.check()?;
    let known: Vec<Entity> = world::generate(&spec.world).pretrained().cloned().collect();
    let any = spec.stage.iter().any(|stage| stage.facts > 0.0);
    let showings = if any { schedule(&known) } else { Vec::new() };
    let mut rows: Vec<Exposure> = known
        .iter()
        .filter_map(|entity| Some((entity.name.to_string(), entity.exposure?)))
        .map(|(name, exposure)| Exposure { name, wordings: exposure.wordings, stated: 0, asked: 0 })
        .collect();
    for showing in showings {
        let row = &mut rows[showing.entity];
        *(if showing.asked { &mut row.asked } else { &mut row.stated }) += 1;
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::super::pretrain_tokenizer::build_tokenizer;
    use super::*;

    fn shipped() -> PretrainSpec {
        toml::from_str(include_str!("../../../specs/pretrain.toml")).unwrap()
    }

    #[test]
    fn a_batch_depends_on_its_step_alone_and_micro_batches_are_alike() {
        let (spec, tokenizer) = (shipped(), build_tokenizer().unwrap());
        let world = world::generate(&spec.world);
        let source = || PretrainBatches::new(&spec, Curriculum::training(&world, &tokenizer, spec.loss));
        let (one, two) = (source(), source());
        for step in [0, 700, one.steps() - 1] {
            let batches = one.batches(step);
            assert_eq!(batches, two.batches(step));
            assert_ne!(batches, one.batches(step + 1));
            let sizes: Vec<usize> = batches.iter().map(|rows| rows.iter().map(|row| row.tokens.len()).sum()).collect();
            assert_eq!(sizes.len(), spec.micro_batches);
            assert!(sizes.iter().sum::<usize>() >= spec.tokens_per_step);
            assert!(sizes.iter().all(|&size| size * 3 > spec.tokens_per_step / spec.micro_batches), "{sizes:?}");
        }
    }

    #[test]
    fn every_known_entity_is_shown_as_often_as_it_is_said_to_be() {
        let (spec, tokenizer) = (shipped(), build_tokenizer().unwrap());
        let world = world::generate(&spec.world);
        let source = PretrainBatches::new(&spec, Curriculum::training(&world, &tokenizer, spec.loss));
        let mut counts = vec![(0, 0); source.curriculum.known().len()];
        for showing in (0..source.steps()).flat_map(|step| source.showings(step)) {
            let count = &mut counts[showing.entity];
            *(if showing.asked { &mut count.1 } else { &mut count.0 }) += 1;
        }
        let rows = exposures(&spec).unwrap();
        assert_eq!(rows.iter().map(|row| (row.stated, row.asked)).collect::<Vec<_>>(), counts);
        for (entity, row) in world.pretrained().zip(&rows) {
            let exposure = entity.exposure.unwrap();
            assert_eq!((row.stated + row.asked, row.wordings), (exposure.times, exposure.wordings), "{}", row.name);
            assert_eq!(row.asked > 0, exposure.wordings == Wordings::Asked);
        }
        assert!(source.showings(0).is_empty(), "facts come after reading");
    }
}
