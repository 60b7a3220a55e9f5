//! Requests to a bucket that are tried again. The only file of `s3` that opens a connection.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use ureq::Body;
use ureq::http::Response;

use super::sign::{self, Request};
use super::{Access, Place, S3Error};
use crate::lm::remote::{back_off, retry_after};

/// The longest wait for a connection, and for an answer once everything is sent.
const CONNECT: Duration = Duration::from_secs(15);
const ANSWER: Duration = Duration::from_mins(1);
/// A body that is sent more slowly than so many bytes a second is not sent.
const SLOWEST: u64 = 32 << 10;
/// The longest `Retry-After` that is waited for.
const PATIENCE: Duration = Duration::from_mins(2);
/// The largest answer that is read: a manifest, or an error.
const LARGEST: u64 = 64 << 20;
/// SHA-256 of nothing.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A bucket that answers.
pub struct Client<'a> {
    agent: ureq::Agent,
    place: &'a Place,
    access: &'a Access,
}

/// Why a store does not do what it is asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refusal {
    /// HTTP.
    pub status: u16,
    /// The store's own word for it; empty if it gives none.
    pub code: String,
    /// What it says.
    pub message: String,
    /// Where it says that the bucket lies.
    pub region: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blank = if self.code.is_empty() { "" } else { " " };
        write!(f, "status {}{blank}{}: {}", self.status, self.code, self.message)
    }
}

impl Refusal {
    /// What can be done about it.
    pub fn mend(&self, bucket: &str) -> String {
        match (self.code.as_str(), self.status) {
            ("NoSuchBucket", _) => format!(
                "make it (`aws s3 mb s3://{bucket}`), or see that `AWS_ENDPOINT_URL` is that of the store which has it (unset: AWS)"
            ),
            ("InvalidAccessKeyId" | "SignatureDoesNotMatch", _) => "`AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` must be of one key of \
                 this store, and `AWS_SESSION_TOKEN` set only where it belongs to them"
                .to_owned(),
            ("ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" | "InvalidSecurity", _) => {
                "set new temporary credentials: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN` belong together"
                    .to_owned()
            }
            ("RequestTimeTooSkewed" | "RequestExpired", _) => "set this machine's clock".to_owned(),
            ("PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException", _)
            | (_, 301 | 302 | 307 | 308) => match &self.region {
                Some(region) => format!("the bucket lies in `{region}`: `export AWS_REGION={region}`"),
                None => "set `AWS_REGION` to the bucket's region, or `AWS_ENDPOINT_URL` to its store".to_owned(),
            },
            ("QuotaExceeded" | "EntityTooLarge" | "XMinioStorageFull" | "ServiceQuotaExceededException", _) => {
                "make room in the store".to_owned()
            }
            ("AccessDenied" | "AllAccessDisabled" | "AccountProblem", _) | (_, 401 | 403) => {
                format!(
                    "the credentials need `s3:PutObject`, `s3:GetObject` and `s3:DeleteObject` on what stands under the prefix in `{bucket}`"
                )
            }
            _ => "see that `AWS_ENDPOINT_URL` (unset: AWS) is the address of an S3-compatible store".to_owned(),
        }
    }
}

/// Why one attempt came to nothing.
enum Fault {
    /// Another may succeed; the store asks to wait so long.
    Again(String, Option<Duration>),
    /// No other will.
    Final(Refusal),
}

impl<'a> Client<'a> {
    /// Connects to nothing yet.
    pub fn new(place: &'a Place, access: &'a Access) -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            .timeout_recv_body(Some(ANSWER))
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("ragft/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        Self { agent, place, access }
    }

    /// The bytes of an object.
    pub fn get(&self, name: &str) -> Result<Vec<u8>, S3Error> {
        self.attempts("read", name, || {
            let mut request = self.agent.get(self.place.url(name));
            for (header, value) in self.signed("GET", name, EMPTY) {
                request = request.header(header, value);
            }
            self.checked(request.call())
        })
    }

    /// Takes an object away; one that is not there is gone.
    pub fn delete(&self, name: &str) -> Result<(), S3Error> {
        self.attempts("delete", name, || {
            let mut request = self.agent.delete(self.place.url(name));
            for (header, value) in self.signed("DELETE", name, EMPTY) {
                request = request.header(header, value);
            }
            self.checked(request.call())
        })
        .map(drop)
    }

    /// Puts a file, whose SHA-256 is this; gives its address. It is there whole or not at all.
    pub fn put(&self, name: &str, file: &Path, sha256: &str, content_type: &str) -> Result<String, S3Error> {
        self.attempts("take", name, || {
            // Opened anew: another attempt sends it from the beginning.
            let body = File::open(file).map_err(|error| Fault::Again(format!("cannot read `{}`: {error}", file.display()), None))?;
            let bytes = body.metadata().map_or(0, |metadata| metadata.len());
            let mut request = self.agent.put(self.place.url(name)).header("content-type", content_type);
            for (header, value) in self.signed("PUT", name, sha256) {
                request = request.header(header, value);
            }
            let patience = ANSWER + Duration::from_secs(bytes / SLOWEST);
            self.checked(request.config().timeout_send_body(Some(patience)).build().send(body))
        })?;
        Ok(self.place.shown(name))
    }

    fn signed(&self, method: &str, name: &str, sha256: &str) -> Vec<(&'static str, String)> {
        let path = self.place.path(name);
        let request = Request { method, host: &self.place.host, path: &path, headers: &[], sha256 };
        let mut headers = sign::headers(&request, self.access, jiff::Timestamp::now());
        headers.push(("host", self.place.host.clone()));
        headers
    }

    fn attempts(&self, verb: &str, name: &str, attempt: impl Fn() -> Result<Vec<u8>, Fault>) -> Result<Vec<u8>, S3Error> {
        let (bucket, host) = (&self.place.bucket, &self.place.host);
        let action = format!("{verb} `{}`", self.place.shown(name));
        let mut made = 0;
        loop {
            made += 1;
            let (problem, asked) = match attempt() {
                Ok(body) => return Ok(body),
                Err(Fault::Final(refusal)) => {
                    let (bucket, host) = (bucket.clone(), host.clone());
                    return Err(S3Error::Refused { bucket, host, action, refusal: Box::new(refusal) });
                }
                Err(Fault::Again(problem, asked)) => (self.access.told(&problem), asked),
            };
            tracing::debug!(host, attempt = made, problem, "a request failed");
            if made >= self.access.attempts || asked.is_some_and(|asked| asked > PATIENCE) {
                return Err(S3Error::Gone { bucket: bucket.clone(), host: host.clone(), action, attempts: made, problem });
            }
            std::thread::sleep(asked.unwrap_or_else(|| back_off(made, name)));
        }
    }

    /// The body of an answer that says yes, or what another one means.
    fn checked(&self, response: Result<Response<Body>, ureq::Error>) -> Result<Vec<u8>, Fault> {
        let mut response = response.map_err(|error| match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => {
                Fault::Final(Refusal { message: format!("cannot be asked for: {error}"), ..Refusal::default() })
            }
            other => Fault::Again(other.to_string(), None),
        })?;
        let status = response.status().as_u16();
        let after = retry_after(response.headers());
        let region = response.headers().get("x-amz-bucket-region").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = response.body_mut().with_config().limit(LARGEST).read_to_vec();
        if matches!(status, 200 | 204) {
            return body.map_err(|error| Fault::Again(format!("the answer is cut off: {error}"), None));
        }
        let text = String::from_utf8_lossy(&body.unwrap_or_default()).into_owned();
        let code = element(&text, "Code").unwrap_or_default();
        let message = self.access.told(&element(&text, "Message").unwrap_or_else(|| text.chars().take(1000).collect()));
        let message = if message.is_empty() { "no reason given".to_owned() } else { message };
        let is_passing = matches!(status, 408 | 425 | 429 | 500 | 502..=504 | 509..=599)
            || matches!(code.as_str(), "RequestTimeout" | "SlowDown" | "OperationAborted" | "InternalError" | "ServiceUnavailable");
        let region = region.or_else(|| element(&text, "Region")).map(|region| self.access.told(&region));
        let refusal = Refusal { status, code: self.access.told(&code), message, region };
        Err(if is_passing { Fault::Again(refusal.to_string(), after) } else { Fault::Final(refusal) })
    }
}

/// Text of the first element of this name, in an answer so plain that it needs no parser of XML.
fn element(xml: &str, name: &str) -> Option<String> {
    let text = xml.split_once(&format!("<{name}>"))?.1.split_once(&format!("</{name}>"))?.0;
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#39;", "'"), ("&#34;", "\""), ("&amp;", "&")];
    Some(entities.iter().fold(text.to_owned(), |text, (entity, letter)| text.replace(entity, letter)))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::diagnostic::Hint as _;

    /// Request heads and bodies, as a server got them.
    type Heard = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

    /// Gives these answers, one a connection, and says what it was asked. After the last it hangs up.
    fn server(answers: Vec<String>) -> (String, Heard) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let heard = Heard::default();
        let told = Arc::clone(&heard);
        std::thread::spawn(move || {
            for (stream, answer) in listener.incoming().zip(answers) {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut head = String::new();
                while reader.read_line(&mut head).unwrap() > 2 {}
                let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                let mut body = vec![0; length.unwrap_or(0)];
                reader.read_exact(&mut body).unwrap();
                told.lock().unwrap().push((head, body));
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        (endpoint, heard)
    }

    fn answer(status: &str, headers: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}", body.len())
    }

    fn error_answer(status: &str, code: &str, message: &str) -> String {
        let body =
            format!("<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>{message}</Message><Resource>/x</Resource></Error>");
        answer(status, "", &body)
    }

    /// Heads and bodies of requests.
    type Requests = Vec<(String, Vec<u8>)>;

    /// What a client makes of these answers to a put, and the requests that it made.
    fn put(answers: Vec<String>, access: impl Fn(Access) -> Access) -> (Result<String, S3Error>, Requests) {
        let (endpoint, heard) = server(answers);
        let access = access(Access::for_tests(&endpoint));
        let place = Place::new("s3://runs/a b", &access).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "PAR1 table PAR1").unwrap();
        let sha256 = crate::export::source::sha256("PAR1 table PAR1");
        let put = Client::new(&place, &access).put("tables/cost.parquet", file.path(), &sha256, "application/vnd.apache.parquet");
        let heard = heard.lock().unwrap().clone();
        (put, heard)
    }

    #[test]
    fn a_busy_store_is_asked_again_with_the_whole_file() {
        let slow = answer("503 Slow Down", "retry-after: 0\r\n", "<Error><Code>SlowDown</Code><Message>Please reduce</Message></Error>");
        let timed_out = error_answer("400 Bad Request", "RequestTimeout", "Your socket connection was not read from");
        let (put, heard) =
            put(vec![slow, timed_out, answer("200 OK", "", "")], |access| Access { token: Some("t0ken".to_owned()), ..access });
        assert_eq!(put.unwrap(), "s3://runs/a b/tables/cost.parquet");
        assert_eq!(heard.len(), 3);
        for (head, body) in &heard {
            let head = head.to_lowercase();
            assert!(head.starts_with("put /runs/a%20b/tables/cost.parquet http/1.1\r\n"), "{head}");
            assert_eq!(body, b"PAR1 table PAR1");
            assert_eq!(head.matches("\r\nhost: ").count(), 1, "{head}");
            assert!(head.contains("authorization: aws4-hmac-sha256 credential=akiaiosfodnn7example/"), "{head}");
            assert!(head.contains("x-amz-security-token: t0ken\r\n"), "{head}");
            assert!(head.contains(&format!("x-amz-content-sha256: {}\r\n", crate::export::source::sha256("PAR1 table PAR1"))), "{head}");
            assert!(!head.contains("wjalrxutnfemi"), "the secret is never sent: {head}");
        }
    }

    #[test]
    fn a_store_that_stays_busy_is_given_up_and_so_is_one_that_is_gone() {
        let busy = || error_answer("500 Internal Server Error", "InternalError", "We encountered an internal error");
        let (put, heard) = put(vec![busy(), busy()], |access| Access { attempts: 2, ..access });
        let error = put.unwrap_err();
        let text = error.to_string();
        assert_eq!(heard.len(), 2);
        assert!(text.starts_with("bucket `runs` at 127.0.0.1:"), "{text}");
        assert!(
            text.contains(" did not take `s3://runs/a b/tables/cost.parquet` in 2 attempts: status 500 InternalError: We encountered"),
            "{text}"
        );
        assert!(error.hint().unwrap().contains("AWS_ENDPOINT_URL"));

        let access = Access { attempts: 1, ..Access::for_tests("http://127.0.0.1:9") };
        let place = Place::new("s3://runs", &access).unwrap();
        let text = Client::new(&place, &access).get("manifest.json").unwrap_err().to_string();
        assert!(text.starts_with("bucket `runs` at 127.0.0.1:9 did not read `s3://runs/manifest.json` in 1 attempts: "), "{text}");
    }

    #[test]
    fn a_wait_that_is_too_long_is_not_waited_for() {
        let (put, heard) = put(vec![answer("503 Slow Down", "retry-after: 86400\r\n", "")], |access| access);
        assert!(put.unwrap_err().to_string().contains("in 1 attempts: status 503: no reason given"));
        assert_eq!(heard.len(), 1);
    }

    #[test]
    fn a_refusal_is_final_and_says_the_mend() {
        for (status, code, hint) in [
            ("404 Not Found", "NoSuchBucket", "aws s3 mb s3://runs"),
            ("403 Forbidden", "InvalidAccessKeyId", "must be of one key"),
            ("403 Forbidden", "SignatureDoesNotMatch", "must be of one key"),
            ("403 Forbidden", "AccessDenied", "s3:PutObject"),
            ("400 Bad Request", "ExpiredToken", "new temporary credentials"),
            ("403 Forbidden", "RequestTimeTooSkewed", "clock"),
            ("501 Not Implemented", "NotImplemented", "S3-compatible store"),
            ("405 Method Not Allowed", "MethodNotAllowed", "S3-compatible store"),
        ] {
            let (put, heard) = put(vec![error_answer(status, code, "Says &quot;why&quot; &amp; &lt;how&gt;")], |access| access);
            let error = put.unwrap_err();
            let text = error.to_string();
            let number = &status[..3];
            assert!(text.ends_with(&format!(": status {number} {code}: Says \"why\" & <how>")), "{text}");
            assert!(text.starts_with("bucket `runs` at 127.0.0.1:") && heard.len() == 1, "{text}");
            let mend = error.hint().unwrap();
            assert!(mend.contains(hint), "{code}: {mend}");
        }
        let (put, _) = put(vec![answer("405 Method Not Allowed", "", "<html>nginx</html>")], |access| access);
        assert!(put.unwrap_err().to_string().ends_with(": status 405: <html>nginx</html>"));
    }

    #[test]
    fn a_bucket_elsewhere_names_its_region() {
        let moved = answer("301 Moved Permanently", "x-amz-bucket-region: eu-west-1\r\n", "<Error><Code>PermanentRedirect</Code></Error>");
        let malformed = "<Error><Code>AuthorizationHeaderMalformed</Code><Message>expecting</Message><Region>eu-west-1</Region></Error>";
        for answer in [moved, answer("400 Bad Request", "", malformed)] {
            let (put, _) = put(vec![answer], |access| access);
            let hint = put.unwrap_err().hint().unwrap();
            assert_eq!(hint, "the bucket lies in `eu-west-1`: `export AWS_REGION=eu-west-1`");
        }
    }

    #[test]
    fn what_a_store_says_of_secrets_is_not_told_on() {
        let said = "key AKIAIOSFODNN7EXAMPLE, secret wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY, token t0ken";
        let (put, _) =
            put(vec![error_answer("403 Forbidden", "AccessDenied", said)], |access| Access { token: Some("t0ken".into()), ..access });
        let text = format!("{:?}", put.unwrap_err());
        assert!(text.contains("key ***, secret ***, token ***"), "{text}");
    }
}
