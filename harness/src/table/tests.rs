use std::io::Write as _;

use super::testing::{Fixture, realistic};
use super::*;
use crate::spec::VariantKind::{Baseline, Finetuned, Hybrid, Rag};

fn point(tables: &Tables, variant: VariantKind, slice: &str) -> (f64, usize, usize) {
    let row = tables.quality_of(variant, slice, "exact_match").unwrap();
    (row.estimate.point, row.estimate.n, row.n_failed)
}

#[test]
fn seeds_are_averaged_per_sample_before_samples_are() {
    let mut run = Fixture::empty();
    run.sample("a", &[]);
    run.sample("b", &[]);
    for (seed, sample, score) in [(1, "a", 1.0), (2, "a", 0.0), (3, "a", 0.0), (1, "b", 1.0)] {
        run.answer(Finetuned, seed, sample, score);
    }
    let (mean, n, failed) = point(&run.tables(), Finetuned, ALL);
    assert!((mean - f64::midpoint(1.0 / 3.0, 1.0)).abs() < 1e-12, "{mean}");
    assert_eq!((n, failed), (2, 0));
}

#[test]
fn failures_score_zero_and_stay_in_n() {
    let mut run = Fixture::empty();
    for id in ["a", "b", "c", "d"] {
        run.sample(id, &[]);
    }
    run.answer(Rag, 1, "a", 1.0);
    run.answer(Rag, 1, "b", 1.0);
    run.answer(Rag, 1, "c", 0.0);
    run.failure(Rag, 1, "d");
    assert_eq!(point(&run.tables(), Rag, ALL), (0.5, 4, 1));
}

#[test]
fn a_variant_whose_every_row_failed_scores_zero_not_nothing() {
    let mut run = Fixture::empty();
    run.sample("a", &[]);
    run.answer(Baseline, 1, "a", 1.0);
    run.failure(Rag, 1, "a");
    assert_eq!(point(&run.tables(), Rag, ALL), (0.0, 1, 1));
}

#[test]
fn what_was_not_measured_has_no_row() {
    let mut run = Fixture::empty();
    run.sample("a", &[]);
    run.answer(Baseline, 1, "a", 1.0);
    run.answer(Rag, 1, "a", 1.0).scores.insert("recall_at_4".to_owned(), 0.0);
    let tables = run.tables();
    assert!(tables.quality_of(Baseline, ALL, "recall_at_4").is_none());
    assert_eq!(tables.quality_of(Rag, ALL, "recall_at_4").unwrap().estimate.point, 0.0);
    assert!(tables.latency.is_empty());
    assert!(tables.contrast_of("rag", "baseline", ALL, "recall_at_4").is_none());
}

#[test]
fn slices_cut_the_table_by_tag_and_value() {
    let mut run = Fixture::empty();
    run.sample("a", &[("knowledge", "fresh")]);
    run.sample("b", &[("knowledge", "known")]);
    run.sample("c", &[]);
    for (id, score) in [("a", 1.0), ("b", 0.0), ("c", 0.0)] {
        run.answer(Rag, 1, id, score);
    }
    let tables = run.tables();
    assert_eq!(tables.slices(), ["all", "knowledge=fresh", "knowledge=known"]);
    assert_eq!(point(&tables, Rag, "knowledge=fresh"), (1.0, 1, 0));
    assert_eq!(point(&tables, Rag, "knowledge=known"), (0.0, 1, 0));
}

#[test]
fn the_interaction_is_the_difference_of_differences() {
    let mut run = Fixture::empty();
    for id in ["a", "b"] {
        run.sample(id, &[]);
    }
    for (variant, scores) in [(Baseline, [0.0, 0.0]), (Rag, [1.0, 0.0]), (Finetuned, [0.0, 1.0]), (Hybrid, [1.0, 0.5])] {
        for (id, score) in ["a", "b"].into_iter().zip(scores) {
            run.answer(variant, 1, id, score);
        }
    }
    let tables = run.tables();
    let difference = |left, right| tables.contrast_of(left, right, ALL, "exact_match").unwrap().difference.point;
    assert_eq!(difference("rag", "baseline"), 0.5);
    assert_eq!(difference("hybrid", "rag"), 0.25);
    // (0.75 - 0.5) - (0.5 - 0)
    assert_eq!(difference("hybrid-rag", "finetuned-baseline"), -0.25);
}

#[test]
fn differences_are_paired_over_what_both_answered() {
    let mut run = Fixture::empty();
    for id in ["a", "b"] {
        run.sample(id, &[]);
    }
    run.answer(Rag, 1, "a", 1.0);
    run.answer(Baseline, 1, "a", 0.0);
    run.answer(Baseline, 1, "b", 1.0);
    let tables = run.tables();
    let contrast = tables.contrast_of("rag", "baseline", ALL, "exact_match").unwrap();
    assert_eq!((contrast.difference.point, contrast.difference.n), (1.0, 1));
    assert!(tables.data.notes.iter().any(|note| note.contains("`rag` has rows for 1 of 2")), "{:?}", tables.data.notes);
}

#[test]
fn ann_recall_is_the_share_of_passages_that_exact_search_has_too() {
    let mut run = Fixture::empty();
    run.sample("a", &[]);
    let hit = |rank, in_exact| crate::store::row::HitRow {
        document_id: "d".to_owned(),
        chunk_id: format!("d#{rank}"),
        rank,
        score: 0.5,
        in_prompt: true,
        in_exact,
    };
    run.answer(Rag, 1, "a", 1.0).hits = vec![hit(1, Some(true)), hit(2, Some(true)), hit(3, Some(true)), hit(4, Some(false))];
    assert_eq!(run.tables().quality_of(Rag, ALL, "ann_recall_at_4").unwrap().estimate.point, 0.75);
}

#[test]
fn percentiles_are_refused_below_the_questions_that_they_need() {
    let mut run = Fixture::empty();
    for index in 0..29 {
        run.sample(&format!("q{index}"), &[]);
        run.answer(Baseline, 1, &format!("q{index}"), 1.0);
        run.timing(Baseline, &format!("q{index}"), 1.0 + index as f64, 10.0 + index as f64);
        if index < 28 {
            run.timing(Rag, &format!("q{index}"), 1.0, 2.0);
        }
    }
    let tables = run.tables();
    let row = tables.latency_of(Baseline, Stage::Ttft).unwrap();
    assert_eq!((row.n, row.p50.point, row.mean.point), (29, 15.0, 15.0));
    let p90 = row.p90.unwrap();
    assert!((p90.point - 26.2).abs() < 1e-9 && p90.ci_low < p90.point && p90.ci_high == 29.0, "{p90:?}");
    assert_eq!((row.p95, row.p99), (None, None));
    assert_eq!(tables.latency_of(Rag, Stage::Ttft).unwrap().p90, None);
    assert!(tables.latency_of(Baseline, Stage::Embed).is_none(), "a stage that is not there has no row");
}

fn append(path: &Path, text: &str) {
    std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

#[test]
fn a_torn_last_line_is_left_out_and_a_broken_middle_line_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = Fixture::empty();
    run.sample("a", &[]);
    run.answer(Rag, 1, "a", 1.0);
    run.write(folder.path());
    let journal = folder.path().join("journal.jsonl");
    append(&journal, "{\"schema_version\":1,\"run");
    let tables = read(folder.path()).unwrap();
    assert_eq!(tables.data.journal.len(), 1);
    assert!(tables.data.notes[0].contains("torn"), "{:?}", tables.data.notes);
    append(&journal, "\n");
    let error = read(folder.path()).unwrap_err().to_string();
    assert!(error.ends_with("journal.jsonl` line 2 is malformed"), "{error}");
}

#[test]
fn a_row_of_another_run_is_refused() {
    let mut run = Fixture::empty();
    run.sample("a", &[]);
    run.answer(Rag, 1, "a", 1.0).run_id = "other".to_owned();
    let folder = tempfile::tempdir().unwrap();
    run.write(folder.path());
    let error = read(folder.path()).unwrap_err().to_string();
    assert!(error.contains("line 1 belongs to run `other`"), "{error}");
}

#[test]
fn the_order_of_the_journal_changes_no_byte() {
    let mut run = realistic(&[Baseline, Rag], 60);
    let tables_of = |run: &Fixture| {
        let folder = tempfile::tempdir().unwrap();
        run.write(folder.path());
        write_tables(folder.path()).unwrap();
        ["predictions.parquet", "hits.parquet", "quality.parquet", "quality.csv", "latency.csv", "contrasts.csv"]
            .map(|name| std::fs::read(folder.path().join("tables").join(name)).unwrap())
    };
    let first = tables_of(&run);
    run.rows.reverse();
    assert!(first == tables_of(&run));
}

#[test]
fn tables_have_the_declared_columns() {
    let folder = tempfile::tempdir().unwrap();
    realistic(&[Baseline, Rag, Finetuned, Hybrid], 30).write(folder.path());
    write_tables(folder.path()).unwrap();
    let header = |name: &str| {
        let text = std::fs::read_to_string(folder.path().join("tables").join(name)).unwrap();
        text.lines().next().unwrap().to_owned()
    };
    assert_eq!(header("quality.csv"), "variant,slice,metric,unit,direction,point,ci_low,ci_high,n,n_failed");
    assert_eq!(
        header("contrasts.csv"),
        "left,right,slice,metric,difference,ci_low,ci_high,p,p_adjusted,n,detectable,verdict,scale,p_method,adjustment,p_equivalence,\
         ci_method,standard_error,clusters,design_effect,n_higher,n_lower,n_failed,trainings,training_deviation,n_needed,clusters_needed"
    );
    assert!(header("latency.csv").starts_with("variant,stage,unit,n,n_questions,mean,"));
}

/// Forty questions with a document each; a variant is right on those below its number.
fn graded(rights: &[(crate::spec::VariantKind, usize)]) -> Fixture {
    let mut run = Fixture::empty();
    for index in 0..40 {
        let id = format!("q{index:02}");
        run.sample(&id, &[("half", ["low", "high"][index / 20])]);
        for (variant, right) in rights {
            run.answer(*variant, 1, &id, f64::from(u8::from(index < *right)));
        }
    }
    run
}

#[test]
fn the_declared_family_is_adjusted_by_holm_and_slices_by_benjamini_and_hochberg() {
    let tables = graded(&[(Baseline, 10), (Rag, 30), (Finetuned, 16), (Hybrid, 32)]).tables();
    let family: Vec<&ContrastRow> = tables.contrasts.iter().filter(|row| row.slice == ALL && row.scale == Scale::Additive).collect();
    assert_eq!(family.len(), 6);
    let p: Vec<f64> = family.iter().map(|row| row.comparison.p).collect();
    let adjusted: Vec<f64> = family.iter().map(|row| row.p_adjusted).collect();
    assert_eq!(adjusted, crate::stats::holm(&p));
    assert!(family.iter().all(|row| row.adjustment == Adjustment::Holm));
    assert_eq!(tables.contrast_of("rag", "baseline", ALL, "exact_match").unwrap().verdict(), crate::stats::Verdict::Better);
    let close = tables.contrast_of("hybrid", "rag", ALL, "exact_match").unwrap();
    assert_eq!(close.verdict(), crate::stats::Verdict::Inconclusive);
    assert!(close.judgement.needed.unwrap().questions > 40.0 && close.judgement.detectable.unwrap() > 0.05);
    let sliced: Vec<&ContrastRow> = tables.contrasts.iter().filter(|row| row.slice != ALL && row.scale == Scale::Additive).collect();
    let p: Vec<f64> = sliced.iter().map(|row| row.comparison.p).collect();
    let adjusted: Vec<f64> = sliced.iter().map(|row| row.p_adjusted).collect();
    assert_eq!(adjusted, crate::stats::benjamini_hochberg(&p));
}

#[test]
fn the_interaction_stands_in_points_and_in_log_odds() {
    let tables = graded(&[(Baseline, 20), (Rag, 38), (Finetuned, 30), (Hybrid, 39)]).tables();
    let points = tables.contrast_of("hybrid-rag", "finetuned-baseline", ALL, "exact_match").unwrap().difference.point;
    assert!((points - (0.025 - 0.25)).abs() < 1e-12, "{points}");
    let odds = tables.interaction_in_log_odds(ALL, "exact_match").unwrap();
    let cells = crate::stats::Cells { baseline: 0.5, rag: 0.95, finetuned: 0.75, hybrid: 0.975 }.smoothed(40);
    assert!((odds.difference.point - cells.log_odds()).abs() < 1e-12 && odds.p_equivalence.is_none());
}

#[test]
fn trainings_that_disagree_take_a_verdict_away() {
    let mut run = Fixture::empty();
    run.manifest.spec.seeds = vec![1, 2, 3];
    for index in 0..60 {
        let id = format!("q{index:02}");
        run.sample(&id, &[]);
        run.answer(Baseline, 1, &id, f64::from(u8::from(index < 20)));
        // Right on 20, 40 and 58 of 60: very different trainings.
        for (seed, right) in [(1, 20), (2, 40), (3, 58)] {
            run.answer(Finetuned, seed, &id, f64::from(u8::from(index < right)));
        }
    }
    let tables = run.tables();
    let row = tables.contrast_of("finetuned", "baseline", ALL, "exact_match").unwrap();
    assert_eq!((row.verdict(), row.trainings), (crate::stats::Verdict::Inconclusive, 3));
    assert!(row.comparison.training.unwrap().seed.sqrt() > 0.25 && row.judgement.needed.unwrap().seeds > 3, "{row:?}");
    run.rows.retain(|row| row.seed != 1 || row.variant == "baseline");
    run.rows.retain(|row| row.seed != 3);
    let alone = run.tables();
    let row = alone.contrast_of("finetuned", "baseline", ALL, "exact_match").unwrap();
    assert_eq!((row.verdict(), row.trainings, row.comparison.training), (crate::stats::Verdict::Better, 1, None));
}

#[test]
fn a_run_recorded_before_some_settings_were_there_reads_with_their_defaults() {
    let folder = tempfile::tempdir().unwrap();
    graded(&[(Baseline, 10), (Rag, 30)]).write(folder.path());
    let path = folder.path().join("manifest.json");
    let mut manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let spec = manifest["spec"].as_object_mut().unwrap();
    spec.remove("contrasts").unwrap();
    spec["measure"].as_object_mut().unwrap().remove("audit_samples").unwrap();
    spec["finetune"].as_object_mut().unwrap().remove("examples").unwrap();
    std::fs::write(&path, manifest.to_string()).unwrap();
    assert_eq!(read(folder.path()).unwrap().manifest().spec.contrasts.margin, 3.0);
}

#[test]
fn every_question_has_one_cause_and_the_last_rung_is_exact_match() {
    // An answer with more around it is right and not well-formed: the two must not be taken for one another.
    let mut run = realistic(&[Baseline, Rag, Finetuned, Hybrid], 90);
    for row in run.rows.iter_mut().filter(|row| row.variant == "hybrid" && row.answer == "red") {
        row.scores.insert("contains".to_owned(), 1.0);
    }
    let tables = run.tables();
    for variant in tables.variants() {
        let of = |step| tables.ladder_of(variant, step).unwrap_or(0.0);
        let causes: f64 = Cause::ALL.into_iter().map(|cause| of(Step::Cause(cause))).sum();
        assert!((causes - 90.0).abs() < 1e-9, "{variant:?}: {causes}");
        let exact = tables.quality_of(variant, ALL, "exact_match").unwrap().estimate.point * 90.0;
        assert!((of(Step::Rung(Rung::WellFormed)) - exact).abs() < 1e-9 && (of(Step::Cause(Cause::None)) - exact).abs() < 1e-9);
        assert!(of(Step::Rung(Rung::Right)) >= exact);
        assert_eq!(of(Step::Rung(Rung::Right)) > exact, variant == Hybrid);
        assert_eq!(tables.ladder_of(variant, Step::Rung(Rung::Found)).is_some(), matches!(variant, Rag | Hybrid));
    }
    assert!(tables.ladder_of(Hybrid, Step::Cause(Cause::WrongForm)).unwrap() > 0.0);
}

#[test]
fn what_is_in_memory_of_a_row_does_not_depend_on_its_texts() {
    let held = |run: &Fixture| {
        let tables = run.tables();
        (tables.data.journal.bytes() + tables.data.samples.bytes() + tables.scores.bytes(), tables.data.journal.len())
    };
    let mut run = realistic(&[Baseline, Rag, Finetuned, Hybrid], 300);
    let (bytes, rows) = held(&run);
    // Where the row is takes 16, its scores about one each; the rest is a question's part of its ids and marks.
    assert!(bytes < 48 * rows, "{bytes} bytes for {rows} rows");
    for row in &mut run.rows {
        row.answer = row.answer.repeat(100);
        row.hits.iter_mut().for_each(|hit| hit.chunk_id = hit.chunk_id.repeat(20));
    }
    for sample in &mut run.samples {
        sample.question = sample.question.repeat(100);
        sample.references.iter_mut().for_each(|text| *text = text.repeat(100));
    }
    assert_eq!(held(&run), (bytes, rows));
}

#[test]
fn rows_are_read_again_from_disk_in_the_order_of_tables_and_by_question() {
    let mut run = Fixture::empty();
    for id in ["a", "b"] {
        run.sample(id, &[]);
    }
    for (variant, seed, sample, answer) in
        [(Rag, 2, "b", "rb2"), (Baseline, 1, "b", "bb"), (Rag, 1, "b", "rb1"), (Rag, 2, "a", "ra2"), (Rag, 1, "b", "again")]
    {
        run.answer(variant, seed, sample, 1.0).answer = answer.to_owned();
    }
    let data = run.tables().data;
    let answers: Vec<String> = data.rows().map(|row| row.unwrap().answer).collect();
    // Of two rows of one observation the last written counts.
    assert_eq!(answers, ["bb", "again", "ra2", "rb2"]);
    let mut by_question = Vec::new();
    data.for_each_question(Rag, |sample, rows| {
        by_question.push((sample, rows.iter().map(|row| row.answer.clone()).collect::<Vec<_>>()));
        Ok::<(), TableError>(())
    })
    .unwrap();
    assert_eq!(by_question, [(0, vec!["ra2".to_owned()]), (1, vec!["again".to_owned(), "rb2".to_owned()])]);
    let first = |sample| data.first_row(Rag, sample).unwrap().map(|row| row.answer);
    assert_eq!((first(0), first(1)), (Some("ra2".to_owned()), Some("again".to_owned())));
    assert_eq!(data.first_row(Baseline, 0).unwrap(), None);
    assert_eq!((data.seeds(Rag), data.answered(Baseline), data.answered(Rag)), (vec![1, 2], 1, 2));
}
