//! The report as Markdown that pastes into a pull request: the short sections, no figures (they stand in `plots/`).

use super::view::{Entry, Grid, View};

/// Renders the report.
pub(super) fn render(view: &View) -> String {
    let mut text = format!("# {}\n\n{}\n\n", escape(&view.title), escape(&view.subtitle));
    text.push_str(&list(&view.headline));
    for section in view.sections.iter().filter(|section| section.is_short) {
        text.push_str(&format!("## {}\n\n", section.title));
        for paragraph in &section.paragraphs {
            text.push_str(&format!("{}\n\n", escape(paragraph)));
        }
        for grid in &section.tables {
            text.push_str(&table(grid));
        }
    }
    for (title, lines) in [("Caveats", &view.caveats), ("How to read this", &view.reading)] {
        if !lines.is_empty() {
            text.push_str(&format!("## {title}\n\n{}", list(lines)));
        }
    }
    text.push_str("Figures, examples and settings: `report.html`, `plots/`, `tables/`.\n");
    text
}

fn list(lines: &[String]) -> String {
    lines.iter().map(|line| format!("- {}\n", escape(line))).collect::<String>() + "\n"
}

fn table(grid: &Grid) -> String {
    let header: String = grid.header.iter().map(|name| format!("| {} ", escape(name))).collect();
    let rule: String = grid.header.iter().enumerate().map(|(index, _)| if index == 0 { "|---" } else { "|---:" }).collect();
    let line = |row: &Vec<Entry>| row.iter().map(|entry| format!("| {} ", cell(entry))).collect::<String>() + "|\n";
    let rows: String = grid.rows.iter().map(line).collect();
    format!("{}\n\n{header}|\n{rule}|\n{rows}\n", escape(&grid.caption))
}

fn cell(entry: &Entry) -> String {
    let text = escape(&entry.text);
    if entry.interval.is_empty() { text } else { format!("{text} {}", escape(&entry.interval)) }
}

/// Text that Markdown leaves as it is: no table cell, tag, emphasis or link of its own.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\r' => escaped.push(' '),
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
        assert_eq!(escape("a | b\n<i> [x](y) *z*"), "a \\| b &lt;i> \\[x\\](y) \\*z\\*");
    }
}
