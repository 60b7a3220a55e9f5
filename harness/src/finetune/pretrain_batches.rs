//! The curriculum as a source of batches, and how often they show each fact.

use std::collections::BTreeMap;

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
    pub spec: &'a PretrainSpec,
    pub curriculum: Curriculum<'a>,
}

impl PretrainBatches<'_> {
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

    /// The facts of a step; they come first in its stream and end with the row that reaches their share.
    fn facts(&self, stage: &Stage, rng: &mut Rng) -> Vec<(TrainingSequence, Vec<Showing>)> {
        let goal = stage.facts * self.spec.tokens_per_step as f64;
        let (mut rows, mut tokens) = (Vec::new(), 0);
        while (tokens as f64) < goal {
            let row = self.curriculum.facts(stage.fact_questions, rng).expect("the tokenizer takes any text");
            tokens += row.0.tokens.len();
            rows.push(row);
        }
        rows
    }

    fn stream(&self, step: u64) -> Rng {
        Rng::indexed(self.spec.seed, "pretrain", step)
    }
}

impl BatchSource for PretrainBatches<'_> {
    fn batches(&self, step: u64) -> Vec<Vec<TrainingSequence>> {
        let stage = self.stage(step);
        let mut rng = self.stream(step);
        let mut rows: Vec<TrainingSequence> = self.facts(stage, &mut rng).into_iter().map(|(row, _)| row).collect();
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

/// How often pre-training shows a fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposure {
    /// The entity.
    pub name: String,
    /// The relation.
    pub relation: String,
    /// Times that a biography states it.
    pub stated: u64,
    /// Times that it is asked without a passage.
    pub asked: u64,
}

/// Counts what the whole pre-training shows, in the world's order, by drawing its rows again.
///
/// # Errors
/// As [`super::pretrain::pretrain`] for a spec that cannot be trained with.
pub fn exposures(spec: &PretrainSpec) -> Result<Vec<Exposure>, PretrainError> {
    spec.check()?;
    let (world, tokenizer) = (world::generate(&spec.world), build_tokenizer()?);
    let source = PretrainBatches { spec, curriculum: Curriculum::training(&world, &tokenizer, spec.loss) };
    let mut counts: BTreeMap<(usize, usize), (u64, u64)> = BTreeMap::new();
    for step in 0..source.steps() {
        for showing in source.facts(source.stage(step), &mut source.stream(step)).into_iter().flat_map(|(_, shown)| shown) {
            let (stated, asked) = counts.entry((showing.entity, showing.relation)).or_default();
            *(if showing.asked { asked } else { stated }) += 1;
        }
    }
    let known = source.curriculum.known().iter().enumerate();
    let facts = known.flat_map(|(index, entity)| entity.kind().relations.iter().enumerate().map(move |(r, form)| (index, entity, r, form)));
    Ok(facts
        .map(|(index, entity, relation, form)| {
            let (stated, asked) = counts.get(&(index, relation)).copied().unwrap_or_default();
            Exposure { name: entity.name.to_string(), relation: form.key.to_owned(), stated, asked }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::world::TYPES;

    fn shipped() -> PretrainSpec {
        toml::from_str(include_str!("../../../specs/pretrain.toml")).unwrap()
    }

    #[test]
    fn a_batch_depends_on_its_step_alone_and_micro_batches_are_alike() {
        let (spec, tokenizer) = (shipped(), build_tokenizer().unwrap());
        let world = world::generate(&spec.world);
        let source = || PretrainBatches { spec: &spec, curriculum: Curriculum::training(&world, &tokenizer, spec.loss) };
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
    fn exposures_are_counted_for_every_known_fact_and_grow_with_the_facts_share() {
        let total = |share: f64| {
            let mut spec = shipped();
            spec.stage.truncate(1);
            (spec.stage[0].tokens, spec.stage[0].facts) = (20_000, share);
            let rows = exposures(&spec).unwrap();
            assert_eq!(rows.len(), world::generate(&spec.world).pretrained().count() * TYPES[0].relations.len());
            rows.iter().map(|row| row.stated + row.asked).sum::<u64>()
        };
        assert_eq!(total(0.0), 0);
        assert!(0 < total(0.2) && total(0.2) < total(0.8));
    }
}
