//! `ragft plan --effect`: what it takes to show a difference, before anything runs.

use serde_json::Value;

use crate::sandbox::Sandbox;

const SMALL: &[&str] = &["plan", "--limit", "16", "--set", "variants=[\"baseline\",\"rag\"]", "--json"];

fn plan(more: &[&str]) -> Value {
    serde_json::from_str(&Sandbox::new().run(0, &[SMALL, more].concat()).out).unwrap()
}

#[test]
fn an_effect_has_its_price_in_questions() {
    let plain = plan(&[]);
    assert!(plain.get("effect").is_none() && plain["assumed"]["declared_differences"] == 1, "{plain}");
    let planned = plan(&["--effect", "3pp", "--correlation", "0"]);
    // Two-sided 5 %, power 80 %, a fifth of the questions discordant: 1742 by Connor's formula.
    let alone = &planned["effect"]["alone"];
    let questions = alone["questions"].as_f64().unwrap();
    assert!((questions / 1742.0 - 1.0).abs() < 0.04, "{planned}");
    assert!(alone["seconds"].as_f64().unwrap() > 0.0 && alone["money"].as_f64().unwrap() > 0.0);
    let clustered = plan(&["--effect", "3pp", "--correlation", "0.3"]);
    let ratio = clustered["effect"]["alone"]["questions"].as_f64().unwrap() / questions;
    assert!((ratio - clustered["assumed"]["design_effect"].as_f64().unwrap()).abs() < 0.05, "{clustered}");
}

#[test]
fn an_effect_that_cannot_be_is_said_to_be_so() {
    assert!(plan(&["--effect", "25"])["effect"]["alone"].is_null());
    let printed = Sandbox::new().run(2, &["plan", "--effect", "lots"]);
    assert!(printed.err.contains("expected points from 0 to 100"), "{}", printed.err);
}

#[test]
fn another_size_is_computed_part_by_part() {
    let planned = plan(&["--documents", "1e8", "--questions", "1e6"]);
    let parts = planned["scale"][1].as_array().unwrap();
    let part = |name: &str| parts.iter().find(|part| part["name"].as_str().unwrap().starts_with(name)).unwrap();
    // At least a vector per document, and a day's work is not enough for a million questions at a second each.
    assert!(part("passages")["amount"].as_f64().unwrap() > 1e8 * 256.0 * 4.0, "{planned}");
    assert_eq!(part("passages")["outgrown"], true);
    assert_eq!(part("journal")["outgrown"], false);
    let seconds = planned["accuracy_seconds"].as_f64().unwrap() / planned["test"].as_f64().unwrap();
    assert!((part("answering")["amount"].as_f64().unwrap() / (1e6 * seconds) - 1.0).abs() < 1e-9);
    let printed = Sandbox::new().run(0, &["plan", "--limit", "16", "--set", "variants=[\"rag\"]", "--documents", "1e8"]).out;
    assert!(printed.contains("at 100 million documents and 16 questions") && printed.contains("-> a vector store on disk"), "{printed}");
}
