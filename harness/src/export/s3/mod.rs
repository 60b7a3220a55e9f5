//! A run's tables in a bucket of an S3-compatible store (AWS, MinIO, R2): every table as Parquet, and the manifest.
//!
//! The manifest is put last and taken away first, so where it stands, everything beside it is whole and of one export. Requests are signed here
//! ([`sign`]) and sent by the client that the program has anyway: Polars' own cloud writer would bring a second one, with its runtime.

mod access;
mod client;
mod place;
mod sign;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::source::Source;
use super::{ExportError, Exported, hexadecimal};
use crate::diagnostic::{Blame, Hint};
use crate::store::{RunFolder, StoreError};
use crate::table;

pub use access::Access;
pub use place::Place;

use client::{Client, Refusal};

/// What a store takes in one request.
const LARGEST: u64 = 5 << 30;
const MANIFEST: &str = "manifest.json";

/// Why a bucket did not get the tables.
#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    /// It is no address of a bucket.
    #[error("`{text}` {problem}")]
    Address {
        /// As typed.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The environment lacks what opens a store, or what it holds cannot be used.
    #[error("the environment variable `{variable}` {problem}")]
    Environment {
        /// Its name.
        variable: &'static str,
        /// What is wrong with it; never what is in it.
        problem: &'static str,
    },
    /// Another run stands there.
    #[error("`{place}` holds {what} already")]
    Occupied {
        /// Where.
        place: String,
        /// What.
        what: String,
    },
    /// The run folder has no tables.
    #[error("`{path}` is missing")]
    Missing {
        /// The table.
        path: String,
    },
    /// It does not go in one request.
    #[error("`{path}` has {bytes} bytes, and a store takes at most {LARGEST} at once")]
    TooLarge {
        /// The table.
        path: String,
        /// Its size.
        bytes: u64,
    },
    /// The store refuses.
    #[error("bucket `{bucket}` at {host} did not {action}: {refusal}")]
    Refused {
        /// The bucket.
        bucket: String,
        /// Host and port that were asked.
        host: String,
        /// What was asked.
        action: String,
        /// What it says.
        refusal: Box<Refusal>,
    },
    /// It was tried as often as allowed.
    #[error("bucket `{bucket}` at {host} did not {action} in {attempts} attempts: {problem}")]
    Gone {
        /// The bucket.
        bucket: String,
        /// Host and port that were asked.
        host: String,
        /// What was asked.
        action: String,
        /// Requests made.
        attempts: u32,
        /// What the last one met.
        problem: String,
    },
}

impl S3Error {
    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Refused { .. } | Self::Gone { .. } => Blame::Runtime,
            _ => Blame::Request,
        }
    }
}

impl Hint for S3Error {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Address { .. } => "name a bucket and a folder in it: `-o s3://BUCKET/PREFIX`",
            Self::Environment { variable: "AWS_ENDPOINT_URL" | "AWS_ENDPOINT_URL_S3", .. } => "write it as `https://HOST:PORT`",
            Self::Environment { variable: "AWS_MAX_ATTEMPTS", .. } => "set a whole number from 1, or nothing",
            Self::Environment { .. } => {
                "set `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` (and `AWS_SESSION_TOKEN` where the store gave one); \
                 `eval \"$(aws configure export-credentials --format env)\"` takes them from a profile"
            }
            Self::Occupied { .. } => "give every run a prefix of its own, or delete what is there",
            Self::Missing { .. } => "`ragft report RUN` makes the tables",
            Self::TooLarge { .. } => "copy this run's folder with the store's own tool, which sends large files in parts",
            Self::Refused { bucket, refusal, .. } => return Some(refusal.mend(bucket)),
            Self::Gone { .. } => {
                "see that `AWS_ENDPOINT_URL` and `AWS_REGION` are those of the store; the same command again sends everything"
            }
        };
        Some(hint.to_owned())
    }
}

/// Puts a run's tables and its manifest at a place, which holds nothing or this run. The files of the result are their addresses.
///
/// # Errors
/// [`ExportError::S3`]. What was put before a failure stays, without a manifest.
pub fn send(source: &Source, place: &Place, access: &Access) -> Result<Exported, ExportError> {
    let tables = tables(&source.folder)?;
    let client = Client::new(place, access);
    let mut exported = Exported::default();
    match client.get(MANIFEST) {
        Ok(there) => {
            let there = serde_json::from_slice(&there).unwrap_or(Value::Null);
            check_same_run(source, &there, place)?;
            exported.notes.extend(client.delete(MANIFEST).err().map(unremoved).transpose()?);
        }
        Err(S3Error::Refused { refusal, .. }) if refusal.code == "NoSuchKey" => {}
        // A store does not say what is not there to those who may not list or read.
        Err(S3Error::Refused { refusal, .. }) if refusal.code == "AccessDenied" => {
            exported.notes.push("what stood there before could not be read with these credentials".to_owned());
        }
        Err(error) => return Err(error.into()),
    }
    for upload in &tables {
        exported.files.push(PathBuf::from(client.put(&upload.key, &upload.path, &upload.sha256, "application/vnd.apache.parquet")?));
    }
    let manifest = RunFolder::at(&source.folder).manifest();
    let sha256 = hash(&manifest)?.0;
    exported.files.push(PathBuf::from(client.put(MANIFEST, &manifest, &sha256, "application/json")?));
    Ok(exported)
}

/// The manifest of an earlier export could not be taken away: worth a note where that is not allowed, an error otherwise.
fn unremoved(error: S3Error) -> Result<String, S3Error> {
    match error {
        S3Error::Refused { refusal, .. } if refusal.status == 403 => {
            Ok("the manifest of the earlier export stood there until it was replaced: these credentials may not delete".to_owned())
        }
        error => Err(error),
    }
}

fn check_same_run(source: &Source, there: &Value, place: &Place) -> Result<(), S3Error> {
    let ours = source.manifest();
    let is_same = there["run_id"] == ours.run_id.as_str() && there["result_hash"].as_str() == ours.result_hash.as_deref();
    if is_same {
        return Ok(());
    }
    let what = there["run_id"].as_str().map_or_else(|| format!("another `{MANIFEST}`"), |run| format!("the run `{run}`"));
    Err(S3Error::Occupied { place: place.to_string(), what })
}

/// A table to be put.
struct Upload {
    key: String,
    path: PathBuf,
    sha256: String,
    bytes: u64,
}

/// The Parquet tables of a run folder, the smallest first: what refuses them refuses the first, before much was sent.
fn tables(run: &Path) -> Result<Vec<Upload>, ExportError> {
    let folder = run.join(table::FOLDER);
    let missing = |name: &&&str| !folder.join(name).with_extension("parquet").is_file();
    if let Some(name) = table::ALWAYS.iter().find(missing) {
        return Err(S3Error::Missing { path: folder.join(name).with_extension("parquet").display().to_string() }.into());
    }
    let entries = std::fs::read_dir(&folder).map_err(StoreError::io("read", &folder))?;
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.map_err(StoreError::io("read", &folder))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "parquet"));
    let upload = |path: PathBuf| {
        let (sha256, bytes) = hash(&path)?;
        if bytes > LARGEST {
            return Err(S3Error::TooLarge { path: path.display().to_string(), bytes }.into());
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok(Upload { key: format!("{}/{name}", table::FOLDER), sha256, bytes, path })
    };
    let mut uploads = paths.into_iter().map(upload).collect::<Result<Vec<_>, ExportError>>()?;
    uploads.sort_by(|left, right| (left.bytes, &left.key).cmp(&(right.bytes, &right.key)));
    Ok(uploads)
}

/// SHA-256 in hexadecimal, and size in bytes, of a file that need not fit in memory.
fn hash(path: &Path) -> Result<(String, u64), ExportError> {
    let mut file = File::open(path).map_err(StoreError::io("read", path))?;
    let (mut hasher, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 16]);
    loop {
        let read = file.read(&mut buffer).map_err(StoreError::io("read", path))?;
        if read == 0 {
            return Ok((hexadecimal(&hasher.finalize()), bytes));
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::VariantKind;
    use crate::table::testing::realistic;

    fn source(temp: &Path) -> Source {
        let run = temp.join("run");
        realistic(&[VariantKind::Baseline, VariantKind::Rag], 10).write(&run);
        Source::read(&run).unwrap()
    }

    #[test]
    fn a_run_without_tables_is_refused_before_anything_is_sent() {
        let temp = tempfile::tempdir().unwrap();
        let source = source(temp.path());
        let place = Place::new("s3://bucket/runs", &Access::for_tests("http://127.0.0.1:9")).unwrap();
        let error = send(&source, &place, &Access::for_tests("http://127.0.0.1:9")).unwrap_err();
        assert!(error.to_string().contains("tables/predictions.parquet` is missing"), "{error}");
        assert!(error.hint().unwrap().contains("ragft report"));
    }

    #[test]
    fn tables_are_those_of_the_report_the_smallest_first() {
        let temp = tempfile::tempdir().unwrap();
        let source = source(temp.path());
        crate::report::write_report(&source.folder).unwrap();
        let found = tables(&source.folder).unwrap();
        assert!(found.is_sorted_by_key(|upload| upload.bytes));
        let names: std::collections::BTreeSet<&str> = found.iter().map(|upload| upload.key.as_str()).collect();
        for name in table::ALWAYS {
            assert!(names.contains(format!("tables/{name}.parquet").as_str()), "{name} is not in {names:?}");
        }
        let bytes = std::fs::read(&found[0].path).unwrap();
        assert_eq!((found[0].bytes, &found[0].sha256), (bytes.len() as u64, &hexadecimal(&Sha256::digest(&bytes))));
    }

    #[test]
    fn another_run_is_not_mixed_with_this_one() {
        let temp = tempfile::tempdir().unwrap();
        let source = source(temp.path());
        let place = Place::new("s3://bucket/runs", &Access::for_tests("http://127.0.0.1:9")).unwrap();
        let mut there = serde_json::to_value(source.manifest()).unwrap();
        check_same_run(&source, &there, &place).unwrap();
        there["result_hash"] = "another".into();
        let error = check_same_run(&source, &there, &place).unwrap_err();
        assert_eq!(error.to_string(), format!("`s3://bucket/runs` holds the run `{}` already", source.manifest().run_id));
        let error = check_same_run(&source, &Value::Null, &place).unwrap_err();
        assert_eq!(error.to_string(), "`s3://bucket/runs` holds another `manifest.json` already");
        assert_eq!(error.blame(), Blame::Request);
    }
}
