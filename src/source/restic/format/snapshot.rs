//! Snapshot files of every writer: all but the time and the tree may be missing.

use serde::Deserialize;

use super::time;
use crate::error::{Error, Kind, Result};
use crate::source::chunked::Id;
use crate::tree::SnapshotTime;

/// A snapshot as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawSnapshot {
    /// When it was taken.
    pub time: SnapshotTime,
    /// The tree blob of its root.
    pub tree: Id,
    /// What was backed up, in the writer's own form; may be empty.
    pub paths: Vec<Vec<u8>>,
    /// The machine; `None` when missing or empty.
    pub hostname: Option<String>,
    /// Who ran the backup; `None` when missing or empty.
    pub username: Option<String>,
    /// Tags in recorded order.
    pub tags: Vec<String>,
    /// The id of the snapshot that this one was first, before tags or a rewrite gave it a new name.
    pub original: Option<String>,
}

#[derive(Deserialize)]
struct Raw {
    time: String,
    tree: String,
    paths: Option<Vec<String>>,
    hostname: Option<String>,
    username: Option<String>,
    tags: Option<Vec<String>>,
    original: Option<String>,
}

/// Parses the plaintext of a snapshot file. Everything wrong is `Corrupt`.
pub fn parse(json: &[u8]) -> Result<RawSnapshot> {
    let raw: Raw =
        serde_json::from_slice(json).map_err(|e| Error::caused_by(Kind::Corrupt, "malformed snapshot", e))?;
    let (instant, offset) = time::parse(&raw.time)?;
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    Ok(RawSnapshot {
        time: SnapshotTime { instant, offset },
        tree: raw.tree.parse()?,
        paths: raw.paths.unwrap_or_default().into_iter().map(String::into_bytes).collect(),
        hostname: given(raw.hostname),
        username: given(raw.username),
        tags: raw.tags.unwrap_or_default(),
        original: given(raw.original),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tree::Time;

    const TREE: &str = "0a1920c5bbe912c0cc0026aca46504d0d40de77561cedb3b170f94c1066d2bff";

    fn with(fields: &str) -> RawSnapshot {
        parse(format!(r#"{{"time":"2024-01-16T03:00:00.5+01:00","tree":"{TREE}"{fields}}}"#).as_bytes())
            .unwrap()
    }

    #[test]
    fn time_and_tree_are_enough() {
        let expected = RawSnapshot {
            time: SnapshotTime {
                instant: Time { secs: 1_705_370_400, nanos: 500_000_000 },
                offset: Some(3600),
            },
            tree: TREE.parse().unwrap(),
            paths: vec![],
            hostname: None,
            username: None,
            tags: vec![],
            original: None,
        };
        assert_eq!(with(""), expected);
        assert_eq!(
            with(r#","paths":null,"hostname":null,"username":null,"tags":null,"original":null,"uid":null"#),
            expected
        );
        assert_eq!(with(r#","hostname":"","username":"","original":"","tags":[],"paths":[]"#), expected);
    }

    #[test]
    fn reads_what_restic_and_rustic_record() {
        let snapshot = with(
            r#","parent":"ab","paths":["/home/bob","C:\\Users\\lab","src"],"hostname":"alpha","username":"root",
            "uid":1000,"gid":1000,"excludes":["*.tmp"],"tags":["nightly","full"],"original":"cd",
            "program_version":"rustic 0.11.4","label":"l","delete":{"After":"2030-01-01T00:00:00Z"},"parents":[],
            "summary":{"files_new":709,"total_duration":0.5,"command":"backup"}"#,
        );
        assert_eq!(snapshot.paths, [&b"/home/bob"[..], br"C:\Users\lab", b"src"]);
        assert_eq!(snapshot.hostname.as_deref(), Some("alpha"));
        assert_eq!(snapshot.username.as_deref(), Some("root"));
        assert_eq!(snapshot.tags, ["nightly", "full"]);
        assert_eq!(snapshot.original.as_deref(), Some("cd"));
    }

    #[test]
    fn garbage_is_corrupt() {
        for json in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"time":"2024-01-16T03:00:00Z"}"#,
            r#"{"time":"2024-01-16T03:00:00Z","tree":"abcd"}"#,
            r#"{"time":"2024-01-16T03:00:00Z","tree":null}"#,
            &format!(r#"{{"time":"yesterday","tree":"{TREE}"}}"#),
            &format!(r#"{{"time":1705370400,"tree":"{TREE}"}}"#),
            &format!(r#"{{"time":"2024-01-16T03:00:00Z","tree":"{TREE}"}}trailing"#),
            &format!(r#"{{"time":"2024-01-16T03:00:00Z","tree":"{TREE}","paths":"/home"}}"#),
        ] {
            assert_eq!(parse(json.as_bytes()).unwrap_err().kind(), Kind::Corrupt, "{json}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(junk: Vec<u8>) {
            prop_assert!(parse(&junk).is_err());
        }
    }
}
