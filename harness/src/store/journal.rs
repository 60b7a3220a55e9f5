//! Append-only files of JSON lines that survive a kill: a torn last line is cut off and done again.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;

/// An open journal. It is locked: a second process that opens it gets [`StoreError::Locked`].
#[derive(Debug)]
pub struct Journal<T> {
    file: File,
    path: PathBuf,
    rows: PhantomData<T>,
}

impl<T: Serialize + DeserializeOwned> Journal<T> {
    /// Opens (or starts) a journal for appending, and gives the rows it holds. A torn last line is cut off.
    ///
    /// # Errors
    /// [`StoreError::Malformed`] for a line in the middle that does not parse, [`StoreError::Locked`].
    pub fn open(path: &Path) -> Result<(Self, Vec<T>), StoreError> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(StoreError::io("open", path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked { path: path.display().to_string() }),
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", path)(error)),
        }
        let (rows, whole) = read_rows(&file, path)?;
        file.set_len(whole).map_err(StoreError::io("truncate", path))?;
        file.seek(SeekFrom::End(0)).map_err(StoreError::io("seek in", path))?;
        Ok((Self { file, path: path.to_owned(), rows: PhantomData }, rows))
    }

    /// Appends rows in one write.
    pub fn append(&mut self, rows: &[T]) -> Result<(), StoreError> {
        let mut text = Vec::new();
        for row in rows {
            serde_json::to_writer(&mut text, row).expect("rows are plain data");
            text.push(b'\n');
        }
        self.file.write_all(&text).map_err(StoreError::io("append to", &self.path))
    }
}

/// The rows of a journal that nobody writes to; a torn last line is left out, and the file is left as it is.
pub fn read_whole<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, StoreError> {
    let file = File::open(path).map_err(StoreError::io("read", path))?;
    Ok(read_rows(&file, path)?.0)
}

/// Rows of the whole lines, and how many bytes those lines take.
fn read_rows<T: DeserializeOwned>(file: &File, path: &Path) -> Result<(Vec<T>, u64), StoreError> {
    let mut reader = BufReader::new(file);
    let (mut rows, mut whole, mut line) = (Vec::new(), 0u64, Vec::new());
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line).map_err(StoreError::io("read", path))?;
        if length == 0 || line.last() != Some(&b'\n') {
            return Ok((rows, whole));
        }
        let row = serde_json::from_slice(&line).map_err(|error| StoreError::Malformed {
            path: path.display().to_string(),
            line: rows.len() + 1,
            problem: error.to_string(),
        })?;
        rows.push(row);
        whole += length as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_last_line_is_cut_and_done_again() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("j.jsonl");
        std::fs::write(&path, "1\n2\n34").unwrap();
        let (mut journal, rows) = Journal::<u32>::open(&path).unwrap();
        assert_eq!(rows, [1, 2]);
        journal.append(&[3, 4]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n2\n3\n4\n");
    }

    #[test]
    fn a_malformed_line_in_the_middle_is_an_error_with_its_number() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("j.jsonl");
        std::fs::write(&path, "1\nx\n3\n").unwrap();
        assert!(matches!(Journal::<u32>::open(&path), Err(StoreError::Malformed { line: 2, .. })));
    }

    #[test]
    fn two_writers_are_refused() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("j.jsonl");
        let (_first, _) = Journal::<u32>::open(&path).unwrap();
        assert!(matches!(Journal::<u32>::open(&path), Err(StoreError::Locked { .. })));
    }
}
