//! Requests that are tried again. The only file of `remote` that opens a connection.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
/// The largest answer that is read.
const LARGEST: u64 = 1 << 30;
/// Characters of a server's words that are told on.
const TOLD: usize = 300;

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
    agent: ureq::Agent,
    url: String,
    host: String,
    key: Option<Key>,
    retries: u32,
    requests: AtomicU64,
    again: AtomicU64,
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
        let retries = connection.retries;
        Ok(Self { agent, url, host, key, retries, requests: AtomicU64::new(0), again: AtomicU64::new(0), listed: Mutex::default() })
    }

    /// Host and port, as in the address.
    pub fn host(&self) -> &str {
        &self.host
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
        let answer = self.attempts("greet", &AtomicBool::new(false), || {
            let response = self.agent.get(format!("{}/models", self.url));
            let response = self.authorized(response).call();
            self.checked(response).and_then(|mut response| read_json(&mut response))
        });
        match answer {
            Ok(list) => {
                let models = list["data"].as_array().into_iter().flatten().filter_map(|model| model["id"].as_str());
                *self.listed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
                    models.take(20).map(|name| format!("`{}`", self.told(name))).collect();
                Ok(())
            }
            Err(error @ (RemoteError::Gone { .. } | RemoteError::Wait { .. } | RemoteError::Denied { status: 401 | 403, .. })) => {
                Err(error)
            }
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
    pub(super) fn post_read<T>(
        &self,
        path: &str,
        body: &Value,
        label: &str,
        stop: &AtomicBool,
        read: impl Fn(&mut Response<Body>) -> Result<T, Fault>,
    ) -> Result<T, RemoteError> {
        let text = body.to_string();
        self.attempts(label, stop, || {
            let request = self.agent.post(format!("{}/{path}", self.url)).header("Content-Type", "application/json");
            let response = self.authorized(request).send(text.as_bytes());
            self.checked(response).and_then(|mut response| read(&mut response))
        })
    }

    fn authorized<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.key {
            Some(Key(key)) => request.header("Authorization", format!("Bearer {key}")),
            None => request,
        }
    }

    fn attempts<T>(&self, label: &str, stop: &AtomicBool, attempt: impl Fn() -> Result<T, Fault>) -> Result<T, RemoteError> {
        let mut made = 0;
        loop {
            self.requests.fetch_add(1, Ordering::Relaxed);
            self.again.fetch_add(u64::from(made > 0), Ordering::Relaxed);
            made += 1;
            let (problem, asked) = match attempt() {
                Ok(value) => return Ok(value),
                Err(Fault::Final(error)) => return Err(error),
                Err(Fault::Again(problem, asked)) => (problem, asked),
            };
            tracing::debug!(host = self.host, attempt = made, problem = self.told(&problem), "a request failed");
            if made > self.retries {
                return Err(RemoteError::Gone { host: self.host.clone(), attempts: made, problem: self.told(&problem) });
            }
            if let Some(long) = asked.filter(|asked| *asked > PATIENCE) {
                return Err(RemoteError::Wait { host: self.host.clone(), seconds: long.as_secs() });
            }
            if !wait(asked.unwrap_or_else(|| back_off(made, label)), stop) {
                return Err(RemoteError::Skipped);
            }
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
                let listed = self.listed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
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

    /// A server's words in one line of bounded length, without the key.
    pub(super) fn told(&self, text: &str) -> String {
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

/// Whether the wait came to its end before the flag was set.
fn wait(long: Duration, stop: &AtomicBool) -> bool {
    let watch = Stopwatch::start();
    while watch.elapsed() < long {
        if stop.load(Ordering::Relaxed) {
            return false;
        }
        std::thread::sleep(LOOK_UP.min(long.saturating_sub(watch.elapsed())));
    }
    !stop.load(Ordering::Relaxed)
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
        assert!(wait(Duration::from_millis(1), &AtomicBool::new(false)));
        assert!(!wait(Duration::from_hours(1), &AtomicBool::new(true)));
    }

    #[test]
    fn a_key_is_not_shown() {
        assert_eq!(format!("{:?}", Key("s3cret".into())), "***");
        let connection = Connection { url: "http://host:1/v1/", key_env: "", timeout: Duration::from_secs(1), retries: 0 };
        let client = Client { key: Some(Key("s3cret".into())), ..Client::open(&connection).unwrap() };
        assert_eq!(client.told("Incorrect key:\n s3cret "), "Incorrect key: ***");
        assert!(!format!("{client:?}").contains("s3cret"));
        assert_eq!(client.host(), "host:1");
        let error = Key::from_env("RAGFT_NO_SUCH_VARIABLE").unwrap_err().to_string();
        assert!(error.contains("`RAGFT_NO_SUCH_VARIABLE`") && error.ends_with("is not set"), "{error}");
    }
}
