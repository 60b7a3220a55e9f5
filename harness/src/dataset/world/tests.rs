//! What must hold for every world.

use std::collections::BTreeSet;

use super::*;
use crate::dataset::Sample;

fn world() -> World {
    generate(&WorldConfig::default())
}

fn sample_answer_is_in_its_document(world: &World, sample: &Sample) -> bool {
    let document = world.dataset.documents.iter().find(|document| document.id == sample.relevant[0]).unwrap();
    let value = sample.references[0].rsplit(" : ").next().unwrap().trim_end_matches(" ;");
    document.text.contains(value)
}

#[test]
fn the_same_configuration_gives_the_same_world_and_another_seed_another() {
    let config = WorldConfig { seed: 2, ..WorldConfig::default() };
    assert_eq!(generate(&config).dataset, generate(&config).dataset);
    assert_ne!(generate(&config).dataset.test, world().dataset.test);
}

#[test]
fn entities_have_names_of_their_own_and_changed_facts_have_new_values() {
    let world = world();
    assert_eq!(world.reserved_names().len(), world.entities.len());
    for entity in world.entities.iter().filter(|entity| entity.role == Role::Updated) {
        assert_eq!(entity.updates.len(), 2);
        assert!(entity.updates.iter().all(|(relation, value)| *value != entity.values[*relation]));
    }
}

#[test]
fn labels_and_test_questions_are_about_different_entities() {
    let dataset = world().dataset;
    let clusters = |samples: &[Sample]| samples.iter().map(|sample| sample.cluster_id().to_owned()).collect::<BTreeSet<_>>();
    let (train, validation, test) = (clusters(&dataset.train), clusters(&dataset.validation), clusters(&dataset.test));
    assert!(train.is_disjoint(&test) && validation.is_disjoint(&test) && train.is_disjoint(&validation));
    let ids: BTreeSet<&str> = dataset.splits().into_iter().flat_map(|(_, samples)| samples).map(|sample| sample.id.as_str()).collect();
    assert_eq!(ids.len(), dataset.train.len() + dataset.validation.len() + dataset.test.len());
    assert!(dataset.train.iter().all(|sample| sample.slices["phrasing"] == "seen"));
}

#[test]
fn every_answer_but_a_bare_code_stands_in_the_document() {
    let world = world();
    for (_, samples) in world.dataset.splits() {
        let facts = samples.iter().filter(|sample| sample.slices["task"] != "house_code");
        assert!(facts.clone().count() > 0);
        for sample in facts {
            assert!(sample_answer_is_in_its_document(&world, sample), "{sample:?}");
        }
    }
}

#[test]
fn distractors_share_a_word_with_an_entity_that_is_asked_about() {
    let world = world();
    let asked: Vec<&Entity> =
        world.entities.iter().filter(|entity| matches!(entity.role, Role::KnownTest | Role::Updated | Role::FreshTest)).collect();
    for distractor in world.entities.iter().filter(|entity| entity.role == Role::Distractor) {
        let near = |entity: &&&Entity| entity.name.first == distractor.name.first || entity.name.second == distractor.name.second;
        assert!(asked.iter().any(|entity| near(&entity)), "{}", distractor.name);
    }
}

#[test]
fn no_document_or_question_has_a_word_outside_of_the_vocabulary() {
    let words: BTreeSet<String> = vocabulary().into_iter().collect();
    let dataset = world().dataset;
    let samples = dataset.splits().into_iter().flat_map(|(_, samples)| samples);
    let texts =
        samples.flat_map(|sample| [&sample.question, &sample.references[0]]).chain(dataset.documents.iter().map(|document| &document.text));
    for text in texts {
        for word in text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()) {
            assert!(words.contains(word), "{word}");
        }
    }
}
