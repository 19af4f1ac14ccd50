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
