//! Claims held against made-up runs whose answer is known.

use super::*;
use crate::cost::Ledger;
use crate::spec::VariantKind::{Baseline, Finetuned, Hybrid, Oracle, Rag};
use crate::table::testing::{Fixture, realistic};

fn cards(run: &Fixture) -> Vec<ClaimCard> {
    let tables = run.tables();
    let ledger = Ledger::of(&tables);
    judge(&read(None).unwrap(), &tables, &ledger)
}

fn card<'a>(cards: &'a [ClaimCard], id: &str) -> &'a ClaimCard {
    cards.iter().find(|card| card.id == id).unwrap()
}

#[test]
fn the_eight_claims_of_the_note_are_judged_on_a_run_that_looks_like_a_real_one() {
    let cards = cards(&realistic(&[Baseline, Rag, Finetuned, Hybrid, Oracle], 600));
    assert_eq!(cards.iter().map(|card| card.id.as_str()).collect::<String>(), "abcdefgh");
    let verdict = |id| card(&cards, id).verdict;
    assert_eq!(verdict("a"), Verdict::Supported, "{:?}", card(&cards, "a"));
    assert_eq!(verdict("b"), Verdict::Supported);
    assert_eq!(verdict("f"), Verdict::Supported);
    // The base model never writes the house code, with or without passages.
    assert_eq!(verdict("d"), Verdict::Supported, "{:?}", card(&cards, "d"));
    assert_eq!(verdict("e"), Verdict::Supported, "{:?}", card(&cards, "e"));
    assert_eq!(verdict("g"), Verdict::NotTestable);
    assert!(card(&cards, "g").evidence[0].note.contains("`explained` was not measured"));
}

#[test]
fn what_the_run_lacks_is_named() {
    let cards = cards(&realistic(&[Baseline, Rag], 60));
    assert!(card(&cards, "d").evidence[0].note.contains("needs the variant `oracle`"));
    assert!(card(&cards, "h").evidence[0].note.contains("no variant hybrid_raft or hybrid"));
}

#[test]
fn verdicts_of_a_claim_follow_from_its_tests() {
    use Verdict::{Inconclusive, NotTestable, Refuted, Supported};
    assert_eq!(Verdict::of_all(&[Supported, NotTestable]), Supported);
    assert_eq!(Verdict::of_all(&[Supported, Inconclusive]), Inconclusive);
    assert_eq!(Verdict::of_all(&[Supported, Refuted, Inconclusive]), Refuted);
    assert_eq!(Verdict::of_all(&[NotTestable]), NotTestable);
    assert_eq!(Verdict::of_all(&[]), NotTestable);
}

#[test]
fn a_file_with_a_slip_is_refused_by_claim_and_mend() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |text: &str| {
        let path = folder.path().join("claims.toml");
        std::fs::write(&path, text).unwrap();
        read(Some(&path)).unwrap_err().to_string()
    };
    let test = "[[claim]]\nid = \"x\"\ntitle = \"t\"\n[[claim.test]]\nkind = \"difference\"\nleft = [\"rag\"]\nright = [\"baseline\"]\n";
    assert!(refused(test).contains("claim `x` needs exactly one of `more_than` and `less_than`"));
    assert!(refused(&format!("{test}more_then = 1\n")).contains("more_then"));
    assert!(refused(&format!("{test}more_than = 1\n{test}more_than = 2\n")).contains("claim `x` stands there twice"));
    assert!(refused(&test.replace("rag", "rga")).contains("rga"));
}
