//! Where objects stand: `s3://BUCKET/PREFIX`, and the address at which a store answers for it.

use std::fmt;

use super::{Access, S3Error};
use crate::export::percent_encoded;

/// The longest key that a store takes, in bytes, less the longest name of a table.
const LONGEST_PREFIX: usize = 900;

/// A bucket, a prefix in it, and the server that has both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Name of the bucket.
    pub bucket: String,
    /// Without a slash at either end; empty for the whole bucket.
    prefix: String,
    scheme: &'static str,
    /// Host and port.
    pub(super) host: String,
    /// What precedes a key in the path of an address, percent-encoded, with a slash at its end.
    path: String,
}

impl Place {
    /// Takes `s3://BUCKET/PREFIX` apart. AWS is asked at the bucket's own host, a store at an endpoint of its own by the bucket in the path.
    ///
    /// # Errors
    /// [`S3Error::Address`]
    pub fn new(text: &str, access: &Access) -> Result<Self, S3Error> {
        let problem = |problem| S3Error::Address { text: text.to_owned(), problem };
        let rest = text.strip_prefix("s3://").ok_or(problem("does not begin with `s3://`"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        let is_end = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if !(3..=255).contains(&bucket.len())
            || !bucket.bytes().all(is_fit)
            || !is_end(bucket.bytes().next())
            || !is_end(bucket.bytes().last())
        {
            return Err(problem("names no bucket: three or more letters, digits, dots and hyphens"));
        }
        if !prefix.is_empty() && prefix.split('/').any(|part| ["", ".", ".."].contains(&part)) {
            return Err(problem("has a prefix with an empty part, `.` or `..`, which stores and clients read in different ways"));
        }
        if prefix.chars().any(char::is_control) {
            return Err(problem("has a prefix with a control character"));
        }
        if prefix.len() > LONGEST_PREFIX {
            return Err(problem("has a prefix that is too long"));
        }
        let in_name = bucket.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        let (scheme, host, path) = if let Some(endpoint) = &access.endpoint {
            let (scheme, rest) = endpoint
                .strip_prefix("http://")
                .map_or_else(|| ("https", endpoint.strip_prefix("https://").unwrap_or(endpoint)), |rest| ("http", rest));
            let (host, base) = rest.split_once('/').unwrap_or((rest, ""));
            (scheme, host.to_owned(), if base.is_empty() { format!("/{bucket}/") } else { format!("/{base}/{bucket}/") })
        } else {
            let domain = if access.region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
            let host = format!("s3.{}.{domain}", access.region);
            // A certificate holds for one label before this, and host names know no capitals.
            if in_name && bucket.len() <= 63 {
                ("https", format!("{bucket}.{host}"), "/".to_owned())
            } else {
                ("https", host, format!("/{bucket}/"))
            }
        };
        let place = Self { bucket: bucket.to_owned(), prefix: prefix.to_owned(), scheme, host, path };
        Ok(place)
    }

    /// Path of an object's address, percent-encoded: what is signed, and what is asked for.
    pub(super) fn path(&self, name: &str) -> String {
        let key = if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) };
        let parts: Vec<String> = key.split('/').map(percent_encoded).collect();
        format!("{}{}", self.path, parts.join("/"))
    }

    pub(super) fn url(&self, name: &str) -> String {
        format!("{}://{}{}", self.scheme, self.host, self.path(name))
    }

    /// `s3://BUCKET/PREFIX/NAME`
    pub(super) fn shown(&self, name: &str) -> String {
        format!("{self}/{name}")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        write!(f, "s3://{}{slash}{}", self.bucket, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str, endpoint: Option<&str>, region: &str) -> String {
        let access = Access { endpoint: endpoint.map(str::to_owned), region: region.to_owned(), ..Access::for_tests("") };
        Place::new(text, &access).unwrap().url("tables/cost.parquet")
    }

    #[test]
    fn aws_is_asked_at_the_buckets_host_and_other_stores_by_the_path() {
        let own = Some("http://127.0.0.1:9000");
        for (text, endpoint, region, expected) in [
            ("s3://runs/a/b/", None, "eu-west-1", "https://runs.s3.eu-west-1.amazonaws.com/a/b/tables/cost.parquet"),
            ("s3://runs", None, "cn-north-1", "https://runs.s3.cn-north-1.amazonaws.com.cn/tables/cost.parquet"),
            ("s3://my.runs/a", None, "us-east-1", "https://s3.us-east-1.amazonaws.com/my.runs/a/tables/cost.parquet"),
            ("s3://Old_Runs/a", None, "us-east-1", "https://s3.us-east-1.amazonaws.com/Old_Runs/a/tables/cost.parquet"),
            ("s3://runs/a", own, "us-east-1", "http://127.0.0.1:9000/runs/a/tables/cost.parquet"),
            ("s3://runs/", Some("https://host/s3"), "auto", "https://host/s3/runs/tables/cost.parquet"),
            ("s3://runs/ä b+c?d=1/~e", own, "auto", "http://127.0.0.1:9000/runs/%C3%A4%20b%2Bc%3Fd%3D1/~e/tables/cost.parquet"),
        ] {
            assert_eq!(url(text, endpoint, region), expected);
        }
        let place = Place::new("s3://runs/ä b/", &Access::for_tests("http://h")).unwrap();
        assert_eq!((place.to_string(), place.shown("x")), ("s3://runs/ä b".to_owned(), "s3://runs/ä b/x".to_owned()));
        assert_eq!(Place::new("s3://runs/", &Access::for_tests("http://h")).unwrap().shown("x"), "s3://runs/x");
    }

    #[test]
    fn what_is_no_place_is_refused() {
        let long = format!("s3://runs/{}", "x".repeat(901));
        for (text, problem) in [
            ("out", "does not begin with"),
            ("https://runs.s3.amazonaws.com/a", "does not begin with"),
            ("s3://", "names no bucket"),
            ("s3:///a", "names no bucket"),
            ("s3://me:key@runs/a", "names no bucket"),
            ("s3://-runs", "names no bucket"),
            ("s3://runs/a//b", "an empty part"),
            ("s3://runs//a", "an empty part"),
            ("s3://runs/a/../b", "`..`"),
            ("s3://runs/a\nb", "a control character"),
            (&long, "too long"),
        ] {
            let error = Place::new(text, &Access::for_tests("http://h")).unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
