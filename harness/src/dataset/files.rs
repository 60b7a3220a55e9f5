//! The files of a dataset, on disk or embedded in the program: readers see names and text only.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::{DatasetError, Place, Problems};

/// Depth to which a folder is listed: a configuration's folder with a folder per split is the deepest any format goes.
const DEPTH: usize = 3;

#[derive(Debug, Clone)]
enum Entry {
    Path(PathBuf),
    Bytes(&'static [u8]),
}

/// Named files. Names are relative to the dataset's folder with `/` between parts, or as written in the spec for single files.
#[derive(Debug, Clone)]
pub struct Files {
    label: String,
    /// Set when the dataset is one file, with others beside it.
    main: Option<String>,
    entries: BTreeMap<String, Entry>,
}

impl Files {
    /// A folder on disk.
    pub fn folder(path: &Path) -> Result<Self, DatasetError> {
        let mut entries = BTreeMap::new();
        list(path, "", DEPTH, &mut entries)?;
        Ok(Self { label: path.display().to_string(), main: None, entries })
    }

    /// A folder embedded in the program: pairs of a relative name and the content.
    pub fn embedded(label: &str, files: &[(&str, &'static [u8])]) -> Self {
        let entries = files.iter().map(|(name, bytes)| ((*name).to_owned(), Entry::Bytes(bytes))).collect();
        Self { label: label.to_owned(), main: None, entries }
    }

    /// One file on disk.
    pub fn single(path: &Path) -> Self {
        let name = path.display().to_string();
        Self { label: name.clone(), entries: BTreeMap::from([(name.clone(), Entry::Path(path.to_owned()))]), main: Some(name) }
    }

    /// Puts a file from elsewhere beside the others and gives the name it can be read by.
    pub fn beside(&mut self, path: &Path) -> String {
        let name = path.display().to_string();
        self.entries.insert(name.clone(), Entry::Path(path.to_owned()));
        name
    }

    /// The path or name of the whole.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The last part of the label, without an extension if it is a file.
    pub fn short_name(&self) -> String {
        let path = Path::new(&self.label);
        let part = if self.main.is_some() { path.file_stem() } else { path.file_name() };
        part.map_or_else(|| self.label.clone(), |part| part.to_string_lossy().into_owned())
    }

    /// The one file, if this is not a folder.
    pub fn main(&self) -> Option<&str> {
        self.main.as_deref()
    }

    /// Whether there is such a file.
    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The bytes of a file.
    pub(super) fn bytes(&self, name: &str) -> Result<Cow<'static, [u8]>, DatasetError> {
        match self.entries.get(name) {
            None => Err(DatasetError::NotFound { path: name.into() }),
            Some(Entry::Bytes(bytes)) => Ok(Cow::Borrowed(bytes)),
            Some(Entry::Path(path)) => Ok(std::fs::read(path).map_err(|source| read_error(path, source))?.into()),
        }
    }

    /// The text of a file without a byte order mark; a file that is not UTF-8 is a problem and gives nothing.
    pub(super) fn text(&self, name: &str, problems: &mut Problems) -> Result<Option<String>, DatasetError> {
        let bytes = self.bytes(name)?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(Some(text.strip_prefix('\u{feff}').unwrap_or(text).to_owned())),
            Err(error) => {
                let what = format!("is not UTF-8 (byte {})", error.valid_up_to());
                problems.add(&Place::file(name), what, "save it as UTF-8");
                Ok(None)
            }
        }
    }
}

fn read_error(path: &Path, source: std::io::Error) -> DatasetError {
    if source.kind() == std::io::ErrorKind::NotFound {
        return DatasetError::NotFound { path: path.to_owned() };
    }
    DatasetError::Read { path: path.to_owned(), source }
}

fn list(folder: &Path, prefix: &str, depth: usize, entries: &mut BTreeMap<String, Entry>) -> Result<(), DatasetError> {
    for entry in std::fs::read_dir(folder).map_err(|source| read_error(folder, source))? {
        let path = entry.map_err(|source| read_error(folder, source))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let name = format!("{prefix}{name}");
        if path.is_dir() {
            if depth > 1 {
                list(&path, &format!("{name}/"), depth - 1, entries)?;
            }
        } else {
            entries.insert(name, Entry::Path(path));
        }
    }
    Ok(())
}
