//! What must hold for every world.

use std::collections::BTreeSet;

use super::*;
use crate::dataset::Sample;

fn world() -> World {
    generate(&WorldConfig::default())
}

fn texts<'a>(world: &'a World, ids: &'a [String]) -> impl Iterator<Item = &'a str> {
    ids.iter().map(|id| world.dataset.documents.iter().find(|document| document.id == *id).unwrap().text.as_str())
}

fn of<'a>(samples: &'a [Sample], cell: &str) -> Vec<&'a Sample> {
    samples.iter().filter(|sample| sample.slices["cell"] == cell).collect()
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
    let named = world.entities.iter().map(|entity| 1 + usize::from(entity.alias.is_some())).sum::<usize>();
    assert_eq!(world.reserved_names().len(), named);
    for entity in world.entities.iter().filter(|entity| entity.role == Role::Updated) {
        assert_eq!(entity.updates.len(), 2);
        assert!(entity.updates.iter().all(|(relation, value)| *value != entity.values[*relation]));
    }
}

#[test]
fn labels_and_test_questions_are_about_different_entities() {
    let dataset = world().dataset;
    let clusters = |samples: &[Sample]| samples.iter().map(|sample| sample.cluster_id().to_owned()).collect::<BTreeSet<_>>();
    let documents = |samples: &[Sample]| samples.iter().flat_map(|sample| sample.relevant.clone()).collect::<BTreeSet<_>>();
    for of in [clusters as fn(&[Sample]) -> BTreeSet<String>, documents] {
        let (train, validation, test) = (of(&dataset.train), of(&dataset.validation), of(&dataset.test));
        assert!(train.is_disjoint(&test) && validation.is_disjoint(&test) && train.is_disjoint(&validation));
    }
    let ids: BTreeSet<&str> = dataset.splits().into_iter().flat_map(|(_, samples)| samples).map(|sample| sample.id.as_str()).collect();
    assert_eq!(ids.len(), dataset.train.len() + dataset.validation.len() + dataset.test.len());
    assert!(dataset.train.iter().all(|sample| sample.slices["phrasing"] == "seen"));
}

#[test]
fn every_fact_that_documents_answer_stands_in_them() {
    let world = world();
    for (_, samples) in world.dataset.splits() {
        for sample in samples {
            let (task, knowledge) = (sample.slices["task"].as_str(), sample.slices["knowledge"].as_str());
            assert_eq!(sample.answerable, knowledge != "unstated");
            assert_eq!(sample.relevant.is_empty(), matches!(knowledge, "unstated" | "undocumented"), "{sample:?}");
            if matches!(task, "lookup" | "multi_hop" | "house_record") && !sample.relevant.is_empty() {
                let value = sample.references[0].rsplit(" : ").next().unwrap().trim_end_matches(" ;");
                assert!(texts(&world, &sample.relevant).any(|text| text.contains(value)), "{sample:?}");
            }
            if task == "inverse" {
                assert!(texts(&world, &sample.relevant).any(|text| text.contains(&sample.references[0])), "{sample:?}");
            }
        }
    }
}

#[test]
fn an_unstated_fact_stands_in_no_document() {
    let world = world();
    for sample in of(&world.dataset.test, "unstated/lookup") {
        let document = texts(&world, std::slice::from_ref(sample.cluster.as_ref().unwrap())).next().unwrap();
        let entity = world.entities.iter().find(|entity| document.contains(&entity.name.to_string())).unwrap();
        let relation = entity.kind().relations.iter().position(|relation| relation.key == sample.slices["relation"]);
        // Names and years are unlike enough that the text tells; short lists have values in common.
        if let Some(relation) = relation.filter(|&relation| entity.kind().relations[relation].values.words().is_empty()) {
            assert!(!document.contains(&format!(" {}", entity.values[relation])), "{sample:?}");
        }
    }
}

#[test]
fn an_inverse_question_has_one_answer_and_a_comparison_the_earlier_of_two() {
    let world = world();
    let inverse = of(&world.dataset.test, "fresh/inverse");
    assert!(inverse.len() > 100, "{}", inverse.len());
    let questions: BTreeSet<&str> = inverse.iter().map(|sample| sample.question.as_str()).collect();
    assert_eq!(questions.len(), inverse.len());
    let compare = of(&world.dataset.test, "fresh/compare");
    assert!(compare.len() > 30, "{}", compare.len());
    for sample in compare {
        let entity = |name: &str| world.entities.iter().find(|entity| entity.name.to_string() == name).unwrap();
        let earlier = entity(&sample.references[0]);
        let asked = world.entities.iter().filter(|entity| sample.question.contains(&entity.name.to_string()));
        let relation = earlier.kind().dated().unwrap();
        let years: Vec<&String> = asked.map(|entity| &entity.values[relation]).collect();
        assert!(years.len() >= 2 && years.iter().all(|year| *year >= &earlier.values[relation]), "{sample:?}");
    }
}

#[test]
fn the_main_cells_have_enough_questions() {
    let test = world().dataset.test;
    for (cell, least) in [
        ("known/lookup", 400),
        ("undocumented/lookup", 200),
        ("updated/lookup", 200),
        ("fresh/lookup", 450),
        ("unstated/lookup", 200),
        ("fresh/house_record", 100),
        ("fresh/house_code", 100),
        ("fresh/multi_hop", 100),
    ] {
        assert!(of(&test, cell).len() >= least, "{cell}: {}", of(&test, cell).len());
    }
    for (exposures, wording) in EXPOSURES.iter().flat_map(|count| Wording::ALL.map(|wording| (count, wording))) {
        let shown = format!("{exposures}/{}", wording.key());
        assert!(test.iter().filter(|sample| sample.slices.get("shown") == Some(&shown)).count() >= 24, "{shown}");
    }
}

#[test]
fn distractors_share_a_word_with_an_entity_that_is_asked_about() {
    let world = world();
    let asked: Vec<&Entity> = world.entities.iter().filter(|entity| entity.role.tested()).collect();
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
    let texts = samples
        .flat_map(|sample| std::iter::once(&sample.question).chain(&sample.references))
        .chain(dataset.documents.iter().map(|document| &document.text));
    for text in texts {
        for word in text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()) {
            assert!(words.contains(word), "{word}");
        }
    }
}
