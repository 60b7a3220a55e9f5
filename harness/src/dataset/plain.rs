//! Plain documents as a corpus: text, Markdown, HTML and PDF files, from a folder and the folders below it.
//!
//! A document's id is its path from the folder. Files of other kinds are counted in a note; a file that gives no text is a problem.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use html2text::render::TrivialDecorator;

use super::Document;
use super::error::{DatasetError, Place, Problems};
use crate::fence;

/// Depth to which a folder is read.
const DEPTH: usize = 16;
/// Columns of rendered HTML: wide enough that no line of running text is broken.
const WIDTH: usize = 1 << 20;

/// What a folder holds.
pub(super) struct Plain {
    pub(super) documents: Vec<(Document, Place)>,
    pub(super) notes: Vec<String>,
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Markdown,
    Html,
    Pdf,
}

fn kind_of(path: &Path) -> Option<Kind> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "txt" | "text" => Some(Kind::Text),
        "md" | "markdown" => Some(Kind::Markdown),
        "html" | "htm" | "xhtml" => Some(Kind::Html),
        "pdf" => Some(Kind::Pdf),
        _ => None,
    }
}

/// Reads a folder, or one file.
pub(super) fn read(path: &Path, problems: &mut Problems) -> Result<Plain, DatasetError> {
    let mut found = Vec::new();
    let base = if path.is_dir() {
        list(path, DEPTH, &mut found)?;
        path
    } else if path.is_file() {
        found.push(path.to_owned());
        path.parent().unwrap_or(path)
    } else {
        return Err(DatasetError::NotFound { path: path.to_owned() });
    };
    let mut plain = Plain { documents: Vec::new(), notes: Vec::new() };
    let mut others: BTreeMap<String, usize> = BTreeMap::new();
    for path in found {
        let id = path.strip_prefix(base).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        let Some(kind) = kind_of(&path) else {
            let extension = path.extension().map_or_else(|| "no extension".into(), |found| format!(".{}", found.to_string_lossy()));
            *others.entry(extension).or_default() += 1;
            continue;
        };
        let bytes = std::fs::read(&path).map_err(|source| DatasetError::Read { path: path.clone(), source })?;
        let place = Place::file(&id);
        match document(&id, kind, &bytes) {
            Ok(document) => plain.documents.push((document, place)),
            Err((what, mend)) => problems.add(&place, what, mend),
        }
    }
    if !others.is_empty() {
        let kinds: Vec<String> = others.iter().map(|(extension, count)| format!("{count} with {extension}")).collect();
        plain.notes.push(format!("files of other kinds are left out of the corpus: {}", kinds.join(", ")));
    }
    Ok(plain)
}

/// All files below, sorted by path; hidden ones are left out.
fn list(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), DatasetError> {
    let error = |source| DatasetError::Read { path: folder.to_owned(), source };
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).map_err(error)?.map(|entry| Ok(entry.map_err(error)?.path())).collect::<Result<_, DatasetError>>()?;
    entries.sort();
    for path in entries {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden {
            continue;
        }
        if path.is_dir() {
            if depth > 1 {
                list(&path, depth - 1, found)?;
            }
        } else {
            found.push(path);
        }
    }
    Ok(())
}

type Fault = (String, &'static str);

fn document(id: &str, kind: Kind, bytes: &[u8]) -> Result<Document, Fault> {
    let (title, text) = match kind {
        Kind::Text => (None, utf8(bytes)?.to_owned()),
        Kind::Markdown => {
            let text = utf8(bytes)?;
            let heading = text.lines().find_map(|line| line.strip_prefix("# "));
            (heading.map(|heading| heading.trim().to_owned()), text.to_owned())
        }
        Kind::Html => html(bytes)?,
        Kind::Pdf => (None, pdf(bytes)?),
    };
    let text = text.trim().to_owned();
    if text.is_empty() {
        return Err(("holds no text".into(), "leave it out, or give its text (a scan has to be recognised first)"));
    }
    let stem = || Path::new(id).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Document { id: id.to_owned(), title: title.filter(|title| !title.is_empty()).unwrap_or_else(stem), text, date: None })
}

fn utf8(bytes: &[u8]) -> Result<&str, Fault> {
    let text = std::str::from_utf8(bytes).map_err(|error| (format!("is not UTF-8 (byte {})", error.valid_up_to()), "save it as UTF-8"))?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Title and text of a page: no markup, no scripts, links as their words.
fn html(bytes: &[u8]) -> Result<(Option<String>, String), Fault> {
    let page = utf8(bytes)?;
    let rendered = html2text::config::with_decorator(TrivialDecorator::new())
        .no_table_borders()
        .link_footnotes(false)
        .string_from_read(page.as_bytes(), WIDTH);
    let text = rendered.map_err(|error| (format!("cannot be read as HTML ({error})"), "mend the page, or save its text as .txt"))?;
    let lower = page.to_ascii_lowercase();
    let title = lower.find("<title").and_then(|start| {
        let from = start + lower[start..].find('>')? + 1;
        let to = from + lower[from..].find("</title")?;
        Some(page[from..to].split_whitespace().collect::<Vec<_>>().join(" "))
    });
    Ok((title, text))
}

/// The text of a PDF.
fn pdf(bytes: &[u8]) -> Result<String, Fault> {
    const MEND: &str = "mend the file, or save its text as .txt";
    match fence::fenced(|| pdf_extract::extract_text_from_mem(bytes)) {
        Some(Ok(text)) => Ok(text),
        Some(Err(error)) => Err((format!("cannot be read as PDF ({})", error.to_string().lines().next().unwrap_or_default()), MEND)),
        None => Err(("cannot be read as PDF (its parts contradict each other)".into(), MEND)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_gives_its_title_and_its_words() {
        let page = b"<html><head><title>On\n Ferries</title><style>p{}</style></head><body><h1>Ferries</h1><p>They <a href='x'>leave</a> at six.</p><script>var a;</script></body></html>";
        let document = document("a/ferries.html", Kind::Html, page).unwrap();
        assert_eq!(document.title, "On Ferries");
        assert!(document.text.contains("They leave at six.") && !document.text.contains("var a"), "{}", document.text);
    }
}
