use super::*;
use crate::spec::VariantKind::{Baseline, Finetuned, Hybrid, Rag};
use crate::table::testing::Fixture;

/// Four variants, two questions; a query takes 36 s without and 72 s with retrieval, so that money has round figures.
fn tables() -> Tables {
    run().tables()
}

fn run() -> Fixture {
    let mut run = Fixture::empty();
    (run.manifest.spec.cost.machine_hour, run.manifest.spec.cost.label) = (1.0, 0.5);
    run.manifest.spec.cost.storage_gib_month = 0.0;
    for id in ["a", "b"] {
        run.sample(id, &[]);
    }
    for variant in [Baseline, Rag, Finetuned, Hybrid] {
        run.answer(variant, 1, "a", 1.0);
        run.answer(variant, 1, "b", 0.0);
        let seconds = if retrieves(variant) { 72e3 } else { 36e3 };
        run.timing(variant, "a", 1.0, seconds);
        run.timing(variant, "b", 1.0, seconds);
    }
    run
}

#[test]
fn the_work_of_people_is_charged_where_it_is_declared() {
    let mut run = run();
    let people = &mut run.manifest.spec.cost.people;
    (people.index_minutes, people.training_minutes, people.label_minutes, people.index_update_minutes) = (60.0, 120.0, 0.5, 3.0);
    let free = Ledger::of(&run.tables());
    assert_eq!(free.value(Hybrid, CostPhase::Setup, TOTAL_MINUTES), Some(60.0 + 120.0 + 400.0));
    let before = free.value(Rag, CostPhase::Setup, TOTAL_MONEY).unwrap();
    run.manifest.spec.cost.people.human_hour = 40.0;
    let ledger = Ledger::of(&run.tables());
    let value = |variant, phase, quantity: &str| ledger.value(variant, phase, quantity).unwrap();
    assert!((value(Rag, CostPhase::Setup, TOTAL_MONEY) - before - 40.0).abs() < 1e-9);
    assert!((value(Finetuned, CostPhase::Setup, "label_people_money") - 400.0 / 60.0 * 40.0).abs() < 1e-9);
    assert!((value(Rag, CostPhase::Update, "index_people_money") - 2.0).abs() < 1e-9);
    assert_eq!(ledger.value(Baseline, CostPhase::Setup, TOTAL_MINUTES), Some(0.0));
}

#[test]
fn energy_and_memory_are_in_the_ledger_where_the_system_told() {
    let mut run = run();
    let silent = Ledger::of(&run.tables());
    assert_eq!(silent.value(Rag, CostPhase::Setup, TOTAL_JOULES), None);
    assert_eq!(silent.value(Rag, CostPhase::Query, TOTAL_CPU_SECONDS), None);
    let phase = |name: &str, energy_joules| crate::store::manifest::PhaseRecord {
        name: name.to_owned(),
        seconds: 1.0,
        cpu_seconds: 2.0,
        peak_memory_bytes: Some(5000),
        energy_joules,
        overhead_seconds: None,
    };
    run.manifest.phases = vec![phase("index", Some(12.0)), phase("train", Some(300.0))];
    for row in run.rows.iter_mut().filter(|row| row.variant == "rag" && row.phase == crate::store::row::Phase::Latency) {
        row.resources = crate::store::row::QueryResources { cpu_ns: Some(3_000_000_000), energy_uj: Some(250_000) };
    }
    let ledger = Ledger::of(&run.tables());
    assert_eq!(ledger.value(Hybrid, CostPhase::Setup, TOTAL_JOULES), Some(312.0));
    assert_eq!(ledger.value(Finetuned, CostPhase::Setup, "training_peak_memory_bytes"), Some(5000.0));
    assert_eq!(ledger.value(Rag, CostPhase::Query, TOTAL_CPU_SECONDS), Some(3.0));
    assert_eq!(ledger.value(Rag, CostPhase::Query, TOTAL_JOULES), Some(0.25));
    assert_eq!(ledger.value(Baseline, CostPhase::Query, TOTAL_JOULES), None);
    assert_eq!(ledger.value(Rag, CostPhase::Query, RESIDENT_BYTES), Some(12_900_000.0));
}

#[test]
fn set_up_is_the_index_the_training_or_both() {
    let tables = tables();
    let ledger = Ledger::of(&tables);
    let setup = |variant, quantity| ledger.value(variant, CostPhase::Setup, quantity);
    assert_eq!(setup(Baseline, TOTAL_MONEY), Some(0.0));
    assert_eq!(setup(Baseline, "index_tokens"), None);
    assert_eq!(setup(Rag, "index_tokens"), Some(12_000.0));
    assert_eq!(setup(Rag, TOTAL_SECONDS), Some(0.5));
    assert_eq!(setup(Rag, TOTAL_FLOPS), Some(2.06e8));
    assert_eq!(setup(Finetuned, "label_money"), Some(400.0));
    assert_eq!(setup(Finetuned, TOTAL_MONEY), Some(400.0 + 40.0 / 3600.0));
    let both = setup(Rag, TOTAL_MONEY).unwrap() + setup(Finetuned, TOTAL_MONEY).unwrap();
    assert!((setup(Hybrid, TOTAL_MONEY).unwrap() - both).abs() < 1e-9);
    assert_eq!(setup(Hybrid, TOTAL_SECONDS), Some(40.5));
}

#[test]
fn a_query_costs_its_mean_time_and_tokens() {
    let ledger = Ledger::of(&tables());
    let query = |variant, quantity| ledger.value(variant, CostPhase::Query, quantity);
    assert_eq!(query(Baseline, "prompt_tokens"), Some(20.0));
    assert_eq!(query(Baseline, TOTAL_FLOPS), Some(1e9));
    assert!((query(Baseline, TOTAL_MONEY).unwrap() - 0.01).abs() < 1e-12);
    assert!((query(Rag, TOTAL_MONEY).unwrap() - 0.02).abs() < 1e-12);
}

#[test]
fn an_update_re_embeds_one_document_or_trains_again() {
    let ledger = Ledger::of(&tables());
    let update = |variant, quantity| ledger.value(variant, CostPhase::Update, quantity);
    assert_eq!(update(Baseline, TOTAL_SECONDS), None);
    assert_eq!(update(Rag, "index_tokens"), Some(30.0));
    assert_eq!(update(Finetuned, TOTAL_SECONDS), Some(40.0));
    assert_eq!(update(Hybrid, TOTAL_SECONDS), Some(40.0 + 0.5 / 400.0));
}

#[test]
fn fine_tuning_breaks_even_with_retrieval_when_the_labels_are_paid_off() {
    let tables = tables();
    let ledger = Ledger::of(&tables);
    let against = |left, right| ledger.against(&tables, left, right, Currency::Money).unwrap();
    let BreakEven::CheaperBeyond(queries) = against(Finetuned, Rag) else { panic!("fine-tuning costs more up front") };
    assert!((queries - (400.0 + 39.5 / 3600.0) / 0.01).abs() < 1e-3, "{queries}");
    assert_eq!(against(Finetuned, Baseline), BreakEven::NeverCheaper);
    assert_eq!(against(Baseline, Hybrid), BreakEven::AlwaysCheaper);
}

#[test]
fn times_whose_intervals_overlap_do_not_make_a_break_even() {
    let mut run = Fixture::empty();
    for (id, fast, slow) in [("a", 10.0, 11.0), ("b", 30.0, 28.0), ("c", 20.0, 22.0)] {
        run.sample(id, &[]);
        run.answer(Baseline, 1, id, 1.0);
        run.answer(Finetuned, 1, id, 1.0);
        run.timing(Finetuned, id, 1.0, fast);
        run.timing(Baseline, id, 1.0, slow);
    }
    let tables = run.tables();
    let ledger = Ledger::of(&tables);
    let line = |variant| ledger.line(variant, Currency::Money).unwrap();
    assert!(matches!(line(Finetuned).against(line(Baseline)), BreakEven::CheaperBeyond(_)), "the points alone would make one");
    assert_eq!(ledger.against(&tables, Finetuned, Baseline, Currency::Money), Some(BreakEven::NeverCheaper));
}

#[test]
fn a_correct_answer_costs_a_query_over_the_score() {
    let tables = tables();
    let cost = Ledger::of(&tables).per_correct(&tables, Baseline, 1000).unwrap();
    assert!((cost.point - 0.02).abs() < 1e-12);
    assert!(cost.ci_high.is_infinite(), "a score that may be zero bounds nothing");
}

#[test]
fn the_interval_of_a_ratio_holds_what_both_sides_leave_open() {
    let estimate = |point, ci_low, ci_high| Estimate { point, ci_low, ci_high, n: 50 };
    let sure = ratio(&estimate(2.0, 2.0, 2.0), &estimate(0.5, 0.4, 0.625));
    assert!((sure.point - 4.0).abs() < 1e-12 && (sure.ci_low - 3.2).abs() < 1e-12 && (sure.ci_high - 5.0).abs() < 1e-12, "{sure:?}");
    let both = ratio(&estimate(2.0, 1.6, 2.5), &estimate(0.5, 0.4, 0.625));
    let reach = (2.0f64).sqrt() * 1.25f64.ln();
    assert!((both.ci_high / 4.0 - reach.exp()).abs() < 1e-9 && (both.ci_low / 4.0 - (-reach).exp()).abs() < 1e-9, "{both:?}");
}

#[test]
fn without_a_latency_pass_there_is_no_money_per_query() {
    let mut run = Fixture::empty();
    run.sample("a", &[]);
    run.answer(Rag, 1, "a", 1.0);
    let ledger = Ledger::of(&run.tables());
    assert_eq!(ledger.line(Rag, Currency::Money), None);
    assert!(ledger.line(Rag, Currency::Flops).is_some());
}

#[test]
fn a_tuned_variant_without_a_training_record_has_no_total() {
    let mut run = Fixture::empty();
    run.manifest.training.clear();
    run.sample("a", &[]);
    run.answer(Finetuned, 1, "a", 1.0);
    assert_eq!(Ledger::of(&run.tables()).value(Finetuned, CostPhase::Setup, TOTAL_MONEY), None);
}
