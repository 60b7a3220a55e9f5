//! Signature version 4 of AWS, in the headers of a request, as S3 wants it: <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>.
//!
//! The hash of the body is signed too, so that a store takes no body that was changed on the way; and nothing secret stands in an address, as
//! it would in a presigned one.

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::Access;
use crate::export::hexadecimal;

/// What is to be signed.
pub struct Request<'a> {
    /// In capitals.
    pub method: &'a str,
    /// Host, and port where it is not the scheme's own.
    pub host: &'a str,
    /// Percent-encoded.
    pub path: &'a str,
    /// More headers to be signed; names in small letters.
    pub headers: &'a [(&'a str, &'a str)],
    /// SHA-256 of the body, in hexadecimal.
    pub sha256: &'a str,
}

/// The headers that a request needs beside its own.
pub fn headers(request: &Request, access: &Access, now: Timestamp) -> Vec<(&'static str, String)> {
    let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let mut added = vec![("x-amz-content-sha256", request.sha256.to_owned()), ("x-amz-date", time.clone())];
    added.extend(access.token.clone().map(|token| ("x-amz-security-token", token)));

    let mut signed = vec![("host", request.host)];
    signed.extend(request.headers.iter().copied());
    signed.extend(added.iter().map(|(name, value)| (*name, value.as_str())));
    signed.sort_unstable();
    let names = signed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let lines: String = signed.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let canonical = format!("{}\n{}\n\n{lines}\n{names}\n{}", request.method, request.path, request.sha256);

    let (day, region) = (&time[..8], access.region.as_str());
    let scope = format!("{day}/{region}/s3/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hexadecimal(&Sha256::digest(canonical.as_bytes())));
    let mut key = format!("AWS4{}", access.secret).into_bytes();
    for part in [day, region, "s3", "aws4_request", &text] {
        key = mac(&key, part);
    }
    let authorization = format!("AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={names},Signature={}", access.id, hexadecimal(&key));
    added.push(("authorization", authorization));
    added
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of nothing.
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[track_caller]
    fn check(request: &Request, signed_headers: &str, signature: &str) {
        let access = Access { endpoint: None, ..Access::for_tests("") };
        let added = headers(request, &access, "2013-05-24T00:00:00Z".parse().unwrap());
        let expected = format!(
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders={signed_headers},Signature={signature}"
        );
        assert_eq!(added.last().unwrap(), &("authorization", expected));
    }

    #[test]
    fn signatures_are_those_of_the_examples_of_aws() {
        let host = "examplebucket.s3.amazonaws.com";
        let get = Request { method: "GET", host, path: "/test.txt", headers: &[("range", "bytes=0-9")], sha256: EMPTY };
        check(&get, "host;range;x-amz-content-sha256;x-amz-date", "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
        let more = [("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")];
        let sha256 = hexadecimal(&Sha256::digest(b"Welcome to Amazon S3."));
        let put = Request { method: "PUT", host, path: "/test%24file.text", headers: &more, sha256: &sha256 };
        check(
            &put,
            "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        );
    }

    /// Reference values of botocore; `harness/tests/fixtures/make_signatures.py` makes them.
    #[test]
    fn signatures_are_those_of_botocore() {
        let cases: serde_json::Value = serde_json::from_str(include_str!("../../../tests/fixtures/signatures.json")).unwrap();
        let cases = cases.as_array().unwrap();
        assert!(cases.len() >= 6);
        for case in cases {
            let text = |name: &str| case[name].as_str().unwrap();
            let access = Access {
                token: case["token"].as_str().map(str::to_owned),
                region: text("region").to_owned(),
                endpoint: case["endpoint"].as_str().map(str::to_owned),
                ..Access::for_tests("")
            };
            let place = super::super::Place::new(text("place"), &access).unwrap();
            assert_eq!(place.url(text("name")), text("url"));
            let sha256 = hexadecimal(&Sha256::digest(text("body").as_bytes()));
            let path = place.path(text("name"));
            let request = Request { method: text("method"), host: &place.host, path: &path, headers: &[], sha256: &sha256 };
            let added = headers(&request, &access, text("time").parse().unwrap());
            assert_eq!(added.last().unwrap().1.replace(',', ", "), text("authorization"), "{case}");
        }
    }
}
