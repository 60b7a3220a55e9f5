//! `ragft show`: most surprises in a score are one prompt away from being obvious.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::args::{Global, ShowArgs};
use super::failure::Failure;
use super::print;
use crate::dataset::Sample;
use crate::diagnostic::{Blame, nearest};
use crate::retrieval::Chunk;
use crate::store::row::{JournalRow, Phase};
use crate::store::{RunFolder, read_jsonl};
use crate::variant::prompt::{Passage, PromptTemplate};

/// Prints one question with everything that became of it.
pub fn run(args: &ShowArgs, global: &Global) -> Result<(), Failure> {
    let folder = RunFolder::open_with_answers(&args.run)?;
    let samples: Vec<Sample> = read_jsonl(&folder.samples())?;
    let Some(id) = &args.sample else {
        print(&if global.json { format!("{:#}\n", listed(&samples)) } else { list(&samples) });
        return Ok(());
    };
    let Some(sample) = samples.iter().find(|sample| &sample.id == id) else {
        let hint = nearest(id, samples.iter().map(|sample| sample.id.as_str())).map(|near| format!("did you mean `{near}`?"));
        let hint = hint.unwrap_or_else(|| "`ragft show RUN` lists the ids".into());
        return Err(Failure::message(Blame::Request, &format!("the run has no question `{id}`"), Some(&hint)));
    };
    let rows: Vec<JournalRow> = read_jsonl(&folder.journal())?;
    let rows: Vec<&JournalRow> = rows.iter().filter(|row| row.phase == Phase::Accuracy && &row.sample_id == id).collect();
    let chunks: Vec<Chunk> = read_jsonl(&folder.passages())?;
    let chunks: BTreeMap<&str, &Chunk> = chunks.iter().map(|chunk| (chunk.id.as_str(), chunk)).collect();
    let spec = folder.read_manifest()?.spec.prompt;
    let prompts = if args.prompts { Some(prompts(&spec.template, sample, &rows, &chunks)?) } else { None };
    if global.json {
        let mut value = json!({ "sample": sample, "rows": rows });
        if let Some(prompts) = prompts {
            value["prompts"] = prompts.into();
        }
        print(&format!("{value:#}\n"));
        return Ok(());
    }
    let what = if spec.chat == "none" { "prompt" } else { "prompt (the user's turn of the chat template)" };
    let mut text = head(sample);
    for (index, row) in rows.into_iter().enumerate() {
        text.push_str(&answer(row, &chunks));
        if let Some(prompts) = &prompts {
            let _ = writeln!(text, "  {what}:\n{}", indent(&prompts[index]));
        }
    }
    print(&text);
    Ok(())
}

fn list(samples: &[Sample]) -> String {
    samples.iter().map(|sample| format!("{}\t{}\n", sample.id, sample.question)).collect()
}

fn listed(samples: &[Sample]) -> Value {
    samples.iter().map(|sample| json!({ "id": sample.id, "question": sample.question })).collect()
}

/// The prompt of each row.
fn prompts(template: &str, sample: &Sample, rows: &[&JournalRow], chunks: &BTreeMap<&str, &Chunk>) -> Result<Vec<String>, Failure> {
    let template = PromptTemplate::new(template).map_err(|error| Failure::request(&error))?;
    let prompt = |row: &&JournalRow| {
        let shown = row.hits.iter().filter(|hit| hit.in_prompt);
        let passages: Vec<Passage> = shown.filter_map(|hit| chunks.get(hit.chunk_id.as_str())).map(|chunk| passage(chunk)).collect();
        template.render(&sample.question, &passages).map_err(|error| Failure::request(&error))
    };
    rows.iter().map(prompt).collect()
}

fn passage(chunk: &Chunk) -> Passage<'_> {
    Passage { title: &chunk.title, text: &chunk.text }
}

fn head(sample: &Sample) -> String {
    let mut text = format!("{}\n  question    {}\n", sample.id, sample.question);
    let _ = writeln!(text, "  references  {}", if sample.answerable { sample.references.join(" | ") } else { "(no answer)".into() });
    if !sample.relevant.is_empty() {
        let _ = writeln!(text, "  relevant    {}", sample.relevant.join(", "));
    }
    for (name, value) in &sample.slices {
        let _ = writeln!(text, "  {name:<11} {value}");
    }
    text
}

fn answer(row: &JournalRow, chunks: &BTreeMap<&str, &Chunk>) -> String {
    let mut text = format!("\n{} (seed {})\n", row.variant, row.seed);
    match &row.error {
        Some(error) => {
            let _ = writeln!(text, "  failed: {error}");
        }
        None => {
            let _ = writeln!(
                text,
                "  answer: {:?} ({}, {} prompt and {} new tokens)",
                row.answer, row.finish_reason, row.prompt_tokens, row.completion_tokens
            );
        }
    }
    let scores: Vec<String> = row.scores.iter().map(|(name, score)| format!("{name} {score:.3}")).collect();
    if !scores.is_empty() {
        let _ = writeln!(text, "  scores: {}", scores.join(", "));
    }
    for hit in &row.hits {
        let notes = [(!hit.in_prompt).then_some("not in the prompt"), (hit.in_exact == Some(false)).then_some("not among the exact")];
        let notes: Vec<&str> = notes.into_iter().flatten().collect();
        let notes = if notes.is_empty() { String::new() } else { format!(" [{}]", notes.join(", ")) };
        let content = chunks.get(hit.chunk_id.as_str()).map_or_else(String::new, |chunk| chunk.text.replace('\n', " "));
        let _ = writeln!(text, "  {}. {} {:.3}{notes} {content}", hit.rank, hit.chunk_id, hit.score);
    }
    text
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("    | {line}")).collect::<Vec<_>>().join("\n")
}
