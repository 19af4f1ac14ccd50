//! Which keys an object store takes: relative, in one spelling, never leading out of the store.

use crate::error::{Again, Error, Kind, Result};

/// Checks that `key` names an object: components joined by `/`, none empty, `.`, `..` or with a NUL. Errors: `Invalid`.
pub(super) fn check_key(key: &str) -> Result<()> {
    if key.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0')) {
        return Ok(());
    }
    Err(Error::new(Kind::Invalid, format!("{key:?} is no object key")).worth(Again::Unsent))
}

/// Checks that `prefix` is empty or a key that ends in one more `/`. Errors: `Invalid`.
pub(super) fn check_prefix(prefix: &str) -> Result<()> {
    match prefix.strip_suffix('/') {
        Some(key) => check_key(key),
        None if prefix.is_empty() => Ok(()),
        None => Err(Error::new(Kind::Invalid, format!("prefix {prefix:?} does not end in a slash"))),
    }
}

/// Checks that a whole object of `size` bytes is wanted. Errors: `Unsupported`.
pub(super) fn check_limit(key: &str, size: u64, limit: u64) -> Result<()> {
    if size <= limit {
        return Ok(());
    }
    Err(Error::new(
        Kind::Unsupported,
        format!("{key}: {size} bytes, of which at most {limit} are read at once"),
    ))
}

/// The end of `length` bytes from `offset` of an object of `size` bytes. Errors: `Corrupt` when the object ends
/// earlier, which covers numbers that no object could have.
pub(super) fn check_range(key: &str, size: u64, offset: u64, length: u64) -> Result<u64> {
    offset.checked_add(length).filter(|&end| end <= size).ok_or_else(|| {
        Error::new(
            Kind::Corrupt,
            format!("{key}: {length} bytes from {offset} wanted of an object of {size}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_cannot_leave_the_store_or_have_two_spellings() {
        for good in ["config", "data/00/00ff", "...", "a..b/ c", "-", "日本/é"] {
            assert!(check_key(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "../x",
            "a/../b",
            "a/..",
            ".",
            "a/./b",
            "a//b",
            "a/",
            "a\0b",
            "a/\0",
        ] {
            assert_eq!(check_key(bad).unwrap_err().kind(), Kind::Invalid, "{bad:?}");
        }
    }

    #[test]
    fn prefixes_are_empty_or_end_in_one_slash() {
        for good in ["", "data/", "data/00/"] {
            assert!(check_prefix(good).is_ok(), "{good}");
        }
        for bad in ["data", "/", "//", "data//", "../", "data/../", "/data/"] {
            assert_eq!(check_prefix(bad).unwrap_err().kind(), Kind::Invalid, "{bad:?}");
        }
    }

    #[test]
    fn ranges_end_within_the_object_without_overflow() {
        assert_eq!(check_range("k", 10, 0, 10).unwrap(), 10);
        assert_eq!(check_range("k", 10, 10, 0).unwrap(), 10);
        for (offset, length) in
            [(0, 11), (10, 1), (11, 0), (u64::MAX, 1), (1, u64::MAX), (u64::MAX, u64::MAX)]
        {
            assert_eq!(check_range("k", 10, offset, length).unwrap_err().kind(), Kind::Corrupt);
        }
    }
}
