//! `s3:`: a URL of the endpoint, or restic's short forms.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::authority::{self, Authority, Endpoint};
use super::{components, usage};
use crate::error::Result;

/// Objects below a prefix of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct S3 {
    /// The server; `None` is Amazon's.
    pub endpoint: Option<Endpoint>,
    /// The region where the spelling names it: `s3:eu-central-1/bucket`.
    pub region: Option<String>,
    /// The bucket; empty for all buckets of the endpoint, which only a group's pattern leads to.
    pub bucket: String,
    /// Where in the bucket: no slash at either end, empty for all of it.
    pub prefix: String,
}

const FORMS: &str = "s3:https://HOST/BUCKET/PREFIX, s3:HOST/BUCKET/PREFIX, or s3:BUCKET/PREFIX at Amazon";

/// Reads what follows `s3:`.
///
/// As in restic, `s3:x/y` and `s3://x/y` name a host where `x` is one. What could not be a host (no dot, no port, not
/// `localhost`) is a region of Amazon's when it looks like one, and else a bucket there.
pub(super) fn parse(rest: &str) -> Result<S3> {
    if rest.contains(['?', '#']) && rest.contains("://") {
        return Err(usage("s3: a query or fragment has no place in a location"));
    }
    if let Some((tls, authority, path)) = authority::web(rest) {
        let Authority { user, password, host, port } = authority.map_err(|e| e.context("s3"))?;
        if user.is_some() || password.is_some() {
            return Err(usage(
                "s3: keys do not belong into the URL; use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, \
                 or s3-key-id and s3-secret-file",
            ));
        }
        let path = authority::decoded(path).and_then(|path| String::from_utf8(path.to_vec()).ok());
        let path = path.ok_or_else(|| usage("s3: a percent sign in a URL must be written %25"))?;
        return below(Some(Endpoint { tls, host, port }), None, &path);
    }
    if rest.starts_with("http:") || rest.starts_with("https:") || rest.starts_with("http/") {
        return Err(usage(format!("s3: \"//\" is missing behind http: or https:; write {FORMS}")));
    }
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (first, path) = authority::divide(rest);
    if first.is_empty() {
        return Err(usage(format!("s3: nothing stands before the first slash; write {FORMS}")));
    }
    if first.contains('@') {
        return Err(usage("s3: keys do not belong into the location"));
    }
    if first == "localhost" || first.contains(['.', ':']) {
        let (host, port) = authority::place_of(first).map_err(|e| e.context("s3"))?;
        return below(Some(Endpoint { tls: true, host, port }), None, path);
    }
    if is_region(first) && !components(path)?.is_empty() {
        return below(None, Some(first.to_owned()), path);
    }
    below(None, None, rest)
}

/// The bucket and prefix that `path` names.
fn below(endpoint: Option<Endpoint>, region: Option<String>, path: &str) -> Result<S3> {
    let parts = components(path)?;
    let Some((bucket, prefix)) = parts.split_first() else {
        return Err(usage(format!("s3: the bucket is missing; write {FORMS}")));
    };
    Ok(S3 { endpoint, region, bucket: (*bucket).to_owned(), prefix: prefix.join("/") })
}

/// Whether `word` is made like Amazon's regions: `eu-central-1`, `us-gov-east-1`.
fn is_region(word: &str) -> bool {
    let parts: Vec<&str> = word.split('-').collect();
    let letters = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase());
    match parts.as_slice() {
        [area, middle @ .., number] => {
            area.len() == 2
                && (1..=2).contains(&middle.len())
                && letters(area)
                && middle.iter().all(letters)
                && number.len() == 1
                && number.bytes().all(|b| b.is_ascii_digit())
        }
        _ => false,
    }
}

impl fmt::Display for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("s3:")?;
        match (&self.endpoint, &self.region) {
            (Some(endpoint), _) => {
                // In a URL, a percent sign begins a byte.
                let escaped = |text: &str| text.replace('%', "%25").replace('?', "%3F").replace('#', "%23");
                let (bucket, prefix) = (escaped(&self.bucket), escaped(&self.prefix));
                return write!(f, "{endpoint}/{bucket}").and_then(|()| slash(f, &prefix));
            }
            (None, Some(region)) => write!(f, "{region}/{}", self.bucket)?,
            (None, None) => f.write_str(&self.bucket)?,
        }
        slash(f, &self.prefix)
    }
}

fn slash(f: &mut fmt::Formatter<'_>, prefix: &str) -> fmt::Result {
    if prefix.is_empty() { Ok(()) } else { write!(f, "/{prefix}") }
}

#[cfg(test)]
mod tests {
    use super::super::Location;
    use super::super::tests::{parsed, read};
    use super::*;

    fn s3(spelled: &str) -> (String, String, String, String) {
        let Location::S3(S3 { endpoint, region, bucket, prefix }) = read(spelled) else {
            panic!("{spelled}")
        };
        let endpoint = endpoint.map_or_else(String::new, |e| e.to_string());
        (endpoint, region.unwrap_or_default(), bucket, prefix)
    }

    #[test]
    fn every_spelling_that_restic_reads() {
        for (spelled, endpoint, region, bucket, prefix) in [
            ("s3:https://h.x/b", "https://h.x", "", "b", ""),
            ("s3:https://h.x/b/", "https://h.x", "", "b", ""),
            ("s3:https://h.x:9000/b//p/q/", "https://h.x:9000", "", "b", "p/q"),
            ("s3:http://localhost:9000/b/p", "http://localhost:9000", "", "b", "p"),
            ("s3:https://h.x/b/a%20b", "https://h.x", "", "b", "a b"),
            ("s3:https://h/b", "https://h", "", "b", ""),
            ("s3:s3.amazonaws.com/b/p", "https://s3.amazonaws.com", "", "b", "p"),
            ("s3://h.x/b/p", "https://h.x", "", "b", "p"),
            ("s3:h.x:9000/b", "https://h.x:9000", "", "b", ""),
            ("s3:localhost/b", "https://localhost", "", "b", ""),
            ("s3:eu-central-1/b/p", "", "eu-central-1", "b", "p"),
            ("s3://us-gov-east-1/b", "", "us-gov-east-1", "b", ""),
            ("s3:bucket/p/q", "", "", "bucket", "p/q"),
            ("s3://bucket", "", "", "bucket", ""),
            ("s3:my-bucket-12/p", "", "", "my-bucket-12", "p"),
            ("s3:eu-central-1", "", "", "eu-central-1", ""),
            ("s3:h.x/b/a%20b?x", "https://h.x", "", "b", "a%20b?x"),
        ] {
            let expected = (endpoint.into(), region.into(), bucket.into(), prefix.into());
            assert_eq!(s3(spelled), expected, "{spelled}");
        }
    }

    #[test]
    fn mistakes_are_told_with_the_right_form_and_without_keys() {
        for (spelled, says) in [
            ("s3:https://h.x", "the bucket is missing; write s3:https://HOST/BUCKET/PREFIX"),
            ("s3:https://h.x/", "the bucket is missing"),
            ("s3:h.x", "the bucket is missing"),
            ("s3:", "nothing stands before the first slash"),
            ("s3:/bucket", "nothing stands before the first slash"),
            ("s3:https:/h.x/b", "\"//\" is missing"),
            ("s3:https:h.x/b", "\"//\" is missing"),
            ("s3:https://AKIA:hunter2@h.x/b", "keys do not belong into the URL"),
            ("s3:AKIA:hunter2@h.x/b", "keys do not belong"),
            ("s3:https://h.x/b?secret=hunter2", "a query or fragment"),
            ("s3:https://h.x/b/../c", "\"..\" has no place"),
            ("s3:https://h.x:port/b", "the port is no number"),
            ("s3:https:///b", "the name of the host is missing"),
            ("s3:https://h.x/b/%zz", "must be written %25"),
        ] {
            let error = parsed(spelled).expect_err(spelled).to_string();
            assert!(error.contains(says), "{spelled}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn odd_prefixes_are_shown_as_they_read_back() {
        for spelled in ["s3:https://h.x/b/100%25%3F%23", "s3:b/100%25"] {
            let location = read(spelled);
            assert_eq!(read(&location.to_string()), location);
        }
    }
}
