//! The repository's `config` file.

use serde::Deserialize;

use crate::error::{Error, Kind, Result};

/// What a reader needs of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Version of the format: 1 or 2.
    pub version: u32,
    /// The repository's own id, 64 hexadecimal digits; the same in every copy and in both halves of a hot/cold pair.
    pub id: String,
    /// Whether this is the hot half of a rustic pair, which holds no file content.
    pub is_hot: bool,
}

#[derive(Deserialize)]
struct Raw {
    version: u32,
    id: Option<String>,
    is_hot: Option<bool>,
}

/// Parses the plaintext of `config`. Keys that this program does not know are skipped. Errors: `Unsupported` for any
/// version but 1 and 2, else `Corrupt`.
pub fn parse(plain: &[u8]) -> Result<Config> {
    let raw: Raw =
        serde_json::from_slice(plain).map_err(|e| Error::caused_by(Kind::Corrupt, "malformed config", e))?;
    if !matches!(raw.version, 1 | 2) {
        return Err(Error::new(
            Kind::Unsupported,
            format!("repository version {} (this program reads 1 and 2)", raw.version),
        ));
    }
    let id = raw
        .id
        .filter(|id| !id.is_empty())
        .ok_or_else(|| Error::new(Kind::Corrupt, "config without a repository id"))?;
    Ok(Config { version: raw.version, id, is_hot: raw.is_hot.unwrap_or(false) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_versions_and_skips_what_rustic_adds() {
        let config = parse(br#"{"version":1,"id":"ab12","chunker_polynomial":"25b468838dcb75"}"#).unwrap();
        assert_eq!(config, Config { version: 1, id: "ab12".into(), is_hot: false });
        let config = parse(
            br#"{"version":2,"id":"ab12","chunker_polynomial":"3","chunker":"fixed_size","chunk_size":4096,
                "is_hot":true,"append_only":null,"compression":19,"treepack_size":4194304,"future":[{}]}"#,
        );
        assert_eq!(config.unwrap(), Config { version: 2, id: "ab12".into(), is_hot: true });
    }

    #[test]
    fn another_version_is_unsupported_and_named() {
        for version in [0, 3, 1000] {
            let error = parse(format!(r#"{{"version":{version},"id":"ab"}}"#).as_bytes()).unwrap_err();
            assert_eq!(error.kind(), Kind::Unsupported);
            assert!(error.to_string().contains(&format!("version {version} ")), "{error}");
        }
    }

    #[test]
    fn junk_is_corrupt() {
        let junk: [&[u8]; 7] = [
            b"",
            b"{",
            b"[]",
            b"null",
            br#"{"id":"ab"}"#,
            br#"{"version":"2","id":"ab"}"#,
            br#"{"version":2,"id":""}"#,
        ];
        for json in junk {
            assert_eq!(parse(json).unwrap_err().kind(), Kind::Corrupt, "{}", json.escape_ascii());
        }
    }
}
