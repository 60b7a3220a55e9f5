//! The run folder: its layout, the journal, the manifest, atomic replacement of files.
//!
//! ```text
//! manifest.json  samples.jsonl  passages.jsonl  journal.jsonl  training.jsonl
//! adapters/<variant>-seed<k>/  tables/  plots/  report.html  report.md  shard.json (of a shard only)
//! ```
//!
//! This module knows names and forms; it decides nothing about what is measured.

pub mod journal;
pub mod manifest;
pub mod row;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::diagnostic::Hint;

/// What can go wrong with a run folder.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A new run would overwrite something.
    #[error("output folder `{path}` is not empty")]
    NotEmpty {
        /// The folder.
        path: String,
    },
    /// There is no run to go on with or to read.
    #[error("`{path}` is not a run folder: `{missing}` is missing")]
    NotARun {
        /// The folder.
        path: String,
        /// The file that is not there.
        missing: String,
    },
    /// The manifest is there and what it is about is not.
    #[error("`{path}` holds no answers: `{missing}` is missing")]
    Incomplete {
        /// The folder.
        path: String,
        /// The file that is not there.
        missing: String,
    },
    /// Another process writes to the folder.
    #[error("another run is writing to `{path}`")]
    Locked {
        /// The folder.
        path: String,
    },
    /// A line that is not what it should be.
    #[error("`{path}` line {line} is malformed: {problem}")]
    Malformed {
        /// The file.
        path: String,
        /// From 1.
        line: usize,
        /// What the parser says.
        problem: String,
    },
    /// The system refused.
    #[error("cannot {action} `{path}`")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl Hint for StoreError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NotEmpty { .. } => Some("choose another folder with `-o`, or go on with an interrupted run by `--resume`".into()),
            Self::NotARun { .. } => Some("`ragft run SPEC -o DIR` makes one".into()),
            Self::Incomplete { .. } => Some(
                "copy the whole run folder, or make it again with `ragft run SPEC -o DIR`; tables and reports alone are not enough".into(),
            ),
            Self::Locked { .. } => Some("wait for it, or choose another folder with `-o`".into()),
            Self::Malformed { .. } => Some("the file was changed by hand or the disk failed; start the run anew in another folder".into()),
            Self::Io { .. } => None,
        }
    }
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Io { action, path, source }
    }
}

/// Paths inside a run folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder(PathBuf);

impl RunFolder {
    /// Names the folder; touches nothing.
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Makes the folder, which must be new or empty.
    ///
    /// # Errors
    /// [`StoreError::NotEmpty`].
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        Self::check_vacant(path)?;
        fs::create_dir_all(path).map_err(StoreError::io("create", path))?;
        Ok(Self(path.to_owned()))
    }

    /// Checks that a new run may use `path`, and writes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotEmpty`].
    pub fn check_vacant(path: &Path) -> Result<(), StoreError> {
        match fs::read_dir(path).map(Iterator::count) {
            Ok(0) => Ok(()),
            Ok(_) => Err(StoreError::NotEmpty { path: path.display().to_string() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(StoreError::io("open", path)(error)),
        }
    }

    /// Opens a folder that holds a run.
    ///
    /// # Errors
    /// [`StoreError::NotARun`] when it has no manifest.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let folder = Self(path.to_owned());
        if folder.manifest().is_file() {
            return Ok(folder);
        }
        Err(StoreError::NotARun { path: path.display().to_string(), missing: "manifest.json".into() })
    }

    /// The same, if the run has questions and answers.
    ///
    /// # Errors
    /// [`StoreError::NotARun`], [`StoreError::Incomplete`].
    pub fn open_with_answers(path: &Path) -> Result<Self, StoreError> {
        let folder = Self::open(path)?;
        match [folder.samples(), folder.journal()].into_iter().find(|file| !file.is_file()) {
            None => Ok(folder),
            Some(file) => {
                let missing = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                Err(StoreError::Incomplete { path: path.display().to_string(), missing })
            }
        }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// `manifest.json`.
    pub fn manifest(&self) -> PathBuf {
        self.0.join("manifest.json")
    }

    /// `samples.jsonl`: the test samples of the run.
    pub fn samples(&self) -> PathBuf {
        self.0.join("samples.jsonl")
    }

    /// `passages.jsonl`: every chunk that a journal row names.
    pub fn passages(&self) -> PathBuf {
        self.0.join("passages.jsonl")
    }

    /// `journal.jsonl`.
    pub fn journal(&self) -> PathBuf {
        self.0.join("journal.jsonl")
    }

    /// `audit.jsonl`.
    pub fn audit(&self) -> PathBuf {
        self.0.join("audit.jsonl")
    }

    /// `server.jsonl`: the queries of the server scenario.
    pub fn server(&self) -> PathBuf {
        self.0.join("server.jsonl")
    }

    /// `training.jsonl`.
    pub fn training(&self) -> PathBuf {
        self.0.join("training.jsonl")
    }

    /// `shard.json`: which questions of the whole run a shard has.
    pub fn shard(&self) -> PathBuf {
        self.0.join("shard.json")
    }

    /// Folder of one adapter.
    pub fn adapter(&self, name: &str) -> PathBuf {
        self.adapters().join(name)
    }

    /// Folder of all adapters.
    pub fn adapters(&self) -> PathBuf {
        self.0.join("adapters")
    }

    /// Reads the manifest.
    pub fn read_manifest(&self) -> Result<manifest::Manifest, StoreError> {
        let path = self.manifest();
        let text = fs::read_to_string(&path).map_err(StoreError::io("read", &path))?;
        serde_json::from_str(&text).or_else(|error| {
            earlier_manifest(&text).ok_or_else(|| StoreError::Malformed {
                path: path.display().to_string(),
                line: error.line(),
                problem: error.to_string(),
            })
        })
    }

    /// Replaces the manifest.
    pub fn write_manifest(&self, manifest: &manifest::Manifest) -> Result<(), StoreError> {
        let mut text = serde_json::to_string_pretty(manifest).expect("a manifest is plain data");
        text.push('\n');
        write_atomic(&self.manifest(), text.as_bytes())
    }
}

/// A manifest whose spec was recorded before some of its keys were there: they are read with their defaults.
fn earlier_manifest(text: &str) -> Option<manifest::Manifest> {
    let mut whole: serde_json::Value = serde_json::from_str(text).ok()?;
    let spec = whole.get_mut("spec")?;
    *spec = crate::spec::with_defaults(spec.take());
    serde_json::from_value(whole).ok()
}

/// Replaces a file whole: a reader sees the old bytes or the new ones, whatever happens in between.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    write_atomic_by(path, |mut file| file.write_all(bytes).map_err(StoreError::io("write", path)))
}

/// The same for what is not in memory at once: `write` is given the new file.
pub fn write_atomic_by<E: From<StoreError>>(path: &Path, write: impl FnOnce(&fs::File) -> Result<(), E>) -> Result<(), E> {
    let folder = path.parent().expect("a file stands in a folder");
    fs::create_dir_all(folder).map_err(StoreError::io("create", folder))?;
    let file = new_file_in(folder).map_err(StoreError::io("write", path))?;
    write(file.as_file())?;
    file.as_file().sync_all().map_err(StoreError::io("write", path))?;
    file.persist(path).map_err(|error| StoreError::io("replace", path)(error.error))?;
    Ok(())
}

/// A temporary file that others may read once it has its name (temporary files are private otherwise).
#[cfg(unix)]
fn new_file_in(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    use std::os::unix::fs::PermissionsExt as _;
    tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o666)).tempfile_in(folder)
}

#[cfg(not(unix))]
fn new_file_in(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::NamedTempFile::new_in(folder)
}

/// Writes rows as JSON lines, replacing the file whole.
pub fn write_jsonl<T: Serialize>(path: &Path, rows: &[T]) -> Result<(), StoreError> {
    let mut text = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut text, row).expect("rows are plain data");
        text.push(b'\n');
    }
    write_atomic(path, &text)
}

/// Reads a file of JSON lines that was written whole; empty when it is not there.
pub fn read_jsonl<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, StoreError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::io("read", path)(error)),
    };
    let parse = |(index, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| StoreError::Malformed {
            path: path.display().to_string(),
            line: index + 1,
            problem: error.to_string(),
        })
    };
    text.lines().enumerate().filter(|(_, line)| !line.is_empty()).map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_anything_in_it_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("run");
        RunFolder::create(&path).unwrap();
        RunFolder::create(&path).unwrap();
        fs::write(path.join("note.txt"), "mine").unwrap();
        assert!(matches!(RunFolder::create(&path), Err(StoreError::NotEmpty { .. })));
        assert!(matches!(RunFolder::open(&path), Err(StoreError::NotARun { .. })));
    }

    #[test]
    fn atomic_writing_replaces_whole_files() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("deep/file.txt");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
