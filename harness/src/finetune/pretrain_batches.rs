//! The curriculum as a source of batches, and how often they show each fact.

use serde::{Deserialize, Serialize};

use super::curriculum::{Curriculum, Showing};
use super::pretrain::PretrainError;
use super::pretrain_spec::{PretrainSpec, Stage};
use super::pretrain_tokenizer::build_tokenizer;
use super::{BatchSource, TrainingSequence};
use crate::dataset::world;
use crate::rng::Rng;

/// A batch for every step of a pre-training.
pub(super) struct PretrainBatches<'a> {
    spec: &'a PretrainSpec,
    curriculum: Curriculum<'a>,
    /// Every showing of a known entity, in order.
    showings: Vec<Showing>,
}

impl<'a> PretrainBatches<'a> {
    /// The batches of a spec.
    pub fn new(spec: &'a PretrainSpec, curriculum: Curriculum<'a>) -> Self {
        let showings = curriculum.showings(spec.seed);
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

    /// Showings due before a step: they are spread over the steps by the density that stages give them.
    fn due(&self, step: u64) -> usize {
        let (mut before, mut total, mut start) = (0.0, 0.0, 0);
        for stage in &self.spec.stage {
            let steps = self.stage_steps(stage);
            before += stage.facts * step.saturating_sub(start).min(steps) as f64;
            total += stage.facts * steps as f64;
            start += steps;
        }
        if total > 0.0 { (self.showings.len() as f64 * before / total).round() as usize } else { 0 }
    }

    /// The showings of a step.
    fn showings(&self, step: u64) -> &[Showing] {
        &self.showings[self.due(step)..self.due(step + 1)]
    }

    fn stream(&self, step: u64) -> Rng {
        Rng::indexed(self.spec.seed, "pretrain", step)
    }
}

impl BatchSource for PretrainBatches<'_> {
    fn batches(&self, step: u64) -> Vec<Vec<TrainingSequence>> {
        const ANY_TEXT: &str = "the tokenizer takes any text";
        let stage = self.stage(step);
        let mut rng = self.stream(step);
        let mut rows = self.curriculum.facts(self.showings(step), stage.fact_questions, &mut rng).expect(ANY_TEXT);
        let mut tokens: usize = rows.iter().map(|row| row.tokens.len()).sum();
        while tokens < self.spec.tokens_per_step {
            let row = self.curriculum.reading(&stage.reading, &mut rng).expect(ANY_TEXT);
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

/// How often pre-training shows the facts of an entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntityExposure {
    /// The entity.
    pub name: String,
    /// Times that a text states each of its facts.
    pub stated: u64,
    /// Times that each is asked without a passage.
    pub asked: u64,
}

/// What the whole pre-training shows, step by step, in the world's order.
///
/// # Errors
/// As [`super::pretrain::pretrain`] for a spec that cannot be trained with.
pub fn exposures(spec: &PretrainSpec) -> Result<Vec<EntityExposure>, PretrainError> {
    spec.check()?;
    let (world, tokenizer) = (world::generate(&spec.world), build_tokenizer()?);
    let source = PretrainBatches::new(spec, Curriculum::training(&world, &tokenizer, spec.loss));
    let mut counts = vec![(0, 0); source.curriculum.known().len()];
    for showing in (0..source.steps()).flat_map(|step| source.showings(step)) {
        let (stated, asked) = &mut counts[showing.entity];
        *(if showing.asked { asked } else { stated }) += 1;
    }
    let known = source.curriculum.known().iter().zip(counts);
    Ok(known.map(|(entity, (stated, asked))| EntityExposure { name: entity.name.to_string(), stated, asked }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::world::{Size, Wording, WorldConfig};

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
            assert!(sizes.iter().sum::<usize>() < 2 * spec.tokens_per_step, "facts leave room for reading: {sizes:?}");
            assert!(sizes.iter().all(|&size| size * 3 > spec.tokens_per_step / spec.micro_batches), "{sizes:?}");
        }
    }

    #[test]
    fn every_known_entity_is_shown_exactly_as_often_as_the_world_says() {
        let spec = PretrainSpec { world: WorldConfig::of(Size::Tiny, 3), ..shipped() };
        let world = world::generate(&spec.world);
        let rows = exposures(&spec).unwrap();
        assert_eq!(rows.len(), world.pretrained().count());
        for (row, entity) in rows.iter().zip(world.pretrained()) {
            assert_eq!(row.name, entity.name.to_string());
            assert_eq!(row.stated + row.asked, u64::from(entity.exposure.count));
            assert_eq!(row.asked > 0, entity.exposure.wording == Wording::Asked && entity.exposure.count > 1);
        }
    }
}
