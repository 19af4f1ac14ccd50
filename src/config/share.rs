//! What a source may take of the disk cache, as `cache-share` says it.

use serde::{Deserialize, Serialize};

use super::given::Entry;
use crate::error::Result;

/// A part of the disk cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// So many hundredths of what it may take.
    Percent(u8),
    /// So many bytes.
    Bytes(u64),
}

impl Part {
    /// What it comes to where all of it is `whole` bytes.
    pub fn of(self, whole: u64) -> u64 {
        match self {
            Part::Percent(percent) => whole / 100 * u64::from(percent),
            Part::Bytes(bytes) => bytes,
        }
    }
}

/// What a source, or all members of a group, may take of the disk cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheShare {
    /// Whose it is: those that have the same take it together.
    pub of: String,
    /// How much.
    pub part: Part,
}

/// Reads it.
pub fn part(entry: &Entry) -> Result<Part> {
    let percent = entry.text().ok().and_then(|text| text.strip_suffix('%'));
    let part = match percent.map(|percent| percent.trim().parse()) {
        Some(Ok(percent @ 1..=100)) => Part::Percent(percent),
        Some(_) => return Err(entry.wrong("must be a share such as \"20%\", or a size such as 2G")),
        None => Part::Bytes(entry.size()?),
    };
    if part == Part::Bytes(0) { Err(entry.wrong("must be more than nothing")) } else { Ok(part) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::file;
    use super::*;

    fn said(text: &str) -> Result<Part> {
        part(&file::entries(Path::new("c.toml"), &format!("cache-share = '{text}'\n"))?[0])
    }

    #[test]
    fn it_is_a_percentage_or_a_size() {
        assert_eq!(said("20%").unwrap().of(1_000), 200);
        assert_eq!(said("2G").unwrap(), Part::Bytes(2 << 30));
        for wrong in ["0%", "101%", "x%", "0", "much"] {
            let error = said(wrong).unwrap_err().to_string();
            assert!(error.starts_with("c.toml:1: cache-share: must be "), "{error}");
        }
    }
}
