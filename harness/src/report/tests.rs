use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::cost::{Decision, Ledger};
use crate::spec::VariantKind::{self, Baseline, Finetuned, Hybrid, Rag};
use crate::table::testing::{Fixture, realistic};

const SQUARE: [VariantKind; 4] = [Baseline, Rag, Finetuned, Hybrid];

fn report_of(run: &Fixture) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    run.write(folder.path());
    write_report(folder.path()).unwrap();
    folder
}

fn figures_of(tables: &Tables) -> Vec<plot::Figure> {
    let ledger = Ledger::of(tables);
    plot::figures(tables, &ledger, Decision::of(tables, &ledger).as_ref())
}

/// What the report of these tables says; passages are not there.
fn view_of(tables: &Tables) -> view::View {
    let (ledger, figures) = (Ledger::of(tables), figures_of(tables));
    let decision = Decision::of(tables, &ledger);
    let sources = view::Sources { tables, ledger: &ledger, decision: decision.as_ref(), claims: &[], figures: &figures };
    view::build(&sources, view::gather(Path::new("nowhere"), tables).unwrap())
}

fn read(folder: &tempfile::TempDir, name: &str) -> String {
    std::fs::read_to_string(folder.path().join(name)).unwrap()
}

/// Every file under a folder with its bytes.
fn bytes(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for part in ["", "tables", "plots"] {
        for entry in std::fs::read_dir(folder.join(part)).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
            files.insert(format!("{part}/{}", entry.file_name().to_string_lossy()), std::fs::read(entry.path()).unwrap());
        }
    }
    files
}

/// Checks that tags nest and close: enough to know that a browser sees the tree that was meant.
fn check_nesting(text: &str, void: &[&str]) {
    let mut open: Vec<&str> = Vec::new();
    for part in text.split('<').skip(1) {
        let (tag, _) = part.split_once('>').expect("every tag ends");
        let name = tag.trim_start_matches('/').split_whitespace().next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "closing tag");
        } else if !tag.ends_with('/') && !tag.starts_with('!') && !tag.starts_with('?') && !void.contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
}

/// The same of the page, its script left out.
fn check_page(html: &str) {
    let (before, rest) = html.split_once("<script").unwrap();
    let (script, after) = rest.split_once("</script>").unwrap();
    assert!(script.contains("\"use strict\"") && !after.contains("<script"));
    check_nesting(&format!("{before}{after}"), &["meta", "input", "br"]);
}

/// `RAGFT_REPORT_OUT=DIR` keeps the folder of a realistic run there, to be looked at.
#[test]
fn a_realistic_run_has_every_file() {
    let run = realistic(&SQUARE, 300);
    let folder = report_of(&run);
    let files = bytes(folder.path());
    for name in ["accuracy", "contrasts", "interaction", "slices", "tradeoff", "latency", "stages", "cost", "decision", "training"] {
        for extension in ["svg", "png", "csv"] {
            assert!(files.contains_key(&format!("plots/{name}.{extension}")), "{name}.{extension}");
        }
        check_nesting(&read(&folder, &format!("plots/{name}.svg")), &[]);
    }
    assert!(files.contains_key("tables/cost.parquet") && files.contains_key("tables/cost.csv"));
    check_page(&read(&folder, "report.html"));
    if let Some(out) = std::env::var_os("RAGFT_REPORT_OUT") {
        let out = Path::new(&out);
        run.write(&out.join("four"));
        write_report(&out.join("four")).unwrap();
        realistic(&VariantKind::ALL, 240).write(&out.join("seven"));
        write_report(&out.join("seven")).unwrap();
        let tables = crate::table::read(&out.join("seven")).unwrap();
        std::fs::write(out.join("terminal.txt"), terminal_table(&tables, false) + &compare(&[tables.clone(), tables])).unwrap();
    }
}

#[test]
fn the_same_folder_gives_the_same_bytes() {
    let run = realistic(&SQUARE, 60);
    let (first, second) = (report_of(&run), report_of(&run));
    write_report(second.path()).unwrap();
    assert!(bytes(first.path()) == bytes(second.path()));
}

#[test]
fn hostile_answers_stay_text() {
    let mut run = Fixture::empty();
    run.sample("a", &[]);
    run.samples[0].question = "<img src=x onerror=alert(1)>".to_owned();
    run.answer(Baseline, 1, "a", 0.0).answer = "<script>alert(1)</script> | {{ 7 * 7 }}".to_owned();
    run.answer(Rag, 1, "a", 1.0).answer = "\"' onclick=\"x".to_owned();
    run.answer(Finetuned, 1, "a", 0.0).answer = "a\u{202e}b\u{2028}c".to_owned();
    let folder = report_of(&run);
    let html = read(&folder, "report.html");
    assert!(html.contains("&lt;script&gt;alert(1)&lt;&#x2f;script&gt; | {{ 7 * 7 }}"));
    assert!(html.contains("&quot;&#x27; onclick=&quot;x") && html.contains("a⟨U+202E⟩b c"));
    assert!(html.matches("<script").count() == 1 && !html.contains("<img") && !html.contains('\u{2028}') && !html.contains('\u{202e}'));
    check_page(&html);
}

#[test]
fn the_page_fetches_nothing() {
    let folder = report_of(&realistic(&SQUARE, 30));
    let html = read(&folder, "report.html").replace("http://www.w3.org/2000/svg", "");
    for outside in
        ["http://", "https://", "src=", "url(", "@import", "<link", "fetch(", "XMLHttpRequest", "WebSocket", "sendBeacon", "import("]
    {
        assert!(!html.contains(outside), "{outside}");
    }
}

#[test]
fn a_run_with_nothing_but_answers_still_has_a_report() {
    let mut run = Fixture::empty();
    run.manifest.training.clear();
    run.manifest.index = None;
    run.sample("a", &[]);
    run.answer(Baseline, 1, "a", 1.0);
    let folder = report_of(&run);
    let text = read(&folder, "report.md");
    assert!(text.contains("not measured") && text.contains("no latency pass"), "{text}");
    assert!(!folder.path().join("plots/training.svg").exists());
}

#[test]
fn no_winner_is_named_without_a_verdict() {
    let mut run = Fixture::empty();
    for index in 0..20 {
        let id = format!("q{index}");
        run.sample(&id, &[]);
        run.answer(Baseline, 1, &id, f64::from(index % 2));
        run.answer(Rag, 1, &id, f64::from((index + 1) % 2));
        run.answer(Finetuned, 1, &id, 1.0);
    }
    let tables = run.tables();
    let view = view_of(&tables);
    let inconclusive = &view.headline[1];
    assert!(inconclusive.starts_with("Inconclusive between rag and baseline: +0.0 points of exact match ("), "{inconclusive}");
    assert!(inconclusive.contains("To tell 3.0 points would take about 1") && inconclusive.contains(" questions."), "{inconclusive}");
    assert!(view.headline[2].starts_with("finetuned beats baseline by 50.0 points of exact match ("), "{}", view.headline[2]);
    assert!(view.headline[2].contains("after Holm"), "{}", view.headline[2]);
    assert!(view.caveats.iter().any(|caveat| caveat.contains("few test questions (20)")), "{:?}", view.caveats);
}

/// So many questions; a variant is right on those below its number, and takes its milliseconds for each.
fn priced(n: usize, variants: &[(VariantKind, usize, f64)]) -> Fixture {
    let mut run = Fixture::empty();
    for index in 0..n {
        let id = format!("q{index:04}");
        run.sample(&id, &[]);
        for (variant, right, milliseconds) in variants {
            run.answer(*variant, 1, &id, f64::from(u8::from(index < *right)));
            run.timing(*variant, &id, 0.5, milliseconds * (1.0 + 0.01 * (index % 3) as f64));
        }
    }
    run
}

#[test]
fn the_recommendation_says_inconclusive_when_it_is_and_how_many_questions_would_tell() {
    let view = view_of(&priced(60, &[(Rag, 44, 10.0), (Finetuned, 46, 10.0)]).tables());
    let said = &view.recommendation;
    assert_eq!(said.lead, "Inconclusive: these questions do not tell whether rag would do, which would cost less.");
    assert!(said.rest.starts_with("rag is -3.3 points from finetuned (") && said.rest.contains(" questions would tell."), "{}", said.rest);
    assert!(said.rest.contains("Until that is known, finetuned is what is shown to be good enough."), "{}", said.rest);
}

#[test]
fn the_recommendation_names_its_reasons_and_what_would_change_it() {
    let clear = priced(2000, &[(Baseline, 300, 5.0), (Rag, 1500, 20.0), (Finetuned, 1480, 5.0)]);
    let said = view_of(&clear.tables()).recommendation;
    assert_eq!(said.lead, "Take rag.");
    for part in [
        "It has the best exact match, 75.0 % (",
        "Baseline is shown to fall short of that by more than 3.0 points.",
        "Over 12 months with 100,000 queries and 1 changed document a month it costs ",
        "finetuned would do too, for ",
        "That changes: beyond ",
        "queries a month finetuned is cheaper",
        "Every tuned variant was trained once",
    ] {
        assert!(said.rest.contains(part), "{part} is not in: {}", said.rest);
    }
    let folder = report_of(&clear);
    assert!(read(&folder, "report.md").contains("**Take rag.** It has the best exact match"));
    assert!(
        read(&folder, "tables/decision.csv").lines().any(|line| line.starts_with("rag,exact_match,0.75,best,") && line.ends_with("true"))
    );
    let only = view_of(&priced(30, &[(Rag, 20, 10.0), (VariantKind::Oracle, 30, 10.0)]).tables()).recommendation;
    assert!(only.lead.starts_with("No recommendation"), "{only:?}");
}

#[test]
fn a_slice_name_with_many_values_stays_out_of_words_and_differences() {
    let mut run = Fixture::empty();
    for index in 0..54 {
        let id = format!("q{index}");
        run.sample(&id, &[("task", ["lookup", "rule"][index % 2]), ("relation", &format!("r{}", index % 9))]);
        run.answer(Baseline, 1, &id, 0.0);
        run.answer(Rag, 1, &id, 1.0);
    }
    let tables = run.tables();
    let figures = figures_of(&tables);
    let view = view_of(&tables);
    assert!(view.headline.iter().any(|line| line.contains("task=lookup")), "{:?}", view.headline);
    assert!(!view.headline.iter().any(|line| line.contains("relation")), "{:?}", view.headline);
    let grid_with = |section: &str, slice: &str| {
        let section = view.sections.iter().find(|other| other.id == section).unwrap();
        section.tables.iter().find(|grid| grid.rows.iter().any(|row| row[0].text == slice))
    };
    assert!(grid_with("effects", "task=rule").is_some());
    assert!(grid_with("effects", "relation=r3").is_none());
    assert_eq!(grid_with("quality", "relation=r3").unwrap().place, view::Place::Folded);
    let figure = figures.iter().find(|figure| figure.name == "slices").unwrap();
    assert!(figure.caption.contains("relation") && !figure.data.iter().any(|row| row[1] == "relation=r3"), "{}", figure.caption);
    assert!(!markdown::render(&view).contains("relation=r3"));
}

#[test]
fn slices_that_are_numbers_are_drawn_as_lines_in_the_order_of_the_numbers() {
    let mut run = Fixture::empty();
    for index in 0..80 {
        let (id, seen) = (format!("q{index}"), ["1", "10", "100", "9"][index % 4]);
        run.sample(&id, &[("seen", seen), ("task", ["lookup", "rule"][index % 2])]);
        run.answer(Baseline, 1, &id, f64::from(u8::from(seen == "100")));
        run.answer(Rag, 1, &id, 1.0);
    }
    let tables = run.tables();
    let figures = figures_of(&tables);
    let find = |name: &str| figures.iter().find(|figure| figure.name == name).unwrap();
    let strata: Vec<[&str; 4]> =
        find("strata").data[1..].iter().map(|row| [&*row[0], &*row[1], &*row[2], &*row[4]]).filter(|row| row[2] == "baseline").collect();
    let expected = [("1", "0"), ("9", "0"), ("10", "0"), ("100", "1")].map(|(value, point)| ["seen", value, "baseline", point]);
    assert_eq!(strata, expected);
    assert!(!find("slices").caption.contains("Not shown"), "{}", find("slices").caption);
    let section = view_of(&tables).sections.into_iter().find(|section| section.id == "quality").unwrap();
    assert_eq!(section.figures.iter().map(|figure| figure.name).collect::<Vec<_>>(), ["slices", "strata"]);
}

#[test]
fn figures_stand_to_the_right_and_words_to_the_left() {
    let entries =
        |texts: [&str; 4]| texts.map(|text| view::Entry { text: text.into(), interval: String::new(), note: String::new() }).to_vec();
    let grid = view::Grid {
        caption: String::new(),
        header: ["variant", "score", "verdict", "why"].map(str::to_owned).to_vec(),
        rows: vec![
            entries(["rag", "not measured", "better", "because it reads the passage"]),
            entries(["hybrid", "12.5", "not measured", "–"]),
            entries(["oracle", "–", "–", ""]),
        ],
        place: view::Place::Both,
    };
    let contents = [0, 1, 2, 3].map(|index| grid.content(index));
    assert_eq!(contents, [view::Content::Words, view::Content::Figures, view::Content::Words, view::Content::Sentences]);
    let value = serde_json::to_value(&grid).unwrap();
    assert_eq!(value["columns"][2], serde_json::json!({"name": "verdict", "content": "words"}));
}

#[test]
fn what_the_run_says_against_itself_stands_before_the_results() {
    let folder = report_of(&realistic(&SQUARE, 60));
    for name in ["report.md", "report.html"] {
        let text = read(&folder, name);
        let (note, results) = (text.find("one training seed"), text.find("retrieval across, fine-tuning down"));
        assert!(note.unwrap() < results.unwrap(), "{name}");
    }
}

#[test]
fn the_best_variant_is_named_first_even_if_no_difference_is_declared_for_it() {
    let mut run = Fixture::empty();
    for index in 0..20 {
        let id = format!("q{index}");
        run.sample(&id, &[]);
        run.answer(Baseline, 1, &id, 0.0);
        run.answer(VariantKind::HybridRaft, 1, &id, 1.0);
    }
    let tables = run.tables();
    let view = view_of(&tables);
    assert!(
        view.headline[0].starts_with("Exact match in per cent over 20 questions, best first: hybrid_raft 100.0 ("),
        "{}",
        view.headline[0]
    );
}

#[test]
fn a_lower_score_names_the_other_side_as_winner() {
    let mut run = Fixture::empty();
    for index in 0..20 {
        let id = format!("q{index}");
        run.sample(&id, &[]);
        run.answer(Baseline, 1, &id, 1.0);
        run.answer(Rag, 1, &id, f64::from(index % 2));
    }
    let tables = run.tables();
    let view = view_of(&tables);
    assert!(view.headline[1].starts_with("baseline beats rag by 50.0 points"), "{}", view.headline[1]);
}

#[test]
fn no_text_of_a_figure_leaves_its_picture() {
    let tables = realistic(&VariantKind::ALL, 60).tables();
    for figure in figures_of(&tables) {
        for shape in &figure.scene.shapes {
            let plot::scene::Shape::Text { at, text, size, anchor, turned, .. } = shape else { continue };
            let width = plot::render::text_width(text, *size);
            let (before, after) = match anchor {
                plot::scene::Anchor::Start => (0.0, width),
                plot::scene::Anchor::Middle => (width / 2.0, width / 2.0),
                plot::scene::Anchor::End => (width, 0.0),
            };
            let (low, high, end) = if *turned {
                (at.1 - before, at.1 + after, figure.scene.height)
            } else {
                (at.0 - before, at.0 + after, figure.scene.width)
            };
            assert!(low >= 0.0 && high <= end, "{}: `{text}` from {low} to {high} of {end}", figure.name);
        }
    }
}

#[test]
fn the_closing_table_has_a_line_per_variant() {
    let tables = realistic(&SQUARE, 60).tables();
    let text = terminal_table(&tables, false);
    for variant in SQUARE {
        assert!(text.lines().any(|line| line.contains(&format!(" {} ", variant.name()))), "{text}");
    }
    assert!(!text.contains('\u{1b}'), "no colour unless asked for");
    assert!(terminal_table(&tables, true).contains('\u{1b}'));
}

#[test]
fn comparing_runs_says_what_makes_them_differ() {
    let first = realistic(&SQUARE, 60);
    let mut second = realistic(&SQUARE[..2], 60);
    second.manifest.hashes.insert("dataset".to_owned(), "0".repeat(64));
    let text = compare(&[first.tables(), second.tables()]);
    assert!(text.contains("different questions"), "{text}");
    assert!(text.contains("finetuned"), "{text}");
}
