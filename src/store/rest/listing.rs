//! Listings: version 2 of the protocol tells names and sizes, version 1 names only.

use serde::Deserialize;

use crate::error::{Error, Kind, Result};

/// What is asked for, and what an answer in this form is called.
pub(super) const V2: &str = "application/vnd.x.restic.rest.v2";

/// No listing is longer: more than two million objects.
pub(super) const LONGEST: u64 = 256 << 20;

/// An object as a listing tells it.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Listed {
    pub name: String,
    /// Only in version 2.
    pub size: Option<u64>,
}

/// Reads the listing of `kind`, which came as `content_type`. Errors: `Unavailable`; what answers so is another server.
pub(super) fn parse(kind: &str, content_type: Option<&str>, body: &[u8]) -> Result<Vec<Listed>> {
    let form = content_type.and_then(|form| form.split(';').next()).unwrap_or_default().trim();
    let parsed = if form.eq_ignore_ascii_case(V2) {
        // Servers in Go write an empty list as null.
        serde_json::from_slice::<Option<Vec<Listed>>>(body)
    } else {
        let named = |names: Vec<String>| names.into_iter().map(|name| Listed { name, size: None }).collect();
        serde_json::from_slice::<Option<Vec<String>>>(body).map(|names| names.map(named))
    };
    let failed = |e| {
        let says = format!("{kind}/: the answer is no listing; is this the address of a restic REST server?");
        Error::caused_by(Kind::Unavailable, says, e)
    };
    Ok(parsed.map_err(failed)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(name: &str, size: Option<u64>) -> Listed {
        Listed { name: name.into(), size }
    }

    #[test]
    fn both_versions_are_told_apart_by_their_type() {
        let v2 = br#"[{"name":"a","size":5,"other":1},{"name":"b","size":0}]"#;
        let expected = [listed("a", Some(5)), listed("b", Some(0))];
        for form in [V2.to_owned(), format!("{V2}; charset=utf-8"), V2.to_uppercase()] {
            assert_eq!(parse("keys", Some(&form), v2).unwrap(), expected);
        }
        let v1 = br#"["a","b"]"#;
        for form in [None, Some("application/vnd.x.restic.rest.v1"), Some("application/json")] {
            assert_eq!(parse("keys", form, v1).unwrap(), [listed("a", None), listed("b", None)]);
        }
    }

    #[test]
    fn nothing_is_an_empty_list() {
        for form in [None, Some(V2)] {
            for body in ["null", "[]"] {
                assert_eq!(parse("keys", form, body.as_bytes()).unwrap(), []);
            }
        }
    }

    #[test]
    fn what_is_no_listing_is_never_an_empty_one() {
        for (form, body) in [
            (None, "<html>login</html>"),
            (None, ""),
            (None, r#"[{"name":"a","size":5}]"#),
            (Some(V2), r#"["a"]"#),
            (Some(V2), r#"[{"name":"a","size":-5}]"#),
            (Some(V2), r#"[{"name":"a","size":5}"#),
        ] {
            assert_eq!(parse("keys", form, body.as_bytes()).unwrap_err().kind(), Kind::Unavailable, "{body}");
        }
    }
}
