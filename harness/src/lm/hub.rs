//! Models by their name on the Hugging Face hub: `hub:owner/name`, `hub:owner/name@revision`, `hub:owner/name/file.gguf`.
//!
//! Files go into the cache that Python's tools share, and are found there again. This is the only file of `lm` that opens a connection, and it
//! does so only where the spec names a model on the hub and the cache does not hold it whole at the commit that is asked for.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};
use serde::Deserialize;

use super::ModelError;

/// What a name on the hub begins with.
pub const PREFIX: &str = "hub:";

/// Files beside the weights, as far as a repository has them.
const SMALL_FILES: [&str; 6] =
    ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"];
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A name, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubName {
    /// As written, for errors.
    text: String,
    /// `owner/name`.
    repository: String,
    /// One file of it, or all that make a model.
    file: Option<String>,
    /// Branch, tag or commit.
    revision: String,
}

/// Where files are kept and fetched from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubSettings {
    cache: PathBuf,
    offline: bool,
    endpoint: String,
    token: Option<String>,
}

/// A model in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Folder of the model, or the one file.
    pub path: PathBuf,
    /// The commit that the revision stood for: 40 hexadecimal digits.
    pub commit: String,
}

impl HubName {
    /// Takes a name apart; nothing, if the text is not one.
    pub fn parse(text: &str) -> Option<Result<Self, ModelError>> {
        let name = text.strip_prefix(PREFIX)?;
        let (path, revision) = name.split_once('@').unwrap_or((name, "main"));
        let parts: Vec<&str> = path.split('/').collect();
        let plain = |part: &&str| !part.is_empty() && *part != "." && *part != ".." && !part.contains(['\\', ':']);
        if parts.len() < 2 || !parts.iter().all(plain) || revision.is_empty() || !revision.split('/').all(|part| plain(&part)) {
            return Some(Err(ModelError::Hub { name: text.into(), problem: "is not the name of a repository and a revision".into() }));
        }
        let file = (parts.len() > 2).then(|| parts[2..].join("/"));
        Some(Ok(Self { text: text.into(), repository: parts[..2].join("/"), file, revision: revision.into() }))
    }

    fn problem(&self, problem: String) -> ModelError {
        ModelError::Hub { name: self.text.clone(), problem }
    }

    fn repo(&self, revision: &str) -> Repo {
        Repo::with_revision(self.repository.clone(), RepoType::Model, revision.to_owned())
    }
}

impl HubSettings {
    /// From the environment, as Python's tools read it: `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, `HF_HUB_OFFLINE`,
    /// `TRANSFORMERS_OFFLINE`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_ENDPOINT`.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let yes = |name: &str| set(name).is_some_and(|value| matches!(value.to_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE"));
        let user_cache = || set("XDG_CACHE_HOME").map_or_else(|| std::env::home_dir().unwrap_or_default().join(".cache"), PathBuf::from);
        let home = set("HF_HOME").map_or_else(|| user_cache().join("huggingface"), PathBuf::from);
        let token_file = set("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
        let kept = || fs::read_to_string(token_file).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        Self {
            cache: set("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from),
            offline: yes("HF_HUB_OFFLINE") || yes("TRANSFORMERS_OFFLINE"),
            endpoint: set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into()).trim_end_matches('/').to_owned(),
            token: set("HF_TOKEN").or_else(kept),
        }
    }
}

/// Finds a model in the cache, or fetches it there first. A commit that the cache holds whole is never asked for again; a branch is, unless
/// `HF_HUB_OFFLINE` is set or the hub cannot be reached.
///
/// # Errors
/// [`ModelError::Hub`]
pub fn fetch(name: &HubName, settings: &HubSettings) -> Result<Snapshot, ModelError> {
    let cached = cached(name, settings);
    if let Some(snapshot) = &cached
        && (settings.offline || snapshot.commit == name.revision)
    {
        return Ok(snapshot.clone());
    }
    if settings.offline {
        let cache = settings.cache.display();
        return Err(name.problem(format!("is not whole in the cache `{cache}`, and `HF_HUB_OFFLINE` is set")));
    }
    match (download(name, settings), cached) {
        (Err(Trouble::Unreachable(problem)), Some(snapshot)) => {
            tracing::warn!("`{}`: {problem}; the cached commit {} is used", name.text, snapshot.commit);
            Ok(snapshot)
        }
        (Err(Trouble::Unreachable(problem) | Trouble::Other(problem)), _) => Err(name.problem(problem)),
        (Ok(snapshot), _) => Ok(snapshot),
    }
}

/// What the cache holds of a revision, if it is whole.
fn cached(name: &HubName, settings: &HubSettings) -> Option<Snapshot> {
    let cache = Cache::new(settings.cache.clone());
    let repository = settings.cache.join(name.repo("main").folder_name());
    let commit = fs::read_to_string(repository.join("refs").join(&name.revision))
        .map_or_else(|_| name.revision.clone(), |text| text.trim().to_owned());
    let folder = cache.repo(name.repo(&name.revision)).pointer_path(&commit);
    let whole = match &name.file {
        Some(file) => folder.join(file).is_file(),
        None => is_whole(&folder),
    };
    (is_commit(&commit) && whole).then(|| snapshot(name, folder, commit))
}

fn snapshot(name: &HubName, folder: PathBuf, commit: String) -> Snapshot {
    Snapshot { path: name.file.as_ref().map_or(folder.clone(), |file| folder.join(file)), commit }
}

fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_whole(folder: &Path) -> bool {
    let has = |file: &str| folder.join(file).is_file();
    has("config.json")
        && has("tokenizer.json")
        && (has(WEIGHTS) || shards(folder).is_ok_and(|shards| shards.iter().all(|shard| has(shard))))
}

/// Names of the shards that the index in a folder lists.
fn shards(folder: &Path) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = fs::read(folder.join(INDEX)).map_err(|error| format!("`{INDEX}`: {error}"))?;
    let index: Index = serde_json::from_slice(&text).map_err(|error| format!("`{INDEX}`: {error}"))?;
    let shards: std::collections::BTreeSet<String> = index.weight_map.into_values().collect();
    match shards.iter().find(|shard| shard.contains(['/', '\\'])) {
        Some(shard) => Err(format!("`{INDEX}` names the shard `{shard}` outside its folder")),
        None => Ok(shards.into_iter().collect()),
    }
}

/// Why nothing was fetched.
enum Trouble {
    /// No answer from the hub: the cache may do.
    Unreachable(String),
    /// An answer that ends it.
    Other(String),
}

impl Trouble {
    fn new(error: &ApiError, name: &HubName, settings: &HubSettings) -> Self {
        let endpoint = &settings.endpoint;
        let ApiError::RequestError(request) = error else { return Self::Other(format!("cannot be fetched from {endpoint}: {error}")) };
        match request.as_ref() {
            ureq::Error::StatusCode(401 | 403) => {
                let why = if settings.token.is_some() {
                    "the token in `HF_TOKEN` does not open it"
                } else {
                    "it asks for a token: set `HF_TOKEN`"
                };
                Self::Other(format!("{endpoint} refuses it: {why}"))
            }
            ureq::Error::StatusCode(404) => Self::Other(format!("{endpoint} has no such repository, revision `{}` or file", name.revision)),
            ureq::Error::StatusCode(status @ 400..500) => Self::Other(format!("{endpoint} answers {status}")),
            ureq::Error::StatusCode(status) => Self::Unreachable(format!("{endpoint} answers {status}")),
            other => Self::Unreachable(format!("{endpoint} cannot be reached: {other}")),
        }
    }
}

fn download(name: &HubName, settings: &HubSettings) -> Result<Snapshot, Trouble> {
    let trouble = |error: ApiError| Trouble::new(&error, name, settings);
    let cache = Cache::new(settings.cache.clone());
    let builder = ApiBuilder::from_cache(cache.clone()).with_endpoint(settings.endpoint.clone()).with_token(settings.token.clone());
    let api: Api =
        builder.with_progress(false).with_retries(3).with_user_agent("ragft", env!("CARGO_PKG_VERSION")).build().map_err(trouble)?;
    let info = api.repo(name.repo(&name.revision)).info().map_err(trouble)?;
    if !is_commit(&info.sha) {
        return Err(Trouble::Other(format!("{} gives no commit for revision `{}`", settings.endpoint, name.revision)));
    }
    let folder = cache.repo(name.repo(&info.sha)).pointer_path(&info.sha);
    if !folder.is_dir() {
        tracing::warn!("`{}` is fetched from {} at commit {}", name.text, settings.endpoint, info.sha);
    }
    // From here on the commit is asked for, so that files of two commits are never mixed.
    let pinned = api.repo(name.repo(&info.sha));
    let get = |file: &str| pinned.get(file).map_err(trouble);
    let has = |file: &str| info.siblings.iter().any(|sibling| sibling.rfilename == file);
    if let Some(file) = &name.file {
        get(file)?;
    } else {
        if !has(WEIGHTS) && !has(INDEX) {
            return Err(Trouble::Other(format!("holds neither `{WEIGHTS}` nor `{INDEX}`; of a repository of GGUF files, name one file")));
        }
        for file in SMALL_FILES.into_iter().filter(|file| has(file)) {
            get(file)?;
        }
        if has(WEIGHTS) {
            get(WEIGHTS)?;
        } else {
            get(INDEX)?;
            for shard in shards(&folder).map_err(Trouble::Other)? {
                get(&shard)?;
            }
        }
    }
    if !is_commit(&name.revision) {
        let noted = cache.repo(name.repo(&name.revision)).create_ref(&info.sha);
        noted.map_err(|error| Trouble::Other(format!("cannot write to the cache `{}`: {error}", settings.cache.display())))?;
    }
    Ok(snapshot(name, folder, info.sha))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};

    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn fixture() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/lm/qwen2")
    }

    fn name(text: &str) -> HubName {
        HubName::parse(text).unwrap().unwrap()
    }

    fn settings(cache: &Path, endpoint: &str, offline: bool) -> HubSettings {
        let variables = [("HF_HOME", cache.display().to_string()), ("HF_ENDPOINT", endpoint.into()), ("HF_TOKEN", "secret".into())];
        let find = |key: &str| match key {
            "HF_HUB_OFFLINE" => offline.then(|| "1".to_owned()),
            key => variables.iter().find(|(name, _)| *name == key).map(|(_, value)| value.clone()),
        };
        HubSettings::from_env(find)
    }

    /// A cache as Python's tools lay it out.
    fn cache() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        let repository = home.path().join("hub/models--tiny--qwen2");
        let folder = repository.join("snapshots").join(COMMIT);
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir_all(repository.join("refs")).unwrap();
        fs::write(repository.join("refs/main"), COMMIT).unwrap();
        for file in ["config.json", "tokenizer.json", WEIGHTS] {
            fs::copy(fixture().join(file), folder.join(file)).unwrap();
        }
        home
    }

    /// Serves the fixture as the hub does, and notes the paths that are asked for.
    fn hub(asked: Arc<Mutex<Vec<String>>>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let path = lines.next().unwrap().unwrap().split(' ').nth(1).unwrap().to_owned();
                let headers: Vec<String> = lines.map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
                let header = |name: &str| headers.iter().find_map(|line| line.to_lowercase().strip_prefix(name).map(str::to_owned));
                assert_eq!(header("authorization: ").as_deref(), Some("bearer secret"));
                asked.lock().unwrap().push(path.clone());
                let files = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", WEIGHTS];
                let (status, body, range) = if path == "/api/models/tiny/qwen2/revision/main" {
                    let siblings: Vec<_> = files.iter().map(|file| serde_json::json!({"rfilename": file})).collect();
                    ("200 OK", serde_json::json!({"sha": COMMIT, "siblings": siblings}).to_string().into_bytes(), String::new())
                } else if let Some(file) = path.strip_prefix(&format!("/tiny/qwen2/resolve/{COMMIT}/")) {
                    let bytes = fs::read(fixture().join(file)).unwrap();
                    let from = header("range: bytes=").unwrap();
                    let (first, last) = from.split_once('-').unwrap();
                    let (first, last) = (first.parse::<usize>().unwrap(), last.parse().unwrap_or(bytes.len() - 1));
                    let range = format!("content-range: bytes {first}-{last}/{}\r\n", bytes.len());
                    ("206 Partial Content", bytes[first..=last].to_vec(), range)
                } else {
                    ("404 Not Found", Vec::new(), String::new())
                };
                let etag = path.rsplit('/').next().unwrap();
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\n{range}etag: \"{etag}\"\r\nx-repo-commit: {COMMIT}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
            }
        });
        address
    }

    #[test]
    fn names_are_taken_apart_or_refused() {
        let parsed = name("hub:owner/name@v1.0");
        assert_eq!((parsed.repository.as_str(), parsed.revision.as_str(), parsed.file), ("owner/name", "v1.0", None));
        let file = name("hub:owner/name/sub/q8_0.gguf");
        assert_eq!((file.revision.as_str(), file.file.as_deref()), ("main", Some("sub/q8_0.gguf")));
        assert!(HubName::parse("models/tiny").is_none());
        for wrong in ["hub:name", "hub:a/../b", "hub:a/b@", "hub:a/b@x/../../y", "hub:/b"] {
            assert!(HubName::parse(wrong).unwrap().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_environment_means_what_it_means_to_python() {
        let with = |pairs: &[(&str, &str)]| {
            HubSettings::from_env(|key| pairs.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(with(&[("HF_HOME", "/h")]).cache, Path::new("/h/hub"));
        assert_eq!(with(&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c")]).cache, Path::new("/c"));
        assert_eq!(with(&[("XDG_CACHE_HOME", "/x")]).cache, Path::new("/x/huggingface/hub"));
        assert!(with(&[("TRANSFORMERS_OFFLINE", "true")]).offline && !with(&[("HF_HUB_OFFLINE", "0")]).offline);
        assert_eq!(with(&[("HF_ENDPOINT", "http://mirror/")]).endpoint, "http://mirror");
    }

    #[test]
    fn offline_the_cache_is_enough_and_what_it_lacks_is_named() {
        let home = cache();
        let found = fetch(&name("hub:tiny/qwen2"), &settings(home.path(), "http://127.0.0.1:1", true)).unwrap();
        assert_eq!(found.commit, COMMIT);
        assert!(super::super::check_folder(&found.path).is_ok());
        let pinned = format!("hub:tiny/qwen2@{COMMIT}");
        assert_eq!(fetch(&name(&pinned), &settings(home.path(), "http://127.0.0.1:1", false)).unwrap(), found);
        let error = fetch(&name("hub:tiny/other"), &settings(home.path(), "http://127.0.0.1:1", true)).unwrap_err();
        assert!(error.to_string().contains("`HF_HUB_OFFLINE` is set"), "{error}");
        fs::remove_file(found.path.join("tokenizer.json")).unwrap();
        assert!(fetch(&name("hub:tiny/qwen2"), &settings(home.path(), "http://127.0.0.1:1", true)).is_err());
    }

    #[test]
    fn without_an_answer_the_cached_commit_is_used() {
        let home = cache();
        assert_eq!(fetch(&name("hub:tiny/qwen2"), &settings(home.path(), "http://127.0.0.1:1", false)).unwrap().commit, COMMIT);
        let error = fetch(&name("hub:tiny/other"), &settings(home.path(), "http://127.0.0.1:1", false)).unwrap_err();
        assert!(error.to_string().contains("cannot be reached"), "{error}");
    }

    #[test]
    fn a_model_is_fetched_once_and_lies_where_python_finds_it() {
        let (home, asked) = (tempfile::tempdir().unwrap(), Arc::default());
        let endpoint = hub(Arc::clone(&asked));
        let found = fetch(&name("hub:tiny/qwen2"), &settings(home.path(), &endpoint, false)).unwrap();
        assert_eq!(found.commit, COMMIT);
        let bytes = |folder: &Path| fs::read(folder.join(WEIGHTS)).unwrap();
        assert_eq!(bytes(&found.path), bytes(&fixture()));
        assert!(super::super::check_folder(&found.path).is_ok());
        let repository = home.path().join("hub/models--tiny--qwen2");
        assert_eq!(fs::read_to_string(repository.join("refs/main")).unwrap(), COMMIT);
        assert_eq!(found.path, repository.join("snapshots").join(COMMIT));
        // The second time only the branch is asked for; offline, nothing is.
        asked.lock().unwrap().clear();
        fetch(&name("hub:tiny/qwen2"), &settings(home.path(), &endpoint, false)).unwrap();
        assert_eq!(*asked.lock().unwrap(), ["/api/models/tiny/qwen2/revision/main"]);
        fetch(&name("hub:tiny/qwen2"), &settings(home.path(), &endpoint, true)).unwrap();
        let error = fetch(&name("hub:tiny/absent"), &settings(home.path(), &endpoint, false)).unwrap_err();
        assert!(error.to_string().contains("no such repository"), "{error}");
    }
}
