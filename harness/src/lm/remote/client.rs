//! Requests that are tried again. The only file of `remote` that opens a connection.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::Value;
use ureq::Body;
use ureq::http::{HeaderMap, Response};

use super::RemoteError;
use crate::clock::Stopwatch;
use crate::rng::Rng;

/// The first wait before another attempt, and the longest without a word from the server.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The longest `Retry-After` that is waited for.
const PATIENCE: Duration = Duration::from_mins(10);
/// Waiting looks up so often whether it is still worth it.
const LOOK_UP: Duration = Duration::from_millis(50);
/// What is left to requests in flight when the user stops: an answer that is nearly there has been paid for.
const GRACE: Duration = Duration::from_secs(2);
/// The largest answer that is read.
const LARGEST: u64 = 1 << 30;
/// Characters of a server's words that are told on.
const TOLD: usize = 300;

/// Set when the user stops; nothing until [`give_up_when`].
static STOPPED: OnceLock<&'static AtomicBool> = OnceLock::new();

/// From when the flag is set, no client of this process makes a request or waits: what is in flight has a moment left to end, and everything
/// else is [`RemoteError::Interrupted`]. The first flag counts.
pub fn give_up_when(flag: &'static AtomicBool) {
    STOPPED.get_or_init(|| flag);
}

/// What opens a server. It is shown as `***` wherever it could be shown.
#[derive(Clone)]
pub struct Key(String);

impl Key {
    /// From the environment variable of this name; nothing for an empty name.
    ///
    /// # Errors
    /// [`RemoteError::NoKey`]
    pub fn from_env(variable: &str) -> Result<Option<Self>, RemoteError> {
        if variable.is_empty() {
            return Ok(None);
        }
        let problem = |problem| RemoteError::NoKey { variable: variable.to_owned(), problem };
        let text = std::env::var(variable).map_err(|_| problem("is not set"))?;
        let text = text.trim();
        if text.is_empty() {
            return Err(problem("is empty"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(problem("holds what no key holds: a blank, a line break or a letter that is not ASCII"));
        }
        Ok(Some(Self(text.to_owned())))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How a server is reached.
#[derive(Debug, Clone)]
pub struct Connection<'a> {
    /// Address up to and with the version.
    pub url: &'a str,
    /// The environment variable that holds the key; empty for none.
    pub key_env: &'a str,
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// Attempts beside the first.
    pub retries: u32,
}

/// Requests so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// All.
    pub requests: u64,
    /// Those that were a request again.
    pub retries: u64,
}

/// A server.
#[derive(Debug)]
pub struct Client {
    line: Arc<Line>,
    retries: u32,
    /// Set when the user stops.
    stopped: &'static AtomicBool,
    requests: AtomicU64,
    again: AtomicU64,
}

/// What a single attempt needs. It is shared with the thread that makes it, which may have to be left behind.
#[derive(Debug)]
pub(super) struct Line {
    agent: ureq::Agent,
    url: String,
    host: String,
    key: Option<Key>,
    listed: Mutex<Vec<String>>,
}

/// Why one attempt came to nothing.
#[derive(Debug)]
pub(super) enum Fault {
    /// Another may succeed; the server asks to wait so long.
    Again(String, Option<Duration>),
    /// No other will.
    Final(RemoteError),
}

impl Client {
    /// Reads the key; connects to nothing yet.
    ///
    /// # Errors
    /// [`RemoteError::NoKey`]
    pub fn open(connection: &Connection) -> Result<Self, RemoteError> {
        static NEVER: AtomicBool = AtomicBool::new(false);
        let key = Key::from_env(connection.key_env)?;
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(connection.timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("ragft/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        let url = connection.url.trim_end_matches('/').to_owned();
        let host = url.split("://").nth(1).unwrap_or(&url).split('/').next().unwrap_or_default().to_owned();
        Ok(Self {
            line: Arc::new(Line { agent, url, host, key, listed: Mutex::default() }),
            retries: connection.retries,
            stopped: STOPPED.get().copied().unwrap_or(&NEVER),
            requests: AtomicU64::new(0),
            again: AtomicU64::new(0),
        })
    }

    /// Host and port, as in the address.
    pub fn host(&self) -> &str {
        &self.line.host
    }

    /// A server's words in one line of bounded length, without the key.
    pub(super) fn told(&self, text: &str) -> String {
        self.line.told(text)
    }

    /// Requests so far.
    pub fn traffic(&self) -> Traffic {
        Traffic { requests: self.requests.load(Ordering::Relaxed), retries: self.again.load(Ordering::Relaxed) }
    }

    /// Whether the server is there and takes the key. It may have no list of models; what it lists is told where a name is refused.
    ///
    /// # Errors
    /// [`RemoteError::Gone`], or [`RemoteError::Denied`] for the key.
    pub fn greet(&self) -> Result<(), RemoteError> {
        let answer = self.attempts("greet", &AtomicBool::new(false), |line: &Line| {
            let response = line.agent.get(format!("{}/models", line.url));
            let response = line.authorized(response).call();
            line.checked(response).and_then(|mut response| read_json(&mut response))
        });
        match answer {
            Ok(list) => {
                let models = list["data"].as_array().into_iter().flatten().filter_map(|model| model["id"].as_str());
                *self.line.listed.lock().unwrap_or_else(PoisonError::into_inner) =
                    models.take(20).map(|name| format!("`{}`", self.told(name))).collect();
                Ok(())
            }
            Err(
                error @ (RemoteError::Gone { .. }
                | RemoteError::Wait { .. }
                | RemoteError::Interrupted
                | RemoteError::Denied { status: 401 | 403, .. }),
            ) => Err(error),
            Err(_) => Ok(()),
        }
    }

    /// The answer to a request, as JSON. `label` names the random part of waits; the flag is looked at between attempts.
    ///
    /// # Errors
    /// [`RemoteError`]
    pub fn post(&self, path: &str, body: &Value, label: &str, stop: &AtomicBool) -> Result<Value, RemoteError> {
        self.post_read(path, body, label, stop, read_json)
    }

    /// The same for an answer that is read in another way.
    pub(super) fn post_read<T: Send + 'static>(
        &self,
        path: &str,
        body: &Value,
        label: &str,
        stop: &AtomicBool,
        read: impl Fn(&mut Response<Body>) -> Result<T, Fault> + Send + Sync + 'static,
    ) -> Result<T, RemoteError> {
        let (url, text) = (format!("{}/{path}", self.line.url), body.to_string());
        self.attempts(label, stop, move |line: &Line| {
            let request = line.agent.post(&url).header("Content-Type", "application/json");
            let response = line.authorized(request).send(text.as_bytes());
            line.checked(response).and_then(|mut response| read(&mut response))
        })
    }

    fn attempts<T: Send + 'static>(
        &self,
        label: &str,
        stop: &AtomicBool,
        attempt: impl Fn(&Line) -> Result<T, Fault> + Send + Sync + 'static,
    ) -> Result<T, RemoteError> {
        let attempt = Arc::new(attempt);
        let host = || self.host().to_owned();
        let mut made = 0;
        loop {
            if self.is_stopped() {
                return Err(RemoteError::Interrupted);
            }
            self.requests.fetch_add(1, Ordering::Relaxed);
            self.again.fetch_add(u64::from(made > 0), Ordering::Relaxed);
            made += 1;
            let (problem, asked) = match self.heard(&attempt)? {
                Ok(value) => return Ok(value),
                Err(Fault::Final(error)) => return Err(error),
                Err(Fault::Again(problem, asked)) => (problem, asked),
            };
            tracing::debug!(host = self.host(), attempt = made, problem = self.told(&problem), "a request failed");
            if self.is_stopped() {
                return Err(RemoteError::Interrupted);
            }
            if made > self.retries {
                return Err(RemoteError::Gone { host: host(), attempts: made, problem: self.told(&problem) });
            }
            if let Some(long) = asked.filter(|asked| *asked > PATIENCE) {
                return Err(RemoteError::Wait { host: host(), seconds: long.as_secs() });
            }
            if !wait(asked.unwrap_or_else(|| back_off(made, label)), [stop, self.stopped]) {
                return Err(if self.is_stopped() { RemoteError::Interrupted } else { RemoteError::Skipped });
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// What one attempt came to. A request that waits for its server cannot be called off, so it is made in a thread of its own, which is left to
    /// its time-out where the user does not wait for it.
    ///
    /// # Errors
    /// [`RemoteError::Interrupted`] when the grace is over.
    fn heard<T: Send + 'static>(
        &self,
        attempt: &Arc<impl Fn(&Line) -> Result<T, Fault> + Send + Sync + 'static>,
    ) -> Result<Result<T, Fault>, RemoteError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let (line, attempt) = (Arc::clone(&self.line), Arc::clone(attempt));
        let made = std::thread::Builder::new().name("request".into()).spawn(move || {
            // Nobody listens any more: the user has left.
            let _ = sender.send(attempt(&line));
        });
        if let Err(error) = made {
            return Ok(Err(Fault::Again(format!("no thread for a request: {error}"), None)));
        }
        let mut leaving: Option<Stopwatch> = None;
        loop {
            match receiver.recv_timeout(LOOK_UP) {
                Ok(result) => return Ok(result),
                Err(RecvTimeoutError::Disconnected) => return Ok(Err(Fault::Again("the request panicked".to_owned(), None))),
                Err(RecvTimeoutError::Timeout) => {
                    if self.is_stopped() && leaving.get_or_insert_with(Stopwatch::start).elapsed() >= GRACE {
                        return Err(RemoteError::Interrupted);
                    }
                }
            }
        }
    }
}

impl Line {
    fn authorized<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.key {
            Some(Key(key)) => request.header("Authorization", format!("Bearer {key}")),
            None => request,
        }
    }

    /// An answer of status 200, or what another one means.
    fn checked(&self, response: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, Fault> {
        let mut response = response.map_err(|error| match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => {
                Fault::Final(RemoteError::Malformed { host: self.host.clone(), problem: format!("cannot be asked for: {error}") })
            }
            other => Fault::Again(other.to_string(), None),
        })?;
        let status = response.status().as_u16();
        if status == 200 {
            return Ok(response);
        }
        let after = retry_after(response.headers());
        let message = self.message(&mut response);
        match status {
            408 | 425 | 429 | 500..=599 => Err(Fault::Again(format!("status {status}: {message}"), after)),
            400 | 413 | 422 => Err(Fault::Final(RemoteError::Refused { status, message })),
            _ => {
                let listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner).clone();
                Err(Fault::Final(RemoteError::Denied { host: self.host.clone(), status, message, listed }))
            }
        }
    }

    /// What the server says of an error: the `message` of OpenAI's form, FastAPI's `detail`, or the beginning of the body.
    fn message(&self, response: &mut Response<Body>) -> String {
        let text = response.body_mut().read_to_string().unwrap_or_default();
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        let said = [&value["error"]["message"], &value["message"], &value["error"], &value["detail"]];
        let said = said.into_iter().find_map(|said| said.as_str()).map(str::to_owned);
        let words = self.told(&said.unwrap_or(text));
        if words.is_empty() { "no reason given".to_owned() } else { words }
    }

    fn told(&self, text: &str) -> String {
        let text = match &self.key {
            Some(Key(key)) => text.replace(key.as_str(), "***"),
            None => text.to_owned(),
        };
        text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(TOLD).collect()
    }
}

/// The body as JSON. One that is cut is asked for again, and so is one that is no JSON, for where the length is not told both look alike.
fn read_json(response: &mut Response<Body>) -> Result<Value, Fault> {
    let text = response.body_mut().with_config().limit(LARGEST).read_to_string();
    let text = text.map_err(|error| Fault::Again(format!("the answer is cut off: {error}"), None))?;
    serde_json::from_str(&text).map_err(|error| Fault::Again(format!("the answer is not whole: {error}"), None))
}

/// Half of a doubling wait, and up to as much again by chance, so that clients which failed together do not come back together.
pub fn back_off(made: u32, label: &str) -> Duration {
    let whole = FIRST_WAIT.saturating_mul(1 << (made - 1).min(16)).min(LONGEST_WAIT);
    let chance = Rng::indexed(0, &format!("back-off/{label}"), u64::from(made)).uniform();
    whole.mul_f64(0.5 + 0.5 * chance)
}

/// Whether the wait came to its end before a flag was set.
fn wait(long: Duration, stops: [&AtomicBool; 2]) -> bool {
    let watch = Stopwatch::start();
    let is_vain = || stops.iter().any(|stop| stop.load(Ordering::Relaxed));
    while watch.elapsed() < long {
        if is_vain() {
            return false;
        }
        std::thread::sleep(LOOK_UP.min(long.saturating_sub(watch.elapsed())));
    }
    !is_vain()
}

/// `Retry-After`: seconds, or a date, which is held against the server's own clock.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let asked = text("retry-after")?;
    if let Ok(seconds) = asked.parse::<f64>() {
        return (seconds >= 0.0 && seconds.is_finite()).then(|| Duration::from_secs_f64(seconds.min(1e9)));
    }
    let date = |text: &str| jiff::fmt::rfc2822::parse(text).ok().map(|date| date.timestamp().as_second());
    let seconds = date(asked)? - date(text("date")?)?;
    Some(Duration::from_secs(seconds.max(0) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_by_the_servers_clock() {
        let of = |pairs: &[(&'static str, &'static str)]| retry_after(&headers(pairs));
        assert_eq!(of(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
        assert_eq!(of(&[("retry-after", "0.25")]), Some(Duration::from_millis(250)));
        let now = ("date", "Wed, 21 Oct 2026 07:28:00 GMT");
        assert_eq!(of(&[("retry-after", "Wed, 21 Oct 2026 07:29:30 GMT"), now]), Some(Duration::from_secs(90)));
        assert_eq!(of(&[("retry-after", "Wed, 21 Oct 2026 07:00:00 GMT"), now]), Some(Duration::ZERO));
        for nothing in ["", "soon", "-1", "NaN"] {
            assert_eq!(of(&[("retry-after", nothing)]), None, "{nothing}");
        }
        assert_eq!(of(&[("retry-after", "Wed, 21 Oct 2026 07:29:30 GMT")]), None, "without the server's date nothing is known");
    }

    #[test]
    fn waits_double_up_to_a_bound_and_differ_by_label() {
        let seconds = |made| back_off(made, "q1").as_secs_f64();
        for (made, whole) in [(1, 0.5), (2, 1.0), (4, 4.0), (7, 30.0), (90, 30.0)] {
            assert!((0.5 * whole..=whole).contains(&seconds(made)), "{made}: {}", seconds(made));
        }
        assert_ne!(back_off(3, "q1"), back_off(3, "q2"));
        assert_eq!(back_off(3, "q1"), back_off(3, "q1"));
    }

    #[test]
    fn a_wait_ends_when_it_is_in_vain() {
        let (yes, no) = (AtomicBool::new(true), AtomicBool::new(false));
        assert!(wait(Duration::from_millis(1), [&no, &no]));
        assert!(!wait(Duration::from_hours(1), [&yes, &no]) && !wait(Duration::from_hours(1), [&no, &yes]));
    }

    #[test]
    fn a_user_who_leaves_waits_for_no_answer() {
        static LEFT: AtomicBool = AtomicBool::new(false);
        let connection = Connection { url: "http://host:1/v1/", key_env: "", timeout: Duration::from_secs(1), retries: 9 };
        let client = Client { stopped: &LEFT, ..Client::open(&connection).unwrap() };
        let no = AtomicBool::new(false);
        let of = |long: u64| {
            client.attempts("q", &no, move |_| {
                LEFT.store(true, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(long));
                Ok::<_, Fault>(long)
            })
        };
        assert_eq!(of(100), Ok(100), "one that is nearly there is kept");
        assert_eq!((of(0), client.traffic().requests), (Err(RemoteError::Interrupted), 1), "none is begun");
        LEFT.store(false, Ordering::Relaxed);
        let watch = Stopwatch::start();
        assert_eq!(of(60_000), Err(RemoteError::Interrupted));
        assert!((GRACE..4 * GRACE).contains(&watch.elapsed()), "{:?}", watch.elapsed());
        LEFT.store(false, Ordering::Relaxed);
        let busy = client.attempts("q", &no, |_| {
            LEFT.store(true, Ordering::Relaxed);
            Err::<(), _>(Fault::Again("busy".to_owned(), Some(PATIENCE)))
        });
        assert_eq!(busy, Err(RemoteError::Interrupted), "no wait either");
    }

    #[test]
    fn a_key_is_not_shown() {
        assert_eq!(format!("{:?}", Key("s3cret".into())), "***");
        let connection = Connection { url: "http://host:1/v1/", key_env: "", timeout: Duration::from_secs(1), retries: 0 };
        let mut client = Client::open(&connection).unwrap();
        Arc::get_mut(&mut client.line).unwrap().key = Some(Key("s3cret".into()));
        assert_eq!(client.told("Incorrect key:\n s3cret "), "Incorrect key: ***");
        assert!(!format!("{client:?}").contains("s3cret"));
        assert_eq!(client.host(), "host:1");
        let error = Key::from_env("RAGFT_NO_SUCH_VARIABLE").unwrap_err().to_string();
        assert!(error.contains("`RAGFT_NO_SUCH_VARIABLE`") && error.ends_with("is not set"), "{error}");
    }
}
