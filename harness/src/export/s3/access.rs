//! What opens a store, from the variables that its other clients read too.

use std::fmt;

use super::S3Error;

/// Attempts of a request where `AWS_MAX_ATTEMPTS` does not say.
const ATTEMPTS: u32 = 5;
/// What AWS's clients take where no region is set; other stores have one region, and take this name for it.
const REGION: &str = "us-east-1";

/// Credentials, region and endpoint. What is secret is shown as `***`.
#[derive(Clone)]
pub struct Access {
    /// Id of the key.
    pub(super) id: String,
    pub(super) secret: String,
    /// Of temporary credentials.
    pub(super) token: Option<String>,
    /// The store's region.
    pub region: String,
    /// Address of a store other than AWS, without a slash at its end.
    pub endpoint: Option<String>,
    /// Requests before one is given up.
    pub attempts: u32,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { region, endpoint, attempts, .. } = self;
        write!(f, "Access {{ id: ***, secret: ***, token: ***, region: {region:?}, endpoint: {endpoint:?}, attempts: {attempts} }}")
    }
}

impl Access {
    /// Reads `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION` or `AWS_DEFAULT_REGION`, `AWS_ENDPOINT_URL_S3` or
    /// `AWS_ENDPOINT_URL`, and `AWS_MAX_ATTEMPTS`. An empty variable is one that is not set.
    ///
    /// # Errors
    /// [`S3Error::Environment`]
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Result<Self, S3Error> {
        let read = |name: &'static str| variable(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let plain = |name: &'static str| match read(name) {
            Some(text) if !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err(S3Error::Environment { variable: name, problem: "holds a blank, a line break or a letter that is not ASCII" })
            }
            text => Ok(text),
        };
        let needed = |name| plain(name)?.ok_or(S3Error::Environment { variable: name, problem: "is not set" });
        let region = plain("AWS_REGION")?.or(plain("AWS_DEFAULT_REGION")?).unwrap_or_else(|| REGION.to_owned());
        if !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(S3Error::Environment { variable: "AWS_REGION", problem: "holds no name of a region, such as `eu-central-1`" });
        }
        let endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"].into_iter().find_map(|name| Some((name, read(name)?)));
        let endpoint = endpoint.map(|(name, text)| checked_endpoint(name, &text)).transpose()?;
        let attempts = match read("AWS_MAX_ATTEMPTS").map(|text| text.parse()) {
            None => ATTEMPTS,
            Some(Ok(attempts)) if attempts > 0 => attempts,
            Some(_) => return Err(S3Error::Environment { variable: "AWS_MAX_ATTEMPTS", problem: "is no whole number from 1" }),
        };
        Ok(Self {
            id: needed("AWS_ACCESS_KEY_ID")?,
            secret: needed("AWS_SECRET_ACCESS_KEY")?,
            token: plain("AWS_SESSION_TOKEN")?,
            region,
            endpoint,
            attempts,
        })
    }

    /// A text in one line of bounded length, without anything secret.
    pub(super) fn told(&self, text: &str) -> String {
        const TOLD: usize = 300;
        let secrets = [Some(&self.secret), self.token.as_ref(), Some(&self.id)];
        let text = secrets.into_iter().flatten().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"));
        text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(TOLD).collect()
    }

    #[cfg(test)]
    pub(super) fn for_tests(endpoint: &str) -> Self {
        let (id, secret) = ("AKIAIOSFODNN7EXAMPLE".to_owned(), "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned());
        Self { id, secret, token: None, region: REGION.to_owned(), endpoint: Some(endpoint.to_owned()), attempts: 3 }
    }
}

/// An address of a server: scheme, host, port and path, and nothing secret.
fn checked_endpoint(variable: &'static str, text: &str) -> Result<String, S3Error> {
    let problem = |problem| S3Error::Environment { variable, problem };
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let rest = rest.ok_or(problem("begins neither with `https://` nor with `http://`"))?;
    if rest.split('/').next().is_none_or(str::is_empty) {
        return Err(problem("names no host"));
    }
    if rest.contains(['@', '?', '#', '%']) || !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(problem("is no plain address of a server"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(set: &[(&str, &str)]) -> Result<Access, S3Error> {
        let keys = [("AWS_ACCESS_KEY_ID", "id-1"), ("AWS_SECRET_ACCESS_KEY", "s3cret")];
        let all = [set, &keys].concat();
        Access::from_env(|name| all.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_standard_variables_are_read_the_closer_one_first() {
        let plain = access(&[]).unwrap();
        assert_eq!((plain.region.as_str(), plain.endpoint, plain.token, plain.attempts), ("us-east-1", None, None, 5));
        let set = access(&[
            ("AWS_REGION", "eu-central-1"),
            ("AWS_DEFAULT_REGION", "eu-west-1"),
            ("AWS_ENDPOINT_URL", "https://all.example"),
            ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9000/"),
            ("AWS_SESSION_TOKEN", "t0ken"),
            ("AWS_MAX_ATTEMPTS", "2"),
        ])
        .unwrap();
        assert_eq!((set.region.as_str(), set.endpoint.as_deref()), ("eu-central-1", Some("http://127.0.0.1:9000")));
        assert_eq!((set.token.as_deref(), set.attempts), (Some("t0ken"), 2));
        let fallen_back = access(&[("AWS_REGION", " "), ("AWS_DEFAULT_REGION", "eu-west-1"), ("AWS_ENDPOINT_URL", "https://all.example")]);
        let fallen_back = fallen_back.unwrap();
        assert_eq!((fallen_back.region.as_str(), fallen_back.endpoint.as_deref()), ("eu-west-1", Some("https://all.example")));
    }

    #[test]
    fn what_is_missing_or_unusable_is_named_and_not_shown() {
        for (name, value, problem) in [
            ("AWS_ACCESS_KEY_ID", "", "is not set"),
            ("AWS_SECRET_ACCESS_KEY", "", "is not set"),
            ("AWS_SECRET_ACCESS_KEY", "s3c ret", "holds a blank"),
            ("AWS_SESSION_TOKEN", "tök", "not ASCII"),
            ("AWS_REGION", "eu/../x", "no name of a region"),
            ("AWS_ENDPOINT_URL", "localhost:9000", "begins neither with"),
            ("AWS_ENDPOINT_URL_S3", "http:///x", "names no host"),
            ("AWS_ENDPOINT_URL", "https://me:s3cret@host", "no plain address"),
            ("AWS_MAX_ATTEMPTS", "0", "no whole number"),
        ] {
            let error = access(&[(name, value)]).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(&format!("`{name}` ")) && text.contains(problem), "{text}");
            assert!(value.is_empty() || !text.contains(value), "{text}");
            assert!(crate::diagnostic::Hint::hint(&error).is_some());
        }
    }

    #[test]
    fn nothing_secret_is_shown_or_told_on() {
        let access = access(&[("AWS_SESSION_TOKEN", "t0ken")]).unwrap();
        let shown = format!("{access:?} {}", access.told("id-1 and\n s3cret,  t0ken"));
        assert!(shown.ends_with("*** and ***, ***") && !["id-1", "s3cret", "t0ken"].iter().any(|secret| shown.contains(secret)), "{shown}");
    }
}
