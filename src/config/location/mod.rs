//! Where a repository is, in restic's spelling.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};

/// What other places are spelled with; this version reads local repositories.
const ELSEWHERE: &[&str] = &[
    "s3",
    "rest",
    "sftp",
    "rclone",
    "b2",
    "azure",
    "gs",
    "swift",
    "http",
    "https",
    "kopia",
    "velero",
    "zfs",
    "directory",
    "objects",
];

/// The absolute path of a local repository; a relative one counts from `base`. Errors: `Unsupported`, which repeats
/// nothing of a URL, because URLs may hold passwords.
pub fn parse(spelled: &OsStr, base: &Path) -> Result<PathBuf> {
    let bytes = spelled.as_bytes();
    if let Some(scheme) = scheme(bytes)
        && (ELSEWHERE.contains(&scheme)
            || bytes.get(scheme.len()..).is_some_and(|rest| rest.starts_with(b"://")))
    {
        let says =
            format!("\"{scheme}:\" is not supported by this version, which reads local restic repositories");
        return Err(Error::new(Kind::Unsupported, says));
    }
    let path = ["local:", "restic:"]
        .iter()
        .find_map(|prefix| bytes.strip_prefix(prefix.as_bytes()))
        .unwrap_or(bytes);
    if path.is_empty() {
        return Err(Error::new(Kind::Usage, "the path of a repository is empty"));
    }
    Ok(base.join(OsStr::from_bytes(path)))
}

/// The word before the first colon, if it could be a scheme.
fn scheme(bytes: &[u8]) -> Option<&str> {
    let colon = bytes.iter().position(|b| *b == b':')?;
    let word = std::str::from_utf8(bytes.get(..colon)?).ok()?;
    word.bytes().all(|b| b.is_ascii_alphanumeric()).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(spelled: &str) -> Result<PathBuf> {
        parse(OsStr::new(spelled), Path::new("/base"))
    }

    #[test]
    fn local_paths_in_each_spelling() {
        for (spelled, path) in [
            ("/srv/repo", "/srv/repo"),
            ("local:/srv/repo", "/srv/repo"),
            ("restic:/srv/repo", "/srv/repo"),
            ("repo", "/base/repo"),
            ("./s3:x", "/base/./s3:x"),
            ("odd:name", "/base/odd:name"),
        ] {
            assert_eq!(parsed(spelled).unwrap(), Path::new(path), "{spelled}");
        }
        assert_eq!(parsed("local:").unwrap_err().kind(), Kind::Usage);
        let bytes = OsStr::from_bytes(b"/srv/\xff");
        assert_eq!(parse(bytes, Path::new("/")).unwrap().as_os_str(), bytes);
    }

    #[test]
    fn other_places_are_refused_without_their_secrets() {
        for url in [
            "s3:https://s3.example.org/b",
            "rest:https://u:hunter2@h/",
            "ftp://u:hunter2@h/",
            "zfs:tank",
            "kopia:/x",
        ] {
            let error = parsed(url).unwrap_err();
            assert_eq!(error.kind(), Kind::Unsupported, "{url}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
