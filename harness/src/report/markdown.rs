//! The report as Markdown that pastes into a pull request: the short sections, no figures (they stand in `plots/`).

use super::view::{Content, Entry, Grid, Place, View};

/// Renders the report.
pub(super) fn render(view: &View) -> String {
    let mut text = format!("# {}\n\n{}\n\n", escape(&view.title), escape(&view.subtitle));
    text.push_str(&format!("**{}** {}\n\n", escape(&view.recommendation.lead), escape(&view.recommendation.rest)));
    text.push_str(&list(&view.headline));
    if !view.notes.is_empty() {
        text.push_str(&format!("Mind:\n\n{}", list(&view.notes)));
    }
    for section in view.sections.iter().filter(|section| section.is_short) {
        text.push_str(&format!("## {}\n\n", section.title));
        for paragraph in &section.paragraphs {
            text.push_str(&format!("{}\n\n", escape(paragraph)));
        }
        for grid in section.tables.iter().filter(|grid| grid.place == Place::Both) {
            text.push_str(&table(grid));
        }
    }
    if !view.caveats.is_empty() {
        text.push_str(&format!("## Caveats\n\n{}", list(&view.caveats)));
    }
    text.push_str(&format!("<details><summary>How to read this</summary>\n\n{}</details>\n\n", list(&view.reading)));
    text.push_str("Figures, questions one by one and settings: `report.html`, `plots/`, `tables/`.\n");
    text
}

fn list(lines: &[String]) -> String {
    lines.iter().map(|line| format!("- {}\n", escape(line))).collect::<String>() + "\n"
}

fn table(grid: &Grid) -> String {
    let header: String = grid.header.iter().map(|name| format!("| {} ", escape(name))).collect();
    let rule: String = (0..grid.header.len()).map(|index| if grid.content(index) == Content::Figures { "|---:" } else { "|---" }).collect();
    let line = |row: &Vec<Entry>| row.iter().map(|entry| format!("| {} ", cell(entry))).collect::<String>() + "|\n";
    let rows: String = grid.rows.iter().map(line).collect();
    format!("{}\n\n{header}|\n{rule}|\n{rows}\n", escape(&grid.caption))
}

fn cell(entry: &Entry) -> String {
    let interval = if entry.interval.is_empty() { String::new() } else { format!(" {}", escape(&entry.interval)) };
    let note = if entry.note.is_empty() { String::new() } else { format!(", {}", escape(&entry.note)) };
    format!("{}{interval}{note}", escape(&entry.text))
}

/// Text that Markdown leaves as it is: no table cell, tag, emphasis or link of its own. Between single backticks that pair up, Markdown
/// itself leaves all but table bars as they are.
fn escape(text: &str) -> String {
    let has_code = !text.contains("``") && text.matches('`').count().is_multiple_of(2);
    let mut is_code = false;
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        is_code ^= has_code && letter == '`';
        match letter {
            '\n' | '\r' => escaped.push(' '),
            '<' | '*' | '[' | ']' | '\\' if is_code => escaped.push(letter),
            '<' => escaped.push_str("&lt;"),
            '|' | '*' | '[' | ']' | '\\' => escaped.extend(['\\', letter]),
            _ => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_tags_and_line_ends_stay_text() {
        assert_eq!(escape("set `seeds = [1]` or [2]"), "set `seeds = [1]` or \\[2\\]");
        assert_eq!(escape("one ` and <b>"), "one ` and &lt;b>");
        assert_eq!(escape("a | b\n<i> [x](y) *z*"), "a \\| b &lt;i> \\[x\\](y) \\*z\\*");
    }
}
