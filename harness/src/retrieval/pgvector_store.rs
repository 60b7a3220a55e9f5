//! Postgres with pgvector as a store: for corpora whose vectors outgrow this machine's memory, and for those who have one anyway. The only place
//! that names the clients behind it.
//!
//! A table per corpus, embedder and graph settings, named by their hash, is built in one transaction: it is there whole or not at all, and later
//! runs take it as it is. What it cost is kept beside it. Approximate searches go through the HNSW index (sequential scans are switched off on
//! their connection), exact ones through a sequential scan (index scans are switched off on theirs), both with the same inner product, so recall
//! is judged as it is in memory.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pgvector::Vector;
use postgres::config::SslMode;
use postgres::{Client, Config, NoTls, Statement};

use super::exact::by_score_then_chunk;
use super::hnsw::Found;
use super::pgvector_tls::connector;
use super::store::{DenseFigures, EmbeddedPassages, Kept, OpenIndex, VectorIndex, VectorStore};
use super::{Hit, RetrievalError};
use crate::clock::Stopwatch;
use crate::spec::StoreAddress;

/// Passages that are embedded and sent at a time.
const BATCH: usize = 2048;
/// Most components of a vector that pgvector builds an HNSW index over.
const MAX_DIMENSION: usize = 2000;
/// pgvector's largest `hnsw.ef_search`.
const MAX_EF_SEARCH: usize = 1000;
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What a binary copy begins with, and ends with.
const COPY_HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const COPY_END: &[u8] = &[0xff, 0xff];

/// A Postgres server.
pub struct PgStore {
    address: StoreAddress,
    /// The most candidates that a search may ask for.
    depth: usize,
    ef_search: usize,
    /// Authorities whose certificates are trusted in place of the public ones.
    authorities: Option<PathBuf>,
}

impl PgStore {
    /// The server at an address, for searches that ask for up to `depth` rows with this `ef_search`. Connects to nothing yet.
    pub fn new(address: &StoreAddress, ef_search: usize, depth: usize) -> Self {
        let authorities = std::env::var_os("PGSSLROOTCERT").filter(|file| !file.is_empty()).map(PathBuf::from);
        Self { address: address.clone(), depth, ef_search, authorities }
    }

    /// Checks that the server answers, has pgvector (or lets it be created) and can index vectors of this dimension.
    ///
    /// # Errors
    /// [`RetrievalError::Store`] with the mend.
    pub fn check(&self, dimension: usize) -> Result<(), RetrievalError> {
        self.check_sizes(dimension)?;
        self.prepared().map(drop)
    }

    fn check_sizes(&self, dimension: usize) -> Result<(), RetrievalError> {
        if dimension > MAX_DIMENSION {
            return Err(self.problem(
                format!("pgvector indexes vectors of at most {MAX_DIMENSION} components, the embedder's have {dimension}"),
                format!("set `retrieval.embedding.dimensions` to {MAX_DIMENSION} or less if the embedder allows it, or `retrieval.store` to `memory`"),
            ));
        }
        if self.ef() > MAX_EF_SEARCH {
            return Err(self.problem(
                format!("pgvector takes an ef_search of at most {MAX_EF_SEARCH}, asked are {}", self.ef()),
                "lower `retrieval.hnsw.ef_search`, `retrieval.search.candidates` and `retrieval.rerank.candidates`".to_owned(),
            ));
        }
        Ok(())
    }

    /// pgvector gives no more rows than this, so it is at least as many as are asked for.
    fn ef(&self) -> usize {
        self.ef_search.max(self.depth)
    }

    fn problem(&self, problem: String, mend: String) -> RetrievalError {
        RetrievalError::Store { address: self.address.to_string(), problem, mend }
    }

    fn failed(&self, doing: &str, error: &postgres::Error) -> RetrievalError {
        failed(&self.address, doing, error)
    }

    fn config(&self) -> Result<Config, RetrievalError> {
        let text = match self.address.variable() {
            None => self.address.with_password().to_owned(),
            Some(name) => std::env::var(name).map_err(|_| {
                self.problem(
                    format!("the environment variable `{name}` is not set"),
                    format!("set it to the address: `export {name}=postgres://USER@HOST:PORT/DATABASE`"),
                )
            })?,
        };
        // The certificate is checked in every mode that demands one.
        let (address, settings) = text.split_once('?').unwrap_or((&text, ""));
        let settings = settings.replace("sslmode=verify-full", "sslmode=require").replace("sslmode=verify-ca", "sslmode=require");
        let mut config: Config = format!("{address}?{settings}").trim_end_matches('?').parse().map_err(|error: postgres::Error| {
            self.problem(format!("is not an address: {error}"), "write it as `postgres://USER@HOST:PORT/DATABASE`".to_owned())
        })?;
        if config.get_password().is_none_or(|password| password.is_empty() || StoreAddress::is_hidden(password))
            && let Ok(password) = std::env::var("PGPASSWORD")
        {
            config.password(password);
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        config.application_name("ragft");
        Ok(config)
    }

    /// A new connection, with pgvector there.
    fn prepared(&self) -> Result<Client, RetrievalError> {
        let config = self.config()?;
        let connected = if config.get_ssl_mode() == SslMode::Require {
            let tls = connector(self.authorities.as_deref());
            config.connect(tls.map_err(|problem| self.problem(problem, AUTHORITIES_MEND.to_owned()))?)
        } else {
            config.connect(NoTls)
        };
        let mut client = connected.map_err(|error| self.failed("connect", &error))?;
        if !self.has_extension(&mut client)?
            && let Err(error) = client.batch_execute("CREATE EXTENSION IF NOT EXISTS vector")
            // Another connection may have created it in between.
            && !self.has_extension(&mut client)?
        {
            return Err(self.problem(
                format!("has no pgvector, and it cannot be created: {}", message(&error)),
                "install pgvector on the server, and let an owner of the database say `CREATE EXTENSION vector`".to_owned(),
            ));
        }
        // Loads the extension's library, so that its settings are known and checked.
        client.batch_execute("SELECT '[1]'::vector").map_err(|error| self.failed("use pgvector", &error))?;
        Ok(client)
    }

    fn has_extension(&self, client: &mut Client) -> Result<bool, RetrievalError> {
        let found = client.query_opt("SELECT 1 FROM pg_extension WHERE extname = 'vector'", &[]);
        Ok(found.map_err(|error| self.failed("look for pgvector", &error))?.is_some())
    }

    fn server(&self, client: &mut Client) -> Result<String, RetrievalError> {
        let text = "SELECT current_setting('server_version'), (SELECT extversion FROM pg_extension WHERE extname = 'vector')";
        let row = client.query_one(text, &[]).map_err(|error| self.failed("ask for its version", &error))?;
        Ok(format!("Postgres {} with pgvector {}", row.get::<_, String>(0), row.get::<_, String>(1)))
    }

    /// Two connections on a table that is there.
    fn open(&self, name: &str, figures: DenseFigures, reused: bool) -> Result<OpenIndex, RetrievalError> {
        let (mut approximate, mut exact) = (self.prepared()?, self.prepared()?);
        let set = |client: &mut Client, text: &str| client.batch_execute(text).map_err(|error| self.failed("set up a search", &error));
        set(&mut approximate, &format!("SET enable_seqscan = off; SET hnsw.ef_search = {}", self.ef()))?;
        set(&mut exact, "SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off")?;
        let server = self.server(&mut exact)?;
        let search = |client: Client| Search::new(client, name).map_err(|error| self.failed("prepare a search", &error));
        let index = PgIndex { approximate: search(approximate)?, exact: search(exact)?, address: self.address.clone() };
        Ok(OpenIndex { index: Box::new(index), figures, kept: Some(Kept { server, name: name.to_owned(), reused }) })
    }
}

impl VectorStore for PgStore {
    fn find(&self, name: &str) -> Result<Option<OpenIndex>, RetrievalError> {
        let mut client = self.prepared()?;
        let has = client.query_one("SELECT to_regclass('ragft_index') IS NOT NULL AND to_regclass($1) IS NOT NULL", &[&name]);
        if !has.map_err(|error| self.failed("look for the index", &error))?.get::<_, bool>(0) {
            return Ok(None);
        }
        let row = client.query_opt("SELECT figures FROM ragft_index WHERE name = $1", &[&name]);
        let Some(row) = row.map_err(|error| self.failed("read the index's figures", &error))? else { return Ok(None) };
        // Figures of another version: the table is built anew.
        let Ok(figures) = serde_json::from_str::<DenseFigures>(row.get(0)) else { return Ok(None) };
        self.open(name, figures, true).map(Some)
    }

    fn build(&self, name: &str, passages: &mut EmbeddedPassages) -> Result<OpenIndex, RetrievalError> {
        self.check_sizes(passages.dimension())?;
        let watch = Stopwatch::start();
        let mut client = self.prepared()?;
        let failed = |error: postgres::Error| self.failed("build the index", &error);
        // In a short transaction of its own, one at a time: `IF NOT EXISTS` does not see what another has not committed, and then fails.
        client
            .batch_execute(
                "BEGIN;
                 SELECT pg_advisory_xact_lock(hashtext('ragft_index'));
                 CREATE TABLE IF NOT EXISTS ragft_index (name text PRIMARY KEY, figures text NOT NULL);
                 COMMIT",
            )
            .map_err(failed)?;
        let mut work = client.transaction().map_err(failed)?;
        // One builder at a time: a second one waits, and then builds over what the first left.
        work.batch_execute(&format!(
            "SELECT pg_advisory_xact_lock(hashtext('{name}'));
             DELETE FROM ragft_index WHERE name = '{name}';
             DROP TABLE IF EXISTS {name};
             CREATE TABLE {name} (chunk int NOT NULL, embedding vector({}) NOT NULL)",
            passages.dimension()
        ))
        .map_err(failed)?;
        let mut hasher = blake3::Hasher::new();
        let mut copy = work.copy_in(&format!("COPY {name} (chunk, embedding) FROM STDIN BINARY")).map_err(failed)?;
        let lost = |source: std::io::Error| self.problem(format!("cannot store the vectors: {source}"), CONNECTION_MEND.to_owned());
        copy.write_all(COPY_HEAD).map_err(lost)?;
        let mut chunk = 0i32;
        loop {
            let batch = passages.next(BATCH)?;
            if batch.is_empty() {
                break;
            }
            for vector in batch {
                copy.write_all(&copied(chunk, &vector, &mut hasher)).map_err(lost)?;
                chunk += 1;
            }
        }
        copy.write_all(COPY_END).map_err(lost)?;
        copy.finish().map_err(failed)?;
        let hnsw = passages.hnsw();
        work.batch_execute(&format!(
            "CREATE INDEX ON {name} USING hnsw (embedding vector_ip_ops) WITH (m = {}, ef_construction = {})",
            hnsw.m,
            // pgvector asks for this much.
            hnsw.ef_construction.max(2 * hnsw.m)
        ))
        .map_err(failed)?;
        let bytes: i64 = work.query_one(&format!("SELECT pg_total_relation_size('{name}')"), &[]).map_err(failed)?.get(0);
        let embedded = passages.figures();
        let figures = DenseFigures {
            build_seconds: watch.elapsed().as_secs_f64() - embedded.embed_seconds,
            bytes: bytes as u64,
            hash: hasher.finalize().to_string(),
            ..embedded
        };
        let text = serde_json::to_string(&figures).expect("figures are plain data");
        work.execute("INSERT INTO ragft_index VALUES ($1, $2)", &[&name, &text]).map_err(failed)?;
        work.commit().map_err(failed)?;
        self.open(name, figures, false)
    }
}

/// A row of a binary copy: two fields, each with its length before it.
fn copied(chunk: i32, vector: &[f32], hasher: &mut blake3::Hasher) -> Vec<u8> {
    let mut row = Vec::with_capacity(18 + 4 * vector.len());
    row.extend(2i16.to_be_bytes());
    row.extend(4i32.to_be_bytes());
    row.extend(chunk.to_be_bytes());
    row.extend((4 + 4 * vector.len() as i32).to_be_bytes());
    row.extend((vector.len() as u16).to_be_bytes());
    row.extend(0u16.to_be_bytes());
    let values = row.len();
    row.extend(vector.iter().flat_map(|value| value.to_be_bytes()));
    hasher.update(&row[values..]);
    row
}

/// A connection, and the one question that it is asked.
struct Search {
    client: Mutex<(Client, Statement)>,
}

impl Search {
    fn new(mut client: Client, table: &str) -> Result<Self, postgres::Error> {
        let text = format!("SELECT chunk, (embedding <#> $1) * -1 FROM {table} ORDER BY embedding <#> $1 LIMIT $2");
        let statement = client.prepare(&text)?;
        Ok(Self { client: Mutex::new((client, statement)) })
    }

    /// Best first, ties by row.
    fn ask(&self, query: &[f32], k: usize) -> Result<Vec<Hit>, postgres::Error> {
        let mut guard = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let (client, statement) = &mut *guard;
        let rows = client.query(statement, &[&Vector::from(query.to_vec()), &(k as i64)])?;
        let hit = |row: &postgres::Row| Hit { chunk: row.get::<_, i32>(0) as usize, score: row.get::<_, f64>(1) as f32 };
        let mut hits: Vec<Hit> = rows.iter().map(hit).collect();
        hits.sort_unstable_by(by_score_then_chunk);
        Ok(hits)
    }
}

struct PgIndex {
    approximate: Search,
    exact: Search,
    address: StoreAddress,
}

impl VectorIndex for PgIndex {
    fn search(&self, query: &[f32], k: usize) -> Result<Found, RetrievalError> {
        let hits = self.approximate.ask(query, k).map_err(|error| failed(&self.address, "search", &error))?;
        // The server does not say how many it compared.
        Ok(Found { hits, distances: 0 })
    }

    fn search_batch(&self, queries: &[Vec<f32>], k: usize) -> Result<Vec<Found>, RetrievalError> {
        queries.iter().map(|query| self.search(query, k)).collect()
    }

    fn exact(&self, queries: &[Vec<f32>], k: usize) -> Result<Vec<Vec<Hit>>, RetrievalError> {
        queries.iter().map(|query| self.exact.ask(query, k).map_err(|error| failed(&self.address, "search", &error))).collect()
    }
}

const CONNECTION_MEND: &str = "see that the server runs and the address is right; a run that has begun goes on with `--resume`";

const AUTHORITIES_MEND: &str = "set `PGSSLROOTCERT` to a PEM file with the authority that signed the server's certificate (vendors of managed Postgres \
                                offer one), and write the server's name as the certificate does";

fn failed(address: &StoreAddress, doing: &str, error: &postgres::Error) -> RetrievalError {
    let message = message(error);
    let mend = match error.code().map(postgres::error::SqlState::code) {
        // Postgres itself, and the gates that vendors put before it.
        Some("28000" | "08P01") if ["no encryption", "SSL off", "sslmode", "insecure"].iter().any(|word| message.contains(word)) => {
            "the server demands TLS: add `?sslmode=require` to the address"
        }
        // Invalid password, invalid authorization.
        Some("28P01" | "28000") => "set the password in the environment variable `PGPASSWORD`, or another user in the address",
        // No such database.
        Some("3D000") => "name a database that exists, or make it with `createdb`",
        // Insufficient privilege.
        Some("42501") => "give the user the right to create tables: `GRANT CREATE ON SCHEMA public TO user`",
        // Disk full, out of memory.
        Some("53100" | "53200") => "give the server more room, or take a smaller embedder or `retrieval.embedding.dimensions`",
        None if message.contains("certificate") => AUTHORITIES_MEND,
        None if message.contains("does not support TLS") => "leave `sslmode=require` out of the address, or switch TLS on at the server",
        _ => CONNECTION_MEND,
    };
    RetrievalError::Store { address: address.to_string(), problem: format!("cannot {doing}: {message}"), mend: mend.to_owned() }
}

/// The server's own message, else the whole chain of causes.
fn message(error: &postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return db.message().to_owned();
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::embed::RetrievalEmbedder;
    use super::super::{Embedder, builtin};
    use super::*;
    use crate::diagnostic::Hint as _;
    use crate::spec::HnswSpec;

    const DEFAULTS: HnswSpec = HnswSpec { m: 16, ef_construction: 200, ef_search: 64 };

    fn store(address: &str, ef_search: usize, depth: usize) -> PgStore {
        PgStore::new(&address.to_owned().try_into().unwrap(), ef_search, depth)
    }

    #[track_caller]
    fn refused(result: Result<(), RetrievalError>) -> (String, String) {
        let error = result.unwrap_err();
        (error.to_string(), error.hint().unwrap())
    }

    #[test]
    fn a_server_that_is_gone_and_what_it_could_not_do_are_named_with_the_mend() {
        let (problem, mend) = refused(store("postgres://me:s3cret@127.0.0.1:1/db", 64, 4).check(384));
        assert!(
            problem.starts_with("store `postgres://me:***@127.0.0.1:1/db` cannot connect: ") && problem.contains("refused"),
            "{problem}"
        );
        assert!(mend.contains("server runs") && mend.contains("--resume"), "{mend}");
        let (problem, mend) = refused(store("env:RAGFT_NO_SUCH_ADDRESS", 64, 4).check(384));
        assert!(
            problem.contains("`RAGFT_NO_SUCH_ADDRESS` is not set") && mend.contains("export RAGFT_NO_SUCH_ADDRESS="),
            "{problem} {mend}"
        );
        let (problem, mend) = refused(store("postgres://host:port/db", 64, 4).check(384));
        assert!(problem.contains("is not an address") && mend.contains("postgres://USER@HOST"), "{problem} {mend}");
        let (problem, mend) = refused(store("postgres://127.0.0.1:1/db", 64, 4).check(2001));
        assert!(
            problem.contains("at most 2000 components, the embedder's have 2001") && mend.contains("embedding.dimensions"),
            "{problem}"
        );
        let (problem, mend) = refused(store("postgres://127.0.0.1:1/db", 64, 1001).check(384));
        assert!(problem.contains("ef_search of at most 1000") && mend.contains("rerank.candidates"), "{problem}");
    }

    const TLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls");

    /// Takes one connection as a server does that has TLS (`S`) or has not (`N`). By TLS, it refuses the user's password. Gives its port.
    fn tls_server(answer: u8) -> u16 {
        use rustls::pki_types::pem::PemObject as _;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        use std::io::Read as _;

        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let chain: Vec<_> = CertificateDer::pem_file_iter(format!("{TLS}/server.pem")).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(format!("{TLS}/server.key")).unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = std::sync::Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 8];
            stream.read_exact(&mut request).unwrap();
            assert_eq!(request, [0, 0, 0, 8, 4, 210, 22, 47], "TLS is asked for first");
            stream.write_all(&[answer]).unwrap();
            if answer != b'S' {
                return;
            }
            let mut session = rustls::ServerConnection::new(config).unwrap();
            let mut tls = rustls::Stream::new(&mut session, &mut stream);
            let mut length = [0; 4];
            if tls.read_exact(&mut length).is_err() {
                return;
            }
            let mut start = vec![0; u32::from_be_bytes(length) as usize - 4];
            tls.read_exact(&mut start).unwrap();
            assert!(String::from_utf8_lossy(&start).contains("user\0me\0"));
            let fields = b"SFATAL\0C28P01\0Mpassword authentication failed for user \"me\"\0\0";
            let error = [b"E".as_slice(), &(4 + fields.len() as u32).to_be_bytes(), fields].concat();
            tls.write_all(&error).unwrap();
            tls.flush().unwrap();
        });
        port
    }

    #[test]
    fn tls_is_spoken_where_the_address_demands_it_and_certificates_are_checked() {
        let check = |answer: u8, host: &str, mode: &str, authorities: Option<&str>| {
            let address = format!("postgres://me:s3cret@{host}:{}/db?sslmode={mode}", tls_server(answer));
            let authorities = authorities.map(|name| PathBuf::from(format!("{TLS}/{name}")));
            refused(PgStore { authorities, ..store(&address, 64, 4) }.check(384))
        };
        // What the server says comes by TLS.
        for (host, mode) in [("localhost", "require"), ("localhost", "verify-full"), ("127.0.0.1", "verify-ca")] {
            let (problem, mend) = check(b'S', host, mode, Some("ca.pem"));
            assert!(problem.contains("password authentication failed") && mend.contains("PGPASSWORD"), "{mode}: {problem} {mend}");
        }
        let (problem, mend) = check(b'S', "localhost", "require", None);
        assert!(problem.contains("certificate") && problem.contains("UnknownIssuer") && mend.contains("PGSSLROOTCERT"), "{problem} {mend}");
        let (problem, mend) = check(b'N', "localhost", "require", Some("ca.pem"));
        assert!(problem.contains("does not support TLS") && mend.contains("leave `sslmode=require` out"), "{problem} {mend}");
        let (problem, mend) = check(b'S', "localhost", "require", Some("absent.pem"));
        assert!(problem.contains("absent.pem` cannot be read") && mend.contains("PGSSLROOTCERT"), "{problem} {mend}");
        let (problem, _) = check(b'S', "localhost", "require", Some("make.sh"));
        assert!(problem.contains("make.sh` holds no certificate"), "{problem}");
    }

    #[test]
    fn a_server_behind_tls_is_used_as_any_other() {
        let Ok(address) = std::env::var("RAGFT_TEST_POSTGRES_TLS") else { return eprintln!("skipped: RAGFT_TEST_POSTGRES_TLS is not set") };
        let store = PgStore { authorities: Some(PathBuf::from(format!("{TLS}/ca.pem"))), ..store(&address, 64, 10) };
        store.check(128).unwrap();
        let embedder: Box<dyn Embedder> = Box::new(builtin());
        let embedder = RetrievalEmbedder::from(embedder);
        let name = format!("ragft_tls_{}", std::process::id());
        let texts = texts(300);
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let built = store.build(&name, &mut EmbeddedPassages::new(&embedder, &texts, &DEFAULTS)).unwrap();
        let query = embedder.queries(&texts[7..8]).unwrap().remove(0).vector;
        assert_eq!(built.index.exact(&[query], 1).unwrap()[0][0].chunk, 7);
        let mut client = store.prepared().unwrap();
        client.batch_execute(&format!("DROP TABLE {name}; DELETE FROM ragft_index WHERE name = '{name}'")).unwrap();
        let (problem, mend) = refused(PgStore { authorities: None, ..store }.check(128));
        assert!(problem.contains("UnknownIssuer") && mend.contains("PGSSLROOTCERT"), "{problem} {mend}");
    }

    fn texts(count: usize) -> Vec<String> {
        const WORDS: [&str; 8] = ["sun", "moon", "river", "bridge", "engine", "music", "winter", "garden"];
        (0..count).map(|i| format!("{} of the {} {} near {i}", WORDS[i % 8], WORDS[i / 8 % 8], WORDS[i / 64 % 8])).collect()
    }

    #[test]
    fn a_server_finds_what_exact_search_finds_and_keeps_it() {
        let Ok(address) = std::env::var("RAGFT_TEST_POSTGRES") else { return eprintln!("skipped: RAGFT_TEST_POSTGRES is not set") };
        let embedder: Box<dyn Embedder> = Box::new(builtin());
        let embedder = RetrievalEmbedder::from(embedder);
        let texts = texts(BATCH + 500);
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let store = store(&address, 64, 10);
        store.check(128).unwrap();
        let name = format!("ragft_test_{}", std::process::id());
        assert!(store.find(&name).unwrap().is_none());
        let built = store.build(&name, &mut EmbeddedPassages::new(&embedder, &texts, &DEFAULTS)).unwrap();
        assert!(!built.kept.as_ref().unwrap().reused && built.kept.unwrap().server.contains("pgvector"));
        let figures = &built.figures;
        assert!(figures.embed_tokens > 10_000 && figures.build_seconds > 0.0 && figures.bytes > 128 * 4 * 2548, "{figures:?}");

        let memory = super::super::store::Memory.build("", &mut EmbeddedPassages::new(&embedder, &texts, &DEFAULTS)).unwrap().index;
        let queries: Vec<Vec<f32>> = embedder.queries(&texts[..50]).unwrap().into_iter().map(|embedding| embedding.vector).collect();
        let (ours, theirs) = (memory.exact(&queries, 10).unwrap(), built.index.exact(&queries, 10).unwrap());
        let found = built.index.search_batch(&queries, 10).unwrap();
        let mut kept = 0;
        for ((ours, theirs), found) in ours.iter().zip(&theirs).zip(&found) {
            assert_eq!((theirs.len(), found.hits.len()), (10, 10));
            for (ours, theirs) in ours.iter().zip(theirs) {
                assert!((ours.score - theirs.score).abs() < 1e-5, "{ours:?} is not {theirs:?}");
            }
            kept += found.hits.iter().filter(|hit| hit.score >= theirs[9].score).count();
        }
        assert!(kept >= 495, "{kept} of 500 were found");

        let again = store.find(&name).unwrap().unwrap();
        assert!(again.kept.unwrap().reused);
        assert_eq!((&again.figures, again.index.search_batch(&queries, 10).unwrap()), (figures, found));
        let mut client = store.prepared().unwrap();
        client.batch_execute("SET enable_seqscan = off").unwrap();
        let text = format!("EXPLAIN SELECT chunk FROM {name} ORDER BY embedding <#> (SELECT embedding FROM {name} LIMIT 1) LIMIT 4");
        let plan: Vec<String> = client.query(&text, &[]).unwrap().iter().map(|row| row.get(0)).collect();
        assert!(plan.join("\n").contains("Index Scan using"), "{plan:?}");
        client.batch_execute(&format!("DROP TABLE {name}; DELETE FROM ragft_index WHERE name = '{name}'")).unwrap();
        assert!(store.find(&name).unwrap().is_none());
    }

    #[test]
    fn a_build_that_fails_leaves_nothing() {
        let Ok(address) = std::env::var("RAGFT_TEST_POSTGRES") else { return eprintln!("skipped: RAGFT_TEST_POSTGRES is not set") };
        let embedder: Box<dyn Embedder> = Box::new(builtin());
        let (embedder, store) = (RetrievalEmbedder::from(embedder), store(&address, 64, 10));
        let name = format!("ragft_broken_{}", std::process::id());
        let wrong = HnswSpec { m: 1000, ..DEFAULTS };
        let error = store.build(&name, &mut EmbeddedPassages::new(&embedder, &["sun", "moon"], &wrong)).err().unwrap();
        assert!(error.to_string().contains("cannot build the index: value 1000 out of bounds for option \"m\""), "{error}");
        assert!(store.find(&name).unwrap().is_none());
        let (problem, mend) =
            refused(PgStore::new(&format!("{}x", address.split('?').next().unwrap()).try_into().unwrap(), 64, 4).check(128));
        assert!(problem.contains("cannot connect") && !mend.is_empty(), "{problem} {mend}");
    }
}
