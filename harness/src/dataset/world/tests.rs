//! What must hold for every world.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::dataset::{Document, Sample};

fn world() -> World {
    generate(&WorldConfig::default())
}

fn documents(world: &World) -> BTreeMap<&str, &Document> {
    world.dataset.documents.iter().map(|document| (document.id.as_str(), document)).collect()
}

fn of<'a>(world: &'a World, slice: &'static str, value: &'static str) -> Vec<&'a Sample> {
    let found: Vec<&Sample> = world.dataset.test.iter().filter(|sample| sample.slices[slice] == value).collect();
    assert!(!found.is_empty(), "no test question with {slice} = {value}");
    found
}

#[test]
fn the_same_configuration_gives_the_same_world_and_another_seed_another() {
    for size in [Size::Tiny, Size::Standard] {
        let config = WorldConfig::of(size, 2);
        assert_eq!(generate(&config).dataset, generate(&config).dataset);
        assert_ne!(generate(&config).dataset.test, generate(&WorldConfig::of(size, 1)).dataset.test);
    }
}

#[test]
fn entities_have_names_of_their_own_and_changed_facts_have_new_values() {
    let world = world();
    let aliases = world.entities.iter().filter(|entity| entity.alias.is_some()).count();
    assert!(aliases > world.entities.len() / 4);
    assert_eq!(world.reserved_names().len(), world.entities.len() + aliases);
    for entity in world.entities.iter().filter(|entity| entity.role == Role::Updated) {
        assert_eq!(entity.updates.len(), 2);
        assert!(entity.updates.iter().all(|(relation, value)| *value != entity.values[*relation]));
    }
}

#[test]
fn known_entities_fill_every_stratum_and_do_not_depend_on_the_others() {
    let config = WorldConfig::default();
    let fewer = generate(&WorldConfig { fresh_test: 8, distractors: 0, ..config.clone() });
    let world = generate(&config);
    assert!(world.pretrained().eq(fewer.pretrained()));
    for &times in &config.exposures {
        for wordings in Wordings::ALL {
            let stratum = |entity: &&Entity| entity.role == Role::KnownTest && entity.exposure == Some(Exposure { times, wordings });
            assert_eq!(world.entities.iter().filter(stratum).count(), config.known_test);
        }
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
fn what_is_documented_stands_in_the_documents_and_nothing_else_does() {
    let world = world();
    let documents = documents(&world);
    for (_, samples) in world.dataset.splits() {
        for sample in samples {
            let (task, documented) = (sample.slices["task"].as_str(), sample.slices["documented"] == "yes");
            let texts: Vec<String> =
                sample.relevant.iter().map(|id| format!("{} {}", documents[id.as_str()].title, documents[id.as_str()].text)).collect();
            let Some(reference) = sample.references.first() else {
                assert!(!sample.answerable && !documented && texts.len() == 1);
                continue;
            };
            let value = reference.rsplit(" : ").next().unwrap().trim_end_matches(" ;");
            match task {
                "house_code" => assert_eq!(texts.len(), 1),
                "compare" | "multi_hop" => assert!(texts.len() == 2 && texts.iter().any(|text| text.contains(value)), "{sample:?}"),
                _ if documented => assert!(texts.len() == 1 && texts[0].contains(value), "{sample:?}"),
                _ => assert!(texts.is_empty() && sample.slices["knowledge"] == "known"),
            }
        }
    }
}

#[test]
fn undocumented_facts_are_not_in_the_document_of_their_entity() {
    let world = world();
    let documents = documents(&world);
    for sample in of(&world, "documented", "no") {
        let document = documents[sample.cluster_id()];
        let noun = TYPES.iter().flat_map(|kind| kind.relations).find(|relation| relation.key == sample.slices["relation"]).unwrap().noun;
        assert!(!document.text.contains(&format!("{noun} |")) && !document.text.contains(&format!("{noun} of")), "{sample:?} {document:?}");
    }
}

#[test]
fn an_alias_is_told_by_the_document_and_is_not_its_title() {
    let world = world();
    let documents = documents(&world);
    for sample in of(&world, "task", "alias") {
        let document = documents[sample.relevant[0].as_str()];
        assert!(!sample.question.contains(&document.title));
        let alias = world.entities.iter().find(|entity| entity.name.to_string() == document.title).unwrap().alias.clone().unwrap();
        assert!(sample.question.contains(&alias.to_string()) && document.text.contains(&alias.to_string()));
    }
}

#[test]
fn two_hops_go_over_the_document_that_the_first_one_names() {
    let world = world();
    let documents = documents(&world);
    let samples = of(&world, "task", "multi_hop");
    assert!(samples.len() >= 40, "{}", samples.len());
    for sample in samples {
        let [first, second] = [0, 1].map(|hop| documents[sample.relevant[hop].as_str()]);
        assert!(sample.question.contains(&first.title) && !sample.question.contains(&second.title));
        assert!(first.text.contains(&second.title) && second.text.contains(&sample.references[0]));
    }
}

#[test]
fn the_value_of_an_inverse_question_belongs_to_one_entity() {
    let world = world();
    for sample in of(&world, "task", "inverse") {
        let relation = sample.slices["relation"].as_str();
        let holders = world.entities.iter().map(Entity::updated).filter(|entity| {
            let place = entity.kind().relations.iter().position(|form| form.key == relation);
            place.is_some_and(|place| sample.question.contains(&entity.values[place]))
        });
        assert_eq!(holders.map(|entity| entity.name.to_string()).collect::<Vec<_>>(), sample.references);
    }
}

#[test]
fn comparisons_name_both_and_are_balanced() {
    let world = world();
    let samples = of(&world, "task", "compare");
    let documents = documents(&world);
    let first = samples.iter().filter(|sample| {
        let other = sample.relevant.iter().map(|id| &documents[id.as_str()].title).find(|title| **title != sample.references[0]).unwrap();
        assert!(sample.question.contains(other) && sample.question.contains(&sample.references[0]));
        sample.question.find(&sample.references[0]) < sample.question.find(other)
    });
    let share = first.count() as f64 / samples.len() as f64;
    assert!((0.35..0.65).contains(&share), "{share} of {}", samples.len());
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
fn every_style_and_task_and_stratum_has_test_questions() {
    let world = world();
    let test = &world.dataset.test;
    let values = |slice: &str| test.iter().filter_map(|sample| sample.slices.get(slice)).map(String::as_str).collect::<BTreeSet<_>>();
    assert_eq!(values("style"), BTreeSet::from(["biography", "dialogue", "notice", "record", "table"]));
    assert_eq!(values("task"), BTreeSet::from(["alias", "compare", "house_code", "house_record", "inverse", "lookup", "multi_hop"]));
    assert_eq!(values("knowledge"), BTreeSet::from(["fresh", "known", "unstated", "updated"]));
    let times = BTreeSet::from(["1", "10", "100", "1000"]);
    assert_eq!((values("exposures"), values("exposures_undocumented")), (times.clone(), times));
    assert_eq!(values("wordings"), BTreeSet::from(["asked", "one", "several"]));
    for sample in test.iter().filter(|sample| sample.slices.contains_key("exposures")) {
        assert_eq!((sample.slices["cell"].as_str(), sample.relevant.len()), ("known lookup", 1));
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

#[test]
fn a_large_world_has_a_hundred_thousand_documents_with_names_of_their_own() {
    let config = WorldConfig::of(Size::Large, 1);
    let entities = draw::entities(&config);
    let names: BTreeSet<&Name> = entities.iter().map(|entity| &entity.name).collect();
    assert!(entities.len() > 100_000 && names.len() == entities.len(), "{}", entities.len());
}
