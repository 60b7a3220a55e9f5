//! Writes a dataset as a native folder.

use std::fs;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use serde::Serialize;

use super::error::DatasetError;
use super::native::{DOCUMENTS, INFO, file_of};
use super::{Dataset, Split};

/// Writes `dataset` to the new folder `dir`: into a hidden folder beside it first, renamed when all is there.
pub fn write_native(dataset: &Dataset, dir: &Path) -> Result<(), DatasetError> {
    if dir.exists() {
        return Err(DatasetError::Exists { path: dir.to_owned() });
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    write_all(dataset, parent, dir).map_err(|source| DatasetError::Write { path: dir.to_owned(), source })
}

fn write_all(dataset: &Dataset, parent: &Path, dir: &Path) -> io::Result<()> {
    fs::create_dir_all(parent)?;
    let staging = tempfile::Builder::new().prefix(".ragft-dataset-").tempdir_in(parent)?;
    // A fresh folder below it: the staging folder itself is private to the user, which the result should not be.
    let folder = staging.path().join("dataset");
    fs::create_dir(&folder)?;
    fs::write(folder.join(INFO), toml::to_string(&dataset.info).map_err(io::Error::other)?)?;
    if !dataset.info.closed_book {
        write_lines(&folder.join(DOCUMENTS), &dataset.documents)?;
    }
    for (split, samples) in dataset.splits() {
        if split == Split::Test || !samples.is_empty() {
            write_lines(&folder.join(file_of(split)), samples)?;
        }
    }
    fs::rename(folder, dir)
}

fn write_lines<T: Serialize>(path: &Path, items: &[T]) -> io::Result<()> {
    let mut file = BufWriter::new(fs::File::create(path)?);
    for item in items {
        serde_json::to_writer(&mut file, item)?;
        file.write_all(b"\n")?;
    }
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}
