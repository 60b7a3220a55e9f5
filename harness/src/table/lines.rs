//! Files of JSON lines that may be too large to hold: read once from end to end, and after that line by line from where each begins.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::TableError;
use crate::store::StoreError;

/// Bytes that are read at a time where the next line follows the last one, and where it does not.
const AHEAD: usize = 1 << 16;
const ONE: usize = 1 << 12;

/// An open file of JSON lines. It stays the same file when another one takes its name.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    file: Arc<File>,
    path: PathBuf,
}

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self, TableError> {
        let file = File::open(path).map_err(StoreError::io("read", path))?;
        Ok(Self { file: Arc::new(file), path: path.to_owned() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Calls `each` with the number (from 1), place and value of every line. A last line without a line end that does not parse was torn by
    /// an interruption: it is left out, with a note.
    pub(super) fn for_each<T: DeserializeOwned>(
        &self,
        notes: &mut Vec<String>,
        mut each: impl FnMut(usize, u64, T) -> Result<(), TableError>,
    ) -> Result<(), TableError> {
        let mut reader = BufReader::with_capacity(AHEAD, &*self.file);
        reader.rewind().map_err(StoreError::io("read", &self.path))?;
        let (mut bytes, mut place) = (Vec::new(), 0);
        for line in 1.. {
            bytes.clear();
            let length = reader.read_until(b'\n', &mut bytes).map_err(|error| StoreError::io("read", &self.path)(error))?;
            if length == 0 {
                break;
            }
            let begins = place;
            place += length as u64;
            if bytes.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            match serde_json::from_slice(&bytes) {
                Ok(value) => each(line, begins, value)?,
                Err(_) if bytes.last() != Some(&b'\n') => {
                    let name = self.path.file_name().unwrap_or_default().to_string_lossy();
                    notes.push(format!("the last line of `{name}` was torn by an interruption and is left out"));
                }
                Err(source) => return Err(TableError::Line { path: self.path.clone(), line, source }),
            }
        }
        Ok(())
    }

    /// Reads lines by their places.
    pub(super) fn reader(&self) -> LineReader {
        LineReader { lines: self.clone(), buffer: Vec::new(), start: 0, next: 0 }
    }
}

/// Reads lines of one file by their places, in any order; in the order of the file it is fastest.
#[derive(Debug)]
pub(super) struct LineReader {
    lines: Lines,
    buffer: Vec<u8>,
    /// Place of the buffer's first byte.
    start: u64,
    /// Place after the last line that was read.
    next: u64,
}

impl LineReader {
    /// The value of the line that begins at `place`.
    pub(super) fn read<T: DeserializeOwned>(&mut self, place: u64) -> Result<T, TableError> {
        match self.line(place).map(|line| serde_json::from_slice(line).ok()) {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(TableError::Changed { path: self.lines.path.clone() }),
            Err(error) => Err(StoreError::io("read", &self.lines.path)(error).into()),
        }
    }

    fn line(&mut self, place: u64) -> io::Result<&[u8]> {
        let held = self.start..self.start + self.buffer.len() as u64;
        if !held.contains(&place) {
            self.buffer.clear();
            self.start = place;
        }
        let mut step = if place == self.next { AHEAD } else { ONE };
        let (mut begin, mut searched) = ((place - self.start) as usize, (place - self.start) as usize);
        loop {
            if let Some(length) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let end = searched + length;
                self.next = self.start + end as u64 + 1;
                return Ok(&self.buffer[begin..end]);
            }
            self.buffer.drain(..begin);
            (self.start, begin, searched) = (place, 0, self.buffer.len());
            self.buffer.resize(searched + step, 0);
            let read = read_at(&self.lines.file, &mut self.buffer[searched..], place + searched as u64);
            let length = match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.buffer.truncate(searched);
                    continue;
                }
                read => read?,
            };
            self.buffer.truncate(searched + length);
            if length == 0 {
                self.next = place + searched as u64;
                return Ok(&self.buffer);
            }
            step = AHEAD;
        }
    }
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], place: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, place)
}

#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], place: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of texts of very different lengths, without a line end after the last.
    fn written(folder: &Path) -> (PathBuf, Vec<String>) {
        let texts: Vec<String> = (0..400).map(|index| "é".repeat(index * index % 9001)).collect();
        let lines: Vec<String> = texts.iter().map(|text| format!("\"{text}\"")).collect();
        let path = folder.join("lines.jsonl");
        std::fs::write(&path, lines.join("\n")).unwrap();
        (path, texts)
    }

    #[test]
    fn lines_are_read_by_place_in_any_order() {
        let folder = tempfile::tempdir().unwrap();
        let (path, texts) = written(folder.path());
        let lines = Lines::open(&path).unwrap();
        let mut places = Vec::new();
        let collect = |_, place, _: String| {
            places.push(place);
            Ok(())
        };
        lines.for_each(&mut Vec::new(), collect).unwrap();
        let mut reader = lines.reader();
        let forward = 0..texts.len();
        let jumping = (0..texts.len()).map(|index| index * 157 % texts.len());
        for index in forward.clone().chain(forward.rev()).chain(jumping) {
            assert_eq!(reader.read::<String>(places[index]).unwrap(), texts[index], "{index}");
        }
    }

    #[test]
    fn a_file_that_was_cut_meanwhile_is_said_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let (path, texts) = written(folder.path());
        let lines = Lines::open(&path).unwrap();
        let mut last = 0;
        let keep = |_, place, _: String| {
            last = place;
            Ok(())
        };
        lines.for_each(&mut Vec::new(), keep).unwrap();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(last + 1).unwrap();
        assert!(texts.last().is_some_and(|text| text.len() > 1));
        assert!(matches!(lines.reader().read::<String>(last), Err(TableError::Changed { .. })));
    }
}
